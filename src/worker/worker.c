/*
 * worker.c - sockets and sessions; one process per core.
 *
 * Role:    the loop turn, start and orderly stop.
 * Process: worker.
 * Blocks:  never; what may wait for the disk is on the reader thread.
 * Trust:   neither clients nor rings.
 * See:     architecture.md, “The way of one message”
 */
#include "worker/worker.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/jwt.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net.h"
#include "net/tls.h"
#include "worker/limit.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

#define TICK_MS       100
#define BEAT_MS       900 /* heartbeat: at least once a second */
#define TRIM_MS       1000
#define TRIM_SESSIONS 256
#define RETRY_US      1000 /* for what found no room in the ring */

/* ---- callbacks of net ---- */

static void
open_fn(void *ctx, struct ws_conn *conn, const char *bearer)
{
	struct worker *worker = ctx;
	struct session *session;

	if (worker->is_stopping) {
		ws_conn_close(conn, 1012, "server is shutting down");
		return;
	}
	session = session_new(worker, conn);
	if (session == NULL) {
		ws_conn_close(conn, 1013, "out of memory, try again later");
		return;
	}
	if (bearer != NULL && strlen(bearer) <= JWT_LEN_MAX)
		session->bearer = xstrdup(bearer);
	ws_conn_set_data(conn, session);
}

static void
text_fn(void *ctx, struct ws_conn *conn, char *data, size_t len)
{
	struct session *session = session_of(conn);

	(void)ctx;
	if (session != NULL)
		command_dispatch(session, data, len);
}

static void
drained_fn(void *ctx, struct ws_conn *conn)
{
	struct session *session = session_of(conn);

	(void)ctx;
	if (session == NULL)
		return;
	session_resume(session, PAUSE_OUTPUT);
	if (session->state == SESSION_READY)
		delivery_drained(session);
}

static void
closed_fn(void *ctx, struct ws_conn *conn, int code)
{
	struct session *session = session_of(conn);

	(void)ctx;
	(void)code;
	if (session != NULL)
		session_gone(session);
}

static void
motion_fn(void *ctx, struct ws_conn *conn, enum ws_motion motion)
{
	struct session *session = session_of(conn);

	(void)ctx;
	if (session != NULL)
		hold_motion(session, motion);
}

static void
settle_fn(void *ctx, struct ws_conn *conn)
{
	struct session *session = session_of(conn);

	(void)ctx;
	if (session != NULL)
		hold_settle(session);
}

/* ---- start ---- */

static void
open_stores(struct worker *worker)
{
	const struct conf *conf = worker->conf;
	struct txn txn;
	char error[512];
	int rc;

	/* Only to say so: cmd_authenticate lets nobody in. */
	if (atomic_load(&board_header(bus_board(worker->bus))->store) ==
	    STORE_REFUSED)
		return;
	if (store_open(STORE_MAIN, conf->server_data_dir,
		(size_t)conf->store_map_size, false, &worker->main, error,
		sizeof(error)) != 0 ||
	    store_open(STORE_PRESENCE, conf->server_run_dir,
		(size_t)conf->store_presence_map_size, false, &worker->presence,
		error, sizeof(error)) != 0)
		fatal("%s", error);
	rc = store_begin_read(worker->main, &txn);
	if (rc == 0)
		rc = meta_get(&txn, &worker->meta);
	txn_end(&txn);
	if (rc != 0)
		fatal("cannot read the store: %s", err_text(rc));
	snprintf(worker->epoch, sizeof(worker->epoch), "%016llx",
	    (unsigned long long)worker->meta.epoch);
	snprintf(worker->node, sizeof(worker->node), "%lld",
	    (long long)conf->server_node);
}

static struct net_conf
net_conf_of(const struct worker *worker)
{
	const struct conf *conf = worker->conf;

	return (struct net_conf){
	    .max_message_size = (size_t)conf->server_max_message_size,
	    .max_queued_bytes = OUTPUT_BYTES_MAX,
	    .header_timeout_ms = conf->server_header_timeout,
	    .ping_interval_ms = conf->server_ping_interval,
	    .write_timeout_ms = conf->server_write_timeout,
	    .close_timeout_ms = CLOSE_TIMEOUT_MS,
	    .max_connections = conf->server_max_connections != 0
				   ? conf->server_max_connections
				   : INT_MAX, /* accept pauses before */
	    .frames_per_second = conf->limits_frames_per_connection,
	    .burst_ms = conf->limits_burst,
	    .busy_accept_rate = conf->server_busy_accept_rate,
	    .may_deflate = conf->server_deflate,
	    .deflate_min_bytes = (size_t)conf->server_deflate_min_size,
	    .path = "/ws",
	    .origins = (const char *const *)conf->server_allowed_origins.items,
	    .origin_count = conf->server_allowed_origins.count,
	    .subprotocol = PROTOCOL_SUBPROTOCOL,
	    .trusted_proxies = &worker->gate.trusted_proxies,
	    .exempt = &worker->gate.exempt,
	};
}

/* A reload. */
static void
set_net(struct worker *worker)
{
	struct net_conf net_conf = net_conf_of(worker);

	net_set_conf(worker->net, &net_conf);
	worker_tls_set(worker);
}

static void
open_net(struct worker *worker)
{
	static const struct net_handler handler = {
	    .open_fn = open_fn,
	    .text_fn = text_fn,
	    .drained_fn = drained_fn,
	    .closed_fn = closed_fn,
	    .motion_fn = motion_fn,
	    .settle_fn = settle_fn,
	    .enter_fn = gate_enter,
	    .leave_fn = gate_leave,
	};
	struct net_conf net_conf = net_conf_of(worker);

	worker->net = net_new(worker->base, &net_conf, &handler, worker);
	worker_tls_start(worker);
	for (size_t i = 0; i < worker->process->listen_count; i++) {
		int fd = worker->process->listen_fds[i];
		bool is_plain = i < worker->process->listen_plain_count;

		if ((is_plain ? net_listen(worker->net, fd)
			      : net_listen_tls(worker->net, fd)) != 0)
			fatal("cannot accept on listening socket %zu", i);
	}
}

/* ---- the turn ---- */

static void
timer_fn(void *ctx, struct wheel_timer *timer)
{
	struct session *session =
	    (struct session *)((char *)timer - offsetof(struct session, timer));

	(void)ctx;
	if (session->magic != SESSION_MAGIC)
		panic("not a session");
	session_timer(session);
}

/*
 * Logins take several times the memory of the session that stays, and leave
 * holes between those. Once a wave of them has calmed down the pages in the
 * holes go back to the system.
 */
static void
give_memory_back(struct worker *worker, int64_t now_ms)
{
	worker->next_trim_ms = now_ms + TRIM_MS;
	bus_trim(worker->bus);
	if (worker->sessions_made == worker->made_at_look &&
	    worker->sessions_made - worker->made_at_trim >= TRIM_SESSIONS) {
		malloc_trim(0);
		worker->made_at_trim = worker->sessions_made;
	}
	worker->made_at_look = worker->sessions_made;
}

static void
tick(struct worker *worker)
{
	int64_t now_ms = clock_turn_ms();

	if (now_ms < worker->next_tick_ms)
		return;
	worker->next_tick_ms = now_ms + TICK_MS;
	if (process_beat(worker->process))
		set_net(worker);
	wheel_advance(&worker->wheel, now_ms, timer_fn, worker);
	worker_tls_look(worker);
	pending_expire(worker);
	ephemeral_flush_receipts(worker);
	if (now_ms >= worker->next_trim_ms)
		give_memory_back(worker, now_ms);
}

/*
 * Until when may the worker sleep: many workers with idle clients should not
 * wake the machine ten times a second each.
 */
static int64_t
tick_deadline_ms(const struct worker *worker)
{
	int64_t now_ms = clock_turn_ms();
	int64_t timer_ms = wheel_next_ms(&worker->wheel);

	if (worker->is_stopping || worker->drain.begin_ms != 0 ||
	    !TAILQ_EMPTY(&worker->receipts) || pending_has_deadline(worker))
		return now_ms + TICK_MS;
	if (timer_ms >= 0 && timer_ms < now_ms + BEAT_MS)
		return timer_ms > worker->next_tick_ms ? timer_ms
						       : worker->next_tick_ms;
	return now_ms + BEAT_MS;
}

/* A wake-up that comes before the deadline only looks and sets it again. */
static void
tick_arm(struct worker *worker)
{
	int64_t at_ms = tick_deadline_ms(worker);
	int64_t wait_ms = at_ms - clock_turn_ms();
	struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};

	/* libevent's clock is coarse: it may fire some ms before tick_at_ms,
	 * and what has fired does not fire again. */
	if (evtimer_pending(worker->tick_event, NULL) &&
	    worker->tick_at_ms <= at_ms)
		return;
	event_add(worker->tick_event, &tv);
	worker->tick_at_ms = at_ms;
}

/* Requests that found no room before. */
static void
retry_stalled(struct worker *worker)
{
	struct session *session;

	while ((session = TAILQ_FIRST(&worker->stalled)) != NULL &&
	       pending_has_room(worker, session->stalled.len)) {
		struct buf text = session->stalled;

		session->stalled = (struct buf){0};
		session->is_stalled = false;
		TAILQ_REMOVE(&worker->stalled, session, stalled_link);
		buf_add_char(&text, '\0');
		if (session->conn != NULL)
			command_dispatch(session, text.data, text.len - 1);
		if (session->stalled.len == 0)
			session_resume(session, PAUSE_RING);
		buf_fini(&text);
	}
}

static void
do_due(struct worker *worker)
{
	struct session *session;

	while ((session = TAILQ_FIRST(&worker->due)) != NULL) {
		if (!session_do_due(session))
			break;
	}
}

static void
worker_turn(struct worker *worker)
{
	bool may_sleep = bus_prepare_sleep(worker->bus);

	/* Nobody rings when the keeper gives space back in its ring. */
	if (!TAILQ_EMPTY(&worker->due) || !TAILQ_EMPTY(&worker->stalled) ||
	    worker->adoption.is_on || hold_is_behind(worker))
		event_add(worker->retry_event,
		    &(struct timeval){.tv_usec = RETRY_US});
	event_base_loop(
	    worker->base, EVLOOP_ONCE | (may_sleep ? 0 : EVLOOP_NONBLOCK));
	if (may_sleep)
		bus_awake(worker->bus);
	clock_update();
	intake_run(worker);
	adopt_step(worker);
	tick(worker);
	retry_stalled(worker);
	net_flush(worker->net);
	net_reap(worker->net);
	do_due(worker);
	bus_publish_all(worker->bus);
	net_settle(worker->net);
	hold_flush(worker);
	tick_arm(worker);
}

static void
wake_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg; /* bus_awake empties it, the turn does the rest */
}

static void
holder_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	adopt_receive(arg);
}

/* ---- signals ---- */

static void
signal_cb(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	int signo;

	(void)what;
	while ((signo = process_signal_next(fd)) != 0) {
		if (signo == SIGUSR1)
			log_reopen();
		else if (signo == SIGUSR2)
			stop_drain(worker);
		else
			stop_begin(worker);
	}
}

/* ---- main ---- */

static struct event *
watch(struct worker *worker, int fd, event_callback_fn fn)
{
	struct event *event =
	    event_new(worker->base, fd, EV_READ | EV_PERSIST, fn, worker);

	if (event == NULL || event_add(event, NULL) != 0)
		fatal("libevent: cannot watch descriptor %d", fd);
	return event;
}

static void
tick_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg; /* only ends the sleep: the turn looks at the clock */
}

static void
start_tick(struct worker *worker)
{
	worker->tick_event = evtimer_new(worker->base, tick_cb, worker);
	if (worker->tick_event == NULL)
		fatal("libevent: cannot set a timer");
	tick_arm(worker);
	worker->retry_event = evtimer_new(worker->base, tick_cb, worker);
	if (worker->retry_event == NULL)
		fatal("libevent: cannot set a timer");
}

static void
worker_init(struct worker *worker, const struct process *process)
{
	char error[512];

	worker->process = process;
	worker->conf = process->conf;
	worker->bus = process->bus;
	TAILQ_INIT(&worker->due);
	TAILQ_INIT(&worker->stalled);
	TAILQ_INIT(&worker->receipts);
	TAILQ_INIT(&worker->waiting);
	pending_init(&worker->pending);
	clock_update();
	wheel_init(&worker->wheel, TICK_MS, clock_turn_ms());
	worker->base = event_base_new();
	if (worker->base == NULL)
		fatal("libevent: no event base");
	if (jwt_verifier_new(
		worker->conf, &worker->jwt, error, sizeof(error)) != 0)
		fatal("%s", error);
	open_stores(worker);
	worker->resync_seen = atomic_load(
	    &board_slot(bus_board(worker->bus), process->slot)->resync);
	worker->reader = reader_new(worker);
	worker->limits = limits_new();
	start_tick(worker);
}

static void
worker_fini(struct worker *worker)
{
	net_free(&worker->net);
	do_due(worker);
	bus_publish_all(worker->bus);
	hold_flush(worker);
	adopt_fini(worker);
	hold_fini(worker);
	gate_fini(worker);
	reader_free(&worker->reader);
	limits_free(&worker->limits);
	store_close(&worker->presence);
	store_close(&worker->main);
	jwt_verifier_free(&worker->jwt);
	pending_fini(&worker->pending);
	wheel_fini(&worker->wheel);
	buf_fini(&worker->out);
	buf_fini(&worker->tail);
	event_free(worker->tick_event);
	event_free(worker->retry_event);
}

int
worker_main(const struct process *process)
{
	struct worker *worker = xcalloc(1, sizeof(*worker));
	int signal_fd = process_signal_fd();
	struct event *wake;
	struct event *signals;
	struct event *holder = NULL;

	worker_init(worker, process);
	hold_init(worker);
	gate_init(worker);
	open_net(worker);
	wake = watch(worker, bus_eventfd(worker->bus), wake_cb);
	signals = watch(worker, signal_fd, signal_cb);
	if (process->hold != NULL)
		holder = watch(worker, hold_fd(process->hold), holder_cb);
	adopt_begin(worker);
	while (!stop_step(worker))
		worker_turn(worker);
	log_info(NULL, "worker-stopped", "connections=%zu",
	    net_connection_count(worker->net));
	event_free(wake);
	event_free(signals);
	if (holder != NULL)
		event_free(holder);
	worker_fini(worker);
	event_base_free(worker->base);
	free(worker);
	close(signal_fd);
	return 0;
}
