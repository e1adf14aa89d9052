/*
 * ws_frame.h - WebSocket frames (RFC 6455 5): headers, masks, close payloads.
 */
#ifndef NET_WS_FRAME_H
#define NET_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_CONTROL_MAX     125 /* payload of a control frame, RFC 6455 5.5 */
#define WS_HEADER_MAX      14  /* from a client: 2 + 8 length + 4 mask */
#define WS_SEND_HEADER_MAX 10  /* from a server: no mask */

enum ws_opcode {
	WS_OP_CONTINUATION = 0x0,
	WS_OP_TEXT = 0x1,
	WS_OP_BINARY = 0x2,
	WS_OP_CLOSE = 0x8,
	WS_OP_PING = 0x9,
	WS_OP_PONG = 0xa,
};

/** Close codes of RFC 6455 7.4.1 that are said or reported here. */
enum {
	WS_CLOSE_NORMAL = 1000,
	WS_CLOSE_GOING_AWAY = 1001,
	WS_CLOSE_PROTOCOL = 1002,
	WS_CLOSE_UNSUPPORTED = 1003,
	WS_CLOSE_NO_CODE = 1005,  /* never on the wire */
	WS_CLOSE_ABNORMAL = 1006, /* never on the wire */
	WS_CLOSE_BAD_DATA = 1007,
	WS_CLOSE_TOO_LARGE = 1009,
};

/** Why a connection must be failed: what the close frame will say. */
struct ws_violation {
	int code;
	const char *why; /* static, at most 123 bytes */
};

struct ws_frame {
	uint64_t len; /* payload bytes */
	uint8_t mask[4];
	uint8_t opcode; /* enum ws_opcode */
	bool is_final;
	bool is_deflated; /* RSV1: the message it begins is compressed */
};

/**
 * Read the header of a frame from a client. Every rule is applied as soon as
 * the byte that breaks it is there.
 *
 * @param may_deflate  permessage-deflate was agreed: a data message may begin
 *                     with RSV1 (RFC 7692 6)
 * @return  bytes of the header; 0: more are needed; -1: see violation_out
 */
int ws_frame_parse(const uint8_t *data, size_t len, bool may_deflate,
    struct ws_frame *frame_out, struct ws_violation *violation_out);

static inline bool
ws_opcode_is_control(uint8_t opcode)
{
	return (opcode & 0x8) != 0;
}

/**
 * Mask or unmask in place (the same thing), eight bytes at a time.
 *
 * @param offset  of data[0] within the payload
 */
void ws_mask(char *data, size_t len, const uint8_t mask[4], uint64_t offset);

/** Header of a final, unmasked frame. @return bytes written */
size_t ws_frame_write(
    uint8_t out[WS_SEND_HEADER_MAX], enum ws_opcode opcode, uint64_t len);
/** Mark what ws_frame_write wrote: the payload is a compressed message. */
void ws_frame_set_deflated(uint8_t head[WS_SEND_HEADER_MAX]);

/** May this code stand in a close frame (RFC 6455 7.4)? */
bool ws_close_code_is_valid(int code);

/**
 * Check the unmasked payload of a close frame.
 *
 * @param code_out  its code, WS_CLOSE_NO_CODE when the payload is empty
 * @return          0, or -1: see violation_out
 */
int ws_close_parse(const char *data, size_t len, int *code_out,
    struct ws_violation *violation_out);

#endif
