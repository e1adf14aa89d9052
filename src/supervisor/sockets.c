/*
 * sockets.c - the listening sockets.
 *
 * Role:    binds each address once per worker, so that the kernel spreads the
 *          connections; keeps the sockets open over a worker's death.
 * Process: supervisor; a child closes what is not its own.
 * Blocks:  on the resolver where an address holds a name, at start only.
 * Trust:   addresses come from the configuration.
 * See:     net/listener.c.
 */
#include "config.h"

#include "supervisor/sockets.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/net.h"

static void
close_fd(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

/*
 * SO_REUSEPORT lets a second server of the same user share the port without a
 * word; half of the clients would meet the wrong one. A socket without the
 * option is refused where anybody listens.
 */
static bool
is_taken(const struct sockaddr_storage *address, socklen_t len)
{
	int on = 1;
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is_free;

	if (fd == -1)
		return false; /* the real bind will say why */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	is_free = bind(fd, (const struct sockaddr *)address, len) == 0 ||
		  errno != EADDRINUSE;
	close(fd);
	return !is_free;
}

/* Bind for the first time: learn the port, look for another listener. */
static int
bind_first(const char *text, uint16_t *port, int *fd_out, char *error,
    size_t error_len)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	int fd = listener_bind(text, port, error, error_len);

	if (fd < 0)
		return fd;
	memset(&address, 0, sizeof(address));
	if (getsockname(fd, (struct sockaddr *)&address, &len) == 0) {
		close(fd);
		if (is_taken(&address, len)) {
			snprintf(error, error_len,
			    "%s: another server listens there already", text);
			return ERR_IO;
		}
		fd = listener_bind(text, port, error, error_len);
		if (fd < 0)
			return fd;
	}
	*fd_out = fd;
	return 0;
}

int
sockets_open_worker(
    struct sockets *sockets, int worker, char *error, size_t error_len)
{
	for (size_t i = 0; i < sockets->address_count; i++) {
		int *fd = &sockets->worker_fds[worker][i];
		const char *text = sockets->addresses[i];
		int rc;

		if (*fd != -1)
			continue;
		if (sockets->ports[i] == 0) {
			rc = bind_first(
			    text, &sockets->ports[i], fd, error, error_len);
			if (rc != 0)
				return rc;
			continue;
		}
		rc = listener_bind(text, &sockets->ports[i], error, error_len);
		if (rc < 0)
			return rc;
		*fd = rc;
	}
	return 0;
}

static int
open_ops(
    struct sockets *sockets, const char *address, char *error, size_t error_len)
{
	uint16_t port = 0;

	if (address == NULL || *address == '\0')
		return 0;
	return bind_first(address, &port, &sockets->ops_fd, error, error_len);
}

int
sockets_open(struct sockets *sockets, const struct conf *conf, int worker_count,
    int worker_room, char *error, size_t error_len)
{
	int rc;

	memset(sockets, 0, sizeof(*sockets));
	memset(sockets->worker_fds, -1, sizeof(sockets->worker_fds));
	sockets->ops_fd = -1;
	sockets->worker_count = worker_room;
	sockets->plain_count = conf->server_listen.count;
	sockets->address_count =
	    sockets->plain_count + conf->server_listen_tls.count;
	if (sockets->address_count > SOCKETS_ADDRESS_MAX)
		panic("%zu addresses", sockets->address_count); /* check.c */
	sockets_set_conf(sockets, conf);
	rc = open_ops(sockets, conf->ops_listen, error, error_len);
	for (int i = 0; rc == 0 && i < worker_count; i++)
		rc = sockets_open_worker(sockets, i, error, error_len);
	if (rc != 0)
		sockets_close(sockets);
	return rc;
}

void
sockets_set_conf(struct sockets *sockets, const struct conf *conf)
{
	for (size_t i = 0; i < sockets->address_count; i++)
		sockets->addresses[i] =
		    i < sockets->plain_count
			? conf->server_listen.items[i]
			: conf->server_listen_tls
			      .items[i - sockets->plain_count];
}

void
sockets_log(const struct sockets *sockets)
{
	for (size_t i = 0; i < sockets->address_count; i++) {
		const char *text = sockets->addresses[i];
		const char *colon = strrchr(text, ':');
		int host_len = colon != NULL ? (int)(colon - text) : 0;

		log_info(NULL, "serving", "%s=%.*s:%u",
		    i < sockets->plain_count ? "listen" : "listen_tls",
		    host_len, text, (unsigned)sockets->ports[i]);
	}
}

void
sockets_close_worker(struct sockets *sockets, int worker)
{
	for (size_t i = 0; i < SOCKETS_ADDRESS_MAX; i++)
		close_fd(&sockets->worker_fds[worker][i]);
}

void
sockets_keep_worker(struct sockets *sockets, int worker)
{
	for (int i = 0; i < sockets->worker_count; i++) {
		if (i != worker)
			sockets_close_worker(sockets, i);
	}
}

void
sockets_close_ops(struct sockets *sockets)
{
	close_fd(&sockets->ops_fd);
}

void
sockets_close(struct sockets *sockets)
{
	sockets_keep_worker(sockets, -1);
	sockets_close_ops(sockets);
}
