/*
 * presence.c - who is online.
 *
 * Role:    rows of the presence environment: what others see of a user, and
 *          which sessions a worker has.
 * Process: keeper writes, before it commits the main environment: a row may
 *          be put twice, never be missing. Workers and console read.
 * Blocks:  never: the environment lies on a tmpfs and is not synced.
 * Trust:   lengths and statuses are checked; a row that does not fit is
 *          corrupt.
 * See:     presence.h, t/unit/store_users.c.
 */
#include "shm/presence.h"

#include <string.h>

#define SESSION_KEY_LEN (1 + sizeof(uint32_t) + 2 * sizeof(uint64_t))

static const char *const status_names[STATUS_END] = {
    [STATUS_OFFLINE] = "OFFLINE",
    [STATUS_INVISIBLE] = "INVISIBLE",
    [STATUS_BUSY] = "BUSY",
    [STATUS_AWAY] = "AWAY",
    [STATUS_ONLINE] = "ONLINE",
};

const char *
status_name(enum user_status status)
{
	return status < STATUS_END ? status_names[status] : "OFFLINE";
}

int
status_parse(const char *text, size_t len, enum user_status *out)
{
	/* OFFLINE is what others see, not something one sets. */
	for (int i = STATUS_INVISIBLE; i < STATUS_END; i++) {
		if (strlen(status_names[i]) == len &&
		    memcmp(status_names[i], text, len) == 0) {
			*out = (enum user_status)i;
			return 0;
		}
	}
	return ERR_BAD_REQUEST;
}

int
presence_get(struct txn *txn, uint64_t user, struct presence *out)
{
	struct presence_row row;
	struct blob value;
	int rc;

	rc = txn_get(txn, DBI_presence, &user, sizeof(user), &value);
	if (rc != 0)
		return rc;
	if (value.len < sizeof(row))
		return ERR_CORRUPT;
	memcpy(&row, value.data, sizeof(row));
	if (row.text_len > STATUS_TEXT_MAX || row.status >= STATUS_END ||
	    value.len != sizeof(row) + row.text_len)
		return ERR_CORRUPT;
	out->workers = row.workers;
	out->version = row.version;
	out->last_seen_ms = row.last_seen_ms;
	out->status = (enum user_status)row.status;
	out->is_in_call = row.is_in_call != 0;
	out->text_len = row.text_len;
	memcpy(
	    out->text, (const uint8_t *)value.data + sizeof(row), row.text_len);
	return 0;
}

int
presence_put(struct txn *txn, uint64_t user, const struct presence *presence)
{
	struct presence_row row = {
	    .workers = presence->workers,
	    .version = presence->version,
	    .last_seen_ms = presence->last_seen_ms,
	    .status = (uint16_t)presence->status,
	    .is_in_call = presence->is_in_call,
	    .text_len = (uint32_t)presence->text_len,
	};
	void *room;
	int rc;

	rc = txn_reserve(txn, DBI_presence, &user, sizeof(user),
	    sizeof(row) + row.text_len, &room);
	if (rc != 0)
		return rc;
	memcpy(room, &row, sizeof(row));
	memcpy((uint8_t *)room + sizeof(row), presence->text, row.text_len);
	return 0;
}

uint64_t
presence_version(const struct txn *txn, uint64_t place)
{
	return txn_number(txn) << 16 |
	       (place < PRESENCE_LAST ? place : PRESENCE_LAST);
}

static void
session_key(uint8_t out[SESSION_KEY_LEN], int worker_slot, uint32_t generation,
    uint64_t user, uint64_t session)
{
	out[0] = (uint8_t)worker_slot;
	key_u32(out + 1, generation);
	key_u64(out + 5, user);
	key_u64(out + 13, session);
}

int
presence_session_put(struct txn *txn, int worker_slot, uint32_t generation,
    uint64_t user, uint64_t session)
{
	uint8_t key[SESSION_KEY_LEN];

	session_key(key, worker_slot, generation, user, session);
	return txn_put(txn, DBI_session, key, sizeof(key), "", 0);
}

int
presence_session_delete(struct txn *txn, int worker_slot, uint32_t generation,
    uint64_t user, uint64_t session)
{
	uint8_t key[SESSION_KEY_LEN];
	int rc;

	session_key(key, worker_slot, generation, user, session);
	rc = txn_del(txn, DBI_session, key, sizeof(key));
	return rc == ERR_NOT_FOUND ? 0 : rc; /* done before a crash */
}

int
presence_each_stale(struct txn *txn, int worker_slot, uint32_t keep,
    bool (*fn)(void *ctx, uint32_t generation, uint64_t user, uint64_t session),
    void *ctx)
{
	uint8_t start[SESSION_KEY_LEN];
	const uint8_t *key;
	struct walk walk;
	int rc;

	session_key(start, worker_slot, 0, 0, 0);
	rc = walk_begin(&walk, txn, DBI_session, start, sizeof(start));
	while (rc == 0) {
		key = walk.key.data;
		if (walk.key.len != SESSION_KEY_LEN || key[0] != start[0])
			break;
		if (key_get_u32(key + 1) == keep) {
			/* Generations only grow: the rest is older ones'
			 * successor; jump over it. */
			walk_end(&walk);
			if (keep == UINT32_MAX)
				return 0;
			session_key(start, worker_slot, keep + 1, 0, 0);
			rc = walk_begin(
			    &walk, txn, DBI_session, start, sizeof(start));
			continue;
		}
		if (!fn(ctx, key_get_u32(key + 1), key_get_u64(key + 5),
			key_get_u64(key + 13)))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}
