/*
 * ws_offer.h - which compression a client offers, and what is agreed
 * (RFC 7692 7.1: permessage-deflate).
 */
#ifndef NET_WS_OFFER_H
#define NET_WS_OFFER_H

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct http_head;

/** Bits of the sliding window that we compress with, unless asked for less:
 *  measured, more saves nothing on messages of our size. */
#define WS_DEFLATE_BITS 12
/** What zlib can do without its header; see ws_offer.c about 8. */
#define WS_DEFLATE_BITS_MIN 9

/** What was agreed; all zero: no compression. */
struct ws_offer {
	uint8_t window_bits;   /* ours, WS_DEFLATE_BITS_MIN.._BITS */
	bool has_window_limit; /* the client asked for one: it is answered */
};

/**
 * Take the first offer that can be met exactly. One that cannot (another
 * extension, an unknown, repeated or impossible parameter) is declined.
 *
 * @param offer_out  all zero when there is none
 * @return           false: not the syntax of RFC 6455 9.1, which must fail
 *                   the connection
 */
bool ws_offer_choose(const struct http_head *head, struct ws_offer *offer_out);

/** Append the answer's header line; nothing when nothing was agreed. */
void ws_offer_answer(const struct ws_offer *offer, struct buf *out);

#endif
