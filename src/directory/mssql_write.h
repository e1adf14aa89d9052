/*
 * mssql_write.h - a batch of the outbox into SQL Server, call by call.
 */
#ifndef DIRECTORY_MSSQL_WRITE_H
#define DIRECTORY_MSSQL_WRITE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "directory/mssql_names.h"
#include "directory/mssql_plan.h"
#include "directory/outbox_batch.h"
#include "tds/tds.h"

#define MSSQL_CALL_BYTES_MAX ((size_t)1 << 20) /* then one row more at most */

struct mssql_refusal {
	size_t index; /* of the entry */
	int32_t code;
	char error[OUTBOX_ERROR_MAX + 1];
};

struct mssql_write {
	/* the owner's */
	const struct mssql_procedure *procedure;
	uint64_t epoch;  /* of the store */
	int64_t call_ms; /* a call may take so long */
	/* what became of it, for the owner */
	uint64_t known; /* rows that were there already, since it began */
	struct tds_error trouble; /* class NONE: none; of the last run */
	/* private */
	struct mssql_plan plan;
	struct buf rows;
	struct mssql_refusal *refusals; /* of this batch, so far */
	size_t refusal_count;
	size_t refusal_cap;
	unsigned repeats; /* of the call under way */
};

/**
 * Write what of a batch is not written yet. Blocks. When it fails, and the
 * same batch comes again, it goes on where it was.
 *
 * @return 0: all of it is there, but for what was refused (batch_refuse);
 *         ERR_SERVER_ERROR: not the rows but the procedure, its parameters or
 *         rights are wrong, see trouble; else nobody knows what was written
 *         of the last call
 */
NODISCARD int mssql_write_run(
    struct mssql_write *write, struct batch *batch, struct tds_conn *conn);
/** What it keeps between batches. */
void mssql_write_fini(struct mssql_write *write);

#endif
