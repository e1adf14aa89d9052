/*
 * mssql_retry.c - what becomes of a job after a try.
 *
 * Role:    repeats what may be repeated, where and when it makes sense.
 * Process: directory, threads of the pool.
 * Blocks:  never.
 * Trust:   the class is made from the server's number: any is possible.
 * See:     mssql_pool.c, t/unit/mssql_retry.c.
 */
#include "config.h"

#include "directory/mssql_retry.h"

bool mssql_is_server_fault(enum tds_class class)
{
	return class == TDS_CLASS_LOGIN || class == TDS_CLASS_LOST ||
	       class == TDS_CLASS_READ_ONLY || class == TDS_CLASS_RETRY;
}

/* Would the same job have another outcome on a second try, and may it? */
static bool
may_repeat(const struct mssql_job *job, bool was_sent)
{
	switch (job->error.class) {
	case TDS_CLASS_READ_ONLY: /* nothing can have been written */
		return true;
	case TDS_CLASS_DUPLICATE: /* the loser of a race finds the rows now */
	case TDS_CLASS_LOST:
	case TDS_CLASS_RETRY:
	case TDS_CLASS_RETRY_NOW: /* a procedure of somebody else's may have no
				   * transaction around all that it does */
		return job->is_idempotent || !was_sent;
	case TDS_CLASS_NONE:
	case TDS_CLASS_BAD_ROW:
	case TDS_CLASS_BAD_SETUP:
	case TDS_CLASS_LOGIN:
	case TDS_CLASS_END:
		return false;
	}
	return false;
}

/* Without a pause: what was only bad luck, or a connection of yesterday. */
static bool
is_for_now(const struct mssql_job *job)
{
	switch (job->error.class) {
	case TDS_CLASS_RETRY_NOW:
	case TDS_CLASS_DUPLICATE:
		return job->at_once < MSSQL_AT_ONCE_MAX;
	case TDS_CLASS_READ_ONLY:
	case TDS_CLASS_LOST: /* number 0: our deadline; it would hang again */
		return job->error.number != 0 && job->at_once == 0;
	case TDS_CLASS_NONE:
	case TDS_CLASS_BAD_ROW:
	case TDS_CLASS_BAD_SETUP:
	case TDS_CLASS_LOGIN:
	case TDS_CLASS_RETRY:
	case TDS_CLASS_END:
		return false;
	}
	return false;
}

enum mssql_next
mssql_retry_next(
    struct mssql_job *job, bool was_sent, int64_t now_ms, uint32_t random)
{
	int64_t pause_ms = (int64_t)MSSQL_PAUSE_MS << job->pauses;

	job->tries++;
	if (job->rc == 0 || now_ms >= job->deadline_ms)
		return MSSQL_DONE;
	/* A replica that is not as it should be: the primary knows more. */
	if (job->place == MSSQL_REPLICA &&
	    (!was_sent || (job->is_idempotent &&
			      mssql_is_server_fault(job->error.class)))) {
		job->place = MSSQL_PRIMARY;
		return MSSQL_ELSEWHERE;
	}
	if (!may_repeat(job, was_sent))
		return MSSQL_DONE;
	if (is_for_now(job)) {
		job->at_once++;
		return MSSQL_AT_ONCE;
	}
	if (job->error.class == TDS_CLASS_DUPLICATE ||
	    job->pauses >= MSSQL_PAUSES_MAX)
		return MSSQL_DONE;
	/* A quarter more or less: what failed together comes back apart. */
	pause_ms += (int64_t)(random % (uint32_t)(pause_ms / 2)) - pause_ms / 4;
	if (now_ms + pause_ms >= job->deadline_ms)
		return MSSQL_DONE;
	job->pauses++;
	job->retry_at_ms = now_ms + pause_ms;
	return MSSQL_PAUSE;
}
