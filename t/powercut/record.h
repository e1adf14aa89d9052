/*
 * record.h - a journal in memory.
 */
#ifndef T_POWERCUT_RECORD_H
#define T_POWERCUT_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "t/powercut/journal.h"

struct record_item {
	struct journal_entry entry;
	const uint8_t *bytes; /* entry.len, into the mapping */
};

struct record {
	const uint8_t *map;
	size_t map_len;
	struct record_item *items; /* in the order of events */
	size_t count;
	size_t store_len; /* no write reaches beyond */
};

/** Ends the program with a word when the journal is not whole. */
void record_load(struct record *record, const char *path);
void record_fini(struct record *record);

#endif
