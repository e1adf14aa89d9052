/*
 * ids.c - message ids and conversation keys.
 *
 * Role:    makes them, takes them apart, writes and reads their text; see
 *          ids.h for the forms.
 * Process: the keeper makes ids; all read and write their text. Pure: no
 *          state, the caller has the clock.
 * Blocks:  never.
 * Trust:   text comes from clients: anything but the one form is refused.
 * See:     t/unit/ids.c (clock jumps, malformed keys).
 */
#include "shm/ids.h"

#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/text.h"

/* First byte of a key; user ids stay below 2^53, so theirs is 0. */
#define KEY_GROUP         0x40
#define KEY_COLLABORATION 0x20

#define ID_EPOCH_MS     1577836800000LL /* 2020-01-01 UTC */
#define ID_TIME_SHIFT   22
#define ID_COUNTER_STEP (1ULL << 8)
#define ID_NODE_MASK    0xffULL

uint64_t
message_id_next(uint64_t last, int64_t now_ms, unsigned node)
{
	uint64_t id = 0;

	if (now_ms > ID_EPOCH_MS)
		id = (uint64_t)(now_ms - ID_EPOCH_MS) << ID_TIME_SHIFT;
	id |= node & ID_NODE_MASK;
	/* A full or borrowed millisecond runs over into the next one. */
	if (id <= last)
		id = ((last & ~ID_NODE_MASK) + ID_COUNTER_STEP) |
		     (node & ID_NODE_MASK);
	return id;
}

int64_t
message_id_time_ms(uint64_t id)
{
	return (int64_t)(id >> ID_TIME_SHIFT) + ID_EPOCH_MS;
}

static void
put_be64(uint8_t *out, uint64_t n)
{
	n = __builtin_bswap64(n);
	memcpy(out, &n, sizeof(n));
}

static uint64_t
get_be64(const uint8_t *in)
{
	uint64_t n;

	memcpy(&n, in, sizeof(n));
	return __builtin_bswap64(n);
}

void
conv_key_make(const uint64_t *members, size_t count, struct conv_key *out)
{
	if (count <= 2) {
		put_be64(out->bytes, members[0]);
		put_be64(out->bytes + 8, members[count - 1]);
		return;
	}
	crypto_sha256_128(members, count * sizeof(*members), out->bytes);
	out->bytes[0] |= 0x80; /* user ids stay below 2^53 */
}

enum conv_kind
conv_key_kind(const struct conv_key *key)
{
	if ((key->bytes[0] & 0x80) != 0)
		return CONV_MANY;
	switch (key->bytes[0]) {
	case KEY_GROUP:
		return CONV_GROUP;
	case KEY_COLLABORATION:
		return CONV_COLLABORATION;
	default:
		return CONV_DIRECT;
	}
}

bool
conv_key_is_direct(const struct conv_key *key)
{
	return conv_key_kind(key) == CONV_DIRECT;
}

bool
conv_key_has_seats(const struct conv_key *key)
{
	enum conv_kind kind = conv_key_kind(key);

	return kind == CONV_GROUP || kind == CONV_COLLABORATION;
}

void
conv_key_of(enum conv_kind kind, uint64_t id, struct conv_key *out)
{
	*out = (struct conv_key){0};
	out->bytes[0] = kind == CONV_GROUP ? KEY_GROUP : KEY_COLLABORATION;
	put_be64(out->bytes + 8, id);
}

uint64_t
conv_key_id(const struct conv_key *key)
{
	return get_be64(key->bytes + 8);
}

void
conv_key_members(
    const struct conv_key *key, uint64_t *lower_out, uint64_t *higher_out)
{
	*lower_out = get_be64(key->bytes);
	*higher_out = get_be64(key->bytes + 8);
}

bool
conv_key_equal(const struct conv_key *a, const struct conv_key *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

const char *
conv_key_format(const struct conv_key *key, char out[CONV_TEXT_MAX])
{
	uint64_t lower;
	uint64_t higher;

	if (conv_key_is_direct(key)) {
		conv_key_members(key, &lower, &higher);
		snprintf(out, CONV_TEXT_MAX, "%llu-%llu",
		    (unsigned long long)lower, (unsigned long long)higher);
		return out;
	}
	if (conv_key_kind(key) != CONV_MANY) {
		snprintf(out, CONV_TEXT_MAX, "%c%llu",
		    conv_key_kind(key) == CONV_GROUP ? 'g' : 'c',
		    (unsigned long long)conv_key_id(key));
		return out;
	}
	out[0] = 'm';
	for (int i = 0; i < 16; i++)
		snprintf(out + 1 + 2 * i, 3, "%02x", key->bytes[i]);
	return out;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static int
parse_hex_key(const char *text, size_t len, struct conv_key *out)
{
	if (len != 32)
		return ERR_BAD_REQUEST;
	for (int i = 0; i < 16; i++) {
		int high = hex_digit(text[2 * i]);
		int low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return ERR_BAD_REQUEST;
		out->bytes[i] = (uint8_t)(high << 4 | low);
	}
	return (out->bytes[0] & 0x80) != 0 ? 0 : ERR_BAD_REQUEST;
}

int
conv_key_parse(const char *text, size_t len, struct conv_key *out)
{
	const char *dash;
	uint64_t lower;
	uint64_t higher;

	if (len > 0 && text[0] == 'm')
		return parse_hex_key(text + 1, len - 1, out);
	if (len > 0 && (text[0] == 'g' || text[0] == 'c')) {
		uint64_t id;

		if (text_parse_u64(text + 1, len - 1, MESSAGE_ID_MAX, &id) !=
			0 ||
		    id == 0)
			return ERR_BAD_REQUEST;
		conv_key_of(
		    text[0] == 'g' ? CONV_GROUP : CONV_COLLABORATION, id, out);
		return 0;
	}
	dash = memchr(text, '-', len);
	if (dash == NULL)
		return ERR_BAD_REQUEST;
	if (text_parse_u64(text, (size_t)(dash - text), USER_ID_MAX, &lower) !=
		0 ||
	    text_parse_u64(dash + 1, len - (size_t)(dash + 1 - text),
		USER_ID_MAX, &higher) != 0 ||
	    lower == 0 || higher < lower)
		return ERR_BAD_REQUEST;
	put_be64(out->bytes, lower);
	put_be64(out->bytes + 8, higher);
	return 0;
}
