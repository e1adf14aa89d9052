/*
 * call_machine.c - the states of a call.
 *
 * Role:    looks up what a command means in call_table.def and does it to the
 *          call in memory; says what has happened to whom.
 * Process: keeper. Pure: all that it needs to know is in struct call_input.
 * Blocks:  never.
 * Trust:   the caller has checked users, guests and sessions.
 * See:     call_machine.h, apply_call.c (who asks), t/unit/call_machine.c
 *          (every state, command and role), t/unit/call_random.c.
 */
#include "keeper/call_machine.h"

#include <string.h>

struct move {
	struct call *call;
	struct call_part *part;
	const struct call_input *input;
	struct call_effects *effects;
};

typedef int (*step_fn)(struct move *move);

enum call_role { CREATOR = 1, PEER = 2, GUEST = 4 };

enum call_where { ANY, HERE };

/* ---- the only writers of states ---- */

static void
set_part(struct move *move, struct call_part *part, enum part_state state,
    enum call_event event)
{
	part->state = (uint8_t)state;
	part->deadline_ms = 0;
	if (state == PART_RINGING)
		part->deadline_ms = move->input->age_ms + move->input->ring_ms;
	if (state == PART_RECONNECTING)
		part->deadline_ms = move->input->age_ms + move->input->grace_ms;
	if (event != CALL_EVENT_NONE)
		move->effects->events[part - move->call->parts] =
		    (uint8_t)event;
	move->effects->is_changed = true;
}

/* Who has been in it once has answered, whatever follows. */
static void
set_outcome(struct call_part *part, enum call_outcome outcome)
{
	if (part->outcome != CALL_OUTCOME_ANSWERED)
		part->outcome = (uint8_t)outcome;
}

static void
set_in(struct move *move, enum call_event event)
{
	struct call_part *part = move->part;

	set_part(move, part, PART_JOINED, event);
	part->session = move->input->session;
	part->device = move->input->device;
	part->left_at_ms = 0;
	if (part->joined_at_ms == 0)
		part->joined_at_ms = move->input->now_ms;
}

static void
set_out(struct move *move, struct call_part *part, enum call_event event)
{
	set_part(move, part, PART_LEFT, event);
	part->left_at_ms = move->input->now_ms;
}

/* ---- the end of a call ---- */

/* @param outcome  of a call that nobody has answered */
static void
end_call(struct move *move, enum call_outcome outcome)
{
	struct call *call = move->call;
	bool was_answered = call->row.answered_ms != 0;

	call->row.state = CALL_ENDED;
	call->row.ended_ms = move->input->now_ms;
	call->row.outcome =
	    (uint8_t)(was_answered ? CALL_OUTCOME_ANSWERED : outcome);
	for (uint32_t i = 0; i < call->row.part_count; i++) {
		struct call_part *part = &call->parts[i];

		if (call_part_is_in(part)) {
			set_out(move, part, CALL_EVENT_NONE);
			set_outcome(part, call->row.outcome);
		} else if (part->state == PART_RINGING) {
			set_part(move, part, PART_CANCELLED, CALL_EVENT_NONE);
			set_outcome(part,
			    was_answered ? CALL_OUTCOME_CANCELLED : outcome);
		}
	}
	if (call->parts[0].outcome == CALL_OUTCOME_NONE)
		set_outcome(&call->parts[0], call->row.outcome);
	move->effects->is_ended = true;
	move->effects->cause = move->part == NULL ? 0 : move->part->user;
}

/* Is anybody left to talk to? */
static void
settle(struct move *move)
{
	const struct call *call = move->call;
	uint32_t in = 0;
	uint32_t ringing = 0;
	bool was_rejected = false;

	if (call->row.state == CALL_ENDED)
		return;
	for (uint32_t i = 0; i < call->row.part_count; i++) {
		const struct call_part *part = &call->parts[i];

		in += call_part_is_in(part);
		ringing += part->state == PART_RINGING;
		was_rejected |= part->outcome == CALL_OUTCOME_REJECTED;
	}
	if (in == 0 || (in == 1 && ringing == 0))
		end_call(move,
		    was_rejected ? CALL_OUTCOME_REJECTED : CALL_OUTCOME_MISSED);
}

/* ---- steps ---- */

static int
step_again(struct move *move)
{
	(void)move;
	return 0;
}

static int
step_answer(struct move *move)
{
	struct call_row *row = &move->call->row;

	set_in(move, CALL_EVENT_ACCEPTED);
	row->state = CALL_ACTIVE;
	if (row->answered_ms == 0)
		row->answered_ms = move->input->now_ms;
	return 0;
}

static int
step_enter(struct move *move)
{
	set_in(move, CALL_EVENT_JOINED);
	return 0;
}

static int
step_rejoin(struct move *move)
{
	set_in(move, CALL_EVENT_REJOINED);
	return 0;
}

static int
step_reject(struct move *move)
{
	set_part(move, move->part, PART_REJECTED, CALL_EVENT_REJECTED);
	set_outcome(move->part, CALL_OUTCOME_REJECTED);
	move->part->device = move->input->device;
	return 0;
}

static int
step_cancel(struct move *move)
{
	set_part(move, move->part, PART_CANCELLED, CALL_EVENT_CANCELLED);
	end_call(move, CALL_OUTCOME_CANCELLED);
	return 0;
}

/* Who calls has been lost before anybody has answered. */
static int
step_fail(struct move *move)
{
	set_out(move, move->part, CALL_EVENT_LEFT);
	end_call(move, CALL_OUTCOME_FAILED);
	return 0;
}

static int
step_leave(struct move *move)
{
	set_out(move, move->part, CALL_EVENT_LEFT);
	set_outcome(move->part, CALL_OUTCOME_ANSWERED);
	return 0;
}

static int
step_end(struct move *move)
{
	end_call(move, CALL_OUTCOME_ANSWERED);
	return 0;
}

static int
step_miss(struct move *move)
{
	set_part(move, move->part, PART_MISSED, CALL_EVENT_MISSED);
	set_outcome(move->part, CALL_OUTCOME_MISSED);
	return 0;
}

static int
step_lose(struct move *move)
{
	set_part(move, move->part, PART_RECONNECTING, CALL_EVENT_RECONNECTING);
	return 0;
}

static void
ring(struct move *move, struct call_part *part, bool is_busy)
{
	part->invited_by = move->input->user;
	part->flags &= (uint8_t)~CALL_PART_BUSY;
	if (is_busy)
		part->flags |= CALL_PART_BUSY;
	if (is_busy && !move->input->rings_busy) {
		set_part(move, part, PART_BUSY, CALL_EVENT_NONE);
		set_outcome(part, CALL_OUTCOME_MISSED);
	} else {
		set_part(move, part, PART_RINGING, CALL_EVENT_INVITED);
	}
}

static int
step_invite(struct move *move)
{
	const struct call_input *input = move->input;
	struct call *call = move->call;
	size_t new_count = 0;

	for (size_t i = 0; i < input->guest_count; i++)
		new_count +=
		    call_find_part(call, input->guests[i].user) == NULL;
	if (new_count + call->row.part_count > input->parts_max)
		return ERR_TOO_LARGE;
	for (size_t i = 0; i < input->guest_count; i++) {
		const struct call_guest *guest = &input->guests[i];
		struct call_part *part = call_find_part(call, guest->user);

		if (part == NULL) {
			part = &call->parts[call->row.part_count++];
			*part = (struct call_part){.user = guest->user};
		} else if (part->state == PART_RINGING ||
			   call_part_is_in(part)) {
			continue;
		}
		ring(move, part, guest->is_busy);
	}
	return 0;
}

/* ---- the table ---- */

static const uint8_t command_roles[CALL_COMMAND_END] = {
#define CALL_COMMAND(command, roles) [CALL_##command] = roles,
#define CALL_RULE(command, call, part, where, step)
#include "keeper/call_table.def"
#undef CALL_COMMAND
#undef CALL_RULE
};

static const struct {
	uint8_t command;
	uint8_t call;
	uint8_t part;
	uint8_t where;
	step_fn step;
} rules[] = {
#define CALL_COMMAND(command, roles)
#define CALL_RULE(command, call, part, where, step)                            \
	{CALL_##command, CALL_##call, PART_##part, where, step_##step},
#include "keeper/call_table.def"
#undef CALL_COMMAND
#undef CALL_RULE
};

static enum call_role
role_of(const struct call *call, const struct call_part *part)
{
	if (part == &call->parts[0])
		return CREATOR;
	return call->row.part_count == 2 ? PEER : GUEST;
}

static step_fn
find_rule(const struct call *call, const struct call_part *part,
    enum call_command command, bool is_here)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (rules[i].command == command &&
		    rules[i].call == call->row.state &&
		    rules[i].part == part->state &&
		    (rules[i].where == ANY || is_here))
			return rules[i].step;
	}
	return NULL;
}

int
call_step(struct call *call, const struct call_input *input,
    struct call_effects *effects)
{
	struct move move = {.call = call, .input = input, .effects = effects};
	bool is_here;
	step_fn step;
	int rc;

	*effects = (struct call_effects){0};
	move.part = call_find_part(call, input->user);
	if (move.part == NULL)
		return ERR_NOT_FOUND;
	if ((command_roles[input->command] & role_of(call, move.part)) == 0)
		return ERR_FORBIDDEN;
	is_here = move.part->device == input->device;
	/* The end of another session than the one that has joined. */
	if ((input->command == CALL_LOST || input->command == CALL_QUIT) &&
	    move.part->session != input->session)
		is_here = false;
	step = find_rule(call, move.part, input->command, is_here);
	if (step == NULL)
		return ERR_CONFLICT;
	rc = step(&move);
	if (rc == 0 && effects->is_changed)
		settle(&move);
	return rc;
}

void
call_begin(struct call *call, enum call_kind kind,
    const struct call_input *input, struct call_effects *effects)
{
	struct move move = {.call = call, .input = input, .effects = effects};

	*effects = (struct call_effects){0};
	call->row.kind = (uint8_t)kind;
	call->row.state = CALL_RINGING;
	call->row.created_ms = input->now_ms;
	call->row.part_count = 1;
	move.part = &call->parts[0];
	move.part->user = input->user;
	set_in(&move, CALL_EVENT_NONE);
	for (size_t i = 0; i < input->guest_count; i++) {
		struct call_part *part = &call->parts[call->row.part_count++];

		part->user = input->guests[i].user;
		ring(&move, part, input->guests[i].is_busy);
	}
	settle(&move);
}

static bool
is_due(const struct call_part *part, const struct call_input *input)
{
	int64_t longest_ms =
	    part->state == PART_RINGING ? input->ring_ms : input->grace_ms;

	return part->deadline_ms != 0 &&
	       (part->deadline_ms <= input->age_ms ||
		   part->deadline_ms > input->age_ms + longest_ms);
}

void
call_expire(struct call *call, const struct call_input *input,
    struct call_effects *effects)
{
	struct move move = {.call = call, .input = input, .effects = effects};

	*effects = (struct call_effects){0};
	for (uint32_t i = 0; i < call->row.part_count; i++) {
		struct call_part *part = &call->parts[i];
		step_fn step;

		if (call->row.state == CALL_ENDED || !is_due(part, input))
			continue;
		step = find_rule(call, part,
		    part->state == PART_RINGING ? CALL_RING_OVER
						: CALL_GRACE_OVER,
		    false);
		move.part = part;
		/* Only what waits has a deadline: there is a rule. */
		part->deadline_ms = 0;
		if (step != NULL && step(&move) == 0)
			settle(&move);
	}
}

void
call_renew(struct call *call, const struct call_input *input, uint32_t boot)
{
	struct call_effects effects;
	struct move move = {.call = call, .input = input, .effects = &effects};

	if (call->row.state == CALL_ENDED)
		return;
	call->row.boot = boot;
	for (uint32_t i = 0; i < call->row.part_count; i++) {
		if (call_part_is_in(&call->parts[i]))
			set_part(&move, &call->parts[i], PART_RECONNECTING,
			    CALL_EVENT_NONE);
	}
}
