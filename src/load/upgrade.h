/*
 * upgrade.h - the HTTP upgrade as a client does it (RFC 6455 4.1).
 */
#ifndef LOAD_UPGRADE_H
#define LOAD_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct options;

struct upgrade_answer {
	size_t used;     /* bytes of the head */
	bool is_deflate; /* permessage-deflate, without context takeover */
};

/** Append the request. @param nonce  makes Sec-WebSocket-Key */
void upgrade_put(
    struct buf *out, const struct options *options, uint64_t nonce);
/**
 * Read the answer's head.
 *
 * @param has_offered  permessage-deflate was in the request
 * @param answer_out   set when 0 is returned
 * @return             0, ERR_AGAIN (incomplete), ERR_BAD_REQUEST (not 101, not
 *                     the accept value of our key, or an extension that was
 *                     not offered so)
 */
NODISCARD int upgrade_parse(const char *data, size_t len, uint64_t nonce,
    bool has_offered, struct upgrade_answer *answer_out);

#endif
