/*
 * verify.h - every row of the main store, one after the other: is it whole,
 * and does what it names exist?
 *
 * Beside a running keeper each row is judged within one snapshot with all
 * that it names; snapshots are short, so that the file does not grow.
 */
#ifndef SHM_VERIFY_H
#define SHM_VERIFY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/store.h"

#define VERIFY_KEY_MAX 40

/** Where it is, in memory that outlives a crash of the library. */
struct verify_place {
	_Atomic uint32_t dbi;  /* enum store_dbi; DBI_END: none */
	_Atomic uint64_t rows; /* of all, so far */
	_Atomic uint32_t key_len;
	uint8_t key[VERIFY_KEY_MAX]; /* of the row last begun */
};

/**
 * @param dbi   where; DBI_END: the store as a whole
 * @param key   of the row, at most VERIFY_KEY_MAX bytes count; len 0: none
 * @param what  a sentence without anybody's data
 */
typedef void (*verify_fn)(
    void *ctx, enum store_dbi dbi, struct blob key, const char *what);

struct verify_result {
	uint64_t rows[DBI_END]; /* judged */
	uint64_t findings;
};

/**
 * @param place  told where it is; may be NULL
 * @param fn     called for each finding
 * @return       0: all has been looked at (result has what was found), or why
 *               it could not begin: ERR_STALE (another schema), ERR_CORRUPT
 */
NODISCARD int verify_store(struct store *store, struct verify_place *place,
    verify_fn fn, void *ctx, struct verify_result *result_out);
/** "log", "inbox" ...; "store" for DBI_END. */
const char *verify_dbi_name(enum store_dbi dbi);

#define VERIFY_KEY_TEXT_MAX 96
/** A key for people: numbers in decimal, identifiers of conversations in hex,
 *  parts separated by slashes. */
void verify_key_text(
    enum store_dbi dbi, struct blob key, char out[VERIFY_KEY_TEXT_MAX]);

#endif
