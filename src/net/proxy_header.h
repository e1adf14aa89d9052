/*
 * proxy_header.h - the binary header that a proxy sends before anything else
 * (the PROXY protocol, version 2, 2.2).
 */
#ifndef NET_PROXY_HEADER_H
#define NET_PROXY_HEADER_H

#include <stddef.h>
#include <stdint.h>

struct conn_peer;

/** What it begins with; no request and no TLS record begins so. */
#define PROXY_FIRST_BYTE '\r'
/** Signature, command, family, length. */
#define PROXY_FIXED_LEN 16
/** All of it, with what proxies append to the addresses. */
#define PROXY_HEADER_MAX 4096

enum proxy_result {
	PROXY_MORE,   /* want_out bytes are needed, from the first one on */
	PROXY_DONE,   /* all len bytes are the header */
	PROXY_BROKEN, /* it is none, or not one that we know */
};

/**
 * @param data      all bytes so far, at most as many as were wanted before
 *                  (PROXY_FIXED_LEN at first)
 * @param peer_io   DONE: who the proxy speaks for; unchanged when it speaks for
 *                  itself (LOCAL) or does not know
 * @param why_out   BROKEN: a sentence; nothing of the header
 */
enum proxy_result proxy_header_read(const uint8_t *data, size_t len,
    size_t *want_out, struct conn_peer *peer_io, const char **why_out);

#endif
