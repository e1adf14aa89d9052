/*
 * board.c - unit test of shm/board.c: who can open what, and what is refused.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/board.h"

#define WORKERS 3

struct place {
	char dir[64];
	char path[96];
};

static int
place_make(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	if (place == NULL)
		return -1;
	snprintf(place->dir, sizeof(place->dir), "board-XXXXXX");
	if (mkdtemp(place->dir) == NULL)
		return -1;
	snprintf(place->path, sizeof(place->path), "%s/board", place->dir);
	*state = place;
	return 0;
}

static int
place_remove(void **state)
{
	struct place *place = *state;
	int rc;

	unlink(place->path);
	rc = rmdir(place->dir); /* fails when something else was left */
	free(place);
	return rc;
}

static void
a_reader_sees_what_is_written(void **state)
{
	struct place *place = *state;
	struct board *ours = NULL;
	struct board *theirs = NULL;

	assert_int_equal(board_create(place->dir, WORKERS, &ours), 0);
	assert_int_equal(board_open(place->dir, &theirs), 0);
	assert_int_equal(board_slot_end(theirs), SLOT_HOLDER_0 + WORKERS);
	assert_int_equal(board_header(theirs)->worker_count, WORKERS);
	assert_int_equal(board_header(theirs)->supervisor_pid, getpid());
	assert_true(board_header(theirs)->boot_id != 0);
	assert_true(board_header(theirs)->started_at_ms > 0);
	assert_string_equal(board_header(theirs)->version, PACKAGE_VERSION);
	board_slot(ours, SLOT_WORKER_0 + 2)->heartbeat_ms = 42;
	assert_int_equal(
	    board_slot(theirs, SLOT_WORKER_0 + 2)->heartbeat_ms, 42);
	assert_null(board_slot(theirs, SLOT_WORKER_0 + WORKERS));
	assert_null(board_slot(theirs, -1));
	board_close(&theirs);
	assert_null(theirs);
	board_close(&ours);
	board_close(&ours);
}

static void
everybody_may_read_it_whatever_the_umask(void **state)
{
	struct place *place = *state;
	struct board *board = NULL;
	mode_t mask = umask(0077);
	struct stat st;

	assert_int_equal(board_create(place->dir, 0, &board), 0);
	umask(mask);
	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	board_close(&board);
}

static void
a_new_board_leaves_the_old_mapping_alone(void **state)
{
	struct place *place = *state;
	struct board *old = NULL;
	struct board *reader = NULL;
	struct board *made = NULL;
	char leftover[128];
	int fd;

	assert_int_equal(board_create(place->dir, WORKERS, &old), 0);
	assert_int_equal(board_open(place->dir, &reader), 0);
	board_slot(old, SLOT_KEEPER)->pid = 1234;
	snprintf(leftover, sizeof(leftover), "%s.new", place->path);
	fd = open(leftover, O_CREAT | O_WRONLY, 0600); /* of a killed one */
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(board_create(place->dir, WORKERS + 1, &made), 0);
	assert_int_equal(board_slot(reader, SLOT_KEEPER)->pid, 1234);
	assert_int_equal(board_slot_end(reader), SLOT_HOLDER_0 + WORKERS);
	assert_true(board_header(made)->boot_id != board_header(old)->boot_id);
	board_close(&reader);
	assert_int_equal(board_open(place->dir, &reader), 0);
	assert_int_equal(board_slot(reader, SLOT_KEEPER)->pid, 0);
	assert_int_equal(board_slot_end(reader), SLOT_HOLDER_0 + WORKERS + 1);
	board_close(&reader);
	board_close(&made);
	board_close(&old);
}

static void
what_is_no_board_is_refused(void **state)
{
	struct place *place = *state;
	struct board *board = NULL;
	struct board_header header;
	struct stat st;

	assert_int_equal(board_open(place->dir, &board), ERR_NOT_FOUND);
	assert_int_equal(board_create(place->dir, WORKERS, &board), 0);
	memcpy(&header, board_header(board), sizeof(header));
	assert_int_equal(stat(place->path, &st), 0);

	struct board_header *live = board_header(board);
	struct board *opened = NULL;

	live->magic++;
	assert_int_equal(board_open(place->dir, &opened), ERR_CORRUPT);
	live->magic--;
	live->layout_version++;
	assert_int_equal(board_open(place->dir, &opened), ERR_STALE);
	live->layout_version--;
	live->slot_count++;
	assert_int_equal(board_open(place->dir, &opened), ERR_CORRUPT);
	live->worker_count++;
	assert_int_equal(board_open(place->dir, &opened), ERR_CORRUPT);
	live->worker_count = UINT32_MAX - 5;
	live->slot_count = 0;
	assert_int_equal(board_open(place->dir, &opened), ERR_CORRUPT);
	live->worker_count = header.worker_count;
	live->slot_count = header.slot_count;
	assert_int_equal(board_open(place->dir, &opened), 0);
	board_close(&opened);
	board_close(&board);
	assert_int_equal(truncate(place->path, st.st_size - 1), 0);
	assert_int_equal(board_open(place->dir, &board), ERR_CORRUPT);
	assert_int_equal(truncate(place->path, 10), 0);
	assert_int_equal(board_open(place->dir, &board), ERR_CORRUPT);
	assert_int_equal(truncate(place->path, 0), 0);
	assert_int_equal(board_open(place->dir, &board), ERR_CORRUPT);
	assert_null(board);
}

static void
bad_folders_are_errors(void **state)
{
	struct place *place = *state;
	struct board *board = NULL;
	char path[PATH_MAX + 10];

	snprintf(path, sizeof(path), "%s/none", place->dir);
	assert_int_equal(board_create(path, 1, &board), ERR_IO);
	assert_int_equal(board_open(path, &board), ERR_NOT_FOUND);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(board_create(path, 1, &board), ERR_IO);
	assert_int_equal(board_open(path, &board), ERR_IO);
	assert_int_equal(mkdir(place->path, 0700), 0); /* rename fails */
	assert_int_equal(board_create(place->dir, 1, &board), ERR_IO);
	assert_int_equal(board_open(place->dir, &board), ERR_CORRUPT);
	assert_int_equal(rmdir(place->path), 0);
	assert_null(board);
}

static void
slots_and_states_have_names(void **state)
{
	struct place *place = *state;
	struct board *board = NULL;
	char buf[24];

	assert_int_equal(board_create(place->dir, WORKER_MAX, &board), 0);
	assert_string_equal(
	    board_slot_name(board, SLOT_SUPERVISOR, buf), "supervisor");
	assert_string_equal(board_slot_name(board, SLOT_KEEPER, buf), "keeper");
	assert_string_equal(
	    board_slot_name(board, SLOT_DIRECTORY, buf), "directory");
	assert_string_equal(
	    board_slot_name(board, SLOT_CONSOLE, buf), "console");
	assert_string_equal(board_slot_name(board, SLOT_HERALD, buf), "herald");
	assert_string_equal(board_slot_name(board, SLOT_LINK, buf), "link");
	assert_string_equal(
	    board_slot_name(board, SLOT_WORKER_0, buf), "worker-0");
	assert_string_equal(
	    board_slot_name(board, SLOT_END - 1, buf), "worker-63");
	assert_string_equal(
	    board_slot_name(board, SLOT_HOLDER_0, buf), "holder-0");
	assert_string_equal(
	    board_slot_name(board, BOARD_SLOT_END - 1, buf), "holder-63");
	assert_null(board_slot_name(board, BOARD_SLOT_END, buf));
	assert_null(board_slot_name(board, -1, buf));
	board_close(&board);
	assert_string_equal(board_state_name(PROCESS_DEAD), "dead");
	assert_string_equal(board_state_name(PROCESS_STARTING), "starting");
	assert_string_equal(board_state_name(PROCESS_RUNNING), "running");
	assert_string_equal(board_state_name(PROCESS_STOPPING), "stopping");
	assert_string_equal(board_state_name(PROCESS_BACKOFF), "backoff");
	assert_string_equal(board_state_name(PROCESS_ERRORED), "errored");
	assert_string_equal(board_state_name(UINT32_MAX), "unknown");
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, place_make, place_remove)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_reader_sees_what_is_written),
	    TEST(everybody_may_read_it_whatever_the_umask),
	    TEST(a_new_board_leaves_the_old_mapping_alone),
	    TEST(what_is_no_board_is_refused),
	    TEST(bad_folders_are_errors),
	    TEST(slots_and_states_have_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
