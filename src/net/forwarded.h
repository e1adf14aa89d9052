/*
 * forwarded.h - for whom a proxy asks: X-Forwarded-For.
 */
#ifndef NET_FORWARDED_H
#define NET_FORWARDED_H

#include <stdbool.h>

struct conn_peer;
struct http_head;
struct networks;

/**
 * Of a request whose peer may be believed: the right-most address that is no
 * trusted proxy itself, or the left-most one when all are. What stands further
 * to the left is hearsay, and not looked at.
 *
 * @param peer_io  unchanged without such a header
 * @return         false: what has to be looked at is no address
 */
bool forwarded_find(const struct http_head *head,
    const struct networks *trusted, struct conn_peer *peer_io);

#endif
