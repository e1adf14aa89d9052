/*
 * tls_ocsp.c - OCSP answers that are stapled to handshakes.
 *
 * Role:    reads an answer that the operator fetches and renews (a file), finds
 *          its certificate, sends it while it is fresh.
 * Process: worker; the supervisor and parleyd -t, to judge the file.
 * Blocks:  never.
 * Trust:   the file is the operator's; the client checks the signature.
 * See:     RFC 6960, RFC 6066 8; tls_context.c.
 */
#include "net/tls_context_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/ssl.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"

/* Clocks of responders and ours. */
#define SKEW_S 300

/* Who signed it: the next in the file, or itself. */
static X509 *
issuer_of(const struct tls_loading *loading, size_t i)
{
	X509 *cert = loading->certs[i];

	if (sk_X509_num(loading->chains[i]) > 0)
		return sk_X509_value(loading->chains[i], 0);
	return X509_check_issued(cert, cert) == X509_V_OK ? cert : NULL;
}

static OCSP_SINGLERESP *
find_answer(OCSP_BASICRESP *basic, X509 *cert, X509 *issuer)
{
	OCSP_SINGLERESP *found = NULL;

	/* the responder chooses the hash of its ids (RFC 6960 4.1.1) */
	for (int i = 0; i < OCSP_resp_count(basic) && found == NULL; i++) {
		OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
		const OCSP_CERTID *theirs = OCSP_SINGLERESP_get0_id(single);
		ASN1_OBJECT *digest = NULL;
		OCSP_CERTID *ours;

		OCSP_id_get0_info(NULL, &digest, NULL, NULL,
		    (OCSP_CERTID *)(uintptr_t)theirs);
		ours =
		    OCSP_cert_to_id(EVP_get_digestbyobj(digest), cert, issuer);
		if (ours != NULL && OCSP_id_cmp(ours, theirs) == 0)
			found = single;
		OCSP_CERTID_free(ours);
	}
	ERR_clear_error();
	return found;
}

static int64_t
seconds_of(const ASN1_GENERALIZEDTIME *time, int64_t otherwise)
{
	struct tm tm;

	if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
		return otherwise;
	return (int64_t)timegm(&tm);
}

/* No reason to stay down, or to keep an old certificate: it is not sent. */
static void
note_unfit(struct tls_validity *validity, const struct tls_pack_item *item,
    const char *why)
{
	snprintf(validity->unfit_ocsp, sizeof(validity->unfit_ocsp), "%s",
	    item->path);
	validity->unfit_why = why;
}

static void
note_end(struct tls_validity *validity, const struct tls_pack_item *item,
    int64_t until_s)
{
	if (validity->ocsp_until_s != 0 && until_s >= validity->ocsp_until_s)
		return;
	validity->ocsp_until_s = until_s;
	snprintf(
	    validity->ocsp_file, sizeof(validity->ocsp_file), "%s", item->path);
}

static void
keep(struct tls_context *context, const struct tls_pack_item *item,
    const X509 *cert, OCSP_SINGLERESP *single)
{
	struct tls_ocsp *ocsp = &context->ocsps[context->ocsp_count];
	struct tls_validity *validity = &context->validity;
	ASN1_GENERALIZEDTIME *this_update = NULL;
	ASN1_GENERALIZEDTIME *next_update = NULL;
	int64_t now_s = clock_wall_ms() / 1000;
	int status = OCSP_single_get0_status(
	    single, NULL, NULL, &this_update, &next_update);

	ocsp->from_s = seconds_of(this_update, 0) - SKEW_S;
	ocsp->until_s = seconds_of(next_update, INT64_MAX);
	if (status != V_OCSP_CERTSTATUS_GOOD ||
	    X509_digest(cert, EVP_sha256(), ocsp->digest, NULL) != 1) {
		note_unfit(
		    validity, item, "does not call the certificate good");
		return;
	}
	if (ocsp->until_s <= now_s) {
		note_unfit(validity, item, "is out of date");
		return;
	}
	if (ocsp->from_s > now_s)
		note_unfit(validity, item, "is not valid yet");
	ocsp->data = xcalloc(1, item->len);
	memcpy(ocsp->data, item->data, item->len);
	ocsp->len = item->len;
	context->ocsp_count++;
	note_end(validity, item, ocsp->until_s);
}

/* @return what it says of one of our certificates, or NULL */
static OCSP_SINGLERESP *
find_cert(
    const struct tls_loading *loading, OCSP_BASICRESP *basic, X509 **cert_out)
{
	for (size_t i = 0; i < loading->count; i++) {
		X509 *issuer = issuer_of(loading, i);
		OCSP_SINGLERESP *single =
		    issuer == NULL
			? NULL
			: find_answer(basic, loading->certs[i], issuer);

		*cert_out = loading->certs[i];
		if (single != NULL)
			return single;
	}
	return NULL;
}

int
tls_ocsp_add(struct tls_context *context, const struct tls_loading *loading,
    const struct tls_pack_item *item, char *error, size_t error_len)
{
	const unsigned char *at = item->data;
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)item->len);
	OCSP_BASICRESP *basic;
	OCSP_SINGLERESP *single = NULL;
	X509 *cert = NULL;

	if (response == NULL) {
		tls_explain(
		    error, error_len, item->path, "is no OCSP response in DER");
		return ERR_BAD_REQUEST;
	}
	/* "tryLater" and the like have none */
	basic = OCSP_response_get1_basic(response);
	if (basic != NULL)
		single = find_cert(loading, basic, &cert);
	if (basic == NULL)
		note_unfit(&context->validity, item,
		    "is the answer of a responder that could not tell");
	else if (single == NULL)
		note_unfit(&context->validity, item,
		    "is about none of the certificates (the issuer must stand "
		    "behind the certificate in its file)");
	else if (context->ocsp_count == TLS_PAIRS_MAX)
		note_unfit(&context->validity, item, "is one too many");
	else
		keep(context, item, cert, single);
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	ERR_clear_error();
	return 0;
}

/* A stale answer is worse than none: clients refuse it. */
static int
status_cb(SSL *ssl, void *arg)
{
	const struct tls_context *context = arg;
	const X509 *cert = SSL_get_certificate(ssl);
	int64_t now_s = clock_wall_ms() / 1000;
	uint8_t digest[32];
	uint8_t *copy;

	if (cert == NULL || X509_digest(cert, EVP_sha256(), digest, NULL) != 1)
		return SSL_TLSEXT_ERR_NOACK;
	for (size_t i = 0; i < context->ocsp_count; i++) {
		const struct tls_ocsp *ocsp = &context->ocsps[i];

		if (memcmp(ocsp->digest, digest, sizeof(digest)) != 0 ||
		    now_s < ocsp->from_s || now_s >= ocsp->until_s)
			continue;
		copy = OPENSSL_memdup(ocsp->data, ocsp->len);
		if (copy == NULL)
			break;
		/* OpenSSL's from now on */
		SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)ocsp->len);
		COUNT(tls_ocsp_stapled);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

void
tls_ocsp_prepare(struct tls_context *context)
{
	if (context->ocsp_count == 0)
		return;
	SSL_CTX_set_tlsext_status_cb(context->ctx, status_cb);
	SSL_CTX_set_tlsext_status_arg(context->ctx, context);
}
