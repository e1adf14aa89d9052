/*
 * outbox_batch.h - a piece of an outbox, with the messages it names: copied
 * out of the store, so that nobody's slowness holds its pages.
 */
#ifndef DIRECTORY_OUTBOX_BATCH_H
#define DIRECTORY_OUTBOX_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/log.h"
#include "shm/outbox.h"
#include "shm/records.h"

#define BATCH_ENTRIES_MAX 2048
#define BATCH_BYTES_MAX   ((size_t)1 << 20) /* of strings; one message fits */
#define BATCH_SLICE_MS    20 /* of one read transaction, then it is enough */

struct store;

struct batch_entry {
	struct outbox_entry entry; /* kind DAMAGED: is_refused is set */
	bool is_refused;
	/* MESSAGE, EDIT, DELETE. The row as it is now: that of any of them may
	 * be edited since, or be a tombstone without text. Of DELETE it may be
	 * gone: then there are only id and flags. */
	struct log_message message; /* its row passed its check */
	/* All of its conversation, sorted. None of a group or a call: entries
	 * of their own say who is in it, and since when. */
	const uint64_t *members;
	size_t member_count;
};

struct batch {
	void *owner;   /* outbox.c's */
	uint64_t last; /* number up to which it goes */
	bool has_more; /* at its limit: there may be more behind */
	size_t count;
	struct batch_entry entries[BATCH_ENTRIES_MAX];
	size_t refusal_count;
	struct outbox_refusal *refusals; /* owned */
	size_t refusal_cap;
	size_t refused_by_reading; /* the first of them */
	uint8_t *bytes;            /* owned; what the entries point to */
	size_t bytes_len;
};

struct batch *batch_new(void);
/** Accepts NULL and clears. */
void batch_free(struct batch **batch);
/**
 * Fill with what waits from a number on; what it held is gone.
 *
 * A message whose row is gone or damaged is refused here, so is the one entry
 * that stands for blocks that are: all end as dead letters.
 *
 * @param from  0: behind the tail
 * @return      0 (count 0: nothing waits), ERR_*: the store cannot be read
 */
NODISCARD int batch_read(
    struct batch *batch, struct store *store, uint8_t number, uint64_t from);
/**
 * This entry can never be taken. Again for the same one: ignored.
 *
 * @param code   as whoever refused it says
 * @param error  a sentence; never anybody's words, also not those that a
 *               database quotes
 */
void batch_refuse(struct batch *batch, struct batch_entry *entry, int code,
    const char *error);
/** It is written anew: only what reading has refused stays so. */
void batch_write_again(struct batch *batch);

#endif
