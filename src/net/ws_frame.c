/*
 * ws_frame.c - WebSocket frames: headers, masks, close payloads.
 *
 * Role:    the stateless part of RFC 6455 5; what frames mean together is
 *          ws_decode.c's.
 * Process: worker; pure.
 * Blocks:  never.
 * Trust:   none in what is parsed; lengths are only reported, never used.
 * See:     t/unit/ws_frame.c (every malformed header and every split).
 */
#include "net/ws_frame.h"

#include <string.h>

#include "base/text.h"

#define FRAME_RSV  0x70 /* of the first byte, RFC 6455 5.2 */
#define FRAME_RSV1 0x40

static int
fail(struct ws_violation *violation, int code, const char *why)
{
	violation->code = code;
	violation->why = why;
	return -1;
}

static bool
opcode_is_known(uint8_t opcode)
{
	return opcode <= WS_OP_BINARY ||
	       (opcode >= WS_OP_CLOSE && opcode <= WS_OP_PONG);
}

static int
check_first_byte(uint8_t byte, bool may_deflate, struct ws_violation *violation)
{
	uint8_t opcode = byte & 0x0f;

	if ((byte & (may_deflate ? FRAME_RSV & ~FRAME_RSV1 : FRAME_RSV)) != 0)
		return fail(violation, WS_CLOSE_PROTOCOL,
		    "a reserved bit is set, no extension was agreed");
	/* RFC 7692 6: on the first frame of a data message, nowhere else. */
	if ((byte & FRAME_RSV1) != 0 &&
	    (ws_opcode_is_control(opcode) || opcode == WS_OP_CONTINUATION))
		return fail(violation, WS_CLOSE_PROTOCOL,
		    "only the first frame of a message says compressed");
	if (!opcode_is_known(opcode))
		return fail(violation, WS_CLOSE_PROTOCOL, "unknown opcode");
	if (ws_opcode_is_control(opcode) && (byte & 0x80) == 0)
		return fail(violation, WS_CLOSE_PROTOCOL,
		    "a control frame must not be fragmented");
	return 0;
}

static uint64_t
read_big_endian(const uint8_t *data, size_t count)
{
	uint64_t n = 0;

	for (size_t i = 0; i < count; i++)
		n = n << 8 | data[i];
	return n;
}

/* RFC 6455 5.2: the minimal number of bytes, highest bit 0. */
static int
check_length(uint64_t payload_len, size_t count, struct ws_violation *violation)
{
	if (count == 8 && payload_len >> 63 != 0)
		return fail(violation, WS_CLOSE_PROTOCOL,
		    "the highest bit of a frame length is set");
	if ((count == 8 && payload_len <= 0xffff) ||
	    (count == 2 && payload_len < 126))
		return fail(violation, WS_CLOSE_PROTOCOL,
		    "a frame length is not encoded minimally");
	return 0;
}

int
ws_frame_parse(const uint8_t *data, size_t len, bool may_deflate,
    struct ws_frame *frame_out, struct ws_violation *violation_out)
{
	size_t count = 0; /* bytes of extended length */

	if (len < 1)
		return 0;
	if (check_first_byte(data[0], may_deflate, violation_out) != 0)
		return -1;
	if (len < 2)
		return 0;
	if ((data[1] & 0x80) == 0)
		return fail(violation_out, WS_CLOSE_PROTOCOL,
		    "a client must mask its frames");
	frame_out->opcode = data[0] & 0x0f;
	frame_out->is_final = (data[0] & 0x80) != 0;
	frame_out->is_deflated = (data[0] & FRAME_RSV1) != 0;
	frame_out->len = data[1] & 0x7f;
	if (frame_out->len > WS_CONTROL_MAX) {
		if (ws_opcode_is_control(frame_out->opcode))
			return fail(violation_out, WS_CLOSE_PROTOCOL,
			    "a control frame carries at most 125 bytes");
		count = frame_out->len == 126 ? 2 : 8;
		if (len < 2 + count)
			return 0;
		frame_out->len = read_big_endian(data + 2, count);
		if (check_length(frame_out->len, count, violation_out) != 0)
			return -1;
	}
	/*
	 * The length is known before the mask has arrived; callers that limit
	 * it wait for at most four bytes more.
	 */
	if (len < 2 + count + 4)
		return 0;
	memcpy(frame_out->mask, data + 2 + count, 4);
	return (int)(2 + count + 4);
}

void
ws_mask(char *data, size_t len, const uint8_t mask[4], uint64_t offset)
{
	uint8_t turned[8];
	uint64_t word;
	size_t i = 0;

	for (size_t k = 0; k < sizeof(turned); k++)
		turned[k] = mask[(offset + k) & 3];
	memcpy(&word, turned, sizeof(word));
	for (; i + 8 <= len; i += 8) {
		uint64_t part;

		memcpy(&part, data + i, sizeof(part));
		part ^= word;
		memcpy(data + i, &part, sizeof(part));
	}
	for (; i < len; i++)
		data[i] = (char)((uint8_t)data[i] ^ turned[i & 7]);
}

size_t
ws_frame_write(
    uint8_t out[WS_SEND_HEADER_MAX], enum ws_opcode opcode, uint64_t len)
{
	size_t count = 0;

	out[0] = (uint8_t)(0x80 | opcode);
	if (len <= 125) {
		out[1] = (uint8_t)len;
	} else if (len <= 0xffff) {
		out[1] = 126;
		count = 2;
	} else {
		out[1] = 127;
		count = 8;
	}
	for (size_t i = 0; i < count; i++)
		out[2 + i] = (uint8_t)(len >> (8 * (count - 1 - i)));
	return 2 + count;
}

void
ws_frame_set_deflated(uint8_t head[WS_SEND_HEADER_MAX])
{
	head[0] |= FRAME_RSV1;
}

bool
ws_close_code_is_valid(int code)
{
	/* 1004 to 1006 and 1015 are reserved (RFC 6455 7.4.1); 1012 to 1014
	 * were registered later (IANA, WebSocket Close Code registry). */
	if (code >= 1000 && code <= 1014)
		return code < 1004 || code > 1006;
	return code >= 3000 && code <= 4999;
}

int
ws_close_parse(const char *data, size_t len, int *code_out,
    struct ws_violation *violation_out)
{
	struct utf8_state utf8 = {0};

	*code_out = WS_CLOSE_NO_CODE;
	if (len == 0)
		return 0;
	if (len == 1)
		return fail(violation_out, WS_CLOSE_PROTOCOL,
		    "a close frame carries no code or a whole one");
	int code = (uint8_t)data[0] << 8 | (uint8_t)data[1];
	if (!ws_close_code_is_valid(code))
		return fail(violation_out, WS_CLOSE_PROTOCOL,
		    "this close code must not be sent");
	if (!utf8_feed(&utf8, data + 2, len - 2) || !utf8_is_complete(&utf8))
		return fail(violation_out, WS_CLOSE_BAD_DATA,
		    "a close reason must be UTF-8");
	*code_out = code;
	return 0;
}
