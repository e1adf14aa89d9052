/*
 * store_priv.h - what store.c and store_room.c share.
 */
#ifndef SHM_STORE_PRIV_H
#define SHM_STORE_PRIV_H

#include <lmdb.h>

#include "shm/store.h"

struct store {
	enum store_env env;
	bool is_writer;
	bool is_full; /* as of this write transaction: the log must not grow */
	size_t log_bytes; /* map_size asked for */
	MDB_env *mdb;
	MDB_dbi dbis[DBI_END];
	char path[4096];
};

/** From here on a crash may be the store's doing; until as many calls of the
 *  second (store_watch). */
void store_enter(void);
void store_leave(void);
/** What may be filled is used up: only the reserve is left. */
bool store_is_full(struct store *store);
/** Did a commit that failed just now fail for want of room? */
bool store_is_disk_full(const struct store *store);

#endif
