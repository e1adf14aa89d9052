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
 * Each slot holds the timers to look at in one tick of the next 511. Moving
 * a timer further away only changes at_ms; it stays in its slot, is looked
 * at there and then linked where it belongs: one store per message instead
 * of six cache misses. A timer beyond the horizon is parked in the last slot.
 */
#include "base/wheel.h"

#include <stddef.h>
#include <string.h>

#include "base/log.h"

#define SLOT_MASK (WHEEL_SLOTS - 1)
#define HORIZON   (WHEEL_SLOTS - 1) /* ticks ahead that a slot can stand for */

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
slot_mark_used(struct wheel *wheel, int64_t slot)
{
	wheel->used[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static void
slot_mark_empty(struct wheel *wheel, int64_t slot)
{
	wheel->used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

/* First tick at whose start at_ms has been reached. */
static int64_t
wheel_tick_of(const struct wheel *wheel, int64_t at_ms)
{
	return at_ms / wheel->tick_ms + (at_ms % wheel->tick_ms > 0);
}

static void
wheel_link(struct wheel *wheel, struct wheel_timer *timer)
{
	int64_t tick = wheel_tick_of(wheel, timer->at_ms);

	if (tick <= wheel->tick)
		tick = wheel->tick + 1;
	if (tick > wheel->tick + HORIZON)
		tick = wheel->tick + HORIZON;
	timer->visit_tick = tick;
	list_append(&wheel->slots[tick & SLOT_MASK], timer);
	slot_mark_used(wheel, tick & SLOT_MASK);
}

static void
wheel_unlink(struct wheel *wheel, struct wheel_timer *timer)
{
	int64_t slot = timer->visit_tick & SLOT_MASK;

	list_unlink(timer);
	/* True as well for a timer on the due list whose slot is empty. */
	if (wheel->slots[slot].next == &wheel->slots[slot])
		slot_mark_empty(wheel, slot);
}

void
wheel_init(struct wheel *wheel, int64_t tick_ms, int64_t now_ms)
{
	if (tick_ms < 1)
		panic("a tick of %lld ms", (long long)tick_ms);
	memset(wheel, 0, sizeof(*wheel));
	for (int i = 0; i < WHEEL_SLOTS; i++)
		list_init(&wheel->slots[i]);
	list_init(&wheel->due);
	wheel->tick_ms = tick_ms;
	wheel->tick = now_ms / tick_ms;
}

void
wheel_fini(struct wheel *wheel)
{
	for (int i = 0; i < WHEEL_SLOTS; i++)
		list_move_all(&wheel->due, &wheel->slots[i]);
	while (wheel->due.next != &wheel->due)
		list_unlink(wheel->due.next);
	memset(wheel->used, 0, sizeof(wheel->used));
	wheel->timer_count = 0;
}

void
wheel_set(struct wheel *wheel, struct wheel_timer *timer, int64_t at_ms)
{
	bool was_set = timer->next != NULL;

	timer->at_ms = at_ms;
	if (was_set) {
		if (timer->visit_tick > wheel->tick &&
		    wheel_tick_of(wheel, at_ms) >= timer->visit_tick)
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

/* Put the slots of all ticks up to now on the due list, oldest first. */
static void
wheel_collect(struct wheel *wheel, int64_t now_tick)
{
	int64_t count = now_tick - wheel->tick;

	if (count > WHEEL_SLOTS)
		count = WHEEL_SLOTS;
	for (int64_t i = 1; i <= count; i++) {
		int64_t slot = (wheel->tick + i) & SLOT_MASK;

		list_move_all(&wheel->due, &wheel->slots[slot]);
		slot_mark_empty(wheel, slot);
	}
	wheel->tick = now_tick;
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
	wheel_collect(wheel, now_tick);
	while (wheel->due.next != &wheel->due) {
		struct wheel_timer *timer = wheel->due.next;

		list_unlink(timer);
		if (wheel_tick_of(wheel, timer->at_ms) > now_tick) {
			wheel_link(wheel, timer); /* moved or parked */
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
	for (int64_t i = 1; i <= WHEEL_SLOTS; i++) {
		int64_t slot = (wheel->tick + i) & SLOT_MASK;
		uint64_t bits = wheel->used[slot / 64] >> (slot % 64);

		if (bits != 0) {
			i += __builtin_ctzll(bits);
			return (wheel->tick + i) * wheel->tick_ms;
		}
		i += 63 - slot % 64; /* to the next word */
	}
	return -1;
}
