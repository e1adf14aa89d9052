/*
 * presence.h - who is online, in the presence environment.
 *
 * A copy for readers and an index for cleaning up after a dead worker. The
 * truth is in userhead, in the same transaction as the ring positions; what
 * is here may be written twice when the keeper dies between the two commits.
 */
#ifndef SHM_PRESENCE_H
#define SHM_PRESENCE_H

#include "shm/records.h"
#include "shm/store.h"

struct presence {
	uint64_t workers; /* bit n: has a session on worker n */
	uint64_t
	    version; /* see presence_version; 0: others were told nothing */
	int64_t last_seen_ms;
	enum user_status status; /* as others see it */
	bool is_in_call;         /* likewise */
	size_t text_len;
	char text[STATUS_TEXT_MAX];
};

/** @return 0, ERR_NOT_FOUND: never seen since the machine started */
NODISCARD int presence_get(
    struct txn *txn, uint64_t user, struct presence *out);
NODISCARD int presence_put(
    struct txn *txn, uint64_t user, const struct presence *presence);

/*
 * Versions put in order what others are told: a row has that of its last
 * P_PRESENCE, a snapshot one that is not below that of any row in it. A session
 * that was given a snapshot has been told everything up to that.
 */
#define PRESENCE_LAST 0xffffu
/** @param place  of the telling in its transaction; PRESENCE_LAST: a snapshot
 */
uint64_t presence_version(const struct txn *txn, uint64_t place);

NODISCARD int presence_session_put(struct txn *txn, int worker_slot,
    uint32_t generation, uint64_t user, uint64_t session);
NODISCARD int presence_session_delete(struct txn *txn, int worker_slot,
    uint32_t generation, uint64_t user, uint64_t session);
/**
 * Sessions of a worker slot that are not of generation keep (0: all).
 * fn returns false to stop.
 */
NODISCARD int presence_each_stale(struct txn *txn, int worker_slot,
    uint32_t keep,
    bool (*fn)(void *ctx, uint32_t generation, uint64_t user, uint64_t session),
    void *ctx);

const char *status_name(enum user_status status);
/** @return 0 or ERR_BAD_REQUEST */
NODISCARD int status_parse(const char *text, size_t len, enum user_status *out);

#endif
