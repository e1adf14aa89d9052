/*
 * tls_priv.h - what the tls_*.c files of this folder share.
 */
#ifndef NET_TLS_PRIV_H
#define NET_TLS_PRIV_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <openssl/types.h>

#include "net/conn.h"
#include "net/tls.h"
#include "net/tls_loop.h"
#include "net/tls_record.h"

/** Plaintext of one write: four full records, one send(2). */
#define TLS_WRITE_MAX ((size_t)4 * TLS_RECORD_PLAIN_MAX)

struct tls_ocsp {
	uint8_t *data; /* DER */
	size_t len;
	int64_t from_s;     /* thisUpdate, less what clocks may differ by */
	int64_t until_s;    /* nextUpdate; INT64_MAX: none */
	uint8_t digest[32]; /* SHA-256 of the certificate it speaks of */
};

struct tls_context {
	SSL_CTX *ctx;
	struct tls_validity validity;
	struct tls_ocsp ocsps[TLS_PAIRS_MAX];
	size_t ocsp_count;
	size_t holders; /* besides the one that tls_context_free releases */
};

/** Where the secrets of one handshake are gathered (tls_handover.c). */
struct tls_capture {
	uint8_t in_secret[TLS_SECRET_MAX];
	uint8_t out_secret[TLS_SECRET_MAX];
	uint8_t secret_len;
	bool has_in;
	bool has_out;
	uint64_t in_records; /* under the keys that stay */
	uint64_t out_records;
};

TAILQ_HEAD(tls_handshake_list, tls_handshake);

/** A connection before its keys are known; conn.io_ctx. */
struct tls_handshake {
	struct conn *conn;
	SSL *ssl;                    /* NULL: nothing has been read yet */
	struct tls_context *context; /* of ssl */
	TAILQ_ENTRY(tls_handshake) open_link;  /* ssl is set */
	TAILQ_ENTRY(tls_handshake) queue_link; /* waits for its turn */
	struct tls_capture capture;
	int64_t began_ms;    /* ssl was made */
	unsigned reads_left; /* of this step */
	bool is_queued;
	bool is_counted; /* why it failed has been counted */
};

/** All of TLS in one struct net. */
struct tls {
	struct conn_loop *loop;
	struct tls_limits limits;
	struct tls_context *context;
	struct tls_tickets tickets;
	struct tls_crypto *crypto;
	EVP_CIPHER *ticket_cipher;
	uint8_t *scratch;                /* records read or to be written */
	struct tls_handshake_list open;  /* oldest first */
	struct tls_handshake_list begun; /* queued, with an SSL */
	struct tls_handshake_list fresh; /* queued, without */
	size_t open_count;
	int64_t credit_us; /* that handshakes may still take */
	int64_t turn_at_us;
	uint64_t served; /* of the loop, when it was seen to move */
	int64_t served_at_us;
	struct event queue_event;
	int64_t log_second;
	unsigned log_count;
};

/* tls_handover.c */
/** Callbacks that fill in a capture; once per context. */
void tls_handover_prepare(SSL_CTX *ctx);
/** Of this SSL from now on. */
void tls_handover_begin(SSL *ssl, struct tls_capture *capture);
/** The keys of a finished handshake. @return 0 or ERR_SERVER_ERROR */
NODISCARD int tls_handover(struct tls_crypto *crypto, SSL *ssl,
    const struct tls_capture *capture, struct tls_keys *keys_out);

/* tls_ticket.c */
void tls_ticket_prepare(SSL_CTX *ctx);
void tls_ticket_configure(struct tls *tls);

/* tls_io.c */
extern const struct conn_io conn_tls_io;
/** A finished handshake becomes a stream of records; takes over conn.io. */
void tls_io_begin(struct conn *conn, const struct tls_keys *keys);

#endif
