/*
 * call.h - collaborations (calls): who is in one, in which state, until when.
 *
 * A row holds all of a call; beside it lie, kept by call_put:
 *   usercall  a user's open calls: those that ring and those it is in
 *   callhist  calls in which a user's part is (or was once) over: its history
 *   calldue   the next deadline of each open call
 *   callkey   which call a ClientCollaborationId of a user has made
 * What may follow what is said in one place: keeper/call_table.def.
 */
#ifndef SHM_CALL_H
#define SHM_CALL_H

#include <stdbool.h>

#include "shm/store.h"

enum call_state { CALL_RINGING, CALL_ACTIVE, CALL_ENDED, CALL_STATE_END };

enum call_kind {
	CALL_VIDEO,
	CALL_AUDIO,
	CALL_SCREEN,
	CALL_DATA,
	CALL_KIND_END
};

enum call_outcome {
	CALL_OUTCOME_NONE, /* not over yet */
	CALL_OUTCOME_ANSWERED,
	CALL_OUTCOME_MISSED,
	CALL_OUTCOME_REJECTED,
	CALL_OUTCOME_CANCELLED,
	CALL_OUTCOME_FAILED,
	CALL_OUTCOME_END
};

/* Of one participant. */
enum part_state {
	PART_RINGING,
	PART_JOINED,       /* with the session that its row names */
	PART_RECONNECTING, /* that session is lost, the grace runs */
	PART_REJECTED,
	PART_LEFT,
	PART_MISSED,
	PART_BUSY,      /* did not ring: see [calls] ring_when_busy */
	PART_CANCELLED, /* the ringing was taken back */
	PART_STATE_END
};

/* What is told of a participant, in the order in which it is told. */
enum call_event {
	CALL_EVENT_NONE,
	CALL_EVENT_INVITED,
	CALL_EVENT_ACCEPTED, /* it has answered the ringing */
	CALL_EVENT_JOINED,   /* came in again after it had left */
	CALL_EVENT_REJOINED, /* the lost connection is back */
	CALL_EVENT_REJECTED,
	CALL_EVENT_CANCELLED,
	CALL_EVENT_RECONNECTING,
	CALL_EVENT_MISSED,
	CALL_EVENT_LEFT,
	CALL_EVENT_ENDED, /* of the call */
	CALL_EVENT_ANSWERED_ELSEWHERE,
	CALL_EVENT_END
};

struct call {
	uint64_t id;
	struct call_row row;
	struct call_part parts[CALL_PARTS_MAX]; /* the first one has made it */
	struct blob payload;                    /* JSON, empty: none */
	/* what the store has, see call_put */
	int64_t stored_due_ms;
	bool is_stored;
	uint8_t stored_class[CALL_PARTS_MAX];
	bool is_in_history[CALL_PARTS_MAX];
};

/** @return 0, ERR_NOT_FOUND, ERR_CORRUPT; payload points into the map */
NODISCARD int call_get(struct txn *txn, uint64_t id, struct call *out);
/**
 * The row and all that lies beside it; row.due_ms is made anew from tell_at_ms
 * and the participants' deadlines.
 *
 * @param call  new (zeroed), or from call_get; its payload does not lie in the
 *              store
 */
NODISCARD int call_put(struct txn *txn, struct call *call);
/** Forget it, and that it was in anybody's history. */
NODISCARD int call_delete(struct txn *txn, const struct call *call);
/** @return NULL: user is no participant */
struct call_part *call_find_part(struct call *call, uint64_t user);
/** Is it JOINED or RECONNECTING? */
bool call_part_is_in(const struct call_part *part);
/** The same, and did it ring, as of the last call_get or call_put? */
bool call_was_in(const struct call *call, uint32_t part);
bool call_was_ringing(const struct call *call, uint32_t part);
/** The call that a user's ClientCollaborationId (its keyed hash) has made.
 *  @return 0, ERR_NOT_FOUND */
NODISCARD int call_find_key(
    struct txn *txn, uint64_t user, const uint8_t hash[16], uint64_t *id_out);
/** Open calls of a user, oldest first. fn returns false to stop.
 *  @param is_in  the user has joined it, else it rings */
NODISCARD int call_each_open(struct txn *txn, uint64_t user,
    bool (*fn)(void *ctx, uint64_t id, bool is_in), void *ctx);
/** The first open call of anybody behind (user, id). @return 0, ERR_NOT_FOUND
 */
NODISCARD int call_next_open(
    struct txn *txn, uint64_t *user_io, uint64_t *id_io);
/** Has the user joined one other than the call except? */
NODISCARD int call_is_in_any(
    struct txn *txn, uint64_t user, uint64_t except, bool *is_in_out);
/** A user's history below a call (0: from the end), newest first. fn returns
 *  false to stop. */
NODISCARD int call_each_past(struct txn *txn, uint64_t user, uint64_t before,
    bool (*fn)(void *ctx, uint64_t id), void *ctx);
/** The call whose deadline is the first. @return 0, ERR_NOT_FOUND: none */
NODISCARD int call_first_due(
    struct txn *txn, int64_t *due_ms_out, uint64_t *id_out);
/** The deadline of a call that is not there, or is another one. */
NODISCARD int call_drop_due(struct txn *txn, int64_t due_ms, uint64_t id);

const char *call_state_name(enum call_state state);
const char *call_kind_name(enum call_kind kind);
const char *call_outcome_name(enum call_outcome outcome);
const char *part_state_name(enum part_state state);
const char *call_event_name(enum call_event event);
/** @return 0 or ERR_BAD_REQUEST */
NODISCARD int call_kind_parse(
    const char *text, size_t len, enum call_kind *out);

/** For verify.c: judge a row of one of these tables. @return NULL: sound */
const char *call_verify(struct txn *txn, enum store_dbi dbi,
    const struct blob *key, const struct blob *value);

#endif
