/*
 * mem.c - allocation that succeeds or ends the process.
 *
 * Role:    the one place that decides what running out of memory means.
 * Process: all.
 * Blocks:  never.
 * Trust:   sizes are ours; those of peers go through mem_try after a cap.
 * See:     buf.c, log.c (reports without allocating).
 */
#include "config.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

void *
xcalloc(size_t count, size_t size)
{
	void *ptr;

	/* calloc(0) may be NULL and that would look like a failure. */
	if (count == 0 || size == 0)
		count = size = 1;
	ptr = calloc(count, size);
	if (ptr == NULL)
		fatal("out of memory: %zu elements of %zu bytes", count, size);
	return ptr;
}

void *
xrealloc(void *ptr, size_t size)
{
	void *grown;

	grown = realloc(ptr, size == 0 ? 1 : size);
	if (grown == NULL)
		fatal("out of memory: %zu bytes", size);
	return grown;
}

char *
xstrdup(const char *text)
{
	return xstrndup(text, strlen(text));
}

char *
xstrndup(const char *text, size_t len)
{
	size_t used = strnlen(text, len);
	char *copy = xcalloc(used + 1, 1);

	memcpy(copy, text, used);
	return copy;
}

void *
mem_try(size_t size)
{
	return malloc(size == 0 ? 1 : size);
}

void
mem_wipe(void *ptr, size_t len)
{
	if (ptr != NULL && len > 0)
		explicit_bzero(ptr, len);
}

void *
mem_secret_map(size_t size)
{
	void *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ptr == MAP_FAILED)
		fatal("out of memory: %zu bytes for secrets", size);
	(void)madvise(ptr, size, MADV_DONTDUMP);
	(void)mlock2(ptr, size, MLOCK_ONFAULT);
	return ptr;
}

void
mem_secret_unmap(void *ptr, size_t size)
{
	if (ptr != NULL)
		munmap(ptr, size);
}
