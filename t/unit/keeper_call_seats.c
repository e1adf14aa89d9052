/*
 * keeper_call_seats.c - unit test of the keeper: a call in which nobody writes
 * has no rows of members; damaged ones do not hold it up; records that make no
 * sense change nothing.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "shm/call.h"
#include "shm/group.h"
#include "t/unit/keeper_stage.h"

#define ALICE 1
#define BRUNO 2
#define CARLA 3

static uint64_t
session_of(uint64_t user)
{
	return 100 + user;
}

static void
open_stage(struct stage *stage)
{
	stage_open(stage);
	for (uint64_t user = ALICE; user <= CARLA; user++) {
		struct login login = {
		    .user = user, .session = session_of(user), .device = 1};

		assert_int_equal(stage_login(stage, &login).rc, 0);
	}
}

static int
answer_of(struct stage *stage, uint64_t *call_out)
{
	const struct record_call_reply *reply =
	    (const void *)stage_take(stage, RECORD_CALL_REPLY)->data;

	assert_int_equal(reply->req, stage->req);
	if (call_out != NULL)
		*call_out = reply->call;
	return reply->rc;
}

static int
ask(struct stage *stage, uint64_t user, enum call_ask what, uint64_t call)
{
	const struct record_call_ask record = {
	    .req = ++stage->req,
	    .user = user,
	    .session = session_of(user),
	    .call = call,
	    .ask = what,
	};

	stage_put(stage, RECORD_CALL_ASK, &record, sizeof(record), NULL, 0);
	return answer_of(stage, NULL);
}

/* Of all three of them. */
static uint64_t
make_call(struct stage *stage)
{
	static const uint64_t guests[] = {BRUNO, CARLA};
	const struct record_call_create record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = session_of(ALICE),
	    .client_hash = {(uint8_t)stage->req},
	    .kind = CALL_AUDIO,
	    .user_count = 2,
	};
	uint64_t call;

	stage_put(stage, RECORD_CALL_CREATE, &record, sizeof(record), guests,
	    sizeof(guests));
	assert_int_equal(answer_of(stage, &call), 0);
	assert_int_equal(ask(stage, BRUNO, CALL_ASK_ACCEPT, call), 0);
	assert_int_equal(ask(stage, CARLA, CALL_ASK_ACCEPT, call), 0);
	return call;
}

static int
say_to(struct stage *stage, const struct conv_key *room, uint32_t recipients)
{
	struct record_send record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = session_of(ALICE),
	    .room = *room,
	    .client_time_ms = INT64_MIN,
	    .body_len = 1,
	    .recipient_count = recipients,
	    .type_len = 1,
	    .client_id_len = 1,
	};
	const struct record_send_reply *reply;
	uint64_t tail[2] = {BRUNO, 0};

	memcpy(record.client_id_hash, &record.req, sizeof(record.req));
	memcpy(&tail[recipients], "btc", 3);
	stage_put(stage, RECORD_SEND, &record, sizeof(record), tail,
	    recipients * sizeof(uint64_t) + 3);
	reply = (const void *)stage_take(stage, RECORD_SEND_REPLY)->data;
	assert_int_equal(reply->req, record.req);
	return reply->rc;
}

static int
say(struct stage *stage, uint64_t call)
{
	struct conv_key room;

	conv_key_of(CONV_COLLABORATION, call, &room);
	return say_to(stage, &room, 0);
}

struct sight {
	uint64_t members;
	uint64_t listed;
	uint64_t convs;
	uint64_t said;
};

/* Ends the keeper, and starts another one. */
static struct sight
look(struct stage *stage)
{
	struct sight sight;

	stage_store_open(stage, false);
	sight = (struct sight){
	    .members = store_count(&stage->txn, DBI_member),
	    .listed = store_count(&stage->txn, DBI_userconv),
	    .convs = store_count(&stage->txn, DBI_conv),
	    .said = store_count(&stage->txn, DBI_log),
	};
	stage_store_close(stage);
	stage_keeper_start(stage);
	return sight;
}

static void
a_call_in_which_nobody_writes_has_no_rows(void **state)
{
	struct stage stage;
	struct sight sight;
	uint64_t call;

	(void)state;
	open_stage(&stage);
	call = make_call(&stage);
	assert_int_equal(ask(&stage, CARLA, CALL_ASK_LEAVE, call), 0);
	assert_int_equal(ask(&stage, CARLA, CALL_ASK_ACCEPT, call), 0);
	sight = look(&stage);
	assert_int_equal(sight.members + sight.listed + sight.convs, 0);
	assert_int_equal(say(&stage, call), 0);
	sight = look(&stage);
	assert_int_equal(sight.members, 3);
	assert_int_equal(sight.listed, 3);
	assert_int_equal(sight.convs, 1);
	stage_close(&stage);
}

static void
damage_does_not_hold_up_a_call(void **state)
{
	struct stage stage;
	struct member member;
	struct conv_key conv;
	uint8_t key[16];
	uint64_t call;

	(void)state;
	open_stage(&stage);
	call = make_call(&stage);
	assert_int_equal(say(&stage, call), 0);
	key_u64(key, call);
	key_u64(key + 8, BRUNO);
	stage_store_open(&stage, true);
	assert_int_equal(
	    txn_put(&stage.txn, DBI_member, key, sizeof(key), "short", 5), 0);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	assert_int_equal(ask(&stage, BRUNO, CALL_ASK_LEAVE, call), 0);
	assert_int_equal(say(&stage, call), 0);
	assert_int_equal(ask(&stage, BRUNO, CALL_ASK_ACCEPT, call), 0);
	assert_int_equal(say(&stage, call), 0);

	/* Who came back has a new row; what he could see before is lost. */
	conv_key_of(CONV_COLLABORATION, call, &conv);
	stage_store_open(&stage, true);
	assert_int_equal(member_get(&stage.txn, call, BRUNO, &member), 0);
	assert_true(member_is_in(&member));
	assert_int_equal(member.row.span_count, 1);
	assert_int_equal(txn_put(&stage.txn, DBI_conv, conv.bytes,
			     sizeof(conv.bytes), "short", 5),
	    0);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	assert_int_equal(say(&stage, call), ERR_SERVER_ERROR);
	assert_int_equal(ask(&stage, BRUNO, CALL_ASK_LEAVE, call), 0);
	assert_int_equal(ask(&stage, ALICE, CALL_ASK_END, call), 0);
	stage_close(&stage);
}

static void
what_makes_no_sense_changes_nothing(void **state)
{
	struct conv_key rooms[3];
	struct stage stage;
	struct sight before;
	struct sight after;
	uint64_t call;

	(void)state;
	open_stage(&stage);
	call = make_call(&stage);
	before = look(&stage);
	conv_key_of(CONV_GROUP, call, &rooms[0]);
	conv_key_of(CONV_COLLABORATION, call + 1, &rooms[1]);
	conv_key_of(CONV_COLLABORATION, 0, &rooms[2]);
	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++)
		assert_int_equal(say_to(&stage, &rooms[i], 0), ERR_NOT_FOUND);
	/* to people and to a call */
	conv_key_of(CONV_COLLABORATION, call, &rooms[0]);
	assert_int_equal(say_to(&stage, &rooms[0], 1), ERR_BAD_REQUEST);
	/* a call with something in between */
	rooms[0].bytes[4] = 1;
	assert_int_equal(say_to(&stage, &rooms[0], 0), ERR_BAD_REQUEST);
	after = look(&stage);
	assert_memory_equal(&after, &before, sizeof(before));
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_call_in_which_nobody_writes_has_no_rows),
	    cmocka_unit_test(damage_does_not_hold_up_a_call),
	    cmocka_unit_test(what_makes_no_sense_changes_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
	    "keeper_call_seats", tests, NULL, NULL);
}
