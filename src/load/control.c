/*
 * control.c - the memory that generators and the coordinator share.
 *
 * Role:    the plan of a run, its progress, the results.
 * Process: all of parleyload; mapped before the fork.
 * Blocks:  never.
 * Trust:   our own processes.
 * See:     coordinator.c (who moves the steps), fleet.c (who follows).
 */
#include "load/control.h"

#include <sys/mman.h>

#include "base/crypto.h"

static const char *const names[] = {
    [STEP_NONE] = "end",
    [STEP_VISIT] = "visit",
    [STEP_LOGIN] = "login",
    [STEP_WARMUP] = "warmup",
    [STEP_MEASURE] = "measure",
    [STEP_SEND] = "send",
    [STEP_TAKE] = "take",
    [STEP_HOLD] = "hold",
    [STEP_DRAIN] = "drain",
    [STEP_LEAVE] = "leave",
};

const char *
step_name(enum step_id id)
{
	return names[id];
}

static void
plan_add(
    struct control *control, enum step_id id, int64_t limit_ms, bool is_fixed)
{
	control->plan[control->step_count++] = (struct step){
	    .id = id,
	    .limit_ms = limit_ms,
	    .is_fixed = is_fixed,
	};
}

/* How long n logins may take: their share of the rate, then the timeout. */
static int64_t
login_limit_ms(const struct options *options, uint64_t n)
{
	return (int64_t)((double)n * 1000 / options->login_rate) +
	       options->timeout_ms + 1000;
}

static void
make_plan(struct control *control, const struct options *options)
{
	int64_t one = login_limit_ms(options, options->count);

	switch (options->scenario) {
	case SCENARIO_CONNECT:
		plan_add(control, STEP_LOGIN, one, false);
		plan_add(control, STEP_HOLD, options->hold_ms, true);
		break;
	case SCENARIO_HANDSHAKES:
		plan_add(control, STEP_MEASURE, options->duration_ms, true);
		break;
	case SCENARIO_GROUPS:
	case SCENARIO_PAIRS:
		plan_add(control, STEP_LOGIN,
		    login_limit_ms(
			options, options_users_per(options) * options->count),
		    false);
		plan_add(control, STEP_WARMUP, options->warmup_ms, true);
		plan_add(control, STEP_MEASURE, options->duration_ms, true);
		plan_add(control, STEP_DRAIN, options->drain_ms, false);
		break;
	case SCENARIO_PRESENCE:
		plan_add(control, STEP_LOGIN, one, false);
		plan_add(control, STEP_DRAIN, options->drain_ms, false);
		break;
	case SCENARIO_OFFLINE:
		plan_add(control, STEP_VISIT, one, false);
		plan_add(control, STEP_LOGIN, one, false);
		/* ends when all is answered or nothing moves for the drain */
		plan_add(control, STEP_SEND, INT64_MAX, false);
		plan_add(control, STEP_TAKE, INT64_MAX, false);
		break;
	}
	plan_add(control, STEP_LEAVE, 2000, false);
}

struct control *
control_new(const struct options *options)
{
	size_t size =
	    sizeof(struct control) + options->processes * sizeof(struct slot);
	struct control *control = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (control == MAP_FAILED)
		return NULL;
	control->slot_count = (uint32_t)options->processes;
	control->run_id = crypto_random_u64();
	make_plan(control, options);
	atomic_store(&control->step, -1);
	for (uint32_t i = 0; i < control->slot_count; i++)
		atomic_store(&control->slots[i].step_done, -1);
	return control;
}

void
control_free(struct control **control)
{
	if (*control)
		munmap(
		    *control, sizeof(struct control) +
				  (*control)->slot_count * sizeof(struct slot));
	*control = NULL;
}

enum step_id
control_step(const struct control *control)
{
	int32_t at = atomic_load(&control->step);

	if (at < 0 || at >= control->step_count)
		return STEP_NONE;
	return control->plan[at].id;
}

static int
place_of(const struct control *control, enum step_id id)
{
	for (int i = 0; i < control->step_count; i++) {
		if (control->plan[i].id == id)
			return i;
	}
	return -1;
}

int64_t
control_step_started_ns(const struct control *control, enum step_id id)
{
	int at = place_of(control, id);

	return at < 0 ? 0 : atomic_load(&control->step_started_ns[at]);
}

int64_t
control_step_ended_ns(const struct control *control, enum step_id id)
{
	int at = place_of(control, id);
	int64_t ended_ns = 0;

	if (at >= 0)
		ended_ns = atomic_load(&control->step_started_ns[at + 1]);
	return ended_ns == 0 ? INT64_MAX : ended_ns;
}

uint64_t
control_tally(const struct control *control, enum tally_id id)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < control->slot_count; i++)
		sum += atomic_load_explicit(
		    &control->slots[i].tally[id], memory_order_relaxed);
	return sum;
}
