/*
 * attachment.c - unit test of src/worker/attachment.c: what is let through,
 * and that nothing but that is written.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/records.h"
#include "worker/attachment.h"

static char *schemes[] = {(char *)"https", (char *)"ftp"};
static char *hosts[] = {(char *)"files.example.org", (char *)".example.net",
    (char *)"[2001:db8::1]"};

static const char *
read_text(const char *text, const struct conf *conf, struct buf *out)
{
	struct json_object *json;
	const char *fault;
	char error[100];

	assert_int_equal(
	    json_parse(text, strlen(text), &json, error, sizeof(error)), 0);
	buf_clear(out);
	fault = attachment_read(json, conf, out);
	json_free(&json);
	return fault;
}

/* @return does the fault name this member? "" for none at all */
static bool
is_fault(const struct conf *conf, const char *text, const char *member)
{
	struct buf out = {0};
	const char *fault = read_text(text, conf, &out);
	bool is_it = fault == NULL
			 ? member[0] == '\0'
			 : strncmp(fault, member, strlen(member)) == 0 &&
			       member[0] != '\0' && out.len == 0;

	if (!is_it)
		print_message("%s: %s\n", text, fault == NULL ? "-" : fault);
	buf_fini(&out);
	return is_it;
}

static bool
is_url(const struct conf *conf, const char *url)
{
	struct buf out = {0};
	char text[4096];
	bool is_it;

	snprintf(text, sizeof(text), "{\"Url\":\"%s\"}", url);
	is_it = read_text(text, conf, &out) == NULL;
	/* and it is written as it came */
	assert_true(!is_it || (out.len == strlen(text) &&
				  memcmp(out.data, text, out.len) == 0));
	buf_fini(&out);
	return is_it;
}

static void
urls_are_absolute_and_of_a_scheme_that_is_allowed(void **state)
{
	static const char *const good[] = {"https://a", "https://a/",
	    "https://a.example:8443/x/y;z?q=1&r=%20#f", "HTTPS://A/",
	    "ftp://a_b-c.d/e", "https://[::1]:80/x", "https://a?x",
	    "https://a#x", "https://192.0.2.1/~user/(x)!$&'*+,=:@",
	    "https://xn--bcher-kva.de/"};
	static const char *const bad[] = {"", "a", "/a", "//a/b",
	    "https:", "https:/a", "https://", "https:///a", "https://:80/",
	    "http://a/", "javascript:alert(1)", "javascript://a/%0aalert(1)",
	    "data:text/html,x", "file:///etc/passwd", "https//a", "://a/",
	    "https://user@a/", "https://user:pw@a/", "https://a\\\\@b/",
	    "https://a:0/", "https://a:65536/", "https://a:/", "https://a:x/",
	    "https://a b/", "https://a/ ", " https://a/", "https://a/<x>",
	    "https://a/\\\"", "https://a/%", "https://a/%2", "https://a/%zz",
	    "https://a/\\u0000", "https://a/\\n", "https://a/\\u007f",
	    "https://b\303\274cher.de/", /* octal: no digit too many */
	    "https://a/\xe2\x80\xae", "https://[::1/x", "https://[]/",
	    "https://a%2fb/", "httpsx://a/", "http", "ahttps://a/",
	    "https://a/`", "https://a/{b}", "https://a/|", "https://a/^"};
	struct conf conf = {.policy_attachment_schemes = {schemes, 2}};
	char url[2060];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!is_url(&conf, good[i]))
			fail_msg("refused: %s", good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (is_url(&conf, bad[i]))
			fail_msg("let through: %s", bad[i]);
	}
	memset(url, 'u', sizeof(url));
	memcpy(url, "https://a/", 10);
	url[ATTACHMENT_URL_MAX] = '\0';
	assert_true(is_url(&conf, url));
	url[ATTACHMENT_URL_MAX] = 'u';
	url[ATTACHMENT_URL_MAX + 1] = '\0';
	assert_false(is_url(&conf, url));
	conf.policy_attachment_schemes.count = 0;
	assert_false(is_url(&conf, "https://a/"));
}

static void
hosts_may_be_named(void **state)
{
	static const char *const good[] = {"https://files.example.org/x",
	    "https://FILES.example.org:8443", "https://a.example.net/",
	    "https://a.b.EXAMPLE.net?x", "https://[2001:db8::1]:1/"};
	static const char *const bad[] = {"https://example.org/",
	    "https://xfiles.example.org/", "https://files.example.org.evil/",
	    "https://example.net/", "https://.example.net/x@",
	    "https://evilexample.net/", "https://evil/files.example.org",
	    "https://evil?.example.net", "https://evil#.example.net",
	    "https://[2001:db8::2]/", "https://files.example.org./"};
	struct conf conf = {.policy_attachment_schemes = {schemes, 2},
	    .policy_attachment_hosts = {hosts, 3}};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!is_url(&conf, good[i]))
			fail_msg("refused: %s", good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (is_url(&conf, bad[i]))
			fail_msg("let through: %s", bad[i]);
	}
}

#define WITH(rest) "{\"Url\":\"https://a/\"," rest "}"

static void
the_rest_is_what_it_says(void **state)
{
	static const char *const good[] = {WITH("\"Name\":\"plan.pdf\""),
	    WITH("\"Name\":\"\xc3\xa9t\xc3\xa9 \\\"2\\\".txt\""),
	    WITH("\"MimeType\":\"application/pdf\""),
	    WITH("\"MimeType\":\"image/svg+xml\""),
	    WITH("\"MimeType\":\"text/plain; charset=utf-8\""),
	    WITH("\"MimeType\":\"a/b;c=\\\"d\\\"\""),
	    WITH("\"MimeType\":null,\"Name\":null,\"Size\":null"),
	    WITH("\"Size\":0"), WITH("\"Size\":9007199254740991")};
	static const char *const names[] = {"\"\"", "1", "\"a/b\"",
	    "\"..\\\\x\"", "\"a\\u0000\"", "\"a\\n\"", "\"\\u007f\"",
	    "\"\\u0080\"", "\"x\\u009f\"", "[]"};
	static const char *const types[] = {"\"\"", "\"pdf\"", "\"/\"",
	    "\"a/\"", "\"/b\"", "\"a/b/c\"", "\"a b/c\"", "\"a/b c\"",
	    "\"a/b;\\n\"", "\"a/b;\xc3\xa9\"", "\".a/b\"", "\"a/b,c\"",
	    "\"a/b\\u0000\"", "1"};
	static const char *const sizes[] = {
	    "-1", "1.5", "\"1\"", "9007199254740992", "true"};
	struct conf conf = {.policy_attachment_schemes = {schemes, 2}};
	char text[300];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(is_fault(&conf, good[i], ""));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(text, sizeof(text), WITH("\"Name\":%s"), names[i]);
		assert_true(is_fault(&conf, text, "Name: expected "));
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		snprintf(text, sizeof(text), WITH("\"MimeType\":%s"), types[i]);
		assert_true(is_fault(&conf, text, "MimeType: expected "));
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(text, sizeof(text), WITH("\"Size\":%s"), sizes[i]);
		assert_true(is_fault(&conf, text, "Size: expected "));
	}
	assert_true(is_fault(&conf, "{}", "Url: expected "));
	conf.policy_max_attachment_size = 1000;
	assert_true(is_fault(&conf, WITH("\"Size\":1000"), ""));
	assert_true(is_fault(&conf, WITH("\"Size\":1001"), "Size: expected "));
}

static void
what_it_does_not_know_is_dropped_and_the_largest_fits(void **state)
{
	struct conf conf = {.policy_attachment_schemes = {schemes, 2}};
	struct buf out = {0};
	char text[8000];
	char quotes[2 * ATTACHMENT_NAME_MAX + 1];
	char url[ATTACHMENT_URL_MAX + 1];

	(void)state;
	assert_null(read_text(WITH("\"Evil\":{\"a\":[1]},\"Size\":1,\"Size\":2,"
				   "\"Name\":\"n\",\"\":0"),
	    &conf, &out));
	buf_add_char(&out, '\0');
	assert_string_equal(
	    out.data, "{\"Url\":\"https://a/\",\"Name\":\"n\",\"Size\":2}");
	for (size_t i = 0; i < sizeof(quotes) - 1; i++)
		quotes[i] = i % 2 == 0 ? '\\' : '"';
	quotes[sizeof(quotes) - 1] = '\0';
	memset(url, 'u', sizeof(url));
	memcpy(url, "https://a/", 10);
	url[sizeof(url) - 1] = '\0';
	snprintf(text, sizeof(text),
	    "{\"Url\":\"%s\",\"Name\":\"%s\",\"MimeType\":\"m/m;%s\","
	    "\"Size\":9007199254740991}",
	    url, quotes, quotes + 2 * 4);
	assert_null(read_text(text, &conf, &out));
	assert_true(out.len <= ATTACHMENT_MAX);
	buf_fini(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(urls_are_absolute_and_of_a_scheme_that_is_allowed),
	    cmocka_unit_test(hosts_may_be_named),
	    cmocka_unit_test(the_rest_is_what_it_says),
	    cmocka_unit_test(
		what_it_does_not_know_is_dropped_and_the_largest_fits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
