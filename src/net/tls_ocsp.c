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

static void
keep(struct tls_context *context, const struct tls_pack_item *item,
    const X509 *cert, OCSP_SINGLERESP *single)
{
	struct tls_ocsp *ocsp = &context->ocsps[context->ocsp_count];
	ASN1_GENERALIZEDTIME *this_update = NULL;
	ASN1_GENERALIZEDTIME *next_update = NULL;
	int64_t now_s = clock_wall_ms() / 1000;
	int status = OCSP_single_get0_status(
	    single, NULL, NULL, &this_update, &next_update);

	ocsp->until_s = seconds_of(next_update, INT64_MAX);
	if (status != V_OCSP_CERTSTATUS_GOOD || ocsp->until_s <= now_s ||
	    seconds_of(this_update, 0) > now_s + SKEW_S)
		snprintf(context->validity.stale_ocsp,
		    sizeof(context->validity.stale_ocsp), "%s", item->path);
	if (status != V_OCSP_CERTSTATUS_GOOD ||
	    X509_digest(cert, EVP_sha256(), ocsp->digest, NULL) != 1)
		return;
	ocsp->data = xcalloc(1, item->len);
	memcpy(ocsp->data, item->data, item->len);
	ocsp->len = item->len;
	context->ocsp_count++;
}

int
tls_ocsp_add(struct tls_context *context, const struct tls_loading *loading,
    const struct tls_pack_item *item, char *error, size_t error_len)
{
	const unsigned char *at = item->data;
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)item->len);
	OCSP_BASICRESP *basic =
	    response == NULL ? NULL : OCSP_response_get1_basic(response);
	OCSP_SINGLERESP *single = NULL;

	if (basic == NULL) {
		tls_explain(error, error_len, item->path,
		    "is no successful OCSP response in DER");
		OCSP_RESPONSE_free(response);
		return ERR_BAD_REQUEST;
	}
	for (size_t i = 0; i < loading->count && single == NULL; i++) {
		X509 *issuer = issuer_of(loading, i);

		if (issuer == NULL)
			continue;
		single = find_answer(basic, loading->certs[i], issuer);
		if (single != NULL && context->ocsp_count < TLS_PAIRS_MAX)
			keep(context, item, loading->certs[i], single);
	}
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	if (single != NULL)
		return 0;
	snprintf(error, error_len,
	    "%s: the OCSP response is about none of the certificates (the "
	    "issuer must stand behind the certificate in its file)",
	    item->path);
	return ERR_BAD_REQUEST;
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
		    ocsp->until_s <= now_s)
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
