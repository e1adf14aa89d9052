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
	off_t set_aside_behind; /* see store_set_aside; 0: nothing is */
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
/** Sticky from now on, if it is an error. @return ERR_* */
int txn_fail(struct txn *txn, const char *what, int mdb_rc);

#define SEAL_BYTES 4

bool store_is_sealed(enum store_dbi dbi);
uint32_t seal_of(
    enum store_dbi dbi, const MDB_val *key, const void *value, size_t len);
/** Takes the seal off. @return 0, ERR_CORRUPT: counted, and logged once */
NODISCARD int seal_open(
    enum store_dbi dbi, const MDB_val *key, MDB_val *value_io);
/** Seal a store of an earlier schema. @return the library's code */
NODISCARD int seal_all(MDB_txn *mdb, const MDB_dbi dbis[DBI_END]);
/** What may be filled is used up: only the reserve is left. */
bool store_is_full(struct store *store);
/** Did a commit that failed just now fail for want of room? */
bool store_is_disk_full(const struct store *store);

#endif
