/*
 * mssql_pool.c - jobs for SQL Server: which server, how many, how long.
 *
 * Role:    the loop's side of the pool: takes jobs or says when to come again,
 *          wakes those whose pause is over, hands back what is done.
 * Process: directory; this file on the loop's thread, mssql_seat.c on others.
 * Blocks:  for a lock that is held for a few instructions; mssql_pool_stop
 *          until its time.
 * Trust:   none needed.
 * See:     mssql_seat.c, mssql_retry.c, doc/decisions/028-freetds.md.
 */
#include "config.h"

#include "directory/mssql_pool.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/mssql_priv.h"
#include "tds/tds_conf.h"

#define BUSY_RETRY_MS 1000
#define TURN_MS       1000

static const char *const place_names[MSSQL_PLACE_END] = {
    [MSSQL_PRIMARY] = "mssql-primary",
    [MSSQL_REPLICA] = "mssql-replica",
};

/* ---- begin ---- */

static int
place_init(struct mssql_pool *pool, enum mssql_place which,
    const struct conf *conf, char *error, size_t error_len)
{
	struct mssql_server *place = &pool->places[which];
	pthread_condattr_t monotonic;
	int rc;

	place->pool = pool;
	breaker_init(&place->breaker, place_names[which], clock_mono_ms());
	STAILQ_INIT(&place->waiting);
	SLIST_INIT(&place->idle);
	place->seats =
	    xcalloc((size_t)pool->seat_count, sizeof(place->seats[0]));
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	for (int i = 0; i < pool->seat_count; i++) {
		place->seats[i].place = place;
		pthread_cond_init(&place->seats[i].work, &monotonic);
	}
	pthread_condattr_destroy(&monotonic);
	rc = tds_conf_server(
	    conf, which == MSSQL_REPLICA, &place->server, error, error_len);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static void
pool_free(struct mssql_pool **pool)
{
	struct mssql_pool *old = *pool;

	for (int which = 0; which < MSSQL_PLACE_END; which++) {
		struct mssql_server *place = &old->places[which];

		for (int i = 0; place->seats != NULL && i < old->seat_count;
		     i++) {
			if (place->seats[i].state == SEAT_ENDED)
				pthread_join(place->seats[i].thread, NULL);
			pthread_cond_destroy(&place->seats[i].work);
		}
		free(place->seats);
		tds_server_free(&place->server);
	}
	pthread_cond_destroy(&old->ended);
	pthread_mutex_destroy(&old->lock);
	free(old);
	*pool = NULL;
}

int
mssql_pool_new(const struct conf *conf, struct pool_results *results,
    struct mssql_pool **pool_out, char *error, size_t error_len)
{
	struct mssql_pool *pool = xcalloc(1, sizeof(*pool));
	pthread_condattr_t monotonic;
	int rc = 0;

	pool->results = results;
	pool->seat_count = (int)conf->mssql_pool_max;
	pool->seat_min = (int)conf->mssql_pool_min;
	pool->waiting_max = (size_t)conf->mssql_pool_queue;
	pool->idle_ms = conf->mssql_pool_idle;
	pool->query_timeout_ms = conf->mssql_query_timeout;
	STAILQ_INIT(&pool->resting);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	for (int which = 0; rc == 0 && which < MSSQL_PLACE_END; which++)
		rc = place_init(
		    pool, (enum mssql_place)which, conf, error, error_len);
	if (rc != 0) {
		pool_free(&pool);
		return rc;
	}
	pthread_mutex_lock(&pool->lock);
	for (int which = 0; which < MSSQL_PLACE_END; which++) {
		for (int i = 0;
		     pool->places[which].server != NULL && i < pool->seat_min;
		     i++)
			mssql_seat_start(&pool->places[which], true);
	}
	pthread_mutex_unlock(&pool->lock);
	*pool_out = pool;
	return 0;
}

/* ---- jobs ---- */

static void
job_done(struct pool_job *pool_job)
{
	struct mssql_job *job = (struct mssql_job *)pool_job;

	if (job->took_us > 0)
		MEASURE_US(mssql_call_us, (uint64_t)job->took_us);
	/* "Perhaps" and "not now" are one answer to who asked. */
	if (job->error.class == TDS_CLASS_RETRY_NOW ||
	    mssql_is_server_fault(job->error.class))
		job->rc = ERR_UNAVAILABLE;
	job->done(job);
}

/* Lock held. */
static struct mssql_server *
place_choose(struct mssql_pool *pool, const struct mssql_job *job, int64_t now)
{
	struct mssql_server *replica = &pool->places[MSSQL_REPLICA];

	if (job->place == MSSQL_REPLICA && replica->server != NULL &&
	    breaker_wait_ms(&replica->breaker, now) == 0)
		return replica;
	return &pool->places[MSSQL_PRIMARY];
}

int
mssql_pool_submit(
    struct mssql_pool *pool, struct mssql_job *job, int64_t *retry_after_ms_out)
{
	int64_t now_ms = clock_mono_ms();
	struct mssql_server *place;
	int64_t wait_ms;
	int rc = ERR_UNAVAILABLE;

	job->job.done = job_done;
	job->pool = pool;
	job->pauses = 0;
	job->at_once = 0;
	job->tries = 0;
	job->took_us = 0;
	job->rc = ERR_UNAVAILABLE;
	job->error = (struct tds_error){.class = TDS_CLASS_NONE};
	pthread_mutex_lock(&pool->lock);
	place = place_choose(pool, job, now_ms);
	job->place = (enum mssql_place)(place - pool->places);
	wait_ms = breaker_wait_ms(&place->breaker, now_ms);
	if (wait_ms == 0 && pool->waiting_count < pool->waiting_max &&
	    mssql_place_put(place, job))
		rc = 0;
	pthread_mutex_unlock(&pool->lock);
	if (rc != 0) {
		COUNT(mssql_refused);
		*retry_after_ms_out = wait_ms > 0 ? wait_ms : BUSY_RETRY_MS;
	}
	return rc;
}

/* ---- the turn ---- */

static void
tally_count(const struct mssql_tally *tally)
{
	COUNT_ADD(mssql_breaker_opened, tally->opened);
	COUNT_ADD(mssql_calls, tally->calls);
	COUNT_ADD(mssql_connects, tally->connects);
	COUNT_ADD(mssql_retries, tally->retries);
	COUNT_ADD(mssql_errors_bad_row, tally->errors[TDS_CLASS_BAD_ROW]);
	COUNT_ADD(mssql_errors_bad_setup, tally->errors[TDS_CLASS_BAD_SETUP]);
	COUNT_ADD(mssql_errors_duplicate, tally->errors[TDS_CLASS_DUPLICATE]);
	COUNT_ADD(mssql_errors_login, tally->errors[TDS_CLASS_LOGIN]);
	COUNT_ADD(mssql_errors_lost, tally->errors[TDS_CLASS_LOST]);
	COUNT_ADD(mssql_errors_read_only, tally->errors[TDS_CLASS_READ_ONLY]);
	COUNT_ADD(mssql_errors_retry, tally->errors[TDS_CLASS_RETRY]);
	COUNT_ADD(mssql_errors_retry_now, tally->errors[TDS_CLASS_RETRY_NOW]);
}

/* Lock held: those whose pause is over go on. @return ms to the next one */
static int64_t
resting_wake(struct mssql_pool *pool, int64_t now_ms)
{
	struct mssql_jobs resting = STAILQ_HEAD_INITIALIZER(resting);
	int64_t wait_ms = TURN_MS;
	struct pool_job *link;

	STAILQ_CONCAT(&resting, &pool->resting);
	while ((link = STAILQ_FIRST(&resting)) != NULL) {
		struct mssql_job *job = (struct mssql_job *)link;
		int64_t left_ms = job->retry_at_ms - now_ms;

		STAILQ_REMOVE_HEAD(&resting, link);
		pool->waiting_count--;
		if (left_ms <= 0 &&
		    mssql_place_put(&pool->places[job->place], job))
			continue;
		STAILQ_INSERT_TAIL(&pool->resting, link, link);
		pool->waiting_count++;
		if (left_ms > 0 && left_ms < wait_ms)
			wait_ms = left_ms;
	}
	return wait_ms;
}

int64_t
mssql_pool_turn(struct mssql_pool *pool)
{
	struct mssql_server *primary = &pool->places[MSSQL_PRIMARY];
	struct mssql_server *replica = &pool->places[MSSQL_REPLICA];
	struct mssql_tally tally;
	int64_t wait_ms;

	pthread_mutex_lock(&pool->lock);
	wait_ms = resting_wake(pool, clock_mono_ms());
	tally = pool->tally;
	pool->tally = (struct mssql_tally){0};
	GAUGE_SET(mssql_connections,
	    primary->connection_count + replica->connection_count);
	GAUGE_SET(mssql_queue, pool->waiting_count);
	GAUGE_SET(mssql_breaker_primary, primary->breaker.state);
	GAUGE_SET(mssql_breaker_replica, replica->breaker.state);
	pthread_mutex_unlock(&pool->lock);
	tally_count(&tally);
	return wait_ms;
}

/* ---- end ---- */

static void
jobs_give_back(struct mssql_pool *pool, struct mssql_jobs *jobs)
{
	struct pool_job *job;

	while ((job = STAILQ_FIRST(jobs)) != NULL) {
		STAILQ_REMOVE_HEAD(jobs, link);
		pool->waiting_count--;
		((struct mssql_job *)job)->rc = ERR_UNAVAILABLE;
		pool_results_add(pool->results, job);
	}
}

/* Lock held. */
static bool
has_thread(const struct mssql_pool *pool)
{
	for (int which = 0; which < MSSQL_PLACE_END; which++) {
		for (int i = 0; i < pool->seat_count; i++) {
			if (pool->places[which].seats[i].state == SEAT_TAKEN)
				return true;
		}
	}
	return false;
}

bool
mssql_pool_stop(struct mssql_pool **pool, int64_t until_ms)
{
	struct mssql_pool *old = *pool;
	const struct timespec until = {
	    .tv_sec = (time_t)(until_ms / 1000),
	    .tv_nsec = (long)(until_ms % 1000) * 1000000,
	};
	bool has_ended;
	int error = 0;

	if (old == NULL)
		return true;
	pthread_mutex_lock(&old->lock);
	old->is_stopping = true;
	for (int which = 0; which < MSSQL_PLACE_END; which++) {
		jobs_give_back(old, &old->places[which].waiting);
		for (int i = 0; i < old->seat_count; i++)
			pthread_cond_signal(&old->places[which].seats[i].work);
	}
	jobs_give_back(old, &old->resting);
	while (has_thread(old) && error == 0)
		error = pthread_cond_timedwait(&old->ended, &old->lock, &until);
	has_ended = !has_thread(old);
	pthread_mutex_unlock(&old->lock);
	*pool = NULL;
	if (has_ended) {
		mssql_pool_turn(old);
		pool_free(&old);
	} else {
		log_warn(NULL, "mssql-stuck",
		    "a thread does not end; it is left behind");
	}
	return has_ended;
}
