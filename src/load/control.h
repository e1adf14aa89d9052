/*
 * control.h - the memory that generators and the coordinator share.
 *
 * One anonymous shared mapping, made before the fork. The coordinator alone
 * writes step and step_started_ns; each generator alone writes its slot.
 */
#ifndef LOAD_CONTROL_H
#define LOAD_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "load/latency.h"
#include "load/ledger.h"
#include "load/options.h"

enum tally_id {
#define TALLY(name) TALLY_##name,
#include "load/tally.def"
#undef TALLY
	TALLY_END
};

/* A scenario goes through steps, all generators together. */
#define STEP_MAX 6

enum step_id {
	STEP_NONE,  /* also: this place of the plan is not used */
	STEP_VISIT, /* offline: receivers log in once and leave */
	STEP_LOGIN,
	STEP_WARMUP,
	STEP_MEASURE, /* pairs: the measured time */
	STEP_SEND,    /* offline: to absent users */
	STEP_TAKE,    /* offline: receivers come and take everything */
	STEP_HOLD,
	STEP_DRAIN,
	STEP_LEAVE,
};

struct step {
	enum step_id id;
	int64_t limit_ms; /* lasts so long, or at most so long */
	bool is_fixed;    /* lasts limit_ms; else until all have finished */
};

#define FAILURE_TEXT_MAX 160

struct slot {
	_Atomic uint64_t tally[TALLY_END];
	_Atomic int32_t step_done; /* place in the plan it has finished */
	_Atomic int64_t last_answer_ns;
	_Atomic int64_t last_delivery_ns;
	_Atomic uint32_t has_result;
	/* written before has_result */
	struct verdict verdict;
	struct latency answer_us;       /* from intended send to the reply */
	struct latency deliver_us;      /* from intended send to the delivery */
	struct latency late_us;         /* how late the generator itself was */
	char failure[FAILURE_TEXT_MAX]; /* why the first login failed */
};

struct control {
	struct step plan[STEP_MAX];
	int32_t step_count;
	uint64_t run_id;      /* in every payload of this run */
	_Atomic int32_t step; /* place in the plan; step_count: end */
	_Atomic int64_t step_started_ns[STEP_MAX + 1];
	_Atomic uint32_t interrupted; /* a signal asked for an early end */
	uint32_t slot_count;
	struct slot slots[];
};

/** Map and fill in the plan of options->scenario. @return NULL: no memory */
struct control *control_new(const struct options *options);
void control_free(struct control **control);
const char *step_name(enum step_id id);
/** The step under way; STEP_NONE after the last. */
enum step_id control_step(const struct control *control);
/** When the step began, 0 if it has not (or is not in the plan). */
int64_t control_step_started_ns(const struct control *control, enum step_id id);
/** When the step ended, INT64_MAX if it has not. */
int64_t control_step_ended_ns(const struct control *control, enum step_id id);
uint64_t control_tally(const struct control *control, enum tally_id id);

static inline void
slot_add(struct slot *slot, enum tally_id id, uint64_t n)
{
	/* one writer: no locked instruction needed */
	atomic_store_explicit(&slot->tally[id],
	    atomic_load_explicit(&slot->tally[id], memory_order_relaxed) + n,
	    memory_order_relaxed);
}

/** CLOCK_MONOTONIC. */
static inline int64_t
monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

#endif
