/*
 * mssql_retry.h - what becomes of a job after a try.
 */
#ifndef DIRECTORY_MSSQL_RETRY_H
#define DIRECTORY_MSSQL_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "directory/mssql_pool.h"

#define MSSQL_AT_ONCE_MAX 3
#define MSSQL_PAUSES_MAX  3
#define MSSQL_PAUSE_MS    2000 /* then twice that, four times */

enum mssql_next {
	MSSQL_DONE,      /* with what it has */
	MSSQL_AT_ONCE,   /* again, here */
	MSSQL_ELSEWHERE, /* again, at the primary */
	MSSQL_PAUSE      /* again, at job->retry_at_ms */
};

/**
 * Pure. Counts the try in the job.
 *
 * @param was_sent  false: there was no connection, run was not called
 * @param random    anything, for the jitter of the pause
 */
enum mssql_next mssql_retry_next(
    struct mssql_job *job, bool was_sent, int64_t now_ms, uint32_t random);
/** Does such an error count against the server, for its breaker? */
bool mssql_is_server_fault(enum tds_class class);

#endif
