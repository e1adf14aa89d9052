/*
 * outbox.h - what a consumer outside (a database, later push, hooks, other
 * servers) still has to be told: one queue for each, in the order in which
 * things happened.
 *
 * An entry says what is to be done in as few bytes as possible; messages are
 * named and lie in the log, all else is in the entry: nothing but the log must
 * be kept for it. Entries of a queue are numbered without gaps.
 * They lie in blocks, one or more for each commit, which is cheaper than a
 * row for each (doc/decisions/005).
 *
 *     head  number of the last entry that was put
 *     tail  the consumer is done up to here; head - tail are waiting
 *
 * What a consumer refuses for good becomes a dead letter: it waits outside
 * the queue, under its number, for somebody to retry or drop it.
 */
#ifndef SHM_OUTBOX_H
#define SHM_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/records.h"
#include "shm/store.h"

struct conf;

/* Row of outboxes.def; not what is in the store. */
enum outbox_id {
#define OUTBOX(number, name, is_on) OUTBOX_##name,
#include "shm/outboxes.def"
#undef OUTBOX
	OUTBOX_END
};

/** The number in the store. */
uint8_t outbox_number(enum outbox_id id);
const char *outbox_name(enum outbox_id id);
/** @return OUTBOX_END: no such name */
enum outbox_id outbox_by_name(const char *name);
/** @return OUTBOX_END: no such number */
enum outbox_id outbox_by_number(uint32_t number);
bool outbox_is_on(enum outbox_id id, const struct conf *conf);
/** "message", "delivered" ... */
const char *outbox_kind_name(enum outbox_kind kind);
/** Does it name a message of the log? */
bool outbox_is_of_message(enum outbox_kind kind);

struct outbox_entry {
	uint64_t number;
	int64_t at_ms; /* when it was put */
	enum outbox_kind kind;
	struct conv_key conv; /* DELIVERED, READ */
	uint64_t user;        /* DELIVERED, READ, STATUS, MEMBER: whose */
	uint64_t
	    message_id;  /* MESSAGE, EDIT, DELETE; DELIVERED, READ: up to it */
	uint64_t first;  /* DAMAGED: all from this number on are lost, */
	uint64_t low_id; /* ... messages from this id to message_id */
	uint32_t status; /* STATUS: enum user_status, as others see it */
	uint64_t group;  /* GROUP, MEMBER */
	uint64_t event;  /* GROUP, MEMBER: the log's id of what has happened:
			    of two that contradict each other the higher
			    holds */
	uint32_t role;   /* MEMBER: enum group_role; ROLE_NONE: has left */
	struct outbox_call call; /* CALL */
	/* STATUS: at most STATUS_TEXT_MAX bytes; GROUP: its name; CALL: the
	 * participants, for outbox_part_get */
	struct blob text;
};

/** The participant of a CALL, i < call.part_count. */
struct outbox_part outbox_part_get(const struct outbox_entry *entry, size_t i);

struct outbox_dead {
	struct outbox_entry entry; /* DAMAGED, first 0: only its number */
	int64_t rejected_at_ms;
	int32_t code;      /* of whoever refused it */
	struct blob error; /* a sentence without anybody's data */
};

/* ---- writing: the keeper ---- */

/* A queue within one write transaction. */
struct outbox {
	uint8_t number;
	struct outbox_state state;     /* as of this transaction */
	struct outbox_state committed; /* as of the last one */
	int64_t now_ms;                /* of this transaction */
	/* the block that is being filled */
	uint16_t count;
	size_t len; /* 0: none begun */
	uint64_t low_id;
	uint8_t block[OUTBOX_BLOCK_MAX];
};

/** Read where the queue stands; an empty one if there is none.
 *  @return 0, ERR_CORRUPT */
NODISCARD int outbox_load(
    struct txn *txn, uint8_t number, struct outbox *outbox);
/** A transaction begins: forget what was not committed. */
void outbox_begin(struct outbox *outbox, int64_t now_ms);
/** Its number and time are set here. @return 0, ERR_TOO_LARGE, sticky */
NODISCARD int outbox_put(
    struct txn *txn, struct outbox *outbox, const struct outbox_entry *entry);
/** Before the commit: the block under way and the state into the store. */
NODISCARD int outbox_flush(struct txn *txn, struct outbox *outbox);
/** After it. */
void outbox_committed(struct outbox *outbox);

/**
 * The consumer is done with all entries up to a number. Their rows are
 * deleted by outbox_sweep.
 *
 * @return 0 (also when it was done before), ERR_BAD_REQUEST: there are no
 *         such entries yet
 */
NODISCARD int outbox_done(struct outbox *outbox, uint64_t upto);
/** Delete rows of what is done, at most limit. @param count_out  how many;
 *  as many as limit: perhaps there are more */
NODISCARD int outbox_sweep(
    struct txn *txn, struct outbox *outbox, size_t limit, size_t *count_out);
/**
 * A waiting entry becomes a dead letter; outbox_done moves past it as past
 * any other. Again for the same one: the later error counts. Of one that is
 * lost the letter knows which numbers and which messages of the log.
 *
 * @return 0, ERR_NOT_FOUND: it does not wait
 */
NODISCARD int outbox_reject(struct txn *txn, struct outbox *outbox,
    uint64_t number, int32_t code, const char *error, size_t error_len);

struct outbox_range {
	uint64_t first;
	uint64_t last;
	size_t limit; /* at most so many now */
};

/** Dead letters go to the end of the queue, under new numbers: of one that is
 *  DAMAGED the messages, a slice each time; one that cannot be read itself
 *  stays. @param count_out  how many; 0: nothing is left to do */
NODISCARD int outbox_retry(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, size_t *count_out);
/** Dead letters are forgotten. */
NODISCARD int outbox_drop(struct txn *txn, struct outbox *outbox,
    const struct outbox_range *range, size_t *count_out);

/* ---- reading: anybody ---- */

/** All zero if there never was one. @return 0, ERR_CORRUPT */
NODISCARD int outbox_state_get(
    struct txn *txn, uint8_t number, struct outbox_state *out);
/**
 * Waiting entries from a number on, in order and without a gap: where a block
 * is damaged or gone, one of the kind DAMAGED stands for all that is missing
 * up to the next that can be read. Its messages are among those of the log
 * from low_id (0: not known) to message_id, its other entries are not known.
 *
 * @param from  0: what waits
 * @param fn    returns false to stop; what it is given dies with txn
 * @return      0, ERR_CORRUPT: the queue's state
 */
NODISCARD int outbox_each(struct txn *txn, uint8_t number, uint64_t from,
    bool (*fn)(void *ctx, const struct outbox_entry *entry), void *ctx);
/** Dead letters from a number on; one that cannot be read is DAMAGED. */
NODISCARD int outbox_each_dead(struct txn *txn, uint8_t number, uint64_t from,
    bool (*fn)(void *ctx, const struct outbox_dead *dead), void *ctx);
/** When the first waiting entry was put. @return 0, ERR_NOT_FOUND: none */
NODISCARD int outbox_oldest(
    struct txn *txn, uint8_t number, int64_t *at_ms_out);
/**
 * Retention's bound: no message from this id on may be deleted, some queue or
 * dead letter still needs it. Never too high; it may be too low for a while.
 *
 * @return 0, ERR_NOT_FOUND: nobody needs anything
 */
NODISCARD int outbox_floor(struct txn *txn, uint64_t *id_out);

#endif
