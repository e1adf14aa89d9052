/*
 * text.h - small strict readers of text.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/**
 * Decimal digits only: no sign, no white space, no leading zero but "0".
 *
 * @param max  largest value accepted
 * @return     0, or ERR_BAD_REQUEST: *out is untouched
 */
NODISCARD int text_parse_u64(
    const char *text, size_t len, uint64_t max, uint64_t *out);
/**
 * "250ms", "10s", "5m", "2h", "30d"; a bare number is seconds.
 *
 * @return 0, or ERR_BAD_REQUEST (form, or more than INT64_MAX ms)
 */
NODISCARD int text_parse_duration_ms(
    const char *text, size_t len, int64_t *ms_out);
/**
 * "512", "64K", "1M", "2G" (powers of 1024); a bare number is bytes.
 *
 * @return 0, or ERR_BAD_REQUEST (form, or more than INT64_MAX bytes)
 */
NODISCARD int text_parse_size(const char *text, size_t len, int64_t *bytes_out);

/** Room that the two below need, with NUL. */
#define TEXT_UNIT_MAX 24
/** The shortest form that text_parse_duration_ms reads back; returns out. */
const char *text_format_duration(int64_t ms, char out[TEXT_UNIT_MAX]);
const char *text_format_size(int64_t bytes, char out[TEXT_UNIT_MAX]);

/** Nearness of two words; see text_nearest. */
struct text_nearest {
	const char *best; /* NULL: nothing near enough */
	size_t distance;
};

/** Offer one candidate (kept by pointer); start with {0}. */
void text_nearest_offer(
    struct text_nearest *nearest, const char *word, const char *candidate);
/**
 * The candidate with the least Levenshtein distance, letters of either case
 * alike; NULL when even that one has little in common with word.
 */
const char *text_nearest(
    const char *word, const char *const *candidates, size_t count);

/** Lower-case hex with NUL; out holds 2 * len + 1 bytes. Returns out. */
char *text_hex(const void *data, size_t len, char *out);

/**
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. Between two pieces of one text; zeroed at its start.
 */
struct utf8_state {
	uint8_t missing; /* continuation bytes still to come */
	uint8_t low;     /* permitted range of the next one */
	uint8_t high;
};

/**
 * Check the next piece; pieces may be cut anywhere.
 *
 * @return false as soon as the text cannot become valid any more; the state
 *         is then useless until it is zeroed
 */
bool utf8_feed(struct utf8_state *state, const void *data, size_t len);
/** Does the text so far end with a whole character? */
bool utf8_is_complete(const struct utf8_state *state);
/** Is this, on its own, valid? */
bool text_utf8_valid(const void *data, size_t len);
/** Length of the character that starts so, 1..4; 1 when none does. */
size_t text_utf8_lead_len(unsigned char lead);
/** Bytes at the front that are whole, valid characters. */
size_t text_utf8_valid_len(const void *data, size_t len);

#endif
