/*
 * daemon.c - into the background, and only once.
 *
 * Role:    detaching with an honest exit status, pid file, lock of the store.
 * Process: supervisor and the process that started it.
 * Blocks:  the starting process waits for the verdict.
 * Trust:   files in folders of the unprivileged user: links are not followed.
 * See:     supervisor.c.
 */
#include "config.h"

#include "supervisor/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#define PID_FILE "parleyd.pid"

/* The starting process: exit as the daemon says. */
_Noreturn static void
wait_for_report(int fd)
{
	char text[1024];
	size_t len = 0;
	ssize_t n;

	for (;;) {
		n = read(fd, text + len, sizeof(text) - 1 - len);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (len == sizeof(text) - 1)
			break;
	}
	text[len] = '\0';
	if (len == 1 && text[0] == '\n')
		_exit(0);
	fprintf(stderr, "parleyd: %s",
	    len > 0 ? text
		    : "the daemon ended during its start; see its log\n");
	_exit(1);
}

int
daemon_detach(void)
{
	int fds[2];
	int null_fd;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) == -1)
		fatal("pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid == -1)
		fatal("fork: %s", strerror(errno));
	if (pid > 0) {
		close(fds[1]);
		wait_for_report(fds[0]);
	}
	close(fds[0]);
	if (setsid() == -1)
		fatal("setsid: %s", strerror(errno));
	pid = fork(); /* no session leader: never a terminal again */
	if (pid == -1)
		fatal("fork: %s", strerror(errno));
	if (pid > 0)
		_exit(0);
	if (chdir("/") == -1)
		fatal("chdir /: %s", strerror(errno));
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd == -1)
		fatal("/dev/null: %s", strerror(errno));
	for (int fd = 0; fd <= 2; fd++)
		dup2(null_fd, fd);
	if (null_fd > 2)
		close(null_fd);
	return fds[1];
}

void
daemon_report(int *report_fd, const char *failure)
{
	char line[1024];
	int len;

	if (*report_fd == -1)
		return;
	len = snprintf(
	    line, sizeof(line), "%s\n", failure != NULL ? failure : "");
	if (len >= (int)sizeof(line))
		len = (int)sizeof(line) - 1;
	if (write(*report_fd, line, (size_t)len) == -1)
		log_warn(NULL, "start-report", "error=\"%s\"", strerror(errno));
	close(*report_fd);
	*report_fd = -1;
}

/* Did a server that stopped take the file away between open and lock? */
static bool
is_still_there(int fd, const char *path)
{
	struct stat mine;
	struct stat there;

	return fstat(fd, &mine) == 0 && lstat(path, &there) == 0 &&
	       mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

static void
write_pid(int fd)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (fchmod(fd, 0644) == -1 || ftruncate(fd, 0) == -1 ||
	    pwrite(fd, text, (size_t)len, 0) != len)
		log_warn(NULL, "pid-file", "error=\"%s\"", strerror(errno));
}

int
daemon_open_pid_file(const char *run_dir, char *error, size_t error_len)
{
	char path[PATH_MAX];
	char pid[16] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/" PID_FILE, run_dir);
	for (;;) {
		fd = file_open_plain(path);
		if (fd == -1) {
			snprintf(
			    error, error_len, "%s: %s", path, strerror(errno));
			return ERR_IO;
		}
		if (flock(fd, LOCK_EX | LOCK_NB) == -1) {
			if (pread(fd, pid, sizeof(pid) - 1, 0) > 0)
				pid[strcspn(pid, "\n")] = '\0';
			snprintf(error, error_len,
			    "another parleyd (process %s) runs in %s", pid,
			    run_dir);
			close(fd);
			return ERR_CONFLICT;
		}
		if (is_still_there(fd, path))
			break;
		close(fd);
	}
	write_pid(fd);
	return fd;
}

void
daemon_remove_pid_file(const char *run_dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" PID_FILE, run_dir);
	if (unlink(path) == -1)
		log_warn(NULL, "pid-file", "path=%s error=\"%s\"", path,
		    strerror(errno));
}
