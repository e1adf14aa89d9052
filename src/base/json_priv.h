/*
 * json_priv.h - what json.c needs of json_check.c.
 */
#ifndef BASE_JSON_PRIV_H
#define BASE_JSON_PRIV_H

#include <stddef.h>

#include "base/err.h"

struct json_limits {
	size_t containers; /* arrays and objects in one text */
	size_t values;     /* of any type in one text */
};

/** Where and why a text was refused. */
struct json_fault {
	const char *expected; /* static */
	size_t offset;        /* bytes from the start */
};

/**
 * Is this one JSON object and nothing else? Accepts exactly RFC 8259 within
 * the limits and JSON_DEPTH_MAX.
 *
 * @return 0, ERR_BAD_REQUEST or ERR_TOO_LARGE with *fault filled in
 */
NODISCARD int json_check(const char *data, size_t len,
    const struct json_limits *limits, struct json_fault *fault);

#endif
