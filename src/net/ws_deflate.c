/*
 * ws_deflate.c - permessage-deflate without context takeover.
 *
 * Role:    one zlib state for each direction, made on first use and reset for
 *          each message, whichever connection it belongs to.
 * Process: worker.
 * Blocks:  never; work is bounded by the size of a text.
 * Trust:   none in what is inflated: its size is checked while it grows, so a
 *          bomb costs max bytes at most. ws_conn.c makes the connection wait
 *          for the others as if it had sent the text at full length.
 * See:     ws_offer.c (what is agreed), RFC 7692 7.2, t/unit/ws_deflate.c.
 */
#include "net/ws_deflate.h"

#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST /* input is borrowed */
#include <zlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/ws_frame.h"

/* Measured on texts of 200 bytes to 64 KiB: higher levels take 1.5 to 3 times
 * as long for 0 to 6 % less; more memory makes no difference below 64 KiB. */
#define PACK_LEVEL  1
#define PACK_MEMORY 5 /* memLevel: 16 KiB beside the window's */
/* A text up to this is kept to be recognised when it comes again. */
#define AGAIN_MAX ((size_t)16 * 1024)
/* A buffer above this is not kept. */
#define KEEP_MAX ((size_t)64 * 1024)
/* First piece of an inflated text; it doubles from there. */
#define INFLATE_FIRST ((size_t)4 * 1024)
/* How far back deflate data may refer (RFC 1951 2). */
#define HISTORY_MAX ((size_t)32 * 1024)
/* What a flush ends with and the wire leaves out (RFC 7692 7.2.1). */
#define TAIL_LEN 4

static const unsigned char tail[TAIL_LEN] = {0x00, 0x00, 0xff, 0xff};

struct ws_deflate {
	z_stream in;
	z_stream out;
	bool has_in;
	int out_bits; /* window that out was made for; 0: not made */
	struct buf text;
	struct buf packed;
	struct buf again; /* the text that packed was made from */
	int again_bits;   /* 0: nothing in again */
	bool is_smaller;  /* packed is worth sending */
};

static voidpf
allocate(voidpf opaque, uInt count, uInt size)
{
	(void)opaque;
	return xcalloc(count, size);
}

static void
release(voidpf opaque, voidpf ptr)
{
	(void)opaque;
	free(ptr);
}

struct ws_deflate *
ws_deflate_new(void)
{
	struct ws_deflate *codec = xcalloc(1, sizeof(*codec));

	codec->in.zalloc = codec->out.zalloc = allocate;
	codec->in.zfree = codec->out.zfree = release;
	return codec;
}

void
ws_deflate_free(struct ws_deflate **codec_io)
{
	struct ws_deflate *codec = *codec_io;

	if (codec == NULL)
		return;
	*codec_io = NULL;
	if (codec->has_in)
		(void)inflateEnd(&codec->in);
	if (codec->out_bits != 0)
		(void)deflateEnd(&codec->out);
	buf_fini(&codec->text);
	buf_fini(&codec->packed);
	buf_fini(&codec->again);
	free(codec);
}

/* ---- from the client ---- */

static void
inflate_begin(struct ws_deflate *codec)
{
	int rc;

	/* Without a zlib header, the largest window: follows any client. */
	if (codec->has_in)
		rc = inflateReset(&codec->in);
	else
		rc = inflateInit2(&codec->in, -MAX_WBITS);
	if (rc != Z_OK)
		panic("inflate cannot be set up: %d", rc);
	codec->has_in = true;
	buf_clear(&codec->text);
}

/*
 * RFC 7692 7.2.1: a block may be marked as the last of its stream, others may
 * follow it in the same message and look back beyond it.
 */
static void
inflate_resume(struct ws_deflate *codec)
{
	const struct buf *text = &codec->text;
	size_t len = text->len < HISTORY_MAX ? text->len : HISTORY_MAX;

	if (inflateReset(&codec->in) != Z_OK ||
	    (len > 0 && inflateSetDictionary(&codec->in,
			    (const Bytef *)text->data + text->len - len,
			    (uInt)len) != Z_OK))
		panic("inflate cannot be resumed");
}

/* Room for the next piece, never beyond one byte more than permitted. */
static void
set_room(struct ws_deflate *codec, size_t max)
{
	struct buf *text = &codec->text;
	size_t room = text->len < INFLATE_FIRST ? INFLATE_FIRST : text->len;

	if (room > max + 1 - text->len)
		room = max + 1 - text->len;
	codec->in.next_out = (Bytef *)buf_reserve(text, room);
	codec->in.avail_out = (uInt)room;
}

enum feed_result {
	FEED_MORE,  /* within a block */
	FEED_BLOCK, /* a block has ended on the last byte */
	FEED_FINAL, /* so has one that was marked as the last */
	FEED_BAD,
	FEED_TOO_LARGE,
};

/*
 * Inflate one piece of the payload to its end.
 *
 * @param finals_io  blocks marked as the last so far
 */
static enum feed_result
feed(struct ws_deflate *codec, const void *data, size_t len, size_t max,
    int *finals_io)
{
	z_stream *in = &codec->in;

	in->next_in = (z_const Bytef *)data;
	in->avail_in = (uInt)len;
	for (;;) {
		set_room(codec, max);
		size_t room = in->avail_out;
		int rc = inflate(in, Z_SYNC_FLUSH);

		codec->text.len += room - in->avail_out;
		if (codec->text.len > max)
			return FEED_TOO_LARGE;
		if (rc == Z_STREAM_END) {
			if (++*finals_io > WS_DEFLATE_FINALS_MAX)
				return FEED_BAD;
			inflate_resume(codec);
			if (in->avail_in == 0)
				return FEED_FINAL;
		} else if (rc != Z_OK && rc != Z_BUF_ERROR) {
			return FEED_BAD;
		} else if (in->avail_in == 0 && in->avail_out > 0) {
			/* zlib.h, inflate: 128 is the end of a block, the low
			 * bits count what is left of the last byte. */
			return in->data_type == 128 ? FEED_BLOCK : FEED_MORE;
		}
	}
}

static int
fail(struct ws_violation *violation, int code, const char *why)
{
	*violation = (struct ws_violation){code, why};
	return ERR_BAD_REQUEST;
}

int
ws_inflate(struct ws_deflate *codec, const char *data, size_t len, size_t max,
    struct buf **text_out, struct ws_violation *violation_out)
{
	enum feed_result result = FEED_MORE;
	int finals = 0;

	inflate_begin(codec);
	*text_out = &codec->text;
	if (len > 0)
		result = feed(codec, data, len, max, &finals);
	/*
	 * RFC 7692 7.2.2: what the sender left out is put back, and must end a
	 * block. A sender that ends its stream with a final block is to add
	 * the first byte of an empty one (7.2.3.4); some do not, and then
	 * there is nothing to put back.
	 */
	if (result == FEED_MORE || result == FEED_BLOCK) {
		result = feed(codec, tail, TAIL_LEN, max, &finals);
		if (result == FEED_FINAL)
			result = FEED_BAD;
	}
	if (result == FEED_TOO_LARGE)
		return fail(violation_out, WS_CLOSE_TOO_LARGE,
		    "the message is larger than permitted once inflated");
	if (result != FEED_BLOCK && result != FEED_FINAL)
		return fail(violation_out, WS_CLOSE_BAD_DATA,
		    "the message is not what deflate makes");
	if (!text_utf8_valid(codec->text.data, codec->text.len))
		return fail(
		    violation_out, WS_CLOSE_BAD_DATA, "text must be UTF-8");
	(void)buf_reserve(&codec->text, 1); /* for a NUL */
	return 0;
}

/* ---- to the client ---- */

static void
pack_begin(struct ws_deflate *codec, int window_bits)
{
	z_stream *out = &codec->out;
	int rc;

	if (codec->out_bits == window_bits) {
		rc = deflateReset(out);
	} else {
		/* Hardly any client asks for another window than ours. */
		if (codec->out_bits != 0)
			(void)deflateEnd(out);
		rc = deflateInit2(out, PACK_LEVEL, Z_DEFLATED, -window_bits,
		    PACK_MEMORY, Z_DEFAULT_STRATEGY);
		codec->out_bits = window_bits;
	}
	if (rc != Z_OK)
		panic("deflate cannot be set up: %d", rc);
}

static void
pack(struct ws_deflate *codec, int window_bits, const char *data, size_t len)
{
	z_stream *out = &codec->out;
	struct buf *packed = &codec->packed;
	/* A byte is left over when the flush was complete (zlib.h, deflate). */
	size_t room = len + TAIL_LEN;

	pack_begin(codec, window_bits);
	buf_clear(packed);
	out->next_in = (z_const Bytef *)data;
	out->avail_in = (uInt)len;
	out->next_out = (Bytef *)buf_reserve(packed, room);
	out->avail_out = (uInt)room;
	int rc = deflate(out, Z_SYNC_FLUSH);
	if (rc != Z_OK)
		panic("deflate has failed: %d", rc);
	packed->len = room - out->avail_out;
	codec->is_smaller = out->avail_out > 0;
	if (codec->is_smaller)
		packed->len -= TAIL_LEN;
}

/* Keep the text beside what became of it. */
static void
remember(
    struct ws_deflate *codec, int window_bits, const char *data, size_t len)
{
	buf_clear(&codec->again);
	codec->again_bits = 0;
	if (len > AGAIN_MAX)
		return;
	buf_add(&codec->again, data, len);
	codec->again_bits = window_bits;
}

bool
ws_deflate_pack(struct ws_deflate *codec, int window_bits, const char *data,
    size_t len, const struct buf **packed_out)
{
	bool is_again = len > 0 && codec->again_bits == window_bits &&
			codec->again.len == len &&
			memcmp(codec->again.data, data, len) == 0;

	if (!is_again) {
		pack(codec, window_bits, data, len);
		remember(codec, window_bits, data, len);
	}
	*packed_out = &codec->packed;
	return codec->is_smaller;
}

void
ws_inflate_release(struct ws_deflate *codec)
{
	if (codec->text.cap > KEEP_MAX)
		buf_fini(&codec->text);
}

void
ws_deflate_release(struct ws_deflate *codec)
{
	if (codec->packed.cap > KEEP_MAX) {
		buf_fini(&codec->packed);
		codec->again_bits = 0;
	}
}
