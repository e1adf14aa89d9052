/*
 * clock.c - monotonic time, wall time, and the time of the turn.
 *
 * Role:    hides clock_gettime; a test can move time forward.
 * Process: all.
 * Blocks:  never (vDSO, no system call).
 * Trust:   the wall clock may jump; the monotonic one does not go back.
 * See:     wheel.c, t/unit/clock_wheel.c.
 */
#include "base/clock.h"

#include <stdbool.h>
#include <time.h>

#define NS_PER_S  INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_US INT64_C(1000)

static struct {
	int64_t turn_ms;
	int64_t shift_ns;
	bool has_turn;
} state;

static int64_t
clock_read_ns(clockid_t id)
{
	struct timespec now;

	/* Cannot fail for these two clocks: clock_gettime(2), ERRORS. */
	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec + state.shift_ns;
}

int64_t
clock_mono_ns(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t
clock_mono_us(void)
{
	return clock_mono_ns() / NS_PER_US;
}

int64_t
clock_mono_ms(void)
{
	return clock_mono_ns() / NS_PER_MS;
}

int64_t
clock_wall_ms(void)
{
	return clock_read_ns(CLOCK_REALTIME) / NS_PER_MS;
}

void
clock_update(void)
{
	state.turn_ms = clock_mono_ms();
	state.has_turn = true;
}

int64_t
clock_turn_ms(void)
{
	if (!state.has_turn)
		clock_update();
	return state.turn_ms;
}

void
clock_shift(int64_t ms)
{
	state.shift_ns += ms * NS_PER_MS;
}
