/*
 * policy.h - when a process that died is started again, when one has grown too
 * large, and which states may follow each other. Pure: knows neither clock nor
 * processes.
 */
#ifndef SUPERVISOR_POLICY_H
#define SUPERVISOR_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"

#define POLICY_FREE_RESTARTS  2      /* failures answered without a pause */
#define POLICY_BACKOFF_MAX_MS 15000  /* pauses grow by half up to this */
#define POLICY_LOOKS          5      /* above the limit in so many in a row */
#define POLICY_HARDLY_MS      100    /* a life that says nothing */
#define POLICY_DOUBT_MS       600000 /* two deaths in the store within it */

/* [supervisor], as it is now. */
struct restart_limits {
	int64_t min_uptime_ms; /* a shorter life is a failure */
	int64_t delay_ms;      /* first pause */
	int restarts_max;      /* failures in a row: errored */
};

struct restart_policy {   /* zeroed: no failures */
	int short_lives;  /* in a row */
	int64_t pause_ms; /* last one given */
};

struct memory_watch {       /* zeroed: nothing seen */
	int above;          /* looks in a row */
	int64_t peak_bytes; /* of these */
};

struct doubt_watch {        /* zeroed: none */
	int64_t last_at_ms; /* 0: none */
};

enum restart_verdict {
	RESTART_NOW,
	RESTART_LATER,
	RESTART_NEVER, /* until somebody clears it */
};

/**
 * A process died that should not have.
 *
 * @param limits        may differ from call to call (reload)
 * @param lived_ms      from its fork to its death
 * @param is_killed     it served and somebody outside ended it with SIGKILL:
 *                      says nothing about the process, so it is no failure,
 *                      unless it hardly lived at all
 * @param pause_ms_out  RESTART_LATER: how long to wait, else 0
 */
enum restart_verdict policy_died(struct restart_policy *policy,
    const struct restart_limits *limits, int64_t lived_ms, bool is_killed,
    int64_t *pause_ms_out);
/**
 * A process has died in the store, whichever it was.
 *
 * @return is it the second time within POLICY_DOUBT_MS? Then they are counted
 *         anew.
 */
bool policy_doubt(struct doubt_watch *watch, int64_t now_ms);
/** Forget the failures (parleyctl restart). */
void policy_clear(struct restart_policy *policy);

/**
 * One look at the memory of one process.
 *
 * @param bytes      what is its own; -1: unknown, changes nothing
 * @param max_bytes  0: no limit
 * @return           has it stayed above for POLICY_LOOKS looks?
 */
bool policy_memory_look(
    struct memory_watch *watch, int64_t bytes, int64_t max_bytes);

/** Is next a legal successor of state? */
bool policy_may_follow(enum process_state state, enum process_state next);

#endif
