/*
 * certs.c - certificates and keys from the operator's files to the workers.
 *
 * Role:    reads and judges the files at start and reload, puts them and the
 *          keys of session tickets into the vault, renews those, watches the
 *          dates.
 * Process: supervisor; it alone may read a key that belongs to root.
 * Blocks:  on the files, at start and reload.
 * Trust:   the files are the operator's. A new set that is bad in any way
 *          changes nothing.
 * See:     shm/vault.h, doc/decisions/004-tls-keys.md, t/23-tls.t.
 */
#include "config.h"

#include "supervisor/certs.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"

#define LOOK_MS ((int64_t)10 * 1000)
#define WARN_MS ((int64_t)24 * 3600 * 1000)
#define DAY_S   ((int64_t)24 * 3600)

enum { CERTS_GOOD, CERTS_EXPIRE_SOON, CERTS_NOT_VALID };

_Static_assert(TLS_PACK_MAX <= VAULT_FILES_MAX, "a pack fits the vault");
_Static_assert(
    sizeof(struct tls_tickets) <= VAULT_TICKETS_MAX, "tickets fit the vault");

/* ---- files ---- */

static int
judge_dates(const struct tls_validity *validity, char *error, size_t error_len)
{
	int64_t now_s = clock_wall_ms() / 1000;

	if (now_s >= validity->until_s) {
		snprintf(error, error_len, "%s: the certificate expired on %s",
		    validity->until_file, validity->until_text);
		return ERR_BAD_REQUEST;
	}
	if (now_s < validity->from_s) {
		snprintf(error, error_len,
		    "%s: the certificate is valid only from %s on",
		    validity->from_file, validity->from_text);
		return ERR_BAD_REQUEST;
	}
	return 0;
}

/* take_pack becomes part of next_out on success, else it is wiped. */
static int
judge_pack(struct buf *take_pack, bool is_strict, struct certs_next *next_out,
    char *error, size_t error_len)
{
	struct certs_next next = {.pack = *take_pack};
	struct tls_context *context =
	    tls_context_new(next.pack.data, next.pack.len, error, error_len);
	int rc = context != NULL ? 0 : ERR_BAD_REQUEST;

	*take_pack = (struct buf){0};
	if (rc == 0) {
		next.validity = *tls_context_validity(context);
		if (is_strict)
			rc = judge_dates(&next.validity, error, error_len);
	}
	tls_context_free(&context);
	if (rc == 0 && next_out != NULL)
		*next_out = next; /* ownership moves to the caller */
	else
		tls_pack_fini(&next.pack);
	return rc;
}

int
certs_read(const struct conf *conf, bool is_strict, struct certs_next *next_out,
    char *error, size_t error_len)
{
	struct buf pack = {0};
	int rc;

	if (conf->server_listen_tls.count == 0)
		return 0;
	rc = tls_pack_read(&conf->server_tls_cert, &conf->server_tls_key,
	    &conf->server_tls_ocsp, &pack, error, error_len);
	if (rc != 0)
		return rc;
	return judge_pack(&pack, is_strict, next_out, error, error_len);
}

void
certs_next_fini(struct certs_next *next)
{
	tls_pack_fini(&next->pack);
}

/* ---- dates ---- */

static void
set_state(struct certs *certs, int state)
{
	certs->state = state;
	GAUGE_SET(tls_cert_state, state);
	GAUGE_SET(tls_cert_not_after_seconds, certs->validity.until_s);
}

static void
say_state(const struct certs *certs, int64_t now_s)
{
	const struct tls_validity *validity = &certs->validity;

	if (certs->state == CERTS_EXPIRE_SOON)
		log_warn(NULL, "tls-cert-expires",
		    "file=%s expires=\"%s\" days=%lld", validity->until_file,
		    validity->until_text,
		    (long long)((validity->until_s - now_s) / DAY_S));
	else if (certs->state == CERTS_NOT_VALID && now_s >= validity->until_s)
		log_error(NULL, "tls-cert-expired",
		    "file=%s error=\"the certificate expired on %s\" "
		    "hint=\"clients refuse it; renew it, then: parleyctl "
		    "reload\"",
		    validity->until_file, validity->until_text);
	else if (certs->state == CERTS_NOT_VALID)
		log_error(NULL, "tls-cert-not-yet-valid",
		    "file=%s error=\"the certificate is valid only from %s "
		    "on\" hint=\"is the clock right?\"",
		    validity->from_file, validity->from_text);
}

static void
say_unfit(const char *file, const char *why)
{
	log_warn(NULL, "tls-ocsp-unfit",
	    "file=%s why=\"the OCSP response %s\" hint=\"it is not sent; fetch "
	    "another, then: parleyctl reload\"",
	    file, why);
}

static void
look_at_ocsp(struct tls_validity *validity, int64_t now_s)
{
	if (validity->ocsp_until_s == 0 || now_s < validity->ocsp_until_s)
		return;
	validity->ocsp_until_s = 0; /* once is enough */
	say_unfit(validity->ocsp_file, "is out of date");
}

static void
look_at_dates(struct certs *certs, int64_t now_ms)
{
	int64_t now_s = clock_wall_ms() / 1000;
	int state = CERTS_GOOD;

	look_at_ocsp(&certs->validity, now_s);
	if (now_s >= certs->validity.until_s || now_s < certs->validity.from_s)
		state = CERTS_NOT_VALID;
	else if (now_s + certs->warning_ms / 1000 >= certs->validity.until_s)
		state = CERTS_EXPIRE_SOON;
	certs->look_at_ms = now_ms + LOOK_MS;
	if (state == certs->state && now_ms < certs->warn_at_ms)
		return;
	set_state(certs, state);
	say_state(certs, now_s);
	certs->warn_at_ms = now_ms + WARN_MS;
}

/* ---- tickets ---- */

static void
put_tickets(struct certs *certs)
{
	if (vault_put(certs->vault, VAULT_TICKETS, &certs->tickets,
		sizeof(certs->tickets)) != 0)
		panic("tickets do not fit the vault");
}

/*
 * A key is known to all before it is used and kept for one lifetime after, so
 * that no ticket is refused before its time.
 */
static void
rotate_tickets(struct certs *certs, int64_t now_ms)
{
	struct tls_ticket_key *keys = certs->tickets.keys;

	keys[TLS_TICKET_PREVIOUS] = keys[TLS_TICKET_CURRENT];
	keys[TLS_TICKET_CURRENT] = keys[TLS_TICKET_NEXT];
	crypto_random(&keys[TLS_TICKET_NEXT], sizeof(keys[TLS_TICKET_NEXT]));
	certs->rotate_at_ms =
	    now_ms + (int64_t)certs->tickets.lifetime_s * 1000;
	put_tickets(certs);
}

/* Tickets given out before a lifetime was shortened must not outlive it. */
static void
set_lifetime(struct certs *certs, const struct conf *conf, int64_t now_ms)
{
	int64_t at_ms;

	certs->tickets.lifetime_s =
	    (uint32_t)(conf->server_tls_ticket_lifetime / 1000);
	at_ms = now_ms + (int64_t)certs->tickets.lifetime_s * 1000;
	if (certs->rotate_at_ms > at_ms)
		certs->rotate_at_ms = at_ms;
	put_tickets(certs);
}

/* ---- all of it ---- */

static void
adopt(struct certs *certs, const struct conf *conf, struct certs_next *next)
{
	int64_t now_ms = clock_mono_ms();

	if (vault_put(certs->vault, VAULT_FILES, next->pack.data,
		next->pack.len) != 0)
		panic("a pack does not fit the vault");
	crypto_sha256_128(next->pack.data, next->pack.len, certs->digest);
	certs->validity = next->validity;
	certs->warning_ms = conf->server_tls_expiry_warning;
	certs->warn_at_ms = now_ms;
	set_lifetime(certs, conf, now_ms);
	if (certs->validity.unfit_ocsp[0] != '\0')
		say_unfit(
		    certs->validity.unfit_ocsp, certs->validity.unfit_why);
	look_at_dates(certs, now_ms);
	certs_next_fini(next);
}

/* What another program has given out must be known to this one. */
static void
take_tickets(struct certs *certs, struct vault *vault, int64_t rotate_at_ms)
{
	struct buf tickets = {0};
	uint64_t serial = 0;

	if (vault_get(vault, VAULT_TICKETS, &serial, &tickets) &&
	    tickets.len == sizeof(certs->tickets)) {
		memcpy(&certs->tickets, tickets.data, tickets.len);
		certs->rotate_at_ms = rotate_at_ms;
	} else {
		log_warn(NULL, "tls-tickets-lost",
		    "hint=\"clients make a full handshake\"");
	}
	if (tickets.data != NULL)
		mem_wipe(tickets.data, tickets.len);
	buf_fini(&tickets);
}

/* @return false: there are none, or this program cannot read them */
static bool
take_files(struct vault *vault, struct certs_next *next_out)
{
	struct buf pack = {0};
	uint64_t serial = 0;
	char error[256];

	return vault_get(vault, VAULT_FILES, &serial, &pack) &&
	       judge_pack(&pack, false, next_out, error, sizeof(error)) == 0;
}

int
certs_open(struct certs *certs, const struct conf *conf,
    const struct certs_legacy *legacy, char *error, size_t error_len)
{
	struct certs_next next = {.pack = {0}};
	struct vault *old = NULL;
	int rc = 0;

	if (conf->server_listen_tls.count == 0)
		return 0;
	crypto_random(certs->tickets.keys, sizeof(certs->tickets.keys));
	certs->rotate_at_ms = INT64_MAX;
	if (legacy != NULL && legacy->vault_fd != -1 &&
	    vault_adopt(legacy->vault_fd, &old) == 0)
		take_tickets(certs, old, legacy->rotate_at_ms);
	if (old == NULL || !take_files(old, &next))
		rc = certs_read(conf, false, &next, error, error_len);
	vault_free(&old);
	if (rc == 0)
		rc = vault_create(&certs->vault);
	if (rc != 0) {
		certs_next_fini(&next);
		return rc;
	}
	adopt(certs, conf, &next);
	return 0;
}

bool
certs_replace(
    struct certs *certs, const struct conf *conf, struct certs_next *take_next)
{
	uint8_t digest[sizeof(certs->digest)];
	bool is_new;

	/* listen_tls is gone from the file, but in use until the next start */
	if (certs->vault == NULL || take_next->pack.len == 0)
		return false;
	crypto_sha256_128(take_next->pack.data, take_next->pack.len, digest);
	is_new = memcmp(digest, certs->digest, sizeof(digest)) != 0;
	adopt(certs, conf, take_next);
	if (is_new)
		log_info(NULL, "tls-reloaded", "file=%s expires=\"%s\"",
		    certs->validity.until_file, certs->validity.until_text);
	return is_new;
}

void
certs_tick(struct certs *certs, int64_t now_ms)
{
	if (certs->vault == NULL)
		return;
	if (now_ms >= certs->look_at_ms)
		look_at_dates(certs, now_ms);
	if (certs->tickets.lifetime_s > 0 && now_ms >= certs->rotate_at_ms) {
		rotate_tickets(certs, now_ms);
		log_info(NULL, "tls-ticket-key-renewed", "lifetime_s=%u",
		    certs->tickets.lifetime_s);
	}
}

void
certs_close(struct certs *certs)
{
	vault_free(&certs->vault);
	mem_wipe(&certs->tickets, sizeof(certs->tickets));
}
