/*
 * ws_deflate.h - permessage-deflate without context takeover (RFC 7692 7.2):
 * one text to its compressed payload and back.
 *
 * Every message stands alone, so one struct serves all connections of a
 * worker: about 32 KiB to compress and 40 KiB to inflate, each from its first
 * use on, besides the buffers of the message at hand.
 */
#ifndef NET_WS_DEFLATE_H
#define NET_WS_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct ws_deflate;
struct ws_violation;

/** Blocks marked as the last one that one message may hold; honest senders
 *  use none or one. */
#define WS_DEFLATE_FINALS_MAX 64

struct ws_deflate *ws_deflate_new(void);
void ws_deflate_free(struct ws_deflate **codec);

/**
 * Inflate a whole message and check that it is text.
 *
 * @param data, len      its payload: what all its frames held
 * @param max            bytes of the text; one more is refused without being
 *                       kept
 * @param text_out       valid until the next ws_inflate or
 *                       ws_inflate_release; has room for a NUL behind it.
 *                       On failure what was inflated until then
 * @param violation_out  1007: no deflate data or no UTF-8; 1009: larger
 * @return               0 or ERR_BAD_REQUEST
 */
NODISCARD int ws_inflate(struct ws_deflate *codec, const char *data, size_t len,
    size_t max, struct buf **text_out, struct ws_violation *violation_out);

/**
 * Compress one text. The same text again costs next to nothing: an event for
 * many clients is compressed once.
 *
 * @param window_bits  as agreed with the client
 * @param packed_out   valid until the next ws_deflate_pack or
 *                     ws_deflate_release
 * @return             false: it would not become smaller, send it as it is
 */
bool ws_deflate_pack(struct ws_deflate *codec, int window_bits,
    const char *data, size_t len, const struct buf **packed_out);

/** Give back what a large message has left, in either direction: whoever
 *  reads an inflated text may have answers compressed meanwhile. */
void ws_inflate_release(struct ws_deflate *codec);
void ws_deflate_release(struct ws_deflate *codec);

#endif
