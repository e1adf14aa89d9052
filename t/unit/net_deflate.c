/*
 * net_deflate.c - units of src/net with real sockets: permessage-deflate.
 *
 * Role:    what a client with compression sees: negotiation, mixed and
 *          fragmented messages of many connections, limits, and that a bomb
 *          slows its sender alone.
 * Process: the test; client and server in one thread (net_client.h).
 * Blocks:  never for long; every wait has a deadline.
 * Trust:   not applicable.
 * See:     ws_deflate.c (the compression itself), ws_offer.c (offers).
 */
#include "net_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/clock.h"
#include "net/net_priv.h"

#define FIN_TEXT  0x81
#define FIN_PING  0x89
#define RSV1      0x40
#define MIN_BYTES 100

#define OFFER(value)                                                           \
	"GET /ws HTTP/1.1\r\n"                                                 \
	"Host: localhost\r\n"                                                  \
	"Upgrade: websocket\r\n"                                               \
	"Connection: Upgrade\r\n"                                              \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                      \
	"Sec-WebSocket-Version: 13\r\n"                                        \
	"Sec-WebSocket-Extensions: " value "\r\n"                              \
	"\r\n"
#define PLAIN_OFFER OFFER("permessage-deflate")

static void
open_deflating(struct rig *rig, size_t max_message)
{
	struct net_conf conf = rig_conf();

	conf.may_deflate = true;
	conf.deflate_min_bytes = MIN_BYTES;
	conf.max_message_size = max_message;
	rig_open(rig, &conf);
	rig->is_echo = true;
}

static void
pack(struct buf *out, const char *text, size_t len)
{
	z_stream z = {0};
	size_t room = len + 1000;

	buf_clear(out);
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -15, 8, 0), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)text;
	z.avail_in = (uInt)len;
	z.next_out = (Bytef *)buf_reserve(out, room);
	z.avail_out = (uInt)room;
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	out->len = room - z.avail_out - 4;
	(void)deflateEnd(&z);
}

/* In two frames cut at `cut`, the second one fragment further on. */
static void
send_packed(struct rig_client *client, const char *text, size_t len, size_t cut)
{
	struct buf packed = {0};

	pack(&packed, text, len);
	if (cut >= packed.len) {
		client_send_frame(
		    client, FIN_TEXT | RSV1, packed.data, packed.len);
	} else {
		client_send_frame(client, 0x01 | RSV1, packed.data, cut);
		client_send_frame(
		    client, 0x80, packed.data + cut, packed.len - cut);
	}
	buf_fini(&packed);
}

static void
expect_text(struct rig_client *client, const char *text, size_t len)
{
	struct rig_frame frame;

	client_read_frame(client, &frame);
	assert_int_equal(frame.opcode, 1);
	if (!frame.is_deflated) {
		assert_int_equal(frame.payload.len, len);
		if (len > 0)
			assert_memory_equal(frame.payload.data, text, len);
	} else {
		z_stream z = {0};
		struct buf plain = {0};

		assert_true(frame.payload.len < len && len >= MIN_BYTES);
		buf_add(&frame.payload, "\0\0\xff\xff", 4);
		assert_int_equal(inflateInit2(&z, -15), Z_OK);
		z.next_in = (Bytef *)frame.payload.data;
		z.avail_in = (uInt)frame.payload.len;
		z.next_out = (Bytef *)buf_reserve(&plain, len + 1);
		z.avail_out = (uInt)len + 1;
		assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_OK);
		assert_int_equal(z.avail_in, 0);
		assert_int_equal(z.avail_out, 1);
		assert_memory_equal(plain.data, text, len);
		(void)inflateEnd(&z);
		buf_fini(&plain);
	}
	buf_fini(&frame.payload);
}

static void
test_off_is_off(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	struct buf answer = {0};

	(void)state;
	rig_open(&rig, &conf);
	client_open_with(&client, &rig, PLAIN_OFFER, &answer);
	assert_null(strstr(answer.data, "Extensions"));
	send_packed(&client, "hello", 5, SIZE_MAX);
	assert_int_equal(client_read_close(&client), 1002);
	buf_fini(&answer);
	client_close(&client);
	rig_close(&rig);
}

static void
test_without_an_offer(void **state)
{
	struct rig rig;
	struct rig_client client;
	static char text[1000];

	(void)state;
	open_deflating(&rig, 1024 * 1024);
	client_open(&client, &rig);
	memset(text, ' ', sizeof(text));
	client_send_frame(&client, FIN_TEXT, text, sizeof(text));
	struct rig_frame frame;
	client_read_frame(&client, &frame);
	assert_false(frame.is_deflated);
	assert_int_equal(frame.payload.len, sizeof(text));
	buf_fini(&frame.payload);
	send_packed(&client, "hello", 5, SIZE_MAX);
	assert_int_equal(client_read_close(&client), 1002);
	client_close(&client);
	rig_close(&rig);
}

static void
test_echo_of_many_lengths(void **state)
{
	static const size_t lens[] = {0, 1, 50, MIN_BYTES - 1, MIN_BYTES, 125,
	    126, 2000, 65535, 65536, 200000, 1024 * 1024};
	static char text[1024 * 1024];
	struct rig rig;
	struct rig_client client;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i * i / 7 % 26);
	open_deflating(&rig, sizeof(text));
	client_open_with(&client, &rig,
	    OFFER("permessage-deflate; server_max_window_bits=9"), NULL);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		/* One after the other: each kind next to the other kind. */
		send_packed(&client, text, lens[i], SIZE_MAX);
		expect_text(&client, text, lens[i]);
		client_send_frame(&client, FIN_TEXT, text, lens[i]);
		expect_text(&client, text, lens[i]);
		send_packed(&client, text, lens[i], 1);
		expect_text(&client, text, lens[i]);
		assert_int_equal(rig.texts, 3 * (i + 1));
	}
	client_close(&client);
	rig_close(&rig);
}

static void
test_short_texts_go_out_plain(void **state)
{
	static char text[MIN_BYTES];
	struct rig rig;
	struct rig_client client;
	struct rig_frame frame;

	(void)state;
	memset(text, ' ', sizeof(text));
	open_deflating(&rig, 1024 * 1024);
	client_open_with(&client, &rig, PLAIN_OFFER, NULL);
	for (size_t len = MIN_BYTES - 1; len <= MIN_BYTES; len++) {
		client_send_frame(&client, FIN_TEXT, text, len);
		client_read_frame(&client, &frame);
		assert_int_equal(frame.is_deflated, len == MIN_BYTES);
		buf_fini(&frame.payload);
	}
	client_close(&client);
	rig_close(&rig);
}

/* One state serves all: half messages of many connections do not mix. */
static void
test_connections_do_not_mix(void **state)
{
	enum { COUNT = 20 };
	struct rig rig;
	struct rig_client clients[COUNT];
	struct buf packed[COUNT] = {0};
	char text[COUNT][400];
	bool is_done = false;

	(void)state;
	open_deflating(&rig, 1024 * 1024);
	for (int i = 0; i < COUNT; i++) {
		for (size_t k = 0; k < sizeof(text[i]); k++)
			text[i][k] = (char)('a' + (k * (size_t)(i + 3)) % 23);
		client_open_with(&clients[i], &rig, PLAIN_OFFER, NULL);
		pack(&packed[i], text[i], sizeof(text[i]));
	}
	/* A frame of one byte from each in turn, with pings in between. */
	for (size_t at = 0; !is_done; at++) {
		is_done = true;
		for (int i = 0; i < COUNT; i++) {
			int first = at == 0 ? 0x01 | RSV1 : 0x00;

			if (at >= packed[i].len)
				continue;
			if (at + 1 == packed[i].len)
				first |= 0x80;
			client_send_frame(
			    &clients[i], first, packed[i].data + at, 1);
			is_done = false;
		}
		rig_turn(&rig);
	}
	for (int i = 0; i < COUNT; i++) {
		expect_text(&clients[i], text[i], sizeof(text[i]));
		client_close(&clients[i]);
		buf_fini(&packed[i]);
	}
	rig_close(&rig);
}

static void
test_a_byte_at_a_time(void **state)
{
	static const char text[] = "gr\xc3\xbc\xc3\x9f gr\xc3\xbc\xc3\x9f";
	struct rig rig;
	struct rig_client client;
	struct buf out = {0};
	struct buf packed = {0};

	(void)state;
	open_deflating(&rig, 1024 * 1024);
	client_open_with(&client, &rig, PLAIN_OFFER, NULL);
	pack(&packed, text, strlen(text));
	client_frame(&out, FIN_TEXT | RSV1, packed.data, packed.len);
	client_frame(&out, 0x01 | RSV1, packed.data, 3);
	client_frame(&out, FIN_PING, "p", 1);
	client_frame(&out, 0x80, packed.data + 3, packed.len - 3);
	for (size_t i = 0; i < out.len; i++) {
		client_send(&client, out.data + i, 1);
		rig_turn(&rig);
	}
	expect_text(&client, text, strlen(text));
	struct rig_frame frame;
	client_read_frame(&client, &frame);
	assert_int_equal(frame.opcode, 10);
	buf_fini(&frame.payload);
	expect_text(&client, text, strlen(text));
	buf_fini(&out);
	buf_fini(&packed);
	client_close(&client);
	rig_close(&rig);
}

static void
test_violations(void **state)
{
	static char spaces[70000];
	static const struct {
		int first;
		const char *data;
		size_t len;
		int code;
	} cases[] = {
	    {FIN_TEXT | RSV1, "", 0, 1007},
	    {FIN_TEXT | RSV1, "\x07", 1, 1007},
	    {FIN_TEXT | RSV1, "\xf2\x48\xcd", 3, 1007},
	    {FIN_TEXT | RSV1, "\x02\x01\x00\xfe\xff\xff\x00", 7, 1007},
	    {FIN_TEXT | RSV1 | 0x20, "\x00", 1, 1002},
	    {0x80 | RSV1, "\x00", 1, 1002},
	    {FIN_PING | RSV1, "", 0, 1002},
	    {0x82 | RSV1, "\x00", 1, 1003},
	};
	struct rig rig;
	struct rig_client client;

	(void)state;
	open_deflating(&rig, 60000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("# case %zu\n", i);
		client_open_with(&client, &rig, PLAIN_OFFER, NULL);
		client_send_frame(
		    &client, cases[i].first, cases[i].data, cases[i].len);
		assert_int_equal(client_read_close(&client), cases[i].code);
		assert_true(client_read_eof(&client));
		client_close(&client);
	}
	/* Too large once inflated; and on the wire, when announced. */
	memset(spaces, ' ', sizeof(spaces));
	client_open_with(&client, &rig, PLAIN_OFFER, NULL);
	send_packed(&client, spaces, 60000, SIZE_MAX);
	expect_text(&client, spaces, 60000);
	send_packed(&client, spaces, 60001, SIZE_MAX);
	assert_int_equal(client_read_close(&client), 1009);
	client_close(&client);
	client_open_with(&client, &rig, PLAIN_OFFER, NULL);
	client_send(&client, "\xc1\xfe\xea\x61mask", 8); /* 60001 */
	assert_int_equal(client_read_close(&client), 1009);
	client_close(&client);
	rig_wait_int(&rig, &rig.closed, 10);
	assert_int_equal(rig.texts, 1);
	rig_close(&rig);
}

/* What compressed texts cost is shared out by turns. */
static size_t bombs_at_answer;

static void
note_answer(struct rig *rig, struct ws_conn *conn, char *data, size_t len)
{
	(void)rig;
	(void)conn;
	if (len == 4 && memcmp(data, "fair", 4) == 0)
		bombs_at_answer = rig->texts - 1;
}

static void
test_bombs_slow_their_sender_alone(void **state)
{
	enum { BOMBS = 50, SIZE = 1024 * 1024 };
	static char spaces[SIZE];
	struct rig rig;
	struct rig_client bomber;
	struct rig_client other;
	struct buf packed = {0};
	struct buf out = {0};

	(void)state;
	open_deflating(&rig, SIZE);
	rig.is_echo = false;
	rig.on_text = note_answer;
	bombs_at_answer = SIZE_MAX;
	memset(spaces, ' ', sizeof(spaces));
	pack(&packed, spaces, sizeof(spaces));
	for (int i = 0; i < BOMBS; i++)
		client_frame(&out, FIN_TEXT | RSV1, packed.data, packed.len);
	assert_true(out.len < CONN_READ_MAX); /* all in one read */
	client_open_with(&bomber, &rig, PLAIN_OFFER, NULL);
	client_open(&other, &rig);
	client_send(&bomber, out.data, out.len);
	rig_wait_size(&rig, &rig.texts, 1);
	assert_int_equal(rig.texts, 1); /* one per turn at most */
	client_send_frame(&other, FIN_TEXT, "fair", 4);
	for (int turn = 0; turn < SIZE / (int)CONN_READ_MAX - 1; turn++)
		rig_turn(&rig);
	/* As long as 1 MiB takes others: nothing from this one meanwhile. */
	assert_int_equal(bombs_at_answer, 1);
	assert_int_equal(rig.texts, 2);
	rig_wait_size(&rig, &rig.texts, BOMBS + 1);
	/* Closing ends a rest. */
	client_send(&bomber, out.data, out.len);
	client_send_frame(&bomber, 0x88, "\x03\xe8", 2);
	rig_wait_size(&rig, &rig.texts, BOMBS + 2);
	ws_conn_close(LIST_FIRST(&rig.net->conns) == rig.conn
			  ? LIST_NEXT(rig.conn, all_link)
			  : LIST_FIRST(&rig.net->conns),
	    1012, "bye");
	assert_int_equal(client_read_close(&bomber), 1012);
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.texts, BOMBS + 2);
	buf_fini(&packed);
	buf_fini(&out);
	client_close(&bomber);
	client_close(&other);
	rig_close(&rig);
}

/* However many throw them, a turn inflates two bombs of first-time throwers. */
static void
test_bombs_of_many_share_a_turn(void **state)
{
	enum { BOMBERS = 20, SIZE = 1024 * 1024 };
	static char spaces[SIZE + 1];
	struct rig rig;
	struct rig_client bombers[BOMBERS];
	struct rig_client other;
	size_t before;

	(void)state;
	open_deflating(&rig, SIZE);
	rig.is_echo = false;
	memset(spaces, ' ', sizeof(spaces));
	for (int i = 0; i < BOMBERS; i++)
		client_open_with(&bombers[i], &rig, PLAIN_OFFER, NULL);
	client_open(&other, &rig);
	for (int i = 0; i < BOMBERS; i++)
		send_packed(&bombers[i], spaces, SIZE, SIZE_MAX);
	for (size_t i = 0; i < BOMBERS; i = rig.texts) {
		before = rig.texts;
		rig_turn(&rig);
		assert_true(rig.texts <= before + 2);
	}
	/* One that is refused has cost as much; a plain text waits for none.
	 * By now the throwers are known: one in each turn. */
	rig.on_text = note_answer;
	bombs_at_answer = SIZE_MAX;
	for (int i = 0; i < BOMBERS; i++)
		send_packed(&bombers[i], spaces, SIZE + 1, SIZE_MAX);
	client_send_frame(&other, FIN_TEXT, "fair", 4);
	for (int turn = 0; turn < 100 && rig.closed < BOMBERS; turn++) {
		int closed = rig.closed;

		rig_turn(&rig);
		assert_true(rig.closed <= closed + 1);
	}
	assert_int_equal(bombs_at_answer, BOMBERS);
	rig_wait_int(&rig, &rig.closed, BOMBERS);
	for (int i = 0; i < BOMBERS; i++) {
		assert_int_equal(client_read_close(&bombers[i]), 1009);
		client_close(&bombers[i]);
	}
	client_close(&other);
	rig_close(&rig);
}

/* Who has thrown one goes behind those who have not. */
static void
test_bombers_queue_behind_the_others(void **state)
{
	enum { BOMBERS = 40, SIZE = 1024 * 1024 };
	static char spaces[SIZE];
	struct rig rig;
	struct rig_client bombers[BOMBERS];
	struct rig_client other;

	(void)state;
	open_deflating(&rig, SIZE);
	rig.is_echo = false;
	memset(spaces, ' ', sizeof(spaces));
	for (int i = 0; i < BOMBERS; i++)
		client_open_with(&bombers[i], &rig, PLAIN_OFFER, NULL);
	client_open_with(&other, &rig, PLAIN_OFFER, NULL);
	for (int i = 0; i < 3 * BOMBERS; i++)
		send_packed(&bombers[i % BOMBERS], spaces, SIZE, SIZE_MAX);
	/* All have had one by then, and all have the next one waiting. */
	rig_wait_size(&rig, &rig.texts, BOMBERS + 1);
	rig.on_text = note_answer;
	for (int i = 0; i < 5; i++) {
		size_t before = rig.texts;

		bombs_at_answer = SIZE_MAX;
		send_packed(&other, "fair", 4, SIZE_MAX);
		rig_turn(&rig);
		rig_turn(&rig);
		assert_true(bombs_at_answer <= before + 2);
	}
	/* Nor does one bomber keep another waiting for good. */
	rig_wait_size(&rig, &rig.texts, 3 * BOMBERS + 5);
	for (int i = 0; i < BOMBERS; i++)
		client_close(&bombers[i]);
	client_close(&other);
	rig_wait_int(&rig, &rig.closed, BOMBERS + 1);
	rig_close(&rig);
}

static void
pause_on_text(struct rig *rig, struct ws_conn *conn, char *data, size_t len)
{
	(void)rig;
	(void)data;
	(void)len;
	ws_conn_pause(conn);
}

/* Whichever ends first, both must have ended before more is read. */
static void
test_a_rest_and_a_pause(void **state)
{
	static char spaces[300000];
	struct rig rig;
	struct rig_client client;

	(void)state;
	memset(spaces, ' ', sizeof(spaces));
	open_deflating(&rig, 1024 * 1024);
	rig.is_echo = false;
	rig.on_text = pause_on_text;
	client_open_with(&client, &rig, PLAIN_OFFER, NULL);
	for (int i = 0; i < 3; i++)
		send_packed(&client, spaces, sizeof(spaces), SIZE_MAX);
	rig_wait_size(&rig, &rig.texts, 1);
	ws_conn_resume(rig.conn); /* the rest is not over */
	rig_turn(&rig);
	assert_int_equal(rig.texts, 1);
	rig_wait_size(&rig, &rig.texts, 2);
	for (int turn = 0; turn < 20; turn++) /* now the pause is longer */
		rig_turn(&rig);
	assert_int_equal(rig.texts, 2);
	ws_conn_resume(rig.conn);
	rig_wait_size(&rig, &rig.texts, 3);
	/* The client goes while it rests. */
	client_close(&client);
	ws_conn_resume(rig.conn);
	rig_wait_int(&rig, &rig.closed, 1);
	rig_close(&rig);
}

/* Memory of an idle connection is what it was before compression. */
static void
test_a_connection_has_not_grown(void **state)
{
	(void)state;
	if (sizeof(void *) == 8)
		assert_true(sizeof(struct ws_conn) <= 456);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_off_is_off),
	    cmocka_unit_test(test_without_an_offer),
	    cmocka_unit_test(test_echo_of_many_lengths),
	    cmocka_unit_test(test_short_texts_go_out_plain),
	    cmocka_unit_test(test_connections_do_not_mix),
	    cmocka_unit_test(test_a_byte_at_a_time),
	    cmocka_unit_test(test_violations),
	    cmocka_unit_test(test_bombs_slow_their_sender_alone),
	    cmocka_unit_test(test_bombs_of_many_share_a_turn),
	    cmocka_unit_test(test_bombers_queue_behind_the_others),
	    cmocka_unit_test(test_a_rest_and_a_pause),
	    cmocka_unit_test(test_a_connection_has_not_grown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
