/*
 * conn_peer.c - who is at the other end of a connection.
 *
 * Role:    addresses in one form, whatever said them: the kernel, a PROXY
 *          header, a header of the request.
 * Process: worker; pure.
 * Blocks:  never.
 * Trust:   whoever sets an address has judged where it comes from.
 * See:     network.c, proxy_header.c, forwarded.c.
 */
#include "net/conn_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void
conn_peer_set_v4(
    struct conn_peer *peer, const uint8_t address[4], uint16_t port)
{
	*peer = (struct conn_peer){.port = port, .family = AF_INET};
	memcpy(peer->address, address, 4);
}

void
conn_peer_set_v6(
    struct conn_peer *peer, const uint8_t address[16], uint16_t port)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(address, mapped, sizeof(mapped)) == 0) {
		conn_peer_set_v4(peer, address + sizeof(mapped), port);
		return;
	}
	*peer = (struct conn_peer){.port = port, .family = AF_INET6};
	memcpy(peer->address, address, 16);
}

void
conn_peer_set(struct conn_peer *peer, const struct sockaddr *address)
{
	*peer = (struct conn_peer){0};
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;

		conn_peer_set_v4(
		    peer, (const void *)&in->sin_addr, ntohs(in->sin_port));
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)address;

		conn_peer_set_v6(
		    peer, in6->sin6_addr.s6_addr, ntohs(in6->sin6_port));
	}
}

const char *
conn_peer_text(const struct conn_peer *peer, char buf[64])
{
	char host[INET6_ADDRSTRLEN] = "";
	bool is_v4 = peer->family == AF_INET;

	if (peer->family == 0)
		return strcpy(buf, "local");
	inet_ntop(peer->family, peer->address, host, sizeof(host));
	if (peer->port == 0)
		return strcpy(buf, host);
	snprintf(
	    buf, 64, is_v4 ? "%s:%u" : "[%s]:%u", host, (unsigned)peer->port);
	return buf;
}

void
conn_peer_key(const struct conn_peer *peer, uint8_t key[16])
{
	memset(key, 0, 16);
	if (peer->family == AF_INET) {
		key[10] = key[11] = 0xff;
		memcpy(key + 12, peer->address, 4);
	} else if (peer->family == AF_INET6) {
		memcpy(key, peer->address, 8);
	}
}
