/*
 * log_sink.c - where the lines of the log go.
 *
 * Role:    stderr, a file opened for appending, or the syslog socket; one
 *          system call per line, so that lines of processes do not mix.
 * Process: all; the descriptor may be inherited.
 * Blocks:  never: a full pipe or socket, and a full disk, lose the line, and
 *          the caller counts it.
 * Trust:   -
 * See:     log.c, t/unit/log.c.
 *
 * syslog(3) is not used: it waits while the daemon behind /dev/log is busy.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_priv.h"
#include "base/mem.h"

#define SYSLOG_IDENT "parleyd"

static const int syslog_levels[] = {
    [LOG_LEVEL_ERROR] = LOG_ERR,
    [LOG_LEVEL_WARN] = LOG_WARNING,
    [LOG_LEVEL_INFO] = LOG_INFO,
    [LOG_LEVEL_DEBUG] = LOG_DEBUG,
};

/* O_NONBLOCK: neither opening nor writing waits, whatever it is. */
#define OPEN_FLAGS (O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

static int
file_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | OPEN_FLAGS, 0640);

	/* A FIFO that nobody reads yet: as our own reader, fifo(7). */
	if (fd < 0 && errno == ENXIO)
		fd = open(path, O_RDWR | OPEN_FLAGS);
	return fd;
}

/*
 * stderr is shared with others, so O_NONBLOCK is not ours to set; of a pipe or
 * a terminal we can have a description of our own. Where that is refused (the
 * pipe of another user) POLLOUT has to do.
 */
static int
stderr_open(void)
{
	struct stat info;
	int fd = -1;

	if (fstat(STDERR_FILENO, &info) == 0 &&
	    (S_ISFIFO(info.st_mode) || isatty(STDERR_FILENO)))
		fd = open("/proc/self/fd/2", O_WRONLY | OPEN_FLAGS);
	return fd < 0 ? STDERR_FILENO : fd;
}

/* The socket, or -1: tried again with the next line. */
static int
syslog_connect(void)
{
	struct sockaddr_un address = {
	    .sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int fd;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int
log_sink_open(const char *target, struct log_sink *sink_out)
{
	struct log_sink sink = {.kind = LOG_SINK_STDERR, .fd = STDERR_FILENO};

	if (strcmp(target, "syslog") == 0) {
		sink.kind = LOG_SINK_SYSLOG;
		sink.fd = syslog_connect();
	} else if (target[0] == '/') {
		sink.kind = LOG_SINK_FILE;
		sink.fd = file_open(target);
		if (sink.fd < 0)
			return ERR_IO;
		sink.path = xstrdup(target);
	} else if (strcmp(target, "stderr") == 0) {
		sink.fd = stderr_open();
	} else {
		return ERR_BAD_REQUEST;
	}
	*sink_out = sink;
	return 0;
}

void
log_sink_await(const char *path, struct log_sink *sink_out)
{
	*sink_out = (struct log_sink){
	    .kind = LOG_SINK_FILE, .fd = -1, .path = xstrdup(path)};
}

int
log_sink_reopen(struct log_sink *sink)
{
	int fd;

	if (sink->kind != LOG_SINK_FILE)
		return 0;
	fd = file_open(sink->path);
	if (fd < 0)
		return ERR_IO;
	if (sink->fd >= 0)
		close(sink->fd);
	sink->fd = fd;
	sink->is_torn = false;
	return 0;
}

bool
log_sink_mend(struct log_sink *sink)
{
	struct stat info;

	if (sink->kind != LOG_SINK_FILE ||
	    (sink->fd >= 0 &&
		(fstat(sink->fd, &info) != 0 || info.st_nlink > 0)))
		return false;
	return log_sink_reopen(sink) == 0;
}

void
log_sink_close(struct log_sink *sink)
{
	if (sink->fd >= 0 && sink->fd != STDERR_FILENO)
		close(sink->fd);
	free(sink->path);
	*sink = (struct log_sink){.kind = LOG_SINK_STDERR, .fd = STDERR_FILENO};
}

static bool
stderr_would_block(void)
{
	struct pollfd wait = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&wait, 1, 0) != 1 || (wait.revents & POLLOUT) == 0;
}

/* A socket (journal) can be asked not to wait; anything else said POLLOUT. */
static ssize_t
parts_write(const struct log_sink *sink, struct iovec *parts, size_t count)
{
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = count};
	ssize_t written;

	if (sink->kind == LOG_SINK_STDERR) {
		written = sendmsg(sink->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (written >= 0 || errno != ENOTSOCK)
			return written;
	}
	return writev(sink->fd, parts, (int)count);
}

static int
stream_write(struct log_sink *sink, const char *line, size_t len)
{
	/* After a torn line (full disk) the next one starts a fresh one. */
	struct iovec parts[2] = {
	    {.iov_base = (char *)"\n", .iov_len = sink->is_torn ? 1 : 0},
	    {.iov_base = (char *)line, .iov_len = len},
	};
	ssize_t written;

	do {
		written = parts_write(sink, parts, 2);
	} while (written < 0 && errno == EINTR);
	if (written < 0)
		return ERR_IO;
	sink->is_torn = (size_t)written < parts[0].iov_len + len;
	return sink->is_torn ? ERR_IO : 0;
}

/* RFC 3164 4.1 as local daemons read it: no host name. */
static int
syslog_write(
    struct log_sink *sink, enum log_level level, const char *line, size_t len)
{
	char packet[LOG_LINE_MAX + 64];
	char stamp[32];
	time_t now = (time_t)(clock_wall_ms() / 1000);
	struct tm local;
	size_t head;

	localtime_r(&now, &local);
	strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &local);
	head = (size_t)snprintf(packet, sizeof(packet),
	    "<%d>%s %s[%ld]: ", LOG_DAEMON | syslog_levels[level], stamp,
	    SYSLOG_IDENT, (long)getpid());
	len--; /* a datagram needs no newline */
	memcpy(packet + head, line, len);
	for (int i = 0; i < 2; i++) {
		if (sink->fd < 0)
			sink->fd = syslog_connect();
		if (sink->fd < 0)
			return ERR_IO;
		if (send(sink->fd, packet, head + len, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EAGAIN || errno == EINTR)
			return ERR_IO;
		/* The daemon was restarted: once more with a new socket. */
		close(sink->fd);
		sink->fd = -1;
	}
	return ERR_IO;
}

int
log_sink_write(
    struct log_sink *sink, enum log_level level, const char *line, size_t len)
{
	switch (sink->kind) {
	case LOG_SINK_SYSLOG:
		return syslog_write(sink, level, line, len);
	case LOG_SINK_STDERR:
		if (sink->fd == STDERR_FILENO && stderr_would_block())
			return ERR_IO;
		break;
	case LOG_SINK_FILE:
		if (sink->fd < 0)
			return ERR_IO;
		break;
	}
	return stream_write(sink, line, len);
}
