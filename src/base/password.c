/*
 * password.c - scrypt password hashes.
 *
 * Role:    makes and checks "$scrypt$ln=15,r=8,p=1$salt$hash" (the PHC string
 *          format: salt and hash in standard base64 without padding).
 * Process: directory (its password threads), parleyctl, parleyd at start-up.
 * Blocks:  the CPU for about 50 ms and 32 MiB; never on an event loop.
 * Trust:   a stored hash may be damaged or foreign: its costs are capped
 *          before they are paid; an unusable one costs what a good one does
 *          and fits no password.
 * See:     RFC 7914; crypto.h; t/unit/password.c.
 */
#include "base/password.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/crypto.h"
#include "base/mem.h"

#define SCRYPT_PREFIX "$scrypt$"

/* What we make: N=2^15, r=8, p=1. */
#define SCRYPT_LN 15
#define SCRYPT_R  8
#define SCRYPT_P  1

/* What we are willing to compute for a stored hash. */
#define SCRYPT_LN_MIN       10
#define SCRYPT_LN_MAX       20
#define SCRYPT_R_MAX        32
#define SCRYPT_P_MAX        16
#define SCRYPT_MEMORY_BYTES (256ULL << 20)

#define SALT_LEN     16
#define SALT_LEN_MIN 8
#define SALT_LEN_MAX 64
#define HASH_LEN     32

struct scrypt {
	uint32_t ln; /* binary logarithm of N */
	uint32_t r;
	uint32_t p;
	size_t salt_len;
	uint8_t salt[SALT_LEN_MAX];
	uint8_t hash[HASH_LEN];
};

static int
scrypt_derive(const struct scrypt *scrypt, const char *password, size_t len,
    uint8_t out[HASH_LEN])
{
	uint64_t n = 1ULL << scrypt->ln;
	uint32_t r = scrypt->r;
	uint32_t p = scrypt->p;
	/* The library's own limit is 32 MiB, a little less than ours takes;
	 * the extra is for what it needs besides the table. */
	uint64_t memory_max = SCRYPT_MEMORY_BYTES + (1ULL << 20);
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_PASSWORD, (void *)password, len),
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_SALT, (void *)scrypt->salt, scrypt->salt_len),
	    OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
	    OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
	    OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
	    OSSL_PARAM_construct_uint64(
		OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory_max),
	    OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int rc = 0;

	if (ctx == NULL || EVP_KDF_derive(ctx, out, HASH_LEN, params) != 1) {
		ERR_clear_error();
		rc = ERR_NO_MEMORY; /* all else was checked before */
	}
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return rc;
}

/* A decimal of at most two digits, one spelling each; ends at the stop. */
static const char *
parse_cost(const char *pos, const char *label, char stop, uint32_t *value_out)
{
	size_t len = strlen(label);
	uint32_t value = 0;
	const char *first;

	if (strncmp(pos, label, len) != 0)
		return NULL;
	first = pos + len;
	for (pos = first; *pos >= '0' && *pos <= '9' && pos < first + 2; pos++)
		value = value * 10 + (uint32_t)(*pos - '0');
	if (pos == first || *first == '0' || *pos != stop)
		return NULL;
	*value_out = value;
	return pos + 1;
}

/*
 * Standard base64 without padding. The strict decoder of crypto.h knows the
 * URL alphabet: the two differ in two characters.
 */
static int
parse_bytes(const char *text, size_t len, uint8_t *out, size_t *len_out)
{
	char url[PASSWORD_HASH_MAX];

	if (len >= sizeof(url))
		return ERR_BAD_REQUEST;
	for (size_t i = 0; i < len; i++) {
		switch (text[i]) {
		case '-':
		case '_':
			return ERR_BAD_REQUEST;
		case '+':
			url[i] = '-';
			break;
		case '/':
			url[i] = '_';
			break;
		default:
			url[i] = text[i];
		}
	}
	return crypto_base64url_decode(url, len, out, len_out);
}

static void
print_bytes(const uint8_t *data, size_t len, char *out)
{
	crypto_base64(data, len, out);
	out[strcspn(out, "=")] = '\0';
}

static bool
scrypt_is_affordable(const struct scrypt *scrypt)
{
	if (scrypt->ln < SCRYPT_LN_MIN || scrypt->ln > SCRYPT_LN_MAX ||
	    scrypt->r > SCRYPT_R_MAX || scrypt->p > SCRYPT_P_MAX)
		return false;
	/* RFC 7914 2: N < 2^(128 r / 8). */
	if (scrypt->r == 0 || scrypt->p == 0 || scrypt->ln >= 16 * scrypt->r)
		return false;
	/* RFC 7914 5: a table of N blocks of 128 r bytes. */
	return 128ULL * scrypt->r << scrypt->ln <= SCRYPT_MEMORY_BYTES;
}

static int
scrypt_parse(const char *text, struct scrypt *scrypt)
{
	/* As long as a whole hash may be: each part fits in any case. */
	uint8_t bytes[PASSWORD_HASH_MAX];
	const char *pos = text;
	size_t len;
	size_t hash_len;

	if (strnlen(text, PASSWORD_HASH_MAX) == PASSWORD_HASH_MAX ||
	    strncmp(text, SCRYPT_PREFIX, strlen(SCRYPT_PREFIX)) != 0)
		return ERR_BAD_REQUEST;
	pos = parse_cost(text + strlen(SCRYPT_PREFIX), "ln=", ',', &scrypt->ln);
	if (pos != NULL)
		pos = parse_cost(pos, "r=", ',', &scrypt->r);
	if (pos != NULL)
		pos = parse_cost(pos, "p=", '$', &scrypt->p);
	if (pos == NULL || !scrypt_is_affordable(scrypt))
		return ERR_BAD_REQUEST;
	len = strcspn(pos, "$");
	if (pos[len] != '$' ||
	    parse_bytes(pos, len, bytes, &scrypt->salt_len) != 0 ||
	    scrypt->salt_len < SALT_LEN_MIN || scrypt->salt_len > SALT_LEN_MAX)
		return ERR_BAD_REQUEST;
	memcpy(scrypt->salt, bytes, scrypt->salt_len);
	pos += len + 1;
	if (parse_bytes(pos, strlen(pos), bytes, &hash_len) != 0 ||
	    hash_len != HASH_LEN)
		return ERR_BAD_REQUEST;
	memcpy(scrypt->hash, bytes, HASH_LEN);
	return 0;
}

int
password_hash(const char *password, size_t len, char out[PASSWORD_HASH_MAX])
{
	struct scrypt scrypt = {
	    .ln = SCRYPT_LN,
	    .r = SCRYPT_R,
	    .p = SCRYPT_P,
	    .salt_len = SALT_LEN,
	};
	char salt[4 * ((SALT_LEN + 2) / 3) + 1];
	char hash[4 * ((HASH_LEN + 2) / 3) + 1];
	int rc;

	out[0] = '\0';
	if (len == 0 || len > PASSWORD_LEN_MAX)
		return ERR_BAD_REQUEST;
	crypto_random(scrypt.salt, SALT_LEN);
	rc = scrypt_derive(&scrypt, password, len, scrypt.hash);
	if (rc != 0)
		goto out;
	print_bytes(scrypt.salt, SALT_LEN, salt);
	print_bytes(scrypt.hash, HASH_LEN, hash);
	snprintf(out, PASSWORD_HASH_MAX, SCRYPT_PREFIX "ln=%u,r=%u,p=%u$%s$%s",
	    scrypt.ln, scrypt.r, scrypt.p, salt, hash);
out:
	mem_wipe(&scrypt, sizeof(scrypt));
	mem_wipe(hash, sizeof(hash));
	return rc;
}

bool
password_verify(const char *hash, const char *password, size_t len)
{
	/* For users who do not exist: the same work, and never a match. */
	struct scrypt scrypt = {
	    .ln = SCRYPT_LN,
	    .r = SCRYPT_R,
	    .p = SCRYPT_P,
	    .salt_len = SALT_LEN,
	};
	struct scrypt stored = {0};
	uint8_t derived[HASH_LEN];
	bool is_usable;
	bool is_match;

	/* Independent of the user, so that refusing early tells nothing. */
	if (len == 0 || len > PASSWORD_LEN_MAX)
		return false;
	is_usable = hash != NULL && scrypt_parse(hash, &stored) == 0;
	if (is_usable)
		scrypt = stored;
	is_match = scrypt_derive(&scrypt, password, len, derived) == 0 &&
		   crypto_equal(derived, scrypt.hash, HASH_LEN) && is_usable;
	mem_wipe(&scrypt, sizeof(scrypt));
	mem_wipe(&stored, sizeof(stored));
	mem_wipe(derived, sizeof(derived));
	return is_match;
}
