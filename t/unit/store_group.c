/*
 * store_group.c - unit test of shm/group.c: rows at their limits, and what of a
 * group's history is whose, against a naive model; shm/verify_group.c finds
 * what does not fit together.
 */
#include "t/unit/store_box.h"

#include "base/log.h"
#include "shm/group.h"
#include "shm/log.h"
#include "shm/meta.h"
#include "shm/verify.h"

#define NOW_MS     1795450000000LL
#define GROUP      4711
#define USER       42
#define OTHER      43
#define MODEL_MAX  400
#define PAGE_LIMIT 7

static void
quiet(void)
{
	const struct log_conf silent = {
	    .target = "/dev/null", .level = "error", .format = "text"};

	assert_int_equal(log_open(&silent), 0);
}

/* ---- one group, and what one member should see of it ---- */

struct stage {
	struct store_box box;
	struct conv conv;
	struct member member;
	bool is_in;
	uint64_t last_id;
	uint64_t random;
	uint64_t ids[MODEL_MAX]; /* of messages */
	bool sees[MODEL_MAX];
	bool is_own[MODEL_MAX];
	size_t count;
	size_t unread_from; /* index of the first that is not read */
};

static void
put_group(struct stage *stage, uint64_t owner, uint32_t count)
{
	struct group group = {
	    .id = GROUP,
	    .owner = owner,
	    .changed = stage->last_id,
	    .member_count = count,
	    .name_len = 4,
	    .name = "name",
	};

	assert_int_equal(group_put(&stage->box.txn, &group), 0);
}

static struct stage *
stage_open(void)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	struct meta meta;

	assert_non_null(stage);
	quiet();
	box_open(&stage->box);
	box_begin(&stage->box);
	assert_int_equal(meta_init(&stage->box.txn, NOW_MS, &meta), 0);
	stage->random = 0x9e3779b97f4a7c15;
	stage->last_id = message_id_next(0, NOW_MS, 0);
	conv_key_of(CONV_GROUP, GROUP, &stage->conv.key);
	assert_int_equal(conv_put(&stage->box.txn, &stage->conv), 0);
	stage->member = (struct member){.group = GROUP, .user = USER};
	return stage;
}

static void
stage_close(struct stage *stage)
{
	box_close(&stage->box);
	free(stage);
}

static uint64_t
next_id(struct stage *stage)
{
	stage->last_id = message_id_next(stage->last_id, NOW_MS, 0);
	return stage->last_id;
}

static void
come(struct stage *stage)
{
	member_join(
	    &stage->member, ROLE_MEMBER, next_id(stage), stage->conv.count);
	assert_int_equal(
	    member_put_new(&stage->box.txn, CONV_GROUP, &stage->member), 0);
	stage->is_in = true;
	stage->unread_from = stage->count;
}

static void
go(struct stage *stage)
{
	member_leave(&stage->member, next_id(stage), stage->conv.count);
	assert_int_equal(member_put(&stage->box.txn, &stage->member), 0);
	stage->is_in = false;
}

static void
say(struct stage *stage, bool is_own)
{
	struct log_message m = {
	    .id = next_id(stage),
	    .sender = is_own ? USER : OTHER,
	    .conv = stage->conv.key,
	    .client_time_ms = INT64_MIN,
	    .body = {"x", 1},
	    .type = {"text", 4},
	};

	assert_int_equal(
	    conv_add_message(&stage->box.txn, &stage->conv, &m), 0);
	assert_int_equal(log_append(&stage->box.txn, &m), 0);
	assert_int_equal(conv_put(&stage->box.txn, &stage->conv), 0);
	if (is_own) {
		member_wrote(&stage->member);
		assert_int_equal(
		    member_put(&stage->box.txn, &stage->member), 0);
	}
	stage->ids[stage->count] = m.id;
	stage->is_own[stage->count] = is_own;
	stage->sees[stage->count++] = stage->is_in;
}

/* Forget the first time, as a member row with too many of them does. */
static void
model_forget(struct stage *stage, uint64_t upto)
{
	for (size_t i = 0; i < stage->count && stage->ids[i] < upto; i++)
		stage->sees[i] = false;
}

static void
check_page(const struct stage *stage, struct txn *txn, bool is_up, size_t from)
{
	uint64_t ids[PAGE_LIMIT];
	struct conv_page page = {.ids = ids};
	struct conv_range range = {.limit = PAGE_LIMIT};
	uint64_t expected[MODEL_MAX];
	size_t count = 0;

	if (is_up)
		range.after = from < stage->count ? stage->ids[from] : 1;
	else
		range.before = from < stage->count ? stage->ids[from] : 0;
	for (size_t n = 0; n < stage->count; n++) {
		size_t i = is_up ? n : stage->count - 1 - n;
		bool is_beyond =
		    is_up ? stage->ids[i] > range.after
			  : range.before == 0 || stage->ids[i] < range.before;

		if (stage->sees[i] && is_beyond)
			expected[count++] = stage->ids[i];
	}
	assert_int_equal(
	    member_page(txn, &stage->conv, &stage->member, &range, &page), 0);
	assert_int_equal(page.has_more, count > PAGE_LIMIT);
	assert_int_equal(page.count, count < PAGE_LIMIT ? count : PAGE_LIMIT);
	assert_memory_equal(ids, expected, page.count * sizeof(ids[0]));
}

static void
check_all(struct stage *stage)
{
	struct member found;
	uint32_t unread = 0;
	bool is_open = stage->is_in;

	assert_int_equal(member_get(&stage->box.txn, GROUP, USER, &found), 0);
	assert_memory_equal(&found.row, &stage->member.row, sizeof(found.row));
	for (size_t i = 0; i < stage->count; i++)
		assert_int_equal(
		    member_sees(&found, stage->ids[i]), stage->sees[i]);
	for (size_t i = stage->unread_from; i < stage->count; i++)
		unread += stage->sees[i] && !stage->is_own[i];
	assert_int_equal(member_is_in(&found), is_open);
	assert_int_equal(member_unread(&found, stage->conv.count), unread);
	for (size_t from = 0; from <= stage->count; from += 5) {
		check_page(stage, &stage->box.txn, false, from);
		check_page(stage, &stage->box.txn, true, from);
	}
}

/* Any of the messages, also of those that he must not see. */
static void
read_one(struct stage *stage)
{
	size_t at = box_random(&stage->random) % stage->count;
	int rc = member_mark_read(
	    &stage->box.txn, &stage->conv, &stage->member, stage->ids[at]);

	if (!stage->sees[at]) {
		assert_true(rc == ERR_NOT_FOUND || rc == ERR_DUPLICATE);
		return;
	}
	if (rc == ERR_DUPLICATE)
		return;
	assert_int_equal(rc, 0);
	assert_int_equal(member_put(&stage->box.txn, &stage->member), 0);
	if (at + 1 > stage->unread_from)
		stage->unread_from = at + 1;
}

static void
what_one_sees_is_what_was_said_while_one_was_there(void **state)
{
	struct stage *stage = stage_open();

	(void)state;
	say(stage, false);
	come(stage);
	while (stage->count < 300) {
		switch (box_random(&stage->random) % 8) {
		case 0:
			if (stage->is_in) {
				go(stage);
				break;
			}
			if (stage->member.row.span_count == MEMBER_SPANS_MAX)
				model_forget(
				    stage, stage->member.spans[0].upto);
			come(stage);
			break;
		case 1:
		case 2:
			read_one(stage);
			break;
		default:
			say(stage, stage->is_in &&
				       box_random(&stage->random) % 4 == 0);
		}
		if (stage->count % 16 == 0)
			check_all(stage);
	}
	check_all(stage);
	assert_int_equal(stage->member.row.span_count, MEMBER_SPANS_MAX);
	stage_close(stage);
}

static void
an_event_is_no_message_to_be_read(void **state)
{
	struct stage *stage = stage_open();
	struct log_message event = {
	    .sender = OTHER,
	    .client_time_ms = INT64_MIN,
	    .kind = LOG_EVENT,
	    .body = {"{}", 2},
	};

	(void)state;
	come(stage);
	event.id = next_id(stage);
	event.conv = stage->conv.key;
	assert_int_equal(log_append(&stage->box.txn, &event), 0);
	say(stage, false);
	assert_int_equal(member_mark_read(&stage->box.txn, &stage->conv,
			     &stage->member, event.id),
	    ERR_NOT_FOUND);
	assert_int_equal(member_mark_read(&stage->box.txn, &stage->conv,
			     &stage->member, stage->ids[0]),
	    0);
	assert_int_equal(member_mark_read(&stage->box.txn, &stage->conv,
			     &stage->member, stage->ids[0]),
	    ERR_DUPLICATE);
	stage_close(stage);
}

/* ---- rows ---- */

static void
rows_are_what_was_put(void **state)
{
	struct group_made made = {GROUP, 17, 18};
	uint8_t hash[16] = {1, 2, 3};
	struct stage *stage = stage_open();
	struct txn *txn = &stage->box.txn;
	struct group group = {.id = UINT64_MAX,
	    .owner = 1,
	    .changed = 2,
	    .member_count = GROUP_MEMBERS_MAX,
	    .name_len = GROUP_NAME_MAX};
	struct group_made found_made;
	struct group found;
	struct member member;

	(void)state;
	memset(group.name, 'n', sizeof(group.name));
	assert_int_equal(group_get(txn, group.id, &found), ERR_NOT_FOUND);
	assert_int_equal(group_put(txn, &group), 0);
	assert_int_equal(group_get(txn, group.id, &found), 0);
	assert_memory_equal(&found, &group, sizeof(group));
	assert_int_equal(member_get(txn, GROUP, USER, &member), ERR_NOT_FOUND);
	assert_int_equal(
	    group_made_get(txn, USER, hash, &found_made), ERR_NOT_FOUND);
	assert_int_equal(group_made_put(txn, USER, hash, &made), 0);
	assert_int_equal(group_made_get(txn, USER, hash, &found_made), 0);
	assert_memory_equal(&found_made, &made, sizeof(made));
	assert_int_equal(
	    group_made_get(txn, OTHER, hash, &found_made), ERR_NOT_FOUND);
	stage_close(stage);
}

/* Whatever the length of a row: it is the right one, or no row. */
static void
rows_of_other_lengths_are_no_rows(void **state)
{
	struct stage *stage = stage_open();
	struct txn *txn = &stage->box.txn;
	uint8_t value[512 + 64] = {0};
	uint64_t id = GROUP;
	uint8_t key[16];
	struct member member;
	struct group group;
	int good = 0;

	(void)state;
	key_u64(key, GROUP);
	key_u64(key + 8, USER);
	value[offsetof(struct member_row, span_count)] = 3;
	for (size_t len = 0; len < 512; len++) {
		assert_int_equal(
		    txn_put(txn, DBI_member, key, sizeof(key), value, len), 0);
		good += member_get(txn, GROUP, USER, &member) == 0;
		if (len == sizeof(struct group_row))
			continue; /* without a name it is one */
		assert_int_equal(
		    txn_put(txn, DBI_groups, &id, sizeof(id), value + 64, len),
		    0);
		assert_int_equal(group_get(txn, id, &group), ERR_CORRUPT);
	}
	assert_int_equal(good, 1);
	for (unsigned n = 0; n < 256; n++) {
		value[offsetof(struct member_row, span_count)] = (uint8_t)n;
		value[offsetof(struct member_row, role)] = (uint8_t)(255 - n);
		assert_int_equal(
		    txn_put(txn, DBI_member, key, sizeof(key), value, 512), 0);
		assert_int_equal(
		    member_get(txn, GROUP, USER, &member), ERR_CORRUPT);
	}
	stage_close(stage);
}

static void
a_message_is_for_all_members_or_for_none(void **state)
{
	struct stage *stage = stage_open();
	uint64_t users[GROUP_MEMBERS_MAX];
	struct member member;
	struct group group;
	size_t count;

	(void)state;
	for (uint64_t user = 1; user <= GROUP_MEMBERS_MAX; user++) {
		member = (struct member){.group = GROUP, .user = user};
		member_join(&member, user == 1 ? ROLE_OWNER : ROLE_MEMBER,
		    next_id(stage), 0);
		assert_int_equal(
		    member_put_new(&stage->box.txn, CONV_GROUP, &member), 0);
	}
	put_group(stage, 1, GROUP_MEMBERS_MAX);
	assert_int_equal(group_get(&stage->box.txn, GROUP, &group), 0);
	assert_int_equal(
	    group_users(&stage->box.txn, &group, 0, users, &count), 0);
	assert_int_equal(count, GROUP_MEMBERS_MAX);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(users[i], i + 1);
	/* Of a message between the comings of two of them. */
	assert_int_equal(member_get(&stage->box.txn, GROUP, 500, &member), 0);
	assert_int_equal(group_users(&stage->box.txn, &group,
			     member.spans[0].from + 1, users, &count),
	    0);
	assert_int_equal(count, 500);
	assert_int_equal(users[499], 500);
	group.member_count--;
	assert_int_equal(group_users(&stage->box.txn, &group, 0, users, &count),
	    ERR_CORRUPT);
	group.member_count += 2;
	assert_int_equal(group_users(&stage->box.txn, &group, 0, users, &count),
	    ERR_CORRUPT);
	stage_close(stage);
}

/* ---- verify ---- */

struct found {
	enum store_dbi dbi;
	size_t count;
};

static void
note(void *ctx, enum store_dbi dbi, struct blob key, const char *what)
{
	struct found *found = ctx;

	(void)key;
	(void)what;
	found->dbi = dbi;
	found->count++;
}

/* @return the table of the last finding, DBI_END: none */
static enum store_dbi
verdict(struct stage *stage)
{
	struct found found = {.dbi = DBI_END};
	struct verify_result result;

	box_commit(&stage->box);
	assert_int_equal(
	    verify_store(stage->box.main, NULL, note, &found, &result), 0);
	assert_int_equal(result.findings, found.count);
	box_begin(&stage->box);
	return found.dbi;
}

static struct stage *
sound_stage(void)
{
	struct stage *stage = stage_open();
	struct member other = {.group = GROUP, .user = OTHER};
	const struct meta_rings rings = {.last_id = UINT64_MAX};
	const struct group_made made = {.group = GROUP};
	const uint8_t hash[16] = {0};

	come(stage);
	member_join(&other, ROLE_OWNER, next_id(stage), 0);
	assert_int_equal(
	    member_put_new(&stage->box.txn, CONV_GROUP, &other), 0);
	say(stage, false);
	say(stage, true);
	put_group(stage, OTHER, 2);
	assert_int_equal(
	    group_made_put(&stage->box.txn, OTHER, hash, &made), 0);
	assert_int_equal(meta_rings_put(&stage->box.txn, &rings), 0);
	assert_int_equal(verdict(stage), DBI_END);
	return stage;
}

static void
what_does_not_fit_together_is_found(void **state)
{
	struct stage *stage = sound_stage();
	struct txn *txn = &stage->box.txn;
	struct member good = stage->member;
	struct member bad = good;
	const struct group_made made = {.group = GROUP + 1};
	const uint8_t hash[16] = {7};

	(void)state;
	put_group(stage, OTHER, 3);
	assert_int_equal(verdict(stage), DBI_groups);
	put_group(stage, USER, 2);
	assert_int_not_equal(verdict(stage), DBI_END);
	put_group(stage, 0, 2);
	assert_int_not_equal(verdict(stage), DBI_END);
	put_group(stage, OTHER, 2);
	assert_int_equal(verdict(stage), DBI_END);

	bad.row.role = ROLE_OWNER;
	assert_int_equal(member_put(txn, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	bad = good;
	bad.row.role = ROLE_NONE; /* and still there, as its times say */
	assert_int_equal(member_put(txn, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	bad = good;
	bad.spans[0].from = 0;
	assert_int_equal(member_put(txn, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	assert_int_equal(member_put(txn, &good), 0);
	assert_int_equal(verdict(stage), DBI_END);

	bad = good;
	bad.group = GROUP + 1;
	assert_int_equal(member_put(txn, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	stage_close(stage);

	stage = sound_stage();
	bad = good;
	bad.user = OTHER + 1; /* in nobody's list */
	bad.row.role = ROLE_NONE;
	bad.spans[0].upto = bad.spans[0].from + 1;
	assert_int_equal(member_put(&stage->box.txn, &bad), 0);
	assert_int_equal(verdict(stage), DBI_member);
	stage_close(stage);

	stage = sound_stage();
	assert_int_equal(group_made_put(&stage->box.txn, USER, hash, &made), 0);
	assert_int_equal(verdict(stage), DBI_groupmade);
	stage_close(stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		what_one_sees_is_what_was_said_while_one_was_there),
	    cmocka_unit_test(an_event_is_no_message_to_be_read),
	    cmocka_unit_test(rows_are_what_was_put),
	    cmocka_unit_test(rows_of_other_lengths_are_no_rows),
	    cmocka_unit_test(a_message_is_for_all_members_or_for_none),
	    cmocka_unit_test(what_does_not_fit_together_is_found),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("store_group", tests, NULL, NULL);
}
