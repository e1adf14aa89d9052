/*
 * jwt_priv.h - what the parts of the token code share; for jwt*.c and tests.
 */
#ifndef BASE_JWT_PRIV_H
#define BASE_JWT_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/jwt.h"

#define JWT_SECRET_LEN_MIN 32 /* RFC 7518 3.2: as long as the hash */
#define JWT_HMAC_LEN       32
/* RFC 7518 3.4: r and s, 32 bytes each, big endian. */
#define JWT_ES256_LEN 64
/* An RSA key of 8192 bits; a longer one would let tokens cost too much. */
#define JWT_RSA_BITS_MIN      2048
#define JWT_RSA_BITS_MAX      8192
#define JWT_SIGNATURE_LEN_MAX (JWT_RSA_BITS_MAX / 8)

/* Each kind of key has exactly one algorithm (RFC 8725 3.1). */
enum jwt_alg { JWT_ALG_HS256, JWT_ALG_RS256, JWT_ALG_ES256 };

struct jwt_key;
struct evp_mac_st;
struct evp_md_st;
struct evp_md_ctx_st;

/** All keys of a verifier with what OpenSSL needs to use them; one thread. */
struct jwt_keys {
	struct jwt_key *items;
	size_t count;
	uint64_t fitted; /* id of the key that fitted last */
	struct evp_mac_st *hmac;
	struct evp_md_st *sha256;
	struct evp_md_ctx_st *digest;
};

/** What the configuration demands of the claims; NULL: not checked. */
struct jwt_rules {
	const char *issuer;
	const char *audience;
};

/** @return 0 or ERR_NO_MEMORY; jwt_keys_fini in either case */
NODISCARD int jwt_keys_init(struct jwt_keys *keys);
void jwt_keys_fini(struct jwt_keys *keys);
/** @return 0, ERR_BAD_REQUEST (too short, or a key file's text), ERR_NO_MEMORY
 */
NODISCARD int jwt_keys_add_secret(
    struct jwt_keys *keys, const void *secret, size_t len);
/**
 * Add every public key of a PEM text.
 *
 * @param why_out  on error: a static sentence without anything of the text
 * @return         0, ERR_BAD_REQUEST, ERR_NO_MEMORY
 */
NODISCARD int jwt_keys_add_pem(
    struct jwt_keys *keys, const void *pem, size_t len, const char **why_out);
/** All keys of the configuration; see jwt_verifier_new. */
NODISCARD int jwt_keys_load(struct jwt_keys *keys, const struct conf *conf,
    char *error, size_t error_len);
/** Is there a key of this kind? */
bool jwt_keys_have(const struct jwt_keys *keys, enum jwt_alg alg);
/** Is there the key of this id? */
bool jwt_keys_have_id(const struct jwt_keys *keys, uint64_t id);
/** Does one of the keys of this kind, and no other kind, fit the signature? */
bool jwt_keys_verify(struct jwt_keys *keys, enum jwt_alg alg, const void *input,
    size_t input_len, const uint8_t *signature, size_t signature_len);
/** @return 0, ERR_BAD_REQUEST (unusable secret), ERR_NO_MEMORY */
NODISCARD int jwt_hmac(const char *secret, const void *input, size_t len,
    uint8_t out[JWT_HMAC_LEN]);

/**
 * Read the JOSE header (RFC 7515 4.1).
 *
 * @return  0, or ERR_AUTH_FAILED: not an object with unique members, an
 *          unknown algorithm, or a member that must not be ignored or that
 *          brings its own key (crit, jku, jwk, x5c, x5u)
 */
NODISCARD int jwt_header_check(const char *text, size_t len,
    enum jwt_alg *alg_out, const char **reason_out);
/** Read and judge the claims of a token whose signature fits; see jwt_verify.
 */
NODISCARD int jwt_claims_check(const char *text, size_t len,
    const struct jwt_rules *rules, int64_t now_ms,
    struct jwt_claims *claims_out, const char **reason_out);

#endif
