/*
 * outbox_dead.c - what a consumer has refused for good.
 *
 * Role:    dead letters: kept with the reason under the number they had,
 *          tried again or dropped when somebody says so.
 * Process: written by the keeper; the console reads.
 * Blocks:  on cold pages of the disk.
 * Trust:   rows that do not fit their check are shown as damaged and can only
 *          be dropped. Of a lost block nothing is believed but its absence.
 * See:     outbox.h, t/unit/store_outbox.c.
 */
#include "shm/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "shm/log.h"
#include "shm/outbox_priv.h"

/* Of a lost block: kind DAMAGED (u8), first, low_id, message_id. */
#define LOST_LEN (1 + 3 * sizeof(uint64_t))
/* So many rows of the log are looked at to find where a lost block began. */
#define LOST_BACK_MAX 65536

/* ---- what is lost ---- */

static uint16_t
lost_encode(uint8_t out[LOST_LEN], const struct outbox_entry *lost)
{
	const uint64_t ids[] = {lost->first, lost->low_id, lost->message_id};

	out[0] = OUTBOX_DAMAGED;
	memcpy(out + 1, ids, sizeof(ids));
	return LOST_LEN;
}

static bool
lost_decode(struct record_cursor *cursor, struct outbox_entry *out)
{
	const uint8_t *data = record_take(cursor, LOST_LEN);
	uint64_t ids[3];

	if (data == NULL || data[0] != OUTBOX_DAMAGED)
		return false;
	memcpy(ids, data + 1, sizeof(ids));
	out->first = ids[0];
	out->low_id = ids[1];
	out->message_id = ids[2];
	return true;
}

static bool
find_lost(void *ctx, const struct outbox_entry *entry)
{
	struct outbox_entry *lost = ctx;

	if (entry->number < lost->number)
		return true;
	if (entry->kind == OUTBOX_DAMAGED && entry->first <= lost->number) {
		lost->at_ms = entry->at_ms;
		lost->first = entry->first;
		lost->low_id = entry->low_id;
		lost->message_id = entry->message_id;
	}
	return false;
}

/*
 * Which messages? The rows around it know; where there is none before it, so
 * many as there are numbers: all messages are put, in order. That may be more
 * than were in it, never fewer. Retries are not in order.
 */
static int
lost_get(struct txn *txn, const struct outbox *outbox, uint64_t number,
    struct outbox_entry *out)
{
	const struct outbox_state *state = &outbox->state;
	uint64_t count;
	int rc;

	*out = (struct outbox_entry){.number = number, .first = number};
	rc = outbox_each(txn, outbox->number, state->tail + 1, find_lost, out);
	if (rc != 0)
		return rc;
	count = number - out->first + 1;
	if (out->low_id == 0 && out->message_id != 0 && count <= LOST_BACK_MAX)
		rc = log_back(txn, out->message_id, count, &out->low_id);
	if (state->retry_upto >= out->first && state->retry_low < out->low_id)
		out->low_id = state->retry_low;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- refusing ---- */

struct wanted {
	uint64_t number;
	bool is_found;
	bool is_lost;
	uint16_t len;    /* of its bytes */
	uint64_t low_id; /* of its messages, 0: it has none */
	int64_t at_ms;
	uint8_t data[OUTBOX_ENTRY_MAX];
};

static bool
find_entry(void *ctx, const struct outbox_entry *entry)
{
	struct wanted *wanted = ctx;

	wanted->is_lost = entry->kind == OUTBOX_DAMAGED;
	if (entry->number == wanted->number && !wanted->is_lost) {
		wanted->is_found = true;
		wanted->at_ms = entry->at_ms;
		wanted->low_id =
		    outbox_is_of_message(entry->kind) ? entry->message_id : 0;
		wanted->len = (uint16_t)outbox_encode(wanted->data, entry);
	}
	return false;
}

static int
entry_get(struct txn *txn, const struct outbox *outbox, struct wanted *wanted)
{
	struct outbox_entry lost;
	int rc;

	rc = outbox_each(
	    txn, outbox->number, wanted->number, find_entry, wanted);
	if (rc != 0)
		return rc;
	if (!wanted->is_lost)
		return wanted->is_found ? 0 : ERR_NOT_FOUND;
	rc = lost_get(txn, outbox, wanted->number, &lost);
	wanted->at_ms = lost.at_ms;
	/* where nobody knows which messages it was it may be any */
	wanted->low_id =
	    lost.low_id == 0 && lost.message_id != 0 ? 1 : lost.low_id;
	wanted->len = lost_encode(wanted->data, &lost);
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
		if (wanted.low_id != 0 &&
		    (state->dead_low == 0 || wanted.low_id < state->dead_low))
			state->dead_low = wanted.low_id;
		state->dead_count++;
		rc = 0;
	}
	return rc == 0 ? dead_put(txn, outbox, &wanted, code, &text) : rc;
}

/* ---- reading ---- */

static bool
entry_decode(struct record_cursor *cursor, struct outbox_entry *out)
{
	if (cursor->left > 0 && *cursor->data == OUTBOX_DAMAGED)
		return lost_decode(cursor, out) && cursor->left == 0;
	return outbox_decode(cursor, out) && cursor->left == 0;
}

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
	if (row.entry_len > 0 && !entry_decode(&cursor, &out->entry)) {
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

/* What leaves the dead letters and goes back into the queue. */
struct again {
	struct outbox_entry entry;
	char text[OUTBOX_TEXT_MAX];
};

struct retrying {
	struct again *agains; /* room for the range's limit, NULL: drop */
	size_t limit;
	size_t again_count;
	size_t count; /* ... and of letters in which nothing was left */
	/* A lost one with more messages than there is room for stays: */
	struct outbox_entry rest; /* first 0: none */
	struct wanted rest_row;
	int32_t rest_code;
	char rest_error[OUTBOX_ERROR_MAX];
	size_t rest_error_len;
};

static void
again_add(struct retrying *retrying, const struct outbox_entry *entry)
{
	struct again *again = &retrying->agains[retrying->again_count++];

	again->entry = *entry;
	if (entry->text.len > 0)
		memcpy(again->text, entry->text.data, entry->text.len);
	again->entry.text.data = again->text;
	retrying->count++;
}

static bool
is_event(struct txn *txn, uint64_t id)
{
	struct log_message row;

	return log_get(txn, id, &row) == 0 && row.kind != LOG_MESSAGE;
}

/* @return 0: all its messages, ERR_FULL: some, the rest is noted, sticky */
static int
again_lost(
    struct txn *txn, const struct outbox_dead *dead, struct retrying *retrying)
{
	struct outbox_entry entry = {.kind = OUTBOX_MESSAGE};
	size_t before = retrying->count;
	uint64_t id = dead->entry.low_id;
	int rc;

	while ((rc = log_next(txn, id, &id)) == 0 &&
	       id <= dead->entry.message_id) {
		if (is_event(txn, id)) { /* has no number */
			id++;
			continue;
		}
		if (retrying->count == retrying->limit) {
			retrying->rest = dead->entry;
			retrying->rest.low_id = id;
			retrying->rest_row.at_ms = dead->entry.at_ms;
			retrying->rest_code = dead->code;
			retrying->rest_error_len = dead->error.len;
			memcpy(retrying->rest_error, dead->error.data,
			    dead->error.len);
			return ERR_FULL;
		}
		entry.message_id = id++;
		again_add(retrying, &entry);
	}
	if (retrying->count == before)
		retrying->count++;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* @return 0: it goes, ERR_NOT_FOUND: it stays, nobody knows any more what it
 * was, ERR_FULL: a part of it stays, sticky */
static int
again_take(const struct walk *walk, struct retrying *retrying)
{
	struct outbox_dead dead;

	if (!dead_decode(walk, &dead) ||
	    dead.error.len > sizeof(retrying->rest_error))
		return ERR_NOT_FOUND;
	if (dead.entry.kind != OUTBOX_DAMAGED) {
		again_add(retrying, &dead.entry);
		return 0;
	}
	if (dead.entry.first == 0)
		return ERR_NOT_FOUND;
	return again_lost(walk->txn, &dead, retrying);
}

static int
dead_take(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, struct retrying *retrying)
{
	uint8_t key[OUTBOX_KEY_LEN];
	struct walk walk;
	int rc;

	outbox_key(key, outbox->number, OUTBOX_DEAD, range->first);
	rc = walk_begin(&walk, txn, DBI_outbox, key, sizeof(key));
	while (rc == 0 && retrying->count < range->limit &&
	       outbox_is_within(&walk, key) &&
	       outbox_walk_number(&walk) <= range->last) {
		if (retrying->agains == NULL)
			retrying->count++;
		else
			rc = again_take(&walk, retrying);
		if (rc == ERR_FULL && txn->rc == 0)
			break;
		if (rc == 0) {
			rc = walk_delete(&walk);
			dead_gone(&outbox->state);
		} else if (rc == ERR_NOT_FOUND) {
			rc = txn->rc;
		}
		if (rc == 0)
			rc = walk_next(&walk);
	}
	walk_end(&walk);
	if (txn->rc != 0)
		return txn->rc;
	return rc == ERR_NOT_FOUND || rc == ERR_FULL ? 0 : rc;
}

static int
rest_put(
    struct txn *txn, const struct outbox *outbox, struct retrying *retrying)
{
	struct blob error = {retrying->rest_error, retrying->rest_error_len};
	struct wanted *row = &retrying->rest_row;

	row->number = retrying->rest.number;
	row->len = lost_encode(row->data, &retrying->rest);
	return dead_put(txn, outbox, row, retrying->rest_code, &error);
}

int
outbox_retry(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, size_t *count_out)
{
	struct retrying retrying = {.limit = range->limit};
	int rc;

	retrying.agains = xcalloc(range->limit, sizeof(*retrying.agains));
	/* Put when the walk is over: it must not see what it makes. */
	rc = dead_take(txn, outbox, range, &retrying);
	for (size_t i = 0; rc == 0 && i < retrying.again_count; i++)
		rc =
		    outbox_append(txn, outbox, &retrying.agains[i].entry, true);
	if (rc == 0 && retrying.rest.first != 0)
		rc = rest_put(txn, outbox, &retrying);
	free(retrying.agains);
	*count_out = retrying.count;
	return rc;
}

int
outbox_drop(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, size_t *count_out)
{
	struct retrying dropping = {.limit = range->limit};
	int rc = dead_take(txn, outbox, range, &dropping);

	*count_out = dropping.count;
	return rc;
}
