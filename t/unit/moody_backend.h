/*
 * moody_backend.h - a back end of the directory that takes the outbox, and
 * fails, is busy, refuses and hangs as a test tells it to.
 */
#ifndef T_UNIT_MOODY_BACKEND_H
#define T_UNIT_MOODY_BACKEND_H

#include <stdint.h>

#include "directory/dir.h"

#define LOG_MAX 20000

/* In memory that the test and the directory's process share. */
struct moods {
	_Atomic unsigned fail_left;   /* calls that fail */
	_Atomic unsigned again_left;  /* calls for which it is busy */
	_Atomic unsigned hold;        /* 1: keep the next batch */
	_Atomic unsigned refuse_each; /* refuse every n-th number */
	_Atomic unsigned calls;
	_Atomic unsigned passed_over; /* entries that came refused */
	_Atomic uint64_t bytes;
	_Atomic uint32_t written;
	uint64_t numbers[LOG_MAX]; /* taken, in order */
};

extern struct moods *moods;
extern const struct dir_ops moody_ops;

/** Before the first fork. */
void moods_new(void);

#endif
