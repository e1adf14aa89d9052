/*
 * origin.c - units of src/net/origin.c: which texts are origins, and which
 * are the same.
 */
#include "net/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
what_is_an_origin(void **state)
{
	static const char *const good[] = {"https://chat.example.org",
	    "http://localhost", "http://localhost:3334", "http://127.0.0.1:1",
	    "https://[::1]", "https://[2001:db8::1]:65535",
	    "capacitor://localhost", "HTTPS://Chat.Example.ORG",
	    "chrome-extension://abcdef"};
	static const char *const bad[] = {"", "*", "null", "https",
	    "https:", "https:/", "https://", "://host", "1http://host",
	    "https://host/", "https://host/path", "https://host?x",
	    "https://host#x", "https://user@host",
	    "https://host:", "https://host:0", "https://host:65536",
	    "https://host:100000", "https://host:80x", "https://host:-1",
	    "https://*.example.org", "https://[::1", "https://[]",
	    "https://[::1]x", "https://ho st", " https://host", "https://host ",
	    "https://h\xc3\xb6st", "chat.example.org"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(origin_is_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (origin_is_valid(bad[i]))
			fail_msg("\"%s\" is taken for an origin", bad[i]);
	}
}

static void
which_are_the_same(void **state)
{
	static const struct {
		const char *allowed;
		const char *given;
		bool is_same;
	} cases[] = {
	    {"https://a.example", "https://a.example", true},
	    {"https://A.example", "HTTPS://a.EXAMPLE", true},
	    {"https://a.example:443", "https://a.example", true},
	    {"https://a.example", "https://a.example:443", true},
	    {"http://a.example:80", "http://a.example", true},
	    {"http://a.example", "http://a.example:443", false},
	    {"https://a.example", "https://a.example:80", false},
	    {"https://a.example", "http://a.example", false},
	    {"https://a.example:8443", "https://a.example", false},
	    {"https://a.example", "https://a.example.evil.org", false},
	    {"https://a.example", "https://a.exampl", false},
	    {"https://a.example", "https://b.a.example", false},
	    {"https://a.example", "https://a.example/", false},
	    {"https://a.example", "null", false},
	    {"https://a.example", "", false},
	    {"http://[::80]", "http://[::80]", true},
	    {"x://h:80", "x://h", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (origin_is_same(cases[i].allowed, cases[i].given,
			strlen(cases[i].given)) != cases[i].is_same)
			fail_msg("%s and %s", cases[i].allowed, cases[i].given);
	}
	/* counted, not ended */
	assert_true(origin_is_same("http://a", "http://abc", 8));
	assert_false(origin_is_same("http://abc", "http://abc", 8));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_an_origin),
	    cmocka_unit_test(which_are_the_same),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
