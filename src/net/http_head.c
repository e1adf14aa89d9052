/*
 * http_head.c - the head of one HTTP/1.1 request, strictly.
 *
 * Role:    finds the end of a head in bytes that arrive in any pieces, then
 *          splits it into method, target and fields.
 * Process: worker; pure, no I/O and no memory of its own.
 * Blocks:  never.
 * Trust:   none: every byte is a stranger's. Nothing is repaired; what two
 *          readers could understand differently is refused.
 * See:     upgrade.c (what the fields mean), t/unit/http_head.c (every split).
 */
#include "net/http_head.h"

#include <string.h>
#include <strings.h>

enum {
	SCAN_REQUEST_START, /* first byte of all */
	SCAN_LINE_START,    /* first byte of a header line */
	SCAN_LINE,
	SCAN_LINE_CR,
	SCAN_END_CR, /* CR of the empty line */
};

bool
http_is_token_char(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return true;
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/* RFC 9110 5.5: visible characters, obs-text, blank and tab. */
static bool
is_text_char(unsigned char c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

/* One byte; DONE leaves the state unimportant. */
static enum http_scan_result
scan_byte(struct http_scan *scan, unsigned char c)
{
	switch (scan->state) {
	case SCAN_REQUEST_START:
		if (!http_is_token_char(c))
			return HTTP_SCAN_MALFORMED;
		scan->state = SCAN_LINE;
		return HTTP_SCAN_MORE;
	case SCAN_LINE_START:
		if (c == '\r') {
			scan->state = SCAN_END_CR;
			return HTTP_SCAN_MORE;
		}
		/* Also refuses obs-fold (RFC 9112 5.2) and empty names. */
		if (!http_is_token_char(c))
			return HTTP_SCAN_MALFORMED;
		if (scan->lines > HTTP_FIELDS_MAX)
			return HTTP_SCAN_TOO_LARGE;
		scan->state = SCAN_LINE;
		return HTTP_SCAN_MORE;
	case SCAN_LINE:
		if (c == '\r')
			scan->state = SCAN_LINE_CR;
		else if (!is_text_char(c))
			return HTTP_SCAN_MALFORMED;
		return HTTP_SCAN_MORE;
	case SCAN_LINE_CR:
		if (c != '\n')
			return HTTP_SCAN_MALFORMED;
		scan->lines++;
		scan->state = SCAN_LINE_START;
		return HTTP_SCAN_MORE;
	default: /* SCAN_END_CR */
		return c == '\n' ? HTTP_SCAN_DONE : HTTP_SCAN_MALFORMED;
	}
}

enum http_scan_result
http_scan_feed(struct http_scan *scan, const char *data, size_t len)
{
	while (scan->at < len) {
		if (scan->at == HTTP_HEAD_MAX)
			return HTTP_SCAN_TOO_LARGE;
		enum http_scan_result result =
		    scan_byte(scan, (unsigned char)data[scan->at]);
		scan->at++;
		if (result != HTTP_SCAN_MORE)
			return result;
	}
	return HTTP_SCAN_MORE;
}

bool
http_text_is(struct http_text text, const char *word)
{
	return text.len == strlen(word) &&
	       memcmp(text.data, word, text.len) == 0;
}

bool
http_text_is_nocase(struct http_text text, const char *word)
{
	return text.len == strlen(word) &&
	       strncasecmp(text.data, word, text.len) == 0;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct http_text
trim(const char *data, size_t len)
{
	while (len > 0 && is_blank(data[0])) {
		data++;
		len--;
	}
	while (len > 0 && is_blank(data[len - 1]))
		len--;
	return (struct http_text){data, len};
}

/* Up to the character, which is skipped; the whole rest when it is missing. */
static struct http_text
take_until(struct http_text *rest, char stop)
{
	const char *end = memchr(rest->data, stop, rest->len);
	struct http_text part = *rest;

	if (end == NULL) {
		rest->data += rest->len;
		rest->len = 0;
		return part;
	}
	part.len = (size_t)(end - part.data);
	rest->data = end + 1;
	rest->len -= part.len + 1;
	return part;
}

static bool
is_token(struct http_text text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (!http_is_token_char((unsigned char)text.data[i]))
			return false;
	}
	return text.len > 0;
}

/* The absolute form (RFC 9112 3.2.2) loses scheme and authority. */
static struct http_text
target_path(struct http_text target)
{
	static const char *const schemes[] = {
	    "http://", "https://", "ws://", "wss://"};
	struct http_text path = target;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t len = strlen(schemes[i]);

		if (path.len < len ||
		    strncasecmp(path.data, schemes[i], len) != 0)
			continue;
		path.data += len;
		path.len -= len;
		while (path.len > 0 && path.data[0] != '/' &&
		       path.data[0] != '?') {
			path.data++;
			path.len--;
		}
		break;
	}
	return take_until(&path, '?');
}

static bool
parse_request_line(
    struct http_text line, struct http_head *head, const char **why_out)
{
	struct http_text rest = line;

	head->method = take_until(&rest, ' ');
	head->target = take_until(&rest, ' ');
	*why_out = "the request line is malformed";
	if (!is_token(head->method) || head->target.len == 0)
		return false;
	for (size_t i = 0; i < head->target.len; i++) {
		unsigned char c = (unsigned char)head->target.data[i];

		if (c <= ' ' || c >= 0x7f)
			return false;
	}
	head->path = target_path(head->target);
	if (http_text_is(rest, "HTTP/1.1")) {
		head->minor_version = 1;
	} else if (http_text_is(rest, "HTTP/1.0")) {
		head->minor_version = 0;
	} else {
		*why_out = "this is not an HTTP/1.1 request";
		return false;
	}
	return true;
}

static bool
parse_field(struct http_text line, struct http_field *field)
{
	const char *colon = memchr(line.data, ':', line.len);

	if (colon == NULL)
		return false;
	field->name =
	    (struct http_text){line.data, (size_t)(colon - line.data)};
	field->value = trim(colon + 1, line.len - field->name.len - 1);
	return is_token(field->name); /* no white space before the colon */
}

/* RFC 9112 3.2: what a host and port can be made of; not empty here. */
static bool
host_is_valid(struct http_text host)
{
	for (size_t i = 0; i < host.len; i++) {
		unsigned char c = (unsigned char)host.data[i];

		if (c <= ' ' || c >= 0x7f || strchr("\"/<>?@\\^`{|}#", c))
			return false;
	}
	return host.len > 0;
}

static bool
check_host(const struct http_head *head, const char **why_out)
{
	size_t count = http_head_count(head, "Host");

	*why_out = "exactly one valid Host header is needed";
	if (count == 0)
		return head->minor_version == 0;
	return count == 1 && host_is_valid(http_head_value(head, "Host"));
}

bool
http_head_parse(const char *data, size_t len, struct http_head *head_out,
    const char **why_out)
{
	struct http_text rest = {data, len};
	struct http_text line = take_until(&rest, '\n');

	head_out->field_count = 0;
	*why_out = "the request head is malformed";
	if (line.len == 0 || line.data[line.len - 1] != '\r')
		return false;
	line.len--;
	if (!parse_request_line(line, head_out, why_out))
		return false;
	for (;;) {
		line = take_until(&rest, '\n');
		*why_out = "a header line is malformed";
		if (line.len == 0 || line.data[line.len - 1] != '\r')
			return false;
		line.len--;
		if (line.len == 0)
			return check_host(head_out, why_out);
		if (head_out->field_count == HTTP_FIELDS_MAX)
			return false;
		if (!parse_field(
			line, &head_out->fields[head_out->field_count]))
			return false;
		head_out->field_count++;
	}
}

size_t
http_head_count(const struct http_head *head, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < head->field_count; i++)
		count += http_text_is_nocase(head->fields[i].name, name);
	return count;
}

struct http_text
http_head_value(const struct http_head *head, const char *name)
{
	for (size_t i = 0; i < head->field_count; i++) {
		if (http_text_is_nocase(head->fields[i].name, name))
			return head->fields[i].value;
	}
	return (struct http_text){NULL, 0};
}

static bool
list_has(struct http_text list, const char *item, bool ignore_case)
{
	while (list.len > 0) {
		struct http_text part = take_until(&list, ',');

		part = trim(part.data, part.len);
		if (ignore_case ? http_text_is_nocase(part, item)
				: http_text_is(part, item))
			return true;
	}
	return false;
}

bool
http_head_lists(const struct http_head *head, const char *name,
    const char *item, bool ignore_case)
{
	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];

		if (http_text_is_nocase(field->name, name) &&
		    list_has(field->value, item, ignore_case))
			return true;
	}
	return false;
}
