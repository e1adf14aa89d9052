/*
 * directory_loop.c - unit test of the directory's loop: deadlines, full rings,
 * dead askers, start and stop.
 */
#include "config.h"

#include "directory_stage.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "directory/directory.h"

#define TIMEOUT_MS 150
#define BIG_USERS  40
#define CROWD      400

/* ---- a back end that takes its time ---- */

/* What the slow one does with a question about the user of that number. */
enum slow_user {
	SLOW_NEVER = 1,   /* lets go of it at its end only */
	SLOW_LATE,        /* answers, once the deadline is over */
	SLOW_UNAVAILABLE, /* says so itself */
	SLOW_NOW,
};

#define SLOW_HELD_MAX 64
#define SLOW_GUESSED  "anna" /* UNAVAILABLE, but it was a wrong password */

struct dir_backend {
	struct dir_request *held[SLOW_HELD_MAX];
	dir_done_fn done;
	size_t count;
};

static void
slow_end(struct dir_backend *backend, size_t i, int rc)
{
	struct dir_request *request = backend->held[i];

	backend->held[i] = backend->held[--backend->count];
	backend->done(request, rc);
}

static void
slow_run(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	const struct dir_user user = {
	    .id = request->user, .name = "slow", .name_len = 4};

	backend->done = done;
	request->is_guess =
	    request->name_len == strlen(SLOW_GUESSED) &&
	    memcmp(request->name, SLOW_GUESSED, request->name_len) == 0;
	if (request->user == SLOW_UNAVAILABLE || request->is_guess)
		done(request, ERR_UNAVAILABLE);
	else if (request->user == SLOW_NOW)
		done(request, dir_answer_add(&request->answer, &user));
	else if (backend->count == SLOW_HELD_MAX)
		done(request, ERR_UNAVAILABLE);
	else
		backend->held[backend->count++] = request;
}

static int64_t
slow_turn(struct dir_backend *backend)
{
	int64_t next_ms = INT64_MAX;
	size_t i = 0;

	while (i < backend->count) {
		int64_t late_ms = backend->held[i]->deadline_ms + 20;

		if (backend->held[i]->user != SLOW_LATE) {
			i++;
		} else if (clock_mono_ms() >= late_ms) {
			slow_end(backend, i, 0);
		} else {
			next_ms = late_ms < next_ms ? late_ms : next_ms;
			i++;
		}
	}
	return next_ms;
}

static int
slow_open(const struct dir_host *host, struct dir_backend **backend_out,
    char *error, size_t error_len)
{
	(void)host;
	(void)error;
	(void)error_len;
	*backend_out = xcalloc(1, sizeof(**backend_out));
	return 0;
}

static bool
slow_close(struct dir_backend **backend, int64_t until_ms)
{
	(void)until_ms;
	while ((*backend)->count > 0)
		slow_end(*backend, 0, ERR_UNAVAILABLE);
	free(*backend);
	*backend = NULL;
	return true;
}

static const struct dir_ops slow_ops = {
    .name = "slow",
    .open = slow_open,
    .run =
	{
	    [DIR_OP_HISTORY] = slow_run,
	    [DIR_OP_PASSWORD] = slow_run,
	    [DIR_OP_UPDATE] = slow_run,
	    [DIR_OP_USER] = slow_run,
	    [DIR_OP_USERS] = slow_run,
	},
    .turn = slow_turn,
    .close = slow_close,
};

static void
slow_start(struct stage *stage, int64_t timeout_ms)
{
	stage_open(stage);
	stage_fill_end(stage);
	stage->conf->directory_request_timeout = timeout_ms;
	stage_start(stage, &slow_ops);
	stage_wait_up(stage);
}

static void
the_table_knows_its_back_ends(void **state)
{
	(void)state;
	assert_non_null(directory_backend("embedded"));
	assert_string_equal(directory_backend("embedded")->name, "embedded");
	assert_null(directory_backend("slow"));
	assert_null(directory_backend(""));
}

static void
who_is_not_answered_in_time_is_told(void **state)
{
	struct stage stage;
	int64_t start_ms;

	(void)state;
	slow_start(&stage, TIMEOUT_MS);
	start_ms = clock_mono_ms();
	send_user(&stage, 1, 7, SLOW_NEVER);
	send_user(&stage, 2, 7, SLOW_LATE);
	send_user(&stage, 3, 7, SLOW_UNAVAILABLE);
	send_user(&stage, 4, 7, SLOW_NOW);
	send_password(&stage, 5, "7", "secret");
	assert_int_equal(stage_hear_rc(&stage, 3), ERR_UNAVAILABLE);
	assert_int_equal(stage_hear_rc(&stage, 4), 0);
	assert_true(stage_is_silent(&stage));
	for (uint64_t req = 1; req <= 5; req += req == 2 ? 3 : 1)
		assert_int_equal(stage_hear_rc(&stage, req), ERR_UNAVAILABLE);
	assert_true(clock_mono_ms() - start_ms >= TIMEOUT_MS);
	assert_true(clock_mono_ms() - start_ms < DEADLINE_MS / 2);
	/* The late answer comes to nobody: the next reply is the next one. */
	send_user(&stage, 6, 7, SLOW_LATE);
	assert_int_equal(stage_hear_rc(&stage, 6), ERR_UNAVAILABLE);
	send_user(&stage, 7, 7, SLOW_NOW);
	assert_int_equal(stage_hear_rc(&stage, 7), 0);
	stage_stop(&stage);
	assert_true(stage_is_silent(&stage));
	assert_int_equal(stage_counter(&stage, COUNTER_directory_requests), 7);
	assert_int_equal(
	    stage_counter(&stage, COUNTER_directory_unavailable), 5);
	stage_close(&stage);
}

static void
what_was_a_guess_counts_whatever_is_answered(void **state)
{
	struct stage stage;
	uint64_t req = 0;

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	stage.conf->directory_request_timeout = TIMEOUT_MS;
	stage.conf->auth_password_attempts = 3;
	stage_start(&stage, &slow_ops);
	stage_wait_up(&stage);
	while (req++ < 3) {
		send_password(&stage, req, SLOW_GUESSED, "wrong");
		assert_int_equal(stage_hear_rc(&stage, req), ERR_UNAVAILABLE);
	}
	send_password(&stage, req, SLOW_GUESSED, "wrong");
	assert_int_equal(stage_hear_rc(&stage, req), ERR_RATE_LIMITED);
	stage_stop(&stage);
	stage_close(&stage);
}

static void
who_waits_at_the_end_is_told(void **state)
{
	struct stage stage;
	int64_t start_ms;

	(void)state;
	slow_start(&stage, DEADLINE_MS);
	send_user(&stage, 1, 7, SLOW_NEVER);
	send_user(&stage, 2, 7, SLOW_NOW);
	assert_int_equal(stage_hear_rc(&stage, 2), 0);
	start_ms = clock_mono_ms();
	stage_stop(&stage);
	assert_true(clock_mono_ms() - start_ms < DEADLINE_MS / 2);
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_UNAVAILABLE);
	stage_close(&stage);
}

static void
a_dead_asker_is_not_answered(void **state)
{
	struct board_slot *slot;
	struct stage stage;

	(void)state;
	slow_start(&stage, TIMEOUT_MS);
	slot = board_slot(stage.board, WORKER_A);
	send_user(&stage, 1, 7, SLOW_LATE);
	atomic_store(&slot->generation, 2);
	bus_become(stage.bus, WORKER_A);
	send_user(&stage, 1, 8, SLOW_LATE);
	send_user(&stage, 2, 8, SLOW_NOW);
	assert_int_equal(stage_hear_rc(&stage, 2), 0);
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_UNAVAILABLE);
	stage_stop(&stage);
	assert_true(stage_is_silent(&stage));
	stage_close(&stage);
}

/* ---- rings without room ---- */

/* User 1 has a list that fills a page of 128 KiB. */
static void
big_start(struct stage *stage)
{
	char profile[PROFILE_MAX + 1];

	memset(profile, ' ', PROFILE_MAX);
	profile[0] = '{';
	profile[PROFILE_MAX - 1] = '}';
	profile[PROFILE_MAX] = '\0';
	stage_open(stage);
	for (uint64_t id = 1; id <= BIG_USERS; id++) {
		stage_add_user(stage, id, "Somebody", NULL, profile);
		if (id > 1)
			stage_add_contact(stage, 1, id, CONTACT_LISTED);
	}
	stage_fill_end(stage);
	stage_start(stage, NULL);
	stage_wait_up(stage);
}

/* The ring to the worker that we are has no room for another page. */
static void
wait_until_full(struct stage *stage)
{
	const struct ring *ring =
	    bus_ring(stage->bus, SLOT_DIRECTORY, bus_self(stage->bus));
	int64_t until_ms = clock_mono_ms() + DEADLINE_MS;

	while (ring_head(ring) - ring_tail(ring) <
	       ring->size - 2 * DIR_ANSWER_BYTES) {
		assert_true(clock_mono_ms() < until_ms);
		poll(NULL, 0, 1);
	}
}

static void
no_reply_is_lost_in_a_full_ring(void **state)
{
	static unsigned answers[CROWD + 1];
	static struct heard heard;
	struct stage stage;

	(void)state;
	memset(answers, 0, sizeof(answers));
	big_start(&stage);
	for (uint64_t req = 1; req <= CROWD; req++)
		send_users(&stage, req, 1, 0, DIR_LIST_MAX);
	wait_until_full(&stage);
	/* Another worker does not notice. */
	bus_become(stage.bus, WORKER_B);
	for (uint64_t req = 1; req <= 50; req++) {
		send_user(&stage, req, 1, 1);
		assert_int_equal(stage_hear_rc(&stage, req), 0);
	}
	/* Who does not take his replies is not read any further. */
	assert_true(
	    stage_counter(&stage, COUNTER_directory_requests) < 50 + CROWD / 2);
	bus_become(stage.bus, WORKER_A);
	for (uint64_t i = 1; i <= CROWD; i++) {
		stage_hear(&stage, &heard);
		assert_int_equal(heard.head.rc, 0);
		assert_int_equal(heard.head.user_count, 31);
		assert_int_equal(heard.head.next_cursor, 32);
		assert_in_range(heard.head.req, 1, CROWD);
		answers[heard.head.req]++;
	}
	for (uint64_t req = 1; req <= CROWD; req++)
		assert_int_equal(answers[req], 1);
	assert_true(stage_is_silent(&stage));
	stage_close(&stage);
}

static void
replies_to_a_dead_worker_do_not_pile_up(void **state)
{
	struct ring_record record;
	struct ring_reader *reader;
	struct stage stage;

	(void)state;
	big_start(&stage);
	for (uint64_t req = 1; req <= CROWD; req++)
		send_users(&stage, req, 1, 0, DIR_LIST_MAX);
	wait_until_full(&stage);
	atomic_store(&board_slot(stage.board, WORKER_A)->generation, 2);
	bus_become(stage.bus, WORKER_A);
	reader = bus_reader(stage.bus, SLOT_DIRECTORY);
	send_user(&stage, 9999, 1, 1);
	do {
		stage_next(&stage, SLOT_DIRECTORY, &record);
	} while (record.to_gen != 2);
	assert_int_equal(
	    ((const struct record_dir_reply *)record.data)->req, 9999);
	ring_release(reader);
	stage_stop(&stage);
	assert_true(stage_is_silent(&stage));
	stage_close(&stage);
}

/* ---- start ---- */

static void
it_waits_for_the_store(void **state)
{
	struct stage stage;
	char error[512];
	char path[64];

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	snprintf(path, sizeof(path), "%s/main.mdb", stage.dir);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/main.mdb-lock", stage.dir);
	assert_int_equal(unlink(path), 0);
	stage_start(&stage, NULL);
	poll(NULL, 0, 30); /* let it look in vain at least once */
	assert_int_equal(board_slot(stage.board, SLOT_DIRECTORY)->up, 0);
	assert_int_equal(store_open(STORE_MAIN, stage.dir, 64UL << 20, true,
			     &stage.store, error, sizeof(error)),
	    0);
	assert_int_equal(store_begin_write(stage.store, &stage.txn), 0);
	stage_add_user(&stage, 7, "Anna", NULL, NULL);
	stage_fill_end(&stage);
	stage_wait_up(&stage);
	send_user(&stage, 1, 7, 7);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	stage_close(&stage);
}

static void
it_can_be_stopped_while_it_waits(void **state)
{
	struct stage stage;
	char path[64];

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	snprintf(path, sizeof(path), "%s/main.mdb", stage.dir);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/main.mdb-lock", stage.dir);
	assert_int_equal(unlink(path), 0);
	stage_start(&stage, NULL);
	stage_stop(&stage);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_table_knows_its_back_ends),
	    cmocka_unit_test(who_is_not_answered_in_time_is_told),
	    cmocka_unit_test(what_was_a_guess_counts_whatever_is_answered),
	    cmocka_unit_test(who_waits_at_the_end_is_told),
	    cmocka_unit_test(a_dead_asker_is_not_answered),
	    cmocka_unit_test(no_reply_is_lost_in_a_full_ring),
	    cmocka_unit_test(replies_to_a_dead_worker_do_not_pile_up),
	    cmocka_unit_test(it_waits_for_the_store),
	    cmocka_unit_test(it_can_be_stopped_while_it_waits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
