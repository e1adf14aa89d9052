/*
 * call_random.c - property test of keeper/call_machine.c: random schedules of
 * commands, losses and time, from a seed that is printed. CALL_SEED repeats
 * one, CALL_SCHEDULES asks for more.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "keeper/call_machine.h"

#define USERS     6 /* 1..6, each with two devices */
#define STEPS     60
#define RING_MS   45
#define GRACE_MS  30
#define SCHEDULES 5000

struct world {
	uint64_t random;
	struct call call;
	struct call was;
	struct call_effects effects;
	int64_t age_ms;
	uint64_t next_session;
	uint64_t sessions[USERS + 1][2]; /* of the devices; 0: offline */
	unsigned told[USERS + 1];        /* outcomes */
};

static uint64_t
roll(struct world *world, uint64_t sides)
{
	world->random ^= world->random << 13;
	world->random ^= world->random >> 7;
	world->random ^= world->random << 17;
	return world->random % sides;
}

static struct call_input
input_at(const struct world *world)
{
	return (struct call_input){
	    .now_ms = 1000 + world->age_ms,
	    .age_ms = world->age_ms,
	    .ring_ms = RING_MS,
	    .grace_ms = GRACE_MS,
	    .parts_max = USERS,
	};
}

/* As the keeper does: told once, when the part is over. */
static void
tell_outcomes(struct world *world)
{
	for (uint32_t i = 0; i < world->call.row.part_count; i++) {
		struct call_part *part = &world->call.parts[i];

		if (part->outcome == CALL_OUTCOME_NONE ||
		    (part->flags & CALL_PART_TOLD) != 0)
			continue;
		part->flags |= CALL_PART_TOLD;
		world->told[part->user]++;
	}
}

static void
assert_parts(const struct world *world, unsigned *waiting, unsigned *joined)
{
	const struct call *call = &world->call;

	*waiting = 0;
	*joined = 0;
	for (uint32_t i = 0; i < call->row.part_count; i++) {
		const struct call_part *part = &call->parts[i];
		bool waits = part->state == PART_RINGING ||
			     part->state == PART_RECONNECTING;

		assert_true(waits == (part->deadline_ms != 0));
		assert_true(part->deadline_ms <= world->age_ms + RING_MS);
		*waiting += waits;
		*joined += part->state == PART_JOINED;
		if (part->state == PART_JOINED)
			assert_int_not_equal(part->session, 0);
		/* in the store once for each user */
		for (uint32_t j = 0; j < i; j++)
			assert_int_not_equal(call->parts[j].user, part->user);
	}
}

static void
assert_sound(const struct world *world)
{
	const struct call *call = &world->call;
	unsigned waiting;
	unsigned joined;

	assert_parts(world, &waiting, &joined);
	if (world->was.row.state == CALL_ENDED)
		assert_int_equal(call->row.state, CALL_ENDED);
	if (world->was.row.state == CALL_ACTIVE)
		assert_int_not_equal(call->row.state, CALL_RINGING);
	if (call->row.state == CALL_ENDED) {
		assert_int_equal(waiting + joined, 0);
		assert_int_not_equal(call->row.outcome, CALL_OUTCOME_NONE);
		assert_true(call->row.ended_ms >= call->row.created_ms);
		for (uint32_t i = 0; i < call->row.part_count; i++)
			assert_int_equal(world->told[call->parts[i].user], 1);
		return;
	}
	/* It cannot hang: somebody waits with a deadline, or two talk. */
	assert_true(waiting > 0 || joined >= 2);
	assert_true(
	    (call->row.state == CALL_ACTIVE) == (call->row.answered_ms != 0));
	for (uint64_t user = 1; user <= USERS; user++)
		assert_true(world->told[user] <= 1);
}

/* ---- moves ---- */

static void
command(struct world *world)
{
	struct call_input input = input_at(world);
	struct call_guest guest = {.user = 1 + roll(world, USERS)};
	uint64_t device = roll(world, 2);
	struct call_part *part;
	bool was_elsewhere;
	int rc;

	input.command = (enum call_command)(CALL_ACCEPT + roll(world, 6));
	input.user = 1 + roll(world, USERS);
	input.device = (uint32_t)device;
	input.session = world->sessions[input.user][device];
	input.guests = &guest;
	input.guest_count = guest.user != input.user;
	guest.is_busy = roll(world, 4) == 0;
	if (input.session == 0)
		return; /* offline: it cannot ask */
	part = call_find_part(&world->call, input.user);
	was_elsewhere = part != NULL && part->state == PART_JOINED &&
			part->device != input.device;
	rc = call_step(&world->call, &input, &world->effects);
	if (rc != 0) {
		assert_memory_equal(
		    &world->call, &world->was, sizeof(world->call));
		return;
	}
	/* one winner: while one device has it no other one does anything */
	assert_false(was_elsewhere);
	if (input.command == CALL_ACCEPT) {
		assert_int_equal(part->state, PART_JOINED);
		assert_int_equal(part->device, input.device);
		/* and it is the one that is connected */
		assert_int_equal(part->session, input.session);
	}
}

/* What does not concern the call is refused and changes nothing. */
static void
try_step(struct world *world, const struct call_input *input)
{
	int rc = call_step(&world->call, input, &world->effects);

	if (rc != 0)
		assert_memory_equal(
		    &world->call, &world->was, sizeof(world->call));
}

static void
go_offline(struct world *world)
{
	struct call_input input = input_at(world);
	uint64_t device = roll(world, 2);

	input.user = 1 + roll(world, USERS);
	input.device = (uint32_t)device;
	input.session = world->sessions[input.user][device];
	input.command = roll(world, 4) == 0 ? CALL_QUIT : CALL_LOST;
	world->sessions[input.user][device] = 0;
	if (input.session != 0)
		try_step(world, &input);
}

static void
come_online(struct world *world)
{
	struct call_input input = input_at(world);
	uint64_t device = roll(world, 2);

	input.command = CALL_BACK;
	input.user = 1 + roll(world, USERS);
	input.device = (uint32_t)device;
	input.session = ++world->next_session;
	world->sessions[input.user][device] = input.session;
	try_step(world, &input);
}

static void
pass_time(struct world *world, int64_t ms)
{
	struct call_input input;

	world->age_ms += ms;
	input = input_at(world);
	call_expire(&world->call, &input, &world->effects);
}

static void
restart(struct world *world)
{
	struct call_input input = input_at(world);

	memset(world->sessions, 0, sizeof(world->sessions));
	call_renew(&world->call, &input, world->call.row.boot + 1);
}

static void
begin(struct world *world)
{
	struct call_input input = input_at(world);
	struct call_guest guests[3];

	input.user = 1;
	input.guests = guests;
	input.guest_count = 1 + roll(world, 3);
	input.rings_busy = roll(world, 2) == 0;
	for (size_t i = 0; i < input.guest_count; i++)
		guests[i] = (struct call_guest){2 + i, roll(world, 5) == 0};
	for (uint64_t user = 1; user <= USERS; user++)
		world->sessions[user][0] = ++world->next_session;
	input.session = world->sessions[1][0];
	call_begin(&world->call, CALL_AUDIO, &input, &world->effects);
}

static void
move(struct world *world)
{
	uint64_t kind = roll(world, 20);

	if (kind < 12)
		command(world);
	else if (kind < 15)
		go_offline(world);
	else if (kind < 18)
		come_online(world);
	else if (kind < 19)
		pass_time(world, (int64_t)roll(world, 40));
	else if (roll(world, 4) == 0)
		restart(world);
}

static void
one_schedule(uint64_t seed)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	world.random = seed;
	begin(&world);
	tell_outcomes(&world);
	assert_sound(&world);
	for (int i = 0; i < STEPS; i++) {
		world.was = world.call;
		move(&world);
		if (world.was.row.state == CALL_ENDED)
			assert_memory_equal(
			    &world.was, &world.call, sizeof(world.call));
		tell_outcomes(&world);
		assert_sound(&world);
	}
	/* Everybody goes, and time passes: it ends. */
	restart(&world);
	pass_time(&world, RING_MS + GRACE_MS);
	tell_outcomes(&world);
	world.was = world.call;
	assert_sound(&world);
	assert_int_equal(world.call.row.state, CALL_ENDED);
}

static uint64_t
number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

static void
random_schedules(void **state)
{
	uint64_t seed = number_of(
	    "CALL_SEED", (uint64_t)time(NULL) * 0x9e3779b97f4a7c15ULL | 1);
	uint64_t count = number_of("CALL_SCHEDULES", SCHEDULES);

	(void)state;
	printf("# CALL_SEED=0x%llx CALL_SCHEDULES=%llu\n",
	    (unsigned long long)seed, (unsigned long long)count);
	fflush(stdout);
	for (uint64_t i = 0; i < count; i++)
		one_schedule(seed + i * 0x2545f4914f6cdd1dULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(random_schedules),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
