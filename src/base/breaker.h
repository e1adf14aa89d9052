/*
 * breaker.h - a circuit breaker: spare a service that fails, and ourselves.
 *
 * Time is passed in, locking is the caller's.
 *
 *     if (!breaker_may_try(&breaker, now))
 *             return ERR_UNAVAILABLE;  for breaker_wait_ms more
 *     ...
 *     breaker_report(&breaker, rc == 0, now, clock_mono_ms());
 *
 * CLOSED: all may. OPEN, once half of what came in the last 10 s, and 5 at
 * least, has failed: none may for 30 s. HALF_OPEN: one, the probe; its
 * outcome closes or opens it.
 */
#ifndef BASE_BREAKER_H
#define BASE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_BUCKETS       10
#define BREAKER_BUCKET_MS     1000
#define BREAKER_VOLUME_MIN    5
#define BREAKER_ERROR_PERCENT 50
#define BREAKER_OPEN_MS       30000

enum breaker_state {
	BREAKER_CLOSED,
	BREAKER_HALF_OPEN,
	BREAKER_OPEN,
	BREAKER_STATE_END
};

struct breaker {
	const char *name; /* in the log; outlives it */
	enum breaker_state state;
	int64_t state_at_ms; /* since when */
	bool has_probe;      /* HALF_OPEN: it is under way */
	uint64_t opened;     /* how often, ever */
	struct {
		int64_t second; /* which one it counts */
		uint32_t good;
		uint32_t bad;
	} buckets[BREAKER_BUCKETS];
};

/** @param name  borrowed for its life; "mssql-primary" */
void breaker_init(struct breaker *breaker, const char *name, int64_t now_ms);
/** May one more try? Who may has to report, above all in HALF_OPEN. */
bool breaker_may_try(struct breaker *breaker, int64_t now_ms);
/**
 * How one that breaker_may_try let pass has ended.
 *
 * @param tried_ms  the time that breaker_may_try was given: who began before
 *                  the state changed says nothing about it any more
 */
void breaker_report(
    struct breaker *breaker, bool is_good, int64_t tried_ms, int64_t now_ms);
/** Until one may try again; 0: now. For RetryAfter. */
int64_t breaker_wait_ms(const struct breaker *breaker, int64_t now_ms);
/** "CLOSED", ... */
const char *breaker_state_name(enum breaker_state state);

#endif
