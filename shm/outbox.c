/*
 * outbox.c - queues of what consumers outside still have to be told.
 *
 * Role:    entries in numbered blocks, a state row for each queue: putting,
 *          done, deleting.
 * Process: keeper; the state is read by the directory and the console, too.
 * Blocks:  on cold pages of the disk.
 * Trust:   a row whose check does not fit and whose number cannot be is no
 *          block of this queue.
 * See:     outbox_read.c (the other half), outbox_entry.c, store_schema.h
 *          (rows), outbox.h, doc/decisions/005, t/unit/store_outbox.c.
 */
#include "shm/outbox.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/conf.h"
#include "base/log.h"
#include "shm/outbox_priv.h"

#define KEY_LEN       OUTBOX_KEY_LEN
#define CHECK_LEN     sizeof(uint32_t)
#define STATE_KEY_LEN 7

static const struct {
	uint8_t number;
	const char *name;
} outboxes[] = {
#define OUTBOX(number, name, is_on) {(number), #name},
#include "shm/outboxes.def"
#undef OUTBOX
};

uint8_t
outbox_number(enum outbox_id id)
{
	return outboxes[id].number;
}

const char *
outbox_name(enum outbox_id id)
{
	return outboxes[id].name;
}

enum outbox_id
outbox_by_name(const char *name)
{
	for (int id = 0; id < OUTBOX_END; id++) {
		if (strcmp(outboxes[id].name, name) == 0)
			return (enum outbox_id)id;
	}
	return OUTBOX_END;
}

enum outbox_id
outbox_by_number(uint32_t number)
{
	for (int id = 0; id < OUTBOX_END; id++) {
		if (outboxes[id].number == number)
			return (enum outbox_id)id;
	}
	return OUTBOX_END;
}

bool
outbox_is_on(enum outbox_id id, const struct conf *conf)
{
	const bool is_on[] = {
#define OUTBOX(number, name, is_on) (is_on),
#include "shm/outboxes.def"
#undef OUTBOX
	};

	return is_on[id];
}

/* ---- keys and checks ---- */

void
outbox_key(uint8_t out[KEY_LEN], uint8_t queue, enum outbox_section section,
    uint64_t number)
{
	out[0] = queue;
	out[1] = (uint8_t)section;
	key_u64(out + 2, number);
}

bool
outbox_is_within(const struct walk *walk, const uint8_t key[KEY_LEN])
{
	return walk->key.len == KEY_LEN && memcmp(walk->key.data, key, 2) == 0;
}

uint64_t
outbox_walk_number(const struct walk *walk)
{
	return key_get_u64((const uint8_t *)walk->key.data + 2);
}

uint32_t
outbox_row_check(const uint8_t key[KEY_LEN], const void *row, size_t len)
{
	uint64_t seed = XXH3_64bits(key, KEY_LEN);

	return (uint32_t)XXH3_64bits_withSeed(
	    (const uint8_t *)row + CHECK_LEN, len - CHECK_LEN, seed);
}

bool
outbox_is_sound(const struct walk *walk, size_t head_len)
{
	uint32_t check;

	if (walk->value.len < head_len)
		return false;
	memcpy(&check, walk->value.data, sizeof(check));
	return check == outbox_row_check(
			    walk->key.data, walk->value.data, walk->value.len);
}

/* ---- state ---- */

static void
state_key(uint8_t out[STATE_KEY_LEN], uint8_t number)
{
	memcpy(out, "outbox", STATE_KEY_LEN - 1);
	out[STATE_KEY_LEN - 1] = number;
}

int
outbox_state_get(struct txn *txn, uint8_t number, struct outbox_state *out)
{
	uint8_t key[STATE_KEY_LEN];
	struct blob value;
	int rc;

	*out = (struct outbox_state){.version = OUTBOX_VERSION};
	state_key(key, number);
	rc = txn_get(txn, DBI_meta, key, sizeof(key), &value);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return rc;
	if (value.len == sizeof(*out))
		memcpy(out, value.data, sizeof(*out));
	if (value.len != sizeof(*out) || out->version != OUTBOX_VERSION ||
	    out->tail > out->head) {
		log_error(NULL, "store-corrupt",
		    "row=outbox queue=%u length=%zu", number, value.len);
		return ERR_CORRUPT;
	}
	return 0;
}

int
outbox_load(struct txn *txn, uint8_t number, struct outbox *outbox)
{
	int rc;

	*outbox = (struct outbox){.number = number};
	rc = outbox_state_get(txn, number, &outbox->committed);
	outbox->state = outbox->committed;
	return rc;
}

void
outbox_begin(struct outbox *outbox, int64_t now_ms)
{
	outbox->state = outbox->committed;
	outbox->now_ms = now_ms;
	outbox->count = 0;
	outbox->len = 0;
}

void
outbox_committed(struct outbox *outbox)
{
	outbox->committed = outbox->state;
	outbox->count = 0;
	outbox->len = 0;
}

/* ---- putting ---- */

static int
block_end(struct txn *txn, struct outbox *outbox)
{
	struct outbox_block head = {
	    .count = outbox->count,
	    .version = OUTBOX_VERSION,
	    .at_ms = outbox->now_ms,
	    .low_id = outbox->low_id,
	};
	uint8_t key[KEY_LEN];
	size_t len = outbox->len;

	if (len == 0)
		return 0;
	outbox_key(key, outbox->number, OUTBOX_WAITING, outbox->state.head);
	memcpy(outbox->block, &head, sizeof(head));
	head.check = outbox_row_check(key, outbox->block, len);
	memcpy(outbox->block, &head.check, sizeof(head.check));
	outbox->len = 0;
	outbox->count = 0;
	return txn_put(txn, DBI_outbox, key, sizeof(key), outbox->block, len);
}

static void
note_retry(struct outbox_state *state, uint64_t message_id)
{
	if (state->tail >= state->retry_upto || message_id < state->retry_low)
		state->retry_low = message_id;
	state->retry_upto = state->head;
}

int
outbox_append(struct txn *txn, struct outbox *outbox,
    const struct outbox_entry *entry, bool is_again)
{
	struct outbox_state *state = &outbox->state;
	uint8_t data[OUTBOX_ENTRY_MAX];
	size_t len = outbox_encode(data, entry);
	int rc;

	if (len == 0)
		return ERR_TOO_LARGE;
	if (outbox->len + len > sizeof(outbox->block)) {
		rc = block_end(txn, outbox);
		if (rc != 0)
			return rc;
	}
	if (outbox->len == 0) {
		outbox->len = sizeof(struct outbox_block);
		outbox->low_id = state->last_id + 1;
	}
	state->head++;
	if (is_again && outbox_is_of_message(entry->kind))
		note_retry(state, entry->message_id);
	else if (entry->kind == OUTBOX_MESSAGE)
		state->last_id = entry->message_id;
	memcpy(outbox->block + outbox->len, data, len);
	outbox->len += len;
	outbox->count++;
	return 0;
}

int
outbox_put(
    struct txn *txn, struct outbox *outbox, const struct outbox_entry *entry)
{
	return outbox_append(txn, outbox, entry, false);
}

int
outbox_flush(struct txn *txn, struct outbox *outbox)
{
	uint8_t key[STATE_KEY_LEN];
	int rc;

	rc = block_end(txn, outbox);
	if (rc != 0 || memcmp(&outbox->state, &outbox->committed,
			   sizeof(outbox->state)) == 0)
		return rc;
	state_key(key, outbox->number);
	return txn_put(txn, DBI_meta, key, sizeof(key), &outbox->state,
	    sizeof(outbox->state));
}

/* ---- done ---- */

int
outbox_done(struct outbox *outbox, uint64_t upto)
{
	/* Only what was committed can have been read. */
	if (upto > outbox->committed.head)
		return ERR_BAD_REQUEST;
	if (upto > outbox->state.tail)
		outbox->state.tail = upto;
	return 0;
}

/* A key that cannot be is a damaged one: its numbers are missing elsewhere. */
static bool
is_stray(const struct outbox *outbox, const struct walk *walk)
{
	return outbox_walk_number(walk) > outbox->committed.head &&
	       !outbox_is_sound(walk, sizeof(struct outbox_block));
}

int
outbox_sweep(
    struct txn *txn, struct outbox *outbox, size_t limit, size_t *count_out)
{
	uint8_t key[KEY_LEN];
	struct walk walk;
	size_t count = 0;
	int rc;

	outbox_key(key, outbox->number, OUTBOX_WAITING, 0);
	rc = walk_begin(&walk, txn, DBI_outbox, key, sizeof(key));
	while (rc == 0 && count < limit && outbox_is_within(&walk, key) &&
	       (outbox_walk_number(&walk) <= outbox->state.tail ||
		   is_stray(outbox, &walk))) {
		rc = walk_delete(&walk);
		count++;
		if (rc == 0)
			rc = walk_next(&walk);
	}
	walk_end(&walk);
	*count_out = count;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}
