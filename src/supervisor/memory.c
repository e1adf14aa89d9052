/*
 * memory.c - replaces a process whose memory stays above its limit.
 *
 * Role:    [supervisor] max_memory_restart_*. A peak is no leak: only what
 *          stays above for POLICY_LOOKS looks is replaced, drained first.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   figures are the kernel's, see vitals.c.
 * See:     t/unit/supervisor_policy.c, t/66-policy.t.
 */
#include "config.h"

#include "supervisor/memory.h"

#include "base/log.h"
#include "supervisor/crew.h"
#include "supervisor/vitals.h"

/*
 * A limit below what a process needs to serve would replace it without end:
 * so seldom that the clients can live with it, and with a word to the operator.
 */
#define REST_MS (60 * INT64_C(1000))
#define LOOK_MS 2000

static int64_t
limit_of(const struct conf *conf, int slot)
{
	if (slot_is_worker(slot))
		return conf->supervisor_max_memory_restart_worker;
	switch (slot) {
	case SLOT_KEEPER:
		return conf->supervisor_max_memory_restart_keeper;
	case SLOT_DIRECTORY:
		return conf->supervisor_max_memory_restart_directory;
	case SLOT_CONSOLE:
		return conf->supervisor_max_memory_restart_console;
	default:
		return 0;
	}
}

static void
replace(struct crew *crew, struct child *child, int64_t now_ms)
{
	int64_t lived_ms = now_ms - child->started_at_ms;
	char name[24];

	board_slot_name(crew->board, child->slot, name);
	log_warn(NULL, "memory-restart",
	    "name=%s pid=%d bytes=%lld max_bytes=%lld lived_ms=%lld%s", name,
	    (int)child->pid, (long long)child->memory.peak_bytes,
	    (long long)limit_of(crew->conf, child->slot), (long long)lived_ms,
	    lived_ms < 2 * REST_MS
		? " hint=\"max_memory_restart is less than it needs\""
		: "");
	child->memory = (struct memory_watch){0};
	child->memory_rest_ms = now_ms + REST_MS;
	crew_drain(crew, child, now_ms);
}

void
memory_tick(struct crew *crew, int64_t now_ms, bool may_replace)
{
	struct child *chosen = NULL;

	if (now_ms < crew->memory_look_at_ms)
		return;
	crew->memory_look_at_ms = now_ms + LOOK_MS;
	for (int i = 0; i < crew->child_count; i++) {
		struct child *child = &crew->children[i];
		int64_t max_bytes = limit_of(crew->conf, child->slot);

		if (max_bytes == 0 || child->state != PROCESS_RUNNING) {
			child->memory = (struct memory_watch){0};
			continue;
		}
		if (policy_memory_look(&child->memory,
			vitals_private_bytes(child->pid), max_bytes) &&
		    now_ms >= child->memory_rest_ms &&
		    (chosen == NULL ||
			child->memory.peak_bytes > chosen->memory.peak_bytes))
			chosen = child;
	}
	if (chosen != NULL && may_replace && !crew_is_moving(crew))
		replace(crew, chosen, now_ms);
}
