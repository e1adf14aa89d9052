/*
 * report_priv.h - what the parts of the report share.
 */
#ifndef LOAD_REPORT_PRIV_H
#define LOAD_REPORT_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "load/coordinator.h"
#include "load/sheet.h"

/** What limited the run, as far as /proc can tell. */
enum report_limit {
	LIMIT_UNKNOWN,   /* nothing measured, or no --server-pid */
	LIMIT_GENERATOR, /* parleyload itself had no CPU left */
	LIMIT_STRANGERS, /* others took CPU that was missing */
	LIMIT_SERVER,    /* a process of the server filled a core */
	LIMIT_CORES,     /* server and parleyload fill all cores together */
	LIMIT_NO_CPU,    /* CPU was left: schedule, disk, network */
};

/** Who used the machine while it was measured; percent of all cores. */
struct report_shares {
	double server;
	double own;
	double strangers;
	double interrupts;
	double stolen;
	double idle;
	double own_core;    /* of one core, mean of the generators */
	double server_core; /* of one core, its busiest process */
};

struct report {
	const struct coordinator *run;
	const struct options *options;
	const struct control *control;
	struct verdict verdict;
	struct latency answer_us;
	struct latency deliver_us;
	struct latency late_us;
	uint64_t tally[TALLY_END];
	int64_t last_answer_ns;
	int64_t last_delivery_ns;
	const char *failure; /* the first, "" for none */
	uint64_t failures;
	uint64_t missing_users; /* not connected at the end */
	uint64_t unsent;        /* due, never sent */
	bool is_broken;
	bool has_shares;
	bool is_disturbed; /* others used much of the machine */
	bool is_late;      /* latencies are largely parleyload's own */
	enum report_limit limit;
	struct report_shares shares;
	struct sheet sheet;
};

/** The CPU sections, one for each step that was measured. */
void report_put_cpu(struct report *report);
/** Pure: what the shares say. */
enum report_limit report_limit_of(
    const struct report_shares *shares, bool is_server_known);
/** Fills in shares and what follows from them. */
void report_judge_limit(struct report *report);
/** The lines on them in the result. */
void report_put_limit(struct report *report);

static inline double
report_seconds(const struct mark *from, const struct mark *to)
{
	return (double)(to->at_ns - from->at_ns) / 1e9;
}

static inline double
report_per(double amount, double count)
{
	return count > 0 ? amount / count : 0;
}

#endif
