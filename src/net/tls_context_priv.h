/*
 * tls_context_priv.h - what tls_context.c and tls_ocsp.c share.
 */
#ifndef NET_TLS_CONTEXT_PRIV_H
#define NET_TLS_CONTEXT_PRIV_H

#include <openssl/types.h>
#include <openssl/x509.h>

#include "net/tls_pack.h"
#include "net/tls_priv.h"

/** The pairs of a pack while its context is made. */
struct tls_loading {
	size_t count;
	const char *paths[TLS_PAIRS_MAX];
	EVP_PKEY *keys[TLS_PAIRS_MAX];
	X509 *certs[TLS_PAIRS_MAX];
	STACK_OF(X509) * chains[TLS_PAIRS_MAX];
};

/** "FILE: WHAT (OpenSSL's reason)" into error. */
void tls_explain(
    char *error, size_t error_len, const char *path, const char *what);

/** Find the certificate that an OCSP answer speaks of and keep the answer. */
NODISCARD int tls_ocsp_add(struct tls_context *context,
    const struct tls_loading *loading, const struct tls_pack_item *item,
    char *error, size_t error_len);
/** Staple from now on, where there is something to. */
void tls_ocsp_prepare(struct tls_context *context);

#endif
