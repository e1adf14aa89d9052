/*
 * wheel.c - hashed timing wheel.
 *
 * Role:    deadlines of connections and sessions: hundreds of thousands set,
 *          nearly all moved again before they are due.
 * Process: worker, keeper; one wheel belongs to one thread.
 * Blocks:  never.
 * Trust:   callers only; a nested advance is our mistake.
 * See:     t/unit/clock_wheel.c (against a sorted list).
 *
 * Two rings of slots. A near slot holds the timers to look at in one tick of
 * the next 511; a far slot those of one lap of 512 ticks among the next 511
 * laps, looked at when the lap begins. So a timer is looked at twice in its
 * life, however far away it is: with a tick of 100 ms up to 7 hours. Beyond
 * that it is parked in the last far slot.
 *
 * Moving a timer further away only changes at_ms; it stays in its slot, is
 * looked at there and then linked where it belongs: one store per message
 * instead of six cache misses.
 */
#include "base/wheel.h"

#include <stddef.h>
#include <string.h>

#include "base/log.h"

#define SLOT_MASK (WHEEL_SLOTS - 1)
#define HORIZON   (WHEEL_SLOTS - 1) /* ticks or laps ahead of a slot */

_Static_assert(sizeof(struct wheel_timer) <= 32, "a million of them");
_Static_assert((WHEEL_SLOTS & SLOT_MASK) == 0, "slots are found by mask");

static void
list_init(struct wheel_timer *head)
{
	head->next = head;
	head->prev = head;
}

static void
list_append(struct wheel_timer *head, struct wheel_timer *timer)
{
	timer->next = head;
	timer->prev = head->prev;
	head->prev->next = timer;
	head->prev = timer;
}

static void
list_unlink(struct wheel_timer *timer)
{
	timer->prev->next = timer->next;
	timer->next->prev = timer->prev;
	timer->next = NULL;
	timer->prev = NULL;
}

/* Everything of from goes to the end of head; from is empty afterwards. */
static void
list_move_all(struct wheel_timer *head, struct wheel_timer *from)
{
	if (from->next == from)
		return;
	from->next->prev = head->prev;
	head->prev->next = from->next;
	from->prev->next = head;
	head->prev = from->prev;
	list_init(from);
}

static void
ring_init(struct wheel_ring *ring)
{
	for (int i = 0; i < WHEEL_SLOTS; i++)
		list_init(&ring->slots[i]);
}

static void
ring_put(struct wheel_ring *ring, int64_t place, struct wheel_timer *timer)
{
	int64_t slot = place & SLOT_MASK;

	list_append(&ring->slots[slot], timer);
	ring->used[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static void
ring_mark_empty(struct wheel_ring *ring, int64_t slot)
{
	ring->used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

/* Everything in the places behind from, up to to, goes to the end of head. */
static void
ring_take(
    struct wheel_ring *ring, int64_t from, int64_t to, struct wheel_timer *head)
{
	int64_t count = to - from < WHEEL_SLOTS ? to - from : WHEEL_SLOTS;

	for (int64_t i = 1; i <= count; i++) {
		int64_t slot = (from + i) & SLOT_MASK;

		list_move_all(head, &ring->slots[slot]);
		ring_mark_empty(ring, slot);
	}
}

/* The first place behind from that is used, -1 if there is none. */
static int64_t
ring_next(const struct wheel_ring *ring, int64_t from)
{
	for (int64_t i = 1; i <= WHEEL_SLOTS; i++) {
		int64_t slot = (from + i) & SLOT_MASK;
		uint64_t bits = ring->used[slot / 64] >> (slot % 64);

		if (bits != 0)
			return from + i + __builtin_ctzll(bits);
		i += 63 - slot % 64; /* to the next word */
	}
	return -1;
}

/* First tick at whose start at_ms has been reached. */
static int64_t
wheel_tick_of(const struct wheel *wheel, int64_t at_ms)
{
	return at_ms / wheel->tick_ms + (at_ms % wheel->tick_ms > 0);
}

static int64_t
lap_of(int64_t tick)
{
	return tick / WHEEL_SLOTS;
}

/* When its slot is looked at. */
static int64_t
visit_tick(const struct wheel_timer *timer)
{
	return timer->visit >= 0 ? timer->visit : -timer->visit * WHEEL_SLOTS;
}

static void
wheel_link(struct wheel *wheel, struct wheel_timer *timer)
{
	int64_t tick = wheel_tick_of(wheel, timer->at_ms);
	int64_t lap = lap_of(tick);
	int64_t last_lap = lap_of(wheel->tick) + HORIZON;

	if (tick > wheel->tick + HORIZON) {
		/* Never lap 0: it lies behind the present one. */
		timer->visit = -(lap < last_lap ? lap : last_lap);
		ring_put(&wheel->far, -timer->visit, timer);
		return;
	}
	timer->visit = tick > wheel->tick ? tick : wheel->tick + 1;
	ring_put(&wheel->near, timer->visit, timer);
}

static void
wheel_unlink(struct wheel *wheel, struct wheel_timer *timer)
{
	struct wheel_ring *ring =
	    timer->visit >= 0 ? &wheel->near : &wheel->far;
	int64_t place = timer->visit >= 0 ? timer->visit : -timer->visit;
	int64_t slot = place & SLOT_MASK;

	list_unlink(timer);
	/* True as well for a timer on the due list whose slot is empty. */
	if (ring->slots[slot].next == &ring->slots[slot])
		ring_mark_empty(ring, slot);
}

void
wheel_init(struct wheel *wheel, int64_t tick_ms, int64_t now_ms)
{
	if (tick_ms < 1)
		panic("a tick of %lld ms", (long long)tick_ms);
	memset(wheel, 0, sizeof(*wheel));
	ring_init(&wheel->near);
	ring_init(&wheel->far);
	list_init(&wheel->due);
	wheel->tick_ms = tick_ms;
	wheel->tick = now_ms / tick_ms;
}

void
wheel_fini(struct wheel *wheel)
{
	ring_take(&wheel->near, 0, WHEEL_SLOTS, &wheel->due);
	ring_take(&wheel->far, 0, WHEEL_SLOTS, &wheel->due);
	while (wheel->due.next != &wheel->due)
		list_unlink(wheel->due.next);
	wheel->timer_count = 0;
}

void
wheel_set(struct wheel *wheel, struct wheel_timer *timer, int64_t at_ms)
{
	bool was_set = timer->next != NULL;

	timer->at_ms = at_ms;
	if (was_set) {
		if (visit_tick(timer) > wheel->tick &&
		    wheel_tick_of(wheel, at_ms) >= visit_tick(timer))
			return;
		wheel_unlink(wheel, timer);
	} else {
		wheel->timer_count++;
	}
	wheel_link(wheel, timer);
}

void
wheel_cancel(struct wheel *wheel, struct wheel_timer *timer)
{
	if (timer->next == NULL)
		return;
	wheel_unlink(wheel, timer);
	wheel->timer_count--;
}

bool
wheel_is_set(const struct wheel_timer *timer)
{
	return timer->next != NULL;
}

void
wheel_advance(struct wheel *wheel, int64_t now_ms, wheel_fn fn, void *ctx)
{
	int64_t now_tick = now_ms / wheel->tick_ms;

	if (wheel->is_advancing)
		panic("timers advanced from within a timer");
	if (now_tick <= wheel->tick)
		return;
	wheel->is_advancing = true;
	ring_take(&wheel->near, wheel->tick, now_tick, &wheel->due);
	ring_take(
	    &wheel->far, lap_of(wheel->tick), lap_of(now_tick), &wheel->due);
	wheel->tick = now_tick;
	while (wheel->due.next != &wheel->due) {
		struct wheel_timer *timer = wheel->due.next;

		list_unlink(timer);
		if (wheel_tick_of(wheel, timer->at_ms) > now_tick) {
			wheel_link(wheel, timer); /* moved, or of this lap */
			continue;
		}
		wheel->timer_count--;
		fn(ctx, timer);
	}
	wheel->is_advancing = false;
}

int64_t
wheel_next_ms(const struct wheel *wheel)
{
	int64_t tick = ring_next(&wheel->near, wheel->tick);
	int64_t lap = ring_next(&wheel->far, lap_of(wheel->tick));

	if (lap >= 0 && (tick < 0 || lap * WHEEL_SLOTS < tick))
		tick = lap * WHEEL_SLOTS;
	return tick < 0 ? -1 : tick * wheel->tick_ms;
}
