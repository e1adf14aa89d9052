/*
 * upgrade.h - is this request the upgrade to WebSocket, and what is answered.
 */
#ifndef NET_UPGRADE_H
#define NET_UPGRADE_H

#include <stdbool.h>

#include "net/conn_peer.h"
#include "net/http_head.h"
#include "net/ws_offer.h"

struct buf;
struct networks;

#define UPGRADE_ACCEPT_MAX 32
#define UPGRADE_WHY_MAX    160

/** What is served here. */
struct upgrade_terms {
	const char *path;           /* the only one */
	const char *subprotocol;    /* echoed when offered; may be NULL */
	bool may_deflate;           /* else extensions are not even looked at */
	const char *const *origins; /* of pages that may connect */
	size_t origin_count;        /* 0: all may */
	/* Who may say for whom he asks; NULL: nobody. */
	const struct networks *trusted_proxies;
};

struct upgrade {
	int status;                /* 101, else the refusal's */
	char why[UPGRADE_WHY_MAX]; /* sentence for a refusal */
	bool is_head_request;      /* the answer must not have a body */
	bool has_subprotocol;      /* the configured one was offered */
	struct http_text bearer;   /* into the head; data NULL when none */
	struct ws_offer offer;     /* compression, as agreed */
	char accept[UPGRADE_ACCEPT_MAX]; /* Sec-WebSocket-Accept */
	struct conn_peer peer; /* who it counts as, whatever the status */
};

/**
 * Judge a complete head (RFC 6455 4.2.1).
 *
 * @param data, len     the head as http_scan_feed delimited it; borrowed, the
 *                      result points into it
 * @param peer          who the connection comes from
 */
void upgrade_judge(const char *data, size_t len,
    const struct upgrade_terms *terms, const struct conn_peer *peer,
    struct upgrade *upgrade_out);

/** The whole answer: 101, or the refusal with a one-line body. */
void upgrade_answer(const struct upgrade *upgrade,
    const struct upgrade_terms *terms, struct buf *out);
/** A refusal that needs no head (too large, too late, too many). */
void upgrade_refuse(int status, const char *why, struct buf *out);

#endif
