/*
 * crypto.h - the only door of base/ to OpenSSL: randomness, hashes, base64url.
 */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CRYPTO_HASH128_LEN 16

/** Fill with bytes of the system's generator; ends the process if it fails. */
void crypto_random(void *out, size_t len);
uint64_t crypto_random_u64(void);

/**
 * SipHash-2-4 with 128 bits of output (EVP_MAC "SIPHASH"); for identifiers
 * that others choose (ClientMessageId, DeviceId). Fast: a context per key is
 * kept.
 *
 * @param key  16 bytes
 */
void crypto_siphash128(const uint8_t key[16], const void *data, size_t len,
    uint8_t out[CRYPTO_HASH128_LEN]);
/** First 16 bytes of SHA-256: names what must be the same everywhere. */
void crypto_sha256_128(
    const void *data, size_t len, uint8_t out[CRYPTO_HASH128_LEN]);
/** SHA-1 as RFC 6455 4.2.2 wants it for Sec-WebSocket-Accept. */
void crypto_sha1(const void *data, size_t len, uint8_t out[20]);
/** HMAC-SHA1 (RFC 2104), as TURN servers want it of time-limited passwords. */
void crypto_hmac_sha1(const void *key, size_t key_len, const void *data,
    size_t len, uint8_t out[20]);
/** Standard base64 with padding, NUL-terminated; out holds 4*((len+2)/3)+1. */
void crypto_base64(const void *data, size_t len, char *out);
/** @return bytes written (without NUL); out holds 4*((len+2)/3)+1 */
size_t crypto_base64url(const void *data, size_t len, char *out);
/**
 * Strict: no padding, no white space, canonical last character (RFC 4648 3.5).
 * @param out  holds at least 3*len/4+3 bytes
 * @return     0 or ERR_BAD_REQUEST
 */
NODISCARD int crypto_base64url_decode(
    const char *text, size_t len, uint8_t *out, size_t *len_out);
/** Constant time. @return 1 when equal, else 0 */
int crypto_equal(const void *a, const void *b, size_t len);

#endif
