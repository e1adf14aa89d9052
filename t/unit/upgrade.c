/*
 * upgrade.c - units of src/net/upgrade.c.
 *
 * Role:    which request is answered how (RFC 6455 4.2, RFC 9110).
 * Process: the test.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     src/net/upgrade.h, net.c (over sockets).
 */
#include "net/upgrade.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/buf.h"

#define LINE    "GET /ws HTTP/1.1\r\n"
#define HOST    "Host: a\r\n"
#define WISH    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define ALL     HOST WISH KEY VERSION

static const struct conn_peer somebody = {
    .address = {192, 0, 2, 1}, .port = 4711, .family = AF_INET};

static const struct upgrade_terms terms = {
    .path = "/ws",
    .subprotocol = "parley.v1",
};

static int
judge(const char *head, struct upgrade *upgrade)
{
	upgrade_judge(head, strlen(head), &terms, &somebody, upgrade);
	return upgrade->status;
}

/* Compared in t/unit/origin.c. */
static void
test_origins_that_are_allowed(void **state)
{
	static const char *const origins[] = {"https://a.example"};
	const struct upgrade_terms picky = {
	    .path = "/ws",
	    .origins = origins,
	    .origin_count = 1,
	};
	static const struct {
		const char *head;
		int status;
	} cases[] = {
	    {LINE ALL "\r\n", 101},
	    {LINE ALL "Origin: https://a.example\r\n\r\n", 101},
	    {LINE ALL "origin: https://A.example:443\r\n\r\n", 101},
	    {LINE ALL "Origin: https://b.example\r\n\r\n", 403},
	    {LINE ALL "Origin: null\r\n\r\n", 403},
	    {LINE ALL "Origin:\r\n\r\n", 403},
	    {LINE ALL "Origin: https://a.example\r\n"
		      "Origin: https://a.example\r\n\r\n",
		403},
	    {LINE HOST "Origin: https://b.example\r\n\r\n", 426},
	};
	struct upgrade upgrade;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		upgrade_judge(cases[i].head, strlen(cases[i].head), &picky,
		    &somebody, &upgrade);
		assert_int_equal(upgrade.status, cases[i].status);
		if (cases[i].status == 403)
			assert_int_equal(judge(cases[i].head, &upgrade), 101);
	}
}

static void
test_status_of_each_request(void **state)
{
	static const struct {
		const char *head;
		int status;
	} cases[] = {
	    {LINE ALL "\r\n", 101},
	    {"GET /ws?token=x HTTP/1.1\r\n" ALL "\r\n", 101},
	    {LINE HOST KEY VERSION "UPGRADE: h2c, WebSocket\r\n"
				   "connection: keep-alive, UPGRADE\r\n\r\n",
		101},
	    {LINE ALL "Content-Length: 0\r\n\r\n", 101},
	    {LINE ALL "Authorization: Basic eDp5\r\n\r\n", 101},
	    {"GET /ws/ HTTP/1.1\r\n" ALL "\r\n", 404},
	    {"GET / HTTP/1.1\r\n" ALL "\r\n", 404},
	    {"POST /x HTTP/1.1\r\n" ALL "\r\n", 404},
	    {"POST /ws HTTP/1.1\r\n" ALL "\r\n", 405},
	    {"POST /ws HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n", 405},
	    {"get /ws HTTP/1.1\r\n" ALL "\r\n", 405},
	    {"HEAD /ws HTTP/1.1\r\n" ALL "\r\n", 405},
	    {LINE HOST "\r\n", 426},
	    {LINE HOST KEY VERSION "Upgrade: websocket\r\n\r\n", 426},
	    {LINE HOST KEY VERSION "Connection: Upgrade\r\n\r\n", 426},
	    {LINE HOST KEY VERSION "Connection: Upgrade\r\n"
				   "Upgrade: h2c\r\n\r\n",
		426},
	    {LINE HOST WISH KEY "\r\n", 426},
	    {LINE HOST WISH KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426},
	    {LINE HOST WISH KEY "Sec-WebSocket-Version: 013\r\n\r\n", 426},
	    {"GET /ws HTTP/1.0\r\n" ALL "\r\n", 426},
	    {"GET /ws HTTP/1.2\r\n" ALL "\r\n", 400},
	    {LINE WISH KEY VERSION "\r\n", 400},
	    {LINE ALL VERSION "\r\n", 400},
	    {LINE ALL KEY "\r\n", 400},
	    {LINE ALL HOST "\r\n", 400},
	    {LINE HOST WISH VERSION "\r\n", 400},
	    {LINE HOST WISH VERSION "Sec-WebSocket-Key:\r\n\r\n", 400},
	    {LINE HOST WISH VERSION
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n",
		400},
	    {LINE HOST WISH VERSION
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n\r\n",
		400},
	    {LINE HOST WISH VERSION
		"Sec-WebSocket-Key: dGhl-HNhbXBsZSBub25jZQ==\r\n\r\n",
		400},
	    {LINE ALL "Content-Length: 1\r\n\r\n", 400},
	    {LINE ALL "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
	    {LINE ALL "Content-Length: +0\r\n\r\n", 400},
	    {LINE ALL "Transfer-Encoding: identity\r\n\r\n", 400},
	    {LINE ALL "Authorization: Bearer a\r\n"
		      "Authorization: Bearer a\r\n\r\n",
		400},
	    {LINE ALL "Authorization: Bearer\r\n\r\n", 400},
	    {LINE ALL "Authorization: Bearer a b\r\n\r\n", 400},
	};
	struct upgrade upgrade;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("# request %zu\n", i);
		assert_int_equal(
		    judge(cases[i].head, &upgrade), cases[i].status);
		assert_int_equal(
		    upgrade.why[0] == '\0', cases[i].status == 101);
	}
}

static void
test_accept_is_that_of_the_rfc(void **state)
{
	struct upgrade upgrade;

	(void)state;
	assert_int_equal(judge(LINE ALL "\r\n", &upgrade), 101);
	/* RFC 6455 1.3 */
	assert_string_equal(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void
test_subprotocol_only_when_offered(void **state)
{
	struct upgrade upgrade;
	struct buf out = {0};

	(void)state;
	judge(LINE ALL "\r\n", &upgrade);
	assert_false(upgrade.has_subprotocol);
	judge(LINE ALL "Sec-WebSocket-Protocol: parley.v2\r\n\r\n", &upgrade);
	assert_false(upgrade.has_subprotocol);
	upgrade_answer(&upgrade, &terms, &out);
	buf_add_char(&out, '\0');
	assert_null(strstr(out.data, "WebSocket-Protocol"));
	buf_clear(&out);
	judge(LINE ALL "Sec-WebSocket-Protocol: chat\r\n"
		       "Sec-WebSocket-Protocol: x , parley.v1\r\n"
		       "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
	    &upgrade);
	assert_true(upgrade.has_subprotocol);
	upgrade_answer(&upgrade, &terms, &out);
	buf_add_char(&out, '\0');
	assert_non_null(
	    strstr(out.data, "\r\nSec-WebSocket-Protocol: parley.v1\r\n"));
	assert_null(strstr(out.data, "deflate"));
	buf_fini(&out);
}

static void
test_compression_only_where_served(void **state)
{
	static const struct upgrade_terms deflating = {
	    .path = "/ws",
	    .may_deflate = true,
	};
	static const char offers[] =
	    LINE ALL "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
	static const char malformed[] =
	    LINE ALL "Sec-WebSocket-Extensions: permessage-deflate;\r\n\r\n";
	struct upgrade upgrade;
	struct buf out = {0};

	(void)state;
	assert_int_equal(judge(offers, &upgrade), 101);
	assert_int_equal(upgrade.offer.window_bits, 0);
	assert_int_equal(judge(malformed, &upgrade), 101);
	upgrade_judge(offers, strlen(offers), &deflating, &somebody, &upgrade);
	assert_int_equal(upgrade.status, 101);
	upgrade_answer(&upgrade, &deflating, &out);
	buf_add_char(&out, '\0');
	assert_non_null(strstr(out.data,
	    "\r\nSec-WebSocket-Extensions: permessage-deflate; "
	    "server_no_context_takeover; client_no_context_takeover\r\n\r\n"));
	buf_fini(&out);
	upgrade_judge(
	    malformed, strlen(malformed), &deflating, &somebody, &upgrade);
	assert_int_equal(upgrade.status, 400);
	assert_non_null(strstr(upgrade.why, "Sec-WebSocket-Extensions"));
}

static void
test_bearer(void **state)
{
	static const struct {
		const char *head;
		const char *token;
	} cases[] = {
	    {LINE ALL "\r\n", NULL},
	    {LINE ALL "Authorization: Basic eDp5\r\n\r\n", NULL},
	    {LINE ALL "Authorization: Bearerish\r\n\r\n", NULL},
	    {LINE ALL "Authorization: Bearer a.b-c\r\n\r\n", "a.b-c"},
	    {LINE ALL "authorization: bEARER   x== \r\n\r\n", "x=="},
	};
	struct upgrade upgrade;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(judge(cases[i].head, &upgrade), 101);
		if (cases[i].token == NULL)
			assert_null(upgrade.bearer.data);
		else
			assert_true(
			    http_text_is(upgrade.bearer, cases[i].token));
	}
}

static void
test_refusals_say_what_to_do(void **state)
{
	static const struct {
		int status;
		const char *field;
	} cases[] = {
	    {400, "HTTP/1.1 400 Bad Request\r\n"},
	    {404, "HTTP/1.1 404 Not Found\r\n"},
	    {405, "\r\nAllow: GET\r\n"},
	    {408, "HTTP/1.1 408 Request Timeout\r\n"},
	    {426, "\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"},
	    {431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
	    {503, "\r\nRetry-After: "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = {0};

		upgrade_refuse(cases[i].status, "do so", &out);
		buf_add_char(&out, '\0');
		assert_non_null(strstr(out.data, cases[i].field));
		assert_non_null(strstr(out.data, "\r\nConnection: close"));
		assert_non_null(
		    strstr(out.data, "\r\nContent-Type: text/plain"));
		assert_non_null(strstr(out.data, "\r\nContent-Length: 6\r\n"));
		assert_string_equal(
		    out.data + out.len - 1 - 10, "\r\n\r\ndo so\n");
		buf_fini(&out);
	}
}

static void
test_no_body_for_head(void **state)
{
	struct upgrade upgrade;
	struct buf out = {0};

	(void)state;
	assert_int_equal(
	    judge("HEAD /ws HTTP/1.1\r\n" ALL "\r\n", &upgrade), 405);
	upgrade_answer(&upgrade, &terms, &out);
	assert_memory_equal(out.data + out.len - 4, "\r\n\r\n", 4);
	buf_fini(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_status_of_each_request),
	    cmocka_unit_test(test_origins_that_are_allowed),
	    cmocka_unit_test(test_accept_is_that_of_the_rfc),
	    cmocka_unit_test(test_subprotocol_only_when_offered),
	    cmocka_unit_test(test_compression_only_where_served),
	    cmocka_unit_test(test_bearer),
	    cmocka_unit_test(test_refusals_say_what_to_do),
	    cmocka_unit_test(test_no_body_for_head),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
