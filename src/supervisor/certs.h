/*
 * certs.h - certificates, their keys and the keys of tickets: read by the
 * supervisor, which may, and put into the vault for the workers, who may not.
 */
#ifndef SUPERVISOR_CERTS_H
#define SUPERVISOR_CERTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/conf.h"
#include "net/tls.h"
#include "shm/vault.h"

struct certs {
	struct vault *vault; /* NULL: no TLS */
	struct tls_tickets tickets;
	struct tls_validity validity;
	uint8_t digest[16]; /* of the pack that is in the vault */
	int64_t rotate_at_ms;
	int64_t look_at_ms; /* at the dates, again */
	int64_t warn_at_ms; /* say it again */
	int64_t warning_ms; /* [server] tls_expiry_warning */
	int state;          /* of the gauge tls_cert_state */
};

/** A pack that was read and found good, before it is used. */
struct certs_next {
	struct buf pack;
	struct tls_validity validity;
};

/**
 * Read and judge the files; nothing when listen_tls is empty.
 *
 * @param is_strict  certificates must be valid now, too
 * @param next_out   may be NULL; certs_next_fini
 * @param error      one line: the file and what is wrong with it
 * @return           0, ERR_BAD_REQUEST, ERR_IO
 */
NODISCARD int certs_read(const struct conf *conf, bool is_strict,
    struct certs_next *next_out, char *error, size_t error_len);
void certs_next_fini(struct certs_next *next);

/** Of the program that this one has replaced. */
struct certs_legacy {
	int vault_fd; /* -1: none */
	int64_t rotate_at_ms;
};

/**
 * At the start, where conf has listen_tls.
 *
 * @param legacy  its certificates and the tickets of its clients go on,
 *                whatever became of the files; NULL: a first start
 * @return        0 or ERR_*, see error
 */
NODISCARD int certs_open(struct certs *certs, const struct conf *conf,
    const struct certs_legacy *legacy, char *error, size_t error_len);
/**
 * Hand next to the workers; an empty one (the new configuration has no
 * listen_tls, which only a start can take away) changes nothing.
 *
 * @return  whether the files differ
 */
bool certs_replace(
    struct certs *certs, const struct conf *conf, struct certs_next *take_next);
/** New ticket keys, warnings: what is due. */
void certs_tick(struct certs *certs, int64_t now_ms);
void certs_close(struct certs *certs);

#endif
