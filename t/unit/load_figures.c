/*
 * load_figures.c - files of results are read whole or refused; medians and
 * ranges are those of all runs.
 *
 * Role:    writes files and reads them as --compare does.
 * Process: a unit test; prints TAP.
 * Blocks:  on its own small files.
 * Trust:   nothing to distrust.
 * See:     src/load/figures.c, src/load/compare.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "load/figures.h"

#define HEAD "\"format\":\"parleyload\",\"format_version\":1,"

static char path[] = "/tmp/parley-figures-XXXXXX";

static int
file_make(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd == -1 ? -1 : close(fd);
}

static int
file_remove(void **state)
{
	(void)state;
	return unlink(path);
}

static int
read_as(struct figures *figures, const char *text, char error[512])
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	assert_int_equal(fclose(file), 0);
	return figures_read(figures, FIGURES_NEW, path, error, 512);
}

static struct figure *
find(struct figures *figures, const char *name)
{
	struct figure *figure;

	HASH_FIND_STR(figures->by_name, name, figure);
	assert_non_null(figure);
	return figure;
}

static void
check_spread(struct figures *figures, const char *name, double median,
    double min, double max, size_t count)
{
	struct figures_spread spread =
	    figures_spread(find(figures, name), FIGURES_NEW);

	assert_float_equal(spread.median, median, 1e-9);
	assert_float_equal(spread.min, min, 1e-9);
	assert_float_equal(spread.max, max, 1e-9);
	assert_int_equal(spread.count, count);
}

static void
one_result_is_read(void **state)
{
	struct figures figures = {0};
	char error[512] = "";

	(void)state;
	assert_int_equal(
	    read_as(&figures,
		"{" HEAD "\"cpu\":{\"us\":2.5,\"by\":{\"keeper\":1}},"
		"\"context\":{\"kernel\":\"6.1\",\"is_fast\":true}}\n",
		error),
	    0);
	check_spread(&figures, "cpu.us", 2.5, 2.5, 2.5, 1);
	check_spread(&figures, "cpu.by.keeper", 1, 1, 1, 1);
	assert_string_equal(
	    find(&figures, "context.kernel")->texts[FIGURES_NEW], "\"6.1\"");
	assert_string_equal(
	    find(&figures, "context.is_fast")->texts[FIGURES_NEW], "true");
	assert_int_equal(
	    figures_spread(find(&figures, "cpu.us"), FIGURES_OLD).count, 0);
	figures_fini(&figures);
}

static void
results_on_lines_are_runs(void **state)
{
	struct figures figures = {0};
	struct {
		char text[4096];
		size_t len;
	} all = {.len = 0};
	char error[512] = "";

	(void)state;
	/* 9 1 8 2 7 3 6 4 5: the order in the file does not matter */
	for (int i = 0; i < 9; i++)
		all.len += (size_t)snprintf(all.text + all.len,
		    sizeof(all.text) - all.len, "{" HEAD "\"n\":%d}\n%s",
		    i % 2 == 0 ? 9 - i / 2 : 1 + i / 2, i == 3 ? "\n" : "");
	assert_int_equal(read_as(&figures, all.text, error), 0);
	check_spread(&figures, "n", 5, 1, 9, 9);
	assert_int_equal(read_as(&figures, "{" HEAD "\"n\":6}", error), 0);
	check_spread(&figures, "n", 5.5, 1, 9, 10);
	figures_fini(&figures);
}

static void
bench_items_are_told_apart(void **state)
{
	struct figures figures = {0};
	char error[512] = "";

	(void)state;
	assert_int_equal(
	    read_as(&figures,
		"{\"format\":\"parley-bench\",\"format_version\":1,\n"
		"\"context\":{\"cores\":2},\"items\":{\n"
		" \"a\":{\"title\":\"A\",\"runs\":[{" HEAD "\"n\":1},"
		"{" HEAD "\"n\":2}]},\n"
		" \"b\":{\"title\":\"B\",\"runs\":[{" HEAD "\"n\":9}]},\n"
		" \"c\":{\"title\":\"C\",\"runs\":[]}}}\n",
		error),
	    0);
	check_spread(&figures, "a.n", 1.5, 1, 2, 2);
	check_spread(&figures, "b.n", 9, 9, 9, 1);
	figures_fini(&figures);
}

static void
what_is_no_result_is_refused(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
	    {"", ERR_BAD_REQUEST},
	    {"{}", ERR_BAD_REQUEST},
	    {"{\"format\":\"parleyload\"}", ERR_STALE},
	    {"{\"format\":\"parleyload\",\"format_version\":2}", ERR_STALE},
	    {"{\"format\":\"parley-bench\",\"format_version\":2}", ERR_STALE},
	    {"{\"format\":\"parley-bench\",\"format_version\":1,"
	     "\"items\":{\"a\":{\"runs\":[1]}}}",
		ERR_BAD_REQUEST},
	    {"{" HEAD "\"n\":1}\n{" HEAD "\"n\":", ERR_BAD_REQUEST},
	    {"[1]", ERR_BAD_REQUEST},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct figures figures = {0};
		char error[512] = "";

		assert_int_equal(
		    read_as(&figures, rows[i].text, error), rows[i].rc);
		assert_int_equal(strncmp(error, path, strlen(path)), 0);
		figures_fini(&figures);
	}
}

static void
a_name_without_end_is_refused(void **state)
{
	struct figures figures = {0};
	char text[1024] = "{" HEAD "\"";
	char error[512] = "";
	size_t len = strlen(text);

	(void)state;
	memset(text + len, 'n', 600);
	memcpy(text + len + 600, "\":{\"m\":1}}", 11);
	assert_int_equal(read_as(&figures, text, error), ERR_BAD_REQUEST);
	figures_fini(&figures);
}

static void
a_missing_file_is_told(void **state)
{
	struct figures figures = {0};
	char error[512] = "";

	(void)state;
	assert_int_equal(figures_read(&figures, FIGURES_OLD,
			     "/nonexistent/figures", error, sizeof(error)),
	    ERR_IO);
	assert_non_null(strstr(error, "/nonexistent/figures: No such file"));
	figures_fini(&figures);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_result_is_read),
	    cmocka_unit_test(results_on_lines_are_runs),
	    cmocka_unit_test(bench_items_are_told_apart),
	    cmocka_unit_test(what_is_no_result_is_refused),
	    cmocka_unit_test(a_name_without_end_is_refused),
	    cmocka_unit_test(a_missing_file_is_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, file_make, file_remove);
}
