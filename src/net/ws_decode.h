/*
 * ws_decode.h - from a client's bytes to text messages and control frames.
 *
 * Pulled, not pushed: the caller asks for the next item and may stop after
 * each. A zeroed struct is ready and holds no memory; it holds some only
 * while a message is incomplete. A compressed message is only put together
 * here: it is inflated whole (ws_deflate.h), so that no connection needs a
 * window of its own.
 */
#ifndef NET_WS_DECODE_H
#define NET_WS_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/text.h"
#include "net/ws_frame.h"

struct ws_decoder {
	struct buf message;     /* unmasked start of an incomplete message */
	uint64_t frame_left;    /* payload of the data frame still to come */
	struct utf8_state utf8; /* of the incomplete message */
	uint8_t mask[4];        /* turned so that [0] is for the next byte */
	bool in_message;        /* between first fragment and last */
	bool in_frame;          /* between header and end of a data frame */
	bool frame_is_final;
	bool may_deflate; /* set by the owner: permessage-deflate was agreed */
	bool is_deflated; /* the message at hand is compressed */
	/* That ended no message; the owner resets it with each input, which has
	 * less than 2^16 * 6 bytes. */
	uint16_t loose_frames;
};

enum ws_item_kind {
	WS_ITEM_NONE, /* the rest is incomplete: keep it, bring more */
	WS_ITEM_TEXT,
	WS_ITEM_DEFLATED, /* a compressed one, as it came */
	WS_ITEM_PING,
	WS_ITEM_PONG,
	WS_ITEM_CLOSE,
	WS_ITEM_VIOLATION,
};

struct ws_item {
	enum ws_item_kind kind;
	char *data; /* TEXT, DEFLATED, PING, PONG, CLOSE: unmasked payload */
	size_t len;
	struct ws_violation violation;
};

/**
 * Take the next item off the front.
 *
 * @param data      unmasked in place. data[len] must be writable memory (it
 *                  is not touched here): a TEXT may end there and its reader
 *                  may want a NUL.
 * @param max       bytes of one message on the wire; more is a violation once
 *                  announced
 * @param item_out  TEXT or DEFLATED points into data or into the decoder's
 * buffer, which has room for a NUL too; valid until the next call
 * @return          bytes consumed; what is left belongs to the next call,
 *                  at most WS_HEADER_MAX + WS_CONTROL_MAX when NONE
 */
size_t ws_decode_next(struct ws_decoder *decoder, char *data, size_t len,
    size_t max, struct ws_item *item_out);

/**
 * The same for a connection that only waits for the close frame: text is
 * dropped unread. NONE, CLOSE and VIOLATION are what it gives.
 */
size_t ws_decode_skip(struct ws_decoder *decoder, char *data, size_t len,
    struct ws_item *item_out);

/** Give a delivered message's memory back. */
void ws_decoder_release(struct ws_decoder *decoder);
void ws_decoder_fini(struct ws_decoder *decoder);

#endif
