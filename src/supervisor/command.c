/*
 * command.c - parleyctl's word with the supervisor.
 *
 * Role:    a datagram socket that only the server's user can write to.
 * Process: supervisor.
 * Blocks:  never; an answer nobody takes is dropped.
 * Trust:   the file's mode decides who may ask; length and form are checked.
 * See:     ctl/ctl_daemon.c.
 */
#include "config.h"

#include "supervisor/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

#define COMMANDS_PER_TURN 16

static int
command_address(struct sockaddr_un *address, const char *run_dir)
{
	int n;

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	n = snprintf(address->sun_path, sizeof(address->sun_path),
	    "%s/" COMMAND_SOCKET, run_dir);
	if (n >= (int)sizeof(address->sun_path)) {
		errno = ENAMETOOLONG;
		return ERR_IO;
	}
	return 0;
}

int
command_open(const char *run_dir, const struct rights *rights, char *error,
    size_t error_len)
{
	struct sockaddr_un address;
	mode_t mask;
	int fd = -1;
	int rc = command_address(&address, run_dir);

	if (rc == 0) {
		fd = socket(
		    AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		unlink(address.sun_path);
		mask = umask(0177);
		if (fd == -1 || bind(fd, (struct sockaddr *)&address,
				    sizeof(address)) == -1)
			rc = ERR_IO;
		umask(mask);
	}
	if (rc != 0) {
		snprintf(error, error_len, "%s/" COMMAND_SOCKET ": %s", run_dir,
		    strerror(errno));
		if (fd != -1)
			close(fd);
		return rc;
	}
	rights_give(rights, address.sun_path);
	return fd;
}

static void
answer(
    int fd, const struct sockaddr_un *to, socklen_t to_len, const char *reply)
{
	if (to_len <= sizeof(sa_family_t))
		return; /* the asker has no address */
	if (sendto(fd, reply, strlen(reply), MSG_DONTWAIT | MSG_NOSIGNAL,
		(const struct sockaddr *)to, to_len) == -1)
		log_info(NULL, "command-unanswered", "error=\"%s\"",
		    strerror(errno));
}

void
command_read(int fd, command_fn fn, void *ctx)
{
	char text[COMMAND_LEN_MAX];
	char reply[COMMAND_LEN_MAX];
	struct sockaddr_un from;
	socklen_t from_len;
	ssize_t n;

	for (int i = 0; i < COMMANDS_PER_TURN; i++) {
		from_len = sizeof(from);
		n = recvfrom(fd, text, sizeof(text) - 1, 0,
		    (struct sockaddr *)&from, &from_len);
		if (n < 0)
			return;
		text[n] = '\0';
		text[strcspn(text, "\r\n")] = '\0';
		reply[0] = '\0';
		fn(ctx, text, reply);
		answer(fd, &from, from_len, reply);
	}
}

void
command_remove(const char *run_dir)
{
	struct sockaddr_un address;

	if (command_address(&address, run_dir) == 0)
		unlink(address.sun_path);
}
