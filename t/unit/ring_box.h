/*
 * ring_box.h - a ring for tests, in memory of its exact size (so that a
 * sanitizer sees each byte beyond), its ends wherever a test wants them.
 */
#ifndef T_UNIT_RING_BOX_H
#define T_UNIT_RING_BOX_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "shm/layout.h"
#include "shm/ring.h"

struct ring_box {
	struct ring ring;
	struct ring_writer writer;
	struct ring_reader reader;
};

static inline void
box_attach(struct ring_box *box)
{
	ring_writer_attach(&box->writer, &box->ring, 11, 22);
	ring_reader_attach(&box->reader, &box->ring);
}

/* Empty, both ends at a position, both sides freshly attached. */
static inline void
box_place(struct ring_box *box, uint64_t position)
{
	atomic_store(&box->ring.ends->head, position);
	atomic_store(&box->ring.ends->tail, position);
	box_attach(box);
}

static inline void
box_init(struct ring_box *box, size_t size)
{
	void *ends = NULL;

	if (posix_memalign(&ends, CACHE_LINE, sizeof(struct ring_ends)) != 0)
		abort();
	memset(ends, 0, sizeof(struct ring_ends));
	memset(box, 0, sizeof(*box));
	ring_format(&box->ring, ends, xcalloc(1, size), size);
	box_attach(box);
}

static inline void
box_fini(struct ring_box *box)
{
	free(box->ring.ends);
	free(box->ring.data);
}

/* xorshift64: the same numbers in every run. */
static inline uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Payload that tells its number and length at every byte. */
static inline void
payload_fill(uint8_t *data, size_t len, uint64_t number)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(number * 31 + len * 7 + i * 13);
}

static inline bool
payload_is(const uint8_t *data, size_t len, uint64_t number)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != (uint8_t)(number * 31 + len * 7 + i * 13))
			return false;
	}
	return true;
}

#endif
