/*
 * policy.h - when a process that died is started again, and which states may
 * follow each other. Pure: knows neither clock nor processes.
 */
#ifndef SUPERVISOR_POLICY_H
#define SUPERVISOR_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"

#define POLICY_MIN_UPTIME_MS   10000 /* a shorter life is a failure */
#define POLICY_FREE_RESTARTS   2     /* failures answered without a pause */
#define POLICY_BACKOFF_MS      100   /* first pause, then half as much again */
#define POLICY_BACKOFF_MAX_MS  15000
#define POLICY_SHORT_LIVES_MAX 10 /* failures in a row: errored */

struct restart_policy {   /* zeroed: no failures */
	int short_lives;  /* in a row */
	int64_t pause_ms; /* last one given */
};

enum restart_verdict {
	RESTART_NOW,
	RESTART_LATER,
	RESTART_NEVER, /* until somebody clears it */
};

/**
 * A process died that should not have.
 *
 * @param lived_ms      from its fork to its death
 * @param is_killed     it served and somebody else ended it with SIGKILL:
 *                      says nothing about the process, so it is no failure,
 *                      unless it hardly lived at all
 * @param pause_ms_out  RESTART_LATER: how long to wait, else 0
 */
enum restart_verdict policy_died(struct restart_policy *policy,
    int64_t lived_ms, bool is_killed, int64_t *pause_ms_out);
/** Forget the failures (parleyctl restart). */
void policy_clear(struct restart_policy *policy);
/** Is next a legal successor of state? */
bool policy_may_follow(enum process_state state, enum process_state next);

#endif
