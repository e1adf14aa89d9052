/*
 * roster.c - unit test of the directory's roster: what a remote back end says
 * of users reaches the keeper, only what differs, and whom the store does not
 * know is learned before he is said not to exist.
 */
#include "config.h"

#include "directory_stage.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "shm/store_schema.h"

#define PEOPLE 2600 /* ids below it exist, from 1000 on only there */

/* ---- a database, in memory that the test shares with the directory ---- */

struct db {
	_Atomic bool is_away;
	_Atomic bool is_broken;     /* one row of a list cannot be read */
	_Atomic uint64_t gone;      /* this one is no user any more */
	_Atomic uint64_t list_from; /* everybody's list: these ids */
	_Atomic uint64_t list_to;
	_Atomic unsigned asked;
};

static struct db *db;

struct dir_backend {
	int unused;
};

static int
add(struct dir_answer *answer, uint64_t id, bool is_stranger)
{
	char name[200];
	struct dir_user user = {
	    .id = id,
	    .name = name,
	    .role = "doctor",
	    .role_len = 6,
	    .profile = "{}",
	    .profile_len = 2,
	    .is_stranger = is_stranger,
	};

	user.name_len = (size_t)snprintf(
	    name, sizeof(name), "User %llu", (unsigned long long)id);
	if (id == 1001) { /* longer than the store has it; cut in an umlaut */
		memset(name, 'x', NAME_MAX_BYTES - 1);
		memcpy(name + NAME_MAX_BYTES - 1, "\xc3\xa4\xc3\xa4", 4);
		user.name_len = NAME_MAX_BYTES + 3;
	}
	return dir_answer_add(answer, &user);
}

static bool
is_listed(uint64_t id)
{
	return id >= db->list_from && id <= db->list_to;
}

static void
db_user(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	(void)backend;
	db->asked++;
	if (db->is_away)
		done(request, ERR_UNAVAILABLE);
	else if (request->user >= PEOPLE || request->user == db->gone)
		done(request, ERR_NOT_FOUND);
	else
		done(request, add(&request->answer, request->user,
				  request->user != request->asker &&
				      !is_listed(request->user)));
}

static void
db_users(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	uint64_t id = request->cursor + 1;

	(void)backend;
	db->asked++;
	if (db->is_away) {
		done(request, ERR_UNAVAILABLE);
		return;
	}
	if (id < db->list_from)
		id = db->list_from;
	for (; id <= db->list_to; id++) {
		if (id == request->asker)
			continue;
		if (request->answer.user_count == request->limit) {
			request->answer.next_cursor = id - 1;
			break;
		}
		assert_int_equal(add(&request->answer, id, false), 0);
	}
	request->answer.is_partial = db->is_broken;
	done(request, 0);
}

static void
db_yes(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	(void)backend;
	done(request, 0);
}

static int
db_open(const struct dir_host *host, struct dir_backend **backend_out,
    char *error, size_t error_len)
{
	(void)host;
	(void)error;
	(void)error_len;
	*backend_out = xcalloc(1, sizeof(**backend_out));
	return 0;
}

static bool
db_close(struct dir_backend **backend, int64_t until_ms)
{
	(void)until_ms;
	free(*backend);
	*backend = NULL;
	return true;
}

static const struct dir_ops db_ops = {
    .name = "db",
    .reads_store = true,
    .is_remote = true,
    .open = db_open,
    .run =
	{
	    [DIR_OP_HISTORY] = db_yes,
	    [DIR_OP_PASSWORD] = db_yes,
	    [DIR_OP_UPDATE] = db_yes,
	    [DIR_OP_USER] = db_user,
	    [DIR_OP_USERS] = db_users,
	},
    .close = db_close,
};

/* ---- the keeper, and a worker ---- */

/* In the store: 7, 8 (as the database has him), 9 (older), 12 who has left
 * 7's list, 13 who blocks 7. */
static void
open_stage(struct stage *stage)
{
	memset(db, 0, sizeof(*db));
	db->list_from = 8;
	db->list_to = 10;
	stage_open(stage);
	stage_add_user(stage, 7, "User 7", "", "{}");
	stage_add_user(stage, 9, "of old", "", "{}");
	stage_add_contact(stage, 7, 9, CONTACT_LISTED);
	stage_add_contact(stage, 7, 12, CONTACT_LISTED | CONTACT_TALKED);
	stage_add_contact(stage, 7, 13, CONTACT_LISTED | CONTACT_BLOCKED_BY);
	stage_add_contact(stage, 7, 14, CONTACT_LISTED_BY);
	stage_fill_end(stage);
	stage_start(stage, &db_ops);
	stage_wait_up(stage);
}

static void
close_stage(struct stage *stage)
{
	bus_become(stage->bus, WORKER_A);
	stage_stop(stage);
	assert_int_equal(stage_counter(stage, COUNTER_errors_logged), 0);
	stage_close(stage);
}

static void
learn(struct stage *stage, uint64_t req, uint64_t asker, uint64_t user,
    uint64_t other, bool is_idle)
{
	struct {
		struct record_dir_learn head;
		uint64_t users[2];
	} record = {{req, asker, other == 0 ? 1 : 2, is_idle}, {user, other}};

	stage_send(stage, RECORD_DIR_LEARN, &record,
	    sizeof(record.head) + record.head.count * sizeof(uint64_t));
}

/* What the keeper was given next, in a line. It answers rc. */
static const char *
put_next(struct stage *stage, int rc)
{
	static char text[64 + 4096];
	const struct record_roster_list *list;
	const struct record_roster_user *user;
	struct ring_record record;
	struct record_reply reply = {.rc = rc};
	uint64_t first;

	bus_become(stage->bus, SLOT_KEEPER);
	stage_next(stage, SLOT_DIRECTORY, &record);
	memcpy(&reply.req, record.data, sizeof(reply.req));
	user = (const void *)record.data;
	list = (const void *)record.data;
	memcpy(&first, list + 1, sizeof(first));
	if (record.type == RECORD_ROSTER_USER)
		snprintf(text, sizeof(text), "user %llu %.*s",
		    (unsigned long long)user->user,
		    user->name_len + user->role_len + user->profile_len,
		    (const char *)(user + 1));
	else if (record.type == RECORD_ROSTER_LIST)
		snprintf(text, sizeof(text), "list %llu +%u -%u %llu",
		    (unsigned long long)list->user, list->add_count,
		    list->remove_count, (unsigned long long)first);
	else
		snprintf(text, sizeof(text), "%s %llu",
		    record_name(record.type), (unsigned long long)list->user);
	ring_release(bus_reader(stage->bus, SLOT_DIRECTORY));
	assert_int_equal(bus_put(stage->bus, SLOT_DIRECTORY, RECORD_REPLY,
			     &reply, sizeof(reply)),
	    0);
	bus_publish(stage->bus, SLOT_DIRECTORY);
	return text;
}

static void
be_worker(struct stage *stage)
{
	bus_become(stage->bus, WORKER_A);
}

/* ---- tests ---- */

static void
what_differs_is_put(void **state)
{
	struct stage stage;

	(void)state;
	open_stage(&stage);
	send_users(&stage, 1, 7, 0, 1000);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	assert_string_equal(put_next(&stage, 0), "user 8 User 8doctor{}");
	assert_string_equal(put_next(&stage, 0), "user 9 User 9doctor{}");
	assert_string_equal(put_next(&stage, 0), "user 10 User 10doctor{}");
	assert_string_equal(put_next(&stage, 0), "list 7 +2 -0 8");
	/* not whom he blocks, nor him whose list 7 is in */
	assert_string_equal(put_next(&stage, 0), "list 7 +0 -1 12");
	/* what is kept was said before: nothing of it comes again */
	be_worker(&stage);
	send_users(&stage, 2, 7, 0, 1000);
	assert_int_equal(stage_hear_rc(&stage, 2), 0);
	/* a part of a list says nothing of the rest of it */
	send_users(&stage, 3, 7, 0, 2);
	assert_int_equal(stage_hear_rc(&stage, 3), 0);
	assert_string_equal(put_next(&stage, 0), "user 8 User 8doctor{}");
	assert_string_equal(put_next(&stage, 0), "user 9 User 9doctor{}");
	assert_string_equal(put_next(&stage, 0), "list 7 +1 -0 8");
	close_stage(&stage);
}

static void
nobody_is_taken_off_a_list_that_is_not_whole(void **state)
{
	struct stage stage;

	(void)state;
	open_stage(&stage);
	db->is_broken = true;
	db->list_to = 9;
	send_users(&stage, 1, 7, 0, 1000);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	(void)put_next(&stage, 0);
	(void)put_next(&stage, 0);
	assert_string_equal(put_next(&stage, 0), "list 7 +1 -0 8");
	be_worker(&stage);
	learn(&stage, 2, 7, 1000, 0, false);
	assert_string_equal(put_next(&stage, 0), "user 1000 User 1000doctor{}");
	close_stage(&stage);
}

/* The worker hears of it when the store has it. */
static void
who_is_unknown_is_learned(void **state)
{
	char expected[NAME_MAX_BYTES + 64];
	struct stage stage;

	(void)state;
	open_stage(&stage);
	learn(&stage, 1, 7, 1000, PEOPLE + 1, false);
	assert_string_equal(put_next(&stage, 0), "user 1000 User 1000doctor{}");
	be_worker(&stage);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	learn(&stage, 2, 7, PEOPLE + 1, PEOPLE + 2, false);
	assert_int_equal(stage_hear_rc(&stage, 2), ERR_NOT_FOUND);
	/* the store is full: nobody is told that it knows him */
	learn(&stage, 3, 7, 1001, 0, false);
	snprintf(expected, sizeof(expected), "user 1001 %.*sdoctor{}",
	    NAME_MAX_BYTES - 1,
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	assert_string_equal(put_next(&stage, ERR_STORAGE_FULL), expected);
	be_worker(&stage);
	assert_int_equal(stage_hear_rc(&stage, 3), ERR_UNAVAILABLE);
	db->is_away = true;
	learn(&stage, 4, 7, PEOPLE + 1, 1002, false);
	assert_int_equal(stage_hear_rc(&stage, 4), ERR_UNAVAILABLE);
	close_stage(&stage);
}

/* Whoever waits is told long before it would be given up. */
static void
a_keeper_that_dies_keeps_nobody_waiting(void **state)
{
	struct board_slot *keeper;
	struct ring_record record;
	struct stage stage;
	int64_t start_ms;

	(void)state;
	open_stage(&stage);
	keeper = board_slot(stage.board, SLOT_KEEPER);
	learn(&stage, 1, 7, 1000, 0, false);
	bus_become(stage.bus, SLOT_KEEPER);
	stage_next(&stage, SLOT_DIRECTORY, &record);
	assert_int_equal(record.type, RECORD_ROSTER_USER);
	start_ms = clock_mono_ms();
	atomic_fetch_add(&keeper->generation, 1);
	be_worker(&stage);
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_UNAVAILABLE);
	assert_true(clock_mono_ms() - start_ms < 4000);
	close_stage(&stage);
}

static void
who_learns_himself_has_his_whole_list(void **state)
{
	struct stage stage;
	unsigned users = 0;
	unsigned pairs = 0;
	unsigned added;
	const char *text;

	(void)state;
	open_stage(&stage);
	db->list_from = 1000;
	db->list_to = PEOPLE - 1;
	learn(&stage, 1, 1000, 1000, 0, false);
	while (pairs < PEOPLE - 1 - 1000) {
		text = put_next(&stage, 0);
		if (sscanf(text, "list 1000 +%u -0", &added) == 1)
			pairs += added;
		else
			users++;
	}
	assert_int_equal(users, PEOPLE - 1000);
	be_worker(&stage);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	assert_int_equal(db->asked, 3); /* himself, two pages */
	close_stage(&stage);
}

/* A cache or a replica may be behind: asked once more, where it is known. */
static void
who_is_gone_is_told_of(void **state)
{
	struct stage stage;

	(void)state;
	open_stage(&stage);
	db->gone = 7;
	learn(&stage, 1, 7, 7, 0, true);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	assert_string_equal(put_next(&stage, 0), "ROSTER_GONE 7");
	assert_int_equal(db->asked, 2);
	be_worker(&stage);
	learn(&stage, 2, 7, 7, 0, false);
	assert_string_equal(put_next(&stage, 0), "ROSTER_GONE 7");
	be_worker(&stage);
	assert_int_equal(stage_hear_rc(&stage, 2), ERR_NOT_FOUND);
	/* while it cannot be asked, nobody is gone */
	db->is_away = true;
	learn(&stage, 3, 7, 7, 0, false);
	assert_int_equal(stage_hear_rc(&stage, 3), ERR_UNAVAILABLE);
	close_stage(&stage);
}

static void
a_change_is_looked_up(void **state)
{
	struct stage stage;

	(void)state;
	open_stage(&stage);
	send_update(&stage, 1, 9, "new", NULL);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	assert_string_equal(put_next(&stage, 0), "user 9 User 9doctor{}");
	close_stage(&stage);
}

static void
what_makes_no_sense_is_refused(void **state)
{
	struct record_dir_learn record = {1, 7, 0, 0};
	struct stage stage;

	(void)state;
	open_stage(&stage);
	stage_send(&stage, RECORD_DIR_LEARN, &record, sizeof(record));
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_BAD_REQUEST);
	record.count = LEARN_USERS_MAX + 1;
	stage_send(&stage, RECORD_DIR_LEARN, &record, sizeof(record));
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_BAD_REQUEST);
	record.count = 1; /* and none is there */
	stage_send(&stage, RECORD_DIR_LEARN, &record, sizeof(record));
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_BAD_REQUEST);
	learn(&stage, 2, 7, 0, 0, false);
	assert_int_equal(stage_hear_rc(&stage, 2), ERR_BAD_REQUEST);
	stage_close(&stage);
}

/* The back end that is the store itself. */
static void
the_store_has_nothing_to_learn(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	stage_start(&stage, NULL);
	learn(&stage, 1, 7, 1000, 0, false);
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_NOT_FOUND);
	learn(&stage, 2, 7, 7, 0, true);
	assert_int_equal(stage_hear_rc(&stage, 2), 0);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_differs_is_put),
	    cmocka_unit_test(nobody_is_taken_off_a_list_that_is_not_whole),
	    cmocka_unit_test(who_is_unknown_is_learned),
	    cmocka_unit_test(a_keeper_that_dies_keeps_nobody_waiting),
	    cmocka_unit_test(who_learns_himself_has_his_whole_list),
	    cmocka_unit_test(who_is_gone_is_told_of),
	    cmocka_unit_test(a_change_is_looked_up),
	    cmocka_unit_test(what_makes_no_sense_is_refused),
	    cmocka_unit_test(the_store_has_nothing_to_learn),
	};

	db = mmap(NULL, sizeof(*db), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (db == MAP_FAILED)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
