/*
 * gzip.c - what the ops port says, made smaller.
 *
 * Role:    see gzip.h. Packed anew for each answer: the pages take a few
 *          milliseconds in all, and nothing has to be kept in step with them.
 * Process: console.
 * Blocks:  never; a body of BODY_MAX takes some 50 ms.
 * Trust:   the header is a stranger's text.
 * See:     http.c, t/unit/gzip.c.
 */
#include "console/gzip.h"

#include <string.h>
#include <strings.h>
#define ZLIB_CONST /* input is borrowed */
#include <zlib.h>

#include "base/log.h"

/* Below, headers and all fit one packet anyway. */
#define BODY_MIN 1024
#define BODY_MAX (1024 * 1024)
#define LEVEL    6
#define BITS     (15 + 16) /* zlib.h, deflateInit2: with a gzip header */

/* "q=0", "q=0.000": not at all (RFC 9110 12.4.2). */
static bool
is_refused(const char *parameters, size_t len)
{
	const char *at = memchr(parameters, '=', len);

	if (at == NULL)
		return false;
	for (; at < parameters + len; at++) {
		if (*at >= '1' && *at <= '9')
			return false;
	}
	return true;
}

bool
gzip_is_accepted(const char *accepted)
{
	while (accepted != NULL && *accepted != '\0') {
		size_t len;
		size_t name_len;

		accepted += strspn(accepted, ", \t");
		len = strcspn(accepted, ",");
		name_len = strcspn(accepted, ",; \t");
		if (name_len == 4 && strncasecmp(accepted, "gzip", 4) == 0)
			return !is_refused(accepted + 4, len - 4);
		accepted += len;
	}
	return false;
}

bool
gzip_pack(struct buf *body)
{
	z_stream stream = {0};
	struct buf packed = {0};
	size_t max;
	bool is_packed;

	if (body->len < BODY_MIN || body->len > BODY_MAX)
		return false;
	if (deflateInit2(&stream, LEVEL, Z_DEFLATED, BITS, 8,
		Z_DEFAULT_STRATEGY) != Z_OK)
		panic("zlib cannot be set up");
	max = deflateBound(&stream, body->len);
	stream.next_in = (const unsigned char *)body->data;
	stream.avail_in = (unsigned)body->len;
	stream.next_out = (unsigned char *)buf_reserve(&packed, max);
	stream.avail_out = (unsigned)max;
	is_packed = deflate(&stream, Z_FINISH) == Z_STREAM_END &&
		    stream.total_out < body->len;
	packed.len = stream.total_out;
	deflateEnd(&stream);
	if (is_packed) {
		buf_clear(body);
		buf_add(body, packed.data, packed.len);
	}
	buf_fini(&packed);
	return is_packed;
}
