/*
 * net_limits.c - units of src/net: deadlines, output limits, shortages.
 *
 * Role:    checks that every wait ends and every buffer is bounded. Time is
 *          moved with rig_shift; nothing waits for it to pass.
 * Process: the test; client and server in one thread (net_client.h).
 * Blocks:  never for long; every wait has a deadline.
 * Trust:   not applicable.
 * See:     net.c (what else a connection does).
 */
#include "net_client.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/count.h"
#include "net/net_priv.h"

static void
expect_answer(struct rig_client *client, const char *start)
{
	struct buf answer = {0};

	client_read_answer(client, &answer);
	assert_memory_equal(answer.data, start, strlen(start));
	assert_false(client->is_reset);
	buf_fini(&answer);
}

static void
wait_for_count(struct rig *rig, size_t count)
{
	for (int i = 0; i < 5000 && net_connection_count(rig->net) != count;
	     i++)
		rig_turn(rig);
	assert_int_equal(net_connection_count(rig->net), count);
}

static void
test_head_has_a_deadline(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client silent;
	struct rig_client slow;

	(void)state;
	conf.header_timeout_ms = 10000;
	rig_open(&rig, &conf);
	client_connect(&silent, &rig);
	client_connect(&slow, &rig);
	client_send(&slow, RIG_REQUEST, 20);
	wait_for_count(&rig, 2);
	rig_turn(&rig);
	rig_shift(&rig, 9000);
	/* A byte more does not move it. */
	client_send(&slow, &RIG_REQUEST[20], 1);
	rig_turn(&rig);
	rig_shift(&rig, 1001);
	expect_answer(&slow, "HTTP/1.1 408 ");
	assert_true(client_read_eof(&silent)); /* nothing to answer */
	assert_int_equal(silent.in.len, 0);
	client_close(&silent);
	client_close(&slow);
	wait_for_count(&rig, 0);
	assert_int_equal(rig.opened, 0);
	rig_close(&rig);
}

static void
test_silent_peer_is_pinged_then_dead(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	struct rig_frame frame;

	(void)state;
	conf.ping_interval_ms = 25000;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	for (int i = 0; i < 3; i++) {
		rig_shift(&rig, 25001);
		client_read_frame(&client, &frame);
		assert_int_equal(frame.opcode, 9);
		assert_int_equal(frame.payload.len, 0);
		client_send_frame(&client, 0x8a, "", 0);
		rig_turn(&rig);
		rig_turn(&rig);
	}
	assert_int_equal(rig.closed, 0);
	rig_shift(&rig, 25001);
	client_read_frame(&client, &frame);
	assert_int_equal(frame.opcode, 9);
	/* One byte, not even a frame, is a sign of life. */
	rig_shift(&rig, 7000);
	client_send(&client, "\x8a", 1);
	rig_turn(&rig);
	rig_turn(&rig);
	rig_shift(&rig, 25001);
	client_read_frame(&client, &frame);
	assert_int_equal(frame.opcode, 9);
	assert_int_equal(rig.closed, 0);
	rig_shift(&rig, 8000);
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.close_code, 1006);
	(void)client_read_eof(&client);
	client_close(&client);
	rig_close(&rig);
}

/* The second of a crowd: 0.618 of half an interval before the first. */
static void
test_crowd_is_not_pinged_at_once(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client first;
	struct rig_client second;
	struct rig_frame frame;

	(void)state;
	conf.ping_interval_ms = 25000;
	rig_open(&rig, &conf);
	client_open(&first, &rig);
	client_open(&second, &rig);
	rig_shift(&rig, 17400);
	client_read_frame(&second, &frame);
	assert_int_equal(frame.opcode, 9);
	rig_shift(&rig, 7601);
	client_read_frame(&first, &frame);
	assert_int_equal(frame.opcode, 9);
	client_close(&first);
	client_close(&second);
	rig_close(&rig);
}

static void
test_paused_is_not_silent(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;

	(void)state;
	conf.ping_interval_ms = 25000;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	ws_conn_pause(rig.conn);
	client_send_frame(&client, 0x81, "waits", 5);
	for (int i = 0; i < 5; i++) {
		struct rig_frame frame;

		rig_shift(&rig, 25001);
		client_read_frame(&client, &frame); /* still pinged */
		assert_int_equal(frame.opcode, 9);
	}
	assert_int_equal(rig.texts, 0);
	assert_int_equal(rig.closed, 0);
	ws_conn_resume(rig.conn);
	rig_wait_size(&rig, &rig.texts, 1);
	assert_memory_equal(rig.last_text.data, "waits", 5);
	rig_shift(&rig, 33001);
	rig_wait_int(&rig, &rig.closed, 1);
	client_close(&client);
	rig_close(&rig);
}

/* Queue until the socket is full and the limit is reached. */
static void
fill(struct rig *rig, size_t *sent_out)
{
	static char text[10000];
	size_t sent = 0;

	memset(text, 'f', sizeof(text));
	for (;;) {
		int rc = ws_send_text(rig->conn, text, sizeof(text));

		if (rc == 0) {
			sent++;
			continue;
		}
		assert_int_equal(rc, ERR_FULL);
		size_t before = ws_conn_queued(rig->conn);
		net_flush(rig->net);
		if (rig->conn == NULL || ws_conn_queued(rig->conn) == before)
			break;
	}
	*sent_out = sent;
}

static void
test_output_is_bounded(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	size_t sent;

	(void)state;
	conf.max_queued_bytes = 100000;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	fill(&rig, &sent);
	assert_true(ws_conn_queued(rig.conn) <= conf.max_queued_bytes);
	assert_true(net_has_output(rig.net));
	int drained = rig.drained;
	/* Replies are not limited. */
	ws_send_reply(rig.conn, "reply", 5);
	for (size_t i = 0; i < sent; i++) {
		struct rig_frame frame;

		client_read_frame(&client, &frame);
		assert_int_equal(frame.payload.len, 10000);
		buf_fini(&frame.payload);
	}
	struct rig_frame frame;
	client_read_frame(&client, &frame);
	assert_memory_equal(frame.payload.data, "reply", 5);
	buf_fini(&frame.payload);
	assert_int_equal(rig.drained, drained + 1);
	assert_false(net_has_output(rig.net));
	assert_null(rig.conn->conn.out.data); /* idle: no memory */
	/* A single message larger than the limit finds its way. */
	char *large = calloc(1, 200000);
	memset(large, 'l', 200000);
	assert_int_equal(ws_send_text(rig.conn, large, 200000), 0);
	assert_int_equal(ws_send_text(rig.conn, large, 1), ERR_FULL);
	client_read_frame(&client, &frame);
	assert_int_equal(frame.payload.len, 200000);
	buf_fini(&frame.payload);
	free(large);
	client_close(&client);
	rig_close(&rig);
}

static void
test_stalled_peer_is_cut_off(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	size_t sent;

	(void)state;
	conf.write_timeout_ms = 30000;
	conf.ping_interval_ms = 1000000;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	fill(&rig, &sent);
	rig_shift(&rig, 29000);
	rig_turn(&rig);
	assert_int_equal(rig.closed, 0);
	rig_shift(&rig, 1001);
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.close_code, 1006);
	client_close(&client);
	wait_for_count(&rig, 0);
	rig_close(&rig);
}

static void
test_close_has_a_deadline(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;

	(void)state;
	conf.close_timeout_ms = 5000;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	ws_conn_close(rig.conn, 1012, "bye");
	assert_int_equal(client_read_close(&client), 1012);
	rig_turn(&rig);
	assert_int_equal(rig.closed, 0);
	rig_shift(&rig, 5001); /* no answer to the close frame */
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.close_code, 1012);
	wait_for_count(&rig, 0);
	client_close(&client);
	/* A peer that answers and then keeps its side open. */
	client_open(&client, &rig);
	client_send_frame(&client, 0x88, "\3\xe8", 2);
	assert_int_equal(client_read_close(&client), 1000);
	rig_wait_int(&rig, &rig.closed, 2);
	assert_int_equal(net_connection_count(rig.net), 1);
	rig_shift(&rig, NET_LINGER_MS + 1);
	wait_for_count(&rig, 0);
	client_close(&client);
	rig_close(&rig);
}

static void
test_ping_flood_takes_no_memory(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	struct buf flood = {0};
	char payload[125];
	size_t sent;

	(void)state;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	fill(&rig, &sent);
	size_t queued = ws_conn_queued(rig.conn);
	for (int i = 0; i < 2000; i++) {
		memset(payload, 'a' + i % 26, sizeof(payload));
		client_frame(&flood, 0x89, payload, sizeof(payload));
	}
	client_frame(&flood, 0x89, "latest", 6);
	client_frame(&flood, 0x81, "end", 3);
	client_send(&client, flood.data, flood.len);
	rig_wait_size(&rig, &rig.texts, 1);
	/* The socket is full: at most one pong may have been queued. */
	assert_true(ws_conn_queued(rig.conn) <= queued + 2 * 127);
	struct rig_frame frame;
	size_t pongs = 0;
	bool is_latest = false;
	while (sent > 0 || !is_latest) {
		client_read_frame(&client, &frame);
		if (frame.opcode == 10) {
			pongs++;
			is_latest =
			    frame.payload.len == 6 &&
			    memcmp(frame.payload.data, "latest", 6) == 0;
		} else {
			sent--;
		}
		buf_fini(&frame.payload);
	}
	assert_in_range(pongs, 1, 2);
	assert_null(rig.conn->pong);
	buf_fini(&flood);
	client_close(&client);
	rig_close(&rig);
}

static void
test_idle_holds_no_buffers(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	struct rig_frame frame;

	(void)state;
	rig_open(&rig, &conf);
	rig.is_echo = true;
	client_open(&client, &rig);
	struct buf out = {0};
	client_frame(&out, 0x01, "a", 1);
	client_frame(&out, 0x89, "p", 1);
	client_frame(&out, 0x80, "b", 1);
	client_send(&client, out.data, out.len);
	client_read_frame(&client, &frame);
	buf_fini(&frame.payload);
	client_read_frame(&client, &frame);
	buf_fini(&frame.payload);
	assert_null(rig.conn->conn.in.data);
	assert_null(rig.conn->conn.out.data);
	assert_null(rig.conn->decoder.message.data);
	assert_null(rig.conn->pong);
	buf_fini(&out);
	client_close(&client);
	rig_close(&rig);
}

static void
test_too_many_connections(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client clients[3];
	struct rig_client refused;
	uint64_t before = count_self->counters[COUNTER_connections_refused];

	(void)state;
	conf.max_connections = 3;
	rig_open(&rig, &conf);
	for (int i = 0; i < 3; i++)
		client_open(&clients[i], &rig);
	client_connect(&refused, &rig);
	client_send(&refused, RIG_REQUEST, strlen(RIG_REQUEST));
	expect_answer(&refused, "HTTP/1.1 503 ");
	client_close(&refused);
	assert_int_equal(
	    count_self->counters[COUNTER_connections_refused], before + 1);
	/* One goes, one may come. */
	client_close(&clients[0]);
	rig_wait_int(&rig, &rig.closed, 1);
	wait_for_count(&rig, 2);
	assert_int_equal(count_self->counters[COUNTER_connections], 2);
	client_open(&clients[0], &rig);
	for (int i = 0; i < 3; i++)
		client_close(&clients[i]);
	rig_close(&rig);
}

static void
test_stop_accepting(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	struct rig_client late;
	struct rig_frame frame;

	(void)state;
	rig_open(&rig, &conf);
	rig.is_echo = true;
	client_open(&client, &rig);
	net_stop_accepting(rig.net);
	client_connect(&late, &rig); /* by the kernel only */
	for (int i = 0; i < 5; i++)
		rig_turn(&rig);
	assert_int_equal(net_connection_count(rig.net), 1);
	client_send_frame(&client, 0x81, "still", 5);
	client_read_frame(&client, &frame);
	assert_int_equal(frame.opcode, 1);
	buf_fini(&frame.payload);
	client_close(&client);
	client_close(&late);
	rig_close(&rig);
}

static void
close_one(void *ctx, struct ws_conn *conn)
{
	int *left = ctx;

	(*left)++;
	if (*left % 2 == 0)
		ws_conn_abort(conn);
	else
		ws_conn_close(conn, 1012, "restart");
}

static void
test_each_may_close(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client clients[6];
	int seen = 0;

	(void)state;
	rig_open(&rig, &conf);
	for (int i = 0; i < 6; i++)
		client_open(&clients[i], &rig);
	net_each(rig.net, close_one, &seen);
	assert_int_equal(seen, 6);
	net_each(rig.net, close_one, &seen);
	assert_int_equal(seen, 6); /* none is open any more */
	rig_wait_int(&rig, &rig.closed, 3);
	for (int i = 0; i < 6; i++)
		client_close(&clients[i]);
	rig_wait_int(&rig, &rig.closed, 6);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_head_has_a_deadline),
	    cmocka_unit_test(test_silent_peer_is_pinged_then_dead),
	    cmocka_unit_test(test_crowd_is_not_pinged_at_once),
	    cmocka_unit_test(test_paused_is_not_silent),
	    cmocka_unit_test(test_output_is_bounded),
	    cmocka_unit_test(test_stalled_peer_is_cut_off),
	    cmocka_unit_test(test_close_has_a_deadline),
	    cmocka_unit_test(test_ping_flood_takes_no_memory),
	    cmocka_unit_test(test_idle_holds_no_buffers),
	    cmocka_unit_test(test_too_many_connections),
	    cmocka_unit_test(test_stop_accepting),
	    cmocka_unit_test(test_each_may_close),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
