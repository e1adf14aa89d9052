/*
 * ws_send.c - frames to the client.
 *
 * Role:    queues texts, pings, pongs and the close frame; keeps the limits;
 *          compresses what is long enough where that was agreed.
 * Process: worker.
 * Blocks:  never. Full is an answer, not a wait.
 * Trust:   payloads are ours, but for pongs: at most 125 bytes, one at a time.
 * See:     conn.c (who writes it out), ws_conn.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/mem.h"
#include "net/net_priv.h"
#include "net/ws_deflate.h"

/* Beside the code in a close frame. */
#define WS_REASON_MAX (WS_CONTROL_MAX - 2)

struct ws_pong {
	uint8_t len;
	char data[WS_CONTROL_MAX];
};

void
ws_queue_frame(
    struct ws_conn *ws, enum ws_opcode opcode, const char *data, size_t len)
{
	uint8_t head[WS_SEND_HEADER_MAX];
	struct buf *out = conn_output(&ws->conn);
	size_t head_len = ws_frame_write(head, opcode, len);

	(void)buf_reserve(out, head_len + len);
	buf_add(out, head, head_len);
	if (len > 0)
		buf_add(out, data, len);
}

/* RFC 7692 6.1: one frame, its payload compressed, RSV1 set. */
static void
queue_packed(struct ws_conn *ws, const struct buf *packed, size_t len)
{
	uint8_t head[WS_SEND_HEADER_MAX];
	struct buf *out = conn_output(&ws->conn);
	size_t head_len = ws_frame_write(head, WS_OP_TEXT, packed->len);

	ws_frame_set_deflated(head);
	(void)buf_reserve(out, head_len + packed->len);
	buf_add(out, head, head_len);
	buf_add(out, packed->data, packed->len);
	COUNT_ADD(deflate_saved_bytes, len - packed->len);
}

void
ws_queue_text(struct ws_conn *ws, const char *data, size_t len)
{
	struct net *net = ws->net;
	const struct buf *packed;

	if (ws->deflate_bits == 0 || len < net->conf.deflate_min_bytes) {
		ws_queue_frame(ws, WS_OP_TEXT, data, len);
		return;
	}
	if (ws_deflate_pack(net->deflate, ws->deflate_bits, data, len, &packed))
		queue_packed(ws, packed, len);
	else
		ws_queue_frame(ws, WS_OP_TEXT, data, len);
	ws_deflate_release(net->deflate);
}

/* Whole characters only: a reason is UTF-8 too. */
static size_t
reason_len(const char *reason)
{
	size_t len = strlen(reason);

	if (len <= WS_REASON_MAX)
		return len;
	len = WS_REASON_MAX;
	while (len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
		len--;
	return len;
}

void
ws_queue_close(struct ws_conn *ws, int code, const char *reason)
{
	char payload[WS_CONTROL_MAX];
	size_t len = 0;

	if (ws_close_code_is_valid(code)) {
		payload[0] = (char)(code >> 8);
		payload[1] = (char)(code & 0xff);
		len = reason_len(reason);
		memcpy(payload + 2, reason, len);
		len += 2;
	}
	ws_queue_frame(ws, WS_OP_CLOSE, payload, len);
}

/*
 * RFC 6455 5.5.3: of several pings the latest may be answered alone, so a
 * flood of them takes no memory and no bandwidth.
 */
void
ws_take_ping(struct ws_conn *ws, const char *data, size_t len)
{
	if (ws->pong == NULL)
		ws->pong = xcalloc(1, sizeof(*ws->pong));
	ws->pong->len = (uint8_t)len;
	memcpy(ws->pong->data, data, len);
	conn_output(&ws->conn);
}

/* At most one pong is on its way, so one behind it is all we ever hold. */
void
ws_add_pong(struct ws_conn *ws)
{
	if (ws->pong == NULL || ws->conn.out_total < ws->pong_end)
		return;
	if (ws->state == WS_STATE_OPEN) {
		ws_queue_frame(ws, WS_OP_PONG, ws->pong->data, ws->pong->len);
		ws->pong_end = ws->conn.out_total + conn_queued(&ws->conn);
	}
	free(ws->pong);
	ws->pong = NULL;
}

int
ws_send_text(struct ws_conn *conn, const char *data, size_t len)
{
	return ws_send_text_below(
	    conn, data, len, conn->net->conf.max_queued_bytes);
}

int
ws_send_text_below(
    struct ws_conn *conn, const char *data, size_t len, size_t max)
{
	size_t queued = conn_queued(&conn->conn);

	if (conn->state != WS_STATE_OPEN)
		return ERR_STALE;
	/* One message always fits an empty queue, else it would never go. */
	if (queued > 0 && (queued >= max || len > max - queued)) {
		conn->was_refused = true;
		return ERR_FULL;
	}
	ws_queue_text(conn, data, len);
	return 0;
}

void
ws_send_reply(struct ws_conn *conn, const char *data, size_t len)
{
	if (conn->state != WS_STATE_OPEN)
		return;
	ws_queue_text(conn, data, len);
	if (conn_queued(&conn->conn) >= conn->net->conf.max_queued_bytes)
		conn->was_refused = true;
}

size_t
ws_conn_queued(const struct ws_conn *conn)
{
	return conn_queued(&conn->conn);
}
