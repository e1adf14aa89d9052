/*
 * clock.h - the time, asked for in one place.
 *
 * Deadlines use the monotonic clock, what people and the store see uses the
 * wall clock; the two are never compared.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/** Monotonic time; only differences mean something. */
int64_t clock_mono_ns(void);
int64_t clock_mono_us(void);
int64_t clock_mono_ms(void);
/** Milliseconds since 1970 UTC; may jump. */
int64_t clock_wall_ms(void);

/** Take the time for this turn of the loop; call it once per turn. */
void clock_update(void);
/**
 * Monotonic time of the last clock_update, ms: free to ask, the same during a
 * whole turn. Belongs to the thread of the loop.
 */
int64_t clock_turn_ms(void);

/** Tests only: all clocks go forward by ms from now on. */
void clock_shift(int64_t ms);

#endif
