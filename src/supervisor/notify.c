/*
 * notify.c - systemd is told when the server serves and when it stops.
 *
 * Role:    the sender's side of sd_notify(3), without its library.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   the environment is that of whoever started us.
 * See:     etc/parley.service.in, t/70-ops.t.
 */
#include "config.h"

#include "supervisor/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

void
notify_manager(const char *state)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len;
	int fd;

	if (name == NULL || *name == '\0')
		return;
	len = strlen(name);
	if (len >= sizeof(to.sun_path)) {
		log_warn(NULL, "notify-failed", "error=\"the name is long\"");
		return;
	}
	memcpy(to.sun_path, name, len);
	if (*name == '@')
		to.sun_path[0] = '\0'; /* a name of no file */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1 || sendto(fd, state, strlen(state), MSG_NOSIGNAL,
			    (struct sockaddr *)&to,
			    (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
					len)) == -1)
		log_warn(NULL, "notify-failed", "state=%s error=\"%s\"", state,
		    strerror(errno));
	if (fd != -1)
		close(fd);
}
