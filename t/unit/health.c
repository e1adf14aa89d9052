/*
 * health.c - the scoreboard read as a verdict.
 *
 * Role:    unit tests of shm/health.c.
 * Process: test; a board of its own in a private folder.
 * Blocks:  on that folder.
 * Trust:   none.
 * See:     shm/health.h.
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

#include "shm/health.h"

#define NOW_MS  1000000
#define WORKERS 2

struct fixture {
	char folder[64];
	struct board *board;
};

static void
serve(struct board *board, int slot)
{
	struct board_slot *at = board_slot(board, slot);

	atomic_store(&at->generation, 3);
	atomic_store(&at->up, 3);
	atomic_store(&at->state, PROCESS_RUNNING);
	atomic_store(&at->heartbeat_ms, NOW_MS);
}

static int
set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (fixture == NULL)
		return -1;
	snprintf(fixture->folder, sizeof(fixture->folder),
	    "/tmp/parley-unit-XXXXXX");
	if (mkdtemp(fixture->folder) == NULL ||
	    board_create(fixture->folder, WORKERS, &fixture->board) != 0)
		return -1;
	atomic_store(&board_header(fixture->board)->ready, 1);
	serve(fixture->board, SLOT_SUPERVISOR);
	serve(fixture->board, SLOT_KEEPER);
	serve(fixture->board, SLOT_DIRECTORY);
	serve(fixture->board, SLOT_CONSOLE);
	serve(fixture->board, SLOT_WORKER_0);
	serve(fixture->board, SLOT_WORKER_0 + 1);
	serve(fixture->board, SLOT_HOLDER_0);
	serve(fixture->board, SLOT_HOLDER_0 + 1);
	*state = fixture;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *fixture = *state;
	char path[128];

	board_close(&fixture->board);
	snprintf(path, sizeof(path), "%s/board", fixture->folder);
	unlink(path);
	rmdir(fixture->folder);
	free(fixture);
	return 0;
}

static struct board *
board_of(void **state)
{
	struct fixture *fixture = *state;

	return fixture->board;
}

static void
expect(struct board *board, enum health_status status, bool is_ready)
{
	struct health health = health_read(board, NOW_MS);

	assert_int_equal(health.status, status);
	assert_int_equal(health.is_ready, is_ready);
	assert_int_equal(health.reason[0] == '\0', status == HEALTH_OK);
}

static void
all_serving_is_ok(void **state)
{
	expect(board_of(state), HEALTH_OK, true);
}

static void
without_the_keeper_it_has_failed(void **state)
{
	struct board_slot *at = board_slot(board_of(state), SLOT_KEEPER);

	atomic_store(&at->state, PROCESS_BACKOFF);
	expect(board_of(state), HEALTH_FAILED, false);
	atomic_store(&at->state, PROCESS_RUNNING);
	atomic_store(&at->generation, 4); /* a successor that is not up yet */
	expect(board_of(state), HEALTH_FAILED, false);
}

static void
a_store_that_is_not_open_is_not_ready(void **state)
{
	atomic_store(&board_header(board_of(state))->ready, 0);
	expect(board_of(state), HEALTH_FAILED, false);
}

static void
what_is_with_the_store_comes_before_what_follows_from_it(void **state)
{
	struct fixture *fixture = *state;
	struct board_header *header = board_header(fixture->board);
	struct health health;

	atomic_store(&header->ready, 0);
	atomic_store(
	    &board_slot(fixture->board, SLOT_KEEPER)->state, PROCESS_ERRORED);
	atomic_store(&header->store, STORE_SUSPECT);
	health = health_read(fixture->board, NOW_MS);
	assert_int_equal(health.status, HEALTH_FAILED);
	assert_non_null(strstr(health.reason, "is being checked"));
	atomic_store(&header->store, STORE_REFUSED);
	health = health_read(fixture->board, NOW_MS);
	assert_false(health.is_ready);
	assert_non_null(strstr(health.reason, "parleyctl restore"));
	atomic_store(&header->store, STORE_USABLE);
	health = health_read(fixture->board, NOW_MS);
	assert_non_null(strstr(health.reason, "the keeper"));
}

/* The database is in nobody's way, but somebody has to know. */
static void
a_database_that_does_not_take_part_is_told(void **state)
{
	struct board *board = board_of(state);
	_Atomic uint64_t *counters =
	    board_slot(board, SLOT_DIRECTORY)->count.counters;

	atomic_store(&counters[COUNTER_mssql_breaker_primary], 2);
	expect(board, HEALTH_DEGRADED, true);
	assert_non_null(strstr(
	    health_read(board, NOW_MS).reason, "SQL Server cannot be reached"));
	assert_true(health_database(board).is_spared);
	atomic_store(&counters[COUNTER_mssql_setup_wrong], 1);
	assert_non_null(strstr(health_read(board, NOW_MS).reason,
	    "SQL Server refuses to be written to"));
	assert_true(health_database(board).is_setup_wrong);
	atomic_store(&counters[COUNTER_mssql_breaker_primary], 0);
	atomic_store(&counters[COUNTER_mssql_setup_wrong], 0);
	expect(board, HEALTH_OK, true);
}

static void
one_worker_is_enough_two_are_well(void **state)
{
	struct board *board = board_of(state);

	atomic_store(
	    &board_slot(board, SLOT_WORKER_0 + 1)->state, PROCESS_ERRORED);
	expect(board, HEALTH_DEGRADED, true);
	atomic_store(&board_slot(board, SLOT_WORKER_0)->state, PROCESS_DEAD);
	expect(board, HEALTH_FAILED, false);
}

static void
helpers_only_degrade(void **state)
{
	struct board *board = board_of(state);

	atomic_store(&board_slot(board, SLOT_DIRECTORY)->state, PROCESS_DEAD);
	atomic_store(&board_slot(board, SLOT_CONSOLE)->state, PROCESS_DEAD);
	expect(board, HEALTH_DEGRADED, true);
}

static void
a_holder_only_degrades(void **state)
{
	struct board *board = board_of(state);

	atomic_store(
	    &board_slot(board, SLOT_HOLDER_0 + 1)->state, PROCESS_DEAD);
	expect(board, HEALTH_DEGRADED, true);
	/* that of a worker which is not wanted any more is not missed */
	atomic_store(&board_header(board)->workers, 1);
	expect(board, HEALTH_OK, true);
}

static void
a_heart_that_stands_still_counts_as_down(void **state)
{
	struct board *board = board_of(state);
	struct board_slot *at = board_slot(board, SLOT_KEEPER);

	atomic_store(&at->heartbeat_ms, NOW_MS - HEALTH_STALL_MS + 1);
	expect(board, HEALTH_OK, true);
	atomic_store(&at->heartbeat_ms, NOW_MS - HEALTH_STALL_MS);
	expect(board, HEALTH_FAILED, false);
	assert_int_equal(
	    health_beat_age_ms(board, SLOT_KEEPER, NOW_MS), HEALTH_STALL_MS);
	atomic_store(&at->heartbeat_ms, NOW_MS + 5); /* read before it beat */
	assert_int_equal(health_beat_age_ms(board, SLOT_KEEPER, NOW_MS), 0);
	atomic_store(&at->heartbeat_ms, 0);
	assert_int_equal(health_beat_age_ms(board, SLOT_KEEPER, NOW_MS), -1);
}

static void
a_server_that_stops_is_not_ready(void **state)
{
	atomic_store(&board_header(board_of(state))->stopping, 1);
	expect(board_of(state), HEALTH_FAILED, false);
}

static void
slots_of_a_later_version_do_not_count(void **state)
{
	struct board *board = board_of(state);

	assert_false(health_is_used(board, SLOT_HERALD));
	assert_false(health_is_used(board, SLOT_LINK));
	assert_true(health_is_used(board, SLOT_DIRECTORY));
	assert_false(health_is_used(board, SLOT_WORKER_0 + WORKERS));
	atomic_store(&board_slot(board, SLOT_HERALD)->generation, 1);
	assert_true(health_is_used(board, SLOT_HERALD));
	expect(board, HEALTH_DEGRADED, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(all_serving_is_ok),
	    TEST(without_the_keeper_it_has_failed),
	    TEST(a_store_that_is_not_open_is_not_ready),
	    TEST(what_is_with_the_store_comes_before_what_follows_from_it),
	    TEST(a_database_that_does_not_take_part_is_told),
	    TEST(one_worker_is_enough_two_are_well),
	    TEST(helpers_only_degrade),
	    TEST(a_holder_only_degrades),
	    TEST(a_heart_that_stands_still_counts_as_down),
	    TEST(a_server_that_stops_is_not_ready),
	    TEST(slots_of_a_later_version_do_not_count),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
