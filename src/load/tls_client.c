/*
 * tls_client.c - TLS for the connections of parleyload.
 *
 * Role:    handshake, records and resumption on a non-blocking socket.
 * Process: each generator.
 * Blocks:  never; the file of --tls-ca is read at the start.
 * Trust:   the server is what is tested: its certificate counts only with
 *          --tls-ca, and what breaks TLS is a lost connection.
 * See:     client.c (the user).
 */
#include "load/tls_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"

struct tls_fleet {
	SSL_CTX *ctx;
	const struct options *options;
	SSL_SESSION *session; /* --tls-resume: the latest */
};

struct tls_client {
	SSL *ssl;
	struct tls_fleet *fleet;
	char error[128];
};

/* ---- the context ---- */

static int
session_cb(SSL *ssl, SSL_SESSION *session)
{
	struct tls_fleet *fleet = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	if (!fleet->options->tls_resume)
		return 0;
	SSL_SESSION_free(fleet->session);
	fleet->session = session;
	return 1; /* ours now */
}

static bool
set_version(SSL_CTX *ctx, const char *text)
{
	int version = 0;

	if (text == NULL)
		return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1;
	if (strcmp(text, "1.2") == 0)
		version = TLS1_2_VERSION;
	else if (strcmp(text, "1.3") == 0)
		version = TLS1_3_VERSION;
	return version != 0 &&
	       SSL_CTX_set_min_proto_version(ctx, version) == 1 &&
	       SSL_CTX_set_max_proto_version(ctx, version) == 1;
}

static bool
set_up(struct tls_fleet *fleet, char *error, size_t error_len)
{
	const struct options *options = fleet->options;

	if (fleet->ctx == NULL ||
	    !set_version(fleet->ctx, options->tls_version)) {
		snprintf(error, error_len, "--tls-version: 1.2 or 1.3");
		return false;
	}
	if (options->tls_ca != NULL) {
		if (SSL_CTX_load_verify_file(fleet->ctx, options->tls_ca) !=
		    1) {
			snprintf(error, error_len,
			    "--tls-ca: no certificates in %s", options->tls_ca);
			return false;
		}
		SSL_CTX_set_verify(fleet->ctx, SSL_VERIFY_PEER, NULL);
	}
	/* one read(2) for all that is there */
	SSL_CTX_set_read_ahead(fleet->ctx, 1);
	SSL_CTX_set_mode(fleet->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_RELEASE_BUFFERS |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(
	    fleet->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_set_app_data(fleet->ctx, fleet);
	SSL_CTX_sess_set_new_cb(fleet->ctx, session_cb);
	return true;
}

struct tls_fleet *
tls_fleet_new(const struct options *options, char *error, size_t error_len)
{
	struct tls_fleet *fleet = xcalloc(1, sizeof(*fleet));

	fleet->options = options;
	fleet->ctx = SSL_CTX_new(TLS_client_method());
	if (!set_up(fleet, error, error_len))
		tls_fleet_free(&fleet);
	ERR_clear_error();
	return fleet;
}

void
tls_fleet_free(struct tls_fleet **fleet)
{
	if (*fleet == NULL)
		return;
	SSL_SESSION_free((*fleet)->session);
	SSL_CTX_free((*fleet)->ctx);
	free(*fleet);
	*fleet = NULL;
}

/* ---- a connection ---- */

/* RFC 6066 3: names only; an address is checked, but not sent. */
static bool
set_name(SSL *ssl, const char *host)
{
	struct in6_addr address;

	if (inet_pton(AF_INET, host, &address) == 1 ||
	    inet_pton(AF_INET6, host, &address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(
			   SSL_get0_param(ssl), host) == 1;
	return SSL_set_tlsext_host_name(ssl, host) == 1 &&
	       SSL_set1_host(ssl, host) == 1;
}

struct tls_client *
tls_client_new(struct tls_fleet *fleet, int fd)
{
	struct tls_client *client = xcalloc(1, sizeof(*client));

	client->fleet = fleet;
	client->ssl = SSL_new(fleet->ctx);
	if (client->ssl == NULL || SSL_set_fd(client->ssl, fd) != 1 ||
	    !set_name(client->ssl, fleet->options->host)) {
		tls_client_free(&client);
		ERR_clear_error();
		return NULL;
	}
	if (fleet->session != NULL)
		(void)SSL_set_session(client->ssl, fleet->session);
	SSL_set_connect_state(client->ssl);
	return client;
}

void
tls_client_free(struct tls_client **client)
{
	if (*client == NULL)
		return;
	SSL_free((*client)->ssl);
	free(*client);
	*client = NULL;
}

static int
translate(struct tls_client *client, int rc)
{
	int error = SSL_get_error(client->ssl, rc);
	unsigned long code = ERR_peek_error();
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);

	switch (error) {
	case SSL_ERROR_WANT_READ:
		return TLS_CLIENT_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_CLIENT_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		snprintf(client->error, sizeof(client->error), "TLS: %s",
		    reason != NULL ? reason
		    : errno != 0   ? strerror(errno)
				   : "the connection was closed");
		ERR_clear_error();
		return TLS_CLIENT_LOST;
	}
}

int
tls_client_handshake(struct tls_client *client)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(client->ssl);
	if (rc == 1)
		return 0;
	rc = translate(client, rc);
	return rc == 0 ? TLS_CLIENT_LOST : rc;
}

bool
tls_client_is_resumed(const struct tls_client *client)
{
	return SSL_session_reused(client->ssl) == 1;
}

ssize_t
tls_client_read(struct tls_client *client, void *data, size_t len)
{
	size_t total = 0;

	ERR_clear_error();
	errno = 0;
	while (total < len) {
		size_t n = 0;
		int rc = SSL_read_ex(
		    client->ssl, (char *)data + total, len - total, &n);

		if (rc != 1)
			return total > 0 ? (ssize_t)total
					 : translate(client, rc);
		total += n;
	}
	return (ssize_t)total;
}

bool
tls_client_has_more(const struct tls_client *client)
{
	return SSL_has_pending(client->ssl) == 1 ||
	       (SSL_get_shutdown(client->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

ssize_t
tls_client_write(struct tls_client *client, const void *data, size_t len)
{
	size_t total = 0;

	ERR_clear_error();
	errno = 0;
	while (total < len) {
		size_t n = 0;
		int rc = SSL_write_ex(
		    client->ssl, (const char *)data + total, len - total, &n);

		if (rc != 1)
			return total > 0 ? (ssize_t)total
					 : translate(client, rc);
		total += n;
	}
	return (ssize_t)total;
}

void
tls_client_shutdown(struct tls_client *client)
{
	ERR_clear_error();
	(void)SSL_shutdown(client->ssl);
	ERR_clear_error();
}

const char *
tls_client_error(const struct tls_client *client)
{
	return client->error;
}
