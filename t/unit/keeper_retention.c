/*
 * keeper_retention.c - unit test of the keeper's retention: what leaves inboxes
 * and the log by age and size, what must stay, damage, kills.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "shm/ages.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/log.h"
#include "shm/meta.h"
#include "shm/outbox.h"
#include "shm/userhead.h"
#include "shm/verify.h"
#include "t/unit/keeper_stage.h"

#define REHEARSAL 1     /* outboxes.def */
#define AWAIT_MS  60000 /* under valgrind */
#define SHORT_MS  50    /* retention; its step is 100 */
#define LONG_MS   (INT64_C(1) << 40)

/* A keeper with these retentions, all others long. */
static void
restart(struct stage *stage, int64_t inbox_ms, int64_t history_ms)
{
	if (stage->keeper != 0)
		stage_keeper_stop(stage);
	stage->conf->store_inbox_retention = inbox_ms;
	stage->conf->store_history_retention = history_ms;
	stage->conf->store_device_retention = LONG_MS;
	stage_keeper_start(stage);
}

static struct record_login_reply
log_in(struct stage *stage, uint64_t user, uint64_t session, uint64_t device)
{
	struct login login = {
	    .user = user, .session = session, .device = device};

	return stage_login(stage, &login);
}

static struct letter
letter_of(uint64_t number)
{
	return (struct letter){.from = 1,
	    .session = 101,
	    .to = {2},
	    .to_count = 1,
	    .number = number};
}

/* From user 1, session 101, to user 2. @return id of the last */
static uint64_t
send_some(struct stage *stage, uint64_t first, uint64_t count)
{
	uint64_t id = 0;

	for (uint64_t i = 0; i < count; i++) {
		struct letter letter = letter_of(first + i);

		id = stage_send_wait(stage, &letter)->message_id;
	}
	return id;
}

static uint64_t
rows_of(struct store *store, enum store_dbi dbi)
{
	struct txn txn;
	uint64_t rows;

	assert_int_equal(store_begin_read(store, &txn), 0);
	rows = store_count(&txn, dbi);
	txn_end(&txn);
	return rows;
}

/* Beside the keeper, until a table has so many rows. */
static void
await_rows(struct stage *stage, enum store_dbi dbi, uint64_t rows)
{
	int64_t deadline = clock_mono_ms() + AWAIT_MS;
	struct store *store = NULL;
	char error[256];

	assert_int_equal(store_open(STORE_MAIN, stage->dir,
			     (size_t)stage->conf->store_map_size, false, &store,
			     error, sizeof(error)),
	    0);
	while (rows_of(store, dbi) != rows) {
		if (clock_mono_ms() > deadline)
			fail_msg("%s has %llu rows, not %llu",
			    verify_dbi_name(dbi),
			    (unsigned long long)rows_of(store, dbi),
			    (unsigned long long)rows);
		stage_pump(stage, 10);
	}
	store_close(&store);
}

/* Until the store's time has gone on by so much, whatever happens. */
static void
let_pass(struct stage *stage, int64_t ms)
{
	int64_t until = clock_mono_ms() + ms;

	while (clock_mono_ms() < until)
		stage_pump(stage, 10);
}

static void
finding(void *ctx, enum store_dbi dbi, struct blob key, const char *what)
{
	(void)ctx;
	(void)key;
	print_error("%s: %s\n", verify_dbi_name(dbi), what);
}

/* Ends the keeper. */
static void
check_store(struct stage *stage, uint64_t findings)
{
	struct verify_result result;

	stage_store_open(stage, false);
	assert_int_equal(
	    verify_store(stage->store, NULL, finding, NULL, &result), 0);
	assert_int_equal(result.findings, findings);
	stage_store_close(stage);
}

static void
an_empty_store_has_nothing_to_delete(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	restart(&stage, SHORT_MS, SHORT_MS);
	let_pass(&stage, 300);
	stage_barrier(&stage);
	check_store(&stage, 0);
	stage_store_open(&stage, false);
	assert_int_equal(store_count(&stage.txn, DBI_ages), 0);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
old_messages_leave_from_the_front(void **state)
{
	struct stage stage;
	struct conv_key key;
	uint64_t members[2] = {1, 2};
	struct conv conv;
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	send_some(&stage, 1, 200);
	stage_ack(&stage, 2, 201, head + 200);
	restart(&stage, LONG_MS, SHORT_MS);
	await_rows(&stage, DBI_log, 0);
	await_rows(&stage, DBI_convindex, 0);
	check_store(&stage, 0);
	/* the conversation goes on where it was */
	stage_keeper_start(&stage);
	send_some(&stage, 300, 3);
	stage_store_open(&stage, false);
	conv_key_make(members, 2, &key);
	assert_int_equal(conv_get(&stage.txn, &key, &conv), 0);
	assert_int_equal(conv.count, 203);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
what_an_inbox_needs_stays(void **state)
{
	struct stage stage;
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	send_some(&stage, 1, 10);
	stage_ack(&stage, 2, 201, head + 4);
	restart(&stage, LONG_MS, SHORT_MS);
	await_rows(&stage, DBI_log, 6);
	let_pass(&stage, 500);
	await_rows(&stage, DBI_log, 6);
	stage_ack(&stage, 2, 201, head + 10);
	await_rows(&stage, DBI_log, 0);
	check_store(&stage, 0);
	stage_close(&stage);
}

/* Between two looks of retention an event needs what nobody needed: a keeper
 * that is killed then leaves word of it. */
static void
what_is_needed_is_known_after_a_kill(void **state)
{
	struct meta_retention meta = {.inbox_floor = MESSAGE_ID_MAX};
	struct meta_age age;
	struct stage stage;
	uint64_t id;

	(void)state;
	stage_open(&stage);
	stage_store_open(&stage, true);
	assert_int_equal(meta_age_get(&stage.txn, &age), 0);
	meta.walk_at_ms = age.age_ms;
	assert_int_equal(meta_retention_put(&stage.txn, &meta), 0);
	stage_store_close(&stage);
	restart(&stage, LONG_MS, LONG_MS);
	log_in(&stage, 1, 101, 1);
	log_in(&stage, 2, 201, 1);
	id = send_some(&stage, 1, 1);
	stage_keeper_kill(&stage);
	stage_store_open(&stage, false);
	assert_int_equal(meta_retention_get(&stage.txn, &meta), 0);
	assert_true(meta.inbox_floor <= id);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
events_leave_an_inbox_by_age_and_the_device_is_told(void **state)
{
	struct record_login_reply reply;
	struct stage stage;
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	/* more than a slice of one user, and one who never came */
	send_some(&stage, 1, 700);
	stage_end_session(&stage, 2, 201, 0);
	restart(&stage, SHORT_MS, LONG_MS);
	await_rows(&stage, DBI_inbox, 0);
	await_rows(&stage, DBI_log, 700);
	reply = log_in(&stage, 2, 202, 1);
	assert_int_equal(reply.recovered, 0);
	assert_int_equal(reply.floor, head + 700);
	assert_int_equal(reply.cursor, head + 700);
	assert_int_equal(reply.head, head + 700);
	check_store(&stage, 0);
	stage_close(&stage);
}

/* Of two devices one is not used any more: it holds nothing, though nobody
 * acknowledges anything further. */
static void
a_device_out_of_use_holds_no_events(void **state)
{
	struct stage stage;
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	log_in(&stage, 2, 202, 2);
	send_some(&stage, 1, 5);
	stage_end_session(&stage, 2, 202, 0);
	stage_ack(&stage, 2, 201, head + 5);
	stage_barrier(&stage);
	stage_keeper_stop(&stage);
	stage.conf->store_device_retention = SHORT_MS;
	stage_keeper_start(&stage);
	await_rows(&stage, DBI_inbox, 0);
	check_store(&stage, 0);
	stage_close(&stage);
}

/* The sends since the last whole row lie in the log alone. */
static void
retries_are_known_when_their_messages_are_gone(void **state)
{
	struct stage stage;
	uint64_t ids[32] = {0};
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	for (uint64_t i = 1; i <= 13; i++)
		ids[i] = send_some(&stage, i, 1);
	stage_ack(&stage, 2, 201, head + 13);
	restart(&stage, LONG_MS, SHORT_MS);
	await_rows(&stage, DBI_log, 0);
	/* a keeper that has nothing at hand */
	restart(&stage, LONG_MS, LONG_MS);
	for (uint64_t i = 1; i <= 13; i++) {
		struct letter letter = letter_of(i);
		const struct record_send_reply *reply =
		    stage_send_wait(&stage, &letter);

		assert_int_equal(reply->rc, ERR_DUPLICATE);
		assert_int_equal(reply->message_id, ids[i]);
	}
	/* the row becomes whole, partly of what it had */
	for (uint64_t i = 14; i <= 18; i++)
		ids[i] = send_some(&stage, i, 1);
	restart(&stage, LONG_MS, LONG_MS);
	for (uint64_t i = 1; i <= 18; i++) {
		struct letter letter = letter_of(i);

		assert_int_equal(
		    stage_send_wait(&stage, &letter)->message_id, ids[i]);
	}
	check_store(&stage, 0);
	stage_close(&stage);
}

/* 128 sends and not one less, when the tail was written over the oldest. */
static void
a_tail_that_was_kept_costs_no_older_send(void **state)
{
	struct stage stage;
	uint64_t ids[256];
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	for (uint64_t i = 1; i <= 133; i++)
		ids[i] = send_some(&stage, i, 1);
	stage_ack(&stage, 2, 201, head + 133);
	restart(&stage, LONG_MS, SHORT_MS);
	await_rows(&stage, DBI_log, 0);
	restart(&stage, LONG_MS, LONG_MS);
	for (uint64_t i = 6; i <= 133; i++) {
		struct letter letter = letter_of(i);
		const struct record_send_reply *reply =
		    stage_send_wait(&stage, &letter);

		assert_int_equal(reply->rc, ERR_DUPLICATE);
		assert_int_equal(reply->message_id, ids[i]);
	}
	stage_close(&stage);
}

/* The first row of the log, and a row of an inbox. */
static void
damage(struct stage *stage)
{
	struct blob value;
	uint8_t copy[512];
	struct walk walk;
	uint64_t id;

	stage_store_open(stage, true);
	assert_int_equal(log_oldest(&stage->txn, &id), 0);
	assert_int_equal(
	    txn_get(&stage->txn, DBI_log, &id, sizeof(id), &value), 0);
	assert_true(value.len <= sizeof(copy));
	memcpy(copy, value.data, value.len);
	copy[value.len - 1] ^= 1;
	assert_int_equal(
	    txn_put(&stage->txn, DBI_log, &id, sizeof(id), copy, value.len), 0);
	assert_int_equal(walk_begin(&walk, &stage->txn, DBI_inbox, NULL, 0), 0);
	memcpy(copy, walk.key.data, 16);
	memcpy(copy + 16, walk.value.data, 32);
	walk_end(&walk);
	copy[16] ^= 1;
	assert_int_equal(
	    txn_put(&stage->txn, DBI_inbox, copy, 16, copy + 16, 32), 0);
	stage_store_close(stage);
}

static void
damaged_rows_at_the_front_stop_nothing(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	log_in(&stage, 2, 201, 1);
	send_some(&stage, 1, 20);
	damage(&stage);
	restart(&stage, SHORT_MS, SHORT_MS);
	await_rows(&stage, DBI_inbox, 0);
	await_rows(&stage, DBI_log, 0);
	check_store(&stage, 0);
	stage_close(&stage);
}

/* Nobody takes what is in the outbox: nothing of it may go. */
static void
what_an_outbox_needs_stays(void **state)
{
	struct record_outbox_change forget = {
	    .op = OUTBOX_CHANGE_FORGET, .outbox = REHEARSAL};
	struct record_outbox_done done = {.upto = 3, .outbox = REHEARSAL};
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	send_some(&stage, 1, 5);
	stage.conf->directory_rehearse_outbox = true;
	restart(&stage, LONG_MS, LONG_MS);
	send_some(&stage, 6, 7);
	stage_play(&stage, SLOT_DIRECTORY);
	assert_int_equal(
	    stage_ask(&stage, RECORD_OUTBOX_DONE, &done, sizeof(done)), 0);
	restart(&stage, SHORT_MS, SHORT_MS);
	await_rows(&stage, DBI_log, 4);
	let_pass(&stage, 500);
	await_rows(&stage, DBI_log, 4);
	stage.conf->directory_rehearse_outbox = false;
	restart(&stage, SHORT_MS, SHORT_MS);
	stage_play(&stage, SLOT_CONSOLE);
	assert_int_equal(
	    stage_ask(&stage, RECORD_OUTBOX_CHANGE, &forget, sizeof(forget)),
	    0);
	await_rows(&stage, DBI_log, 0);
	check_store(&stage, 0);
	stage_close(&stage);
}

/* Young ones go when there are too many, the oldest first, and no more than
 * that. */
static void
size_alone_takes_the_oldest(void **state)
{
	struct stage stage;
	struct txn *txn = &stage.txn;
	uint64_t before;
	uint64_t last;
	uint64_t head;
	uint64_t next;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	last = send_some(&stage, 1, 2000);
	stage_ack(&stage, 2, 201, head + 2000);
	await_rows(&stage, DBI_inbox, 0);
	stage_store_open(&stage, false);
	before = store_table_bytes(txn, DBI_log);
	stage_store_close(&stage);
	stage.conf->store_history_max_bytes = (int64_t)before / 2;
	restart(&stage, LONG_MS, LONG_MS);
	let_pass(&stage, 3000);
	stage_store_open(&stage, false);
	assert_true(store_table_bytes(txn, DBI_log) <= before / 2);
	assert_true(store_count(txn, DBI_log) > 900);
	assert_int_equal(log_next(txn, last, &next), 0);
	stage_store_close(&stage);
	check_store(&stage, 0);
	stage_close(&stage);
}

/* A keeper that is killed in the midst of it, again and again, while messages
 * come: none is answered and then gone before its time, nothing dangles. */
static void
kills_leave_a_sound_store(void **state)
{
	struct stage stage;
	uint64_t number = 1;
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head;
	restart(&stage, SHORT_MS, SHORT_MS);
	for (int round = 0; round < 25; round++) {
		for (int i = 0; i < 40; i++) {
			struct letter letter = letter_of(number++);

			stage_send(&stage, &letter);
		}
		if (round % 3 == 0)
			stage_ack(&stage, 2, 201, head + number / 2);
		stage_pump(&stage, round % 7 * 10);
		stage_keeper_kill(&stage);
		stage_keeper_start(&stage);
	}
	for (uint64_t i = 1; i < number; i++)
		assert_int_equal(stage_sent(&stage)->rc, 0);
	await_rows(&stage, DBI_log, 0);
	await_rows(&stage, DBI_inbox, 0);
	await_rows(&stage, DBI_convindex, 0);
	check_store(&stage, 0);
	stage_close(&stage);
}

/* A hundred times the shortest retention later a few notes are left. */
static void
notes_do_not_pile_up(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	restart(&stage, SHORT_MS, SHORT_MS);
	stage_keeper_stop(&stage);
	stage.conf->store_device_retention = SHORT_MS;
	stage.conf->store_call_retention = SHORT_MS;
	stage_keeper_start(&stage);
	for (uint64_t i = 1; i <= 20; i++) {
		send_some(&stage, i, 1);
		let_pass(&stage, 110);
	}
	stage_store_open(&stage, false);
	assert_in_range(store_count(&stage.txn, DBI_ages), 1, 4);
	stage_store_close(&stage);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_empty_store_has_nothing_to_delete),
	    cmocka_unit_test(old_messages_leave_from_the_front),
	    cmocka_unit_test(what_an_inbox_needs_stays),
	    cmocka_unit_test(what_is_needed_is_known_after_a_kill),
	    cmocka_unit_test(
		events_leave_an_inbox_by_age_and_the_device_is_told),
	    cmocka_unit_test(a_device_out_of_use_holds_no_events),
	    cmocka_unit_test(retries_are_known_when_their_messages_are_gone),
	    cmocka_unit_test(a_tail_that_was_kept_costs_no_older_send),
	    cmocka_unit_test(damaged_rows_at_the_front_stop_nothing),
	    cmocka_unit_test(what_an_outbox_needs_stays),
	    cmocka_unit_test(size_alone_takes_the_oldest),
	    cmocka_unit_test(kills_leave_a_sound_store),
	    cmocka_unit_test(notes_do_not_pile_up),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
