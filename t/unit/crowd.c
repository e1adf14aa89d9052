/*
 * crowd.c - unit test of shm/crowd.c: addresses are counted over all workers,
 * at the limit, over the death of one, and among very many others.
 */
#include "config.h"

#include "shm/crowd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/layout.h"

#define WORKERS 3

/* Each worker is a process of its own: here they take turns with the bus. */
static struct {
	struct board *board;
	struct bus *bus;
	struct crowd *crowds[WORKERS];
} stage;

static void
begin_worker(int worker)
{
	struct board_slot *slot =
	    board_slot(stage.board, SLOT_WORKER_0 + worker);

	slot->generation++;
	slot->pid = 100 + worker;
	bus_become(stage.bus, SLOT_WORKER_0 + worker);
	stage.crowds[worker] = crowd_new(stage.bus);
}

static int
open_stage(void **state)
{
	char dir[] = "crowd-XXXXXX";
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(board_create(dir, WORKERS, &stage.board), 0);
	snprintf(path, sizeof(path), "%s/board", dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(bus_create(stage.board, WORKERS, &stage.bus), 0);
	crowd_begin(stage.bus);
	for (int worker = 0; worker < WORKERS; worker++)
		begin_worker(worker);
	return 0;
}

static int
close_stage(void **state)
{
	(void)state;
	for (int worker = 0; worker < WORKERS; worker++)
		crowd_free(&stage.crowds[worker]);
	bus_free(&stage.bus);
	board_close(&stage.board);
	return 0;
}

static void
set_key(uint8_t key[CROWD_KEY_LEN], uint32_t number)
{
	memset(key, 0, CROWD_KEY_LEN);
	key[10] = key[11] = 0xff;
	memcpy(key + 12, &number, sizeof(number));
}

static uint32_t
count_of(uint32_t number)
{
	uint8_t key[CROWD_KEY_LEN];
	uint32_t count;

	set_key(key, number);
	count = crowd_count(stage.crowds[0], key);
	for (int worker = 1; worker < WORKERS; worker++)
		assert_int_equal(crowd_count(stage.crowds[worker], key), count);
	return count;
}

static bool
enter(int worker, uint32_t number, uint32_t max)
{
	uint8_t key[CROWD_KEY_LEN];

	set_key(key, number);
	return crowd_enter(stage.crowds[worker], key, max);
}

static void
leave(int worker, uint32_t number)
{
	uint8_t key[CROWD_KEY_LEN];

	set_key(key, number);
	crowd_leave(stage.crowds[worker], key);
}

static void
all_workers_count_together(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		assert_true(enter(i % WORKERS, 1, 10));
	assert_int_equal(count_of(1), 10);
	for (int worker = 0; worker < WORKERS; worker++)
		assert_false(enter(worker, 1, 10));
	assert_int_equal(count_of(1), 10);
	assert_true(enter(1, 2, 10)); /* another address */
	assert_true(enter(0, 1, 0));  /* no limit, but it counts */
	assert_false(enter(2, 1, 11));
	leave(0, 1);
	leave(1, 1);
	assert_true(enter(2, 1, 10));
	assert_false(enter(2, 1, 10));
}

static void
the_dead_do_not_count(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_true(enter(0, 1, 0));
		assert_true(enter(1, 1, 0));
	}
	assert_int_equal(count_of(1), 10);
	crowd_free(&stage.crowds[1]);
	board_slot(stage.board, SLOT_WORKER_0 + 1)->pid = 0;
	assert_true(enter(0, 1, 6));
	assert_false(enter(2, 1, 6));
	/* its successor has been forked, but has not begun */
	board_slot(stage.board, SLOT_WORKER_0 + 1)->generation++;
	board_slot(stage.board, SLOT_WORKER_0 + 1)->pid = 200;
	assert_false(enter(2, 1, 6));
	assert_true(enter(2, 1, 7));
	leave(2, 1);
	begin_worker(1);
	assert_int_equal(count_of(1), 6);
	/* it goes on with three */
	for (int i = 0; i < 3; i++)
		assert_true(enter(1, 1, 0));
	assert_int_equal(count_of(1), 9);
	for (int i = 0; i < 3; i++)
		leave(1, 1);
	assert_int_equal(count_of(1), 6);
}

/* The bound of crowd.h, and that nothing is left over. */
static void
many_others_make_little_difference(void **state)
{
	const uint32_t others = 200000;
	uint32_t most = 0;

	(void)state;
	for (int i = 0; i < 7; i++)
		assert_true(enter(i % WORKERS, 0, 0));
	for (uint32_t i = 1; i <= others; i++)
		assert_true(enter((int)(i % WORKERS), i, 0));
	assert_true(count_of(0) >= 7);
	assert_true(count_of(0) <= 7 + 2 * others / CROWD_COLUMNS);
	for (uint32_t i = 1; i <= others; i += 97) {
		uint32_t count = count_of(i);

		assert_true(count >= 1);
		if (count > most)
			most = count;
	}
	assert_true(most <= 1 + 2 * others / CROWD_COLUMNS);
	for (uint32_t i = 1; i <= others; i++)
		leave((int)(i % WORKERS), i);
	assert_int_equal(count_of(0), 7);
	for (uint32_t i = 1; i <= others; i += 97)
		assert_true(count_of(i) <= 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		all_workers_count_together, open_stage, close_stage),
	    cmocka_unit_test_setup_teardown(
		the_dead_do_not_count, open_stage, close_stage),
	    cmocka_unit_test_setup_teardown(
		many_others_make_little_difference, open_stage, close_stage),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
