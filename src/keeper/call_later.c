/*
 * call_later.c - what happens to calls without being asked for: time passes,
 * sessions come and go.
 *
 * Role:    deadlines, which lie in the store; sessions that begin or end in a
 *          batch; after a start of the keeper, who is not there any more.
 * Process: keeper, at the end of each batch, in bounded slices.
 * See:     call_work.h, call_table.def; doc/decisions/020.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "keeper/call_work.h"

#define DUE_PER_BATCH   64
#define SWEEP_PER_BATCH 64
/* Of one user, looked at when a session comes or goes. */
#define OPEN_MAX 64

/* ---- sessions ---- */

void
call_note(struct keeper *keeper, enum call_command command, uint64_t user,
    const struct userhead_device *device)
{
	struct batch *batch = &keeper->batch;

	if (device->session == 0)
		return;
	if (batch->call_note_count == batch->call_note_cap) {
		batch->call_note_cap =
		    batch->call_note_cap == 0 ? 64 : batch->call_note_cap * 2;
		batch->call_notes = xrealloc(batch->call_notes,
		    batch->call_note_cap * sizeof(*batch->call_notes));
	}
	batch->call_notes[batch->call_note_count++] = (struct call_note){
	    .command = command,
	    .user = user,
	    .session = device->session,
	    .device = device->number,
	};
}

static int
step_and_store(struct keeper *keeper, const struct call_note *note)
{
	struct call_input input = call_input_now(keeper);
	int rc;

	input.command = note->command;
	input.user = note->user;
	input.session = note->session;
	input.device = note->device;
	rc = call_step(&call_work.call, &input, &call_work.effects);
	if (rc == 0 && call_work.effects.is_changed)
		rc = call_store(keeper, note->session);
	/* refused: it is not this session that has joined */
	return rc == ERR_CONFLICT || rc == ERR_NOT_FOUND ? keeper->txn.rc : rc;
}

struct open_calls {
	uint64_t ids[OPEN_MAX];
	size_t count;
};

static bool
add_joined(void *ctx, uint64_t id, bool is_in)
{
	struct open_calls *open = ctx;

	if (is_in)
		open->ids[open->count++] = id;
	return open->count < OPEN_MAX;
}

static int
apply_note(struct keeper *keeper, const struct call_note *note)
{
	struct open_calls open = {.count = 0};
	int rc;

	rc = call_each_open(&keeper->txn, note->user, add_joined, &open);
	for (size_t i = 0; rc == 0 && i < open.count; i++) {
		rc = call_load(keeper, open.ids[i]);
		if (rc == 0)
			rc = step_and_store(keeper, note);
		else if (keeper_is_lost(keeper, rc))
			rc = 0;
	}
	return rc;
}

/* Only where there are calls at all. */
static int
apply_notes(struct keeper *keeper)
{
	struct batch *batch = &keeper->batch;
	int rc = 0;

	if (batch->call_note_count > 0 &&
	    store_count(&keeper->txn, DBI_usercall) > 0) {
		for (size_t i = 0; rc == 0 && i < batch->call_note_count; i++)
			rc = apply_note(keeper, &batch->call_notes[i]);
	}
	batch->call_note_count = 0;
	return rc;
}

/*
 * Is the session still there with which a participant has joined? Looked at
 * for all open calls when a keeper starts (another boot: nobody is connected)
 * and after a batch that was undone; else sessions say so when they end.
 */
static int
sweep_one(struct keeper *keeper, uint64_t user, uint64_t id)
{
	struct call_note note = {.command = CALL_LOST, .user = user};
	struct userhead_device *device;
	const struct call_part *part;
	struct userhead head;
	int rc;

	rc = call_load(keeper, id);
	part = rc == 0 ? call_find_part(&call_work.call, user) : NULL;
	if (part == NULL || part->state == PART_RINGING)
		return keeper_is_lost(keeper, rc) ? 0 : rc;
	call_work.effects = (struct call_effects){0};
	if (part->state == PART_RECONNECTING) /* perhaps by load() */
		return call_store(keeper, 0);
	note.session = part->session;
	note.device = part->device;
	rc = keeper_session_get(keeper, user, part->session, &head, &device);
	if (rc == 0 && device->boot == keeper->boot)
		return 0;
	return rc == 0 || keeper_is_lost(keeper, rc)
		   ? step_and_store(keeper, &note)
		   : rc;
}

static int
sweep(struct keeper *keeper)
{
	int rc = 0;

	for (int i = 0; rc == 0 && i < SWEEP_PER_BATCH; i++) {
		rc = call_next_open(&keeper->txn, &keeper->call_sweep_user,
		    &keeper->call_sweep_id);
		if (rc == 0) {
			rc = sweep_one(keeper, keeper->call_sweep_user,
			    keeper->call_sweep_id);
			keeper->batch.has_work = true;
		}
	}
	if (rc != ERR_NOT_FOUND)
		return rc;
	keeper->is_call_sweeping = false;
	return 0;
}

/* ---- deadlines ---- */

static int
expire_one(struct keeper *keeper, int64_t due_ms, uint64_t id)
{
	const struct call_input input = call_input_now(keeper);
	int rc;

	keeper->batch.has_work = true;
	rc = call_load(keeper, id);
	if (keeper_is_lost(keeper, rc))
		return call_drop_due(&keeper->txn, due_ms, id);
	if (rc != 0)
		return rc;
	call_expire(&call_work.call, &input, &call_work.effects);
	rc = call_store(keeper, 0);
	/* Whatever the row says, this deadline is dealt with. */
	if (rc == 0 && call_work.call.row.due_ms != due_ms)
		rc = call_drop_due(&keeper->txn, due_ms, id);
	return rc;
}

/* Further ahead than any deadline can be: of another place, or a setting has
 * changed. */
static bool
is_due(const struct keeper *keeper, int64_t due_ms)
{
	const struct conf *conf = keeper->conf;
	int64_t longest_ms =
	    conf->calls_ring_timeout > conf->calls_reconnect_grace
		? conf->calls_ring_timeout
		: conf->calls_reconnect_grace;

	/* that of outcomes that could not be told */
	if (longest_ms < 60000)
		longest_ms = 60000;
	return due_ms <= keeper->age_ms || due_ms > keeper->age_ms + longest_ms;
}

static int
expire(struct keeper *keeper)
{
	int64_t due_ms;
	uint64_t id;
	int rc = 0;

	if (keeper->next_call_ms == 0 || !is_due(keeper, keeper->next_call_ms))
		return 0;
	keeper->next_call_ms = 0;
	/* Who was sent away by a stop may be back only after the next start,
	 * which looks at them all. */
	if (atomic_load(&board_header(keeper->board)->stopping) != 0)
		return 0;
	for (int i = 0; i < DUE_PER_BATCH; i++) {
		rc = call_first_due(&keeper->txn, &due_ms, &id);
		if (rc != 0)
			return rc == ERR_NOT_FOUND ? 0 : rc;
		keeper->next_call_ms = due_ms;
		if (!is_due(keeper, due_ms))
			return 0;
		rc = expire_one(keeper, due_ms, id);
		if (rc != 0)
			return rc;
	}
	keeper->next_call_ms = keeper->age_ms;
	return 0;
}

int
calls_catch_up(struct keeper *keeper)
{
	int rc = apply_notes(keeper);

	if (rc == 0)
		rc = expire(keeper);
	if (rc == 0 && keeper->is_call_sweeping)
		rc = sweep(keeper);
	return rc;
}

int
calls_is_in(struct keeper *keeper, uint64_t user, bool *is_in_out)
{
	return call_is_in_any(&keeper->txn, user, 0, is_in_out);
}
