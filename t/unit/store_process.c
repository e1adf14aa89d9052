/*
 * store_process.c - unit test of shm/store.c between processes: readers beside
 * the writer, readers that died, an environment that failed.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "shm/inbox.h"
#include "shm/log.h"
#include "t/unit/store_box.h"

#define ROUNDS     400
#define DEADLINE_S 20

static time_t
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Each commit has one message, one event and the number of both. */
static bool
is_whole(struct txn *txn, uint64_t number)
{
	struct log_message message;

	if (store_count(txn, DBI_log) != number ||
	    store_count(txn, DBI_inbox) != number)
		return false;
	return number == 0 || log_get(txn, number, &message) == 0;
}

static _Noreturn void
reader_run(const char *dir)
{
	time_t deadline = now_s() + DEADLINE_S;
	struct store *store = NULL;
	uint64_t number = 0;
	char error[256];
	struct txn txn;
	int rc;

	do {
		rc = store_open(STORE_MAIN, dir, STORE_BOX_MAP, false, &store,
		    error, sizeof(error));
		if (rc != 0 && (rc != ERR_NOT_FOUND || now_s() > deadline))
			_exit(2);
	} while (rc != 0);
	while (number < ROUNDS) {
		uint64_t seen = 0;

		if (now_s() > deadline)
			_exit(3);
		if (store_begin_read(store, &txn) != 0)
			_exit(4);
		rc = box_get_number(&txn, 1, &seen);
		if ((rc != 0 && rc != ERR_NOT_FOUND) || seen < number ||
		    !is_whole(&txn, seen))
			_exit(5);
		number = seen;
		txn_end(&txn);
	}
	store_close(&store);
	_exit(0);
}

static void
write_round(struct store_box *box, uint64_t number)
{
	struct log_message message = {
	    .id = number, .body = {"body", 4}, .sender = 1};
	struct inbox_event event = {
	    .seq = number, .ref = number, .kind = EVENT_MESSAGE};

	box_begin(box);
	assert_int_equal(log_append(&box->txn, &message), 0);
	assert_int_equal(inbox_put(&box->txn, 1, &event), 0);
	assert_int_equal(box_put_number(&box->txn, 1, number), 0);
	box_commit(box);
}

static void
readers_in_other_processes_see_whole_commits(void **state)
{
	struct store_box box;
	pid_t pids[2];
	int status;

	(void)state;
	box_folder(&box);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			reader_run(box.dir);
	}
	box_open_stores(&box, STORE_BOX_MAP);
	for (uint64_t number = 1; number <= ROUNDS; number++)
		write_round(&box, number);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	box_close(&box);
}

static void
slots_of_dead_readers_are_given_back(void **state)
{
	struct store_box box;
	struct txn txn;
	int ready[2];
	int status;
	char byte;
	pid_t pid;

	(void)state;
	box_folder(&box);
	box_open_stores(&box, STORE_BOX_MAP);
	store_close(&box.main);
	store_close(&box.presence);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		box_open_stores(&box, STORE_BOX_MAP);
		if (store_begin_read(box.main, &txn) != 0)
			_exit(1);
		if (write(ready[1], "", 1) != 1)
			_exit(2);
		for (;;)
			pause();
	}
	box_open_stores(&box, STORE_BOX_MAP);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(store_reader_check(box.main), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(store_reader_check(box.main), 1);
	assert_int_equal(store_reader_check(box.main), 0);
	close(ready[0]);
	close(ready[1]);
	box_close(&box);
}

/* The descriptor LMDB writes meta pages through is the synchronous one. */
static int
meta_fd(const char *name)
{
	char link[64];
	char path[512];

	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, path, sizeof(path) - 1);
		if (n < 0)
			continue;
		path[n] = '\0';
		if (strstr(path, name) != NULL &&
		    strstr(path, "-lock") == NULL &&
		    (fcntl(fd, F_GETFL) & O_DSYNC) != 0)
			return fd;
	}
	return -1;
}

static _Noreturn void
break_meta_writes(const char *dir)
{
	struct store_box box = {.main = NULL};
	int null_fd = open("/dev/null", O_RDONLY);
	int fd;

	snprintf(box.dir, sizeof(box.dir), "%s", dir);
	box_open_stores(&box, STORE_BOX_MAP);
	fd = meta_fd("main.mdb");
	if (fd == -1 || null_fd == -1 || dup2(null_fd, fd) == -1)
		_exit(1);
	if (store_begin_write(box.main, &box.txn) != 0 ||
	    box_put_number(&box.txn, 1, 1) != 0)
		_exit(2);
	if (txn_commit(&box.txn) != ERR_IO)
		_exit(3);
	signal(SIGABRT, SIG_DFL);
	if (store_begin_write(box.main, &box.txn) == 0)
		_exit(4);
	_exit(5);
}

static void
an_environment_in_doubt_ends_the_process(void **state)
{
	struct store_box box;
	uint64_t n;
	int status;
	pid_t pid;

	(void)state;
	box_folder(&box);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		break_meta_writes(box.dir);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	box_open_stores(&box, STORE_BOX_MAP);
	box_begin(&box);
	assert_int_equal(box_get_number(&box.txn, 1, &n), ERR_NOT_FOUND);
	assert_int_equal(box_put_number(&box.txn, 1, 1), 0);
	box_commit(&box);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(readers_in_other_processes_see_whole_commits),
	    cmocka_unit_test(slots_of_dead_readers_are_given_back),
	    cmocka_unit_test(an_environment_in_doubt_ends_the_process),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
