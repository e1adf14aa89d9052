/*
 * breaker.c - a circuit breaker.
 *
 * Role:    decides whether a service that fails is asked at all.
 * Process: directory.
 * Blocks:  never.
 * Trust:   none needed; a clock that stands still only delays it.
 * See:     breaker.h, t/unit/breaker.c.
 */
#include "config.h"

#include "base/breaker.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"

#define BIT(state) (1U << (state))

/* Name, and from where one may come to it. */
static const struct {
	const char *name;
	unsigned from;
} states[BREAKER_STATE_END] = {
    [BREAKER_CLOSED] = {"CLOSED", BIT(BREAKER_HALF_OPEN)},
    [BREAKER_HALF_OPEN] = {"HALF_OPEN", BIT(BREAKER_OPEN)},
    [BREAKER_OPEN] = {"OPEN", BIT(BREAKER_CLOSED) | BIT(BREAKER_HALF_OPEN)},
};

static void
breaker_set_state(
    struct breaker *breaker, enum breaker_state state, int64_t now_ms)
{
	if ((states[state].from & BIT(breaker->state)) == 0)
		panic("breaker %s: %s to %s", breaker->name,
		    states[breaker->state].name, states[state].name);
	if (state == BREAKER_OPEN) {
		breaker->opened++;
		log_warn(NULL, "breaker-open", "breaker=%s for_ms=%d",
		    breaker->name, BREAKER_OPEN_MS);
	} else {
		log_info(NULL, "breaker-state",
		    "breaker=%s state=%s after_ms=%" PRId64, breaker->name,
		    states[state].name, now_ms - breaker->state_at_ms);
	}
	breaker->state = state;
	breaker->state_at_ms = now_ms;
	breaker->has_probe = false;
	memset(breaker->buckets, 0, sizeof(breaker->buckets));
}

void
breaker_init(struct breaker *breaker, const char *name, int64_t now_ms)
{
	*breaker = (struct breaker){
	    .name = name, .state = BREAKER_CLOSED, .state_at_ms = now_ms};
}

bool
breaker_may_try(struct breaker *breaker, int64_t now_ms)
{
	if (breaker->state == BREAKER_CLOSED)
		return true;
	if (breaker->state == BREAKER_OPEN) {
		if (breaker_wait_ms(breaker, now_ms) > 0)
			return false;
		breaker_set_state(breaker, BREAKER_HALF_OPEN, now_ms);
	}
	if (breaker->has_probe)
		return false;
	breaker->has_probe = true;
	return true;
}

/* Has it had enough? Buckets of other seconds than the last ten are old. */
static bool
is_enough(const struct breaker *breaker, int64_t second)
{
	uint64_t good = 0;
	uint64_t bad = 0;

	for (int i = 0; i < BREAKER_BUCKETS; i++) {
		int64_t age = second - breaker->buckets[i].second;

		if (age < 0 || age >= BREAKER_BUCKETS)
			continue;
		good += breaker->buckets[i].good;
		bad += breaker->buckets[i].bad;
	}
	return good + bad >= BREAKER_VOLUME_MIN &&
	       bad * 100 >= (good + bad) * BREAKER_ERROR_PERCENT;
}

void
breaker_report(
    struct breaker *breaker, bool is_good, int64_t tried_ms, int64_t now_ms)
{
	int64_t second = now_ms / BREAKER_BUCKET_MS;
	int i = (int)(second % BREAKER_BUCKETS);

	if (tried_ms < breaker->state_at_ms || breaker->state == BREAKER_OPEN)
		return;
	if (breaker->state == BREAKER_HALF_OPEN) {
		breaker_set_state(
		    breaker, is_good ? BREAKER_CLOSED : BREAKER_OPEN, now_ms);
		return;
	}
	if (breaker->buckets[i].second != second) {
		breaker->buckets[i].second = second;
		breaker->buckets[i].good = 0;
		breaker->buckets[i].bad = 0;
	}
	if (is_good)
		breaker->buckets[i].good++;
	else
		breaker->buckets[i].bad++;
	if (!is_good && is_enough(breaker, second))
		breaker_set_state(breaker, BREAKER_OPEN, now_ms);
}

int64_t
breaker_wait_ms(const struct breaker *breaker, int64_t now_ms)
{
	int64_t until_ms = breaker->state_at_ms + BREAKER_OPEN_MS;

	if (breaker->state != BREAKER_OPEN || now_ms >= until_ms)
		return 0;
	return until_ms - now_ms;
}

const char *
breaker_state_name(enum breaker_state state)
{
	return (unsigned)state < BREAKER_STATE_END ? states[state].name : "?";
}
