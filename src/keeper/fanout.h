/*
 * fanout.h - a durable event to its users: inbox rows, and one record for each
 * worker on which one of them is.
 */
#ifndef KEEPER_FANOUT_H
#define KEEPER_FANOUT_H

#include "keeper/keeper_priv.h"
#include "shm/group.h"
#include "shm/log.h"

/* Users that one event can have: a group and who was taken out of it. */
#define FANOUT_MAX (GROUP_MEMBERS_MAX + RECIPIENTS_MAX)

struct fanout_event {
	enum event_kind kind;
	const struct log_message *row; /* what it refers to, as in the store */
	const uint64_t *members;       /* on the wire; count 0: the key says */
	size_t member_count;
	struct blob name;        /* of row->sender */
	uint64_t except_session; /* of row->sender: its reply stands for it */
};

/** Before the first fanout_put of an event. */
void fanout_begin(void);
/**
 * The next seq of a user, and the row in his inbox; the caller puts head.
 *
 * @return 0, the store's error
 */
NODISCARD int fanout_put(struct keeper *keeper, struct userhead *head,
    const struct fanout_event *event);
/** The same with the head read and put. */
NODISCARD int fanout_put_user(
    struct keeper *keeper, uint64_t user, const struct fanout_event *event);
/**
 * All who are in the group or the call of the event, but one.
 *
 * @param seen       only those who can see this message (a change of it is not
 *                   for who has come since); 0: all
 * @param count_out  how many of them there are, with that one; may be NULL
 * @return           0, ERR_CORRUPT: one cannot be read, so none has got it; the
 *                   store's error
 */
NODISCARD int fanout_put_roll(struct keeper *keeper, uint64_t but,
    uint64_t seen, const struct fanout_event *event, size_t *count_out);
/** Behind all of them: hints to the workers. */
void fanout_send(struct keeper *keeper, const struct fanout_event *event);

#endif
