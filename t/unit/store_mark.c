/*
 * store_mark.c - a store that is gone or set aside is not begun anew.
 *
 * Role:    unit tests of shm/store_mark.c.
 * Process: test; a private folder.
 * Blocks:  on that folder.
 * Trust:   none.
 * See:     shm/store_mark.h.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/store_mark.h"

#define NOW_MS 1796083200123LL /* 2026-12-01T00:00:00Z */

static char folder[64];
static char why[1024];

static void
put(const char *name, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int
set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/parley-unit-XXXXXX");
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static bool
is_there(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return access(path, F_OK) == 0;
}

static void
a_new_folder_may_have_a_store_once(void **state)
{
	(void)state;
	assert_int_equal(store_mark_judge(folder, why, sizeof(why)), 0);
	put(STORE_MAIN_FILE, "rows");
	assert_int_equal(store_mark_judge(folder, why, sizeof(why)), 0);
	assert_int_equal(store_mark_made(folder), 0);
	assert_int_equal(store_mark_made(folder), 0);
	assert_int_equal(store_mark_judge(folder, why, sizeof(why)), 0);
	put(STORE_MAIN_FILE, "");
	assert_int_equal(
	    store_mark_judge(folder, why, sizeof(why)), ERR_NOT_FOUND);
	assert_non_null(strstr(why, "gone or empty; no backup is known"));
	assert_non_null(strstr(why, "--empty"));
	assert_int_equal(store_mark_forget(folder), 0);
	assert_int_equal(store_mark_judge(folder, why, sizeof(why)), 0);
	assert_int_equal(store_mark_forget(folder), 0);
}

static void
what_was_set_aside_keeps_everything_down(void **state)
{
	char aside[STORE_ASIDE_MAX];

	(void)state;
	put(STORE_MAIN_FILE, "rows");
	assert_int_equal(store_mark_made(folder), 0);
	assert_int_equal(
	    store_mark_backup(folder, "/backup/monday", NOW_MS), 0);
	assert_int_equal(
	    store_mark_set_aside(folder, "inbox 1/2: odd", NOW_MS, aside), 0);
	assert_string_equal(aside, "main.mdb.damaged-20261201T000000Z");
	assert_true(is_there(aside));
	assert_false(is_there(STORE_MAIN_FILE));
	assert_int_equal(
	    store_mark_judge(folder, why, sizeof(why)), ERR_CORRUPT);
	assert_non_null(strstr(why, aside));
	assert_non_null(strstr(why, "(inbox 1/2: odd)"));
	assert_non_null(strstr(why, "parleyctl restore /backup/monday (the "
				    "newest backup known here, of "
				    "2026-12-01T00:00:00Z)"));
	/* also beside a file: somebody has to say that it is sound */
	put(STORE_MAIN_FILE, "rows");
	assert_int_equal(
	    store_mark_judge(folder, why, sizeof(why)), ERR_CORRUPT);
	assert_int_equal(store_mark_restored(folder), 0);
	assert_int_equal(store_mark_judge(folder, why, sizeof(why)), 0);
}

static void
a_second_one_of_the_same_second_does_not_replace_the_first(void **state)
{
	char aside[STORE_ASIDE_MAX];
	char path[128];
	struct stat st;

	(void)state;
	put(STORE_MAIN_FILE, "first");
	assert_int_equal(store_mark_set_aside(folder, "x", NOW_MS, aside), 0);
	put(STORE_MAIN_FILE, "the second");
	assert_int_equal(
	    store_mark_set_aside(folder, "x", NOW_MS, aside), ERR_IO);
	snprintf(path, sizeof(path), "%s/%s", folder, aside);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, strlen("first"));
	assert_true(is_there(STORE_MAIN_FILE));
	assert_int_equal(
	    store_mark_judge(folder, why, sizeof(why)), ERR_CORRUPT);
}

static void
hostile_marks_are_shown_as_far_as_they_are_plain(void **state)
{
	char text[STORE_MARK_TEXT_MAX];
	char path[128];

	(void)state;
	put("last-backup", "2026 /a\x1b[2J\"b\nforged line");
	store_mark_advise(folder, text);
	assert_non_null(strstr(text, "restore /a?[2J?b (the newest"));
	assert_null(strstr(text, "forged"));
	put("last-backup", "nothing");
	store_mark_advise(folder, text);
	assert_non_null(strstr(text, "no backup is known"));
	/* a link does not lead the way, but it is a mark all the same */
	snprintf(path, sizeof(path), "%s/store-damaged", folder);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(
	    store_mark_judge(folder, why, sizeof(why)), ERR_CORRUPT);
	assert_null(strstr(why, "root:"));
	assert_int_equal(store_mark_made("/nowhere/at/all"), ERR_IO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		a_new_folder_may_have_a_store_once, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		what_was_set_aside_keeps_everything_down, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_second_one_of_the_same_second_does_not_replace_the_first,
		set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		hostile_marks_are_shown_as_far_as_they_are_plain, set_up,
		tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("store_mark", tests, NULL, NULL);
}
