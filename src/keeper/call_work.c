/*
 * call_work.c - the one call that the keeper is working on.
 *
 * Role:    out of the store, and told and back into it when something has
 *          happened to it.
 * Process: keeper.
 * See:     apply_call.c, call_later.c (who works on it).
 */
#include "keeper/call_work.h"

#include <string.h>

#include "base/count.h"
#include "keeper/call_seats.h"

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
	due_ms = call_work.call.row.due_ms;
	if (due_ms != 0 &&
	    (keeper->next_call_ms == 0 || due_ms < keeper->next_call_ms))
		keeper->next_call_ms = due_ms;
	if (call_work.effects.is_ended)
		keeper->batch.calls_ended++;
	return rc;
}
