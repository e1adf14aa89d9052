/*
 * store_walk.c - rows one behind the other.
 *
 * Role:    a cursor, whose rows are opened as they come.
 * Process: keeper, which may delete on its way; all who read.
 * Blocks:  reads may wait for a page of the disk.
 * Trust:   rows of sealed tables whose check does not fit are left out.
 * See:     store.c, store_seal.c, t/unit/store.c.
 */
#include "shm/store.h"

#include <lmdb.h>

#include "shm/store_priv.h"

static int
walk_step(struct walk *walk, MDB_val *k, MDB_cursor_op op)
{
	MDB_val v;
	int mdb_rc;

	if (walk->txn->rc != 0)
		return walk->txn->rc;
	mdb_rc = mdb_cursor_get(walk->cursor, k, &v, op);
	if (mdb_rc != 0)
		return txn_fail(walk->txn, "walk", mdb_rc);
	walk->is_damaged =
	    store_is_sealed(walk->dbi) && seal_open(walk->dbi, k, &v) != 0;
	walk->key = (struct blob){k->mv_data, k->mv_size};
	walk->value = (struct blob){v.mv_data, v.mv_size};
	return 0;
}

/* Rows whose seal is broken are left out: each is somebody's, and not that of
 * all who stand behind it. */
static int
walk_move(struct walk *walk, MDB_val *k, MDB_cursor_op op)
{
	bool is_back = op == MDB_PREV || op == MDB_LAST;
	int rc = walk_step(walk, k, op);

	while (rc == 0 && walk->is_damaged && !walk->shows_damaged)
		rc = walk_step(walk, k, is_back ? MDB_PREV : MDB_NEXT);
	return rc;
}

static int
walk_open(struct walk *walk, struct txn *txn, enum store_dbi dbi)
{
	int mdb_rc;

	*walk = (struct walk){.txn = txn, .dbi = dbi};
	if (txn->rc != 0)
		return txn->rc;
	mdb_rc =
	    mdb_cursor_open(txn->mdb, txn->store->dbis[dbi], &walk->cursor);
	if (mdb_rc != 0) {
		walk->cursor = NULL;
		return txn_fail(txn, "walk", mdb_rc);
	}
	return 0;
}

int
walk_begin(struct walk *walk, struct txn *txn, enum store_dbi dbi,
    const void *start, size_t start_len)
{
	MDB_val k = {start_len, (void *)start};
	int rc = walk_open(walk, txn, dbi);

	if (rc != 0)
		return rc;
	return walk_move(walk, &k, start == NULL ? MDB_FIRST : MDB_SET_RANGE);
}

int
walk_begin_all(struct walk *walk, struct txn *txn, enum store_dbi dbi,
    const void *start, size_t start_len)
{
	MDB_val k = {start_len, (void *)(uintptr_t)start};
	int rc = walk_open(walk, txn, dbi);

	walk->shows_damaged = true;
	if (rc != 0)
		return rc;
	return walk_move(walk, &k, start == NULL ? MDB_FIRST : MDB_SET_RANGE);
}

int
walk_begin_before(struct walk *walk, struct txn *txn, enum store_dbi dbi,
    const void *start, size_t start_len)
{
	MDB_val k = {start_len, (void *)start};
	int rc = walk_open(walk, txn, dbi);

	if (rc != 0)
		return rc;
	rc = walk_move(walk, &k, MDB_SET_RANGE);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	return walk_move(walk, &k, rc == 0 ? MDB_PREV : MDB_LAST);
}

int
walk_next(struct walk *walk)
{
	MDB_val k;

	return walk_move(walk, &k, MDB_NEXT);
}

int
walk_prev(struct walk *walk)
{
	MDB_val k;

	return walk_move(walk, &k, MDB_PREV);
}

int
walk_delete(struct walk *walk)
{
	if (walk->txn->rc != 0)
		return walk->txn->rc;
	/* After it the cursor stands on the next one and MDB_NEXT stays there
	 * (lmdb.h, mdb_cursor_del; C_DEL in mdb.c). */
	return txn_fail(walk->txn, "delete", mdb_cursor_del(walk->cursor, 0));
}

void
walk_end(struct walk *walk)
{
	/* A write transaction that failed has not closed its cursors yet: they
	 * must go before the abort (lmdb.h, mdb_cursor_open). */
	if (walk->cursor != NULL)
		mdb_cursor_close(walk->cursor);
	walk->cursor = NULL;
}
