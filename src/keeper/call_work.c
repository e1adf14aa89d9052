/*
 * call_work.c - the one call that the keeper is working on.
 *
 * Role:    out of the store, and told and back into it when something has
 *          happened to it; into the outboxes when it has ended.
 * Process: keeper.
 * See:     apply_call.c, call_later.c (who works on it).
 */
#include "keeper/call_work.h"

#include <string.h>

#include "base/count.h"
#include "keeper/call_seats.h"
#include "shm/outbox.h"

struct call_work call_work;

struct call_input
call_input_now(const struct keeper *keeper)
{
	const struct conf *conf = keeper->conf;

	return (struct call_input){
	    .now_ms = keeper->now_ms,
	    .age_ms = keeper->age_ms,
	    .ring_ms = conf->calls_ring_timeout,
	    .grace_ms = conf->calls_reconnect_grace,
	    .rings_busy = conf->calls_ring_when_busy,
	    .parts_max = (uint32_t)conf->calls_max_participants,
	};
}

int
call_load(struct keeper *keeper, uint64_t id)
{
	const struct call_input input = call_input_now(keeper);
	int rc = call_get(&keeper->txn, id, &call_work.call);

	if (rc != 0)
		return rc;
	if (call_work.call.payload.len > 0)
		memcpy(call_work.payload, call_work.call.payload.data,
		    call_work.call.payload.len);
	call_work.call.payload.data = call_work.payload;
	if (call_work.call.row.boot != keeper->boot)
		call_renew(&call_work.call, &input, keeper->boot);
	return 0;
}

/* Whose InCollaboration may look different? */
static void
announce_changes(struct keeper *keeper)
{
	for (uint32_t i = 0; i < call_work.call.row.part_count; i++) {
		const struct call_part *part = &call_work.call.parts[i];

		if (call_was_in(&call_work.call, i) != call_part_is_in(part))
			announce_later(keeper, part->user, false);
	}
}

/* ---- for who is told outside ---- */

static void
put_part(uint8_t *at, const struct call_part *part)
{
	const struct outbox_part out = {
	    .user = part->user,
	    .joined_ms = part->joined_at_ms,
	    .left_ms = part->left_at_ms,
	    .outcome = part->outcome,
	};

	memcpy(at, &out, sizeof(out));
}

/* Participants from first on, as many as one entry holds. */
static int
note_parts(struct keeper *keeper, const struct call *call, uint32_t first)
{
	uint8_t parts[OUTBOX_PARTS_MAX * sizeof(struct outbox_part)];
	uint32_t left = call->row.part_count - first;
	uint32_t count = left < OUTBOX_PARTS_MAX ? left : OUTBOX_PARTS_MAX;
	const struct outbox_entry entry = {
	    .kind = OUTBOX_CALL,
	    .call = {.id = call->id,
		.user = call->parts[0].user,
		.created_ms = call->row.created_ms,
		.ended_ms = call->row.ended_ms,
		.kind = call->row.kind,
		.outcome = call->row.outcome,
		.part_count = (uint8_t)count},
	    .text = {parts, count * sizeof(struct outbox_part)},
	};

	for (uint32_t i = 0; i < count; i++)
		put_part(parts + i * sizeof(struct outbox_part),
		    &call->parts[first + i]);
	return keeper_outbox_put(keeper, &entry);
}

/* Once, with all that will ever be known: nobody joins what has ended. */
static int
note_end(struct keeper *keeper, const struct call *call)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < call->row.part_count;
	     i += OUTBOX_PARTS_MAX)
		rc = note_parts(keeper, call, i);
	return rc;
}

int
call_store(struct keeper *keeper, uint64_t except)
{
	int64_t due_ms;
	int rc;

	rc = call_tell(keeper, &call_work.call, &call_work.effects, except);
	if (rc == 0)
		rc = call_tell_outcomes(keeper, &call_work.call);
	announce_changes(keeper);
	if (rc == 0)
		rc = call_seats_follow(keeper, &call_work.call);
	if (rc == 0)
		rc = call_put(&keeper->txn, &call_work.call);
	if (rc == 0 && call_work.effects.is_ended)
		rc = note_end(keeper, &call_work.call);
	due_ms = call_work.call.row.due_ms;
	if (due_ms != 0 &&
	    (keeper->next_call_ms == 0 || due_ms < keeper->next_call_ms))
		keeper->next_call_ms = due_ms;
	if (call_work.effects.is_ended)
		keeper->batch.calls_ended++;
	return rc;
}
