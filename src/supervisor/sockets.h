/*
 * sockets.h - the listening sockets, held by the supervisor so that what
 * knocks while a worker is down waits for its successor.
 */
#ifndef SUPERVISOR_SOCKETS_H
#define SUPERVISOR_SOCKETS_H

#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "shm/layout.h"

#define SOCKETS_ADDRESS_MAX 16

struct sockets {
	/* of the configuration, borrowed: plain ones, then those for TLS */
	const char *addresses[SOCKETS_ADDRESS_MAX];
	size_t address_count;
	size_t plain_count;
	uint16_t ports[SOCKETS_ADDRESS_MAX]; /* bound, one per address */
	int worker_count;                    /* room for so many */
	int worker_fds[WORKER_MAX][SOCKETS_ADDRESS_MAX]; /* -1: closed */
	int ops_fd;                                      /* -1: none */
};

/**
 * Bind every address once per worker (SO_REUSEPORT) and the ops address.
 *
 * @param conf   its lists must outlive sockets
 * @param error  one line: address and cause
 * @return       0, ERR_BAD_REQUEST (address), ERR_IO
 */
NODISCARD int sockets_open(struct sockets *sockets, const struct conf *conf,
    int worker_count, int worker_room, char *error, size_t error_len);
/** The configuration moved: the same addresses live elsewhere now. */
void sockets_set_conf(struct sockets *sockets, const struct conf *conf);
/** Say in the log where we listen. */
void sockets_log(const struct sockets *sockets);
/** A worker that stays down must not keep connections waiting. */
void sockets_close_worker(struct sockets *sockets, int worker);
/** Bind what sockets_close_worker closed; nothing when open. @return 0, ERR_*
 */
NODISCARD int sockets_open_worker(
    struct sockets *sockets, int worker, char *error, size_t error_len);
/** In a child: close all but those of one worker (-1: none of them). */
void sockets_keep_worker(struct sockets *sockets, int worker);
void sockets_close_ops(struct sockets *sockets);
void sockets_close(struct sockets *sockets);

#endif
