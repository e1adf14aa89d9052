/*
 * jwt_help.c - makes keys and tokens for tests, apart from the code they test
 * except for base64url.
 */
#include "jwt_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/crypto.h"
#include "base/jwt.h"

struct evp_pkey_st *
help_key_new(unsigned bits)
{
	EVP_PKEY *key;

	if (bits <= 1)
		key = EVP_EC_gen(bits == 0 ? "P-256" : "P-384");
	else
		key = EVP_RSA_gen(bits);
	assert_non_null(key);
	return key;
}

void
help_key_pem(struct evp_pkey_st *key, char out[HELP_PEM_MAX])
{
	BIO *bio = BIO_new(BIO_s_mem());
	int len;

	assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
	len = BIO_read(bio, out, HELP_PEM_MAX - 1);
	assert_true(len > 0);
	out[len] = '\0';
	BIO_free(bio);
}

void
help_file(const char *text, char path_out[64])
{
	size_t len = strlen(text);
	int fd;

	strcpy(path_out, "/tmp/parley-jwt-XXXXXX");
	fd = mkstemp(path_out);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
}

size_t
help_input(const char *header, const char *payload, size_t payload_len,
    char out[HELP_TOKEN_MAX])
{
	size_t len = crypto_base64url(header, strlen(header), out);

	out[len++] = '.';
	return len + crypto_base64url(payload, payload_len, out + len);
}

static void
signature_append(char *token, const uint8_t *signature, size_t len)
{
	size_t at = strlen(token);

	token[at++] = '.';
	crypto_base64url(signature, len, token + at);
}

void
help_sign_secret(char *token, const char *secret)
{
	uint8_t mac[32];
	unsigned len = 0;

	assert_non_null(HMAC(EVP_sha256(), secret, (int)strlen(secret),
	    (const uint8_t *)token, strlen(token), mac, &len));
	signature_append(token, mac, len);
}

void
help_sign_key(char *token, struct evp_pkey_st *key)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t signature[1024];
	uint8_t raw[64];
	size_t len = sizeof(signature);
	const uint8_t *pos = signature;
	ECDSA_SIG *sig;

	assert_int_equal(
	    EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
	assert_int_equal(EVP_DigestSign(ctx, signature, &len,
			     (const uint8_t *)token, strlen(token)),
	    1);
	EVP_MD_CTX_free(ctx);
	if (!EVP_PKEY_is_a(key, "EC")) {
		signature_append(token, signature, len);
		return;
	}
	sig = d2i_ECDSA_SIG(NULL, &pos, (long)len);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32), 32);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32), 32);
	ECDSA_SIG_free(sig);
	signature_append(token, raw, sizeof(raw));
}

struct jwt_verifier *
help_verifier_new(struct conf_list secrets, struct conf_list files,
    const char *issuer, const char *audience)
{
	struct conf conf = {
	    .auth_jwt_hs256_secret = secrets,
	    .auth_jwt_public_key = files,
	    .auth_jwt_issuer = (char *)issuer,
	    .auth_jwt_audience = (char *)audience,
	};
	struct jwt_verifier *verifier;
	char error[256];

	if (jwt_verifier_new(&conf, &verifier, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	return verifier;
}
