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
/** On the loop's thread; the job is the caller's again. */
typedef void (*mssql_done_fn)(struct mssql_job *job);

struct mssql_job {
	struct pool_job job; /* private; first */
	mssql_run_fn run;
	mssql_done_fn done;
	enum mssql_place place;
	int64_t deadline_ms; /* clock_mono_ms() */
	bool is_idempotent;  /* may run again when its outcome is unknown */
	int64_t call_deadline_ms; /* for run's calls: query_timeout from its
				   * start, not beyond deadline_ms */
	/* for done: */
	int rc; /* 0; ERR_UNAVAILABLE: not run or nobody knows; else run's */
	struct tds_error error; /* class NONE unless the database has failed */
	/* the pool's: */
	struct mssql_pool *pool;
	unsigned pauses;  /* it has made */
	unsigned at_once; /* times it was repeated without one */
	unsigned tries;   /* runs, and connections that were not made */
	int64_t retry_at_ms;
	int64_t took_us; /* of all tries */
};

/**
 * tds_start first. No connection is made yet: the threads make them when there
 * is work, and [mssql] pool_min of them at once, in the background.
 *
 * @param conf     outlives the pool; checked by tds_conf_check
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

#endif
