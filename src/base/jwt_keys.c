/*
 * jwt_keys.c - the keys of a token verifier and the signatures they check.
 *
 * Role:    loads HMAC secrets and PEM public keys, prepares one OpenSSL
 *          context for each, and answers whether a signature fits. A key
 *          knows its only algorithm; it is never tried with another.
 * Process: workers, parleyctl, parleyload; a verifier belongs to one thread.
 * Blocks:  reading key files at start and reload; never while verifying.
 * Trust:   configuration is the operator's: refused with a reason. Signatures
 *          are a stranger's. What OpenSSL leaves in its error queue is cleared
 *          here, or the TLS code of the same thread would take it for its own.
 * See:     jwt.c; RFC 7515, RFC 7518 3, RFC 8725; t/unit/jwt.c.
 */
#include "base/jwt_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/crypto.h"
#include "base/mem.h"

#define PEM_FILE_MAX 65536
#define PEM_ARMOUR   "-----BEGIN"
#define DIGEST_LEN   32
/* Two integers of up to 33 bytes with their headers, and a sequence's. */
#define ES256_DER_MAX 80

struct jwt_key {
	enum jwt_alg alg;
	EVP_MAC_CTX *mac;     /* HS256: keyed, duplicated for each token */
	EVP_PKEY_CTX *verify; /* RS256, ES256: ready for EVP_PKEY_verify */
	uint64_t id;          /* of its value, never 0 */
};

static EVP_MAC_CTX *
mac_new(EVP_MAC *hmac, const void *secret, size_t len)
{
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(hmac);
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(
		OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
	    OSSL_PARAM_construct_end(),
	};

	if (ctx != NULL && EVP_MAC_init(ctx, secret, len, params) == 1)
		return ctx;
	EVP_MAC_CTX_free(ctx);
	ERR_clear_error();
	return NULL;
}

static bool
mac_finish(
    EVP_MAC_CTX *ctx, const void *input, size_t len, uint8_t out[JWT_HMAC_LEN])
{
	size_t out_len = 0;

	return EVP_MAC_update(ctx, input, len) == 1 &&
	       EVP_MAC_final(ctx, out, &out_len, JWT_HMAC_LEN) == 1 &&
	       out_len == JWT_HMAC_LEN;
}

/*
 * RFC 8725 2.1: a public key used as an HMAC secret is the classic confusion.
 * Ours could only come from a file pasted into the wrong setting.
 */
static bool
secret_is_usable(const void *secret, size_t len)
{
	return len >= JWT_SECRET_LEN_MIN &&
	       memcmp(secret, PEM_ARMOUR, strlen(PEM_ARMOUR)) != 0;
}

/* The same in every process that has loaded the same key. */
static uint64_t
key_id(const void *value, size_t len)
{
	uint8_t hash[CRYPTO_HASH128_LEN];
	uint64_t id;

	crypto_sha256_128(value, len, hash);
	memcpy(&id, hash, sizeof(id));
	return id | 1;
}

static struct jwt_key *
key_append(struct jwt_keys *keys, enum jwt_alg alg, uint64_t id)
{
	struct jwt_key *key;

	keys->items =
	    xrealloc(keys->items, (keys->count + 1) * sizeof(*keys->items));
	key = &keys->items[keys->count++];
	*key = (struct jwt_key){.alg = alg, .id = id};
	return key;
}

/* @return NULL when the key may be used, else what is wrong with it */
static const char *
public_key_judge(EVP_PKEY *pkey, enum jwt_alg *alg_out)
{
	char group[32] = "";
	EVP_PKEY_CTX *ctx;
	int is_sound;

	if (EVP_PKEY_is_a(pkey, "RSA")) {
		if (EVP_PKEY_get_bits(pkey) < JWT_RSA_BITS_MIN)
			return "an RSA key of less than 2048 bits";
		if (EVP_PKEY_get_bits(pkey) > JWT_RSA_BITS_MAX)
			return "an RSA key of more than 8192 bits";
		*alg_out = JWT_ALG_RS256;
	} else if (EVP_PKEY_is_a(pkey, "EC")) {
		if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) !=
			1 ||
		    strcmp(group, "prime256v1") != 0)
			return "an EC key on another curve than P-256";
		*alg_out = JWT_ALG_ES256;
	} else {
		return "a key that is neither RSA nor EC";
	}
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
	is_sound = ctx != NULL && EVP_PKEY_public_check(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	return is_sound ? NULL : "a damaged public key";
}

static int
public_key_add(struct jwt_keys *keys, EVP_PKEY *pkey, const char **why_out)
{
	enum jwt_alg alg;
	EVP_PKEY_CTX *ctx;
	uint8_t *der = NULL;
	int der_len;

	*why_out = public_key_judge(pkey, &alg);
	if (*why_out != NULL)
		return ERR_BAD_REQUEST;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
	if (ctx == NULL || EVP_PKEY_verify_init(ctx) != 1 ||
	    EVP_PKEY_CTX_set_signature_md(ctx, keys->sha256) != 1 ||
	    (alg == JWT_ALG_RS256 &&
		EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1)) {
		EVP_PKEY_CTX_free(ctx);
		*why_out = "a key for which there is no memory";
		return ERR_NO_MEMORY;
	}
	der_len = i2d_PUBKEY(pkey, &der);
	if (der_len <= 0) {
		EVP_PKEY_CTX_free(ctx);
		*why_out = "a key for which there is no memory";
		return ERR_NO_MEMORY;
	}
	key_append(keys, alg, key_id(der, (size_t)der_len))->verify = ctx;
	OPENSSL_free(der);
	return 0;
}

/* One block of a PEM text; NULL and a reason for anything but a public key. */
static EVP_PKEY *
pem_block_decode(
    const char *label, const uint8_t *der, long len, const char **why_out)
{
	const uint8_t *pos = der;
	EVP_PKEY *pkey = NULL;

	if (strcmp(label, PEM_STRING_PUBLIC) == 0) {
		pkey = d2i_PUBKEY(NULL, &pos, len);
	} else if (strcmp(label, PEM_STRING_RSA_PUBLIC) == 0) {
		pkey = d2i_PublicKey(EVP_PKEY_RSA, NULL, &pos, len);
	} else {
		*why_out =
		    strstr(label, "PRIVATE") != NULL
			? "a private key; only the public one belongs here"
			: "a PEM block that is not a public key";
		return NULL;
	}
	if (pkey == NULL || pos != der + len) {
		EVP_PKEY_free(pkey);
		*why_out = "a public key that cannot be decoded";
		return NULL;
	}
	return pkey;
}

/* @return 0, ERR_NOT_FOUND (no further block), ERR_BAD_REQUEST, ERR_NO_MEMORY
 */
static int
pem_block_add(struct jwt_keys *keys, BIO *bio, const char **why_out)
{
	char *label = NULL;
	char *header = NULL;
	uint8_t *der = NULL;
	long len = 0;
	EVP_PKEY *pkey;
	int rc = ERR_BAD_REQUEST;

	if (PEM_read_bio(bio, &label, &header, &der, &len) != 1) {
		if (ERR_GET_REASON(ERR_peek_last_error()) ==
		    PEM_R_NO_START_LINE)
			return ERR_NOT_FOUND;
		*why_out = "a PEM block that is damaged";
		return ERR_BAD_REQUEST;
	}
	pkey = pem_block_decode(label, der, len, why_out);
	if (pkey != NULL)
		rc = public_key_add(keys, pkey, why_out);
	EVP_PKEY_free(pkey);
	OPENSSL_free(label);
	OPENSSL_free(header);
	OPENSSL_clear_free(der, (size_t)len); /* perhaps a private key */
	return rc;
}

static int
file_read(const char *path, char *out, size_t *len_out)
{
	struct stat st;
	size_t len = 0;
	ssize_t got = 0;
	int rc = ERR_IO;
	/* Not to hang on a FIFO of that name. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) != 0)
		goto out;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		goto out;
	}
	do {
		got = read(fd, out + len, PEM_FILE_MAX - len);
		if (got > 0)
			len += (size_t)got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (got < 0)
		goto out;
	if (len == PEM_FILE_MAX) {
		errno = EFBIG;
		goto out;
	}
	*len_out = len;
	rc = 0;
out:
	if (fd >= 0)
		close(fd);
	return rc;
}

static int
file_add(struct jwt_keys *keys, const char *path, char *error, size_t error_len)
{
	char *text = xcalloc(1, PEM_FILE_MAX);
	const char *why = NULL;
	size_t len = 0;
	int rc;

	errno = 0;
	rc = file_read(path, text, &len);
	if (rc != 0) {
		snprintf(error, error_len, "jwt_public_key: %s: %s", path,
		    strerror(errno));
		goto out;
	}
	rc = jwt_keys_add_pem(keys, text, len, &why);
	if (rc != 0)
		snprintf(
		    error, error_len, "jwt_public_key: %s holds %s", path, why);
out:
	mem_wipe(text, PEM_FILE_MAX);
	free(text);
	return rc;
}

static bool
hs256_fits(const struct jwt_key *key, const void *input, size_t input_len,
    const uint8_t *signature, size_t signature_len)
{
	uint8_t expected[JWT_HMAC_LEN];
	EVP_MAC_CTX *ctx;
	bool fits;

	if (signature_len != JWT_HMAC_LEN)
		return false;
	/* A copy: re-initialising without a key is not in all of 3.0. */
	ctx = EVP_MAC_CTX_dup(key->mac);
	fits = ctx != NULL && mac_finish(ctx, input, input_len, expected) &&
	       crypto_equal(expected, signature, JWT_HMAC_LEN);
	EVP_MAC_CTX_free(ctx);
	mem_wipe(expected, sizeof(expected));
	return fits;
}

/* JOSE has r and s side by side, OpenSSL wants them in DER. */
static size_t
es256_to_der(const uint8_t signature[JWT_ES256_LEN], uint8_t out[ES256_DER_MAX])
{
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(signature, JWT_ES256_LEN / 2, NULL);
	BIGNUM *s =
	    BN_bin2bn(signature + JWT_ES256_LEN / 2, JWT_ES256_LEN / 2, NULL);
	uint8_t *pos = out;
	int len = 0;

	if (sig != NULL && r != NULL && s != NULL &&
	    ECDSA_SIG_set0(sig, r, s) == 1) {
		r = NULL; /* the signature owns them now */
		s = NULL;
		len = i2d_ECDSA_SIG(sig, NULL);
		if (len > 0 && len <= ES256_DER_MAX)
			len = i2d_ECDSA_SIG(sig, &pos);
		else
			len = 0;
	}
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(sig);
	return len > 0 ? (size_t)len : 0;
}

static bool
digest_input(struct jwt_keys *keys, const void *input, size_t len,
    uint8_t out[DIGEST_LEN])
{
	return EVP_DigestInit_ex2(keys->digest, keys->sha256, NULL) == 1 &&
	       EVP_DigestUpdate(keys->digest, input, len) == 1 &&
	       EVP_DigestFinal_ex(keys->digest, out, NULL) == 1;
}

int
jwt_keys_init(struct jwt_keys *keys)
{
	*keys = (struct jwt_keys){0};
	keys->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	keys->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	keys->digest = EVP_MD_CTX_new();
	if (keys->hmac != NULL && keys->sha256 != NULL && keys->digest != NULL)
		return 0;
	ERR_clear_error();
	return ERR_NO_MEMORY;
}

void
jwt_keys_fini(struct jwt_keys *keys)
{
	for (size_t i = 0; i < keys->count; i++) {
		EVP_MAC_CTX_free(keys->items[i].mac);
		EVP_PKEY_CTX_free(keys->items[i].verify);
	}
	free(keys->items);
	EVP_MD_CTX_free(keys->digest);
	EVP_MD_free(keys->sha256);
	EVP_MAC_free(keys->hmac);
	*keys = (struct jwt_keys){0};
}

int
jwt_keys_add_secret(struct jwt_keys *keys, const void *secret, size_t len)
{
	EVP_MAC_CTX *ctx;

	if (!secret_is_usable(secret, len))
		return ERR_BAD_REQUEST;
	ctx = mac_new(keys->hmac, secret, len);
	if (ctx == NULL)
		return ERR_NO_MEMORY;
	key_append(keys, JWT_ALG_HS256, key_id(secret, len))->mac = ctx;
	return 0;
}

int
jwt_keys_add_pem(
    struct jwt_keys *keys, const void *pem, size_t len, const char **why_out)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)len);
	size_t count = 0;
	int rc = ERR_NO_MEMORY;

	*why_out = "a key for which there is no memory";
	if (bio != NULL) {
		while ((rc = pem_block_add(keys, bio, why_out)) == 0)
			count++;
	}
	if (rc == ERR_NOT_FOUND && count > 0) {
		rc = 0;
	} else if (rc == ERR_NOT_FOUND) {
		*why_out = "no public key in PEM";
		rc = ERR_BAD_REQUEST;
	}
	BIO_free(bio);
	ERR_clear_error();
	return rc;
}

int
jwt_keys_load(struct jwt_keys *keys, const struct conf *conf, char *error,
    size_t error_len)
{
	const struct conf_list *secrets = &conf->auth_jwt_hs256_secret;
	const struct conf_list *files = &conf->auth_jwt_public_key;
	int rc;

	for (size_t i = 0; i < secrets->count; i++) {
		rc = jwt_keys_add_secret(
		    keys, secrets->items[i], strlen(secrets->items[i]));
		if (rc != 0) {
			snprintf(error, error_len,
			    "jwt_hs256_secret: number %zu %s", i + 1,
			    rc == ERR_NO_MEMORY
				? "cannot be used: out of memory"
				: "is shorter than 32 bytes or a PEM text");
			return rc;
		}
	}
	for (size_t i = 0; i < files->count; i++) {
		rc = file_add(keys, files->items[i], error, error_len);
		if (rc != 0)
			return rc;
	}
	return 0;
}

bool
jwt_keys_have(const struct jwt_keys *keys, enum jwt_alg alg)
{
	for (size_t i = 0; i < keys->count; i++) {
		if (keys->items[i].alg == alg)
			return true;
	}
	return false;
}

bool
jwt_keys_have_id(const struct jwt_keys *keys, uint64_t id)
{
	for (size_t i = 0; i < keys->count; i++) {
		if (keys->items[i].id == id)
			return true;
	}
	return false;
}

bool
jwt_keys_verify(struct jwt_keys *keys, enum jwt_alg alg, const void *input,
    size_t input_len, const uint8_t *signature, size_t signature_len)
{
	uint8_t digest[DIGEST_LEN];
	uint8_t der[ES256_DER_MAX];
	const struct jwt_key *key;
	bool fits = false;

	if (alg == JWT_ALG_ES256) {
		if (signature_len != JWT_ES256_LEN)
			return false;
		signature_len = es256_to_der(signature, der);
		signature = der;
	}
	if (alg != JWT_ALG_HS256 &&
	    !digest_input(keys, input, input_len, digest))
		return false;
	for (size_t i = 0; i < keys->count && !fits; i++) {
		key = &keys->items[i];
		if (key->alg != alg)
			continue;
		fits = alg == JWT_ALG_HS256
			   ? hs256_fits(key, input, input_len, signature,
				 signature_len)
			   : EVP_PKEY_verify(key->verify, signature,
				 signature_len, digest, sizeof(digest)) == 1;
		if (fits)
			keys->fitted = key->id;
	}
	ERR_clear_error();
	return fits;
}

int
jwt_hmac(const char *secret, const void *input, size_t len,
    uint8_t out[JWT_HMAC_LEN])
{
	EVP_MAC *hmac = NULL;
	EVP_MAC_CTX *ctx = NULL;
	int rc = ERR_BAD_REQUEST;

	if (!secret_is_usable(secret, strlen(secret)))
		goto out;
	rc = ERR_NO_MEMORY;
	hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (hmac != NULL)
		ctx = mac_new(hmac, secret, strlen(secret));
	if (ctx != NULL && mac_finish(ctx, input, len, out))
		rc = 0;
out:
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(hmac);
	return rc;
}
