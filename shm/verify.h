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
#define VERIFY_WHY_MAX 160
/* For one row, on any disk: reading does not end then. */
#define VERIFY_STALL_MS 60000

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

struct verify_sink {
	verify_fn fn;
	void *ctx;
};

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
/**
 * The same for a folder that nobody of this process has open: the whole life of
 * a process that may crash in it. Other log lines than this are not wanted
 * meanwhile: log_open must lead nowhere.
 *
 * @param why_out  VERIFY_WHY_MAX bytes, on failure: one line
 * @return         0: see result_out; ERR_CORRUPT: it cannot be read at all;
 *                 else it could not be looked at (no store, another schema)
 */
NODISCARD int verify_folder(const char *folder, size_t map_size,
    struct verify_place *place, const struct verify_sink *sink,
    struct verify_result *result_out, char *why_out);
/** "log", "inbox" ...; "store" for DBI_END. */
const char *verify_dbi_name(enum store_dbi dbi);

#define VERIFY_KEY_TEXT_MAX 96
/** A key for people: numbers in decimal, identifiers of conversations in hex,
 *  parts separated by slashes. */
void verify_key_text(
    enum store_dbi dbi, struct blob key, char out[VERIFY_KEY_TEXT_MAX]);

#endif
