/*
 * jwt_claims.c - unit tests of the claims: what each may be, at its limits,
 * and that a token has one meaning only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/jwt.h"
#include "jwt_help.h"

#define NOW_S  1800000000LL
#define NOW_MS (NOW_S * 1000)
#define SECRET "a secret of forty characters, almost...."
#define HS256  "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

static struct {
	struct jwt_verifier *plain;
	struct jwt_verifier *strict; /* issuer and audience configured */
	const char *reason;          /* of the last refusal */
	struct jwt_claims claims;
} fix;

static struct jwt_verifier *
verifier_new(const char *issuer, const char *audience)
{
	char *secrets[1] = {(char *)SECRET};

	return help_verifier_new(
	    (struct conf_list){.items = secrets, .count = 1},
	    (struct conf_list){0}, issuer, audience);
}

static int
group_setup(void **state)
{
	(void)state;
	fix.plain = verifier_new("", "");
	fix.strict = verifier_new("issuer", "parley");
	return 0;
}

static int
group_teardown(void **state)
{
	(void)state;
	jwt_verifier_free(&fix.plain);
	jwt_verifier_free(&fix.strict);
	return 0;
}

static int
verify_with(struct jwt_verifier *verifier, const char *payload)
{
	char token[HELP_TOKEN_MAX];

	help_input(HS256, payload, strlen(payload), token);
	help_sign_secret(token, SECRET);
	return jwt_verify(
	    verifier, token, strlen(token), NOW_MS, &fix.claims, &fix.reason);
}

static int
verify(const char *payload)
{
	return verify_with(fix.plain, payload);
}

static int
verify_strict(const char *payload)
{
	return verify_with(fix.strict, payload);
}

static void
assert_each(
    int (*check)(const char *), const char *const *payloads, int expected)
{
	int rc;

	for (; *payloads != NULL; payloads++) {
		rc = check(*payloads);
		if (rc != expected)
			fail_msg("%s: %d, not %d", *payloads, rc, expected);
	}
}

static void
test_payload_forms(void **state)
{
	static const char *const refused[] = {"null", "7", "\"7\"",
	    "[{\"sub\":\"7\"}]", "{\"sub\":\"7\"", "{\"sub\":\"7\"}x",
	    "{\"sub\":\"7\"}{\"sub\":\"8\"}", "{'sub':'7'}", "{sub:7}",
	    "{\"sub\":\"7\",}", "/**/{\"sub\":\"7\"}",
	    "{\"sub\":\"7\",\"x\":\"\xc0\x80\"}",
	    "{\"sub\":\"7\",\"x\":\"\xed\xa0\x80\"}",
	    "{\"sub\":\"7\",\"x\":\"a\tb\"}", NULL};

	(void)state;
	assert_each(verify, refused, ERR_AUTH_FAILED);
	assert_int_equal(verify(" {\r\n\"sub\" :\t\"7\"} "), 0);
}

static void
test_duplicate_members(void **state)
{
	static const char *const refused[] = {"{\"sub\":\"7\",\"sub\":\"8\"}",
	    "{\"sub\":\"7\",\"sub\":\"7\"}", "{\"sub\":7,\"s\\u0075b\":8}",
	    "{\"sub\":7,\"sub\\u0000\":8}", "{\"sub\\u0000\":8}",
	    "{\"sub\":\"7\",\"x\":1,\"x\":{}}", NULL};
	/* What looks like members in strings and deeper ones is none. */
	static const char *const accepted[] = {
	    "{\"sub\":\"7\",\"x\":\"\\\"sub\\\":1,:\\\\\"}",
	    "{\"sub\":\"7\",\"x\":{\"sub\":\"8\"},\"y\":[{\"sub\":1}]}",
	    "{\"a:b{\":[\"}\"],\"sub\":\"7\"}", NULL};

	(void)state;
	assert_each(verify, refused, ERR_AUTH_FAILED);
	assert_each(verify, accepted, 0);
	assert_true(fix.claims.user_id == 7);
}

static void
test_sub(void **state)
{
	static const char *const refused[] = {"{}", "{\"sub\":null}",
	    "{\"sub\":\"\"}", "{\"sub\":\"0\"}", "{\"sub\":0}",
	    "{\"sub\":\"-7\"}", "{\"sub\":-7}", "{\"sub\":\"+7\"}",
	    "{\"sub\":\" 7\"}", "{\"sub\":\"7 \"}", "{\"sub\":\"07\"}",
	    "{\"sub\":\"0x7\"}", "{\"sub\":\"7.0\"}", "{\"sub\":7.0}",
	    "{\"sub\":7e0}", "{\"sub\":\"7\\u0000\"}", "{\"sub\":\"\\u0667\"}",
	    "{\"sub\":true}", "{\"sub\":[7]}", "{\"sub\":{}}",
	    "{\"sub\":\"alice\"}", "{\"sub\":9007199254740992}",
	    "{\"sub\":\"9007199254740992\"}", "{\"sub\":18446744073709551617}",
	    "{\"sub\":\"18446744073709551617\"}", "{\"Sub\":\"7\"}", NULL};

	(void)state;
	assert_each(verify, refused, ERR_AUTH_FAILED);
	assert_int_equal(verify("{\"sub\":1}"), 0);
	assert_true(fix.claims.user_id == 1);
	assert_int_equal(verify("{\"sub\":\"9007199254740991\"}"), 0);
	assert_true(fix.claims.user_id == 9007199254740991);
	assert_int_equal(verify("{\"sub\":9007199254740991}"), 0);
	assert_true(fix.claims.user_id == 9007199254740991);
}

static int
verify_time(const char *claim, const char *value)
{
	char payload[256];

	snprintf(payload, sizeof(payload), "{\"sub\":\"7\",\"%s\":%s}", claim,
	    value);
	return verify(payload);
}

static void
test_times_that_are_none(void **state)
{
	static const char *const values[] = {"null", "\"1800000100\"", "true",
	    "[]", "{}", "0", "-1", "0.5", "-0.5", "1e400", "-1e400",
	    "1800000100000", "253402300800", "9223372036854775808",
	    "99999999999999999999999999", "1e12", NULL};

	(void)state;
	for (size_t i = 0; values[i] != NULL; i++) {
		if (verify_time("exp", values[i]) != ERR_AUTH_FAILED ||
		    verify_time("nbf", values[i]) != ERR_AUTH_FAILED)
			fail_msg("accepted: %s", values[i]);
	}
}

static void
test_exp(void **state)
{
	(void)state;
	assert_int_equal(verify_time("exp", "1800000100"), 0);
	assert_true(fix.claims.expires_at_ms == NOW_MS + 100000);
	assert_int_equal(verify_time("exp", "1800000100.25"), 0);
	assert_true(fix.claims.expires_at_ms == NOW_MS + 100250);
	assert_int_equal(verify_time("exp", "18000001e2"), 0);
	assert_true(fix.claims.expires_at_ms == NOW_MS + 100000);
	assert_int_equal(verify_time("exp", "253402300799"), 0);
	/* RFC 7519 4.1.4: on or after it is too late; 60 s of leeway. */
	assert_int_equal(verify_time("exp", "1799999941"), 0);
	assert_int_equal(verify_time("exp", "1799999940.001"), 0);
	assert_int_equal(verify_time("exp", "1799999940"), ERR_TOKEN_EXPIRED);
	assert_true(fix.claims.expires_at_ms == 0);
	assert_int_equal(verify_time("exp", "1"), ERR_TOKEN_EXPIRED);
}

static void
test_nbf(void **state)
{
	(void)state;
	assert_int_equal(verify_time("nbf", "1"), 0);
	assert_int_equal(verify_time("nbf", "1800000060"), 0);
	assert_int_equal(verify_time("nbf", "1800000060.01"), ERR_AUTH_FAILED);
	assert_int_equal(verify_time("nbf", "1800000061"), ERR_AUTH_FAILED);
	assert_int_equal(verify_time("iat", "\"whenever\""), 0);
}

/* "Expired" promises that a fresh token would do: only for one that fits. */
static void
test_expired_is_said_last(void **state)
{
	char token[HELP_TOKEN_MAX];
	const char *payload = "{\"sub\":\"7\",\"exp\":1700000000}";

	(void)state;
	assert_int_equal(verify(payload), ERR_TOKEN_EXPIRED);
	help_input(HS256, payload, strlen(payload), token);
	help_sign_secret(token, "a secret of somebody else, long enough");
	assert_int_equal(jwt_verify(fix.plain, token, strlen(token), NOW_MS,
			     &fix.claims, &fix.reason),
	    ERR_AUTH_FAILED);
	assert_int_equal(
	    verify("{\"sub\":\"x\",\"exp\":1700000000}"), ERR_AUTH_FAILED);
	assert_int_equal(verify_strict(payload), ERR_AUTH_FAILED);
	assert_int_equal(
	    verify_strict("{\"sub\":\"7\",\"exp\":1700000000,"
			  "\"iss\":\"issuer\",\"aud\":\"parley\"}"),
	    ERR_TOKEN_EXPIRED);
}

static void
test_issuer(void **state)
{
	static const char *const refused[] = {
	    "{\"sub\":\"7\",\"aud\":\"parley\"}",
	    "{\"sub\":\"7\",\"aud\":\"parley\",\"iss\":\"\"}",
	    "{\"sub\":\"7\",\"aud\":\"parley\",\"iss\":null}",
	    "{\"sub\":\"7\",\"aud\":\"parley\",\"iss\":\"Issuer\"}",
	    "{\"sub\":\"7\",\"aud\":\"parley\",\"iss\":\"issue\"}",
	    "{\"sub\":\"7\",\"aud\":\"parley\",\"iss\":\"issuers\"}",
	    "{\"sub\":\"7\",\"aud\":\"parley\",\"iss\":\"issuer\\u0000\"}",
	    "{\"sub\":\"7\",\"aud\":\"parley\",\"iss\":[\"issuer\"]}", NULL};

	(void)state;
	assert_each(verify_strict, refused, ERR_AUTH_FAILED);
	assert_int_equal(verify_strict("{\"sub\":\"7\",\"aud\":\"parley\","
				       "\"iss\":\"issuer\"}"),
	    0);
	assert_int_equal(verify("{\"sub\":\"7\",\"iss\":\"anyone\"}"), 0);
}

static void
test_audience(void **state)
{
	static const char *const refused[] = {
	    "{\"sub\":\"7\",\"iss\":\"issuer\"}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":null}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":\"\"}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":\"parleys\"}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":[]}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":[\"a\",\"b\"]}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":[[\"parley\"]]}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":{\"parley\":1}}", NULL};
	static const char *const accepted[] = {
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":\"parley\"}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":[\"parley\"]}",
	    "{\"sub\":\"7\",\"iss\":\"issuer\",\"aud\":[\"a\",null,"
	    "\"parley\"]}",
	    NULL};
	char *token;

	(void)state;
	assert_each(verify_strict, refused, ERR_AUTH_FAILED);
	assert_each(verify_strict, accepted, 0);
	token =
	    jwt_sign_hs256(SECRET, 7, "Ann", "issuer", "parley", NOW_MS, 60);
	assert_non_null(token);
	assert_int_equal(jwt_verify(fix.strict, token, strlen(token), NOW_MS,
			     &fix.claims, &fix.reason),
	    0);
	free(token);
}

static void
test_name(void **state)
{
	static const char *const refused[] = {"{\"sub\":\"7\",\"name\":1}",
	    "{\"sub\":\"7\",\"name\":[\"Ann\"]}",
	    "{\"sub\":\"7\",\"name\":\"An\\u0000n\"}", NULL};

	(void)state;
	assert_each(verify, refused, ERR_AUTH_FAILED);
	assert_int_equal(verify("{\"sub\":\"7\",\"name\":null}"), 0);
	assert_string_equal(fix.claims.name, "");
	assert_int_equal(verify("{\"sub\":\"7\",\"name\":\"Zo\\u00eb\"}"), 0);
	assert_string_equal(fix.claims.name, "Zo\xc3\xab");
}

/* Characters of 1 to 4 bytes at every place before the cut. */
static void
test_long_names_lose_whole_characters(void **state)
{
	static const char *const characters[] = {
	    "x", "\xc3\xab", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
	char payload[512];
	char name[300];
	size_t size;
	size_t expected;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		size = strlen(characters[i]);
		for (size_t shift = 0; shift < 4; shift++) {
			memset(name, 'a', sizeof(name));
			for (size_t at = shift; at < 200; at += size)
				memcpy(name + at, characters[i], size);
			name[shift + (200 - shift) / size * size] = '\0';
			snprintf(payload, sizeof(payload),
			    "{\"sub\":\"7\",\"name\":\"%s\"}", name);
			assert_int_equal(verify(payload), 0);
			expected = shift + (JWT_NAME_MAX - shift) / size * size;
			assert_int_equal(strlen(fix.claims.name), expected);
			assert_memory_equal(fix.claims.name, name, expected);
		}
	}
	memset(name, 'n', JWT_NAME_MAX);
	name[JWT_NAME_MAX] = '\0';
	snprintf(
	    payload, sizeof(payload), "{\"sub\":\"7\",\"name\":\"%s\"}", name);
	assert_int_equal(verify(payload), 0);
	assert_string_equal(fix.claims.name, name);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_payload_forms),
	    cmocka_unit_test(test_duplicate_members),
	    cmocka_unit_test(test_sub),
	    cmocka_unit_test(test_times_that_are_none),
	    cmocka_unit_test(test_exp),
	    cmocka_unit_test(test_nbf),
	    cmocka_unit_test(test_expired_is_said_last),
	    cmocka_unit_test(test_issuer),
	    cmocka_unit_test(test_audience),
	    cmocka_unit_test(test_name),
	    cmocka_unit_test(test_long_names_lose_whole_characters),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
