/*
 * ws_decode.c - from a client's bytes to text messages and control frames.
 *
 * Role:    puts fragments together, checks UTF-8 and sizes as bytes arrive;
 *          of a compressed message only the size.
 * Process: worker; pure, memory only for an incomplete message.
 * Blocks:  never; each byte is looked at a bounded number of times.
 * Trust:   none. A message's size is checked when a header announces it;
 *          memory follows the bytes that came, never an announcement.
 * See:     ws_conn.c (the user), t/unit/ws_decode.c (every split).
 */
#include "net/ws_decode.h"

#include <string.h>

static size_t
min_size(size_t a, uint64_t b)
{
	return a < b ? a : (size_t)b;
}

static void
set_violation(struct ws_item *item, int code, const char *why)
{
	item->kind = WS_ITEM_VIOLATION;
	item->violation = (struct ws_violation){code, why};
}

static void
set_item(struct ws_item *item, enum ws_item_kind kind, char *data, size_t len)
{
	item->kind = kind;
	item->data = data;
	item->len = len;
}

/* Sequence and size rules of a data frame, before any payload is taken. */
static bool
start_data_frame(struct ws_decoder *decoder, const struct ws_frame *frame,
    size_t max, struct ws_item *item)
{
	if (frame->opcode == WS_OP_BINARY) {
		set_violation(item, WS_CLOSE_UNSUPPORTED,
		    "binary messages are not accepted");
		return false;
	}
	if (decoder->in_message != (frame->opcode == WS_OP_CONTINUATION)) {
		set_violation(item, WS_CLOSE_PROTOCOL,
		    decoder->in_message
			? "a message began before the last one ended"
			: "a continuation without a beginning");
		return false;
	}
	if (frame->len > max - min_size(max, decoder->message.len)) {
		set_violation(item, WS_CLOSE_TOO_LARGE,
		    "the message is larger than permitted");
		return false;
	}
	if (!decoder->in_message)
		decoder->is_deflated = frame->is_deflated;
	decoder->in_message = true;
	decoder->in_frame = true;
	decoder->frame_is_final = frame->is_final;
	decoder->frame_left = frame->len;
	memcpy(decoder->mask, frame->mask, sizeof(decoder->mask));
	return true;
}

/* Count n bytes of payload as taken; the mask follows. */
static void
advance_frame(struct ws_decoder *decoder, size_t n)
{
	uint8_t turned[4];

	for (size_t i = 0; i < sizeof(turned); i++)
		turned[i] = decoder->mask[(n + i) & 3];
	memcpy(decoder->mask, turned, sizeof(turned));
	decoder->frame_left -= n;
	decoder->in_frame = decoder->frame_left > 0;
}

static bool
check_utf8(struct ws_decoder *decoder, const char *data, size_t len,
    bool is_end, struct ws_item *item)
{
	if (decoder->is_deflated)
		return true; /* whoever inflates it looks */
	if (utf8_feed(&decoder->utf8, data, len) &&
	    (!is_end || utf8_is_complete(&decoder->utf8)))
		return true;
	set_violation(item, WS_CLOSE_BAD_DATA, "text must be UTF-8");
	return false;
}

static void
end_message(
    struct ws_decoder *decoder, char *data, size_t len, struct ws_item *item)
{
	decoder->in_message = false;
	decoder->utf8 = (struct utf8_state){0};
	set_item(item, decoder->is_deflated ? WS_ITEM_DEFLATED : WS_ITEM_TEXT,
	    data, len);
}

/*
 * Payload of the present data frame. A message that is whole within data is
 * delivered where it lies; else its bytes are collected.
 */
static size_t
take_payload(
    struct ws_decoder *decoder, char *data, size_t len, struct ws_item *item)
{
	size_t n = min_size(len, decoder->frame_left);

	ws_mask(data, n, decoder->mask, 0);
	advance_frame(decoder, n);
	bool is_end = decoder->frame_is_final && !decoder->in_frame;
	if (!check_utf8(decoder, data, n, is_end, item))
		return n;
	if (is_end && decoder->message.len == 0) {
		end_message(decoder, data, n, item);
		return n;
	}
	if (n > 0)
		buf_add(&decoder->message, data, n);
	if (is_end) {
		(void)buf_reserve(&decoder->message, 1); /* for a NUL */
		end_message(
		    decoder, decoder->message.data, decoder->message.len, item);
	}
	return n;
}

static void
take_control(uint8_t opcode, char *data, size_t len, struct ws_item *item)
{
	switch ((enum ws_opcode)opcode) {
	case WS_OP_CLOSE:
		set_item(item, WS_ITEM_CLOSE, data, len);
		return;
	case WS_OP_PING:
		set_item(item, WS_ITEM_PING, data, len);
		return;
	case WS_OP_PONG:
		set_item(item, WS_ITEM_PONG, data, len);
		return;
	case WS_OP_CONTINUATION:
	case WS_OP_TEXT:
	case WS_OP_BINARY:
		return; /* the caller asks ws_opcode_is_control first */
	}
}

/*
 * One header, and with a control frame its payload, which waits until it is
 * whole. @return bytes consumed; 0 with kind NONE: incomplete
 */
static size_t
take_header(struct ws_decoder *decoder, char *data, size_t len, size_t max,
    struct ws_item *item)
{
	struct ws_frame frame;
	int n = ws_frame_parse((const uint8_t *)data, len, decoder->may_deflate,
	    &frame, &item->violation);

	if (n < 0)
		item->kind = WS_ITEM_VIOLATION;
	if (n <= 0)
		return 0;
	if (!ws_opcode_is_control(frame.opcode)) {
		if (!frame.is_final)
			decoder->loose_frames++;
		(void)start_data_frame(decoder, &frame, max, item);
		return (size_t)n;
	}
	if (len - (size_t)n < frame.len)
		return 0;
	decoder->loose_frames++;
	ws_mask(data + n, (size_t)frame.len, frame.mask, 0);
	take_control(frame.opcode, data + n, (size_t)frame.len, item);
	return (size_t)n + (size_t)frame.len;
}

size_t
ws_decode_next(struct ws_decoder *decoder, char *data, size_t len, size_t max,
    struct ws_item *item_out)
{
	size_t used = 0;

	item_out->kind = WS_ITEM_NONE;
	while (item_out->kind == WS_ITEM_NONE) {
		if (!decoder->in_frame) {
			size_t n = take_header(
			    decoder, data + used, len - used, max, item_out);

			if (n == 0)
				break;
			used += n;
			/* A data frame, perhaps an empty one, is begun. */
			if (item_out->kind != WS_ITEM_NONE)
				break;
		} else if (used == len) {
			break;
		}
		used +=
		    take_payload(decoder, data + used, len - used, item_out);
	}
	return used;
}

size_t
ws_decode_skip(struct ws_decoder *decoder, char *data, size_t len,
    struct ws_item *item_out)
{
	size_t used = 0;

	ws_decoder_fini(decoder);
	item_out->kind = WS_ITEM_NONE;
	for (;;) {
		size_t n = min_size(len - used, decoder->frame_left);

		used += n;
		advance_frame(decoder, n);
		if (decoder->in_frame)
			return used;
		struct ws_frame frame;
		int head =
		    ws_frame_parse((const uint8_t *)data + used, len - used,
			decoder->may_deflate, &frame, &item_out->violation);
		if (head < 0)
			item_out->kind = WS_ITEM_VIOLATION;
		if (head <= 0)
			return used;
		if (frame.opcode == WS_OP_CLOSE) {
			if (len - used - (size_t)head < frame.len)
				return used;
			used += (size_t)head;
			ws_mask(data + used, (size_t)frame.len, frame.mask, 0);
			set_item(item_out, WS_ITEM_CLOSE, data + used,
			    (size_t)frame.len);
			return used + (size_t)frame.len;
		}
		used += (size_t)head;
		decoder->frame_left = frame.len;
	}
}

void
ws_decoder_release(struct ws_decoder *decoder)
{
	if (!decoder->in_message)
		buf_fini(&decoder->message);
}

void
ws_decoder_fini(struct ws_decoder *decoder)
{
	buf_fini(&decoder->message);
}
