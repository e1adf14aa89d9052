/*
 * store_outbox_damage.c - unit test of shm/outbox_read.c and outbox_dead.c
 * where rows are damaged or gone: nothing intact is skipped, what is lost is
 * told and can be tried again.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/log.h"
#include "t/unit/outbox_box.h"

/* ---- damage ---- */

struct loss {
	struct outbox_entry last; /* DAMAGED */
	uint64_t lost;
	uint64_t seen;
	uint64_t next;
};

/* All numbers, each once; those of lost ones in one piece. */
static bool
see_loss(void *ctx, const struct outbox_entry *entry)
{
	struct loss *loss = ctx;
	struct outbox_entry expected = entry_of(entry->number);

	if (entry->kind == OUTBOX_DAMAGED) {
		assert_int_equal(entry->first, loss->next);
		assert_true(entry->number >= entry->first);
		loss->lost += entry->number - entry->first + 1;
		loss->last = *entry;
	} else {
		assert_int_equal(entry->number, loss->next);
		assert_entry(entry, &expected);
		loss->seen++;
	}
	loss->next = entry->number + 1;
	return true;
}

static struct loss
losses_from(struct stage *stage, uint64_t from)
{
	struct loss loss = {.next = from};

	assert_int_equal(
	    outbox_each(&stage->box.txn, 1, from, see_loss, &loss), 0);
	return loss;
}

/* Every byte of the middle one of three blocks. */
static void
a_damaged_block_is_given_to_nobody(void **state)
{
	struct stage *stage = *state;
	uint8_t good[OUTBOX_BLOCK_MAX];
	struct blob value;
	size_t len;

	for (int i = 0; i < 3; i++) {
		put_many(stage, 4);
		next_txn(stage);
	}
	value = raw_get(stage, OUTBOX_WAITING, 8);
	len = value.len;
	memcpy(good, value.data, len);
	for (size_t i = 0; i <= len; i++) {
		uint8_t bad_row[OUTBOX_BLOCK_MAX];
		struct loss loss;

		memcpy(bad_row, good, len);
		if (i < len)
			bad_row[i] ^= 0x10;
		raw_put(
		    stage, OUTBOX_WAITING, 8, bad_row, i < len ? len : len - 1);
		for (uint64_t from = 1; from <= 12; from++) {
			loss = losses_from(stage, from);
			assert_int_equal(loss.next, 13);
			assert_int_equal(loss.lost, from <= 5   ? 4
						    : from <= 8 ? 9 - from
								: 0);
		}
		/* entry 4 is a message, so is 8, the last one of the block */
		loss = losses_from(stage, 5);
		assert_int_equal(loss.last.low_id, 4 * 7 + 2);
		assert_int_equal(loss.last.message_id, 8 * 7 + 1);
		assert_int_equal(stage->box.txn.rc, 0);
	}
}

/* A row under another key, anywhere: what it held is lost, not more. */
static void
a_damaged_key_costs_its_block_only(void **state)
{
	static const uint64_t strays[] = {0, 1, 5, 6, 9, 11, 13, 17, 20, 21,
	    1000, 1ULL << 56, UINT64_MAX - 1, UINT64_MAX};
	struct stage *stage = *state;
	uint8_t good[OUTBOX_BLOCK_MAX];
	uint8_t key[10] = {1, OUTBOX_WAITING};
	struct blob value;
	size_t len;

	for (int i = 0; i < 5; i++) {
		put_many(stage, 4);
		next_txn(stage);
	}
	for (uint64_t block = 4; block <= 20; block += 4) {
		value = raw_get(stage, OUTBOX_WAITING, block);
		len = value.len;
		memcpy(good, value.data, len);
		key_u64(key + 2, block);
		assert_int_equal(
		    txn_del(&stage->box.txn, DBI_outbox, key, sizeof(key)), 0);
		for (size_t i = 0; i < sizeof(strays) / sizeof(*strays); i++) {
			struct loss loss;

			if (strays[i] % 4 == 0 && strays[i] - 1 < 20)
				continue; /* the place of another one */
			raw_put(stage, OUTBOX_WAITING, strays[i], good, len);
			loss = losses_from(stage, 1);
			assert_int_equal(loss.seen, 16);
			assert_int_equal(loss.lost, 4);
			assert_int_equal(loss.last.number, block);
			assert_int_equal(loss.next, 21);
			key_u64(key + 2, strays[i]);
			assert_int_equal(txn_del(&stage->box.txn, DBI_outbox,
					     key, sizeof(key)),
			    0);
		}
		/* ... in another queue or section, or gone */
		assert_int_equal(losses_from(stage, 1).lost, 4);
		key[0] = 0;
		key_u64(key + 2, block);
		assert_int_equal(txn_put(&stage->box.txn, DBI_outbox, key,
				     sizeof(key), good, len),
		    0);
		raw_put(stage, 7, block, good, len);
		assert_int_equal(losses_from(stage, 1).lost, 4);
		assert_int_equal(
		    txn_del(&stage->box.txn, DBI_outbox, key, sizeof(key)), 0);
		key[0] = 1;
		key[1] = 7;
		assert_int_equal(
		    txn_del(&stage->box.txn, DBI_outbox, key, sizeof(key)), 0);
		key[1] = OUTBOX_WAITING;
		raw_put(stage, OUTBOX_WAITING, block, good, len);
	}
	assert_int_equal(losses_from(stage, 1).lost, 0);
}

/* Where the file holds the key of a block, in old pages as well. */
struct places {
	long at[64];
	size_t count;
};

static FILE *
file_begin(struct stage *stage)
{
	char path[256];
	FILE *file;

	txn_end(&stage->box.txn);
	store_close(&stage->box.main);
	store_close(&stage->box.presence);
	snprintf(path, sizeof(path), "%s/main.mdb", stage->box.dir);
	file = fopen(path, "r+b");
	assert_non_null(file);
	return file;
}

static void
file_end(struct stage *stage, FILE *file)
{
	assert_int_equal(fclose(file), 0);
	box_open_stores(&stage->box, STORE_BOX_MAP);
	box_begin(&stage->box);
	assert_int_equal(outbox_load(&stage->box.txn, 1, &stage->outbox), 0);
	outbox_begin(&stage->outbox, 1000);
}

static struct places
places_of(struct stage *stage, uint64_t number)
{
	/* a node's key has its length before it (mdb.c, struct MDB_node) */
	uint8_t key[12] = {10, 0, 1, OUTBOX_WAITING};
	struct places places = {.count = 0};
	FILE *file = file_begin(stage);
	uint8_t page[4096];

	key_u64(key + 4, number);
	for (long at = 0; fread(page, sizeof(page), 1, file) == 1;
	     at += (long)sizeof(page)) {
		for (size_t i = 0; i + sizeof(key) <= sizeof(page); i++) {
			if (memcmp(page + i, key, sizeof(key)) != 0)
				continue;
			assert_true(places.count < 64);
			places.at[places.count++] = at + (long)i + 2;
		}
	}
	assert_true(places.count > 0);
	file_end(stage, file);
	return places;
}

/* The order of keys is broken. */
static void
poke_key(struct stage *stage, const struct places *places, uint64_t number)
{
	uint8_t key[10] = {1, OUTBOX_WAITING};
	FILE *file = file_begin(stage);

	key_u64(key + 2, number);
	for (size_t i = 0; i < places->count; i++) {
		assert_int_equal(fseek(file, places->at[i], SEEK_SET), 0);
		assert_int_equal(fwrite(key, sizeof(key), 1, file), 1);
	}
	file_end(stage, file);
}

/* The search in the tree is led astray, to either side. */
static void
keys_out_of_order_cost_their_blocks_only(void **state)
{
	static const uint64_t keys[] = {0, 1, 41, 1000, UINT64_MAX};
	struct stage *stage = *state;
	struct places places;

	for (int i = 0; i < 20; i++) {
		put_many(stage, 1);
		next_txn(stage);
	}
	assert_int_equal(outbox_done(&stage->outbox, 2), 0);
	next_txn(stage);
	for (uint64_t block = 3; block <= 20; block++) {
		places = places_of(stage, block);

		for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
			poke_key(stage, &places, keys[i]);
			for (uint64_t from = 3; from <= 20; from++) {
				struct loss loss = losses_from(stage, from);

				assert_int_equal(loss.next, 21);
				assert_int_equal(loss.lost, from <= block);
			}
		}
		poke_key(stage, &places, block);
	}
	assert_int_equal(losses_from(stage, 3).lost, 0);
	/* all is deleted when all is done, also behind one out of order */
	places = places_of(stage, 9);
	poke_key(stage, &places, UINT64_MAX - 7);
	assert_int_equal(outbox_done(&stage->outbox, 20), 0);
	assert_int_equal(sweep(stage, 100), 20);
	assert_int_equal(row_count(stage), 0);
}

/* ---- what is lost ---- */

/* Blocks of eight, ids of messages with holes between them. */
static void
put_logged(struct stage *stage, uint64_t blocks)
{
	struct log_message message = {.sender = 1, .body = {big_text, 10}};

	for (uint64_t n = 0; n < blocks * 8; n++) {
		message.id = 100 + stage->outbox.state.head * 10;
		put_message(stage, message.id);
		assert_int_equal(log_append(&stage->box.txn, &message), 0);
		if (n % 8 == 7)
			next_txn(stage);
	}
}

static void
lose(struct stage *stage, uint64_t number)
{
	uint8_t key[10] = {1, OUTBOX_WAITING};

	key_u64(key + 2, number);
	assert_int_equal(
	    txn_del(&stage->box.txn, DBI_outbox, key, sizeof(key)), 0);
}

static bool
keep_dead(void *ctx, const struct outbox_dead *dead)
{
	struct outbox_dead *out = ctx;

	*out = *dead;
	return false;
}

static struct outbox_entry
first_dead(struct stage *stage, uint64_t from)
{
	struct outbox_dead dead = {.code = 0};

	assert_int_equal(
	    outbox_each_dead(&stage->box.txn, 1, from, keep_dead, &dead), 0);
	return dead.entry;
}

static void
assert_lost(struct stage *stage, const struct outbox_entry *expected)
{
	struct outbox_entry entry = first_dead(stage, expected->number);

	assert_int_equal(entry.kind, OUTBOX_DAMAGED);
	assert_int_equal(entry.number, expected->number);
	assert_int_equal(entry.first, expected->first);
	assert_int_equal(entry.low_id, expected->low_id);
	assert_int_equal(entry.message_id, expected->message_id);
}

/* In front, between, at the end; what is before the first is found by the
 * log. */
static void
what_is_lost_is_told_by_its_messages(void **state)
{
	struct outbox_range all = {.first = 1, .last = INT64_MAX, .limit = 5};
	struct outbox_entry front = {
	    .number = 8, .first = 1, .low_id = 100, .message_id = 170};
	struct outbox_entry between = {
	    .number = 32, .first = 17, .low_id = 251, .message_id = 410};
	struct outbox_entry end = {
	    .number = 48, .first = 41, .low_id = 491, .message_id = 570};
	struct stage *stage = *state;
	uint64_t again = 0;
	size_t count;

	put_logged(stage, 6);
	lose(stage, 8);
	lose(stage, 24);
	lose(stage, 32);
	lose(stage, 48);
	reject(stage, 8);
	reject(stage, 32);
	reject(stage, 48);
	assert_int_equal(outbox_done(&stage->outbox, 48), 0);
	next_txn(stage);
	sweep(stage, 100);
	next_txn(stage);
	assert_int_equal(stage->outbox.state.dead_count, 3);
	assert_int_equal(stage->outbox.state.dead_low, 100);
	assert_lost(stage, &between);
	assert_lost(stage, &end);
	front.low_id = first_dead(stage, 1).low_id;
	assert_in_range(front.low_id, 1, 100);
	assert_lost(stage, &front);
	/* ... and can be tried again, in slices */
	do {
		assert_int_equal(
		    outbox_retry(&stage->box.txn, &stage->outbox, &all, &count),
		    0);
		assert_true(count <= all.limit);
		again += count;
		next_txn(stage);
		assert_true(again <= 32);
		if (again == 5)
			assert_int_equal(first_dead(stage, 1).low_id, 150);
	} while (count > 0);
	assert_int_equal(again, 32);
	assert_int_equal(stage->outbox.state.dead_count, 0);
	assert_int_equal(stage->outbox.state.head, 48 + 32);
}

struct again_seen {
	uint64_t ids[64];
	size_t count;
};

static bool
note_again(void *ctx, const struct outbox_entry *entry)
{
	struct again_seen *seen = ctx;

	assert_int_equal(entry->kind, OUTBOX_MESSAGE);
	seen->ids[seen->count++] = entry->message_id;
	return seen->count < 64;
}

static void
each_lost_message_is_tried_again_once(void **state)
{
	struct outbox_range one = {.first = 16, .last = 16, .limit = 3};
	struct again_seen seen = {.count = 0};
	struct stage *stage = *state;
	size_t count;

	put_logged(stage, 3);
	lose(stage, 16);
	/* one within it: refused before the row was damaged */
	reject(stage, 12);
	assert_int_equal(first_dead(stage, 12).first, 9);
	reject(stage, 16);
	assert_int_equal(outbox_done(&stage->outbox, 24), 0);
	next_txn(stage);
	do {
		assert_int_equal(
		    outbox_retry(&stage->box.txn, &stage->outbox, &one, &count),
		    0);
		next_txn(stage);
	} while (count > 0);
	assert_int_equal(
	    outbox_each(&stage->box.txn, 1, 0, note_again, &seen), 0);
	assert_int_equal(seen.count, 8);
	for (size_t i = 0; i < seen.count; i++)
		assert_int_equal(seen.ids[i], 180 + i * 10);
	assert_int_equal(stage->outbox.state.dead_count, 1);
}

/* Then the letter alone goes; nobody waits for nothing. */
static void
a_lost_block_without_messages_can_be_tried_again(void **state)
{
	struct outbox_entry receipt = {
	    .kind = OUTBOX_READ, .user = 1, .message_id = 5};
	struct outbox_range all = {.first = 1, .last = INT64_MAX, .limit = 5};
	struct stage *stage = *state;
	size_t count;

	put_logged(stage, 1);
	assert_int_equal(
	    outbox_put(&stage->box.txn, &stage->outbox, &receipt), 0);
	next_txn(stage);
	lose(stage, 9);
	reject(stage, 9);
	assert_int_equal(outbox_done(&stage->outbox, 9), 0);
	next_txn(stage);
	assert_int_equal(
	    outbox_retry(&stage->box.txn, &stage->outbox, &all, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(stage->outbox.state.head, 9);
	assert_int_equal(stage->outbox.state.dead_count, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_damaged_block_is_given_to_nobody),
	    TEST(a_damaged_key_costs_its_block_only),
	    TEST(keys_out_of_order_cost_their_blocks_only),
	    TEST(what_is_lost_is_told_by_its_messages),
	    TEST(each_lost_message_is_tried_again_once),
	    TEST(a_lost_block_without_messages_can_be_tried_again),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
