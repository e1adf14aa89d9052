/*
 * tls_memory.c - where OpenSSL puts the large pieces of a handshake.
 *
 * Role:    gives blocks of 2 to 20 KB from places of their own. In the heap
 *          they would lie between what connections keep for hours, and the
 *          holes they leave are too small for the next handshake: 9 KB of
 *          nothing for each of 5,000 idle connections.
 * Process: all of parleyd, threads included; handshakes are the workers'.
 * Blocks:  on a mutex held for a few instructions.
 * Trust:   none needed; sizes are OpenSSL's. What does not fit goes to malloc.
 * See:     CRYPTO_set_mem_functions(3), doc/decisions/007-tls-records.md.
 */
#include "net/tls_memory.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <openssl/crypto.h>

#include "base/mem.h"

#define SMALLEST    2048 /* what is smaller fits any hole */
#define BLOCKS      4096 /* of each size; address space, not memory */
#define KEEP_BLOCKS 64   /* free ones whose memory is kept for the next */
#define WIPE_MAX    8192 /* larger ones are records */
#define CLASS_COUNT 3

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

struct block_class {
	size_t size;   /* whole pages */
	char *start;   /* NULL: none */
	uint32_t used; /* ever given: those behind are untouched */
	uint32_t free_count;
	uint16_t free_list[BLOCKS]; /* a stack */
};

static struct {
	pthread_mutex_t mutex;
	struct block_class classes[CLASS_COUNT];
} memory = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    /* struct ssl_st and BIO_f_buffer; then records with their headers */
    .classes = {{.size = 4096}, {.size = 8192}, {.size = 20480}},
};

static struct block_class *
class_for(size_t len)
{
	if (len < SMALLEST)
		return NULL;
	for (int i = 0; i < CLASS_COUNT; i++) {
		if (len <= memory.classes[i].size)
			return &memory.classes[i];
	}
	return NULL;
}

static struct block_class *
class_of(const void *ptr)
{
	for (int i = 0; i < CLASS_COUNT; i++) {
		struct block_class *class = &memory.classes[i];
		uintptr_t start = (uintptr_t) class->start;

		if (class->start != NULL && (uintptr_t)ptr >= start &&
		    (uintptr_t)ptr - start < class->size * BLOCKS)
			return class;
	}
	return NULL;
}

/* @return NULL: all are in use */
static void *
take_block(struct block_class *class)
{
	void *block = NULL;

	pthread_mutex_lock(&memory.mutex);
	if (class->free_count > 0)
		block = class->start +
			class->free_list[--class->free_count] * class->size;
	else if (class->start != NULL && class->used < BLOCKS)
		block = class->start + class->used++ * class->size;
	pthread_mutex_unlock(&memory.mutex);
	return block;
}

static void
give_block(struct block_class *class, void *block)
{
	size_t number = (size_t)((char *)block - class->start) / class->size;

	/* an SSL holds the secrets of its handshake, and SSL_free leaves them
	 */
	if (class->size <= WIPE_MAX)
		mem_wipe(block, class->size);
	pthread_mutex_lock(&memory.mutex);
	if (class->free_count >= KEEP_BLOCKS)
		(void)madvise(block, class->size, MADV_DONTNEED);
	class->free_list[class->free_count++] = (uint16_t)number;
	pthread_mutex_unlock(&memory.mutex);
}

static void *
memory_malloc(size_t len, const char *file, int line)
{
	struct block_class *class = class_for(len);
	void *ptr = class == NULL ? NULL : take_block(class);

	(void)file;
	(void)line;
	return ptr != NULL || len == 0 ? ptr : malloc(len);
}

static void
memory_free(void *ptr, const char *file, int line)
{
	struct block_class *class = ptr == NULL ? NULL : class_of(ptr);

	(void)file;
	(void)line;
	if (class != NULL)
		give_block(class, ptr);
	else
		free(ptr);
}

static void *
memory_realloc(void *ptr, size_t len, const char *file, int line)
{
	struct block_class *class = ptr == NULL ? NULL : class_of(ptr);
	void *next;

	if (ptr == NULL)
		return memory_malloc(len, file, line);
	if (len == 0) {
		memory_free(ptr, file, line);
		return NULL;
	}
	if (class == NULL)
		return realloc(ptr, len);
	if (len <= class->size)
		return ptr;
	next = memory_malloc(len, file, line);
	if (next == NULL)
		return NULL;
	memcpy(next, ptr, class->size);
	memory_free(ptr, file, line);
	return next;
}

void
tls_memory_init(void)
{
	/* a sanitizer has to see every piece by itself */
	if (IS_SANITIZED || CRYPTO_set_mem_functions(memory_malloc,
				memory_realloc, memory_free) != 1)
		return;
	for (int i = 0; i < CLASS_COUNT; i++) {
		struct block_class *class = &memory.classes[i];
		void *start =
		    mmap(NULL, class->size * BLOCKS, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (start == MAP_FAILED)
			continue;
		/* of a huge page one block would be used */
		(void)madvise(start, class->size * BLOCKS, MADV_NOHUGEPAGE);
		(void)madvise(start, class->size * BLOCKS, MADV_DONTDUMP);
		class->start = start;
	}
}
