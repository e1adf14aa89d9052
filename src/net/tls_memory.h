/*
 * tls_memory.h - where OpenSSL puts the large pieces of a handshake.
 */
#ifndef NET_TLS_MEMORY_H
#define NET_TLS_MEMORY_H

/** First thing in main(): OpenSSL must not have allocated anything yet. */
void tls_memory_init(void);

#endif
