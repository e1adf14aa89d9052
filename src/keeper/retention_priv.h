/*
 * retention_priv.h - what retention.c and retention_inbox.c share.
 */
#ifndef KEEPER_RETENTION_PRIV_H
#define KEEPER_RETENTION_PRIV_H

#include "keeper/retention.h"

struct retention_state {
	struct meta_retention meta;
	struct meta_retention stored; /* the same as the store has it */
	int64_t noted_ms;             /* the last row of ages ... */
	uint64_t noted_id;            /* ... and up to where */
	/* of this transaction */
	unsigned events;
	unsigned messages;
	unsigned early; /* of these */
	unsigned calls;
};

enum retention_held { HELD_NOT, HELD_TURN, HELD_INBOX, HELD_OUTBOX, HELD_END };

struct retention {
	struct retention_state state;     /* as of this transaction */
	struct retention_state committed; /* as of the last one */
	bool has_more_calls;
	bool has_more;        /* a slice ended before the work */
	int64_t look_at_ms;   /* monotonic */
	int64_t walk_took_ms; /* the last one over the inboxes */
	enum retention_held held;
	enum retention_held held_told;
	/* to be told, not more than once in a while */
	uint64_t events;
	uint64_t messages;
	uint64_t early;
	uint64_t calls;
	int64_t tell_at_ms; /* monotonic */
};

/* What one slice may do. */
struct slice {
	int64_t until_us; /* monotonic */
	size_t rows;      /* left */
};

/** So often, in the store's time, things are looked at: so much longer than
 *  they must they may stay. */
int64_t retention_step_ms(const struct conf *conf);
/** Is the slice used up? */
bool slice_is_over(const struct slice *slice);

/** Look at inboxes from where the last slice ended, and begin anew at the first
 *  when it is time to. @return 0, the store's error */
NODISCARD int retention_inboxes(struct keeper *keeper, struct slice *slice);

#endif
