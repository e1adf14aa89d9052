/*
 * jwt.c - JSON Web Tokens: verifying those of others, signing our own.
 *
 * Role:    takes a compact token apart (RFC 7515 7.1), has its header, its
 *          signature and its claims checked, in this order, and says in one
 *          fixed sentence what is wrong with it.
 * Process: workers (verify); parleyctl, parleyload (sign). One thread.
 * Blocks:  reading key files in jwt_verifier_new; never while verifying.
 * Trust:   a token is a stranger's until its signature fits: nothing but the
 *          algorithm's name is read from it before. Nothing of it is ever
 *          put into a message.
 * See:     jwt_keys.c, jwt_claims.c; RFC 7519, RFC 8725; t/unit/jwt.c.
 */
#include "base/jwt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/jwt_priv.h"
#include "base/mem.h"
#include "base/text.h"

#define USER_ID_MAX    ((1ULL << 53) - 1)
#define TIME_MAX_S     253402300799LL
#define HEADER_HS256   "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define ENCODED_LEN(n) (4 * (((n) + 2) / 3))

/* Lengths in characters of base64url. */
#define HEADER_LEN_MAX        2048
#define SIGNATURE_ENCODED_MAX ENCODED_LEN(JWT_SIGNATURE_LEN_MAX)

struct jwt_verifier {
	struct jwt_keys keys;
	struct jwt_rules rules;
	char *issuer;
	char *audience;
	uint8_t scratch[3 * JWT_LEN_MAX / 4 + 3]; /* one decoded part */
};

/* The three parts of a compact token; views into it. */
struct parts {
	const char *header;
	size_t header_len;
	const char *payload;
	size_t payload_len;
	const char *signature;
	size_t signature_len;
};

static const char reason_form[] = "this is not a signed JSON Web Token";
static const char reason_alg[] = "the token's algorithm is not accepted here";
static const char reason_signature[] =
    "the token's signature does not fit any key";

static char *
copy_unless_empty(const char *text)
{
	return text == NULL || text[0] == '\0' ? NULL : xstrdup(text);
}

static bool
parts_split(const char *token, size_t len, struct parts *parts_out)
{
	const char *end = token + len;
	const char *dot = memchr(token, '.', len);
	const char *dot2;

	if (dot == NULL)
		return false;
	dot2 = memchr(dot + 1, '.', (size_t)(end - dot - 1));
	if (dot2 == NULL ||
	    memchr(dot2 + 1, '.', (size_t)(end - dot2 - 1)) != NULL)
		return false;
	*parts_out = (struct parts){
	    .header = token,
	    .header_len = (size_t)(dot - token),
	    .payload = dot + 1,
	    .payload_len = (size_t)(dot2 - dot - 1),
	    .signature = dot2 + 1,
	    .signature_len = (size_t)(end - dot2 - 1),
	};
	return parts_out->header_len > 0 && parts_out->payload_len > 0 &&
	       parts_out->signature_len > 0 &&
	       parts_out->header_len <= HEADER_LEN_MAX &&
	       parts_out->signature_len <= SIGNATURE_ENCODED_MAX;
}

static int
header_verify(struct jwt_verifier *verifier, const struct parts *parts,
    enum jwt_alg *alg_out, const char **reason_out)
{
	size_t len;
	int rc;

	rc = crypto_base64url_decode(
	    parts->header, parts->header_len, verifier->scratch, &len);
	if (rc != 0) {
		*reason_out = reason_form;
		return ERR_AUTH_FAILED;
	}
	rc = jwt_header_check(
	    (char *)verifier->scratch, len, alg_out, reason_out);
	if (rc == 0 && !jwt_keys_have(&verifier->keys, *alg_out)) {
		*reason_out = reason_alg;
		rc = ERR_AUTH_FAILED;
	}
	return rc;
}

static int
signature_verify(struct jwt_verifier *verifier, const struct parts *parts,
    enum jwt_alg alg, const char **reason_out)
{
	uint8_t signature[3 * SIGNATURE_ENCODED_MAX / 4 + 3];
	size_t input_len =
	    (size_t)(parts->payload + parts->payload_len - parts->header);
	size_t len;

	*reason_out = reason_form;
	if (crypto_base64url_decode(
		parts->signature, parts->signature_len, signature, &len) != 0)
		return ERR_AUTH_FAILED;
	*reason_out = reason_signature;
	if (!jwt_keys_verify(
		&verifier->keys, alg, parts->header, input_len, signature, len))
		return ERR_AUTH_FAILED;
	return 0;
}

static int
claims_verify(struct jwt_verifier *verifier, const struct parts *parts,
    int64_t now_ms, struct jwt_claims *claims_out, const char **reason_out)
{
	size_t len;

	*reason_out = reason_form;
	if (crypto_base64url_decode(parts->payload, parts->payload_len,
		verifier->scratch, &len) != 0)
		return ERR_AUTH_FAILED;
	return jwt_claims_check((char *)verifier->scratch, len,
	    &verifier->rules, now_ms, claims_out, reason_out);
}

static bool
text_is_usable(const char *text)
{
	return text == NULL || text_utf8_valid(text, strlen(text));
}

static void
put_unless_empty(struct buf *buf, const char *key, const char *text)
{
	if (text != NULL && text[0] != '\0')
		json_put_text(buf, key, text);
}

/* header.payload.signature, or NULL when too long or the secret is unusable */
static char *
token_build(const char *secret, const char *payload, size_t payload_len)
{
	size_t cap = ENCODED_LEN(strlen(HEADER_HS256)) +
		     ENCODED_LEN(payload_len) + ENCODED_LEN(JWT_HMAC_LEN) + 3;
	uint8_t hmac[JWT_HMAC_LEN];
	char *token;
	size_t len;

	if (cap > JWT_LEN_MAX)
		return NULL;
	token = xcalloc(1, cap);
	len = crypto_base64url(HEADER_HS256, strlen(HEADER_HS256), token);
	token[len++] = '.';
	len += crypto_base64url(payload, payload_len, token + len);
	if (jwt_hmac(secret, token, len, hmac) != 0) {
		free(token);
		return NULL;
	}
	token[len++] = '.';
	crypto_base64url(hmac, sizeof(hmac), token + len);
	return token;
}

int
jwt_verifier_new(const struct conf *conf, struct jwt_verifier **verifier_out,
    char *error, size_t error_len)
{
	struct jwt_verifier *verifier = xcalloc(1, sizeof(*verifier));
	int rc;

	*verifier_out = NULL;
	verifier->issuer = copy_unless_empty(conf->auth_jwt_issuer);
	verifier->audience = copy_unless_empty(conf->auth_jwt_audience);
	verifier->rules.issuer = verifier->issuer;
	verifier->rules.audience = verifier->audience;
	rc = jwt_keys_init(&verifier->keys);
	if (rc != 0) {
		snprintf(error, error_len, "no memory to check tokens");
		goto out;
	}
	rc = jwt_keys_load(&verifier->keys, conf, error, error_len);
	if (rc != 0)
		goto out;
	*verifier_out = verifier; /* ownership moves to the caller */
	verifier = NULL;
out:
	jwt_verifier_free(&verifier);
	return rc;
}

void
jwt_verifier_free(struct jwt_verifier **verifier)
{
	struct jwt_verifier *self = *verifier;

	if (self == NULL)
		return;
	jwt_keys_fini(&self->keys);
	free(self->issuer);
	free(self->audience);
	mem_wipe(self->scratch, sizeof(self->scratch));
	free(self);
	*verifier = NULL;
}

bool
jwt_has_key(const struct jwt_verifier *verifier, uint64_t key_id)
{
	return jwt_keys_have_id(&verifier->keys, key_id);
}

int
jwt_verify(struct jwt_verifier *verifier, const char *token, size_t len,
    int64_t now_ms, struct jwt_claims *claims_out, const char **reason_out)
{
	struct jwt_claims claims = {0};
	struct parts parts;
	enum jwt_alg alg;
	int rc;

	*claims_out = claims;
	*reason_out = reason_form;
	if (len == 0 || len > JWT_LEN_MAX || !parts_split(token, len, &parts))
		return ERR_AUTH_FAILED;
	rc = header_verify(verifier, &parts, &alg, reason_out);
	if (rc == 0)
		rc = signature_verify(verifier, &parts, alg, reason_out);
	if (rc == 0)
		rc = claims_verify(
		    verifier, &parts, now_ms, &claims, reason_out);
	if (rc != 0)
		return rc;
	claims.key_id = verifier->keys.fitted;
	*claims_out = claims; /* complete or, above, empty */
	*reason_out = NULL;
	return 0;
}

char *
jwt_sign_hs256(const char *secret, uint64_t user_id, const char *name,
    const char *issuer, const char *audience, int64_t now_ms, int64_t ttl_s)
{
	struct buf claims = {0};
	char *token;

	if (secret == NULL || user_id == 0 || user_id > USER_ID_MAX ||
	    ttl_s > TIME_MAX_S || ttl_s < -TIME_MAX_S ||
	    !text_is_usable(name) || !text_is_usable(issuer) ||
	    !text_is_usable(audience))
		return NULL;
	json_object_begin(&claims);
	json_put_id(&claims, "sub", user_id);
	put_unless_empty(&claims, "name", name);
	put_unless_empty(&claims, "iss", issuer);
	put_unless_empty(&claims, "aud", audience);
	json_put_i64(&claims, "iat", now_ms / 1000);
	if (ttl_s != 0)
		json_put_i64(&claims, "exp", now_ms / 1000 + ttl_s);
	json_object_end(&claims);
	token = token_build(secret, claims.data, claims.len);
	buf_fini(&claims);
	return token;
}
