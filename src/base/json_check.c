/*
 * json_check.c - is this text JSON, by the letter of RFC 8259?
 *
 * Role:    the strict door in front of json-c, which even with
 *          JSON_TOKENER_STRICT (0.16) takes 'x', raw control characters, 1.,
 *          00, -01, NaN and Infinity, turns lone surrogates into U+FFFD,
 *          cuts names at \u0000 and brings integers down to 64 bits.
 * Process: all.
 * Blocks:  never; one pass, no recursion, no allocation.
 * Trust:   any bytes. Depth, containers and values are limited, because each
 *          costs json-c some hundred bytes.
 * See:     json.c, t/unit/json.c.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/json_priv.h"
#include "base/text.h"

struct check {
	const unsigned char *data;
	size_t len;
	size_t at;
	size_t container_count;
	size_t value_count;
	const struct json_limits *limits;
	struct json_fault *fault;
	int depth;
	/* Closing bracket of each open container. */
	unsigned char closers[JSON_DEPTH_MAX];
};

static int
check_fail(struct check *check, const char *expected)
{
	check->fault->expected = expected;
	check->fault->offset = check->at;
	return ERR_BAD_REQUEST;
}

static int
check_too_many(struct check *check, const char *expected)
{
	check_fail(check, expected);
	return ERR_TOO_LARGE;
}

/* The byte here, or -1 at the end. */
static int
check_peek(const struct check *check)
{
	return check->at < check->len ? check->data[check->at] : -1;
}

static void
check_skip_space(struct check *check)
{
	while (check->at < check->len) {
		unsigned char c = check->data[check->at];

		if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
			break;
		check->at++;
	}
}

static bool
is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool
check_digits(struct check *check)
{
	size_t start = check->at;

	while (is_digit(check_peek(check)))
		check->at++;
	return check->at > start;
}

/*
 * An integer from start on that json-c can hold; it would silently bring
 * others down to the nearest one it can (json_util.h, json_parse_int64).
 */
static int
check_integer(struct check *check, size_t start)
{
	bool is_negative = check->data[start] == '-';
	uint64_t max = is_negative ? (uint64_t)INT64_MAX + 1 : UINT64_MAX;
	uint64_t n;

	start += is_negative;
	if (text_parse_u64((const char *)check->data + start, check->at - start,
		max, &n) == 0)
		return 0;
	check->at = start;
	return check_fail(check, "an integer of at most 64 bits");
}

static int
check_number(struct check *check)
{
	size_t start = check->at;
	bool is_integer = true;

	if (check_peek(check) == '-')
		check->at++;
	if (check_peek(check) == '0')
		check->at++;
	else if (!check_digits(check))
		return check_fail(check, "a digit");
	if (is_digit(check_peek(check)))
		return check_fail(check, "no digit after a leading 0");
	if (check_peek(check) == '.') {
		is_integer = false;
		check->at++;
		if (!check_digits(check))
			return check_fail(check, "a digit after the point");
	}
	if (check_peek(check) == 'e' || check_peek(check) == 'E') {
		is_integer = false;
		check->at++;
		if (check_peek(check) == '+' || check_peek(check) == '-')
			check->at++;
		if (!check_digits(check))
			return check_fail(check, "a digit of the exponent");
	}
	return is_integer ? check_integer(check, start) : 0;
}

/* Four hex digits; -1: they are not. */
static int
check_hex4(struct check *check)
{
	int value = 0;

	for (int i = 0; i < 4; i++) {
		int c = check_peek(check);
		int lower = c | 0x20;

		if (is_digit(c))
			value = value * 16 + (c - '0');
		else if (c > 0 && lower >= 'a' && lower <= 'f')
			value = value * 16 + (lower - 'a' + 10);
		else
			return -1;
		check->at++;
	}
	return value;
}

/* After "\u". */
static int
check_unicode(struct check *check, bool is_name)
{
	int unit = check_hex4(check);

	if (unit < 0)
		return check_fail(check, "four hex digits after \\u");
	if (unit == 0 && is_name)
		return check_fail(check, "a name without \\u0000");
	if (unit >= 0xdc00 && unit <= 0xdfff)
		return check_fail(check, "a high surrogate before a low one");
	if (unit < 0xd800 || unit > 0xdbff)
		return 0;
	if (check->len - check->at < 2 || check->data[check->at] != '\\' ||
	    check->data[check->at + 1] != 'u')
		return check_fail(check, "a low surrogate after a high one");
	check->at += 2;
	unit = check_hex4(check);
	if (unit < 0xdc00 || unit > 0xdfff)
		return check_fail(check, "a low surrogate after a high one");
	return 0;
}

static int
check_escape(struct check *check, bool is_name)
{
	int c;

	check->at++; /* the backslash */
	c = check_peek(check);
	if (c <= 0 || strchr("\"\\/bfnrtu", c) == NULL)
		return check_fail(check, "a known escape after \\");
	check->at++;
	return c == 'u' ? check_unicode(check, is_name) : 0;
}

static int
check_string(struct check *check, bool is_name)
{
	if (check_peek(check) != '"')
		return check_fail(
		    check, is_name ? "a name in double quotes" : "a string");
	check->at++;
	for (;;) {
		int c = check_peek(check);
		int rc;

		if (c < 0)
			return check_fail(check, "the end of a string");
		if (c == '"')
			break;
		if (c < 0x20)
			return check_fail(
			    check, "an escape for a control character");
		if (c != '\\') {
			check->at++;
			continue;
		}
		rc = check_escape(check, is_name);
		if (rc != 0)
			return rc;
	}
	check->at++;
	return 0;
}

static int
check_word(struct check *check, const char *word)
{
	size_t len = strlen(word);

	if (check->len - check->at < len ||
	    memcmp(check->data + check->at, word, len) != 0)
		return check_fail(check, "a value");
	check->at += len;
	return 0;
}

static int
check_open(struct check *check, unsigned char closer)
{
	if (check->depth == JSON_DEPTH_MAX)
		return check_too_many(check, "less nesting");
	if (++check->container_count > check->limits->containers)
		return check_too_many(check, "fewer arrays and objects");
	check->closers[check->depth++] = closer;
	check->at++;
	return 0;
}

/* A scalar as a whole, or the bracket that opens a container. */
static int
check_value(struct check *check)
{
	int c = check_peek(check);

	if (++check->value_count > check->limits->values)
		return check_too_many(check, "fewer values");
	switch (c) {
	case '{':
		return check_open(check, '}');
	case '[':
		return check_open(check, ']');
	case '"':
		return check_string(check, false);
	case 't':
		return check_word(check, "true");
	case 'f':
		return check_word(check, "false");
	case 'n':
		return check_word(check, "null");
	default:
		if (c == '-' || is_digit(c))
			return check_number(check);
		return check_fail(check, "a value");
	}
}

/* The name and colon in an object; nothing in an array. */
static int
check_name(struct check *check)
{
	int rc;

	if (check->closers[check->depth - 1] == ']')
		return 0;
	rc = check_string(check, true);
	if (rc != 0)
		return rc;
	check_skip_space(check);
	if (check_peek(check) != ':')
		return check_fail(check, "':'");
	check->at++;
	check_skip_space(check);
	return 0;
}

/*
 * One step inside the innermost container: its end, or a comma where one is
 * due and then a member. *is_first: nothing of the container was read yet.
 */
static int
check_step(struct check *check, bool *is_first)
{
	unsigned char closer = check->closers[check->depth - 1];
	int depth = check->depth;
	int c = check_peek(check);
	int rc;

	if (c == closer) {
		check->at++;
		check->depth--;
		*is_first = false;
		return 0;
	}
	if (!*is_first) {
		if (c != ',')
			return check_fail(
			    check, closer == '}' ? "',' or '}'" : "',' or ']'");
		check->at++;
		check_skip_space(check);
	}
	rc = check_name(check);
	if (rc == 0)
		rc = check_value(check);
	*is_first = check->depth > depth;
	return rc;
}

int
json_check(const char *data, size_t len, const struct json_limits *limits,
    struct json_fault *fault)
{
	struct check check = {.data = (const unsigned char *)data,
	    .len = len,
	    .limits = limits,
	    .fault = fault};
	bool is_first = true;
	int rc;

	if (!text_utf8_valid(data, len)) {
		check.at = text_utf8_valid_len(data, len);
		return check_fail(&check, "valid UTF-8");
	}
	check_skip_space(&check);
	if (check_peek(&check) != '{')
		return check_fail(&check, "'{'");
	rc = check_value(&check);
	while (rc == 0 && check.depth > 0) {
		check_skip_space(&check);
		rc = check_step(&check, &is_first);
	}
	if (rc != 0)
		return rc;
	check_skip_space(&check);
	if (check.at < len)
		return check_fail(&check, "nothing after the object");
	return 0;
}
