/*
 * ws_move.c - a connection that outlives its process.
 *
 * Role:    tells the owner when bytes of a shared connection move, says
 *          whether it is whole, lets it go, and goes on with one that was let
 *          go.
 * Process: worker.
 * Blocks:  never.
 * Trust:   what is carried over was checked by the owner.
 * See:     shm/hold.h, worker/hold.c.
 *
 * The owner keeps a mark for each shared connection that must be right at any
 * instruction: it is told before anything moves, and once more when the turn
 * is over.
 */
#include <string.h>

#include "net/net_priv.h"

static struct ws_conn *
from_conn(struct conn *conn)
{
	return (struct ws_conn *)conn;
}

void
ws_tell_motion(struct conn *conn, bool is_output)
{
	struct ws_conn *ws = from_conn(conn);

	ws->net->handler.motion_fn(
	    ws->net->ctx, ws, is_output ? WS_MOTION_OUTPUT : WS_MOTION_INPUT);
}

void
ws_tell_written(struct ws_conn *ws)
{
	/* after a close frame there is nothing more to be said */
	if (ws->conn.is_shared && ws->state == WS_STATE_OPEN &&
	    conn_queued(&ws->conn) == 0)
		ws->net->handler.motion_fn(ws->net->ctx, ws, WS_MOTION_WRITTEN);
}

void
net_settle(struct net *net)
{
	struct conn_loop *loop = &net->loop;

	for (uint32_t i = 0; i < loop->moved_count; i++) {
		struct conn *conn = loop->moved[i];

		if (conn == NULL)
			continue;
		conn_unmoved(conn);
		if (from_conn(conn)->state == WS_STATE_OPEN)
			net->handler.settle_fn(net->ctx, from_conn(conn));
	}
	loop->moved_count = 0;
}

bool
ws_conn_may_move(const struct ws_conn *conn)
{
	return conn->state == WS_STATE_OPEN && conn->conn.io == &conn_plain_io;
}

bool
ws_conn_is_whole(const struct ws_conn *ws)
{
	const struct conn *conn = &ws->conn;

	return ws_conn_may_move(ws) && conn->in.len == 0 &&
	       conn_queued(conn) == 0 && conn->write_on == 0 &&
	       !conn->has_seen_eof && ws->pong == NULL &&
	       !ws->decoder.in_message && !ws->decoder.in_frame;
}

void
ws_conn_carry(const struct ws_conn *conn, struct ws_carry *out)
{
	const struct conn_peer *peer = &conn->conn.peer;

	*out = (struct ws_carry){
	    .port = peer->port,
	    .family = peer->family,
	    .deflate_bits = conn->deflate_bits,
	};
	memcpy(out->address, peer->address, sizeof(out->address));
}

int
ws_conn_fd(const struct ws_conn *conn)
{
	return conn->conn.fd;
}

void
ws_conn_share(struct ws_conn *conn)
{
	conn->conn.is_shared = true;
	conn_moved(&conn->conn);
}

void
ws_conn_leave(struct ws_conn *conn)
{
	conn->conn.is_shared = false;
	conn->was_opened = false;
	ws_conn_abort(conn);
}

struct ws_conn *
net_adopt(struct net *net, int take_fd, const struct ws_carry *carry)
{
	struct ws_conn *ws = ws_conn_new_open(net, &conn_plain_io, take_fd);
	struct conn_peer *peer = &ws->conn.peer;

	memcpy(peer->address, carry->address, sizeof(peer->address));
	peer->port = carry->port;
	peer->family = carry->family;
	ws_admit_adopted(ws);
	ws->deflate_bits = carry->deflate_bits;
	ws->decoder.may_deflate = carry->deflate_bits != 0;
	conn_set_input(&ws->conn, true);
	return ws;
}
