/*
 * handover.c - units of supervisor/handover.c.
 *
 * Role:    what is described is taken over; what does not fit is refused.
 * Process: the test, as giver and as taker.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     supervisor/handover.h, t/64-upgrade.t (real processes).
 */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/handover.h"

#define WORKERS 2

struct stage {
	char folder[64];
	struct conf *conf;
	struct crew crew;
	struct handover handover;
	char error[256];
};

static int
set_up(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	struct crew *crew = &stage->crew;

	assert_non_null(stage);
	snprintf(stage->folder, sizeof(stage->folder), "/tmp/handover-XXXXXX");
	assert_non_null(mkdtemp(stage->folder));
	setenv("PARLEY_AUTH_JWT_HS256_SECRET",
	    "a-secret-of-thirty-two-bytes-0001", 1);
	assert_int_equal(
	    conf_load(NULL, &stage->conf, stage->error, sizeof(stage->error)),
	    0);
	unsetenv("PARLEY_AUTH_JWT_HS256_SECRET");
	assert_int_equal(board_create(stage->folder, WORKERS, &crew->board), 0);
	assert_int_equal(bus_create(crew->board, WORKERS, &crew->bus), 0);
	assert_int_equal(hold_create(WORKERS, &crew->hold), 0);
	memset(crew->sockets.worker_fds, -1, sizeof(crew->sockets.worker_fds));
	crew->sockets.ops_fd = -1;
	crew->sockets.address_count = 1;
	crew->sockets.plain_count = 1;
	crew->sockets.worker_count = WORKERS;
	crew->sockets.ports[0] = 4711;
	crew->sockets.worker_fds[1][0] = open("/dev/null", O_RDONLY);
	crew->data_lock_fd = -1;
	crew->conf_serial = 5;
	crew->child_count = 1;
	crew->children[0] = (struct child){.slot = SLOT_WORKER_0 + 1,
	    .state = PROCESS_RUNNING,
	    .pid = 4242,
	    .generation = 3,
	    .restarts = 2,
	    .conf_serial = 7,
	    .is_wanted = true};
	handover_fill(&stage->handover, crew, stage->conf);
	stage->handover.program_fd = -1;
	stage->handover.image_fd = -1;
	stage->handover.conf_fd = -1;
	stage->handover.pid_file_fd = -1;
	stage->handover.command_fd = -1;
	*state = stage;
	return 0;
}

static int
tear_down(void **state)
{
	struct stage *stage = *state;
	char path[80];

	close(stage->crew.sockets.worker_fds[1][0]);
	hold_free(&stage->crew.hold);
	bus_free(&stage->crew.bus);
	board_close(&stage->crew.board);
	conf_free(&stage->conf);
	snprintf(path, sizeof(path), "%s/board", stage->folder);
	unlink(path);
	rmdir(stage->folder);
	free(stage);
	return 0;
}

/* Through sealed memory, as between two programs. */
static int
pass(struct stage *stage, struct handover *out)
{
	int fd = handover_write(&stage->handover);
	int rc;

	assert_true(fd >= 0);
	memset(out, 0xa5, sizeof(*out));
	rc = handover_read(fd, out, stage->error, sizeof(stage->error));
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	close(fd);
	return rc;
}

static void
test_what_is_given_is_taken(void **state)
{
	struct stage *stage = *state;
	struct handover got;
	struct handover own;
	struct crew crew;
	int copies[SLOT_END];

	assert_int_equal(pass(stage, &got), 0);
	assert_memory_equal(&got, &stage->handover, sizeof(got));
	assert_int_equal(got.serial_current, 5);
	assert_int_equal(got.serial_next, 8); /* of no child */
	/* the taker is another process: it has descriptors of its own */
	own = got;
	own.board_fd = dup(got.board_fd);
	own.bus_fd = dup(got.bus_fd);
	own.hold_fds.segment = dup(got.hold_fds.segment);
	for (int i = 0; i < WORKERS; i++) {
		own.hold_fds.worker_ends[i] = dup(got.hold_fds.worker_ends[i]);
		own.hold_fds.holder_ends[i] = dup(got.hold_fds.holder_ends[i]);
	}
	for (int slot = 0; slot < SLOT_END; slot++) {
		copies[slot] = got.event_fds[slot];
		if (copies[slot] != -1)
			own.event_fds[slot] = dup(copies[slot]);
	}
	memset(&crew, 0, sizeof(crew));
	assert_int_equal(handover_adopt(&own, stage->conf, &crew, stage->error,
			     sizeof(stage->error)),
	    0);
	assert_int_equal(crew.sockets.ports[0], 4711);
	assert_int_equal(
	    crew.sockets.worker_fds[1][0], stage->handover.worker_fds[1][0]);
	assert_int_equal(crew.sockets.worker_fds[0][0], -1);
	/* what one puts into the bus, the other gets out */
	bus_become(stage->crew.bus, SLOT_WORKER_0);
	assert_int_equal(
	    bus_put(stage->crew.bus, SLOT_KEEPER, 1, "Bonjour", 7), 0);
	bus_publish_all(stage->crew.bus);
	bus_become(crew.bus, SLOT_KEEPER);
	assert_int_equal(bus_next_incoming(crew.bus, -1), SLOT_WORKER_0);
	hold_free(&crew.hold);
	bus_free(&crew.bus);
	board_close(&crew.board);
}

static void
test_children_are_as_they_were(void **state)
{
	struct stage *stage = *state;
	struct crew crew;

	memset(&crew, 0, sizeof(crew));
	crew.child_count = 2;
	crew.children[0].slot = SLOT_WORKER_0;
	crew.children[1].slot = SLOT_WORKER_0 + 1;
	handover_adopt_children(&stage->handover, &crew, false);
	assert_int_equal(crew.conf_serial, 8);
	assert_int_equal(crew.children[0].pid, 0);
	assert_int_equal(crew.children[1].pid, 4242);
	assert_int_equal(crew.children[1].generation, 3);
	assert_int_equal(crew.children[1].restarts, 2);
	assert_int_equal(crew.children[1].conf_serial, 7);
	assert_true(crew.children[1].is_wanted);
	assert_false(crew.children[1].is_realtime);
	handover_adopt_children(&stage->handover, &crew, true);
	assert_int_equal(crew.conf_serial, 5);
}

static void
test_other_versions_are_refused(void **state)
{
	struct stage *stage = *state;
	struct handover got;

	stage->handover.layout_version++;
	assert_int_equal(pass(stage, &got), ERR_STALE);
	assert_non_null(strstr(stage->error, "layout"));
	stage->handover.layout_version--;
	stage->handover.version++;
	assert_int_equal(pass(stage, &got), ERR_STALE);
	stage->handover.version--;
	stage->handover.bytes--;
	assert_int_equal(pass(stage, &got), ERR_STALE);
	stage->handover.bytes++;
	stage->handover.worker_count = WORKER_MAX + 1;
	assert_int_equal(pass(stage, &got), ERR_CORRUPT);
	stage->handover.worker_count = WORKERS;
	stage->handover.magic++;
	assert_int_equal(pass(stage, &got), ERR_CORRUPT);
	stage->handover.magic--;
	assert_int_equal(pass(stage, &got), 0);
}

static void
test_memory_that_can_change_is_refused(void **state)
{
	struct stage *stage = *state;
	struct handover got;
	int fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t len = (ssize_t)sizeof(got);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, &stage->handover, sizeof(got)), len);
	assert_int_equal(
	    handover_read(fd, &got, stage->error, sizeof(stage->error)),
	    ERR_CORRUPT);
	close(fd);
	assert_int_equal(
	    handover_read(-1, &got, stage->error, sizeof(stage->error)),
	    ERR_CORRUPT);
}

static void
test_another_board_is_refused(void **state)
{
	struct stage *stage = *state;
	struct crew crew;

	memset(&crew, 0, sizeof(crew));
	stage->handover.boot_id++;
	assert_int_equal(handover_adopt(&stage->handover, stage->conf, &crew,
			     stage->error, sizeof(stage->error)),
	    ERR_CORRUPT);
	assert_null(crew.board);
}

static void
test_settings_that_need_a_start_must_stay(void **state)
{
	struct stage *stage = *state;
	struct handover *handover = &stage->handover;

	assert_int_equal(handover_check_settings(handover, stage->conf,
			     stage->error, sizeof(stage->error)),
	    0);
	stage->conf->server_ping_interval++; /* this one may change */
	assert_int_equal(handover_check_settings(handover, stage->conf,
			     stage->error, sizeof(stage->error)),
	    0);
	stage->conf->server_node++;
	assert_int_equal(handover_check_settings(handover, stage->conf,
			     stage->error, sizeof(stage->error)),
	    ERR_BAD_REQUEST);
	assert_non_null(strstr(stage->error, "the setting server.node has"));
	handover->settings[0] = '\0'; /* a giver that knows none of them */
	assert_int_equal(handover_check_settings(handover, stage->conf,
			     stage->error, sizeof(stage->error)),
	    0);
}

static void
test_the_configuration_goes_with_its_secrets(void **state)
{
	struct stage *stage = *state;
	struct conf *back = NULL;
	char path[32];
	int fd = handover_write_conf(stage->conf);

	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	setenv("PARLEY_SERVER_NODE", "9", 1);
	assert_int_equal(
	    conf_load_dump(path, &back, stage->error, sizeof(stage->error)), 0);
	unsetenv("PARLEY_SERVER_NODE");
	assert_int_equal(back->server_node, stage->conf->server_node);
	assert_int_equal(back->auth_jwt_hs256_secret.count, 1);
	assert_string_equal(back->auth_jwt_hs256_secret.items[0],
	    "a-secret-of-thirty-two-bytes-0001");
	conf_free(&back);
	close(fd);
}

static void
test_descriptors_stay_open_when_they_shall(void **state)
{
	struct stage *stage = *state;
	int fd = stage->crew.sockets.worker_fds[1][0];

	handover_inherit(&stage->handover, true);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	assert_int_equal(fcntl(stage->handover.bus_fd, F_GETFD), 0);
	assert_int_equal(fcntl(stage->handover.board_fd, F_GETFD), 0);
	handover_inherit(&stage->handover, false);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(stage->handover.bus_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(
	    fcntl(stage->handover.event_fds[SLOT_KEEPER], F_GETFD), FD_CLOEXEC);
}

#define STAGED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    STAGED(test_what_is_given_is_taken),
	    STAGED(test_children_are_as_they_were),
	    STAGED(test_other_versions_are_refused),
	    STAGED(test_memory_that_can_change_is_refused),
	    STAGED(test_another_board_is_refused),
	    STAGED(test_settings_that_need_a_start_must_stay),
	    STAGED(test_the_configuration_goes_with_its_secrets),
	    STAGED(test_descriptors_stay_open_when_they_shall),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}
