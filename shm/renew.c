/*
 * renew.c - a restored store must not give out a number twice.
 *
 * Role:    raises every user's seqs above what the original may have given
 *          out, then the ids, and changes the epoch.
 * Process: parleyctl restore.
 * Blocks:  on the disk; a transaction for so many users.
 * Trust:   the store has been verified.
 * See:     meta.c (the base), t/62-backup.t.
 */
#include "shm/renew.h"

#include <string.h>

#include "shm/meta.h"
#include "shm/userhead.h"

#define USERS_PER_TXN 1000

/* The users behind above, in the tree's order. */
static int
next_users(
    struct txn *txn, const uint64_t *above, uint64_t *users, size_t *count_out)
{
	struct walk walk;
	int rc = walk_begin(&walk, txn, DBI_userhead, above,
	    above != NULL ? sizeof(*above) : 0);

	*count_out = 0;
	while (rc == 0 && *count_out < USERS_PER_TXN) {
		uint64_t user;

		if (walk.key.len != sizeof(user)) {
			rc = ERR_CORRUPT;
			break;
		}
		memcpy(&user, walk.key.data, sizeof(user));
		if (above == NULL || user != *above)
			users[(*count_out)++] = user;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
raise_users(struct txn *txn, const uint64_t *users, size_t count, uint64_t base)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct userhead head;

		rc = userhead_get(txn, users[i], &head);
		if (rc == 0 && head.row.head < base) {
			head.row.head = base;
			rc = userhead_put(txn, &head);
		}
	}
	return rc;
}

int
renew_last_id(struct store *store, uint64_t *id_out)
{
	struct txn txn = {0};
	struct meta_rings rings;
	int rc = store_begin_read(store, &txn);

	*id_out = 0;
	if (rc == 0)
		rc = meta_rings_get(&txn, &rings);
	if (rc == 0)
		*id_out = rings.last_id;
	txn_end(&txn);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
renew_store(struct store *store, int64_t now_ms, uint64_t last_id)
{
	uint64_t base = meta_base_at(now_ms);
	uint64_t users[USERS_PER_TXN];
	uint64_t above = 0;
	size_t count = 0;
	bool is_first = true;
	struct txn txn = {0};
	int rc;

	do {
		rc = store_begin_write(store, &txn);
		if (rc == 0)
			rc = next_users(
			    &txn, is_first ? NULL : &above, users, &count);
		if (rc == 0)
			rc = raise_users(&txn, users, count, base);
		if (rc == 0 && count == 0)
			rc = meta_renew(&txn, base, last_id);
		if (rc == 0)
			rc = txn_commit(&txn);
		txn_end(&txn);
		if (count > 0)
			above = users[count - 1];
		is_first = false;
	} while (rc == 0 && count > 0);
	return rc;
}
