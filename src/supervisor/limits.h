/*
 * limits.h - does the machine allow what the configuration asks for?
 */
#ifndef SUPERVISOR_LIMITS_H
#define SUPERVISOR_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* What the machine allows; INT64_MAX: unknown or no limit. */
struct limits {
	int64_t descriptors;       /* of one process, RLIMIT_NOFILE */
	int64_t files;             /* of the machine, fs.file-max */
	int64_t epoll_watches;     /* of the user, fs.epoll.max_user_watches */
	int64_t descriptors_extra; /* of a worker, besides connections */
};

/**
 * The first limit that makes max_connections impossible.
 *
 * @param max_connections  per worker, as configured; 0: nothing was asked for
 * @param text_out         one line for the operator: limit, value, cure
 * @return                 0, or ERR_FULL: text_out is filled
 */
int limits_check(const struct limits *limits, int64_t max_connections,
    int workers, char *text_out, size_t text_len);
/** Look at the machine and say so in the log when something is short. */
void limits_tell(
    int64_t max_connections, int workers, int64_t descriptors_extra);

#endif
