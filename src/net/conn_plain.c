/*
 * conn_plain.c - struct conn_io over a bare socket.
 *
 * Role:    the only place that reads and writes an unencrypted socket.
 * Process: worker.
 * Blocks:  never; the descriptor is non-blocking.
 * Trust:   bytes pass through unseen.
 * See:     conn.c (the user).
 */
#include "net/conn.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t
translate(int want)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return want;
	return CONN_IO_LOST;
}

static ssize_t
plain_read(struct conn *conn, void *data, size_t len)
{
	ssize_t n = recv(conn->fd, data, len, 0);

	return n >= 0 ? n : translate(CONN_IO_WANT_READ);
}

static ssize_t
plain_write(struct conn *conn, const void *data, size_t len)
{
	ssize_t n = send(conn->fd, data, len, MSG_NOSIGNAL);

	return n >= 0 ? n : translate(CONN_IO_WANT_WRITE);
}

static int
plain_shutdown(struct conn *conn)
{
	return shutdown(conn->fd, SHUT_WR) == 0 ? 0 : CONN_IO_LOST;
}

static void
plain_close(struct conn *conn)
{
	/* The other process' descriptor would keep it open. */
	if (conn->is_shared)
		(void)shutdown(conn->fd, SHUT_RDWR);
	close(conn->fd);
}

const struct conn_io conn_plain_io = {
    .name = "plain",
    .read = plain_read,
    .write = plain_write,
    .shutdown = plain_shutdown,
    .close = plain_close,
};
