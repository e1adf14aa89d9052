/*
 * http_head.c - units of src/net/http_head.c.
 *
 * Role:    every split of good and bad heads, limits, fields and lists.
 * Process: the test.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     src/net/http_head.h.
 */
#include "net/http_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

static enum http_scan_result
scan_all(const char *data, size_t len, struct http_scan *scan)
{
	*scan = (struct http_scan){0};
	return http_scan_feed(scan, data, len);
}

/* In two pieces at every place, and byte by byte: always the same answer. */
static enum http_scan_result
scan_splits(const char *data, size_t len, size_t *at_out)
{
	struct http_scan whole;
	enum http_scan_result expected = scan_all(data, len, &whole);
	struct http_scan trickle = {0};
	enum http_scan_result result = HTTP_SCAN_MORE;

	for (size_t i = 1; i <= len && result == HTTP_SCAN_MORE; i++)
		result = http_scan_feed(&trickle, data, i);
	assert_int_equal(result, expected);
	assert_int_equal(trickle.at, whole.at);
	for (size_t cut = 0; cut <= len; cut++) {
		struct http_scan scan = {0};

		result = http_scan_feed(&scan, data, cut);
		if (result == HTTP_SCAN_MORE)
			result = http_scan_feed(&scan, data, len);
		assert_int_equal(result, expected);
		assert_int_equal(scan.at, whole.at);
	}
	*at_out = whole.at;
	return expected;
}

static void
test_scan_finds_the_end_at_every_split(void **state)
{
	static const char head[] = "GET /ws HTTP/1.1\r\n"
				   "Host: a\r\n"
				   "Empty:\r\n"
				   "Tab:\tx\xc3\xa4\r\n"
				   "\r\n";
	char more[256];
	size_t at;

	(void)state;
	assert_int_equal(scan_splits(head, strlen(head), &at), HTTP_SCAN_DONE);
	assert_int_equal(at, strlen(head));
	/* What follows is not looked at. */
	snprintf(more, sizeof(more), "%s\x81\x80 frames", head);
	assert_int_equal(scan_splits(more, strlen(more), &at), HTTP_SCAN_DONE);
	assert_int_equal(at, strlen(head));
	for (size_t len = 0; len < strlen(head); len++)
		assert_int_equal(scan_splits(head, len, &at), HTTP_SCAN_MORE);
}

static void
test_scan_refuses_what_is_malformed(void **state)
{
	static const char *const heads[] = {
	    "\r\nGET / HTTP/1.1\r\n",            /* empty line in front */
	    " GET / HTTP/1.1\r\n",               /* white space in front */
	    "GET / HTTP/1.1\n",                  /* bare LF */
	    "GET / HTTP/1.1\r\nA: b\n",          /* bare LF in a field */
	    "GET / HTTP/1.1\rX",                 /* bare CR */
	    "GET / HTTP/1.1\r\nA: b\r\n c\r\n",  /* obs-fold */
	    "GET / HTTP/1.1\r\nA: b\r\n\tc\r\n", /* obs-fold */
	    "GET / HTTP/1.1\r\n: b\r\n",         /* no name */
	    "GET / HTTP/1.1\r\nA: b\x01\r\n",    /* control character */
	    "GET / HTTP/1.1\r\nA: b\x7f\r\n",    /* DEL */
	    "GET / HTTP/1.1\r\nA: b\r\n\rX",     /* half an end */
	    "GET / HTTP/1.1\r\n\n",              /* bare LF as the end */
	    "\x16\x03\x01",                      /* TLS */
	};
	size_t at;

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		print_message("# head %zu\n", i);
		assert_int_equal(scan_splits(heads[i], strlen(heads[i]), &at),
		    HTTP_SCAN_MALFORMED);
	}
	struct http_scan scan;
	assert_int_equal(
	    scan_all("GET /\0 HTTP/1.1\r\n", 18, &scan), HTTP_SCAN_MALFORMED);
}

static void
make_head(struct buf *head, size_t lines, size_t total)
{
	static const char end[] = "\r\n\r\n";

	buf_add_str(head, "GET /ws HTTP/1.1\r\nHost: a");
	for (size_t i = 1; i < lines; i++)
		buf_add_str(head, "\r\nA: b");
	while (head->len + strlen(end) < total)
		buf_add_char(head, 'x');
	buf_add_str(head, end);
}

static void
test_scan_limits(void **state)
{
	static const struct {
		size_t lines;
		size_t total;
		enum http_scan_result result;
	} cases[] = {
	    {1, HTTP_HEAD_MAX, HTTP_SCAN_DONE},
	    {1, HTTP_HEAD_MAX + 1, HTTP_SCAN_TOO_LARGE},
	    {1, HTTP_HEAD_MAX + 60000, HTTP_SCAN_TOO_LARGE},
	    {HTTP_FIELDS_MAX, 0, HTTP_SCAN_DONE},
	    {HTTP_FIELDS_MAX + 1, 0, HTTP_SCAN_TOO_LARGE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf head = {0};
		struct http_scan whole;
		struct http_scan trickle = {0};
		enum http_scan_result result = HTTP_SCAN_MORE;

		make_head(&head, cases[i].lines, cases[i].total);
		assert_int_equal(
		    scan_all(head.data, head.len, &whole), cases[i].result);
		for (size_t n = 1; n <= head.len && result == HTTP_SCAN_MORE;
		     n++)
			result = http_scan_feed(&trickle, head.data, n);
		assert_int_equal(result, cases[i].result);
		if (result == HTTP_SCAN_DONE) {
			struct http_head parsed;
			const char *why;

			assert_true(http_head_parse(
			    head.data, head.len, &parsed, &why));
			assert_int_equal(parsed.field_count, cases[i].lines);
		}
		buf_fini(&head);
	}
}

static bool
parses(const char *text, struct http_head *head)
{
	const char *why = NULL;
	bool is_good = http_head_parse(text, strlen(text), head, &why);

	assert_non_null(why);
	return is_good;
}

static void
test_parse_names_the_parts(void **state)
{
	struct http_head head;

	(void)state;
	assert_true(parses("GET /ws?token=x HTTP/1.1\r\n"
			   "HOST:\t localhost:1 \t\r\n"
			   "X-A:\r\n"
			   "\r\n",
	    &head));
	assert_true(http_text_is(head.method, "GET"));
	assert_true(http_text_is(head.path, "/ws"));
	assert_true(http_text_is(head.target, "/ws?token=x"));
	assert_int_equal(head.minor_version, 1);
	assert_true(
	    http_text_is(http_head_value(&head, "host"), "localhost:1"));
	assert_true(http_text_is(http_head_value(&head, "x-a"), ""));
	assert_null(http_head_value(&head, "x-b").data);
	assert_int_equal(http_head_count(&head, "x-b"), 0);
	/* RFC 9112 3.2.2: a server takes the absolute form too. */
	assert_true(
	    parses("GET ws://h:1/ws?a HTTP/1.1\r\nHost: h:1\r\n\r\n", &head));
	assert_true(http_text_is(head.path, "/ws"));
	assert_true(parses("GET / HTTP/1.0\r\n\r\n", &head));
	assert_int_equal(head.minor_version, 0);
}

static void
test_parse_refuses(void **state)
{
	static const char *const heads[] = {
	    "GET /ws\r\nHost: a\r\n\r\n",
	    "GET  /ws HTTP/1.1\r\nHost: a\r\n\r\n",
	    "GET /ws HTTP/1.1 \r\nHost: a\r\n\r\n",
	    "GET /ws x HTTP/1.1\r\nHost: a\r\n\r\n",
	    "G(T /ws HTTP/1.1\r\nHost: a\r\n\r\n",
	    "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
	    "GET /ws HTTP/2.0\r\nHost: a\r\n\r\n",
	    "GET /ws http/1.1\r\nHost: a\r\n\r\n",
	    "GET /ws HTTP/1.1\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost:\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost: a b\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost: a/b\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost : a\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost: a\r\nA b: c\r\n\r\n",
	    "GET /ws HTTP/1.1\r\nHost: a\r\n",
	    "",
	};
	struct http_head head;

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		print_message("# head %zu\n", i);
		assert_false(parses(heads[i], &head));
	}
}

static void
test_lists_span_fields(void **state)
{
	struct http_head head;

	(void)state;
	assert_true(parses("GET / HTTP/1.1\r\n"
			   "Host: a\r\n"
			   "List: one,two ,\tthree\r\n"
			   "Other: five\r\n"
			   "LIST: ,, Four,\r\n"
			   "\r\n",
	    &head));
	assert_true(http_head_lists(&head, "list", "one", false));
	assert_true(http_head_lists(&head, "list", "two", false));
	assert_true(http_head_lists(&head, "list", "three", false));
	assert_true(http_head_lists(&head, "list", "four", true));
	assert_false(http_head_lists(&head, "list", "four", false));
	assert_false(http_head_lists(&head, "list", "thre", false));
	assert_false(http_head_lists(&head, "list", "threee", false));
	assert_false(http_head_lists(&head, "list", "five", false));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_scan_finds_the_end_at_every_split),
	    cmocka_unit_test(test_scan_refuses_what_is_malformed),
	    cmocka_unit_test(test_scan_limits),
	    cmocka_unit_test(test_parse_names_the_parts),
	    cmocka_unit_test(test_parse_refuses),
	    cmocka_unit_test(test_lists_span_fields),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
