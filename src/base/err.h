/*
 * err.h - the error codes of the house and what they mean outside.
 *
 * A function that can fail returns 0 or a negative ERR_*. Codes of foreign
 * libraries are translated where they enter, once.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define NODISCARD __attribute__((warn_unused_result))

enum {
	ERR_FIRST_ = -1000,
#define ERR(name, reason, http, close, text) ERR_##name,
#include "base/err.def"
#undef ERR
	ERR_END_
};

/**
 * @param rc  0 or ERR_*
 * @return    a sentence for people, never NULL
 */
const char *err_text(int rc);

/**
 * @param rc  0 or ERR_*
 * @return    the protocol's Reason ("OK", "NOT_FOUND", ...), never NULL
 */
const char *err_reason(int rc);

/** HTTP status for rc (200 for 0). */
int err_http_status(int rc);

#endif
