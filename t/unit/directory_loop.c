/*
 * directory_loop.c - unit test of the directory's loop: deadlines, full rings,
 * dead askers, the keeper, records that make no sense.
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
#include "shm/users.h"

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
	if (request->user == SLOW_UNAVAILABLE)
		done(request, ERR_UNAVAILABLE);
	else if (request->user == SLOW_NOW)
		done(request, dir_answer_add(&request->answer, &user));
	else if (backend->count == SLOW_HELD_MAX)
		done(request, ERR_UNAVAILABLE);
	else
		backend->held[backend->count++] = request;
}

static bool
slow_turn(struct dir_backend *backend)
{
	bool has_late = false;
	size_t i = 0;

	while (i < backend->count) {
		bool is_late = backend->held[i]->user == SLOW_LATE;

		if (is_late &&
		    clock_mono_ms() > backend->held[i]->deadline_ms + 20) {
			slow_end(backend, i, 0);
			continue;
		}
		has_late = has_late || is_late;
		i++;
	}
	return has_late;
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

/* ---- changes ---- */

/* As the keeper: one USER_PUT. @return its number */
static uint64_t
keeper_take(struct stage *stage, uint64_t user, uint32_t flags,
    const char *name, const char *profile)
{
	const struct record_user_put *put;
	struct ring_record record;
	const char *tail;
	uint64_t req;

	stage_next(stage, SLOT_DIRECTORY, &record);
	assert_int_equal(record.type, RECORD_USER_PUT);
	put = (const void *)record.data;
	tail = (const char *)(put + 1);
	assert_int_equal(
	    record.len, sizeof(*put) + strlen(name) + strlen(profile));
	assert_int_equal(put->user, user);
	assert_int_equal(put->flags, flags);
	assert_int_equal(put->name_len, strlen(name));
	assert_int_equal(put->password_len, 0);
	assert_int_equal(put->role_len, 0);
	assert_int_equal(put->profile_len, strlen(profile));
	assert_memory_equal(tail, name, strlen(name));
	assert_memory_equal(tail + strlen(name), profile, strlen(profile));
	req = put->req;
	assert_true(req != 0);
	ring_release(bus_reader(stage->bus, SLOT_DIRECTORY));
	return req;
}

static void
keeper_reply(struct stage *stage, uint64_t req, int rc, uint32_t to_gen)
{
	const struct record_reply reply = {.req = req, .rc = rc};
	struct ring_writer *writer = bus_writer(stage->bus, SLOT_DIRECTORY);

	writer->peer_gen = to_gen;
	assert_int_equal(
	    ring_put(writer, RECORD_REPLY, &reply, sizeof(reply)), 0);
	bus_publish(stage->bus, SLOT_DIRECTORY);
}

static void
the_keeper_makes_the_changes(void **state)
{
	struct stage stage;
	uint64_t numbers[3];

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	stage_start(&stage, NULL);
	send_update(&stage, 1, 7, "Änne", NULL);
	send_update(&stage, 2, 7, NULL, "{\"City\":\"Ulm\"}");
	send_update(&stage, 3, 8, "Bert", "{}");
	bus_become(stage.bus, SLOT_KEEPER);
	numbers[0] = keeper_take(&stage, 7, USER_PUT_NAME, "Änne", "");
	numbers[1] =
	    keeper_take(&stage, 7, USER_PUT_PROFILE, "", "{\"City\":\"Ulm\"}");
	numbers[2] = keeper_take(
	    &stage, 8, USER_PUT_NAME | USER_PUT_PROFILE, "Bert", "{}");
	keeper_reply(&stage, numbers[0], ERR_IO, 99);    /* to a predecessor */
	keeper_reply(&stage, numbers[2] + 1, ERR_IO, 1); /* nobody asked */
	keeper_reply(&stage, numbers[2], ERR_NOT_FOUND, 1);
	keeper_reply(&stage, numbers[0], 0, 1);
	keeper_reply(&stage, numbers[0], ERR_IO, 1); /* answered already */
	keeper_reply(&stage, numbers[1], ERR_STORAGE_FULL, 1);
	bus_become(stage.bus, WORKER_A);
	assert_int_equal(stage_hear_rc(&stage, 3), ERR_NOT_FOUND);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	assert_int_equal(stage_hear_rc(&stage, 2), ERR_STORAGE_FULL);
	assert_int_equal(stage_counter(&stage, COUNTER_errors_logged), 0);
	stage_close(&stage);
}

static void
changes_wait_for_room_at_the_keeper(void **state)
{
	enum { CHANGES = 128 }; /* 122 of them fit in the ring */
	char profile[PROFILE_MAX + 1];
	struct stage stage;

	(void)state;
	memset(profile, ' ', PROFILE_MAX);
	profile[0] = '{';
	profile[PROFILE_MAX - 1] = '}';
	profile[PROFILE_MAX] = '\0';
	stage_open(&stage);
	stage_fill_end(&stage);
	stage_start(&stage, NULL);
	for (uint64_t req = 1; req <= CHANGES / 2; req++)
		send_update(&stage, req, req, "Anna", profile);
	bus_become(stage.bus, WORKER_B);
	for (uint64_t req = CHANGES / 2 + 1; req <= CHANGES; req++)
		send_update(&stage, req, req, "Anna", profile);
	bus_become(stage.bus, SLOT_KEEPER);
	for (int i = 0; i < CHANGES; i++) {
		struct ring_record record;
		const struct record_user_put *put;

		stage_next(&stage, SLOT_DIRECTORY, &record);
		put = (const void *)record.data;
		keeper_reply(&stage, put->req, 0, 1);
	}
	ring_release(bus_reader(stage.bus, SLOT_DIRECTORY));
	bus_become(stage.bus, WORKER_A);
	for (uint64_t req = 1; req <= CHANGES / 2; req++)
		assert_int_equal(stage_hear_rc(&stage, req), 0);
	bus_become(stage.bus, WORKER_B);
	for (uint64_t req = CHANGES / 2 + 1; req <= CHANGES; req++)
		assert_int_equal(stage_hear_rc(&stage, req), 0);
	stage_close(&stage);
}

static void
a_silent_keeper_is_not_waited_for(void **state)
{
	struct stage stage;
	uint64_t number;

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	stage.conf->directory_request_timeout = TIMEOUT_MS;
	stage_start(&stage, NULL);
	send_update(&stage, 1, 7, "Anna", NULL);
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_UNAVAILABLE);
	bus_become(stage.bus, SLOT_KEEPER);
	number = keeper_take(&stage, 7, USER_PUT_NAME, "Anna", "");
	keeper_reply(&stage, number, 0, 1);
	bus_become(stage.bus, WORKER_A);
	send_update(&stage, 2, 7, "Anna", NULL);
	assert_int_equal(stage_hear_rc(&stage, 2), ERR_UNAVAILABLE);
	stage_close(&stage);
}

/* ---- nonsense ---- */

static void
send_nonsense_update(struct stage *stage)
{
	static const struct {
		uint64_t user;
		uint32_t flags;
		const char *name;
		const char *profile;
	} rows[] = {
	    {0, USER_PUT_NAME, "Anna", ""},
	    {USER_ID_MAX + 1, USER_PUT_NAME, "Anna", ""},
	    {7, 0, "", ""},
	    {7, USER_PUT_NAME, "", ""},
	    {7, USER_PUT_NAME, "Anna", "{}"},
	    {7, USER_PUT_PROFILE, "Anna", "{}"},
	    {7, USER_PUT_PROFILE, "", "[]"},
	    {7, USER_PUT_PROFILE, "", "{"},
	    {7, USER_PUT_PROFILE, "", "{\"a\":\"\xff\"}"},
	    {7, USER_PUT_NAME, "\xc3", ""},
	    {7, USER_PUT_NAME | USER_PUT_ROLE, "Anna", ""},
	    {7, USER_PUT_REMOVE, "", ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct record_dir_update head = {
		    .req = 500 + i,
		    .user = rows[i].user,
		    .flags = rows[i].flags,
		    .name_len = (uint16_t)strlen(rows[i].name),
		    .profile_len = (uint16_t)strlen(rows[i].profile),
		};
		char data[128];

		memcpy(data, &head, sizeof(head));
		memcpy(data + sizeof(head), rows[i].name, head.name_len);
		memcpy(data + sizeof(head) + head.name_len, rows[i].profile,
		    head.profile_len);
		stage_send(stage, RECORD_DIR_UPDATE, data,
		    sizeof(head) + head.name_len + head.profile_len);
		assert_int_equal(
		    stage_hear_rc(stage, 500 + i), ERR_BAD_REQUEST);
	}
}

static void
nonsense_is_refused_and_no_more(void **state)
{
	static const uint16_t types[] = {RECORD_DIR_HISTORY,
	    RECORD_DIR_PASSWORD, RECORD_DIR_UPDATE, RECORD_DIR_USER,
	    RECORD_DIR_USERS, RECORD_TYPING, RECORD_SEND, 999};
	struct record_dir_password password = {
	    .req = 300, .name_len = 1, .password_len = UINT32_MAX};
	struct record_dir_history history = {.req = 301, .limit = 50};
	struct stage stage;
	uint64_t req = 1;

	(void)state;
	stage_open(&stage);
	stage_add_user(&stage, 7, "Anna", NULL, NULL);
	stage_fill_end(&stage);
	stage_start(&stage, NULL);
	/* Each type at each length short of whole. */
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		size_t whole = record_min_len(types[i]);

		for (size_t len = 0; len < whole && len < 80; len++) {
			uint8_t data[80] = {0};

			memcpy(data, &req, sizeof(req));
			stage_send(&stage, types[i], data, len);
			if (len < sizeof(req))
				continue; /* nobody to be told */
			assert_int_equal(
			    stage_hear_rc(&stage, req++), ERR_BAD_REQUEST);
		}
	}
	send_user(&stage, 200, 7, 0);
	assert_int_equal(stage_hear_rc(&stage, 200), ERR_BAD_REQUEST);
	send_user(&stage, 201, 0, 7);
	assert_int_equal(stage_hear_rc(&stage, 201), ERR_BAD_REQUEST);
	send_user(&stage, 202, 7, UINT64_MAX);
	assert_int_equal(stage_hear_rc(&stage, 202), ERR_BAD_REQUEST);
	send_users(&stage, 203, 7, UINT64_MAX, 10);
	assert_int_equal(stage_hear_rc(&stage, 203), ERR_BAD_REQUEST);
	send_users(&stage, 204, 7, 0, 0);
	assert_int_equal(stage_hear_rc(&stage, 204), ERR_BAD_REQUEST);
	send_users(&stage, 205, 7, 0, DIR_LIST_MAX + 1);
	assert_int_equal(stage_hear_rc(&stage, 205), ERR_BAD_REQUEST);
	stage_send(&stage, RECORD_DIR_PASSWORD, &password, sizeof(password));
	assert_int_equal(stage_hear_rc(&stage, 300), ERR_AUTH_FAILED);
	password.password_len = 1;
	stage_send(&stage, RECORD_DIR_PASSWORD, &password, sizeof(password));
	assert_int_equal(stage_hear_rc(&stage, 300), ERR_BAD_REQUEST);
	stage_send(&stage, RECORD_DIR_HISTORY, &history, sizeof(history));
	assert_int_equal(stage_hear_rc(&stage, 301), ERR_BAD_REQUEST);
	send_nonsense_update(&stage);
	assert_true(stage_counter(&stage, COUNTER_errors_logged) > 0);
	/* It still knows what makes sense. */
	send_user(&stage, 999, 7, 7);
	assert_int_equal(stage_hear_rc(&stage, 999), 0);
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
	    cmocka_unit_test(who_waits_at_the_end_is_told),
	    cmocka_unit_test(a_dead_asker_is_not_answered),
	    cmocka_unit_test(no_reply_is_lost_in_a_full_ring),
	    cmocka_unit_test(replies_to_a_dead_worker_do_not_pile_up),
	    cmocka_unit_test(the_keeper_makes_the_changes),
	    cmocka_unit_test(changes_wait_for_room_at_the_keeper),
	    cmocka_unit_test(a_silent_keeper_is_not_waited_for),
	    cmocka_unit_test(nonsense_is_refused_and_no_more),
	    cmocka_unit_test(it_waits_for_the_store),
	    cmocka_unit_test(it_can_be_stopped_while_it_waits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
