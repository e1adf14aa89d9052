/*
 * keeper_leaving.c - unit test of the keeper: who is removed leaves all his
 * groups, beside what else there is to do and over kills; nobody is in more of
 * them than he may.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "shm/group.h"
#include "shm/users.h"
#include "t/unit/keeper_stage.h"

#define ALICE       1
#define BRUNO       2
#define GROUPS      300
#define NAME        "name"
#define DEADLINE_MS 60000

static uint64_t groups[GROUPS];

static void
log_in(struct stage *stage, uint64_t user)
{
	struct login login = {.user = user, .session = 100 + user, .device = 1};

	assert_int_equal(stage_login(stage, &login).rc, 0);
}

/* Of a user, 3, 4 and 5; number names the ClientGroupId. */
static const struct record_send_reply *
create(struct stage *stage, uint64_t user, uint64_t number)
{
	static const uint64_t members[] = {3, 4, 5};
	struct record_group_create record = {
	    .req = ++stage->req,
	    .user = user,
	    .session = 100 + user,
	    .request_hash = number,
	    .member_count = 3,
	    .name_len = sizeof(NAME) - 1,
	};
	uint8_t tail[sizeof(members) + sizeof(NAME)];

	memcpy(record.client_id_hash, &number, sizeof(number));
	memcpy(tail, members, sizeof(members));
	memcpy(tail + sizeof(members), NAME, sizeof(NAME));
	stage_put(stage, RECORD_GROUP_CREATE, &record, sizeof(record), tail,
	    sizeof(members) + sizeof(NAME) - 1);
	return (const void *)stage_take(stage, RECORD_SEND_REPLY)->data;
}

static void
make_groups(struct stage *stage)
{
	for (uint64_t i = 0; i < GROUPS; i++) {
		const struct record_send_reply *reply =
		    create(stage, ALICE, i + 1);

		assert_int_equal(reply->rc, 0);
		groups[i] = conv_key_id(&reply->conv);
	}
}

/* Both wait in the ring at the same time. @return id of the message */
static uint64_t
remove_alice_and_say(struct stage *stage)
{
	const struct record_user_put record = {
	    .req = ++stage->req, .user = ALICE, .flags = USER_PUT_REMOVE};
	const struct letter letter = {.from = BRUNO,
	    .session = 100 + BRUNO,
	    .to = {3},
	    .to_count = 1,
	    .number = 7000};

	/* Else it might be through with the one before it sees the other. */
	assert_int_equal(kill(stage->keeper, SIGSTOP), 0);
	stage_put(stage, RECORD_USER_PUT, &record, sizeof(record), NULL, 0);
	stage_send(stage, &letter);
	assert_int_equal(kill(stage->keeper, SIGCONT), 0);
	return stage_sent(stage)->message_id;
}

/* Waits until Alice is in no more than so many groups. @return how many */
static uint32_t
await_groups(struct stage *stage, uint32_t most)
{
	int64_t deadline = clock_mono_ms() + DEADLINE_MS;
	struct store *store = NULL;
	char error[256];
	struct txn txn;
	uint32_t count;

	assert_int_equal(store_open(STORE_MAIN, stage->dir,
			     (size_t)stage->conf->store_map_size, false, &store,
			     error, sizeof(error)),
	    0);
	for (;;) {
		assert_int_equal(store_begin_read(store, &txn), 0);
		assert_int_equal(group_count_get(&txn, ALICE, &count), 0);
		txn_end(&txn);
		if (count <= most)
			break;
		assert_true(clock_mono_ms() < deadline);
		stage_pump(stage, 1);
	}
	store_close(&store);
	return count;
}

static void
who_is_removed_leaves_his_groups_by_and_by(void **state)
{
	struct stage stage;
	uint64_t last = 0;
	uint64_t said;
	uint32_t count = GROUPS;

	(void)state;
	stage_open(&stage);
	log_in(&stage, ALICE);
	log_in(&stage, BRUNO);
	make_groups(&stage);
	said = remove_alice_and_say(&stage);
	while (count > 0) {
		stage_keeper_kill(&stage);
		stage_keeper_start(&stage);
		count = await_groups(&stage, count - 1);
	}
	stage_store_open(&stage, false);
	for (size_t i = 0; i < GROUPS; i++) {
		struct member member;
		struct group group;

		assert_int_equal(group_get(&stage.txn, groups[i], &group), 0);
		assert_int_equal(group.member_count, 3);
		assert_int_equal(group.owner, 3);
		assert_int_equal(
		    member_get(&stage.txn, groups[i], ALICE, &member), 0);
		assert_false(member_is_in(&member));
		if (group.changed > last)
			last = group.changed;
	}
	assert_int_equal(store_count(&stage.txn, DBI_leaving), 0);
	assert_int_equal(group_count_get(&stage.txn, 3, &count), 0);
	assert_int_equal(count, GROUPS);
	/* nobody else had to wait for it */
	assert_true(said < last);
	stage_store_close(&stage);
	stage_close(&stage);
}

/* He stays in it, for nothing can be told to it; the others are left. */
static void
a_damaged_group_keeps_nobody_from_leaving_the_others(void **state)
{
	struct member member;
	struct group group;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, ALICE);
	log_in(&stage, BRUNO);
	make_groups(&stage);
	stage_store_open(&stage, true);
	assert_int_equal(group_get(&stage.txn, groups[0], &group), 0);
	group.member_count++;
	assert_int_equal(group_put(&stage.txn, &group), 0);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	remove_alice_and_say(&stage);
	assert_int_equal(await_groups(&stage, 1), 1);
	stage_store_open(&stage, false);
	assert_int_equal(store_count(&stage.txn, DBI_leaving), 0);
	for (size_t i = 0; i < GROUPS; i++) {
		assert_int_equal(
		    member_get(&stage.txn, groups[i], ALICE, &member), 0);
		assert_int_equal(member_is_in(&member), i == 0);
	}
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
nobody_is_in_more_groups_than_he_may(void **state)
{
	const struct record_send_reply *reply;
	struct record_group_leave leave = {.user = 3, .session = 103};
	const uint64_t *named;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	stage_keeper_stop(&stage);
	stage.conf->policy_max_groups = 2;
	stage_keeper_start(&stage);
	log_in(&stage, ALICE);
	log_in(&stage, BRUNO);
	log_in(&stage, 3);
	reply = create(&stage, ALICE, 1);
	assert_int_equal(reply->rc, 0);
	leave.group = conv_key_id(&reply->conv);
	assert_int_equal(create(&stage, ALICE, 2)->rc, 0);
	/* he may, the others are in two */
	reply = create(&stage, BRUNO, 3);
	named = (const void *)(reply + 1);
	assert_int_equal(reply->rc, ERR_TOO_LARGE);
	assert_int_equal(reply->unknown_count, 3);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(named[i], i + 3);
	/* what is made already is made */
	assert_int_equal(create(&stage, ALICE, 2)->rc, ERR_DUPLICATE);
	leave.req = ++stage.req;
	stage_put(&stage, RECORD_GROUP_LEAVE, &leave, sizeof(leave), NULL, 0);
	reply = (const void *)stage_take(&stage, RECORD_SEND_REPLY)->data;
	assert_int_equal(reply->rc, 0);
	reply = create(&stage, BRUNO, 4);
	named = (const void *)(reply + 1);
	assert_int_equal(reply->unknown_count, 2);
	assert_int_equal(named[0], 4);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(who_is_removed_leaves_his_groups_by_and_by),
	    cmocka_unit_test(
		a_damaged_group_keeps_nobody_from_leaving_the_others),
	    cmocka_unit_test(nobody_is_in_more_groups_than_he_may),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("keeper_leaving", tests, NULL, NULL);
}
