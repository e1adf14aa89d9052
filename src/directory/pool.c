/*
 * pool.c - threads for what may block.
 *
 * Role:    scrypt, pages of the store that are not in memory, other people's
 *          databases: everything a loop must not wait for.
 * Process: directory; jobs run on the pool's threads, done on the loop's.
 * Blocks:  the threads wait for work; pool_submit and pool_results_collect
 *          only for a lock that is held for a few instructions.
 * Trust:   none needed.
 * See:     dir_embedded.c (who uses it), t/unit/pool.c.
 */
#include "config.h"

#include "directory/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

STAILQ_HEAD(pool_jobs, pool_job);

struct pool_results {
	pthread_mutex_t lock;
	struct pool_jobs finished; /* under lock */
	int fd;                    /* eventfd */
};

struct pool {
	struct pool_results *results;
	pthread_mutex_t lock;
	pthread_cond_t work;      /* to the threads: something waits, or end */
	pthread_cond_t idle;      /* to pool_stop: a thread has ended */
	struct pool_jobs waiting; /* this and the next three under lock */
	size_t waiting_count;
	int live_count; /* threads that have not ended */
	bool is_stopping;
	size_t waiting_max;
	char name[16]; /* pthread_setname_np(3): with its NUL */
	int thread_count;
	pthread_t threads[];
};

/* ---- the way back ---- */

int
pool_results_new(struct pool_results **results_out)
{
	struct pool_results *results = xcalloc(1, sizeof(*results));

	results->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (results->fd == -1) {
		log_error(
		    NULL, "eventfd-failed", "error=\"%s\"", strerror(errno));
		free(results);
		return ERR_IO;
	}
	pthread_mutex_init(&results->lock, NULL);
	STAILQ_INIT(&results->finished);
	*results_out = results;
	return 0;
}

void
pool_results_free(struct pool_results **results)
{
	struct pool_results *old = *results;

	if (old == NULL)
		return;
	if (!STAILQ_EMPTY(&old->finished))
		panic("results are freed before they are collected");
	pthread_mutex_destroy(&old->lock);
	close(old->fd);
	free(old);
	*results = NULL;
}

int
pool_results_fd(const struct pool_results *results)
{
	return results->fd;
}

/* Only the first of a batch has to wake the loop. */
void
pool_results_add(struct pool_results *results, struct pool_job *job)
{
	uint64_t one = 1;
	bool is_first;
	ssize_t n;

	pthread_mutex_lock(&results->lock);
	is_first = STAILQ_EMPTY(&results->finished);
	STAILQ_INSERT_TAIL(&results->finished, job, link);
	pthread_mutex_unlock(&results->lock);
	if (!is_first)
		return;
	do {
		n = write(results->fd, &one, sizeof(one));
	} while (n == -1 && errno == EINTR);
}

size_t
pool_results_collect(struct pool_results *results)
{
	struct pool_jobs finished = STAILQ_HEAD_INITIALIZER(finished);
	struct pool_job *job;
	uint64_t count;
	size_t done = 0;
	ssize_t n;

	/* The descriptor first: what comes after it rings again. */
	do {
		n = read(results->fd, &count, sizeof(count));
	} while (n == -1 && errno == EINTR);
	pthread_mutex_lock(&results->lock);
	STAILQ_CONCAT(&finished, &results->finished);
	pthread_mutex_unlock(&results->lock);
	while ((job = STAILQ_FIRST(&finished)) != NULL) {
		STAILQ_REMOVE_HEAD(&finished, link);
		job->done(job);
		done++;
	}
	return done;
}

/* ---- the threads ---- */

/* NULL: the pool ends. */
static struct pool_job *
job_take(struct pool *pool)
{
	struct pool_job *job;

	pthread_mutex_lock(&pool->lock);
	while (STAILQ_EMPTY(&pool->waiting) && !pool->is_stopping)
		pthread_cond_wait(&pool->work, &pool->lock);
	job = STAILQ_FIRST(&pool->waiting);
	if (job != NULL) {
		STAILQ_REMOVE_HEAD(&pool->waiting, link);
		pool->waiting_count--;
	}
	pthread_mutex_unlock(&pool->lock);
	return job;
}

static void *
thread_main(void *ctx)
{
	struct pool *pool = ctx;
	struct pool_job *job;

	while ((job = job_take(pool)) != NULL) {
		job->was_run = clock_mono_ms() < job->deadline_ms;
		if (job->was_run)
			job->run(job);
		pool_results_add(pool->results, job);
	}
	pthread_mutex_lock(&pool->lock);
	pool->live_count--;
	pthread_cond_signal(&pool->idle);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Signals are for the loop: its signalfd sees what no thread takes. */
static int
threads_start(struct pool *pool, int thread_count)
{
	sigset_t all;
	sigset_t before;
	int error = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (error == 0 && pool->thread_count < thread_count) {
		error = pthread_create(&pool->threads[pool->thread_count], NULL,
		    thread_main, pool);
		if (error != 0)
			break;
		pthread_setname_np(
		    pool->threads[pool->thread_count], pool->name);
		pool->thread_count++;
		pthread_mutex_lock(&pool->lock);
		pool->live_count++;
		pthread_mutex_unlock(&pool->lock);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		return 0;
	log_error(NULL, "thread-failed", "pool=%s error=\"%s\"", pool->name,
	    strerror(error));
	return ERR_IO;
}

int
pool_new(const char *name, int thread_count, size_t waiting_max,
    struct pool_results *results, struct pool **pool_out)
{
	struct pool *pool = xcalloc(
	    1, sizeof(*pool) + (size_t)thread_count * sizeof(pthread_t));
	pthread_condattr_t monotonic;
	int rc;

	pool->results = results;
	pool->waiting_max = waiting_max;
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	STAILQ_INIT(&pool->waiting);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->work, &monotonic);
	pthread_cond_init(&pool->idle, &monotonic);
	pthread_condattr_destroy(&monotonic);
	rc = threads_start(pool, thread_count);
	if (rc != 0)
		pool_stop(&pool, INT64_MAX); /* nothing runs yet */
	*pool_out = pool;
	return rc;
}

int
pool_submit(struct pool *pool, struct pool_job *job)
{
	int rc = 0;

	pthread_mutex_lock(&pool->lock);
	if (pool->waiting_count >= pool->waiting_max) {
		rc = ERR_FULL;
	} else {
		job->was_run = false;
		STAILQ_INSERT_TAIL(&pool->waiting, job, link);
		pool->waiting_count++;
		pthread_cond_signal(&pool->work);
	}
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

/* Under lock. @return have all threads ended in time? */
static bool
threads_wait(struct pool *pool, int64_t until_ms)
{
	const struct timespec slice = {.tv_nsec = 20 * 1000 * 1000};
	struct timespec until;

	/* In slices: the house's clock can be moved by tests, the condition's
	 * cannot. */
	while (pool->live_count > 0 && clock_mono_ms() < until_ms) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += slice.tv_nsec;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&pool->idle, &pool->lock, &until);
	}
	return pool->live_count == 0;
}

bool
pool_stop(struct pool **pool, int64_t until_ms)
{
	struct pool *old = *pool;
	struct pool_job *job;
	bool has_ended;

	if (old == NULL)
		return true;
	*pool = NULL;
	pthread_mutex_lock(&old->lock);
	old->is_stopping = true;
	while ((job = STAILQ_FIRST(&old->waiting)) != NULL) {
		STAILQ_REMOVE_HEAD(&old->waiting, link);
		old->waiting_count--;
		pool_results_add(old->results, job);
	}
	pthread_cond_broadcast(&old->work);
	has_ended = threads_wait(old, until_ms);
	pthread_mutex_unlock(&old->lock);
	if (!has_ended) {
		log_warn(NULL, "pool-busy", "pool=%s; its threads are left",
		    old->name);
		return false;
	}
	for (int i = 0; i < old->thread_count; i++)
		pthread_join(old->threads[i], NULL);
	pthread_cond_destroy(&old->work);
	pthread_cond_destroy(&old->idle);
	pthread_mutex_destroy(&old->lock);
	free(old);
	return true;
}
