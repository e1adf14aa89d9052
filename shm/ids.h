/*
 * ids.h - message ids and conversation keys: how they are made and written.
 *
 * A message id is 63 bits: milliseconds since 2020 (41), counter (14), node
 * (8). Those made later by one server compare greater, also across restarts:
 * the keeper stores the last one in each commit.
 *
 * A conversation is named by 16 bytes:
 *   two people     lower user id, higher user id (one's own notes: twice the
 *                  same), big endian
 *   more people    1 bit set, 127 bits of SHA-256 over the sorted members
 *   a group        0x40, 7 zeros, its id, big endian
 *   a call         0x20, 7 zeros, its id, big endian
 * On the wire "17-42", "m" + 32 hex digits, "g" and "c" + the id.
 */
#ifndef SHM_IDS_H
#define SHM_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define USER_ID_MAX    ((1ULL << 53) - 1)
#define SEQ_MAX        ((1ULL << 53) - 1)
#define MESSAGE_ID_MAX ((1ULL << 63) - 1)
#define CONV_TEXT_MAX  40

struct conv_key {
	uint8_t bytes[16];
};

/** Next id: above all with the time and counter of last, not before now_ms. */
uint64_t message_id_next(uint64_t last, int64_t now_ms, unsigned node);
/** ms since 1970. */
int64_t message_id_time_ms(uint64_t id);

/**
 * @param members  sorted, unique, all of them, 1..RECIPIENTS_MAX + 1
 */
void conv_key_make(const uint64_t *members, size_t count, struct conv_key *out);
enum conv_kind { CONV_DIRECT, CONV_MANY, CONV_GROUP, CONV_COLLABORATION };
enum conv_kind conv_key_kind(const struct conv_key *key);
/** A group or a call: who sees what of it say rows of their own (group.h), not
 *  the conversation's row. */
bool conv_key_has_seats(const struct conv_key *key);
/** @param kind  CONV_GROUP or CONV_COLLABORATION */
void conv_key_of(enum conv_kind kind, uint64_t id, struct conv_key *out);
/** The id of a group or of a call. */
uint64_t conv_key_id(const struct conv_key *key);
bool conv_key_is_direct(const struct conv_key *key);
/** The two people of a direct conversation, lower first. */
void conv_key_members(
    const struct conv_key *key, uint64_t *lower_out, uint64_t *higher_out);
bool conv_key_equal(const struct conv_key *a, const struct conv_key *b);
/** @return out, NUL-terminated */
const char *conv_key_format(
    const struct conv_key *key, char out[CONV_TEXT_MAX]);
/** @return 0 or ERR_BAD_REQUEST */
NODISCARD int conv_key_parse(
    const char *text, size_t len, struct conv_key *out);

#endif
