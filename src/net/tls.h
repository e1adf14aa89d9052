/*
 * tls.h - certificates, tickets and the switch to TLS for whoever runs a
 * struct net, and for the supervisor that reads the files.
 *
 * The files travel as bytes: the supervisor, which may read them, packs them;
 * a worker, which may not, makes a context of the pack
 * (doc/decisions/004-tls-keys.md).
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct conf_list;
struct net;
struct tls_context;

/** Longest of one file, and of all of them packed. */
#define TLS_FILE_MAX ((size_t)64 * 1024)
#define TLS_PACK_MAX ((size_t)512 * 1024)
/** Certificates of different kinds: ECDSA, RSA, ... */
#define TLS_PAIRS_MAX 4

/* ---- files: supervisor, parleyd -t ---- */

/**
 * Read certificates, keys and OCSP answers into one pack of bytes.
 *
 * @param keys      keys->items[i] belongs to certs->items[i]
 * @param pack_out  empty; tls_pack_fini. Never log it
 * @param error     names the file and what is wrong with it
 * @return          0, ERR_BAD_REQUEST, ERR_IO
 */
NODISCARD int tls_pack_read(const struct conf_list *certs,
    const struct conf_list *keys, const struct conf_list *ocsps,
    struct buf *pack_out, char *error, size_t error_len);
/** Wipe and free. */
void tls_pack_fini(struct buf *pack);

/* ---- context: what OpenSSL makes of a pack ---- */

/** What is to be known of the certificates together. */
struct tls_validity {
	int64_t from_s;  /* wall clock: the latest notBefore */
	int64_t until_s; /* the earliest notAfter */
	char from_file[128];
	char until_file[128];
	char until_text[32]; /* "2026-11-23 18:00:00 UTC" */
	char from_text[32];
	/** An OCSP answer that is not sent, and why; "": all are. */
	char unfit_ocsp[128];
	const char *unfit_why;
	/** The first of those that are sent to go out of date. */
	int64_t ocsp_until_s; /* 0: there is none */
	char ocsp_file[128];
};

/**
 * @param pack   borrowed for the call
 * @param error  names the file and what is wrong with it
 * @return       a context, or NULL
 */
struct tls_context *tls_context_new(
    const void *pack, size_t len, char *error, size_t error_len);
void tls_context_free(struct tls_context **context);
const struct tls_validity *tls_context_validity(
    const struct tls_context *context);

/* ---- a worker's side ---- */

struct tls_ticket_key {
	uint8_t name[16];
	uint8_t cipher[32]; /* AES-256 */
	uint8_t mac[32];    /* HMAC-SHA-256 */
};

/** Accepted are all, issued is [TLS_TICKET_CURRENT]. */
enum { TLS_TICKET_NEXT, TLS_TICKET_CURRENT, TLS_TICKET_PREVIOUS };
#define TLS_TICKET_KEYS 3

struct tls_tickets {
	uint32_t lifetime_s; /* 0: no tickets */
	uint32_t pad;
	struct tls_ticket_key keys[TLS_TICKET_KEYS];
};

struct tls_limits {
	int64_t turn_us;       /* handshakes of one loop turn */
	size_t handshakes_max; /* under way at once */
};

/** Before net_listen_tls. @return 0 or ERR_SERVER_ERROR, see error */
NODISCARD int net_tls_enable(struct net *net, const struct tls_limits *limits,
    char *error, size_t error_len);
/** Another limit from now on. */
void net_tls_set_handshakes_max(struct net *net, size_t handshakes_max);
/** New handshakes use it; connections keep what they have. */
void net_tls_set_context(struct net *net, struct tls_context *take_context);
void net_tls_set_tickets(struct net *net, const struct tls_tickets *tickets);
/** Accept wss on a listening, non-blocking socket (kept open by the caller). */
NODISCARD int net_listen_tls(struct net *net, int fd);

#endif
