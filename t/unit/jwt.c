/*
 * jwt.c - unit tests of base/jwt: one test for each reason to refuse a token,
 * every truncation and every changed byte of good ones, rotation, and the
 * confusions of RFC 8725.
 */
#include "base/jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/crypto.h"
#include "jwt_help.h"

#define NOW_S  1800000000LL
#define NOW_MS (NOW_S * 1000)
#define OLD    "an old secret of forty characters, or so"
#define NEW    "a new secret of forty characters, almost"
#define HS256  "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define RS256  "{\"alg\":\"RS256\"}"
#define ES256  "{\"alg\":\"ES256\"}"

/* Two keys of each kind, the first of each "old". */
static struct {
	EVP_PKEY *rsa[2];
	EVP_PKEY *ec[2];
	char rsa_pem[HELP_PEM_MAX];
	char ec_pem[HELP_PEM_MAX];
	struct jwt_verifier *all;   /* every key */
	struct jwt_verifier *hs256; /* both secrets, nothing else */
	struct jwt_verifier *rs256; /* both RSA keys, nothing else */
} fix;

static int
group_setup(void **state)
{
	char paths[4][64];
	char *files[4] = {paths[0], paths[1], paths[2], paths[3]};
	char *secrets[2] = {(char *)OLD, (char *)NEW};
	struct conf_list no = {0};
	struct conf_list both = {.items = secrets, .count = 2};
	char pem[HELP_PEM_MAX];

	(void)state;
	for (int i = 0; i < 2; i++) {
		fix.rsa[i] = help_key_new(2048);
		fix.ec[i] = help_key_new(0);
		help_key_pem(fix.rsa[i], i == 0 ? fix.rsa_pem : pem);
		help_file(i == 0 ? fix.rsa_pem : pem, paths[i]);
		help_key_pem(fix.ec[i], i == 0 ? fix.ec_pem : pem);
		help_file(i == 0 ? fix.ec_pem : pem, paths[2 + i]);
	}
	fix.all = help_verifier_new(
	    both, (struct conf_list){.items = files, .count = 4}, "", "");
	fix.hs256 = help_verifier_new(both, no, "", "");
	fix.rs256 = help_verifier_new(
	    no, (struct conf_list){.items = files, .count = 2}, "", "");
	for (int i = 0; i < 4; i++)
		unlink(paths[i]);
	return 0;
}

static int
group_teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		EVP_PKEY_free(fix.rsa[i]);
		EVP_PKEY_free(fix.ec[i]);
	}
	jwt_verifier_free(&fix.all);
	jwt_verifier_free(&fix.hs256);
	jwt_verifier_free(&fix.rs256);
	return 0;
}

/* Verify, and see that an error leaves neither claims nor OpenSSL errors. */
static int
verify_len(struct jwt_verifier *verifier, const char *token, size_t len,
    struct jwt_claims *claims)
{
	static const struct jwt_claims empty;
	const char *reason = NULL;
	char *exact = malloc(len == 0 ? 1 : len); /* not NUL-terminated */
	int rc;

	memcpy(exact, token, len);
	memset(claims, 0xee, sizeof(*claims));
	rc = jwt_verify(verifier, exact, len, NOW_MS, claims, &reason);
	free(exact);
	assert_int_equal(ERR_peek_error(), 0);
	if (rc == 0) {
		assert_null(reason);
		return 0;
	}
	assert_non_null(reason);
	assert_memory_equal(claims, &empty, sizeof(empty));
	return rc;
}

static int
verify(struct jwt_verifier *verifier, const char *token)
{
	struct jwt_claims claims;

	return verify_len(verifier, token, strlen(token), &claims);
}

/* A token with this header, signed with the new secret. */
static int
verify_header(const char *header)
{
	char token[HELP_TOKEN_MAX];

	help_input(header, "{\"sub\":\"7\"}", 11, token);
	help_sign_secret(token, NEW);
	return verify(fix.all, token);
}

static void
assert_each(int (*check)(const char *), const char *const *texts, int expected)
{
	for (; *texts != NULL; texts++) {
		int rc = check(*texts);

		if (rc != expected)
			fail_msg("%s: %d, not %d", *texts, rc, expected);
	}
}

static void
test_sign_and_verify(void **state)
{
	struct jwt_claims claims;
	char *token;

	(void)state;
	token = jwt_sign_hs256(
	    NEW, 9007199254740991, "Zo\xc3\xab \"\\", NULL, "", NOW_MS, 3600);
	assert_non_null(token);
	assert_int_equal(
	    verify_len(fix.hs256, token, strlen(token), &claims), 0);
	assert_true(claims.user_id == 9007199254740991);
	assert_true(claims.expires_at_ms == NOW_MS + 3600000);
	assert_string_equal(claims.name, "Zo\xc3\xab \"\\");
	free(token);
	token = jwt_sign_hs256(OLD, 1, NULL, NULL, NULL, NOW_MS, 0);
	assert_int_equal(
	    verify_len(fix.hs256, token, strlen(token), &claims), 0);
	assert_true(claims.user_id == 1);
	assert_true(claims.expires_at_ms == 0);
	assert_string_equal(claims.name, "");
	free(token);
}

static void
test_sign_refuses(void **state)
{
	char name[JWT_LEN_MAX];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_null(jwt_sign_hs256(NULL, 7, NULL, NULL, NULL, NOW_MS, 0));
	assert_null(jwt_sign_hs256("short", 7, NULL, NULL, NULL, NOW_MS, 0));
	assert_null(jwt_sign_hs256(NEW, 0, NULL, NULL, NULL, NOW_MS, 0));
	assert_null(
	    jwt_sign_hs256(NEW, 1ULL << 53, NULL, NULL, NULL, NOW_MS, 0));
	assert_null(jwt_sign_hs256(NEW, 7, "\xff", NULL, NULL, NOW_MS, 0));
	assert_null(jwt_sign_hs256(NEW, 7, name, NULL, NULL, NOW_MS, 0));
}

static void
token_make(char *token, int kind, int which)
{
	static const char *const headers[] = {HS256, RS256, ES256};

	help_input(headers[kind], "{\"sub\":\"7\"}", 11, token);
	if (kind == 0)
		help_sign_secret(token, which == 0 ? OLD : NEW);
	else
		help_sign_key(
		    token, kind == 1 ? fix.rsa[which] : fix.ec[which]);
}

static void
test_rotation(void **state)
{
	char token[HELP_TOKEN_MAX];

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		for (int which = 0; which < 2; which++) {
			token_make(token, kind, which);
			assert_int_equal(verify(fix.all, token), 0);
			assert_int_equal(verify(fix.hs256, token),
			    kind == 0 ? 0 : ERR_AUTH_FAILED);
			assert_int_equal(verify(fix.rs256, token),
			    kind == 1 ? 0 : ERR_AUTH_FAILED);
		}
	}
}

static void
test_every_truncation(void **state)
{
	char token[HELP_TOKEN_MAX];
	struct jwt_claims claims;

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		token_make(token, kind, 1);
		for (size_t len = 0; len < strlen(token); len++)
			assert_int_equal(
			    verify_len(fix.all, token, len, &claims),
			    ERR_AUTH_FAILED);
		strcat(token, "A");
		assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
	}
}

static void
test_every_changed_byte(void **state)
{
	char token[HELP_TOKEN_MAX];
	struct jwt_claims claims;
	size_t len;

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		token_make(token, kind, 1);
		len = strlen(token);
		for (size_t i = 0; i < 8 * len; i++) {
			token[i / 8] ^= (char)(1 << i % 8);
			if (verify_len(fix.all, token, len, &claims) !=
			    ERR_AUTH_FAILED)
				fail_msg("kind %d: bit %zu", kind, i);
			token[i / 8] ^= (char)(1 << i % 8);
		}
		assert_int_equal(verify(fix.all, token), 0);
	}
	/* All 255 other values at each place: cheap with the secret only. */
	token_make(token, 0, 1);
	len = strlen(token);
	for (size_t i = 0; i < 256 * len; i++) {
		char kept = token[i / 256];

		token[i / 256] = (char)(i % 256);
		if (token[i / 256] != kept)
			assert_int_equal(
			    verify_len(fix.all, token, len, &claims),
			    ERR_AUTH_FAILED);
		token[i / 256] = kept;
	}
}

static void
test_wrong_forms(void **state)
{
	static const char *const forms[] = {"", ".", "..", "...", "a", "a.b",
	    "a.b.", ".b.c", "a..c", "a.b.c", "a.b.c.d", "a.b.c.d.e",
	    "eyJhbGciOiJIUzI1NiJ9.e30.", "eyJhbGciOiJIUzI1NiJ9..AAAA", NULL};
	char token[HELP_TOKEN_MAX];
	char longer[HELP_TOKEN_MAX + 8];

	(void)state;
	for (size_t i = 0; forms[i] != NULL; i++)
		assert_int_equal(verify(fix.all, forms[i]), ERR_AUTH_FAILED);
	token_make(token, 0, 1);
	snprintf(longer, sizeof(longer), "%s.", token);
	assert_int_equal(verify(fix.all, longer), ERR_AUTH_FAILED);
	snprintf(longer, sizeof(longer), "%s=", token);
	assert_int_equal(verify(fix.all, longer), ERR_AUTH_FAILED);
	snprintf(longer, sizeof(longer), "%s\n", token);
	assert_int_equal(verify(fix.all, longer), ERR_AUTH_FAILED);
	snprintf(longer, sizeof(longer), "Bearer %s", token);
	assert_int_equal(verify(fix.all, longer), ERR_AUTH_FAILED);
}

static void
test_length_limits(void **state)
{
	char payload[HELP_TOKEN_MAX];
	char token[HELP_TOKEN_MAX];
	char header[HELP_TOKEN_MAX];
	int text_len = 0;
	int rc;
	int accepted = 0;

	(void)state;
	/* White space in front is JSON; grow across the limit. */
	for (int pad = 6000; pad < 6200; pad++) {
		text_len = snprintf(
		    payload, sizeof(payload), "%*s", pad, "{\"sub\":\"7\"}");
		help_input(HS256, payload, (size_t)text_len, token);
		help_sign_secret(token, NEW);
		rc = verify(fix.hs256, token);
		assert_int_equal(
		    rc, strlen(token) <= JWT_LEN_MAX ? 0 : ERR_AUTH_FAILED);
		accepted += rc == 0;
	}
	assert_in_range(accepted, 1, 199);
	snprintf(header, sizeof(header), "%*s", 1500, HS256);
	assert_int_equal(verify_header(header), 0);
	snprintf(header, sizeof(header), "%*s", 1600, HS256);
	assert_int_equal(verify_header(header), ERR_AUTH_FAILED);
}

/* RFC 8725 2.1, 3.1 */
static void
test_algorithms(void **state)
{
	static const char *const refused[] = {"{\"alg\":\"none\"}",
	    "{\"alg\":\"None\"}", "{\"alg\":\"NONE\"}", "{\"alg\":\"nOnE\"}",
	    "{\"alg\":\"\"}", "{\"alg\":null}", "{\"alg\":1}",
	    "{\"alg\":[\"HS256\"]}", "{\"alg\":\"hs256\"}",
	    "{\"alg\":\"HS256 \"}", "{\"alg\":\"HS256\\u0000\"}",
	    "{\"alg\":\"HS384\"}", "{\"alg\":\"HS512\"}", "{\"alg\":\"PS256\"}",
	    "{\"alg\":\"ES384\"}", "{}", "{\"typ\":\"JWT\"}",
	    "{\"Alg\":\"HS256\"}", NULL};
	static const char *const accepted[] = {HS256, "{\"alg\":\"HS256\"}",
	    "{\"typ\":\"at+jwt\",\"alg\":\"HS256\"}",
	    "{\"typ\":5,\"alg\":\"\\u0048S256\",\"kid\":\"../../etc\"}", NULL};

	(void)state;
	assert_each(verify_header, refused, ERR_AUTH_FAILED);
	assert_each(verify_header, accepted, 0);
}

static void
test_unsigned_token(void **state)
{
	char token[HELP_TOKEN_MAX];

	(void)state;
	help_input("{\"alg\":\"none\"}", "{\"sub\":\"7\"}", 11, token);
	assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
	strcat(token, ".");
	assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
}

static void
test_headers_that_bring_keys(void **state)
{
	static const char *const refused[] = {
	    "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
	    "{\"alg\":\"HS256\",\"crit\":[]}",
	    "{\"alg\":\"HS256\",\"crit\":null}",
	    "{\"alg\":\"HS256\",\"cr\\u0069t\":[\"b64\"],\"b64\":false}",
	    "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AAAA\"}}",
	    "{\"alg\":\"HS256\",\"jku\":\"https://example.com/keys\"}",
	    "{\"alg\":\"HS256\",\"x5u\":\"https://example.com/cert\"}",
	    "{\"alg\":\"HS256\",\"x5c\":[\"AAAA\"]}", NULL};

	(void)state;
	assert_each(verify_header, refused, ERR_AUTH_FAILED);
}

static void
test_headers_that_are_no_object(void **state)
{
	static const char *const refused[] = {" ", "null", "\"HS256\"",
	    "[\"alg\",\"HS256\"]", "{\"alg\":\"HS256\"", "{\"alg\":\"HS256\"}}",
	    "{\"alg\":\"HS256\"}{}", "{'alg':'HS256'}",
	    "{\"alg\":\"none\",\"alg\":\"HS256\"}",
	    "{\"alg\":\"HS256\",\"\\u0061lg\":\"HS256\"}",
	    "{\"alg\":\"HS256\",\"x\":\"\xff\"}", NULL};

	(void)state;
	assert_each(verify_header, refused, ERR_AUTH_FAILED);
}

/* The text of a public key, known to all, as the secret of an HS256 token. */
static void
test_public_key_as_secret(void **state)
{
	const char *const pems[] = {fix.rsa_pem, fix.ec_pem};
	char token[HELP_TOKEN_MAX];

	(void)state;
	for (int i = 0; i < 2; i++) {
		help_input(HS256, "{\"sub\":\"7\"}", 11, token);
		help_sign_secret(token, pems[i]);
		assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
		assert_int_equal(verify(fix.rs256, token), ERR_AUTH_FAILED);
	}
}

/* A right signature under the name of another algorithm. */
static void
test_mislabelled_algorithm(void **state)
{
	char token[HELP_TOKEN_MAX];

	(void)state;
	help_input(ES256, "{\"sub\":\"7\"}", 11, token);
	help_sign_key(token, fix.rsa[0]);
	assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
	help_input(RS256, "{\"sub\":\"7\"}", 11, token);
	help_sign_key(token, fix.ec[0]);
	assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
	help_input(RS256, "{\"sub\":\"7\"}", 11, token);
	help_sign_secret(token, NEW);
	assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
}

static void
test_no_keys_no_entry(void **state)
{
	struct jwt_verifier *none = help_verifier_new(
	    (struct conf_list){0}, (struct conf_list){0}, "", "");
	char token[HELP_TOKEN_MAX];

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		token_make(token, kind, 0);
		assert_int_equal(verify(none, token), ERR_AUTH_FAILED);
	}
	jwt_verifier_free(&none);
}

static void
test_stranger_keys(void **state)
{
	char token[HELP_TOKEN_MAX];
	EVP_PKEY *key = help_key_new(0);

	(void)state;
	help_input(ES256, "{\"sub\":\"7\"}", 11, token);
	help_sign_key(token, key);
	assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
	EVP_PKEY_free(key);
	help_input(HS256, "{\"sub\":\"7\"}", 11, token);
	help_sign_secret(token, "a secret of somebody else, long enough");
	assert_int_equal(verify(fix.all, token), ERR_AUTH_FAILED);
}

/* For people: no bound, a busy machine would fail it. */
static void
test_speed_is_told(void **state)
{
	static const char *const names[] = {"HS256", "RS256", "ES256"};
	enum { ROUNDS = 500 };
	char token[HELP_TOKEN_MAX];
	struct jwt_claims claims;
	struct timespec start;
	struct timespec end;
	const char *reason;
	int failed = 0;

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		token_make(token, kind, 0);
		clock_gettime(CLOCK_MONOTONIC, &start);
		for (int i = 0; i < ROUNDS; i++)
			failed += jwt_verify(fix.all, token, strlen(token),
				      NOW_MS, &claims, &reason) != 0;
		clock_gettime(CLOCK_MONOTONIC, &end);
		print_message("# %s: %.1f us\n", names[kind],
		    ((double)(end.tv_sec - start.tv_sec) * 1e9 +
			(double)(end.tv_nsec - start.tv_nsec)) /
			ROUNDS / 1e3);
	}
	assert_int_equal(failed, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sign_and_verify),
	    cmocka_unit_test(test_sign_refuses),
	    cmocka_unit_test(test_rotation),
	    cmocka_unit_test(test_every_truncation),
	    cmocka_unit_test(test_every_changed_byte),
	    cmocka_unit_test(test_wrong_forms),
	    cmocka_unit_test(test_length_limits),
	    cmocka_unit_test(test_algorithms),
	    cmocka_unit_test(test_unsigned_token),
	    cmocka_unit_test(test_headers_that_bring_keys),
	    cmocka_unit_test(test_headers_that_are_no_object),
	    cmocka_unit_test(test_public_key_as_secret),
	    cmocka_unit_test(test_mislabelled_algorithm),
	    cmocka_unit_test(test_no_keys_no_entry),
	    cmocka_unit_test(test_stranger_keys),
	    cmocka_unit_test(test_speed_is_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
