/*
 * sent.h - the last sends of a device, so that a retry is known again.
 *
 * What is remembered of a device lies in two places: whole rows of
 * SENT_PER_ROW in `sent`, a ring of SENT_ROWS of them, and the sends since
 * the last whole row (the tail) in the log, where each message names the
 * device's send before it and userhead the last one. A send so dirties no
 * page of `sent`; every eighth does (doc/decisions/006).
 */
#ifndef SHM_SENT_H
#define SHM_SENT_H

#include "shm/log.h"
#include "shm/userhead.h"

#define SENT_MAX                                                               \
	(SENT_ROWS * SENT_PER_ROW) /* in rows; the tail comes on top           \
				    */

/* What must be at hand to tell a new send from a retry without reading rows:
 * a copy of what the store says, good while last_sent is the device's. */
struct sent_recall {
	uint64_t last_sent;
	uint32_t marks[SENT_MAX]; /* of those in rows: where to look closer */
	struct sent_entry tail[SENT_PER_ROW]; /* oldest first */
	uint32_t tail_count;
};

/**
 * Read what the store remembers of a device: up to 16 rows and 7 messages.
 * Rows that are damaged are made again from the log.
 *
 * @param secret  meta's, 16 bytes: the log keeps ids, the rows their hashes
 * @param device  in the user's head
 * @param txn     of the writer
 * @return        0, the store's error
 */
NODISCARD int sent_recall_load(struct txn *txn, const uint8_t secret[16],
    uint64_t user, const struct userhead_device *device,
    struct sent_recall *recall_out);
/**
 * Look for a ClientMessageId among the last 128 and more sends.
 *
 * @param entry_out  on 0 the send it stands for
 * @return           0, ERR_NOT_FOUND, ERR_CORRUPT: load it again
 */
NODISCARD int sent_recall_find(struct txn *txn,
    const struct sent_recall *recall, uint64_t user, uint32_t device,
    const uint8_t hash[16], struct sent_entry *entry_out);
/**
 * Remember a send; its message must be in the log with prev_sent =
 * device->last_sent.
 *
 * @param device  changed, not put
 */
NODISCARD int sent_recall_add(struct txn *txn, struct sent_recall *recall,
    uint64_t user, struct userhead_device *device,
    const struct sent_entry *entry);
/**
 * A message is about to leave the log: if it is one of the sends since the last
 * whole row, these are written to their row now, beside what the round before
 * left there.
 *
 * @param secret  as of sent_recall_load
 * @param id      of the message, which this device sent
 * @return        0, the store's error
 */
NODISCARD int sent_keep(struct txn *txn, const uint8_t secret[16],
    uint64_t user, const struct userhead_device *device, uint64_t id);
/** Do the lengths and the check of a row fit? Rows of schema 2 have none. */
bool sent_is_sound(const struct blob *key, const struct blob *value);
/** Remove a device's rows. */
NODISCARD int sent_forget(struct txn *txn, uint64_t user, uint32_t device);

#endif
