/*
 * conn_proxy.c - struct conn_io before a PROXY header has come, or has not.
 *
 * Role:    stands before a connection from a trusted proxy, plain or TLS. The
 *          first byte decides: a PROXY header is taken off, and who the proxy
 *          speaks for becomes the peer; anything else is left where it is.
 * Process: worker.
 * Blocks:  never. The deadline is that of the request head (ws_conn.c): a
 *          header that trickles in gains nothing.
 * Trust:   only who is in [server] trusted_proxies gets here. From anybody
 *          else the header is what it looks like: no request, no handshake.
 * See:     proxy_header.c (the bytes), admit.c (what the peer is for),
 *          t/20-proxy.t.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/conn.h"
#include "net/proxy_header.h"

/* conn.io_ctx */
struct proxy {
	const struct conn_io *io; /* what comes after */
	void *io_ctx;
	uint8_t *header; /* NULL: not a byte has come */
	size_t len;
	size_t want; /* bytes of the header, as far as known */
};

/* Nothing of the connection is here any more. */
static void
step_aside(struct conn *conn)
{
	struct proxy *proxy = conn->io_ctx;

	conn->io = proxy->io;
	conn->io_ctx = proxy->io_ctx;
	free(proxy->header);
	free(proxy);
}

static ssize_t
translate(ssize_t n)
{
	if (n == 0)
		return CONN_IO_EOF;
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return CONN_IO_WANT_READ;
	return CONN_IO_LOST;
}

static ssize_t
refuse(struct conn *conn, const char *why)
{
	char text[64];
	struct log_ctx ctx = {.peer = conn_peer_text(&conn->peer, text)};

	COUNT(connections_refused);
	if (log_is_on(LOG_LEVEL_INFO))
		log_info(&ctx, "connection-refused", "why=\"%s\"", why);
	return CONN_IO_LOST;
}

static ssize_t
finish(struct conn *conn, const struct conn_peer *peer, void *data, size_t len)
{
	conn->peer = *peer;
	step_aside(conn);
	conn->loop->ops->peer_fn(conn);
	if (conn->fd < 0)
		return CONN_IO_WANT_READ; /* who it is may not come in */
	return conn->io->read(conn, data, len);
}

static ssize_t
read_header(struct conn *conn, void *data, size_t len)
{
	struct proxy *proxy = conn->io_ctx;
	struct conn_peer peer = conn->peer;
	const char *why;

	for (;;) {
		ssize_t n = recv(conn->fd, proxy->header + proxy->len,
		    proxy->want - proxy->len, 0);

		if (n <= 0)
			return translate(n);
		proxy->len += (size_t)n;
		switch (proxy_header_read(
		    proxy->header, proxy->len, &proxy->want, &peer, &why)) {
		case PROXY_MORE:
			break;
		case PROXY_DONE:
			return finish(conn, &peer, data, len);
		case PROXY_BROKEN:
			return refuse(conn, why);
		}
	}
}

static ssize_t
proxy_read(struct conn *conn, void *data, size_t len)
{
	struct proxy *proxy = conn->io_ctx;
	char first;
	ssize_t n;

	if (proxy->header != NULL)
		return read_header(conn, data, len);
	n = recv(conn->fd, &first, 1, MSG_PEEK);
	if (n <= 0)
		return translate(n);
	if (first != PROXY_FIRST_BYTE) {
		step_aside(conn);
		return conn->io->read(conn, data, len);
	}
	proxy->header = xcalloc(1, PROXY_HEADER_MAX);
	proxy->want = PROXY_FIXED_LEN;
	return read_header(conn, data, len);
}

/* A refusal, before anything has come: what comes is not looked at. */
static ssize_t
proxy_write(struct conn *conn, const void *data, size_t len)
{
	step_aside(conn);
	return conn->io->write(conn, data, len);
}

static int
proxy_shutdown(struct conn *conn)
{
	step_aside(conn);
	return conn->io->shutdown(conn);
}

static void
proxy_close(struct conn *conn)
{
	step_aside(conn);
	conn->io->close(conn);
}

static const struct conn_io conn_proxy_io = {
    .name = "proxy",
    .read = proxy_read,
    .write = proxy_write,
    .shutdown = proxy_shutdown,
    .close = proxy_close,
};

void
conn_expect_proxy(struct conn *conn)
{
	struct proxy *proxy = xcalloc(1, sizeof(*proxy));

	proxy->io = conn->io;
	proxy->io_ctx = conn->io_ctx;
	conn->io = &conn_proxy_io;
	conn->io_ctx = proxy;
}
