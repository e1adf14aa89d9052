/*
 * upgrade.c - the opening handshake (RFC 6455 4.2).
 *
 * Role:    decides about one request head and writes the answer to it.
 * Process: worker; pure, no I/O.
 * Blocks:  never.
 * Trust:   none in the head. Nothing of it is logged or sent back but the
 *          digest of the key: it may hold tokens.
 * See:     http_head.c (syntax), t/unit/upgrade.c.
 */
#include "net/upgrade.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "net/forwarded.h"
#include "net/network.h"
#include "net/origin.h"

#define WS_GUID    "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */
#define WS_KEY_LEN 24 /* 16 bytes in base64 */

static bool
is_base64_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') || c == '+' || c == '/';
}

/* 22 characters carry 132 bits: 16 bytes and 4 bits nobody looks at. */
static bool
key_is_valid(struct http_text key)
{
	if (key.len != WS_KEY_LEN || memcmp(key.data + 22, "==", 2) != 0)
		return false;
	for (size_t i = 0; i < 22; i++) {
		if (!is_base64_char((unsigned char)key.data[i]))
			return false;
	}
	return true;
}

static void
make_accept(struct http_text key, char accept[UPGRADE_ACCEPT_MAX])
{
	char text[WS_KEY_LEN + sizeof(WS_GUID)];
	uint8_t digest[20];

	memcpy(text, key.data, WS_KEY_LEN);
	memcpy(text + WS_KEY_LEN, WS_GUID, sizeof(WS_GUID));
	crypto_sha1(text, WS_KEY_LEN + sizeof(WS_GUID) - 1, digest);
	crypto_base64(digest, sizeof(digest), accept);
}

/* RFC 6750 2.1: b64token. Another scheme is none of our business. */
static bool
take_bearer(struct http_text value, struct http_text *bearer_out)
{
	size_t i = strlen("Bearer");

	if (value.len < i || strncasecmp(value.data, "Bearer", i) != 0)
		return true;
	if (value.len > i && value.data[i] != ' ')
		return true;
	while (i < value.len && value.data[i] == ' ')
		i++;
	bearer_out->data = value.data + i;
	bearer_out->len = value.len - i;
	for (i = 0; i < bearer_out->len; i++) {
		unsigned char c = (unsigned char)bearer_out->data[i];

		if (!is_base64_char(c) && strchr("-._~=", c) == NULL)
			return false;
	}
	return bearer_out->len > 0;
}

static void
refuse(struct upgrade *upgrade, int status, const char *why)
{
	upgrade->status = status;
	snprintf(upgrade->why, sizeof(upgrade->why), "%s", why);
}

/* 426 carries what the client needs to do better; see refusal_fields(). */
static bool
check_wish(const struct http_head *head, struct upgrade *upgrade)
{
	if (head->minor_version == 0 ||
	    !http_head_lists(head, "Upgrade", "websocket", true) ||
	    !http_head_lists(head, "Connection", "upgrade", true)) {
		refuse(upgrade, 426,
		    "this address speaks WebSocket only: send an HTTP/1.1 "
		    "request with Upgrade: websocket and Connection: Upgrade");
		return false;
	}
	if (http_head_count(head, "Sec-WebSocket-Version") > 1) {
		refuse(upgrade, 400, "more than one Sec-WebSocket-Version");
		return false;
	}
	struct http_text version =
	    http_head_value(head, "Sec-WebSocket-Version");
	if (version.data == NULL || !http_text_is(version, "13")) {
		refuse(upgrade, 426, "Sec-WebSocket-Version must be 13");
		return false;
	}
	return true;
}

static bool
check_no_body(const struct http_head *head, struct upgrade *upgrade)
{
	struct http_text length = http_head_value(head, "Content-Length");

	if (http_head_count(head, "Transfer-Encoding") > 0 ||
	    http_head_count(head, "Content-Length") > 1 ||
	    (length.data != NULL && !http_text_is(length, "0"))) {
		refuse(upgrade, 400, "a request body is not accepted");
		return false;
	}
	return true;
}

static bool
check_credentials(const struct http_head *head, struct upgrade *upgrade)
{
	struct http_text value = http_head_value(head, "Authorization");

	if (http_head_count(head, "Authorization") > 1) {
		refuse(upgrade, 400, "more than one Authorization header");
		return false;
	}
	if (value.data != NULL && !take_bearer(value, &upgrade->bearer)) {
		refuse(upgrade, 400, "the bearer token is malformed");
		return false;
	}
	return true;
}

/* RFC 6455 10.2. A browser always sends one, and no page can change it. */
static bool
check_origin(const struct http_head *head, const struct upgrade_terms *terms,
    struct upgrade *upgrade)
{
	size_t count = http_head_count(head, "Origin");
	struct http_text origin = http_head_value(head, "Origin");

	if (terms->origin_count == 0 || count == 0)
		return true;
	for (size_t i = 0; count == 1 && i < terms->origin_count; i++) {
		if (origin_is_same(terms->origins[i], origin.data, origin.len))
			return true;
	}
	refuse(upgrade, 403, "pages of this origin may not connect here");
	return false;
}

/* RFC 6455 9.1: a malformed list of extensions fails the connection. */
static bool
choose_extensions(const struct http_head *head,
    const struct upgrade_terms *terms, struct upgrade *upgrade)
{
	if (!terms->may_deflate || ws_offer_choose(head, &upgrade->offer))
		return true;
	refuse(upgrade, 400, "Sec-WebSocket-Extensions is malformed");
	return false;
}

/* First of all: who is refused is known by then. */
static bool
find_peer(const struct http_head *head, const struct upgrade_terms *terms,
    struct upgrade *upgrade)
{
	if (!networks_have(terms->trusted_proxies, &upgrade->peer) ||
	    forwarded_find(head, terms->trusted_proxies, &upgrade->peer))
		return true;
	refuse(upgrade, 400, "X-Forwarded-For is malformed");
	return false;
}

void
upgrade_judge(const char *data, size_t len, const struct upgrade_terms *terms,
    const struct conn_peer *peer, struct upgrade *upgrade_out)
{
	struct http_head head;
	const char *why;

	*upgrade_out = (struct upgrade){.peer = *peer};
	if (!http_head_parse(data, len, &head, &why)) {
		refuse(upgrade_out, 400, why);
		return;
	}
	upgrade_out->is_head_request = http_text_is(head.method, "HEAD");
	if (!find_peer(&head, terms, upgrade_out))
		return;
	if (!http_text_is(head.path, terms->path)) {
		upgrade_out->status = 404;
		snprintf(upgrade_out->why, sizeof(upgrade_out->why),
		    "nothing here: WebSocket clients connect to %s",
		    terms->path);
		return;
	}
	if (!http_text_is(head.method, "GET")) {
		refuse(upgrade_out, 405, "only GET is served here");
		return;
	}
	if (!check_no_body(&head, upgrade_out) ||
	    !check_wish(&head, upgrade_out) ||
	    !check_origin(&head, terms, upgrade_out) ||
	    !check_credentials(&head, upgrade_out))
		return;
	struct http_text key = http_head_value(&head, "Sec-WebSocket-Key");
	if (http_head_count(&head, "Sec-WebSocket-Key") != 1 ||
	    !key_is_valid(key)) {
		refuse(upgrade_out, 400,
		    "one Sec-WebSocket-Key of 16 bytes in base64 is needed");
		return;
	}
	if (!choose_extensions(&head, terms, upgrade_out))
		return;
	make_accept(key, upgrade_out->accept);
	upgrade_out->has_subprotocol =
	    terms->subprotocol != NULL &&
	    http_head_lists(
		&head, "Sec-WebSocket-Protocol", terms->subprotocol, false);
	upgrade_out->status = 101;
}

static const char *
status_text(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 408:
		return "Request Timeout";
	case 426:
		return "Upgrade Required";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	default:
		return "Error";
	}
}

static const char *
refusal_fields(int status)
{
	switch (status) {
	case 405:
		return "Allow: GET\r\n";
	case 426:
		/* RFC 9110 15.5.22, RFC 6455 4.2.2 */
		return "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
	case 429: /* RFC 6585 4 */
	case 503:
		return "Retry-After: 5\r\n";
	default:
		return "";
	}
}

/* RFC 9110 6.6.1: a server with a clock sends Date. */
static void
add_date(struct buf *out)
{
	char text[64];
	time_t now = time(NULL);
	struct tm tm;

	if (gmtime_r(&now, &tm) == NULL)
		return;
	if (strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
		buf_printf(out, "Date: %s\r\n", text);
}

static void
add_refusal(int status, const char *why, bool has_body, struct buf *out)
{
	buf_printf(out, "HTTP/1.1 %d %s\r\n", status, status_text(status));
	add_date(out);
	/* RFC 9110 7.8: Upgrade needs its connection option. */
	buf_printf(
	    out, "Connection: close%s\r\n", status == 426 ? ", Upgrade" : "");
	buf_add_str(out, refusal_fields(status));
	buf_printf(out,
	    "Content-Type: text/plain; charset=utf-8\r\n"
	    "Content-Length: %zu\r\n"
	    "\r\n",
	    strlen(why) + 1);
	if (has_body)
		buf_printf(out, "%s\n", why);
}

void
upgrade_refuse(int status, const char *why, struct buf *out)
{
	add_refusal(status, why, true, out);
}

void
upgrade_answer(const struct upgrade *upgrade, const struct upgrade_terms *terms,
    struct buf *out)
{
	if (upgrade->status != 101) {
		add_refusal(upgrade->status, upgrade->why,
		    !upgrade->is_head_request, out);
		return;
	}
	buf_printf(out,
	    "HTTP/1.1 101 Switching Protocols\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: %s\r\n",
	    upgrade->accept);
	if (upgrade->has_subprotocol)
		buf_printf(
		    out, "Sec-WebSocket-Protocol: %s\r\n", terms->subprotocol);
	ws_offer_answer(&upgrade->offer, out);
	buf_add_str(out, "\r\n");
}
