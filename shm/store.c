/*
 * store.c - the two LMDB environments and their transactions.
 *
 * Role:    opens main (synced) and presence (tmpfs), translates LMDB's codes
 *          once, gives transactions a sticky error.
 * Process: keeper writes; workers, directory and console read. Opened after
 *          fork (lmdb.h, caveats: an environment does not survive one).
 * Blocks:  reads may wait for a page of the disk; txn_commit waits for
 *          fdatasync.
 * Trust:   LMDB has no page checksums: rows are checked by their modules.
 * See:     store_schema.h (rows), doc/decisions/001, t/unit/store.c.
 */
#include "shm/store.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lmdb.h>

#include "base/log.h"
#include "base/mem.h"
#include "shm/store_priv.h"

/* Workers with a reader thread each, keeper, directory's pool, console. */
#define STORE_READERS_MAX 512

/*
 * The map is larger than what the log may fill by this much: deleting copies
 * pages, too, and would find none in a map that is full to the last one.
 */
#define STORE_RESERVE_BYTES ((size_t)16 << 20)

struct dbi_row {
	const char *name;
	unsigned flags;
	enum store_env env;
	bool is_sealed;
};

static const struct dbi_row dbi_table[DBI_END] = {
#define OWN    false
#define SEALED true
#define DBI(name, flags, check)                                                \
	[DBI_##name] = {#name, (flags), STORE_MAIN, check},
    STORE_MAIN_DBIS(DBI)
#undef DBI
#define DBI(name, flags, check)                                                \
	[DBI_##name] = {#name, (flags), STORE_PRESENCE, check},
	STORE_PRESENCE_DBIS(DBI)
#undef DBI
#undef OWN
#undef SEALED
};

bool
store_is_sealed(enum store_dbi dbi)
{
	return dbi_table[dbi].is_sealed;
}

static struct {
	_Atomic uint32_t *in_store; /* of this process, on the board */
} watched;

void
store_watch(_Atomic uint32_t *in_store)
{
	watched.in_store = in_store;
}

void
store_enter(void)
{
	if (watched.in_store != NULL)
		atomic_fetch_add(watched.in_store, 1);
}

void
store_leave(void)
{
	if (watched.in_store != NULL)
		atomic_fetch_sub(watched.in_store, 1);
}

static int
store_error(int rc)
{
	switch (rc) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return ERR_NOT_FOUND;
	case MDB_MAP_FULL:
	case ENOSPC:
	case EDQUOT:
		return ERR_STORAGE_FULL;
	case MDB_TXN_FULL:
		return ERR_FULL;
	case MDB_KEYEXIST:
		return ERR_CONFLICT;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_INCOMPATIBLE:
	case MDB_VERSION_MISMATCH: /* all of this library write the same */
	case MDB_CURSOR_FULL:      /* a tree deeper than any can be */
	case MDB_BAD_TXN: /* it failed before without saying so: damaged
			   * pages do that, we stop at what is said */
		return ERR_CORRUPT;
	case ENOMEM:
		return ERR_NO_MEMORY;
	default:
		return ERR_IO;
	}
}

int
txn_fail(struct txn *txn, const char *what, int mdb_rc)
{
	int rc = store_error(mdb_rc);

	if (rc == 0 || rc == ERR_NOT_FOUND)
		return rc;
	/* A meta page could not be written: this process cannot know any more
	 * what is on disk. The next one looks (mdb.c, MDB_FATAL_ERROR). */
	if (mdb_rc == MDB_PANIC) {
		/* the disk's doing, not that of the pages */
		if (watched.in_store != NULL)
			atomic_store(watched.in_store, 0);
		panic("%s: the store must be opened again", txn->store->path);
	}
	txn->rc = rc;
	if (rc != ERR_STORAGE_FULL)
		log_error(NULL, "store-failed",
		    "operation=%s file=%s error=\"%s\"", what, txn->store->path,
		    mdb_strerror(mdb_rc));
	return rc;
}

static int
store_open_dbis(struct store *store, int *mdb_rc_out)
{
	unsigned create = store->is_writer ? MDB_CREATE : 0;
	MDB_txn *mdb = NULL;
	int rc;

	rc = mdb_txn_begin(
	    store->mdb, NULL, store->is_writer ? 0 : MDB_RDONLY, &mdb);
	for (int i = 0; rc == 0 && i < DBI_END; i++) {
		if (dbi_table[i].env != store->env)
			continue;
		rc = mdb_dbi_open(mdb, dbi_table[i].name,
		    dbi_table[i].flags | create, &store->dbis[i]);
	}
	if (rc == 0)
		rc = mdb_txn_commit(mdb);
	else if (mdb != NULL)
		mdb_txn_abort(mdb);
	*mdb_rc_out = rc;
	return store_error(rc);
}

/* A damaged meta page may ask for a map that no machine has (ENOMEM; EINVAL
 * from a kernel or a tool that looks at the length first): the file's doing
 * where what was configured would fit. */
static bool
map_would_fit(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return false;
	munmap(map, bytes);
	return true;
}

int
store_open(enum store_env env, const char *folder, size_t map_size,
    bool is_writer, struct store **store_out, char *error, size_t error_len)
{
	struct store *store = xcalloc(1, sizeof(*store));
	unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD;
	int mdb_rc;
	int rc;

	store->env = env;
	store->is_writer = is_writer;
	store->log_bytes = map_size;
	snprintf(store->path, sizeof(store->path), "%s/%s.mdb", folder,
	    env == STORE_MAIN ? "main" : "presence");
	if (env == STORE_PRESENCE)
		flags |= MDB_NOSYNC; /* tmpfs: nothing to wait for */
	if (!is_writer)
		flags |= MDB_RDONLY;
	store_enter();
	mdb_rc = mdb_env_create(&store->mdb);
	if (mdb_rc == 0)
		mdb_rc = mdb_env_set_mapsize(
		    store->mdb, map_size + STORE_RESERVE_BYTES);
	if (mdb_rc == 0)
		mdb_rc = mdb_env_set_maxdbs(store->mdb, DBI_END);
	if (mdb_rc == 0)
		mdb_rc = mdb_env_set_maxreaders(store->mdb, STORE_READERS_MAX);
	if (mdb_rc == 0)
		mdb_rc = mdb_env_open(store->mdb, store->path, flags, 0600);
	if ((mdb_rc == ENOMEM || mdb_rc == EINVAL) &&
	    map_would_fit(map_size + STORE_RESERVE_BYTES))
		mdb_rc = MDB_CORRUPTED;
	rc = store_error(mdb_rc);
	if (rc == 0)
		rc = store_open_dbis(store, &mdb_rc);
	store_leave();
	if (rc != 0) {
		if (mdb_rc == ENOENT)
			rc = ERR_NOT_FOUND;
		snprintf(error, error_len, "cannot open the store %s: %s; %s",
		    store->path, mdb_strerror(mdb_rc),
		    mdb_rc == MDB_NOTFOUND
			? "a table is missing: an earlier version made it, a "
			  "stop and a start bring it up to date"
			: "check that the folder exists, belongs to the "
			  "server's user and has room");
		store_close(&store);
		return rc;
	}
	*store_out = store;
	return 0;
}

void
store_close(struct store **store)
{
	if (*store == NULL)
		return;
	if ((*store)->mdb != NULL)
		mdb_env_close((*store)->mdb);
	free(*store);
	*store = NULL;
}

int
store_sync(struct store *store)
{
	return store_error(mdb_env_sync(store->mdb, 1));
}

int
store_copy(struct store *store, int fd, bool is_compact)
{
	int mdb_rc =
	    mdb_env_copyfd2(store->mdb, fd, is_compact ? MDB_CP_COMPACT : 0);

	/* the library's own numbers are negative */
	return mdb_rc < 0 ? EIO : mdb_rc;
}

static int
store_begin(struct store *store, struct txn *txn, bool is_write)
{
	unsigned flags = is_write ? 0 : MDB_RDONLY;
	int mdb_rc;

	*txn = (struct txn){.store = store, .is_write = is_write};
	store_enter();
	mdb_rc = mdb_txn_begin(store->mdb, NULL, flags, &txn->mdb);
	if (mdb_rc == MDB_READERS_FULL) {
		/* Slots of killed processes: clean once, retry once. */
		store_reader_check(store);
		mdb_rc = mdb_txn_begin(store->mdb, NULL, flags, &txn->mdb);
	}
	if (mdb_rc != 0) {
		txn->mdb = NULL;
		store_leave();
		return txn_fail(txn, "begin", mdb_rc);
	}
	return 0;
}

/*
 * LMDB reads the number of the last synced commit and then one of two meta
 * pages by that number (mdb.c, mdb_txn_renew0). A reader that is held up in
 * between for two commits gets what the second wrote there: it may not be
 * synced yet, and the snapshot after this one would be older.
 */
static bool
is_held_up(const struct txn *txn)
{
	MDB_envinfo info;

	return mdb_env_info(txn->store->mdb, &info) == 0 &&
	       info.me_last_txnid >= mdb_txn_id(txn->mdb) + 2;
}

int
store_begin_read(struct store *store, struct txn *txn)
{
	int mdb_rc = 0;
	int rc;

	rc = store_begin(store, txn, false);
	while (rc == 0 && mdb_rc == 0 && is_held_up(txn)) {
		mdb_txn_reset(txn->mdb);
		mdb_rc = mdb_txn_renew(txn->mdb);
	}
	if (mdb_rc == 0)
		return rc;
	txn_end(txn);
	return txn_fail(txn, "begin", mdb_rc);
}

int
store_begin_write(struct store *store, struct txn *txn)
{
	store->is_full = store_is_full(store);
	return store_begin(store, txn, true);
}

uint64_t
txn_number(const struct txn *txn)
{
	return mdb_txn_id(txn->mdb);
}

int
txn_commit(struct txn *txn)
{
	MDB_txn *mdb = txn->mdb;
	int mdb_rc;

	if (txn->rc != 0) {
		txn_end(txn);
		return txn->rc;
	}
	txn->mdb = NULL; /* mdb_txn_commit frees it, whatever it returns */
	mdb_rc = mdb_txn_commit(mdb);
	store_leave();
	/* What a full disk took in part LMDB calls EIO (mdb_page_flush, "short
	 * write, filesystem full?"). */
	if (mdb_rc == EIO && store_is_disk_full(txn->store))
		mdb_rc = ENOSPC;
	return txn_fail(txn, "commit", mdb_rc);
}

void
txn_end(struct txn *txn)
{
	if (txn->mdb == NULL)
		return;
	mdb_txn_abort(txn->mdb);
	store_leave();
	txn->mdb = NULL;
}

static int
get(struct txn *txn, enum store_dbi dbi, MDB_val k, bool is_open,
    struct blob *out)
{
	int rc = 0;
	MDB_val v;
	int mdb_rc;

	if (txn->rc != 0)
		return txn->rc;
	mdb_rc = mdb_get(txn->mdb, txn->store->dbis[dbi], &k, &v);
	if (mdb_rc != 0)
		return txn_fail(txn, "get", mdb_rc);
	if (is_open && store_is_sealed(dbi))
		rc = seal_open(dbi, &k, &v);
	*out = (struct blob){v.mv_data, v.mv_size};
	return rc;
}

int
txn_get(struct txn *txn, enum store_dbi dbi, const void *key, size_t key_len,
    struct blob *out)
{
	return get(
	    txn, dbi, (MDB_val){key_len, (void *)(uintptr_t)key}, true, out);
}

int
txn_get_fixed(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, void *out, size_t out_len)
{
	struct blob value = {0};
	int rc = txn_get(txn, dbi, key, key_len, &value);

	if (rc != 0)
		return rc;
	if (value.len != out_len)
		return ERR_CORRUPT;
	memcpy(out, value.data, out_len);
	return 0;
}

int
txn_get_raw(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, struct blob *out)
{
	return get(
	    txn, dbi, (MDB_val){key_len, (void *)(uintptr_t)key}, false, out);
}

/* The value and its seal, in the place where LMDB wants them. */
static int
put_sealed(struct txn *txn, enum store_dbi dbi, MDB_val *k,
    const struct blob *head, const struct blob *tail)
{
	size_t len = head->len + tail->len;
	MDB_val v = {len + SEAL_BYTES, NULL};
	uint32_t seal;
	int mdb_rc =
	    mdb_put(txn->mdb, txn->store->dbis[dbi], k, &v, MDB_RESERVE);

	if (mdb_rc != 0)
		return txn_fail(txn, "put", mdb_rc);
	if (head->len > 0)
		memcpy(v.mv_data, head->data, head->len);
	if (tail->len > 0)
		memcpy((uint8_t *)v.mv_data + head->len, tail->data, tail->len);
	seal = seal_of(dbi, k, v.mv_data, len);
	memcpy((uint8_t *)v.mv_data + len, &seal, sizeof(seal));
	return 0;
}

int
txn_put_parts(struct txn *txn, enum store_dbi dbi, const struct blob *key,
    const struct blob *head, const struct blob *tail)
{
	MDB_val k = {key->len, (void *)(uintptr_t)key->data};

	if (txn->rc != 0)
		return txn->rc;
	if (!store_is_sealed(dbi))
		panic("parts are for sealed tables");
	return put_sealed(txn, dbi, &k, head, tail);
}

int
txn_seal_all(struct txn *txn)
{
	if (txn->rc != 0)
		return txn->rc;
	return txn_fail(txn, "seal", seal_all(txn->mdb, txn->store->dbis));
}

int
txn_put(struct txn *txn, enum store_dbi dbi, const void *key, size_t key_len,
    const void *value, size_t value_len)
{
	MDB_val k = {key_len, (void *)key};
	MDB_val v = {value_len, (void *)value};

	if (txn->rc != 0)
		return txn->rc;
	if (store_is_sealed(dbi))
		return put_sealed(txn, dbi, &k,
		    &(struct blob){value, value_len}, &(struct blob){NULL, 0});
	return txn_fail(
	    txn, "put", mdb_put(txn->mdb, txn->store->dbis[dbi], &k, &v, 0));
}

int
txn_append(struct txn *txn, enum store_dbi dbi, uint64_t key, const void *value,
    size_t value_len)
{
	MDB_val k = {sizeof(key), &key};
	MDB_val v = {value_len, (void *)value};

	if (txn->rc != 0)
		return txn->rc;
	if (txn->store->is_full)
		return txn_fail(txn, "append", MDB_MAP_FULL);
	return txn_fail(txn, "append",
	    mdb_put(txn->mdb, txn->store->dbis[dbi], &k, &v, MDB_APPEND));
}

static int
reserve(struct txn *txn, enum store_dbi dbi, const void *key, size_t key_len,
    size_t value_len, unsigned flags, void **room_out)
{
	MDB_val k = {key_len, (void *)key};
	MDB_val v = {value_len, NULL};
	int mdb_rc;

	if (txn->rc != 0)
		return txn->rc;
	mdb_rc = mdb_put(
	    txn->mdb, txn->store->dbis[dbi], &k, &v, flags | MDB_RESERVE);
	if (mdb_rc != 0)
		return txn_fail(txn, "put", mdb_rc);
	*room_out = v.mv_data;
	return 0;
}

int
txn_reserve(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, size_t value_len, void **room_out)
{
	if (txn->rc != 0)
		return txn->rc;
	if (dbi == DBI_log && txn->store->is_full)
		return txn_fail(txn, "append", MDB_MAP_FULL);
	return reserve(txn, dbi, key, key_len, value_len,
	    dbi == DBI_log ? MDB_APPEND : 0, room_out);
}

int
txn_reserve_again(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, size_t value_len, void **room_out)
{
	return reserve(txn, dbi, key, key_len, value_len, 0, room_out);
}

int
txn_del(struct txn *txn, enum store_dbi dbi, const void *key, size_t key_len)
{
	MDB_val k = {key_len, (void *)key};

	if (txn->rc != 0)
		return txn->rc;
	return txn_fail(
	    txn, "delete", mdb_del(txn->mdb, txn->store->dbis[dbi], &k, NULL));
}

int
store_reader_check(struct store *store)
{
	int dead = 0;

	mdb_reader_check(store->mdb, &dead);
	return dead;
}

uint64_t
store_count(struct txn *txn, enum store_dbi dbi)
{
	MDB_stat stat;

	if (txn->rc != 0 ||
	    mdb_stat(txn->mdb, txn->store->dbis[dbi], &stat) != 0)
		return 0;
	return stat.ms_entries;
}

bool
store_is_behind(struct txn *txn, enum store_dbi dbi, const struct blob *key,
    const struct blob *other)
{
	MDB_val a = {key->len, (void *)(uintptr_t)key->data};
	MDB_val b = {other->len, (void *)(uintptr_t)other->data};

	return mdb_cmp(txn->mdb, txn->store->dbis[dbi], &a, &b) > 0;
}

void
key_u64(uint8_t *out, uint64_t n)
{
	n = __builtin_bswap64(n);
	memcpy(out, &n, sizeof(n));
}

uint64_t
key_get_u64(const uint8_t *in)
{
	uint64_t n;

	memcpy(&n, in, sizeof(n));
	return __builtin_bswap64(n);
}

void
key_u32(uint8_t *out, uint32_t n)
{
	n = __builtin_bswap32(n);
	memcpy(out, &n, sizeof(n));
}

uint32_t
key_get_u32(const uint8_t *in)
{
	uint32_t n;

	memcpy(&n, in, sizeof(n));
	return __builtin_bswap32(n);
}
