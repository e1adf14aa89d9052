/*
 * store_outbox_kinds.c - unit test of shm/outbox_entry.c: every kind as bytes
 * and back, at its limits, cut anywhere; groups and calls in the queue, dead,
 * tried again.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/outbox_priv.h"
#include "t/unit/outbox_box.h"

#define KINDS (OUTBOX_KIND_END - 1) /* all but DAMAGED */

static char name[GROUP_NAME_MAX];
static struct outbox_part parts[OUTBOX_PARTS_MAX];

static struct outbox_entry
call_of(uint8_t count)
{
	return (struct outbox_entry){
	    .kind = OUTBOX_CALL,
	    .call = {.id = 11,
		.user = 12,
		.created_ms = 13,
		.ended_ms = 14,
		.kind = 1,
		.outcome = 2,
		.part_count = count},
	    .text = {parts, count * sizeof(parts[0])},
	};
}

/* As large as it can be. */
static struct outbox_entry
largest(enum outbox_kind kind)
{
	struct outbox_entry entry = {.kind = kind};

	switch (kind) {
	case OUTBOX_STATUS:
		entry.user = 4;
		entry.status = 3;
		entry.text = (struct blob){big_text, STATUS_TEXT_MAX};
		break;
	case OUTBOX_GROUP:
		entry.group = 5;
		entry.event = UINT64_MAX;
		entry.text = (struct blob){name, sizeof(name)};
		break;
	case OUTBOX_MEMBER:
		entry.group = 5;
		entry.event = 6;
		entry.user = USER_ID_MAX;
		entry.role = ROLE_OWNER;
		break;
	case OUTBOX_CALL:
		return call_of(OUTBOX_PARTS_MAX);
	case OUTBOX_DELIVERED:
	case OUTBOX_READ:
		memset(entry.conv.bytes, 0xa5, sizeof(entry.conv.bytes));
		entry.user = 8;
		/* fallthrough */
	default:
		entry.message_id = MESSAGE_ID_MAX;
	}
	return entry;
}

static void
assert_same(const struct outbox_entry *a, const struct outbox_entry *b)
{
	assert_entry(a, b);
	assert_int_equal(a->group, b->group);
	assert_int_equal(a->event, b->event);
	assert_int_equal(a->role, b->role);
	assert_memory_equal(&a->call, &b->call, sizeof(a->call));
}

static int
open_kinds(void **state)
{
	memset(name, 'n', sizeof(name));
	for (size_t i = 0; i < OUTBOX_PARTS_MAX; i++)
		parts[i] = (struct outbox_part){.user = i + 1,
		    .joined_ms = (int64_t)i,
		    .left_ms = -(int64_t)i,
		    .outcome = (uint8_t)(i % 6)};
	return stage_open(state);
}

static void
every_kind_survives_its_bytes(void **state)
{
	uint8_t data[OUTBOX_ENTRY_MAX];
	struct record_cursor cursor;

	(void)state;
	for (int kind = 1; kind <= KINDS; kind++) {
		struct outbox_entry in = largest((enum outbox_kind)kind);
		size_t len = outbox_encode(data, &in);

		assert_true(len > 0 && len <= sizeof(data));
		/* cut anywhere it is none */
		for (size_t cut = 0; cut <= len; cut++) {
			struct outbox_entry out = {.number = 1};
			uint8_t *bytes = malloc(cut > 0 ? cut : 1);

			assert_non_null(bytes);
			memcpy(bytes, data, cut);
			record_cursor_init(&cursor, bytes, cut);
			assert_int_equal(
			    outbox_decode(&cursor, &out), cut == len);
			if (cut == len)
				assert_same(&out, &in);
			free(bytes);
		}
	}
}

static size_t
len_of(const struct outbox_entry *entry)
{
	uint8_t data[OUTBOX_ENTRY_MAX];

	return outbox_encode(data, entry);
}

static void
what_is_beyond_its_limits_is_no_entry(void **state)
{
	struct outbox_entry entry = largest(OUTBOX_GROUP);

	(void)state;
	entry.text.len = GROUP_NAME_MAX + 1;
	assert_int_equal(len_of(&entry), 0);
	entry = largest(OUTBOX_MEMBER);
	entry.role = ROLE_END;
	assert_int_equal(len_of(&entry), 0);
	entry = call_of(0);
	assert_int_equal(len_of(&entry), 0);
	entry = call_of(OUTBOX_PARTS_MAX);
	entry.call.part_count++;
	assert_int_equal(len_of(&entry), 0);
	entry = call_of(2);
	entry.text.len--;
	assert_int_equal(len_of(&entry), 0);
}

/* From the disk comes what nobody here would write. */
static void
bytes_beyond_limits_are_no_entry(void **state)
{
	static const struct {
		enum outbox_kind kind;
		size_t at;
		uint8_t value;
	} changes[] = {
	    {OUTBOX_MEMBER, 1 + 3 * sizeof(uint64_t), ROLE_END},
	    {OUTBOX_CALL, 1 + offsetof(struct outbox_call, part_count), 0},
	    {OUTBOX_CALL, 1 + offsetof(struct outbox_call, part_count), 65},
	    {OUTBOX_GROUP, 1 + 2 * sizeof(uint64_t), GROUP_NAME_MAX + 1},
	    {OUTBOX_GROUP, 0, OUTBOX_KIND_END},
	    {OUTBOX_GROUP, 0, OUTBOX_DAMAGED},
	    {OUTBOX_GROUP, 0, 0xff},
	};
	/* room for what such a length would lead to */
	uint8_t data[2 * OUTBOX_ENTRY_MAX] = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct outbox_entry entry = largest(changes[i].kind);
		struct outbox_entry out = {.number = 1};
		struct record_cursor cursor;

		assert_true(outbox_encode(data, &entry) > 0);
		data[changes[i].at] = changes[i].value;
		record_cursor_init(&cursor, data, sizeof(data));
		assert_false(outbox_decode(&cursor, &out));
	}
}

static bool
take_kinds(void *ctx, const struct outbox_entry *entry)
{
	struct outbox_entry expected =
	    largest((enum outbox_kind)((entry->number - 1) % KINDS + 1));
	uint64_t *count = ctx;

	assert_int_equal(entry->number, ++*count);
	assert_same(entry, &expected);
	return true;
}

static void
all_kinds_lie_in_one_queue(void **state)
{
	struct stage *stage = *state;
	uint64_t count = 0;

	for (int i = 0; i < 10 * KINDS; i++) {
		struct outbox_entry entry =
		    largest((enum outbox_kind)(i % KINDS + 1));

		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
	}
	next_txn(stage);
	assert_int_equal(
	    outbox_each(&stage->box.txn, 1, 1, take_kinds, &count), 0);
	assert_int_equal(count, 10 * KINDS);
}

static bool
take_dead(void *ctx, const struct outbox_dead *dead)
{
	struct outbox_entry expected =
	    largest((enum outbox_kind)(OUTBOX_GROUP + dead->entry.number - 1));
	uint64_t *count = ctx;

	++*count;
	assert_same(&dead->entry, &expected);
	return true;
}

static bool
take_again(void *ctx, const struct outbox_entry *entry)
{
	struct outbox_entry expected =
	    largest((enum outbox_kind)(OUTBOX_GROUP + entry->number - 4));
	uint64_t *count = ctx;

	++*count;
	assert_same(entry, &expected);
	return true;
}

/* All that is to be known lies in them: they keep nothing of the log. */
static void
they_are_refused_and_tried_again_like_others(void **state)
{
	struct stage *stage = *state;
	struct outbox_range range = {.first = 1, .last = 3, .limit = 10};
	uint64_t before = 0;
	uint64_t floor = 0;
	uint64_t seen = 0;
	size_t count;

	for (int kind = OUTBOX_GROUP; kind <= OUTBOX_CALL; kind++) {
		struct outbox_entry entry = largest((enum outbox_kind)kind);

		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
	}
	next_txn(stage);
	assert_int_equal(outbox_floor(&stage->box.txn, &before), 0);
	for (uint64_t n = 1; n <= 3; n++)
		reject(stage, n);
	assert_int_equal(outbox_done(&stage->outbox, 3), 0);
	sweep(stage, 10);
	next_txn(stage);
	/* no message: no bound; dead_low is 0 as long as there is none */
	assert_int_equal(stage->outbox.state.dead_low, 0);
	assert_int_equal(
	    outbox_each_dead(&stage->box.txn, 1, 1, take_dead, &seen), 0);
	assert_int_equal(seen, 3);
	assert_int_equal(
	    outbox_retry(&stage->box.txn, &stage->outbox, &range, &count), 0);
	assert_int_equal(count, 3);
	next_txn(stage);
	assert_int_equal(outbox_floor(&stage->box.txn, &floor), 0);
	assert_int_equal(floor, before);
	seen = 0;
	assert_int_equal(
	    outbox_each(&stage->box.txn, 1, 4, take_again, &seen), 0);
	assert_int_equal(seen, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		every_kind_survives_its_bytes, open_kinds, stage_close),
	    cmocka_unit_test_setup_teardown(
		what_is_beyond_its_limits_is_no_entry, open_kinds, stage_close),
	    cmocka_unit_test_setup_teardown(
		bytes_beyond_limits_are_no_entry, open_kinds, stage_close),
	    cmocka_unit_test_setup_teardown(
		all_kinds_lie_in_one_queue, open_kinds, stage_close),
	    cmocka_unit_test_setup_teardown(
		they_are_refused_and_tried_again_like_others, open_kinds,
		stage_close),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
