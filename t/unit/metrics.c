/*
 * metrics.c - the scoreboard as Prometheus reads it.
 *
 * Role:    unit tests of console/metrics.c.
 * Process: test; a board of its own in a private folder.
 * Blocks:  on that folder.
 * Trust:   none.
 * See:     console/metrics.h.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "console/metrics.h"

struct fixture {
	char folder[64];
	struct board *board;
	struct buf text;
};

static int
set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (fixture == NULL)
		return -1;
	snprintf(fixture->folder, sizeof(fixture->folder),
	    "/tmp/parley-unit-XXXXXX");
	if (mkdtemp(fixture->folder) == NULL ||
	    board_create(fixture->folder, 1, &fixture->board) != 0)
		return -1;
	*state = fixture;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *fixture = *state;
	char path[128];

	board_close(&fixture->board);
	buf_fini(&fixture->text);
	snprintf(path, sizeof(path), "%s/board", fixture->folder);
	unlink(path);
	rmdir(fixture->folder);
	free(fixture);
	return 0;
}

static void
write_all(struct fixture *fixture)
{
	buf_clear(&fixture->text);
	metrics_write(&fixture->text, fixture->board);
	buf_add_char(&fixture->text, '\0');
}

/* Is this, on its own, a line of the output? */
static void
expect_line(struct fixture *fixture, const char *line)
{
	size_t len = strlen(line);
	const char *at = fixture->text.data;

	while ((at = strstr(at, line)) != NULL) {
		if ((at == fixture->text.data || at[-1] == '\n') &&
		    at[len] == '\n')
			return;
		at += len;
	}
	fail_msg("missing line: %s", line);
}

static void
counters_are_total_and_per_process(void **state)
{
	struct fixture *fixture = *state;
	struct board_slot *keeper = board_slot(fixture->board, SLOT_KEEPER);

	atomic_store(&keeper->count.counters[COUNTER_messages], UINT64_MAX);
	write_all(fixture);
	expect_line(fixture, "# TYPE parley_messages_total counter");
	expect_line(fixture, "# HELP parley_messages_total messages stored");
	expect_line(fixture, "parley_messages_total{process=\"keeper\"} "
			     "18446744073709551615");
	expect_line(fixture, "parley_messages_total{process=\"worker-0\"} 0");
	assert_null(strstr(fixture->text.data, "worker-1"));
	assert_null(strstr(fixture->text.data, "herald"));
}

static void
gauges_are_of_those_who_know(void **state)
{
	struct fixture *fixture = *state;
	struct board_slot *worker = board_slot(fixture->board, SLOT_WORKER_0);

	atomic_store(&worker->count.counters[COUNTER_connections], 12);
	atomic_store(&worker->pid, 4711);
	write_all(fixture);
	expect_line(fixture, "# TYPE parley_connections gauge");
	expect_line(fixture, "parley_connections{process=\"worker-0\"} 12");
	assert_null(strstr(
	    fixture->text.data, "parley_connections{process=\"keeper\"}"));
	atomic_store(&worker->pid, 0); /* who is dead knows nothing */
	write_all(fixture);
	assert_null(strstr(fixture->text.data, "parley_connections{"));
}

/* A gauge may be below zero for a moment. */
static void
gauges_have_a_sign(void **state)
{
	struct fixture *fixture = *state;
	struct board_slot *worker = board_slot(fixture->board, SLOT_WORKER_0);

	atomic_store(&worker->pid, 4711);
	atomic_store(&worker->count.counters[COUNTER_sessions], (uint64_t)-1);
	write_all(fixture);
	expect_line(fixture, "parley_sessions{process=\"worker-0\"} -1");
}

static void
histograms_are_cumulative_seconds(void **state)
{
	struct fixture *fixture = *state;
	struct histogram *commits =
	    &board_slot(fixture->board, SLOT_KEEPER)
		 ->count.histograms[HISTOGRAM_commit_us];

	histogram_add(commits, 1);
	histogram_add(commits, 5);
	histogram_add(commits, 6);
	histogram_add(commits, UINT64_C(3600) * 1000000);
	write_all(fixture);
	expect_line(fixture, "# TYPE parley_commit_seconds histogram");
	expect_line(fixture, "parley_commit_seconds_bucket{process=\"keeper\","
			     "le=\"5e-06\"} 2");
	expect_line(fixture, "parley_commit_seconds_bucket{process=\"keeper\","
			     "le=\"1.3e-05\"} 3");
	expect_line(fixture, "parley_commit_seconds_bucket{process=\"keeper\","
			     "le=\"+Inf\"} 4");
	expect_line(
	    fixture, "parley_commit_seconds_count{process=\"keeper\"} 4");
	expect_line(fixture,
	    "parley_commit_seconds_sum{process=\"keeper\"} 3600.000012");
}

/* Readers refuse a histogram whose edges do not grow. */
static void
edges_grow(void **state)
{
	struct fixture *fixture = *state;
	static const char mark[] =
	    "parley_turn_seconds_bucket{process=\"keeper\",le=\"";
	double before = 0;
	int count = 0;
	const char *at;

	write_all(fixture);
	for (at = strstr(fixture->text.data, mark); at != NULL;
	     at = strstr(at, mark)) {
		double edge;

		at += sizeof(mark) - 1;
		edge = strtod(at, NULL);
		assert_true(edge > before);
		before = edge;
		count++;
	}
	assert_in_range(count, 15, 25);
}

static void
processes_say_whether_they_serve(void **state)
{
	struct fixture *fixture = *state;
	struct board_slot *keeper = board_slot(fixture->board, SLOT_KEEPER);

	atomic_store(&keeper->generation, 2);
	atomic_store(&keeper->up, 2);
	atomic_store(&keeper->state, PROCESS_RUNNING);
	atomic_store(&keeper->restarts, 7);
	write_all(fixture);
	expect_line(fixture, "parley_process_up{process=\"keeper\"} 1");
	expect_line(fixture, "parley_process_up{process=\"console\"} 0");
	expect_line(
	    fixture, "parley_process_restarts_total{process=\"keeper\"} 7");
	expect_line(
	    fixture, "parley_build_info{version=\"" PACKAGE_VERSION "\"} 1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(counters_are_total_and_per_process),
	    TEST(gauges_are_of_those_who_know),
	    TEST(gauges_have_a_sign),
	    TEST(histograms_are_cumulative_seconds),
	    TEST(edges_grow),
	    TEST(processes_say_whether_they_serve),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
