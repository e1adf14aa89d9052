/*
 * proxy_header.c - the binary header that a proxy sends before anything else.
 *
 * Role:    reads it (haproxy's doc/proxy-protocol.txt, 2.2), version 2 only.
 * Process: worker; pure.
 * Blocks:  never.
 * Trust:   it comes from a trusted proxy, which may be broken all the same:
 *          every length is checked, and what is not known is refused, but for
 *          the extensions (TLVs), whose lengths alone have to be right.
 * See:     conn_proxy.c, t/unit/proxy_header.c.
 */
#include "net/proxy_header.h"

#include <stdbool.h>
#include <string.h>

#include "net/conn_peer.h"

#define VERSION_LOCAL 0x20
#define VERSION_PROXY 0x21
#define TLV_HEAD_LEN  3 /* type, length */

static const uint8_t signature[12] = {
    '\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

/* Families over a stream, and how long their two addresses are. */
static const struct family {
	uint8_t code;
	uint8_t address_len;
	uint16_t len;
} families[] = {
    {0x00, 0, 0},    /* UNSPEC: not known */
    {0x11, 4, 12},   /* TCP over v4 */
    {0x21, 16, 36},  /* TCP over v6 */
    {0x31, 108, 216} /* a UNIX stream: of no use to us */
};

static uint16_t
get_u16(const uint8_t *data)
{
	return (uint16_t)(data[0] << 8 | data[1]);
}

static const struct family *
find_family(uint8_t code)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		if (families[i].code == code)
			return &families[i];
	}
	return NULL;
}

/* Source address, destination address, source port, destination port. */
static void
take_source(
    const uint8_t *block, const struct family *family, struct conn_peer *peer)
{
	uint16_t port = get_u16(block + 2 * (size_t)family->address_len);

	if (family->address_len == 4)
		conn_peer_set_v4(peer, block, port);
	else if (family->address_len == 16)
		conn_peer_set_v6(peer, block, port);
}

static bool
tlvs_are_whole(const uint8_t *data, size_t len)
{
	while (len >= TLV_HEAD_LEN) {
		size_t part = TLV_HEAD_LEN + (size_t)get_u16(data + 1);

		if (part > len)
			return false;
		data += part;
		len -= part;
	}
	return len == 0;
}

static enum proxy_result
broken(const char *why, const char **why_out)
{
	*why_out = why;
	return PROXY_BROKEN;
}

static enum proxy_result
read_block(const uint8_t *data, size_t len, struct conn_peer *peer_io,
    const char **why_out)
{
	const uint8_t *block = data + PROXY_FIXED_LEN;
	const struct family *family = find_family(data[13]);
	size_t left = len - PROXY_FIXED_LEN;

	/* LOCAL: whatever follows is skipped. */
	if (data[12] == VERSION_LOCAL)
		return PROXY_DONE;
	if (family == NULL)
		return broken(
		    "the PROXY header has an unknown family", why_out);
	/* UNSPEC: all of the rest is to be ignored, whatever its form. */
	if (family->len == 0)
		return PROXY_DONE;
	if (left < family->len)
		return broken(
		    "the PROXY header is too short for its addresses", why_out);
	if (!tlvs_are_whole(block + family->len, left - family->len))
		return broken(
		    "an extension of the PROXY header has a wrong length",
		    why_out);
	if (family->address_len <= 16)
		take_source(block, family, peer_io);
	return PROXY_DONE;
}

enum proxy_result
proxy_header_read(const uint8_t *data, size_t len, size_t *want_out,
    struct conn_peer *peer_io, const char **why_out)
{
	size_t head = len < sizeof(signature) ? len : sizeof(signature);

	*want_out = PROXY_FIXED_LEN;
	if (memcmp(data, signature, head) != 0)
		return broken("this is neither a request nor a PROXY header of "
			      "version 2",
		    why_out);
	if (len > 12 && data[12] != VERSION_LOCAL && data[12] != VERSION_PROXY)
		return broken(
		    "the PROXY header has an unknown version or command",
		    why_out);
	if (len < PROXY_FIXED_LEN)
		return PROXY_MORE;
	*want_out = PROXY_FIXED_LEN + (size_t)get_u16(data + 14);
	if (*want_out > PROXY_HEADER_MAX)
		return broken("the PROXY header is too long", why_out);
	if (len < *want_out)
		return PROXY_MORE;
	return read_block(data, len, peer_io, why_out);
}
