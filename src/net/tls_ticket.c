/*
 * tls_ticket.c - session tickets under keys that all workers share.
 *
 * Role:    names the key of a new ticket, finds the key of an old one; the
 *          format (AES-256-CBC, then HMAC-SHA-256) is OpenSSL's, RFC 5077 4.
 * Process: worker; keys come from the supervisor (shm/vault.h).
 * Blocks:  never.
 * Trust:   a ticket is a stranger's: OpenSSL checks its HMAC before it is
 *          opened; a key name that is not known means a full handshake.
 * See:     SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
 */
#include "net/tls_priv.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include "base/crypto.h"

/* Answers of the callback. */
enum { TICKET_ERROR = -1, TICKET_NONE = 0, TICKET_GOOD = 1, TICKET_RENEW = 2 };

static bool
set_mac(EVP_MAC_CTX *ctx, const struct tls_ticket_key *key)
{
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
		(void *)(uintptr_t)key->mac, sizeof(key->mac)),
	    OSSL_PARAM_construct_utf8_string(
		OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
	    OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(ctx, params) == 1;
}

static int
seal(struct tls *tls, unsigned char name[16], unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	const struct tls_ticket_key *key =
	    &tls->tickets.keys[TLS_TICKET_CURRENT];

	memcpy(name, key->name, sizeof(key->name));
	if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(tls->ticket_cipher)) != 1 ||
	    EVP_EncryptInit_ex(
		cipher, tls->ticket_cipher, NULL, key->cipher, iv) != 1 ||
	    !set_mac(mac, key))
		return TICKET_ERROR;
	return TICKET_GOOD;
}

static int
unseal(struct tls *tls, bool is_13, const unsigned char name[16],
    unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	for (int i = 0; i < TLS_TICKET_KEYS; i++) {
		const struct tls_ticket_key *key = &tls->tickets.keys[i];

		if (crypto_equal(name, key->name, sizeof(key->name)) != 1)
			continue;
		if (!set_mac(mac, key) ||
		    EVP_DecryptInit_ex(
			cipher, tls->ticket_cipher, NULL, key->cipher, iv) != 1)
			return TICKET_ERROR;
		/* in 1.3 clients use a ticket once (RFC 8446 C.4) */
		return is_13 || i == TLS_TICKET_PREVIOUS ? TICKET_RENEW
							 : TICKET_GOOD;
	}
	return TICKET_NONE;
}

static int
ticket_cb(SSL *ssl, unsigned char *name, unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_seal)
{
	struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	if (tls == NULL || tls->tickets.lifetime_s == 0)
		return TICKET_NONE;
	return is_seal ? seal(tls, name, iv, cipher, mac)
		       : unseal(tls, SSL_version(ssl) == TLS1_3_VERSION, name,
			     iv, cipher, mac);
}

void
tls_ticket_prepare(SSL_CTX *ctx)
{
	/* the cache of sessions is one worker's; tickets are everybody's */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_cb);
	/* one per handshake: each resumption brings the next */
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
}

void
tls_ticket_configure(struct tls *tls)
{
	SSL_CTX *ctx;

	if (tls->context == NULL)
		return;
	ctx = tls->context->ctx;
	SSL_CTX_set_app_data(ctx, tls);
	if (tls->tickets.lifetime_s == 0) {
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		/* else 1.3 would hand out ids of sessions nobody keeps */
		SSL_CTX_set_num_tickets(ctx, 0);
		return;
	}
	SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_timeout(ctx, (long)tls->tickets.lifetime_s);
}
