/*
 * ages.c - which ids had been given out by when, in the store's time.
 *
 * Role:    a few rows, one for each step of retention in which there was
 *          something to note.
 * Process: keeper.
 * Blocks:  on cold pages of the disk.
 * Trust:   a row that is damaged is as one that is not there: the one before
 *          it counts, by which things live longer.
 * See:     keeper/retention.c, doc/decisions/021, t/unit/store_ages.c.
 */
#include "shm/ages.h"

#include <string.h>

int
ages_put(struct txn *txn, int64_t age_ms, uint64_t last_id)
{
	uint64_t key = age_ms > 0 ? (uint64_t)age_ms : 0;

	return txn_put(
	    txn, DBI_ages, &key, sizeof(key), &last_id, sizeof(last_id));
}

/* The last row below key. */
static int
find_before(struct walk *walk, struct txn *txn, uint64_t key)
{
	int rc = walk_begin_before(walk, txn, DBI_ages, &key, sizeof(key));

	while (rc == 0 && (walk->key.len != sizeof(uint64_t) ||
			      walk->value.len != sizeof(uint64_t)))
		rc = walk_prev(walk);
	return rc;
}

int
ages_last(struct txn *txn, int64_t *age_ms_out)
{
	uint64_t key = 0;
	struct walk walk;
	int rc = find_before(&walk, txn, UINT64_MAX);

	if (rc == 0)
		memcpy(&key, walk.key.data, sizeof(key));
	*age_ms_out = (int64_t)key;
	walk_end(&walk);
	return rc;
}

int
ages_upto(struct txn *txn, int64_t age_ms, uint64_t *id_out)
{
	struct walk walk;
	int rc;

	*id_out = 0;
	if (age_ms < 0)
		return 0;
	rc = find_before(&walk, txn, (uint64_t)age_ms + 1);
	if (rc == 0)
		memcpy(id_out, walk.value.data, sizeof(*id_out));
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* All but the last one up to age_ms. */
int
ages_forget(struct txn *txn, int64_t age_ms, size_t limit)
{
	uint64_t last = 0;
	uint64_t key;
	struct walk walk;
	int rc;

	if (age_ms < 0)
		return 0;
	rc = find_before(&walk, txn, (uint64_t)age_ms + 1);
	if (rc == 0)
		memcpy(&last, walk.key.data, sizeof(last));
	walk_end(&walk);
	if (rc == 0)
		rc = walk_begin(&walk, txn, DBI_ages, NULL, 0);
	for (; rc == 0 && limit > 0; limit--) {
		memcpy(&key, walk.key.data, sizeof(key));
		if (key >= last)
			break;
		rc = walk_delete(&walk);
		if (rc == 0)
			rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}
