/*
 * holder.c - unit test of src/holder/holder.c: what it keeps, gives and closes,
 * and how long it waits for a worker. It runs as a thread of the test, which
 * plays the worker, its clients and the supervisor.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "holder/holder.h"
#include "shm/bus.h"
#include "shm/process.h"

#define DEADLINE_MS 10000
#define PATIENCE_MS 5000 /* of holder.c */

struct place {
	char dir[40];
	struct board *board;
	struct bus *bus;
	struct hold *hold;
	struct process process;
	pthread_t thread;
	int worker; /* our end */
	int supervisor_end;
};

static void *
run(void *arg)
{
	struct place *place = arg;

	(void)holder_main(&place->process);
	return NULL;
}

/* What the supervisor says of worker 0. */
static void
set_worker(struct place *place, int32_t pid, uint32_t generation, uint32_t up)
{
	struct board_slot *slot = board_slot(place->board, SLOT_WORKER_0);

	atomic_store(&slot->pid, pid);
	atomic_store(&slot->generation, generation);
	atomic_store(&slot->up, up);
}

static int
place_make(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	struct hold_fds fds;
	sigset_t set;

	if (place == NULL)
		return -1;
	strcpy(place->dir, "holder-XXXXXX");
	/* the holder's signalfd takes it from there */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	if (mkdtemp(place->dir) == NULL ||
	    pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 ||
	    board_create(place->dir, 1, &place->board) != 0 ||
	    bus_create(place->board, 1, &place->bus) != 0 ||
	    hold_create(1, &place->hold) != 0)
		return -1;
	hold_describe(place->hold, &fds);
	place->worker = dup(fds.worker_ends[0]);
	hold_become_holder(place->hold, 0);
	place->process = (struct process){
	    .bus = place->bus,
	    .slot = SLOT_HOLDER_0,
	    .hold = place->hold,
	};
	set_worker(place, getpid(), 1, 1);
	*state = place;
	return pthread_create(&place->thread, NULL, run, place);
}

static int
place_remove(void **state)
{
	struct place *place = *state;
	char path[80];

	kill(getpid(), SIGTERM);
	pthread_join(place->thread, NULL);
	hold_free(&place->hold);
	bus_free(&place->bus);
	board_close(&place->board);
	close(place->worker);
	snprintf(path, sizeof(path), "%s/board", place->dir);
	unlink(path);
	rmdir(place->dir);
	free(place);
	return 0;
}

/* ---- messages ---- */

static void
say(const struct place *place, uint32_t type, uint32_t generation,
    const struct hold_item *items, uint32_t count, const int *fds)
{
	struct hold_message message = {
	    .type = type, .generation = generation, .count = count};

	if (count > 0)
		memcpy(message.items, items, count * sizeof(*items));
	assert_int_equal(hold_send(place->worker, &message, fds), 0);
}

static void
hear(const struct place *place, struct hold_message *out,
    int fds[HOLD_ITEMS_MAX])
{
	struct pollfd wait = {.fd = place->worker, .events = POLLIN};

	assert_int_equal(poll(&wait, 1, DEADLINE_MS), 1);
	assert_int_equal(hold_receive(place->worker, out, fds), 0);
}

/* All that it has, as it gives it to a generation; the descriptors are closed.
 * @return how many */
static uint32_t
take_all(const struct place *place, uint32_t generation,
    struct hold_item items_out[HOLD_ITEMS_MAX])
{
	struct hold_message message;
	int fds[HOLD_ITEMS_MAX];
	uint32_t count = 0;

	say(place, HOLD_TAKE, generation, NULL, 0, NULL);
	for (;;) {
		hear(place, &message, fds);
		assert_int_equal(message.generation, generation);
		if (message.type == HOLD_DONE)
			return count;
		assert_int_equal(message.type, HOLD_GIVE);
		for (uint32_t i = 0; i < message.count; i++) {
			items_out[count++] = message.items[i];
			close(fds[i]);
		}
	}
}

/* It has heard all that was said before, and has looked at the board. */
static void
settle(const struct place *place, uint32_t generation)
{
	struct hold_item items[HOLD_ITEMS_MAX];

	(void)take_all(place, generation, items);
	(void)take_all(place, generation, items);
}

/* A connection of which only the holder has the server's end. */
static int
held_client(const struct place *place, uint32_t row, uint32_t serial)
{
	struct hold_item item = {row, serial};
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	say(place, HOLD_PUT, 1, &item, 1, &ends[0]);
	close(ends[0]);
	return ends[1];
}

static bool
is_open(int client)
{
	char byte;

	return recv(client, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

static void
expect_end(int client)
{
	struct pollfd wait = {.fd = client, .events = POLLIN};
	char byte;

	assert_int_equal(poll(&wait, 1, DEADLINE_MS), 1);
	assert_int_equal(recv(client, &byte, 1, 0), 0);
}

/* ---- tests ---- */

static void
it_keeps_a_socket_until_it_is_dropped(void **state)
{
	const struct place *place = *state;
	struct hold_item items[HOLD_ITEMS_MAX];
	int client = held_client(place, 3, 7);
	struct hold_item other_use = {3, 6};
	struct hold_item none = {9, 7};

	say(place, HOLD_DROP, 1, &other_use, 1, NULL);
	say(place, HOLD_DROP, 1, &none, 1, NULL);
	assert_int_equal(take_all(place, 1, items), 1);
	assert_int_equal(items[0].row, 3);
	assert_int_equal(items[0].serial, 7);
	assert_true(is_open(client));
	say(place, HOLD_DROP, 1, items, 1, NULL);
	expect_end(client);
	assert_int_equal(take_all(place, 1, items), 0);
	close(client);
}

static void
the_last_use_of_a_row_counts(void **state)
{
	const struct place *place = *state;
	struct hold_item items[HOLD_ITEMS_MAX];
	int before = held_client(place, 0, 1);
	int client = held_client(place, 0, 2);

	expect_end(before);
	assert_int_equal(take_all(place, 1, items), 1);
	assert_int_equal(items[0].serial, 2);
	assert_true(is_open(client));
	close(before);
	close(client);
}

static void
without_a_worker_it_lets_go_after_a_while(void **state)
{
	struct place *place = *state;
	int client = held_client(place, 0, 1);

	settle(place, 1);
	set_worker(place, 0, 1, 1);
	settle(place, 1);
	assert_true(is_open(client));
	clock_shift(PATIENCE_MS);
	settle(place, 1);
	expect_end(client);
	close(client);
}

static void
a_worker_that_has_asked_is_waited_for(void **state)
{
	struct place *place = *state;
	int client = held_client(place, 0, 1);

	settle(place, 1);
	set_worker(place, 0, 1, 1);
	settle(place, 1);
	clock_shift(PATIENCE_MS - 1000);
	/* its successor has much to do before it serves */
	set_worker(place, getpid(), 2, 1);
	settle(place, 2);
	clock_shift(2L * PATIENCE_MS);
	settle(place, 2);
	assert_true(is_open(client));
	/* and dies: the next one has as much time */
	set_worker(place, 0, 2, 1);
	settle(place, 2);
	assert_true(is_open(client));
	clock_shift(PATIENCE_MS);
	settle(place, 2);
	expect_end(client);
	close(client);
}

int
main(void)
{
#define WITH_A_HOLDER(test)                                                    \
	cmocka_unit_test_setup_teardown(test, place_make, place_remove)
	const struct CMUnitTest tests[] = {
	    WITH_A_HOLDER(it_keeps_a_socket_until_it_is_dropped),
	    WITH_A_HOLDER(the_last_use_of_a_row_counts),
	    WITH_A_HOLDER(without_a_worker_it_lets_go_after_a_while),
	    WITH_A_HOLDER(a_worker_that_has_asked_is_waited_for),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
