/*
 * coordinator.h - moves all generators through the plan and measures what
 * surrounds them.
 */
#ifndef LOAD_COORDINATOR_H
#define LOAD_COORDINATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "load/control.h"
#include "load/options.h"
#include "load/proc.h"
#include "load/server.h"

/** Counters and CPU times at one moment. */
struct mark {
	int64_t at_ns; /* 0: the plan never came there */
	uint64_t tally[TALLY_END];
	struct proc_sample cpu;
	struct server_counts server; /* zeroes without a scoreboard */
};

struct coordinator {
	const struct options *options;
	struct control *control;
	struct board *board;              /* NULL: not asked for */
	struct mark marks[STEP_MAX + 1];  /* begin of each step, and the end */
	struct proc_memory memory_before; /* no connections yet */
	struct proc_memory memory_ramp;   /* connect: before the hold */
	struct proc_memory memory_after;  /* all connections, just before
					     they leave */
	uint64_t users_after;             /* connections at memory_after */
	uint64_t users_wanted;            /* how many there should have been */
	struct proc_context context;
	int64_t progress_ns; /* when the next line is due */
	uint64_t progress[TALLY_END];
	int64_t progress_last_ns;
	bool is_early; /* ended before its time: logins failed, interrupted */
};

/** @param board  the server's scoreboard, borrowed until the end, or NULL */
void coordinator_init(struct coordinator *coordinator,
    const struct options *options, struct control *control,
    struct board *board);
/** Enter the first step. */
void coordinator_begin(struct coordinator *coordinator);
/** Every few ms: next step when it is time, progress line. */
void coordinator_turn(struct coordinator *coordinator);
/** The step's mark and the next one's; false when either is missing. */
bool coordinator_span(const struct coordinator *coordinator, enum step_id id,
    const struct mark **from_out, const struct mark **to_out);

#endif
