/*
 * dir_mssql_login.c - unit test of logins by password while the database is
 * away: whom [mssql] password_cache lets in, and whom not any more.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "t/unit/dir_mssql_stage.h"

#define HOUR_MS 3600000

/* With the database. @return rc */
static int
come(struct stage *stage, const char *name, const char *password)
{
	uint64_t user;

	fake_pool.is_away = false;
	return stage_login(stage, name, strlen(name), password, &user);
}

/* Without it, which is known at once. @return rc; *counts_out: as a guess */
static int
come_without(struct stage *stage, const char *name, const char *password,
    bool *counts_out)
{
	struct dir_request *request;
	int rc;

	fake_pool.is_away = true;
	request = stage_login_begin(stage, name, strlen(name), password, &rc);
	stage_await(stage, &rc);
	fake_pool.is_away = false;
	assert_int_equal(request->answer.user, rc == 0 ? 7 : 0);
	*counts_out = request->is_guess;
	dir_request_free(&request);
	return rc;
}

static void
assert_in(struct stage *stage, const char *name, const char *password)
{
	bool counts;

	assert_int_equal(come_without(stage, name, password, &counts), 0);
	assert_false(counts);
}

/* Nobody knows whether it is right: not said, but counted. */
static void
assert_out(struct stage *stage, const char *name, const char *password)
{
	bool counts;

	assert_int_equal(
	    come_without(stage, name, password, &counts), ERR_UNAVAILABLE);
	assert_true(counts);
}

/* cmocka's setup */
static int
keep_open(void **state)
{
	struct stage *stage;

	stage_open(state);
	stage = *state;
	stage->conf->mssql_password_cache = HOUR_MS;
	return 0;
}

static int
keep_open_by_procedure(void **state)
{
	struct stage *stage;

	keep_open(state);
	stage = *state;
	stage_let_procedure_decide(stage);
	return 0;
}

static int
keep_close(void **state)
{
	struct stage *stage = *state;

	stage_logins[0][0] = "7";
	stage_logins[0][1] = stage->hash;
	stage_logins[0][2] = "1";
	return stage_close(state);
}

static void
nothing_is_kept_unless_it_is_asked_for(void **state)
{
	struct stage *stage = *state;
	bool counts;

	stage->conf->mssql_password_cache = 0;
	assert_int_equal(come(stage, "anna", "right"), 0);
	assert_int_equal(
	    come_without(stage, "anna", "right", &counts), ERR_UNAVAILABLE);
	assert_false(counts); /* nothing was looked at */
}

static void
who_was_here_comes_in_again(void **state)
{
	struct stage *stage = *state;

	assert_int_equal(come(stage, "anna", "right"), 0);
	assert_in(stage, "anna", "right");
	assert_out(stage, "anna", "wrong");
	assert_out(stage, "anna", "");
	assert_out(stage, "bob", "right");
	assert_out(stage, "Anna", "right");
	assert_in(stage, "anna", "right"); /* guesses take nothing away */
	/* the database is asked first, whenever it can be */
	stage->answers[AUTH].count = 0;
	assert_int_equal(come(stage, "anna", "right"), ERR_AUTH_FAILED);
	assert_out(stage, "anna", "right");
}

static void
a_password_that_never_was_right_is_not_kept(void **state)
{
	struct stage *stage = *state;

	assert_int_equal(come(stage, "anna", "wrong"), ERR_AUTH_FAILED);
	assert_out(stage, "anna", "wrong");
	stage_logins[0][2] = "0";
	assert_int_equal(come(stage, "anna", "right"), ERR_AUTH_FAILED);
	assert_out(stage, "anna", "right");
}

static void
it_lasts_as_long_as_was_said(void **state)
{
	struct stage *stage = *state;

	assert_int_equal(come(stage, "anna", "right"), 0);
	clock_shift(HOUR_MS - 60000);
	dir_mssql_ops.turn(stage->backend);
	assert_in(stage, "anna", "right");
	/* which was no word of the database: it does not count anew */
	clock_shift(120000);
	assert_out(stage, "anna", "right");
	assert_int_equal(come(stage, "anna", "right"), 0);
	stage->conf->mssql_password_cache = 0; /* as a reload does */
	dir_mssql_ops.turn(stage->backend);
	stage->conf->mssql_password_cache = HOUR_MS;
	assert_out(stage, "anna", "right");
}

/* What the database says, whoever made it say so. */
static void
another_hash_or_none_ends_it(void **state)
{
	struct stage *stage = *state;
	char other[PASSWORD_HASH_MAX];

	assert_int_equal(password_hash("new", 3, other), 0);
	assert_int_equal(come(stage, "anna", "right"), 0);
	assert_int_equal(come(stage, "anna", "guess"), ERR_AUTH_FAILED);
	assert_in(stage, "anna", "right"); /* it is the hash as before */
	stage_logins[0][1] = other;
	assert_int_equal(come(stage, "anna", "guess"), ERR_AUTH_FAILED);
	assert_out(stage, "anna", "right");
	assert_int_equal(come(stage, "anna", "new"), 0);
	assert_in(stage, "anna", "new");
	assert_out(stage, "anna", "right");
	stage_logins[0][2] = "0";
	assert_int_equal(come(stage, "anna", "new"), ERR_AUTH_FAILED);
	assert_out(stage, "anna", "new");
}

/* The answer comes when there is no time left to check the password. */
static void
another_hash_ends_it_also_unchecked(void **state)
{
	struct stage *stage = *state;
	struct dir_request *request;
	int rc;

	assert_int_equal(come(stage, "anna", "right"), 0);
	stage_logins[0][1] = NULL;
	request = stage_login_begin(stage, "anna", 4, "new", &rc);
	clock_shift(3000);
	fake_pool_run(stage->conn);
	stage_await(stage, &rc);
	assert_int_equal(rc, ERR_UNAVAILABLE);
	dir_request_free(&request);
	assert_out(stage, "anna", "right");
}

/* Two logins at once, and the password was changed between their questions. */
static void
of_two_that_cross_the_older_word_does_not_stay(void **state)
{
	struct stage *stage = *state;
	struct dir_request *old;
	struct dir_request *new;
	char other[PASSWORD_HASH_MAX];
	int old_rc;
	int new_rc;

	assert_int_equal(password_hash("new", 3, other), 0);
	old = stage_login_begin(stage, "anna", 4, "right", &old_rc);
	fake_pool_run(stage->conn); /* it has its hash, and checks */
	stage_logins[0][1] = other;
	new = stage_login_begin(stage, "anna", 4, "new", &new_rc);
	fake_pool_run(stage->conn);
	stage_await(stage, &old_rc);
	stage_await(stage, &new_rc);
	assert_int_equal(old_rc, 0);
	assert_int_equal(new_rc, 0);
	assert_out(stage, "anna", "right");
	assert_out(stage, "anna", "new");
	dir_request_free(&old);
	dir_request_free(&new);
	/* ... while two that agree are fine */
	old = stage_login_begin(stage, "anna", 4, "new", &old_rc);
	new = stage_login_begin(stage, "anna", 4, "new", &new_rc);
	fake_pool_run(stage->conn);
	stage_await(stage, &old_rc);
	stage_await(stage, &new_rc);
	assert_in(stage, "anna", "new");
	dir_request_free(&old);
	dir_request_free(&new);
}

/* The turn that the back end has asked for. */
static void
turn_at_its_time(struct stage *stage)
{
	int64_t at_ms = dir_mssql_ops.turn(stage->backend);

	clock_shift(at_ms - clock_mono_ms());
	dir_mssql_ops.turn(stage->backend);
}

/* It neither answers nor fails. */
static void
a_database_that_hangs_is_not_waited_for(void **state)
{
	struct stage *stage = *state;
	struct dir_request *anna;
	struct dir_request *bob;
	int64_t start_ms;
	int rc;

	/* scrypt takes longer there than a login may. */
	if (getenv("PARLEY_VALGRIND") != NULL)
		return;
	assert_int_equal(come(stage, "anna", "right"), 0);
	start_ms = clock_mono_ms();
	anna = stage_login_begin(stage, "anna", 4, "right", &rc);
	turn_at_its_time(stage);
	stage_await(stage, &rc);
	assert_int_equal(rc, 0);
	assert_int_equal(anna->answer.user, 7);
	assert_in_range(clock_mono_ms() - start_ms, 500, 2000);
	start_ms = clock_mono_ms();
	bob = stage_login_begin(stage, "bob", 3, "right", &rc);
	turn_at_its_time(stage);
	stage_collect(stage); /* his is held against nothing */
	assert_int_equal(rc, PENDING);
	turn_at_its_time(stage);
	assert_int_equal(rc, ERR_UNAVAILABLE);
	assert_true(bob->is_guess);
	assert_in_range(clock_mono_ms() - start_ms, 2000, 2900);
	/* it answers after all, that her hash is another one */
	stage_logins[0][1] = NULL;
	fake_pool_run(stage->conn);
	assert_out(stage, "anna", "right");
	dir_request_free(&anna);
	dir_request_free(&bob);
}

/* In time for who could not be let in without it. */
static void
a_slow_database_has_the_last_word(void **state)
{
	struct stage *stage = *state;
	struct dir_request *request;
	char other[PASSWORD_HASH_MAX];
	int rc;

	/* scrypt takes longer there than a login may. */
	if (getenv("PARLEY_VALGRIND") != NULL)
		return;
	assert_int_equal(password_hash("new", 3, other), 0);
	assert_int_equal(come(stage, "anna", "right"), 0);
	stage_logins[0][1] = other;
	request = stage_login_begin(stage, "anna", 4, "new", &rc);
	clock_shift(1500);
	dir_mssql_ops.turn(stage->backend);
	stage_collect(stage); /* it does not fit the old one */
	assert_int_equal(rc, PENDING);
	fake_pool_run(stage->conn);
	stage_await(stage, &rc);
	assert_int_equal(rc, 0);
	assert_false(request->is_guess);
	dir_request_free(&request);
	/* ... also while the old one is being held against */
	request = stage_login_begin(stage, "anna", 4, "new", &rc);
	stage_logins[0][1] = NULL;
	clock_shift(1500);
	dir_mssql_ops.turn(stage->backend);
	fake_pool_run(stage->conn);
	stage_await(stage, &rc);
	assert_int_equal(rc, ERR_AUTH_FAILED);
	dir_request_free(&request);
	assert_out(stage, "anna", "new");
}

/* An answer that cannot be is not an absence. */
static void
nonsense_lets_nobody_in(void **state)
{
	struct stage *stage = *state;

	assert_int_equal(come(stage, "anna", "right"), 0);
	stage->answers[AUTH].count = 2;
	assert_int_equal(come(stage, "anna", "right"), ERR_UNAVAILABLE);
	stage->answers[AUTH].count = 1;
	stage->answers[AUTH].number = 2812; /* no such procedure */
	assert_int_equal(come(stage, "anna", "right"), ERR_UNAVAILABLE);
}

static void
what_a_procedure_let_in_is_kept_too(void **state)
{
	struct stage *stage = *state;

	assert_int_equal(come(stage, "anna", "secret"), 0);
	stage_collect(stage); /* behind the answer */
	assert_in(stage, "anna", "secret");
	assert_out(stage, "anna", "Secret");
	assert_int_equal(come(stage, "anna", "other"), 0);
	stage_collect(stage);
	assert_in(stage, "anna", "other");
	assert_out(stage, "anna", "secret");
	stage->answers[AUTH].count = 0;
	assert_int_equal(come(stage, "anna", "typo"), ERR_AUTH_FAILED);
	assert_out(stage, "anna", "other");
}

/* Refused while the verifier of one that was let in before is being made. */
static void
a_procedures_no_is_not_overtaken(void **state)
{
	struct stage *stage = *state;

	assert_int_equal(come(stage, "anna", "secret"), 0);
	stage->answers[AUTH].count = 0;
	assert_int_equal(come(stage, "anna", "secret"), ERR_AUTH_FAILED);
	stage_collect(stage);
	assert_out(stage, "anna", "secret");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, keep_open, keep_close)
#define TEST_BY_PROCEDURE(name)                                                \
	cmocka_unit_test_setup_teardown(                                       \
	    name, keep_open_by_procedure, keep_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(nothing_is_kept_unless_it_is_asked_for),
	    TEST(who_was_here_comes_in_again),
	    TEST(a_password_that_never_was_right_is_not_kept),
	    TEST(it_lasts_as_long_as_was_said),
	    TEST(another_hash_or_none_ends_it),
	    TEST(another_hash_ends_it_also_unchecked),
	    TEST(of_two_that_cross_the_older_word_does_not_stay),
	    TEST(a_database_that_hangs_is_not_waited_for),
	    TEST(a_slow_database_has_the_last_word),
	    TEST(nonsense_lets_nobody_in),
	    TEST_BY_PROCEDURE(what_a_procedure_let_in_is_kept_too),
	    TEST_BY_PROCEDURE(a_procedures_no_is_not_overtaken),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
