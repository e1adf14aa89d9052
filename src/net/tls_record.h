/*
 * tls_record.h - the record layer of TLS 1.2 and 1.3 for a connection whose
 * handshake OpenSSL has done: bytes in, bytes out, no sockets.
 *
 * OpenSSL 3.0 keeps 13 KB for an idle SSL; the two keys that are all it still
 * needs are 200 bytes (doc/decisions/007-tls-records.md). The cryptography is
 * libcrypto's; what is here is framing, nonces and the few messages that may
 * follow a handshake.
 */
#ifndef NET_TLS_RECORD_H
#define NET_TLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TLS_RECORD_HEAD      5
#define TLS_RECORD_PLAIN_MAX 16384 /* RFC 8446 5.1 */
/** Beside the plaintext: header, explicit nonce or type, tag. */
#define TLS_RECORD_EXTRA_MAX 32
#define TLS_SECRET_MAX       48
#define TLS_KEY_MAX          32
#define TLS_NONCE_LEN        12
/** RFC 8446 5.2, RFC 5246 6.2.3: the largest that may be announced. */
#define TLS_RECORD_CIPHER_MAX(is_13) (16384 + ((is_13) ? 256 : 2048))

/** Of both versions; the suites are listed in tls_handover.c. */
enum tls_aead { TLS_AES_128_GCM, TLS_AES_256_GCM, TLS_CHACHA20_POLY1305 };

/* RFC 8446 6, RFC 5246 7.2 */
enum tls_alert {
	TLS_ALERT_CLOSE_NOTIFY = 0,
	TLS_ALERT_UNEXPECTED_MESSAGE = 10,
	TLS_ALERT_BAD_RECORD_MAC = 20,
	TLS_ALERT_RECORD_OVERFLOW = 22,
	TLS_ALERT_HANDSHAKE_FAILURE = 40,
	TLS_ALERT_ILLEGAL_PARAMETER = 47,
	TLS_ALERT_DECODE_ERROR = 50,
	TLS_ALERT_INTERNAL_ERROR = 80,
	TLS_ALERT_USER_CANCELED = 90,
	TLS_ALERT_NONE = 256,
};

/** One direction. */
struct tls_half {
	uint64_t seq; /* of the next record */
	uint8_t key[TLS_KEY_MAX];
	uint8_t iv[TLS_NONCE_LEN];      /* 1.2 with GCM: the first four */
	uint8_t secret[TLS_SECRET_MAX]; /* 1.3: what the next keys come from */
};

/** What a connection keeps. */
struct tls_keys {
	struct tls_half in;
	struct tls_half out;
	uint16_t plain_max; /* of a record we send; RFC 6066 4 */
	uint8_t aead;       /* enum tls_aead */
	bool is_13;
	bool uses_sha384;     /* 1.3: the hash of the key schedule */
	bool owes_key_update; /* before the next record we send */
};

/** Contexts of libcrypto, shared by all connections of a thread. */
struct tls_crypto;

/** NULL: libcrypto lacks what is needed, see error. */
struct tls_crypto *tls_crypto_new(char *error, size_t error_len);
void tls_crypto_free(struct tls_crypto **crypto);

/** RFC 8446 7.3: key and iv from half->secret; seq begins at 0. */
NODISCARD int tls_keys_derive(struct tls_crypto *crypto,
    const struct tls_keys *keys, struct tls_half *half);
/** RFC 5246 6.3: both directions of a server from the master secret. */
NODISCARD int tls_keys_derive_12(struct tls_crypto *crypto,
    struct tls_keys *keys, const uint8_t *master, size_t master_len,
    const uint8_t client_random[32], const uint8_t server_random[32]);

/**
 * Seal data into as many records as it takes, with a KeyUpdate before them
 * when one is owed or the key is worn.
 *
 * @param out   tls_seal_bound(len) bytes
 * @return      bytes written to out, 0: it cannot be done (the connection is
 *              of no more use)
 */
size_t tls_seal(struct tls_crypto *crypto, struct tls_keys *keys,
    const void *data, size_t len, uint8_t *out);
size_t tls_seal_bound(const struct tls_keys *keys, size_t len);
/** One alert record. @param out  TLS_RECORD_EXTRA_MAX + 2 bytes */
size_t tls_seal_alert(struct tls_crypto *crypto, struct tls_keys *keys,
    enum tls_alert alert, uint8_t *out);

enum tls_opened {
	TLS_OPENED_MORE,   /* the record is incomplete: bring more */
	TLS_OPENED_DATA,   /* out_len bytes, maybe 0 */
	TLS_OPENED_CLOSED, /* close_notify: nothing follows */
	TLS_OPENED_LOST,   /* fatal alert of the peer */
	TLS_OPENED_BROKEN, /* a rule was broken: alert says which */
};

struct tls_open {
	enum tls_alert alert; /* BROKEN: to be sent */
	size_t used;          /* bytes of the record */
	size_t out_len;
};

/**
 * Open the record at the front of data.
 *
 * @param out  room for len bytes; must not overlap data. Untouched plaintext
 *             that fails its check never leaves this function
 */
enum tls_opened tls_open(struct tls_crypto *crypto, struct tls_keys *keys,
    const uint8_t *data, size_t len, uint8_t *out, struct tls_open *open_out);

#endif
