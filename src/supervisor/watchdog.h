/*
 * watchdog.h - does a process hang? Pure: knows neither clock nor processes.
 */
#ifndef SUPERVISOR_WATCHDOG_H
#define SUPERVISOR_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

#include "supervisor/vitals.h"

#define WATCHDOG_TURN_MS  500  /* the supervisor looks at least as often */
#define WATCHDOG_LATE_MS  1500 /* one that comes later has itself been held */
#define WATCHDOG_GRACE_MS 1000 /* from SIGABRT to SIGKILL */

enum watchdog_verdict {
	WATCHDOG_FINE,
	WATCHDOG_DISK,    /* silent, but not by its own fault: say so */
	WATCHDOG_STARVED, /* likewise: it gets no processor */
	WATCHDOG_TRACED,  /* likewise: a debugger holds it */
	WATCHDOG_ABORT,   /* hangs: SIGABRT, once */
	WATCHDOG_KILL,    /* has not died of it: SIGKILL */
};

/* Of one process; zeroed when it starts. */
struct watchdog {
	int64_t looked_at_ms; /* 0: never */
	int64_t beat_ms;      /* heartbeat seen last */
	bool has_vitals;      /* the two below are of the look before */
	int64_t cpu_ms;
	int64_t delay_ms;
	int64_t charged_us;  /* silence it has to answer for */
	int64_t excused_ms;  /* silence that others have to */
	bool is_stopped;     /* when it was told: by somebody's SIGSTOP */
	int64_t abort_at_ms; /* 0: not told */
	enum watchdog_verdict said; /* the caller's: what it has reported */
};

struct watchdog_look {
	int64_t now_ms;              /* monotonic, as the heartbeat */
	int64_t beat_ms;             /* as the board has it */
	const struct vitals *vitals; /* NULL: unknown */
	bool is_committing;       /* says itself that it waits for its disk */
	int64_t start_timeout_ms; /* it still starts, and may be silent for so
				     long; 0: it serves */
};

/** Is the process silent, so that vitals are needed for the next look? */
bool watchdog_is_silent(
    const struct watchdog *dog, int64_t now_ms, int64_t beat_ms);

/**
 * One look. Silence is charged by what the process did in it:
 *
 *   stopped (T)             all of it; nobody continues a server by hand
 *   waits for a disk (D)    nothing; so does the keeper in a commit
 *   is debugged (t)         nothing
 *   runs or could run (R)   the processor time that it got: one that spins is
 *                           found, one that is starved is not
 *   sleeps (S)              all but what it waited for a processor
 *   unknown                 a third (in the first second, all of it)
 *
 * and never more for one look than the supervisor's own turn takes: when we
 * were held up, so was everybody. While it starts, silence weighs less (but for
 * T): it may open a large store, or bring one up to date.
 *
 * @param timeout_ms  of one that serves; 0: never aborts, reports only
 */
enum watchdog_verdict watchdog_look(
    struct watchdog *dog, const struct watchdog_look *look, int64_t timeout_ms);

#endif
