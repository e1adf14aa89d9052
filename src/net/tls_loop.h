/*
 * tls_loop.h - TLS as the other files of this folder see it.
 */
#ifndef NET_TLS_LOOP_H
#define NET_TLS_LOOP_H

#include <stddef.h>

#include "net/conn.h"

struct tls;

/** Begins with OpenSSL's handshake and goes on as conn_tls_io. */
extern const struct conn_io conn_tls_handshake_io;

/** The turn is over: what waits may go on in the next. */
void tls_turn_end(struct tls *tls);
/** After the last connection; NULL is accepted. */
void tls_free(struct tls **tls);

#endif
