/*
 * inbox.h - durable events waiting for a user's devices, by seq.
 */
#ifndef SHM_INBOX_H
#define SHM_INBOX_H

#include "shm/store.h"

struct inbox_event {
	uint64_t seq;
	uint64_t ref;
	struct conv_key conv;
	uint32_t kind;
};

/** @return false: its lengths or its check do not fit */
bool inbox_decode(
    const struct blob *key, const struct blob *value, struct inbox_event *out);
NODISCARD int inbox_put(
    struct txn *txn, uint64_t user, const struct inbox_event *event);
/**
 * Events in (above, upto], oldest first. A row that fails its check is logged
 * and left out: one damaged event must not keep all others from their user.
 *
 * @param fn  returns false to stop
 * @return    0 or the store's error
 */
NODISCARD int inbox_each(struct txn *txn, uint64_t user, uint64_t above,
    uint64_t upto, bool (*fn)(void *ctx, const struct inbox_event *event),
    void *ctx);
/** The first user from an id on for whom something waits.
 *  @return 0, ERR_NOT_FOUND */
NODISCARD int inbox_next_user(
    struct txn *txn, uint64_t from, uint64_t *user_out);
/**
 * Delete the events in (*above_io, upto], oldest first.
 *
 * @param above_io  out: up to here they are gone; upto when all are
 * @param limit     rows at most, 1 or more
 */
NODISCARD int inbox_delete(struct txn *txn, uint64_t user, uint64_t *above_io,
    uint64_t upto, size_t limit);

#endif
