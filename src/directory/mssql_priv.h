/*
 * mssql_priv.h - what the files of the pool share.
 */
#ifndef DIRECTORY_MSSQL_PRIV_H
#define DIRECTORY_MSSQL_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/breaker.h"
#include "directory/mssql_pool.h"
#include "directory/mssql_retry.h"

STAILQ_HEAD(mssql_jobs, pool_job);

struct mssql_server;

/** Room for one thread, which has at most one connection. */
struct mssql_seat {
	struct mssql_server *place;
	enum { SEAT_FREE, SEAT_TAKEN, SEAT_ENDED } state; /* ENDED: to join */
	bool is_warm;  /* connects before there is work */
	bool is_woken; /* out of the list of the idle ones, by submit */
	int64_t idle_at_ms;
	pthread_t thread;
	pthread_cond_t work;
	SLIST_ENTRY(mssql_seat) idle;
};

/** A server; all under the pool's lock but what never changes. */
struct mssql_server {
	struct mssql_pool *pool;
	struct tds_server *server; /* NULL: there is no such place */
	struct breaker breaker;
	struct mssql_jobs waiting;
	/* The last one that went idle first: the others can grow old. */
	SLIST_HEAD(, mssql_seat) idle;
	int live_count;
	int connection_count;
	struct mssql_seat *seats; /* seat_count of the pool */
};

/** What threads count; the loop's thread puts it into the metrics. */
struct mssql_tally {
	uint64_t errors[TDS_CLASS_END];
	uint64_t connects;
	uint64_t retries;
	uint64_t calls;
	uint64_t opened; /* breakers */
};

struct mssql_pool {
	struct pool_results *results;
	int seat_count;
	int seat_min;
	size_t waiting_max;
	int64_t idle_ms;
	int64_t query_timeout_ms;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t ended; /* to mssql_pool_stop */
	struct mssql_server places[MSSQL_PLACE_END];
	struct mssql_jobs resting; /* between two tries */
	size_t waiting_count;      /* in all places, and resting */
	struct mssql_tally tally;
	bool is_stopping;
};

/** mssql_seat.c: what a thread does. @param ctx  its struct mssql_seat */
void *mssql_seat_main(void *ctx);
/** Lock held: a job to a place's queue, and somebody for it. @return false:
 *  nothing was taken, there is no thread */
bool mssql_place_put(struct mssql_server *place, struct mssql_job *job);
/** Lock held. @return is there a thread more? */
bool mssql_seat_start(struct mssql_server *place, bool is_warm);

#endif
