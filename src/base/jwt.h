/*
 * jwt.h - JSON Web Tokens (RFC 7519) as RFC 8725 says: the configured key
 * decides the algorithm, never the token.
 */
#ifndef BASE_JWT_H
#define BASE_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"

#define JWT_LEN_MAX  8192
#define JWT_LEEWAY_S 60
#define JWT_NAME_MAX 128

struct jwt_verifier; /* opaque; keys loaded */

struct jwt_claims {
	uint64_t user_id;            /* sub: 1..2^53-1, string or integer */
	int64_t expires_at_ms;       /* exp; 0 when absent */
	uint64_t key_id;             /* of the key that has signed it */
	char name[JWT_NAME_MAX + 1]; /* name, "" when absent; valid UTF-8 */
};

/**
 * Load every key of the configuration. No key at all is permitted: then each
 * token is refused.
 *
 * @param error  one line that names the key (never its value) and the file
 * @return       0, ERR_BAD_REQUEST (secret shorter than 32 bytes, unusable
 *               key, RSA not of 2048..8192 bits, curve not P-256), ERR_IO
 *               (file), ERR_NO_MEMORY
 */
NODISCARD int jwt_verifier_new(const struct conf *conf,
    struct jwt_verifier **verifier_out, char *error, size_t error_len);
void jwt_verifier_free(struct jwt_verifier **verifier);

/**
 * Check form, algorithm, signature, then sub, iss and aud when configured
 * (aud: string or array), and last nbf and exp (60 s leeway):
 * ERR_TOKEN_EXPIRED means that a fresh one would be accepted. On error
 * claims_out is empty. A verifier belongs to one thread.
 *
 * @param token      not NUL-terminated; 1..JWT_LEN_MAX bytes
 * @param now_ms     wall clock, ms since 1970
 * @param reason_out a static sentence for the client on error; never holds
 *                   anything of the token
 * @return           0, ERR_AUTH_FAILED, ERR_TOKEN_EXPIRED
 */
NODISCARD int jwt_verify(struct jwt_verifier *verifier, const char *token,
    size_t len, int64_t now_ms, struct jwt_claims *claims_out,
    const char **reason_out);

/** Is the key that has signed a token still one of those configured?
 *  @param key_id  of struct jwt_claims, perhaps of another process */
bool jwt_has_key(const struct jwt_verifier *verifier, uint64_t key_id);

/**
 * Make an HS256 token (parleyctl token, parleyload, tests).
 *
 * @param name     NULL or UTF-8
 * @param ttl_s    exp = now + ttl; 0 leaves exp out
 * @return         a string to free(), or NULL when the secret is unusable
 */
char *jwt_sign_hs256(const char *secret, uint64_t user_id, const char *name,
    const char *issuer, const char *audience, int64_t now_ms, int64_t ttl_s);

#endif
