/*
 * trace.c - where a process was when it crashed.
 *
 * Role:    unit tests of shm/trace.c: children that die in several ways.
 * Process: test, and children of it.
 * Blocks:  until a child has ended.
 * Trust:   none.
 * See:     shm/trace.h.
 */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/trace.h"

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
/* A sanitizer has handlers of its own for crashes. */
#if !defined(__SANITIZE_ADDRESS__) && !HAS_FEATURE(address_sanitizer)
#define TESTS_CRASHES 1
#endif

static struct board_trace *trace;
#ifdef TESTS_CRASHES
static volatile int zero;
#endif

static void
die_by_abort(void)
{
	abort();
}

static void
die_by_own_kill(void)
{
	kill(getpid(), SIGABRT);
}

static void
die_by_kill(void)
{
	raise(SIGKILL);
}

/* @return the signal that killed it */
static int
end_of(void (*die)(void), bool others, pid_t *pid_out)
{
	struct rlimit none = {0, 0};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		trace_arm(trace, others);
		die();
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	*pid_out = pid;
	return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

static void
expect_trace(void (*die)(void), int signal_number)
{
	char text[TRACE_TEXT_MAX];
	pid_t pid;

	assert_int_equal(end_of(die, true, &pid), signal_number);
	assert_int_equal(trace_describe(trace, (int)pid, text), signal_number);
	/* its own program is named, with an offset into it */
	assert_non_null(strstr(text, "trace+0x"));
	assert_true(text[strlen(text) - 1] != ' ');
	/* of another process it says nothing */
	assert_int_equal(trace_describe(trace, (int)pid + 1, text), 0);
	assert_string_equal(text, "");
}

static void
an_abort_leaves_a_trace_and_kills(void **state)
{
	(void)state;
	expect_trace(die_by_abort, SIGABRT);
	expect_trace(die_by_own_kill, SIGABRT);
}

#ifdef TESTS_CRASHES
static void
die_by_null(void)
{
	volatile int *nothing = NULL;

	*nothing = 1;
}

/* Everything on the stack is used up: the handler needs one of its own. */
static int
descend(volatile const char *above)
{
	volatile char block[4096];

	block[0] = above == NULL ? 0 : above[0];
	block[sizeof(block) - 1] = (char)zero;
	if (zero != 0)
		return 0; /* never, but the compiler does not know */
	return descend(block) + block[sizeof(block) - 1];
}

static void
die_by_depth(void)
{
	zero = descend(NULL);
}

static void
a_crash_leaves_a_trace_and_kills(void **state)
{
	(void)state;
	expect_trace(die_by_null, SIGSEGV);
	expect_trace(die_by_depth, SIGSEGV);
}
#endif

static void
a_kill_leaves_none(void **state)
{
	char text[TRACE_TEXT_MAX];
	pid_t pid;

	(void)state;
	assert_int_equal(end_of(die_by_kill, true, &pid), SIGKILL);
	assert_int_equal(trace_describe(trace, (int)pid, text), 0);
}

static void
another_program_is_shown_by_plain_addresses(void **state)
{
	char text[TRACE_TEXT_MAX];
	pid_t pid;

	(void)state;
	assert_int_equal(end_of(die_by_abort, false, &pid), SIGABRT);
	atomic_store(&trace->base, 0x1234);
	assert_int_equal(trace_describe(trace, (int)pid, text), SIGABRT);
	assert_null(strchr(text, '+'));
	assert_int_equal(strncmp(text, "0x", 2), 0);
}

static void
a_slot_that_is_scribbled_over_does_no_harm(void **state)
{
	char text[TRACE_TEXT_MAX];

	(void)state;
	for (unsigned fill = 1; fill < 256; fill++) {
		memset((void *)trace, (int)fill, sizeof(*trace));
		(void)trace_describe(trace, atomic_load(&trace->pid), text);
		assert_true(strlen(text) < sizeof(text));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_abort_leaves_a_trace_and_kills),
#ifdef TESTS_CRASHES
	    cmocka_unit_test(a_crash_leaves_a_trace_and_kills),
#endif
	    cmocka_unit_test(a_kill_leaves_none),
	    cmocka_unit_test(another_program_is_shown_by_plain_addresses),
	    cmocka_unit_test(a_slot_that_is_scribbled_over_does_no_harm),
	};

	trace = mmap(NULL, sizeof(*trace), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (trace == MAP_FAILED)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
