/*
 * store_ages.c - unit test of shm/ages.c: which ids there were by when.
 */
#include "config.h"

#include "shm/ages.h"
#include "t/unit/store_box.h"

static void
is_upto(struct store_box *box, int64_t age_ms, uint64_t id)
{
	uint64_t found;

	assert_int_equal(ages_upto(&box->txn, age_ms, &found), 0);
	assert_int_equal(found, id);
}

static void
the_last_note_before_a_time_counts(void **state)
{
	struct store_box box;
	int64_t last;

	(void)state;
	box_open(&box);
	box_begin(&box);
	is_upto(&box, INT64_MAX - 1, 0);
	is_upto(&box, -1, 0);
	assert_int_equal(ages_last(&box.txn, &last), ERR_NOT_FOUND);
	assert_int_equal(ages_put(&box.txn, 1000, 7), 0);
	assert_int_equal(ages_put(&box.txn, 70000, 9), 0);
	is_upto(&box, INT64_MIN, 0);
	is_upto(&box, -1, 0);
	is_upto(&box, 0, 0);
	is_upto(&box, 999, 0);
	is_upto(&box, 1000, 7);
	is_upto(&box, 69999, 7);
	is_upto(&box, 70000, 9);
	is_upto(&box, INT64_MAX - 1, 9);
	is_upto(&box, INT64_MAX, 9);
	assert_int_equal(ages_last(&box.txn, &last), 0);
	assert_int_equal(last, 70000);
	box_close(&box);
}

/* Time in the store that went back: whoever lives, lives longer. */
static void
a_note_of_a_later_time_tells_nothing_of_an_earlier_one(void **state)
{
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(ages_put(&box.txn, 5000, 100), 0);
	assert_int_equal(ages_put(&box.txn, 3000, 200), 0);
	is_upto(&box, 4999, 200);
	is_upto(&box, 5000, 100);
	box_close(&box);
}

static void
what_nobody_asks_for_is_forgotten(void **state)
{
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(ages_forget(&box.txn, 1000, 10), 0);
	for (int i = 1; i <= 20; i++)
		assert_int_equal(ages_put(&box.txn, i * 100, (uint64_t)i), 0);
	assert_int_equal(ages_forget(&box.txn, -1, 10), 0);
	assert_int_equal(ages_forget(&box.txn, 99, 10), 0);
	assert_int_equal(ages_forget(&box.txn, 100, 10), 0);
	assert_int_equal(store_count(&box.txn, DBI_ages), 20);
	/* a few at a time */
	assert_int_equal(ages_forget(&box.txn, 1050, 4), 0);
	assert_int_equal(store_count(&box.txn, DBI_ages), 16);
	assert_int_equal(ages_forget(&box.txn, 1050, 100), 0);
	assert_int_equal(store_count(&box.txn, DBI_ages), 11);
	is_upto(&box, 1050, 10);
	is_upto(&box, 1100, 11);
	assert_int_equal(ages_forget(&box.txn, INT64_MAX, 100), 0);
	assert_int_equal(store_count(&box.txn, DBI_ages), 1);
	is_upto(&box, 2000, 20);
	box_close(&box);
}

/* Not there, as far as anybody can tell: then the one before it counts. */
static void
a_damaged_note_is_stepped_over(void **state)
{
	const uint64_t key = 2000;
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(ages_put(&box.txn, 1000, 7), 0);
	assert_int_equal(
	    txn_put(&box.txn, DBI_ages, &key, sizeof(key), "short", 5), 0);
	is_upto(&box, 3000, 7);
	assert_int_equal(ages_put(&box.txn, 4000, 9), 0);
	is_upto(&box, 3999, 7);
	assert_int_equal(ages_forget(&box.txn, 5000, 10), 0);
	assert_int_equal(store_count(&box.txn, DBI_ages), 1);
	is_upto(&box, 5000, 9);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_last_note_before_a_time_counts),
	    cmocka_unit_test(
		a_note_of_a_later_time_tells_nothing_of_an_earlier_one),
	    cmocka_unit_test(what_nobody_asks_for_is_forgotten),
	    cmocka_unit_test(a_damaged_note_is_stepped_over),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
