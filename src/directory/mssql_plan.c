/*
 * mssql_plan.c - which entries of a batch the next call carries.
 *
 * Role:    the size of calls and the search for rows that are refused.
 * Process: directory, on a thread of its pool.
 * Blocks:  never.
 * Trust:   none needed: it sees counts only.
 * See:     mssql_plan.h, doc/decisions/029, t/unit/mssql_plan.c.
 *
 * The size of a call follows its time: twice as many rows while a full one is
 * quick, half when it is slow or does not come back at all. A database that is
 * 35 ms away is then asked seldom, one that has trouble is asked for little.
 */
#include "config.h"

#include "directory/mssql_plan.h"

#include "directory/outbox_batch.h"

#define QUICK_MS 250
#define SLOW_MS  1000

bool
mssql_plan_begin(
    struct mssql_plan *plan, uint64_t first, uint64_t last, size_t count)
{
	bool is_same = plan->first == first && plan->last == last &&
		       plan->count == count && count > 0;

	if (plan->rows == 0)
		plan->rows = MSSQL_CALL_ROWS_FIRST;
	if (is_same)
		return true;
	plan->first = first;
	plan->last = last;
	plan->count = count;
	plan->done = 0;
	plan->end = 0;
	plan->suspect = 0;
	return false;
}

/* Half of what is suspected, and of the rest as much as a call may have. */
bool
mssql_plan_next(struct mssql_plan *plan)
{
	size_t size = plan->rows;

	if (plan->done == plan->count)
		return false;
	if (plan->suspect > plan->done &&
	    (plan->suspect - plan->done) / 2 < size)
		size = (plan->suspect - plan->done) / 2;
	if (size == 0)
		size = 1;
	if (size > plan->count - plan->done)
		size = plan->count - plan->done;
	plan->end = plan->done + size;
	return true;
}

static void
step(struct mssql_plan *plan)
{
	plan->done = plan->end;
	if (plan->suspect <= plan->done)
		plan->suspect = 0;
}

void
mssql_plan_written(struct mssql_plan *plan, int64_t took_ms)
{
	size_t size = plan->end - plan->done;

	if (took_ms >= SLOW_MS)
		mssql_plan_failed(plan);
	else if (took_ms < QUICK_MS && size >= plan->rows &&
		 plan->rows < BATCH_ENTRIES_MAX)
		plan->rows *= 2;
	step(plan);
}

bool
mssql_plan_refused(struct mssql_plan *plan, size_t *bad_out)
{
	if (plan->end - plan->done > 1) {
		plan->suspect = plan->end;
		return false;
	}
	*bad_out = plan->done;
	step(plan);
	/* There may be more of them: the next call shows it. */
	plan->suspect = 0;
	return true;
}

void
mssql_plan_failed(struct mssql_plan *plan)
{
	if (plan->rows > 1)
		plan->rows /= 2;
}
