/*
 * keep.h - memory that a process leaves to its successor.
 *
 * A file in the run folder, mapped by one process at a time. It outlives that
 * process and the supervisor, and is empty after a restart of the machine:
 * times of the monotonic clock may lie in it.
 */
#ifndef SHM_KEEP_H
#define SHM_KEEP_H

#include <stddef.h>

#include "base/err.h"

/**
 * Map RUN_DIR/name, made when it is not there, of another size or from before
 * the machine was started: then all zero. What a predecessor wrote last may be
 * there in part, and none of it is checked.
 *
 * @param size     bytes
 * @param mem_out  aligned to 64; keep_close
 * @return         0 or ERR_IO, logged
 */
NODISCARD int keep_open(
    const char *run_dir, const char *name, size_t size, void **mem_out);
/** Unmap; it stays. NULL is accepted. */
void keep_close(void **mem, size_t size);

#endif
