/*
 * file.c - files and folders of the server.
 *
 * Role:    opens what must be a plain file; syncs folders.
 * Process: any.
 * Blocks:  on the disk.
 * Trust:   what a name leads to is judged by the descriptor.
 * See:     file.h.
 */
#include "config.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int
file_open_plain(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink <= 1)
		return fd;
	close(fd);
	errno = EINVAL;
	return -1;
}

/* The kernel gives the lowest free number, and none from the limit on. */
bool
file_may_open(int count)
{
	struct rlimit limit;
	int next = eventfd(0, EFD_CLOEXEC);

	if (next < 0)
		return false;
	close(next);
	return getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
	       (rlim_t)next + (rlim_t)count <= limit.rlim_cur;
}

int
file_sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;
	int cause;

	if (fd == -1)
		return -1;
	rc = fsync(fd);
	cause = errno;
	close(fd);
	errno = cause;
	return rc;
}
