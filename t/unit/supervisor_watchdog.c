/*
 * supervisor_watchdog.c - does a process hang?
 *
 * Role:    unit tests of supervisor/watchdog.c: every state a process can be
 *          in, with a clock of the test's own.
 * Process: test.
 * Blocks:  never.
 * Trust:   none.
 * See:     supervisor/watchdog.h.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/watchdog.h"

#define TIMEOUT_MS 6000
#define START_MS   1000000

/* A process and the supervisor's turns over it. */
struct scene {
	struct watchdog dog;
	struct watchdog_look look;
	struct vitals vitals;
	int64_t timeout_ms;
	int64_t silent_since_ms;
};

static struct scene
scene_new(char state)
{
	struct scene scene = {
	    .look = {.now_ms = START_MS, .beat_ms = START_MS - 100},
	    .vitals = {.state = state, .cpu_ms = 5000, .delay_ms = 700},
	    .timeout_ms = TIMEOUT_MS,
	    .silent_since_ms = START_MS,
	};

	assert_int_equal(
	    watchdog_look(&scene.dog, &scene.look, TIMEOUT_MS), WATCHDOG_FINE);
	return scene;
}

/* A turn after pause_ms in which it ran and waited for so long. */
static enum watchdog_verdict
turn(struct scene *scene, int64_t pause_ms, int64_t cpu_ms, int64_t delay_ms)
{
	scene->look.now_ms += pause_ms;
	scene->vitals.cpu_ms += cpu_ms;
	if (scene->vitals.delay_ms >= 0)
		scene->vitals.delay_ms += delay_ms;
	scene->look.vitals = NULL;
	if (scene->vitals.state != '?' &&
	    watchdog_is_silent(
		&scene->dog, scene->look.now_ms, scene->look.beat_ms))
		scene->look.vitals = &scene->vitals;
	return watchdog_look(&scene->dog, &scene->look, scene->timeout_ms);
}

static void
beat(struct scene *scene)
{
	scene->look.beat_ms = scene->look.now_ms;
	scene->silent_since_ms = scene->look.now_ms;
}

/* Turns of 500 ms until the verdict. @return ms since the last beat, or -1 */
static int64_t
until(struct scene *scene, enum watchdog_verdict verdict, int64_t cpu_ms,
    int64_t delay_ms)
{
	for (int i = 0; i < 1000; i++) {
		if (turn(scene, WATCHDOG_TURN_MS, cpu_ms, delay_ms) == verdict)
			return scene->look.now_ms - scene->silent_since_ms;
	}
	return -1;
}

static void
expect_verdicts(struct scene *scene, int turns, int64_t cpu_ms,
    int64_t delay_ms, enum watchdog_verdict verdict)
{
	for (int i = 0; i < turns; i++) {
		enum watchdog_verdict got =
		    turn(scene, WATCHDOG_TURN_MS, cpu_ms, delay_ms);

		assert_true(got == WATCHDOG_FINE || got == verdict);
	}
	assert_int_equal(
	    turn(scene, WATCHDOG_TURN_MS, cpu_ms, delay_ms), verdict);
}

static void
one_that_beats_is_fine_for_ever(void **state)
{
	struct scene scene = scene_new('S');

	(void)state;
	for (int i = 0; i < 1000; i++) {
		if (i % 2 == 0)
			beat(&scene);
		assert_int_equal(
		    turn(&scene, WATCHDOG_TURN_MS, 1, 0), WATCHDOG_FINE);
	}
}

static void
a_stopped_process_is_aborted_then_killed(void **state)
{
	struct scene scene = scene_new('T');
	int64_t aborted_ms = until(&scene, WATCHDOG_ABORT, 0, 0);
	int64_t killed_ms = until(&scene, WATCHDOG_KILL, 0, 0);

	(void)state;
	assert_true(aborted_ms >= TIMEOUT_MS);
	assert_true(aborted_ms <= TIMEOUT_MS + 2 * WATCHDOG_TURN_MS);
	assert_true(killed_ms >= aborted_ms + WATCHDOG_GRACE_MS);
	assert_true(
	    killed_ms <= aborted_ms + WATCHDOG_GRACE_MS + WATCHDOG_TURN_MS);
	assert_true(killed_ms < 10000);
	assert_true(scene.dog.is_stopped); /* not its own fault */
}

static void
abort_is_said_once(void **state)
{
	struct scene scene = scene_new('T');

	(void)state;
	assert_true(until(&scene, WATCHDOG_ABORT, 0, 0) > 0);
	assert_int_equal(turn(&scene, 10, 0, 0), WATCHDOG_FINE);
	assert_int_equal(turn(&scene, 10, 0, 0), WATCHDOG_FINE);
	/* it has been told to die: a beat does not save it */
	beat(&scene);
	assert_true(until(&scene, WATCHDOG_KILL, 0, 0) > 0);
}

static void
a_stop_of_three_seconds_is_survived(void **state)
{
	struct scene scene = scene_new('T');

	(void)state;
	for (int round = 0; round < 10; round++) {
		for (int64_t ms = 0; ms < 4000; ms += WATCHDOG_TURN_MS)
			assert_int_equal(turn(&scene, WATCHDOG_TURN_MS, 0, 0),
			    WATCHDOG_FINE);
		beat(&scene); /* the silence before does not add up */
		assert_int_equal(turn(&scene, 100, 0, 0), WATCHDOG_FINE);
	}
}

static void
one_that_sleeps_without_a_beat_hangs(void **state)
{
	struct scene scene = scene_new('S');
	int64_t ms = until(&scene, WATCHDOG_ABORT, 0, 0);

	(void)state;
	assert_true(ms >= TIMEOUT_MS && ms < TIMEOUT_MS + 1000);
	assert_false(scene.dog.is_stopped);
}

static void
a_wait_for_the_disk_is_reported_and_never_ends_in_a_kill(void **state)
{
	struct scene scene = scene_new('D');

	(void)state;
	expect_verdicts(&scene, 1000, 0, 0, WATCHDOG_DISK);
	scene.vitals.state = 'S';
	beat(&scene);
	assert_int_equal(turn(&scene, 100, 0, 0), WATCHDOG_FINE);
}

static void
a_short_wait_for_the_disk_is_not_worth_a_word(void **state)
{
	struct scene scene = scene_new('D');

	(void)state;
	for (int64_t ms = 0; ms < 2500; ms += WATCHDOG_TURN_MS)
		assert_int_equal(
		    turn(&scene, WATCHDOG_TURN_MS, 0, 0), WATCHDOG_FINE);
}

static void
a_commit_may_sleep_but_not_be_stopped_or_spin(void **state)
{
	struct scene scene = scene_new('S');

	(void)state;
	scene.look.is_committing = true;
	expect_verdicts(&scene, 100, 0, 0, WATCHDOG_DISK);
	scene.vitals.state = 'T';
	assert_true(until(&scene, WATCHDOG_ABORT, 0, 0) > 0);
	scene = scene_new('R');
	scene.look.is_committing = true;
	assert_true(until(&scene, WATCHDOG_ABORT, 500, 0) > 0);
}

static void
one_that_spins_hangs(void **state)
{
	struct scene scene = scene_new('R');
	int64_t ms = until(&scene, WATCHDOG_ABORT, 500, 0);

	(void)state;
	assert_true(ms >= TIMEOUT_MS && ms < TIMEOUT_MS + 3000);
}

static void
one_that_gets_no_processor_is_starved(void **state)
{
	struct scene scene = scene_new('R');

	(void)state;
	/* run-delay shows only once it has run: the state says it all */
	expect_verdicts(&scene, 1000, 0, 0, WATCHDOG_STARVED);
	scene = scene_new('S');
	expect_verdicts(&scene, 1000, 0, 500, WATCHDOG_STARVED);
}

static void
a_spinner_on_a_starved_machine_is_found_later(void **state)
{
	struct scene scene = scene_new('R');
	int64_t ms = until(&scene, WATCHDOG_ABORT, 50, 450);

	(void)state;
	/* a tenth of a processor: ten times as long, but for the beginning */
	assert_true(ms >= 10 * (TIMEOUT_MS - 1500));
	assert_true(ms <= 10 * (TIMEOUT_MS + 500));
}

static void
without_schedstat_a_spinner_is_found_as_well(void **state)
{
	struct scene scene = scene_new('R');

	(void)state;
	scene.vitals.delay_ms = -1;
	assert_true(until(&scene, WATCHDOG_ABORT, 500, 0) > 0);
	scene = scene_new('S');
	scene.vitals.delay_ms = -1;
	assert_true(until(&scene, WATCHDOG_ABORT, 0, 0) > 0);
}

static void
a_debugger_may_take_its_time(void **state)
{
	struct scene scene = scene_new('t');

	(void)state;
	expect_verdicts(&scene, 1000, 0, 0, WATCHDOG_TRACED);
}

static void
one_that_is_dead_is_left_to_the_reaper(void **state)
{
	struct scene scene = scene_new('Z');

	(void)state;
	expect_verdicts(&scene, 100, 0, 0, WATCHDOG_FINE);
}

static void
without_proc_the_deadline_is_thrice_as_long(void **state)
{
	struct scene scene = scene_new('?');
	int64_t ms = until(&scene, WATCHDOG_ABORT, 0, 0);

	(void)state;
	assert_true(ms >= 3 * (TIMEOUT_MS - 1500));
	assert_true(ms <= 3 * TIMEOUT_MS + 1500);
}

static void
a_late_supervisor_charges_one_turn_only(void **state)
{
	struct scene scene = scene_new('S');

	(void)state;
	/* a machine that stood still for minutes: nobody could beat */
	for (int i = 0; i < 5; i++)
		assert_int_equal(turn(&scene, 600000, 0, 0), WATCHDOG_FINE);
	beat(&scene);
	assert_int_equal(turn(&scene, 100, 0, 0), WATCHDOG_FINE);
	assert_int_equal(scene.dog.charged_us, 0);
}

static void
a_start_may_take_longer(void **state)
{
	static const char states[] = {'R', 'S', '?'};
	struct scene scene;

	(void)state;
	for (size_t i = 0; i < sizeof(states); i++) {
		int64_t after_ms;

		scene = scene_new(states[i]);
		scene.look.start_timeout_ms = 60000;
		expect_verdicts(&scene, 100, 500, 0, WATCHDOG_FINE);
		/* what it did then is not held against it */
		scene.look.start_timeout_ms = 0;
		assert_int_equal(turn(&scene, 500, 500, 0), WATCHDOG_FINE);
		/* but it is not waited for, for ever */
		scene = scene_new(states[i]);
		scene.look.start_timeout_ms = 60000;
		after_ms = until(&scene, WATCHDOG_ABORT, 500, 0);
		assert_true(after_ms >= 60000);
		assert_true(states[i] == '?' || after_ms <= 62000);
	}
	scene = scene_new('t');
	scene.look.start_timeout_ms = 60000;
	assert_int_equal(until(&scene, WATCHDOG_ABORT, 500, 0), -1);
	scene = scene_new('D');
	scene.look.start_timeout_ms = 60000;
	expect_verdicts(&scene, 100, 0, 0, WATCHDOG_DISK);
	scene.vitals.state = 'T';
	assert_true(until(&scene, WATCHDOG_ABORT, 0, 0) > 0);
}

static void
turned_off_it_reports_and_does_not_kill(void **state)
{
	struct scene scene = scene_new('T');

	(void)state;
	scene.timeout_ms = 0;
	expect_verdicts(&scene, 1000, 0, 0, WATCHDOG_FINE);
	scene.vitals.state = 'D';
	assert_true(until(&scene, WATCHDOG_DISK, 0, 0) > 0);
}

static void
a_longer_timeout_by_reload_counts_at_once(void **state)
{
	struct scene scene = scene_new('S');

	(void)state;
	for (int64_t ms = 0; ms < 5000; ms += WATCHDOG_TURN_MS)
		assert_int_equal(
		    turn(&scene, WATCHDOG_TURN_MS, 0, 0), WATCHDOG_FINE);
	scene.timeout_ms = 20000;
	assert_true(until(&scene, WATCHDOG_ABORT, 0, 0) >= 20000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_that_beats_is_fine_for_ever),
	    cmocka_unit_test(a_stopped_process_is_aborted_then_killed),
	    cmocka_unit_test(abort_is_said_once),
	    cmocka_unit_test(a_stop_of_three_seconds_is_survived),
	    cmocka_unit_test(one_that_sleeps_without_a_beat_hangs),
	    cmocka_unit_test(
		a_wait_for_the_disk_is_reported_and_never_ends_in_a_kill),
	    cmocka_unit_test(a_short_wait_for_the_disk_is_not_worth_a_word),
	    cmocka_unit_test(a_commit_may_sleep_but_not_be_stopped_or_spin),
	    cmocka_unit_test(one_that_spins_hangs),
	    cmocka_unit_test(one_that_gets_no_processor_is_starved),
	    cmocka_unit_test(a_spinner_on_a_starved_machine_is_found_later),
	    cmocka_unit_test(without_schedstat_a_spinner_is_found_as_well),
	    cmocka_unit_test(a_debugger_may_take_its_time),
	    cmocka_unit_test(one_that_is_dead_is_left_to_the_reaper),
	    cmocka_unit_test(without_proc_the_deadline_is_thrice_as_long),
	    cmocka_unit_test(a_late_supervisor_charges_one_turn_only),
	    cmocka_unit_test(a_start_may_take_longer),
	    cmocka_unit_test(turned_off_it_reports_and_does_not_kill),
	    cmocka_unit_test(a_longer_timeout_by_reload_counts_at_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
	    "supervisor watchdog", tests, NULL, NULL);
}
