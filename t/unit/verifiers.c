/*
 * verifiers.c - unit test of src/directory/verifiers.c: what is kept by name,
 * for how long, and where.
 */
#include "config.h"

#include "directory/verifiers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX 100

static struct verifier
of(uint64_t user)
{
	struct verifier verifier = {.user = user};

	snprintf(verifier.hash, sizeof(verifier.hash), "hash-of-%llu-only",
	    (unsigned long long)user);
	return verifier;
}

static void
learn(struct verifiers *verifiers, const char *name, uint64_t user,
    int64_t now_ms)
{
	const struct verifier verifier = of(user);

	verifiers_learn(verifiers, name, strlen(name), &verifier, now_ms);
}

/* @return whose it is, with his hash; 0: there is none */
static uint64_t
find(const struct verifiers *verifiers, const char *name)
{
	struct verifier found;
	struct verifier expected;

	verifiers_find(verifiers, name, strlen(name), &found);
	expected = of(found.user);
	assert_string_equal(found.hash, found.user != 0 ? expected.hash : "");
	return found.user;
}

static void
a_name_has_its_last_one(void **state)
{
	struct verifiers *verifiers = verifiers_new(MAX);

	(void)state;
	assert_int_equal(find(verifiers, "anna"), 0);
	learn(verifiers, "anna", 7, 10);
	learn(verifiers, "Anna", 8, 10);
	assert_int_equal(find(verifiers, "anna"), 7);
	assert_int_equal(find(verifiers, "Anna"), 8);
	assert_int_equal(find(verifiers, "ann"), 0);
	assert_int_equal(find(verifiers, ""), 0);
	learn(verifiers, "anna", 9, 11);
	assert_int_equal(find(verifiers, "anna"), 9);
	assert_int_equal(verifiers_count(verifiers), 2);
	verifiers_forget(verifiers, "anna", 4);
	verifiers_forget(verifiers, "anna", 4);
	assert_int_equal(find(verifiers, "anna"), 0);
	assert_int_equal(find(verifiers, "Anna"), 8);
	verifiers_free(&verifiers);
	assert_null(verifiers);
	verifiers_free(&verifiers);
}

static void
its_time_is_that_of_the_last_word(void **state)
{
	struct verifiers *verifiers = verifiers_new(MAX);

	(void)state;
	learn(verifiers, "a", 1, 10);
	learn(verifiers, "b", 2, 20);
	learn(verifiers, "a", 1, 30);
	verifiers_expire(verifiers, 20);
	assert_int_equal(verifiers_count(verifiers), 2);
	verifiers_expire(verifiers, 21);
	assert_int_equal(find(verifiers, "b"), 0);
	assert_int_equal(find(verifiers, "a"), 1);
	verifiers_expire(verifiers, INT64_MAX);
	assert_int_equal(verifiers_count(verifiers), 0);
	verifiers_free(&verifiers);
}

static void
too_many_push_out_the_oldest(void **state)
{
	struct verifiers *verifiers = verifiers_new(MAX);
	char name[16];

	(void)state;
	for (int i = 1; i <= 3 * MAX; i++) {
		snprintf(name, sizeof(name), "u%d", i);
		learn(verifiers, name, (uint64_t)i, i);
		assert_int_equal(verifiers_count(verifiers), i < MAX ? i : MAX);
		if (i == MAX) /* who logs in again is none of them */
			learn(verifiers, "u1", 1, i);
	}
	for (int i = 1; i <= 3 * MAX; i++) {
		snprintf(name, sizeof(name), "u%d", i);
		assert_int_equal(
		    find(verifiers, name), i > 2 * MAX ? (uint64_t)i : 0);
	}
	verifiers_free(&verifiers);
}

/* Flags of the mapping that holds an address. @return "" if there is none */
static void
flags_of(const void *address, char flags[512])
{
	FILE *file = fopen("/proc/self/smaps", "r");
	uintptr_t at = (uintptr_t)address;
	bool is_it = false;
	char line[512];

	assert_non_null(file);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), file) != NULL) {
		unsigned long from;
		unsigned long to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_it = at >= from && at < to;
		else if (is_it && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(flags, 512, "%s", line);
	}
	fclose(file);
}

/* Everything readable of this process is searched for the hash. What holds it
 * has to be marked: "dd", not to be dumped. */
static void
no_core_file_has_it(void **state)
{
	struct verifiers *verifiers = verifiers_new(MAX);
	struct verifier secret = of(4711);
	const char *hidden = secret.hash + 1; /* not found in itself below */
	size_t found = 0;
	size_t len = strlen(hidden);
	FILE *maps = fopen("/proc/self/maps", "r");
	FILE *memory = fopen("/proc/self/mem", "r");
	char line[512];
	char flags[512];
	char *copy;

	(void)state;
	assert_non_null(maps);
	assert_non_null(memory);
	verifiers_learn(verifiers, "anna", 4, &secret, 1);
	copy = malloc(1 << 24);
	assert_non_null(copy);
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long from;
		unsigned long to;
		const char *at;
		size_t size;

		if (sscanf(line, "%lx-%lx rw-p", &from, &to) != 2 ||
		    strstr(line, "[stack]") != NULL || to - from > 1 << 24 ||
		    fseek(memory, (long)from, SEEK_SET) != 0)
			continue;
		/* Ours, and what AddressSanitizer has for a stack. */
		if (((uintptr_t)copy >= from && (uintptr_t)copy < to) ||
		    ((uintptr_t)&secret >= from && (uintptr_t)&secret < to))
			continue;
		size = fread(copy, 1, to - from, memory);
		at = size > 0 ? memmem(copy, size, hidden, len) : NULL;
		if (at == NULL)
			continue;
		flags_of((const char *)from + (at - copy), flags);
		assert_non_null(strstr(flags, " dd "));
		found++;
	}
	assert_int_equal(found, 1);
	free(copy);
	fclose(memory);
	fclose(maps);
	verifiers_free(&verifiers);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_name_has_its_last_one),
	    cmocka_unit_test(its_time_is_that_of_the_last_word),
	    cmocka_unit_test(too_many_push_out_the_oldest),
	    cmocka_unit_test(no_core_file_has_it),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
