/*
 * userhead.c - a user's inbox head, devices and sessions.
 *
 * Role:    one small row per user, rewritten in place.
 * Process: keeper writes; workers, directory and console read.
 * Blocks:  on cold pages of the disk.
 * Trust:   counts and lengths are checked before anything is copied.
 * See:     store_schema.h, doc/decisions/001, t/unit/store_userhead.c.
 */
#include "shm/userhead.h"

#include <string.h>

#include "base/log.h"
#include "shm/sent.h"

#define DEVICE_KEY_LEN (sizeof(uint64_t) + sizeof(uint32_t))

static void
device_key(uint8_t out[DEVICE_KEY_LEN], uint64_t user, uint32_t number)
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
	const struct blob key = {&head->user, sizeof(head->user)};
	const struct blob row = {&head->row, sizeof(head->row)};
	const struct blob devices = {
	    head->devices, head->row.device_count * sizeof(head->devices[0])};

	return txn_put_parts(txn, DBI_userhead, &key, &row, &devices);
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
	const struct blob head = {&row, sizeof(row)};
	const struct blob name = {id, len};
	uint8_t key[DEVICE_KEY_LEN];

	device_key(key, user, number);
	return txn_put_parts(
	    txn, DBI_device, &(struct blob){key, sizeof(key)}, &head, &name);
}

int
device_forget(struct txn *txn, uint64_t user, uint32_t number)
{
	uint8_t key[DEVICE_KEY_LEN];
	int rc;

	device_key(key, user, number);
	rc = txn_del(txn, DBI_device, key, sizeof(key));
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	return sent_forget(txn, user, number);
}
