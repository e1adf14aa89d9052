/*
 * ephemeral.c - events that may be lost: presence, receipts, typing.
 *
 * Role:    sends them when there is room; receipts are folded and go out
 *          with the tick, presence that was dropped is read again later.
 * Process: worker.
 * See:     doc/protocol.md: P_PRESENCE, P_RECEIPT, P_TYPING
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "net/net.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

#define EARLY_MAX    (64 * 1024)
#define RECEIPTS_MAX 64 /* per session and tick; power of two */
/* A page that cannot be read may be damaged for good. */
#define PRESENCE_RETRY_MS 5000
/* Of the output: the rest is for what must not be lost. */
#define SHARE_BYTES_MAX (OUTPUT_BYTES_MAX / 2)

/* In session->early, before each text. */
struct early {
	uint64_t version; /* of presence; 0: of something else */
	size_t len;
};

/* @return false: no room, delivery_drained will be called */
static bool
send_now(struct session *session, const char *text, size_t len)
{
	return ws_send_text_below(session->conn, text, len, SHARE_BYTES_MAX) ==
	       0;
}

static bool
send_or_keep(struct session *session, const struct buf *event, uint64_t version)
{
	const struct early early = {version, event->len};

	if (session->conn == NULL || session->state >= SESSION_LEAVING)
		return true; /* nobody misses it */
	if (session->state != SESSION_READY) {
		/* The reply to the login comes first. */
		if (session->early.len + event->len + sizeof(early) > EARLY_MAX)
			return false;
		buf_add(&session->early, &early, sizeof(early));
		buf_add(&session->early, event->data, event->len);
		return true;
	}
	if (send_now(session, event->data, event->len))
		return true;
	COUNT(ephemeral_dropped);
	return false;
}

bool
ephemeral_send(struct session *session, const struct buf *event)
{
	return send_or_keep(session, event, 0);
}

/* Does the client know it from a list that it was given? */
static bool
is_told(const struct session *session, uint64_t version)
{
	return version != 0 && version <= session->presence_upto;
}

void
ephemeral_open(struct session *session)
{
	const char *at = session->early.data;
	const char *end = at + session->early.len;

	while (at < end) {
		struct early early;

		memcpy(&early, at, sizeof(early));
		at += sizeof(early);
		if (session->conn != NULL && !is_told(session, early.version))
			ws_send_reply(session->conn, at, early.len);
		at += early.len;
	}
	buf_fini(&session->early);
	ephemeral_presence_again(session);
}

/* ---- presence ---- */

/* @return false: no room in the output, delivery_drained goes on */
static bool
send_page(struct session *session, const struct job *job)
{
	const char *at = job->out.data;
	const char *end = at + job->out.len;

	while (at < end) {
		struct job_text text;

		memcpy(&text, at, sizeof(text));
		at += sizeof(text);
		if (!send_now(session, at, text.len))
			return false;
		at += text.len;
		session->again.call = text.call;
		session->again.user = text.user;
	}
	return true;
}

static void
presence_done(struct worker *worker, struct job *job)
{
	struct session *session =
	    session_index_find(worker, job->user, job->session);

	delivery_end_job(worker);
	if (session == NULL)
		return;
	session->is_presence_job = false;
	if (session->state != SESSION_READY || session->conn == NULL)
		return;
	if (session->again.version == 0)
		session->again.version = job->version;
	if (!send_page(session, job))
		return;
	if (job->rc != 0) {
		session->presence_at_ms = clock_mono_ms() + PRESENCE_RETRY_MS;
		session_arm(session);
		return;
	}
	if (!job->has_more) {
		session->presence_upto = session->again.version;
		session->is_presence_reading = false;
	}
	ephemeral_presence_again(session);
}

void
ephemeral_presence_again(struct session *session)
{
	struct job *job;

	if (session->state != SESSION_READY || session->is_presence_job ||
	    session->presence_at_ms != 0 ||
	    !(session->is_presence_due || session->is_presence_reading) ||
	    !delivery_begin_job(session))
		return;
	/* One after the other: what is missed while it is read is read once
	 * more, from the beginning. */
	if (!session->is_presence_reading) {
		session->is_presence_reading = true;
		session->is_presence_due = false;
		session->again = (struct again){0};
	}
	session->is_presence_job = true;
	job = reader_job_new(session, job_presence, presence_done);
	job->version = session->presence_upto;
	job->call = session->again.call;
	job->above = session->again.user;
	reader_submit_take(session->worker, job);
}

void
ephemeral_missed(struct session *session)
{
	uint64_t safe = session->worker->presence_safe;

	if (!session->is_presence_due && !session->is_presence_reading &&
	    session->presence_upto < safe)
		session->presence_upto = safe;
	session->is_presence_due = true;
}

static void
send_presence(
    struct session *session, const struct buf *event, uint64_t version)
{
	bool is_behind =
	    session->is_presence_due || session->is_presence_reading;

	if (is_told(session, version))
		return;
	/* What the job under way read may be older and goes out behind it:
	 * this one is read again, too. */
	if (is_behind && version != 0) {
		session->is_presence_due = true;
		return;
	}
	if (send_or_keep(session, event, version) || version == 0)
		return;
	session->is_presence_due = true;
	session->presence_upto = version - 1;
}

void
ephemeral_presence(struct worker *worker, const struct record_presence *record,
    struct record_cursor *cursor)
{
	struct presence presence = {
	    .status = (enum user_status)record->status,
	    .is_in_call = record->is_in_call != 0,
	    .last_seen_ms = record->last_seen_ms,
	};
	struct buf *out = &worker->out;
	const uint64_t *targets;
	const char *text;

	targets = record_take(cursor, record->target_count * sizeof(*targets));
	text = record_take(cursor, record->text_len);
	if (!record_is_whole(cursor) || record->text_len > STATUS_TEXT_MAX ||
	    record->status >= STATUS_END)
		return;
	presence.text_len = record->text_len;
	memcpy(presence.text, text, record->text_len);
	buf_clear(out);
	json_object_begin(out);
	json_put_text(out, "Command", "P_PRESENCE");
	event_presence_fields(out, record->user, &presence);
	json_object_end(out);
	for (uint32_t i = 0; i < record->target_count; i++) {
		struct session *s = session_index_user(worker, targets[i]);

		for (; s != NULL; s = s->next_same_user)
			send_presence(s, out, record->version);
	}
	if (worker->presence_seen < record->version)
		worker->presence_seen = record->version;
}

/* ---- receipts ---- */

static void
receipt_fold(struct receipt *into, const struct record_receipt *record)
{
	if (into->delivered < record->delivered)
		into->delivered = record->delivered;
	if (into->read < record->read)
		into->read = record->read;
}

static void
receipt_add(struct session *session, const struct record_receipt *record)
{
	uint16_t count = session->receipt_count;

	for (uint16_t i = 0; i < count; i++) {
		if (session->receipts[i].user == record->user &&
		    conv_key_equal(&session->receipts[i].conv, &record->conv)) {
			receipt_fold(&session->receipts[i], record);
			return;
		}
	}
	if (count == RECEIPTS_MAX) {
		COUNT(ephemeral_dropped);
		return;
	}
	if ((count & (count - 1)) == 0)
		session->receipts = xrealloc(
		    session->receipts, (count == 0 ? 1 : 2 * (size_t)count) *
					   sizeof(*session->receipts));
	session->receipts[count] = (struct receipt){
	    .conv = record->conv,
	    .user = record->user,
	    .delivered = record->delivered,
	    .read = record->read,
	};
	session->receipt_count++;
	if (!session->has_receipt_link) {
		session->has_receipt_link = true;
		TAILQ_INSERT_TAIL(
		    &session->worker->receipts, session, receipt_link);
	}
}

void
ephemeral_receipt(struct worker *worker, const struct record_receipt *record)
{
	struct session *s = session_index_user(worker, record->target);

	for (; s != NULL; s = s->next_same_user) {
		if (s->id != record->except_session)
			receipt_add(s, record);
	}
}

static void
receipts_send(struct session *session)
{
	struct buf *out = &session->worker->out;

	for (uint16_t i = 0; i < session->receipt_count; i++) {
		const struct receipt *receipt = &session->receipts[i];

		buf_clear(out);
		json_object_begin(out);
		json_put_text(out, "Command", "P_RECEIPT");
		event_put_conv(out, &receipt->conv);
		json_put_u64(out, "UserId", receipt->user);
		event_put_progress(out, receipt->delivered, receipt->read);
		json_object_end(out);
		(void)ephemeral_send(session, out);
	}
	free(session->receipts);
	session->receipts = NULL;
	session->receipt_count = 0;
}

void
ephemeral_flush_receipts(struct worker *worker)
{
	struct session *session;

	while ((session = TAILQ_FIRST(&worker->receipts)) != NULL) {
		TAILQ_REMOVE(&worker->receipts, session, receipt_link);
		session->has_receipt_link = false;
		receipts_send(session);
	}
}

/* ---- typing ---- */

void
ephemeral_typing(struct worker *worker, const struct record_typing *record,
    struct record_cursor *cursor)
{
	struct buf *out = &worker->out;
	const uint64_t *targets =
	    record_take(cursor, record->target_count * sizeof(*targets));

	if (targets == NULL)
		return;
	buf_clear(out);
	json_object_begin(out);
	json_put_text(out, "Command", "P_TYPING");
	json_put_u64(out, "UserId", record->user);
	event_put_conv(out, &record->conv);
	if (conv_key_has_seats(&record->conv))
		event_put_room(out, &record->conv);
	json_put_text(out, "State", record->started ? "STARTED" : "STOPPED");
	json_object_end(out);
	for (uint32_t i = 0; i < record->target_count; i++) {
		struct session *s = session_index_user(worker, targets[i]);

		for (; s != NULL; s = s->next_same_user)
			(void)ephemeral_send(s, out);
	}
}
