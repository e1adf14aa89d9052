/*
 * mssql_plan.c - unit test of src/directory/mssql_plan.c: every entry has one
 * fate, bad ones are found in few calls, and nothing is sent twice for it.
 */
#include "config.h"

#include "directory/mssql_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "directory/outbox_batch.h"

#define ENTRIES BATCH_ENTRIES_MAX

/* A database that takes or refuses, and forgets nothing. */
struct table {
	bool is_bad[ENTRIES];
	unsigned written[ENTRIES];
	unsigned refused[ENTRIES];
	unsigned calls;
};

static struct table table;

static bool
has_bad(size_t from, size_t end)
{
	for (size_t i = from; i < end; i++) {
		if (table.is_bad[i])
			return true;
	}
	return false;
}

static void
call(struct mssql_plan *plan)
{
	size_t bad = ENTRIES;

	table.calls++;
	assert_true(plan->done < plan->end);
	assert_true(plan->end <= plan->count);
	if (!has_bad(plan->done, plan->end)) {
		for (size_t i = plan->done; i < plan->end; i++)
			table.written[i]++;
		mssql_plan_written(plan, 35);
	} else if (mssql_plan_refused(plan, &bad)) {
		table.refused[bad]++;
	}
}

static void
assert_fates(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(table.written[i], !table.is_bad[i]);
		assert_int_equal(table.refused[i], table.is_bad[i]);
	}
}

static void
run(struct mssql_plan *plan, size_t count)
{
	assert_false(
	    mssql_plan_begin(plan, plan->last + 1, plan->last + count, count));
	while (mssql_plan_next(plan))
		call(plan);
	assert_fates(count);
}

static void
calls_grow_to_the_whole_batch(void **state)
{
	struct mssql_plan plan = {0};

	(void)state;
	memset(&table, 0, sizeof(table));
	run(&plan, ENTRIES);
	/* 128, 256, 512, 1024, the rest */
	assert_int_equal(table.calls, 5);
	memset(&table, 0, sizeof(table));
	run(&plan, ENTRIES);
	assert_int_equal(table.calls, 1);
	memset(&table, 0, sizeof(table));
	run(&plan, 1);
	assert_int_equal(table.calls, 1);
	assert_int_equal(plan.rows, ENTRIES);
}

static void
slow_calls_shrink_and_stay_useful(void **state)
{
	struct mssql_plan plan = {0};

	(void)state;
	mssql_plan_begin(&plan, 1, ENTRIES, ENTRIES);
	for (int i = 0; i < 20; i++) {
		assert_true(mssql_plan_next(&plan));
		mssql_plan_failed(&plan);
	}
	assert_int_equal(plan.rows, 1);
	assert_int_equal(plan.done, 0);
	assert_true(mssql_plan_next(&plan));
	assert_int_equal(plan.end, 1);
	mssql_plan_written(&plan, 400); /* neither quick nor slow */
	assert_int_equal(plan.rows, 1);
	assert_true(mssql_plan_next(&plan));
	mssql_plan_written(&plan, 35);
	assert_int_equal(plan.rows, 2);
	assert_true(mssql_plan_next(&plan));
	mssql_plan_written(&plan, 1000);
	assert_int_equal(plan.rows, 1);
	assert_int_equal(plan.done, 4);
}

static void
one_bad_row_costs_a_logarithm(void **state)
{
	static const size_t places[] = {0, 1, 1023, 1024, 1500, ENTRIES - 1};
	struct mssql_plan plan = {0};

	(void)state;
	memset(&table, 0, sizeof(table));
	run(&plan, ENTRIES); /* now a call has them all */
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		memset(&table, 0, sizeof(table));
		table.is_bad[places[i]] = true;
		run(&plan, ENTRIES);
		/* 11 halvings, each with the half that was good, and what
		 * is behind */
		assert_in_range(table.calls, 12, 24);
	}
}

static void
every_place_and_pair_of_bad_rows(void **state)
{
	struct mssql_plan plan = {0};

	(void)state;
	for (size_t count = 1; count <= 33; count++) {
		for (size_t a = 0; a < count; a++) {
			for (size_t b = a; b < count; b++) {
				memset(&table, 0, sizeof(table));
				table.is_bad[a] = true;
				table.is_bad[b] = true;
				run(&plan, count);
			}
		}
	}
}

static void
all_may_be_bad(void **state)
{
	struct mssql_plan plan = {0};

	(void)state;
	memset(&table, 0, sizeof(table));
	memset(table.is_bad, true, sizeof(table.is_bad));
	run(&plan, 300);
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(table.refused[i], 1);
}

/* The call before each one fails: what was written before it is not sent
 * again, what was found out about bad rows is not forgotten. */
static void
the_same_batch_goes_on_where_it_was(void **state)
{
	struct mssql_plan plan = {0};
	unsigned failures = 0;

	(void)state;
	memset(&table, 0, sizeof(table));
	table.is_bad[77] = true;
	assert_false(mssql_plan_begin(&plan, 10, 209, 200));
	while (mssql_plan_next(&plan)) {
		size_t done = plan.done;

		if (failures < 3) { /* smaller calls, up to a limit */
			mssql_plan_failed(&plan);
			failures++;
		}
		assert_true(mssql_plan_begin(&plan, 10, 209, 200));
		assert_int_equal(plan.done, done);
		assert_true(mssql_plan_next(&plan));
		call(&plan);
	}
	assert_fates(200);
	/* ... and another one does not */
	assert_false(mssql_plan_begin(&plan, 210, 409, 200));
	assert_int_equal(plan.done, 0);
	assert_int_equal(plan.suspect, 0);
}

/* A call that holds fewer rows than it might, for their size. */
static void
a_call_may_end_early(void **state)
{
	struct mssql_plan plan = {0};
	size_t bad;

	(void)state;
	mssql_plan_begin(&plan, 1, 100, 100);
	assert_true(mssql_plan_next(&plan));
	assert_int_equal(plan.end, 100);
	plan.end = 7;
	assert_false(mssql_plan_refused(&plan, &bad));
	assert_true(mssql_plan_next(&plan));
	assert_int_equal(plan.end, 3);
	mssql_plan_written(&plan, 35);
	assert_int_equal(plan.done, 3);
	assert_true(mssql_plan_next(&plan));
	assert_int_equal(plan.end, 5);
	mssql_plan_written(&plan, 35);
	mssql_plan_next(&plan);
	mssql_plan_written(&plan, 35);
	assert_true(mssql_plan_next(&plan));
	assert_int_equal(plan.end, 7); /* it must be this one; it is asked */
	assert_true(mssql_plan_refused(&plan, &bad));
	assert_int_equal(bad, 6);
	assert_true(mssql_plan_next(&plan));
	assert_int_equal(plan.done, 7);
	assert_int_equal(plan.end, 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(calls_grow_to_the_whole_batch),
	    cmocka_unit_test(slow_calls_shrink_and_stay_useful),
	    cmocka_unit_test(one_bad_row_costs_a_logarithm),
	    cmocka_unit_test(every_place_and_pair_of_bad_rows),
	    cmocka_unit_test(all_may_be_bad),
	    cmocka_unit_test(the_same_batch_goes_on_where_it_was),
	    cmocka_unit_test(a_call_may_end_early),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
