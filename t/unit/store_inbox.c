/*
 * store_inbox.c - unit test of shm/inbox.c: ranges and range deletes against
 * a naive model, damaged rows.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/inbox.h"
#include "t/unit/store_box.h"

#define USERS   4
#define SEQ_END 400

/* Neighbours in the order of keys, and both ends of it. */
static const uint64_t users[USERS] = {1, 2, 256, USER_ID_MAX};

struct stage {
	struct store_box box;
	bool has[USERS][SEQ_END];
	uint64_t random;
};

struct seen {
	uint64_t seqs[SEQ_END];
	size_t count;
	size_t stop_at;
	size_t user;
};

static struct inbox_event
event_of(size_t user, uint64_t seq)
{
	struct inbox_event event = {
	    .seq = seq,
	    .ref = seq * 1000003 + user,
	    .kind = EVENT_MESSAGE,
	};

	memset(event.conv.bytes, (int)(seq + user), sizeof(event.conv.bytes));
	return event;
}

static bool
see(void *ctx, const struct inbox_event *event)
{
	struct inbox_event expected;
	struct seen *seen = ctx;

	expected = event_of(seen->user, event->seq);
	assert_int_equal(event->ref, expected.ref);
	assert_int_equal(event->kind, expected.kind);
	assert_true(conv_key_equal(&event->conv, &expected.conv));
	seen->seqs[seen->count++] = event->seq;
	return seen->count != seen->stop_at;
}

static void
check_range(struct stage *stage, size_t user, uint64_t above, uint64_t upto)
{
	struct seen seen = {.user = user};
	size_t count = 0;

	assert_int_equal(
	    inbox_each(&stage->box.txn, users[user], above, upto, see, &seen),
	    0);
	for (uint64_t seq = 0; seq < SEQ_END; seq++) {
		if (seq <= above || seq > upto || !stage->has[user][seq])
			continue;
		assert_true(count < seen.count);
		assert_int_equal(seen.seqs[count++], seq);
	}
	assert_int_equal(count, seen.count);
}

static void
put(struct stage *stage, size_t user, uint64_t seq)
{
	struct inbox_event event = event_of(user, seq);

	assert_int_equal(inbox_put(&stage->box.txn, users[user], &event), 0);
	stage->has[user][seq] = true;
}

static void
range_delete(struct stage *stage, size_t user, uint64_t above, uint64_t upto)
{
	uint64_t reached = above;

	/* In pieces of a few rows each; every one of them gets further. */
	while (reached < upto) {
		uint64_t before = reached;

		assert_int_equal(
		    inbox_delete(&stage->box.txn, users[user], &reached, upto,
			1 + box_random(&stage->random) % 4),
		    0);
		assert_true(reached > before && reached <= upto);
	}
	for (uint64_t seq = above + 1; seq <= upto && seq < SEQ_END; seq++)
		stage->has[user][seq] = false;
}

static struct stage *
stage_open(void)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	box_open(&stage->box);
	stage->random = 77;
	box_begin(&stage->box);
	return stage;
}

static void
stage_close(struct stage *stage)
{
	box_close(&stage->box);
	free(stage);
}

static void
ranges_are_those_of_a_naive_list(void **state)
{
	struct stage *stage = stage_open();

	(void)state;
	for (int i = 0; i < 6000; i++) {
		uint64_t draw = box_random(&stage->random);
		size_t user = draw % USERS;
		uint64_t a = (draw >> 8) % SEQ_END;
		uint64_t b = (draw >> 24) % (SEQ_END + 20);

		if (draw >> 61 != 0)
			put(stage, user, a);
		else
			range_delete(stage, user, a, b);
		user = (draw >> 40) % USERS;
		check_range(stage, user, a, b);
		if (i % 500 != 0)
			continue;
		box_commit(&stage->box);
		box_begin(&stage->box);
		for (user = 0; user < USERS; user++)
			check_range(stage, user, 0, UINT64_MAX);
	}
	stage_close(stage);
}

/* Range deletes that begin and end at every place of a page of the tree. */
static void
deletes_of_every_length_leave_the_rest(void **state)
{
	struct stage *stage = stage_open();

	(void)state;
	for (uint64_t len = 1; len < 150; len += 7) {
		for (uint64_t above = 0; above < 300; above += 37) {
			for (size_t user = 0; user < 3; user++) {
				for (uint64_t seq = 1; seq < SEQ_END; seq++)
					put(stage, user, seq);
			}
			range_delete(stage, 1, above, above + len);
			for (size_t user = 0; user < 3; user++)
				check_range(stage, user, 0, UINT64_MAX);
		}
	}
	for (size_t user = 0; user < USERS; user++)
		range_delete(stage, user, 0, UINT64_MAX);
	assert_int_equal(store_count(&stage->box.txn, DBI_inbox), 0);
	/* where there is nothing */
	range_delete(stage, 2, 0, UINT64_MAX);
	range_delete(stage, 3, 5, 5);
	range_delete(stage, 3, 6, 5);
	stage_close(stage);
}

static void
a_walk_stops_when_told(void **state)
{
	struct stage *stage = stage_open();
	struct seen seen = {.stop_at = 3};

	(void)state;
	for (uint64_t seq = 1; seq < 10; seq++)
		put(stage, 0, seq);
	assert_int_equal(
	    inbox_each(&stage->box.txn, users[0], 2, 9, see, &seen), 0);
	assert_int_equal(seen.count, 3);
	assert_int_equal(seen.seqs[2], 5);
	seen = (struct seen){.count = 0};
	assert_int_equal(
	    inbox_each(&stage->box.txn, users[0], 9, 9, see, &seen), 0);
	assert_int_equal(
	    inbox_each(&stage->box.txn, users[0], 9, 3, see, &seen), 0);
	assert_int_equal(inbox_each(&stage->box.txn, users[0], UINT64_MAX - 1,
			     UINT64_MAX, see, &seen),
	    0);
	assert_int_equal(seen.count, 0);
	stage_close(stage);
}

static bool
never(void *ctx, const struct inbox_event *event)
{
	(void)ctx;
	(void)event;
	fail_msg("a damaged event was shown");
	return false;
}

static void
check_damaged(struct stage *stage, const void *key, const void *row, size_t len)
{
	assert_int_equal(
	    txn_put(&stage->box.txn, DBI_inbox, key, 16, row, len), 0);
	assert_int_equal(
	    inbox_each(&stage->box.txn, users[0], 0, UINT64_MAX, never, NULL),
	    0);
}

static void
a_damaged_event_is_never_served(void **state)
{
	struct stage *stage = stage_open();
	uint8_t row[sizeof(struct inbox_row) + 1] = {0};
	struct seen seen = {.count = 0};
	uint8_t key[16];
	struct blob value;

	(void)state;
	put(stage, 0, 9);
	key_u64(key, users[0]);
	key_u64(key + 8, 9);
	assert_int_equal(
	    txn_get(&stage->box.txn, DBI_inbox, key, sizeof(key), &value), 0);
	assert_int_equal(value.len, sizeof(struct inbox_row));
	memcpy(row, value.data, value.len);
	for (size_t bit = 0; bit < 8 * sizeof(struct inbox_row); bit++) {
		row[bit / 8] ^= (uint8_t)(1 << bit % 8);
		check_damaged(stage, key, row, sizeof(struct inbox_row));
		row[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t len = 0; len <= sizeof(row); len++) {
		if (len != sizeof(struct inbox_row))
			check_damaged(stage, key, row, len);
	}
	/* the same row for another seq, and for another user */
	assert_int_equal(txn_del(&stage->box.txn, DBI_inbox, key, 16), 0);
	key[15] = 8;
	check_damaged(stage, key, row, sizeof(struct inbox_row));
	assert_int_equal(txn_del(&stage->box.txn, DBI_inbox, key, 16), 0);
	key[15] = 9;
	key[7] = 2;
	assert_int_equal(txn_put(&stage->box.txn, DBI_inbox, key, 16, row,
			     sizeof(struct inbox_row)),
	    0);
	assert_int_equal(
	    inbox_each(&stage->box.txn, users[1], 0, UINT64_MAX, never, NULL),
	    0);
	/* it does not spoil the transaction, and it can be deleted */
	uint64_t above = 0;
	assert_int_equal(
	    inbox_delete(&stage->box.txn, users[1], &above, 9, SIZE_MAX), 0);
	assert_int_equal(above, 9);
	put(stage, 1, 10);
	seen.user = 1;
	assert_int_equal(
	    inbox_each(&stage->box.txn, users[1], 0, UINT64_MAX, see, &seen),
	    0);
	assert_int_equal(seen.count, 1);
	stage_close(stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(ranges_are_those_of_a_naive_list),
	    cmocka_unit_test(deletes_of_every_length_leave_the_rest),
	    cmocka_unit_test(a_walk_stops_when_told),
	    cmocka_unit_test(a_damaged_event_is_never_served),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
