/*
 * sent.c - the last sends of a device.
 *
 * Role:    rows of eight, written when they are whole; the sends since then
 *          are found in the log, or in their row where retention has taken
 *          their messages (sent_keep).
 * Process: keeper.
 * Blocks:  on cold pages of the disk.
 * Trust:   a row that does not fit its check is made again from the log, whose
 *          messages have checks of their own; a chain that leads to a damaged
 *          message or somebody else's ends there.
 * See:     sent.h, store_schema.h, doc/decisions/006, t/unit/store_sent.c.
 */
#include "shm/sent.h"

#include <stddef.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/crypto.h"
#include "base/log.h"

#define SENT_KEY_LEN (sizeof(uint64_t) + sizeof(uint32_t) + 1)
#define SENT_ROW_2   offsetof(struct sent_row, check) /* of schema 2 */

static void
sent_key(
    uint8_t out[SENT_KEY_LEN], uint64_t user, uint32_t device, uint32_t row)
{
	key_u64(out, user);
	key_u32(out + sizeof(uint64_t), device);
	out[SENT_KEY_LEN - 1] = (uint8_t)row;
}

static uint32_t
mark_of(const uint8_t hash[16])
{
	uint32_t mark;

	memcpy(&mark, hash, sizeof(mark));
	return mark;
}

static uint64_t
row_check(const uint8_t key[SENT_KEY_LEN], const void *row)
{
	uint64_t seed = XXH3_64bits(key, SENT_KEY_LEN);

	return XXH3_64bits_withSeed(row, SENT_ROW_2, seed);
}

bool
sent_is_sound(const struct blob *key, const struct blob *value)
{
	uint64_t check;

	if (key->len != SENT_KEY_LEN)
		return false;
	if (value->len == SENT_ROW_2)
		return true;
	if (value->len != sizeof(struct sent_row))
		return false;
	memcpy(
	    &check, (const uint8_t *)value->data + SENT_ROW_2, sizeof(check));
	return check == row_check(key->data, value->data);
}

static void
log_damaged(uint64_t user, uint32_t row)
{
	log_error(NULL, "store-corrupt",
	    "row=sent user=%llu number=%u; it is made again from the log",
	    (unsigned long long)user, row);
}

/* @param sound_out  bit n: row n is there, and as it was written
 *  @param is_good_out  false: another one is not */
static int
load_marks(struct txn *txn, uint64_t user, uint32_t device, uint32_t *marks,
    uint32_t *sound_out, bool *is_good_out)
{
	uint8_t key[SENT_KEY_LEN];
	struct walk walk;
	int rc;

	*sound_out = 0;
	*is_good_out = true;
	sent_key(key, user, device, 0);
	rc = walk_begin(&walk, txn, DBI_sent, key, sizeof(key));
	for (; rc == 0 && walk.key.len == sizeof(key) &&
	       memcmp(walk.key.data, key, sizeof(key) - 1) == 0;
	     rc = walk_next(&walk)) {
		uint8_t row = ((const uint8_t *)walk.key.data)[sizeof(key) - 1];
		const uint8_t *entry = walk.value.data;

		if (row >= SENT_ROWS ||
		    !sent_is_sound(&walk.key, &walk.value)) {
			log_damaged(user, row);
			*is_good_out = false;
			continue;
		}
		*sound_out |= 1U << row;
		for (uint32_t i = 0; i < SENT_PER_ROW; i++) {
			marks[row * SENT_PER_ROW + i] =
			    mark_of(entry + offsetof(struct sent_entry, hash));
			entry += sizeof(struct sent_entry);
		}
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* A device's sends in the log, from the youngest to older ones. */
struct chain {
	struct txn *txn;
	const uint8_t *secret;
	uint64_t user;
	uint32_t device;
	uint64_t id; /* of the next one, 0: that was all */
};

/* Fill entries from the end. What the chain does not reach stays as it is:
 * message id 0. */
static int
chain_take(struct chain *chain, struct sent_entry *entries, uint32_t count)
{
	struct log_message m;
	int rc;

	while (count > 0 && chain->id != 0) {
		struct sent_entry *entry = &entries[--count];

		rc = log_get(chain->txn, chain->id, &m);
		if (rc == 0 && (m.sender != chain->user ||
				   m.sender_device != chain->device)) {
			log_error(NULL, "store-corrupt",
			    "row=userhead user=%llu last_sent=%llu",
			    (unsigned long long)chain->user,
			    (unsigned long long)chain->id);
			rc = ERR_CORRUPT;
		}
		/* Trimmed or damaged: what lies before is forgotten, which is
		 * better than a device that can never send again. */
		if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
			break;
		if (rc != 0)
			return rc;
		*entry = (struct sent_entry){
		    .request_hash = m.request_hash,
		    .message_id = m.id,
		    .seq = m.sender_seq,
		};
		crypto_siphash128(chain->secret, m.client_id.data,
		    m.client_id.len, entry->hash);
		chain->id = m.prev_sent;
	}
	if (count > 0)
		chain->id = 0;
	return chain->txn->rc; /* not of one message but of the store */
}

static int
put_row(struct txn *txn, uint64_t user, uint32_t device, uint32_t row,
    const struct sent_entry *entries, uint32_t *marks)
{
	uint8_t key[SENT_KEY_LEN];
	struct sent_row out;

	for (uint32_t i = 0; i < SENT_PER_ROW; i++)
		marks[row * SENT_PER_ROW + i] = mark_of(entries[i].hash);
	sent_key(key, user, device, row);
	memcpy(out.entries, entries, sizeof(out.entries));
	out.check = row_check(key, &out);
	return txn_put(txn, DBI_sent, key, sizeof(key), &out, sizeof(out));
}

/* The row as it is, zeros where there is none that is sound. */
static int
get_row(struct txn *txn, uint64_t user, uint32_t device, uint32_t row,
    struct sent_entry entries[SENT_PER_ROW])
{
	uint8_t key[SENT_KEY_LEN];
	struct blob value;
	int rc;

	memset(entries, 0, SENT_PER_ROW * sizeof(*entries));
	sent_key(key, user, device, row);
	rc = txn_get(txn, DBI_sent, key, sizeof(key), &value);
	if (rc == 0 && sent_is_sound(&(struct blob){key, sizeof(key)}, &value))
		memcpy(entries, value.data, SENT_PER_ROW * sizeof(*entries));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* What the log has lost of the tail was written to the tail's row before. */
static int
fill_tail(struct txn *txn, uint64_t user, const struct userhead_device *device,
    struct sent_recall *recall)
{
	struct sent_entry entries[SENT_PER_ROW];
	int rc;

	if (recall->tail_count == 0 || recall->tail[0].message_id != 0)
		return 0;
	rc = get_row(txn, user, device->number,
	    device->sent_next / SENT_PER_ROW, entries);
	for (uint32_t i = 0; rc == 0 && i < recall->tail_count; i++) {
		if (recall->tail[i].message_id == 0)
			recall->tail[i] = entries[i];
	}
	return rc;
}

/* What is not sound, or not there, as far as the log goes back. */
static int
mend_rows(struct chain *chain, const struct userhead_device *device,
    uint32_t sound, uint32_t *marks)
{
	uint32_t row = device->sent_next / SENT_PER_ROW;
	uint8_t key[SENT_KEY_LEN];
	int rc = 0;

	for (uint32_t n = 0; rc == 0 && n < SENT_ROWS; n++) {
		struct sent_entry entries[SENT_PER_ROW] = {0};
		bool has_any = chain->id != 0;

		row = (row + SENT_ROWS - 1) % SENT_ROWS;
		rc = chain_take(chain, entries, SENT_PER_ROW);
		if (rc != 0 || (sound & 1U << row) != 0)
			continue;
		sent_key(key, chain->user, chain->device, row);
		if (has_any)
			rc = put_row(chain->txn, chain->user, chain->device,
			    row, entries, marks);
		else
			rc = txn_del(chain->txn, DBI_sent, key, sizeof(key));
		if (rc == ERR_NOT_FOUND)
			rc = 0;
	}
	for (row = SENT_ROWS; rc == 0 && row <= UINT8_MAX; row++) {
		sent_key(key, chain->user, chain->device, row);
		rc = txn_del(chain->txn, DBI_sent, key, sizeof(key));
		if (rc == ERR_NOT_FOUND)
			rc = 0;
	}
	return rc;
}

int
sent_recall_load(struct txn *txn, const uint8_t secret[16], uint64_t user,
    const struct userhead_device *device, struct sent_recall *recall_out)
{
	struct chain chain = {
	    .txn = txn,
	    .secret = secret,
	    .user = user,
	    .device = device->number,
	    .id = device->last_sent,
	};
	uint32_t sound;
	bool is_good;
	int rc;

	memset(recall_out, 0, sizeof(*recall_out));
	recall_out->last_sent = device->last_sent;
	recall_out->tail_count = device->sent_next % SENT_PER_ROW;
	rc = load_marks(
	    txn, user, device->number, recall_out->marks, &sound, &is_good);
	if (rc == 0)
		rc = chain_take(
		    &chain, recall_out->tail, recall_out->tail_count);
	if (rc == 0)
		rc = fill_tail(txn, user, device, recall_out);
	if (rc == 0 && !is_good)
		rc = mend_rows(&chain, device, sound, recall_out->marks);
	return rc;
}

/* Entries of message id 0 are of a chain that was cut. */
static bool
search(const struct sent_entry *entries, uint32_t count, const uint8_t hash[16],
    struct sent_entry *entry_out)
{
	for (uint32_t i = 0; i < count; i++) {
		if (entries[i].message_id == 0 ||
		    memcmp(entries[i].hash, hash, sizeof(entries[i].hash)) != 0)
			continue;
		*entry_out = entries[i];
		return true;
	}
	return false;
}

static int
search_row(struct txn *txn, uint64_t user, uint32_t device, uint32_t row,
    const uint8_t hash[16], struct sent_entry *entry_out)
{
	struct sent_entry entries[SENT_PER_ROW];
	uint8_t key[SENT_KEY_LEN];
	struct blob value;
	int rc;

	sent_key(key, user, device, row);
	rc = txn_get(txn, DBI_sent, key, sizeof(key), &value);
	if (rc != 0)
		return rc;
	if (!sent_is_sound(&(struct blob){key, sizeof(key)}, &value))
		return ERR_CORRUPT;
	memcpy(entries, value.data, sizeof(entries));
	return search(entries, SENT_PER_ROW, hash, entry_out) ? 0
							      : ERR_NOT_FOUND;
}

int
sent_recall_find(struct txn *txn, const struct sent_recall *recall,
    uint64_t user, uint32_t device, const uint8_t hash[16],
    struct sent_entry *entry_out)
{
	uint32_t mark = mark_of(hash);
	int rc;

	if (search(recall->tail, recall->tail_count, hash, entry_out))
		return 0;
	for (uint32_t i = 0; i < SENT_MAX; i++) {
		if (recall->marks[i] != mark)
			continue;
		rc = search_row(
		    txn, user, device, i / SENT_PER_ROW, hash, entry_out);
		if (rc != ERR_NOT_FOUND)
			return rc;
	}
	return ERR_NOT_FOUND;
}

int
sent_recall_add(struct txn *txn, struct sent_recall *recall, uint64_t user,
    struct userhead_device *device, const struct sent_entry *entry)
{
	uint32_t row = device->sent_next / SENT_PER_ROW;

	recall->tail[recall->tail_count++] = *entry;
	recall->last_sent = entry->message_id;
	device->last_sent = entry->message_id;
	device->sent_next = (uint8_t)((device->sent_next + 1) % SENT_MAX);
	if (recall->tail_count < SENT_PER_ROW)
		return 0;
	recall->tail_count = 0;
	return put_row(
	    txn, user, device->number, row, recall->tail, recall->marks);
}

/* Is it one of the device's sends since the last whole row? */
static int
is_in_tail(struct txn *txn, const struct userhead_device *device, uint64_t id,
    bool *is_in_out)
{
	uint32_t count = device->sent_next % SENT_PER_ROW;
	uint64_t at = device->last_sent;
	int rc = 0;

	while (rc == 0 && count > 0 && at > id && --count > 0)
		rc = log_guess_prev_sent(txn, at, &at);
	*is_in_out = rc == 0 && count > 0 && at == id;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
sent_keep(struct txn *txn, const uint8_t secret[16], uint64_t user,
    const struct userhead_device *device, uint64_t id)
{
	uint32_t row = device->sent_next / SENT_PER_ROW;
	struct sent_entry entries[SENT_PER_ROW];
	struct sent_recall recall;
	bool is_in;
	int rc;

	rc = is_in_tail(txn, device, id, &is_in);
	if (rc != 0 || !is_in)
		return rc;
	rc = get_row(txn, user, device->number, row, entries);
	for (uint32_t i = 0; rc == 0 && i < SENT_PER_ROW; i++) {
		if (entries[i].message_id == id)
			return 0; /* with one that was before it */
	}
	if (rc == 0)
		rc = sent_recall_load(txn, secret, user, device, &recall);
	if (rc != 0)
		return rc;
	/* Those behind the tail are of the round before, and still count. */
	memcpy(entries, recall.tail, recall.tail_count * sizeof(*entries));
	return put_row(txn, user, device->number, row, entries, recall.marks);
}

int
sent_forget(struct txn *txn, uint64_t user, uint32_t device)
{
	uint8_t key[SENT_KEY_LEN];
	int rc = 0;

	for (uint32_t row = 0; row < SENT_ROWS; row++) {
		sent_key(key, user, device, row);
		rc = txn_del(txn, DBI_sent, key, sizeof(key));
		if (rc != 0 && rc != ERR_NOT_FOUND)
			return rc;
	}
	return 0;
}
