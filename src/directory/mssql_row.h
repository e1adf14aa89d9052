/*
 * mssql_row.h - what an entry of the outbox is to the database: one object of
 * the JSON array that the procedure for batches takes.
 *
 * The form is a contract with etc/mssql: times are text, UTC, as DATETIME2(3)
 * reads it; ids are numbers; what is absent is NULL there.
 */
#ifndef DIRECTORY_MSSQL_ROW_H
#define DIRECTORY_MSSQL_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "directory/outbox_batch.h"

#define MSSQL_GUID_LEN 36
#define MSSQL_TIME_LEN 23 /* 2026-12-01T10:20:30.123 */

/**
 * A name that the same thing always gets, and no other one: RFC 9562, version
 * 8, of SHA-256 over what it is, the store's epoch and its id.
 *
 * @param what  "message", ...
 * @param out   NUL-terminated
 */
void mssql_guid(const char *what, uint64_t epoch, uint64_t id,
    char out[MSSQL_GUID_LEN + 1]);
/**
 * @param ms   since 1970 UTC
 * @param out  NUL-terminated
 * @return     false: DATETIME2 has no such time (before the year 1, after
 *             9999)
 */
bool mssql_time(int64_t ms, char out[MSSQL_TIME_LEN + 1]);
/**
 * Append the row of an entry to an array that is open.
 *
 * @param epoch      of the store
 * @param error_out  a sentence that lives for ever and quotes nobody
 * @return           0, or ERR_BAD_REQUEST: no database text can hold it, and
 *                   nothing was appended
 */
NODISCARD int mssql_row_add(struct buf *rows, uint64_t epoch,
    const struct batch_entry *entry, const char **error_out);

#endif
