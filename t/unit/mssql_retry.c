/*
 * mssql_retry.c - unit test of directory/mssql_retry.c and of the table of
 * errors under it: what is repeated, where, how often, and what is not.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "directory/mssql_retry.h"

#define FAR_MS 1000000

static struct mssql_job
failed(enum tds_class class, int32_t number, bool is_idempotent)
{
	return (struct mssql_job){
	    .deadline_ms = FAR_MS,
	    .is_idempotent = is_idempotent,
	    .rc = ERR_UNAVAILABLE,
	    .error = {.class = class, .number = number},
	};
}

static void
the_table_is_sorted_and_has_what_matters(void **state)
{
	static const int32_t numbers[] = {
#define NUMBER(number, class, text) number,
#include "tds/errors.def"
#undef NUMBER
	};
	size_t count = sizeof(numbers) / sizeof(numbers[0]);

	(void)state;
	for (size_t i = 1; i < count; i++)
		assert_true(numbers[i - 1] < numbers[i]);
	assert_int_equal(tds_classify(1205, 13), TDS_CLASS_RETRY_NOW);
	assert_int_equal(tds_classify(2627, 14), TDS_CLASS_DUPLICATE);
	assert_int_equal(tds_classify(3906, 16), TDS_CLASS_READ_ONLY);
	assert_int_equal(tds_classify(18456, 14), TDS_CLASS_LOGIN);
	assert_int_equal(tds_classify(2812, 16), TDS_CLASS_BAD_SETUP);
	assert_int_equal(tds_classify(numbers[0], 16), TDS_CLASS_BAD_SETUP);
	assert_int_equal(tds_classify(numbers[count - 1], 16), TDS_CLASS_RETRY);
}

static void
an_unknown_number_is_judged_by_its_severity(void **state)
{
	(void)state;
	assert_int_equal(tds_classify(50000, 16), TDS_CLASS_BAD_SETUP);
	assert_int_equal(tds_classify(50000, 17), TDS_CLASS_RETRY);
	assert_int_equal(tds_classify(50000, 19), TDS_CLASS_RETRY);
	assert_int_equal(tds_classify(50000, 20), TDS_CLASS_LOST);
	assert_int_equal(tds_classify(INT32_MIN, 0), TDS_CLASS_BAD_SETUP);
	assert_int_equal(tds_classify(INT32_MAX, 25), TDS_CLASS_LOST);
}

static void
a_deadlock_victim_is_repeated_at_once_and_not_for_ever(void **state)
{
	struct mssql_job job = failed(TDS_CLASS_RETRY_NOW, 1205, true);

	(void)state;
	for (int i = 0; i < MSSQL_AT_ONCE_MAX; i++)
		assert_int_equal(
		    mssql_retry_next(&job, true, 0, 0), MSSQL_AT_ONCE);
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_PAUSE);
	job = failed(TDS_CLASS_RETRY_NOW, 1205, false);
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_DONE);
}

static void
pauses_double_with_jitter_and_end(void **state)
{
	struct mssql_job job = failed(TDS_CLASS_RETRY, 40501, true);
	int64_t base = MSSQL_PAUSE_MS;

	(void)state;
	for (int i = 0; i < MSSQL_PAUSES_MAX; i++) {
		assert_int_equal(
		    mssql_retry_next(&job, true, 0, (uint32_t)i * 777777777U),
		    MSSQL_PAUSE);
		assert_in_range(
		    job.retry_at_ms, base - base / 4, base + base / 4);
		base *= 2;
	}
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_DONE);
}

static void
what_may_have_happened_is_repeated_only_if_idempotent(void **state)
{
	struct mssql_job job = failed(TDS_CLASS_LOST, 20017, false);

	(void)state;
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_DONE);
	job = failed(TDS_CLASS_LOST, 20017, true);
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_AT_ONCE);
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_PAUSE);
	job = failed(TDS_CLASS_LOST, 0, true); /* our deadline: it hangs */
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_PAUSE);
	job = failed(TDS_CLASS_RETRY, 20009, false); /* never sent */
	assert_int_equal(mssql_retry_next(&job, false, 0, 0), MSSQL_PAUSE);
}

static void
what_will_not_change_is_not_repeated(void **state)
{
	static const enum tds_class final[] = {TDS_CLASS_BAD_ROW,
	    TDS_CLASS_BAD_SETUP, TDS_CLASS_LOGIN, TDS_CLASS_NONE};

	(void)state;
	for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++) {
		struct mssql_job job = failed(final[i], 1, true);

		assert_int_equal(
		    mssql_retry_next(&job, true, 0, 0), MSSQL_DONE);
	}
}

static void
nothing_is_repeated_beyond_the_deadline(void **state)
{
	struct mssql_job job = failed(TDS_CLASS_RETRY, 40501, true);

	(void)state;
	job.deadline_ms = MSSQL_PAUSE_MS - MSSQL_PAUSE_MS / 4;
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_DONE);
	job.deadline_ms++;
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_PAUSE);
	job = failed(TDS_CLASS_RETRY_NOW, 1205, true);
	assert_int_equal(mssql_retry_next(&job, true, FAR_MS, 0), MSSQL_DONE);
}

static void
a_replica_that_fails_is_left_for_the_primary(void **state)
{
	struct mssql_job job = failed(TDS_CLASS_LOGIN, 18456, true);

	(void)state;
	job.place = MSSQL_REPLICA;
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_ELSEWHERE);
	assert_int_equal(job.place, MSSQL_PRIMARY);
	assert_int_equal(mssql_retry_next(&job, true, 0, 0), MSSQL_DONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_table_is_sorted_and_has_what_matters),
	    cmocka_unit_test(an_unknown_number_is_judged_by_its_severity),
	    cmocka_unit_test(
		a_deadlock_victim_is_repeated_at_once_and_not_for_ever),
	    cmocka_unit_test(pauses_double_with_jitter_and_end),
	    cmocka_unit_test(
		what_may_have_happened_is_repeated_only_if_idempotent),
	    cmocka_unit_test(what_will_not_change_is_not_repeated),
	    cmocka_unit_test(nothing_is_repeated_beyond_the_deadline),
	    cmocka_unit_test(a_replica_that_fails_is_left_for_the_primary),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
