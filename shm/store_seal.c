/*
 * store_seal.c - a check at the end of each row of a sealed table.
 *
 * Role:    32 bits of XXH3 over table, key and value: LMDB has no checksums of
 *          its pages, and a row in the wrong place is as bad as a changed one.
 *          Tables whose rows have checks of their own are not sealed.
 * Process: keeper seals; everybody opens.
 * Blocks:  never.
 * Trust:   none: a value is anything.
 * See:     store_schema.h (which tables), store.c (who calls),
 * doc/decisions/016.
 */
#include <stdatomic.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/buf.h"
#include "base/count.h"
#include "base/log.h"
#include "shm/store_priv.h"
#include "shm/verify.h"

#define TOLD_MAX 256

static struct {
	_Atomic uint64_t rows[TOLD_MAX]; /* damaged, any thread's */
} told;

/*
 * What stands for a table in its seals must outlive the order of the tables in
 * store_schema.h: for those of schema 4 the place that they had there, from 1
 * on; for younger ones their name.
 */
static const uint8_t first_places[DBI_END] = {
    [DBI_behind] = 1,
    [DBI_contact] = 2,
    [DBI_conv] = 3,
    [DBI_convindex] = 4,
    [DBI_device] = 5,
    [DBI_grace] = 6,
    [DBI_meta] = 9,
    [DBI_userconv] = 12,
    [DBI_userhead] = 13,
    [DBI_users] = 14,
};

static uint64_t
table_number(enum store_dbi dbi)
{
	const char *name;

	if (first_places[dbi] != 0)
		return first_places[dbi];
	name = verify_dbi_name(dbi);
	return XXH3_64bits(name, strlen(name));
}

uint32_t
seal_of(enum store_dbi dbi, const MDB_val *key, const void *value, size_t len)
{
	uint64_t seed =
	    XXH3_64bits_withSeed(key->mv_data, key->mv_size, table_number(dbi));

	return (uint32_t)XXH3_64bits_withSeed(value, len, seed ^ len);
}

/* Once for each row, not with every page that it would be on; again where two
 * of them share a place. */
static void
tell(enum store_dbi dbi, const MDB_val *key)
{
	struct blob blob = {key->mv_data, key->mv_size};
	char text[VERIFY_KEY_TEXT_MAX];
	uint64_t hash =
	    XXH3_64bits_withSeed(key->mv_data, key->mv_size, (uint64_t)dbi + 1);

	COUNT(store_corrupt);
	if (atomic_exchange(&told.rows[hash % TOLD_MAX], hash) == hash)
		return;
	if (blob.len > VERIFY_KEY_MAX)
		blob.len = VERIFY_KEY_MAX;
	verify_key_text(dbi, blob, text);
	log_error(NULL, "store-corrupt",
	    "row=%s key=%s; the row failed its check and is not used",
	    verify_dbi_name(dbi), text);
}

int
seal_open(enum store_dbi dbi, const MDB_val *key, MDB_val *value_io)
{
	uint32_t found;
	size_t len = value_io->mv_size - SEAL_BYTES;

	if (value_io->mv_size >= SEAL_BYTES) {
		memcpy(&found, (const uint8_t *)value_io->mv_data + len,
		    sizeof(found));
		value_io->mv_size = len;
		if (found == seal_of(dbi, key, value_io->mv_data, len))
			return 0;
	}
	tell(dbi, key);
	return ERR_CORRUPT;
}

/* One table, row by row; the cursor finds its way whatever moves. */
static int
seal_table(MDB_txn *mdb, MDB_dbi handle, enum store_dbi dbi)
{
	uint8_t key_room[VERIFY_KEY_MAX];
	MDB_cursor *cursor = NULL;
	struct buf copy = {0};
	MDB_val k;
	MDB_val v;
	int mdb_rc = mdb_cursor_open(mdb, handle, &cursor);

	if (mdb_rc == 0)
		mdb_rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
	while (mdb_rc == 0) {
		uint32_t seal = seal_of(dbi, &k, v.mv_data, v.mv_size);

		if (k.mv_size > sizeof(key_room)) {
			mdb_rc = MDB_CORRUPTED;
			break;
		}
		memcpy(key_room, k.mv_data, k.mv_size);
		k.mv_data = key_room;
		buf_clear(&copy);
		if (v.mv_size > 0)
			buf_add(&copy, v.mv_data, v.mv_size);
		buf_add(&copy, &seal, sizeof(seal));
		v = (MDB_val){copy.len, copy.data};
		mdb_rc = mdb_cursor_put(cursor, &k, &v, 0);
		if (mdb_rc == 0)
			mdb_rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	if (cursor != NULL)
		mdb_cursor_close(cursor);
	buf_fini(&copy);
	return mdb_rc == MDB_NOTFOUND ? 0 : mdb_rc;
}

int
seal_all(MDB_txn *mdb, const MDB_dbi dbis[DBI_END])
{
	int mdb_rc = 0;

	for (int i = 0; mdb_rc == 0 && i < DBI_END; i++) {
		if (store_is_sealed((enum store_dbi)i))
			mdb_rc = seal_table(mdb, dbis[i], (enum store_dbi)i);
	}
	return mdb_rc;
}
