/*
 * program.c - the file that runs, the file that shall run, and its arguments.
 *
 * Role:    where this program was started from, whether a file may be
 *          executed with the supervisor's rights, and how.
 * Process: supervisor.
 * Blocks:  on the file system.
 * Trust:   a file is executed if nobody but root or the supervisor's user
 *          could have written it; what is judged is a descriptor.
 * See:     upgrade.c.
 */
#include "config.h"

#include "supervisor/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

void
program_find_self(struct program *out)
{
	const char *path = (const char *)getauxval(AT_EXECFN);
	size_t len = 0;
	ssize_t n;

	out->fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	/* executed by descriptor: the name is the kernel's */
	if (path == NULL || strncmp(path, "/dev/fd/", 8) == 0) {
		n = readlink(
		    "/proc/self/exe", out->path, sizeof(out->path) - 1);
		out->path[n > 0 ? n : 0] = '\0';
		return;
	}
	/* links in it are followed when it is needed: they may be changed */
	if (*path != '/' && getcwd(out->path, sizeof(out->path) / 2) != NULL) {
		len = strlen(out->path);
		out->path[len++] = '/';
	}
	snprintf(out->path + len, sizeof(out->path) - len, "%s", path);
}

/* Whoever can write to the file, or owns it, decides what we execute. */
static const char *
find_fault(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "it is not a file";
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "it belongs neither to root nor to the supervisor's "
		       "user";
	if ((st->st_mode & S_IWOTH) != 0 ||
	    ((st->st_mode & S_IWGRP) != 0 && st->st_gid != 0 &&
		st->st_gid != getegid()))
		return "others can write to it";
	if ((st->st_mode & S_IXUSR) == 0)
		return "it is not executable";
	return NULL;
}

int
program_open(const char *path, char *error, size_t error_len)
{
	const char *fault;
	struct stat st;
	int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd == -1 || fstat(fd, &st) == -1)
		fault = strerror(errno);
	else
		fault = find_fault(&st);
	if (fault == NULL)
		return fd;
	snprintf(error, error_len, "%s: %s", path, fault);
	if (fd != -1)
		close(fd);
	return ERR_BAD_REQUEST;
}

void
program_arguments(struct program_arguments *line, char *program,
    const char *verb, int handover_fd, const char *conf_path,
    bool is_background, const char *returned)
{
	size_t n = 0;

	snprintf(
	    line->option, sizeof(line->option), "%s=%d", verb, handover_fd);
	line->args[n++] = program;
	line->args[n++] = line->option;
	line->args[n++] = "-c";
	line->args[n++] = (char *)conf_path; /* execve(2) does not write */
	if (!is_background)
		line->args[n++] = "-f";
	if (returned != NULL) {
		snprintf(line->returned, sizeof(line->returned),
		    "--returned=%s", returned);
		line->args[n++] = line->returned;
	}
	line->args[n] = NULL;
}
