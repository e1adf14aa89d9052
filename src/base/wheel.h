/*
 * wheel.h - up to a million timers, each an intrusive link.
 *
 * Setting, moving and cancelling take constant time, and what has to be done
 * in a tick depends on what is due, not on how many timers there are. A timer
 * never fires early and at most one tick late (plus the time until
 * wheel_advance is called).
 */
#ifndef BASE_WHEEL_H
#define BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define WHEEL_SLOTS 512 /* a power of two */

/** Embed it; zeroed means not set. */
struct wheel_timer {
	struct wheel_timer *next; /* NULL: not set */
	struct wheel_timer *prev;
	int64_t at_ms;
	int64_t visit; /* near: tick of its slot; far: -lap of its slot */
};

struct wheel_ring {
	struct wheel_timer slots[WHEEL_SLOTS]; /* heads of circular lists */
	uint64_t used[WHEEL_SLOTS / 64];       /* bit: slot is not empty */
};

struct wheel {
	struct wheel_ring near; /* by tick */
	struct wheel_ring far;  /* by lap of WHEEL_SLOTS ticks */
	struct wheel_timer due; /* being fired right now */
	int64_t tick_ms;
	int64_t tick; /* last one that has been advanced to */
	int64_t timer_count;
	bool is_advancing;
};

/** The due timer is not set any more; fn may set or cancel any timer. */
typedef void (*wheel_fn)(void *ctx, struct wheel_timer *timer);

/**
 * @param tick_ms  resolution, at least 1
 * @param now_ms   any clock, as long as it is always the same one
 */
void wheel_init(struct wheel *wheel, int64_t tick_ms, int64_t now_ms);
/** Forget all timers; they count as not set afterwards. */
void wheel_fini(struct wheel *wheel);
/** Set it, or move it when it is set. A time that has passed: next tick. */
void wheel_set(struct wheel *wheel, struct wheel_timer *timer, int64_t at_ms);
/** Nothing happens when it is not set. */
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);
bool wheel_is_set(const struct wheel_timer *timer);
/**
 * Call fn for each timer with at_ms in a tick that has ended by now_ms,
 * roughly in the order of time. A timer that fn sets fires in a later call,
 * not in this one. Time that went back is ignored. Not to be nested.
 */
void wheel_advance(struct wheel *wheel, int64_t now_ms, wheel_fn fn, void *ctx);
/**
 * When to call wheel_advance next: never after the first due timer, perhaps
 * before it (timers that were moved or are far away are looked at earlier).
 *
 * @return ms on the wheel's clock, or -1: no timer is set
 */
int64_t wheel_next_ms(const struct wheel *wheel);

#endif
