/*
 * tls_handshake.c - struct conn_io while OpenSSL does the handshake.
 *
 * Role:    hands each connection to OpenSSL for as long as it takes, but only
 *          so much of it per loop turn, so that a flood of strangers does not
 *          delay the messages of those who are in. What finds no time waits:
 *          handshakes under way before new ones, each in order.
 * Process: worker.
 * Blocks:  never. The deadline is that of the request head (ws_conn.c).
 * Trust:   none in the peer; a connection costs 200 bytes before its first
 *          byte and an SSL of some 30 KB from then to the end of the handshake.
 * See:     tls_handover.c, tls_io.c; t/24-tls-hostile.t.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net_priv.h"
#include "net/tls_priv.h"

/* With all places taken, one that has waited so long for its client goes. */
#define PATIENCE_MS 2000
/* Others are being served: so long after the last of them was heard ... */
#define BUSY_US 20000
/* ... one part in so many of the time goes into handshakes ... */
#define BUSY_SHARE 8
/* ... one step at a time: less than any step takes that computes a key ... */
#define BUSY_TURN_US 100
/* ... and when that is used up they wait, at least so long. */
#define PAUSE_US 1000
/* recv(2) in one step; a client that sends whole flights needs ten. */
#define READS_PER_STEP 64
/* Refused handshakes that are logged, per second; all are counted. */
#define LOG_PER_SECOND 10

static struct tls *
tls_of(const struct conn *conn)
{
	return conn->loop->tls;
}

/* ---- the reasons for which they fail ---- */

#define FAILURES(X)                                                            \
	X(busy, "it was the slowest when all places were taken")               \
	X(cipher, "the client offers no suite, group or algorithm of ours")    \
	X(closed, "the client left before the end")                            \
	X(peer, "the client refused: alert")                                   \
	X(protocol, "the client broke the protocol or does not speak TLS")     \
	X(server, "a mistake of the server's")                                 \
	X(timeout, "not finished in time")                                     \
	X(version, "the client speaks neither TLS 1.2 nor 1.3")

enum failure {
#define X(name, text) FAILED_##name,
	FAILURES(X)
#undef X
};

static const struct {
	enum counter_id counter;
	const char *text;
} failures[] = {
#define X(name, text) [FAILED_##name] = {COUNTER_tls_failed_##name, text},
    FAILURES(X)
#undef X
};

static void
count_failure(
    struct tls_handshake *handshake, enum failure failure, const char *detail)
{
	struct tls *tls = tls_of(handshake->conn);
	int64_t second = clock_mono_ms() / 1000;
	char text[64];
	struct log_ctx ctx = {0};

	if (handshake->is_counted)
		return;
	handshake->is_counted = true;
	count_add(failures[failure].counter, 1);
	if (second != tls->log_second) {
		tls->log_second = second;
		tls->log_count = 0;
	}
	if (++tls->log_count > LOG_PER_SECOND || !log_is_on(LOG_LEVEL_INFO))
		return;
	ctx.peer = conn_peer_text(&handshake->conn->peer, text);
	log_info(&ctx, "tls-handshake-failed", "why=\"%s\" detail=\"%s\"",
	    failures[failure].text, detail == NULL ? "" : detail);
}

static enum failure
classify(unsigned long code)
{
	int reason = ERR_GET_REASON(code);

	if (reason >= SSL_AD_REASON_OFFSET)
		return FAILED_peer; /* 1000 + the alert that came */
	switch (reason) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_INAPPROPRIATE_FALLBACK:
		return FAILED_version;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SHARED_GROUPS:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
		return FAILED_cipher;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return FAILED_closed;
	case ERR_R_INTERNAL_ERROR:
	case ERR_R_MALLOC_FAILURE:
		return FAILED_server;
	default:
		return FAILED_protocol;
	}
}

static ssize_t
fail(struct tls_handshake *handshake, int ssl_error)
{
	unsigned long code = ERR_peek_error();
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);

	if (ssl_error == SSL_ERROR_SYSCALL || code == 0)
		count_failure(handshake, FAILED_closed, reason);
	else
		count_failure(handshake, classify(code), reason);
	ERR_clear_error();
	return CONN_IO_LOST;
}

/* ---- queue ---- */

static bool
has_place(const struct tls *tls)
{
	return tls->open_count < tls->limits.handshakes_max;
}

static struct tls_handshake_list *
queue_of(struct tls *tls, const struct tls_handshake *handshake)
{
	return handshake->ssl != NULL ? &tls->begun : &tls->fresh;
}

static void
leave_queue(struct tls *tls, struct tls_handshake *handshake)
{
	if (!handshake->is_queued)
		return;
	TAILQ_REMOVE(queue_of(tls, handshake), handshake, queue_link);
	handshake->is_queued = false;
}

static ssize_t
enter_queue(struct tls *tls, struct tls_handshake *handshake)
{
	if (!handshake->is_queued)
		TAILQ_INSERT_TAIL(
		    queue_of(tls, handshake), handshake, queue_link);
	handshake->is_queued = true;
	return CONN_IO_LATER;
}

static struct tls_handshake *
next_in_queue(struct tls *tls)
{
	struct tls_handshake *next = TAILQ_FIRST(&tls->begun);

	if (next == NULL && has_place(tls))
		next = TAILQ_FIRST(&tls->fresh);
	return next;
}

static void
run_queue(struct tls *tls)
{
	struct tls_handshake *handshake;

	while (tls->credit_us > 0 && (handshake = next_in_queue(tls)) != NULL) {
		leave_queue(tls, handshake);
		conn_continue(handshake->conn); /* may free it */
	}
}

static void
queue_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	run_queue(arg);
}

/* ---- a step ---- */

/*
 * OpenSSL reads for as long as there is something, and a hello of 128 KB may
 * come in records of one byte each: 260,000 reads, 0.1 s, in what is to be one
 * step. When its reads are used up it is told that the socket is empty.
 */
static long
read_cb(BIO *bio, int what, const char *data, size_t len, int argi, long argl,
    int answer, size_t *done)
{
	struct tls_handshake *handshake = (void *)BIO_get_callback_arg(bio);

	(void)data;
	(void)len;
	(void)argi;
	(void)argl;
	(void)done;
	if (what != BIO_CB_READ)
		return answer;
	if (handshake->reads_left == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	handshake->reads_left--;
	return answer;
}

static void
limit_reads(struct tls_handshake *handshake, SSL *ssl)
{
	BIO *bio = SSL_get_rbio(ssl);

	BIO_set_callback_arg(bio, (char *)handshake);
	BIO_set_callback_ex(bio, read_cb);
}

static bool
open_ssl(struct tls *tls, struct tls_handshake *handshake)
{
	SSL *ssl = tls->context == NULL ? NULL : SSL_new(tls->context->ctx);

	if (ssl == NULL || SSL_set_fd(ssl, handshake->conn->fd) != 1) {
		SSL_free(ssl);
		return false;
	}
	SSL_set_accept_state(ssl);
	tls_handover_begin(ssl, &handshake->capture);
	limit_reads(handshake, ssl);
	handshake->ssl = ssl;
	/* time in our queue is not the client's */
	handshake->began_ms = clock_mono_ms();
	handshake->context = tls->context;
	handshake->context->holders++;
	TAILQ_INSERT_TAIL(&tls->open, handshake, open_link);
	GAUGE_SET(tls_handshakes_open, ++tls->open_count);
	return true;
}

static void
close_ssl(struct tls *tls, struct tls_handshake *handshake)
{
	if (handshake->ssl == NULL)
		return;
	SSL_free(handshake->ssl);
	handshake->ssl = NULL;
	tls_context_free(&handshake->context);
	TAILQ_REMOVE(&tls->open, handshake, open_link);
	GAUGE_SET(tls_handshakes_open, --tls->open_count);
}

static void
handshake_free(struct tls *tls, struct tls_handshake *handshake)
{
	leave_queue(tls, handshake);
	close_ssl(tls, handshake);
	mem_wipe(handshake, sizeof(*handshake));
	free(handshake);
}

static ssize_t
finish(struct tls *tls, struct tls_handshake *handshake, void *data, size_t len)
{
	struct conn *conn = handshake->conn;
	struct tls_keys keys;

	if (tls_handover(
		tls->crypto, handshake->ssl, &handshake->capture, &keys) != 0) {
		count_failure(handshake, FAILED_server, "handover");
		mem_wipe(&keys, sizeof(keys));
		return CONN_IO_LOST;
	}
	if (SSL_session_reused(handshake->ssl))
		COUNT(tls_handshakes_resumed);
	else
		COUNT(tls_handshakes);
	if (keys.is_13)
		COUNT(tls_handshakes_13);
	handshake_free(tls, handshake);
	tls_io_begin(conn, &keys);
	mem_wipe(&keys, sizeof(keys));
	/* the client may have spoken already */
	return conn->io->read(conn, data, len);
}

static ssize_t
step(struct tls *tls, struct tls_handshake *handshake, void *data, size_t len)
{
	int64_t from_us = clock_mono_us();
	ssize_t answer;
	int rc;

	if (handshake->ssl == NULL && !open_ssl(tls, handshake)) {
		count_failure(handshake, FAILED_server, "no SSL");
		ERR_clear_error();
		return CONN_IO_LOST;
	}
	ERR_clear_error();
	handshake->reads_left = READS_PER_STEP;
	rc = SSL_do_handshake(handshake->ssl);
	switch (rc == 1 ? SSL_ERROR_NONE : SSL_get_error(handshake->ssl, rc)) {
	case SSL_ERROR_NONE:
		answer = finish(tls, handshake, data, len);
		break;
	case SSL_ERROR_WANT_READ:
		answer = CONN_IO_WANT_READ;
		break;
	case SSL_ERROR_WANT_WRITE:
		answer = CONN_IO_WANT_WRITE;
		break;
	default:
		answer = fail(handshake, SSL_get_error(handshake->ssl, rc));
		break;
	}
	int64_t took_us = clock_mono_us() - from_us;
	tls->credit_us -= took_us;
	MEASURE_US(tls_handshake_us, (uint64_t)took_us);
	return answer;
}

/* ---- struct conn_io ---- */

static void
handshake_open(struct conn *conn)
{
	struct tls_handshake *handshake = xcalloc(1, sizeof(*handshake));

	handshake->conn = conn;
	conn->io_ctx = handshake;
}

static ssize_t
handshake_read(struct conn *conn, void *data, size_t len)
{
	struct tls_handshake *handshake = conn->io_ctx;
	struct tls *tls = tls_of(conn);

	if (tls->credit_us <= 0 || (handshake->ssl == NULL && !has_place(tls)))
		return enter_queue(tls, handshake);
	return step(tls, handshake, data, len);
}

/* Nothing is queued before a request has come. */
static ssize_t
handshake_write(struct conn *conn, const void *data, size_t len)
{
	(void)conn;
	(void)data;
	(void)len;
	return CONN_IO_LOST;
}

static int
handshake_shutdown(struct conn *conn)
{
	(void)conn;
	return CONN_IO_LOST;
}

static void
handshake_close(struct conn *conn)
{
	struct tls_handshake *handshake = conn->io_ctx;

	if (conn->has_seen_eof)
		count_failure(handshake, FAILED_closed, NULL);
	count_failure(handshake, FAILED_timeout, NULL);
	handshake_free(tls_of(conn), handshake);
	conn->io_ctx = NULL;
	close(conn->fd);
}

const struct conn_io conn_tls_handshake_io = {
    .name = "tls-handshake",
    .open = handshake_open,
    .read = handshake_read,
    .write = handshake_write,
    .shutdown = handshake_shutdown,
    .close = handshake_close,
};

/* ---- all of them ---- */

static struct tls *
tls_new(struct conn_loop *loop, const struct tls_limits *limits, char *error,
    size_t error_len)
{
	struct tls *tls = xcalloc(1, sizeof(*tls));
	struct tls_keys widest = {.plain_max = 512}; /* RFC 6066 4 */
	size_t sealed_max = tls_seal_bound(&widest, TLS_WRITE_MAX);

	tls->loop = loop;
	tls->limits = *limits;
	tls->credit_us = limits->turn_us;
	tls->turn_at_us = clock_mono_us();
	TAILQ_INIT(&tls->open);
	TAILQ_INIT(&tls->begun);
	TAILQ_INIT(&tls->fresh);
	tls->crypto = tls_crypto_new(error, error_len);
	tls->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	tls->scratch =
	    xcalloc(1, sealed_max > CONN_READ_MAX ? sealed_max : CONN_READ_MAX);
	if (event_assign(&tls->queue_event, loop->base, -1, 0, queue_cb, tls) !=
	    0)
		panic("cannot make an event");
	if (tls->crypto == NULL || tls->ticket_cipher == NULL)
		tls_free(&tls);
	return tls;
}

void
tls_free(struct tls **tls_io)
{
	struct tls *tls = *tls_io;

	if (tls == NULL)
		return;
	*tls_io = NULL;
	event_del(&tls->queue_event);
	tls_context_free(&tls->context);
	tls_crypto_free(&tls->crypto);
	EVP_CIPHER_free(tls->ticket_cipher);
	mem_wipe(&tls->tickets, sizeof(tls->tickets));
	free(tls->scratch);
	free(tls);
}

/* A client that opens handshakes and leaves them there holds places. */
static void
make_place(struct tls *tls)
{
	struct tls_handshake *oldest = TAILQ_FIRST(&tls->open);

	if (has_place(tls) || TAILQ_EMPTY(&tls->fresh) || oldest == NULL ||
	    oldest->is_queued ||
	    clock_mono_ms() < oldest->began_ms + PATIENCE_MS)
		return;
	count_failure(oldest, FAILED_busy, NULL);
	tls->loop->ops->lost_fn(oldest->conn);
}

/*
 * Alone: a turn's worth. While others are being served only a part of the
 * time goes into handshakes, and what is left is slept: a worker that never
 * sleeps would keep the processes waiting that the messages go through next.
 * Then it is one step at a time, too: a message waits for one at most.
 */
static void
refill(struct tls *tls)
{
	int64_t now_us = clock_mono_us();
	int64_t passed_us = now_us - tls->turn_at_us;

	tls->turn_at_us = now_us - passed_us % BUSY_SHARE;
	if (tls->served != tls->loop->served) {
		tls->served = tls->loop->served;
		tls->served_at_us = now_us;
	}
	if (now_us > tls->served_at_us + BUSY_US) {
		tls->credit_us = tls->limits.turn_us;
		return;
	}
	tls->credit_us += passed_us / BUSY_SHARE;
	if (tls->credit_us > BUSY_TURN_US)
		tls->credit_us = BUSY_TURN_US;
}

/* Until there is credit again. */
static struct timeval
pause_of(const struct tls *tls)
{
	int64_t us = (1 - tls->credit_us) * BUSY_SHARE;

	if (us < PAUSE_US)
		us = PAUSE_US;
	if (us > BUSY_US)
		us = BUSY_US; /* the others may have fallen silent */
	return (struct timeval){.tv_usec = us};
}

void
tls_turn_end(struct tls *tls)
{
	struct timeval pause;

	refill(tls);
	make_place(tls);
	if (next_in_queue(tls) == NULL)
		return;
	if (tls->credit_us > 0) {
		event_active(&tls->queue_event, EV_TIMEOUT, 0);
	} else if (!event_pending(&tls->queue_event, EV_TIMEOUT, NULL)) {
		pause = pause_of(tls);
		event_add(&tls->queue_event, &pause);
	}
}

/* ---- tls.h ---- */

int
net_tls_enable(struct net *net, const struct tls_limits *limits, char *error,
    size_t error_len)
{
	if (net->loop.tls != NULL)
		return 0;
	net->loop.tls = tls_new(&net->loop, limits, error, error_len);
	return net->loop.tls != NULL ? 0 : ERR_SERVER_ERROR;
}

void
net_tls_set_context(struct net *net, struct tls_context *take_context)
{
	struct tls *tls = net->loop.tls;

	tls_context_free(&tls->context);
	tls->context = take_context;
	tls_ticket_configure(tls);
}

void
net_tls_set_tickets(struct net *net, const struct tls_tickets *tickets)
{
	net->loop.tls->tickets = *tickets;
	tls_ticket_configure(net->loop.tls);
}

void
net_tls_set_handshakes_max(struct net *net, size_t handshakes_max)
{
	if (net->loop.tls != NULL)
		net->loop.tls->limits.handshakes_max = handshakes_max;
}
