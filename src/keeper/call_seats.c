/*
 * call_seats.c - who sees which part of what is said in a call.
 *
 * Role:    from the first message in a call on, a row for each who is in it or
 *          has been since, with the times between which he sees what is said.
 * Process: keeper, within a batch.
 * Trust:   a row that is damaged must not hold up a call, whose end may hang
 *          on a deadline: who comes gets a new one, who leaves sees nothing.
 * See:     shm/group.h (the rows), shm/roll.h, doc/decisions/027.
 */
#include "keeper/call_seats.h"

#include "shm/call.h"
#include "shm/group.h"

/* Of everybody who comes or leaves in one step. */
struct seating {
	struct keeper *keeper;
	uint64_t call;
	uint64_t at;    /* id between what was said before and after */
	uint32_t count; /* messages before it */
};

/* @return the store's error; damage is none as long as it can be read */
static int
get_seat(const struct seating *seating, uint64_t user, struct member *out)
{
	struct txn *txn = &seating->keeper->txn;
	int rc = member_get(txn, seating->call, user, out);

	if (rc == ERR_NOT_FOUND || (rc == ERR_CORRUPT && txn->rc == 0)) {
		*out = (struct member){.group = seating->call, .user = user};
		rc = 0;
	}
	return rc;
}

static int
change_seat(const struct seating *seating, uint64_t user, bool is_in)
{
	struct txn *txn = &seating->keeper->txn;
	struct member member;
	int rc;

	rc = get_seat(seating, user, &member);
	if (rc != 0 || member_is_in(&member) == is_in)
		return rc;
	if (is_in)
		member_join(&member, ROLE_MEMBER, seating->at, seating->count);
	else
		member_leave(&member, seating->at, seating->count);
	return member_put_new(txn, CONV_COLLABORATION, &member);
}

int
call_seats_make(struct keeper *keeper, const struct conv_key *key)
{
	struct seating seating = {
	    .keeper = keeper,
	    .call = conv_key_id(key),
	    .at = keeper_next_id(keeper),
	};
	struct call call;
	int rc = call_get(&keeper->txn, seating.call, &call);

	for (uint32_t i = 0; rc == 0 && i < call.row.part_count; i++) {
		if (call_part_is_in(&call.parts[i]))
			rc = change_seat(&seating, call.parts[i].user, true);
	}
	return rc;
}

static bool
has_changed(const struct call *call, uint32_t part)
{
	return call_was_in(call, part) != call_part_is_in(&call->parts[part]);
}

int
call_seats_follow(struct keeper *keeper, const struct call *call)
{
	struct seating seating = {.keeper = keeper, .call = call->id};
	struct conv_key key;
	struct conv conv;
	uint32_t first = 0;
	int rc;

	while (first < call->row.part_count && !has_changed(call, first))
		first++;
	if (!call->is_stored || first == call->row.part_count)
		return 0;
	conv_key_of(CONV_COLLABORATION, call->id, &key);
	rc = conv_get(&keeper->txn, &key, &conv);
	if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
		return keeper->txn.rc;
	seating.at = keeper_next_id(keeper);
	seating.count = conv.count;
	for (uint32_t i = first; rc == 0 && i < call->row.part_count; i++) {
		if (has_changed(call, i))
			rc = change_seat(&seating, call->parts[i].user,
			    call_part_is_in(&call->parts[i]));
	}
	return rc;
}
