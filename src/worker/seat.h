/*
 * seat.h - a conversation as one of its people sees it: all of it, or of a
 * group or a call what was said while he was there.
 */
#ifndef WORKER_SEAT_H
#define WORKER_SEAT_H

#include "base/buf.h"
#include "shm/group.h"
#include "shm/log.h"

struct seat {
	uint64_t user;
	struct conv conv;
	struct member member; /* in a group or a call */
};

/** @return 0; ERR_NOT_FOUND: there is no such conversation, or it is not his;
 *          the store's error */
NODISCARD int seat_take(struct txn *txn, const struct conv_key *key,
    uint64_t user, struct seat *out);
/** May he see this message of it? */
bool seat_sees(const struct seat *seat, uint64_t message_id);
/** May he read its text, too? Not if it was changed when he was away: that was
 *  not said to him, and what it said before is not kept. */
bool seat_reads(const struct seat *seat, const struct log_message *m);
/**
 * Draw the ends of a range in, to where what he may see of it begins and ends.
 *
 * @param after_io   ids above it
 * @param before_io  and below it; 0: all
 * @return           false: none of it can be his
 */
bool seat_narrow(
    const struct seat *seat, uint64_t *after_io, uint64_t *before_io);
/** conv_page() of what he may see. */
NODISCARD int seat_page(struct txn *txn, const struct seat *seat,
    const struct conv_range *range, struct conv_page *page);
/** Id of the last message that he may see. 0: there is none. */
NODISCARD int seat_newest(
    struct txn *txn, const struct seat *seat, uint64_t *id_out);
/** What stands for its age in a list: its last message, or when he came into
 *  the group. 0: there is nothing in it, or only what was older than oldest,
 *  the oldest message that anybody has; or, of a call, nothing that he may see:
 *  it is not in his list. */
uint64_t seat_last(const struct seat *seat, uint64_t oldest);
/** What others wrote above what he has marked as read, as far as it is still
 *  there. @return 0, the store's error */
NODISCARD int seat_unread(
    struct txn *txn, const struct seat *seat, uint32_t *unread_out);
/** GroupId, Role, Name, OwnerId, MemberCount of a group; who has left gets the
 *  name that it had then, and the last two not. */
void seat_put_group(struct buf *out, struct txn *txn, const struct member *self,
    const struct group *group);

#endif
