/*
 * tls_client.h - TLS for the connections of parleyload; the only file of the
 * folder that knows OpenSSL is tls_client.c.
 */
#ifndef LOAD_TLS_CLIENT_H
#define LOAD_TLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "load/options.h"

struct tls_fleet;  /* shared by the connections of a generator */
struct tls_client; /* one connection */

/** Answers besides a number of bytes; 0: the server sends no more. */
enum {
	TLS_CLIENT_WANT_READ = -1,
	TLS_CLIENT_WANT_WRITE = -2,
	TLS_CLIENT_LOST = -3, /* tls_client_error says why */
};

/** @param error  one line, when NULL is returned */
struct tls_fleet *tls_fleet_new(
    const struct options *options, char *error, size_t error_len);
void tls_fleet_free(struct tls_fleet **fleet);

/** @param fd  connected, non-blocking; stays the caller's */
struct tls_client *tls_client_new(struct tls_fleet *fleet, int fd);
void tls_client_free(struct tls_client **client);
/** @return 0 once done, or one of the above */
int tls_client_handshake(struct tls_client *client);
bool tls_client_is_resumed(const struct tls_client *client);
/** As much as is there and fits. */
ssize_t tls_client_read(struct tls_client *client, void *data, size_t len);
/** Decrypted bytes wait: read again without the socket. */
bool tls_client_has_more(const struct tls_client *client);
ssize_t tls_client_write(
    struct tls_client *client, const void *data, size_t len);
/** Send close_notify. */
void tls_client_shutdown(struct tls_client *client);
/** Why the last answer was TLS_CLIENT_LOST; valid until the next call. */
const char *tls_client_error(const struct tls_client *client);

#endif
