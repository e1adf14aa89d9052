/*
 * tds_watch.c - cuts connections whose deadline has passed.
 *
 * Role:    the library's timer starts anew with each byte, so a server that
 *          drips would hold a thread for ever: total time is kept here. The
 *          socket is shut down under the waiting thread, which then sees a
 *          closed connection.
 * Process: directory, parleyctl; one thread.
 * Blocks:  its thread, until the next deadline.
 * Trust:   none needed.
 * See:     tds_priv.h (guard_fd), t/unit/tds_conn.c.
 */
#include "config.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "tds/tds_priv.h"

TAILQ_HEAD(tds_conns, tds_conn);

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct tds_conns conns; /* some tens: looked through each time */
	bool is_stopping;
	pthread_t thread;
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Cut what is due. @return the next deadline, INT64_MAX: none */
static int64_t
cut(int64_t now_ms)
{
	int64_t next_ms = INT64_MAX;
	struct tds_conn *conn;

	TAILQ_FOREACH(conn, &watch.conns, watched)
	{
		if (conn->was_cut)
			continue;
		if (now_ms >= conn->deadline_ms) {
			conn->was_cut = true;
			shutdown(conn->guard_fd, SHUT_RDWR);
		} else if (conn->deadline_ms < next_ms) {
			next_ms = conn->deadline_ms;
		}
	}
	return next_ms;
}

static void *
thread_main(void *ctx)
{
	(void)ctx;
	pthread_mutex_lock(&watch.lock);
	while (!watch.is_stopping) {
		int64_t until_ms = cut(clock_mono_ms());
		struct timespec until = {
		    .tv_sec = (time_t)(until_ms / 1000),
		    .tv_nsec = (long)(until_ms % 1000) * 1000000,
		};

		if (until_ms == INT64_MAX)
			pthread_cond_wait(&watch.changed, &watch.lock);
		else
			pthread_cond_timedwait(
			    &watch.changed, &watch.lock, &until);
	}
	pthread_mutex_unlock(&watch.lock);
	return NULL;
}

int
tds_watch_start(void)
{
	pthread_condattr_t monotonic;
	sigset_t all;
	sigset_t before;
	int error;

	TAILQ_INIT(&watch.conns);
	watch.is_stopping = false;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&watch.changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	sigfillset(&all); /* they are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&watch.thread, NULL, thread_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		pthread_setname_np(watch.thread, "tds-watch");
	return error == 0 ? 0 : ERR_IO;
}

void
tds_watch_stop(void)
{
	pthread_mutex_lock(&watch.lock);
	watch.is_stopping = true;
	pthread_cond_signal(&watch.changed);
	pthread_mutex_unlock(&watch.lock);
	pthread_join(watch.thread, NULL);
	pthread_cond_destroy(&watch.changed);
}

void
tds_watch_add(struct tds_conn *conn, int64_t deadline_ms)
{
	pthread_mutex_lock(&watch.lock);
	conn->deadline_ms = deadline_ms;
	conn->was_cut = false;
	TAILQ_INSERT_TAIL(&watch.conns, conn, watched);
	pthread_cond_signal(&watch.changed);
	pthread_mutex_unlock(&watch.lock);
}

bool
tds_watch_remove(struct tds_conn *conn)
{
	bool was_cut;

	pthread_mutex_lock(&watch.lock);
	TAILQ_REMOVE(&watch.conns, conn, watched);
	was_cut = conn->was_cut;
	pthread_mutex_unlock(&watch.lock);
	return was_cut;
}
