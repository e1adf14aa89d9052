/*
 * conv_chain.h - the way back through a conversation: what conv.c and
 * conv_unread.c share.
 */
#ifndef SHM_CONV_CHAIN_H
#define SHM_CONV_CHAIN_H

#include "shm/conv.h"

/* Where a walk back through a conversation stands. */
struct chain {
	struct txn *txn;
	const struct conv *conv;
	uint64_t id; /* 0: beyond the first message */
	uint32_t position;
	size_t damaged; /* stepped over without standing on them */
};

/** A message that belongs to this conversation, or ERR_NOT_FOUND. */
NODISCARD int chain_get_own(struct txn *txn, const struct conv *conv,
    uint64_t id, struct log_message *out);
/**
 * The message it stands on.
 *
 * @return 0, ERR_NOT_FOUND: it and all older ones are gone, ERR_CORRUPT: it
 *         cannot be read, go on
 */
NODISCARD int chain_get(struct chain *chain, struct log_message *out);
/** One message back. @param m  the one it stands on, NULL: it is damaged */
NODISCARD int chain_back(struct chain *chain, const struct log_message *m);
/**
 * Position of the last message at or before id. Where retention has taken
 * that one, the position before the oldest that is left.
 */
NODISCARD int chain_position_upto(
    struct chain *chain, uint64_t id, uint32_t *position_out);

#endif
