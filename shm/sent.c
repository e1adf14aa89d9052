/*
 * sent.c - the last sends of a device.
 *
 * Role:    rows of eight, written when they are whole; the sends since then
 *          are found in the log.
 * Process: keeper.
 * Blocks:  on cold pages of the disk.
 * Trust:   lengths are checked, messages by the log; a chain that leads to a
 *          damaged message or somebody else's ends there.
 * See:     sent.h, store_schema.h, doc/decisions/006, t/unit/store_sent.c.
 */
#include "shm/sent.h"

#include <stddef.h>
#include <string.h>

#include "base/crypto.h"
#include "base/log.h"

#define SENT_KEY_LEN (sizeof(uint64_t) + sizeof(uint32_t) + 1)
#define SENT_ROW_LEN (SENT_PER_ROW * sizeof(struct sent_entry))

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

static int
row_check(const struct blob *value, uint64_t user)
{
	if (value->len == SENT_ROW_LEN)
		return 0;
	log_error(NULL, "store-corrupt", "row=sent user=%llu length=%zu",
	    (unsigned long long)user, value->len);
	return ERR_CORRUPT;
}

static int
load_marks(struct txn *txn, uint64_t user, uint32_t device, uint32_t *marks)
{
	uint8_t key[SENT_KEY_LEN];
	struct walk walk;
	int rc;

	sent_key(key, user, device, 0);
	rc = walk_begin(&walk, txn, DBI_sent, key, sizeof(key));
	while (rc == 0 && walk.key.len == sizeof(key) &&
	       memcmp(walk.key.data, key, sizeof(key) - 1) == 0) {
		uint8_t row = ((const uint8_t *)walk.key.data)[sizeof(key) - 1];
		const uint8_t *entry = walk.value.data;

		rc = row < SENT_ROWS ? row_check(&walk.value, user)
				     : ERR_CORRUPT;
		if (rc != 0)
			break;
		for (uint32_t i = 0; i < SENT_PER_ROW; i++) {
			marks[row * SENT_PER_ROW + i] =
			    mark_of(entry + offsetof(struct sent_entry, hash));
			entry += sizeof(struct sent_entry);
		}
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
load_tail(struct txn *txn, const uint8_t secret[16], uint64_t user,
    const struct userhead_device *device, struct sent_recall *recall)
{
	uint32_t count = device->sent_next % SENT_PER_ROW;
	uint64_t id = device->last_sent;
	struct log_message m;
	uint32_t at = count;
	int rc;

	while (at > 0) {
		struct sent_entry *entry = &recall->tail[at - 1];

		rc = log_get(txn, id, &m);
		if (rc == 0 &&
		    (m.sender != user || m.sender_device != device->number)) {
			log_error(NULL, "store-corrupt",
			    "row=userhead user=%llu last_sent=%llu",
			    (unsigned long long)user, (unsigned long long)id);
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
		crypto_siphash128(
		    secret, m.client_id.data, m.client_id.len, entry->hash);
		id = m.prev_sent;
		at--;
	}
	recall->tail_count = count;
	return txn->rc; /* not of one message but of the store: unknown */
}

int
sent_recall_load(struct txn *txn, const uint8_t secret[16], uint64_t user,
    const struct userhead_device *device, struct sent_recall *recall_out)
{
	int rc;

	memset(recall_out, 0, sizeof(*recall_out));
	recall_out->last_sent = device->last_sent;
	rc = load_marks(txn, user, device->number, recall_out->marks);
	if (rc == 0)
		rc = load_tail(txn, secret, user, device, recall_out);
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
	if (rc == 0)
		rc = row_check(&value, user);
	if (rc != 0)
		return rc;
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

static int
put_row(struct txn *txn, struct sent_recall *recall, uint64_t user,
    uint32_t device, uint32_t row)
{
	uint8_t key[SENT_KEY_LEN];

	for (uint32_t i = 0; i < SENT_PER_ROW; i++)
		recall->marks[row * SENT_PER_ROW + i] =
		    mark_of(recall->tail[i].hash);
	recall->tail_count = 0;
	sent_key(key, user, device, row);
	return txn_put(
	    txn, DBI_sent, key, sizeof(key), recall->tail, SENT_ROW_LEN);
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
	return put_row(txn, recall, user, device->number, row);
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
