/*
 * http_head.h - the head of one HTTP/1.1 request, strictly (RFC 9112).
 *
 * Two steps, both pure. http_scan finds the end while bytes arrive, one look
 * at each byte, and refuses what can never become a head; http_head_parse
 * then names the parts of the whole head, which stay where they are.
 */
#ifndef NET_HTTP_HEAD_H
#define NET_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX   8192 /* bytes, the empty line included */
#define HTTP_FIELDS_MAX 64   /* header lines */

struct http_scan {
	uint16_t at;    /* bytes looked at so far */
	uint16_t lines; /* line ends seen, the request line's included */
	uint8_t state;
};

enum http_scan_result {
	HTTP_SCAN_MORE,      /* no end yet */
	HTTP_SCAN_DONE,      /* scan->at is the length of the head */
	HTTP_SCAN_MALFORMED, /* bare CR or LF, control character, obs-fold */
	HTTP_SCAN_TOO_LARGE, /* HTTP_HEAD_MAX or HTTP_FIELDS_MAX exceeded */
};

/**
 * Look at what is new.
 *
 * @param scan  zeroed before the first call; no further call once the result
 *              was other than MORE
 * @param data  everything since the first byte of the connection
 * @param len   bytes in data; may exceed the head
 */
enum http_scan_result http_scan_feed(
    struct http_scan *scan, const char *data, size_t len);

/** A piece of the head; not NUL-terminated. */
struct http_text {
	const char *data;
	size_t len;
};

struct http_field {
	struct http_text name;
	struct http_text value; /* without white space around it */
};

struct http_head {
	struct http_text method;
	struct http_text target; /* as sent */
	struct http_text path;   /* of the target, without the query */
	int minor_version;       /* HTTP/1.x */
	size_t field_count;
	struct http_field fields[HTTP_FIELDS_MAX];
};

/**
 * Take apart a head that http_scan_feed found complete.
 *
 * @param head_out  points into data
 * @param why_out   a sentence for the client on failure; nothing of the head
 * @return          whether it is well-formed: request line, HTTP/1.x, field
 *                  names, exactly one Host (none is needed in HTTP/1.0)
 */
bool http_head_parse(const char *data, size_t len, struct http_head *head_out,
    const char **why_out);

/** Fields of that name; case means nothing. */
size_t http_head_count(const struct http_head *head, const char *name);
/** Value of the first field of that name; data is NULL when there is none. */
struct http_text http_head_value(
    const struct http_head *head, const char *name);
/**
 * Is item in the comma-separated list that all fields of that name form
 * together (RFC 9110 5.3)?
 *
 * @param ignore_case  true for Connection and Upgrade, false for subprotocols
 */
bool http_head_lists(const struct http_head *head, const char *name,
    const char *item, bool ignore_case);

bool http_text_is(struct http_text text, const char *word);
bool http_text_is_nocase(struct http_text text, const char *word);
/** RFC 9110 5.6.2: what method and field names are made of. */
bool http_is_token_char(unsigned char c);

#endif
