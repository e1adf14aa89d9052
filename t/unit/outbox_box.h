/*
 * outbox_box.h - a store with an outbox, and entries that tests can tell by
 * their numbers.
 */
#ifndef T_UNIT_OUTBOX_BOX_H
#define T_UNIT_OUTBOX_BOX_H

#include "shm/outbox.h"
#include "t/unit/store_box.h"

#define BIG_LEN (1 + 8 + 1 + 2 + STATUS_TEXT_MAX) /* largest entry */
#define MSG_LEN (1 + 8)

struct stage {
	struct store_box box;
	struct outbox outbox;
};

/* What the entry of a number must be, whatever its queue. */
static char big_text[STATUS_TEXT_MAX];

static inline struct outbox_entry
entry_of(uint64_t number)
{
	struct outbox_entry entry = {
	    .kind = (enum outbox_kind)(OUTBOX_MESSAGE + number % 4),
	    .message_id = number * 7 + 1,
	};

	if (entry.kind == OUTBOX_MESSAGE)
		return entry;
	entry.user = number * 3 + 1;
	if (entry.kind == OUTBOX_STATUS) {
		entry.message_id = 0;
		entry.status = (uint32_t)(number % 5);
		entry.text = (struct blob){big_text, number % 257};
		return entry;
	}
	memset(entry.conv.bytes, (int)number, sizeof(entry.conv.bytes));
	return entry;
}

static inline void
assert_entry(
    const struct outbox_entry *entry, const struct outbox_entry *expected)
{
	assert_int_equal(entry->kind, expected->kind);
	assert_int_equal(entry->message_id, expected->message_id);
	assert_int_equal(entry->user, expected->user);
	assert_int_equal(entry->status, expected->status);
	assert_true(conv_key_equal(&entry->conv, &expected->conv));
	assert_int_equal(entry->text.len, expected->text.len);
	if (entry->text.len > 0)
		assert_memory_equal(
		    entry->text.data, expected->text.data, entry->text.len);
}

struct seen {
	uint64_t from;
	uint64_t count;
	uint64_t stop_at; /* 0: never */
};

static inline bool
see(void *ctx, const struct outbox_entry *entry)
{
	struct outbox_entry expected = entry_of(entry->number);
	struct seen *seen = ctx;

	assert_int_equal(entry->number, seen->from + seen->count);
	assert_entry(entry, &expected);
	seen->count++;
	return seen->count != seen->stop_at;
}

static inline uint64_t
count_from(struct stage *stage, uint8_t number, uint64_t from)
{
	struct seen seen = {.from = from};

	assert_int_equal(
	    outbox_each(&stage->box.txn, number, from, see, &seen), 0);
	return seen.count;
}

static inline int
stage_open(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	for (size_t i = 0; i < sizeof(big_text); i++)
		big_text[i] = (char)('a' + i % 26);
	box_open(&stage->box);
	box_begin(&stage->box);
	assert_int_equal(outbox_load(&stage->box.txn, 1, &stage->outbox), 0);
	outbox_begin(&stage->outbox, 1000);
	*state = stage;
	return 0;
}

static inline int
stage_close(void **state)
{
	struct stage *stage = *state;

	box_close(&stage->box);
	free(stage);
	return 0;
}

/* Commit and begin anew, as the keeper does. */
static inline void
next_txn(struct stage *stage)
{
	assert_int_equal(outbox_flush(&stage->box.txn, &stage->outbox), 0);
	box_commit(&stage->box);
	outbox_committed(&stage->outbox);
	box_begin(&stage->box);
	outbox_begin(&stage->outbox, stage->outbox.now_ms + 1000);
}

static inline void
put_many(struct stage *stage, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		struct outbox_entry entry =
		    entry_of(stage->outbox.state.head + 1);

		assert_int_equal(
		    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
	}
}

static inline uint64_t
sweep(struct stage *stage, size_t limit)
{
	size_t count;

	assert_int_equal(
	    outbox_sweep(&stage->box.txn, &stage->outbox, limit, &count), 0);
	return count;
}

static inline uint64_t
row_count(struct stage *stage)
{
	return store_count(&stage->box.txn, DBI_outbox);
}

static inline struct blob
raw_get(struct stage *stage, uint8_t section, uint64_t number)
{
	uint8_t key[10] = {1, section};
	struct blob value;

	key_u64(key + 2, number);
	assert_int_equal(
	    txn_get(&stage->box.txn, DBI_outbox, key, sizeof(key), &value), 0);
	return value;
}

static inline void
raw_put(struct stage *stage, uint8_t section, uint64_t number, const void *data,
    size_t len)
{
	uint8_t key[10] = {1, section};

	key_u64(key + 2, number);
	assert_int_equal(
	    txn_put(&stage->box.txn, DBI_outbox, key, sizeof(key), data, len),
	    0);
}

static inline void
reject(struct stage *stage, uint64_t number)
{
	assert_int_equal(outbox_reject(&stage->box.txn, &stage->outbox, number,
			     2627, "a duplicate key", 15),
	    0);
}

static inline void
put_message(struct stage *stage, uint64_t id)
{
	struct outbox_entry entry = {.kind = OUTBOX_MESSAGE, .message_id = id};

	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &entry), 0);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, stage_open, stage_close)

#endif
