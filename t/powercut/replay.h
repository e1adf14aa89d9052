/*
 * replay.h - the disk under a store, at any point of a journal.
 *
 * Durable is what was written before a sync began that has ended well. Each
 * page and sector of what was written since may be on the disk as any of
 * these writes left it, or as it was: a disk and a kernel may reorder. The
 * file itself may be missing until its folder has been synced.
 */
#ifndef T_POWERCUT_REPLAY_H
#define T_POWERCUT_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "t/powercut/record.h"

#define REPLAY_NO_FILE SIZE_MAX

struct piece; /* of a write: what lies in one page */

struct replay {
	const struct record *record;
	size_t next;      /* item; those before have happened */
	uint8_t *durable; /* room for record->store_len */
	size_t durable_len;
	struct piece *pieces; /* not durable, in order */
	size_t piece_count;
	size_t piece_cap;
	size_t sync_upto;  /* the one under way covers items before */
	unsigned strays;   /* times when the file was not as replayed */
	bool is_named;     /* the file is in its folder, durably */
	bool has_no_dsync; /* a write with O_DSYNC is like any other */
};

enum replay_mode {
	REPLAY_DROP,    /* all that is not durable */
	REPLAY_KEEP,    /* all that was begun */
	REPLAY_PAGES,   /* each page by itself */
	REPLAY_SECTORS, /* each sector of a page by itself */
	REPLAY_MODE_END
};

void replay_init(struct replay *replay, const struct record *record);
void replay_fini(struct replay *replay);
/** Let happen what is before item upto; it is not less than the last one. */
void replay_advance(struct replay *replay, size_t upto);
/**
 * What is on the disk if the power fails here.
 *
 * @param chance  state of the choice
 * @param image   room for record->store_len
 * @return        its length, or REPLAY_NO_FILE
 */
size_t replay_image(const struct replay *replay, enum replay_mode mode,
    uint64_t *chance, uint8_t *image);
/** Is the file, as processes see it, this? */
bool replay_is(const struct replay *replay, const void *data, size_t len);

#endif
