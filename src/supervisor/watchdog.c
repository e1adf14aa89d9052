/*
 * watchdog.c - does a process hang?
 *
 * Role:    turns a heartbeat that stands still, and what the kernel says of
 *          the process, into a verdict.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   the heartbeat is the process' own word; only its change counts.
 * See:     patrol.c (who asks and acts), t/unit/supervisor_watchdog.c.
 */
#include "config.h"

#include "supervisor/watchdog.h"

#include <stddef.h>

/* A heartbeat is owed each second; so old it is worth a look into /proc. */
#define SILENT_MS 1200
/* Silence of others' making is reported when it has lasted so long. */
#define REPORT_MS 3000

struct charge {
	int64_t ms; /* of the time since the last look */
	enum watchdog_verdict excuse;
};

bool
watchdog_is_silent(const struct watchdog *dog, int64_t now_ms, int64_t beat_ms)
{
	return dog->looked_at_ms != 0 && beat_ms == dog->beat_ms &&
	       now_ms - beat_ms >= SILENT_MS;
}

static int64_t
at_most(int64_t ms, int64_t max_ms)
{
	if (ms < 0)
		return 0;
	return ms < max_ms ? ms : max_ms;
}

/* R: it answers for the time that it had. */
static struct charge
charge_running(
    const struct watchdog *dog, const struct vitals *vitals, int64_t elapsed_ms)
{
	struct charge charge = {.excuse = WATCHDOG_FINE};

	if (dog->has_vitals)
		charge.ms = at_most(vitals->cpu_ms - dog->cpu_ms, elapsed_ms);
	if (charge.ms <= elapsed_ms / 2)
		charge.excuse = WATCHDOG_STARVED;
	return charge;
}

/* S: all but the time that it waited for a processor. */
static struct charge
charge_sleeping(
    const struct watchdog *dog, const struct vitals *vitals, int64_t elapsed_ms)
{
	struct charge charge = {.ms = elapsed_ms, .excuse = WATCHDOG_FINE};

	if (dog->has_vitals && dog->delay_ms >= 0 && vitals->delay_ms >= 0)
		charge.ms -=
		    at_most(vitals->delay_ms - dog->delay_ms, elapsed_ms);
	if (charge.ms <= elapsed_ms / 2)
		charge.excuse = WATCHDOG_STARVED;
	return charge;
}

static struct charge
charge_of(const struct watchdog *dog, const struct watchdog_look *look,
    int64_t elapsed_ms)
{
	const struct vitals *vitals = look->vitals;

	if (vitals == NULL) {
		bool is_asked =
		    watchdog_is_silent(dog, look->now_ms, look->beat_ms);

		/* not asked yet in the first second */
		return (struct charge){
		    is_asked ? elapsed_ms / 3 : elapsed_ms, WATCHDOG_FINE};
	}
	switch (vitals->state) {
	case 'T':
		return (struct charge){elapsed_ms, WATCHDOG_FINE};
	case 'D':
		return (struct charge){0, WATCHDOG_DISK};
	case 't':
		return (struct charge){0, WATCHDOG_TRACED};
	case 'Z':
	case 'X':
		return (struct charge){0, WATCHDOG_FINE}; /* is reaped next */
	case 'R':
		return charge_running(dog, vitals, elapsed_ms);
	default:
		break;
	}
	if (look->is_committing)
		return (struct charge){0, WATCHDOG_DISK};
	return charge_sleeping(dog, vitals, elapsed_ms);
}

/* What a millisecond of silence counts, in microseconds. */
static int64_t
weight_us(const struct watchdog_look *look, int64_t timeout_ms)
{
	if (look->start_timeout_ms == 0 ||
	    (look->vitals != NULL && look->vitals->state == 'T'))
		return 1000;
	return 1000 * timeout_ms / look->start_timeout_ms;
}

static void
remember(struct watchdog *dog, const struct watchdog_look *look)
{
	dog->looked_at_ms = look->now_ms;
	dog->beat_ms = look->beat_ms;
	dog->has_vitals = look->vitals != NULL;
	if (look->vitals != NULL) {
		dog->cpu_ms = look->vitals->cpu_ms;
		dog->delay_ms = look->vitals->delay_ms;
	}
}

enum watchdog_verdict
watchdog_look(
    struct watchdog *dog, const struct watchdog_look *look, int64_t timeout_ms)
{
	int64_t elapsed_ms = look->now_ms - dog->looked_at_ms;
	bool is_first = dog->looked_at_ms == 0;
	struct charge charge;

	if (dog->abort_at_ms != 0)
		return look->now_ms - dog->abort_at_ms >= WATCHDOG_GRACE_MS
			   ? WATCHDOG_KILL
			   : WATCHDOG_FINE;
	if (is_first || look->beat_ms != dog->beat_ms) {
		dog->charged_us = 0;
		dog->excused_ms = 0;
		remember(dog, look);
		return WATCHDOG_FINE;
	}
	if (elapsed_ms > WATCHDOG_LATE_MS)
		elapsed_ms = WATCHDOG_TURN_MS;
	charge = charge_of(dog, look, elapsed_ms);
	if (look->start_timeout_ms > 0 && charge.excuse == WATCHDOG_STARVED)
		charge.excuse = WATCHDOG_FINE; /* it may compute for long */
	dog->charged_us += charge.ms * weight_us(look, timeout_ms);
	dog->excused_ms += elapsed_ms - charge.ms;
	remember(dog, look);
	if (timeout_ms > 0 && dog->charged_us >= 1000 * timeout_ms) {
		dog->abort_at_ms = look->now_ms;
		dog->is_stopped =
		    look->vitals != NULL && look->vitals->state == 'T';
		return WATCHDOG_ABORT;
	}
	return dog->excused_ms >= REPORT_MS ? charge.excuse : WATCHDOG_FINE;
}
