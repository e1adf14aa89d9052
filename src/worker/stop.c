/*
 * stop.c - a worker takes leave of its clients.
 *
 * Role:    the orderly stop, all at once (SIGTERM) or one client after the
 *          other (SIGUSR2, a drain).
 * Process: worker.
 * Blocks:  never; each step is part of a turn.
 * Trust:   a client that does not go is closed at the end.
 * See:     doc/operations.md, Stopping and draining; t/66-drain.t.
 *
 * Connections that a successor can go on with (hold.c) stay as they are, once
 * they are at a boundary; only the others take leave.
 *
 * Nobody may be driven into a herd. When the server stops, nobody can serve
 * the clients: all are told at once, each with another RetryAfter within
 * drain_window. When one worker is drained, the others can: its clients leave
 * one by one over drain_window, and each may come back at once.
 */
#include "config.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "net/net.h"
#include "worker/worker_priv.h"

#define RETRY_MIN_MS       500 /* when the server stops */
#define DRAIN_RETRY_MIN_MS 50
#define DRAIN_RETRY_MAX_MS 1000
#define DRAIN_LOOK_MS      100
/* A worker with a successor: for requests under way, and for close frames. */
#define LEAVE_MS       1000
#define LEAVE_CLOSE_MS 500

static int64_t
random_between(int64_t min_ms, int64_t max_ms)
{
	if (max_ms <= min_ms)
		return min_ms;
	return min_ms +
	       (int64_t)(crypto_random_u64() % (uint64_t)(max_ms - min_ms));
}

static int64_t
retry_after_ms(const struct worker *worker)
{
	if (worker->drain.begin_ms != 0)
		return random_between(DRAIN_RETRY_MIN_MS, DRAIN_RETRY_MAX_MS);
	return random_between(RETRY_MIN_MS, worker->conf->server_drain_window);
}

/* Is it for a successor to go on with, now or once its requests are answered?
 * Later they are the last: nobody else has to be waited for. */
static bool
is_staying(const struct worker *worker, const struct session *session)
{
	if (!worker->is_leaving || !session->is_held ||
	    session->state != SESSION_READY)
		return false;
	return hold_is_ready(session) || clock_mono_ms() < worker->stop_at_ms;
}

/* Its requests are answered first; stop_at_ms ends the patience. */
static void
close_session(struct worker *worker, struct session *session)
{
	int64_t retry_ms;
	char message[96];

	if (session->state >= SESSION_LEAVING || is_staying(worker, session))
		return;
	if (session->pending > 0 &&
	    (worker->stop_at_ms == 0 || clock_mono_ms() < worker->stop_at_ms))
		return;
	if (session->state == SESSION_NEW) {
		session_close(
		    session, NULL, 1012, "server is shutting down", -1);
		return;
	}
	retry_ms = retry_after_ms(worker);
	snprintf(message, sizeof(message),
	    "Server shutting down, please reconnect in %lld seconds",
	    (long long)(retry_ms + 999) / 1000);
	session_close(session, "RECONNECT", 1012, message, retry_ms);
}

static void
stop_reading(void *ctx, struct ws_conn *conn)
{
	struct session *session = session_of(conn);

	(void)ctx;
	if (session != NULL)
		session_pause(session, PAUSE_STOP);
}

static void
close_fn(void *ctx, struct ws_conn *conn)
{
	struct session *session = session_of(conn);

	if (session != NULL)
		close_session(ctx, session);
}

/* The supervisor says so before it tells us to stop. */
static bool
has_successor(const struct worker *worker)
{
	const struct board_slot *slot =
	    board_slot(bus_board(worker->bus), worker->process->slot);

	return worker->holding.hold != NULL &&
	       atomic_load(&slot->successor) != 0;
}

/* While it waits, those that are ready to be gone on with wait as well. */
static int64_t
stop_patience_ms(const struct worker *worker)
{
	int64_t whole_ms = worker->conf->server_shutdown_timeout;

	return worker->is_leaving && whole_ms > LEAVE_MS ? LEAVE_MS : whole_ms;
}

static void
close_all(struct worker *worker)
{
	log_info(NULL, "worker-stopping", "connections=%zu",
	    net_connection_count(worker->net));
	worker->is_stopping = true;
	worker->is_leaving = has_successor(worker);
	worker->stop_at_ms = clock_mono_ms() + stop_patience_ms(worker);
	net_stop_accepting(worker->net);
	net_each(worker->net, stop_reading, worker);
}

void
stop_begin(struct worker *worker)
{
	if (worker->is_stopping) {
		/* told twice: no more waiting for answers */
		worker->stop_at_ms = clock_mono_ms();
		return;
	}
	worker->drain.begin_ms = 0; /* haste: the others may stop as well */
	close_all(worker);
}

/* ---- drain ---- */

/* Those that have to go. */
static size_t
leaver_count(const struct worker *worker)
{
	size_t stay = worker->is_leaving ? worker->holding.count : 0;
	size_t all = net_connection_count(worker->net);

	return all > stay ? all - stay : 0;
}

void
stop_drain(struct worker *worker)
{
	struct drain *drain = &worker->drain;

	if (worker->is_stopping || drain->begin_ms != 0)
		return;
	/* who waits there would wait for our successor */
	net_finish_accepting(worker->net);
	drain->begin_ms = clock_mono_ms();
	drain->next_ms = drain->begin_ms;
	worker->is_leaving = has_successor(worker);
	drain->total = leaver_count(worker);
	drain->closed = 0;
	log_info(NULL, "worker-draining", "connections=%zu window_ms=%lld",
	    drain->total, (long long)worker->conf->server_drain_window);
}

struct drain_step {
	struct worker *worker;
	size_t quota;
};

/* Those whose turn has come before may still have had requests under way. */
static void
drain_fn(void *ctx, struct ws_conn *conn)
{
	struct drain_step *step = ctx;
	struct session *session = session_of(conn);

	if (session == NULL || (step->worker->is_leaving && session->is_held))
		return;
	if ((session->pauses & PAUSE_STOP) == 0) {
		if (step->quota == 0)
			return;
		step->quota--;
		step->worker->drain.closed++;
		session_pause(session, PAUSE_STOP);
	}
	close_session(step->worker, session);
}

/* As many as the time that has passed is of the window. */
static void
drain_look(struct worker *worker, int64_t now_ms)
{
	struct drain *drain = &worker->drain;
	int64_t window_ms = worker->conf->server_drain_window;
	int64_t passed_ms = now_ms - drain->begin_ms;
	struct drain_step step = {.worker = worker};
	size_t due;

	if (now_ms < drain->next_ms)
		return;
	drain->next_ms = now_ms + DRAIN_LOOK_MS;
	if (passed_ms >= window_ms || leaver_count(worker) == 0) {
		close_all(worker);
		return;
	}
	due = (size_t)((double)drain->total * (double)passed_ms /
		       (double)window_ms) +
	      1;
	step.quota = due > drain->closed ? due - drain->closed : 0;
	net_each(worker->net, drain_fn, &step);
}

/* ---- the end ---- */

static void
count_ready(void *ctx, struct ws_conn *conn)
{
	struct session *session = session_of(conn);
	size_t *count = ctx;

	if (session != NULL && hold_is_ready(session))
		(*count)++;
}

static void
leave_fn(void *ctx, struct ws_conn *conn)
{
	(void)ctx;
	session_leave(session_of(conn));
}

/* @return whether all that is left was left to a successor */
static bool
leave_all(struct worker *worker)
{
	size_t ready = 0;

	if (!worker->is_leaving || worker->adoption.is_on ||
	    net_connection_count(worker->net) != worker->holding.count ||
	    worker->session_count != worker->holding.count ||
	    !TAILQ_EMPTY(&worker->receipts) || hold_is_behind(worker))
		return false;
	/* those that are being closed are not among them */
	net_each(worker->net, count_ready, &ready);
	if (ready != net_connection_count(worker->net))
		return false;
	log_info(NULL, "connections-left", "count=%u", worker->holding.count);
	net_each(worker->net, leave_fn, worker);
	net_reap(worker->net);
	return true;
}

/* Time is up: what is ready is left all the same. */
static void
leave_ready(void *ctx, struct ws_conn *conn)
{
	struct session *session = session_of(conn);

	(void)ctx;
	if (session != NULL && hold_is_ready(session))
		session_leave(session);
}

bool
stop_step(struct worker *worker)
{
	if (worker->drain.begin_ms != 0 && !worker->is_stopping)
		drain_look(worker, clock_mono_ms());
	if (!worker->is_stopping)
		return false;
	net_each(worker->net, close_fn, worker);
	if (worker->session_count == 0 &&
	    net_connection_count(worker->net) == 0)
		return true;
	if (leave_all(worker))
		return true;
	if (clock_mono_ms() <=
	    worker->stop_at_ms +
		(worker->is_leaving ? LEAVE_CLOSE_MS : CLOSE_TIMEOUT_MS / 2))
		return false;
	if (worker->is_leaving)
		net_each(worker->net, leave_ready, worker);
	return true;
}
