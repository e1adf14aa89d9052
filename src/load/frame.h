/*
 * frame.h - WebSocket frames as a client writes and reads them: masked out,
 * unmasked in (RFC 6455 5).
 */
#ifndef LOAD_FRAME_H
#define LOAD_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum frame_opcode {
	FRAME_CONTINUATION = 0,
	FRAME_TEXT = 1,
	FRAME_BINARY = 2,
	FRAME_CLOSE = 8,
	FRAME_PING = 9,
	FRAME_PONG = 10,
};

struct frame {
	bool is_final;
	bool is_deflated;
	enum frame_opcode opcode;
	const char *data; /* into the input */
	size_t len;
	size_t total; /* header and payload: how far to go on */
};

/**
 * Take one frame from the front of data.
 *
 * @param len_max      longest payload that is believed
 * @param may_deflate  permessage-deflate was agreed upon
 * @return             0, ERR_AGAIN (incomplete), ERR_BAD_REQUEST (reserved bits
 *                     or opcode, masked, bad control frame, too long)
 */
NODISCARD int frame_parse(const char *data, size_t len, size_t len_max,
    bool may_deflate, struct frame *frame_out);
/** Append one final, masked frame. @param mask  of any value */
void frame_put(struct buf *out, enum frame_opcode opcode, const void *data,
    size_t len, uint32_t mask);
/** The same for a text whose payload has been compressed. */
void frame_put_deflated(
    struct buf *out, const void *data, size_t len, uint32_t mask);

#endif
