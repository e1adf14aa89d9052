/*
 * outbox_dead.c - what a consumer has refused for good.
 *
 * Role:    dead letters: kept with the reason under the number they had,
 *          tried again or dropped when somebody says so.
 * Process: written by the keeper; the console reads.
 * Blocks:  on cold pages of the disk.
 * Trust:   rows that do not fit their check are shown as damaged and can only
 *          be dropped.
 * See:     outbox.h, t/unit/store_outbox.c.
 */
#include "shm/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "shm/outbox_priv.h"

/* ---- refusing ---- */

struct wanted {
	uint64_t number;
	bool is_found;
	uint16_t len;        /* of its bytes */
	uint64_t message_id; /* 0: it is none */
	int64_t at_ms;
	uint8_t data[OUTBOX_ENTRY_MAX];
};

static bool
find_entry(void *ctx, const struct outbox_entry *entry)
{
	struct wanted *wanted = ctx;

	if (entry->number == wanted->number) {
		wanted->is_found = true;
		wanted->at_ms = entry->at_ms;
		wanted->message_id =
		    entry->kind == OUTBOX_MESSAGE ? entry->message_id : 0;
		wanted->len = (uint16_t)outbox_encode(wanted->data, entry);
	}
	return false;
}

/* One that lies in a damaged block is found, with nothing in it. */
static int
entry_get(struct txn *txn, const struct outbox *outbox, struct wanted *wanted)
{
	uint64_t bad;
	int rc;

	rc = outbox_each(
	    txn, outbox->number, wanted->number, find_entry, wanted, &bad);
	if (rc == ERR_CORRUPT && txn->rc == 0 && bad == wanted->number)
		return 0;
	if (rc == 0 && !wanted->is_found)
		rc = ERR_NOT_FOUND;
	return rc;
}

static int
dead_put(struct txn *txn, const struct outbox *outbox,
    const struct wanted *wanted, int32_t code, const struct blob *error)
{
	struct outbox_dead_row row = {
	    .code = code,
	    .at_ms = wanted->at_ms,
	    .rejected_at_ms = outbox->now_ms,
	    .entry_len = wanted->len,
	    .error_len = (uint16_t)error->len,
	    .version = OUTBOX_VERSION,
	};
	uint8_t data[sizeof(row) + OUTBOX_ENTRY_MAX + OUTBOX_ERROR_MAX];
	size_t len = sizeof(row) + wanted->len + error->len;
	uint8_t key[OUTBOX_KEY_LEN];

	outbox_key(key, outbox->number, OUTBOX_DEAD, wanted->number);
	memcpy(data, &row, sizeof(row));
	memcpy(data + sizeof(row), wanted->data, wanted->len);
	if (error->len > 0)
		memcpy(
		    data + sizeof(row) + wanted->len, error->data, error->len);
	row.check = outbox_row_check(key, data, len);
	memcpy(data, &row.check, sizeof(row.check));
	return txn_put(txn, DBI_outbox, key, sizeof(key), data, len);
}

int
outbox_reject(struct txn *txn, struct outbox *outbox, uint64_t number,
    int32_t code, const char *error, size_t error_len)
{
	struct blob text = {
	    error, error_len < OUTBOX_ERROR_MAX ? error_len : OUTBOX_ERROR_MAX};
	struct wanted wanted = {.number = number};
	struct outbox_state *state = &outbox->state;
	uint8_t key[OUTBOX_KEY_LEN];
	struct blob old;
	int rc;

	if (number <= state->tail || number > outbox->committed.head)
		return ERR_NOT_FOUND;
	rc = entry_get(txn, outbox, &wanted);
	if (rc != 0)
		return rc;
	outbox_key(key, outbox->number, OUTBOX_DEAD, number);
	rc = txn_get(txn, DBI_outbox, key, sizeof(key), &old);
	if (rc == ERR_NOT_FOUND) {
		if (wanted.message_id != 0 &&
		    (state->dead_low == 0 ||
			wanted.message_id < state->dead_low))
			state->dead_low = wanted.message_id;
		state->dead_count++;
		rc = 0;
	}
	return rc == 0 ? dead_put(txn, outbox, &wanted, code, &text) : rc;
}

/* ---- reading ---- */

static bool
dead_decode(const struct walk *walk, struct outbox_dead *out)
{
	struct record_cursor cursor;
	struct outbox_dead_row row;

	*out = (struct outbox_dead){
	    .entry = {.number = outbox_walk_number(walk)},
	};
	if (!outbox_is_sound(walk, sizeof(row)))
		return false;
	memcpy(&row, walk->value.data, sizeof(row));
	if (row.version != OUTBOX_VERSION ||
	    walk->value.len != sizeof(row) + row.entry_len + row.error_len)
		return false;
	record_cursor_init(&cursor,
	    (const uint8_t *)walk->value.data + sizeof(row), row.entry_len);
	if (row.entry_len > 0 &&
	    (!outbox_decode(&cursor, &out->entry) || cursor.left != 0)) {
		out->entry =
		    (struct outbox_entry){.number = outbox_walk_number(walk)};
		return false;
	}
	out->entry.at_ms = row.at_ms;
	out->rejected_at_ms = row.rejected_at_ms;
	out->code = row.code;
	out->error = (struct blob){
	    (const uint8_t *)walk->value.data + sizeof(row) + row.entry_len,
	    row.error_len,
	};
	return true;
}

int
outbox_each_dead(struct txn *txn, uint8_t number, uint64_t from,
    bool (*fn)(void *ctx, const struct outbox_dead *dead), void *ctx)
{
	uint8_t key[OUTBOX_KEY_LEN];
	struct outbox_dead dead;
	struct walk walk;
	int rc;

	outbox_key(key, number, OUTBOX_DEAD, from);
	rc = walk_begin(&walk, txn, DBI_outbox, key, sizeof(key));
	while (rc == 0 && outbox_is_within(&walk, key)) {
		dead_decode(&walk, &dead); /* else it is DAMAGED */
		if (!fn(ctx, &dead))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- retry and drop ---- */

static void
dead_gone(struct outbox_state *state)
{
	if (state->dead_count > 0)
		state->dead_count--;
	if (state->dead_count == 0)
		state->dead_low = 0;
}

/* What left the dead letters and goes back into the queue. */
struct again {
	struct outbox_entry entry;
	char text[STATUS_TEXT_MAX];
};

/* @return false: it stays, nobody knows any more what it was */
static bool
again_take(const struct walk *walk, struct again *again)
{
	struct outbox_dead dead;

	if (!dead_decode(walk, &dead) || dead.entry.kind == OUTBOX_DAMAGED)
		return false;
	again->entry = dead.entry;
	if (dead.entry.text.len > 0)
		memcpy(again->text, dead.entry.text.data, dead.entry.text.len);
	again->entry.text.data = again->text;
	return true;
}

/* @param agains  room for range->limit, NULL: they are only deleted */
static int
dead_take(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, struct again *agains, size_t *count_out)
{
	uint8_t key[OUTBOX_KEY_LEN];
	size_t count = 0;
	struct walk walk;
	int rc;

	outbox_key(key, outbox->number, OUTBOX_DEAD, range->first);
	rc = walk_begin(&walk, txn, DBI_outbox, key, sizeof(key));
	while (rc == 0 && count < range->limit &&
	       outbox_is_within(&walk, key) &&
	       outbox_walk_number(&walk) <= range->last) {
		if (agains == NULL || again_take(&walk, &agains[count])) {
			rc = walk_delete(&walk);
			dead_gone(&outbox->state);
			count++;
		}
		if (rc == 0)
			rc = walk_next(&walk);
	}
	walk_end(&walk);
	*count_out = count;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
outbox_retry(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, size_t *count_out)
{
	struct again *agains = xcalloc(range->limit, sizeof(*agains));
	int rc;

	/* Put when the walk is over: it must not see what it makes. */
	rc = dead_take(txn, outbox, range, agains, count_out);
	for (size_t i = 0; rc == 0 && i < *count_out; i++)
		rc = outbox_append(txn, outbox, &agains[i].entry, true);
	free(agains);
	return rc;
}

int
outbox_drop(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, size_t *count_out)
{
	return dead_take(txn, outbox, range, NULL, count_out);
}
