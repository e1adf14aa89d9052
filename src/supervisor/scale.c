/*
 * scale.c - more or fewer workers while the server runs.
 *
 * Role:    parleyctl scale, and [server] workers at a reload. New workers are
 *          started, those with the highest numbers are drained and not
 *          replaced; the clients of the others notice nothing.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   the number is checked against the room in shared memory.
 * See:     setup_worker_room (the limit), t/66-scale.t.
 */
#include "config.h"

#include "supervisor/scale.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/crew.h"
#include "supervisor/setup.h"

static int
room_of(const struct crew *crew)
{
	return crew->sockets.worker_count;
}

static struct child *
worker_of(struct crew *crew, int worker)
{
	return crew_child(crew, SLOT_WORKER_0 + worker);
}

/* @param like  the first of its kind */
static void
add_slot(struct crew *crew, int slot, int like)
{
	struct child *child = crew_child(crew, slot);

	if (child == NULL) {
		crew_add(crew, crew_child(crew, like)->kind, slot);
		return;
	}
	/* one that is still taking its leave comes back when it has gone */
	child->is_surplus = false;
	child->is_wanted = true;
	policy_clear(&child->policy);
}

static void
add(struct crew *crew, int worker)
{
	add_slot(crew, SLOT_HOLDER_0 + worker, SLOT_HOLDER_0);
	add_slot(crew, SLOT_WORKER_0 + worker, SLOT_WORKER_0);
}

static void
take_away(struct crew *crew, int worker)
{
	struct child *child = worker_of(crew, worker);

	child->is_surplus = true;
	child->is_wanted = false;
	crew_drain(crew, child, clock_mono_ms());
}

static void
scale(struct crew *crew, int workers)
{
	int before = crew->worker_count;

	log_info(NULL, "scale", "workers=%d before=%d", workers, before);
	for (int n = before; n < workers; n++)
		add(crew, n);
	for (int n = before - 1; n >= workers; n--)
		take_away(crew, n);
	scale_begin(crew, workers);
}

void
scale_begin(struct crew *crew, int workers)
{
	crew->worker_count = workers;
	atomic_store(&board_header(crew->board)->workers, (uint32_t)workers);
}

void
scale_obey(struct crew *crew, const char *text, char *reply, size_t reply_len)
{
	char *end;
	long workers = strtol(text, &end, 10);

	if (end == text || *end != '\0' || workers < 1 ||
	    workers > WORKER_MAX) {
		snprintf(reply, reply_len,
		    "error: a number of workers from 1 to %d is needed",
		    WORKER_MAX);
		return;
	}
	if (workers > room_of(crew)) {
		snprintf(reply, reply_len,
		    "error: there is room for %d workers: shared memory is "
		    "laid out at the start, for twice [server] workers and "
		    "for 8 at least; set workers and restart for more",
		    room_of(crew));
		return;
	}
	scale(crew, (int)workers);
	snprintf(reply, reply_len, "ok");
}

int
scale_check(const struct crew *crew, const struct conf *old,
    const struct conf *next, char *error, size_t error_len)
{
	int workers = setup_worker_count(next);

	if (workers == setup_worker_count(old) || workers <= room_of(crew))
		return 0;
	snprintf(error, error_len,
	    "[server] workers: there is room for %d until parleyd is started "
	    "again",
	    room_of(crew));
	log_error(NULL, "reload-refused",
	    "error=\"%s\" hint=\"the old configuration stays\"", error);
	return ERR_BAD_REQUEST;
}

void
scale_reload(struct crew *crew, int before, int after)
{
	if (after != before && after != crew->worker_count)
		scale(crew, after);
}

void
scale_adopt(struct crew *crew, int slot)
{
	int worker = slot - SLOT_WORKER_0;

	if (worker < crew->worker_count || worker >= room_of(crew) ||
	    worker_of(crew, worker) != NULL)
		return;
	crew_add(crew, crew_child(crew, SLOT_HOLDER_0)->kind,
	    SLOT_HOLDER_0 + worker);
	crew_add(crew, worker_of(crew, 0)->kind, slot);
	worker_of(crew, worker)->is_wanted = false;
	worker_of(crew, worker)->is_surplus = true;
}
