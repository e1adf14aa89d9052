/*
 * conv_unread.c - how much of a conversation is unread.
 *
 * Role:    read marks, and what they leave: among two people counted at once,
 *          among many by a walk that is bounded.
 * Process: keeper moves marks; reader threads of workers count.
 * Blocks:  on cold pages of the disk.
 * Trust:   as conv.c; a damaged message counts as one of others.
 * See:     conv.h, conv_chain.h, t/unit/store_conv.c.
 */
#include "shm/conv_chain.h"

/* More than this is not walked to count what is unread among many: for a mark,
 * and (by readers) where retention has taken a part of it. */
#define MARK_WALK_MAX 64
#define LEFT_WALK_MAX 1000

/* Those of a user from where it stands back to above a position; what lies
 * further back than limit messages is taken to be from others. */
static int
count_own(struct chain *chain, uint64_t user, uint32_t above, int limit,
    uint32_t *own_out)
{
	struct log_message m;
	int rc;

	*own_out = 0;
	for (int i = 0; chain->position > above && i < limit; i++) {
		rc = chain_get(chain, &m);
		if (rc == ERR_NOT_FOUND)
			break; /* retention was here */
		if (rc != 0 && (rc != ERR_CORRUPT || chain->txn->rc != 0))
			return rc;
		if (rc == 0 && m.sender == user)
			++*own_out;
		rc = chain_back(chain, rc == 0 ? &m : NULL);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int
conv_count_own(struct txn *txn, const struct conv *conv, uint64_t user,
    const struct log_message *mark, uint32_t read, uint32_t *own_io)
{
	struct chain chain = {txn, conv, conv->last_id, conv->count, 0};
	uint32_t before = *own_io;
	uint32_t own;
	int rc;

	if (conv->count - mark->position > MARK_WALK_MAX &&
	    mark->position > read && mark->position - read <= MARK_WALK_MAX) {
		chain.id = mark->id;
		chain.position = mark->position;
		rc = count_own(&chain, user, read, MARK_WALK_MAX, &own);
		own = own < before ? before - own : 0;
	} else {
		rc = count_own(
		    &chain, user, mark->position, MARK_WALK_MAX, &own);
	}
	if (rc == 0 && own < before)
		*own_io = own;
	return rc;
}

/* The same for one of many. */
static int
count_own_of(struct txn *txn, const struct conv *conv,
    const struct conv_member *member, const struct log_message *mark,
    uint32_t *own_out)
{
	struct log_message read = {0};
	int rc = 0;

	*own_out = UINT32_MAX;
	if (member->read != 0)
		rc = chain_get_own(txn, conv, member->read, &read);
	if (rc == 0 && conv->count - read.position >= member->unread)
		*own_out = conv->count - read.position - member->unread;
	else
		read.position = mark->position; /* it is gone */
	if (txn->rc != 0)
		return txn->rc;
	return conv_count_own(
	    txn, conv, member->user, mark, read.position, own_out);
}

int
conv_mark_read(struct txn *txn, struct conv *conv, struct conv_member *member,
    uint64_t message_id)
{
	struct log_message mark;
	uint32_t unread;
	uint32_t upto;
	int rc;

	if (message_id <= member->read)
		return ERR_DUPLICATE;
	rc = chain_get_own(txn, conv, message_id, &mark);
	if (rc != 0)
		return rc;
	if (conv->member_count == 2) {
		const struct conv_member *other =
		    &conv->members[member == &conv->members[0]];

		upto = member == &conv->members[0]
			   ? mark.position - mark.lower_count
			   : mark.lower_count;
		unread = other->sent - upto;
	} else {
		rc = count_own_of(txn, conv, member, &mark, &upto);
		if (rc != 0)
			return rc;
		unread = conv->count - mark.position - upto;
	}
	/* Reading on never makes more unread, though the walk may guess so. */
	if (unread < member->unread)
		member->unread = unread;
	member->read = message_id;
	if (member->delivered < message_id)
		member->delivered = message_id;
	return 0;
}

int
conv_unread_left(struct txn *txn, const struct conv *conv, uint64_t user,
    uint64_t read, uint32_t *unread_io)
{
	struct chain chain = {.txn = txn, .conv = conv};
	struct log_message gone = {0};
	uint32_t left = 0;
	uint32_t own = 0;
	int rc;

	if (*unread_io == 0)
		return 0;
	rc = log_oldest(txn, &gone.id);
	if (rc == 0 && read >= gone.id)
		return 0;
	if (rc == 0 && conv->last_id >= gone.id) {
		gone.id--; /* all up to here are */
		rc = chain_position_upto(&chain, gone.id, &gone.position);
		if (rc == 0 && gone.position == 0)
			return 0; /* none of these is */
		chain.id = conv->last_id;
		chain.position = conv->count;
		if (rc == 0)
			rc = count_own(
			    &chain, user, gone.position, LEFT_WALK_MAX, &own);
		left = conv->count - gone.position - own;
	}
	if (rc == ERR_NOT_FOUND)
		rc = 0; /* all are */
	if (rc == 0 && left < *unread_io)
		*unread_io = left;
	return rc;
}
