/*
 * upgrade.h - the HTTP upgrade as a client does it (RFC 6455 4.1).
 */
#ifndef LOAD_UPGRADE_H
#define LOAD_UPGRADE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct options;

/** Append the request. @param nonce  makes Sec-WebSocket-Key */
void upgrade_put(
    struct buf *out, const struct options *options, uint64_t nonce);
/**
 * Read the answer's head.
 *
 * @param used_out  bytes of the head, when 0 is returned
 * @return          0, ERR_AGAIN (incomplete), ERR_BAD_REQUEST (not 101, or
 *                  not the accept value of our key)
 */
NODISCARD int upgrade_parse(
    const char *data, size_t len, uint64_t nonce, size_t *used_out);

#endif
