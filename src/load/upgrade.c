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
#define KEY_LEN      24
#define ACCEPT_LEN   28

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
	    "Sec-WebSocket-Protocol: parley.v1\r\n\r\n",
	    options->path, is_v6 ? "[" : "", options->host, is_v6 ? "]" : "",
	    options->port, key);
}

static bool
accept_is_right(const char *head, const char *end, uint64_t nonce)
{
	static const char name[] = "\r\nSec-WebSocket-Accept:";
	char text[KEY_LEN + sizeof(UPGRADE_GUID) + 5];
	char wanted[ACCEPT_LEN + 5];
	uint8_t digest[20];

	make_key(nonce, text);
	memcpy(text + KEY_LEN, UPGRADE_GUID, sizeof(UPGRADE_GUID));
	crypto_sha1(text, strlen(text), digest);
	crypto_base64(digest, sizeof(digest), wanted);
	for (; end - head > (ptrdiff_t)sizeof(name); head++) {
		if (strncasecmp(head, name, sizeof(name) - 1) != 0)
			continue;
		head += sizeof(name) - 1;
		while (head < end && (*head == ' ' || *head == '\t'))
			head++;
		return end - head >= ACCEPT_LEN &&
		       memcmp(head, wanted, ACCEPT_LEN) == 0;
	}
	return false;
}

int
upgrade_parse(const char *data, size_t len, uint64_t nonce, size_t *used_out)
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
	*used_out = (size_t)(end + 4 - data);
	return 0;
}
