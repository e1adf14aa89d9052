/*
 * net.c - all connections of one worker.
 *
 * Role:    owns what connections share: the read buffer, the timing wheel and
 *          its one libevent timer, the lists; frees at the end of the turn.
 * Process: worker.
 * Blocks:  never.
 * Trust:   ours only.
 * See:     net.h (the turn), ws_conn.c (one connection), accept.c.
 */
#include "net/net.h"

#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net_priv.h"
#include "net/tls_loop.h"
#include "net/ws_deflate.h"

static void
fire(void *arg, struct wheel_timer *timer)
{
	struct net *net = arg;

	if (timer == &net->accept_timer)
		net_accept_timer(net);
	else
		ws_conn_timer(
		    (struct ws_conn *)((char *)timer -
				       offsetof(struct ws_conn, timer)));
}

/* Sleep until the first slot that holds something. */
static void
tick_arm(struct net *net)
{
	int64_t next_ms = wheel_next_ms(&net->wheel);
	int64_t wait_ms = next_ms - clock_mono_ms();
	struct timeval tv;

	if (next_ms < 0) {
		event_del(&net->tick);
		net->tick_at_ms = INT64_MAX;
		return;
	}
	if (wait_ms < 0)
		wait_ms = 0;
	tv = (struct timeval){wait_ms / 1000, wait_ms % 1000 * 1000};
	event_add(&net->tick, &tv);
	net->tick_at_ms = next_ms;
}

static void
tick_cb(evutil_socket_t fd, short what, void *arg)
{
	struct net *net = arg;

	(void)fd;
	(void)what;
	wheel_advance(&net->wheel, clock_mono_ms(), fire, net);
	tick_arm(net);
}

static void
kick_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg; /* being active is all: the loop does not sleep */
}

/* Multiples of the golden ratio lie evenly however many there are (Knuth, The
 * Art of Computer Programming, 6.4). */
int64_t
net_first_ping_ms(struct net *net)
{
	uint32_t share = net->opened++ * 2654435769U;

	return net->conf.ping_interval_ms -
	       (net->conf.ping_interval_ms / 2 * share >> 32);
}

struct upgrade_terms
net_terms(const struct net *net)
{
	return (struct upgrade_terms){
	    .path = net->conf.path,
	    .subprotocol = net->conf.subprotocol,
	    .may_deflate = net->conf.may_deflate,
	    .origins = net->conf.origins,
	    .origin_count = net->conf.origin_count,
	    .trusted_proxies = net->conf.trusted_proxies,
	};
}

void
net_set_timer(struct net *net, struct wheel_timer *timer, int64_t at_ms)
{
	wheel_set(&net->wheel, timer, at_ms);
	if (at_ms < net->tick_at_ms)
		tick_arm(net);
}

struct net *
net_new(struct event_base *base, const struct net_conf *conf,
    const struct net_handler *handler, void *ctx)
{
	struct net *net = xcalloc(1, sizeof(*net));

	net->conf = *conf;
	net->handler = *handler;
	net->ctx = ctx;
	net->loop.base = base;
	net->loop.ops = &ws_conn_ops;
	net->loop.scratch = xcalloc(1, CONN_REST_MAX + CONN_READ_MAX + 1);
	TAILQ_INIT(&net->loop.dirty);
	LIST_INIT(&net->conns);
	STAILQ_INIT(&net->ended);
	STAILQ_INIT(&net->resting);
	STAILQ_INIT(&net->waiting);
	net->deflate = ws_deflate_new();
	wheel_init(&net->wheel, NET_TICK_MS, clock_mono_ms());
	net->tick_at_ms = INT64_MAX;
	net_keep_descriptors(net);
	if (event_assign(&net->tick, base, -1, 0, tick_cb, net) != 0 ||
	    event_assign(&net->kick, base, -1, 0, kick_cb, net) != 0)
		panic("cannot make a timer");
	return net;
}

void
net_set_conf(struct net *net, const struct net_conf *conf)
{
	if (conf->ping_interval_ms != net->conf.ping_interval_ms ||
	    conf->may_deflate != net->conf.may_deflate)
		panic("not to be changed while connections are open");
	net->conf = *conf;
}

void
net_free(struct net **net_io)
{
	struct net *net = *net_io;
	struct ws_conn *ws;

	if (net == NULL)
		return;
	*net_io = NULL;
	net_close_listeners(net);
	LIST_FOREACH(ws, &net->conns, all_link)
	{
		ws_conn_abort(ws);
	}
	net_reap(net);
	tls_free(&net->loop.tls);
	event_del(&net->tick);
	event_del(&net->kick);
	wheel_fini(&net->wheel);
	ws_deflate_free(&net->deflate);
	free(net->loop.moved);
	if (net->reserve_fd >= 0)
		close(net->reserve_fd);
	free(net->loop.scratch);
	free(net);
}

size_t
net_connection_count(const struct net *net)
{
	return net->conn_count;
}

void
net_flush(struct net *net)
{
	conn_loop_flush(&net->loop);
}

void
net_count_inflated(struct net *net, size_t len)
{
	COUNT_ADD(inflated_bytes, len);
	net->inflated_bytes += len;
	net->turn_inflated_bytes += len;
}

bool
net_rest(struct ws_conn *ws)
{
	size_t turns = ws->net->inflated_bytes / CONN_READ_MAX;

	if (turns == 0)
		return false;
	ws->is_expensive = true;
	ws->rest_turns = (uint8_t)(turns < UINT8_MAX ? turns : UINT8_MAX);
	STAILQ_INSERT_TAIL(&ws->net->resting, ws, ended_link);
	return true;
}

bool
net_wait_to_inflate(struct ws_conn *ws)
{
	size_t max = NET_INFLATE_TURN_MAX * (ws->is_expensive ? 1 : 2);

	if (!ws->decoder.may_deflate || ws->net->turn_inflated_bytes < max)
		return false;
	ws->is_waiting = true;
	ws->rest_turns = 1;
	STAILQ_INSERT_TAIL(&ws->net->waiting, ws, ended_link);
	return true;
}

void
net_end_rest(struct ws_conn *ws)
{
	struct net *net = ws->net;

	if (ws->rest_turns == 0)
		return;
	STAILQ_REMOVE(ws->is_waiting ? &net->waiting : &net->resting, ws,
	    ws_conn, ended_link);
	ws->rest_turns = 0;
	ws->is_waiting = false;
}

/*
 * One turn less for each of them. Those that had to wait come first, in their
 * order: whoever comes from a rest must not overtake them for ever.
 */
static void
count_rests(struct net *net)
{
	struct ws_conn *ws;
	struct ws_conn *next;

	while ((ws = STAILQ_FIRST(&net->waiting)) != NULL) {
		net_end_rest(ws);
		ws_conn_rested(ws);
	}
	for (ws = STAILQ_FIRST(&net->resting); ws != NULL; ws = next) {
		next = STAILQ_NEXT(ws, ended_link);
		if (ws->rest_turns > 1) {
			ws->rest_turns--;
			continue;
		}
		net_end_rest(ws);
		ws_conn_rested(ws);
	}
	if (!STAILQ_EMPTY(&net->resting))
		net->owes_turn = true;
}

void
net_reap(struct net *net)
{
	struct ws_conn *ws;

	if (net->loop.tls != NULL)
		tls_turn_end(net->loop.tls);
	while ((ws = STAILQ_FIRST(&net->ended)) != NULL) {
		STAILQ_REMOVE_HEAD(&net->ended, ended_link);
		(void)ws_conn_reap(ws);
	}
	net->turn_inflated_bytes = 0;
	count_rests(net);
	if (net->owes_turn || !TAILQ_EMPTY(&net->loop.dirty))
		event_active(&net->kick, EV_TIMEOUT, 0);
	net->owes_turn = false;
}

void
net_each(
    struct net *net, void (*fn)(void *ctx, struct ws_conn *conn), void *ctx)
{
	struct ws_conn *ws;

	/* Nothing is unlinked before net_reap, whatever fn does. */
	LIST_FOREACH(ws, &net->conns, all_link)
	{
		if (ws_conn_is_open(ws))
			fn(ctx, ws);
	}
}

bool
net_has_output(const struct net *net)
{
	const struct ws_conn *ws;

	LIST_FOREACH(ws, &net->conns, all_link)
	{
		if (ws->conn.fd >= 0 && conn_queued(&ws->conn) > 0)
			return true;
	}
	return false;
}

void
ws_conn_set_data(struct ws_conn *conn, void *data)
{
	conn->data = data;
}

void *
ws_conn_data(const struct ws_conn *conn)
{
	return conn->data;
}

bool
ws_conn_is_open(const struct ws_conn *conn)
{
	return conn->state == WS_STATE_OPEN;
}

const char *
ws_conn_peer(const struct ws_conn *conn, char buf[64])
{
	return conn_peer_text(&conn->conn.peer, buf);
}

void
ws_conn_peer_key(const struct ws_conn *conn, uint8_t key[16])
{
	conn_peer_key(&conn->conn.peer, key);
}
