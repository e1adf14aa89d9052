/*
 * mssql_pool_fake.c - mssql_pool.h without threads and servers: jobs run when
 * the test says so.
 */
#include "config.h"

#include "t/unit/mssql_pool_fake.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tds/tds_conf.h"

#define JOBS_MAX 64

struct mssql_pool {
	struct mssql_job *jobs[JOBS_MAX];
	size_t count;
};

struct fake_pool fake_pool;

static struct mssql_pool *the_pool;

int
mssql_pool_new(const struct conf *conf, struct pool_results *results,
    struct mssql_pool **pool_out, char *error, size_t error_len)
{
	(void)conf;
	(void)results;
	(void)error;
	(void)error_len;
	the_pool = xcalloc(1, sizeof(*the_pool));
	*pool_out = the_pool;
	return 0;
}

int
mssql_pool_submit(
    struct mssql_pool *pool, struct mssql_job *job, int64_t *retry_after_ms_out)
{
	*retry_after_ms_out = 1000;
	if (fake_pool.is_away || pool->count == JOBS_MAX)
		return ERR_UNAVAILABLE;
	pool->jobs[pool->count++] = job;
	return 0;
}

int64_t
mssql_pool_turn(struct mssql_pool *pool)
{
	(void)pool;
	return 60000; /* it wants nothing */
}

static void
job_end(struct mssql_job *job, struct tds_conn *conn)
{
	job->rc = ERR_UNAVAILABLE;
	job->error = (struct tds_error){0};
	job->call_deadline_ms = clock_mono_ms() + 5000;
	if (conn != NULL) {
		fake_pool.places[job->place]++;
		job->rc = job->run(job, conn);
		job->error = *tds_error(conn);
	}
	job->done(job);
}

static size_t
jobs_end(struct mssql_pool *pool, struct tds_conn *conn)
{
	size_t count = pool->count;
	struct mssql_job *jobs[JOBS_MAX];

	for (size_t i = 0; i < count; i++)
		jobs[i] = pool->jobs[i];
	pool->count = 0;
	for (size_t i = 0; i < count; i++)
		job_end(jobs[i], conn);
	return count;
}

size_t
fake_pool_run(struct tds_conn *conn)
{
	return jobs_end(the_pool, conn);
}

bool
mssql_pool_stop(struct mssql_pool **pool, int64_t until_ms)
{
	(void)until_ms;
	jobs_end(*pool, NULL);
	free(*pool);
	*pool = NULL;
	return true;
}

int
tds_conf_check(const struct conf *conf, char *error, size_t error_len)
{
	(void)conf;
	(void)error;
	(void)error_len;
	return 0;
}

int
tds_start(void)
{
	return 0;
}

void
tds_stop(void)
{
}
