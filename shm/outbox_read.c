/*
 * outbox_read.c - what waits in a queue, and what of it is lost.
 *
 * Role:    entries in order of their numbers; the oldest; retention's bound.
 * Process: directory, console, keeper.
 * Blocks:  on cold pages of the disk.
 * Trust:   a row whose check does not fit is handed to nobody, and its key is
 *          believed as little as the rest: what it held is known by what is
 *          missing between the rows around it.
 * See:     outbox.h, outbox.c, doc/decisions/005, t/unit/store_outbox.c.
 */
#include "shm/outbox.h"

#include <string.h>

#include "shm/outbox_priv.h"

#define KEY_LEN   OUTBOX_KEY_LEN
#define CHECK_LEN sizeof(uint32_t)

struct block_read {
	const uint8_t *key; /* of the queue */
	uint64_t expected;  /* number of the next entry; lower: passed over */
	uint64_t low_id;    /* messages below it are accounted for */
	int64_t at_ms;      /* of the block before */
	bool (*fn)(void *ctx, const struct outbox_entry *entry);
	void *ctx;
	bool has_stopped;
};

/* Every entry is taken apart before the first one is given away. */
static bool
block_is_good(const struct walk *walk, struct outbox_block *head)
{
	struct record_cursor cursor;
	struct outbox_entry entry;

	if (!outbox_is_sound(walk, sizeof(*head)))
		return false;
	memcpy(head, walk->value.data, sizeof(*head));
	if (head->version != OUTBOX_VERSION || head->count == 0 ||
	    head->count > outbox_walk_number(walk))
		return false;
	record_cursor_init(&cursor,
	    (const uint8_t *)walk->value.data + sizeof(*head),
	    walk->value.len - sizeof(*head));
	for (uint16_t i = 0; i < head->count; i++) {
		if (!outbox_decode(&cursor, &entry))
			return false;
	}
	return cursor.left == 0;
}

static void
lost_give(
    struct block_read *read, uint64_t last, uint64_t high_id, int64_t at_ms)
{
	const struct outbox_entry lost = {
	    .number = last,
	    .at_ms = at_ms,
	    .kind = OUTBOX_DAMAGED,
	    .first = read->expected,
	    .low_id = read->low_id,
	    .message_id = high_id,
	};

	read->expected = last + 1;
	read->has_stopped = !read->fn(read->ctx, &lost);
}

/* Entries whose numbers are lower than expected only tell which messages are
 * accounted for. */
static void
block_give(const struct walk *walk, const struct outbox_block *head,
    struct block_read *read)
{
	uint64_t number = outbox_walk_number(walk) - head->count;
	struct record_cursor cursor;
	struct outbox_entry entry;

	if (number >= read->expected)
		lost_give(read, number, head->low_id - 1, head->at_ms);
	if (read->low_id < head->low_id)
		read->low_id = head->low_id;
	read->at_ms = head->at_ms;
	record_cursor_init(&cursor,
	    (const uint8_t *)walk->value.data + sizeof(*head),
	    walk->value.len - sizeof(*head));
	for (uint16_t i = 0; i < head->count && !read->has_stopped; i++) {
		entry = (struct outbox_entry){
		    .number = ++number, .at_ms = head->at_ms};
		if (!outbox_decode(&cursor, &entry))
			return; /* block_is_good has seen it */
		if (entry.kind == OUTBOX_MESSAGE &&
		    entry.message_id >= read->low_id)
			read->low_id = entry.message_id + 1;
		if (number < read->expected)
			continue;
		read->expected = number + 1;
		read->has_stopped = !read->fn(read->ctx, &entry);
	}
}

/*
 * Stand in front of the first row that may be of interest. A search among
 * keys one of which is damaged can end behind rows that are not: so go back
 * to one that is certainly before them.
 */
static int
find_start(struct walk *walk, struct txn *txn, const struct block_read *read)
{
	uint8_t start[KEY_LEN];
	int rc;

	outbox_key(start, read->key[0], OUTBOX_WAITING, read->expected);
	rc = walk_begin_before(walk, txn, DBI_outbox, start, sizeof(start));
	while (rc == 0) {
		if (outbox_is_sound(walk, CHECK_LEN) &&
		    (!outbox_is_within(walk, read->key) ||
			outbox_walk_number(walk) < read->expected))
			return 0;
		rc = walk_prev(walk);
	}
	if (rc != ERR_NOT_FOUND)
		return rc;
	walk_end(walk);
	return walk_begin(walk, txn, DBI_outbox, NULL, 0);
}

static int
give_all(struct walk *walk, struct block_read *read, uint64_t head_number)
{
	struct outbox_block head;
	bool has_begun = false;
	int rc = 0;

	while (rc == 0 && !read->has_stopped && read->expected <= head_number) {
		/* Where a sound row of something else lies this queue ends. */
		if (block_is_good(walk, &head) &&
		    outbox_is_within(walk, read->key))
			block_give(walk, &head, read);
		else if (has_begun && !outbox_is_within(walk, read->key) &&
			 outbox_is_sound(walk, CHECK_LEN))
			return ERR_NOT_FOUND;
		has_begun = true;
		rc = walk_next(walk);
	}
	return rc;
}

int
outbox_each(struct txn *txn, uint8_t number, uint64_t from,
    bool (*fn)(void *ctx, const struct outbox_entry *entry), void *ctx)
{
	struct block_read read = {.expected = from, .fn = fn, .ctx = ctx};
	struct outbox_state state;
	uint8_t key[KEY_LEN];
	struct walk walk = {0};
	int rc;

	rc = outbox_state_get(txn, number, &state);
	if (rc != 0)
		return rc;
	if (read.expected <= state.tail)
		read.expected = state.tail + 1;
	if (read.expected > state.head)
		return 0;
	outbox_key(key, number, OUTBOX_WAITING, 0);
	read.key = key;
	rc = find_start(&walk, txn, &read);
	if (rc == 0)
		rc = give_all(&walk, &read, state.head);
	walk_end(&walk);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (!read.has_stopped && read.expected <= state.head)
		lost_give(&read, state.head, state.last_id, read.at_ms);
	return 0;
}

/* See outbox.c, is_stray; the key of another queue is none, either. */
static bool
is_stray(const struct walk *walk, const uint8_t key[KEY_LEN], uint64_t head)
{
	return !outbox_is_sound(walk, CHECK_LEN) &&
	       (!outbox_is_within(walk, key) ||
		   outbox_walk_number(walk) > head);
}

/* The block of the first waiting entry. @return 0, ERR_NOT_FOUND, ... */
static int
first_block(struct txn *txn, uint8_t number, const struct outbox_state *state,
    struct outbox_block *out)
{
	uint8_t key[KEY_LEN];
	struct walk walk;
	int rc;

	outbox_key(key, number, OUTBOX_WAITING, state->tail + 1);
	rc = walk_begin(&walk, txn, DBI_outbox, key, sizeof(key));
	while (rc == 0 && is_stray(&walk, key, state->head))
		rc = walk_next(&walk);
	if (rc == 0 && !outbox_is_within(&walk, key))
		rc = ERR_NOT_FOUND;
	if (rc == 0 && !outbox_is_sound(&walk, sizeof(*out)))
		rc = ERR_CORRUPT;
	if (rc == 0)
		memcpy(out, walk.value.data, sizeof(*out));
	walk_end(&walk);
	return rc;
}

int
outbox_oldest(struct txn *txn, uint8_t number, int64_t *at_ms_out)
{
	struct outbox_state state;
	struct outbox_block block;
	int rc;

	rc = outbox_state_get(txn, number, &state);
	if (rc == 0)
		rc = first_block(txn, number, &state, &block);
	if (rc == 0)
		*at_ms_out = block.at_ms;
	return rc;
}

static void
lower(uint64_t *floor, uint64_t id)
{
	if (id < *floor)
		*floor = id;
}

int
outbox_floor(struct txn *txn, uint64_t *id_out)
{
	struct outbox_state state;
	struct outbox_block block;
	uint64_t floor = UINT64_MAX;
	int rc;

	for (int id = 0; id < OUTBOX_END; id++) {
		uint8_t number = outbox_number((enum outbox_id)id);

		rc = outbox_state_get(txn, number, &state);
		if (rc != 0)
			return rc;
		rc = first_block(txn, number, &state, &block);
		if (rc == 0)
			lower(&floor, block.low_id);
		else if (rc == ERR_CORRUPT)
			floor = 0; /* nobody knows what it needs */
		else if (rc != ERR_NOT_FOUND)
			return rc;
		if (state.tail < state.retry_upto)
			lower(&floor, state.retry_low);
		/* 0: none of them is of a message */
		if (state.dead_count > 0 && state.dead_low != 0)
			lower(&floor, state.dead_low);
	}
	*id_out = floor;
	return floor == UINT64_MAX ? ERR_NOT_FOUND : 0;
}
