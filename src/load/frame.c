/*
 * frame.c - WebSocket framing, client side.
 *
 * Role:    masks what goes out, takes apart what comes in.
 * Process: each generator of parleyload; pure.
 * Blocks:  never.
 * Trust:   any bytes from the server; lengths are capped before use.
 * See:     client.c, t/unit/load_wire.c (every split and limit).
 */
#include "load/frame.h"

#include <string.h>

#define FRAME_HEADER_MAX 14
#define FRAME_RSV1       0x40

/*
 * RFC 6455 5.5: control frames are final and at most 125 bytes. RFC 7692 6:
 * only the first frame of a message says that it is compressed.
 */
static bool
is_sound(const struct frame *frame)
{
	switch (frame->opcode) {
	case FRAME_TEXT:
	case FRAME_BINARY:
		return true;
	case FRAME_CONTINUATION:
		return !frame->is_deflated;
	case FRAME_CLOSE:
	case FRAME_PING:
	case FRAME_PONG:
		return frame->is_final && !frame->is_deflated &&
		       frame->len <= 125;
	}
	return false;
}

static uint64_t
read_be(const unsigned char *data, size_t len)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++)
		n = n << 8 | data[i];
	return n;
}

int
frame_parse(const char *data, size_t len, size_t len_max, bool may_deflate,
    struct frame *frame_out)
{
	const unsigned char *p = (const unsigned char *)data;
	size_t header = 2;
	uint64_t n;

	if (len < header)
		return ERR_AGAIN;
	/* reserved bits are 0 unless agreed upon; no mask (5.1) */
	if ((p[0] & (may_deflate ? 0x30 : 0x70)) || (p[1] & 0x80))
		return ERR_BAD_REQUEST;
	n = p[1];
	if (n >= 126) {
		size_t extra = n == 126 ? 2 : 8;

		if (len < header + extra)
			return ERR_AGAIN;
		n = read_be(p + header, extra);
		header += extra;
	}
	*frame_out = (struct frame){
	    .is_final = p[0] & 0x80,
	    .is_deflated = p[0] & FRAME_RSV1,
	    .opcode = (enum frame_opcode)(p[0] & 0x0f),
	    .data = data + header,
	    .len = (size_t)n,
	    .total = header + (size_t)n,
	};
	if (n > len_max || !is_sound(frame_out))
		return ERR_BAD_REQUEST;
	return len < frame_out->total ? ERR_AGAIN : 0;
}

static size_t
put_header(unsigned char *p, enum frame_opcode opcode, size_t len)
{
	p[0] = (unsigned char)(0x80 | opcode);
	if (len < 126) {
		p[1] = (unsigned char)(0x80 | len);
		return 2;
	}
	if (len <= UINT16_MAX) {
		p[1] = 0x80 | 126;
		p[2] = (unsigned char)(len >> 8);
		p[3] = (unsigned char)len;
		return 4;
	}
	p[1] = 0x80 | 127;
	for (int i = 0; i < 8; i++)
		p[2 + i] = (unsigned char)((uint64_t)len >> (56 - 8 * i));
	return 10;
}

/* Eight bytes a step; memcpy because neither end is aligned. */
static void
copy_masked(char *to, const char *from, size_t len, uint32_t mask)
{
	uint64_t wide = (uint64_t)mask << 32 | mask;
	unsigned char key[4];
	size_t i = 0;

	for (; i + 8 <= len; i += 8) {
		uint64_t word;

		memcpy(&word, from + i, 8);
		word ^= wide;
		memcpy(to + i, &word, 8);
	}
	memcpy(key, &mask, 4);
	for (; i < len; i++)
		to[i] = (char)(from[i] ^ key[i & 3]);
}

void
frame_put(struct buf *out, enum frame_opcode opcode, const void *data,
    size_t len, uint32_t mask)
{
	char *p = buf_reserve(out, FRAME_HEADER_MAX + len);
	size_t header = put_header((unsigned char *)p, opcode, len);

	memcpy(p + header, &mask, sizeof(mask));
	header += sizeof(mask);
	copy_masked(p + header, data, len, mask);
	out->len += header + len;
}

void
frame_put_deflated(struct buf *out, const void *data, size_t len, uint32_t mask)
{
	size_t at = out->len;

	frame_put(out, FRAME_TEXT, data, len, mask);
	out->data[at] = (char)((unsigned char)out->data[at] | FRAME_RSV1);
}
