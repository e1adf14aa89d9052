/*
 * generator.c - one generator: its share of the users, step by step.
 *
 * Role:    does what the coordinator's present step asks for and reports when
 *          that is done.
 * Process: each generator; with one generator also the coordinator's.
 * Blocks:  only in the loop of its fleet.
 * Trust:   our own processes.
 * See:     coordinator.c (who moves the steps), traffic.c.
 */
#include "load/generator.h"

#include "load/fleet.h"
#include "load/groups.h"
#include "load/traffic.h"
#include "load/watch.h"

struct generator {
	struct fleet fleet;
	struct traffic traffic; /* pairs, offline */
	struct watch watch;     /* presence */
	struct groups groups;
	uint64_t first; /* of this share, among all that --count counts */
	uint64_t count;
	int32_t step; /* place in the plan */
	void (*turn_fn)(void *ctx);
	void *ctx;
};

static bool
has_traffic(const struct generator *generator)
{
	return options_is_paired(generator->fleet.options);
}

static bool
is_watching(const struct generator *generator)
{
	return generator->fleet.options->scenario == SCENARIO_PRESENCE;
}

static bool
has_groups(const struct generator *generator)
{
	return generator->fleet.options->scenario == SCENARIO_GROUPS;
}

static void
begin_sending(struct generator *generator)
{
	if (has_groups(generator))
		groups_begin(&generator->groups);
	else
		traffic_begin(&generator->traffic);
}

static void
end_sending(struct generator *generator)
{
	if (has_groups(generator))
		groups_end(&generator->groups);
	else if (has_traffic(generator))
		traffic_end(&generator->traffic);
}

static void
leave(struct generator *generator, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		client_leave(&generator->fleet.clients[i]);
}

static void
enter_step(struct generator *generator, enum step_id id)
{
	struct fleet *fleet = &generator->fleet;
	uint64_t count = generator->count;

	switch (id) {
	case STEP_VISIT:
		fleet_launch(fleet, count, count);
		break;
	case STEP_LOGIN:
		if (fleet->options->scenario == SCENARIO_OFFLINE) {
			leave(generator, count, count);
			fleet_launch(fleet, 0, count);
		} else {
			fleet_launch(fleet, 0, fleet->client_count);
		}
		break;
	case STEP_MEASURE:
		if (fleet->options->scenario == SCENARIO_HANDSHAKES) {
			fleet_launch(fleet, 0, fleet->client_count);
			break;
		}
		begin_sending(generator);
		break;
	case STEP_WARMUP:
	case STEP_SEND:
		begin_sending(generator);
		break;
	case STEP_TAKE:
		traffic_end(&generator->traffic);
		fleet_launch(fleet, count, count);
		break;
	case STEP_DRAIN:
		end_sending(generator);
		break;
	case STEP_LEAVE:
		end_sending(generator);
		if (is_watching(generator))
			watch_finish(&generator->watch);
		if (has_groups(generator))
			groups_finish(&generator->groups);
		else if (has_traffic(generator))
			traffic_finish(&generator->traffic);
		fleet_launch(fleet, 0, 0);
		leave(generator, 0, fleet->client_count);
		break;
	case STEP_HOLD:
	case STEP_NONE:
		break;
	}
}

static bool
step_is_done(const struct generator *generator, enum step_id id)
{
	const struct traffic *traffic = &generator->traffic;

	switch (id) {
	case STEP_VISIT:
	case STEP_LOGIN:
		return fleet_is_settled(&generator->fleet);
	case STEP_SEND:
		return traffic_is_sent(traffic) || traffic_is_stuck(traffic);
	case STEP_TAKE:
		return traffic_is_quiet(traffic) ||
		       (fleet_is_settled(&generator->fleet) &&
			   traffic_is_stuck(traffic));
	case STEP_DRAIN:
		if (has_groups(generator))
			return groups_are_quiet(&generator->groups);
		return is_watching(generator)
			   ? watch_is_quiet(&generator->watch)
			   : traffic_is_quiet(traffic);
	case STEP_LEAVE:
		return true;
	case STEP_WARMUP:
	case STEP_MEASURE:
	case STEP_HOLD:
	case STEP_NONE:
		return false;
	}
	return false;
}

static void
generator_tick(void *ctx)
{
	struct generator *generator = ctx;
	struct control *control = generator->fleet.control;
	struct slot *slot = generator->fleet.slot;
	int32_t step;

	if (generator->turn_fn)
		generator->turn_fn(generator->ctx);
	/* the coordinator's turn may have taken a while */
	generator->fleet.now_ns = monotonic_ns();
	if (has_groups(generator))
		groups_tick(&generator->groups);
	else if (has_traffic(generator))
		traffic_tick(&generator->traffic);
	step = atomic_load(&control->step);
	if (step < 0)
		return;
	if (step >= control->step_count) {
		fleet_stop(&generator->fleet);
		return;
	}
	if (step != generator->step) {
		generator->step = step;
		enter_step(generator, control->plan[step].id);
		return;
	}
	if (atomic_load(&slot->step_done) < step &&
	    step_is_done(generator, control->plan[step].id))
		atomic_store(&slot->step_done, step);
}

static void
make_clients(struct generator *generator)
{
	struct fleet *fleet = &generator->fleet;
	const struct options *options = fleet->options;

	for (uint64_t i = 0; i < fleet->client_count; i++) {
		uint64_t place = generator->first + i;

		if (has_groups(generator))
			place = generator->first * options->members + i;
		else if (i >= generator->count)
			/* receivers follow all senders, of every generator */
			place += options->count - generator->count;

		client_init(&fleet->clients[i], fleet, i,
		    is_watching(generator) ? watch_user(&generator->watch, i)
					   : options->first_user + place);
	}
}

int
generator_run(const struct options *options, struct control *control,
    uint64_t number, void (*turn_fn)(void *ctx), void *ctx)
{
	struct slot *slot = &control->slots[number];
	struct generator generator = {
	    .first = options->count * number / options->processes,
	    .step = -1,
	    .turn_fn = turn_fn,
	    .ctx = ctx,
	};
	uint64_t end = options->count * (number + 1) / options->processes;
	bool is_paired = options_is_paired(options);
	int rc;

	generator.count = end - generator.first;
	rc = fleet_init(&generator.fleet, options, control, slot,
	    generator.count * options_users_per(options));
	if (rc != 0)
		goto out;
	if (is_watching(&generator)) {
		watch_init(&generator.watch, &generator.fleet);
		generator.fleet.handler = watch_handler;
		generator.fleet.ctx = &generator.watch;
	}
	make_clients(&generator);
	if (is_paired) {
		traffic_init(&generator.traffic, &generator.fleet,
		    generator.first, generator.count);
		generator.fleet.handler = traffic_handler;
		generator.fleet.ctx = &generator.traffic;
	}
	if (has_groups(&generator)) {
		groups_init(
		    &generator.groups, &generator.fleet, generator.count);
		generator.fleet.handler = groups_handler;
		generator.fleet.ctx = &generator.groups;
	}
	generator.fleet.tick_fn = generator_tick;
	generator.fleet.tick_ctx = &generator;
	fleet_run(&generator.fleet);
	atomic_store(&slot->has_result, 1);
out:
	traffic_fini(&generator.traffic);
	watch_fini(&generator.watch);
	groups_fini(&generator.groups);
	fleet_fini(&generator.fleet);
	return rc;
}
