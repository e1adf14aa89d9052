/*
 * mem.h - memory for sizes we choose; there is no sensible way on without it.
 *
 * Sizes that a peer chooses are capped first and then allocated with
 * mem_try(), whose NULL is answered, not fatal.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

#include "base/err.h"

/** Zeroed array of count elements; ends the process when there is none. */
void *xcalloc(size_t count, size_t size);
/** Like realloc(3); ends the process when there is none. */
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len);
/** Uninitialised memory or NULL. */
NODISCARD void *mem_try(size_t size);
/** Overwrite a secret in a way the compiler keeps. */
void mem_wipe(void *ptr, size_t len);
/**
 * Zeroed memory for secrets that stay: in no core file, and not swapped out if
 * RLIMIT_MEMLOCK has room for it. Whole pages, used as they are touched. Ends
 * the process when there is none.
 */
void *mem_secret_map(size_t size);
/** Accepts NULL. */
void mem_secret_unmap(void *ptr, size_t size);

#endif
