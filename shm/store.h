/*
 * store.h - the two LMDB environments and their transactions.
 *
 * Opened after fork, by each process for itself. Only the keeper writes. A
 * transaction has a sticky error: after the first failure every further call
 * on it fails the same way, and it can only be aborted.
 *
 * What a get returns points into the map: it dies with the transaction.
 */
#ifndef SHM_STORE_H
#define SHM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/store_schema.h"

struct MDB_txn;
struct MDB_cursor;
struct store;

enum store_env { STORE_MAIN, STORE_PRESENCE };

struct txn {
	struct store *store;
	struct MDB_txn *mdb; /* NULL: not begun */
	int rc;              /* sticky: 0 or ERR_* */
	bool is_write;
};

struct blob {
	const void *data;
	size_t len;
};

/**
 * Where this process says that it is in the store: a crash there may come from
 * damaged pages, and the supervisor wants to know (supervisor/inquest.c).
 *
 * @param in_store  counts open transactions; NULL: nobody wants to know
 */
void store_watch(_Atomic uint32_t *in_store);

/**
 * Open or (writer only) make an environment.
 *
 * @param folder    data or run folder; files are FOLDER/main.mdb ...
 * @param map_size  bytes that may fill up; beyond them the log does not grow
 *                  (ERR_STORAGE_FULL), the rest has a reserve
 * @param error     one line: what, where, what to do
 * @return          0, ERR_IO, ERR_CORRUPT, ERR_STALE (newer schema),
 *                  ERR_NOT_FOUND (a reader came before the writer)
 */
NODISCARD int store_open(enum store_env env, const char *folder,
    size_t map_size, bool is_writer, struct store **store_out, char *error,
    size_t error_len);
void store_close(struct store **store);

/**
 * A snapshot of what is committed and synced, never older than the one before.
 */
NODISCARD int store_begin_read(struct store *store, struct txn *txn);
NODISCARD int store_begin_write(struct store *store, struct txn *txn);
/** Of a write transaction: which one of the environment's it will be. Of a
 *  snapshot: the last one that is in it. */
uint64_t txn_number(const struct txn *txn);
/** @return 0, the sticky error, ERR_STORAGE_FULL, ERR_IO; txn is ended */
NODISCARD int txn_commit(struct txn *txn);
/** Ends it in any state; a txn that was never begun is fine. */
void txn_end(struct txn *txn);

/** @return 0, ERR_NOT_FOUND or, where the row's seal is broken, ERR_CORRUPT
 *          (neither is sticky), else sticky */
NODISCARD int txn_get(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, struct blob *out);
NODISCARD int txn_put(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, const void *value, size_t value_len);
/** The same with a value of two parts, one behind the other; neither lies in
 *  the store. */
NODISCARD int txn_put_parts(struct txn *txn, enum store_dbi dbi,
    const struct blob *key, const struct blob *head, const struct blob *tail);
/** A row of a sealed table as it lies there, of whatever schema. */
NODISCARD int txn_get_raw(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, struct blob *out);
/** A store of a schema before SCHEMA_SEALED becomes one of it: all rows, in
 * this transaction. */
NODISCARD int txn_seal_all(struct txn *txn);
/** Put at the end of an MDB_INTEGERKEY tree (key above all others). */
NODISCARD int txn_append(struct txn *txn, enum store_dbi dbi, uint64_t key,
    const void *value, size_t value_len);
/** Room for a value of value_len bytes to be filled in before the next call;
 *  not in a sealed table. */
NODISCARD int txn_reserve(struct txn *txn, enum store_dbi dbi, const void *key,
    size_t key_len, size_t value_len, void **room_out);
/** The same in the place of a row that is there (log: txn_reserve appends). */
NODISCARD int txn_reserve_again(struct txn *txn, enum store_dbi dbi,
    const void *key, size_t key_len, size_t value_len, void **room_out);
/** @return 0, ERR_NOT_FOUND (not sticky), else sticky */
NODISCARD int txn_del(
    struct txn *txn, enum store_dbi dbi, const void *key, size_t key_len);

/* Walking: begin at the first key >= start (NULL: the first of all), until it
 * does not fit. */
struct walk {
	struct txn *txn;
	struct MDB_cursor *cursor;
	struct blob key;
	struct blob value;
	enum store_dbi dbi;
	bool shows_damaged; /* walk_begin_all */
	bool is_damaged;    /* this row is, its value means nothing */
};
/** @return 0 (key and value are set), ERR_NOT_FOUND, else sticky */
NODISCARD int walk_begin(struct walk *walk, struct txn *txn, enum store_dbi dbi,
    const void *start, size_t start_len);
/** Begin at the last key < start. */
/** The same with the rows whose seal is broken: else they are left out. */
NODISCARD int walk_begin_all(struct walk *walk, struct txn *txn,
    enum store_dbi dbi, const void *start, size_t start_len);
NODISCARD int walk_begin_before(struct walk *walk, struct txn *txn,
    enum store_dbi dbi, const void *start, size_t start_len);
NODISCARD int walk_next(struct walk *walk);
NODISCARD int walk_prev(struct walk *walk);
/** Delete where it stands; walk_next then goes to the one behind. */
NODISCARD int walk_delete(struct walk *walk);
void walk_end(struct walk *walk);

/** Drop reader slots of dead processes; @return how many. */
int store_reader_check(struct store *store);
/** Bytes of the file that hold data. */
uint64_t store_used_bytes(struct store *store);

/** Bytes of the pages that a table takes. */
uint64_t store_table_bytes(struct txn *txn, enum store_dbi dbi);

struct store_room {
	unsigned disk_free_percent; /* of the file system, for this user */
	unsigned map_used_percent;  /* of map_size; free pages are not used */
};
/** Keep some of the disk for the file to grow into, so that logins and
 *  acknowledgements go on when others have filled it. Looks at the file only,
 *  unless that has grown. */
void store_set_aside(struct store *store);
/** How much room is left. @return 0 or ERR_IO: the file system cannot say */
NODISCARD int store_room(struct store *store, struct store_room *room_out);
/** Wait until all that was written is on the disk. @return 0, ERR_* */
NODISCARD int store_sync(struct store *store);
/**
 * Write a consistent copy beside a running writer, which can use no page again
 * that is given free meanwhile: its file may grow.
 *
 * @param fd          a new file; not synced
 * @param is_compact  leave out free pages; takes more processor time
 * @return            0 or the errno of what failed
 */
NODISCARD int store_copy(struct store *store, int fd, bool is_compact);
/** Can the list of free pages be believed? What it names is written over.
 *  @return 0, ERR_CORRUPT, ERR_IO (no transaction) */
NODISCARD int store_check_free(struct store *store);
/** Does key stand behind other in the order of the table? */
bool store_is_behind(struct txn *txn, enum store_dbi dbi,
    const struct blob *key, const struct blob *other);
/** Rows of a dbi, for status and tests. */
uint64_t store_count(struct txn *txn, enum store_dbi dbi);

/* Big-endian parts of composite keys. */
void key_u64(uint8_t *out, uint64_t n);
uint64_t key_get_u64(const uint8_t *in);
void key_u32(uint8_t *out, uint32_t n);
uint32_t key_get_u32(const uint8_t *in);

#endif
