/*
 * store_outbox.c - unit test of shm/outbox.c: blocks at every limit, a random
 * history against a naive model, damage.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/conf.h"
#include "t/unit/outbox_box.h"

#define QUEUES 3

/* Neighbours in the order of keys, and its end. */
static const uint8_t numbers[QUEUES] = {1, 2, 255};

static void
an_empty_outbox_has_nothing(void **state)
{
	struct stage *stage = *state;
	struct outbox_state row;
	uint64_t floor;
	int64_t at_ms;

	assert_int_equal(outbox_state_get(&stage->box.txn, 1, &row), 0);
	assert_int_equal(row.head, 0);
	assert_int_equal(row.tail, 0);
	assert_int_equal(count_from(stage, 1, 0), 0);
	assert_int_equal(count_from(stage, 1, UINT64_MAX), 0);
	assert_int_equal(
	    outbox_oldest(&stage->box.txn, 1, &at_ms), ERR_NOT_FOUND);
	assert_int_equal(outbox_floor(&stage->box.txn, &floor), ERR_NOT_FOUND);
	assert_int_equal(sweep(stage, 10), 0);
	next_txn(stage);
	assert_int_equal(row_count(stage), 0);
}

static void
what_was_put_is_read_in_order(void **state)
{
	struct stage *stage = *state;

	put_many(stage, 5);
	assert_int_equal(row_count(stage), 0);
	next_txn(stage);
	assert_int_equal(row_count(stage), 1);
	put_many(stage, 1000);
	next_txn(stage);
	assert_int_equal(stage->outbox.committed.head, 1005);
	for (uint64_t from = 1; from <= 1005; from++)
		assert_int_equal(count_from(stage, 1, from), 1006 - from);
	assert_int_equal(count_from(stage, 1, 1006), 0);
}

static void
a_reader_may_stop_anywhere(void **state)
{
	struct stage *stage = *state;

	put_many(stage, 700);
	next_txn(stage);
	for (uint64_t stop_at = 1; stop_at <= 700; stop_at++) {
		struct seen seen = {.from = 1, .stop_at = stop_at};

		assert_int_equal(
		    outbox_each(&stage->box.txn, 1, 1, see, &seen), 0);
		assert_int_equal(seen.count, stop_at);
	}
}

static bool
take_one(void *ctx, const struct outbox_entry *entry)
{
	*(struct outbox_entry *)ctx = *entry;
	return false;
}

/* As a message is, but older ones hold nothing back: messages in between may
 * have been deleted from the log. A dead letter does: somebody may retry it. */
static void
what_was_changed_is_named_by_its_message(void **state)
{
	static const enum outbox_kind kinds[] = {
	    OUTBOX_MESSAGE, OUTBOX_EDIT, OUTBOX_DELETE};
	struct stage *stage = *state;
	struct outbox_entry entry = {0};
	uint64_t floor;
	size_t count;

	entry.kind = OUTBOX_MESSAGE;
	entry.message_id = 499;
	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
	next_txn(stage);
	assert_int_equal(outbox_done(&stage->outbox, 1), 0);
	for (uint64_t i = 0; i < 3; i++) {
		entry.kind = kinds[i];
		entry.message_id = i == 0 ? 500 : 40 + i;
		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
		next_txn(stage);
	}
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(
		    outbox_each(&stage->box.txn, 1, i + 2, take_one, &entry),
		    0);
		assert_int_equal(entry.kind, kinds[i]);
		assert_int_equal(entry.number, i + 2);
		assert_int_equal(entry.message_id, i == 0 ? 500 : 40 + i);
	}
	assert_string_equal(outbox_kind_name(OUTBOX_EDIT), "edit");
	assert_string_equal(outbox_kind_name(OUTBOX_DELETE), "delete");
	assert_int_equal(outbox_floor(&stage->box.txn, &floor), 0);
	assert_int_equal(floor, 500);
	assert_int_equal(
	    outbox_reject(&stage->box.txn, &stage->outbox, 3, -1, "no", 2), 0);
	assert_int_equal(outbox_done(&stage->outbox, 4), 0);
	next_txn(stage);
	assert_int_equal(outbox_floor(&stage->box.txn, &floor), 0);
	assert_true(floor <= 41);
	assert_int_equal(outbox_retry(&stage->box.txn, &stage->outbox,
			     &(struct outbox_range){1, 4, 10}, &count),
	    0);
	assert_int_equal(count, 1);
	next_txn(stage);
	assert_int_equal(
	    outbox_each(&stage->box.txn, 1, 5, take_one, &entry), 0);
	assert_int_equal(entry.kind, OUTBOX_EDIT);
	assert_int_equal(entry.message_id, 41);
	assert_int_equal(outbox_floor(&stage->box.txn, &floor), 0);
	assert_true(floor <= 41);
}

/* A block that is full to the last byte, one short of it, one beyond. */
static void
a_block_is_filled_to_its_last_byte(void **state)
{
	struct stage *stage = *state;
	size_t room = OUTBOX_BLOCK_MAX - sizeof(struct outbox_block);
	struct outbox_entry message = {.kind = OUTBOX_MESSAGE, .message_id = 1};
	struct outbox_entry status = {.kind = OUTBOX_STATUS, .user = 1};
	size_t messages = (room - BIG_LEN) / MSG_LEN;
	size_t rest = room - messages * MSG_LEN; /* BIG_LEN and up to 8 more */

	for (size_t len = rest - 1; len <= rest + 1; len++) {
		uint64_t before = row_count(stage);
		uint64_t expected = before + (len > rest ? 2 : 1);
		size_t first = 2 * MSG_LEN + len - BIG_LEN - 12;

		/* two statuses: no single one is as long as what is left */
		for (size_t i = 0; i < messages - 2; i++)
			assert_int_equal(outbox_put(&stage->box.txn,
					     &stage->outbox, &message),
			    0);
		status.text = (struct blob){big_text, first};
		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &status), 0);
		status.text = (struct blob){big_text, STATUS_TEXT_MAX};
		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &status), 0);
		next_txn(stage);
		assert_int_equal(row_count(stage), expected);
	}
	status.text.len = STATUS_TEXT_MAX + 1;
	assert_int_equal(outbox_put(&stage->box.txn, &stage->outbox, &status),
	    ERR_TOO_LARGE);
	status.kind = OUTBOX_DAMAGED;
	assert_int_equal(outbox_put(&stage->box.txn, &stage->outbox, &status),
	    ERR_TOO_LARGE);
	status.kind = OUTBOX_KIND_END;
	assert_int_equal(outbox_put(&stage->box.txn, &stage->outbox, &status),
	    ERR_TOO_LARGE);
}

static void
an_undone_transaction_leaves_nothing(void **state)
{
	struct stage *stage = *state;

	put_many(stage, 300);
	next_txn(stage);
	put_many(stage, 1000);
	assert_int_equal(outbox_done(&stage->outbox, 200), 0);
	txn_end(&stage->box.txn);
	box_begin(&stage->box);
	outbox_begin(&stage->outbox, 5000);
	assert_int_equal(stage->outbox.state.head, 300);
	assert_int_equal(stage->outbox.state.tail, 0);
	put_many(stage, 10);
	next_txn(stage);
	assert_int_equal(count_from(stage, 1, 1), 310);
}

static void
only_what_is_committed_can_be_done(void **state)
{
	struct stage *stage = *state;

	put_many(stage, 10);
	assert_int_equal(outbox_done(&stage->outbox, 1), ERR_BAD_REQUEST);
	next_txn(stage);
	put_many(stage, 1);
	assert_int_equal(outbox_done(&stage->outbox, 11), ERR_BAD_REQUEST);
	assert_int_equal(outbox_done(&stage->outbox, 0), 0);
	assert_int_equal(outbox_done(&stage->outbox, 10), 0);
	assert_int_equal(outbox_done(&stage->outbox, 4), 0);
	assert_int_equal(stage->outbox.state.tail, 10);
}

static void
done_in_the_middle_of_a_block_keeps_the_block(void **state)
{
	struct stage *stage = *state;

	put_many(stage, 10);
	next_txn(stage);
	put_many(stage, 10);
	next_txn(stage);
	assert_int_equal(outbox_done(&stage->outbox, 9), 0);
	assert_int_equal(sweep(stage, 10), 0);
	assert_int_equal(count_from(stage, 1, 10), 11);
	assert_int_equal(outbox_done(&stage->outbox, 10), 0);
	assert_int_equal(sweep(stage, 10), 1);
	assert_int_equal(outbox_done(&stage->outbox, 19), 0);
	assert_int_equal(sweep(stage, 10), 0);
	assert_int_equal(count_from(stage, 1, 20), 1);
	assert_int_equal(outbox_done(&stage->outbox, 20), 0);
	assert_int_equal(sweep(stage, 10), 1);
	next_txn(stage);
	assert_int_equal(row_count(stage), 0);
	assert_int_equal(stage->outbox.committed.head, 20);
}

static void
sweeping_is_bounded(void **state)
{
	struct stage *stage = *state;

	for (int i = 0; i < 25; i++) {
		put_many(stage, 1);
		next_txn(stage);
	}
	assert_int_equal(outbox_done(&stage->outbox, 25), 0);
	assert_int_equal(sweep(stage, 10), 10);
	next_txn(stage);
	/* the tail is the truth, whatever rows are left */
	assert_int_equal(stage->outbox.state.tail, 25);
	assert_int_equal(sweep(stage, 10), 10);
	assert_int_equal(sweep(stage, 10), 5);
	assert_int_equal(sweep(stage, 10), 0);
}

static void
queues_do_not_see_each_other(void **state)
{
	struct stage *stage = *state;
	struct outbox others[QUEUES];
	size_t count;

	for (int i = 0; i < QUEUES; i++) {
		assert_int_equal(
		    outbox_load(&stage->box.txn, numbers[i], &others[i]), 0);
		outbox_begin(&others[i], 1000);
		for (uint64_t n = 1; n <= 100 + (uint64_t)i; n++) {
			struct outbox_entry entry = entry_of(n);

			assert_int_equal(
			    outbox_put(&stage->box.txn, &others[i], &entry), 0);
		}
		assert_int_equal(outbox_flush(&stage->box.txn, &others[i]), 0);
		outbox_committed(&others[i]);
	}
	for (int i = 0; i < QUEUES; i++)
		assert_int_equal(count_from(stage, numbers[i], 1), 100 + i);
	assert_int_equal(outbox_done(&others[1], 101), 0);
	assert_int_equal(
	    outbox_sweep(&stage->box.txn, &others[1], 1000, &count), 0);
	assert_int_equal(outbox_flush(&stage->box.txn, &others[1]), 0);
	assert_int_equal(
	    outbox_reject(&stage->box.txn, &others[0], 4, 1, "no", 2), 0);
	assert_int_equal(count_from(stage, 1, 1), 100);
	assert_int_equal(count_from(stage, 2, 1), 0);
	assert_int_equal(count_from(stage, 255, 1), 102);
}

static void
the_oldest_waiting_is_known(void **state)
{
	struct stage *stage = *state;
	int64_t at_ms = 0;

	put_many(stage, 3);
	next_txn(stage); /* at 1000 */
	put_many(stage, 3);
	next_txn(stage); /* at 2000 */
	assert_int_equal(outbox_oldest(&stage->box.txn, 1, &at_ms), 0);
	assert_int_equal(at_ms, 1000);
	assert_int_equal(outbox_done(&stage->outbox, 3), 0);
	next_txn(stage);
	assert_int_equal(outbox_oldest(&stage->box.txn, 1, &at_ms), 0);
	assert_int_equal(at_ms, 2000);
	assert_int_equal(outbox_done(&stage->outbox, 6), 0);
	next_txn(stage);
	assert_int_equal(
	    outbox_oldest(&stage->box.txn, 1, &at_ms), ERR_NOT_FOUND);
}

/* ---- a random history ---- */

static void
a_random_history_agrees_with_its_model(void **state)
{
	struct stage *stage = *state;
	uint64_t random = 88172645463325252ULL;
	uint64_t head = 0;
	uint64_t tail = 0;

	for (int round = 0; round < 400; round++) {
		uint64_t count = box_random(&random) % 300;
		bool is_undone = box_random(&random) % 5 == 0;
		uint64_t upto = tail + box_random(&random) % (head - tail + 1);

		put_many(stage, count);
		assert_int_equal(outbox_done(&stage->outbox, upto), 0);
		sweep(stage, box_random(&random) % 8);
		if (is_undone) {
			txn_end(&stage->box.txn);
			box_begin(&stage->box);
			outbox_begin(&stage->outbox, 1);
		} else {
			next_txn(stage);
			head += count;
			tail = upto;
		}
		/* as a process that has just started sees it */
		assert_int_equal(
		    outbox_load(&stage->box.txn, 1, &stage->outbox), 0);
		outbox_begin(&stage->outbox, 1);
		assert_int_equal(stage->outbox.state.head, head);
		assert_int_equal(stage->outbox.state.tail, tail);
		assert_int_equal(count_from(stage, 1, tail + 1), head - tail);
	}
	assert_true(head > 10000);
}

static void
a_damaged_state_is_not_taken_for_an_empty_one(void **state)
{
	static const uint8_t key[7] = {'o', 'u', 't', 'b', 'o', 'x', 1};
	struct stage *stage = *state;
	struct outbox_state row;
	struct blob value;

	put_many(stage, 4);
	next_txn(stage);
	assert_int_equal(
	    txn_get(&stage->box.txn, DBI_meta, key, sizeof(key), &value), 0);
	memcpy(&row, value.data, sizeof(row));
	row.tail = row.head + 1;
	assert_int_equal(txn_put(&stage->box.txn, DBI_meta, key, sizeof(key),
			     &row, sizeof(row)),
	    0);
	assert_int_equal(
	    outbox_load(&stage->box.txn, 1, &stage->outbox), ERR_CORRUPT);
	row.tail = 0;
	row.version++;
	assert_int_equal(txn_put(&stage->box.txn, DBI_meta, key, sizeof(key),
			     &row, sizeof(row)),
	    0);
	assert_int_equal(
	    outbox_load(&stage->box.txn, 1, &stage->outbox), ERR_CORRUPT);
	assert_int_equal(txn_put(&stage->box.txn, DBI_meta, key, sizeof(key),
			     &row, sizeof(row) - 1),
	    0);
	assert_int_equal(
	    outbox_load(&stage->box.txn, 1, &stage->outbox), ERR_CORRUPT);
}

/* ---- the table ---- */

static void
names_and_numbers_belong_together(void **state)
{
	struct conf *conf = NULL;
	char error[256];

	(void)state;
	assert_int_equal(conf_load(NULL, &conf, error, sizeof(error)), 0);
	for (int id = 0; id < OUTBOX_END; id++) {
		enum outbox_id outbox = (enum outbox_id)id;

		assert_int_equal(outbox_by_name(outbox_name(outbox)), outbox);
		assert_int_equal(
		    outbox_by_number(outbox_number(outbox)), outbox);
		assert_true(outbox_number(outbox) != 0);
		assert_false(outbox_is_on(outbox, conf));
	}
	assert_int_equal(outbox_by_name("nobody"), OUTBOX_END);
	assert_int_equal(outbox_by_number(0), OUTBOX_END);
	assert_int_equal(outbox_by_number(1 << 8 | 1), OUTBOX_END);
	conf->directory_rehearse_outbox = true;
	assert_true(outbox_is_on(OUTBOX_rehearsal, conf));
	for (int kind = 0; kind < OUTBOX_KIND_END; kind++)
		assert_non_null(outbox_kind_name((enum outbox_kind)kind));
	assert_string_equal(outbox_kind_name(OUTBOX_KIND_END), "unknown");
	conf_free(&conf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(an_empty_outbox_has_nothing),
	    TEST(what_was_put_is_read_in_order),
	    TEST(a_reader_may_stop_anywhere),
	    TEST(what_was_changed_is_named_by_its_message),
	    TEST(a_block_is_filled_to_its_last_byte),
	    TEST(an_undone_transaction_leaves_nothing),
	    TEST(only_what_is_committed_can_be_done),
	    TEST(done_in_the_middle_of_a_block_keeps_the_block),
	    TEST(sweeping_is_bounded),
	    TEST(queues_do_not_see_each_other),
	    TEST(the_oldest_waiting_is_known),
	    TEST(a_random_history_agrees_with_its_model),
	    TEST(a_damaged_state_is_not_taken_for_an_empty_one),
	    cmocka_unit_test(names_and_numbers_belong_together),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
