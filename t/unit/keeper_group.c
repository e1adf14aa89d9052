/*
 * keeper_group.c - unit test of the keeper: records of groups that make no
 * sense change nothing; a keeper that is killed between two changes goes on;
 * a group of which a member's row is damaged gets nothing rather than a part.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "shm/group.h"
#include "shm/userhead.h"
#include "t/unit/keeper_stage.h"

#define ALICE 1
#define NAME  "name"

static void
log_in(struct stage *stage, uint64_t user)
{
	struct login login = {.user = user, .session = 100 + user, .device = 1};

	assert_int_equal(stage_login(stage, &login).rc, 0);
}

static int
reply_rc(struct stage *stage, uint64_t req, struct record_send_reply *out)
{
	const struct record_send_reply *reply =
	    (const void *)stage_take(stage, RECORD_SEND_REPLY)->data;

	assert_int_equal(reply->req, req);
	if (out != NULL)
		*out = *reply;
	return reply->rc;
}

/* Of user 1 and those of members; number names the ClientGroupId. */
static int
create(struct stage *stage, uint64_t number, const uint64_t *members,
    uint32_t count, struct record_send_reply *out)
{
	struct record_group_create record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = 100 + ALICE,
	    .request_hash = number,
	    .member_count = count,
	    .name_len = sizeof(NAME) - 1,
	};
	uint8_t tail[(GROUP_MEMBERS_MAX + 1) * sizeof(uint64_t) + sizeof(NAME)];
	size_t len = count * sizeof(uint64_t);

	memcpy(record.client_id_hash, &number, sizeof(number));
	memcpy(tail, members, len);
	memcpy(tail + len, NAME, sizeof(NAME) - 1);
	stage_put(stage, RECORD_GROUP_CREATE, &record, sizeof(record), tail,
	    len + sizeof(NAME) - 1);
	return reply_rc(stage, record.req, out);
}

struct update {
	uint64_t group;
	const uint64_t *add;
	uint32_t add_count;
	const uint64_t *remove;
	uint32_t remove_count;
	const struct group_role_change *roles;
	uint32_t role_count;
	const char *name;
	size_t cut; /* bytes that the record is too short */
};

static size_t
append(uint8_t *at, const void *data, size_t len)
{
	if (len > 0)
		memcpy(at, data, len);
	return len;
}

static int
update(struct stage *stage, const struct update *update,
    struct record_send_reply *out)
{
	struct record_group_update record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = 100 + ALICE,
	    .group = update->group,
	    .add_count = update->add_count,
	    .remove_count = update->remove_count,
	    .role_count = update->role_count,
	    .name_len =
		update->name == NULL ? 0 : (uint32_t)strlen(update->name),
	};
	uint8_t tail[4096];
	size_t len = 0;

	len += append(
	    tail + len, update->add, update->add_count * sizeof(uint64_t));
	len += append(tail + len, update->remove,
	    update->remove_count * sizeof(uint64_t));
	len += append(tail + len, update->roles,
	    update->role_count * sizeof(*update->roles));
	len += append(tail + len, update->name, record.name_len);
	stage_put(stage, RECORD_GROUP_UPDATE, &record, sizeof(record), tail,
	    len - update->cut);
	return reply_rc(stage, record.req, out);
}

static int
say(struct stage *stage, uint64_t group, uint32_t recipients)
{
	struct record_send record = {
	    .req = ++stage->req,
	    .user = ALICE,
	    .session = 100 + ALICE,
	    .client_time_ms = INT64_MIN,
	    .body_len = 1,
	    .recipient_count = recipients,
	    .type_len = 1,
	    .client_id_len = 1,
	};
	uint64_t tail[2] = {2, 0};

	conv_key_of(CONV_GROUP, group, &record.room);
	memcpy(record.client_id_hash, &record.req, sizeof(record.req));
	memcpy(&tail[recipients], "btc", 3);
	stage_put(stage, RECORD_SEND, &record, sizeof(record), tail,
	    recipients * sizeof(uint64_t) + 3);
	return reply_rc(stage, record.req, NULL);
}

/* Heads of the inboxes of users 1 to 5, and rows of the tables of groups. */
struct sight {
	uint64_t heads[6];
	uint64_t rows[3];
};

static void
look(struct stage *stage, struct sight *out)
{
	memset(out, 0, sizeof(*out));
	stage_store_open(stage, false);
	for (uint64_t user = 1; user < 6; user++) {
		struct userhead head;

		if (userhead_get(&stage->txn, user, &head) == 0)
			out->heads[user] = head.row.head;
	}
	out->rows[0] = store_count(&stage->txn, DBI_groups);
	out->rows[1] = store_count(&stage->txn, DBI_member);
	out->rows[2] = store_count(&stage->txn, DBI_groupmade);
	stage_store_close(stage);
}

static void
what_makes_no_sense_changes_nothing(void **state)
{
	static const uint64_t two_three[] = {2, 3};
	static const uint64_t unsorted[] = {3, 2};
	static const uint64_t twice[] = {2, 2};
	static const uint64_t self[] = {ALICE, 2};
	static const uint64_t zero[] = {0, 2};
	static const uint64_t huge[] = {2, USER_ID_MAX + 1};
	static const struct group_role_change none[] = {{2, ROLE_NONE}};
	static const struct group_role_change beyond[] = {{2, ROLE_END}};
	static const struct group_role_change of_two[] = {
	    {2, ROLE_ADMIN}, {2, ROLE_MEMBER}};
	uint64_t many[GROUP_MEMBERS_MAX + 1] = {0};
	struct record_send_reply made;
	struct sight before;
	struct sight after;
	struct stage stage;
	uint64_t id;

	(void)state;
	stage_open(&stage);
	log_in(&stage, ALICE);
	assert_int_equal(create(&stage, 1, two_three, 2, &made), 0);
	id = conv_key_id(&made.conv);
	look(&stage, &before);
	stage_keeper_start(&stage);

	assert_int_equal(create(&stage, 2, unsorted, 2, NULL), ERR_BAD_REQUEST);
	assert_int_equal(create(&stage, 2, twice, 2, NULL), ERR_BAD_REQUEST);
	assert_int_equal(create(&stage, 2, self, 2, NULL), ERR_BAD_REQUEST);
	assert_int_equal(create(&stage, 2, zero, 2, NULL), ERR_BAD_REQUEST);
	assert_int_equal(create(&stage, 2, huge, 2, NULL), ERR_BAD_REQUEST);
	assert_int_equal(
	    create(&stage, 2, many, GROUP_MEMBERS_MAX, NULL), ERR_BAD_REQUEST);

	const struct update bad[] = {
	    {id, .add = unsorted, .add_count = 2},
	    {id, .remove = twice, .remove_count = 2},
	    {id, .add = two_three, .add_count = 2, .remove = two_three,
		.remove_count = 2},
	    {id, .roles = none, .role_count = 1},
	    {id, .roles = beyond, .role_count = 1},
	    {id, .roles = of_two, .role_count = 2},
	    {id, .remove = two_three, .remove_count = 2, .roles = of_two,
		.role_count = 1},
	    {id, .name = "other", .cut = 1},
	    {id, .add = two_three, .add_count = 2, .cut = 8},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    update(&stage, &bad[i], NULL), ERR_BAD_REQUEST);
	/* to a group and to somebody else */
	assert_int_equal(say(&stage, id, 1), ERR_BAD_REQUEST);
	look(&stage, &after);
	assert_memory_equal(&after, &before, sizeof(before));
	stage_close(&stage);
}

static void
a_change_is_made_once_over_kills(void **state)
{
	static const uint64_t members[] = {2, 3, 4};
	static const uint64_t three[] = {3};
	struct record_send_reply made;
	struct record_send_reply again;
	struct sight first;
	struct sight second;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, ALICE);
	assert_int_equal(create(&stage, 1, members, 3, &made), 0);
	look(&stage, &first);
	assert_int_equal(first.rows[0], 1);
	assert_int_equal(first.rows[1], 4);
	stage_keeper_start(&stage);
	assert_int_equal(create(&stage, 1, members, 3, &again), ERR_DUPLICATE);
	assert_memory_equal(&again.conv, &made.conv, sizeof(made.conv));
	stage_keeper_kill(&stage);
	stage_keeper_start(&stage);
	assert_int_equal(create(&stage, 1, members, 3, &again), ERR_DUPLICATE);

	const struct update out = {
	    conv_key_id(&made.conv), .remove = three, .remove_count = 1};
	assert_int_equal(update(&stage, &out, NULL), 0);
	stage_keeper_kill(&stage);
	stage_keeper_start(&stage);
	assert_int_equal(update(&stage, &out, NULL), 0);
	look(&stage, &second);
	/* one event each, and one of being made before it */
	for (uint64_t user = 2; user < 5; user++)
		assert_int_equal(second.heads[user], first.heads[user] + 1);
	assert_int_equal(second.heads[ALICE], first.heads[ALICE]);
	stage_close(&stage);
}

/* By it the worker charges who asked; what is done already costs nothing. */
static void
the_reply_says_how_many_were_told(void **state)
{
	static const uint64_t members[] = {2, 3, 4};
	static const uint64_t two[] = {3, 4};
	struct record_group_leave leave = {.user = 2, .session = 102};
	struct record_send_reply reply;
	struct stage stage;
	uint64_t id;

	(void)state;
	stage_open(&stage);
	log_in(&stage, ALICE);
	log_in(&stage, 2);
	assert_int_equal(create(&stage, 1, members, 3, &reply), 0);
	assert_int_equal(reply.member_count, 4);
	id = conv_key_id(&reply.conv);
	assert_int_equal(create(&stage, 1, members, 3, &reply), ERR_DUPLICATE);
	assert_int_equal(reply.member_count, 0);

	const struct update out = {id, .remove = two, .remove_count = 2};
	assert_int_equal(update(&stage, &out, &reply), 0);
	assert_int_equal(reply.member_count, 4);
	assert_int_equal(update(&stage, &out, &reply), 0);
	assert_int_equal(reply.member_count, 0);
	leave.req = ++stage.req;
	leave.group = id;
	stage_put(&stage, RECORD_GROUP_LEAVE, &leave, sizeof(leave), NULL, 0);
	assert_int_equal(reply_rc(&stage, leave.req, &reply), 0);
	assert_int_equal(reply.member_count, 2);
	stage_close(&stage);
}

static void
a_damaged_row_of_one_costs_all_the_message(void **state)
{
	static const uint64_t members[] = {2, 3, 4};
	struct record_send_reply made;
	struct sight before;
	struct sight after;
	struct group group;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, ALICE);
	assert_int_equal(create(&stage, 1, members, 3, &made), 0);
	assert_int_equal(say(&stage, conv_key_id(&made.conv), 0), 0);
	/* one more than there are rows */
	stage_store_open(&stage, true);
	assert_int_equal(
	    group_get(&stage.txn, conv_key_id(&made.conv), &group), 0);
	group.member_count++;
	assert_int_equal(group_put(&stage.txn, &group), 0);
	stage_store_close(&stage);
	look(&stage, &before);
	stage_keeper_start(&stage);
	assert_int_equal(
	    say(&stage, conv_key_id(&made.conv), 0), ERR_SERVER_ERROR);
	look(&stage, &after);
	assert_memory_equal(&after, &before, sizeof(before));
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_makes_no_sense_changes_nothing),
	    cmocka_unit_test(a_change_is_made_once_over_kills),
	    cmocka_unit_test(the_reply_says_how_many_were_told),
	    cmocka_unit_test(a_damaged_row_of_one_costs_all_the_message),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("keeper_group", tests, NULL, NULL);
}
