/*
 * network.c - networks of addresses, as the configuration names them.
 *
 * Role:    reads addresses and prefixes (RFC 4632 3.1, RFC 4291 2.3), says
 *          whether somebody belongs to them.
 * Process: supervisor (configuration), worker; pure.
 * Blocks:  never.
 * Trust:   the configuration is its owner's, but what he did not mean is not
 *          guessed: bits behind the prefix are refused.
 * See:     supervisor/check.c, admit.c, t/unit/network.c.
 */
#include "net/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/conn_peer.h"

/* Of a v4 address in a v6 one: RFC 4291 2.5.5.2. */
#define MAPPED_BITS 96

static bool
is_same(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	uint8_t mask = (uint8_t)(0xff00 >> bits % 8);

	return memcmp(a, b, bits / 8) == 0 &&
	       (mask == 0 || ((a[bits / 8] ^ b[bits / 8]) & mask) == 0);
}

static bool
has_bits_behind(const struct network *network, unsigned width)
{
	uint8_t only[16] = {0};

	memcpy(only, network->address, network->bits / 8);
	if (network->bits % 8 != 0)
		only[network->bits / 8] =
		    network->address[network->bits / 8] &
		    (uint8_t)(0xff00 >> network->bits % 8);
	return memcmp(only, network->address, width / 8) != 0;
}

/* @return the number of a prefix, or -1 */
static int
parse_bits(const char *text, unsigned width)
{
	size_t len = strspn(text, "0123456789");
	long bits;

	if (len == 0 || len > 3 || text[len] != '\0' ||
	    (len > 1 && text[0] == '0'))
		return -1;
	bits = strtol(text, NULL, 10);
	return bits <= (long)width ? (int)bits : -1;
}

/* @return how many bits its addresses have; 0: it is none */
static unsigned
parse_address(const char *text, struct conn_peer *out)
{
	uint8_t address[16];

	if (inet_pton(AF_INET, text, address) == 1) {
		conn_peer_set_v4(out, address, 0);
		return 32;
	}
	if (inet_pton(AF_INET6, text, address) == 1) {
		conn_peer_set_v6(out, address, 0);
		return 128;
	}
	return 0;
}

const char *
network_parse(const char *text, struct network *out)
{
	char host[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "/");
	struct conn_peer peer;
	unsigned width;
	int bits;

	if (len >= sizeof(host))
		return "is no address";
	memcpy(host, text, len);
	host[len] = '\0';
	width = parse_address(host, &peer);
	if (width == 0)
		return "is no address";
	bits =
	    text[len] == '/' ? parse_bits(text + len + 1, width) : (int)width;
	if (width == 128 && peer.family == AF_INET) {
		width = 32;
		bits = bits < MAPPED_BITS ? -1 : bits - MAPPED_BITS;
	}
	if (bits < 0)
		return "has a wrong length behind the slash";
	*out = (struct network){
	    .family = peer.family,
	    .bits = (uint8_t)bits,
	};
	memcpy(out->address, peer.address, sizeof(out->address));
	if (has_bits_behind(out, width))
		return "has bits behind its prefix";
	return NULL;
}

void
networks_init(struct networks *networks, const char *const *texts, size_t count)
{
	networks->items = xcalloc(count + 1, sizeof(*networks->items));
	networks->count = count;
	for (size_t i = 0; i < count; i++) {
		const char *wrong =
		    network_parse(texts[i], &networks->items[i]);

		if (wrong != NULL)
			panic("\"%s\" %s", texts[i], wrong);
	}
}

void
networks_fini(struct networks *networks)
{
	free(networks->items);
	*networks = (struct networks){0};
}

bool
networks_have(const struct networks *networks, const struct conn_peer *peer)
{
	for (size_t i = 0; networks != NULL && i < networks->count; i++) {
		const struct network *network = &networks->items[i];

		if (network->family == peer->family &&
		    is_same(network->address, peer->address, network->bits))
			return true;
	}
	return false;
}
