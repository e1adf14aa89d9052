/*
 * outbox_priv.h - what the files of an outbox share.
 */
#ifndef SHM_OUTBOX_PRIV_H
#define SHM_OUTBOX_PRIV_H

#include "shm/outbox.h"

#define OUTBOX_KEY_LEN 10
/* A call is the longest. */
#define OUTBOX_TEXT_MAX  (OUTBOX_PARTS_MAX * sizeof(struct outbox_part))
#define OUTBOX_ENTRY_MAX (1 + sizeof(struct outbox_call) + OUTBOX_TEXT_MAX)
_Static_assert(
    OUTBOX_TEXT_MAX >= STATUS_TEXT_MAX && OUTBOX_TEXT_MAX >= GROUP_NAME_MAX,
    "it must hold every text");
_Static_assert(
    sizeof(struct outbox_block) + OUTBOX_ENTRY_MAX <= OUTBOX_BLOCK_MAX,
    "an entry must fit into a block");

void outbox_key(uint8_t out[OUTBOX_KEY_LEN], uint8_t queue,
    enum outbox_section section, uint64_t number);
/** Stands the walk on a row of the queue and section of this key? */
bool outbox_is_within(
    const struct walk *walk, const uint8_t key[OUTBOX_KEY_LEN]);
uint64_t outbox_walk_number(const struct walk *walk);
/** A row begins with its check. */
uint32_t outbox_row_check(
    const uint8_t key[OUTBOX_KEY_LEN], const void *row, size_t len);
bool outbox_is_sound(const struct walk *walk, size_t head_len);
/** @return bytes, 0: there is no such entry */
size_t outbox_encode(
    uint8_t out[OUTBOX_ENTRY_MAX], const struct outbox_entry *entry);
/** @return false: that is no entry */
bool outbox_decode(struct record_cursor *cursor, struct outbox_entry *out);
/** The next entry of the block under way. @param is_again  a retry */
NODISCARD int outbox_append(struct txn *txn, struct outbox *outbox,
    const struct outbox_entry *entry, bool is_again);

#endif
