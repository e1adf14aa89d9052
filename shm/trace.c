/*
 * trace.c - where a process was when it crashed.
 *
 * Role:    the handler of SIGABRT (the watchdog's word, and panic()) and of
 *          crashes: return addresses into shared memory, then death by the
 *          same signal. The supervisor writes them into the log: it may
 *          allocate, format and wait, the handler may not.
 * Process: every child leaves them, the supervisor reads them.
 * Blocks:  never.
 * Trust:   a child that crashes may have scribbled over its slot: numbers are
 *          checked, and only printed.
 * See:     signal-safety(7); doc/operations.md; t/unit/trace.c.
 */
#include "config.h"

#include "shm/trace.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)64 * 1024)

static struct {
	struct board_trace *trace;
	char stack[STACK_BYTES]; /* the ordinary one may be used up */
} self;

/* Where this program lies in memory; 0: unknown. */
static uint64_t
own_base(void)
{
	Dl_info info;

	return dladdr((void *)(uintptr_t)trace_arm, &info) != 0
		   ? (uint64_t)(uintptr_t)info.dli_fbase
		   : 0;
}

/* Async-signal-safe: backtrace has loaded its library in trace_arm. */
static void
leave_trace(int signal_number)
{
	void *frames[TRACE_FRAMES];
	int saved = errno;
	int count = backtrace(frames, TRACE_FRAMES);

	for (int i = 0; i < count; i++)
		atomic_store(
		    &self.trace->frames[i], (uint64_t)(uintptr_t)frames[i]);
	atomic_store(&self.trace->signal, signal_number);
	atomic_store(&self.trace->count, (uint32_t)count);
	/* its handler is gone (SA_RESETHAND): this time it kills */
	raise(signal_number);
	errno = saved;
}

void
trace_arm(struct board_trace *trace, bool others)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	struct sigaction action = {.sa_handler = leave_trace};
	stack_t stack = {.ss_sp = self.stack, .ss_size = STACK_BYTES};
	void *first[1];

	self.trace = trace;
	atomic_store(&trace->count, 0);
	atomic_store(&trace->base, own_base());
	atomic_store(&trace->pid, (int32_t)getpid());
	(void)backtrace(first, 1); /* loads what it needs, allocates */
	sigaltstack(&stack, NULL);
	action.sa_flags = SA_ONSTACK | (int)SA_RESETHAND;
	sigemptyset(&action.sa_mask);
	sigaction(SIGABRT, &action, NULL);
	for (size_t i = 0; others && i < sizeof(crashes) / sizeof(crashes[0]);
	     i++)
		sigaction(crashes[i], &action, NULL);
}

/* In a process of the same program, which a fork has given the same places. */
static int
frame_describe(uint64_t address, bool is_same, char *text, size_t text_len)
{
	Dl_info info;
	const char *name;

	if (!is_same || dladdr((void *)(uintptr_t)address, &info) == 0 ||
	    info.dli_fname == NULL)
		return snprintf(
		    text, text_len, "0x%llx ", (unsigned long long)address);
	name = strrchr(info.dli_fname, '/');
	return snprintf(text, text_len, "%.32s+0x%llx ",
	    name != NULL ? name + 1 : info.dli_fname,
	    (unsigned long long)(address -
				 (uint64_t)(uintptr_t)info.dli_fbase));
}

int
trace_describe(
    const struct board_trace *trace, int pid, char text_out[TRACE_TEXT_MAX])
{
	uint32_t count = atomic_load(&trace->count);
	bool is_same = atomic_load(&trace->base) == own_base();
	size_t len = 0;

	text_out[0] = '\0';
	if (count == 0 || atomic_load(&trace->pid) != pid)
		return 0;
	if (count > TRACE_FRAMES)
		count = TRACE_FRAMES;
	for (uint32_t i = 0; i < count; i++) {
		int n = frame_describe(atomic_load(&trace->frames[i]), is_same,
		    text_out + len, TRACE_TEXT_MAX - len);

		if (n < 0 || len + (size_t)n >= TRACE_TEXT_MAX)
			break;
		len += (size_t)n;
	}
	if (len > 0)
		len--;
	text_out[len] = '\0';
	return atomic_load(&trace->signal);
}
