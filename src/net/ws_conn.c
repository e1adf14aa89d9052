/*
 * ws_conn.c - the life of one WebSocket connection.
 *
 * Role:    request head, messages, pings, the closing handshake, deadlines.
 * Process: worker.
 * Blocks:  never. Every state has a deadline.
 * Trust:   none in the peer: it is answered, closed with a code, or cut off.
 * See:     net_priv.h (states), ws_decode.c (frames), t/unit/net.c.
 */
#include <event2/event.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net_priv.h"
#include "net/upgrade.h"
#include "net/ws_deflate.h"

static const char *const state_names[] = {
#define X(name) [WS_STATE_##name] = #name,
    WS_STATES(X)
#undef X
};

static struct ws_conn *
from_conn(struct conn *conn)
{
	return (struct ws_conn *)conn;
}

static void
log_peer(const struct ws_conn *ws, const char *event, const char *why)
{
	char text[64];
	struct log_ctx ctx = {.peer = conn_peer_text(&ws->conn.peer, text)};

	if (log_is_on(LOG_LEVEL_INFO))
		log_info(&ctx, event, "why=\"%s\"", why);
}

static int64_t
min_time(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Earliest deadline; bytes that arrive only move heard_at_ms. */
void
ws_set_timer(struct ws_conn *ws)
{
	int64_t at_ms = min_time(ws->deadline_at_ms, ws_pace_until_ms(ws));

	if (ws->state == WS_STATE_OPEN && ws_is_listening(ws))
		at_ms = min_time(at_ms, ws->heard_at_ms +
					    ws->net->conf.ping_interval_ms +
					    NET_PONG_WAIT_MS);
	if (ws->conn.blocked_at_ms != 0)
		at_ms = min_time(at_ms,
		    ws->conn.blocked_at_ms + ws->net->conf.write_timeout_ms);
	if (wheel_is_set(&ws->timer) && ws->timer.at_ms <= at_ms)
		return; /* fires early, looks, and is set again */
	net_set_timer(ws->net, &ws->timer, at_ms);
}

static void
mark_ended(struct ws_conn *ws)
{
	if (ws->is_on_ended)
		return;
	ws->is_on_ended = true;
	net_end_rest(ws);
	STAILQ_INSERT_TAIL(&ws->net->ended, ws, ended_link);
}

/* The only writer of state: what each state means is done here. */
static void
set_state(struct ws_conn *ws, enum ws_state state)
{
	const struct net_conf *conf = &ws->net->conf;
	int64_t now_ms = clock_mono_ms();

	if (ws->state != state)
		log_debug(NULL, "ws-state", "fd=%d from=%s to=%s", ws->conn.fd,
		    state_names[ws->state], state_names[state]);
	ws->state = (uint8_t)state;
	switch (state) {
	case WS_STATE_HEAD:
		ws->deadline_at_ms = now_ms + conf->header_timeout_ms;
		conn_set_input(&ws->conn, true);
		break;
	case WS_STATE_OPEN:
		ws->frames = (struct bucket){0};
		ws->deadline_at_ms = now_ms + net_first_ping_ms(ws->net);
		break;
	case WS_STATE_CLOSE_SENT:
	case WS_STATE_FLUSHING:
		ws->is_paused = false;
		ws->is_paced = false;
		net_end_rest(ws);
		ws->deadline_at_ms = now_ms + conf->close_timeout_ms;
		conn_set_input(&ws->conn, true);
		break;
	case WS_STATE_DRAINING:
		ws->deadline_at_ms = now_ms + NET_LINGER_MS;
		conn_shutdown(&ws->conn);
		mark_ended(ws);
		break;
	case WS_STATE_DEAD:
		wheel_cancel(&ws->net->wheel, &ws->timer);
		conn_close(&ws->conn);
		ws_leave(ws);
		mark_ended(ws);
		return;
	}
	ws_set_timer(ws);
}

/* The connection is no more; code counts unless one was settled before. */
static void
end_conn(struct ws_conn *ws, int code)
{
	if (ws->state == WS_STATE_DEAD)
		return;
	if (ws->close_code == 0)
		ws->close_code = (uint16_t)code;
	set_state(ws, WS_STATE_DEAD);
}

/* RFC 6455 7.1.7: say why, then close without waiting for their frame. */
static void
fail_conn(struct ws_conn *ws, const struct ws_violation *violation)
{
	COUNT(protocol_violations);
	log_peer(ws, "ws-violation", violation->why);
	if (ws->state == WS_STATE_OPEN) {
		ws->close_code = (uint16_t)violation->code;
		ws_queue_close(ws, violation->code, violation->why);
	}
	set_state(ws, WS_STATE_FLUSHING);
	conn_output(&ws->conn); /* nothing may be queued: end it this turn */
}

/* RFC 6455 5.5.1: the echo carries the code that came. */
static void
take_close(struct ws_conn *ws, const char *data, size_t len)
{
	struct ws_violation violation;
	int code;

	if (ws_close_parse(data, len, &code, &violation) != 0) {
		fail_conn(ws, &violation);
		return;
	}
	if (ws->state == WS_STATE_OPEN) {
		ws->close_code = (uint16_t)code;
		ws_queue_close(ws, code, "");
	}
	set_state(ws, WS_STATE_FLUSHING);
	conn_output(&ws->conn);
}

static void
deliver_text(struct ws_conn *ws, char *data, size_t len)
{
	char saved = data[len];

	data[len] = '\0';
	ws->net->handler.text_fn(ws->net->ctx, ws, data, len);
	data[len] = saved;
	ws_decoder_release(&ws->decoder);
}

/* The sender pays for the text's full length, not for the few bytes of it. */
static void
deliver_deflated(struct ws_conn *ws, const char *data, size_t len)
{
	struct net *net = ws->net;
	struct ws_violation violation;
	struct buf *text;

	int rc = ws_inflate(net->deflate, data, len, net->conf.max_message_size,
	    &text, &violation);
	net_count_inflated(net, text->len);
	if (rc != 0)
		fail_conn(ws, &violation);
	else
		deliver_text(ws, text->data, text->len);
	ws_inflate_release(net->deflate);
	if (ws->state == WS_STATE_OPEN && net_rest(ws))
		conn_set_input(&ws->conn, false);
}

/* @return bytes used; 0: what is there is incomplete or the end came */
static size_t
take_frame(struct ws_conn *ws, char *data, size_t len)
{
	struct ws_item item;
	size_t used;

	if (ws->state == WS_STATE_OPEN)
		used = ws_decode_next(&ws->decoder, data, len,
		    ws->net->conf.max_message_size, &item);
	else
		used = ws_decode_skip(&ws->decoder, data, len, &item);
	switch (item.kind) {
	case WS_ITEM_NONE:
	case WS_ITEM_PONG:
		break;
	case WS_ITEM_TEXT:
		deliver_text(ws, item.data, item.len);
		break;
	case WS_ITEM_DEFLATED:
		deliver_deflated(ws, item.data, item.len);
		break;
	case WS_ITEM_PING:
		ws_take_ping(ws, item.data, item.len);
		break;
	case WS_ITEM_CLOSE:
		take_close(ws, item.data, item.len);
		break;
	case WS_ITEM_VIOLATION:
		fail_conn(ws, &item.violation);
		break;
	}
	return used;
}

/* Frames until they are used up or a handler wants no more of them. */
static size_t
take_frames(struct ws_conn *ws, char *data, size_t len)
{
	size_t used = 0;
	size_t n = 1;

	if (ws->state == WS_STATE_OPEN && ws_is_listening(ws) &&
	    net_wait_to_inflate(ws)) {
		conn_set_input(&ws->conn, false);
		return 0;
	}
	while (
	    n > 0 && used < len && ws_is_listening(ws) &&
	    (ws->state == WS_STATE_OPEN || ws->state == WS_STATE_CLOSE_SENT)) {
		n = take_frame(ws, data + used, len - used);
		used += n;
	}
	/* What comes after the end is ignored. */
	return ws->state > WS_STATE_CLOSE_SENT ? len : used;
}

/*
 * Borrowed by open_fn as a string: the byte behind it belongs to the head,
 * which has been understood and is about to be wiped.
 */
static const char *
bearer_string(struct http_text bearer)
{
	if (bearer.data == NULL)
		return NULL;
	((char *)(uintptr_t)bearer.data)[bearer.len] = '\0';
	return bearer.data;
}

void
ws_conn_refuse(struct ws_conn *ws, int status, const char *why)
{
	COUNT(connections_refused);
	upgrade_refuse(status, why, conn_output(&ws->conn));
	set_state(ws, WS_STATE_FLUSHING);
}

static void
refuse_request(struct ws_conn *ws, int status, const char *why)
{
	log_peer(ws, "connection-refused", why);
	ws_conn_refuse(ws, status, why);
}

static void
take_request(struct ws_conn *ws, char *data, size_t len)
{
	const struct upgrade_terms terms = net_terms(ws->net);
	struct upgrade upgrade;

	upgrade_judge(data, len, &terms, &ws->conn.peer, &upgrade);
	ws->conn.peer = upgrade.peer;
	if (!ws_admit(ws))
		return;
	upgrade_answer(&upgrade, &terms, conn_output(&ws->conn));
	if (upgrade.status != 101) {
		COUNT(connections_refused);
		log_peer(ws, "connection-refused", upgrade.why);
		set_state(ws, WS_STATE_FLUSHING);
		return;
	}
	ws->deflate_bits = upgrade.offer.window_bits;
	ws->decoder.may_deflate = ws->deflate_bits != 0;
	set_state(ws, WS_STATE_OPEN);
	ws->was_opened = true;
	ws->net->handler.open_fn(
	    ws->net->ctx, ws, bearer_string(upgrade.bearer));
}

static size_t
take_head(struct ws_conn *ws, char *data, size_t len)
{
	enum http_scan_result result = http_scan_feed(&ws->scan, data, len);
	size_t used = ws->scan.at;

	switch (result) {
	case HTTP_SCAN_MORE:
		return 0;
	case HTTP_SCAN_MALFORMED:
		refuse_request(ws, 400, "the request head is malformed");
		break;
	case HTTP_SCAN_TOO_LARGE:
		refuse_request(
		    ws, 431, "the request head exceeds 8192 bytes or 64 lines");
		break;
	case HTTP_SCAN_DONE:
		take_request(ws, data, used);
		break;
	}
	mem_wipe(data, used);
	return used;
}

static size_t
input(struct conn *conn, char *data, size_t len)
{
	struct ws_conn *ws = from_conn(conn);
	size_t used = 0;

	ws->heard_at_ms = clock_mono_ms();
	ws->net->inflated_bytes = 0;
	if (ws->state == WS_STATE_HEAD) {
		used = take_head(ws, data, len);
		if (ws->state == WS_STATE_HEAD)
			return 0;
	} else if (ws->has_spoken) {
		conn->loop->served++;
	} else {
		ws->has_spoken = true; /* most likely to log in */
	}
	used += take_frames(ws, data + used, len - used);
	ws_pace(ws);
	return used;
}

static void
eof(struct conn *conn)
{
	struct ws_conn *ws = from_conn(conn);

	/* The last bytes may still find a reader. */
	if (ws->state != WS_STATE_FLUSHING)
		end_conn(ws, WS_CLOSE_ABNORMAL);
}

static void
lost(struct conn *conn)
{
	end_conn(from_conn(conn), WS_CLOSE_ABNORMAL);
}

static void
end_when_flushed(struct ws_conn *ws)
{
	if (ws->state != WS_STATE_FLUSHING || conn_queued(&ws->conn) > 0)
		return;
	if (ws->conn.has_seen_eof)
		end_conn(ws, WS_CLOSE_ABNORMAL);
	else
		set_state(ws, WS_STATE_DRAINING);
}

static void
before_flush(struct conn *conn)
{
	struct ws_conn *ws = from_conn(conn);

	ws_add_pong(ws);
	end_when_flushed(ws);
}

static void
after_write(struct conn *conn)
{
	struct ws_conn *ws = from_conn(conn);

	ws_tell_written(ws);
	if (ws->pong != NULL && conn->write_on == 0)
		conn_output(conn);
	if (conn->blocked_at_ms != 0)
		ws_set_timer(ws);
	end_when_flushed(ws);
	if (ws->was_refused && ws->state == WS_STATE_OPEN &&
	    conn_queued(conn) < ws->net->conf.max_queued_bytes / 4) {
		ws->was_refused = false;
		ws->net->owes_turn = true;
		ws->net->handler.drained_fn(ws->net->ctx, ws);
	}
}

const struct conn_ops ws_conn_ops = {
    .input_fn = input,
    .eof_fn = eof,
    .lost_fn = lost,
    .flush_fn = before_flush,
    .sent_fn = after_write,
    .motion_fn = ws_tell_motion,
    .peer_fn = ws_known,
};

static struct ws_conn *
make_conn(struct net *net, const struct conn_io *io, int fd,
    const struct sockaddr *peer)
{
	struct ws_conn *ws = xcalloc(1, sizeof(*ws));

	conn_init(&ws->conn, &net->loop, io, fd, peer);
	ws->net = net;
	ws->heard_at_ms = clock_mono_ms();
	LIST_INSERT_HEAD(&net->conns, ws, all_link);
	net->conn_count++;
	GAUGE_SET(connections, net->conn_count);
	return ws;
}

struct ws_conn *
ws_conn_new_open(struct net *net, const struct conn_io *io, int fd)
{
	struct ws_conn *ws = make_conn(net, io, fd, NULL);

	set_state(ws, WS_STATE_OPEN);
	ws->was_opened = true;
	ws->has_spoken = true;
	return ws;
}

void
ws_conn_new(struct net *net, const struct conn_io *io, int fd,
    const struct sockaddr *peer, bool is_refused)
{
	struct ws_conn *ws = make_conn(net, io, fd, peer);

	if (net_is_proxy(net, &ws->conn.peer))
		conn_expect_proxy(&ws->conn);
	if (is_refused) {
		refuse_request(ws, 503,
		    "too many connections at the moment, try again later");
		return;
	}
	set_state(ws, WS_STATE_HEAD);
	ws_known(&ws->conn);
}

static void
ping(struct ws_conn *ws, int64_t now_ms)
{
	ws->deadline_at_ms = now_ms + ws->net->conf.ping_interval_ms;
	/* A full socket needs no more; write_timeout_ms watches it. */
	if (ws->conn.write_on == 0)
		ws_queue_frame(ws, WS_OP_PING, NULL, 0);
}

static void
check_open(struct ws_conn *ws, int64_t now_ms)
{
	if (ws_is_listening(ws) &&
	    now_ms >= ws->heard_at_ms + ws->net->conf.ping_interval_ms +
			  NET_PONG_WAIT_MS) {
		log_peer(ws, "ws-dead", "no sign of life");
		end_conn(ws, WS_CLOSE_ABNORMAL);
		return;
	}
	if (now_ms >= ws->deadline_at_ms)
		ping(ws, now_ms);
}

void
ws_conn_timer(struct ws_conn *ws)
{
	int64_t now_ms = clock_mono_ms();

	if (ws->conn.blocked_at_ms != 0 &&
	    now_ms >= ws->conn.blocked_at_ms + ws->net->conf.write_timeout_ms) {
		log_peer(ws, "ws-stalled", "the peer takes no output");
		end_conn(ws, WS_CLOSE_ABNORMAL);
	} else if (ws->state == WS_STATE_OPEN) {
		ws_pace_look(ws);
		check_open(ws, now_ms);
	} else if (now_ms < ws->deadline_at_ms) {
		/* fired for a deadline that has moved */
	} else if (ws->state == WS_STATE_HEAD && ws->scan.at > 0) {
		refuse_request(ws, 408, "the request head took too long");
	} else {
		if (ws->state == WS_STATE_HEAD)
			COUNT(connections_refused);
		end_conn(ws, WS_CLOSE_ABNORMAL);
	}
	if (ws->state != WS_STATE_DEAD)
		ws_set_timer(ws);
}

void
ws_conn_hurry(struct ws_conn *ws)
{
	if (ws->state != WS_STATE_HEAD)
		return;
	ws->deadline_at_ms =
	    min_time(ws->deadline_at_ms, clock_mono_ms() + NET_STOP_HEAD_MS);
	ws_set_timer(ws);
}

bool
ws_conn_reap(struct ws_conn *ws)
{
	struct net *net = ws->net;

	ws->is_on_ended = false;
	if (ws->was_opened) {
		ws->was_opened = false;
		net->owes_turn = true;
		net->handler.closed_fn(net->ctx, ws, ws->close_code);
	}
	if (ws->state != WS_STATE_DEAD || ws->is_on_ended)
		return false;
	LIST_REMOVE(ws, all_link);
	net->conn_count--;
	GAUGE_SET(connections, net->conn_count);
	ws_decoder_fini(&ws->decoder);
	free(ws->pong);
	conn_fini(&ws->conn);
	free(ws);
	return true;
}

void
ws_conn_close(struct ws_conn *conn, int code, const char *reason)
{
	if (conn->state != WS_STATE_OPEN)
		return;
	conn->close_code = (uint16_t)code;
	ws_queue_close(conn, code, reason == NULL ? "" : reason);
	set_state(conn, WS_STATE_CLOSE_SENT);
}

void
ws_conn_abort(struct ws_conn *conn)
{
	if (conn->state == WS_STATE_DEAD)
		return;
	conn->close_code = WS_CLOSE_ABNORMAL;
	end_conn(conn, WS_CLOSE_ABNORMAL);
}
