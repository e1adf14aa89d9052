/*
 * reader.c - the worker's thread for reads that may wait for the disk.
 *
 * Role:    a queue of jobs to one thread and back; order is kept.
 * Process: worker; one thread besides the loop.
 * Blocks:  the thread on pages of the store; the loop never.
 * See:     reader.h; job_*.c (what it runs)
 */
#include "worker/reader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/worker_priv.h"

/* A read transaction is kept for at most so many jobs: an old one keeps
 * pages from being used again. */
#define JOBS_PER_TXN 16

STAILQ_HEAD(job_list, job);

struct reader {
	struct worker *worker;
	pthread_t thread;
	pthread_mutex_t lock; /* the fields up to is_stopping */
	pthread_cond_t has_work;
	struct job_list todo;
	struct job_list done;
	bool is_stopping;
	size_t job_count; /* the loop's: handed over and not back */
	size_t job_count_max;
	int done_fd; /* eventfd: something is in done */
	struct event *done_event;
};

/* A transaction that has met a page which cannot be read says so for ever. */
static int
renew(struct store *store, struct txn *txn)
{
	if (txn->rc == 0)
		return 0;
	txn_end(txn);
	return store_begin_read(store, txn);
}

static void
run_jobs(struct reader *reader, struct job_list *jobs)
{
	struct txn main = {0};
	struct txn presence = {0};
	struct job *job;
	int rc;

	rc = store_begin_read(reader->worker->main, &main);
	if (rc == 0)
		rc = store_begin_read(reader->worker->presence, &presence);
	STAILQ_FOREACH(job, jobs, link)
	{
		if (rc == 0)
			job->run_fn(job, &main, &presence);
		else
			job->rc = rc;
		/* a page that cannot be read is nothing to the next one */
		if (rc == 0)
			rc = renew(reader->worker->main, &main);
		if (rc == 0)
			rc = renew(reader->worker->presence, &presence);
	}
	txn_end(&presence);
	txn_end(&main);
}

/* A few jobs at a time out of todo. @return false: stop */
static bool
take_jobs(struct reader *reader, struct job_list *jobs)
{
	struct job *job;
	bool is_stopping;

	STAILQ_INIT(jobs);
	pthread_mutex_lock(&reader->lock);
	while (STAILQ_EMPTY(&reader->todo) && !reader->is_stopping)
		pthread_cond_wait(&reader->has_work, &reader->lock);
	for (int i = 0; i < JOBS_PER_TXN; i++) {
		job = STAILQ_FIRST(&reader->todo);
		if (job == NULL)
			break;
		STAILQ_REMOVE_HEAD(&reader->todo, link);
		STAILQ_INSERT_TAIL(jobs, job, link);
	}
	is_stopping = reader->is_stopping;
	pthread_mutex_unlock(&reader->lock);
	return !is_stopping;
}

static void *
reader_thread(void *arg)
{
	struct reader *reader = arg;
	struct job_list jobs;
	uint64_t one = 1;

	while (take_jobs(reader, &jobs)) {
		run_jobs(reader, &jobs);
		pthread_mutex_lock(&reader->lock);
		STAILQ_CONCAT(&reader->done, &jobs);
		pthread_mutex_unlock(&reader->lock);
		if (write(reader->done_fd, &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			panic("eventfd: %s", strerror(errno));
	}
	STAILQ_CONCAT(&reader->done, &jobs);
	return NULL;
}

static void
done_cb(evutil_socket_t fd, short what, void *arg)
{
	struct reader *reader = arg;
	struct job_list jobs = STAILQ_HEAD_INITIALIZER(jobs);
	struct job *job;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		panic("eventfd: %s", strerror(errno));
	pthread_mutex_lock(&reader->lock);
	STAILQ_CONCAT(&jobs, &reader->done);
	pthread_mutex_unlock(&reader->lock);
	while ((job = STAILQ_FIRST(&jobs)) != NULL) {
		STAILQ_REMOVE_HEAD(&jobs, link);
		reader->job_count--;
		job->done_fn(reader->worker, job);
		reader_job_free(&job);
	}
}

static void
start_thread(struct reader *reader)
{
	sigset_t all;
	sigset_t before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&reader->thread, NULL, reader_thread, reader);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		fatal("pthread_create: %s", strerror(rc));
}

struct reader *
reader_new(struct worker *worker)
{
	struct reader *reader = xcalloc(1, sizeof(*reader));

	reader->worker = worker;
	STAILQ_INIT(&reader->todo);
	STAILQ_INIT(&reader->done);
	pthread_mutex_init(&reader->lock, NULL);
	pthread_cond_init(&reader->has_work, NULL);
	reader->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (reader->done_fd < 0)
		fatal("eventfd: %s", strerror(errno));
	reader->done_event = event_new(worker->base, reader->done_fd,
	    EV_READ | EV_PERSIST, done_cb, reader);
	if (reader->done_event == NULL ||
	    event_add(reader->done_event, NULL) != 0)
		fatal("libevent: no memory for an event");
	start_thread(reader);
	return reader;
}

static void
free_jobs(struct job_list *jobs)
{
	struct job *job;

	while ((job = STAILQ_FIRST(jobs)) != NULL) {
		STAILQ_REMOVE_HEAD(jobs, link);
		reader_job_free(&job);
	}
}

void
reader_free(struct reader **reader_io)
{
	struct reader *reader = *reader_io;

	if (reader == NULL)
		return;
	pthread_mutex_lock(&reader->lock);
	reader->is_stopping = true;
	pthread_cond_signal(&reader->has_work);
	pthread_mutex_unlock(&reader->lock);
	pthread_join(reader->thread, NULL);
	free_jobs(&reader->todo);
	free_jobs(&reader->done);
	event_free(reader->done_event);
	close(reader->done_fd);
	pthread_cond_destroy(&reader->has_work);
	pthread_mutex_destroy(&reader->lock);
	free(reader);
	*reader_io = NULL;
}

struct job *
reader_job_new(struct session *session, job_run_fn run_fn, job_done_fn done_fn)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->run_fn = run_fn;
	job->done_fn = done_fn;
	job->user = session->user;
	job->session = session->id;
	job->is_anyone =
	    strcmp(session->worker->conf->policy_may_message, "anyone") == 0;
	job->is_remote = conf_users_are_remote(session->worker->conf);
	return job;
}

void
reader_job_free(struct job **job)
{
	if (*job == NULL)
		return;
	buf_fini(&(*job)->out);
	buf_fini(&(*job)->calls);
	buf_fini(&(*job)->kept);
	buf_fini(&(*job)->rows);
	free(*job);
	*job = NULL;
}

void
reader_submit_take(struct worker *worker, struct job *job)
{
	struct reader *reader = worker->reader;
	bool was_empty;

	if (++reader->job_count > reader->job_count_max) {
		reader->job_count_max = reader->job_count;
		GAUGE_SET(reader_jobs_max, reader->job_count_max);
	}
	pthread_mutex_lock(&reader->lock);
	was_empty = STAILQ_EMPTY(&reader->todo);
	STAILQ_INSERT_TAIL(&reader->todo, job, link);
	if (was_empty)
		pthread_cond_signal(&reader->has_work);
	pthread_mutex_unlock(&reader->lock);
}
