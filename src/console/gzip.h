/*
 * gzip.h - what the ops port says, made smaller.
 */
#ifndef CONSOLE_GZIP_H
#define CONSOLE_GZIP_H

#include <stdbool.h>

#include "base/buf.h"

/**
 * Does a client take gzip?
 *
 * @param accepted  its Accept-Encoding (RFC 9110 12.5.3); NULL: it has none
 */
bool gzip_is_accepted(const char *accepted);

/**
 * Put gzip (RFC 1952) in the place of a body.
 *
 * @return  false: the body stays as it is; it is too small or too large to be
 *          worth it, or would become larger
 */
bool gzip_pack(struct buf *body);

#endif
