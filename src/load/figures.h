/*
 * figures.h - all figures of two sets of results, by name.
 */
#ifndef LOAD_FIGURES_H
#define LOAD_FIGURES_H

#include <stddef.h>

#include <uthash.h>

#include "base/err.h"

enum figures_side { FIGURES_OLD, FIGURES_NEW, FIGURES_SIDES };

/** The values of one figure in the runs of each side. */
struct figure {
	char *name; /* "cpu.server_us_per_message" */
	double *values[FIGURES_SIDES];
	size_t counts[FIGURES_SIDES];
	char *texts[FIGURES_SIDES]; /* JSON of the first text or truth value */
	UT_hash_handle hh;
};

struct figures {
	struct figure *by_name; /* in the order in which they came */
};

struct figures_spread {
	double median;
	double min;
	double max;
	size_t count;
};

/**
 * Read a file of results: one result of parleyload --json, several of them,
 * one a line, or what make bench writes.
 *
 * @param error  one line: file and what is wrong with it
 * @return       0, ERR_IO, ERR_BAD_REQUEST, ERR_STALE (a version that is
 *               not ours)
 */
NODISCARD int figures_read(struct figures *figures, enum figures_side side,
    const char *path, char *error, size_t error_len);
void figures_fini(struct figures *figures);
/** Sorts the values; zeroes for a figure that the side does not have. */
struct figures_spread figures_spread(
    struct figure *figure, enum figures_side side);

#endif
