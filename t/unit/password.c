/*
 * password.c - unit tests of base/password: a published scrypt value, every
 * changed character of a hash, parameters nobody should pay for.
 */
#include "base/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* Cheap parameters: tests of the form need no 50 ms each. */
#define SALT      "c29kaXVtY2hsb3JpZGU"
#define CHEAP_SUM "uwrTNXRWrZCa5fDBe/br6esUdl2lmZ7ylvaQz0hhZi4"
#define CHEAP     "$scrypt$ln=10,r=8,p=1$" SALT "$"

/* scrypt("password", "sodiumchloride", 1024, 8, 1), 32 bytes */
static const char *const cheap_hash = CHEAP CHEAP_SUM;

static bool
verify(const char *hash, const char *password)
{
	return password_verify(hash, password, strlen(password));
}

static double
seconds_of(const char *hash, bool *fits_out)
{
	struct timespec start;
	struct timespec end;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	*fits_out = verify(hash, "correct horse");
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	return (double)(end.tv_sec - start.tv_sec) +
	       (double)(end.tv_nsec - start.tv_nsec) / 1e9;
}

static void
test_round_trip(void **state)
{
	char first[PASSWORD_HASH_MAX];
	char second[PASSWORD_HASH_MAX];

	(void)state;
	assert_int_equal(password_hash("correct horse", 13, first), 0);
	assert_int_equal(password_hash("correct horse", 13, second), 0);
	assert_string_not_equal(first, second);
	assert_memory_equal(first, "$scrypt$ln=15,r=8,p=1$", 22);
	/* 16 bytes of salt and 32 of hash, without padding */
	assert_int_equal(strlen(first), 22 + 22 + 1 + 43);
	assert_true(verify(first, "correct horse"));
	assert_true(verify(second, "correct horse"));
	assert_false(verify(first, "correct horsf"));
	assert_false(verify(first, "correct hors"));
	assert_false(verify(first, "correct horse "));
}

static void
test_known_value(void **state)
{
	(void)state;
	assert_true(verify(cheap_hash, "password"));
	assert_false(verify(cheap_hash, "Password"));
}

/* RFC 7914 12, third vector, cut to our 32 bytes: N=2^14, r=8, p=1. */
static void
test_rfc7914_value(void **state)
{
	(void)state;
	assert_true(verify("$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$"
			   "cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofI",
	    "pleaseletmein"));
}

static void
test_every_changed_character_fails(void **state)
{
	char hash[PASSWORD_HASH_MAX];
	size_t len = strlen(cheap_hash);

	(void)state;
	/* From the salt on: before it are the costs. */
	for (size_t i = strlen("$scrypt$ln=10,r=8,p=1"); i < len; i++) {
		strcpy(hash, cheap_hash);
		hash[i] = hash[i] == 'A' ? 'B' : 'A';
		if (verify(hash, "password"))
			fail_msg("changed at %zu, still accepted", i);
	}
}

static void
test_limits_of_the_password(void **state)
{
	char password[PASSWORD_LEN_MAX + 1];
	char hash[PASSWORD_HASH_MAX];

	(void)state;
	memset(password, 'x', sizeof(password));
	assert_int_equal(password_hash(password, 0, hash), ERR_BAD_REQUEST);
	assert_string_equal(hash, "");
	assert_int_equal(password_hash(password, PASSWORD_LEN_MAX + 1, hash),
	    ERR_BAD_REQUEST);
	assert_int_equal(password_hash(password, PASSWORD_LEN_MAX, hash), 0);
	assert_true(password_verify(hash, password, PASSWORD_LEN_MAX));
	assert_false(password_verify(hash, password, PASSWORD_LEN_MAX - 1));
	assert_false(password_verify(hash, password, PASSWORD_LEN_MAX + 1));
	assert_false(password_verify(hash, password, 0));
}

static void
test_password_may_hold_nul(void **state)
{
	char hash[PASSWORD_HASH_MAX];

	(void)state;
	assert_int_equal(password_hash("ab\0cd", 5, hash), 0);
	assert_true(password_verify(hash, "ab\0cd", 5));
	assert_false(password_verify(hash, "ab\0ce", 5));
	assert_false(password_verify(hash, "ab", 2));
}

static void
test_malformed_hashes(void **state)
{
	/* The sums are right for "password": only the form is not. */
	static const char *const bad[] = {
	    "x",
	    "$scrypt$ln=16,r=1,p=1$" SALT "$" CHEAP_SUM,
	    "$scrypt$",
	    "$2b$12$abcdefghijklmnopqrstuv",
	    "$scrypt$ln=10,r=8,p=1$" SALT,
	    "$scrypt$ln=10,r=8,p=1$" SALT "$",
	    "$scrypt$ln=10,r=8,p=1$$TrYwiP1Q+khVwc/bnMInJYrom/"
	    "3UX78QFJN8zfxLHfA",
	    "$scrypt$ln=10,r=8,p=1$c29kaXU$OZ8gItc0T80ZTChPHYIv/ecr/"
	    "fxZzxBg0FEGxHyD1mc",
	    "$scrypt$ln=9,r=8,p=1$" SALT
	    "$UhGlOs5zvViP5eqzUqA8t67rJhHuGp9+5HK0q9yDM1Q",
	    "$scrypt$ln=21,r=2,p=1$" SALT
	    "$kGrHw6vKm7QBtKKAMNSKV819WZLj/siBwNNbxywlHuE",
	    "$scrypt$ln=10,r=33,p=1$" SALT
	    "$SyPxj8+oaPrbFLWg/PoEd56gtGSoqHLhpbs5dvpHJ0s",
	    "$scrypt$ln=10,r=8,p=17$" SALT
	    "$KH1omVslwPyrni0PN2oIMoxSu8r3TVQ+OS8OL271Y+E",
	    "$scrypt$ln=18,r=9,p=1$" SALT
	    "$d6mQ1pyhLE3s5Vu3aOwSGaRCmoDOf4yDakmD8fMvBFc",
	    "$scrypt$ln=10,r=0,p=1$" SALT "$" CHEAP_SUM,
	    "$scrypt$ln=10,r=8,p=0$" SALT "$" CHEAP_SUM,
	    "$scrypt$ln=010,r=8,p=1$" SALT "$" CHEAP_SUM,
	    "$scrypt$ln=100,r=8,p=1$" SALT "$" CHEAP_SUM,
	    "$scrypt$ln=+10,r=8,p=1$" SALT "$" CHEAP_SUM,
	    "$scrypt$ln=,r=8,p=1$" SALT "$" CHEAP_SUM,
	    "$scrypt$r=8,ln=10,p=1$" SALT "$" CHEAP_SUM,
	    "$scrypt$ln=10,r=8$" SALT "$" CHEAP_SUM,
	    "$scrypt$ln=10,r=8,p=1,q=1$" SALT "$" CHEAP_SUM,
	    CHEAP CHEAP_SUM "=",
	    CHEAP CHEAP_SUM "$",
	    CHEAP CHEAP_SUM "AAAA",
	    " " CHEAP CHEAP_SUM,
	};
	char longest[PASSWORD_HASH_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (verify(bad[i], "password"))
			fail_msg("accepted: %s", bad[i]);
	}
	memset(longest, 'A', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memcpy(longest, CHEAP, strlen(CHEAP));
	assert_false(verify(longest, "password"));
}

/* Both alphabets for the same bytes would be two texts for one hash. */
static void
test_url_alphabet_is_refused(void **state)
{
	(void)state;
	assert_true(verify("$scrypt$ln=10,r=8,p=1$+/+/+/+/+/+/"
			   "$430iAEU32jRumwDI3CYJuQxufmBh+YPTSwnRqfx+puQ",
	    "pw"));
	assert_false(verify("$scrypt$ln=10,r=8,p=1$-_-_-_-_-_-_$"
			    "430iAEU32jRumwDI3CYJuQxufmBh+YPTSwnRqfx+puQ",
	    "pw"));
}

static void
test_unknown_users_cost_the_same(void **state)
{
	char hash[PASSWORD_HASH_MAX];
	double known;
	bool fits;

	(void)state;
	assert_int_equal(password_hash("correct horse", 13, hash), 0);
	known = seconds_of(hash, &fits);
	assert_true(fits);
	print_message("# one check: %.1f ms of CPU\n", known * 1e3);
	/* CPU time, and wide: an early return would be a thousandth. */
	assert_true(seconds_of(NULL, &fits) > known / 4);
	assert_false(fits);
	assert_true(seconds_of("", &fits) > known / 4);
	assert_false(fits);
	assert_true(seconds_of("$scrypt$damaged", &fits) > known / 4);
	assert_false(fits);
	/* Over the cap: refused here, not by the library after no work. */
	assert_true(seconds_of("$scrypt$ln=18,r=9,p=1$" SALT "$" CHEAP_SUM,
			&fits) > known / 4);
	assert_false(fits);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_known_value),
	    cmocka_unit_test(test_rfc7914_value),
	    cmocka_unit_test(test_every_changed_character_fails),
	    cmocka_unit_test(test_limits_of_the_password),
	    cmocka_unit_test(test_password_may_hold_nul),
	    cmocka_unit_test(test_malformed_hashes),
	    cmocka_unit_test(test_url_alphabet_is_refused),
	    cmocka_unit_test(test_unknown_users_cost_the_same),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
