/*
 * store_lock.c - one server for one store.
 *
 * Role:    the lock of a data folder: a server's, or a tool's that exchanges
 *          the store.
 * Process: supervisor, before it starts anything; parleyctl.
 * Blocks:  up to LOCK_WAIT_MS: processes of a server that was killed may still
 *          be ending.
 * Trust:   links are not followed.
 * See:     store_lock.h.
 */
#include "shm/store_lock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define LOCK_WAIT_MS  3000
#define LOCK_RETRY_MS 20
#define LOCK_FILE     "parleyd.lock"

int
store_lock(const char *folder, char *error, size_t error_len)
{
	char path[PATH_MAX];
	int64_t deadline_ms = clock_mono_ms() + LOCK_WAIT_MS;
	int fd;

	snprintf(path, sizeof(path), "%s/" LOCK_FILE, folder);
	fd = file_open_plain(path);
	if (fd == -1) {
		snprintf(error, error_len, "%s: %s", path, strerror(errno));
		return ERR_IO;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) == -1) {
		if (clock_mono_ms() >= deadline_ms) {
			snprintf(error, error_len,
			    "another parleyd uses the store in %s", folder);
			close(fd);
			return ERR_CONFLICT;
		}
		poll(NULL, 0, LOCK_RETRY_MS);
	}
	return fd;
}
