/*
 * told.h - what clients were told, and when: each message that parleyload was
 * given an answer for, or that it was delivered.
 */
#ifndef T_POWERCUT_TOLD_H
#define T_POWERCUT_TOLD_H

#include <stddef.h>
#include <stdint.h>

#include "t/powercut/record.h"

#define TOLD_NEVER SIZE_MAX

struct told {
	uint64_t id;
	uint64_t number; /* of the sender's messages */
	uint64_t seq;    /* the receiver's; 0: never delivered */
	size_t answered; /* item of the record, or TOLD_NEVER */
	size_t delivered;
};

struct told_list {
	struct told *messages; /* by id */
	size_t count;
	size_t answers;
};

/** Ends the program with a word when the bytes make no sense. */
void told_collect(struct told_list *list, const struct record *record);
void told_fini(struct told_list *list);
/** Item from which on it must not be lost. */
size_t told_since(const struct told *told);

#endif
