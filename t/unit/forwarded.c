/*
 * forwarded.c - units of src/net/forwarded.c: which of the addresses in
 * X-Forwarded-For is believed.
 */
#include "net/forwarded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/conn_peer.h"
#include "net/http_head.h"
#include "net/network.h"

static const char *const proxies[] = {"10.0.0.0/8", "2001:db8::/32"};

/* fields: header lines; expected: NULL when they are malformed. */
static void
check(const char *fields, const char *expected)
{
	struct conn_peer peer = {
	    .address = {10, 0, 0, 1}, .port = 4711, .family = AF_INET};
	struct networks trusted;
	struct http_head head;
	const char *why;
	char text[HTTP_HEAD_MAX];
	char peer_text[64];
	bool is_good;

	snprintf(text, sizeof(text), "GET /ws HTTP/1.1\r\nHost: a\r\n%s\r\n",
	    fields);
	assert_true(http_head_parse(text, strlen(text), &head, &why));
	networks_init(&trusted, proxies, 2);
	is_good = forwarded_find(&head, &trusted, &peer);
	networks_fini(&trusted);
	conn_peer_text(&peer, peer_text);
	if (is_good != (expected != NULL))
		fail_msg("%s: %s", fields, is_good ? peer_text : "malformed");
	assert_string_equal(
	    peer_text, expected != NULL ? expected : "10.0.0.1:4711");
}

static void
the_right_most_stranger_counts(void **state)
{
	static const struct {
		const char *fields;
		const char *expected;
	} cases[] = {
	    {"", "10.0.0.1:4711"},
	    {"X-Forwarded: 192.0.2.1\r\n", "10.0.0.1:4711"},
	    {"X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"},
	    {"x-forwarded-FOR: \t 192.0.2.1 \t\r\n", "192.0.2.1"},
	    {"X-Forwarded-For: 192.0.2.1:50000\r\n", "192.0.2.1:50000"},
	    {"X-Forwarded-For: 2001:DB9::1\r\n", "2001:db9::1"},
	    {"X-Forwarded-For: [2001:db9::1]\r\n", "2001:db9::1"},
	    {"X-Forwarded-For: [2001:db9::1]:443\r\n", "[2001:db9::1]:443"},
	    {"X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1"},
	    /* what a client has invented stands in front */
	    {"X-Forwarded-For: 198.51.100.7, 192.0.2.1\r\n", "192.0.2.1"},
	    {"X-Forwarded-For: 10.1.1.1, 192.0.2.1\r\n", "192.0.2.1"},
	    {"X-Forwarded-For: 192.0.2.1,10.2.2.2 ,10.3.3.3\r\n", "192.0.2.1"},
	    {"X-Forwarded-For: 192.0.2.1, 2001:db8::9\r\n", "192.0.2.1"},
	    {"X-Forwarded-For: rubbish, 192.0.2.1\r\n", "192.0.2.1"},
	    {"X-Forwarded-For: , 192.0.2.1\r\n", "192.0.2.1"},
	    /* only proxies: the one that has begun */
	    {"X-Forwarded-For: 10.9.9.9, 10.8.8.8\r\n", "10.9.9.9"},
	    /* several fields are one list */
	    {"X-Forwarded-For: 198.51.100.7\r\nA: b\r\n"
	     "X-Forwarded-For: 192.0.2.1\r\n",
		"192.0.2.1"},
	    {"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.2.2.2\r\n",
		"192.0.2.1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check(cases[i].fields, cases[i].expected);
}

static void
what_is_no_address_is_refused(void **state)
{
	static const char *const values[] = {"", ",", "192.0.2.1,",
	    "192.0.2.1, ", "rubbish", "unknown", "_hidden", "192.0.2",
	    "192.0.2.256", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:65536",
	    "192.0.2.1:1:1", "[192.0.2.1]", "[::1", "::1]", "[::1]x",
	    "[::1]:", "[::1]:65536", "[]", "[", "\"192.0.2.1\"",
	    "192.0.2.1 192.0.2.2", "192.0.2.1;192.0.2.2", "for=192.0.2.1",
	    "fe80::1%eth0", "rubbish, 10.2.2.2", ", 10.2.2.2",
	    "192.0.2.1,,10.2.2.2",
	    "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dd"};
	char field[256];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(
		    field, sizeof(field), "X-Forwarded-For: %s\r\n", values[i]);
		check(field, NULL);
	}
}

static void
a_long_list_is_read_from_its_end(void **state)
{
	char fields[HTTP_HEAD_MAX - 64] = "X-Forwarded-For: 192.0.2.1";

	(void)state;
	while (strlen(fields) + 16 < sizeof(fields))
		strcat(fields, ",10.2.2.2");
	strcat(fields, "\r\n");
	check(fields, "192.0.2.1");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_right_most_stranger_counts),
	    cmocka_unit_test(what_is_no_address_is_refused),
	    cmocka_unit_test(a_long_list_is_read_from_its_end),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
