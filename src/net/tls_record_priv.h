/*
 * tls_record_priv.h - what tls_record.c and tls_schedule.c share.
 */
#ifndef NET_TLS_RECORD_PRIV_H
#define NET_TLS_RECORD_PRIV_H

#include <openssl/types.h>

#include "net/tls_record.h"

#define TLS_AEAD_COUNT 3

struct tls_crypto {
	EVP_CIPHER_CTX *seal[TLS_AEAD_COUNT];
	EVP_CIPHER_CTX *open[TLS_AEAD_COUNT];
	EVP_MAC_CTX *hmac[2]; /* SHA-256, SHA-384 */
	EVP_KDF_CTX *prf;     /* TLS 1.2 */
};

/** RFC 8446 7.2: the next secret, and the keys that come of it. */
NODISCARD int tls_keys_next(struct tls_crypto *crypto,
    const struct tls_keys *keys, struct tls_half *half);

#endif
