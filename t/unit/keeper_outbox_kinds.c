/*
 * keeper_outbox_kinds.c - unit test of the keeper's end of an outbox: what it
 * is told of groups, of who is in them, and of calls that have ended.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "shm/call.h"
#include "shm/group.h"
#include "shm/outbox.h"
#include "t/unit/keeper_stage.h"

#define REHEARSAL  1 /* outboxes.def */
#define ALICE      1
#define BRUNO      2
#define CARLA      3
#define SOLDIER    1000 /* the first of many */
#define MANY       (2 * OUTBOX_PARTS_MAX + 1)
#define ENTRIES    64
#define NAME       "Ward"
#define NAME_LATER "Ward 3"

/* Of groups and calls, what waits. */
struct noted {
	struct outbox_entry entries[ENTRIES];
	char names[ENTRIES][16];
	struct outbox_part parts[ENTRIES][OUTBOX_PARTS_MAX];
	size_t count;
};

static struct noted noted;

static bool
note(void *ctx, const struct outbox_entry *entry)
{
	size_t at = noted.count;

	(void)ctx;
	if (entry->kind < OUTBOX_GROUP)
		return true;
	assert_true(at < ENTRIES);
	noted.entries[at] = *entry;
	if (entry->kind == OUTBOX_GROUP)
		memcpy(noted.names[at], entry->text.data, entry->text.len);
	for (size_t i = 0; i < entry->call.part_count; i++)
		noted.parts[at][i] = outbox_part_get(entry, i);
	noted.count++;
	return true;
}

/* Ends the keeper. */
static void
read_store(struct stage *stage)
{
	memset(&noted, 0, sizeof(noted));
	stage_store_open(stage, false);
	assert_int_equal(outbox_each(&stage->txn, REHEARSAL, 1, note, NULL), 0);
	stage_store_close(stage);
}

static uint64_t
session_of(uint64_t user)
{
	return 100 + user;
}

static int
open_stage(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	stage_open(stage);
	stage_keeper_stop(stage);
	stage->conf->directory_rehearse_outbox = true;
	stage->conf->calls_max_participants = 256;
	free(stage->conf->policy_may_message);
	stage->conf->policy_may_message = strdup("anyone");
	assert_non_null(stage->conf->policy_may_message);
	stage_keeper_start(stage);
	stage_play(stage, WORKER_A);
	for (uint64_t user = ALICE; user <= CARLA; user++)
		stage_login(stage, &(struct login){.user = user,
				       .session = session_of(user),
				       .device = 1});
	*state = stage;
	return 0;
}

static int
close_stage(void **state)
{
	struct stage *stage = *state;

	stage_close(stage);
	free(stage);
	return 0;
}

/* ---- groups ---- */

static uint64_t
group_answer(struct stage *stage)
{
	const struct record_send_reply *reply =
	    (const void *)stage_take(stage, RECORD_SEND_REPLY)->data;

	assert_int_equal(reply->req, stage->req);
	assert_int_equal(reply->rc, 0);
	return conv_key_id(&reply->conv);
}

/* Of Alice, with Bruno. */
static uint64_t
make_group(struct stage *stage)
{
	static const uint64_t members[] = {BRUNO};
	struct record_group_create record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = session_of(ALICE),
	    .request_hash = 1,
	    .member_count = 1,
	    .name_len = sizeof(NAME) - 1,
	};
	uint8_t tail[sizeof(members) + sizeof(NAME)];

	memcpy(tail, members, sizeof(members));
	memcpy(tail + sizeof(members), NAME, sizeof(NAME));
	stage_put(stage, RECORD_GROUP_CREATE, &record, sizeof(record), tail,
	    sizeof(members) + sizeof(NAME) - 1);
	return group_answer(stage);
}

struct update {
	uint64_t add;    /* 0: nobody */
	uint64_t remove; /* 0: nobody */
	struct group_role_change role;
	const char *name;
};

static void
update_group(struct stage *stage, uint64_t group, const struct update *update)
{
	struct record_group_update record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = session_of(ALICE),
	    .group = group,
	    .add_count = update->add != 0,
	    .remove_count = update->remove != 0,
	    .role_count = update->role.user != 0,
	    .name_len =
		update->name == NULL ? 0 : (uint32_t)strlen(update->name),
	};
	uint8_t tail[128];
	uint8_t *at = tail;

	if (update->add != 0)
		at = mempcpy(at, &update->add, sizeof(update->add));
	if (update->remove != 0)
		at = mempcpy(at, &update->remove, sizeof(update->remove));
	if (update->role.user != 0)
		at = mempcpy(at, &update->role, sizeof(update->role));
	if (update->name != NULL)
		at = mempcpy(at, update->name, record.name_len);
	stage_put(stage, RECORD_GROUP_UPDATE, &record, sizeof(record), tail,
	    (size_t)(at - tail));
	assert_int_equal(group_answer(stage), group);
}

static void
leave_group(struct stage *stage, uint64_t user, uint64_t group)
{
	const struct record_group_leave record = {
	    .req = ++stage->req,
	    .user = user,
	    .session = session_of(user),
	    .group = group,
	};

	stage_put(stage, RECORD_GROUP_LEAVE, &record, sizeof(record), NULL, 0);
	assert_int_equal(group_answer(stage), group);
}

static void
remove_user(struct stage *stage, uint64_t user)
{
	struct record_user_put record = {
	    .user = user, .flags = USER_PUT_REMOVE};

	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(
	    stage_ask(stage, RECORD_USER_PUT, &record, sizeof(record)), 0);
	stage_play(stage, WORKER_A);
}

static void
assert_name(size_t at, uint64_t group, const char *name)
{
	const struct outbox_entry *entry = &noted.entries[at];

	assert_int_equal(entry->kind, OUTBOX_GROUP);
	assert_int_equal(entry->group, group);
	assert_string_equal(noted.names[at], name);
}

static void
assert_member(size_t at, uint64_t group, uint64_t user, enum group_role role)
{
	const struct outbox_entry *entry = &noted.entries[at];

	assert_int_equal(entry->kind, OUTBOX_MEMBER);
	assert_int_equal(entry->group, group);
	assert_int_equal(entry->user, user);
	assert_int_equal(entry->role, role);
}

static void
a_group_is_told_with_all_its_changes(void **state)
{
	struct stage *stage = *state;
	uint64_t group = make_group(stage);

	update_group(stage, group, &(struct update){.name = NAME_LATER});
	update_group(stage, group, &(struct update){.add = CARLA});
	update_group(
	    stage, group, &(struct update){.role = {CARLA, ROLE_ADMIN}});
	/* again the same, which changes nothing */
	update_group(
	    stage, group, &(struct update){.name = NAME_LATER, .add = CARLA});
	update_group(stage, group, &(struct update){.remove = BRUNO});
	leave_group(stage, ALICE, group);
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(noted.count, 9);
	assert_name(0, group, NAME);
	assert_member(1, group, ALICE, ROLE_OWNER);
	assert_member(2, group, BRUNO, ROLE_MEMBER);
	assert_name(3, group, NAME_LATER);
	assert_member(4, group, CARLA, ROLE_MEMBER);
	assert_member(5, group, CARLA, ROLE_ADMIN);
	assert_member(6, group, BRUNO, ROLE_NONE);
	assert_member(7, group, ALICE, ROLE_NONE);
	assert_member(8, group, CARLA, ROLE_OWNER);
	/* what is later has a higher event */
	for (size_t i = 1; i < noted.count; i++)
		assert_true(
		    noted.entries[i].event >= noted.entries[i - 1].event);
	assert_true(noted.entries[6].event > noted.entries[2].event);
	assert_true(noted.entries[5].event > noted.entries[4].event);
}

static void
a_new_owner_is_told_with_the_old_one(void **state)
{
	struct stage *stage = *state;
	uint64_t group = make_group(stage);

	update_group(
	    stage, group, &(struct update){.role = {BRUNO, ROLE_OWNER}});
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(noted.count, 5);
	assert_member(3, group, BRUNO, ROLE_OWNER);
	assert_member(4, group, ALICE, ROLE_ADMIN);
}

/* parleyctl user remove: he leaves by and by. */
static void
who_is_removed_is_told_to_have_left(void **state)
{
	struct stage *stage = *state;
	uint64_t group = make_group(stage);

	remove_user(stage, ALICE);
	do {
		stage_keeper_stop(stage);
		read_store(stage);
		stage_keeper_start(stage);
	} while (noted.count < 5);
	assert_int_equal(noted.count, 5);
	assert_member(3, group, ALICE, ROLE_NONE);
	assert_member(4, group, BRUNO, ROLE_OWNER);
}

/* ---- calls ---- */

static uint64_t
call_answer(struct stage *stage)
{
	const struct record_call_reply *reply =
	    (const void *)stage_take(stage, RECORD_CALL_REPLY)->data;

	assert_int_equal(reply->req, stage->req);
	assert_int_equal(reply->rc, 0);
	return reply->call;
}

static uint64_t
make_call(struct stage *stage, const uint64_t *guests, uint32_t count)
{
	const struct record_call_create record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = session_of(ALICE),
	    .client_hash = {(uint8_t)stage->req},
	    .kind = CALL_AUDIO,
	    .user_count = count,
	};

	stage_put(stage, RECORD_CALL_CREATE, &record, sizeof(record), guests,
	    count * sizeof(*guests));
	return call_answer(stage);
}

static void
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
	assert_int_equal(call_answer(stage), call);
}

static void
a_call_is_told_once_when_it_has_ended(void **state)
{
	static const uint64_t guests[] = {BRUNO, CARLA};
	const struct outbox_entry *entry = &noted.entries[0];
	const struct outbox_part *parts = noted.parts[0];
	struct stage *stage = *state;
	uint64_t call = make_call(stage, guests, 2);

	ask(stage, BRUNO, CALL_ASK_ACCEPT, call);
	ask(stage, CARLA, CALL_ASK_REJECT, call);
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(noted.count, 0);
	/* of one that goes on nothing is told, by the next keeper neither */
	stage_keeper_start(stage);
	ask(stage, BRUNO, CALL_ASK_LEAVE, call);
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(noted.count, 1);
	assert_int_equal(entry->kind, OUTBOX_CALL);
	assert_int_equal(entry->call.id, call);
	assert_int_equal(entry->call.user, ALICE);
	assert_int_equal(entry->call.kind, CALL_AUDIO);
	assert_int_equal(entry->call.outcome, CALL_OUTCOME_ANSWERED);
	assert_int_equal(entry->call.part_count, 3);
	assert_true(entry->call.created_ms > 0);
	assert_true(entry->call.ended_ms >= entry->call.created_ms);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(parts[i].user, i == 0 ? ALICE : BRUNO);
		assert_int_equal(parts[i].outcome, CALL_OUTCOME_ANSWERED);
		assert_true(parts[i].joined_ms >= entry->call.created_ms);
		assert_true(parts[i].left_ms >= parts[i].joined_ms);
	}
	assert_int_equal(parts[2].user, CARLA);
	assert_int_equal(parts[2].outcome, CALL_OUTCOME_REJECTED);
	assert_int_equal(parts[2].joined_ms, 0);
	assert_int_equal(parts[2].left_ms, 0);
}

static void
one_that_is_cancelled_is_told(void **state)
{
	static const uint64_t guests[] = {BRUNO};
	struct stage *stage = *state;
	uint64_t call = make_call(stage, guests, 1);

	ask(stage, ALICE, CALL_ASK_CANCEL, call);
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(noted.count, 1);
	assert_int_equal(noted.entries[0].call.outcome, CALL_OUTCOME_CANCELLED);
	assert_int_equal(noted.parts[0][1].user, BRUNO);
	assert_int_equal(noted.parts[0][1].outcome, CALL_OUTCOME_CANCELLED);
}

static void
one_of_many_is_told_in_pieces(void **state)
{
	struct record_user_range range = {
	    .first = SOLDIER, .last = SOLDIER + MANY - 1};
	struct stage *stage = *state;
	uint64_t guests[MANY];
	size_t seen = 0;
	uint64_t call;

	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(
	    stage_ask(stage, RECORD_USER_RANGE, &range, sizeof(range)), 0);
	stage_play(stage, WORKER_A);
	for (uint64_t i = 0; i < MANY; i++)
		guests[i] = SOLDIER + i;
	call = make_call(stage, guests, MANY);
	ask(stage, ALICE, CALL_ASK_CANCEL, call);
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(noted.count, 3);
	for (size_t i = 0; i < noted.count; i++) {
		const struct outbox_call *piece = &noted.entries[i].call;

		assert_int_equal(piece->id, call);
		assert_int_equal(piece->user, ALICE);
		assert_int_equal(piece->outcome, CALL_OUTCOME_CANCELLED);
		for (size_t n = 0; n < piece->part_count; n++) {
			uint64_t user = seen == 0 ? ALICE : SOLDIER + seen - 1;

			assert_int_equal(noted.parts[i][n].user, user);
			seen++;
		}
	}
	assert_int_equal(seen, MANY + 1);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, open_stage, close_stage)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_group_is_told_with_all_its_changes),
	    TEST(a_new_owner_is_told_with_the_old_one),
	    TEST(who_is_removed_is_told_to_have_left),
	    TEST(a_call_is_told_once_when_it_has_ended),
	    TEST(one_that_is_cancelled_is_told),
	    TEST(one_of_many_is_told_in_pieces),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
