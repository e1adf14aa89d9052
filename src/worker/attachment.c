/*
 * attachment.c - the reference to a file in a message.
 *
 * Role:    lets through what every client can show without a second thought.
 * Process: worker; pure.
 * Trust:   none: what one client writes here another one may open. So no
 *          scheme but those configured (javascript:, data: and file: would
 *          run or read something at the receiver's), no user name in front of
 *          the host (it looks like a host), no character that a terminal, a
 *          list or a file system takes for something else.
 * See:     doc/protocol.md, Attachments; t/unit/attachment.c
 */
#include "worker/attachment.h"

#include <string.h>
#include <strings.h>

#include "net/origin.h"
#include "shm/records.h"

#define SIZE_LIMIT ((1ULL << 53) - 1)

/* No escape makes Url longer; one of Name and MimeType makes two of one. */
_Static_assert(ATTACHMENT_URL_MAX + 2 * ATTACHMENT_NAME_MAX +
		       2 * ATTACHMENT_TYPE_MAX + 128 <=
		   ATTACHMENT_MAX,
    "the largest one must fit the log");

#define URL_FAULT                                                              \
	"Url: expected an absolute URL of at most 2048 bytes, with one of "    \
	"the "                                                                 \
	"schemes and hosts that this server allows"
#define NAME_FAULT                                                             \
	"Name: expected a file name of 1 to 255 bytes, without slashes and "   \
	"control characters"
#define TYPE_FAULT                                                             \
	"MimeType: expected a type such as application/pdf, of at most 255 "   \
	"bytes"
#define SIZE_FAULT                                                             \
	"Size: expected an integer, not above max_attachment_size of this "    \
	"server"

static bool
is_alnum(char c)
{
	return (c >= '0' && c <= '9') ||
	       ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') ||
	       ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* ---- Url ---- */

/* RFC 3986 2: reserved, unreserved and percent-encoded characters. */
static bool
is_url_text(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '%' && (len - i < 3 || !is_hex(text[i + 1]) ||
					  !is_hex(text[i + 2])))
			return false;
		if (!is_alnum(text[i]) &&
		    (text[i] == '\0' ||
			strchr("-._~:/?#[]@!$&'()*+,;=%", text[i]) == NULL))
			return false;
	}
	return true;
}

static bool
is_listed(const struct conf_list *list, const char *text, size_t len)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *item = list->items[i];
		size_t item_len = strlen(item);

		/* ".example.org" stands for all hosts below it */
		bool is_below = item[0] == '.';

		if ((is_below ? item_len < len : item_len == len) &&
		    strncasecmp(item, text + len - item_len, item_len) == 0)
			return true;
	}
	return false;
}

static bool
is_url(const char *text, size_t len, const struct conf *conf)
{
	const struct conf_list *hosts = &conf->policy_attachment_hosts;
	char origin[ATTACHMENT_URL_MAX + 1];
	const char *host;
	size_t scheme_len;
	size_t host_len;

	if (len > ATTACHMENT_URL_MAX || !is_url_text(text, len))
		return false;
	memcpy(origin, text, len);
	origin[len] = '\0';
	host = strstr(origin, "://");
	if (host == NULL)
		return false;
	scheme_len = (size_t)(host - origin);
	host += 3;
	origin[scheme_len + 3 + strcspn(host, "/?#")] = '\0';
	if (!origin_is_valid(origin) ||
	    !is_listed(&conf->policy_attachment_schemes, origin, scheme_len))
		return false;
	host_len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	return hosts->count == 0 || is_listed(hosts, host, host_len);
}

/* ---- Name, MimeType ---- */

/* C0, DEL and, in UTF-8, C1 (c2 80 ... c2 9f). */
static bool
is_name(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		unsigned char next =
		    i + 1 < len ? (unsigned char)text[i + 1] : 0;

		if (c < 0x20 || c == 0x7f || c == '/' || c == '\\' ||
		    (c == 0xc2 && next >= 0x80 && next <= 0x9f))
			return false;
	}
	return len >= 1 && len <= ATTACHMENT_NAME_MAX;
}

/* RFC 6838 4.2: restricted-name. */
static size_t
type_name_len(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len &&
	       (is_alnum(text[n]) || (n > 0 && text[n] != '\0' &&
					 strchr("!#$&-^_.+", text[n]) != NULL)))
		n++;
	return n;
}

static bool
is_mime_type(const char *text, size_t len)
{
	size_t at = type_name_len(text, len);

	if (len > ATTACHMENT_TYPE_MAX || at == 0 || at == len ||
	    text[at] != '/')
		return false;
	at++;
	if (type_name_len(text + at, len - at) == 0)
		return false;
	at += type_name_len(text + at, len - at);
	if (at == len)
		return true;
	if (text[at] != ';')
		return false;
	/* Parameters, such as charset: printable ASCII. */
	for (; at < len; at++) {
		if (text[at] < 0x20 || text[at] > 0x7e)
			return false;
	}
	return true;
}

/* ---- all of it ---- */

/* A member that may be absent. @return false: it is wrong */
static bool
get_text(const struct json_object *object, const char *key,
    bool (*is_good)(const char *text, size_t len), struct buf *out)
{
	const char *text;
	size_t len;
	int rc = json_get_string(object, key, &text, &len);

	if (rc != 0 || !is_good(text, len))
		return rc == ERR_NOT_FOUND;
	json_put_string(out, key, text, len);
	return true;
}

static const char *
read_members(
    const struct json_object *object, const struct conf *conf, struct buf *out)
{
	int64_t max = conf->policy_max_attachment_size;
	const char *url;
	uint64_t size;
	size_t len;
	int rc;

	if (json_get_string(object, "Url", &url, &len) != 0 ||
	    !is_url(url, len, conf))
		return URL_FAULT;
	json_put_string(out, "Url", url, len);
	if (!get_text(object, "Name", is_name, out))
		return NAME_FAULT;
	if (!get_text(object, "MimeType", is_mime_type, out))
		return TYPE_FAULT;
	rc = json_get_u64(
	    object, "Size", max > 0 ? (uint64_t)max : SIZE_LIMIT, &size);
	if (rc == 0)
		json_put_u64(out, "Size", size);
	return rc == 0 || rc == ERR_NOT_FOUND ? NULL : SIZE_FAULT;
}

const char *
attachment_read(
    const struct json_object *object, const struct conf *conf, struct buf *out)
{
	const char *fault;

	json_object_begin(out);
	fault = read_members(object, conf, out);
	json_object_end(out);
	if (fault != NULL)
		buf_clear(out);
	return fault;
}
