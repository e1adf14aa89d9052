/*
 * store_outbox_dead.c - unit test of shm/outbox_dead.c, of retention's bound,
 * and of a store that is full.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/log.h"
#include "t/unit/outbox_box.h"

/* ---- dead letters ---- */

struct graves {
	uint64_t numbers[64];
	size_t count;
	size_t error_len;
	int32_t code;
	bool is_damaged;
};

static bool
bury(void *ctx, const struct outbox_dead *dead)
{
	struct graves *graves = ctx;
	struct outbox_entry expected = entry_of(dead->entry.number);

	if (graves->is_damaged)
		assert_int_equal(dead->entry.kind, OUTBOX_DAMAGED);
	else
		assert_entry(&dead->entry, &expected);
	graves->error_len = dead->error.len;
	graves->code = dead->code;
	graves->numbers[graves->count++] = dead->entry.number;
	return graves->count < 64;
}

static struct graves
graves_of(struct stage *stage, uint64_t from)
{
	struct graves graves = {.count = 0};

	assert_int_equal(
	    outbox_each_dead(&stage->box.txn, 1, from, bury, &graves), 0);
	return graves;
}

static void
what_is_refused_is_kept_outside(void **state)
{
	char error[OUTBOX_ERROR_MAX + 50];
	struct stage *stage = *state;
	struct graves graves;

	memset(error, 'e', sizeof(error));
	put_many(stage, 20);
	next_txn(stage);
	for (uint64_t n = 1; n <= 20; n += 3)
		reject(stage, n);
	reject(stage, 4); /* again */
	assert_int_equal(stage->outbox.state.dead_count, 7);
	assert_int_equal(outbox_reject(&stage->box.txn, &stage->outbox, 7, -5,
			     error, sizeof(error)),
	    0);
	assert_int_equal(stage->outbox.state.dead_count, 7);
	assert_int_equal(outbox_done(&stage->outbox, 20), 0);
	assert_int_equal(sweep(stage, 100), 1);
	next_txn(stage);
	graves = graves_of(stage, 0);
	assert_int_equal(graves.count, 7);
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(graves.numbers[i], 1 + 3 * i);
	graves = graves_of(stage, 19);
	assert_int_equal(graves.count, 1);
	assert_int_equal(graves.code, 2627);
	assert_int_equal(graves.error_len, 15);
	graves = graves_of(stage, 20);
	assert_int_equal(graves.count, 0);
	/* what does not wait cannot be refused */
	assert_int_equal(
	    outbox_reject(&stage->box.txn, &stage->outbox, 20, 0, "", 0),
	    ERR_NOT_FOUND);
	assert_int_equal(
	    outbox_reject(&stage->box.txn, &stage->outbox, 21, 0, "", 0),
	    ERR_NOT_FOUND);
}

static void
a_long_error_is_cut(void **state)
{
	char error[OUTBOX_ERROR_MAX + 50];
	struct stage *stage = *state;

	memset(error, 'e', sizeof(error));
	put_many(stage, 1);
	next_txn(stage);
	assert_int_equal(outbox_reject(&stage->box.txn, &stage->outbox, 1,
			     INT32_MIN, error, sizeof(error)),
	    0);
	assert_int_equal(graves_of(stage, 1).error_len, OUTBOX_ERROR_MAX);
	assert_int_equal(graves_of(stage, 1).code, INT32_MIN);
}

static bool
same_again(void *ctx, const struct outbox_entry *entry)
{
	uint64_t *number = ctx;
	struct outbox_entry expected = entry_of(*number);

	assert_entry(entry, &expected);
	(*number)++;
	return true;
}

static void
a_retry_puts_it_at_the_end(void **state)
{
	struct stage *stage = *state;
	struct outbox_range range = {.first = 2, .last = 9, .limit = 5};
	uint64_t number = 2;
	size_t count;

	put_many(stage, 10);
	next_txn(stage);
	for (uint64_t n = 1; n <= 10; n++)
		reject(stage, n);
	assert_int_equal(outbox_done(&stage->outbox, 10), 0);
	next_txn(stage);
	assert_int_equal(
	    outbox_retry(&stage->box.txn, &stage->outbox, &range, &count), 0);
	assert_int_equal(count, 5);
	assert_int_equal(
	    outbox_retry(&stage->box.txn, &stage->outbox, &range, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(
	    outbox_retry(&stage->box.txn, &stage->outbox, &range, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(stage->outbox.state.dead_count, 2);
	next_txn(stage);
	assert_int_equal(stage->outbox.state.head, 18);
	assert_int_equal(
	    outbox_each(&stage->box.txn, 1, 11, same_again, &number), 0);
	assert_int_equal(number, 10);
	range = (struct outbox_range){.first = 1, .last = 10, .limit = 10};
	assert_int_equal(
	    outbox_drop(&stage->box.txn, &stage->outbox, &range, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(stage->outbox.state.dead_count, 0);
	assert_int_equal(graves_of(stage, 0).count, 0);
}

/* Larger together than any block. */
static void
many_can_be_tried_again_at_once(void **state)
{
	struct stage *stage = *state;
	struct outbox_range range = {
	    .first = 1, .last = INT64_MAX, .limit = 1000};
	uint64_t number = 1;
	size_t count;
	size_t rows;

	put_many(stage, 500);
	next_txn(stage);
	for (uint64_t n = 1; n <= 500; n++)
		reject(stage, n);
	assert_int_equal(outbox_done(&stage->outbox, 500), 0);
	rows = row_count(stage);
	assert_int_equal(sweep(stage, 1000), rows - 500);
	assert_int_equal(
	    outbox_retry(&stage->box.txn, &stage->outbox, &range, &count), 0);
	assert_int_equal(count, 500);
	next_txn(stage);
	assert_int_equal(
	    outbox_each(&stage->box.txn, 1, 501, same_again, &number), 0);
	assert_int_equal(number, 501);
}

static void
a_damaged_dead_letter_can_only_be_dropped(void **state)
{
	struct stage *stage = *state;
	struct outbox_range all = {.first = 1, .last = INT64_MAX, .limit = 10};
	struct graves graves = {.is_damaged = true};
	uint8_t row[1024];
	struct blob value;
	size_t count;
	size_t len;

	put_many(stage, 1);
	next_txn(stage);
	reject(stage, 1);
	value = raw_get(stage, OUTBOX_DEAD, 1);
	len = value.len;
	for (size_t i = 0; i < len; i++) {
		memcpy(row, raw_get(stage, OUTBOX_DEAD, 1).data, len);
		row[i] ^= 0x40;
		raw_put(stage, OUTBOX_DEAD, 1, row, len);
		graves.count = 0;
		assert_int_equal(
		    outbox_each_dead(&stage->box.txn, 1, 0, bury, &graves), 0);
		assert_int_equal(graves.count, 1);
		assert_int_equal(
		    outbox_retry(&stage->box.txn, &stage->outbox, &all, &count),
		    0);
		assert_int_equal(count, 0);
		row[i] ^= 0x40;
		raw_put(stage, OUTBOX_DEAD, 1, row, len);
	}
	raw_put(stage, OUTBOX_DEAD, 1, row, len - 1);
	assert_int_equal(
	    outbox_drop(&stage->box.txn, &stage->outbox, &all, &count), 0);
	assert_int_equal(count, 1);
}

/* ---- retention's bound ---- */

static uint64_t
floor_of(struct stage *stage)
{
	uint64_t floor = 0;
	int rc = outbox_floor(&stage->box.txn, &floor);

	if (rc == ERR_NOT_FOUND)
		return UINT64_MAX;
	assert_int_equal(rc, 0);
	return floor;
}

static void
what_is_needed_bounds_retention(void **state)
{
	struct outbox_range all = {.first = 1, .last = INT64_MAX, .limit = 10};
	struct outbox_entry receipt = {
	    .kind = OUTBOX_READ, .user = 1, .message_id = 5};
	struct stage *stage = *state;
	size_t count;

	put_message(stage, 100); /* 1 */
	put_message(stage, 101); /* 2 */
	next_txn(stage);
	assert_true(floor_of(stage) <= 100);
	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &receipt), 0); /* 3 */
	put_message(stage, 200);                                       /* 4 */
	next_txn(stage);
	assert_int_equal(outbox_done(&stage->outbox, 2), 0);
	next_txn(stage);
	assert_int_equal(floor_of(stage), 102); /* 200 was not known then */
	/* a dead letter holds its message, also when all else is done */
	reject(stage, 4);
	assert_int_equal(outbox_done(&stage->outbox, 4), 0);
	next_txn(stage);
	assert_int_equal(floor_of(stage), 200);
	put_message(stage, 300); /* 5 */
	next_txn(stage);
	assert_int_equal(floor_of(stage), 200);
	/* ... and when it waits again behind later ones */
	assert_int_equal(
	    outbox_retry(&stage->box.txn, &stage->outbox, &all, &count), 0);
	next_txn(stage); /* 6 */
	assert_int_equal(count, 1);
	assert_int_equal(floor_of(stage), 200);
	assert_int_equal(outbox_done(&stage->outbox, 5), 0);
	next_txn(stage);
	assert_int_equal(floor_of(stage), 200);
	assert_int_equal(outbox_done(&stage->outbox, 6), 0);
	next_txn(stage);
	assert_int_equal(floor_of(stage), UINT64_MAX);
}

/* Only messages lie outside of their entry. */
static void
a_dead_letter_without_a_message_bounds_nothing(void **state)
{
	struct outbox_entry receipt = {
	    .kind = OUTBOX_READ, .user = 1, .message_id = 5};
	struct stage *stage = *state;

	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &receipt), 0);
	put_message(stage, 100);
	next_txn(stage);
	reject(stage, 1);
	assert_int_equal(outbox_done(&stage->outbox, 2), 0);
	next_txn(stage);
	assert_int_equal(stage->outbox.state.dead_count, 1);
	assert_int_equal(floor_of(stage), UINT64_MAX);
	/* beside one that has a message that one counts */
	put_message(stage, 101);
	next_txn(stage);
	reject(stage, 3);
	assert_int_equal(outbox_done(&stage->outbox, 3), 0);
	next_txn(stage);
	assert_int_equal(floor_of(stage), 101);
}

/* More is gone than anybody looks for in the log. */
static void
one_that_may_be_of_any_message_bounds_all(void **state)
{
	struct stage *stage = *state;

	stage->outbox.state.head = 70000;
	stage->outbox.state.last_id = 500;
	next_txn(stage);
	reject(stage, 70000);
	assert_int_equal(outbox_done(&stage->outbox, 70000), 0);
	next_txn(stage);
	assert_int_equal(stage->outbox.state.dead_count, 1);
	assert_int_equal(floor_of(stage), 1);
}

/* ---- a store that is full ---- */

static void
a_full_store_can_be_drained(void **state)
{
	struct stage *stage = *state;
	struct log_message message = {
	    .sender = 1, .body = {big_text, sizeof(big_text)}};
	uint64_t stored = 0;
	int rc = 0;

	box_close(&stage->box);
	box_folder(&stage->box);
	box_open_stores(&stage->box, (size_t)1 << 20);
	box_begin(&stage->box);
	assert_int_equal(outbox_load(&stage->box.txn, 1, &stage->outbox), 0);
	outbox_begin(&stage->outbox, 1);
	while (rc == 0) {
		message.id++;
		put_message(stage, message.id);
		rc = log_append(&stage->box.txn, &message);
		if (rc != 0)
			break;
		stored++;
		next_txn(stage);
		assert_true(stored < 1000000);
	}
	assert_int_equal(rc, ERR_STORAGE_FULL);
	assert_true(stored > 100);
	txn_end(&stage->box.txn);
	box_begin(&stage->box);
	outbox_begin(&stage->outbox, 1);
	assert_int_equal(stage->outbox.state.head, stored);
	/* half of it is refused, which takes room, all of it is deleted */
	for (uint64_t n = 1; n <= stored; n += 2) {
		assert_int_equal(outbox_reject(&stage->box.txn, &stage->outbox,
				     n, 1, "no", 2),
		    0);
		assert_int_equal(outbox_done(&stage->outbox, n), 0);
		sweep(stage, 2);
		next_txn(stage);
	}
	assert_int_equal(outbox_done(&stage->outbox, stored), 0);
	sweep(stage, 2);
	next_txn(stage);
	assert_int_equal(count_from(stage, 1, 1), 0);
	assert_int_equal(row_count(stage), (stored + 1) / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(what_is_refused_is_kept_outside),
	    TEST(a_long_error_is_cut),
	    TEST(a_retry_puts_it_at_the_end),
	    TEST(many_can_be_tried_again_at_once),
	    TEST(a_damaged_dead_letter_can_only_be_dropped),
	    TEST(what_is_needed_bounds_retention),
	    TEST(a_dead_letter_without_a_message_bounds_nothing),
	    TEST(one_that_may_be_of_any_message_bounds_all),
	    TEST(a_full_store_can_be_drained),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
