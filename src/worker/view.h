/*
 * view.h - a row of the log as one of its people is shown it.
 */
#ifndef WORKER_VIEW_H
#define WORKER_VIEW_H

#include "shm/log.h"
#include "worker/event.h"
#include "worker/seat.h"

struct view_names {
	uint64_t user;
	char name[NAME_MAX_BYTES];
	size_t len;
};

/** The sender's name as it is now; neighbours are often by the same one.
 *  @return borrowed from cache, which is zeroed at first */
struct blob view_sender_name(
    struct txn *txn, uint64_t user, struct view_names *cache);
/** @param seat  in its conversation; of two people anything */
void view_fill(struct message_view *view, const struct log_message *m,
    const struct seat *seat, const uint64_t *members, size_t member_count,
    struct blob name);
/** Members of a conversation of many; two are in the key, a group has its own
 *  list. @return how many */
size_t view_members(const struct conv *conv, uint64_t members[MEMBERS_MAX]);

#endif
