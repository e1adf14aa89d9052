/*
 * tls_pack.h - the files of [server] tls_* as one run of bytes.
 */
#ifndef NET_TLS_PACK_H
#define NET_TLS_PACK_H

#include <stddef.h>

#include "net/tls.h"

enum tls_pack_kind { TLS_PACK_CERT = 1, TLS_PACK_KEY, TLS_PACK_OCSP };

struct tls_pack_item {
	enum tls_pack_kind kind;
	const char *path; /* NUL-terminated, in the pack */
	const void *data;
	size_t len;
};

/**
 * Walk over a pack.
 *
 * @param at_io  begin with 0
 * @return       1 and an item, 0 at the end, ERR_CORRUPT
 */
NODISCARD int tls_pack_next(const void *pack, size_t len, size_t *at_io,
    struct tls_pack_item *item_out);

#endif
