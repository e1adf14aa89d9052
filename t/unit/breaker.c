/*
 * breaker.c - unit test of base/breaker.c at each of its limits.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/breaker.h"

#define T0 INT64_C(1000000)

static void
report(struct breaker *breaker, int good, int bad, int64_t now)
{
	for (int i = 0; i < good; i++) {
		assert_true(breaker_may_try(breaker, now));
		breaker_report(breaker, true, now, now);
	}
	for (int i = 0; i < bad; i++) {
		assert_true(breaker_may_try(breaker, now));
		breaker_report(breaker, false, now, now);
	}
}

static void
fewer_than_five_say_nothing(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, "test", T0);
	report(&breaker, 0, BREAKER_VOLUME_MIN - 1, T0);
	assert_int_equal(breaker.state, BREAKER_CLOSED);
	report(&breaker, 0, 1, T0);
	assert_int_equal(breaker.state, BREAKER_OPEN);
	assert_int_equal(breaker.opened, 1);
	assert_string_equal(breaker_state_name(breaker.state), "OPEN");
}

static void
half_of_them_open_it_and_less_do_not(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, "test", T0);
	report(&breaker, 51, 49, T0);
	assert_int_equal(breaker.state, BREAKER_CLOSED);
	report(&breaker, 0, 1, T0);
	assert_int_equal(breaker.state, BREAKER_CLOSED);
	report(&breaker, 0, 1, T0);
	assert_int_equal(breaker.state, BREAKER_OPEN);
}

static void
what_is_ten_seconds_old_is_forgotten(void **state)
{
	struct breaker breaker;
	int64_t window = BREAKER_BUCKETS * BREAKER_BUCKET_MS;

	(void)state;
	breaker_init(&breaker, "test", T0);
	report(&breaker, 0, 4, T0 + 999);
	report(&breaker, 0, 1, T0 + window); /* the same bucket, another time */
	assert_int_equal(breaker.state, BREAKER_CLOSED);
	breaker_init(&breaker, "test", T0);
	report(&breaker, 0, 4, T0);
	report(&breaker, 0, 1, T0 + window - 1);
	assert_int_equal(breaker.state, BREAKER_OPEN);
}

static void
open_for_thirty_seconds_then_one_probe(void **state)
{
	struct breaker breaker;
	int64_t probe = T0 + BREAKER_OPEN_MS;

	(void)state;
	breaker_init(&breaker, "test", T0);
	report(&breaker, 0, 5, T0);
	assert_false(breaker_may_try(&breaker, T0));
	assert_int_equal(breaker_wait_ms(&breaker, T0), BREAKER_OPEN_MS);
	assert_false(breaker_may_try(&breaker, probe - 1));
	assert_int_equal(breaker_wait_ms(&breaker, probe - 1), 1);
	assert_int_equal(breaker_wait_ms(&breaker, probe), 0);
	assert_true(breaker_may_try(&breaker, probe));
	assert_int_equal(breaker.state, BREAKER_HALF_OPEN);
	assert_false(breaker_may_try(&breaker, probe + 60000));
	breaker_report(&breaker, true, probe, probe + 5);
	assert_int_equal(breaker.state, BREAKER_CLOSED);
	report(&breaker, 0, 4, probe + 5); /* nothing of old counts */
	assert_int_equal(breaker.state, BREAKER_CLOSED);
}

static void
a_probe_that_fails_opens_it_for_as_long_again(void **state)
{
	struct breaker breaker;
	int64_t probe = T0 + BREAKER_OPEN_MS;

	(void)state;
	breaker_init(&breaker, "test", T0);
	report(&breaker, 0, 5, T0);
	assert_true(breaker_may_try(&breaker, probe));
	breaker_report(&breaker, false, probe, probe + 3000);
	assert_int_equal(breaker.state, BREAKER_OPEN);
	assert_int_equal(breaker.opened, 2);
	assert_false(breaker_may_try(&breaker, probe + 2999 + BREAKER_OPEN_MS));
	assert_true(breaker_may_try(&breaker, probe + 3000 + BREAKER_OPEN_MS));
}

static void
who_began_before_it_changed_says_nothing(void **state)
{
	struct breaker breaker;
	int64_t probe = T0 + BREAKER_OPEN_MS;

	(void)state;
	breaker_init(&breaker, "test", T0);
	report(&breaker, 0, 5, T0 + 10);
	breaker_report(&breaker, true, T0, T0 + 20);
	assert_int_equal(breaker.state, BREAKER_OPEN);
	assert_true(breaker_may_try(&breaker, probe + 10));
	breaker_report(&breaker, true, T0, probe + 11);
	assert_int_equal(breaker.state, BREAKER_HALF_OPEN);
	breaker_report(&breaker, true, probe + 10, probe + 12);
	assert_int_equal(breaker.state, BREAKER_CLOSED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fewer_than_five_say_nothing),
	    cmocka_unit_test(half_of_them_open_it_and_less_do_not),
	    cmocka_unit_test(what_is_ten_seconds_old_is_forgotten),
	    cmocka_unit_test(open_for_thirty_seconds_then_one_probe),
	    cmocka_unit_test(a_probe_that_fails_opens_it_for_as_long_again),
	    cmocka_unit_test(who_began_before_it_changed_says_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
