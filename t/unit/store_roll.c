/*
 * store_roll.c - unit test of shm/roll.c: who is in a call, who of them sees a
 * message, and when what was said in it is forgotten; that what does not fit
 * together is found.
 */
#include "t/unit/store_box.h"

#include "base/log.h"
#include "shm/call.h"
#include "shm/log.h"
#include "shm/meta.h"
#include "shm/roll.h"
#include "shm/verify.h"

#define NOW_MS 1795450000000LL
#define PARTS  4
/* More than one row of the index. */
#define SAID (2 * CONV_INDEX_STEP + 1)

/* A call of PARTS users, whose ids fall; the last one has never been in. */
struct stage {
	struct store_box box;
	struct call call;
	struct conv conv;
	uint64_t last_id;
	uint64_t first_message;
};

static uint64_t
user_of(uint32_t part)
{
	return 50 - part;
}

static uint64_t
next_id(struct stage *stage)
{
	stage->last_id = message_id_next(stage->last_id, NOW_MS, 0);
	return stage->last_id;
}

static void
come(struct stage *stage, uint32_t part)
{
	struct txn *txn = &stage->box.txn;
	struct member member = {.group = stage->call.id, .user = user_of(part)};

	member_join(&member, ROLE_MEMBER, next_id(stage), stage->conv.count);
	assert_int_equal(member_put_new(txn, CONV_COLLABORATION, &member), 0);
	stage->call.parts[part].state = PART_JOINED;
	assert_int_equal(call_put(txn, &stage->call), 0);
}

static void
go(struct stage *stage, uint32_t part)
{
	struct txn *txn = &stage->box.txn;
	struct member member;

	assert_int_equal(
	    member_get(txn, stage->call.id, user_of(part), &member), 0);
	member_leave(&member, next_id(stage), stage->conv.count);
	assert_int_equal(member_put(txn, &member), 0);
	stage->call.parts[part].state = PART_LEFT;
	assert_int_equal(call_put(txn, &stage->call), 0);
}

static void
say(struct stage *stage)
{
	struct log_message m = {
	    .id = next_id(stage),
	    .sender = user_of(0),
	    .conv = stage->conv.key,
	    .client_time_ms = INT64_MIN,
	    .body = {"x", 1},
	    .type = {"text", 4},
	};

	assert_int_equal(
	    conv_add_message(&stage->box.txn, &stage->conv, &m), 0);
	assert_int_equal(log_append(&stage->box.txn, &m), 0);
	assert_int_equal(conv_put(&stage->box.txn, &stage->conv), 0);
	if (stage->first_message == 0)
		stage->first_message = m.id;
}

/* Two are in it when the first message comes, a third one after it. */
static struct stage *
stage_open(void)
{
	const struct log_conf silent = {
	    .target = "/dev/null", .level = "error", .format = "text"};
	const struct meta_rings rings = {.last_id = UINT64_MAX};
	struct stage *stage = calloc(1, sizeof(*stage));
	struct meta meta;

	assert_non_null(stage);
	assert_int_equal(log_open(&silent), 0);
	box_open(&stage->box);
	box_begin(&stage->box);
	assert_int_equal(meta_init(&stage->box.txn, NOW_MS, &meta), 0);
	assert_int_equal(meta_rings_put(&stage->box.txn, &rings), 0);
	stage->call.id = next_id(stage);
	stage->call.row.state = CALL_ACTIVE;
	stage->call.row.part_count = PARTS;
	for (uint32_t i = 0; i < PARTS; i++)
		stage->call.parts[i] = (struct call_part){
		    .user = user_of(i),
		    .state = PART_RINGING,
		};
	conv_key_of(CONV_COLLABORATION, stage->call.id, &stage->conv.key);
	come(stage, 0);
	come(stage, 1);
	for (int i = 0; i < SAID; i++)
		say(stage);
	come(stage, 2);
	return stage;
}

static void
stage_close(struct stage *stage)
{
	box_close(&stage->box);
	free(stage);
}

/* Users as digits; seen as in roll_users. */
static uint64_t
roll_of(struct stage *stage, uint64_t seen)
{
	uint64_t users[GROUP_MEMBERS_MAX];
	uint64_t told = 0;
	size_t count;

	assert_int_equal(
	    roll_users(&stage->box.txn, &stage->conv.key, seen, users, &count),
	    0);
	for (size_t i = 0; i < count; i++)
		told = told * 100 + users[i];
	return told;
}

static void
who_is_in_says_the_call(void **state)
{
	struct stage *stage = stage_open();
	struct txn *txn = &stage->box.txn;
	uint64_t users[GROUP_MEMBERS_MAX];
	enum call_state call_state = CALL_STATE_END;
	struct conv_key other;
	uint32_t in;
	size_t count;

	(void)state;
	assert_int_equal(roll_of(stage, 0), 484950);
	assert_int_equal(roll_count(txn, &stage->conv.key, &in), 0);
	assert_int_equal(in, 3);
	/* What was said before the third one came is not for him. */
	assert_int_equal(roll_of(stage, stage->first_message), 4950);
	say(stage);
	assert_int_equal(roll_of(stage, stage->last_id), 484950);
	assert_int_equal(roll_has(txn, &stage->conv.key, 49, &call_state), 0);
	go(stage, 1);
	assert_int_equal(
	    roll_has(txn, &stage->conv.key, 49, &call_state), ERR_CONFLICT);
	assert_int_equal(call_state, CALL_ACTIVE);
	assert_int_equal(
	    roll_has(txn, &stage->conv.key, 7, &call_state), ERR_NOT_FOUND);
	assert_int_equal(roll_of(stage, 0), 4850);
	assert_int_equal(roll_of(stage, stage->first_message), 50);
	come(stage, 1);
	stage->call.parts[1].state = PART_RECONNECTING;
	assert_int_equal(call_put(txn, &stage->call), 0);
	assert_int_equal(roll_of(stage, 0), 484950);
	/* A group of the same number is another thing. */
	conv_key_of(CONV_GROUP, stage->call.id, &other);
	assert_int_equal(
	    roll_users(txn, &other, 0, users, &count), ERR_NOT_FOUND);
	assert_int_equal(roll_count(txn, &other, &in), ERR_NOT_FOUND);
	assert_int_equal(roll_has(txn, &other, 7, &call_state), ERR_NOT_FOUND);
	conv_key_of(CONV_COLLABORATION, 5, &other);
	assert_int_equal(
	    roll_users(txn, &other, 0, users, &count), ERR_NOT_FOUND);
	assert_int_equal(count, 0);
	stage_close(stage);
}

static bool
count_conv(void *ctx, const struct conv_key *key)
{
	size_t *count = ctx;

	(void)key;
	++*count;
	return true;
}

/* Rows of the conversation: its own, members', in lists, of the index. */
static size_t
rows_left(struct stage *stage)
{
	struct txn *txn = &stage->box.txn;
	struct member member;
	struct conv conv;
	struct walk walk;
	size_t count = conv_get(txn, &stage->conv.key, &conv) == 0;

	for (uint32_t i = 0; i < PARTS; i++) {
		count +=
		    member_get(txn, stage->call.id, user_of(i), &member) == 0;
		assert_int_equal(
		    conv_each(txn, user_of(i), NULL, count_conv, &count), 0);
	}
	for (int rc = walk_begin(&walk, txn, DBI_convindex, NULL, 0); rc == 0;
	     rc = walk_next(&walk))
		count++;
	walk_end(&walk);
	return count;
}

static void
the_last_one_takes_it_along(void **state)
{
	struct stage *stage = stage_open();
	struct txn *txn = &stage->box.txn;
	uint64_t id = stage->call.id;
	uint64_t last = stage->conv.last_id;

	(void)state;
	assert_int_equal(rows_left(stage), 1 + 3 + 3 + 2);
	assert_int_equal(roll_forget_call(txn, id, last), 0);
	assert_int_equal(rows_left(stage), 9); /* the call is there */
	assert_int_equal(call_delete(txn, &stage->call), 0);
	assert_int_equal(roll_forget_call(txn, id, last - 1), 0);
	assert_int_equal(rows_left(stage), 9); /* a message is */
	assert_int_equal(roll_forget_call(txn, id + 1, UINT64_MAX), 0);
	assert_int_equal(rows_left(stage), 9); /* that was another one */
	assert_int_equal(roll_forget_call(txn, id, last), 0);
	assert_int_equal(rows_left(stage), 0);
	assert_int_equal(roll_forget_call(txn, id, last), 0);
	stage_close(stage);
}

/* ---- verify ---- */

static void
note(void *ctx, enum store_dbi dbi, struct blob key, const char *what)
{
	enum store_dbi *last = ctx;

	(void)key;
	(void)what;
	*last = dbi;
}

/* @return the table of the last finding, DBI_END: none */
static enum store_dbi
verdict(struct stage *stage)
{
	enum store_dbi last = DBI_END;
	struct verify_result result;

	box_commit(&stage->box);
	assert_int_equal(
	    verify_store(stage->box.main, NULL, note, &last, &result), 0);
	box_begin(&stage->box);
	return last;
}

static void
what_does_not_fit_together_is_found(void **state)
{
	struct stage *stage = stage_open();
	struct txn *txn = &stage->box.txn;
	struct member good;
	struct member bad;

	(void)state;
	assert_int_equal(verdict(stage), DBI_END);
	go(stage, 2);
	assert_int_equal(verdict(stage), DBI_END);
	come(stage, 2);
	assert_int_equal(member_get(txn, stage->call.id, user_of(2), &good), 0);

	/* The call says that he is in, his row that he is not. */
	bad = good;
	member_leave(&bad, next_id(stage), stage->conv.count);
	assert_int_equal(member_put(txn, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	/* He has no row at all. */
	assert_int_equal(member_delete(txn, &stage->conv.key, user_of(2)), 0);
	assert_int_equal(verdict(stage), DBI_calls);
	/* He has one that is not in his list. */
	assert_int_equal(member_put(txn, &good), 0);
	assert_int_equal(verdict(stage), DBI_member);
	/* A role that there is not in a call; and somebody who is not in it. */
	bad = good;
	bad.row.role = ROLE_OWNER;
	assert_int_equal(member_put_new(txn, CONV_COLLABORATION, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	assert_int_equal(member_put(txn, &good), 0);
	assert_int_equal(verdict(stage), DBI_END);
	bad = good;
	bad.user = 7;
	assert_int_equal(member_put_new(txn, CONV_COLLABORATION, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	assert_int_equal(member_delete(txn, &stage->conv.key, 7), 0);

	/* The call has gone by age: then nobody is in it. */
	for (uint32_t i = 0; i < 3; i++)
		go(stage, i);
	assert_int_equal(call_delete(txn, &stage->call), 0);
	assert_int_equal(verdict(stage), DBI_END);
	assert_int_equal(member_put(txn, &good), 0);
	assert_int_equal(verdict(stage), DBI_member);
	stage_close(stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(who_is_in_says_the_call),
	    cmocka_unit_test(the_last_one_takes_it_along),
	    cmocka_unit_test(what_does_not_fit_together_is_found),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("store_roll", tests, NULL, NULL);
}
