/*
 * program.h - the file that runs, the file that shall run, and its arguments.
 */
#ifndef SUPERVISOR_PROGRAM_H
#define SUPERVISOR_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct program {
	char path[PATH_MAX]; /* by which it was started, absolute */
	int fd;              /* the file that runs, whatever path is; or -1 */
};

#define PROGRAM_ARGS_MAX 8

struct program_arguments {
	char option[32];
	char returned[384];
	char *args[PROGRAM_ARGS_MAX]; /* for execve */
};

/** Before the working directory changes. */
void program_find_self(struct program *out);
/** @return descriptor (O_PATH), or ERR_BAD_REQUEST: error has file and why */
NODISCARD int program_open(const char *path, char *error, size_t error_len);
/**
 * What a program is given that takes over, or tries. Async-signal-safe but
 * for snprintf, which formats only numbers and strings here.
 *
 * @param verb      "--probe" or "--handover"
 * @param returned  why the giver gave up, or NULL
 */
void program_arguments(struct program_arguments *line, char *program,
    const char *verb, int handover_fd, const char *conf_path,
    bool is_background, const char *returned);

#endif
