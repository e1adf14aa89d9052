/*
 * log_box.h - a log in a file of its own folder, for tests.
 */
#ifndef T_UNIT_LOG_BOX_H
#define T_UNIT_LOG_BOX_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static char folder[] = "log-test-XXXXXX";
static char path[4200];
static char other_path[4300];

static inline void
log_begin(const char *format)
{
	struct log_conf conf = {path, "info", format, false};

	unlink(path);
	assert_int_equal(log_open(&conf), 0);
	log_set_process("worker-0");
}

/* The whole file; to free. */
static inline char *
log_text_of(const char *name)
{
	char *text = calloc(1, 1 << 20);
	FILE *file = fopen(name, "r");
	size_t len;

	assert_non_null(text);
	assert_non_null(file);
	len = fread(text, 1, (1 << 20) - 1, file);
	text[len] = '\0';
	fclose(file);
	return text;
}

static inline size_t
line_count(const char *text)
{
	size_t count = 0;

	for (; *text != '\0'; text++)
		count += *text == '\n';
	return count;
}

/* In a child whose stderr is a pipe of ours. */
static inline pid_t
fork_with_stderr(int pipe_fds[2])
{
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		dup2(pipe_fds[1], STDERR_FILENO);
	}
	return pid;
}

static inline size_t
read_all(int pipe_fds[2], char *out, size_t room)
{
	size_t len = 0;
	ssize_t got;

	close(pipe_fds[1]);
	while ((got = read(pipe_fds[0], out + len, room - 1 - len)) > 0)
		len += (size_t)got;
	out[len] = '\0';
	close(pipe_fds[0]);
	return len;
}

static inline int
make_folder(void)
{
	char cwd[4096];

	if (mkdtemp(folder) == NULL || getcwd(cwd, sizeof(cwd)) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/%s/a", cwd, folder);
	snprintf(other_path, sizeof(other_path), "%s.1", path);
	return 0;
}

#endif
