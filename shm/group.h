/*
 * group.h - groups: their names, who is in them, since when, and how far each
 * has come.
 *
 * Members of a call to which somebody has written have the same rows: roll.h,
 * doc/decisions/027.
 *
 * What is written to a group is in the chain of its conversation (conv.h); the
 * row of that has no members, for one that held a thousand would be rewritten
 * with each receipt. A member has a row of its own, and keeps it after
 * leaving: what was said while he was there stays his.
 */
#ifndef SHM_GROUP_H
#define SHM_GROUP_H

#include "shm/conv.h"
#include "shm/store.h"

struct group {
	uint64_t id;
	uint64_t owner;   /* 0: everybody has left */
	uint64_t changed; /* id of its last event */
	uint32_t member_count;
	size_t name_len;
	char name[GROUP_NAME_MAX];
};

struct member {
	uint64_t group; /* or call: their ids are of one kind */
	uint64_t user;
	struct member_row row;
	struct member_span spans[MEMBER_SPANS_MAX]; /* oldest first */
};

/** "OWNER" ...; "NONE" for what is no role. */
const char *group_role_name(unsigned role);

/** @return 0, ERR_NOT_FOUND, ERR_CORRUPT */
NODISCARD int group_get(struct txn *txn, uint64_t id, struct group *out);
NODISCARD int group_put(struct txn *txn, const struct group *group);

/** Also of one who has left. @return 0, ERR_NOT_FOUND, ERR_CORRUPT */
NODISCARD int member_get(
    struct txn *txn, uint64_t group, uint64_t user, struct member *out);
NODISCARD int member_put(struct txn *txn, const struct member *member);
/** The same with the conversation in the user's list.
 *  @param kind  CONV_GROUP or CONV_COLLABORATION */
NODISCARD int member_put_new(
    struct txn *txn, enum conv_kind kind, const struct member *member);
/** The row, and the conversation in the user's list. */
NODISCARD int member_delete(
    struct txn *txn, const struct conv_key *conv, uint64_t user);
bool member_is_in(const struct member *member);
/** Was he there when this was written? */
bool member_sees(const struct member *member, uint64_t message_id);
/** The newest that he can see of a conversation that ends at last_id is not
 *  above this. */
uint64_t member_last(const struct member *member, uint64_t last_id);
/**
 * In from now on: what is said with an id above at.
 *
 * @param at     id of the event that tells of it
 * @param count  messages in the group so far
 */
void member_join(
    struct member *member, enum group_role role, uint64_t at, uint32_t count);
/** Out from now on. */
void member_leave(struct member *member, uint64_t at, uint32_t count);
/** He has written one more himself. */
void member_wrote(struct member *member);
/** What others wrote and he has not read. @param count  of the conversation */
uint32_t member_unread(const struct member *member, uint32_t count);
/**
 * Move the read mark forward.
 *
 * @return 0; ERR_NOT_FOUND: no message that he can see; ERR_DUPLICATE: not
 *         further than before
 */
NODISCARD int member_mark_read(struct txn *txn, const struct conv *conv,
    struct member *member, uint64_t message_id);
/** Rows of a group with user > above, those who left among them. fn returns
 *  false to stop. */
NODISCARD int member_each(struct txn *txn, uint64_t group, uint64_t above,
    bool (*fn)(void *ctx, const struct member *member), void *ctx);
/**
 * Who is in it now, in order of ids.
 *
 * @param seen  only those who can see this message; 0: all
 * @return 0; ERR_CORRUPT: not as many as its row says, some cannot be read
 */
NODISCARD int group_users(struct txn *txn, const struct group *group,
    uint64_t seen, uint64_t users[GROUP_MEMBERS_MAX], size_t *count_out);
/** conv_page() of what a member can see. */
NODISCARD int member_page(struct txn *txn, const struct conv *conv,
    const struct member *member, const struct conv_range *range,
    struct conv_page *page);

/** How many groups is he in? @return 0, ERR_CORRUPT */
NODISCARD int group_count_get(
    struct txn *txn, uint64_t user, uint32_t *count_out);
/** @param by  1: in one more, -1: in one less */
NODISCARD int group_count_change(struct txn *txn, uint64_t user, int by);

/* What a ClientGroupId has made. */
struct group_made {
	uint64_t group;
	uint64_t request_hash;
	uint64_t seq; /* given to who made it, or 0 */
};

/** @return 0, ERR_NOT_FOUND, ERR_CORRUPT */
NODISCARD int group_made_get(struct txn *txn, uint64_t user,
    const uint8_t hash[16], struct group_made *out);
NODISCARD int group_made_put(struct txn *txn, uint64_t user,
    const uint8_t hash[16], const struct group_made *made);

#endif
