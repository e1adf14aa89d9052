/*
 * supervisor_vitals.c - what the kernel says of a process.
 *
 * Role:    unit tests of supervisor/vitals.c: texts, and real processes.
 * Process: test, and children of it.
 * Blocks:  until a child is in the state that is looked at.
 * Trust:   none.
 * See:     supervisor/vitals.h.
 */
#include "config.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "supervisor/vitals.h"

#define PATIENCE_MS 20000
#define MIB         ((size_t)1024 * 1024)

static void
a_name_with_blanks_and_brackets_is_skipped(void **state)
{
	struct vitals vitals = {0};

	(void)state;
	assert_int_equal(
	    vitals_parse_stat(
		"7 (a) R (b)) D 1 2 3 4 5 6 7 8 9 10 250 50 0", &vitals),
	    0);
	assert_int_equal(vitals.state, 'D');
	assert_int_equal(vitals.cpu_ms, 300 * 1000 / sysconf(_SC_CLK_TCK));
	assert_int_equal(vitals.delay_ms, -1);
}

static void
a_short_text_is_refused_at_each_length(void **state)
{
	const char text[] = "7 (a) D 1 2 3 4 5 6 7 8 9 10 250 5";
	struct vitals vitals;
	char part[sizeof(text)];

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 2; len++) {
		memcpy(part, text, len);
		part[len] = '\0';
		assert_int_not_equal(vitals_parse_stat(part, &vitals), 0);
	}
	assert_int_equal(vitals_parse_stat(text, &vitals), 0);
}

static void
a_line_of_status_is_found_by_its_whole_name(void **state)
{
	const char text[] = "Name:\tRssAnon: 3 kB\nXRssAnon:\t5 kB\n"
			    "RssAnonX:\t6 kB\nRssAnon:\t   17 kB\nVmSwap:\tx\n";

	(void)state;
	assert_int_equal(vitals_parse_kb(text, "RssAnon"), 17);
	assert_int_equal(vitals_parse_kb(text, "VmSwap"), -1);
	assert_int_equal(vitals_parse_kb(text, "VmRSS"), -1);
	assert_int_equal(vitals_parse_kb("", "VmRSS"), -1);
}

static void
no_process_is_not_found(void **state)
{
	struct vitals vitals;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(vitals_read(pid, &vitals), ERR_NOT_FOUND);
	assert_int_equal(vitals_private_bytes(pid), -1);
}

static bool
comes_to(pid_t pid, char wanted)
{
	int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;
	struct vitals vitals = {0};

	while (clock_mono_ms() < deadline_ms) {
		assert_int_equal(vitals_read(pid, &vitals), 0);
		if (vitals.state == wanted)
			return true;
		sched_yield();
	}
	return false;
}

static void
end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
sleeping_and_stopped_processes_are_told_apart(void **state)
{
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		for (;;)
			pause();
	}
	assert_true(comes_to(pid, 'S'));
	kill(pid, SIGSTOP);
	assert_true(comes_to(pid, 'T'));
	kill(pid, SIGCONT);
	assert_true(comes_to(pid, 'S'));
	end(pid);
}

/* The parent of a vfork waits as for a disk: nothing but its end wakes it. */
static void
a_process_that_cannot_be_woken_is_in_state_d(void **state)
{
	int end_fds[2];
	char byte;
	pid_t pid;

	(void)state;
	if (getenv("PARLEY_VALGRIND") != NULL)
		return; /* vfork(2) is fork(2) there: nobody waits */
	assert_int_equal(pipe(end_fds), 0);
	pid = fork();
	if (pid == 0) {
		close(end_fds[1]);
		if (vfork() == 0) {
			(void)!read(end_fds[0], &byte, 1);
			_exit(0);
		}
		_exit(0);
	}
	close(end_fds[0]);
	assert_true(comes_to(pid, 'D'));
	close(end_fds[1]); /* ends the read, and both */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
one_that_computes_is_seen_to_run(void **state)
{
	int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;
	struct vitals before;
	struct vitals now;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		for (volatile unsigned n = 0;; n++)
			;
	}
	assert_true(comes_to(pid, 'R'));
	assert_int_equal(vitals_read(pid, &before), 0);
	do {
		sched_yield();
		assert_int_equal(vitals_read(pid, &now), 0);
	} while (
	    now.cpu_ms < before.cpu_ms + 20 && clock_mono_ms() < deadline_ms);
	assert_true(now.cpu_ms >= before.cpu_ms + 20);
	end(pid);
}

static void
memory_of_its_own_counts_and_shared_memory_does_not(void **state)
{
	int64_t before = vitals_private_bytes(getpid());
	char *shared = mmap(NULL, 32 * MIB, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *own = mmap(NULL, 32 * MIB, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(before > 0);
	assert_true(shared != MAP_FAILED && own != MAP_FAILED);
	memset(shared, 1, 32 * MIB);
	assert_true(
	    vitals_private_bytes(getpid()) < before + (int64_t)(16 * MIB));
	memset(own, 1, 32 * MIB);
	assert_true(
	    vitals_private_bytes(getpid()) >= before + (int64_t)(31 * MIB));
	munmap(own, 32 * MIB);
	munmap(shared, 32 * MIB);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_name_with_blanks_and_brackets_is_skipped),
	    cmocka_unit_test(a_short_text_is_refused_at_each_length),
	    cmocka_unit_test(a_line_of_status_is_found_by_its_whole_name),
	    cmocka_unit_test(no_process_is_not_found),
	    cmocka_unit_test(sleeping_and_stopped_processes_are_told_apart),
	    cmocka_unit_test(a_process_that_cannot_be_woken_is_in_state_d),
	    cmocka_unit_test(one_that_computes_is_seen_to_run),
	    cmocka_unit_test(
		memory_of_its_own_counts_and_shared_memory_does_not),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
	    "supervisor vitals", tests, NULL, NULL);
}
