/*
 * tls_context.c - what OpenSSL is to know: versions, suites, certificates.
 *
 * Role:    makes a context of a pack of files, and says in words what is
 *          wrong with them. Mozilla's "intermediate" configuration 5.7.
 * Process: worker; the supervisor and parleyd -t, to judge the files.
 * Blocks:  never; a pack is memory.
 * Trust:   the files are the operator's; handshakes are a stranger's and
 *          OpenSSL's to judge.
 * See:     tls_pack.c, tls_ocsp.c, tls_handshake.c.
 */
#include "net/tls_context_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/conf.h"
#include "base/mem.h"
#include "net/tls_pack.h"

/* https://ssl-config.mozilla.org/guidelines/5.7.json, "intermediate" */
#define SUITES_13                                                              \
	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"                       \
	"TLS_CHACHA20_POLY1305_SHA256"
#define SUITES_12                                                              \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"           \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"           \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"           \
	"DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:"                 \
	"DHE-RSA-CHACHA20-POLY1305"
#define GROUPS   "X25519:P-256:P-384"
#define DH_GROUP "ffdhe2048"

void
tls_explain(char *error, size_t error_len, const char *path, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);

	snprintf(error, error_len, "%s: %s%s%s%s", path, what,
	    reason == NULL ? "" : " (", reason == NULL ? "" : reason,
	    reason == NULL ? "" : ")");
	ERR_clear_error();
}

/* ---- reading PEM ---- */

/* Nobody is there to be asked for it. */
static int
passphrase_cb(char *buf, int size, int is_write, void *arg)
{
	bool *was_asked = arg;

	(void)buf;
	(void)size;
	(void)is_write;
	*was_asked = true;
	return -1;
}

static EVP_PKEY *
read_key(const struct tls_pack_item *item, char *error, size_t error_len)
{
	BIO *bio = BIO_new_mem_buf(item->data, (int)item->len);
	bool was_asked = false;
	EVP_PKEY *key = NULL;

	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(
		    bio, NULL, passphrase_cb, &was_asked);
	BIO_free(bio);
	if (key == NULL)
		tls_explain(error, error_len, item->path,
		    was_asked ? "is protected by a passphrase; parleyd needs "
				"a key without one"
			      : "holds no private key that can be used");
	return key;
}

/* The certificate, and those behind it in the file. */
static X509 *
read_chain(const struct tls_pack_item *item, STACK_OF(X509) * chain,
    char *error, size_t error_len)
{
	BIO *bio = BIO_new_mem_buf(item->data, (int)item->len);
	X509 *first = NULL;
	X509 *next;

	if (bio == NULL)
		return NULL;
	first = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	while (first != NULL &&
	       (next = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		if (sk_X509_push(chain, next) <= 0)
			X509_free(next);
	}
	BIO_free(bio);
	if (first == NULL ||
	    ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
		tls_explain(error, error_len, item->path,
		    first == NULL ? "holds no certificate that can be used"
				  : "a certificate behind the first one is "
				    "damaged");
		X509_free(first);
		return NULL;
	}
	ERR_clear_error(); /* the end of the file */
	return first;
}

/* ---- validity ---- */

static int64_t
asn1_seconds(const ASN1_TIME *time)
{
	struct tm tm;

	if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1) {
		ERR_clear_error();
		return -1;
	}
	return (int64_t)timegm(&tm);
}

static void
format_time(int64_t at_s, char out[32])
{
	time_t at = (time_t)at_s;
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL ||
	    strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(out, 32, "%lld", (long long)at_s);
}

static int
note_validity(struct tls_validity *validity, const char *path, const X509 *cert,
    char *error, size_t error_len)
{
	int64_t from_s = asn1_seconds(X509_get0_notBefore(cert));
	int64_t until_s = asn1_seconds(X509_get0_notAfter(cert));

	if (from_s < 0 || until_s < 0) {
		snprintf(error, error_len,
		    "%s: the certificate's dates cannot be read", path);
		return ERR_BAD_REQUEST;
	}
	if (from_s > validity->from_s || validity->from_file[0] == '\0') {
		validity->from_s = from_s;
		snprintf(validity->from_file, sizeof(validity->from_file), "%s",
		    path);
		format_time(from_s, validity->from_text);
	}
	if (until_s < validity->until_s || validity->until_file[0] == '\0') {
		validity->until_s = until_s;
		snprintf(validity->until_file, sizeof(validity->until_file),
		    "%s", path);
		format_time(until_s, validity->until_text);
	}
	return 0;
}

/* ---- the context ---- */

static bool
set_dh(SSL_CTX *ctx)
{
	EVP_PKEY_CTX *pkey_ctx = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
	EVP_PKEY *group = NULL;
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(
		OSSL_PKEY_PARAM_GROUP_NAME, (char *)DH_GROUP, 0),
	    OSSL_PARAM_construct_end(),
	};
	bool is_good = pkey_ctx != NULL &&
		       EVP_PKEY_fromdata_init(pkey_ctx) == 1 &&
		       EVP_PKEY_fromdata(pkey_ctx, &group,
			   EVP_PKEY_KEY_PARAMETERS, params) == 1 &&
		       SSL_CTX_set0_tmp_dh_pkey(ctx, group) == 1;

	if (!is_good)
		EVP_PKEY_free(group);
	EVP_PKEY_CTX_free(pkey_ctx);
	return is_good;
}

/* RFC 7301; browsers ask for "http/1.1" over wss. */
static int
alpn_cb(SSL *ssl, const unsigned char **out, unsigned char *out_len,
    const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len,
		ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static bool
set_policy(SSL_CTX *ctx)
{
	static const unsigned char id[] = "parley";

	SSL_CTX_set_options(
	    ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		     SSL_OP_SINGLE_DH_USE | SSL_OP_SINGLE_ECDH_USE);
	/* may come from openssl.cnf: the kernel and we would both encrypt */
	SSL_CTX_clear_options(ctx, SSL_OP_ENABLE_KTLS);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 0); /* tls_handover counts on it */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_alpn_select_cb(ctx, alpn_cb, NULL);
	tls_handover_prepare(ctx);
	tls_ticket_prepare(ctx);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_ciphersuites(ctx, SUITES_13) == 1 &&
	       SSL_CTX_set_cipher_list(ctx, SUITES_12) == 1 &&
	       SSL_CTX_set1_groups_list(ctx, GROUPS) == 1 &&
	       SSL_CTX_set_max_early_data(ctx, 0) == 1 &&
	       SSL_CTX_set_recv_max_early_data(ctx, 0) == 1 &&
	       SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) == 1 &&
	       set_dh(ctx);
}

/* One kind of key has one place in OpenSSL: the second would replace it. */
static bool
is_second_of_kind(struct tls_loading *loading, const EVP_PKEY *key,
    const char *path, char *error, size_t error_len)
{
	int kind = EVP_PKEY_get_base_id(key);

	for (size_t i = 0; i < loading->count; i++) {
		if (EVP_PKEY_get_base_id(loading->keys[i]) != kind)
			continue;
		snprintf(error, error_len,
		    "%s and %s hold keys of the same kind (%s); only one "
		    "certificate of a kind can be used",
		    loading->paths[i], path, OBJ_nid2sn(kind));
		return true;
	}
	return false;
}

static int
use_pair(struct tls_context *context, struct tls_loading *loading,
    const struct tls_pack_item *cert, const struct tls_pack_item *key_item,
    char *error, size_t error_len)
{
	STACK_OF(X509) *chain = sk_X509_new_null();
	X509 *x509 = NULL;
	EVP_PKEY *key = NULL;
	int rc = ERR_BAD_REQUEST;

	if (chain == NULL || loading->count == TLS_PAIRS_MAX)
		goto out;
	x509 = read_chain(cert, chain, error, error_len);
	if (x509 == NULL)
		goto out;
	key = read_key(key_item, error, error_len);
	if (key == NULL)
		goto out;
	if (X509_check_private_key(x509, key) != 1) {
		snprintf(error, error_len,
		    "%s and %s: certificate and key do not match", cert->path,
		    key_item->path);
		goto out;
	}
	if (is_second_of_kind(loading, key, cert->path, error, error_len))
		goto out;
	if (SSL_CTX_use_cert_and_key(context->ctx, x509, key, chain, 1) != 1) {
		tls_explain(error, error_len, cert->path, "cannot be used");
		goto out;
	}
	rc = note_validity(
	    &context->validity, cert->path, x509, error, error_len);
	if (rc != 0)
		goto out;
	loading->keys[loading->count] = key;
	loading->certs[loading->count] = x509;
	loading->chains[loading->count] = chain;
	loading->paths[loading->count++] = cert->path;
	return 0;
out:
	ERR_clear_error();
	EVP_PKEY_free(key);
	X509_free(x509);
	sk_X509_pop_free(chain, X509_free);
	return rc;
}

static int
use_pack(struct tls_context *context, struct tls_loading *loading,
    const void *pack, size_t len, char *error, size_t error_len)
{
	struct tls_pack_item cert = {.path = NULL};
	struct tls_pack_item item;
	size_t at = 0;
	int rc;

	while ((rc = tls_pack_next(pack, len, &at, &item)) == 1) {
		rc = 0;
		switch (item.kind) {
		case TLS_PACK_CERT:
			cert = item;
			break;
		case TLS_PACK_KEY:
			if (cert.path == NULL)
				return ERR_CORRUPT;
			rc = use_pair(
			    context, loading, &cert, &item, error, error_len);
			break;
		case TLS_PACK_OCSP:
			rc = tls_ocsp_add(
			    context, loading, &item, error, error_len);
			break;
		}
		if (rc != 0)
			return rc;
	}
	return rc != 0 || loading->count == 0 ? ERR_CORRUPT : 0;
}

static void
loading_fini(struct tls_loading *loading)
{
	for (size_t i = 0; i < loading->count; i++) {
		EVP_PKEY_free(loading->keys[i]);
		X509_free(loading->certs[i]);
		sk_X509_pop_free(loading->chains[i], X509_free);
	}
}

struct tls_context *
tls_context_new(const void *pack, size_t len, char *error, size_t error_len)
{
	struct tls_context *context = xcalloc(1, sizeof(*context));
	struct tls_loading loading = {.count = 0};
	int rc = ERR_SERVER_ERROR;

	snprintf(error, error_len, "the TLS files cannot be used");
	context->ctx = SSL_CTX_new(TLS_server_method());
	if (context->ctx == NULL || !set_policy(context->ctx))
		tls_explain(error, error_len, "OpenSSL",
		    "cannot do what parley asks of it");
	else
		rc = use_pack(context, &loading, pack, len, error, error_len);
	if (rc == 0)
		tls_ocsp_prepare(context);
	loading_fini(&loading);
	if (rc != 0)
		tls_context_free(&context);
	return context;
}

void
tls_context_free(struct tls_context **context_io)
{
	struct tls_context *context = *context_io;

	if (context == NULL)
		return;
	*context_io = NULL;
	if (context->holders > 0) {
		context->holders--;
		return;
	}
	for (size_t i = 0; i < context->ocsp_count; i++)
		free(context->ocsps[i].data);
	SSL_CTX_free(context->ctx);
	free(context);
}

const struct tls_validity *
tls_context_validity(const struct tls_context *context)
{
	return &context->validity;
}
