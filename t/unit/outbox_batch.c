/*
 * outbox_batch.c - unit test of src/directory/outbox_batch.c: limits, who is
 * in a conversation, rows that are gone or damaged.
 */
#include "config.h"

#include "directory/outbox_batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "shm/conv.h"
#include "t/unit/store_box.h"

#define QUEUE 9

struct stage {
	struct store_box box;
	struct outbox outbox;
	struct batch *batch;
	uint64_t last_id;
	char *body; /* of RECORD size and more */
};

static int
stage_open(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	stage->body = calloc(1, BATCH_BYTES_MAX);
	assert_non_null(stage->body);
	for (size_t i = 0; i < BATCH_BYTES_MAX; i++)
		stage->body[i] = (char)(i * 31 % 251);
	stage->batch = batch_new();
	box_open(&stage->box);
	box_begin(&stage->box);
	assert_int_equal(
	    outbox_load(&stage->box.txn, QUEUE, &stage->outbox), 0);
	outbox_begin(&stage->outbox, 77);
	*state = stage;
	return 0;
}

static int
stage_close(void **state)
{
	struct stage *stage = *state;

	batch_free(&stage->batch);
	box_close(&stage->box);
	free(stage->body);
	free(stage);
	return 0;
}

/* A message whose body begins at its id in the pattern. */
static void
put(struct stage *stage, const struct conv_key *conv, size_t len)
{
	struct outbox_entry entry = {
	    .kind = OUTBOX_MESSAGE, .message_id = ++stage->last_id};
	struct log_message message = {
	    .id = stage->last_id,
	    .conv = *conv,
	    .sender = 1,
	    .body = {stage->body + stage->last_id, len},
	    .type = {"text", 4},
	    .client_id = {"c", 1},
	    .attachment = {"{}", 2},
	};

	assert_int_equal(log_append(&stage->box.txn, &message), 0);
	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
}

static struct conv_key
direct(uint64_t a, uint64_t b)
{
	const uint64_t pair[2] = {a, b};
	struct conv_key key;

	conv_key_make(pair, a == b ? 1 : 2, &key);
	return key;
}

static void
commit(struct stage *stage)
{
	assert_int_equal(outbox_flush(&stage->box.txn, &stage->outbox), 0);
	box_commit(&stage->box);
	outbox_committed(&stage->outbox);
}

static void
read_from(struct stage *stage, uint64_t from)
{
	assert_int_equal(
	    batch_read(stage->batch, stage->box.main, QUEUE, from), 0);
}

static void
assert_message(struct stage *stage, const struct batch_entry *entry, size_t len)
{
	const struct log_message *message = &entry->message;

	assert_false(entry->is_refused);
	assert_int_equal(message->id, entry->entry.message_id);
	assert_int_equal(message->body.len, len);
	assert_memory_equal(message->body.data, stage->body + message->id, len);
	assert_int_equal(message->type.len, 4);
	assert_memory_equal(message->type.data, "text", 4);
	assert_memory_equal(message->client_id.data, "c", 1);
	assert_memory_equal(message->attachment.data, "{}", 2);
}

static void
an_empty_one_is_an_empty_batch(void **state)
{
	struct stage *stage = *state;

	commit(stage);
	read_from(stage, 0);
	assert_int_equal(stage->batch->count, 0);
	assert_false(stage->batch->has_more);
	read_from(stage, 1000);
	assert_int_equal(stage->batch->count, 0);
}

static void
a_batch_has_a_largest_count(void **state)
{
	struct stage *stage = *state;
	struct conv_key key = direct(1, 2);

	for (int i = 0; i < BATCH_ENTRIES_MAX + 1; i++)
		put(stage, &key, 10);
	commit(stage);
	read_from(stage, 0);
	/* or less, where the slice of time was over before */
	assert_true(stage->batch->count <= BATCH_ENTRIES_MAX);
	assert_true(stage->batch->has_more);
	while (stage->batch->last <= BATCH_ENTRIES_MAX) {
		uint64_t next = stage->batch->last + 1;

		for (size_t i = 0; i < stage->batch->count; i++)
			assert_message(stage, &stage->batch->entries[i], 10);
		read_from(stage, next);
		assert_true(stage->batch->count > 0);
		assert_int_equal(stage->batch->entries[0].entry.number, next);
	}
	assert_false(stage->batch->has_more);
}

static void
a_batch_has_a_largest_size(void **state)
{
	struct stage *stage = *state;
	struct conv_key key = direct(1, 2);
	size_t len = 128 * 1024;
	uint64_t next = 1;

	for (int i = 0; i < 20; i++)
		put(stage, &key, len);
	commit(stage);
	while (next <= 20) {
		read_from(stage, next);
		assert_true(stage->batch->count >= 1);
		assert_true(stage->batch->count <= 7);
		assert_int_equal(
		    stage->batch->has_more, stage->batch->last < 20);
		for (size_t i = 0; i < stage->batch->count; i++) {
			assert_int_equal(
			    stage->batch->entries[i].entry.number, next + i);
			assert_message(stage, &stage->batch->entries[i], len);
		}
		next = stage->batch->last + 1;
	}
}

static void
members_are_all_of_the_conversation(void **state)
{
	uint64_t many[MEMBERS_MAX];
	struct stage *stage = *state;
	struct conv_key keys[3] = {direct(5, 9), direct(7, 7)};
	const struct batch_entry *entries = stage->batch->entries;
	struct conv conv;

	for (uint64_t i = 0; i < MEMBERS_MAX; i++)
		many[i] = 100 + i;
	conv_key_make(many, MEMBERS_MAX, &keys[2]);
	assert_int_equal(
	    conv_create(&stage->box.txn, &keys[2], many, MEMBERS_MAX, &conv),
	    0);
	assert_int_equal(conv_put(&stage->box.txn, &conv), 0);
	for (int i = 0; i < 3; i++)
		put(stage, &keys[i], 3);
	commit(stage);
	read_from(stage, 0);
	assert_int_equal(stage->batch->count, 3);
	assert_int_equal(entries[0].member_count, 2);
	assert_int_equal(entries[0].members[0], 5);
	assert_int_equal(entries[0].members[1], 9);
	assert_int_equal(entries[1].member_count, 1);
	assert_int_equal(entries[1].members[0], 7);
	assert_int_equal(entries[2].member_count, MEMBERS_MAX);
	assert_memory_equal(entries[2].members, many, sizeof(many));
}

/* Entries of their own tell of who has a seat. */
static void
of_groups_and_calls_no_members_are_read(void **state)
{
	static const enum conv_kind kinds[] = {CONV_GROUP, CONV_COLLABORATION};
	const struct batch_entry *entries;
	struct stage *stage = *state;

	/* without a row of their conversation, which nobody needs */
	for (int i = 0; i < 2; i++) {
		struct conv_key key;

		conv_key_of(kinds[i], 40, &key);
		put(stage, &key, 3);
	}
	commit(stage);
	read_from(stage, 0);
	entries = stage->batch->entries;
	assert_int_equal(stage->batch->count, 2);
	for (int i = 0; i < 2; i++) {
		assert_message(stage, &entries[i], 3);
		assert_int_equal(entries[i].member_count, 0);
		assert_null(entries[i].members);
	}
}

static void
what_a_group_or_a_call_was_is_copied(void **state)
{
	const struct outbox_part part = {
	    .user = 7, .joined_ms = 1, .left_ms = 2, .outcome = 3};
	struct outbox_entry puts[] = {
	    {.kind = OUTBOX_GROUP, .group = 5, .event = 6, .text = {"Ward", 4}},
	    {.kind = OUTBOX_MEMBER,
		.group = 5,
		.event = 6,
		.user = 7,
		.role = ROLE_ADMIN},
	    {.kind = OUTBOX_CALL,
		.call = {.id = 8, .user = 7, .part_count = 1},
		.text = {&part, sizeof(part)}},
	};
	const struct batch_entry *entries;
	struct stage *stage = *state;
	struct outbox_part copy;

	for (int i = 0; i < 3; i++)
		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &puts[i]), 0);
	commit(stage);
	read_from(stage, 0);
	entries = stage->batch->entries;
	assert_int_equal(stage->batch->count, 3);
	assert_int_equal(entries[0].entry.text.len, 4);
	assert_memory_equal(entries[0].entry.text.data, "Ward", 4);
	assert_int_equal(entries[1].entry.role, ROLE_ADMIN);
	assert_int_equal(entries[1].entry.event, 6);
	assert_int_equal(entries[2].entry.call.id, 8);
	/* a copy: it outlives the transaction */
	assert_true(
	    (const uint8_t *)entries[2].entry.text.data >= stage->batch->bytes);
	copy = outbox_part_get(&entries[2].entry, 0);
	assert_memory_equal(&copy, &part, sizeof(part));
}

static void
what_is_no_message_is_copied(void **state)
{
	struct stage *stage = *state;
	struct outbox_entry status = {.kind = OUTBOX_STATUS,
	    .user = 4,
	    .status = 2,
	    .text = {stage->body, STATUS_TEXT_MAX}};
	struct outbox_entry receipt = {
	    .kind = OUTBOX_READ, .user = 6, .message_id = 8};
	const struct batch_entry *entries = stage->batch->entries;

	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &status), 0);
	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &receipt), 0);
	commit(stage);
	read_from(stage, 0);
	assert_int_equal(stage->batch->count, 2);
	assert_int_equal(entries[0].entry.user, 4);
	assert_int_equal(entries[0].entry.at_ms, 77);
	assert_int_equal(entries[0].entry.text.len, STATUS_TEXT_MAX);
	assert_memory_equal(
	    entries[0].entry.text.data, stage->body, STATUS_TEXT_MAX);
	/* a copy: it outlives the transaction */
	assert_true(
	    (const uint8_t *)entries[0].entry.text.data >= stage->batch->bytes);
	assert_int_equal(entries[1].entry.kind, OUTBOX_READ);
	assert_int_equal(entries[1].entry.message_id, 8);
}

static void
damage(struct stage *stage, enum store_dbi dbi, const void *key, size_t key_len)
{
	uint8_t row[8192];
	struct blob value;

	box_begin(&stage->box);
	assert_int_equal(
	    txn_get(&stage->box.txn, dbi, key, key_len, &value), 0);
	memcpy(row, value.data, value.len);
	row[value.len / 2] ^= 1;
	assert_int_equal(
	    txn_put(&stage->box.txn, dbi, key, key_len, row, value.len), 0);
	box_commit(&stage->box);
}

/* Each entry is given the row as it is when it is read. */
static void
of_what_was_changed_the_row_is_as_it_is_now(void **state)
{
	static const enum outbox_kind kinds[] = {
	    OUTBOX_EDIT, OUTBOX_DELETE, OUTBOX_EDIT, OUTBOX_DELETE};
	const struct batch_entry *entries;
	struct stage *stage = *state;
	struct conv_key key = direct(1, 2);
	struct log_message row = {.id = 1, .conv = key, .sender = 1};
	uint64_t gone = 2;

	put(stage, &key, 100);
	put(stage, &key, 100);
	for (size_t i = 0; i < 4; i++) {
		struct outbox_entry entry = {
		    .kind = kinds[i], .message_id = 1 + i / 2};

		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
	}
	row.flags = LOG_DELETED;
	row.changed_ms = 5;
	assert_int_equal(log_rewrite(&stage->box.txn, &row), 0);
	assert_int_equal(
	    txn_del(&stage->box.txn, DBI_log, &gone, sizeof(gone)), 0);
	commit(stage);
	read_from(stage, 0);
	entries = stage->batch->entries;
	assert_int_equal(stage->batch->count, 6);
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			continue;
		assert_false(entries[i].is_refused);
		assert_int_equal(entries[i].message.id, 1);
		assert_int_equal(entries[i].message.flags, LOG_DELETED);
		assert_int_equal(entries[i].message.body.len, 0);
		assert_int_equal(entries[i].member_count, 2);
	}
	/* the second is gone: what was said of it is refused, but for its end
	 */
	assert_true(entries[1].is_refused);
	assert_true(entries[4].is_refused);
	assert_false(entries[5].is_refused);
	assert_int_equal(entries[5].entry.kind, OUTBOX_DELETE);
	assert_int_equal(entries[5].message.id, 2);
	assert_int_equal(entries[5].message.flags, LOG_DELETED);
	assert_int_equal(stage->batch->refusal_count, 2);
}

static void
rows_that_are_gone_or_damaged_are_refused(void **state)
{
	struct stage *stage = *state;
	struct conv_key nobodys = {{0x80}}; /* of many, without a row */
	struct conv_key key = direct(1, 2);
	struct batch *batch = stage->batch;
	uint64_t id = 2;

	for (int i = 0; i < 4; i++)
		put(stage, i == 3 ? &nobodys : &key, 100);
	commit(stage);
	damage(stage, DBI_log, &id, sizeof(id));
	box_begin(&stage->box);
	id = 3;
	assert_int_equal(txn_del(&stage->box.txn, DBI_log, &id, sizeof(id)), 0);
	box_commit(&stage->box);
	read_from(stage, 0);
	assert_int_equal(batch->count, 4);
	assert_message(stage, &batch->entries[0], 100);
	for (uint64_t i = 1; i < 4; i++) {
		assert_true(batch->entries[i].is_refused);
		assert_int_equal(batch->refusals[i - 1].number, i + 1);
	}
	assert_int_equal(batch->refusal_count, 3);
	assert_int_equal(batch->refusals[0].code, ERR_CORRUPT);
	assert_int_equal(batch->refusals[1].code, ERR_NOT_FOUND);
	/* what a back end adds goes away with its failure, this does not */
	batch_refuse(batch, &batch->entries[0], 5, "no");
	batch_refuse(batch, &batch->entries[1], 5, "no");
	assert_int_equal(batch->refusal_count, 4);
	batch_write_again(batch);
	assert_int_equal(batch->refusal_count, 3);
	assert_false(batch->entries[0].is_refused);
	for (size_t i = 1; i < 4; i++)
		assert_true(batch->entries[i].is_refused);
}

static void
a_damaged_block_becomes_one_refusal(void **state)
{
	uint8_t key[10] = {QUEUE, OUTBOX_WAITING, [9] = 4};
	struct stage *stage = *state;
	struct conv_key conv = direct(1, 2);
	struct batch *batch = stage->batch;

	for (int block = 0; block < 3; block++) {
		put(stage, &conv, 1);
		put(stage, &conv, 1);
		commit(stage);
		box_begin(&stage->box);
		outbox_begin(&stage->outbox, 77);
	}
	txn_end(&stage->box.txn);
	damage(stage, DBI_outbox, key, sizeof(key));
	read_from(stage, 0);
	assert_int_equal(batch->count, 5);
	assert_int_equal(batch->last, 6);
	assert_false(batch->has_more);
	assert_int_equal(batch->entries[2].entry.kind, OUTBOX_DAMAGED);
	assert_int_equal(batch->entries[2].entry.first, 3);
	assert_true(batch->entries[2].is_refused);
	assert_int_equal(batch->refusal_count, 1);
	assert_int_equal(batch->refusals[0].number, 4);
	assert_int_equal(batch->refusals[0].code, ERR_CORRUPT);
	for (size_t i = 0; i < 5; i++) {
		if (i != 2)
			assert_message(stage, &batch->entries[i], 1);
	}
	read_from(stage, 3);
	assert_int_equal(batch->count, 3);
	read_from(stage, 5);
	assert_int_equal(batch->count, 2);
	assert_int_equal(batch->entries[0].entry.number, 5);
	assert_int_equal(batch->refusal_count, 0);
}

static void
a_long_sentence_is_cut(void **state)
{
	char text[OUTBOX_ERROR_MAX + 2];
	struct stage *stage = *state;
	struct batch *batch = stage->batch;
	struct conv_key conv = direct(1, 2);

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 100; i++)
		put(stage, &conv, 1);
	commit(stage);
	read_from(stage, 0);
	for (size_t i = 0; i < 100; i++)
		batch_refuse(batch, &batch->entries[i], (int)i,
		    text + sizeof(text) - 1 - i);
	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(batch->refusals[i].number, i + 1);
		assert_int_equal(batch->refusals[i].error_len, i);
	}
	batch_write_again(batch);
	batch_refuse(batch, &batch->entries[0], 1, text);
	assert_int_equal(batch->refusal_count, 1);
	assert_int_equal(batch->refusals[0].error_len, OUTBOX_ERROR_MAX);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, stage_open, stage_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(an_empty_one_is_an_empty_batch),
	    TEST(a_batch_has_a_largest_count),
	    TEST(a_batch_has_a_largest_size),
	    TEST(members_are_all_of_the_conversation),
	    TEST(of_groups_and_calls_no_members_are_read),
	    TEST(what_a_group_or_a_call_was_is_copied),
	    TEST(what_is_no_message_is_copied),
	    TEST(of_what_was_changed_the_row_is_as_it_is_now),
	    TEST(rows_that_are_gone_or_damaged_are_refused),
	    TEST(a_damaged_block_becomes_one_refusal),
	    TEST(a_long_sentence_is_cut),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
