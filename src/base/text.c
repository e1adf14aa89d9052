/*
 * text.c - small strict readers of text.
 *
 * Role:    numbers, durations and sizes of settings and commands; "did you
 *          mean"; hex; UTF-8, incrementally: WebSocket text is refused at its
 *          first bad byte, wherever the network cut it (RFC 6455 8.1).
 * Process: all.
 * Blocks:  never.
 * Trust:   any bytes with a length; text_nearest reads at most 64 of a word.
 * See:     RFC 3629 section 4, conf_parse.c, t/unit/err_buf_text.c.
 */
#include "base/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NEAREST_LEN_MAX 64
#define HIGH_BITS       UINT64_C(0x8080808080808080)

struct text_unit {
	const char *name;
	int64_t factor;
};

/* Largest first, so that formatting finds the shortest form. */
static const struct text_unit duration_units[] = {
    {"d", INT64_C(86400000)},
    {"h", INT64_C(3600000)},
    {"m", INT64_C(60000)},
    {"s", INT64_C(1000)},
    {"ms", INT64_C(1)},
};

static const struct text_unit size_units[] = {
    {"G", INT64_C(1) << 30},
    {"M", INT64_C(1) << 20},
    {"K", INT64_C(1) << 10},
    {"", INT64_C(1)},
};

static const char hex_digits[] = "0123456789abcdef";

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

int
text_parse_u64(const char *text, size_t len, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (len == 0 || (len > 1 && text[0] == '0'))
		return ERR_BAD_REQUEST;
	for (size_t i = 0; i < len; i++) {
		unsigned digit = (unsigned char)text[i] - (unsigned)'0';

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return ERR_BAD_REQUEST;
		value = value * 10 + digit;
	}
	if (value > max)
		return ERR_BAD_REQUEST;
	*out = value;
	return 0;
}

/* A number and one of the units; bare is the factor without a unit. */
static int
text_parse_unit(const char *text, size_t len, const struct text_unit *units,
    size_t unit_count, int64_t bare, int64_t *out)
{
	size_t digits = 0;
	int64_t factor = bare;
	uint64_t value;

	while (digits < len && text[digits] >= '0' && text[digits] <= '9')
		digits++;
	if (digits < len) {
		factor = 0;
		for (size_t i = 0; i < unit_count; i++) {
			if (strlen(units[i].name) == len - digits &&
			    memcmp(units[i].name, text + digits,
				len - digits) == 0)
				factor = units[i].factor;
		}
	}
	if (factor == 0)
		return ERR_BAD_REQUEST;
	if (text_parse_u64(
		text, digits, (uint64_t)(INT64_MAX / factor), &value) != 0)
		return ERR_BAD_REQUEST;
	*out = (int64_t)value * factor;
	return 0;
}

int
text_parse_duration_ms(const char *text, size_t len, int64_t *ms_out)
{
	return text_parse_unit(
	    text, len, duration_units, COUNT_OF(duration_units), 1000, ms_out);
}

int
text_parse_size(const char *text, size_t len, int64_t *bytes_out)
{
	return text_parse_unit(
	    text, len, size_units, COUNT_OF(size_units), 1, bytes_out);
}

static const char *
text_format_unit(int64_t value, const struct text_unit *units,
    size_t unit_count, char out[TEXT_UNIT_MAX])
{
	size_t i = 0;

	if (value == 0)
		return strcpy(out, "0");
	while (i + 1 < unit_count && value % units[i].factor != 0)
		i++;
	snprintf(out, TEXT_UNIT_MAX, "%" PRId64 "%s", value / units[i].factor,
	    units[i].name);
	return out;
}

const char *
text_format_duration(int64_t ms, char out[TEXT_UNIT_MAX])
{
	return text_format_unit(
	    ms, duration_units, COUNT_OF(duration_units), out);
}

const char *
text_format_size(int64_t bytes, char out[TEXT_UNIT_MAX])
{
	return text_format_unit(bytes, size_units, COUNT_OF(size_units), out);
}

static size_t
min_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Levenshtein distance with one row; both lengths are capped. */
static size_t
text_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t row[NEAREST_LEN_MAX + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t above = row[j];
			int is_same = tolower((unsigned char)a[i - 1]) ==
				      tolower((unsigned char)b[j - 1]);
			size_t best = diagonal + (is_same ? 0 : 1);

			best = min_of(best, above + 1);
			row[j] = min_of(best, row[j - 1] + 1);
			diagonal = above;
		}
	}
	return row[b_len];
}

void
text_nearest_offer(
    struct text_nearest *nearest, const char *word, const char *candidate)
{
	size_t word_len = strnlen(word, NEAREST_LEN_MAX);
	size_t candidate_len = strnlen(candidate, NEAREST_LEN_MAX);
	size_t longer = word_len > candidate_len ? word_len : candidate_len;
	size_t distance =
	    text_distance(word, word_len, candidate, candidate_len);

	/* Half the letters wrong is no longer a typing error. */
	if (2 * distance > longer)
		return;
	if (nearest->best == NULL || distance < nearest->distance) {
		nearest->best = candidate;
		nearest->distance = distance;
	}
}

const char *
text_nearest(const char *word, const char *const *candidates, size_t count)
{
	struct text_nearest nearest = {0};

	for (size_t i = 0; i < count; i++)
		text_nearest_offer(&nearest, word, candidates[i]);
	return nearest.best;
}

char *
text_hex(const void *data, size_t len, char *out)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = hex_digits[bytes[i] >> 4];
		out[2 * i + 1] = hex_digits[bytes[i] & 15];
	}
	out[2 * len] = '\0';
	return out;
}

/* Length of the run of ASCII at the front, in whole steps of 8 bytes. */
static size_t
ascii_run(const uint8_t *bytes, size_t len)
{
	size_t at = 0;
	uint64_t word;

	while (len - at >= sizeof(word)) {
		memcpy(&word, bytes + at, sizeof(word));
		if ((word & HIGH_BITS) != 0)
			break;
		at += sizeof(word);
	}
	return at;
}

/* RFC 3629 section 4, UTF8-2 to UTF8-4; false: cannot start a character. */
static bool
utf8_start(struct utf8_state *state, uint8_t lead)
{
	state->low = 0x80;
	state->high = 0xbf;
	if (lead >= 0xc2 && lead <= 0xdf) {
		state->missing = 1;
		return true;
	}
	if ((lead & 0xf0) == 0xe0) {
		state->missing = 2;
		if (lead == 0xe0)
			state->low = 0xa0; /* below: overlong */
		if (lead == 0xed)
			state->high = 0x9f; /* above: surrogates */
		return true;
	}
	if (lead >= 0xf0 && lead <= 0xf4) {
		state->missing = 3;
		if (lead == 0xf0)
			state->low = 0x90; /* below: overlong */
		if (lead == 0xf4)
			state->high = 0x8f; /* above: beyond U+10FFFF */
		return true;
	}
	return false;
}

bool
utf8_feed(struct utf8_state *state, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	size_t at = 0;

	while (at < len) {
		uint8_t byte;

		if (state->missing == 0) {
			at += ascii_run(bytes + at, len - at);
			if (at == len)
				break;
		}
		byte = bytes[at++];
		if (state->missing > 0) {
			if (byte < state->low || byte > state->high)
				return false;
			state->missing--;
			state->low = 0x80;
			state->high = 0xbf;
		} else if (byte >= 0x80 && !utf8_start(state, byte)) {
			return false;
		}
	}
	return true;
}

bool
utf8_is_complete(const struct utf8_state *state)
{
	return state->missing == 0;
}

bool
text_utf8_valid(const void *data, size_t len)
{
	struct utf8_state state = {0};

	return utf8_feed(&state, data, len) && utf8_is_complete(&state);
}

size_t
text_utf8_lead_len(unsigned char lead)
{
	struct utf8_state state = {0};

	if (lead < 0x80 || !utf8_start(&state, lead))
		return 1;
	return 1 + (size_t)state.missing;
}

size_t
text_utf8_valid_len(const void *data, size_t len)
{
	struct utf8_state state = {0};
	const uint8_t *bytes = data;
	size_t whole = 0;

	for (size_t at = 0; at < len; at++) {
		if (!utf8_feed(&state, bytes + at, 1))
			break;
		if (utf8_is_complete(&state))
			whole = at + 1;
	}
	return whole;
}
