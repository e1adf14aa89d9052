/*
 * deflate.c - permessage-deflate as a client does it.
 *
 * Role:    compresses what goes out, inflates what comes in.
 * Process: each generator; pure.
 * Blocks:  never.
 * Trust:   any bytes from the server; a text is capped while it grows.
 * See:     client.c, upgrade.c (what is agreed), t/unit/load_wire.c.
 */
#include "load/deflate.h"

#include <stdlib.h>
#define ZLIB_CONST /* input is borrowed */
#include <zlib.h>

#include "base/log.h"
#include "base/mem.h"

#define PACK_LEVEL  1
#define PACK_MEMORY 5
#define PACK_BITS   12
/* An empty stored block without its header (RFC 7692 7.2.1). */
#define TAIL_LEN  4
#define TEXT_STEP 16384

struct deflate {
	z_stream in;
	z_stream out;
	struct buf text;
	struct buf packed;
};

struct deflate *
deflate_new(void)
{
	struct deflate *codec = xcalloc(1, sizeof(*codec));

	/* Negative: without zlib's header. 15 follows whatever was used. */
	if (inflateInit2(&codec->in, -MAX_WBITS) != Z_OK ||
	    deflateInit2(&codec->out, PACK_LEVEL, Z_DEFLATED, -PACK_BITS,
		PACK_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
		panic("zlib cannot be set up");
	return codec;
}

void
deflate_free(struct deflate **codec_io)
{
	struct deflate *codec = *codec_io;

	if (!codec)
		return;
	*codec_io = NULL;
	inflateEnd(&codec->in);
	deflateEnd(&codec->out);
	buf_fini(&codec->text);
	buf_fini(&codec->packed);
	free(codec);
}

bool
deflate_pack(struct deflate *codec, const char *data, size_t len,
    const struct buf **packed_out)
{
	z_stream *out = &codec->out;
	struct buf *packed = &codec->packed;
	size_t room = len + TAIL_LEN;

	if (len < DEFLATE_LEN_MIN)
		return false;
	buf_clear(packed);
	deflateReset(out);
	out->next_in = (z_const Bytef *)data;
	out->avail_in = (uInt)len;
	out->next_out = (Bytef *)buf_reserve(packed, room);
	out->avail_out = (uInt)room;
	/* A full buffer: the flush is not complete, and nothing is saved. */
	if (deflate(out, Z_SYNC_FLUSH) != Z_OK || out->avail_out == 0)
		return false;
	packed->len = room - out->avail_out - TAIL_LEN;
	*packed_out = packed;
	return packed->len < len;
}

/* @return false: no deflate data, or too much of it */
static bool
unpack_piece(
    struct deflate *codec, const void *data, size_t len, size_t len_max)
{
	z_stream *in = &codec->in;
	struct buf *text = &codec->text;

	in->next_in = (z_const Bytef *)data;
	in->avail_in = (uInt)len;
	do {
		int rc;

		in->next_out = (Bytef *)buf_reserve(text, TEXT_STEP);
		in->avail_out = TEXT_STEP;
		rc = inflate(in, Z_SYNC_FLUSH);
		text->len += TEXT_STEP - in->avail_out;
		/* our server never marks a block as the last: no STREAM_END */
		if ((rc != Z_OK && rc != Z_BUF_ERROR) || text->len > len_max)
			return false;
	} while (in->avail_in > 0 || in->avail_out == 0);
	return true;
}

int
deflate_unpack(struct deflate *codec, const char *data, size_t len,
    size_t len_max, const struct buf **text_out)
{
	buf_clear(&codec->text);
	inflateReset(&codec->in);
	if (!unpack_piece(codec, data, len, len_max) ||
	    !unpack_piece(codec, "\0\0\xff\xff", TAIL_LEN, len_max))
		return ERR_BAD_REQUEST;
	/* zlib.h, inflate: exactly behind a block that is not the last */
	if (codec->in.data_type != 128)
		return ERR_BAD_REQUEST;
	*text_out = &codec->text;
	return 0;
}
