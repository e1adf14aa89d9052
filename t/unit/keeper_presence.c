/*
 * keeper_presence.c - unit test of src/keeper/hush.c and of versions: how often
 * others are told of one user, and in which order.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "t/unit/keeper_stage.h"

#define LONG_MS  600000
#define SHORT_MS 1500 /* longer than some requests on a busy machine */

/* User 1 watches, user 2 has just come. */
static void
begin(struct stage *stage, int64_t interval_ms)
{
	struct login watcher = {.user = 1, .session = 101, .device = 1};
	struct login login = {.user = 2, .session = 201, .device = 1};

	stage_open(stage);
	stage_keeper_stop(stage);
	stage->conf->policy_presence_interval = interval_ms;
	stage_keeper_start(stage);
	assert_int_equal(stage_login(stage, &watcher).rc, 0);
	assert_int_equal(stage_login(stage, &login).rc, 0);
}

static void
set(struct stage *stage, enum user_status status, const char *text)
{
	struct {
		struct record_status record;
		char text[32];
	} out = {.record = {.user = 2, .session = 201, .status = status}};

	if (text != NULL) {
		out.record.has_text = 1;
		out.record.text_len = (uint16_t)strlen(text);
		memcpy(out.text, text, strlen(text));
	}
	assert_int_equal(stage_ask(stage, RECORD_STATUS, &out,
			     sizeof(out.record) + out.record.text_len),
	    0);
}

/* @return the version */
static uint64_t
told(struct stage *stage, enum user_status status, const char *text)
{
	const struct record_presence *record =
	    (const void *)stage_take(stage, RECORD_PRESENCE)->data;
	const char *tail = (const char *)(record + 1) +
			   record->target_count * sizeof(uint64_t);

	assert_int_equal(record->user, 2);
	assert_int_equal(record->status, status);
	assert_int_equal(record->text_len, strlen(text));
	assert_memory_equal(tail, text, strlen(text));
	return record->version;
}

static void
told_nothing(struct stage *stage)
{
	stage_barrier(stage);
	assert_int_equal(stage_count(stage, RECORD_PRESENCE), 0);
}

static void
wait_ms(struct stage *stage, int64_t ms)
{
	int64_t until_ms = clock_mono_ms() + ms;

	while (clock_mono_ms() < until_ms)
		stage_pump(stage, 10);
}

static void
what_changes_meanwhile_is_told_at_the_end(void **state)
{
	struct stage stage;
	int64_t began_ms;

	(void)state;
	began_ms = clock_mono_ms();
	begin(&stage, SHORT_MS);
	told(&stage, STATUS_ONLINE, "");
	set(&stage, STATUS_BUSY, "one");
	set(&stage, STATUS_AWAY, "two");
	set(&stage, STATUS_BUSY, "three");
	told(&stage, STATUS_BUSY, "three");
	assert_true(clock_mono_ms() >= began_ms + SHORT_MS);
	/* and the next one a whole interval after that */
	began_ms = clock_mono_ms();
	set(&stage, STATUS_AWAY, NULL);
	told_nothing(&stage);
	told(&stage, STATUS_AWAY, "three");
	assert_true(clock_mono_ms() >= began_ms + SHORT_MS / 2);
	told_nothing(&stage);
	stage_close(&stage);
}

static void
who_is_as_he_was_is_not_told_of(void **state)
{
	struct stage stage;

	(void)state;
	begin(&stage, SHORT_MS);
	told(&stage, STATUS_ONLINE, "");
	set(&stage, STATUS_BUSY, NULL);
	set(&stage, STATUS_ONLINE, NULL);
	wait_ms(&stage, SHORT_MS + 200);
	told_nothing(&stage);
	/* nobody waits any more: told at once */
	set(&stage, STATUS_AWAY, NULL);
	told(&stage, STATUS_AWAY, "");
	stage_close(&stage);
}

static void
a_killed_keeper_leaves_it_to_its_successor(void **state)
{
	struct stage stage;
	uint64_t first;
	uint64_t second;

	(void)state;
	begin(&stage, LONG_MS);
	first = told(&stage, STATUS_ONLINE, "");
	set(&stage, STATUS_BUSY, "busy");
	told_nothing(&stage);
	stage_keeper_kill(&stage);
	stage_keeper_start(&stage);
	second = told(&stage, STATUS_BUSY, "busy");
	assert_true(first != 0 && second > first);
	told_nothing(&stage);
	stage_store_open(&stage, false);
	assert_int_equal(store_count(&stage.txn, DBI_unsaid), 0);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
an_end_has_to_wait_too_and_is_told_once(void **state)
{
	struct stage stage;

	(void)state;
	begin(&stage, LONG_MS);
	told(&stage, STATUS_ONLINE, "");
	assert_int_equal(stage_end_session(&stage, 2, 201, 0), 0);
	wait_ms(&stage, 100); /* the grace of the stage is 20 ms */
	told_nothing(&stage);
	for (int i = 0; i < 3; i++) {
		stage_keeper_kill(&stage);
		stage_keeper_start(&stage);
	}
	told(&stage, STATUS_OFFLINE, "");
	told_nothing(&stage);
	stage_close(&stage);
}

static void
without_an_interval_each_change_is_told(void **state)
{
	struct stage stage;
	uint64_t last;

	(void)state;
	begin(&stage, 0);
	last = told(&stage, STATUS_ONLINE, "");
	for (int i = 0; i < 20; i++) {
		enum user_status status = i % 2 ? STATUS_AWAY : STATUS_BUSY;
		uint64_t version;

		set(&stage, status, NULL);
		version = told(&stage, status, "");
		assert_true(version > last);
		last = version;
	}
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_changes_meanwhile_is_told_at_the_end),
	    cmocka_unit_test(who_is_as_he_was_is_not_told_of),
	    cmocka_unit_test(a_killed_keeper_leaves_it_to_its_successor),
	    cmocka_unit_test(an_end_has_to_wait_too_and_is_told_once),
	    cmocka_unit_test(without_an_interval_each_change_is_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
