/*
 * mssql_pool.h - jobs for SQL Server, run on threads with a connection.
 *
 * As pool.h, but run is given a connection and says how it went: at a primary
 * or, where one is configured, a replica; with repetition, a breaker for each
 * server and a bounded queue.
 *
 *     static int run(struct mssql_job *job, struct tds_conn *conn);
 *
 * A job belongs to the pool from mssql_pool_submit on until its done is called
 * on the loop's thread (pool_results_collect): exactly once, with job->rc.
 */
#ifndef DIRECTORY_MSSQL_POOL_H
#define DIRECTORY_MSSQL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "directory/pool.h"
#include "tds/tds.h"

enum mssql_place {
	MSSQL_PRIMARY, /* writes, and who must read what he wrote */
	MSSQL_REPLICA, /* the replica if there is a healthy one, else primary */
	MSSQL_PLACE_END
};

struct mssql_job;
struct mssql_pool;

/**
 * On a thread of the pool; may be called again, from the start, when it
 * failed and the job is idempotent: put its answer together anew each time.
 *
 * @param conn  borrowed; idle, and idle again on return (tds_finish)
 * @return      0 or ERR_*: tds's pass through as they are
 */
typedef int (*mssql_run_fn)(struct mssql_job *job, struct tds_conn *conn);

struct mssql_job {
	struct pool_job job; /* the caller sets done and deadline_ms */
	mssql_run_fn run;
	enum mssql_place place;
	bool is_idempotent; /* may run again when its outcome is unknown */
	/* for done: */
	int rc; /* 0; ERR_UNAVAILABLE: not run or nobody knows; else run's */
	struct tds_error error; /* class NONE unless the database has failed */
	/* the pool's: */
	unsigned tries;
	unsigned victims; /* of them repeated at once */
	int64_t retry_at_ms;
};

/**
 * No connection is made yet: the threads make them when there is work, and
 * [mssql] pool_min of them at once, in the background.
 *
 * @param conf     outlives the pool; checked by mssql_conf_check
 * @param error    one line
 * @return         0, ERR_BAD_REQUEST, ERR_IO
 */
NODISCARD int mssql_pool_new(const struct conf *conf,
    struct pool_results *results, struct mssql_pool **pool_out, char *error,
    size_t error_len);
/**
 * @param retry_after_ms_out  when it is refused: when to come again
 * @return                    0, or ERR_UNAVAILABLE: nothing was taken
 */
NODISCARD int mssql_pool_submit(struct mssql_pool *pool, struct mssql_job *job,
    int64_t *retry_after_ms_out);
/** Once per turn of the loop: gauges, jobs whose pause is over. @return ms
 *  until it should be called again, at most 1000 */
int64_t mssql_pool_turn(struct mssql_pool *pool);
/** As pool_stop. */
bool mssql_pool_stop(struct mssql_pool **pool, int64_t until_ms);

/**
 * The [mssql] settings beyond conf.def's ranges, for -t too.
 *
 * @param error  one line: the setting and what to do; no secret
 * @return       0, ERR_BAD_REQUEST, ERR_IO (a file)
 */
NODISCARD int mssql_conf_check(
    const struct conf *conf, char *error, size_t error_len);

#endif
