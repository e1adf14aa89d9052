/*
 * clock_wheel.c - clock and timing wheel.
 *
 * Role:    the wheel against a plain array of deadlines, with random moves.
 * Process: test.
 * Blocks:  no; time is a variable.
 * Trust:   -
 * See:     src/base/wheel.c, src/base/clock.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/wheel.h"

#define TICK 100

struct item {
	struct wheel_timer timer; /* first: the callback casts */
	int64_t wanted_ms;        /* -1: not set */
	int fired;
};

struct run {
	struct wheel *wheel;
	int64_t now_ms;
	int fired;
	struct item *other;   /* what the callback acts on */
	int64_t rearm_ms;     /* 0: do not set again */
	int64_t last_call_ms; /* of wheel_advance before this one */
};

static struct wheel wheel;

static void
on_due(void *ctx, struct wheel_timer *timer)
{
	struct run *run = ctx;
	struct item *item = (struct item *)timer;

	assert_false(wheel_is_set(timer));
	assert_true(item->wanted_ms >= 0);
	assert_true(item->wanted_ms <= run->now_ms);
	item->wanted_ms = -1;
	item->fired++;
	run->fired++;
}

static int
advance(int64_t now_ms, wheel_fn fn, struct run *run)
{
	run->wheel = &wheel;
	run->now_ms = now_ms;
	run->fired = 0;
	wheel_advance(&wheel, now_ms, fn, run);
	return run->fired;
}

static void
item_set(struct item *item, int64_t at_ms)
{
	item->wanted_ms = at_ms;
	wheel_set(&wheel, &item->timer, at_ms);
}

static void
clock_goes_forward_and_can_be_shifted(void **state)
{
	int64_t mono_ms = clock_mono_ms();
	int64_t wall_ms = clock_wall_ms();
	int64_t turn_ms = clock_turn_ms();

	(void)state;
	clock_shift(5000);
	assert_true(clock_mono_ms() >= mono_ms + 5000);
	assert_true(clock_wall_ms() >= wall_ms + 5000);
	assert_true(clock_mono_us() / 1000 >= mono_ms + 5000);
	assert_true(clock_mono_ns() / 1000000 >= mono_ms + 5000);
	assert_int_equal(clock_turn_ms(), turn_ms);
	clock_update();
	assert_true(clock_turn_ms() >= mono_ms + 5000);
}

/* Each distance, also around the horizon of the slots, at each phase. */
static void
fires_within_one_tick_and_never_early(void **state)
{
	const int64_t distances[] = {1, 50, 99, 100, 101, 1000, 51000, 51099,
	    51100, 51101, 51200, 51300, 102400, 1000000, 26163100, 26163200,
	    26214400, 60000000};

	(void)state;
	for (size_t i = 0; i < sizeof(distances) / sizeof(*distances); i++) {
		for (int64_t phase = 0; phase < TICK; phase += 33) {
			struct run run = {0};
			struct item item = {0};
			int64_t start = 1000000 + phase;
			int64_t at = start + distances[i];

			wheel_init(&wheel, TICK, start);
			item_set(&item, at);
			for (int64_t now = start; now < at;
			     now += 37 + distances[i] / 50000)
				assert_int_equal(advance(now, on_due, &run), 0);
			assert_int_equal(advance(at - 1, on_due, &run), 0);
			assert_int_equal(
			    advance(at + TICK - 1, on_due, &run), 1);
			assert_int_equal(wheel_next_ms(&wheel), -1);
		}
	}
}

/* 512 ticks before it is due at the earliest: what is far costs nothing. */
static void
a_far_timer_is_looked_at_only_in_its_lap(void **state)
{
	const int64_t distances[] = {51200, 300000, 1800000, 26000000};

	(void)state;
	for (size_t i = 0; i < sizeof(distances) / sizeof(*distances); i++) {
		struct run run = {0};
		struct item item = {0};
		int64_t at = 77000 + distances[i];
		int looks = 0;

		wheel_init(&wheel, TICK, 77000);
		item_set(&item, at);
		while (run.fired == 0) {
			assert_true(
			    wheel_next_ms(&wheel) > at - WHEEL_SLOTS * TICK);
			advance(wheel_next_ms(&wheel), on_due, &run);
			looks++;
		}
		assert_in_range(looks, 1, 2);
	}
}

static void
past_time_fires_in_the_next_tick(void **state)
{
	struct run run = {0};
	struct item item = {0};

	(void)state;
	wheel_init(&wheel, TICK, 5000);
	item_set(&item, 0);
	assert_int_equal(advance(5099, on_due, &run), 0);
	assert_int_equal(advance(5100, on_due, &run), 1);
	item_set(&item, 0);
	assert_int_equal(advance(4000, on_due, &run), 0);
	wheel_cancel(&wheel, &item.timer);
	wheel_cancel(&wheel, &item.timer);
	assert_int_equal(advance(9000, on_due, &run), 0);
}

static void
on_due_touch_other(void *ctx, struct wheel_timer *timer)
{
	struct run *run = ctx;
	struct item *item = (struct item *)timer;

	on_due(ctx, timer);
	if (run->rearm_ms == 0) {
		wheel_cancel(run->wheel, &run->other->timer);
	} else {
		item_set(item, run->rearm_ms);
		item_set(run->other, run->rearm_ms);
	}
	run->other = item;
}

static void
callback_may_cancel_another_of_the_same_tick(void **state)
{
	struct run run = {0};
	struct item items[2] = {0};

	(void)state;
	wheel_init(&wheel, TICK, 0);
	item_set(&items[0], 150);
	item_set(&items[1], 150);
	run.other = &items[1];
	assert_int_equal(advance(300, on_due_touch_other, &run), 1);
	assert_int_equal(items[0].fired, 1);
	assert_false(wheel_is_set(&items[1].timer));
	assert_int_equal(wheel_next_ms(&wheel), -1);
}

/* Also with a time that has passed: once per call, or it would not end. */
static void
callback_may_set_itself_and_another_again(void **state)
{
	const int64_t again[] = {1, 300, 301, 5000, 500000};

	(void)state;
	for (size_t i = 0; i < sizeof(again) / sizeof(*again); i++) {
		struct run run = {.rearm_ms = again[i]};
		struct item items[2] = {0};

		wheel_init(&wheel, TICK, 0);
		item_set(&items[0], 150);
		item_set(&items[1], 160);
		run.other = &items[1];
		assert_int_equal(advance(300, on_due_touch_other, &run), 1);
		assert_true(wheel_is_set(&items[0].timer));
		assert_true(wheel_is_set(&items[1].timer));
		assert_int_equal(advance(600000, on_due, &run), 2);
	}
}

static void
moving_earlier_and_later_counts_the_last(void **state)
{
	struct run run = {0};
	struct item item = {0};

	(void)state;
	wheel_init(&wheel, TICK, 0);
	for (int64_t at = 1000; at < 200000; at += 777)
		item_set(&item, at);
	item_set(&item, 30000);
	item_set(&item, 2500);
	assert_true(wheel_next_ms(&wheel) <= 2500);
	assert_int_equal(advance(2499, on_due, &run), 0);
	assert_int_equal(advance(2600, on_due, &run), 1);
	item_set(&item, 3000);
	item_set(&item, 90000);
	assert_int_equal(advance(89999, on_due, &run), 0);
	assert_int_equal(advance(90000, on_due, &run), 1);
}

static void
a_long_stop_fires_everything_once(void **state)
{
	static struct item items[2000];
	struct run run = {0};

	(void)state;
	memset(items, 0, sizeof(items));
	wheel_init(&wheel, TICK, 0);
	for (int i = 0; i < 2000; i++)
		item_set(&items[i], 1 + i * 97);
	assert_int_equal(advance(10000000, on_due, &run), 2000);
	assert_int_equal(advance(20000000, on_due, &run), 0);
}

static void
fini_forgets_all(void **state)
{
	struct item items[3] = {0};

	(void)state;
	wheel_init(&wheel, TICK, 0);
	for (int i = 0; i < 3; i++)
		item_set(&items[i], i * 100000);
	assert_int_equal(wheel.timer_count, 3);
	wheel_fini(&wheel);
	assert_int_equal(wheel_next_ms(&wheel), -1);
	for (int i = 0; i < 3; i++)
		assert_false(wheel_is_set(&items[i].timer));
}

#define MODEL_COUNT 300

static void
model_change(struct item *items, int64_t now_ms)
{
	struct item *item = &items[rand() % MODEL_COUNT];

	if (rand() % 4 == 0) {
		wheel_cancel(&wheel, &item->timer);
		item->wanted_ms = -1;
	} else {
		int64_t range = rand() % 3 == 0 ? 900000 : 3000;

		item_set(item, now_ms + rand() % range);
	}
}

/* What should have fired by now: older than a whole tick. */
static void
model_check(const struct item *items, int64_t now_ms)
{
	int64_t first = INT64_MAX;
	int64_t count = 0;

	for (int i = 0; i < MODEL_COUNT; i++) {
		int64_t wanted = items[i].wanted_ms;

		assert_int_equal(wheel_is_set(&items[i].timer), wanted >= 0);
		if (wanted < 0)
			continue;
		count++;
		assert_true(wanted > now_ms - TICK);
		if (wanted < first)
			first = wanted;
	}
	assert_int_equal(wheel.timer_count, count);
	if (count == 0)
		assert_int_equal(wheel_next_ms(&wheel), -1);
	else
		assert_true(wheel_next_ms(&wheel) < first + TICK);
}

static void
agrees_with_a_list_under_random_changes(void **state)
{
	static struct item items[MODEL_COUNT];
	struct run run = {0};
	int64_t now_ms = 123456;
	int fired = 0;

	(void)state;
	srand(7);
	wheel_init(&wheel, TICK, now_ms);
	for (int i = 0; i < MODEL_COUNT; i++)
		items[i].wanted_ms = -1;
	for (int turn = 0; turn < 20000; turn++) {
		for (int i = rand() % 5; i > 0; i--)
			model_change(items, now_ms);
		now_ms += rand() % (turn % 500 == 0 ? 100000 : 150);
		fired += advance(now_ms, on_due, &run);
		model_check(items, now_ms);
	}
	assert_true(fired > 5000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(clock_goes_forward_and_can_be_shifted),
	    cmocka_unit_test(fires_within_one_tick_and_never_early),
	    cmocka_unit_test(a_far_timer_is_looked_at_only_in_its_lap),
	    cmocka_unit_test(past_time_fires_in_the_next_tick),
	    cmocka_unit_test(callback_may_cancel_another_of_the_same_tick),
	    cmocka_unit_test(callback_may_set_itself_and_another_again),
	    cmocka_unit_test(moving_earlier_and_later_counts_the_last),
	    cmocka_unit_test(a_long_stop_fires_everything_once),
	    cmocka_unit_test(fini_forgets_all),
	    cmocka_unit_test(agrees_with_a_list_under_random_changes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
