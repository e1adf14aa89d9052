/*
 * attempts.c - units of src/directory/attempts.c.
 *
 * Role:    how many, how soon again, by name and by address, what a flood of
 *          strangers does to the table, and what a successor finds.
 * Process: the test.
 * Blocks:  never; time is an argument.
 * Trust:   not applicable.
 * See:     src/directory/attempts.h.
 */
#include "config.h"

#include "directory/attempts.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define WINDOW_MS 60000
#define NOW       INT64_C(1000000)

static char dir[] = "attempts-XXXXXX";
static char file[64];
static const uint8_t peers[3][16] = {
    {0},
    {[10] = 0xff, 0xff, 192, 0, 2, 1},
    {[10] = 0xff, 0xff, 192, 0, 2, 2},
};

static struct conf
limits(int64_t by_name, int64_t by_peer)
{
	return (struct conf){
	    .auth_password_attempts = by_name,
	    .auth_password_attempts_peer = by_peer,
	    .auth_password_window = WINDOW_MS,
	};
}

static int64_t
take(struct attempts *attempts, const char *name, int peer, int64_t now_ms)
{
	struct attempt attempt = {name, strlen(name), peers[peer]};

	return attempts_take(attempts, &attempt, now_ms);
}

static void
give_back(struct attempts *attempts, const char *name, int peer, int64_t now_ms)
{
	struct attempt attempt = {name, strlen(name), peers[peer]};

	attempts_give_back(attempts, &attempt, now_ms);
}

static void
so_many_and_then_one_by_one(void **state)
{
	struct conf conf = limits(6, 0);
	struct attempts *attempts = attempts_new(&conf, NULL, NOW);

	(void)state;
	for (int i = 0; i < 6; i++)
		assert_int_equal(take(attempts, "anna", 1, NOW), 0);
	assert_int_equal(take(attempts, "anna", 1, NOW), 10000);
	assert_int_equal(take(attempts, "anna", 2, NOW + 9999), 1);
	assert_int_equal(take(attempts, "bea", 1, NOW), 0);
	assert_int_equal(take(attempts, "anna", 1, NOW + 10000), 0);
	assert_int_equal(take(attempts, "anna", 1, NOW + 10000), 10000);
	/* refused ones cost nothing: after the window all are there again */
	for (int i = 0; i < 6; i++)
		assert_int_equal(
		    take(attempts, "anna", 1, NOW + 10000 + WINDOW_MS), 0);
	assert_true(take(attempts, "anna", 1, NOW + 10000 + WINDOW_MS) > 0);
	attempts_free(&attempts);
	assert_null(attempts);
}

static void
right_ones_do_not_count(void **state)
{
	struct conf conf = limits(3, 3);
	struct attempts *attempts = attempts_new(&conf, NULL, NOW);

	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(take(attempts, "anna", 1, NOW), 0);
		give_back(attempts, "anna", 1, NOW);
	}
	/* nor does giving back make more than there were */
	for (int i = 0; i < 3; i++)
		assert_int_equal(take(attempts, "anna", 1, NOW), 0);
	assert_true(take(attempts, "anna", 1, NOW) > 0);
	attempts_free(&attempts);
}

static void
an_address_counts_for_all_names(void **state)
{
	struct conf conf = limits(3, 5);
	struct attempts *attempts = attempts_new(&conf, NULL, NOW);
	char name[24];

	(void)state;
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		assert_int_equal(take(attempts, name, 1, NOW), 0);
	}
	assert_int_equal(take(attempts, "another", 1, NOW), WINDOW_MS / 5);
	assert_int_equal(take(attempts, "another", 2, NOW), 0);
	/* A name that is refused takes nothing from its address. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(take(attempts, "another", 2, NOW), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(
		    take(attempts, "another", 2, NOW), WINDOW_MS / 3);
	assert_int_equal(take(attempts, "one more", 2, NOW), 0);
	/* An unknown address is not limited, its names are. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(take(attempts, "no peer", 0, NOW), 0);
	assert_true(take(attempts, "no peer", 0, NOW) > 0);
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "other-%d", i);
		assert_int_equal(take(attempts, name, 0, NOW), 0);
	}
	attempts_free(&attempts);
}

static void
zero_is_no_limit(void **state)
{
	struct conf conf = limits(0, 0);
	struct attempts *attempts = attempts_new(&conf, NULL, NOW);

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(take(attempts, "anna", 1, NOW), 0);
	attempts_free(&attempts);
}

static void
one_is_a_limit(void **state)
{
	struct conf conf = limits(1, 1000000);
	struct attempts *attempts = attempts_new(&conf, NULL, NOW);

	(void)state;
	assert_int_equal(take(attempts, "anna", 1, NOW), 0);
	assert_int_equal(take(attempts, "anna", 1, NOW), WINDOW_MS);
	assert_int_equal(take(attempts, "anna", 1, NOW + WINDOW_MS), 0);
	attempts_free(&attempts);
}

/* A bucket that is empty outlives any number of names tried once. */
static void
a_flood_of_names_frees_nobody(void **state)
{
	struct conf conf = limits(10, 0);
	struct attempts *attempts = attempts_new(&conf, NULL, NOW);
	char name[24];

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(take(attempts, "anna", 1, NOW), 0);
	for (int i = 0; i < 200000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(take(attempts, name, 1, NOW), 0);
	}
	assert_true(take(attempts, "anna", 1, NOW) > 0);
	attempts_free(&attempts);
}

static struct attempts *
kept(const struct conf *conf, int64_t now_ms)
{
	return attempts_new(conf, dir, now_ms);
}

static void
a_successor_forgives_nobody(void **state)
{
	struct conf conf = limits(3, 0);
	struct attempts *attempts = kept(&conf, NOW);

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(take(attempts, "anna", 1, NOW), 0);
	attempts_free(&attempts);
	attempts = kept(&conf, NOW + 1);
	assert_int_equal(take(attempts, "anna", 1, NOW + 1), WINDOW_MS / 3 - 1);
	assert_int_equal(take(attempts, "bea", 1, NOW + 1), 0);
	attempts_free(&attempts);
	attempts = kept(&conf, NOW + WINDOW_MS);
	assert_int_equal(take(attempts, "anna", 1, NOW + WINDOW_MS), 0);
	attempts_free(&attempts);
}

/* Whatever lies there: nobody waits for more than one token. */
static void
garbage_locks_nobody_out(void **state)
{
	struct conf conf = limits(3, 3);
	struct attempts *attempts;
	char garbage[4096];
	char name[24];
	int fd;

	(void)state;
	attempts = kept(&conf, NOW);
	attempts_free(&attempts);
	fd = open(file, O_WRONLY);
	for (int i = 0; i < 256 * 1024 / 4096; i++) {
		memset(garbage, i % 2 == 0 ? 0x7f : 0xff, sizeof(garbage));
		assert_int_equal(
		    pwrite(fd, garbage, sizeof(garbage), 64 + (off_t)i * 4096),
		    sizeof(garbage));
	}
	close(fd);
	attempts = kept(&conf, NOW);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_true(take(attempts, name, 0, NOW) <= WINDOW_MS / 3);
	}
	attempts_free(&attempts);
}

static int
make_dir(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/attempts", dir);
	return 0;
}

static int
remove_dir(void **state)
{
	(void)state;
	(void)unlink(file);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(so_many_and_then_one_by_one),
	    cmocka_unit_test(right_ones_do_not_count),
	    cmocka_unit_test(an_address_counts_for_all_names),
	    cmocka_unit_test(zero_is_no_limit),
	    cmocka_unit_test(one_is_a_limit),
	    cmocka_unit_test(a_flood_of_names_frees_nobody),
	    cmocka_unit_test(a_successor_forgives_nobody),
	    cmocka_unit_test(garbage_locks_nobody_out),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
