/*
 * log.h - the log of messages and of events: appended in order of ids, checked
 * when read.
 */
#ifndef SHM_LOG_H
#define SHM_LOG_H

#include "shm/store.h"

struct log_message {
	uint64_t id;
	struct conv_key conv;
	uint64_t prev;
	uint64_t sender;
	int64_t client_time_ms; /* INT64_MIN: not given */
	uint64_t reply_to;
	uint64_t prev_sent;
	uint64_t request_hash;
	uint64_t sender_seq;
	uint32_t sender_device;
	uint32_t position;
	uint32_t lower_count;
	uint8_t kind;       /* enum log_kind */
	uint8_t flags;      /* enum log_flags */
	uint16_t edits;     /* how often */
	int64_t changed_ms; /* with flags: when */
	struct blob body;
	struct blob type;
	struct blob client_id;
	struct blob attachment;
};

NODISCARD int log_append(struct txn *txn, const struct log_message *message);
/** Put a changed row in the place of what log_get gave. Its blobs must not
 *  point into the map: writing moves what is there. Of the old one nothing is
 *  left but what lies in the free room of pages. */
NODISCARD int log_rewrite(struct txn *txn, const struct log_message *message);
/**
 * @param out  blobs point into the map
 * @return     0, ERR_NOT_FOUND, ERR_CORRUPT (length or checksum; logged)
 */
NODISCARD int log_get(struct txn *txn, uint64_t id, struct log_message *out);
/** Id of the first row: retention deletes from the front, and nothing from
 *  outbox_floor() on.
 *  @return 0, ERR_NOT_FOUND: the log is empty */
NODISCARD int log_oldest(struct txn *txn, uint64_t *id_out);
/** Id of the first row from an id on, readable or not.
 *  @return 0, ERR_NOT_FOUND */
NODISCARD int log_next(struct txn *txn, uint64_t from, uint64_t *id_out);
/** Can it be read, and is it no event? */
bool log_is_message(struct txn *txn, uint64_t id);
/** Id of the row with which count messages that can be read end at upto, or of
 *  the first of fewer.
 *  @return 0, ERR_NOT_FOUND: there is none up to it */
NODISCARD int log_back(
    struct txn *txn, uint64_t upto, uint64_t count, uint64_t *id_out);
/* For a way around a damaged row. What these tell is not checked: only what
 * log_get then says of the message counts. */

/** The id before it in its conversation. @return 0, ERR_NOT_FOUND */
NODISCARD int log_guess_prev(struct txn *txn, uint64_t id, uint64_t *prev_out);
/** The id of the sender's device before it. @return 0, ERR_NOT_FOUND */
NODISCARD int log_guess_prev_sent(
    struct txn *txn, uint64_t id, uint64_t *prev_out);
/** The nearest row below id of a conversation.
 *  @param low    not below it
 *  @param limit  rows at most that are looked at
 *  @return       0, ERR_NOT_FOUND */
NODISCARD int log_guess_below(struct txn *txn, uint64_t id,
    const struct conv_key *conv, uint64_t low, size_t limit, uint64_t *id_out);

#endif
