/*
 * net_move.c - units of src/net/ws_move.c: what the owner of a shared
 * connection is told, and that it lives on elsewhere.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "net_client.h"

#define FIN_TEXT  0x81
#define FIN_PING  0x89
#define FIN_CLOSE 0x88

static void
open_shared(struct rig *rig, struct rig_client *client)
{
	struct net_conf conf = rig_conf();

	rig_open(rig, &conf);
	rig->is_echo = true;
	client_open(client, rig);
	assert_true(ws_conn_may_move(rig->conn));
	ws_conn_share(rig->conn);
	rig_turn(rig);
	assert_string_equal(rig->motions, "s");
	assert_true(ws_conn_is_whole(rig->conn));
	memset(rig->motions, 0, sizeof(rig->motions));
}

static void
expect_text(struct rig_client *client, const char *text)
{
	struct rig_frame frame;

	client_read_frame(client, &frame);
	assert_int_equal(frame.opcode, 1);
	assert_int_equal(frame.payload.len, strlen(text));
	assert_memory_equal(frame.payload.data, text, strlen(text));
	buf_fini(&frame.payload);
}

static void
every_motion_is_told_before_it_settles(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	open_shared(&rig, &client);
	client_send_frame(&client, FIN_TEXT, "hello", 5);
	expect_text(&client, "hello");
	assert_string_equal(rig.motions, "iows");
	assert_true(ws_conn_is_whole(rig.conn));
	/* nothing moves: nothing is said */
	rig_turn(&rig);
	assert_string_equal(rig.motions, "iows");
	client_close(&client);
	rig_wait_int(&rig, &rig.closed, 1);
	rig_close(&rig);
}

static void
half_of_anything_is_not_whole(void **state)
{
	static const char *const texts[] = {"whole", "in two"};
	struct rig rig;
	struct rig_client client;
	struct buf out = {0};

	(void)state;
	open_shared(&rig, &client);
	/* at every byte of a frame, and between two frames of a message */
	client_frame(&out, 0x01, texts[0], strlen(texts[0]));
	client_frame(&out, 0x80, texts[1], strlen(texts[1]));
	for (size_t i = 0; i < out.len; i++) {
		size_t texts_before = rig.texts;

		client_send(&client, out.data + i, 1);
		memset(rig.motions, 0, sizeof(rig.motions));
		while (strchr(rig.motions, 's') == NULL)
			rig_turn(&rig);
		assert_int_equal(rig.motions[0], 'i');
		assert_int_equal(ws_conn_is_whole(rig.conn), i + 1 == out.len);
		assert_int_equal(rig.texts, texts_before + (i + 1 == out.len));
	}
	buf_fini(&out);
	expect_text(&client, "wholein two");
	client_close(&client);
	rig_wait_int(&rig, &rig.closed, 1);
	rig_close(&rig);
}

static void
output_that_is_not_out_is_not_whole(void **state)
{
	static char text[64 * 1024];
	struct rig rig;
	struct rig_client client;
	size_t sent = 0;

	(void)state;
	open_shared(&rig, &client);
	memset(text, 'x', sizeof(text));
	/* the client does not read: at last the socket is full */
	while (ws_send_text(rig.conn, text, sizeof(text)) == 0) {
		sent++;
		rig_turn(&rig);
	}
	memset(rig.motions, 0, sizeof(rig.motions));
	rig_turn(&rig);
	assert_false(ws_conn_is_whole(rig.conn));
	assert_null(strchr(rig.motions, 'w'));
	for (size_t i = 0; i < sent; i++) {
		struct rig_frame frame;

		client_read_frame(&client, &frame);
		assert_int_equal(frame.payload.len, sizeof(text));
		buf_fini(&frame.payload);
	}
	rig_turn(&rig);
	assert_true(ws_conn_is_whole(rig.conn));
	assert_non_null(strchr(rig.motions, 'w'));
	client_close(&client);
	rig_wait_int(&rig, &rig.closed, 1);
	rig_close(&rig);
}

static void
it_goes_on_where_it_was_left(void **state)
{
	struct rig rig;
	struct rig next;
	struct rig_client client;
	struct net_conf conf = rig_conf();
	struct ws_carry carry;
	char before[64];
	char after[64];
	int fd;

	(void)state;
	open_shared(&rig, &client);
	client_send_frame(&client, FIN_TEXT, "one", 3);
	expect_text(&client, "one");
	ws_conn_peer(rig.conn, before);
	ws_conn_carry(rig.conn, &carry);
	fd = dup(ws_conn_fd(rig.conn));
	ws_conn_leave(rig.conn);
	rig_turn(&rig);
	assert_int_equal(rig.closed, 0); /* it is not, for the client */
	assert_int_equal(net_connection_count(rig.net), 0);
	client_send_frame(&client, FIN_TEXT, "two", 3);
	rig_open(&next, &conf);
	next.is_echo = true;
	next.conn = net_adopt(next.net, fd, &carry);
	ws_conn_share(next.conn);
	next.opened = 1; /* closed_fn will be called */
	client.rig = &next;
	expect_text(&client, "two");
	client_send_frame(&client, FIN_PING, "", 0);
	client_send_frame(&client, FIN_TEXT, "three", 5);
	{
		struct rig_frame frame;

		/* a pong may overtake the echo of what came behind it */
		for (int i = 0; i < 2; i++) {
			client_read_frame(&client, &frame);
			assert_true(frame.opcode == 10 || frame.opcode == 1);
			buf_fini(&frame.payload);
		}
	}
	assert_string_equal(ws_conn_peer(next.conn, after), before);
	rig.opened = 0; /* nobody was told of its end */
	rig_close(&rig);
	client_close(&client);
	rig_wait_int(&next, &next.closed, 1);
	rig_close(&next);
}

static void
closing_a_shared_one_ends_it_for_all(void **state)
{
	struct rig rig;
	struct rig_client client;
	int fd;

	(void)state;
	open_shared(&rig, &client);
	fd = dup(ws_conn_fd(rig.conn)); /* the other process' */
	ws_conn_abort(rig.conn);
	rig_turn(&rig);
	assert_true(client_read_eof(&client));
	close(fd);
	client_close(&client);
	rig_close(&rig);
}

/* Marked as whole again, a successor would close it once more. */
static void
after_a_close_frame_nothing_is_whole(void **state)
{
	static const char code[] = {0x03, (char)0xe8};
	struct rig rig;
	struct rig_client client;
	struct rig_frame frame;

	(void)state;
	open_shared(&rig, &client);
	client_send_frame(&client, FIN_CLOSE, code, sizeof(code));
	client_read_frame(&client, &frame);
	assert_int_equal(frame.opcode, 8);
	buf_fini(&frame.payload);
	assert_string_equal(rig.motions, "io");
	client_close(&client);
	rig_wait_int(&rig, &rig.closed, 1);
	rig_close(&rig);
}

static void
the_kernel_gives_up_with_us(void **state)
{
	struct rig rig;
	struct rig_client client;
	unsigned timeout_ms = 0;
	socklen_t len = sizeof(timeout_ms);

	(void)state;
	open_shared(&rig, &client);
	assert_int_equal(getsockopt(ws_conn_fd(rig.conn), IPPROTO_TCP,
			     TCP_USER_TIMEOUT, &timeout_ms, &len),
	    0);
	assert_int_equal(timeout_ms, rig.conf.write_timeout_ms);
	client_close(&client);
	rig_wait_int(&rig, &rig.closed, 1);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_motion_is_told_before_it_settles),
	    cmocka_unit_test(half_of_anything_is_not_whole),
	    cmocka_unit_test(output_that_is_not_out_is_not_whole),
	    cmocka_unit_test(it_goes_on_where_it_was_left),
	    cmocka_unit_test(closing_a_shared_one_ends_it_for_all),
	    cmocka_unit_test(after_a_close_frame_nothing_is_whole),
	    cmocka_unit_test(the_kernel_gives_up_with_us),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
