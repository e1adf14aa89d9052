/*
 * conn_peer.h - who is at the other end of a connection.
 */
#ifndef NET_CONN_PEER_H
#define NET_CONN_PEER_H

#include <stdint.h>

struct sockaddr;

struct conn_peer {
	uint8_t address[16]; /* network order; v4 uses the first four */
	uint16_t port;       /* host order; 0: not known */
	uint8_t family;      /* AF_INET, AF_INET6 or 0: none known */
};

/** As accept(2) says it; another family than AF_INET and AF_INET6: none. */
void conn_peer_set(struct conn_peer *peer, const struct sockaddr *address);
/** Network order; a v4 address in a v6 one becomes what it is. */
void conn_peer_set_v4(
    struct conn_peer *peer, const uint8_t address[4], uint16_t port);
void conn_peer_set_v6(
    struct conn_peer *peer, const uint8_t address[16], uint16_t port);
/** "203.0.113.9:51312", "[2001:db8::1]:51312", "local"; without a port that is
 *  not known. @return buf */
const char *conn_peer_text(const struct conn_peer *peer, char buf[64]);
/** Who it counts as for limits: a v4 address as ::ffff:a.b.c.d, of a v6 one
 *  the /64, which one customer has to itself; zeros: not known. */
void conn_peer_key(const struct conn_peer *peer, uint8_t key[16]);

#endif
