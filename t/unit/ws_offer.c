/*
 * ws_offer.c - units of src/net/ws_offer.c.
 *
 * Role:    every form of an offer of permessage-deflate and what is answered.
 * Process: the test.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     RFC 7692 7.1, RFC 6455 9.1.
 */
#include "net/ws_offer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/http_head.h"

#define OURS                                                                   \
	"permessage-deflate; server_no_context_takeover; "                     \
	"client_no_context_takeover"

/* The value of the answer, "" when none, NULL when the offer is malformed. */
static const char *
answer_to(const char *const *values, size_t count, struct buf *out)
{
	static const char name[] = "sec-websocket-extensions";
	static const char prefix[] = "Sec-WebSocket-Extensions: ";
	struct http_head head = {.field_count = count};
	struct ws_offer offer;

	for (size_t i = 0; i < count; i++)
		head.fields[i] = (struct http_field){
		    {name, strlen(name)}, {values[i], strlen(values[i])}};
	buf_clear(out);
	if (!ws_offer_choose(&head, &offer))
		return NULL;
	ws_offer_answer(&offer, out);
	if (out->len == 0)
		return "";
	assert_memory_equal(out->data, prefix, strlen(prefix));
	assert_memory_equal(out->data + out->len - 2, "\r\n", 2);
	out->data[out->len - 2] = '\0';
	return out->data + strlen(prefix);
}

static void
expect_answer(const char *value, const char *answer)
{
	struct buf out = {0};
	const char *got = answer_to(&value, 1, &out);

	print_message("# %s\n", value);
	if (answer == NULL)
		assert_null(got);
	else
		assert_string_equal(got == NULL ? "(malformed)" : got, answer);
	buf_fini(&out);
}

static void
test_offers_that_are_taken(void **state)
{
	static const char *const offers[] = {
	    "permessage-deflate",
	    "PerMessage-Deflate",
	    "permessage-deflate; client_max_window_bits",
	    "permessage-deflate;client_max_window_bits=8",
	    "permessage-deflate ; client_max_window_bits = 15",
	    "permessage-deflate; CLIENT_NO_CONTEXT_TAKEOVER",
	    ("permessage-deflate; server_no_context_takeover; "
	     "client_no_context_takeover; client_max_window_bits=\"10\""),
	    "x-webkit-deflate-frame, permessage-deflate",
	    "foo; bar=\"a\\b\"; baz, permessage-deflate",
	    ", ,permessage-deflate,,",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
		expect_answer(offers[i], OURS);
}

static void
test_window_limits(void **state)
{
	static const struct {
		const char *value;
		int bits; /* 0: declined */
	} cases[] = {
	    {"8", 0}, /* zlib would use 9 */
	    {"9", 9},
	    {"10", 10},
	    {"11", 11},
	    {"12", 12},
	    {"13", 12}, /* less than asked for is always right */
	    {"15", 12},
	    {"\"11\"", 11},
	    {"\"1\\1\"", 0},
	    {"7", 0},
	    {"16", 0},
	    {"0", 0},
	    {"08", 0},
	    {"09", 0},
	    {"010", 0},
	    {"100", 0},
	    {"1", 0},
	    {"9x", 0},
	    {"-9", 0},
	    {"+12", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char offer[100];
		char answer[200] = "";

		snprintf(offer, sizeof(offer),
		    "permessage-deflate; server_max_window_bits=%s",
		    cases[i].value);
		if (cases[i].bits != 0)
			snprintf(answer, sizeof(answer),
			    OURS "; server_max_window_bits=%d", cases[i].bits);
		expect_answer(offer, answer);
	}
}

static void
test_offers_that_are_declined(void **state)
{
	static const char *const offers[] = {
	    "",
	    " , ",
	    "permessage-bzip2",
	    "permessage-deflat",
	    "permessage-deflate; unknown",
	    "permessage-deflate; unknown=1",
	    "permessage-deflate; server_max_window_bits",
	    "permessage-deflate; client_max_window_bits=7",
	    "permessage-deflate; client_max_window_bits=16",
	    "permessage-deflate; client_max_window_bits=08",
	    "permessage-deflate; client_max_window_bits=x",
	    "permessage-deflate; client_no_context_takeover=1",
	    "permessage-deflate; server_no_context_takeover=true",
	    ("permessage-deflate; client_max_window_bits; "
	     "client_max_window_bits=10"),
	    ("permessage-deflate; server_max_window_bits=10; "
	     "server_max_window_bits=10"),
	    ("permessage-deflate; server_no_context_takeover; "
	     "server_no_context_takeover"),
	    ("permessage-deflate; client_no_context_takeover; "
	     "Client_No_Context_Takeover"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
		expect_answer(offers[i], "");
}

/* Each is considered by itself; the first that can be met is taken. */
static void
test_alternatives(void **state)
{
	(void)state;
	expect_answer("permessage-deflate; server_max_window_bits=8, "
		      "permessage-deflate; server_max_window_bits=10, "
		      "permessage-deflate",
	    OURS "; server_max_window_bits=10");
	expect_answer("permessage-deflate; future, permessage-deflate", OURS);
	expect_answer("permessage-deflate, "
		      "permessage-deflate; server_max_window_bits=10",
	    OURS);
	/* Across header lines, in their order. */
	static const char *const lines[] = {"foo",
	    "permessage-deflate; server_max_window_bits=8",
	    "permessage-deflate; server_max_window_bits=9",
	    "permessage-deflate"};
	struct buf out = {0};
	assert_string_equal(
	    answer_to(lines, 4, &out), OURS "; server_max_window_bits=9");
	assert_string_equal(answer_to(lines, 2, &out), "");
	assert_string_equal(answer_to(lines, 0, &out), "");
	buf_fini(&out);
}

static void
test_malformed_lists(void **state)
{
	static const char *const offers[] = {
	    "permessage-deflate;",
	    "permessage-deflate; ;client_max_window_bits",
	    "permessage-deflate; client_max_window_bits=",
	    "permessage-deflate; client_max_window_bits==9",
	    "permessage-deflate; client_max_window_bits=\"",
	    "permessage-deflate; client_max_window_bits=\"9",
	    "permessage-deflate; client_max_window_bits=\"\"",
	    "permessage-deflate; client_max_window_bits=\"9\\",
	    "permessage-deflate; client_max_window_bits=\"9 \"",
	    "permessage-deflate; client_max_window_bits=\"9\"9",
	    "permessage-deflate; =9",
	    "permessage-deflate client_max_window_bits",
	    "permessage-deflate=1",
	    "; client_max_window_bits",
	    "permessage-deflate, @",
	    "permessage-deflate/1",
	    "\"permessage-deflate\"",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
		expect_answer(offers[i], NULL);
	/* A good one before or after it changes nothing. */
	static const char *const lines[] = {"permessage-deflate", "foo;"};
	struct buf out = {0};
	assert_null(answer_to(lines, 2, &out));
	buf_fini(&out);
}

/* Whatever is cut off: an answer or a refusal, never a look beyond the end. */
static void
test_every_prefix(void **state)
{
	static const char whole[] = "a; b=\"c\\d\", permessage-deflate; "
				    "server_max_window_bits=\"10\"; "
				    "client_max_window_bits, x";

	(void)state;
	for (size_t len = 0; len < sizeof(whole); len++) {
		struct buf exact = {0};
		struct buf out = {0};
		struct http_head head = {.field_count = 1};
		struct ws_offer offer;
		size_t at = strstr(whole, "ate;") + 3 - whole;

		memcpy(buf_reserve(&exact, len + 1), whole, len);
		head.fields[0] = (struct http_field){
		    {"Sec-WebSocket-Extensions", 24}, {exact.data, len}};
		if (ws_offer_choose(&head, &offer) && len < at)
			assert_int_equal(offer.window_bits, 0);
		buf_fini(&exact);
		buf_fini(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_offers_that_are_taken),
	    cmocka_unit_test(test_window_limits),
	    cmocka_unit_test(test_offers_that_are_declined),
	    cmocka_unit_test(test_alternatives),
	    cmocka_unit_test(test_malformed_lists),
	    cmocka_unit_test(test_every_prefix),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
