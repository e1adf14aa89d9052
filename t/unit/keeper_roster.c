/*
 * keeper_roster.c - unit test of the keeper: users and lists that a database
 * outside tells of come, change and go, and blocks outlive them.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "shm/users.h"
#include "t/unit/keeper_stage.h"

#define NEW_ONE 77 /* nobody has made him here */
#define ALICE   1
#define BRUNO   2

static int
take_rc(struct stage *stage)
{
	const struct got *got = stage_take(stage, RECORD_REPLY);

	return ((const struct record_reply *)(const void *)got->data)->rc;
}

/* As the directory; back to worker A. */
static int
tell_user(struct stage *stage, uint64_t user, const char *name,
    const char *role, const char *profile)
{
	const struct record_roster_user record = {
	    .req = ++stage->req,
	    .user = user,
	    .name_len = (uint16_t)strlen(name),
	    .role_len = (uint16_t)strlen(role),
	    .profile_len = (uint16_t)strlen(profile),
	};
	char tail[8192];
	int rc;

	snprintf(tail, sizeof(tail), "%s%s%s", name, role, profile);
	stage_play(stage, SLOT_DIRECTORY);
	stage_put(stage, RECORD_ROSTER_USER, &record, sizeof(record), tail,
	    strlen(tail));
	rc = take_rc(stage);
	stage_play(stage, WORKER_A);
	return rc;
}

static int
tell_list(struct stage *stage, uint64_t user, uint64_t add, uint64_t remove)
{
	const struct record_roster_list record = {
	    .req = ++stage->req,
	    .user = user,
	    .add_count = add != 0,
	    .remove_count = remove != 0,
	};
	uint64_t tail[2] = {add, remove};
	int rc;

	stage_play(stage, SLOT_DIRECTORY);
	stage_put(stage, RECORD_ROSTER_LIST, &record, sizeof(record),
	    add != 0 ? &tail[0] : &tail[1],
	    sizeof(uint64_t) * (record.add_count + record.remove_count));
	rc = take_rc(stage);
	stage_play(stage, WORKER_A);
	return rc;
}

static int
tell_gone(struct stage *stage, uint64_t user)
{
	const struct record_roster_gone record = {++stage->req, user};
	int rc;

	stage_play(stage, SLOT_DIRECTORY);
	stage_put(stage, RECORD_ROSTER_GONE, &record, sizeof(record), NULL, 0);
	rc = take_rc(stage);
	stage_play(stage, WORKER_A);
	return rc;
}

static int
log_in_as(struct stage *stage, uint64_t user, uint32_t flags)
{
	struct login login = {
	    .user = user, .session = 100 + user, .device = 1, .flags = flags};

	return stage_login(stage, &login).rc;
}

static int
log_in(struct stage *stage, uint64_t user)
{
	return log_in_as(stage, user, 0);
}

static void
open_with_users_outside(struct stage *stage)
{
	stage_open(stage);
	stage_keeper_stop(stage);
	free(stage->conf->directory_backend);
	stage->conf->directory_backend = xstrdup("mssql");
	stage_keeper_start(stage);
	stage_play(stage, WORKER_A);
}

static int
write_to(struct stage *stage, uint64_t from, uint64_t to)
{
	struct letter letter = {
	    .from = from,
	    .session = 100 + from,
	    .to = {to},
	    .to_count = 1,
	    .number = ++stage->req,
	};

	return stage_send_wait(stage, &letter)->rc;
}

static uint32_t
flags_of(struct stage *stage, uint64_t user, uint64_t other)
{
	uint32_t flags;

	assert_int_equal(contact_get(&stage->txn, user, other, &flags), 0);
	return flags;
}

static void
who_is_told_of_is_a_user(void **state)
{
	struct stage stage;
	struct user user;

	(void)state;
	stage_open(&stage);
	assert_int_equal(log_in(&stage, NEW_ONE), ERR_NOT_FOUND);
	assert_int_equal(
	    tell_user(&stage, NEW_ONE, "Nadia", "doctor", "{\"a\":1}"), 0);
	assert_int_equal(log_in(&stage, NEW_ONE), 0);
	assert_int_equal(log_in(&stage, ALICE), 0);
	assert_int_equal(write_to(&stage, ALICE, NEW_ONE), ERR_NOT_FOUND);
	/* her list, not his; nobody of it who has no row */
	assert_int_equal(tell_list(&stage, ALICE, NEW_ONE, 0), 0);
	assert_int_equal(tell_list(&stage, ALICE, 4711, 0), 0);
	assert_int_equal(tell_list(&stage, 4711, ALICE, 0), ERR_NOT_FOUND);
	assert_int_equal(write_to(&stage, ALICE, NEW_ONE), 0);
	assert_int_equal(write_to(&stage, ALICE, 4711), ERR_NOT_FOUND);
	assert_int_equal(tell_user(&stage, NEW_ONE, "Nadia B.", "", ""), 0);
	stage_store_open(&stage, false);
	assert_int_equal(users_get(&stage.txn, NEW_ONE, &user), 0);
	assert_int_equal(user.name.len, strlen("Nadia B."));
	assert_int_equal(user.role.len, 0);
	assert_int_equal(user.profile.len, 0);
	assert_true(user.created_ms > 0);
	assert_int_equal(flags_of(&stage, NEW_ONE, ALICE), CONTACT_LISTED_BY);
	stage_store_close(&stage);
	stage_close(&stage);
}

/* What an operator of the store has set stays: a password, an age. */
static void
what_is_not_the_databases_stays(void **state)
{
	const struct record_user_put put = {
	    .req = 1,
	    .user = ALICE,
	    .flags = USER_PUT_PASSWORD,
	    .password_len = 4,
	};
	struct stage stage;
	struct user user;

	(void)state;
	stage_open(&stage);
	stage_play(&stage, SLOT_CONSOLE);
	stage_put(&stage, RECORD_USER_PUT, &put, sizeof(put), "hash", 4);
	assert_int_equal(take_rc(&stage), 0);
	assert_int_equal(tell_user(&stage, ALICE, "Alice", "nurse", "{}"), 0);
	stage_store_open(&stage, false);
	assert_int_equal(users_get(&stage.txn, ALICE, &user), 0);
	assert_memory_equal(user.name.data, "Alice", 5);
	assert_int_equal(user.password.len, 4);
	assert_memory_equal(user.password.data, "hash", 4);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
who_leaves_a_list_cannot_be_written_to(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	assert_int_equal(log_in(&stage, ALICE), 0);
	assert_int_equal(tell_user(&stage, NEW_ONE, "Nadia", "", ""), 0);
	assert_int_equal(tell_list(&stage, ALICE, NEW_ONE, 0), 0);
	assert_int_equal(tell_list(&stage, ALICE, NEW_ONE, 0), 0);
	assert_int_equal(tell_list(&stage, ALICE, 0, NEW_ONE), 0);
	assert_int_equal(tell_list(&stage, ALICE, 0, NEW_ONE), 0);
	assert_int_equal(write_to(&stage, ALICE, NEW_ONE), ERR_NOT_FOUND);
	/* one way: the other's list is the other's */
	assert_int_equal(tell_list(&stage, ALICE, 0, BRUNO), 0);
	stage_store_open(&stage, false);
	assert_int_equal(flags_of(&stage, ALICE, NEW_ONE), 0);
	assert_int_equal(flags_of(&stage, ALICE, BRUNO), CONTACT_LISTED_BY);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
who_is_gone_is_out_and_blocks_stay(void **state)
{
	struct record_block block = {
	    .user = ALICE, .session = 100 + ALICE, .other = BRUNO, .on = 1};
	const struct record_replaced *replaced;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	assert_int_equal(log_in(&stage, ALICE), 0);
	assert_int_equal(log_in(&stage, BRUNO), 0);
	assert_int_equal(
	    stage_ask(&stage, RECORD_BLOCK, &block, sizeof(block)), 0);
	assert_int_equal(tell_gone(&stage, ALICE), 0);
	replaced = (const void *)stage_take(&stage, RECORD_REPLACED)->data;
	assert_int_equal(replaced->user, ALICE);
	assert_int_equal(replaced->reason, REPLACED_KICKED);
	assert_int_equal(log_in(&stage, ALICE), ERR_NOT_FOUND);
	assert_int_equal(tell_gone(&stage, ALICE), 0);
	/* the operator's ids are never given out again; hers she has again */
	assert_int_equal(tell_user(&stage, ALICE, "Alice", "", ""), 0);
	assert_int_equal(log_in(&stage, ALICE), 0);
	assert_int_equal(tell_list(&stage, BRUNO, ALICE, 0), 0);
	assert_int_equal(write_to(&stage, BRUNO, ALICE), ERR_NOT_FOUND);
	stage_store_open(&stage, false);
	assert_int_equal(flags_of(&stage, ALICE, BRUNO),
	    CONTACT_BLOCKING | CONTACT_LISTED_BY);
	assert_int_equal(flags_of(&stage, ALICE, 3), 0);
	stage_store_close(&stage);
	stage_close(&stage);
}

/* A row may come of somebody else's list: one's own is asked for when one comes
 * for the first time; and is not waited for when that is not possible. */
static void
who_comes_for_the_first_time_is_asked_for(void **state)
{
	struct stage stage;

	(void)state;
	open_with_users_outside(&stage);
	assert_int_equal(log_in(&stage, NEW_ONE), ERR_NOT_FOUND);
	assert_int_equal(
	    log_in_as(&stage, NEW_ONE, LOGIN_LEARNED), ERR_NOT_FOUND);
	assert_int_equal(
	    log_in_as(&stage, NEW_ONE, LOGIN_UNSURE), ERR_UNAVAILABLE);
	assert_int_equal(log_in(&stage, ALICE), ERR_NOT_FOUND);
	assert_int_equal(log_in_as(&stage, ALICE, LOGIN_UNSURE), 0);
	assert_int_equal(log_in(&stage, ALICE), 0);
	assert_int_equal(log_in(&stage, BRUNO), ERR_NOT_FOUND);
	assert_int_equal(log_in_as(&stage, BRUNO, LOGIN_LEARNED), 0);
	assert_int_equal(log_in(&stage, BRUNO), 0);
	stage_close(&stage);
}

/* What the directory keeps of lists is of before a block. */
static void
the_directory_is_told_of_blocks(void **state)
{
	struct record_block block = {
	    .user = ALICE, .session = 100 + ALICE, .other = BRUNO, .on = 1};
	const struct record_contact_news *news;
	struct stage stage;

	(void)state;
	open_with_users_outside(&stage);
	assert_int_equal(log_in_as(&stage, ALICE, LOGIN_LEARNED), 0);
	assert_int_equal(
	    stage_ask(&stage, RECORD_BLOCK, &block, sizeof(block)), 0);
	stage_play(&stage, SLOT_DIRECTORY);
	news = (const void *)stage_take(&stage, RECORD_CONTACT_NEWS)->data;
	assert_int_equal(news->user, ALICE);
	assert_int_equal(news->other, BRUNO);
	/* its own word is none to it */
	assert_int_equal(tell_list(&stage, ALICE, 0, BRUNO), 0);
	stage_play(&stage, SLOT_DIRECTORY);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_CONTACT_NEWS), 0);
	stage_close(&stage);
}

/* Lengths at their limits, and what nobody may send. */
static void
what_makes_no_sense_is_refused(void **state)
{
	struct record_roster_user user = {.user = NEW_ONE};
	struct record_roster_list list = {
	    .user = ALICE, .remove_count = ROSTER_PAIRS_MAX + 1};
	char name[NAME_MAX_BYTES + 2] = "";
	uint64_t pairs[ROSTER_PAIRS_MAX + 1] = {0};
	struct stage stage;

	(void)state;
	stage_open(&stage);
	memset(name, 'n', NAME_MAX_BYTES);
	assert_int_equal(tell_user(&stage, NEW_ONE, name, "", ""), 0);
	name[NAME_MAX_BYTES] = 'n';
	assert_int_equal(
	    tell_user(&stage, NEW_ONE, name, "", ""), ERR_BAD_REQUEST);
	assert_int_equal(
	    tell_user(&stage, USER_ID_MAX + 1, "n", "", ""), ERR_BAD_REQUEST);
	assert_int_equal(tell_gone(&stage, 0), ERR_BAD_REQUEST);
	stage_play(&stage, SLOT_DIRECTORY);
	list.req = ++stage.req;
	stage_put(&stage, RECORD_ROSTER_LIST, &list, sizeof(list), pairs,
	    sizeof(pairs));
	assert_int_equal(take_rc(&stage), ERR_BAD_REQUEST);
	list.req = ++stage.req;
	list.remove_count = ROSTER_PAIRS_MAX; /* more than there are */
	stage_put(&stage, RECORD_ROSTER_LIST, &list, sizeof(list), pairs, 8);
	assert_int_equal(take_rc(&stage), ERR_BAD_REQUEST);
	/* a worker has no say in it */
	stage_play(&stage, WORKER_A);
	assert_int_equal(
	    stage_ask(&stage, RECORD_ROSTER_USER, &user, sizeof(user)),
	    ERR_BAD_REQUEST);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(who_is_told_of_is_a_user),
	    cmocka_unit_test(what_is_not_the_databases_stays),
	    cmocka_unit_test(who_leaves_a_list_cannot_be_written_to),
	    cmocka_unit_test(who_is_gone_is_out_and_blocks_stay),
	    cmocka_unit_test(who_comes_for_the_first_time_is_asked_for),
	    cmocka_unit_test(the_directory_is_told_of_blocks),
	    cmocka_unit_test(what_makes_no_sense_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
