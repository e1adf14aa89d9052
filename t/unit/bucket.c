/*
 * bucket.c - units of src/base/bucket.c.
 *
 * Role:    how many at once, how soon again, debts, and tables full of
 * strangers and of garbage. Process: the test. Blocks:  never; time is an
 * argument. Trust:   not applicable. See:     src/base/bucket.h.
 */
#include "config.h"

#include "base/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000)
#define NOW    (INT64_C(50) * 365 * 86400 * SECOND)
#define SETS   8

/* Take one if it is there. */
static bool
try(struct bucket *bucket, const struct bucket_rate *rate, int64_t now)
{
	if (bucket_wait(bucket, rate, now) > 0)
		return false;
	bucket_take(bucket, rate, 1, now);
	return true;
}

static int
try_all(struct bucket *bucket, const struct bucket_rate *rate, int64_t now)
{
	int count = 0;

	while (count < 1000000 && try(bucket, rate, now))
		count++;
	return count;
}

static void
as_many_as_it_holds_and_then_one_by_one(void **state)
{
	struct bucket_rate rate = bucket_rate(100, SECOND, 2 * SECOND);
	struct bucket bucket = {0};

	(void)state;
	assert_int_equal(try_all(&bucket, &rate, NOW), 200);
	assert_int_equal(bucket_wait(&bucket, &rate, NOW), 10000);
	assert_int_equal(bucket_wait(&bucket, &rate, NOW + 9999), 1);
	assert_int_equal(try_all(&bucket, &rate, NOW + 10000), 1);
	assert_int_equal(try_all(&bucket, &rate, NOW + SECOND), 99);
	/* it never holds more, however long nobody came */
	assert_int_equal(try_all(&bucket, &rate, NOW + 9000 * SECOND), 200);
}

/* Over any time: what it holds and what came meanwhile. */
static void
the_rate_holds_whatever_the_pattern(void **state)
{
	static const int64_t rates[] = {1, 3, 7, 999, 30000, 1000000};
	static const int64_t steps[] = {1, 17, 1000, 99999, 1500000};

	(void)state;
	for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
		for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
			struct bucket_rate rate =
			    bucket_rate(rates[r], SECOND, SECOND / 10);
			struct bucket bucket = {0};
			int64_t count = 0;
			int64_t now = NOW;

			for (int i = 0; i < 200; i++, now += steps[s])
				count += try_all(&bucket, &rate, now);
			assert_true(
			    count <= (now - NOW + rate.depth) / rate.token + 1);
			assert_true(count >= 1);
		}
	}
}

static void
no_tokens_are_no_limit(void **state)
{
	struct bucket_rate rate = bucket_rate(0, SECOND, SECOND);
	struct bucket bucket = {0};

	(void)state;
	assert_int_equal(try_all(&bucket, &rate, NOW), 1000000);
	bucket_hold_back(&bucket, &rate, SECOND, NOW);
	assert_int_equal(bucket_wait(&bucket, &rate, NOW), 0);
	assert_int_equal(bucket.full_at, 0);
}

static void
the_least_is_one(void **state)
{
	struct bucket_rate slow = bucket_rate(1, SECOND, 0);
	struct bucket_rate fast = bucket_rate(5 * SECOND, SECOND, 10);
	struct bucket bucket = {0};

	(void)state;
	assert_int_equal(try_all(&bucket, &slow, NOW), 1);
	assert_int_equal(bucket_wait(&bucket, &slow, NOW), SECOND);
	bucket = (struct bucket){0};
	assert_int_equal(fast.token, 1);
	assert_int_equal(try_all(&bucket, &fast, NOW), 10);
}

static void
what_costs_more_is_owed(void **state)
{
	struct bucket_rate rate = bucket_rate(10, SECOND, SECOND);
	struct bucket bucket = {0};

	(void)state;
	bucket_take(&bucket, &rate, 25, NOW); /* 15 more than it holds */
	assert_int_equal(bucket_wait(&bucket, &rate, NOW), 16 * SECOND / 10);
	assert_false(try(&bucket, &rate, NOW + SECOND));
	assert_true(try(&bucket, &rate, NOW + 16 * SECOND / 10));
	assert_false(try(&bucket, &rate, NOW + 16 * SECOND / 10));
}

static void
giving_back_makes_no_more(void **state)
{
	struct bucket_rate rate = bucket_rate(3, SECOND, SECOND);
	struct bucket bucket = {0};

	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_true(try(&bucket, &rate, NOW));
		bucket_give_back(&bucket, &rate, 1, NOW);
	}
	bucket_give_back(&bucket, &rate, 50, NOW + 5 * SECOND);
	assert_int_equal(try_all(&bucket, &rate, NOW + 5 * SECOND), 3);
}

static void
held_back_for_the_longer_of_two(void **state)
{
	struct bucket_rate rate = bucket_rate(10, SECOND, SECOND);
	struct bucket bucket = {0};

	(void)state;
	bucket_hold_back(&bucket, &rate, 0, NOW); /* it may go on */
	assert_int_equal(bucket.full_at, 0);
	bucket_hold_back(&bucket, &rate, 5 * SECOND, NOW);
	assert_int_equal(bucket_wait(&bucket, &rate, NOW), 5 * SECOND);
	bucket_hold_back(&bucket, &rate, SECOND, NOW);
	assert_int_equal(bucket_wait(&bucket, &rate, NOW), 5 * SECOND);
	assert_int_equal(bucket_wait(&bucket, &rate, NOW + 5 * SECOND), 0);
}

static struct bucket *
find(struct bucket_set *sets, uint64_t id)
{
	uint64_t key[2] = {id * UINT64_C(0x9e3779b97f4a7c15), id};

	return bucket_find(sets, SETS, key);
}

static void
each_key_has_its_own(void **state)
{
	struct bucket_rate rate = bucket_rate(10, SECOND, SECOND);
	struct bucket_set sets[SETS];

	(void)state;
	memset(sets, 0, sizeof(sets));
	assert_int_equal(try_all(find(sets, 1), &rate, NOW), 10);
	assert_int_equal(try_all(find(sets, 2), &rate, NOW), 10);
	assert_false(try(find(sets, 1), &rate, NOW));
	/* the emptiest survives any number of strangers that come once */
	for (uint64_t id = 10; id < 100000; id++)
		assert_true(try(find(sets, id), &rate, NOW));
	assert_false(try(find(sets, 1), &rate, NOW));
}

static void
garbage_holds_nobody_up_for_long(void **state)
{
	static const int64_t garbage[] = {
	    INT64_MAX, INT64_MIN, -1, NOW + 10 * SECOND, NOW - 1};
	struct bucket_rate rate = bucket_rate(10, SECOND, SECOND);
	struct bucket_set sets[SETS];

	(void)state;
	for (size_t g = 0; g < sizeof(garbage) / sizeof(garbage[0]); g++) {
		memset(sets, 0xa5, sizeof(sets));
		for (size_t i = 0; i < SETS * BUCKET_WAYS; i++)
			sets[i / BUCKET_WAYS]
			    .slots[i % BUCKET_WAYS]
			    .bucket.full_at = garbage[g];
		bucket_mend(sets, SETS, rate.depth, NOW);
		for (uint64_t id = 0; id < 100; id++)
			assert_true(bucket_wait(find(sets, id), &rate, NOW) <=
				    rate.token);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(as_many_as_it_holds_and_then_one_by_one),
	    cmocka_unit_test(the_rate_holds_whatever_the_pattern),
	    cmocka_unit_test(no_tokens_are_no_limit),
	    cmocka_unit_test(the_least_is_one),
	    cmocka_unit_test(what_costs_more_is_owed),
	    cmocka_unit_test(giving_back_makes_no_more),
	    cmocka_unit_test(held_back_for_the_longer_of_two),
	    cmocka_unit_test(each_key_has_its_own),
	    cmocka_unit_test(garbage_holds_nobody_up_for_long),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
