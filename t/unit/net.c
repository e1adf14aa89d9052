/*
 * net.c - units of src/net with real sockets: upgrade, messages, closing.
 *
 * Role:    checks what a client sees and what the handlers are told.
 * Process: the test; client and server in one thread (net_client.h).
 * Blocks:  never for long; every wait has a deadline.
 * Trust:   not applicable.
 * See:     net_limits.c (deadlines and limits), ws_decode.c (frames).
 */
#include "net_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define FIN_TEXT  0x81
#define FIN_CLOSE 0x88
#define FIN_PING  0x89
#define FIN_PONG  0x8a

static void
open_default(struct rig *rig)
{
	struct net_conf conf = rig_conf();

	rig_open(rig, &conf);
	rig->is_echo = true;
}

static void
expect_frame(
    struct rig_client *client, int opcode, const void *data, size_t len)
{
	struct rig_frame frame;

	client_read_frame(client, &frame);
	assert_int_equal(frame.opcode, opcode);
	assert_false(frame.is_deflated);
	assert_int_equal(frame.payload.len, len);
	if (len > 0)
		assert_memory_equal(frame.payload.data, data, len);
	buf_fini(&frame.payload);
}

static void
test_echo_of_every_length_class(void **state)
{
	static const size_t lens[] = {0, 1, 7, 8, 9, 125, 126, 127, 65535,
	    65536, 65537, 200000, 1024 * 1024};
	static char text[1024 * 1024];
	struct rig rig;
	struct rig_client client;

	(void)state;
	open_default(&rig);
	client_open(&client, &rig);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		client_send_frame(&client, FIN_TEXT, text, lens[i]);
		expect_frame(&client, 1, text, lens[i]);
	}
	client_close(&client);
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.close_code, 1006);
	assert_int_equal(net_connection_count(rig.net), 0);
	rig_close(&rig);
}

static void
test_one_byte_at_a_time(void **state)
{
	static const char request[] = RIG_REQUEST;
	struct rig rig;
	struct rig_client client;
	struct buf out = {0};
	struct buf answer = {0};

	(void)state;
	open_default(&rig);
	client_connect(&client, &rig);
	for (size_t i = 0; i < strlen(RIG_REQUEST); i++) {
		client_send(&client, &request[i], 1);
		rig_turn(&rig);
		assert_int_equal(rig.opened, i + 1 == strlen(RIG_REQUEST));
	}
	client_read_answer(&client, &answer);
	client_frame(&out, 0x01, "gr\xc3", 3);
	client_frame(&out, FIN_PING, "p", 1);
	client_frame(&out, 0x00, "\xbc\xc3\x9f", 3);
	client_frame(&out, 0x80, "e", 1);
	for (size_t i = 0; i < out.len; i++) {
		client_send(&client, out.data + i, 1);
		rig_turn(&rig);
	}
	expect_frame(&client, 10, "p", 1);
	expect_frame(&client, 1,
	    "gr\xc3\xbc\xc3\x9f"
	    "e",
	    7);
	buf_fini(&out);
	buf_fini(&answer);
	client_close(&client);
	rig_close(&rig);
}

static void
test_many_in_one_segment(void **state)
{
	struct rig rig;
	struct rig_client client;
	struct buf out = {0};
	char text[16];

	(void)state;
	open_default(&rig);
	client_open(&client, &rig);
	for (int i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		client_frame(&out, FIN_TEXT, text, strlen(text));
	}
	client_send(&client, out.data, out.len);
	for (int i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		expect_frame(&client, 1, text, strlen(text));
	}
	buf_fini(&out);
	client_close(&client);
	rig_close(&rig);
}

static void
test_refusals_reach_the_client(void **state)
{
	static const struct {
		const char *request;
		const char *status;
	} cases[] = {
	    {"GET /other HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 404 "},
	    {"POST /ws HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 "},
	    {"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 "},
	    {"\x16\x03\x01 no text at all", "HTTP/1.1 400 "},
	    {"GET /ws HTTP/1.1\n", "HTTP/1.1 400 "},
	};
	struct rig rig;
	static char flood[20000];

	(void)state;
	open_default(&rig);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig_client client;
		struct buf answer = {0};

		client_connect(&client, &rig);
		client_send(
		    &client, cases[i].request, strlen(cases[i].request));
		client_read_answer(&client, &answer);
		assert_memory_equal(
		    answer.data, cases[i].status, strlen(cases[i].status));
		assert_non_null(strstr(answer.data, "Connection: close"));
		assert_false(client.is_reset);
		buf_fini(&answer);
		client_close(&client);
	}
	/* Much more than is read: still an answer and an orderly end. */
	struct rig_client client;
	struct buf answer = {0};
	memset(flood, 'x', sizeof(flood));
	client_connect(&client, &rig);
	client_send(&client, flood, sizeof(flood));
	client_read_answer(&client, &answer);
	assert_memory_equal(answer.data, "HTTP/1.1 431 ", 13);
	assert_false(client.is_reset);
	buf_fini(&answer);
	client_close(&client);
	assert_int_equal(rig.opened, 0);
	assert_int_equal(rig.closed, 0);
	rig_close(&rig);
}

static void
test_bearer_is_handed_over(void **state)
{
	static const char request[] =
	    "GET /ws?x=1 HTTP/1.1\r\n"
	    "Host: localhost\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	    "Sec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Protocol: chat, parley.v1\r\n"
	    "Sec-WebSocket-Extensions: permessage-deflate\r\n"
	    "Authorization: Bearer abc.def-1_2~3\r\n"
	    "\r\n";
	struct rig rig;
	struct rig_client client;
	struct buf answer = {0};

	(void)state;
	open_default(&rig);
	client_connect(&client, &rig);
	client_send(&client, request, strlen(request));
	client_read_answer(&client, &answer);
	assert_string_equal(rig.bearer, "abc.def-1_2~3");
	assert_string_equal(answer.data,
	    "HTTP/1.1 101 Switching Protocols\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	    "Sec-WebSocket-Protocol: parley.v1\r\n"
	    "\r\n");
	buf_fini(&answer);
	client_close(&client);
	rig_close(&rig);
}

static void
test_client_closes(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	open_default(&rig);
	client_open(&client, &rig);
	struct buf out = {0};
	client_frame(&out, FIN_TEXT, "last", 4);
	client_frame(&out, FIN_CLOSE,
	    "\x03\xe8"
	    "bye",
	    5);
	client_frame(&out, FIN_TEXT, "ignored", 7);
	client_send(&client, out.data, out.len);
	buf_fini(&out);
	expect_frame(&client, 1, "last", 4);
	expect_frame(&client, 8, "\x03\xe8", 2);
	assert_true(client_read_eof(&client)); /* the server closes first */
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.close_code, 1000);
	assert_int_equal(rig.texts, 1);
	client_close(&client);
	/* Without a code: answered without one. */
	client_open(&client, &rig);
	client_send_frame(&client, FIN_CLOSE, "", 0);
	expect_frame(&client, 8, "", 0);
	assert_true(client_read_eof(&client));
	rig_wait_int(&rig, &rig.closed, 2);
	assert_int_equal(rig.close_code, 1005);
	client_close(&client);
	rig_close(&rig);
}

static void
test_server_closes(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	open_default(&rig);
	client_open(&client, &rig);
	struct ws_conn *conn = rig.conn;
	assert_int_equal(ws_send_text(conn, "first", 5), 0);
	ws_conn_close(conn, 4003, "kicked");
	ws_conn_close(conn, 1000, "only the first counts");
	assert_int_equal(ws_send_text(conn, "late", 4), ERR_STALE);
	ws_send_reply(conn, "late", 4);
	expect_frame(&client, 1, "first", 5);
	expect_frame(&client, 8, "\x0f\xa3kicked", 8);
	/* What the client had under way is dropped, also a broken text. */
	client_send_frame(&client, FIN_TEXT, "under way", 9);
	client_send_frame(&client, FIN_TEXT, "\xff", 1);
	client_send_frame(&client, FIN_PING, "x", 1);
	client_send_frame(&client, FIN_CLOSE, "\x0f\xa3", 2);
	assert_true(client_read_eof(&client));
	assert_int_equal(client.in.len, 0);
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.close_code, 4003);
	assert_int_equal(rig.texts, 0);
	client_close(&client);
	rig_close(&rig);
}

static void
test_violations_get_their_code(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int code;
	} cases[] = {
	    {"\x81\x01x", 3, 1002},              /* not masked */
	    {"\xc1\x80\0\0\0\0", 6, 1002},       /* RSV1 */
	    {"\x83\x80\0\0\0\0", 6, 1002},       /* opcode 3 */
	    {"\x8b\x80\0\0\0\0", 6, 1002},       /* opcode 11 */
	    {"\x09\x80\0\0\0\0", 6, 1002},       /* fragmented ping */
	    {"\x89\xfe\0\x7e\0\0\0\0", 8, 1002}, /* long ping */
	    {"\x80\x80\0\0\0\0", 6, 1002},       /* lone continuation */
	    {"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, 1002},
	    {"\x81\xfe\0\x7d\0\0\0\0", 8, 1002}, /* not minimal */
	    {"\x81\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14, 1002},
	    {"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14, 1002},
	    {"\x82\x80\0\0\0\0", 6, 1003},                    /* binary */
	    {"\x81\xff\0\0\0\0\0\x10\0\1\0\0\0\0", 14, 1009}, /* max + 1 */
	    {"\x81\x82\0\0\0\0\xff", 7, 1007},                /* fails fast */
	    {"\x81\x81\0\0\0\0\xc3", 7, 1007},       /* half a character */
	    {"\x88\x81\0\0\0\0\3", 7, 1002},         /* half a code */
	    {"\x88\x82\0\0\0\0\3\xed", 8, 1002},     /* 1005 */
	    {"\x88\x83\0\0\0\0\3\xe8\xff", 9, 1007}, /* reason not UTF-8 */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig rig;
		struct rig_client client;

		open_default(&rig);
		client_open(&client, &rig);
		client_send(&client, cases[i].bytes, cases[i].len);
		assert_int_equal(client_read_close(&client), cases[i].code);
		assert_true(client_read_eof(&client));
		rig_wait_int(&rig, &rig.closed, 1);
		assert_int_equal(rig.close_code, cases[i].code);
		assert_int_equal(rig.texts, 0);
		client_close(&client);
		rig_close(&rig);
	}
}

static void
pause_after_text(struct rig *rig, struct ws_conn *conn, char *data, size_t len)
{
	(void)rig;
	(void)data;
	(void)len;
	ws_conn_pause(conn);
}

static void
test_pause_keeps_order(void **state)
{
	struct rig rig;
	struct rig_client client;
	struct buf out = {0};
	char text[16];

	(void)state;
	open_default(&rig);
	rig.on_text = pause_after_text;
	client_open(&client, &rig);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		client_frame(&out, FIN_TEXT, text, strlen(text));
	}
	client_send(&client, out.data, out.len);
	for (size_t i = 0; i < 1000; i++) {
		rig_wait_size(&rig, &rig.texts, i + 1);
		/* Paused: turns bring nothing. */
		if (i % 100 == 0) {
			rig_turn(&rig);
			rig_turn(&rig);
		}
		assert_int_equal(rig.texts, i + 1);
		ws_conn_resume(rig.conn);
		assert_int_equal(rig.texts, i + 1); /* not from within */
		snprintf(text, sizeof(text), "%zu", i);
		expect_frame(&client, 1, text, strlen(text));
	}
	buf_fini(&out);
	client_close(&client);
	rig_close(&rig);
}

static void
test_close_while_paused(void **state)
{
	struct rig rig;
	struct rig_client client;
	struct buf out = {0};

	(void)state;
	open_default(&rig);
	rig.on_text = pause_after_text;
	client_open(&client, &rig);
	client_frame(&out, FIN_TEXT, "a", 1);
	client_frame(&out, FIN_TEXT, "b", 1);
	client_frame(&out, FIN_CLOSE, "\x03\xe8", 2);
	client_send(&client, out.data, out.len);
	rig_wait_size(&rig, &rig.texts, 1);
	/* The peer's close waits in memory: it must be found there. */
	ws_conn_close(rig.conn, 1012, "restart");
	assert_int_equal(client_read_close(&client), 1012);
	assert_true(client_read_eof(&client));
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.texts, 1);
	assert_int_equal(rig.close_code, 1012);
	buf_fini(&out);
	client_close(&client);
	rig_close(&rig);
}

static void
abort_at_text(struct rig *rig, struct ws_conn *conn, char *data, size_t len)
{
	(void)rig;
	(void)len;
	if (data[0] == 'x')
		ws_conn_abort(conn);
	if (data[0] == 'c')
		ws_conn_close(conn, 1000, "");
}

static void
test_handler_ends_its_connection(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	open_default(&rig);
	rig.on_text = abort_at_text;
	for (int is_close = 0; is_close < 2; is_close++) {
		struct buf out = {0};
		size_t texts = rig.texts;

		client_open(&client, &rig);
		client_frame(&out, FIN_TEXT, "a", 1);
		/* In two fragments: the text lies in the decoder's memory. */
		client_frame(&out, 0x01, is_close ? "c" : "x", 1);
		client_frame(&out, 0x80, "yz", 2);
		client_frame(&out, FIN_TEXT, "never", 5);
		client_send(&client, out.data, out.len);
		rig_wait_size(&rig, &rig.texts, texts + 2);
		if (is_close) {
			assert_int_equal(client_read_close(&client), 1000);
			client_send_frame(&client, FIN_CLOSE, "\3\xe8", 2);
		}
		(void)client_read_eof(&client);
		rig_wait_int(&rig, &rig.closed, is_close + 1);
		assert_int_equal(rig.texts, texts + 2);
		assert_int_equal(rig.close_code, is_close ? 1000 : 1006);
		buf_fini(&out);
		client_close(&client);
	}
	rig_close(&rig);
}

static void
test_peer_name(void **state)
{
	struct rig rig;
	struct rig_client client;
	char name[64];

	(void)state;
	open_default(&rig);
	client_open(&client, &rig);
	ws_conn_peer(rig.conn, name);
	assert_memory_equal(name, "127.0.0.1:", 10);
	client_close(&client);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_echo_of_every_length_class),
	    cmocka_unit_test(test_one_byte_at_a_time),
	    cmocka_unit_test(test_many_in_one_segment),
	    cmocka_unit_test(test_refusals_reach_the_client),
	    cmocka_unit_test(test_bearer_is_handed_over),
	    cmocka_unit_test(test_client_closes),
	    cmocka_unit_test(test_server_closes),
	    cmocka_unit_test(test_violations_get_their_code),
	    cmocka_unit_test(test_pause_keeps_order),
	    cmocka_unit_test(test_close_while_paused),
	    cmocka_unit_test(test_handler_ends_its_connection),
	    cmocka_unit_test(test_peer_name),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
