/*
 * segment.h - memory that is shared with every child forked later.
 */
#ifndef SHM_SEGMENT_H
#define SHM_SEGMENT_H

#include <stddef.h>

#include "base/err.h"

/**
 * Map zeroed, sparse, shared memory: what is never touched costs nothing. It
 * has no name, is left out of core dumps and goes with its last process.
 *
 * @param name     shown in /proc/PID/maps
 * @param size     bytes
 * @param mem_out  page-aligned; segment_free
 * @return         0 or ERR_IO, logged
 */
NODISCARD int segment_create(const char *name, size_t size, void **mem_out);
/** The same; fd_out: to map it again (segment_adopt), the caller's to close. */
NODISCARD int segment_create_kept(
    const char *name, size_t size, void **mem_out, int *fd_out);
/**
 * Map what segment_create made in a program that was replaced by this one.
 *
 * @param fd  stays the caller's
 * @return    0, ERR_STALE (another size) or ERR_IO, logged
 */
NODISCARD int segment_adopt(int fd, size_t size, void **mem_out);
/** Unmap; NULL is accepted. */
void segment_free(void **mem, size_t size);

#endif
