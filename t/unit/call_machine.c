/*
 * call_machine.c - unit test of keeper/call_machine.c: every command in every
 * state of the call and of the participant, for every role and device, against
 * a table that is written down here once more.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "keeper/call_machine.h"

#define DEVICE  7
#define SESSION 70

/* Columns: RINGING JOINED RECONNECTING REJECTED LEFT MISSED BUSY CANCELLED.
 * '.' CONFLICT; 'o' OK, nothing changes; a letter: what the participant is
 * then: J, R(econnecting), X rejected, L, M, C. */
#define NONE "........"

struct expected {
	enum call_command command;
	const char *here[CALL_STATE_END];  /* RINGING, ACTIVE, ENDED */
	const char *other[CALL_STATE_END]; /* from another device */
};

static const struct expected table[] = {
    {CALL_ACCEPT, {"JoJ.....", "JoJ.J...", NONE},
	{"J.J.....", "J.J.J...", NONE}},
    {CALL_CANCEL, {".C......", NONE, ".......o"}, {NONE, NONE, NONE}},
    {CALL_END, {".C......", ".L......", "....o..o"}, {NONE, NONE, NONE}},
    {CALL_INVITE, {".J......", ".J......", NONE}, {NONE, NONE, NONE}},
    {CALL_LEAVE, {".C......", ".L..o...", "....o..o"}, {NONE, NONE, NONE}},
    {CALL_REJECT, {"X..o....", "X..o....", "...o...."},
	{"X.......", "X.......", NONE}},
    {CALL_BACK, {".JJ.....", ".JJ.....", NONE}, {NONE, NONE, NONE}},
    {CALL_GRACE_OVER, {"..L.....", "..L.....", NONE},
	{"..L.....", "..L.....", NONE}},
    {CALL_LOST, {".R......", ".R......", NONE}, {NONE, NONE, NONE}},
    {CALL_QUIT, {".C......", ".L......", NONE}, {NONE, NONE, NONE}},
    {CALL_RING_OVER, {"M.......", "M.......", NONE},
	{"M.......", "M.......", NONE}},
};

static const char letters[PART_STATE_END] = {
    [PART_RINGING] = 'I',
    [PART_JOINED] = 'J',
    [PART_RECONNECTING] = 'R',
    [PART_REJECTED] = 'X',
    [PART_LEFT] = 'L',
    [PART_MISSED] = 'M',
    [PART_BUSY] = 'B',
    [PART_CANCELLED] = 'C',
};

enum role { TEST_CREATOR, TEST_PEER, TEST_GUEST, TEST_STRANGER, TEST_END };

static bool
may(enum role role, enum call_command command)
{
	if (command == CALL_CANCEL)
		return role == TEST_CREATOR;
	if (command == CALL_END)
		return role != TEST_GUEST;
	return true;
}

/* Part number `who` in the given state; two others keep the call alive. */
static void
make_call(struct call *call, enum role role, enum call_state state,
    enum part_state part)
{
	uint32_t who = role == TEST_CREATOR ? 0 : 1;

	memset(call, 0, sizeof(*call));
	call->row.state = (uint8_t)state;
	call->row.part_count = role == TEST_PEER ? 2 : 4;
	call->row.answered_ms = state == CALL_ACTIVE ? 500 : 0;
	for (uint32_t i = 0; i < call->row.part_count; i++)
		call->parts[i] = (struct call_part){
		    .user = 10 + i,
		    .device = 1,
		    .session = 100 + i,
		    .state = i == 0 || i == 3 ? PART_JOINED : PART_RINGING,
		};
	call->parts[who].state = (uint8_t)part;
	call->parts[who].device = DEVICE;
	call->parts[who].session = SESSION;
}

static void
check_one(const struct expected *row, enum role role, enum call_state state,
    enum part_state before, bool is_here)
{
	char wanted = (is_here ? row->here : row->other)[state][before];
	uint32_t who = role == TEST_CREATOR ? 0 : 1;
	const struct call_guest guest = {.user = 99};
	struct call_input input = {
	    .command = row->command,
	    .user = role == TEST_STRANGER ? 55 : 10 + who,
	    .device = is_here ? DEVICE : DEVICE + 1,
	    .session = is_here ? SESSION : SESSION + 1,
	    .now_ms = 1000,
	    .age_ms = 2000,
	    .ring_ms = 45,
	    .grace_ms = 30,
	    .parts_max = CALL_PARTS_MAX,
	    .guests = &guest,
	    .guest_count = 1,
	};
	struct call_effects effects;
	static struct call call;
	static struct call was;
	int rc;

	make_call(&call, role, state, before);
	was = call;
	rc = call_step(&call, &input, &effects);
	if (role == TEST_STRANGER) {
		assert_int_equal(rc, ERR_NOT_FOUND);
	} else if (!may(role, row->command)) {
		assert_int_equal(rc, ERR_FORBIDDEN);
	} else if (wanted == '.') {
		assert_int_equal(rc, ERR_CONFLICT);
	} else {
		assert_int_equal(rc, 0);
		if (wanted != 'o') {
			assert_int_equal(
			    letters[call.parts[who].state], wanted);
			assert_true(effects.is_changed);
			return;
		}
	}
	assert_false(effects.is_changed);
	assert_false(effects.is_ended);
	assert_memory_equal(&call, &was, sizeof(call));
}

static void
every_state_command_and_role(void **state)
{
	const size_t rows = sizeof(table) / sizeof(table[0]);
	size_t count = 0;

	(void)state;
	assert_int_equal(rows, CALL_COMMAND_END);
	for (size_t i = 0; i < rows; i++) {
		for (int call = 0; call < CALL_STATE_END; call++) {
			for (int part = 0; part < PART_STATE_END; part++) {
				for (int role = 0; role < TEST_END; role++) {
					check_one(&table[i], (enum role)role,
					    (enum call_state)call,
					    (enum part_state)part, true);
					check_one(&table[i], (enum role)role,
					    (enum call_state)call,
					    (enum part_state)part, false);
					count += 2;
				}
			}
		}
	}
	assert_int_equal(count, 11 * 3 * 8 * 4 * 2);
}

/* ---- what a call comes to ---- */

static struct call the_call;
static struct call_effects effects;
static int64_t age_ms;

static void
begin(size_t guests, bool is_busy, bool rings_busy)
{
	struct call_guest list[4];
	struct call_input input = {
	    .user = 1,
	    .device = 1,
	    .session = 11,
	    .now_ms = 1000,
	    .age_ms = 0,
	    .ring_ms = 45,
	    .grace_ms = 30,
	    .rings_busy = rings_busy,
	    .guests = list,
	    .guest_count = guests,
	};

	age_ms = 0;
	memset(&the_call, 0, sizeof(the_call));
	for (size_t i = 0; i < guests; i++)
		list[i] = (struct call_guest){2 + i, is_busy};
	call_begin(&the_call, CALL_VIDEO, &input, &effects);
}

/* User n has device n and session 11 * n. */
static int
step(uint64_t user, enum call_command command)
{
	const struct call_guest guest = {.user = 9};
	struct call_input input = {
	    .command = command,
	    .user = user,
	    .device = (uint32_t)user,
	    .session = 11 * user,
	    .now_ms = 1000 + age_ms,
	    .age_ms = age_ms,
	    .ring_ms = 45,
	    .grace_ms = 30,
	    .parts_max = 4,
	    .guests = &guest,
	    .guest_count = 1,
	};

	return call_step(&the_call, &input, &effects);
}

static void
expire(int64_t at_ms)
{
	struct call_input input = {
	    .now_ms = 1000 + at_ms,
	    .age_ms = at_ms,
	    .ring_ms = 45,
	    .grace_ms = 30,
	};

	age_ms = at_ms;
	call_expire(&the_call, &input, &effects);
}

/* One letter for each participant: A M R C F of ANSWERED ... */
static void
assert_outcomes(const char *wanted)
{
	static const char names[] = "-AMRCF";
	char seen[CALL_PARTS_MAX + 1] = "";

	assert_int_equal(the_call.row.state, CALL_ENDED);
	for (uint32_t i = 0; i < the_call.row.part_count; i++) {
		seen[i] = names[the_call.parts[i].outcome];
		assert_int_equal(the_call.parts[i].deadline_ms, 0);
	}
	assert_string_equal(seen, wanted);
	assert_int_equal(names[the_call.row.outcome], wanted[0]);
}

static void
answered_and_ended(void **state)
{
	(void)state;
	begin(1, false, false);
	assert_int_equal(the_call.parts[1].deadline_ms, 45);
	assert_int_equal(step(2, CALL_ACCEPT), 0);
	assert_int_equal(the_call.row.state, CALL_ACTIVE);
	assert_int_equal(effects.events[1], CALL_EVENT_ACCEPTED);
	assert_int_equal(step(1, CALL_CANCEL), ERR_CONFLICT);
	expire(1000);
	assert_false(effects.is_changed);
	assert_int_equal(step(2, CALL_LEAVE), 0);
	assert_int_equal(effects.events[1], CALL_EVENT_LEFT);
	assert_int_equal(effects.events[0], CALL_EVENT_NONE);
	assert_true(effects.is_ended);
	assert_outcomes("AA");
	/* both hang up at once */
	assert_int_equal(step(1, CALL_END), 0);
	assert_int_equal(step(1, CALL_LEAVE), 0);
	assert_int_equal(step(2, CALL_ACCEPT), ERR_CONFLICT);
}

static void
not_answered(void **state)
{
	(void)state;
	begin(1, false, false);
	expire(44);
	assert_false(effects.is_changed);
	expire(45);
	assert_int_equal(effects.events[1], CALL_EVENT_MISSED);
	assert_outcomes("MM");
	begin(1, false, false);
	assert_int_equal(step(2, CALL_REJECT), 0);
	assert_outcomes("RR");
	begin(2, false, false);
	assert_int_equal(step(3, CALL_REJECT), 0);
	assert_int_equal(the_call.row.state, CALL_RINGING);
	expire(45);
	assert_outcomes("RMR");
	begin(2, false, false);
	assert_int_equal(step(1, CALL_CANCEL), 0);
	assert_int_equal(effects.events[0], CALL_EVENT_CANCELLED);
	assert_outcomes("CCC");
	begin(1, false, false);
	assert_int_equal(step(1, CALL_QUIT), 0);
	assert_outcomes("CC");
}

static void
who_calls_is_lost(void **state)
{
	(void)state;
	begin(1, false, false);
	assert_int_equal(step(1, CALL_LOST), 0);
	assert_int_equal(effects.events[0], CALL_EVENT_RECONNECTING);
	expire(29);
	assert_false(effects.is_changed);
	expire(30);
	assert_outcomes("FF");
	begin(1, false, false);
	assert_int_equal(step(1, CALL_LOST), 0);
	assert_int_equal(step(2, CALL_ACCEPT), 0);
	assert_int_equal(step(1, CALL_BACK), 0);
	assert_int_equal(effects.events[0], CALL_EVENT_REJOINED);
	expire(100);
	assert_int_equal(the_call.row.state, CALL_ACTIVE);
	assert_int_equal(step(1, CALL_LOST), 0);
	expire(130);
	assert_int_equal(effects.events[0], CALL_EVENT_LEFT);
	assert_outcomes("AA");
}

static void
busy_people(void **state)
{
	(void)state;
	begin(1, true, false);
	assert_int_equal(the_call.parts[1].state, PART_BUSY);
	assert_outcomes("MM");
	begin(1, true, true);
	assert_int_equal(the_call.row.state, CALL_RINGING);
	assert_int_equal(the_call.parts[1].state, PART_RINGING);
	assert_int_equal(the_call.parts[1].flags, CALL_PART_BUSY);
}

static void
of_several(void **state)
{
	(void)state;
	begin(2, false, false);
	assert_int_equal(step(2, CALL_ACCEPT), 0);
	assert_int_equal(step(3, CALL_ACCEPT), 0);
	assert_int_equal(step(2, CALL_END), ERR_FORBIDDEN);
	assert_int_equal(step(2, CALL_LEAVE), 0);
	assert_int_equal(the_call.row.state, CALL_ACTIVE);
	assert_int_equal(the_call.parts[1].outcome, CALL_OUTCOME_ANSWERED);
	assert_int_equal(step(2, CALL_ACCEPT), 0);
	assert_int_equal(effects.events[1], CALL_EVENT_JOINED);
	assert_int_equal(step(1, CALL_INVITE), 0);
	assert_int_equal(effects.events[3], CALL_EVENT_INVITED);
	assert_int_equal(step(1, CALL_INVITE), 0);
	assert_false(effects.is_changed);
	assert_int_equal(step(9, CALL_REJECT), 0);
	assert_int_equal(step(1, CALL_INVITE), 0);
	assert_int_equal(the_call.parts[3].state, PART_RINGING);
	/* who calls may leave the others alone */
	assert_int_equal(step(1, CALL_LEAVE), 0);
	assert_int_equal(the_call.row.state, CALL_ACTIVE);
	assert_int_equal(step(2, CALL_LEAVE), 0);
	assert_int_equal(the_call.row.state, CALL_ACTIVE);
	expire(45);
	assert_outcomes("AAAM");
}

static void
the_one_who_makes_it_ends_it_for_all(void **state)
{
	(void)state;
	begin(3, false, false);
	assert_int_equal(step(2, CALL_ACCEPT), 0);
	assert_int_equal(step(3, CALL_REJECT), 0);
	assert_int_equal(step(1, CALL_INVITE), ERR_TOO_LARGE);
	assert_int_equal(step(1, CALL_END), 0);
	assert_outcomes("AARC");
}

static void
a_restart_gives_the_grace_anew(void **state)
{
	struct call_input input = {
	    .age_ms = 500, .ring_ms = 45, .grace_ms = 30};

	(void)state;
	begin(2, false, false);
	assert_int_equal(step(2, CALL_ACCEPT), 0);
	call_renew(&the_call, &input, 77);
	assert_int_equal(the_call.row.boot, 77);
	assert_int_equal(the_call.parts[0].state, PART_RECONNECTING);
	assert_int_equal(the_call.parts[0].deadline_ms, 530);
	assert_int_equal(the_call.parts[1].deadline_ms, 530);
	assert_int_equal(the_call.parts[2].deadline_ms, 45);
	age_ms = 500;
	assert_int_equal(step(1, CALL_BACK), 0);
	expire(530);
	assert_outcomes("AAM");
	call_renew(&the_call, &input, 78);
	assert_outcomes("AAM");
}

static void
no_deadline_is_further_than_it_can_be(void **state)
{
	(void)state;
	begin(1, false, false);
	the_call.parts[1].deadline_ms = 1000;
	expire(1);
	assert_outcomes("MM");
}

static void
events_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < CALL_EVENT_END; i++)
		assert_non_null(call_event_name((enum call_event)i));
	assert_string_equal(call_event_name(CALL_EVENT_ANSWERED_ELSEWHERE),
	    "ANSWERED_ELSEWHERE");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_state_command_and_role),
	    cmocka_unit_test(answered_and_ended),
	    cmocka_unit_test(not_answered),
	    cmocka_unit_test(who_calls_is_lost),
	    cmocka_unit_test(busy_people),
	    cmocka_unit_test(of_several),
	    cmocka_unit_test(the_one_who_makes_it_ends_it_for_all),
	    cmocka_unit_test(a_restart_gives_the_grace_anew),
	    cmocka_unit_test(no_deadline_is_further_than_it_can_be),
	    cmocka_unit_test(events_have_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
