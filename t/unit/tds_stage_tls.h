/*
 * tds_stage_tls.h - TLS of the server on the stage.
 */
#ifndef TDS_STAGE_TLS_H
#define TDS_STAGE_TLS_H

#include <openssl/ssl.h>

/**
 * A new key, with a certificate for localhost that it has signed itself.
 *
 * @param path  for mkstemp(3): receives the certificate, as PEM
 */
SSL_CTX *tds_stage_tls_new(char *path);
/**
 * The handshake, each flight of it inside packets of type 0x12; from then on
 * the connection's socket is read and written by what is returned.
 *
 * @return NULL: the client has left
 */
SSL *tds_stage_tls_accept(SSL_CTX *tls, int fd);

#endif
