/*
 * coordinator.c - moves all generators through the plan.
 *
 * Role:    begins and ends steps, takes marks between them, shows progress.
 * Process: the parent of the generators, or the only generator.
 * Blocks:  shortly, reading /proc between steps: before a measured step
 *          begins and after it has ended.
 * Trust:   our own processes.
 * See:     control.c (plan), generator.c (who follows), report.c.
 */
#include "load/coordinator.h"

#include <stdio.h>

#define SECOND_NS 1000000000

/* Handshakes come and go; nobody stays. */
static uint64_t
users_wanted(const struct options *options)
{
	if (options->scenario == SCENARIO_HANDSHAKES)
		return 0;
	return options->count * options_users_per(options);
}

void
coordinator_init(struct coordinator *coordinator, const struct options *options,
    struct control *control, struct board *board)
{
	*coordinator = (struct coordinator){
	    .options = options,
	    .control = control,
	    .board = board,
	    .users_wanted = users_wanted(options),
	};
}

static void
take_mark(const struct coordinator *coordinator, struct mark *mark)
{
	mark->at_ns = monotonic_ns();
	for (int id = 0; id < TALLY_END; id++)
		mark->tally[id] =
		    control_tally(coordinator->control, (enum tally_id)id);
	proc_sample_take((pid_t)coordinator->options->server_pid, &mark->cpu);
	if (coordinator->board)
		server_counts_take(
		    coordinator->board, &mark->cpu, &mark->server);
}

static void
enter(struct coordinator *coordinator, int32_t step)
{
	struct control *control = coordinator->control;
	enum step_id id =
	    step < control->step_count ? control->plan[step].id : STEP_NONE;

	if (id == STEP_LEAVE) {
		/* first what was, then the goodbyes */
		coordinator->users_after =
		    control_tally(control, TALLY_users_up);
		proc_memory_take((pid_t)coordinator->options->server_pid,
		    &coordinator->memory_after);
	}
	if (id == STEP_HOLD)
		proc_memory_take((pid_t)coordinator->options->server_pid,
		    &coordinator->memory_ramp);
	/* reading /proc is not to fall into the step that begins ... */
	if (id != STEP_DRAIN)
		take_mark(coordinator, &coordinator->marks[step]);
	atomic_store(&control->step_started_ns[step], monotonic_ns());
	atomic_store(&control->step, step);
	/* ... nor may sending go on while the measured one's end is read */
	if (id == STEP_DRAIN)
		take_mark(coordinator, &coordinator->marks[step]);
}

void
coordinator_begin(struct coordinator *coordinator)
{
	pid_t server_pid = (pid_t)coordinator->options->server_pid;

	proc_context_take(server_pid, &coordinator->context);
	proc_memory_take(server_pid, &coordinator->memory_before);
	coordinator->progress_last_ns = monotonic_ns();
	coordinator->progress_ns = coordinator->progress_last_ns + SECOND_NS;
	enter(coordinator, 0);
}

static bool
all_are_done(const struct control *control, int32_t step)
{
	for (uint32_t i = 0; i < control->slot_count; i++) {
		if (atomic_load(&control->slots[i].step_done) < step)
			return false;
	}
	return true;
}

/* A step that everything rests on has failed: the rest would mean nothing. */
static bool
is_pointless(const struct coordinator *coordinator, enum step_id id)
{
	uint64_t wanted = coordinator->options->count;

	if (options_users_per(coordinator->options) == 1)
		return false;
	if (coordinator->options->scenario != SCENARIO_OFFLINE)
		wanted = coordinator->users_wanted;
	if (id != STEP_LOGIN && id != STEP_VISIT)
		return false;
	return control_tally(coordinator->control, TALLY_users_up) < wanted;
}

static int32_t
place_of_last(const struct coordinator *coordinator, enum step_id id)
{
	const struct control *control = coordinator->control;

	for (int32_t i = 0; i < control->step_count; i++) {
		if (control->plan[i].id == id)
			return i;
	}
	return control->step_count - 1;
}

/* Where an interrupted run goes on: what was sent is still to be proven. */
static int32_t
next_if_interrupted(const struct coordinator *coordinator, enum step_id id)
{
	switch (id) {
	case STEP_WARMUP:
	case STEP_MEASURE:
		return place_of_last(coordinator, STEP_DRAIN);
	case STEP_SEND:
		return place_of_last(coordinator, STEP_TAKE);
	case STEP_NONE:
	case STEP_VISIT:
	case STEP_LOGIN:
	case STEP_TAKE:
	case STEP_HOLD:
	case STEP_DRAIN:
	case STEP_LEAVE:
		break;
	}
	return coordinator->control->step_count - 1;
}

static void
show_progress(struct coordinator *coordinator, int64_t now_ns)
{
	const struct control *control = coordinator->control;
	double seconds = (double)(now_ns - coordinator->progress_last_ns) / 1e9;
	int64_t began_ns = atomic_load(&control->step_started_ns[0]);
	double per_second[TALLY_END];
	uint64_t now[TALLY_END];

	for (int id = 0; id < TALLY_END; id++) {
		now[id] = control_tally(control, (enum tally_id)id);
		per_second[id] =
		    (double)(now[id] - coordinator->progress[id]) / seconds;
		coordinator->progress[id] = now[id];
	}
	coordinator->progress_last_ns = now_ns;
	coordinator->progress_ns += SECOND_NS;
	if (coordinator->options->quiet)
		return;
	fprintf(stderr, "%6.1f s %-8s up %llu",
	    (double)(now_ns - began_ns) / 1e9, step_name(control_step(control)),
	    (unsigned long long)now[TALLY_users_up]);
	if (coordinator->options->scenario == SCENARIO_CONNECT)
		fprintf(stderr, "  logins/s %.0f", per_second[TALLY_logins]);
	else if (coordinator->options->scenario == SCENARIO_HANDSHAKES)
		fprintf(stderr, "  handshakes/s %.0f",
		    per_second[TALLY_handshakes]);
	else
		fprintf(stderr, "  sent/s %.0f  acked/s %.0f  delivered/s %.0f",
		    per_second[TALLY_sent], per_second[TALLY_acknowledged],
		    per_second[TALLY_delivered]);
	fprintf(stderr, "  failed %llu  dropped %llu\n",
	    (unsigned long long)now[TALLY_logins_failed],
	    (unsigned long long)now[TALLY_drops]);
}

static bool
time_is_up(const struct control *control, int32_t step, int64_t now_ns)
{
	int64_t limit_ms = control->plan[step].limit_ms;
	int64_t began_ns = atomic_load(&control->step_started_ns[step]);

	return limit_ms < INT64_MAX / 2000000 &&
	       now_ns - began_ns >= limit_ms * 1000000;
}

void
coordinator_turn(struct coordinator *coordinator)
{
	struct control *control = coordinator->control;
	int32_t step = atomic_load(&control->step);
	int64_t now_ns = monotonic_ns();
	const struct step *plan;
	bool is_done;

	if (step < 0 || step >= control->step_count)
		return;
	if (now_ns >= coordinator->progress_ns)
		show_progress(coordinator, now_ns);
	plan = &control->plan[step];
	if (atomic_exchange(&control->interrupted, 0)) {
		coordinator->is_early = true;
		enter(coordinator, next_if_interrupted(coordinator, plan->id));
		return;
	}
	is_done = !plan->is_fixed && all_are_done(control, step);
	if (!is_done && !time_is_up(control, step, now_ns))
		return;
	if (is_pointless(coordinator, plan->id)) {
		coordinator->is_early = true;
		enter(coordinator, control->step_count - 1);
		return;
	}
	enter(coordinator, step + 1);
}

bool
coordinator_span(const struct coordinator *coordinator, enum step_id id,
    const struct mark **from_out, const struct mark **to_out)
{
	const struct control *control = coordinator->control;

	for (int32_t i = 0; i < control->step_count; i++) {
		if (control->plan[i].id != id)
			continue;
		*from_out = &coordinator->marks[i];
		*to_out = &coordinator->marks[i + 1];
		return (*from_out)->at_ns != 0 && (*to_out)->at_ns != 0;
	}
	return false;
}
