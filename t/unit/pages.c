/*
 * pages.c - which files the ops port gives away.
 *
 * Role:    unit tests of console/pages.c.
 * Process: test; a folder of its own.
 * Blocks:  on that folder.
 * Trust:   none.
 * See:     console/pages.h.
 */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "console/pages.h"

static struct {
	char folder[64]; /* FOLDER/www is served, FOLDER/secret.js is not */
	char www[80];
} place;

static void
make_file(const char *name, const char *text)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", place.folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void
make_link(const char *target, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", place.folder, name);
	assert_int_equal(symlink(target, path), 0);
}

static void
make_folder(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", place.folder, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int
set_up(void **state)
{
	char path[160];

	(void)state;
	snprintf(place.folder, sizeof(place.folder), "/tmp/parley-unit-XXXXXX");
	if (mkdtemp(place.folder) == NULL)
		return -1;
	snprintf(place.www, sizeof(place.www), "%s/www", place.folder);
	make_folder("www");
	make_folder("www/sub");
	make_folder("www/dir.js");
	make_file("secret.js", "secret");
	make_file("www/index.html", "start");
	make_file("www/a.js", "script");
	make_file("www/sub/b.css", "style");
	make_file("www/.hidden.js", "hidden");
	make_file("www/key.pem", "key");
	make_file("www/plain", "no ending");
	make_link("../secret.js", "www/link.js");
	make_link("..", "www/up");
	snprintf(path, sizeof(path), "%s/www/pipe.js", place.folder);
	return mkfifo(path, 0600);
}

static int
tear_down(void **state)
{
	static const char *const names[] = {"secret.js", "www/index.html",
	    "www/a.js", "www/sub/b.css", "www/.hidden.js", "www/key.pem",
	    "www/plain", "www/link.js", "www/up", "www/pipe.js", "www/big.js",
	    "www/sub", "www/dir.js", "www", ""};
	char path[160];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", place.folder, names[i]);
		remove(path);
	}
	return 0;
}

static void
expect_page(const char *path, const char *text, const char *type)
{
	const char *found = NULL;
	struct buf body = {0};

	assert_int_equal(pages_read(place.www, path, &body, &found), 0);
	assert_int_equal(body.len, strlen(text));
	assert_memory_equal(body.data, text, body.len);
	assert_string_equal(found, type);
	buf_fini(&body);
}

static void
expect_nothing(const char *path, int rc)
{
	const char *type = NULL;
	struct buf body = {0};

	assert_int_equal(pages_read(place.www, path, &body, &type), rc);
	assert_int_equal(body.len, 0);
	buf_fini(&body);
}

static void
files_are_served_with_their_type(void **state)
{
	(void)state;
	expect_page("/", "start", "text/html; charset=utf-8");
	expect_page("/index.html", "start", "text/html; charset=utf-8");
	expect_page("/a.js", "script", "text/javascript; charset=utf-8");
	expect_page("/sub/b.css", "style", "text/css; charset=utf-8");
}

static void
nothing_outside_the_folder_is_reachable(void **state)
{
	static const char *const paths[] = {"/../secret.js",
	    "/sub/../../secret.js", "/sub/../a.js", "/./a.js", "//a.js",
	    "/sub//b.css", "/link.js", "/up/secret.js", "/up/www/a.js", "a.js",
	    "", "/..", "/.", "/sub/..\\a.js", "/a\n.js",
	    "/sub/sub/sub/sub/sub/a.js"};

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		expect_nothing(paths[i], ERR_NOT_FOUND);
}

static void
only_plain_files_of_known_types_are_served(void **state)
{
	(void)state;
	expect_nothing("/.hidden.js", ERR_NOT_FOUND);
	expect_nothing("/key.pem", ERR_NOT_FOUND);
	expect_nothing("/plain", ERR_NOT_FOUND);
	expect_nothing("/sub", ERR_NOT_FOUND);
	expect_nothing("/dir.js", ERR_NOT_FOUND);
	expect_nothing("/pipe.js", ERR_NOT_FOUND);
	expect_nothing("/a.js/", ERR_NOT_FOUND);
	expect_nothing("/missing.js", ERR_NOT_FOUND);
}

static void
a_huge_file_is_refused(void **state)
{
	char path[160];

	(void)state;
	make_file("www/big.js", "x");
	snprintf(path, sizeof(path), "%s/www/big.js", place.folder);
	assert_int_equal(truncate(path, 4 * 1024 * 1024 + 1), 0);
	expect_nothing("/big.js", ERR_TOO_LARGE);
}

static void
a_missing_folder_serves_nothing(void **state)
{
	const char *type;
	struct buf body = {0};

	(void)state;
	assert_int_equal(
	    pages_read("/nonexistent", "/a.js", &body, &type), ERR_NOT_FOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(files_are_served_with_their_type),
	    cmocka_unit_test(nothing_outside_the_folder_is_reachable),
	    cmocka_unit_test(only_plain_files_of_known_types_are_served),
	    cmocka_unit_test(a_huge_file_is_refused),
	    cmocka_unit_test(a_missing_folder_serves_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pages", tests, set_up, tear_down);
}
