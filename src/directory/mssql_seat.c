/*
 * mssql_seat.c - a thread of the pool, with its connection.
 *
 * Role:    takes a job, sees to a connection that works, runs it, decides
 *          what becomes of it. A connection is looked at before each job, so
 *          after a restart of the server all of them are replaced.
 * Process: directory, one thread per seat.
 * Blocks:  its thread: on work, the network, the server.
 * Trust:   the server's errors are numbers; tds.h has dropped its texts.
 * See:     mssql_pool.c, mssql_retry.c, doc/decisions/028-freetds.md.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/log.h"
#include "directory/mssql_priv.h"

/* ---- work for seats ---- */

bool
mssql_seat_start(struct mssql_server *place, bool is_warm)
{
	struct mssql_pool *pool = place->pool;
	struct mssql_seat *seat = NULL;
	sigset_t all;
	sigset_t before;
	int error;

	for (int i = 0; i < pool->seat_count && seat == NULL; i++) {
		if (place->seats[i].state != SEAT_TAKEN)
			seat = &place->seats[i];
	}
	if (seat == NULL)
		return false;
	if (seat->state == SEAT_ENDED) /* it needs no lock any more */
		pthread_join(seat->thread, NULL);
	seat->state = SEAT_FREE;
	seat->is_warm = is_warm;
	seat->is_woken = false;
	sigfillset(&all); /* they are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&seat->thread, NULL, mssql_seat_main, seat);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		return false;
	pthread_setname_np(seat->thread, place->breaker.name);
	seat->state = SEAT_TAKEN;
	place->live_count++;
	return true;
}

bool
mssql_place_put(struct mssql_server *place, struct mssql_job *job)
{
	struct mssql_seat *seat = SLIST_FIRST(&place->idle);

	if (seat != NULL) {
		SLIST_REMOVE_HEAD(&place->idle, idle);
		seat->is_woken = true;
		pthread_cond_signal(&seat->work);
	} else if (!mssql_seat_start(place, false) && place->live_count == 0) {
		return false;
	}
	STAILQ_INSERT_TAIL(&place->waiting, &job->job, link);
	place->pool->waiting_count++;
	return true;
}

/* Until it is woken, or idle for too long. @return false: for too long */
static bool
seat_wait(struct mssql_seat *seat)
{
	struct mssql_server *place = seat->place;
	struct mssql_pool *pool = place->pool;
	int64_t until_ms = seat->idle_at_ms + pool->idle_ms;
	struct timespec until = {
	    .tv_sec = (time_t)(until_ms / 1000),
	    .tv_nsec = (long)(until_ms % 1000) * 1000000,
	};
	int error = 0;

	seat->is_woken = false;
	SLIST_INSERT_HEAD(&place->idle, seat, idle);
	while (!seat->is_woken && !pool->is_stopping && error != ETIMEDOUT) {
		if (place->live_count > pool->seat_min)
			error = pthread_cond_timedwait(
			    &seat->work, &pool->lock, &until);
		else
			pthread_cond_wait(&seat->work, &pool->lock);
	}
	if (!seat->is_woken)
		SLIST_REMOVE(&place->idle, seat, mssql_seat, idle);
	return seat->is_woken || error != ETIMEDOUT ||
	       place->live_count <= pool->seat_min;
}

/* NULL: the thread ends; it is not counted any more. */
static struct mssql_job *
seat_take(struct mssql_seat *seat)
{
	struct mssql_server *place = seat->place;
	struct mssql_pool *pool = place->pool;
	struct pool_job *job = NULL;
	bool is_needed = true;

	pthread_mutex_lock(&pool->lock);
	seat->idle_at_ms = clock_mono_ms();
	while (is_needed && !pool->is_stopping &&
	       (job = STAILQ_FIRST(&place->waiting)) == NULL)
		is_needed = seat_wait(seat);
	if (job != NULL) {
		STAILQ_REMOVE_HEAD(&place->waiting, link);
		pool->waiting_count--;
	} else {
		place->live_count--;
	}
	pthread_mutex_unlock(&pool->lock);
	return (struct mssql_job *)job;
}

/* ---- one try ---- */

static void
seat_close(struct mssql_seat *seat, struct tds_conn **conn)
{
	if (*conn == NULL)
		return;
	tds_close(conn);
	pthread_mutex_lock(&seat->place->pool->lock);
	seat->place->connection_count--;
	pthread_mutex_unlock(&seat->place->pool->lock);
}

static void
error_log(const struct mssql_seat *seat, const struct tds_error *error)
{
	const char *server = seat->place->breaker.name;
	char text[512];

	switch (error->class) {
	case TDS_CLASS_BAD_SETUP:
	case TDS_CLASS_LOGIN:
		log_error(NULL, "mssql-refuses", "server=%s %s", server,
		    tds_error_text(error, text, sizeof(text)));
		break;
	case TDS_CLASS_BAD_ROW:
	case TDS_CLASS_LOST:
	case TDS_CLASS_READ_ONLY:
	case TDS_CLASS_RETRY:
		log_warn(NULL, "mssql-failed", "server=%s %s", server,
		    tds_error_text(error, text, sizeof(text)));
		break;
	case TDS_CLASS_DUPLICATE:
	case TDS_CLASS_RETRY_NOW:
		log_debug(NULL, "mssql-race", "server=%s %s", server,
		    tds_error_text(error, text, sizeof(text)));
		break;
	case TDS_CLASS_NONE:
	case TDS_CLASS_END:
		break;
	}
}

/* How it went, for the breaker and the metrics. */
static void
try_report(struct mssql_seat *seat, const struct tds_error *error, bool is_good,
    int64_t tried_ms)
{
	struct mssql_pool *pool = seat->place->pool;
	uint64_t opened;

	pthread_mutex_lock(&pool->lock);
	opened = seat->place->breaker.opened;
	breaker_report(
	    &seat->place->breaker, is_good, tried_ms, clock_mono_ms());
	pool->tally.opened += seat->place->breaker.opened - opened;
	pool->tally.errors[error->class]++;
	pthread_mutex_unlock(&pool->lock);
	error_log(seat, error);
}

/* A connection that works, a new one if need be. */
static int
seat_connect(
    struct mssql_seat *seat, struct tds_conn **conn, struct tds_error *error)
{
	struct mssql_server *place = seat->place;
	int rc;

	if (*conn != NULL && !tds_is_usable(*conn))
		seat_close(seat, conn);
	if (*conn != NULL)
		return 0;
	rc = tds_connect(place->server, conn, error);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&place->pool->lock);
	place->connection_count++;
	place->pool->tally.connects++;
	pthread_mutex_unlock(&place->pool->lock);
	return 0;
}

static bool
seat_may_try(struct mssql_seat *seat, int64_t now_ms)
{
	bool may;

	pthread_mutex_lock(&seat->place->pool->lock);
	may = breaker_may_try(&seat->place->breaker, now_ms);
	pthread_mutex_unlock(&seat->place->pool->lock);
	return may;
}

static void
job_run(struct mssql_seat *seat, struct mssql_job *job, struct tds_conn *conn)
{
	struct mssql_pool *pool = seat->place->pool;
	int64_t began_us = clock_mono_us();

	job->call_deadline_ms = began_us / 1000 + pool->query_timeout_ms;
	if (job->call_deadline_ms > job->deadline_ms)
		job->call_deadline_ms = job->deadline_ms;
	job->rc = job->run(job, conn);
	job->took_us += clock_mono_us() - began_us;
	job->error = job->rc != 0 ? *tds_error(conn) : (struct tds_error){0};
	pthread_mutex_lock(&pool->lock);
	pool->tally.calls++;
	pthread_mutex_unlock(&pool->lock);
}

/* @return was it sent? What came of it is in the job. */
static bool
seat_try(struct mssql_seat *seat, struct mssql_job *job, struct tds_conn **conn)
{
	int64_t now_ms = clock_mono_ms();

	job->error = (struct tds_error){.class = TDS_CLASS_NONE};
	job->rc = ERR_UNAVAILABLE;
	if (now_ms >= job->deadline_ms)
		return false;
	if (!seat_may_try(seat, now_ms)) {
		job->error.class = TDS_CLASS_RETRY;
		return false;
	}
	if (seat_connect(seat, conn, &job->error) != 0) {
		try_report(seat, &job->error, false, now_ms);
		return false;
	}
	job_run(seat, job, *conn);
	try_report(seat, &job->error, !mssql_is_server_fault(job->error.class),
	    now_ms);
	if (job->error.class == TDS_CLASS_READ_ONLY || !tds_is_usable(*conn))
		seat_close(seat, conn);
	return true;
}

/* ---- the life of a thread ---- */

/* Lock held. @return false: it is to be given back */
static bool
job_repeat(struct mssql_job *job, enum mssql_next next)
{
	struct mssql_pool *pool = job->pool;

	if (next == MSSQL_DONE || pool->is_stopping)
		return false;
	pool->tally.retries++;
	if (next == MSSQL_ELSEWHERE)
		return mssql_place_put(&pool->places[MSSQL_PRIMARY], job);
	STAILQ_INSERT_TAIL(&pool->resting, &job->job, link);
	pool->waiting_count++;
	return true;
}

static void
seat_work(
    struct mssql_seat *seat, struct mssql_job *job, struct tds_conn **conn)
{
	struct mssql_pool *pool = seat->place->pool;
	enum mssql_next next;
	uint32_t random = 0;
	bool is_kept;

	do {
		bool was_sent = seat_try(seat, job, conn);

		if (job->rc != 0)
			crypto_random(&random, sizeof(random));
		next = mssql_retry_next(job, was_sent, clock_mono_ms(), random);
	} while (next == MSSQL_AT_ONCE);
	pthread_mutex_lock(&pool->lock);
	is_kept = job_repeat(job, next);
	pthread_mutex_unlock(&pool->lock);
	if (!is_kept)
		pool_results_add(pool->results, &job->job);
}

static void
seat_warm(struct mssql_seat *seat, struct tds_conn **conn)
{
	struct tds_error error = {.class = TDS_CLASS_NONE};
	int64_t now_ms = clock_mono_ms();
	int rc;

	if (!seat_may_try(seat, now_ms))
		return;
	rc = seat_connect(seat, conn, &error);
	try_report(seat, &error, rc == 0, now_ms);
}

void *
mssql_seat_main(void *ctx)
{
	struct mssql_seat *seat = ctx;
	struct mssql_pool *pool = seat->place->pool;
	struct tds_conn *conn = NULL;
	struct mssql_job *job;

	if (seat->is_warm)
		seat_warm(seat, &conn);
	while ((job = seat_take(seat)) != NULL)
		seat_work(seat, job, &conn);
	seat_close(seat, &conn);
	json_fini(); /* rows with profiles were parsed here */
	pthread_mutex_lock(&pool->lock);
	seat->state = SEAT_ENDED;
	pthread_cond_signal(&pool->ended);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}
