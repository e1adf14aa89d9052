/*
 * cmd_signal.c - signals of a call, from one participant to another.
 *
 * Role:    checks the fields, asks the reader thread whether and where a
 *          signal may go, hands it to the receiver's worker and says to the
 *          sender what has become of it. Kept nowhere.
 * Process: worker: the sender's, then the receiver's.
 * Trust:   what a signal holds is the clients' business: it is JSON of a
 *          limited size here, and never in a log.
 * See:     doc/protocol.md: P_SIGNAL; doc/decisions/025
 *
 * The order is kept from session to session: the thread has one queue, a ring
 * is one, a connection is one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

/* What is with the thread at once. It is quick; only a disk that hangs makes
 * signals pile up there. */
#define WITH_READER_MAX ((size_t)8 * 1024 * 1024)
/* A worker that does not answer by then hangs; meanwhile it keeps the sender
 * from being read, who counts it among his requests under way. */
#define SIGNAL_TIMEOUT_MS 1500
/* Soon: who waits for a signal waits for a picture. */
#define RETRY_SIGNAL_MS 500

#define SESSION_ID_LEN 16

/* ---- the receiver's side ---- */

static int
deliver(struct worker *worker, const struct record_signal *record,
    const char *signal)
{
	struct session *session =
	    session_index_find(worker, record->user, record->session);
	struct buf *out = &worker->out;

	if (session == NULL || session->conn == NULL ||
	    session->state >= SESSION_LEAVING ||
	    record->until_ms < clock_turn_ms())
		return ERR_UNAVAILABLE;
	buf_clear(out);
	json_object_begin(out);
	json_put_text(out, "Command", "P_SIGNAL");
	json_put_id(out, "CollaborationId", record->call);
	json_put_u64(out, "FromUserId", record->from_user);
	event_put_session(out, "FromSessionId", record->from_session);
	json_put_raw(out, "Signal", signal, record->signal_len);
	json_object_end(out);
	return ephemeral_send(session, out) ? 0 : ERR_UNAVAILABLE;
}

void
signal_take(struct worker *worker, int from, const struct ring_record *ring)
{
	const struct record_signal *record = (const void *)ring->data;
	struct ring_writer *writer = bus_writer(worker->bus, from);
	struct record_reply reply = {.req = record->req};
	struct record_cursor tail;
	const char *signal;

	record_cursor_init(
	    &tail, ring->data + sizeof(*record), ring->len - sizeof(*record));
	signal = record_take(&tail, record->signal_len);
	if (signal == NULL || record->signal_len > SIGNAL_MAX)
		return;
	reply.rc = deliver(worker, record, signal);
	if (reply.rc != 0)
		COUNT(signals_dropped);
	if (reply.req == 0)
		return;
	/* A successor of the asker numbers its own requests. */
	writer->peer_gen = ring->from_gen;
	/* Without room for it the sender hears UNAVAILABLE in the end. */
	if (ring_put(writer, RECORD_SIGNAL_REPLY, &reply, sizeof(reply)) != 0)
		COUNT(ephemeral_dropped);
}

/* ---- the sender's side ---- */

static void
answer(struct worker *worker, struct pending *pending, int rc,
    const char *message, const char *state)
{
	struct session *session = pending->owner;
	struct request_id id = pending->id;
	const struct command *command = pending->command;
	struct buf *out;

	pending_remove(worker, pending);
	if (rc != 0)
		COUNT(signals_refused);
	if (session == NULL || (rc == 0 && id.kind == 0))
		return;
	out = reply_begin(worker, command->name, &id, rc);
	if (rc != 0)
		json_put_text(
		    out, "Message", message != NULL ? message : err_text(rc));
	if (rc == ERR_CONFLICT)
		json_put_text(out, "State", state);
	if (rc == ERR_UNAVAILABLE)
		json_put_i64(out, "RetryAfter", RETRY_SIGNAL_MS);
	reply_finish(session, out);
}

void
signal_reply(struct worker *worker, const struct record_reply *reply)
{
	struct pending *pending = pending_find(worker, reply->req);

	if (pending == NULL || pending->command->fn != cmd_signal)
		return;
	answer(worker, pending, reply->rc == 0 ? 0 : ERR_UNAVAILABLE,
	    "ToUserId: has no connection that takes it, try again", NULL);
}

/* @return 0, ERR_UNAVAILABLE */
static int
put_signal(struct worker *worker, const struct job *job,
    const struct record_signal *record, struct pending *pending)
{
	size_t len = sizeof(*record) + job->out.len;
	struct ring_writer *writer = bus_writer(worker->bus, job->to_slot);
	uint8_t *room = writer == NULL ? NULL : ring_put_begin(writer, len);

	if (room == NULL)
		return ERR_UNAVAILABLE;
	memcpy(room, record, sizeof(*record));
	memcpy(room + sizeof(*record), job->out.data, job->out.len);
	ring_put_end(writer, RECORD_SIGNAL, len);
	/* Should that worker end, nobody will answer. */
	pending->peer_slot = job->to_slot;
	pending->peer_gen = writer->peer_gen;
	return 0;
}

/* The thread has looked: it may pass, or not. */
static void
signal_done(struct worker *worker, struct job *job)
{
	struct pending *pending = pending_find(worker, job->req);
	bool is_here = job->to_slot == worker->process->slot;
	struct record_signal record = {
	    .user = job->users[0],
	    .session = job->to_session,
	    .from_user = job->user,
	    .from_session = job->session,
	    .call = job->call,
	    .until_ms = pending != NULL ? pending->deadline_ms : 0,
	    .signal_len = (uint32_t)job->out.len,
	};
	int rc;

	worker->signal_bytes -= job->out.len;
	if (pending == NULL)
		return; /* UNAVAILABLE was said in the meantime */
	if (job->rc != 0) {
		answer(worker, pending, job->rc, job->message, job->state);
		return;
	}
	if (!is_here && pending->id.kind != 0)
		record.req = job->req;
	rc = is_here ? deliver(worker, &record, job->out.data)
		     : put_signal(worker, job, &record, pending);
	if (rc == 0)
		COUNT(signals);
	if (rc != 0 || record.req == 0)
		answer(worker, pending, rc,
		    "the way to ToUserId is full, try again", NULL);
}

/* A SessionId of ours. */
static int
read_session(struct request *request, const char *field, uint64_t *out)
{
	const char *text;
	size_t len;
	int rc = request_string(request, field, FIELD_OPTIONAL, SESSION_ID_LEN,
	    SESSION_ID_LEN, &text, &len);

	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0 || strspn(text, "0123456789abcdef") != len)
		return request_bad_field(request, field,
		    "a SessionId: %d hexadecimal digits", SESSION_ID_LEN);
	*out = strtoull(text, NULL, 16);
	return *out != 0 ? 0
			 : request_bad_field(
			       request, field, "the SessionId of a session");
}

/* Written anew: no white space, the last of what stands twice. */
static int
read_signal(struct request *request, struct buf *out)
{
	const struct json_object *value;

	if (json_get_value(request->json, "Signal", &value) != 0)
		return request_bad_field(
		    request, "Signal", "any JSON but null");
	json_value(out, value);
	if (out->len > SIGNAL_MAX)
		return request_fail(request, ERR_TOO_LARGE,
		    "Signal: expected at most %d bytes", SIGNAL_MAX);
	return 0;
}

static int
read_fields(struct request *request, struct job *job)
{
	int rc =
	    request_id(request, "CollaborationId", FIELD_REQUIRED, &job->call);

	if (rc == 0)
		rc = request_u64(request, "ToUserId", FIELD_REQUIRED, 1,
		    USER_ID_MAX, &job->users[0]);
	if (rc == 0 && job->users[0] == job->user)
		rc = request_bad_field(
		    request, "ToUserId", "another user than oneself");
	if (rc == 0)
		rc = read_session(request, "ToSessionId", &job->to_session);
	if (rc == 0)
		rc = read_signal(request, &job->out);
	return rc;
}

int
cmd_signal(struct request *request)
{
	struct worker *worker = request->worker;
	struct job *job =
	    reader_job_new(request->session, job_signal, signal_done);
	int rc = read_fields(request, job);

	if (rc == 0 && worker->signal_bytes + job->out.len > WITH_READER_MAX) {
		COUNT(signals_refused);
		request->retry_after_ms = RETRY_SIGNAL_MS;
		rc = request_fail(request, ERR_UNAVAILABLE,
		    "too many signals are under way, try again");
	}
	if (rc != 0) {
		reader_job_free(&job);
		return rc;
	}
	worker->signal_bytes += job->out.len;
	job->req = pending_add(request, 0, SIGNAL_TIMEOUT_MS);
	pending_weigh(worker, job->req, job->out.len);
	reader_submit_take(worker, job);
	return 0;
}
