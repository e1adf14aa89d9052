/*
 * settings.c - a reload for processes that go on.
 *
 * Role:    unit tests of shm/settings.c and base/conf_number.c.
 * Process: test; one board, seen by a supervisor and a child.
 * Blocks:  never.
 * Trust:   none.
 * See:     shm/settings.h.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/settings.h"

struct fixture {
	char folder[32];
	struct board *board;
	struct board_slot *slot; /* of a child */
	struct conf *given;      /* the supervisor's */
	struct conf *own;        /* the child's */
};

static int
set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	char error[256];

	strcpy(fixture->folder, "settings-XXXXXX");
	if (mkdtemp(fixture->folder) == NULL ||
	    board_create(fixture->folder, 1, &fixture->board) != 0 ||
	    conf_load(NULL, &fixture->given, error, sizeof(error)) != 0 ||
	    conf_load(NULL, &fixture->own, error, sizeof(error)) != 0)
		return 1;
	fixture->slot = board_slot(fixture->board, SLOT_KEEPER);
	*state = fixture;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *fixture = *state;
	char path[64];

	board_close(&fixture->board);
	snprintf(path, sizeof(path), "%s/board", fixture->folder);
	unlink(path);
	rmdir(fixture->folder);
	conf_free(&fixture->given);
	conf_free(&fixture->own);
	free(fixture);
	return 0;
}

static bool
follow(struct fixture *fixture)
{
	return settings_follow(fixture->board, fixture->slot, fixture->own);
}

static void
nothing_given_changes_nothing(void **state)
{
	assert_false(follow(*state));
}

static void
the_same_values_are_no_change(void **state)
{
	struct fixture *fixture = *state;

	settings_publish(fixture->board, fixture->given);
	assert_false(follow(fixture));
	assert_int_equal(atomic_load(&fixture->slot->settings_seen), 2);
}

static void
a_change_is_taken_once(void **state)
{
	struct fixture *fixture = *state;

	fixture->given->policy_inbox_window = 77;
	fixture->given->auth_auto_provision = true;
	settings_publish(fixture->board, fixture->given);
	assert_true(follow(fixture));
	assert_int_equal(fixture->own->policy_inbox_window, 77);
	assert_true(fixture->own->auth_auto_provision);
	assert_false(follow(fixture));
}

static void
a_choice_is_taken_by_its_place(void **state)
{
	struct fixture *fixture = *state;

	free(fixture->given->log_level);
	fixture->given->log_level = strdup("debug");
	settings_publish(fixture->board, fixture->given);
	assert_true(follow(fixture));
	assert_string_equal(fixture->own->log_level, "debug");
	fixture->own->log_level = strdup("debug"); /* for conf_free */
}

static void
what_needs_a_new_process_or_a_restart_stays(void **state)
{
	struct fixture *fixture = *state;

	fixture->given->server_node = 7;
	fixture->given->store_map_size = 64 << 20;
	fixture->given->server_deflate = true;
	settings_publish(fixture->board, fixture->given);
	assert_false(follow(fixture));
	assert_int_equal(fixture->own->server_node, 0);
	assert_false(fixture->own->server_deflate);
}

static void
a_number_out_of_range_is_not_taken(void **state)
{
	struct fixture *fixture = *state;
	int64_t window = fixture->own->policy_inbox_window;

	fixture->given->policy_inbox_window = 0;
	fixture->given->server_ping_interval = INT64_MAX;
	settings_publish(fixture->board, fixture->given);
	assert_false(follow(fixture));
	assert_int_equal(fixture->own->policy_inbox_window, window);
}

static void
what_is_being_written_is_taken_later(void **state)
{
	struct fixture *fixture = *state;
	struct board_settings *settings =
	    &board_header(fixture->board)->settings;

	fixture->given->policy_inbox_window = 78;
	settings_publish(fixture->board, fixture->given);
	atomic_fetch_add(&settings->serial, 1);
	assert_false(follow(fixture));
	atomic_fetch_add(&settings->serial, 1);
	assert_true(follow(fixture));
	assert_int_equal(fixture->own->policy_inbox_window, 78);
}

static void
another_program_takes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct board_settings *settings =
	    &board_header(fixture->board)->settings;

	fixture->given->policy_inbox_window = 79;
	settings_publish(fixture->board, fixture->given);
	atomic_fetch_add(&settings->fingerprint, 1);
	assert_false(follow(fixture));
	/* and is not waited for */
	assert_int_equal(atomic_load(&fixture->slot->settings_seen), 2);
}

static void
everywhere_means_all_that_serve(void **state)
{
	struct fixture *fixture = *state;

	settings_publish(fixture->board, fixture->given);
	assert_true(settings_are_everywhere(fixture->board));
	atomic_store(&fixture->slot->generation, 3);
	atomic_store(&fixture->slot->up, 3);
	atomic_store(&fixture->slot->state, PROCESS_RUNNING);
	assert_false(settings_are_everywhere(fixture->board));
	assert_false(follow(fixture));
	assert_true(settings_are_everywhere(fixture->board));
}

static void
every_key_has_a_place_on_the_board(void **state)
{
	struct fixture *fixture = *state;

	(void)fixture;
	assert_true(conf_number_count() <= SETTINGS_MAX);
	assert_int_equal(conf_fingerprint(), conf_fingerprint());
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(nothing_given_changes_nothing),
	    TEST(the_same_values_are_no_change),
	    TEST(a_change_is_taken_once),
	    TEST(a_choice_is_taken_by_its_place),
	    TEST(what_needs_a_new_process_or_a_restart_stays),
	    TEST(a_number_out_of_range_is_not_taken),
	    TEST(what_is_being_written_is_taken_later),
	    TEST(another_program_takes_nothing),
	    TEST(everywhere_means_all_that_serve),
	    TEST(every_key_has_a_place_on_the_board),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
