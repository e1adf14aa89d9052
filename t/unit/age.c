/*
 * age.c - unit test of keeper/age.c: time in the store goes on by what has
 * passed, whatever the clocks say.
 */
#include "t/unit/store_box.h"

#include "base/clock.h"
#include "keeper/age.h"

#define HOUR INT64_C(3600000)
#define DAY  (24 * HOUR)

static const struct meta_age last = {
    .age_ms = 1000 * DAY,
    .wall_ms = 2000 * DAY,
    .mono_ms = 5 * DAY,
    .boot = "0f1e2d3c-0000-4000-8000-000000000001",
};

static void
one_boot_counts_by_the_monotonic_clock(void **state)
{
	struct meta_age now = last;

	(void)state;
	assert_int_equal(age_since(&last, &now), 1000 * DAY);
	now.mono_ms += 7;
	now.wall_ms += 400 * DAY;
	assert_int_equal(age_since(&last, &now), 1000 * DAY + 7);
	now.wall_ms = 0;
	assert_int_equal(age_since(&last, &now), 1000 * DAY + 7);
	now.mono_ms = last.mono_ms + 90 * DAY; /* the server was off so long */
	assert_int_equal(age_since(&last, &now), 1090 * DAY);
}

static void
another_boot_counts_by_the_wall_clock_an_hour_at_most(void **state)
{
	struct meta_age now = last;

	(void)state;
	now.boot[0] = '1';
	now.mono_ms = 6 * DAY;
	now.wall_ms += 1234;
	assert_int_equal(age_since(&last, &now), 1000 * DAY + 1234);
	now.wall_ms = last.wall_ms + HOUR;
	assert_int_equal(age_since(&last, &now), 1000 * DAY + HOUR);
	now.wall_ms = last.wall_ms + HOUR + 1;
	assert_int_equal(age_since(&last, &now), 1000 * DAY + HOUR);
	now.wall_ms = last.wall_ms + 9999 * DAY;
	assert_int_equal(age_since(&last, &now), 1000 * DAY + HOUR);
	now.wall_ms = last.wall_ms - 1;
	assert_int_equal(age_since(&last, &now), 1000 * DAY);
	now.wall_ms = 0;
	assert_int_equal(age_since(&last, &now), 1000 * DAY);
}

static void
no_boot_is_the_same_without_a_name_or_with_a_clock_that_went_back(void **state)
{
	struct meta_age before = last;
	struct meta_age now = last;

	(void)state;
	now.mono_ms = last.mono_ms - 1; /* a copy on another machine */
	assert_int_equal(age_since(&last, &now), 1000 * DAY);
	memset(before.boot, 0, sizeof(before.boot));
	now = before;
	now.mono_ms += 90 * DAY;
	assert_int_equal(age_since(&before, &now), 1000 * DAY);
}

/* Open the age of the box, in a transaction of its own. */
static void
open_age(struct store_box *box, struct age *age)
{
	assert_int_equal(store_begin_write(box->main, &box->txn), 0);
	assert_int_equal(age_open(age, &box->txn), 0);
	assert_int_equal(txn_commit(&box->txn), 0);
}

static void
save_age(struct store_box *box, struct age *age)
{
	assert_int_equal(store_begin_write(box->main, &box->txn), 0);
	assert_int_equal(age_save(age, &box->txn), 0);
	assert_int_equal(txn_commit(&box->txn), 0);
}

static void
it_begins_with_the_wall_clock_and_goes_on(void **state)
{
	struct store_box box;
	struct age first;
	struct age next;
	int64_t wall_ms = clock_wall_ms();

	(void)state;
	box_open(&box);
	open_age(&box, &first);
	assert_in_range(age_now(&first), wall_ms, wall_ms + 10000);
	save_age(&box, &first);
	clock_shift(30000);
	save_age(&box, &first); /* not again so soon: that is no matter */
	open_age(&box, &next);
	assert_in_range(age_now(&next) - age_now(&first) + 10, 0, 20);
	clock_shift(60000);
	assert_in_range(age_now(&next), wall_ms + 90000, wall_ms + 100000);
	box_close(&box);
}

static void
a_damaged_row_is_forgotten(void **state)
{
	struct meta_age wrong[] = {
	    {.age_ms = -1},
	    {.age_ms = INT64_MAX},
	    {.mono_ms = INT64_MIN},
	    {.wall_ms = INT64_MIN},
	    {.wall_ms = INT64_MAX},
	};
	struct store_box box;
	struct age age;

	(void)state;
	box_open(&box);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(store_begin_write(box.main, &box.txn), 0);
		assert_int_equal(meta_age_put(&box.txn, &wrong[i]), 0);
		assert_int_equal(age_open(&age, &box.txn), 0);
		txn_end(&box.txn);
		assert_in_range(age_now(&age), clock_wall_ms() - 10000,
		    clock_wall_ms() + 10000);
	}
	assert_int_equal(store_begin_write(box.main, &box.txn), 0);
	assert_int_equal(txn_put(&box.txn, DBI_meta, "age", 3, "short", 5), 0);
	assert_int_equal(age_open(&age, &box.txn), 0);
	txn_end(&box.txn);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_boot_counts_by_the_monotonic_clock),
	    cmocka_unit_test(
		another_boot_counts_by_the_wall_clock_an_hour_at_most),
	    cmocka_unit_test(
		no_boot_is_the_same_without_a_name_or_with_a_clock_that_went_back),
	    cmocka_unit_test(it_begins_with_the_wall_clock_and_goes_on),
	    cmocka_unit_test(a_damaged_row_is_forgotten),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
