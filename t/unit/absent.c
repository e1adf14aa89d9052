/*
 * absent.c - unit test of src/directory/absent.c: who is taken for nobody, and
 * until when.
 */
#include "config.h"

#include "directory/absent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#define TTL_MS 1000
#define MAX    100

struct asker {
	struct absent_waiter waiter; /* first: go gets this one */
	struct absent *absent;
	int rc; /* 1: has not heard */
};

static void
hear(struct absent_waiter *waiter, int rc)
{
	struct asker *asker = (struct asker *)waiter;

	assert_int_equal(asker->rc, 1);
	asker->rc = rc;
}

static struct asker
asker_of(struct absent *absent)
{
	return (struct asker){
	    .waiter = {.go = hear}, .absent = absent, .rc = 1};
}

static struct absent *
open_with(int64_t ttl_ms, size_t max)
{
	const struct absent_config config = {ttl_ms, max};

	return absent_new(&config);
}

static void
ask(struct absent *absent, uint64_t user, int rc, int64_t now_ms)
{
	struct asker asker = asker_of(absent);

	assert_true(absent_begin(absent, user, &asker.waiter));
	absent_end(absent, user, rc, now_ms);
	assert_int_equal(asker.rc, 1); /* who asks knows */
}

static void
nobody_is_so_for_a_while(void **state)
{
	struct absent *absent = open_with(TTL_MS, MAX);

	(void)state;
	assert_false(absent_has(absent, 7, 0));
	ask(absent, 7, ERR_NOT_FOUND, 0);
	assert_true(absent_has(absent, 7, 0));
	assert_false(absent_has(absent, 8, 0));
	assert_true(absent_has(absent, 7, TTL_MS - 1));
	assert_false(absent_has(absent, 7, TTL_MS));
	assert_int_equal(absent_count(absent), 0);
	ask(absent, 7, ERR_NOT_FOUND, TTL_MS);
	absent_forget(absent, 7);
	assert_false(absent_has(absent, 7, TTL_MS));
	absent_free(&absent);
	assert_null(absent);
	absent_free(&absent);
}

/* Somebody who is there, and a database that is not. */
static void
only_not_found_is_nobody(void **state)
{
	static const int others[] = {0, ERR_UNAVAILABLE, ERR_SERVER_ERROR};
	struct absent *absent = open_with(TTL_MS, MAX);

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		ask(absent, 7, others[i], 0);
		assert_false(absent_has(absent, 7, 0));
	}
	absent_free(&absent);
}

static void
all_hear_what_one_has_asked(void **state)
{
	struct absent *absent = open_with(0, MAX); /* keeps nothing */
	struct asker askers[5];

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		askers[i] = asker_of(absent);
		assert_int_equal(
		    absent_begin(absent, i == 4 ? 8 : 7, &askers[i].waiter),
		    i == 0 || i == 4);
	}
	absent_end(absent, 7, ERR_NOT_FOUND, 0);
	assert_false(absent_has(absent, 7, 0));
	for (size_t i = 1; i < 4; i++)
		assert_int_equal(askers[i].rc, ERR_NOT_FOUND);
	assert_int_equal(askers[4].rc, 1);
	absent_end(absent, 8, ERR_UNAVAILABLE, 0);
	/* the next one asks again */
	ask(absent, 7, ERR_NOT_FOUND, 0);
	absent_free(&absent);
}

/* An answer from before he was made comes after he was seen. */
static void
who_has_appeared_meanwhile_is_not_nobody(void **state)
{
	struct absent *absent = open_with(TTL_MS, MAX);
	struct asker asker = asker_of(absent);

	(void)state;
	assert_true(absent_begin(absent, 7, &asker.waiter));
	absent_forget(absent, 7);
	absent_end(absent, 7, ERR_NOT_FOUND, 0);
	assert_false(absent_has(absent, 7, 0));
	ask(absent, 7, ERR_NOT_FOUND, 0);
	assert_true(absent_has(absent, 7, 0));
	absent_free(&absent);
}

static void
too_many_push_out_the_first(void **state)
{
	struct absent *absent = open_with(TTL_MS, MAX);

	(void)state;
	for (uint64_t user = 1; user <= 3 * MAX; user++) {
		ask(absent, user, ERR_NOT_FOUND, (int64_t)user);
		assert_in_range(absent_count(absent), 1, MAX);
	}
	assert_false(absent_has(absent, 2 * MAX, 3 * MAX));
	assert_true(absent_has(absent, 2 * MAX + 1, 3 * MAX));
	absent_free(&absent);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(nobody_is_so_for_a_while),
	    cmocka_unit_test(only_not_found_is_nobody),
	    cmocka_unit_test(all_hear_what_one_has_asked),
	    cmocka_unit_test(who_has_appeared_meanwhile_is_not_nobody),
	    cmocka_unit_test(too_many_push_out_the_first),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
