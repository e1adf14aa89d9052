/*
 * crew_orders.c - what the supervisor's children are told.
 *
 * Role:    stop, drain, restart, hold back: signals and their deadlines.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   of the children only wait(2) is believed.
 * See:     crew.c (what becomes of them).
 */
#include "config.h"

#include <signal.h>

#include "supervisor/crew_priv.h"

#define STOP_MARGIN_MS 2000 /* beyond the child's own time for a stop */
#define HURRY_MS       1000

/* The time for a stop begins now. */
static void
set_deadline(const struct crew *crew, struct child *child, int64_t now_ms)
{
	child->kill_at_ms =
	    now_ms + crew->conf->server_shutdown_timeout + STOP_MARGIN_MS;
}

/* A worker with a successor leaves its connections to it. */
static void
tell_stop(const struct crew *crew, const struct child *child, int signal_number)
{
	atomic_store(&board_slot(crew->board, child->slot)->successor,
	    child->is_wanted ? 1 : 0);
	kill(child->pid, signal_number);
}

void
crew_stop(struct crew *crew, struct child *child, int64_t now_ms)
{
	switch (child->state) {
	case PROCESS_STARTING:
	case PROCESS_RUNNING:
		tell_stop(crew, child, SIGTERM);
		set_deadline(crew, child, now_ms);
		child->is_draining = false;
		crew_set_state(crew, child, PROCESS_STOPPING);
		break;
	case PROCESS_STOPPING:
		if (!child->is_draining)
			break;
		tell_stop(crew, child, SIGTERM); /* haste now */
		set_deadline(crew, child, now_ms);
		child->is_draining = false;
		break;
	case PROCESS_BACKOFF:
	case PROCESS_ERRORED:
		crew_set_state(crew, child, PROCESS_DEAD);
		break;
	case PROCESS_DEAD:
		break;
	}
}

/* Does another worker take the clients? */
static bool
has_other_worker(const struct crew *crew, const struct child *child)
{
	for (int i = 0; i < crew->child_count; i++) {
		const struct child *other = &crew->children[i];

		if (other != child && slot_is_worker(other->slot) &&
		    other->state == PROCESS_RUNNING)
			return true;
	}
	return false;
}

void
crew_drain(struct crew *crew, struct child *child, int64_t now_ms)
{
	if (!slot_is_worker(child->slot) || child->state != PROCESS_RUNNING ||
	    !has_other_worker(crew, child)) {
		crew_stop(crew, child, now_ms);
		return;
	}
	/* Ours first: the worker takes who waits there and closes the last. */
	sockets_close_worker(&crew->sockets, child->slot - SLOT_WORKER_0);
	tell_stop(crew, child, SIGUSR2);
	set_deadline(crew, child, now_ms + crew->conf->server_drain_window);
	child->is_draining = true;
	crew_set_state(crew, child, PROCESS_STOPPING);
}

void
crew_hurry(struct crew *crew, int64_t now_ms)
{
	for (int i = 0; i < crew->child_count; i++) {
		struct child *child = &crew->children[i];

		if (child->state != PROCESS_STOPPING || child->kill_at_ms == 0)
			continue;
		kill(child->pid, SIGTERM);
		if (child->kill_at_ms > now_ms + HURRY_MS)
			child->kill_at_ms = now_ms + HURRY_MS;
	}
}

void
crew_hold_back(struct crew *crew, struct child *child)
{
	crew_set_state(crew, child, PROCESS_ERRORED);
}

void
crew_restart(struct crew *crew, struct child *child, int64_t now_ms)
{
	policy_clear(&child->policy);
	crew_stop(crew, child, now_ms);
}

void
crew_signal(const struct crew *crew, int signal_number)
{
	for (int i = 0; i < crew->child_count; i++) {
		if (crew_is_alive(&crew->children[i]))
			kill(crew->children[i].pid, signal_number);
	}
}
