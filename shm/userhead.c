/*
 * userhead.c - a user's inbox head, devices, sessions and last sends.
 *
 * Role:    one small row per user, rewritten in place; the 128 last sends of
 *          a device in 16 dense rows, so that a send dirties one page.
 * Process: keeper writes; workers, directory and console read.
 * Blocks:  on cold pages of the disk.
 * Trust:   counts and lengths are checked before anything is copied.
 * See:     store_schema.h, doc/decisions/001, t/unit/store_userhead.c.
 */
#include "shm/userhead.h"

#include <string.h>

#include "base/log.h"

#define SENT_KEY_LEN (sizeof(uint64_t) + sizeof(uint32_t) + 1)

static void
device_key(uint8_t *out, uint64_t user, uint32_t number)
{
	key_u64(out, user);
	key_u32(out + sizeof(uint64_t), number);
}

int
userhead_get(struct txn *txn, uint64_t user, struct userhead *out)
{
	struct blob value;
	size_t devices_len;
	int rc;

	rc = txn_get(txn, DBI_userhead, &user, sizeof(user), &value);
	if (rc != 0)
		return rc;
	if (value.len < sizeof(out->row))
		goto corrupt;
	memcpy(&out->row, value.data, sizeof(out->row));
	devices_len = out->row.device_count * sizeof(out->devices[0]);
	if (out->row.device_count > DEVICES_MAX ||
	    value.len != sizeof(out->row) + devices_len)
		goto corrupt;
	memcpy(out->devices, (const uint8_t *)value.data + sizeof(out->row),
	    devices_len);
	out->user = user;
	return 0;
corrupt:
	log_error(NULL, "store-corrupt", "row=userhead user=%llu length=%zu",
	    (unsigned long long)user, value.len);
	return ERR_CORRUPT;
}

int
userhead_get_or_new(
    struct txn *txn, uint64_t user, uint64_t base, struct userhead *out)
{
	int rc;

	rc = userhead_get(txn, user, out);
	if (rc != ERR_NOT_FOUND)
		return rc;
	*out = (struct userhead){
	    .user = user,
	    .row = {.head = base, .floor = base, .delivered = base},
	};
	return 0;
}

int
userhead_put(struct txn *txn, const struct userhead *head)
{
	size_t devices_len = head->row.device_count * sizeof(head->devices[0]);
	void *room;
	int rc;

	rc = txn_reserve(txn, DBI_userhead, &head->user, sizeof(head->user),
	    sizeof(head->row) + devices_len, &room);
	if (rc != 0)
		return rc;
	memcpy(room, &head->row, sizeof(head->row));
	memcpy((uint8_t *)room + sizeof(head->row), head->devices, devices_len);
	return 0;
}

struct userhead_device *
userhead_find_device(struct userhead *head, const uint8_t hash[16])
{
	for (int i = 0; i < head->row.device_count; i++) {
		if (memcmp(head->devices[i].hash, hash, 16) == 0)
			return &head->devices[i];
	}
	return NULL;
}

struct userhead_device *
userhead_find_session(struct userhead *head, uint64_t session)
{
	for (int i = 0; i < head->row.device_count; i++) {
		if (head->devices[i].session == session && session != 0)
			return &head->devices[i];
	}
	return NULL;
}

void
userhead_remove_device(struct userhead *head, struct userhead_device *device)
{
	struct userhead_device *last =
	    &head->devices[head->row.device_count - 1];

	if (device != last)
		*device = *last;
	head->row.device_count--;
}

int
device_put(struct txn *txn, uint64_t user, uint32_t number, const char *id,
    size_t len, int64_t now_ms)
{
	struct device_row row = {.created_ms = now_ms, .id_len = (uint32_t)len};
	uint8_t key[sizeof(uint64_t) + sizeof(uint32_t)];
	void *room;
	int rc;

	device_key(key, user, number);
	rc = txn_reserve(
	    txn, DBI_device, key, sizeof(key), sizeof(row) + len, &room);
	if (rc != 0)
		return rc;
	memcpy(room, &row, sizeof(row));
	memcpy((uint8_t *)room + sizeof(row), id, len);
	return 0;
}

int
device_forget(struct txn *txn, uint64_t user, uint32_t number)
{
	uint8_t key[SENT_KEY_LEN];
	int rc;

	device_key(key, user, number);
	rc = txn_del(txn, DBI_device, key, sizeof(uint64_t) + sizeof(uint32_t));
	for (uint8_t row = 0; row < SENT_ROWS; row++) {
		if (rc != 0 && rc != ERR_NOT_FOUND)
			return rc;
		key[SENT_KEY_LEN - 1] = row;
		rc = txn_del(txn, DBI_sent, key, sizeof(key));
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* One row of entries; remembers the oldest place seen so far. */
static bool
sent_search_row(const struct blob *value, uint32_t row, const uint8_t hash[16],
    struct sent_entry *entry_out, struct sent_place *place_out,
    uint64_t *oldest_io)
{
	struct sent_entry entry;

	for (uint32_t i = 0; i < SENT_PER_ROW; i++) {
		memcpy(&entry, (const uint8_t *)value->data + i * sizeof(entry),
		    sizeof(entry));
		if (entry.message_id != 0 &&
		    memcmp(entry.hash, hash, sizeof(entry.hash)) == 0) {
			*entry_out = entry;
			*place_out = (struct sent_place){row, i};
			return true;
		}
		if (entry.message_id < *oldest_io) {
			*oldest_io = entry.message_id;
			*place_out = (struct sent_place){row, i};
		}
	}
	return false;
}

int
sent_find(struct txn *txn, uint64_t user, uint32_t device,
    const uint8_t hash[16], struct sent_entry *entry_out,
    struct sent_place *place_out)
{
	uint8_t key[SENT_KEY_LEN];
	uint64_t oldest = UINT64_MAX;
	uint32_t rows = 0;
	struct walk walk;
	int rc;

	device_key(key, user, device);
	key[SENT_KEY_LEN - 1] = 0;
	*place_out = (struct sent_place){0, 0};
	rc = walk_begin(&walk, txn, DBI_sent, key, sizeof(key));
	while (rc == 0 && walk.key.len == sizeof(key) &&
	       memcmp(walk.key.data, key, sizeof(key) - 1) == 0) {
		if (walk.value.len != SENT_PER_ROW * sizeof(*entry_out)) {
			rc = ERR_CORRUPT;
			break;
		}
		if (sent_search_row(&walk.value, rows, hash, entry_out,
			place_out, &oldest)) {
			walk_end(&walk);
			return 0;
		}
		rows++;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	/* Nothing empty in the rows there are: the next row, while there is
	 * one to make; else the oldest entry makes room. */
	if (oldest != 0 && rows < SENT_ROWS)
		*place_out = (struct sent_place){rows, 0};
	return ERR_NOT_FOUND;
}

int
sent_put(struct txn *txn, uint64_t user, uint32_t device,
    struct sent_place place, const struct sent_entry *entry)
{
	struct sent_entry entries[SENT_PER_ROW] = {0};
	uint8_t key[SENT_KEY_LEN];
	struct blob value;
	int rc;

	device_key(key, user, device);
	key[SENT_KEY_LEN - 1] = (uint8_t)place.row;
	rc = txn_get(txn, DBI_sent, key, sizeof(key), &value);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (rc == 0 && value.len != sizeof(entries))
		return ERR_CORRUPT;
	if (rc == 0)
		memcpy(entries, value.data, sizeof(entries));
	entries[place.index] = *entry;
	return txn_put(
	    txn, DBI_sent, key, sizeof(key), entries, sizeof(entries));
}
