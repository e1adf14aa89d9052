/*
 * call_json.c - calls as JSON.
 *
 * Role:    see call_json.h.
 * Process: keeper, workers. Pure.
 * Blocks:  never.
 * Trust:   the call has been read by call_get, which has checked it; its
 *          payload was written by a worker from what it had parsed.
 */
#include "shm/call_json.h"

#include <stdio.h>

#include "base/json.h"

/* With the longest numbers and names; a name of 128 bytes may become six times
 * as long as an escape. */
#define PART_JSON_MAX 160
#define CALL_JSON_MAX 1400

static void
put_time(struct buf *buf, const char *key, int64_t at_ms)
{
	if (at_ms != 0)
		json_put_i64(buf, key, at_ms);
}

static void
put_part(struct buf *buf, const struct call_part *part, bool is_past)
{
	char session[24];

	json_object_begin(buf);
	json_put_u64(buf, "UserId", part->user);
	json_put_text(
	    buf, "State", part_state_name((enum part_state)part->state));
	if ((part->flags & CALL_PART_BUSY) != 0)
		json_put_bool(buf, "Busy", true);
	if (!is_past && part->state == PART_JOINED) {
		snprintf(session, sizeof(session), "%016llx",
		    (unsigned long long)part->session);
		json_put_text(buf, "SessionId", session);
	}
	if (is_past) {
		if (part->outcome != CALL_OUTCOME_NONE)
			json_put_text(buf, "Outcome",
			    call_outcome_name(
				(enum call_outcome)part->outcome));
		put_time(buf, "JoinedAt", part->joined_at_ms);
		put_time(buf, "LeftAt", part->left_at_ms);
	}
	json_object_end(buf);
}

static void
put_call(struct buf *buf, const struct call *call, const struct blob *name,
    bool is_past)
{
	const struct call_row *row = &call->row;

	json_put_id(buf, "CollaborationId", call->id);
	json_put_text(buf, "Kind", call_kind_name((enum call_kind)row->kind));
	json_put_text(
	    buf, "State", call_state_name((enum call_state)row->state));
	json_key(buf, "FromUser");
	json_object_begin(buf);
	json_put_u64(buf, "UserId", call->parts[0].user);
	json_put_string(buf, "Name", name->data, name->len);
	json_object_end(buf);
	json_put_i64(buf, "CreatedAt", row->created_ms);
	put_time(buf, "AnsweredAt", row->answered_ms);
	put_time(buf, "EndedAt", row->ended_ms);
	json_key(buf, "Participants");
	json_array_begin(buf);
	for (uint32_t i = 0; i < row->part_count; i++)
		put_part(buf, &call->parts[i], is_past);
	json_array_end(buf);
}

void
call_json_now(struct buf *buf, const struct call *call, const struct blob *name)
{
	put_call(buf, call, name, false);
}

void
call_json_past(struct buf *buf, const struct call *call,
    const struct blob *name, enum call_outcome outcome)
{
	const struct call_row *row = &call->row;

	put_call(buf, call, name, true);
	json_put_text(buf, "Outcome", call_outcome_name(outcome));
	/* the wall clock may have been set back meanwhile */
	if (row->answered_ms != 0 && row->ended_ms != 0)
		json_put_i64(buf, "Duration",
		    row->ended_ms > row->answered_ms
			? row->ended_ms - row->answered_ms
			: 0);
}

void
call_json_payload(struct buf *buf, const struct call *call)
{
	if (call->payload.len > 0)
		json_put_raw(
		    buf, "Payload", call->payload.data, call->payload.len);
}

size_t
call_json_max(uint32_t parts)
{
	return CALL_JSON_MAX + parts * (size_t)PART_JSON_MAX;
}
