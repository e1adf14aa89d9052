/*
 * tds_stage_tls.c - TLS of the server on the stage.
 *
 * Role:    [MS-TDS] 2.2.6.5: the handshake goes through PRELOGIN packets.
 * Process: the test.
 * Blocks:  the thread of its connection.
 * Trust:   the client is ours, but lengths are checked all the same.
 * See:     tds_stage.c.
 */
#include "config.h"

#include "tds_stage_tls.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define HANDSHAKE  0x12
#define FLIGHT_MAX 16384
#define DAY_S      86400

static X509 *
certificate_new(EVP_PKEY *key)
{
	X509 *certificate = X509_new();
	X509_NAME *name = X509_get_subject_name(certificate);
	X509_EXTENSION *names = X509V3_EXT_conf_nid(
	    NULL, NULL, NID_subject_alt_name, "DNS:localhost");

	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY_S);
	X509_gmtime_adj(X509_getm_notAfter(certificate), DAY_S);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
	    (const unsigned char *)"localhost", -1, -1, 0);
	X509_set_issuer_name(certificate, name);
	X509_set_pubkey(certificate, key);
	X509_add_ext(certificate, names, -1);
	X509_EXTENSION_free(names);
	if (X509_sign(certificate, key, EVP_sha256()) == 0)
		panic("no certificate for the test");
	return certificate;
}

SSL_CTX *
tds_stage_tls_new(char *path)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = certificate_new(key);
	FILE *file = fdopen(mkstemp(path), "w");

	/* As SQL Server: within TDS 7.4 there is no 1.3. */
	SSL_CTX_set_max_proto_version(tls, TLS1_2_VERSION);
	if (file == NULL || PEM_write_X509(file, certificate) != 1 ||
	    SSL_CTX_use_certificate(tls, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey(tls, key) != 1)
		panic("no TLS for the test");
	fclose(file);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return tls;
}

static bool
flight_read(int fd, BIO *in)
{
	uint8_t packet[FLIGHT_MAX];
	size_t len;

	if (recv(fd, packet, 8, MSG_WAITALL) != 8 || packet[0] != HANDSHAKE)
		return false;
	len = (size_t)packet[2] << 8 | packet[3];
	if (len <= 8 || len > sizeof(packet) ||
	    recv(fd, packet, len - 8, MSG_WAITALL) != (ssize_t)len - 8)
		return false;
	return BIO_write(in, packet, (int)(len - 8)) == (int)len - 8;
}

static bool
flight_write(int fd, BIO *out)
{
	uint8_t packet[FLIGHT_MAX] = {HANDSHAKE, 1};
	int len = BIO_read(out, packet + 8, sizeof(packet) - 8);

	if (len <= 0)
		return true; /* nothing to say */
	len += 8;
	packet[2] = (uint8_t)(len >> 8);
	packet[3] = (uint8_t)len;
	return send(fd, packet, (size_t)len, MSG_NOSIGNAL) == len;
}

SSL *
tds_stage_tls_accept(SSL_CTX *tls, int fd)
{
	SSL *ssl = SSL_new(tls);
	BIO *in = BIO_new(BIO_s_mem());
	BIO *out = BIO_new(BIO_s_mem());
	int done = 0;

	SSL_set_bio(ssl, in, out);
	SSL_set_accept_state(ssl);
	while (done != 1) {
		if (!flight_read(fd, in))
			goto failed;
		done = SSL_do_handshake(ssl);
		if (!flight_write(fd, out) ||
		    (done != 1 &&
			SSL_get_error(ssl, done) != SSL_ERROR_WANT_READ))
			goto failed;
	}
	if (SSL_set_fd(ssl, fd) == 1)
		return ssl;
failed:
	SSL_free(ssl);
	return NULL;
}
