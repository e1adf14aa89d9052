/*
 * origin.h - where a page comes from, as a browser says it (RFC 6454 6.1).
 */
#ifndef NET_ORIGIN_H
#define NET_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

/** Is text "scheme://host" or "scheme://host:port", and nothing more? */
bool origin_is_valid(const char *text);
/**
 * The same origin? Case means nothing, nor does a port that its scheme has by
 * default.
 *
 * @param allowed  valid
 * @param given    a header's value, of given_len bytes; any
 */
bool origin_is_same(const char *allowed, const char *given, size_t given_len);

#endif
