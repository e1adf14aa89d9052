/*
 * admit.c - who a connection counts as, and whether one more may come in.
 *
 * Role:    decides as soon as it is known who is there: when a direct
 *          connection is accepted, when a proxy's PROXY header has come, or
 *          when its request head has. Who is in counts until it is closed.
 * Process: worker.
 * Blocks:  never.
 * Trust:   what is said of the peer counts from a trusted proxy alone.
 * See:     network.c, conn_proxy.c, forwarded.c; worker/gate.c (who counts
 *          them over all workers), t/20-proxy.t, t/22-crowds.t.
 */
#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "net/net_priv.h"
#include "net/network.h"
#include "net/tls_loop.h"

#define TOO_MANY 429 /* RFC 6585 4 */
/* Refused with an answer and not gone yet; further ones are just closed. */
#define TURNED_AWAY_MAX 256
/* Such refusals that are logged, per second; all are counted. */
#define LOG_PER_SECOND 10

bool
net_is_proxy(const struct net *net, const struct conn_peer *peer)
{
	return networks_have(net->conf.trusted_proxies, peer);
}

bool
ws_conn_is_exempt(const struct ws_conn *ws)
{
	return networks_have(ws->net->conf.exempt, &ws->conn.peer);
}

/* @return false: there are enough from there */
static bool
enter(struct ws_conn *ws, bool is_adopted)
{
	struct net *net = ws->net;
	uint8_t key[16];

	if (ws->is_counted || net->handler.enter_fn == NULL ||
	    ws->conn.peer.family == 0 || ws_conn_is_exempt(ws))
		return true;
	conn_peer_key(&ws->conn.peer, key);
	ws->is_counted = net->handler.enter_fn(net->ctx, key, is_adopted);
	return ws->is_counted;
}

static void
log_turned_away(struct net *net, const struct ws_conn *ws)
{
	int64_t second = clock_mono_ms() / 1000;
	char text[64];
	struct log_ctx ctx = {0};

	if (second != net->away_log_second) {
		net->away_log_second = second;
		net->away_log_count = 0;
	}
	if (++net->away_log_count > LOG_PER_SECOND ||
	    !log_is_on(LOG_LEVEL_INFO))
		return;
	ctx.peer = conn_peer_text(&ws->conn.peer, text);
	log_info(&ctx, "connection-refused",
	    "why=\"the address has too many connections\"");
}

static void
turn_away(struct ws_conn *ws)
{
	struct net *net = ws->net;

	COUNT(connections_over_limit);
	log_turned_away(net, ws);
	/* an answer over TLS would cost a handshake */
	if (ws->conn.io == &conn_tls_handshake_io ||
	    net->away_count >= TURNED_AWAY_MAX) {
		COUNT(connections_refused);
		ws_conn_abort(ws);
		return;
	}
	ws->is_turned_away = true;
	net->away_count++;
	ws_conn_refuse(ws, TOO_MANY,
	    "your address has too many connections, try again later");
}

bool
ws_admit(struct ws_conn *ws)
{
	if (enter(ws, false))
		return true;
	turn_away(ws);
	return false;
}

/* A proxy may still say whom it speaks for. */
void
ws_known(struct conn *conn)
{
	struct ws_conn *ws = (struct ws_conn *)conn;

	if (ws->state == WS_STATE_HEAD &&
	    !net_is_proxy(ws->net, &ws->conn.peer))
		(void)ws_admit(ws);
}

void
ws_admit_adopted(struct ws_conn *ws)
{
	(void)enter(ws, true);
}

void
ws_leave(struct ws_conn *ws)
{
	struct net *net = ws->net;
	uint8_t key[16];

	if (ws->is_turned_away)
		net->away_count--;
	ws->is_turned_away = false;
	if (!ws->is_counted)
		return;
	ws->is_counted = false;
	conn_peer_key(&ws->conn.peer, key);
	net->handler.leave_fn(net->ctx, key);
}
