/*
 * tls_io.c - struct conn_io over TLS records, after the handshake.
 *
 * Role:    one recv and one send per turn, records in between; keeps a
 *          connection's keys and, only while there are any, the bytes of an
 *          incomplete record and those a full socket did not take.
 * Process: worker.
 * Blocks:  never; the descriptor is non-blocking.
 * Trust:   none in the peer: tls_record.c judges each record.
 * See:     conn.h (the contract), tls_handshake.c (what comes before).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/tls_priv.h"

/* Ciphertext of one read; what comes out fits CONN_READ_MAX. */
#define READ_MAX CONN_READ_MAX
/*
 * Records of one read that bring no data. 2,400 KeyUpdates fit it and take 3
 * ms, in which the worker serves nobody; no client has reason to send a few at
 * once.
 */
#define EMPTY_MAX 32

/*
 * conn.io_ctx. out holds records that stand for the next plain_len bytes the
 * connection will offer again: it counts them as written when they are out.
 */
struct tls_stream {
	struct tls_keys keys;
	struct buf in; /* an incomplete record */
	struct buf out;
	size_t out_head;
	size_t plain_len;
	bool has_ended; /* close_notify came */
};

static struct tls *
tls_of(const struct conn *conn)
{
	return conn->loop->tls;
}

static void
drop_in(struct tls_stream *stream)
{
	buf_fini(&stream->in); /* ciphertext: nothing to wipe */
}

/* ---- output ---- */

/* @return bytes taken by the socket, or CONN_IO_WANT_WRITE, _LOST */
static ssize_t
send_bytes(const struct conn *conn, const void *data, size_t len)
{
	ssize_t n = send(conn->fd, data, len, MSG_NOSIGNAL);

	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return CONN_IO_WANT_WRITE;
	return CONN_IO_LOST;
}

/*
 * What a full socket left. Progress is reported as plaintext, but never all
 * of it before the last byte is out: the connection would think it is done.
 */
static ssize_t
write_left(struct conn *conn, struct tls_stream *stream)
{
	size_t left = stream->out.len - stream->out_head;
	ssize_t n = send_bytes(conn, stream->out.data + stream->out_head, left);
	size_t plain;

	if (n < 0)
		return n;
	stream->out_head += (size_t)n;
	if ((size_t)n == left) {
		plain = stream->plain_len;
		buf_fini(&stream->out);
		stream->out_head = 0;
	} else {
		plain = (size_t)n < stream->plain_len ? (size_t)n
						      : stream->plain_len - 1;
	}
	stream->plain_len -= plain;
	return plain > 0 ? (ssize_t)plain : CONN_IO_WANT_WRITE;
}

static void
keep_left(struct tls_stream *stream, const uint8_t *data, size_t len)
{
	(void)buf_reserve(&stream->out, len);
	buf_add(&stream->out, data, len);
	stream->out_head = 0;
}

static ssize_t
tls_write(struct conn *conn, const void *data, size_t len)
{
	struct tls_stream *stream = conn->io_ctx;
	struct tls *tls = tls_of(conn);
	size_t sealed;
	ssize_t n;

	if (stream->out.len > 0) {
		if (len < stream->plain_len)
			panic("%zu bytes of %zu are offered again", len,
			    stream->plain_len);
		return write_left(conn, stream);
	}
	if (len > TLS_WRITE_MAX)
		len = TLS_WRITE_MAX;
	sealed = tls_seal(tls->crypto, &stream->keys, data, len, tls->scratch);
	if (sealed == 0)
		return CONN_IO_LOST;
	n = send_bytes(conn, tls->scratch, sealed);
	if (n == (ssize_t)sealed)
		return (ssize_t)len;
	if (n == CONN_IO_LOST)
		return n;
	/* their numbers are used up: these very bytes must go out */
	if (n < 0)
		n = 0;
	keep_left(stream, tls->scratch + n, sealed - (size_t)n);
	stream->plain_len = len;
	return CONN_IO_WANT_WRITE;
}

/* Best effort: whoever broke a rule may not even read. */
static void
send_alert(struct conn *conn, struct tls_stream *stream, enum tls_alert alert)
{
	uint8_t record[TLS_RECORD_EXTRA_MAX + 2];
	size_t len;

	if (stream->out.len > 0)
		return; /* in the middle of a record */
	len =
	    tls_seal_alert(tls_of(conn)->crypto, &stream->keys, alert, record);
	if (len > 0)
		(void)send_bytes(conn, record, len);
}

/* ---- input ---- */

/* @return bytes in scratch, 0: the end, or CONN_IO_WANT_READ, _LOST */
static ssize_t
receive(struct conn *conn, struct tls_stream *stream, uint8_t *scratch)
{
	size_t kept = stream->in.len;
	ssize_t n = recv(conn->fd, scratch + kept, READ_MAX - kept, 0);

	if (n == 0)
		return 0;
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
			   ? CONN_IO_WANT_READ
			   : CONN_IO_LOST;
	if (kept > 0) {
		memcpy(scratch, stream->in.data, kept);
		drop_in(stream);
	}
	return (ssize_t)kept + n;
}

static void
keep_in(struct tls_stream *stream, const uint8_t *data, size_t len)
{
	if (len == 0)
		return;
	(void)buf_reserve(&stream->in, len);
	buf_add(&stream->in, data, len);
}

static ssize_t
fail(struct conn *conn, struct tls_stream *stream, enum tls_alert alert)
{
	char text[64];
	struct log_ctx ctx = {.peer = conn_peer_text(&conn->peer, text)};

	COUNT(tls_violations);
	if (log_is_on(LOG_LEVEL_INFO))
		log_info(&ctx, "tls-violation", "alert=%d", (int)alert);
	send_alert(conn, stream, alert);
	return CONN_IO_LOST;
}

/*
 * All records of one read. Data in front of a record that is bad is not
 * delivered: the connection is lost anyway, and what was in it is sent again.
 */
static ssize_t
open_records(struct conn *conn, struct tls_stream *stream,
    const uint8_t *records, size_t len, uint8_t *out)
{
	struct tls_crypto *crypto = tls_of(conn)->crypto;
	size_t total = 0;
	size_t at = 0;
	unsigned empty_count = 0;

	for (;;) {
		struct tls_open open;

		switch (tls_open(crypto, &stream->keys, records + at, len - at,
		    out + total, &open)) {
		case TLS_OPENED_DATA:
			at += open.used;
			total += open.out_len;
			if (open.out_len == 0 && ++empty_count > EMPTY_MAX)
				return fail(
				    conn, stream, TLS_ALERT_UNEXPECTED_MESSAGE);
			continue;
		case TLS_OPENED_MORE:
			keep_in(stream, records + at, len - at);
			return total > 0 ? (ssize_t)total : CONN_IO_WANT_READ;
		case TLS_OPENED_CLOSED:
			stream->has_ended = true; /* what follows is not read */
			conn->has_more = total > 0;
			return (ssize_t)total; /* 0 is the end */
		case TLS_OPENED_LOST:
			return CONN_IO_LOST;
		case TLS_OPENED_BROKEN:
			return fail(conn, stream, open.alert);
		}
	}
}

static ssize_t
tls_read(struct conn *conn, void *data, size_t len)
{
	struct tls_stream *stream = conn->io_ctx;
	uint8_t *scratch = tls_of(conn)->scratch;
	ssize_t n;

	if (len < READ_MAX)
		panic("a read of %zu bytes", len);
	conn->has_more = false;
	if (stream->has_ended)
		return CONN_IO_EOF;
	n = receive(conn, stream, scratch);
	if (n <= 0)
		return n; /* the end without close_notify: the end */
	return open_records(conn, stream, scratch, (size_t)n, data);
}

/* ---- the end ---- */

static int
tls_shutdown(struct conn *conn)
{
	send_alert(conn, conn->io_ctx, TLS_ALERT_CLOSE_NOTIFY);
	return shutdown(conn->fd, SHUT_WR) == 0 ? 0 : CONN_IO_LOST;
}

static void
tls_close(struct conn *conn)
{
	struct tls_stream *stream = conn->io_ctx;

	drop_in(stream);
	buf_fini(&stream->out);
	mem_wipe(stream, sizeof(*stream));
	free(stream);
	conn->io_ctx = NULL;
	close(conn->fd);
}

const struct conn_io conn_tls_io = {
    .name = "tls",
    .read = tls_read,
    .write = tls_write,
    .shutdown = tls_shutdown,
    .close = tls_close,
};

void
tls_io_begin(struct conn *conn, const struct tls_keys *keys)
{
	struct tls_stream *stream = xcalloc(1, sizeof(*stream));

	stream->keys = *keys;
	conn->io_ctx = stream;
	conn->io = &conn_tls_io;
}
