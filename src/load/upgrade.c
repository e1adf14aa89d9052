/*
 * upgrade.c - the HTTP upgrade, client side.
 *
 * Role:    writes the request, checks the answer.
 * Process: each generator.
 * Blocks:  never.
 * Trust:   any bytes; the head is bounded.
 * See:     client.c, t/unit/load_wire.c.
 */
#include "config.h"

#include "load/upgrade.h"

#include <string.h>
#include <strings.h>

#include "base/crypto.h"
#include "load/options.h"

#define UPGRADE_HEAD_MAX 8192
/* RFC 6455 1.3 */
#define UPGRADE_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
/* RFC 7692 7.1: each message by itself, in both directions. */
#define UPGRADE_OFFER                                                          \
	"Sec-WebSocket-Extensions: permessage-deflate; "                       \
	"server_no_context_takeover; client_no_context_takeover\r\n"
#define KEY_LEN    24
#define ACCEPT_LEN 28

static void
make_key(uint64_t nonce, char key[KEY_LEN + 5])
{
	uint64_t words[2] = {nonce, ~nonce};

	crypto_base64(words, sizeof(words), key);
}

void
upgrade_put(struct buf *out, const struct options *options, uint64_t nonce)
{
	bool is_v6 = strchr(options->host, ':') != NULL;
	char key[KEY_LEN + 5];

	make_key(nonce, key);
	buf_printf(out,
	    "GET %s HTTP/1.1\r\n"
	    "Host: %s%s%s:%s\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Key: %s\r\n"
	    "Sec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Protocol: parley.v1\r\n%s\r\n",
	    options->path, is_v6 ? "[" : "", options->host, is_v6 ? "]" : "",
	    options->port, key, options->deflate ? UPGRADE_OFFER : "");
}

struct field {
	const char *data; /* NULL: absent */
	size_t len;
};

/* @param name  with the line end before it and its colon */
static struct field
find_field(const char *head, const char *end, const char *name)
{
	size_t name_len = strlen(name);

	for (; end - head >= (ptrdiff_t)name_len; head++) {
		const char *stop;

		if (strncasecmp(head, name, name_len) != 0)
			continue;
		head += name_len;
		while (head < end && (*head == ' ' || *head == '\t'))
			head++;
		stop = memchr(head, '\r', (size_t)(end - head));
		return (struct field){
		    head, (size_t)((stop ? stop : end) - head)};
	}
	return (struct field){0};
}

static bool
accept_is_right(const char *head, const char *end, uint64_t nonce)
{
	char text[KEY_LEN + sizeof(UPGRADE_GUID) + 5];
	char wanted[ACCEPT_LEN + 5];
	uint8_t digest[20];
	struct field field = find_field(head, end, "\r\nSec-WebSocket-Accept:");

	make_key(nonce, text);
	memcpy(text + KEY_LEN, UPGRADE_GUID, sizeof(UPGRADE_GUID));
	crypto_sha1(text, strlen(text), digest);
	crypto_base64(digest, sizeof(digest), wanted);
	return field.len >= ACCEPT_LEN &&
	       memcmp(field.data, wanted, ACCEPT_LEN) == 0;
}

/*
 * RFC 7692 7.1.1.1: an answer to our offer repeats server_no_context_takeover;
 * client_no_context_takeover is what we do anyway. Nothing else was offered.
 */
static bool
take_extensions(struct field field, bool *is_deflate_out)
{
	static const char *const known[] = {"permessage-deflate",
	    "server_no_context_takeover", "client_no_context_takeover"};
	unsigned seen = 0;

	*is_deflate_out = field.data != NULL;
	while (field.len > 0) {
		const char *stop = memchr(field.data, ';', field.len);
		size_t len = stop ? (size_t)(stop - field.data) : field.len;
		size_t token_len = len;
		unsigned k = 0;

		while (token_len > 0 && field.data[token_len - 1] == ' ')
			token_len--;
		while (k < 3 &&
		       (strlen(known[k]) != token_len ||
			   strncasecmp(known[k], field.data, token_len) != 0))
			k++;
		if (k == 3 || (seen & 1u << k) || (k == 0) != (seen == 0))
			return false;
		seen |= 1u << k;
		len += stop != NULL;
		field.data += len;
		field.len -= len;
		while (field.len > 0 && *field.data == ' ') {
			field.data++;
			field.len--;
		}
	}
	return !*is_deflate_out || (seen & 3) == 3;
}

int
upgrade_parse(const char *data, size_t len, uint64_t nonce, bool has_offered,
    struct upgrade_answer *answer_out)
{
	static const char status[] = "HTTP/1.1 101";
	const char *end = memmem(data, len, "\r\n\r\n", 4);

	if (!end)
		return len > UPGRADE_HEAD_MAX ? ERR_BAD_REQUEST : ERR_AGAIN;
	if (len < sizeof(status) - 1 ||
	    memcmp(data, status, sizeof(status) - 1) != 0)
		return ERR_BAD_REQUEST;
	/* the last header's line end belongs to the search */
	if (!accept_is_right(data, end + 2, nonce))
		return ERR_BAD_REQUEST;
	if (!take_extensions(
		find_field(data, end + 2, "\r\nSec-WebSocket-Extensions:"),
		&answer_out->is_deflate) ||
	    (answer_out->is_deflate && !has_offered))
		return ERR_BAD_REQUEST;
	answer_out->used = (size_t)(end + 4 - data);
	return 0;
}
