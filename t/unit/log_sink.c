/*
 * log_sink.c - where the lines of the log go.
 *
 * Role:    what cannot be written is lost, counted and told; nobody waits.
 * Process: test, with children.
 * Blocks:  on small files in the current folder.
 * Trust:   -
 * See:     src/base/log_sink.c; log.c.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/count.h"
#include "t/unit/log_box.h"

/* A full disk, played by a size limit: lines are lost, counted and told. */
static void
full_disk_loses_lines_and_says_so(void **state)
{
	struct rlimit old;
	struct rlimit small;
	char *text;
	char *torn;

	(void)state;
	log_begin("text");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 100;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 5; i++)
		log_info(NULL, "fill", "i=%d %030d", i, 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	errno = ENOENT;
	log_info(NULL, "after", "x");
	assert_int_equal(errno, ENOENT);
	text = log_text_of(path);
	torn = strchr(text, '\n') + 1;
	assert_non_null(strstr(text, "i=0"));
	/* the second one was cut by the limit, the rest did not come */
	assert_int_equal(strcspn(torn, "\n") + (size_t)(torn - text), 100);
	assert_non_null(strstr(text, "log-lost lines=4\n"));
	assert_non_null(strstr(text, "after x\n"));
	assert_int_equal(line_count(text), 4);
	free(text);
	log_close();
}

/* Nobody has anything else to say: the tick does it, once a second. */
static void
lost_lines_are_counted_and_told_by_the_tick(void **state)
{
	struct log_conf conf = {"/dev/full", "info", "text", false};
	uint64_t before = count_self->counters[COUNTER_log_lines_lost];
	char *text;

	(void)state;
	assert_int_equal(log_open(&conf), 0);
	log_info(NULL, "lost", "n=1");
	log_info(NULL, "lost", "n=2");
	clock_shift(1000);
	assert_false(log_tick());
	assert_int_equal(
	    count_self->counters[COUNTER_log_lines_lost], before + 2);
	log_begin("text");
	assert_false(log_tick()); /* not twice in a second */
	clock_shift(1000);
	assert_false(log_tick());
	clock_shift(1000);
	assert_false(log_tick());
	text = log_text_of(path);
	assert_int_equal(line_count(text), 1);
	assert_non_null(strstr(text, "log-lost lines=2\n"));
	free(text);
	log_close();
}

static void
removed_file_is_made_again(void **state)
{
	char *text;

	(void)state;
	log_begin("text");
	assert_int_equal(unlink(path), 0);
	clock_shift(1000);
	assert_true(log_tick());
	log_info(NULL, "one", "x");
	text = log_text_of(path);
	assert_non_null(strstr(text, "one x\n"));
	free(text);
	/* without its folder: as soon as that is there */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
	clock_shift(1000);
	assert_false(log_tick());
	log_info(NULL, "two", "x");
	assert_int_equal(mkdir(folder, 0700), 0);
	clock_shift(1000);
	assert_true(log_tick());
	log_info(NULL, "three", "x");
	text = log_text_of(path);
	assert_non_null(strstr(text, "three x\n"));
	free(text);
	log_close();
}

static void
file_that_cannot_be_opened_may_wait(void **state)
{
	struct log_conf conf = {path, "info", "text", true};
	char *text;

	(void)state;
	unlink(path);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(log_open(&conf), 0);
	log_info(NULL, "one", "x");
	assert_int_equal(mkdir(folder, 0700), 0);
	clock_shift(1000);
	assert_true(log_tick());
	text = log_text_of(path);
	assert_non_null(strstr(text, "log-lost lines=1\n"));
	free(text);
	log_close();
}

static void
fifo_needs_no_reader(void **state)
{
	struct log_conf conf = {path, "info", "text", false};
	uint64_t before = count_self->counters[COUNTER_log_lines_lost];
	char out[4096];
	ssize_t got;
	int fd;

	(void)state;
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(log_open(&conf), 0);
	log_info(NULL, "early", "x");
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(fd >= 0);
	got = read(fd, out, sizeof(out) - 1);
	assert_true(got > 0);
	out[got] = '\0';
	assert_non_null(strstr(out, "early x\n"));
	close(fd);
	for (int i = 0; i < 1000; i++)
		log_info(NULL, "flood", "i=%d %0200d", i, 0);
	assert_true(
	    count_self->counters[COUNTER_log_lines_lost] > before + 100);
	log_close();
	log_forget();
	unlink(path);
}

static void
full_pipe_does_not_block(void **state)
{
	static char out[1 << 17];
	int fds[2];
	int status;
	pid_t pid = fork_with_stderr(fds);

	(void)state;
	if (pid == 0) {
		struct log_conf conf = {"stderr", "info", "text", false};

		alarm(20); /* only a log that blocks meets it */
		if (log_open(&conf) != 0)
			_exit(2);
		for (int i = 0; i < 2000; i++)
			log_info(NULL, "flood", "i=%d %0200d", i, 0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(read_all(fds, out, sizeof(out)) > 4096);
	assert_int_equal(out[strlen(out) - 1], '\n');
}

/* Writes lines to stderr until it is killed; says how many. */
_Noreturn static void
flood(atomic_uint *count)
{
	struct log_conf conf = {"stderr", "info", "text", false};

	if (log_open(&conf) != 0)
		_exit(2);
	for (;;) {
		log_info(NULL, "flood", "i=%u %03000d", *count, 0);
		atomic_fetch_add(count, 1);
	}
}

static bool
goes_on(atomic_uint *count)
{
	unsigned before = atomic_load(count);
	int64_t until_ms = clock_mono_ms() + 5000;

	while (atomic_load(count) < before + 2) {
		if (clock_mono_ms() > until_ms)
			return false;
		sched_yield();
	}
	return true;
}

/* Whether there is room may have changed when two look and then write. */
static void
full_pipe_of_two_writers_does_not_block(void **state)
{
	atomic_uint *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char out[4096];
	int fds[2];
	pid_t pids[2];
	bool has_blocked = false;

	(void)state;
	assert_true(counts != MAP_FAILED);
	assert_int_equal(pipe(fds), 0);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			dup2(fds[1], STDERR_FILENO);
			flood(&counts[i]);
		}
	}
	for (int i = 0; i < 300 && !has_blocked; i++) {
		assert_true(read(fds[0], out, sizeof(out)) > 0);
		has_blocked = !goes_on(&counts[0]) || !goes_on(&counts[1]);
	}
	for (int i = 0; i < 2; i++) {
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
	close(fds[0]);
	close(fds[1]);
	munmap(counts, 4096);
	assert_false(has_blocked);
}

static void
closed_pipe_does_not_kill(void **state)
{
	int fds[2];
	int status;
	pid_t pid = fork_with_stderr(fds);

	(void)state;
	if (pid == 0) {
		struct log_conf conf = {"stderr", "info", "text", false};

		if (log_open(&conf) != 0)
			_exit(2);
		close(fds[0]);
		close(fds[1]);
		log_info(NULL, "nobody", "reads");
		_exit(0);
	}
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(full_disk_loses_lines_and_says_so),
	    cmocka_unit_test(lost_lines_are_counted_and_told_by_the_tick),
	    cmocka_unit_test(removed_file_is_made_again),
	    cmocka_unit_test(file_that_cannot_be_opened_may_wait),
	    cmocka_unit_test(fifo_needs_no_reader),
	    cmocka_unit_test(full_pipe_does_not_block),
	    cmocka_unit_test(full_pipe_of_two_writers_does_not_block),
	    cmocka_unit_test(closed_pipe_does_not_kill),
	};
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (make_folder() != 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
