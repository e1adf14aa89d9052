/*
 * ctl_socket.c - the way to the daemon's sockets.
 *
 * Role:    one function for the console's (a stream) and the supervisor's
 *          (datagrams).
 * Process: parleyctl.
 * Blocks:  on connect; on what follows at most for the given patience.
 * Trust:   run_dir belongs to the daemon's user.
 * See:     ctl_client.c, ctl_daemon.c.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/ctl_priv.h"

int
ctl_connect(const struct ctl *ctl, const char *name, int type, int patience_s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct sockaddr_un own = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = patience_s};
	int saved;
	int fd;
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s",
	    ctl->conf->server_run_dir, name);

	if (n >= (int)sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	/* only the family: the kernel chooses an address for the reply */
	if ((type != SOCK_DGRAM ||
		bind(fd, (struct sockaddr *)&own, sizeof(sa_family_t)) == 0) &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}
