/*
 * net_pace.c - units of src/net/ws_pause.c: frames that end no message.
 *
 * Role:    checks who is read more slowly, for how long, and that nothing is
 *          lost or ended by it. Time is moved with rig_shift.
 * Process: the test; client and server in one thread (net_client.h).
 * Blocks:  never for long; every wait has a deadline.
 * Trust:   not applicable.
 * See:     base/bucket.h, t/47-rates.t (beside others).
 */
#include "net_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/count.h"
#include "net/net_priv.h"

#define FLOOD 1000 /* fits one read */

/* 10 frames a second, 20 at once. */
static struct net_conf
paced_conf(void)
{
	struct net_conf conf = rig_conf();

	conf.frames_per_second = 10;
	conf.burst_ms = 2000;
	return conf;
}

static uint64_t
delays(void)
{
	return count_self->counters[COUNTER_frames_delayed];
}

/* Turns in which nothing more happens. */
static void
settle(struct rig *rig)
{
	for (int i = 0; i < 5; i++)
		rig_turn(rig);
}

static void
send_frames(
    struct rig_client *client, int first_byte, const char *payload, int count)
{
	struct buf out = {0};

	for (int i = 0; i < count; i++)
		client_frame(&out, first_byte, payload, strlen(payload));
	client_send(client, out.data, out.len);
	buf_fini(&out);
	settle(client->rig);
}

/* Flood, then a text; it must come after ms, not before. */
static void
expect_delay(int first_byte, const char *payload, int64_t ms)
{
	struct net_conf conf = paced_conf();
	struct rig rig;
	struct rig_client client;
	uint64_t before = delays();

	rig_open(&rig, &conf);
	client_open(&client, &rig);
	send_frames(&client, first_byte, payload, FLOOD);
	assert_int_equal(delays(), before + 1);
	client_send_frame(&client, 0x81, "later", 5);
	settle(&rig);
	rig_shift(&rig, ms - 5000);
	settle(&rig);
	assert_int_equal(rig.texts, 0);
	assert_int_equal(rig.closed, 0);
	rig_shift(&rig, 5200);
	rig_wait_size(&rig, &rig.texts, 1);
	assert_memory_equal(rig.last_text.data, "later", 5);
	client_close(&client);
	rig_close(&rig);
}

/* 1000 came, 20 were there, and the next one must be: 98.1 s. */
static void
test_pings_and_pongs_are_counted(void **state)
{
	(void)state;
	expect_delay(0x89, "", 98100);
	expect_delay(0x89, "p", 98100);
	expect_delay(0x8a, "", 98100);
}

static void
test_fragments_are_counted(void **state)
{
	struct net_conf conf = paced_conf();
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	client_send_frame(&client, 0x01, "a", 1);
	send_frames(&client, 0x00, "b", FLOOD - 1);
	client_send_frame(&client, 0x80, "c", 1);
	settle(&rig);
	rig_shift(&rig, 93000);
	settle(&rig);
	assert_int_equal(rig.texts, 0);
	rig_shift(&rig, 5400);
	rig_wait_size(&rig, &rig.texts, 1);
	/* nothing of it is lost by the wait */
	assert_int_equal(rig.last_text.len, FLOOD + 1);
	client_close(&client);
	rig_close(&rig);
}

static void
test_messages_are_not(void **state)
{
	struct net_conf conf = paced_conf();
	struct rig rig;
	struct rig_client client;
	uint64_t before = delays();

	(void)state;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	send_frames(&client, 0x81, "text", FLOOD);
	rig_wait_size(&rig, &rig.texts, FLOOD);
	assert_int_equal(delays(), before);
	/* nor what is within the limit */
	for (int i = 0; i < 50; i++) {
		send_frames(&client, 0x89, "", 10);
		rig_shift(&rig, 1000);
	}
	assert_int_equal(delays(), before);
	client_close(&client);
	rig_close(&rig);
}

static void
test_zero_is_no_limit(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	uint64_t before = delays();

	(void)state;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	send_frames(&client, 0x89, "", FLOOD);
	client_send_frame(&client, 0x81, "now", 3);
	rig_wait_size(&rig, &rig.texts, 1);
	assert_int_equal(delays(), before);
	client_close(&client);
	rig_close(&rig);
}

/* Its silence is ours; and an end comes as soon as ever. */
static void
test_who_waits_is_neither_dead_nor_kept(void **state)
{
	struct net_conf conf = paced_conf();
	struct rig rig;
	struct rig_client client;

	(void)state;
	conf.ping_interval_ms = 5000;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	send_frames(&client, 0x8a, "", FLOOD);
	for (int i = 0; i < 10; i++) {
		rig_shift(&rig, 5000);
		settle(&rig);
	}
	assert_int_equal(rig.closed, 0);
	assert_false(ws_is_listening(rig.conn));
	ws_conn_close(rig.conn, 1012, "enough");
	client_send_frame(&client, 0x88, "\x03\xf4", 2);
	assert_int_equal(client_read_close(&client), 1012);
	rig_wait_int(&rig, &rig.closed, 1);
	assert_int_equal(rig.close_code, 1012);
	client_close(&client);
	rig_close(&rig);
}

/* Two reasons not to read it: the end of one is not that of the other. */
static void
test_a_pause_and_a_wait_end_apart(void **state)
{
	struct net_conf conf = paced_conf();
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	send_frames(&client, 0x89, "", FLOOD);
	ws_conn_pause(rig.conn);
	client_send_frame(&client, 0x81, "later", 5);
	ws_conn_resume(rig.conn);
	settle(&rig);
	assert_int_equal(rig.texts, 0);
	ws_conn_pause(rig.conn);
	rig_shift(&rig, 99000);
	settle(&rig);
	assert_int_equal(rig.texts, 0);
	ws_conn_resume(rig.conn);
	rig_wait_size(&rig, &rig.texts, 1);
	client_close(&client);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pings_and_pongs_are_counted),
	    cmocka_unit_test(test_fragments_are_counted),
	    cmocka_unit_test(test_messages_are_not),
	    cmocka_unit_test(test_zero_is_no_limit),
	    cmocka_unit_test(test_who_waits_is_neither_dead_nor_kept),
	    cmocka_unit_test(test_a_pause_and_a_wait_end_apart),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
