/*
 * bus.c - unit test of shm/bus.c: who has a ring to whom, what it costs, and
 * that no wake-up is lost.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/count.h"
#include "shm/bus.h"

#define PAGE        4096
#define WORKER_A    SLOT_WORKER_0
#define WORKER_B    (SLOT_WORKER_0 + 1)
#define EXCHANGES   100000
#define DEADLINE_MS 10000

struct stage {
	char dir[32];
	struct board *board;
	struct bus *bus;
};

static void
stage_open(struct stage *stage, int workers)
{
	char path[64];

	strcpy(stage->dir, "bus-XXXXXX");
	assert_non_null(mkdtemp(stage->dir));
	assert_int_equal(board_create(stage->dir, workers, &stage->board), 0);
	snprintf(path, sizeof(path), "%s/board", stage->dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(stage->dir), 0);
	for (int slot = 0; slot < SLOT_WORKER_0 + workers; slot++)
		board_slot(stage->board, slot)->generation = 1;
	assert_int_equal(bus_create(stage->board, workers, &stage->bus), 0);
}

static void
stage_close(struct stage *stage)
{
	bus_free(&stage->bus);
	bus_free(&stage->bus);
	board_close(&stage->board);
}

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool
is_rung(struct bus *bus)
{
	struct pollfd fd = {.fd = bus_eventfd(bus), .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

/* Everything up to the next -1; @return records read */
static int
read_round(struct bus *bus)
{
	int count = 0;

	for (int from = bus_next_incoming(bus, -1); from >= 0;
	     from = bus_next_incoming(bus, from)) {
		struct ring_reader *reader = bus_reader(bus, from);
		struct ring_record record;

		while (ring_next(reader, &record) == 0)
			count++;
		ring_release(reader);
	}
	return count;
}

static void
rings_are_where_the_table_says(void **state)
{
	static const struct {
		int from;
		int to;
		uint64_t bytes;
	} rows[] = {
	    {WORKER_A, SLOT_KEEPER, 1 << 20},
	    {SLOT_KEEPER, WORKER_B, 2 << 20},
	    {WORKER_B, SLOT_DIRECTORY, 1 << 19},
	    {SLOT_DIRECTORY, WORKER_A, 1 << 20},
	    {WORKER_A, WORKER_B, 1 << 20},
	    {WORKER_B, WORKER_A, 1 << 20},
	    {SLOT_KEEPER, SLOT_DIRECTORY, 1 << 19},
	    {SLOT_DIRECTORY, SLOT_KEEPER, 1 << 19},
	    {SLOT_CONSOLE, SLOT_KEEPER, 1 << 19},
	    {SLOT_KEEPER, SLOT_CONSOLE, 1 << 19},
	    {SLOT_CONSOLE, SLOT_DIRECTORY, 1 << 19},
	    {SLOT_DIRECTORY, SLOT_CONSOLE, 1 << 19},
	};
	struct stage stage;
	size_t count = 0;

	(void)state;
	stage_open(&stage, 2);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct ring *ring =
		    bus_ring(stage.bus, rows[i].from, rows[i].to);

		assert_non_null(ring);
		assert_int_equal(ring->size, rows[i].bytes);
		assert_int_equal(ring_record_max(ring), RING_RECORD_MAX);
	}
	for (int from = -1; from <= SLOT_WORKER_0 + 2; from++) {
		for (int to = -1; to <= SLOT_WORKER_0 + 2; to++)
			count += bus_ring(stage.bus, from, to) != NULL;
	}
	assert_int_equal(count, 2 + 6 + 3 * 2 + 2);
	bus_become(stage.bus, WORKER_A);
	assert_null(bus_writer(stage.bus, SLOT_CONSOLE));
	assert_null(bus_writer(stage.bus, WORKER_A));
	assert_null(bus_reader(stage.bus, SLOT_SUPERVISOR));
	assert_int_equal(
	    bus_put(stage.bus, SLOT_CONSOLE, 1, "x", 1), ERR_NOT_FOUND);
	stage_close(&stage);
}

static size_t
resident_bytes(const void *mem, size_t bytes)
{
	uintptr_t start = (uintptr_t)mem & ~(uintptr_t)(PAGE - 1);
	size_t pages = ((uintptr_t)mem + bytes - start + PAGE - 1) / PAGE;
	unsigned char *map = calloc(pages, 1);
	size_t count = 0;

	assert_non_null(map);
	assert_int_equal(mincore((void *)start, pages * PAGE, map), 0);
	for (size_t i = 0; i < pages; i++)
		count += map[i] & 1;
	free(map);
	return count * PAGE;
}

/* All ends and data lie apart; @return bytes in use by ends and data */
static size_t
bus_resident(struct stage *stage)
{
	const uint8_t *data_end = NULL;
	const uint8_t *first = NULL;
	const uint8_t *last = NULL;
	size_t resident = 0;
	int slots = bus_slot_end(stage->bus);

	for (int pair = 0; pair < slots * slots; pair++) {
		const struct ring *ring =
		    bus_ring(stage->bus, pair / slots, pair % slots);

		if (ring == NULL)
			continue;
		assert_true((const uint8_t *)ring->ends > last);
		assert_true(ring->data >= data_end);
		last = (const uint8_t *)(ring->ends + 1) - 1;
		data_end = ring->data + ring->size;
		if (first == NULL)
			first = (const uint8_t *)ring->ends;
		resident += resident_bytes(ring->data, ring->size);
	}
	assert_true(
	    last < bus_ring(stage->bus, SLOT_KEEPER, SLOT_DIRECTORY)->data);
	return resident + resident_bytes(first, (size_t)(last - first));
}

static void
idle_rings_cost_nothing(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage, WORKER_MAX);
	assert_int_equal(bus_resident(&stage), 0);
	for (int slot = 0; slot < bus_slot_end(stage.bus); slot++) {
		bus_become(stage.bus, slot);
		assert_int_equal(read_round(stage.bus), 0);
		assert_true(bus_prepare_sleep(stage.bus));
	}
	assert_true(bus_resident(&stage) < 700 * 1024);
	bus_become(stage.bus, WORKER_A);
	assert_int_equal(bus_put(stage.bus, SLOT_END - 1, 1, "x", 1), 0);
	bus_publish_all(stage.bus);
	assert_true(bus_resident(&stage) < 704 * 1024);
	stage_close(&stage);
}

static void
records_carry_current_generations(void **state)
{
	struct stage stage;
	struct ring_record record;

	(void)state;
	stage_open(&stage, 2);
	board_slot(stage.board, WORKER_A)->generation = 5;
	bus_become(stage.bus, WORKER_A);
	assert_int_equal(bus_own_generation(stage.bus), 5);
	assert_int_equal(bus_put(stage.bus, SLOT_KEEPER, 1, "a", 1), 0);
	board_slot(stage.board, SLOT_KEEPER)->generation = 9;
	assert_int_equal(bus_put(stage.bus, SLOT_KEEPER, 2, "b", 1), 0);
	bus_publish(stage.bus, SLOT_KEEPER);
	bus_become(stage.bus, SLOT_KEEPER);
	assert_int_equal(bus_next_incoming(stage.bus, -1), WORKER_A);
	assert_int_equal(
	    ring_next(bus_reader(stage.bus, WORKER_A), &record), 0);
	assert_int_equal(record.from_gen, 5);
	assert_int_equal(record.to_gen, 1);
	assert_int_equal(
	    ring_next(bus_reader(stage.bus, WORKER_A), &record), 0);
	assert_int_equal(record.to_gen, 9);
	stage_close(&stage);
}

static void
only_sleepers_are_rung_and_only_for_news(void **state)
{
	struct stage stage;
	uint64_t before = count_self->counters[COUNTER_wakeups];

	(void)state;
	stage_open(&stage, 2);
	bus_become(stage.bus, WORKER_A);
	assert_int_equal(bus_put(stage.bus, SLOT_KEEPER, 1, "a", 1), 0);
	assert_int_equal(bus_put(stage.bus, WORKER_B, 1, "a", 1), 0);
	assert_int_equal(bus_put(stage.bus, SLOT_DIRECTORY, 1, "a", 1), 0);
	ring_rewind(bus_writer(stage.bus, SLOT_DIRECTORY), 0);
	board_slot(stage.board, WORKER_B)->sleeping = 1;
	board_slot(stage.board, SLOT_DIRECTORY)->sleeping = 1;
	bus_publish_all(stage.bus);
	bus_publish_all(stage.bus);
	bus_publish(stage.bus, WORKER_B);
	assert_int_equal(count_self->counters[COUNTER_wakeups] - before, 1);
	bus_become(stage.bus, WORKER_B);
	assert_int_equal(board_slot(stage.board, WORKER_B)->sleeping, 0);
	assert_true(is_rung(stage.bus));
	assert_false(bus_prepare_sleep(stage.bus));
	assert_int_equal(board_slot(stage.board, WORKER_B)->sleeping, 0);
	assert_int_equal(read_round(stage.bus), 1);
	assert_true(bus_prepare_sleep(stage.bus));
	assert_int_equal(board_slot(stage.board, WORKER_B)->sleeping, 1);
	bus_awake(stage.bus);
	assert_int_equal(board_slot(stage.board, WORKER_B)->sleeping, 0);
	assert_false(is_rung(stage.bus));
	stage_close(&stage);
}

static void
what_is_left_unread_comes_again(void **state)
{
	struct stage stage;
	struct ring_record record;

	(void)state;
	stage_open(&stage, 2);
	for (int slot = WORKER_A; slot <= WORKER_B; slot++) {
		bus_become(stage.bus, slot);
		assert_int_equal(bus_put(stage.bus, SLOT_KEEPER, 1, "a", 1), 0);
		assert_int_equal(bus_put(stage.bus, SLOT_KEEPER, 1, "b", 1), 0);
		bus_publish_all(stage.bus);
	}
	bus_become(stage.bus, SLOT_KEEPER);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(bus_next_incoming(stage.bus, -1), WORKER_A);
		assert_int_equal(
		    ring_next(bus_reader(stage.bus, WORKER_A), &record), 0);
		assert_int_equal(
		    bus_next_incoming(stage.bus, WORKER_A), WORKER_B);
		assert_int_equal(
		    ring_next(bus_reader(stage.bus, WORKER_B), &record), 0);
		assert_int_equal(bus_next_incoming(stage.bus, WORKER_B), -1);
	}
	assert_true(bus_prepare_sleep(stage.bus));
	/* as after a transaction that failed: read it all again */
	assert_true(ring_reader_seek(bus_reader(stage.bus, WORKER_B), 0));
	assert_int_equal(bus_next_incoming(stage.bus, -1), WORKER_B);
	assert_false(bus_prepare_sleep(stage.bus));
	assert_int_equal(read_round(stage.bus), 2);
	assert_true(bus_prepare_sleep(stage.bus));
	stage_close(&stage);
}

/* As a writer killed after the head and before the bell. */
static void
publish_and_die(struct bus *bus)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct ring_writer *writer;

		bus_become(bus, WORKER_A);
		writer = bus_writer(bus, SLOT_KEEPER);
		if (writer == NULL || ring_put(writer, 1, "a", 1) != 0)
			_exit(1);
		_exit(ring_publish(writer) ? 0 : 1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
the_successor_rings_for_the_killed(void **state)
{
	struct stage stage;
	pid_t pid;
	int status;

	(void)state;
	stage_open(&stage, 2);
	bus_become(stage.bus, SLOT_KEEPER);
	assert_int_equal(read_round(stage.bus), 0);
	assert_true(bus_prepare_sleep(stage.bus));
	publish_and_die(stage.bus);
	assert_false(is_rung(stage.bus));
	pid = fork();
	if (pid == 0) {
		bus_become(stage.bus, WORKER_A);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(is_rung(stage.bus));
	bus_awake(stage.bus);
	assert_int_equal(read_round(stage.bus), 1);
	stage_close(&stage);
}

static void
without_a_successor_it_is_found_in_time(void **state)
{
	struct stage stage;
	int64_t deadline = now_ms() + DEADLINE_MS;
	int count = 0;

	(void)state;
	stage_open(&stage, 2);
	bus_become(stage.bus, SLOT_KEEPER);
	assert_int_equal(read_round(stage.bus), 0);
	publish_and_die(stage.bus);
	while (count == 0 && now_ms() < deadline) {
		if (bus_prepare_sleep(stage.bus)) {
			struct pollfd fd = {
			    .fd = bus_eventfd(stage.bus), .events = POLLIN};

			poll(&fd, 1, 100);
			bus_awake(stage.bus);
		}
		count = read_round(stage.bus);
	}
	assert_int_equal(count, 1);
	stage_close(&stage);
}

/*
 * One side of the exchange: one to four records out for the ones that came in,
 * asleep in between. A wake-up that is lost leaves both asleep: exit 2.
 */
static int
exchange(struct bus *bus, int self, int peer)
{
	uint64_t sent = 0;
	uint64_t received = 0;

	bus_become(bus, self);
	while (received < EXCHANGES) {
		struct pollfd fd = {.fd = bus_eventfd(bus), .events = POLLIN};
		uint64_t ahead = 1 + received % 4;

		received += (uint64_t)read_round(bus);
		for (; sent < EXCHANGES && sent < received + ahead; sent++) {
			if (bus_put(bus, peer, 1, &sent, sizeof(sent)) != 0)
				return 1;
			if (sent % 2 == 0)
				bus_publish(bus, peer); /* the bell still set */
		}
		bus_publish_all(bus);
		if (received == EXCHANGES || !bus_prepare_sleep(bus))
			continue;
		if (poll(&fd, 1, DEADLINE_MS) != 1)
			return 2;
		bus_awake(bus);
	}
	return sent == EXCHANGES && received == EXCHANGES ? 0 : 3;
}

static void
no_wakeup_is_lost(void **state)
{
	static const int sides[] = {WORKER_A, WORKER_B};
	struct stage stage;
	pid_t pids[2];
	int status;

	(void)state;
	stage_open(&stage, 2);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(exchange(stage.bus, sides[i], sides[1 - i]));
		assert_true(pids[i] > 0);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rings_are_where_the_table_says),
	    cmocka_unit_test(idle_rings_cost_nothing),
	    cmocka_unit_test(records_carry_current_generations),
	    cmocka_unit_test(only_sleepers_are_rung_and_only_for_news),
	    cmocka_unit_test(what_is_left_unread_comes_again),
	    cmocka_unit_test(the_successor_rings_for_the_killed),
	    cmocka_unit_test(without_a_successor_it_is_found_in_time),
	    cmocka_unit_test(no_wakeup_is_lost),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
