/*
 * directory_stage.c - a directory process with everything around it.
 */
#include "config.h"

#include "directory_stage.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/directory.h"
#include "shm/users.h"

#define WORKERS   2
#define MAP_BYTES (64UL << 20)

static void
set_text(char **field, const char *text)
{
	free(*field);
	*field = xstrdup(text);
}

void
stage_open(struct stage *stage)
{
	char error[512];

	*stage = (struct stage){0};
	strcpy(stage->dir, "directory-XXXXXX");
	assert_non_null(mkdtemp(stage->dir));
	assert_int_equal(board_create(stage->dir, WORKERS, &stage->board), 0);
	for (int slot = 0; slot < SLOT_WORKER_0 + WORKERS; slot++)
		board_slot(stage->board, slot)->generation = 1;
	assert_int_equal(bus_create(stage->board, WORKERS, &stage->bus), 0);
	assert_int_equal(
	    conf_load(NULL, &stage->conf, error, sizeof(error)), 0);
	set_text(&stage->conf->server_data_dir, stage->dir);
	set_text(&stage->conf->server_run_dir, stage->dir);
	set_text(&stage->conf->policy_may_message, "contacts");
	set_text(&stage->conf->directory_backend, "embedded");
	stage->conf->store_map_size = MAP_BYTES;
	stage->conf->directory_request_timeout = DEADLINE_MS;
	stage->conf->auth_password_threads = 2;
	stage->conf->auth_password_attempts = 0; /* t/unit/attempts.c */
	assert_int_equal(store_open(STORE_MAIN, stage->dir, MAP_BYTES, true,
			     &stage->store, error, sizeof(error)),
	    0);
	assert_int_equal(store_begin_write(stage->store, &stage->txn), 0);
}

void
stage_fill_end(struct stage *stage)
{
	if (stage->store == NULL)
		return;
	assert_int_equal(txn_commit(&stage->txn), 0);
	store_close(&stage->store);
}

void
stage_close(struct stage *stage)
{
	static const char *const files[] = {
	    "attempts", "board", "main.mdb", "main.mdb-lock"};
	char path[128];

	stage_fill_end(stage);
	if (stage->pid != 0)
		stage_stop(stage);
	bus_free(&stage->bus);
	board_close(&stage->board);
	conf_free(&stage->conf);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", stage->dir, files[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(stage->dir), 0);
}

void
stage_add_user(struct stage *stage, uint64_t id, const char *name,
    const char *hash, const char *profile)
{
	struct user user = {
	    .id = id,
	    .created_ms = 1,
	    .name = {name, strlen(name)},
	    .password = {hash, hash == NULL ? 0 : strlen(hash)},
	    .role = {"client", 6},
	    .profile = {profile, profile == NULL ? 0 : strlen(profile)},
	};

	assert_int_equal(users_put(&stage->txn, &user), 0);
}

void
stage_add_contact(
    struct stage *stage, uint64_t user, uint64_t other, uint32_t flags)
{
	assert_int_equal(contact_change(&stage->txn, user, other, flags, 0), 0);
}

/* As the supervisor would, shm/process.h. */
static int
child_main(struct stage *stage, const struct dir_ops *ops)
{
	const struct process process = {
	    .conf = stage->conf,
	    .bus = stage->bus,
	    .slot = SLOT_DIRECTORY,
	};
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_set_process("directory");
	bus_become(stage->bus, SLOT_DIRECTORY);
	count_attach(&board_slot(stage->board, SLOT_DIRECTORY)->count);
	rc = ops != NULL ? directory_run(&process, ops)
			 : directory_main(&process);
	bus_free(&stage->bus);
	board_close(&stage->board);
	conf_free(&stage->conf);
	return rc;
}

void
stage_start(struct stage *stage, const struct dir_ops *ops)
{
	sigset_t stop;
	sigset_t before;

	fflush(stdout);
	/* Blocked before the fork: SIGTERM may come at any time. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigprocmask(SIG_BLOCK, &stop, &before);
	stage->pid = fork();
	assert_true(stage->pid >= 0);
	if (stage->pid == 0)
		exit(child_main(stage, ops));
	sigprocmask(SIG_SETMASK, &before, NULL);
	bus_become(stage->bus, WORKER_A);
}

void
stage_wait_up(struct stage *stage)
{
	struct board_slot *slot = board_slot(stage->board, SLOT_DIRECTORY);
	int64_t until_ms = clock_mono_ms() + DEADLINE_MS;

	while (atomic_load(&slot->up) != 1) {
		assert_true(clock_mono_ms() < until_ms);
		assert_int_equal(waitpid(stage->pid, NULL, WNOHANG), 0);
		poll(NULL, 0, 1);
	}
	assert_true(atomic_load(&slot->heartbeat_ms) > 0);
}

void
stage_stop(struct stage *stage)
{
	int status;

	assert_int_equal(kill(stage->pid, SIGTERM), 0);
	assert_int_equal(waitpid(stage->pid, &status, 0), stage->pid);
	stage->pid = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

uint64_t
stage_counter(struct stage *stage, enum counter_id id)
{
	return board_slot(stage->board, SLOT_DIRECTORY)->count.counters[id];
}

void
stage_send(struct stage *stage, uint16_t type, const void *data, size_t len)
{
	assert_int_equal(
	    bus_put(stage->bus, SLOT_DIRECTORY, type, data, len), 0);
	bus_publish(stage->bus, SLOT_DIRECTORY);
}

void
stage_next(struct stage *stage, int from, struct ring_record *out)
{
	struct pollfd fd = {.fd = bus_eventfd(stage->bus), .events = POLLIN};
	struct ring_reader *reader = bus_reader(stage->bus, from);
	int64_t until_ms = clock_mono_ms() + DEADLINE_MS;
	int rc;

	ring_release(reader);
	while ((rc = ring_next(reader, out)) == ERR_AGAIN) {
		assert_true(clock_mono_ms() < until_ms);
		if (bus_prepare_sleep(stage->bus))
			poll(&fd, 1, 100);
		bus_awake(stage->bus);
	}
	assert_int_equal(rc, 0);
}

void
stage_hear(struct stage *stage, struct heard *heard)
{
	struct ring_record record;

	stage_next(stage, SLOT_DIRECTORY, &record);
	assert_int_equal(record.type, RECORD_DIR_REPLY);
	assert_int_equal(record.to_gen, bus_own_generation(stage->bus));
	assert_true(record.len >= sizeof(heard->head));
	memcpy(&heard->head, record.data, sizeof(heard->head));
	heard->tail_len = record.len - sizeof(heard->head);
	assert_true(heard->tail_len <= sizeof(heard->tail));
	memcpy(heard->tail, record.data + sizeof(heard->head), heard->tail_len);
	ring_release(bus_reader(stage->bus, SLOT_DIRECTORY));
	if (heard->head.rc != 0) {
		assert_int_equal(heard->head.user, 0);
		assert_int_equal(heard->head.user_count, 0);
		assert_int_equal(heard->tail_len, 0);
	}
}

int
stage_hear_rc(struct stage *stage, uint64_t req)
{
	static struct heard heard;

	stage_hear(stage, &heard);
	assert_int_equal(heard.head.req, req);
	return heard.head.rc;
}

bool
stage_is_silent(struct stage *stage)
{
	return ring_is_empty(bus_reader(stage->bus, SLOT_DIRECTORY));
}

void
send_password(
    struct stage *stage, uint64_t req, const char *name, const char *password)
{
	struct record_dir_password head = {
	    .req = req,
	    .name_len = (uint32_t)strlen(name),
	    .password_len = (uint32_t)strlen(password),
	};
	char data[8192];

	memcpy(data, &head, sizeof(head));
	memcpy(data + sizeof(head), name, head.name_len);
	memcpy(
	    data + sizeof(head) + head.name_len, password, head.password_len);
	stage_send(stage, RECORD_DIR_PASSWORD, data,
	    sizeof(head) + head.name_len + head.password_len);
}

void
send_user(struct stage *stage, uint64_t req, uint64_t asker, uint64_t user)
{
	const struct record_dir_user record = {
	    .req = req, .asker = asker, .user = user};

	stage_send(stage, RECORD_DIR_USER, &record, sizeof(record));
}

void
send_users(struct stage *stage, uint64_t req, uint64_t asker, uint64_t cursor,
    uint32_t limit)
{
	const struct record_dir_users record = {
	    .req = req, .asker = asker, .cursor = cursor, .limit = limit};

	stage_send(stage, RECORD_DIR_USERS, &record, sizeof(record));
}

void
send_update(struct stage *stage, uint64_t req, uint64_t user, const char *name,
    const char *profile)
{
	struct record_dir_update head = {
	    .req = req,
	    .user = user,
	    .flags = (name != NULL ? USER_PUT_NAME : 0) |
		     (profile != NULL ? USER_PUT_PROFILE : 0),
	    .name_len = (uint16_t)(name != NULL ? strlen(name) : 0),
	    .profile_len = (uint16_t)(profile != NULL ? strlen(profile) : 0),
	};
	char data[8192];

	memcpy(data, &head, sizeof(head));
	if (name != NULL)
		memcpy(data + sizeof(head), name, head.name_len);
	if (profile != NULL)
		memcpy(data + sizeof(head) + head.name_len, profile,
		    head.profile_len);
	stage_send(stage, RECORD_DIR_UPDATE, data,
	    sizeof(head) + head.name_len + head.profile_len);
}
