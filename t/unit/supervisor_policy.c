/*
 * supervisor_policy.c - restart, pause or give up; legal state changes.
 *
 * Role:    unit tests of supervisor/policy.c.
 * Process: test.
 * Blocks:  never.
 * Trust:   none.
 * See:     supervisor/policy.h.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/policy.h"

/* not the defaults: a constant in the code would show */
#define MIN_UPTIME_MS 7000
#define DELAY_MS      120
#define RESTARTS_MAX  8

static const struct restart_limits limits = {
    .min_uptime_ms = MIN_UPTIME_MS,
    .delay_ms = DELAY_MS,
    .restarts_max = RESTARTS_MAX,
};

static void
first_failures_are_answered_at_once(void **state)
{
	struct restart_policy policy = {0};
	int64_t pause_ms = -1;

	(void)state;
	for (int i = 0; i < POLICY_FREE_RESTARTS; i++) {
		assert_int_equal(
		    policy_died(&policy, &limits, 0, false, &pause_ms),
		    RESTART_NOW);
		assert_int_equal(pause_ms, 0);
	}
	assert_int_equal(
	    policy_died(&policy, &limits, 0, false, &pause_ms), RESTART_LATER);
	assert_int_equal(pause_ms, DELAY_MS);
}

static void
two_deaths_in_the_store_are_one_too_many(void **state)
{
	struct doubt_watch watch = {0};
	int64_t now_ms = 5000;

	(void)state;
	assert_false(policy_doubt(&watch, now_ms));
	assert_true(policy_doubt(&watch, now_ms + 1));
	/* after a verdict they are counted anew */
	assert_false(policy_doubt(&watch, now_ms + 2));
	assert_true(policy_doubt(&watch, now_ms + 1 + POLICY_DOUBT_MS));
	/* far apart they are no pair, but the second may be the first */
	now_ms += 10 * POLICY_DOUBT_MS;
	assert_false(policy_doubt(&watch, now_ms));
	assert_false(policy_doubt(&watch, now_ms + POLICY_DOUBT_MS));
	assert_true(policy_doubt(&watch, now_ms + 2 * POLICY_DOUBT_MS - 1));
}

static void
pauses_grow_by_half(void **state)
{
	struct restart_policy policy = {0};
	int64_t pause_ms = 0;
	int64_t before_ms;

	(void)state;
	for (int i = 0; i <= POLICY_FREE_RESTARTS; i++)
		(void)policy_died(&policy, &limits, 0, false, &pause_ms);
	for (int i = POLICY_FREE_RESTARTS + 2; i < RESTARTS_MAX; i++) {
		before_ms = pause_ms;
		assert_int_equal(
		    policy_died(&policy, &limits, 0, false, &pause_ms),
		    RESTART_LATER);
		assert_int_equal(pause_ms, before_ms + before_ms / 2);
	}
}

static void
too_many_short_lives_end_in_errored(void **state)
{
	struct restart_policy policy = {0};
	int64_t pause_ms;

	(void)state;
	for (int i = 1; i < RESTARTS_MAX; i++)
		assert_int_not_equal(policy_died(&policy, &limits,
					 MIN_UPTIME_MS - 1, false, &pause_ms),
		    RESTART_NEVER);
	assert_int_equal(
	    policy_died(&policy, &limits, MIN_UPTIME_MS - 1, false, &pause_ms),
	    RESTART_NEVER);
	assert_int_equal(
	    policy_died(&policy, &limits, 0, false, &pause_ms), RESTART_NEVER);
	policy_clear(&policy);
	assert_int_equal(
	    policy_died(&policy, &limits, 0, false, &pause_ms), RESTART_NOW);
}

static void
a_long_life_forgets_the_short_ones(void **state)
{
	struct restart_policy policy = {0};
	int64_t pause_ms;

	(void)state;
	for (int i = 1; i < RESTARTS_MAX; i++)
		(void)policy_died(&policy, &limits, 0, false, &pause_ms);
	assert_int_equal(
	    policy_died(&policy, &limits, MIN_UPTIME_MS, false, &pause_ms),
	    RESTART_NOW);
	assert_int_equal(policy.short_lives, 0);
	for (int i = 0; i < POLICY_FREE_RESTARTS; i++)
		assert_int_equal(
		    policy_died(&policy, &limits, 0, false, &pause_ms),
		    RESTART_NOW);
	assert_int_equal(
	    policy_died(&policy, &limits, 0, false, &pause_ms), RESTART_LATER);
	assert_int_equal(pause_ms, DELAY_MS);
}

static void
a_pause_never_exceeds_its_limit(void **state)
{
	struct restart_policy policy = {
	    .short_lives = POLICY_FREE_RESTARTS,
	    .pause_ms = POLICY_BACKOFF_MAX_MS - 1,
	};
	int64_t pause_ms;

	(void)state;
	assert_int_equal(
	    policy_died(&policy, &limits, 0, false, &pause_ms), RESTART_LATER);
	assert_int_equal(pause_ms, POLICY_BACKOFF_MAX_MS);
	policy.short_lives = POLICY_FREE_RESTARTS;
	assert_int_equal(
	    policy_died(&policy, &limits, 0, false, &pause_ms), RESTART_LATER);
	assert_int_equal(pause_ms, POLICY_BACKOFF_MAX_MS);
}

static void
a_kill_from_outside_is_no_failure(void **state)
{
	struct restart_policy policy = {0};
	int64_t pause_ms;

	(void)state;
	for (int i = 0; i < 10 * RESTARTS_MAX; i++) {
		assert_int_equal(policy_died(&policy, &limits, POLICY_HARDLY_MS,
				     true, &pause_ms),
		    RESTART_NOW);
		assert_int_equal(pause_ms, 0);
	}
	assert_int_equal(policy.short_lives, 0);
	/* one that is killed before it can do anything is a crash loop, too */
	for (int i = 1; i < RESTARTS_MAX; i++)
		(void)policy_died(
		    &policy, &limits, POLICY_HARDLY_MS - 1, true, &pause_ms);
	assert_int_equal(
	    policy_died(&policy, &limits, 0, true, &pause_ms), RESTART_NEVER);
}

static void
a_peak_of_memory_is_forgiven(void **state)
{
	struct memory_watch watch = {0};

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 1; i < POLICY_LOOKS; i++)
			assert_false(policy_memory_look(&watch, 101, 100));
		/* exactly the limit is not above it */
		assert_false(policy_memory_look(&watch, 100, 100));
	}
}

static void
memory_that_stays_above_is_noticed(void **state)
{
	struct memory_watch watch = {0};

	(void)state;
	for (int i = 1; i < POLICY_LOOKS; i++) {
		assert_false(policy_memory_look(&watch, 100 + i, 100));
		/* a look that fails neither counts nor forgives */
		assert_false(policy_memory_look(&watch, -1, 100));
	}
	assert_true(policy_memory_look(&watch, 101, 100));
	assert_int_equal(watch.peak_bytes, 100 + POLICY_LOOKS - 1);
	assert_true(policy_memory_look(&watch, 101, 100));
	/* a limit that is taken away by a reload counts at once */
	assert_false(policy_memory_look(&watch, 101, 0));
	assert_int_equal(watch.above, 0);
}

static void
without_a_limit_any_size_is_right(void **state)
{
	struct memory_watch watch = {0};

	(void)state;
	for (int i = 0; i < 10 * POLICY_LOOKS; i++)
		assert_false(policy_memory_look(&watch, INT64_MAX, 0));
}

/* Row: from; column: to; in the order of enum process_state. */
static void
only_the_legal_changes_are_permitted(void **state)
{
	static const bool legal[6][6] = {
	    /* dead  starting running stopping backoff errored */
	    {false, true, false, false, true, true},   /* dead */
	    {true, false, true, true, false, false},   /* starting */
	    {true, false, false, true, false, false},  /* running */
	    {true, false, false, false, false, false}, /* stopping */
	    {true, true, false, false, false, false},  /* backoff */
	    {true, false, false, false, false, false}, /* errored */
	};

	(void)state;
	for (unsigned from = 0; from < 6; from++) {
		for (unsigned to = 0; to < 6; to++)
			assert_int_equal(
			    policy_may_follow(from, to), legal[from][to]);
	}
	assert_false(policy_may_follow((enum process_state)6, PROCESS_DEAD));
	assert_false(policy_may_follow(PROCESS_DEAD, (enum process_state)6));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(first_failures_are_answered_at_once),
	    cmocka_unit_test(two_deaths_in_the_store_are_one_too_many),
	    cmocka_unit_test(pauses_grow_by_half),
	    cmocka_unit_test(too_many_short_lives_end_in_errored),
	    cmocka_unit_test(a_long_life_forgets_the_short_ones),
	    cmocka_unit_test(a_pause_never_exceeds_its_limit),
	    cmocka_unit_test(a_kill_from_outside_is_no_failure),
	    cmocka_unit_test(a_peak_of_memory_is_forgiven),
	    cmocka_unit_test(memory_that_stays_above_is_noticed),
	    cmocka_unit_test(without_a_limit_any_size_is_right),
	    cmocka_unit_test(only_the_legal_changes_are_permitted),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
	    "supervisor policy", tests, NULL, NULL);
}
