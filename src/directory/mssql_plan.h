/*
 * mssql_plan.h - which entries of a batch the next call to the database
 * carries, and what its fate says about them.
 *
 * A call is all or nothing. One that was refused because of its data is halved
 * until the bad row stands alone; what was written on the way there is not
 * sent again, also not when the same batch comes back after a failure.
 *
 *     mssql_plan_begin(plan, first, last, count);
 *     while (mssql_plan_next(plan)) {
 *             carry [plan->done, plan->end), or fewer: plan->end
 *             mssql_plan_written, _refused or _failed
 *     }
 */
#ifndef DIRECTORY_MSSQL_PLAN_H
#define DIRECTORY_MSSQL_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSSQL_CALL_ROWS_FIRST 128 /* before anything was measured */

struct mssql_plan {     /* zeroed: before the first batch */
	uint64_t first; /* numbers: which batch it is */
	uint64_t last;
	size_t count;
	size_t done;    /* those before it are written or refused */
	size_t end;     /* of the call under way */
	size_t suspect; /* not 0: a bad row is in [done, suspect) */
	size_t rows;    /* at most so many in a call, as it has gone so far */
};

/** A batch, from its start, or where it was left if it is the same again.
 *  @return is it the same? */
bool mssql_plan_begin(
    struct mssql_plan *plan, uint64_t first, uint64_t last, size_t count);
/** @return false: nothing is left of it */
bool mssql_plan_next(struct mssql_plan *plan);
/** The call has taken effect. @param took_ms  its time */
void mssql_plan_written(struct mssql_plan *plan, int64_t took_ms);
/**
 * The database does not want its data.
 *
 * @param bad_out  index of the entry, when it is found
 * @return         true: it is that one, and is behind us; false: look closer
 */
bool mssql_plan_refused(struct mssql_plan *plan, size_t *bad_out);
/** No answer, or none that says anything about the rows: smaller calls. */
void mssql_plan_failed(struct mssql_plan *plan);

#endif
