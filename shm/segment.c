/*
 * segment.c - memory that is shared with every child forked later.
 *
 * Role:    gives the bus its memory.
 * Process: the supervisor makes it, all inherit the mapping at its address.
 * Blocks:  never.
 * Trust:   none needed; the size is sealed, so nobody can shrink it under us.
 * See:     bus.c.
 */
#include "config.h"

#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static int
segment_map(int fd, size_t size, void **mem_out)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (mem == MAP_FAILED)
		return ERR_IO;
	/*
	 * People's messages do not belong into a core file. A huge page would
	 * make a used ring of 40 bytes cost 2 MiB; both are best effort.
	 */
	(void)madvise(mem, size, MADV_DONTDUMP);
	(void)madvise(mem, size, MADV_NOHUGEPAGE);
	*mem_out = mem;
	return 0;
}

static void
say_failed(size_t size)
{
	log_error(NULL, "segment-failed", "bytes=%zu error=\"%s\"", size,
	    strerror(errno));
}

int
segment_create_kept(const char *name, size_t size, void **mem_out, int *fd_out)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd == -1 || ftruncate(fd, (off_t)size) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ==
		-1 ||
	    segment_map(fd, size, mem_out) != 0) {
		say_failed(size);
		if (fd != -1)
			close(fd);
		return ERR_IO;
	}
	*fd_out = fd;
	return 0;
}

int
segment_create(const char *name, size_t size, void **mem_out)
{
	int fd = -1;
	int rc = segment_create_kept(name, size, mem_out, &fd);

	if (rc == 0)
		close(fd); /* the mapping keeps the memory */
	return rc;
}

int
segment_adopt(int fd, size_t size, void **mem_out)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && (size_t)st.st_size != size)
		return ERR_STALE;
	if (segment_map(fd, size, mem_out) == 0)
		return 0;
	say_failed(size);
	return ERR_IO;
}

void
segment_free(void **mem, size_t size)
{
	if (*mem != NULL)
		munmap(*mem, size);
	*mem = NULL;
}
