/*
 * session.c - the life of a session: states, deadlines, its end.
 *
 * Role:    one state machine, one timer per session, the index by user.
 * Process: worker.
 * Blocks:  never. What cannot be told to the keeper now is told later; the
 *          session lives until it was.
 * See:     session.h; doc/protocol.md, Session
 */
#include "worker/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "net/net.h"
#include "worker/limit.h"
#include "worker/worker_priv.h"

/* How soon a P_LOGOUT looks again whether everything is answered. */
#define LOGOUT_LOOK_MS 100

static const char *const state_names[SESSION_STATE_END] = {
    [SESSION_NEW] = "new",
    [SESSION_CHECKING] = "checking",
    [SESSION_ENTERING] = "entering",
    [SESSION_READY] = "ready",
    [SESSION_LEAVING] = "leaving",
    [SESSION_GONE] = "gone",
};

/* transitions[from] has a bit for each state that may follow. */
#define TO(state) (1u << SESSION_##state)
static const uint8_t transitions[SESSION_STATE_END] = {
    /* READY: adopted from a predecessor */
    [SESSION_NEW] = TO(CHECKING) | TO(READY) | TO(LEAVING) | TO(GONE),
    [SESSION_CHECKING] = TO(NEW) | TO(ENTERING) | TO(LEAVING) | TO(GONE),
    [SESSION_ENTERING] = TO(READY) | TO(LEAVING) | TO(GONE),
    [SESSION_READY] = TO(LEAVING) | TO(GONE),
    [SESSION_LEAVING] = TO(GONE),
    [SESSION_GONE] = 0,
};
#undef TO

struct log_ctx
session_log(const struct session *session)
{
	return (struct log_ctx){
	    .user_id = session->user,
	    .session_id = session->id,
	};
}

void
session_set_state(struct session *session, enum session_state state)
{
	struct log_ctx log = session_log(session);

	if ((transitions[session->state] & 1u << state) == 0)
		panic("session %s -> %s", state_names[session->state],
		    state_names[state]);
	log_debug(&log, "session-state", "state=%s was=%s", state_names[state],
	    state_names[session->state]);
	if (state == SESSION_READY)
		GAUGE_ADD(sessions, 1);
	if (session->state == SESSION_READY)
		GAUGE_ADD(sessions, -1);
	session->state = (uint8_t)state;
}

struct session *
session_new(struct worker *worker, struct ws_conn *conn)
{
	struct session *session = mem_try(sizeof(*session));

	if (session == NULL)
		return NULL;
	*session = (struct session){
	    .magic = SESSION_MAGIC,
	    .state = SESSION_NEW,
	    .worker = worker,
	    .conn = conn,
	    .status = STATUS_ONLINE,
	};
	STAILQ_INIT(&session->held);
	session->auth_at_ms =
	    clock_mono_ms() + worker->conf->server_auth_timeout;
	session_arm(session);
	worker->session_count++;
	worker->sessions_made++;
	return session;
}

static void
session_free(struct session *session)
{
	struct worker *worker = session->worker;
	struct held_reply *held;

	while ((held = STAILQ_FIRST(&session->held)) != NULL) {
		STAILQ_REMOVE_HEAD(&session->held, link);
		free(held);
	}
	wheel_cancel(&worker->wheel, &session->timer);
	if (session->is_due)
		TAILQ_REMOVE(&worker->due, session, due_link);
	if (session->is_stalled)
		TAILQ_REMOVE(&worker->stalled, session, stalled_link);
	if (session->has_receipt_link)
		TAILQ_REMOVE(&worker->receipts, session, receipt_link);
	if (session->is_waiting)
		TAILQ_REMOVE(&worker->waiting, session, waiting_link);
	session_index_remove(session);
	login_free(session);
	buf_fini(&session->early);
	buf_fini(&session->stalled);
	free(session->known);
	free(session->receipts);
	free(session->name);
	session->magic = 0;
	free(session);
	worker->session_count--;
}

/* ---- back-pressure ---- */

struct session *
session_of(struct ws_conn *conn)
{
	struct session *session = ws_conn_data(conn);

	if (session != NULL && session->magic != SESSION_MAGIC)
		panic("not a session");
	return session;
}

void
session_pause(struct session *session, enum session_pause why)
{
	if (session->pauses == 0 && session->conn != NULL)
		ws_conn_pause(session->conn);
	session->pauses |= (uint8_t)why;
}

void
session_resume(struct session *session, enum session_pause why)
{
	if ((session->pauses & why) == 0)
		return;
	session->pauses &= (uint8_t)~why;
	if (session->pauses == 0 && session->conn != NULL)
		ws_conn_resume(session->conn);
}

void
session_reply(struct session *session, const char *text, size_t len)
{
	if (session->conn == NULL)
		return;
	ws_send_reply(session->conn, text, len);
	if (ws_conn_queued(session->conn) >= OUTPUT_BYTES_MAX)
		session_pause(session, PAUSE_OUTPUT);
}

/* ---- deadlines ---- */

static int64_t
earlier(int64_t a, int64_t b)
{
	if (a == 0)
		return b;
	return b != 0 && b < a ? b : a;
}

void
session_arm(struct session *session)
{
	int64_t now_ms = clock_mono_ms();
	/* Whether a login is good is for us to find out: no time of his. */
	int64_t at_ms = session->state == SESSION_NEW ? session->auth_at_ms : 0;

	at_ms = earlier(at_ms, session->window_full_at_ms);
	at_ms = earlier(at_ms, session->away_at_ms);
	at_ms = earlier(at_ms, session->logout_at_ms);
	at_ms = earlier(at_ms, session->presence_at_ms);
	at_ms = earlier(at_ms, limit_pace_until_ms(session));
	if (session->expires_at_ms != 0)
		at_ms = earlier(at_ms,
		    now_ms + session->expires_at_ms - clock_wall_ms() + 1);
	if (at_ms == 0)
		wheel_cancel(&session->worker->wheel, &session->timer);
	else
		wheel_set(&session->worker->wheel, &session->timer, at_ms);
}

static void
tell_status(struct session *session, enum user_status status)
{
	struct record_status record = {
	    .user = session->user,
	    .session = session->id,
	    .status = status,
	};

	if (bus_put(session->worker->bus, SLOT_KEEPER, RECORD_STATUS, &record,
		sizeof(record)) != 0) {
		/* No room now: the next look comes soon. */
		session->away_at_ms = clock_mono_ms() + 1000;
		return;
	}
	session->is_auto_away = status == STATUS_AWAY;
}

void
session_touch(struct session *session)
{
	bool was_away = session->away_at_ms == 0;

	session->away_at_ms =
	    clock_mono_ms() + session->worker->conf->server_heartbeat_interval;
	if (session->is_auto_away)
		tell_status(session, session->status);
	/* A timer that is set finds the later deadline when it fires. */
	if (was_away)
		session_arm(session);
}

/* @return true: it has been closed */
static bool
close_if_late(struct session *session)
{
	if (session->state != SESSION_NEW || session->auth_at_ms == 0 ||
	    clock_mono_ms() < session->auth_at_ms)
		return false;
	session_close(
	    session, NULL, 1008, "no successful P_AUTHENTICATE in time", -1);
	return true;
}

void
session_not_let_in(struct session *session)
{
	if (!close_if_late(session))
		session_arm(session);
}

void
session_timer(struct session *session)
{
	int64_t now_ms = clock_mono_ms();
	int64_t away_ms = session->away_at_ms;
	bool is_busy =
	    (session->pauses & (PAUSE_SENDS | PAUSE_RING | PAUSE_QUERIES |
				   PAUSE_RATE | PAUSE_SIGNALS)) != 0;

	if (session->state >= SESSION_LEAVING)
		return;
	if (close_if_late(session))
		return;
	if (session->logout_at_ms != 0 && now_ms >= session->logout_at_ms) {
		session_log_out(session);
		return;
	}
	if (session->expires_at_ms != 0 &&
	    clock_wall_ms() >= session->expires_at_ms) {
		session_close(session, "TOKEN_EXPIRED", 4001,
		    "The token has expired; log in with a new one", 0);
		return;
	}
	limit_pace_look(session);
	if (session->presence_at_ms != 0 && now_ms >= session->presence_at_ms) {
		session->presence_at_ms = 0;
		ephemeral_presence_again(session);
	}
	if (session->window_full_at_ms != 0 &&
	    now_ms >= session->window_full_at_ms) {
		if (!is_busy) {
			COUNT(slow_consumers);
			session_close(session, "SLOW_CONSUMER", 4009,
			    "Events were not acknowledged in time", 0);
			return;
		}
		session->window_full_at_ms =
		    now_ms +
		    session->worker->conf->policy_slow_consumer_timeout;
	}
	if (away_ms != 0 && now_ms >= away_ms) {
		session->away_at_ms = 0;
		if (session->status == STATUS_ONLINE && !is_busy)
			tell_status(session, STATUS_AWAY);
	}
	session_arm(session);
}

/* ---- end ---- */

void
session_close(struct session *session, const char *reason, int code,
    const char *message, int64_t retry_after_ms)
{
	struct log_ctx log = session_log(session);
	struct buf *out = &session->worker->out;

	if (session->state >= SESSION_LEAVING || session->conn == NULL)
		return;
	log_info(&log, "session-close", "code=%d reason=%s", code,
	    reason == NULL ? "-" : reason);
	session_set_state(session, SESSION_LEAVING);
	if (reason != NULL) {
		buf_clear(out);
		json_object_begin(out);
		json_put_text(out, "Command", "P_CLOSE");
		json_put_text(out, "Reason", reason);
		json_put_text(out, "Message", message);
		if (retry_after_ms >= 0)
			json_put_i64(out, "RetryAfter", retry_after_ms);
		json_object_end(out);
		ws_send_reply(session->conn, out->data, out->len);
	}
	ws_conn_close(session->conn, code, reason == NULL ? message : reason);
}

void
session_log_out(struct session *session)
{
	if (session->pending == 0) {
		session_close(session, NULL, 1000, "logged out", -1);
		return;
	}
	session->logout_at_ms = clock_mono_ms() + LOGOUT_LOOK_MS;
	session_arm(session);
}

static void
recover(void *ctx, struct ws_conn *conn)
{
	struct session *session = ws_conn_data(conn);

	(void)ctx;
	if (session != NULL && session->pending > 0)
		session_close(session, "RECONNECT", 1012,
		    "A reply was lost, please reconnect", RETRY_AFTER_MS);
}

void
session_recover_all(struct worker *worker)
{
	net_each(worker->net, recover, worker);
}

void
session_make_due(struct session *session)
{
	if (session->is_due)
		return;
	session->is_due = true;
	TAILQ_INSERT_TAIL(&session->worker->due, session, due_link);
}

void
session_gone(struct session *session)
{
	struct log_ctx log = session_log(session);

	if (session->id != 0)
		log_info(&log, "session-end", "state=%s",
		    state_names[session->state]);
	hold_end(session);
	/* it may still take its time to close */
	ws_conn_set_data(session->conn, NULL);
	session->conn = NULL;
	session->has_end_due = session->id != 0 && session->is_indexed;
	session_set_state(session, SESSION_GONE);
	pending_orphan(session);
	session_index_remove(session);
	session_make_due(session);
}

void
session_leave(struct session *session)
{
	hold_leave(session);
	ws_conn_set_data(session->conn, NULL);
	ws_conn_leave(session->conn);
	session->conn = NULL;
	session_set_state(session, SESSION_GONE);
	session_free(session);
}

bool
session_do_due(struct session *session)
{
	struct worker *worker = session->worker;

	if (session->is_ack_due) {
		struct record_ack ack = {
		    .user = session->user,
		    .session = session->id,
		    .seq = session->acked,
		};

		if (bus_put(worker->bus, SLOT_KEEPER, RECORD_ACK, &ack,
			sizeof(ack)) != 0)
			return false;
		session->is_ack_due = false;
	}
	if (session->has_end_due) {
		struct record_session_end end = {
		    .user = session->user,
		    .session = session->id,
		};

		if (bus_put(worker->bus, SLOT_KEEPER, RECORD_SESSION_END, &end,
			sizeof(end)) != 0)
			return false;
		session->has_end_due = false;
	}
	session->is_due = false;
	TAILQ_REMOVE(&worker->due, session, due_link);
	if (session->state == SESSION_GONE)
		session_free(session);
	return true;
}

/* ---- index ---- */

struct session *
session_index_user(struct worker *worker, uint64_t user)
{
	struct session *first;

	HASH_FIND(hh, worker->by_user, &user, sizeof(user), first);
	return first;
}

void
session_index_add(struct session *session)
{
	struct worker *worker = session->worker;
	struct session *first = session_index_user(worker, session->user);

	session->is_indexed = true;
	if (first != NULL) {
		session->next_same_user = first->next_same_user;
		first->next_same_user = session;
		return;
	}
	HASH_ADD(hh, worker->by_user, user, sizeof(session->user), session);
}

void
session_index_remove(struct session *session)
{
	struct worker *worker = session->worker;
	struct session *first;
	struct session *next;

	if (!session->is_indexed)
		return;
	session->is_indexed = false;
	first = session_index_user(worker, session->user);
	if (first != session) {
		while (first->next_same_user != session)
			first = first->next_same_user;
		first->next_same_user = session->next_same_user;
		return;
	}
	next = session->next_same_user;
	HASH_DELETE(hh, worker->by_user, session);
	if (next != NULL)
		HASH_ADD(hh, worker->by_user, user, sizeof(next->user), next);
}

struct session *
session_index_find(struct worker *worker, uint64_t user, uint64_t session)
{
	struct session *s = session_index_user(worker, user);

	while (s != NULL && s->id != session)
		s = s->next_same_user;
	return s;
}
