/*
 * policy.c - restart, pause or give up; too large; legal state changes.
 *
 * Role:    the part of the supervisor that can be tested without processes.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   arguments come from the supervisor itself.
 * See:     t/unit/supervisor_policy.c.
 */
#include "config.h"

#include "supervisor/policy.h"

#include <stddef.h>

#define BIT(state) (1u << PROCESS_##state)

/* dead is passed through on every death; what follows it is the verdict. */
static const unsigned successors[] = {
    [PROCESS_DEAD] = BIT(STARTING) | BIT(BACKOFF) | BIT(ERRORED),
    [PROCESS_STARTING] = BIT(RUNNING) | BIT(STOPPING) | BIT(DEAD),
    [PROCESS_RUNNING] = BIT(STOPPING) | BIT(DEAD),
    [PROCESS_STOPPING] = BIT(DEAD),
    [PROCESS_BACKOFF] = BIT(STARTING) | BIT(DEAD),
    [PROCESS_ERRORED] = BIT(DEAD),
};

#define STATE_COUNT (sizeof(successors) / sizeof(successors[0]))

enum restart_verdict
policy_died(struct restart_policy *policy, const struct restart_limits *limits,
    int64_t lived_ms, bool is_killed, int64_t *pause_ms_out)
{
	*pause_ms_out = 0;
	if (is_killed && lived_ms >= POLICY_HARDLY_MS)
		return RESTART_NOW;
	if (lived_ms >= limits->min_uptime_ms) {
		policy_clear(policy);
		return RESTART_NOW;
	}
	policy->short_lives++;
	if (policy->short_lives >= limits->restarts_max)
		return RESTART_NEVER;
	if (policy->short_lives <= POLICY_FREE_RESTARTS)
		return RESTART_NOW;
	policy->pause_ms = policy->pause_ms == 0
			       ? limits->delay_ms
			       : policy->pause_ms + policy->pause_ms / 2;
	if (policy->pause_ms > POLICY_BACKOFF_MAX_MS)
		policy->pause_ms = POLICY_BACKOFF_MAX_MS;
	*pause_ms_out = policy->pause_ms;
	return RESTART_LATER;
}

bool
policy_doubt(struct doubt_watch *watch, int64_t now_ms)
{
	bool is_second = watch->last_at_ms != 0 &&
			 now_ms - watch->last_at_ms < POLICY_DOUBT_MS;

	watch->last_at_ms = is_second ? 0 : now_ms;
	return is_second;
}

void
policy_clear(struct restart_policy *policy)
{
	policy->short_lives = 0;
	policy->pause_ms = 0;
}

bool
policy_may_follow(enum process_state state, enum process_state next)
{
	return (size_t)state < STATE_COUNT && (size_t)next < STATE_COUNT &&
	       (successors[state] & (1u << next)) != 0;
}

bool
policy_memory_look(struct memory_watch *watch, int64_t bytes, int64_t max_bytes)
{
	if (bytes < 0)
		return false;
	if (max_bytes == 0 || bytes <= max_bytes) {
		watch->above = 0;
		watch->peak_bytes = 0;
		return false;
	}
	if (watch->above < POLICY_LOOKS)
		watch->above++;
	if (bytes > watch->peak_bytes)
		watch->peak_bytes = bytes;
	return watch->above == POLICY_LOOKS;
}
