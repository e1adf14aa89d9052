/*
 * health.h - the scoreboard read as a verdict: does it serve, what is missing.
 * For the console, parleyctl and whoever watches from outside.
 */
#ifndef SHM_HEALTH_H
#define SHM_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/board.h"

#define HEALTH_STALL_MS 10000 /* a heartbeat this old: it hangs */

enum health_status { HEALTH_OK, HEALTH_DEGRADED, HEALTH_FAILED };

struct health {
	enum health_status status;
	bool is_ready;      /* takes clients: keeper and a worker serve */
	const char *reason; /* a static sentence; "" when all is well */
};

/** Is the slot one that this server uses? */
bool health_is_used(struct board *board, int slot);
/** Running, its start finished. */
bool health_is_serving(struct board *board, int slot);
/** ms since its last heartbeat, -1: never beat. */
int64_t health_beat_age_ms(struct board *board, int slot, int64_t mono_ms);
/** @param mono_ms  monotonic clock of this machine, now */
struct health health_read(struct board *board, int64_t mono_ms);

/* What the directory says of a database that its back end asks. */
struct health_database {
	uint64_t connections;
	uint64_t waiting;    /* requests, for one of them */
	bool is_spared;      /* it failed, and is left alone for a while */
	bool is_setup_wrong; /* it refuses every batch of the outbox */
};

struct health_database health_database(struct board *board);
const char *health_status_name(enum health_status status);

#endif
