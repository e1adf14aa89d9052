/*
 * json_write.c - JSON text into a buffer.
 *
 * Role:    replies and events, logs, metrics, the answers of the console.
 * Process: all.
 * Blocks:  never.
 * Trust:   strings are valid UTF-8 (checked where they came in); every
 *          control character in them is escaped here.
 * See:     RFC 8259 section 7, t/unit/json.c.
 */
#include <string.h>

#include "base/json.h"

static const char hex_digits[] = "0123456789abcdef";

/* 0: copied as it is; 'u': \u00xx; else the letter after the backslash. */
static const char escapes[256] = {
    [0x00] = 'u',
    [0x01] = 'u',
    [0x02] = 'u',
    [0x03] = 'u',
    [0x04] = 'u',
    [0x05] = 'u',
    [0x06] = 'u',
    [0x07] = 'u',
    ['\b'] = 'b',
    ['\t'] = 't',
    ['\n'] = 'n',
    [0x0b] = 'u',
    ['\f'] = 'f',
    ['\r'] = 'r',
    [0x0e] = 'u',
    [0x0f] = 'u',
    [0x10] = 'u',
    [0x11] = 'u',
    [0x12] = 'u',
    [0x13] = 'u',
    [0x14] = 'u',
    [0x15] = 'u',
    [0x16] = 'u',
    [0x17] = 'u',
    [0x18] = 'u',
    [0x19] = 'u',
    [0x1a] = 'u',
    [0x1b] = 'u',
    [0x1c] = 'u',
    [0x1d] = 'u',
    [0x1e] = 'u',
    [0x1f] = 'u',
    ['"'] = '"',
    ['\\'] = '\\',
};

static void
json_comma(struct buf *buf)
{
	char last;

	if (buf->len == 0)
		return;
	last = buf->data[buf->len - 1];
	if (last != '{' && last != '[' && last != ':')
		buf_add_char(buf, ',');
}

static void
json_escape(struct buf *buf, unsigned char c)
{
	char text[6] = {
	    '\\', escapes[c], '0', '0', hex_digits[c >> 4], hex_digits[c & 15]};

	buf_add(buf, text, escapes[c] == 'u' ? 6 : 2);
}

static void
json_quote(struct buf *buf, const char *text, size_t len)
{
	size_t start = 0;

	buf_reserve(buf, len + 2);
	buf_add_char(buf, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (escapes[c] == 0)
			continue;
		buf_add(buf, text + start, i - start);
		json_escape(buf, c);
		start = i + 1;
	}
	buf_add(buf, text + start, len - start);
	buf_add_char(buf, '"');
}

void
json_object_begin(struct buf *buf)
{
	json_comma(buf);
	buf_add_char(buf, '{');
}

void
json_object_end(struct buf *buf)
{
	buf_add_char(buf, '}');
}

void
json_array_begin(struct buf *buf)
{
	json_comma(buf);
	buf_add_char(buf, '[');
}

void
json_array_end(struct buf *buf)
{
	buf_add_char(buf, ']');
}

void
json_key(struct buf *buf, const char *key)
{
	json_comma(buf);
	json_quote(buf, key, strlen(key));
	buf_add_char(buf, ':');
}

void
json_string(struct buf *buf, const char *text, size_t len)
{
	json_comma(buf);
	json_quote(buf, text, len);
}

void
json_u64(struct buf *buf, uint64_t n)
{
	json_comma(buf);
	buf_add_u64(buf, n);
}

void
json_i64(struct buf *buf, int64_t n)
{
	json_comma(buf);
	buf_add_i64(buf, n);
}

void
json_id(struct buf *buf, uint64_t id)
{
	json_comma(buf);
	buf_add_char(buf, '"');
	buf_add_u64(buf, id);
	buf_add_char(buf, '"');
}

void
json_boolean(struct buf *buf, bool value)
{
	json_comma(buf);
	buf_add_str(buf, value ? "true" : "false");
}

void
json_null(struct buf *buf)
{
	json_comma(buf);
	buf_add_str(buf, "null");
}

void
json_raw(struct buf *buf, const char *json, size_t len)
{
	json_comma(buf);
	buf_add(buf, json, len);
}

void
json_members(struct buf *buf, const char *object, size_t len)
{
	if (len > 2)
		json_raw(buf, object + 1, len - 2);
}

void
json_put_string(struct buf *buf, const char *key, const char *text, size_t len)
{
	json_key(buf, key);
	json_string(buf, text, len);
}

void
json_put_text(struct buf *buf, const char *key, const char *text)
{
	json_put_string(buf, key, text, strlen(text));
}

void
json_put_u64(struct buf *buf, const char *key, uint64_t n)
{
	json_key(buf, key);
	json_u64(buf, n);
}

void
json_put_i64(struct buf *buf, const char *key, int64_t n)
{
	json_key(buf, key);
	json_i64(buf, n);
}

void
json_put_id(struct buf *buf, const char *key, uint64_t id)
{
	json_key(buf, key);
	json_id(buf, id);
}

void
json_put_bool(struct buf *buf, const char *key, bool value)
{
	json_key(buf, key);
	json_boolean(buf, value);
}

void
json_put_raw(struct buf *buf, const char *key, const char *json, size_t len)
{
	json_key(buf, key);
	json_raw(buf, json, len);
}
