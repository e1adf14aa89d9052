/*
 * tls_schedule.c - traffic keys from the secrets of a handshake.
 *
 * Role:    HKDF-Expand-Label for TLS 1.3, the key block of TLS 1.2, the next
 *          generation after a KeyUpdate; the contexts all connections share.
 * Process: worker; pure.
 * Blocks:  never.
 * Trust:   secrets are our handshake's; copies are wiped here.
 * See:     RFC 8446 7, RFC 5246 6.3; tls_record.c, t/unit/tls_record.c.
 */
#include "net/tls_record_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/mem.h"

#define FIXED_IV_LEN  4
#define KEY_BLOCK_MAX (2 * (TLS_KEY_MAX + TLS_NONCE_LEN))

static const struct {
	const char *name;
	uint8_t key_len;
} aeads[TLS_AEAD_COUNT] = {
    [TLS_AES_128_GCM] = {"AES-128-GCM", 16},
    [TLS_AES_256_GCM] = {"AES-256-GCM", 32},
    [TLS_CHACHA20_POLY1305] = {"ChaCha20-Poly1305", 32},
};

static const char *const digests[2] = {"SHA256", "SHA384"};
static const size_t digest_lens[2] = {32, 48};

/* ---- contexts ---- */

static EVP_CIPHER_CTX *
cipher_new(const char *name, bool is_seal)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	/* the key comes with each record, the cipher stays */
	if (cipher == NULL || ctx == NULL ||
	    EVP_CipherInit_ex(ctx, cipher, NULL, NULL, NULL, is_seal) != 1 ||
	    EVP_CIPHER_CTX_ctrl(
		ctx, EVP_CTRL_AEAD_SET_IVLEN, TLS_NONCE_LEN, NULL) != 1) {
		EVP_CIPHER_CTX_free(ctx);
		ctx = NULL;
	}
	EVP_CIPHER_free(cipher);
	return ctx;
}

static EVP_MAC_CTX *
hmac_new(const char *digest)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(
		OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)digest, 0),
	    OSSL_PARAM_construct_end(),
	};

	if (ctx != NULL && EVP_MAC_CTX_set_params(ctx, params) != 1) {
		EVP_MAC_CTX_free(ctx);
		ctx = NULL;
	}
	EVP_MAC_free(mac);
	return ctx;
}

struct tls_crypto *
tls_crypto_new(char *error, size_t error_len)
{
	struct tls_crypto *crypto = xcalloc(1, sizeof(*crypto));
	EVP_KDF *prf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	bool is_good = true;

	for (int i = 0; i < TLS_AEAD_COUNT; i++) {
		crypto->seal[i] = cipher_new(aeads[i].name, true);
		crypto->open[i] = cipher_new(aeads[i].name, false);
		is_good = is_good && crypto->seal[i] != NULL &&
			  crypto->open[i] != NULL;
	}
	for (int i = 0; i < 2; i++) {
		crypto->hmac[i] = hmac_new(digests[i]);
		is_good = is_good && crypto->hmac[i] != NULL;
	}
	if (prf != NULL)
		crypto->prf = EVP_KDF_CTX_new(prf);
	EVP_KDF_free(prf);
	if (!is_good || crypto->prf == NULL) {
		snprintf(error, error_len,
		    "OpenSSL lacks a cipher or hash that TLS needs");
		ERR_clear_error();
		tls_crypto_free(&crypto);
	}
	return crypto;
}

void
tls_crypto_free(struct tls_crypto **crypto_io)
{
	struct tls_crypto *crypto = *crypto_io;

	if (crypto == NULL)
		return;
	*crypto_io = NULL;
	for (int i = 0; i < TLS_AEAD_COUNT; i++) {
		EVP_CIPHER_CTX_free(crypto->seal[i]);
		EVP_CIPHER_CTX_free(crypto->open[i]);
	}
	for (int i = 0; i < 2; i++)
		EVP_MAC_CTX_free(crypto->hmac[i]);
	EVP_KDF_CTX_free(crypto->prf);
	free(crypto);
}

/* ---- TLS 1.3 ---- */

/*
 * RFC 8446 7.1 with an empty context. What we ask for is never longer than
 * the hash, so the first block of HKDF-Expand is all of it (RFC 5869 2.3).
 */
static bool
expand_label(struct tls_crypto *crypto, bool uses_sha384, const uint8_t *secret,
    const char *label, uint8_t *out, size_t len)
{
	EVP_MAC_CTX *ctx = crypto->hmac[uses_sha384 ? 1 : 0];
	size_t hash_len = digest_lens[uses_sha384 ? 1 : 0];
	size_t label_len = strlen(label);
	uint8_t block[EVP_MAX_MD_SIZE];
	uint8_t info[32];
	size_t at = 0;
	size_t n = 0;
	bool is_good;

	info[at++] = (uint8_t)(len >> 8);
	info[at++] = (uint8_t)len;
	info[at++] = (uint8_t)(6 + label_len);
	memcpy(info + at, "tls13 ", 6);
	memcpy(info + at + 6, label, label_len);
	at += 6 + label_len;
	info[at++] = 0; /* context */
	info[at++] = 1; /* HKDF-Expand: first block */
	is_good =
	    len <= hash_len && EVP_MAC_init(ctx, secret, hash_len, NULL) == 1 &&
	    EVP_MAC_update(ctx, info, at) == 1 &&
	    EVP_MAC_final(ctx, block, &n, sizeof(block)) == 1 && n == hash_len;
	if (is_good)
		memcpy(out, block, len);
	mem_wipe(block, sizeof(block));
	if (!is_good)
		ERR_clear_error();
	return is_good;
}

int
tls_keys_derive(struct tls_crypto *crypto, const struct tls_keys *keys,
    struct tls_half *half)
{
	half->seq = 0;
	if (!expand_label(crypto, keys->uses_sha384, half->secret, "key",
		half->key, aeads[keys->aead].key_len) ||
	    !expand_label(crypto, keys->uses_sha384, half->secret, "iv",
		half->iv, TLS_NONCE_LEN))
		return ERR_SERVER_ERROR;
	return 0;
}

int
tls_keys_next(struct tls_crypto *crypto, const struct tls_keys *keys,
    struct tls_half *half)
{
	uint8_t next[TLS_SECRET_MAX];
	size_t len = digest_lens[keys->uses_sha384 ? 1 : 0];
	int rc = ERR_SERVER_ERROR;

	if (expand_label(crypto, keys->uses_sha384, half->secret, "traffic upd",
		next, len)) {
		memcpy(half->secret, next, len);
		rc = tls_keys_derive(crypto, keys, half);
	}
	mem_wipe(next, sizeof(next));
	return rc;
}

/* ---- TLS 1.2 ---- */

static bool
key_block(struct tls_crypto *crypto, bool uses_sha384, const uint8_t *master,
    size_t master_len, uint8_t seed[64], uint8_t *out, size_t len)
{
	char label[] = "key expansion";
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
		(char *)(uintptr_t)digests[uses_sha384 ? 1 : 0], 0),
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_SECRET, (void *)(uintptr_t)master, master_len),
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_SEED, label, sizeof(label) - 1),
	    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, 64),
	    OSSL_PARAM_construct_end(),
	};
	bool is_good;

	EVP_KDF_CTX_reset(crypto->prf);
	is_good = EVP_KDF_derive(crypto->prf, out, len, params) == 1;
	EVP_KDF_CTX_reset(crypto->prf); /* it holds the secret */
	if (!is_good)
		ERR_clear_error();
	return is_good;
}

int
tls_keys_derive_12(struct tls_crypto *crypto, struct tls_keys *keys,
    const uint8_t *master, size_t master_len, const uint8_t client_random[32],
    const uint8_t server_random[32])
{
	size_t key_len = aeads[keys->aead].key_len;
	size_t iv_len =
	    keys->aead == TLS_CHACHA20_POLY1305 ? TLS_NONCE_LEN : FIXED_IV_LEN;
	uint8_t block[KEY_BLOCK_MAX];
	uint8_t seed[64];
	const uint8_t *at = block;
	int rc = ERR_SERVER_ERROR;

	memcpy(seed, server_random, 32); /* the other way round than before */
	memcpy(seed + 32, client_random, 32);
	if (key_block(crypto, keys->uses_sha384, master, master_len, seed,
		block, 2 * (key_len + iv_len))) {
		memcpy(keys->in.key, at, key_len);
		at += key_len;
		memcpy(keys->out.key, at, key_len);
		at += key_len;
		memcpy(keys->in.iv, at, iv_len);
		at += iv_len;
		memcpy(keys->out.iv, at, iv_len);
		rc = 0;
	}
	mem_wipe(block, sizeof(block));
	return rc;
}
