/*
 * conv.h - conversations: who is in it, how far each has come, and finding
 * a page of its messages.
 */
#ifndef SHM_CONV_H
#define SHM_CONV_H

#include "shm/log.h"
#include "shm/store.h"

struct conv {
	struct conv_key key;
	uint64_t last_id;
	uint32_t count;
	uint32_t member_count; /* 0: a group, see group.h */
	struct conv_member members[MEMBERS_MAX];
};

/** @return 0, ERR_NOT_FOUND, ERR_CORRUPT */
NODISCARD int conv_get(
    struct txn *txn, const struct conv_key *key, struct conv *out);
NODISCARD int conv_put(struct txn *txn, const struct conv *conv);
/** A conversation without messages; also enters it in each member's list. */
NODISCARD int conv_create(struct txn *txn, const struct conv_key *key,
    const uint64_t *members, size_t count, struct conv *out);
/** Enter a conversation in a user's list. */
NODISCARD int conv_list_put(
    struct txn *txn, uint64_t user, const struct conv_key *key);
/** NULL when user is not a member. */
struct conv_member *conv_member(struct conv *conv, uint64_t user);
/**
 * Count id as the next message of sender: position, prev, lower_count of
 * message are set, the index is kept; the caller stores log and conv.
 */
NODISCARD int conv_add_message(
    struct txn *txn, struct conv *conv, struct log_message *message);
/** A message is about to leave the log: so does its row of the index. */
NODISCARD int conv_forget_message(
    struct txn *txn, const struct log_message *message);
/**
 * Of the messages of others above read that were counted: no more than
 * retention has left.
 */
NODISCARD int conv_unread_left(struct txn *txn, const struct conv *conv,
    uint64_t user, uint64_t read, uint32_t *unread_io);
/**
 * Move a member's read mark forward and count anew what is unread.
 *
 * @return 0; ERR_NOT_FOUND: no such message in this conversation;
 *         ERR_DUPLICATE: not further than before, nothing changed
 */
NODISCARD int conv_mark_read(struct txn *txn, struct conv *conv,
    struct conv_member *member, uint64_t message_id);

/**
 * What a user wrote himself above a message, counted from the end or from what
 * he had read before, whichever is near; where neither is, what lies further
 * back is taken to be from others.
 *
 * @param read    position of what he had read before
 * @param own_io  what he wrote above that; never becomes more
 */
NODISCARD int conv_count_own(struct txn *txn, const struct conv *conv,
    uint64_t user, const struct log_message *mark, uint32_t read,
    uint32_t *own_io);

struct conv_range { /* arguments of conv_page() */
	uint64_t before;
	uint64_t after;
	size_t limit;
};

struct conv_page {
	uint64_t *ids; /* the caller's room for limit of them */
	size_t count;
	bool has_more;  /* is there anything beyond the page? */
	size_t damaged; /* messages of it that cannot be read: left out */
};

/**
 * Ids of one page. A damaged message is stepped over; the page goes on with
 * the next one that can be read.
 *
 * @param before  newest first, ids < before (0: from the end); ignored when
 *                after is set
 * @param after   not 0: the page just above it, oldest first
 * @param limit   1..200
 */
NODISCARD int conv_page(struct txn *txn, const struct conv *conv,
    uint64_t before, uint64_t after, size_t limit, struct conv_page *page);
/** Conversations of a user from a key on (NULL: all), in key order. fn returns
 *  false to stop. */
NODISCARD int conv_each(struct txn *txn, uint64_t user,
    const struct conv_key *from,
    bool (*fn)(void *ctx, const struct conv_key *key), void *ctx);

#endif
