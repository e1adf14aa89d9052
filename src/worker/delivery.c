/*
 * delivery.c - durable events to devices: in order, without a hole, at most
 * a window ahead.
 *
 * Role:    the live path (an event comes by ring and is the next one) and the
 *          backlog (read from the inbox by the reader thread); replies that
 *          carry a Seq go out in their place among the events.
 * Process: worker.
 * Blocks:  never. A delivery is a hint: whatever is not sent now is in the
 *          inbox and is read later.
 * See:     doc/protocol.md, Inbox; session.h
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

/* Reads under way for all sessions of the worker: after a resync each of them
 * wants one or two, and a job with what it finds takes up to JOB_BYTES_MAX. */
#define DELIVERY_JOBS_MAX 64

/* ---- the window ---- */

static uint64_t
window_room(const struct session *session)
{
	uint64_t window = (uint64_t)session->worker->conf->policy_inbox_window;
	uint64_t ahead = session->sent - session->window_base;

	/* A device whose sends are not answered because its own window is full
	 * is not read: its acknowledgement could not come in. The window
	 * opens until those replies are out. */
	if ((session->pauses & PAUSE_SENDS) != 0 &&
	    !STAILQ_EMPTY(&session->held))
		return window;
	return ahead < window ? window - ahead : 0;
}

void
delivery_watch(struct session *session)
{
	bool is_full = session->sent - session->window_base >=
		       (uint64_t)session->worker->conf->policy_inbox_window;

	if (is_full == (session->window_full_at_ms != 0))
		return;
	session->window_full_at_ms =
	    is_full ? clock_mono_ms() +
			  session->worker->conf->policy_slow_consumer_timeout
		    : 0;
	if (is_full)
		session_arm(session);
}

static void
sent_as_event(struct session *session, uint64_t seq)
{
	session->sent = seq;
	session->last_event = seq;
	if (session->head < seq)
		session->head = seq;
	COUNT(deliveries);
	delivery_watch(session);
}

/* A reply stood for the event: it fills no window. */
static void
sent_as_reply(struct session *session, uint64_t seq)
{
	if (session->window_base == seq - 1)
		session->window_base = seq;
	session->sent = seq;
	if (session->head < seq)
		session->head = seq;
}

void
delivery_ack(struct session *session, uint64_t seq)
{
	if (seq <= session->acked)
		return;
	session->acked = seq;
	session->window_base = seq >= session->last_event ? session->sent
			       : seq > session->window_base
				   ? seq
				   : session->window_base;
	session->is_ack_due = true;
	session_make_due(session);
	delivery_watch(session);
	delivery_pump(session);
}

/* ---- replies in their place ---- */

static void
reply_out(struct session *session, uint64_t seq, const char *text, size_t len)
{
	if (seq == session->sent + 1)
		sent_as_reply(session, seq);
	session_reply(session, text, len);
	session->sends_unanswered--;
	session_resume(session, PAUSE_SENDS);
}

/* Held replies whose turn has come. */
static void
release_held(struct session *session)
{
	struct held_reply *held;

	while ((held = STAILQ_FIRST(&session->held)) != NULL &&
	       held->seq <= session->sent + 1) {
		STAILQ_REMOVE_HEAD(&session->held, link);
		reply_out(session, held->seq, held->text, held->len);
		free(held);
	}
}

void
delivery_reply(struct session *session, uint64_t seq, struct buf *text)
{
	struct held_reply *held;

	if (session->head < seq)
		session->head = seq;
	if (STAILQ_EMPTY(&session->held) && seq <= session->sent + 1) {
		reply_out(session, seq, text->data, text->len);
		/* Events behind it came by ring only after it. */
		delivery_pump(session);
		return;
	}
	held = xcalloc(1, sizeof(*held) + text->len);
	held->seq = seq;
	held->len = text->len;
	memcpy(held->text, text->data, text->len);
	STAILQ_INSERT_TAIL(&session->held, held, link);
	delivery_pump(session);
}

/* ---- the backlog ---- */

static bool
may_read(const struct session *session)
{
	return session->state == SESSION_READY && !session->is_reading &&
	       session->conn != NULL &&
	       (session->sent < session->head || session->is_head_unknown) &&
	       window_room(session) > 0;
}

/* Is seq what a held reply stands for? Then that goes out. */
static bool
is_held(struct session *session, uint64_t seq)
{
	const struct held_reply *held = STAILQ_FIRST(&session->held);

	return held != NULL && held->seq == seq;
}

/* @return false: no room in the output, the rest is read again later */
static bool
send_backlog(struct session *session, const struct job *job)
{
	for (size_t i = 0; i < job->event_count; i++) {
		const struct job_event *event = &job->events[i];

		if (event->seq <= session->sent)
			continue;
		if (is_held(session, event->seq)) {
			/* sent reaches it through the reply itself */
			session->sent = event->seq - 1;
			release_held(session);
			continue;
		}
		if (ws_send_text(session->conn, job->out.data + event->offset,
			event->len) != 0)
			return false;
		sent_as_event(session, event->seq);
		release_held(session);
	}
	return true;
}

/*
 * A look goes to the end of the inbox, which may be ahead of the ring: what
 * this session has sent can be there before its reply is here, and the reply
 * stands for the event. All that the ring has told of (head) is past that.
 *
 * @return true: the first event left out waits for a reply, which looks again
 */
static bool
cut_before_replies(const struct session *session, struct job *job)
{
	if (session->sends_unanswered == 0)
		return false;
	for (size_t i = 0; i < job->event_count; i++) {
		if (!job->events[i].is_own ||
		    job->events[i].seq <= session->head)
			continue;
		job->event_count = i;
		job->has_more = true;
		job->next = job->events[i].seq - 1;
		return true;
	}
	return false;
}

/* What a look has found counts as told of. @return see cut_before_replies */
static bool
take_look(struct session *session, struct job *job)
{
	bool is_waiting = cut_before_replies(session, job);

	/* A resync that came while the job was under way is not answered by
	 * it: is_head_unknown is set again then and the next job looks. */
	if (job->has_more)
		session->is_head_unknown = true;
	if (!is_waiting && session->head < job->next)
		session->head = job->next;
	return is_waiting;
}

static void
backlog_done(struct worker *worker, struct job *job)
{
	struct session *session =
	    session_index_find(worker, job->user, job->session);
	bool is_waiting = false;
	struct log_ctx log;

	delivery_end_job(worker);
	COUNT_ADD(events_skipped, job->skipped_count);
	if (session == NULL)
		return;
	session->is_reading = false;
	if (session->state != SESSION_READY || session->conn == NULL)
		return;
	log = session_log(session);
	if (job->rc != 0) {
		log_error(
		    &log, "backlog-failed", "error=\"%s\"", err_text(job->rc));
		session_close(session, "RECONNECT", 1012,
		    "The inbox cannot be read now, please reconnect",
		    RETRY_AFTER_MS);
		return;
	}
	if (job->is_looking)
		is_waiting = take_look(session, job);
	if (!send_backlog(session, job))
		return; /* delivery_drained goes on */
	/* Nothing lies between what was found and next: that fills no window,
	 * and where nothing else waits for an acknowledgement none would come
	 * to open it (a restored store leaves a large gap in the seqs). */
	if (session->sent < job->next && !is_held(session, job->next)) {
		if (session->last_event <= session->acked)
			session->window_base = job->next;
		session->sent = job->next;
		release_held(session);
	}
	if (!is_waiting)
		delivery_pump(session);
}

void
delivery_pump(struct session *session)
{
	struct job *job;
	uint64_t room;

	if (!may_read(session) || !delivery_begin_job(session))
		return;
	room = window_room(session);
	job = reader_job_new(session, job_backlog, backlog_done);
	job->above = session->sent;
	job->is_looking = session->is_head_unknown;
	session->is_head_unknown = false;
	job->upto = job->is_looking ? UINT64_MAX : session->head;
	job->limit = room < JOB_EVENTS_MAX ? (size_t)room : JOB_EVENTS_MAX;
	session->is_reading = true;
	reader_submit_take(session->worker, job);
}

bool
delivery_is_behind(const struct worker *worker)
{
	return !TAILQ_EMPTY(&worker->waiting);
}

bool
delivery_begin_job(struct session *session)
{
	struct worker *worker = session->worker;

	if (worker->delivery_jobs < DELIVERY_JOBS_MAX) {
		worker->delivery_jobs++;
		return true;
	}
	if (!session->is_waiting)
		TAILQ_INSERT_TAIL(&worker->waiting, session, waiting_link);
	session->is_waiting = true;
	return false;
}

void
delivery_end_job(struct worker *worker)
{
	struct session *session;

	worker->delivery_jobs--;
	while (worker->delivery_jobs < DELIVERY_JOBS_MAX &&
	       (session = TAILQ_FIRST(&worker->waiting)) != NULL) {
		TAILQ_REMOVE(&worker->waiting, session, waiting_link);
		session->is_waiting = false;
		if (session->state != SESSION_READY)
			continue;
		ephemeral_presence_again(session);
		delivery_pump(session);
	}
}

void
delivery_open(struct session *session)
{
	ephemeral_open(session);
	delivery_pump(session);
}

void
delivery_drained(struct session *session)
{
	ephemeral_presence_again(session);
	delivery_pump(session);
}

void
delivery_resync(struct worker *worker)
{
	struct session *first;
	struct session *tmp;

	HASH_ITER(hh, worker->by_user, first, tmp)
	{
		for (struct session *s = first; s != NULL;
		     s = s->next_same_user) {
			s->is_head_unknown = true;
			/* What its login read may be older: it is in the index
			 * before that, and looks again once it is READY. */
			ephemeral_missed(s);
			if (s->state != SESSION_READY)
				continue;
			ephemeral_presence_again(s);
			delivery_pump(s);
		}
	}
}

/* ---- the live path ---- */

/*
 * The part of the event that all receivers share is made once; in front of
 * it comes the receiver's Seq.
 */
static void
send_live(struct session *session, const char *command, uint64_t seq,
    const struct buf *tail)
{
	struct buf *out = &session->worker->out;

	if (session->head < seq)
		session->head = seq;
	if (session->state != SESSION_READY || session->conn == NULL)
		return;
	if (session->is_reading || session->is_head_unknown ||
	    seq != session->sent + 1 || window_room(session) == 0) {
		delivery_pump(session);
		return;
	}
	buf_clear(out);
	json_object_begin(out);
	json_put_text(out, "Command", command);
	json_put_u64(out, "Seq", seq);
	buf_add_char(out, ',');
	buf_add(out, tail->data + 1, tail->len - 1);
	if (ws_send_text(session->conn, out->data, out->len) != 0)
		return; /* delivery_drained goes on */
	sent_as_event(session, seq);
	release_held(session);
}

static bool
view_take(struct message_view *view, const struct record_deliver *record,
    struct record_cursor *c)
{
	*view = (struct message_view){
	    .kind = (enum event_kind)record->kind,
	    .flags = record->flags,
	    .changed_ms = record->changed_ms,
	    .id = record->message_id,
	    .sender = record->sender,
	    .conv = record->conv,
	    .client_time_ms = record->client_time_ms,
	    .reply_to = record->reply_to,
	    .member_count = record->member_count,
	};
	view->members = record_take(c, record->member_count * sizeof(uint64_t));
	view->body =
	    (struct blob){record_take(c, record->body_len), record->body_len};
	view->type =
	    (struct blob){record_take(c, record->type_len), record->type_len};
	view->client_id = (struct blob){
	    record_take(c, record->client_id_len), record->client_id_len};
	view->attachment = (struct blob){
	    record_take(c, record->attachment_len), record->attachment_len};
	view->name =
	    (struct blob){record_take(c, record->name_len), record->name_len};
	return record_is_whole(c);
}

/* {"MessageId":...}: made at most twice per record */
static void
make_tail(struct buf *tail, const struct message_view *view, bool is_own)
{
	buf_clear(tail);
	json_object_begin(tail);
	event_durable_fields(tail, view, is_own);
	json_object_end(tail);
}

void
delivery_message(struct worker *worker, const struct record_deliver *record,
    struct record_cursor *cursor)
{
	const char *command = event_command(record->kind);
	const struct deliver_target *targets;
	struct message_view view;
	int64_t now_ms = clock_wall_ms();
	int64_t stored_ms = record->flags != 0
				? record->changed_ms
				: message_id_time_ms(record->message_id);
	int made = -1; /* which tail is in worker->tail: 0, 1 own */

	targets = record_take(cursor, record->target_count * sizeof(*targets));
	if (targets == NULL || !view_take(&view, record, cursor) ||
	    command == NULL)
		return;
	if (now_ms >= stored_ms)
		MEASURE_US(deliver_us, (uint64_t)(now_ms - stored_ms) * 1000);
	for (uint32_t i = 0; i < record->target_count; i++) {
		struct session *s = session_index_user(worker, targets[i].user);
		int is_own = targets[i].user == record->sender;

		if (s != NULL && made != is_own) {
			make_tail(&worker->tail, &view, is_own != 0);
			made = is_own;
		}
		for (; s != NULL; s = s->next_same_user) {
			/* Its reply stands for the event. */
			if (s->id != record->sender_session || !is_own)
				send_live(
				    s, command, targets[i].seq, &worker->tail);
		}
	}
}
