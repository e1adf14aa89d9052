/*
 * jwt_keys.c - unit tests of base/jwt_keys: the signatures of RFC 7515
 * appendix A, and which keys are refused at start.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/crypto.h"
#include "base/jwt_priv.h"
#include "jwt_help.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define PAYLOAD                                                                \
	"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl" \
	"LmNvbS9pc19yb290Ijp0cnVlfQ"

/* RFC 7515 A.1.1, A.2.1, A.3.1 */
static const char a1_input[] =
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." PAYLOAD;
static const char a1_signature[] =
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
static const char a1_key[] =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUu"
    "TwjAzZr1Z9CAow";
static const char a2_input[] = "eyJhbGciOiJSUzI1NiJ9." PAYLOAD;
static const char a2_signature[] =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4B"
    "h-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZ"
    "LgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"
    "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6"
    "LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
static const char a2_pem[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj\n"
    "NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz\n"
    "P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo\n"
    "9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB\n"
    "EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX\n"
    "FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp\n"
    "oQIDAQAB\n"
    "-----END PUBLIC KEY-----\n";
static const char a3_input[] = "eyJhbGciOiJFUzI1NiJ9." PAYLOAD;
static const char a3_signature[] =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKT"
    "UJqPP3-Kg6NU1Q";
static const char a3_pem[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n"
    "6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n"
    "-----END PUBLIC KEY-----\n";

static void
check_vector(struct jwt_keys *keys, enum jwt_alg alg, const char *input,
    const char *signature)
{
	uint8_t bytes[512];
	size_t len;

	assert_int_equal(
	    crypto_base64url_decode(signature, strlen(signature), bytes, &len),
	    0);
	assert_true(
	    jwt_keys_verify(keys, alg, input, strlen(input), bytes, len));
	/* Each bit of the first byte, the last, and one in the middle. */
	for (int bit = 0; bit < 8; bit++) {
		size_t at[] = {0, len / 2, len - 1};

		for (int i = 0; i < 3; i++) {
			bytes[at[i]] ^= (uint8_t)(1 << bit);
			assert_false(jwt_keys_verify(
			    keys, alg, input, strlen(input), bytes, len));
			bytes[at[i]] ^= (uint8_t)(1 << bit);
		}
	}
	/* Shorter, longer, nothing; and a shorter input. */
	assert_false(
	    jwt_keys_verify(keys, alg, input, strlen(input), bytes, len - 1));
	bytes[len] = 0;
	assert_false(
	    jwt_keys_verify(keys, alg, input, strlen(input), bytes, len + 1));
	assert_false(
	    jwt_keys_verify(keys, alg, input, strlen(input), bytes, 0));
	assert_false(
	    jwt_keys_verify(keys, alg, input, strlen(input) - 1, bytes, len));
	/* TLS code of this thread must not find our failures. */
	assert_int_equal(ERR_peek_error(), 0);
}

static void
test_rfc7515_hs256(void **state)
{
	struct jwt_keys keys;
	uint8_t secret[80];
	size_t len;

	(void)state;
	assert_int_equal(jwt_keys_init(&keys), 0);
	assert_int_equal(
	    crypto_base64url_decode(a1_key, strlen(a1_key), secret, &len), 0);
	assert_int_equal(jwt_keys_add_secret(&keys, secret, len), 0);
	check_vector(&keys, JWT_ALG_HS256, a1_input, a1_signature);
	jwt_keys_fini(&keys);
}

static void
test_rfc7515_rs256(void **state)
{
	struct jwt_keys keys;
	const char *why;

	(void)state;
	assert_int_equal(jwt_keys_init(&keys), 0);
	assert_int_equal(
	    jwt_keys_add_pem(&keys, a2_pem, strlen(a2_pem), &why), 0);
	check_vector(&keys, JWT_ALG_RS256, a2_input, a2_signature);
	jwt_keys_fini(&keys);
}

static void
test_rfc7515_es256(void **state)
{
	struct jwt_keys keys;
	const char *why;

	(void)state;
	assert_int_equal(jwt_keys_init(&keys), 0);
	assert_int_equal(
	    jwt_keys_add_pem(&keys, a3_pem, strlen(a3_pem), &why), 0);
	check_vector(&keys, JWT_ALG_ES256, a3_input, a3_signature);
	jwt_keys_fini(&keys);
}

/* r or s of 0, and of the group's order or more, are no signatures. */
static void
test_es256_degenerate(void **state)
{
	struct jwt_keys keys;
	uint8_t signature[64] = {0};
	const char *why;

	(void)state;
	assert_int_equal(jwt_keys_init(&keys), 0);
	assert_int_equal(
	    jwt_keys_add_pem(&keys, a3_pem, strlen(a3_pem), &why), 0);
	for (int fill = 0; fill <= 0xff; fill += 0xff) {
		memset(signature, fill, sizeof(signature));
		assert_false(jwt_keys_verify(&keys, JWT_ALG_ES256, a3_input,
		    strlen(a3_input), signature, sizeof(signature)));
	}
	jwt_keys_fini(&keys);
}

static void
test_several_keys_in_one_text(void **state)
{
	struct jwt_keys keys;
	char both[sizeof(a2_pem) + sizeof(a3_pem)];
	const char *why;

	(void)state;
	snprintf(both, sizeof(both), "%s%s", a2_pem, a3_pem);
	assert_int_equal(jwt_keys_init(&keys), 0);
	assert_int_equal(jwt_keys_add_pem(&keys, both, strlen(both), &why), 0);
	assert_false(jwt_keys_have(&keys, JWT_ALG_HS256));
	check_vector(&keys, JWT_ALG_RS256, a2_input, a2_signature);
	check_vector(&keys, JWT_ALG_ES256, a3_input, a3_signature);
	jwt_keys_fini(&keys);
}

static void
pem_refuse(const char *pem, size_t len, const char *expected)
{
	struct jwt_keys keys;
	const char *why = "";

	assert_int_equal(jwt_keys_init(&keys), 0);
	assert_int_equal(
	    jwt_keys_add_pem(&keys, pem, len, &why), ERR_BAD_REQUEST);
	if (strstr(why, expected) == NULL)
		fail_msg("\"%s\" where \"%s\" was expected", why, expected);
	assert_int_equal(ERR_peek_error(), 0);
	jwt_keys_fini(&keys);
}

static void
test_unfit_public_keys(void **state)
{
	static const struct {
		unsigned bits;
		const char *why;
	} rows[] = {{1024, "less than 2048"}, {1, "another curve"}};
	char pem[HELP_PEM_MAX];
	EVP_PKEY *key;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		key = help_key_new(rows[i].bits);
		help_key_pem(key, pem);
		pem_refuse(pem, strlen(pem), rows[i].why);
		EVP_PKEY_free(key);
	}
	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	help_key_pem(key, pem);
	pem_refuse(pem, strlen(pem), "neither RSA nor EC");
	EVP_PKEY_free(key);
}

static void
test_private_key_is_refused(void **state)
{
	EVP_PKEY *key = help_key_new(0);
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem;
	long len;

	(void)state;
	assert_int_equal(
	    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	len = BIO_get_mem_data(bio, &pem);
	pem_refuse(pem, (size_t)len, "private key");
	BIO_free(bio);
	EVP_PKEY_free(key);
}

static void
test_damaged_pem(void **state)
{
	char pem[sizeof(a3_pem)];

	(void)state;
	pem_refuse("", 0, "no public key");
	pem_refuse("hello\n", 6, "no public key");
	/* All lengths but the last, which only lacks the newline. */
	for (size_t len = 1; len < strlen(a3_pem) - 1; len++)
		pem_refuse(a3_pem, len, "");
	/* A point that is not on the curve. */
	strcpy(pem, a3_pem);
	pem[strlen("-----BEGIN PUBLIC KEY-----\n") + 60] ^= 1;
	pem_refuse(pem, strlen(pem), "");
	/* One good key does not excuse a bad one behind it. */
	snprintf(pem, sizeof(pem), "%s", a3_pem);
	pem[27 + 60] ^= 1;
	{
		char both[2 * sizeof(a3_pem)];

		snprintf(both, sizeof(both), "%s%s", a3_pem, pem);
		pem_refuse(both, strlen(both), "");
	}
}

static void
load_refuse(struct conf *conf, int expected, const char *words)
{
	struct jwt_verifier *verifier = NULL;
	char error[256] = "";

	assert_int_equal(
	    jwt_verifier_new(conf, &verifier, error, sizeof(error)), expected);
	assert_null(verifier);
	if (strstr(error, words) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", error, words);
	assert_null(strchr(error, '\n'));
	assert_null(strstr(error, "0123456789"));
}

static void
test_secrets_at_load(void **state)
{
	char short_one[] = "0123456789abcdef0123456789abcde";
	char good[] = SECRET;
	char *items[] = {good, short_one};
	char *pem[1];
	struct conf conf = {
	    .auth_jwt_hs256_secret = {.items = items, .count = 2}};

	(void)state;
	load_refuse(&conf, ERR_BAD_REQUEST, "number 2");
	/* RFC 8725 2.1: a public key as a secret. */
	pem[0] = strdup(a3_pem);
	conf.auth_jwt_hs256_secret =
	    (struct conf_list){.items = pem, .count = 1};
	load_refuse(&conf, ERR_BAD_REQUEST, "PEM");
	free(pem[0]);
}

static void
test_files_at_load(void **state)
{
	char path[64];
	char *items[1] = {path};
	struct conf conf = {
	    .auth_jwt_public_key = {.items = items, .count = 1}};
	struct jwt_verifier *verifier = NULL;
	char error[256] = "";

	(void)state;
	strcpy(path, "/nonexistent/key.pem");
	load_refuse(&conf, ERR_IO, path);
	strcpy(path, "/tmp");
	load_refuse(&conf, ERR_IO, path);
	help_file("not a key", path);
	load_refuse(&conf, ERR_BAD_REQUEST, path);
	/* Nobody writes to it: opening must not wait. */
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	load_refuse(&conf, ERR_IO, path);
	unlink(path);
	help_file(a2_pem, path);
	assert_int_equal(
	    jwt_verifier_new(&conf, &verifier, error, sizeof(error)), 0);
	jwt_verifier_free(&verifier);
	assert_null(verifier);
	jwt_verifier_free(&verifier);
	unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rfc7515_hs256),
	    cmocka_unit_test(test_rfc7515_rs256),
	    cmocka_unit_test(test_rfc7515_es256),
	    cmocka_unit_test(test_es256_degenerate),
	    cmocka_unit_test(test_several_keys_in_one_text),
	    cmocka_unit_test(test_unfit_public_keys),
	    cmocka_unit_test(test_private_key_is_refused),
	    cmocka_unit_test(test_damaged_pem),
	    cmocka_unit_test(test_secrets_at_load),
	    cmocka_unit_test(test_files_at_load),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
