/*
 * scan.c - light JSON scanner for what a server sends.
 *
 * Role:    finds the top-level fields parleyload acts on; a full tree per
 *          message would cost more than the server under test spends.
 * Process: each generator of parleyload; pure.
 * Blocks:  never.
 * Trust:   any bytes; never reads beyond len. It checks structure as far as
 *          it walks, not every rule of RFC 8259 (numbers, escapes).
 * See:     client.c (who calls it), t/unit/load_wire.c (every truncation).
 */
#include "load/scan.h"

#include <string.h>

#define SCAN_DEPTH_MAX 64

struct cursor {
	const char *at;
	const char *end;
};

enum field {
	FIELD_COMMAND,
	FIELD_EPOCH,
	FIELD_FROM_USER,
	FIELD_GROUP_ID,
	FIELD_LAST_SEQ,
	FIELD_MESSAGE,
	FIELD_MESSAGE_ID,
	FIELD_REASON,
	FIELD_RECOVERED,
	FIELD_REQUEST_ID,
	FIELD_RETRY_AFTER,
	FIELD_SEQ,
	FIELD_STATUS,
	FIELD_USERS,
	FIELD_USER_ID,
	FIELD_OTHER,
};

#define NAME(text)                                                             \
	{                                                                      \
		text, sizeof(text) - 1                                         \
	}

/* By enum field. */
static const struct scan_text names[] = {
    NAME("Command"),
    NAME("Epoch"),
    NAME("FromUser"),
    NAME("GroupId"),
    NAME("LastSeq"),
    NAME("Message"),
    NAME("MessageId"),
    NAME("Reason"),
    NAME("Recovered"),
    NAME("RequestId"),
    NAME("RetryAfter"),
    NAME("Seq"),
    NAME("Status"),
    NAME("Users"),
    NAME("UserId"),
};

_Static_assert(sizeof(names) / sizeof(names[0]) == FIELD_OTHER, "names");

static void
skip_space(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' ||
				     *c->at == '\n' || *c->at == '\r'))
		c->at++;
}

static bool
take_char(struct cursor *c, char wanted)
{
	skip_space(c);
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

/* At the opening quote. */
static int
take_string(struct cursor *c, struct scan_text *text_out)
{
	const char *start = c->at + 1;
	const char *from = start;

	for (;;) {
		const char *quote = memchr(from, '"', (size_t)(c->end - from));
		const char *back = quote;

		if (!quote)
			return ERR_BAD_REQUEST;
		while (back > start && back[-1] == '\\')
			back--;
		if ((quote - back) % 2 == 0) {
			text_out->data = start;
			text_out->len = (size_t)(quote - start);
			c->at = quote + 1;
			return 0;
		}
		from = quote + 1;
	}
}

/* Number, true, false, null: up to what can end it. */
static int
skip_word(struct cursor *c)
{
	const char *start = c->at;

	while (c->at < c->end) {
		char ch = *c->at;
		bool is_word = (ch >= '0' && ch <= '9') ||
			       (ch >= 'a' && ch <= 'z') || ch == '-' ||
			       ch == '+' || ch == '.' || ch == 'E';

		if (!is_word)
			break;
		c->at++;
	}
	return c->at == start ? ERR_BAD_REQUEST : 0;
}

/* At '{' or '['. The stack is a bit per level: 1 for an object. */
static int
skip_nested(struct cursor *c)
{
	struct scan_text ignored;
	uint64_t stack = 0;
	int depth = 0;

	while (c->at < c->end) {
		char ch = *c->at;

		switch (ch) {
		case '"':
			if (take_string(c, &ignored) != 0)
				return ERR_BAD_REQUEST;
			continue;
		case '{':
		case '[':
			if (++depth > SCAN_DEPTH_MAX)
				return ERR_BAD_REQUEST;
			stack = stack << 1 | (ch == '{');
			break;
		case '}':
		case ']':
			if ((stack & 1) != (ch == '}'))
				return ERR_BAD_REQUEST;
			stack >>= 1;
			if (--depth == 0) {
				c->at++;
				return 0;
			}
			break;
		}
		c->at++;
	}
	return ERR_BAD_REQUEST;
}

/* The value as it stands, quotes and brackets included. */
static int
take_value(struct cursor *c, struct scan_text *raw_out)
{
	struct scan_text ignored;
	const char *start;
	int rc;

	skip_space(c);
	if (c->at == c->end)
		return ERR_BAD_REQUEST;
	start = c->at;
	if (*start == '"')
		rc = take_string(c, &ignored);
	else if (*start == '{' || *start == '[')
		rc = skip_nested(c);
	else
		rc = skip_word(c);
	raw_out->data = start;
	raw_out->len = (size_t)(c->at - start);
	return rc;
}

/* One "key": value of an object; *is_end_out at its closing brace. */
static int
take_pair(struct cursor *c, bool is_first, struct scan_text *key_out,
    struct scan_text *raw_out, bool *is_end_out)
{
	*is_end_out = take_char(c, '}');
	if (*is_end_out)
		return 0;
	if (!is_first && !take_char(c, ','))
		return ERR_BAD_REQUEST;
	skip_space(c);
	if (c->at == c->end || *c->at != '"')
		return ERR_BAD_REQUEST;
	if (take_string(c, key_out) != 0 || !take_char(c, ':'))
		return ERR_BAD_REQUEST;
	return take_value(c, raw_out);
}

static bool
is_string(struct scan_text raw)
{
	return raw.len >= 2 && raw.data[0] == '"';
}

static struct scan_text
unquote(struct scan_text raw)
{
	if (!is_string(raw))
		return (struct scan_text){NULL, 0};
	return (struct scan_text){raw.data + 1, raw.len - 2};
}

static bool
to_u64(struct scan_text text, uint64_t *n_out)
{
	uint64_t n = 0;

	if (text.len == 0 || text.len > 19)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(text.data[i] - '0');
	}
	*n_out = n;
	return true;
}

static enum field
field_of(struct scan_text key)
{
	for (int i = 0; i < FIELD_OTHER; i++) {
		if (key.len == names[i].len &&
		    key.data[0] == names[i].data[0] &&
		    memcmp(key.data, names[i].data, key.len) == 0)
			return (enum field)i;
	}
	return FIELD_OTHER;
}

static int
take_from_user(struct scan_text raw, uint64_t *user_out)
{
	struct cursor c = {raw.data, raw.data + raw.len};
	struct scan_text key;
	struct scan_text value;
	bool is_end;

	if (!take_char(&c, '{'))
		return 0; /* not an object: not ours */
	for (bool is_first = true;; is_first = false) {
		if (take_pair(&c, is_first, &key, &value, &is_end) != 0)
			return ERR_BAD_REQUEST;
		if (is_end)
			return 0;
		if (scan_text_is(key, "UserId") && !to_u64(value, user_out))
			return ERR_BAD_REQUEST;
	}
}

static int
keep(struct scan *scan, enum field field, struct scan_text raw)
{
	switch (field) {
	case FIELD_COMMAND:
		scan->command = unquote(raw);
		break;
	case FIELD_EPOCH:
		scan->epoch = raw;
		break;
	case FIELD_FROM_USER:
		return take_from_user(raw, &scan->from_user);
	case FIELD_GROUP_ID:
		if (!to_u64(unquote(raw), &scan->group_id))
			scan->group_id = 0;
		break;
	case FIELD_LAST_SEQ:
		scan->has_last_seq = to_u64(raw, &scan->last_seq);
		break;
	case FIELD_MESSAGE:
		scan->message = unquote(raw);
		break;
	case FIELD_MESSAGE_ID:
		scan->has_message_id = to_u64(unquote(raw), &scan->message_id);
		break;
	case FIELD_REASON:
		scan->reason = unquote(raw);
		break;
	case FIELD_RECOVERED:
		scan->is_unrecovered = scan_text_is(raw, "false");
		break;
	case FIELD_REQUEST_ID:
		scan->has_request_id = to_u64(raw, &scan->request_id);
		break;
	case FIELD_RETRY_AFTER:
		if (!to_u64(raw, &scan->retry_after))
			scan->retry_after = 0;
		break;
	case FIELD_SEQ:
		scan->has_seq = to_u64(raw, &scan->seq);
		break;
	case FIELD_STATUS:
		scan->status = unquote(raw);
		break;
	case FIELD_USERS:
		scan->users = raw;
		break;
	case FIELD_USER_ID:
		if (!to_u64(raw, &scan->user))
			scan->user = 0;
		break;
	case FIELD_OTHER:
		break;
	}
	return 0;
}

int
scan_parse(const char *data, size_t len, struct scan *scan_out)
{
	struct cursor c = {data, data + len};
	struct scan_text key;
	struct scan_text raw;
	bool is_end;
	int rc;

	*scan_out = (struct scan){0};
	if (!take_char(&c, '{'))
		return ERR_BAD_REQUEST;
	for (bool is_first = true;; is_first = false) {
		rc = take_pair(&c, is_first, &key, &raw, &is_end);
		if (rc != 0)
			return rc;
		if (is_end)
			break;
		if (key.len == 0)
			continue;
		rc = keep(scan_out, field_of(key), raw);
		if (rc != 0)
			return rc;
	}
	skip_space(&c);
	return c.at == c.end ? 0 : ERR_BAD_REQUEST;
}

bool
scan_next(struct scan_text *rest, struct scan_text *item_out)
{
	struct cursor c = {rest->data, rest->data + rest->len};

	if (rest->data == NULL || c.at == c.end ||
	    (*c.at != '[' && *c.at != ','))
		return false;
	c.at++;
	skip_space(&c);
	if (c.at == c.end || *c.at == ']' || take_value(&c, item_out) != 0)
		return false;
	skip_space(&c);
	*rest = (struct scan_text){c.at, (size_t)(c.end - c.at)};
	return true;
}

bool
scan_text_is(struct scan_text text, const char *literal)
{
	return text.data && text.len == strlen(literal) &&
	       memcmp(text.data, literal, text.len) == 0;
}
