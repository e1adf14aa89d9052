/*
 * pool.h - threads for what may block, with a bounded queue in front and the
 * way back to the loop.
 *
 * A job is embedded in its owner's object. run is called on one of the pool's
 * threads, done later on the loop's thread (pool_results_collect): exactly
 * once for each job that pool_submit took, run or not. The job belongs to the
 * pool from pool_submit until done is called; handing it over orders memory,
 * so run and done need no locks for what is in it.
 *
 * Several pools share one struct pool_results: one descriptor to wait for.
 */
#ifndef DIRECTORY_POOL_H
#define DIRECTORY_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"

struct pool;
struct pool_results;
struct pool_job;

typedef void (*pool_fn)(struct pool_job *job);

struct pool_job {
	STAILQ_ENTRY(pool_job) link; /* private to pool.c */
	pool_fn run;
	pool_fn done;
	int64_t deadline_ms; /* clock_mono_ms(); not run from then on */
	bool was_run;        /* for done: false, it came too late or at the
			      * end */
};

/** @return 0 or ERR_IO (no descriptor) */
NODISCARD int pool_results_new(struct pool_results **results_out);
/** After all pools that report to it were stopped and collected. */
void pool_results_free(struct pool_results **results);
/** Readable when there is something to collect. */
int pool_results_fd(const struct pool_results *results);
/** Any thread: a job whose done is to be called. */
void pool_results_add(struct pool_results *results, struct pool_job *job);
/** Call done for every job that is finished. @return how many */
size_t pool_results_collect(struct pool_results *results);

/**
 * @param name         of its threads, at most 15 characters
 * @param waiting_max  jobs that may wait for a thread
 * @return             0 or ERR_IO (no threads)
 */
NODISCARD int pool_new(const char *name, int thread_count, size_t waiting_max,
    struct pool_results *results, struct pool **pool_out);
/** @return 0, or ERR_FULL: nothing was taken */
NODISCARD int pool_submit(struct pool *pool, struct pool_job *job);
/**
 * End the pool: what waits is given back without having been run, what runs
 * is waited for. Collect the results afterwards.
 *
 * @param until_ms  clock_mono_ms()
 * @return          false: a thread is still busy; the pool is left to it and
 *                  must not be used or stopped again
 */
bool pool_stop(struct pool **pool, int64_t until_ms);

#endif
