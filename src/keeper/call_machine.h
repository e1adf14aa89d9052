/*
 * call_machine.h - the states of a call: pure, without store, clock or ring.
 *
 * Every state ends by itself: who rings or is lost has a deadline, and a call
 * without one has two who are connected. doc/decisions/020.
 */
#ifndef KEEPER_CALL_MACHINE_H
#define KEEPER_CALL_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/call.h"

enum call_command {
#define CALL_COMMAND(command, roles) CALL_##command,
#define CALL_RULE(command, call, part, where, step)
#include "keeper/call_table.def"
#undef CALL_COMMAND
#undef CALL_RULE
	CALL_COMMAND_END
};

struct call_guest {
	uint64_t user;
	bool is_busy;
};

struct call_input {
	enum call_command command;
	uint64_t user;
	uint64_t session;
	uint32_t device;
	int64_t now_ms;   /* wall clock */
	int64_t age_ms;   /* time in the store */
	int64_t ring_ms;  /* [calls] ring_timeout */
	int64_t grace_ms; /* [calls] reconnect_grace */
	bool rings_busy;  /* [calls] ring_when_busy */
	uint32_t parts_max;
	const struct call_guest *guests; /* INVITE and call_begin; each user
					    once, none the inviter */
	size_t guest_count;
};

struct call_effects {
	uint8_t events[CALL_PARTS_MAX]; /* enum call_event, of each part */
	uint64_t cause; /* user by whom the call has ended; 0: nobody */
	bool is_changed;
	bool is_ended; /* by this step */
};

/** A new call (zeroed): who makes it has joined, the guests ring. Where all
 *  of them are busy and do not, it ends at once. */
void call_begin(struct call *call, enum call_kind kind,
    const struct call_input *input, struct call_effects *effects);
/**
 * One command of one participant.
 *
 * @return  0 (also where it was done before); ERR_NOT_FOUND: no participant;
 *          ERR_FORBIDDEN: not for its role; ERR_CONFLICT: not in the present
 *          state; ERR_TOO_LARGE: more guests than a call may have
 */
NODISCARD int call_step(struct call *call, const struct call_input *input,
    struct call_effects *effects);
/** Deadlines that have passed, or lie further ahead than any can. Only the
 *  times of input count. */
void call_expire(struct call *call, const struct call_input *input,
    struct call_effects *effects);
/** The server has started anew: nobody is connected, and each participant has
 *  the whole grace to come back. */
void call_renew(
    struct call *call, const struct call_input *input, uint32_t boot);

#endif
