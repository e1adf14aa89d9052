/*
 * store_room.c - how much a store holds, and how much more it may.
 *
 * Role:    pages in use and free ones, the disk below them.
 * Process: keeper; console and parleyctl for the bytes in use.
 * Blocks:  never; statvfs(2) of a local disk.
 * Trust:   numbers of the library and of the kernel.
 * See:     keeper/room.c (what follows from it), t/unit/store.c.
 */
#include "config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "shm/store_priv.h"

/* Of the disk, behind the end of the file: some hundred commits without a
 * message grow the file by less. */
#define SET_ASIDE_BYTES (4 * 1024 * 1024)

/* A commit that failed with less than this left on the disk failed for it. */
#define DISK_FULL_BYTES (16 * 1024 * 1024)

/* Free pages are only counted in a file that has been large. */
#define ROOM_WALK_PERCENT 70

#define FIRST_PAGE 2 /* the two before it describe the file */

/* Pages that a later transaction may use again. */
static size_t
free_pages(struct store *store)
{
	MDB_cursor *cursor = NULL;
	MDB_txn *mdb = NULL;
	size_t pages = 0;
	MDB_val k;
	MDB_val v;

	/* Table 0 is LMDB's own list of them: lists that begin with their
	 * length, as mdb_stat -f reads them; in read transactions only. */
	if (mdb_txn_begin(store->mdb, NULL, MDB_RDONLY, &mdb) != 0)
		return 0;
	store_enter();
	if (mdb_cursor_open(mdb, 0, &cursor) == 0) {
		while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0)
			pages += *(const size_t *)v.mv_data;
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(mdb);
	store_leave();
	return pages;
}

/* Numbers of pages in the file, each less than the one before. */
static bool
is_sound_list(const MDB_val *value, size_t last_page)
{
	const size_t *list = value->mv_data;
	size_t room = value->mv_size / sizeof(*list);

	if (room == 0 || value->mv_size % sizeof(*list) != 0 || list[0] >= room)
		return false;
	if (list[0] == 0)
		return true; /* all of it has been used since */
	if (list[list[0]] < FIRST_PAGE || list[1] > last_page)
		return false;
	for (size_t i = 2; i <= list[0]; i++) {
		if (list[i] >= list[i - 1])
			return false;
	}
	return true;
}

int
store_check_free(struct store *store)
{
	MDB_cursor *cursor = NULL;
	MDB_txn *mdb = NULL;
	MDB_envinfo info;
	MDB_val k;
	MDB_val v;
	size_t last_key = 0;
	int mdb_rc;

	if (mdb_txn_begin(store->mdb, NULL, MDB_RDONLY, &mdb) != 0)
		return ERR_IO;
	mdb_rc = mdb_env_info(store->mdb, &info);
	if (mdb_rc == 0)
		mdb_rc = mdb_cursor_open(mdb, 0, &cursor);
	while (mdb_rc == 0) {
		mdb_rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
		if (mdb_rc == 0 && (k.mv_size != sizeof(last_key) ||
				       *(const size_t *)k.mv_data <= last_key ||
				       !is_sound_list(&v, info.me_last_pgno)))
			mdb_rc = MDB_CORRUPTED;
		if (mdb_rc == 0)
			last_key = *(const size_t *)k.mv_data;
	}
	if (cursor != NULL)
		mdb_cursor_close(cursor);
	mdb_txn_abort(mdb);
	return mdb_rc == MDB_NOTFOUND ? 0 : ERR_CORRUPT;
}

/* The walk is for stores that have reached their bound once. */
bool
store_is_full(struct store *store)
{
	MDB_envinfo info;
	MDB_stat stat;
	size_t pages;
	size_t used;

	if (mdb_env_info(store->mdb, &info) != 0 ||
	    mdb_env_stat(store->mdb, &stat) != 0)
		return false; /* the transaction will say why */
	pages = store->log_bytes / stat.ms_psize;
	used = info.me_last_pgno + 1;
	return used >= pages && used - pages >= free_pages(store);
}

bool
store_is_disk_full(const struct store *store)
{
	struct statvfs fs;

	return statvfs(store->path, &fs) == 0 &&
	       (uint64_t)fs.f_bavail * fs.f_frsize < DISK_FULL_BYTES;
}

void
store_set_aside(struct store *store)
{
	struct stat file;
	int fd;

	if (mdb_env_get_fd(store->mdb, &fd) != 0 || fstat(fd, &file) == -1 ||
	    file.st_size == store->set_aside_behind)
		return;
	/* Where the file system cannot, or has not so much: there is none. */
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, file.st_size, SET_ASIDE_BYTES) ==
	    0)
		store->set_aside_behind = file.st_size;
}

int
store_room(struct store *store, struct store_room *room_out)
{
	struct statvfs fs;
	MDB_envinfo info;
	MDB_stat stat;
	uint64_t used;
	uint64_t pages;
	uint64_t all;

	if (statvfs(store->path, &fs) == -1 ||
	    mdb_env_info(store->mdb, &info) != 0 ||
	    mdb_env_stat(store->mdb, &stat) != 0)
		return ERR_IO;
	/* as df(1) counts: what is reserved for root is neither */
	all = (uint64_t)fs.f_blocks - fs.f_bfree + fs.f_bavail;
	room_out->disk_free_percent =
	    all == 0 ? 100 : (unsigned)((uint64_t)fs.f_bavail * 100 / all);
	pages = store->log_bytes / stat.ms_psize;
	used = (uint64_t)info.me_last_pgno + 1;
	/* The walk over the free ones is only worth it in a file that has
	 * been large. */
	if (used * 100 >= pages * ROOM_WALK_PERCENT) {
		uint64_t unused = free_pages(store);

		used -= unused < used ? unused : used;
	}
	room_out->map_used_percent = (unsigned)(used * 100 / pages);
	return 0;
}

uint64_t
store_used_bytes(struct store *store)
{
	MDB_envinfo info;
	MDB_stat stat;

	if (mdb_env_info(store->mdb, &info) != 0 ||
	    mdb_env_stat(store->mdb, &stat) != 0)
		return 0;
	return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

uint64_t
store_table_bytes(struct txn *txn, enum store_dbi dbi)
{
	MDB_stat stat;

	if (txn->rc != 0 ||
	    mdb_stat(txn->mdb, txn->store->dbis[dbi], &stat) != 0)
		return 0;
	return (uint64_t)stat.ms_psize *
	       (stat.ms_branch_pages + stat.ms_leaf_pages +
		   stat.ms_overflow_pages);
}
