/*
 * keep.c - memory that a process leaves to its successor.
 *
 * Role:    a file with a header that says of which size and of which start of
 *          the machine it is, and the memory behind it.
 * Process: directory (attempts.c).
 * Blocks:  on the run folder's file system, at start only.
 * Trust:   the file is a predecessor's: header and size are checked, the rest
 *          is for the user to judge.
 * See:     t/unit/keep.c.
 */
#include "config.h"

#include "shm/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "shm/layout.h"

#define BOOT_ID_LEN 36 /* random(4): a UUID */

struct keep_header {
	uint64_t magic;
	uint64_t size; /* of what follows */
	char boot_id[BOOT_ID_LEN];
	char reserved[CACHE_LINE - 16 - BOOT_ID_LEN]; /* 0 */
};

_Static_assert(sizeof(struct keep_header) == CACHE_LINE, "alignment");

/* Zeros where the system does not say: then nothing is taken over. */
static void
read_boot_id(char boot_id[BOOT_ID_LEN])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(boot_id, 0, BOOT_ID_LEN);
	if (fd == -1)
		return;
	if (read(fd, boot_id, BOOT_ID_LEN) != BOOT_ID_LEN)
		memset(boot_id, 0, BOOT_ID_LEN);
	close(fd);
}

static bool
is_kept(int fd, const struct keep_header *wanted)
{
	struct keep_header header;
	struct stat st;

	return wanted->boot_id[0] != 0 && fstat(fd, &st) == 0 &&
	       (uint64_t)st.st_size == sizeof(header) + wanted->size &&
	       pread(fd, &header, sizeof(header), 0) == sizeof(header) &&
	       memcmp(&header, wanted, sizeof(header)) == 0;
}

/*
 * Blocks are allocated now: a full run folder is an error here instead of a
 * SIGBUS later. The header comes last: half a file is none.
 */
static bool
make_anew(int fd, const struct keep_header *header)
{
	if (fchmod(fd, S_IRUSR | S_IWUSR) == -1 || ftruncate(fd, 0) == -1)
		return false;
	errno = posix_fallocate(fd, 0, (off_t)(sizeof(*header) + header->size));
	return errno == 0 && pwrite(fd, header, sizeof(*header), 0) ==
				 (ssize_t)sizeof(*header);
}

/* One of another user was made when the server ran as that one. */
static int
open_or_replace(const char *path)
{
	int fd = file_open_plain(path);

	if (fd == -1 && (errno == EACCES || errno == EINVAL) &&
	    unlink(path) == 0)
		fd = file_open_plain(path);
	return fd;
}

int
keep_open(const char *run_dir, const char *name, size_t size, void **mem_out)
{
	struct keep_header header = {.magic = LAYOUT_MAGIC, .size = size};
	char path[PATH_MAX];
	void *map = MAP_FAILED;
	int fd = -1;
	int n = snprintf(path, sizeof(path), "%s/%s", run_dir, name);

	errno = ENAMETOOLONG;
	if (n >= 0 && n < (int)sizeof(path))
		fd = open_or_replace(path);
	read_boot_id(header.boot_id);
	if (fd != -1 && (is_kept(fd, &header) || make_anew(fd, &header)))
		map = mmap(NULL, sizeof(header) + size, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		log_error(NULL, "keep-failed", "path=%.256s error=\"%s\"", path,
		    strerror(errno));
	if (fd != -1)
		close(fd);
	if (map == MAP_FAILED)
		return ERR_IO;
	(void)madvise(map, sizeof(header) + size, MADV_DONTDUMP);
	*mem_out = (uint8_t *)map + sizeof(header);
	return 0;
}

void
keep_close(void **mem, size_t size)
{
	if (*mem != NULL)
		munmap((uint8_t *)*mem - sizeof(struct keep_header),
		    sizeof(struct keep_header) + size);
	*mem = NULL;
}
