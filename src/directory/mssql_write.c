/*
 * mssql_write.c - a batch of the outbox into SQL Server.
 *
 * Role:    calls of the procedure for batches until every entry is written or
 *          refused.
 * Process: directory, on a thread of its pool.
 * Blocks:  on the database, at most call_ms for each call.
 * Trust:   what the server says of a call counts only when all of its answer
 *          was read, its status is 0 and its counts add up. Of its errors
 *          number, procedure and line are kept, never the text.
 * See:     mssql_plan.h (which rows), mssql_row.h (their form),
 *          doc/decisions/029, t/unit/mssql_write.c.
 *
 * By the class of an error:
 *   BAD_ROW              the rows are to blame: look for the one
 *   DUPLICATE            a repetition ran beside us: once more, then it finds
 *                        them there. A key that stays in the way belongs to
 *                        another row: look for the one
 *   RETRY_NOW            rolled back for others: once more
 *   BAD_SETUP            no row's fault, and every row's fate: wait
 *   all others           the outcome is not known, or nothing was done: wait
 */
#include "config.h"

#include "directory/mssql_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "directory/mssql_row.h"

#define REPEATS_MAX 4 /* at once, of one call */

static void
refuse(struct mssql_write *write, struct batch *batch, size_t index,
    int32_t code, const char *error)
{
	struct mssql_refusal *refusal;

	if (write->refusal_count == write->refusal_cap) {
		write->refusal_cap =
		    write->refusal_cap == 0 ? 16 : write->refusal_cap * 2;
		write->refusals = xrealloc(write->refusals,
		    write->refusal_cap * sizeof(*write->refusals));
	}
	refusal = &write->refusals[write->refusal_count++];
	refusal->index = index;
	refusal->code = code;
	snprintf(refusal->error, sizeof(refusal->error), "%.*s",
	    (int)sizeof(refusal->error) - 1, error);
	batch_refuse(batch, &batch->entries[index], code, error);
}

/* A new batch, or the same once more: then what is known of it still holds,
 * though whoever brought it has forgotten whom it refuses. */
static void
begin(struct mssql_write *write, struct batch *batch)
{
	uint64_t first = batch->count > 0 ? batch->entries[0].entry.number : 0;

	if (!mssql_plan_begin(&write->plan, first, batch->last, batch->count))
		write->refusal_count = 0;
	for (size_t i = 0; i < write->refusal_count; i++) {
		const struct mssql_refusal *refusal = &write->refusals[i];

		batch_refuse(batch, &batch->entries[refusal->index],
		    refusal->code, refusal->error);
	}
	write->repeats = 0;
	write->trouble = (struct tds_error){0};
}

/* ---- the rows of a call ---- */

/* @return how many; the plan's end is where it stopped */
static size_t
fill(struct mssql_write *write, struct batch *batch)
{
	struct mssql_plan *plan = &write->plan;
	struct buf *rows = &write->rows;
	size_t count = 0;
	size_t i = plan->done;

	buf_clear(rows);
	json_array_begin(rows);
	for (; i < plan->end && rows->len < MSSQL_CALL_BYTES_MAX; i++) {
		const struct batch_entry *entry = &batch->entries[i];
		const char *error;

		if (entry->is_refused)
			continue;
		if (mssql_row_add(rows, write->epoch, entry, &error) == 0)
			count++;
		else
			refuse(write, batch, i, ERR_BAD_REQUEST, error);
	}
	json_array_end(rows);
	plan->end = i;
	return count;
}

/* ---- the call ---- */

static int
our_error(struct mssql_write *write, const char *what)
{
	write->trouble = (struct tds_error){.class = TDS_CLASS_BAD_SETUP};
	snprintf(write->trouble.procedure, sizeof(write->trouble.procedure),
	    "%s", write->procedure->name);
	snprintf(write->trouble.what, sizeof(write->trouble.what), "%s", what);
	return ERR_SERVER_ERROR;
}

/* The first row of the first result set that has the column. */
static int
find_counts(struct tds_conn *conn, const char *column)
{
	int rc = 0;

	while (rc == 0 && !tds_has_column(conn, column))
		rc = tds_next_result(conn);
	return rc == 0 ? tds_next_row(conn) : rc;
}

/*
 * What the answer says: so many were written, so many were there.
 *
 * @param sum_out  -1: the installation's procedure does not say
 */
static int
read_counts(struct mssql_write *write, struct tds_conn *conn, int64_t *sum_out,
    int64_t *known_out)
{
	const char *written_name =
	    write->procedure->columns[MSSQL_FIELD_written];
	const char *known_name = write->procedure->columns[MSSQL_FIELD_known];
	int64_t written = 0;
	int rc;

	*sum_out = -1;
	*known_out = 0;
	if (written_name == NULL || known_name == NULL)
		return 0;
	rc = find_counts(conn, written_name);
	if (rc == 0)
		rc = tds_get_i64(conn, written_name, &written);
	if (rc == 0)
		rc = tds_get_i64(conn, known_name, known_out);
	if (rc == ERR_NOT_FOUND) /* no such row: a sum that cannot be */
		*sum_out = 0;
	else if (rc == 0 && written >= 0 && written <= INT32_MAX &&
		 *known_out >= 0 && *known_out <= INT32_MAX)
		*sum_out = written + *known_out;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
call(struct mssql_write *write, size_t count, struct tds_conn *conn)
{
	const struct mssql_procedure *procedure = write->procedure;
	const struct tds_param params[] = {
	    tds_text(procedure->params[MSSQL_FIELD_rows], write->rows.data,
		write->rows.len)};
	int64_t sum = -1;
	int64_t known = 0;
	int rc;

	rc = tds_call(conn, &(struct tds_call){procedure->name, params, 1,
				clock_mono_ms() + write->call_ms});
	if (rc == 0)
		rc = read_counts(write, conn, &sum, &known);
	rc = tds_finish(conn, rc);
	if (rc != 0) {
		write->trouble = *tds_error(conn);
		return rc;
	}
	if (tds_status(conn) != 0)
		return our_error(
		    write, "it has returned another status than 0");
	if (procedure->columns[MSSQL_FIELD_written] != NULL &&
	    procedure->columns[MSSQL_FIELD_known] != NULL &&
	    sum != (int64_t)count)
		return our_error(write,
		    "written and known are not the number of rows together");
	write->known += (uint64_t)known;
	return 0;
}

/* ---- what became of it ---- */

static void
refuse_found(struct mssql_write *write, struct batch *batch, size_t index)
{
	const struct tds_error *error = &write->trouble;
	char text[TDS_NAME_MAX + 64];

	snprintf(text, sizeof(text),
	    "SQL Server says %" PRId32 " in line %" PRId32 " of %s",
	    error->number, error->line,
	    error->procedure[0] != '\0' ? error->procedure
					: write->procedure->name);
	refuse(write, batch, index, error->number, text);
}

static bool
may_repeat(struct mssql_write *write, struct tds_conn *conn)
{
	return write->repeats++ < REPEATS_MAX && tds_is_usable(conn);
}

/* @return 0: go on, with the same rows or others; else stop here */
static int
judge(struct mssql_write *write, struct batch *batch, struct tds_conn *conn,
    int rc)
{
	enum tds_class class = write->trouble.class;
	size_t bad;

	if ((class == TDS_CLASS_DUPLICATE || class == TDS_CLASS_RETRY_NOW) &&
	    may_repeat(write, conn))
		return 0;
	if (class != TDS_CLASS_BAD_ROW && class != TDS_CLASS_DUPLICATE) {
		if (class != TDS_CLASS_BAD_SETUP)
			mssql_plan_failed(&write->plan);
		/* AGAIN would say that it is only busy. */
		return rc == ERR_AGAIN ? ERR_UNAVAILABLE : rc;
	}
	if (mssql_plan_refused(&write->plan, &bad))
		refuse_found(write, batch, bad);
	write->repeats = 0;
	write->trouble = (struct tds_error){0};
	return tds_is_usable(conn) ? 0 : ERR_UNAVAILABLE;
}

int
mssql_write_run(
    struct mssql_write *write, struct batch *batch, struct tds_conn *conn)
{
	begin(write, batch);
	while (mssql_plan_next(&write->plan)) {
		int64_t start_ms = clock_mono_ms();
		size_t count = fill(write, batch);
		int rc = count > 0 ? call(write, count, conn) : 0;

		if (rc == 0) {
			mssql_plan_written(
			    &write->plan, clock_mono_ms() - start_ms);
			write->repeats = 0;
			continue;
		}
		rc = judge(write, batch, conn, rc);
		if (rc != 0)
			return rc;
	}
	write->trouble = (struct tds_error){0};
	return 0;
}

void
mssql_write_fini(struct mssql_write *write)
{
	buf_fini(&write->rows);
	free(write->refusals);
	write->refusals = NULL;
	write->refusal_count = 0;
	write->refusal_cap = 0;
}
