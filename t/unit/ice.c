/*
 * ice.c - STUN and TURN servers for the ends of a call.
 *
 * Role:    credentials as another implementation makes them; names that say
 *          nothing about users; URLs at their limits.
 * Process: test.
 * Blocks:  never.
 * Trust:   -
 * See:     src/base/ice.c; t/33-turn.t (a real TURN server).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/ice.h"

#define DAY_MS INT64_C(86400000)
#define NOW_MS INT64_C(1795446726123)

/* Made with the modules hmac, hashlib and base64 of Python. */
static const struct {
	const char *secret;
	const char *username;
	const char *credential;
} vectors[] = {
    {"north-sea-north-sea", "1795446726:f00d0000cafe0001",
	"gUjA0psIehCBduCBV7NvZF5F3vM="},
    {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
	"0:a", "4ecCRynZaJxnq/O63j7bePidYJE="},
};

static void
credentials_are_those_of_another_implementation(void **state)
{
	char out[ICE_CREDENTIAL_LEN + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		ice_credential(vectors[i].secret, vectors[i].username, out);
		assert_string_equal(out, vectors[i].credential);
	}
}

static void
names_say_nothing_about_users(void **state)
{
	static const uint8_t key[16] = {1, 2, 3};
	static const uint8_t other_key[16] = {1, 2, 4};
	char name[ICE_NAME_LEN + 1];
	char again[ICE_NAME_LEN + 1];
	int64_t midnight_ms = NOW_MS - NOW_MS % DAY_MS;

	(void)state;
	ice_name(key, 17, midnight_ms, name);
	assert_int_equal(strlen(name), ICE_NAME_LEN);
	assert_int_equal(strspn(name, "0123456789abcdef"), ICE_NAME_LEN);
	ice_name(key, 17, midnight_ms + DAY_MS - 1, again);
	assert_string_equal(again, name); /* all day */
	ice_name(key, 17, midnight_ms + DAY_MS, again);
	assert_string_not_equal(again, name); /* not the next one */
	ice_name(key, 17, midnight_ms - 1, again);
	assert_string_not_equal(again, name);
	ice_name(key, 18, midnight_ms, again);
	assert_string_not_equal(again, name);
	ice_name(other_key, 17, midnight_ms, again);
	assert_string_not_equal(again, name);
}

static void
assert_servers(const struct conf *conf, const char *name, const char *expected)
{
	struct buf out = {0};

	ice_servers_put(&out, conf, name, NOW_MS);
	buf_add_char(&out, '\0');
	assert_string_equal(out.data, expected);
	buf_fini(&out);
}

static void
servers_are_what_browsers_take(void **state)
{
	char *stun[] = {"stun:a.example:3478"};
	char *turn[] = {"turn:a.example?transport=udp", "turns:a.example:5349"};
	char *secrets[] = {"north-sea-north-sea", "the-one-before-this"};
	struct conf conf = {.ice_turn_ttl = 3600 * 1000};

	(void)state;
	assert_servers(&conf, "abc", "[]");
	conf.ice_stun_urls = (struct conf_list){stun, 1};
	assert_servers(&conf, "abc", "[{\"urls\":[\"stun:a.example:3478\"]}]");
	/* without a secret there is nothing to offer */
	conf.ice_turn_urls = (struct conf_list){turn, 2};
	assert_servers(&conf, "abc", "[{\"urls\":[\"stun:a.example:3478\"]}]");
	conf.ice_turn_secret = (struct conf_list){secrets, 2};
	conf.ice_turn_ttl = 0;
	assert_servers(&conf, "f00d0000cafe0001",
	    "[{\"urls\":[\"stun:a.example:3478\"]},"
	    "{\"urls\":[\"turn:a.example?transport=udp\","
	    "\"turns:a.example:5349\"],"
	    "\"username\":\"1795446726:f00d0000cafe0001\","
	    "\"credential\":\"gUjA0psIehCBduCBV7NvZF5F3vM=\"}]");
}

static void
credentials_end_a_ttl_from_now(void **state)
{
	char *turn[] = {"turn:a.example"};
	char *secrets[] = {"north-sea-north-sea"};
	struct conf conf = {
	    .ice_turn_ttl = 12 * 3600 * INT64_C(1000),
	    .ice_turn_urls = {turn, 1},
	    .ice_turn_secret = {secrets, 1},
	};
	struct buf out = {0};

	(void)state;
	ice_servers_put(&out, &conf, "abc", NOW_MS);
	buf_add_char(&out, '\0');
	assert_non_null(strstr(out.data, "\"username\":\"1795489926:abc\""));
	buf_fini(&out);
	/* the longest there can be is not cut off */
	conf.ice_turn_ttl = INT64_MAX - NOW_MS;
	ice_servers_put(&out, &conf, "0123456789abcdef", NOW_MS);
	buf_add_char(&out, '\0');
	assert_non_null(
	    strstr(out.data, "9223372036854775:0123456789abcdef\""));
	buf_fini(&out);
}

static void
urls_are_those_of_the_rfcs(void **state)
{
	static const char *const good[] = {"a", "a.example", "a.example:1",
	    "a-b.example:65535", "192.0.2.1", "192.0.2.1:3478", "[2001:db8::1]",
	    "[::1]:3478"};
	static const char *const bad[] = {"", ":3478", "a:", "a:0", "a:65536",
	    "a:03478", "a:3478:1", "a:+1", "a:1 ", " a", "//a", "a/", "u@a",
	    "-a", ".a", "[]", "[::1", "[::1]3478", "[a.example]", "::1", "a?",
	    "a?transport=tls", "a?transport=", "a?transport=udp&x=1",
	    "a?Transport=udp", "a#x", "\xc3\xa4.example"};
	char url[80];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(url, sizeof(url), "stun:%s", good[i]);
		assert_true(ice_url_is_valid(url, ICE_STUN));
		assert_false(ice_url_is_valid(url, ICE_TURN));
		snprintf(url, sizeof(url), "turns:%s", good[i]);
		assert_true(ice_url_is_valid(url, ICE_TURN));
		assert_false(ice_url_is_valid(url, ICE_STUN));
		snprintf(url, sizeof(url), "turn:%s?transport=tcp", good[i]);
		assert_true(ice_url_is_valid(url, ICE_TURN));
		snprintf(url, sizeof(url), "stuns:%s?transport=udp", good[i]);
		assert_false(ice_url_is_valid(url, ICE_STUN));
		assert_false(ice_url_is_valid(good[i], ICE_STUN));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(url, sizeof(url), "turn:%s", bad[i]);
		if (ice_url_is_valid(url, ICE_TURN))
			fail_msg("accepted: %s", url);
	}
	assert_false(ice_url_is_valid("", ICE_STUN));
	assert_false(ice_url_is_valid("STUN:a", ICE_STUN));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(credentials_are_those_of_another_implementation),
	    cmocka_unit_test(names_say_nothing_about_users),
	    cmocka_unit_test(servers_are_what_browsers_take),
	    cmocka_unit_test(credentials_end_a_ttl_from_now),
	    cmocka_unit_test(urls_are_those_of_the_rfcs),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
