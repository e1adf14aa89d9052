/*
 * deflate.h - permessage-deflate as a client does it, without context takeover
 * (RFC 7692 7.2). One struct serves all connections of a generator.
 *
 * It shares no line with the server's, so that a mistake of one shows.
 */
#ifndef LOAD_DEFLATE_H
#define LOAD_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct deflate;

/** Shorter texts are not compressed: the server's rule, deflate_min_size. */
#define DEFLATE_LEN_MIN 512

struct deflate *deflate_new(void);
void deflate_free(struct deflate **codec);
/**
 * @param packed_out  the payload, until the next call
 * @return            false: too short, or it would not become smaller
 */
bool deflate_pack(struct deflate *codec, const char *data, size_t len,
    const struct buf **packed_out);
/**
 * @param len_max   longest text that is believed
 * @param text_out  until the next call
 * @return          0 or ERR_BAD_REQUEST: not deflate, or longer
 */
NODISCARD int deflate_unpack(struct deflate *codec, const char *data,
    size_t len, size_t len_max, const struct buf **text_out);

#endif
