/*
 * patrol.c - the watchdog's round.
 *
 * Role:    asks watchdog.c about each process and does what it says: a hang
 *          gets SIGABRT, which leaves a trace, and SIGKILL a second later;
 *          the successor comes when it has been reaped, as after any death. A
 *          wait for the disk or for a processor is reported, and not killed:
 *          a successor would wait as well.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   the board can be damaged by a child: it can make us believe that
 *          it lives, or that it hangs, which harms only itself.
 * See:     watchdog.c, vitals.c, shm/trace.c, t/66-watchdog.t.
 */
#include "config.h"

#include "supervisor/patrol.h"

#include <signal.h>
#include <stdatomic.h>

#include "base/log.h"
#include "shm/trace.h"
#include "supervisor/crew.h"

static enum process_trouble
trouble_of(enum watchdog_verdict verdict)
{
	switch (verdict) {
	case WATCHDOG_DISK:
		return TROUBLE_DISK;
	case WATCHDOG_STARVED:
		return TROUBLE_STARVED;
	case WATCHDOG_TRACED:
		return TROUBLE_TRACED;
	case WATCHDOG_FINE:
	case WATCHDOG_ABORT:
	case WATCHDOG_KILL:
		break;
	}
	return TROUBLE_NONE;
}

/* Once when a wait begins, changes its cause, or ends. */
static void
report(const struct crew *crew, struct child *child,
    enum watchdog_verdict verdict, int64_t age_ms)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	char name[24];

	if (verdict == child->watchdog.said)
		return;
	board_slot_name(crew->board, child->slot, name);
	if (verdict != WATCHDOG_FINE)
		log_warn(NULL, "process-waits",
		    "name=%s pid=%d for=%s silent_ms=%lld", name,
		    (int)child->pid, board_trouble_name(trouble_of(verdict)),
		    (long long)age_ms);
	else
		log_info(NULL, "process-goes-on",
		    "name=%s pid=%d waited_for=%s", name, (int)child->pid,
		    board_trouble_name(trouble_of(child->watchdog.said)));
	child->watchdog.said = verdict;
	atomic_store(&slot->trouble, trouble_of(verdict));
}

static void
stop_hang(const struct crew *crew, const struct child *child,
    const struct vitals *vitals, int64_t age_ms)
{
	char name[24];

	board_slot_name(crew->board, child->slot, name);
	log_error(NULL, "process-hangs",
	    "name=%s pid=%d state=%c silent_ms=%lld hint=\"it is stopped by "
	    "SIGABRT, its trace follows\"",
	    name, (int)child->pid, vitals != NULL ? vitals->state : '?',
	    (long long)age_ms);
	kill(child->pid, SIGABRT);
}

static void
look_at(const struct crew *crew, struct child *child, int64_t now_ms)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	struct watchdog_look look = {
	    .now_ms = now_ms,
	    .beat_ms = atomic_load(&slot->heartbeat_ms),
	    .is_committing = atomic_load(&slot->commit_since_ms) != 0,
	    .start_timeout_ms = child->state == PROCESS_STARTING
				    ? crew->conf->supervisor_start_timeout
				    : 0,
	};
	int64_t age_ms = now_ms - look.beat_ms;
	struct vitals vitals;
	enum watchdog_verdict verdict;

	if (watchdog_is_silent(&child->watchdog, now_ms, look.beat_ms) &&
	    vitals_read(child->pid, &vitals) == 0)
		look.vitals = &vitals;
	verdict = watchdog_look(
	    &child->watchdog, &look, crew->conf->supervisor_watchdog_timeout);
	switch (verdict) {
	case WATCHDOG_FINE:
	case WATCHDOG_DISK:
	case WATCHDOG_STARVED:
	case WATCHDOG_TRACED:
		report(crew, child, verdict, age_ms);
		break;
	case WATCHDOG_ABORT:
		stop_hang(crew, child, look.vitals, age_ms);
		break;
	case WATCHDOG_KILL:
		kill(child->pid, SIGKILL);
		break;
	}
}

/* A process that is stopping has a deadline of its own, see crew.c. */
void
patrol_tick(struct crew *crew, int64_t now_ms)
{
	for (int i = 0; i < crew->child_count; i++) {
		struct child *child = &crew->children[i];

		if (child->state == PROCESS_RUNNING ||
		    child->state == PROCESS_STARTING)
			look_at(crew, child, now_ms);
	}
}

void
patrol_log_trace(const struct crew *crew, const struct child *child)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	char text[TRACE_TEXT_MAX];
	char name[24];
	int signal_number = trace_describe(&slot->trace, (int)child->pid, text);

	atomic_store(&slot->trouble, TROUBLE_NONE);
	if (signal_number == 0)
		return;
	log_warn(NULL, "process-trace",
	    "name=%s pid=%d signal=%d frames=\"%s\"",
	    board_slot_name(crew->board, child->slot, name), (int)child->pid,
	    signal_number, text);
}
