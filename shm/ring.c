/*
 * ring.c - byte ring between two processes.
 *
 * Role:    carries records from one process to one other, in order.
 * Process: one writer, one reader; ends and data lie in the shared segment.
 * Blocks:  never. Full is an answer, not a wait.
 * Trust:   neither side believes what it finds: positions are masked, lengths
 *          checked against what is published and against the end of the area
 *          before anything is read; a torn or mad peer wastes a ring at most.
 * See:     bus.c (who uses it), t/unit/ring.c (every wrap position, kills).
 *
 * Memory order: the writer stores the head with release after the records, the
 * reader loads it with acquire; the reader stores the tail with release after
 * its last look at the records, the writer loads it with acquire before it
 * overwrites them.
 */
#include "config.h"

#include "shm/ring.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#define XXH_FORCE_MEMORY_ACCESS                                                \
	0 /* memcpy: 0.8.1 breaks aliasing otherwise                           \
	   */
#include <xxhash.h>

#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/layout.h"

#define HEADER_BYTES   ((uint64_t)sizeof(struct ring_record_header))
#define HEADER_WORDS   (sizeof(struct ring_record_header) / 8)
#define HASHED_FROM    offsetof(struct ring_record_header, len)
#define POSITION_PRIME 0x9e3779b97f4a7c15ULL /* odd: distinct products */
#define TYPE_FILLER    0
#define PAGE_BYTES     4096ULL
#define TRIM_BYTES     (64 * 1024) /* less is given back when it is quiet */

typedef uint64_t __attribute__((may_alias)) shared_word;

_Static_assert(sizeof(struct ring_record_header) == RING_RECORD_HEADER,
    "ring.h knows the header's size");
_Static_assert(
    2 * (RING_RECORD_MAX + RING_RECORD_HEADER) <= RING_SIZE_MAX_RECORD,
    "the largest record fits at every position of an empty ring");
_Static_assert(HASHED_FROM == 8, "the checksum comes first, unhashed");

static uint64_t
record_bytes(uint64_t len)
{
	return (HEADER_BYTES + len + 7) & ~(uint64_t)7;
}

static bool
is_aligned(uint64_t position)
{
	return (position & 7) == 0;
}

static uint8_t *
ring_at(const struct ring *ring, uint64_t position)
{
	return ring->data + (position & (ring->size - 1));
}

/* Bytes from the position to the end of the data area, never 0. */
static uint64_t
lap_rest(const struct ring *ring, uint64_t position)
{
	return ring->size - (position & (ring->size - 1));
}

static uint64_t
head_load(const struct ring *ring)
{
	return atomic_load_explicit(&ring->ends->head, memory_order_acquire);
}

static uint64_t
tail_load(const struct ring *ring)
{
	return atomic_load_explicit(&ring->ends->tail, memory_order_acquire);
}

/*
 * One pass over header and payload, then the position: the same bytes one lap
 * later have another checksum, so a stale record cannot pass for a new one.
 */
static uint64_t
record_checksum(const uint8_t *record, uint32_t len, uint64_t position)
{
	uint64_t hash =
	    XXH3_64bits(record + HASHED_FROM, HEADER_BYTES - HASHED_FROM + len);

	return hash ^ (position * POSITION_PRIME);
}

static void
header_store(
    struct ring_writer *writer, uint64_t position, uint16_t type, uint32_t len)
{
	uint8_t *record = ring_at(writer->ring, position);
	struct ring_record_header header = {
	    .len = len,
	    .type = type,
	    .from_gen = writer->own_gen,
	    .to_gen = writer->peer_gen,
	};

	memcpy(record, &header, sizeof(header));
	header.checksum = record_checksum(record, len, position);
	memcpy(record, &header.checksum, sizeof(header.checksum));
}

/* Each word is fetched once: what was checked is what is used. */
static struct ring_record_header
header_load(const uint8_t *record)
{
	const shared_word *shared = (const void *)record;
	uint64_t words[HEADER_WORDS];
	struct ring_record_header header;

	for (size_t i = 0; i < HEADER_WORDS; i++)
		words[i] = __atomic_load_n(&shared[i], __ATOMIC_RELAXED);
	memcpy(&header, words, sizeof(header));
	return header;
}

/*
 * What lies at a position: a record, a filler, or a gap too short for a filler
 * (both TYPE_FILLER). end is a position the caller has checked to be at most
 * one size ahead; nothing behind it is looked at.
 */
static int
item_read(const struct ring *ring, uint64_t position, uint64_t end,
    struct ring_record_header *header_out, uint64_t *next_out)
{
	uint64_t visible = end - position;
	uint64_t rest = lap_rest(ring, position);
	const uint8_t *record = ring_at(ring, position);
	struct ring_record_header header = {0};
	uint64_t bytes = rest;

	if (rest < HEADER_BYTES) {
		*header_out = header;
		*next_out = position + rest;
		return rest <= visible ? 0 : ERR_CORRUPT;
	}
	if (visible < HEADER_BYTES)
		return ERR_CORRUPT;
	header = header_load(record);
	if (header.len > ring_record_max(ring) || header.reserved != 0)
		return ERR_CORRUPT;
	if (header.type != TYPE_FILLER)
		bytes = record_bytes(header.len);
	else if (header.len != 0 || rest > ring->size / 2)
		return ERR_CORRUPT; /* records of that size are never moved on
				     */
	if (bytes > visible || bytes > rest)
		return ERR_CORRUPT;
	if (header.checksum != record_checksum(record, header.len, position))
		return ERR_CORRUPT;
	*header_out = header;
	*next_out = position + bytes;
	return 0;
}

/* Whether whole records lead from one position exactly to the other. */
static bool
is_chain(const struct ring *ring, uint64_t from, uint64_t to)
{
	struct ring_record_header header;

	if (!is_aligned(from) || !is_aligned(to) || to - from > ring->size)
		return false;
	while (from != to) {
		if (item_read(ring, from, to, &header, &from) != 0)
			return false;
	}
	return true;
}

void
ring_format(struct ring *ring, struct ring_ends *ends, void *data, size_t size)
{
	if (size < RING_SIZE_MIN || (size & (size - 1)) != 0 ||
	    !is_aligned((uintptr_t)data))
		panic("ring of %zu bytes", size);
	ring->ends = ends;
	ring->data = data;
	ring->size = size;
}

size_t
ring_record_max(const struct ring *ring)
{
	uint64_t half = ring->size / 2 - HEADER_BYTES;

	return half < RING_RECORD_MAX ? half : RING_RECORD_MAX;
}

uint64_t
ring_head(const struct ring *ring)
{
	return head_load(ring);
}

uint64_t
ring_tail(const struct ring *ring)
{
	return tail_load(ring);
}

void
ring_writer_attach(struct ring_writer *writer, const struct ring *ring,
    uint32_t own_gen, uint32_t peer_gen)
{
	uint64_t head = head_load(ring);
	uint64_t tail = tail_load(ring);

	if (!is_aligned(head) || head - tail > ring->size) {
		head = (tail + 7) & ~(uint64_t)7;
		atomic_store_explicit(
		    &ring->ends->head, head, memory_order_release);
		COUNT(ring_corrupt);
	}
	*writer = (struct ring_writer){
	    .ring = ring,
	    .head = head,
	    .own_gen = own_gen,
	    .peer_gen = peer_gen,
	    .published = head,
	    .tail = tail,
	    .looked_head = head,
	    .trimmed_head = tail, /* a predecessor's pages */
	};
}

/* Where a record of that many bytes begins: here, or after the filler. */
static uint64_t
record_start(const struct ring_writer *writer, uint64_t bytes)
{
	uint64_t rest = lap_rest(writer->ring, writer->head);

	return writer->head + (bytes <= rest ? 0 : rest);
}

/*
 * The reader's tail if it can be one, else as if nothing were released: the
 * reader's next release puts it right.
 */
static uint64_t
writer_tail(const struct ring_writer *writer)
{
	uint64_t tail = tail_load(writer->ring);

	if (writer->published - tail > writer->ring->size ||
	    writer->head - tail > writer->ring->size)
		return writer->tail;
	return tail;
}

static bool
has_room_to(struct ring_writer *writer, uint64_t end)
{
	if (end - writer->tail <= writer->ring->size)
		return true;
	writer->tail = writer_tail(writer);
	return end - writer->tail <= writer->ring->size;
}

void *
ring_put_begin(struct ring_writer *writer, size_t len)
{
	uint64_t bytes;
	uint64_t start;

	writer->begun_bytes = 0;
	if (len > ring_record_max(writer->ring))
		return NULL;
	bytes = record_bytes(len);
	start = record_start(writer, bytes);
	if (!has_room_to(writer, start + bytes))
		return NULL;
	writer->begun = start;
	writer->begun_bytes = HEADER_BYTES + len;
	return ring_at(writer->ring, start) + HEADER_BYTES;
}

void
ring_put_end(struct ring_writer *writer, uint16_t type, size_t len)
{
	uint64_t rest = lap_rest(writer->ring, writer->head);

	if (type == TYPE_FILLER || writer->begun_bytes == 0 ||
	    len > writer->begun_bytes - HEADER_BYTES)
		panic("record of type %u, %zu bytes, not begun so", type, len);
	if (writer->begun != writer->head && rest >= HEADER_BYTES)
		header_store(writer, writer->head, TYPE_FILLER, 0);
	header_store(writer, writer->begun, type, (uint32_t)len);
	writer->head = writer->begun + record_bytes(len);
	writer->begun_bytes = 0;
}

int
ring_put(
    struct ring_writer *writer, uint16_t type, const void *data, size_t len)
{
	void *room = ring_put_begin(writer, len);

	if (room == NULL) {
		return len > ring_record_max(writer->ring) ? ERR_TOO_LARGE
							   : ERR_FULL;
	}
	if (len > 0)
		memcpy(room, data, len);
	ring_put_end(writer, type, len);
	return 0;
}

bool
ring_publish(struct ring_writer *writer)
{
	if (writer->head == writer->published)
		return false;
	atomic_store_explicit(
	    &writer->ring->ends->head, writer->head, memory_order_release);
	writer->published = writer->head;
	return true;
}

void
ring_rewind(struct ring_writer *writer, uint64_t position)
{
	if (!is_aligned(position) ||
	    position - writer->published > writer->head - writer->published)
		panic("rewind to %llu", (unsigned long long)position);
	writer->head = position;
	writer->begun_bytes = 0;
}

size_t
ring_room(const struct ring_writer *writer)
{
	uint64_t tail = writer_tail(writer);
	uint64_t free_bytes = writer->ring->size - (writer->head - tail);
	uint64_t rest = lap_rest(writer->ring, writer->head);
	uint64_t here = free_bytes < rest ? free_bytes : rest;
	uint64_t behind = free_bytes > rest ? free_bytes - rest : 0;
	uint64_t best = here > behind ? here : behind;
	uint64_t max = ring_record_max(writer->ring);

	if (best < HEADER_BYTES)
		return 0;
	best -= HEADER_BYTES;
	return best < max ? best : max;
}

/* Whole pages only, and only in a segment: elsewhere madvise refuses. */
static void
pages_give_back(uint8_t *from, uint64_t len)
{
	/* Best effort: without it the pages stay as they are. */
	(void)madvise(from, len, MADV_REMOVE);
}

void
ring_trim(struct ring_writer *writer)
{
	const struct ring *ring = writer->ring;
	uint64_t written = writer->head - writer->trimmed_head;
	bool is_quiet = writer->head == writer->looked_head;
	uint64_t from = (writer->head + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	uint64_t to = (writer_tail(writer) + ring->size) & ~(PAGE_BYTES - 1);
	uint64_t rest = lap_rest(ring, from);

	writer->begun_bytes = 0;
	writer->looked_head = writer->head;
	if (written == 0 || (written < TRIM_BYTES && !is_quiet) ||
	    ring->size < PAGE_BYTES || from >= to)
		return;
	writer->trimmed_head = writer->head;
	if (to - from <= rest) {
		pages_give_back(ring_at(ring, from), to - from);
		return;
	}
	pages_give_back(ring_at(ring, from), rest);
	pages_give_back(ring->data, to - from - rest);
}

bool
ring_writer_seek(struct ring_writer *writer, uint64_t position)
{
	writer->begun_bytes = 0;
	writer->head = writer->published;
	if (position - writer_tail(writer) > writer->ring->size ||
	    !is_chain(writer->ring, writer->published, position))
		return false;
	writer->head = position;
	return true;
}

void
ring_reader_attach(struct ring_reader *reader, const struct ring *ring)
{
	uint64_t tail = tail_load(ring);
	uint64_t head = head_load(ring);

	if (!is_aligned(tail) ||
	    (is_aligned(head) && head - tail > ring->size)) {
		tail = (head + 7) & ~(uint64_t)7;
		atomic_store_explicit(
		    &ring->ends->tail, tail, memory_order_release);
		COUNT(ring_corrupt);
	}
	*reader = (struct ring_reader){
	    .ring = ring,
	    .cursor = tail,
	    .head = tail,
	    .released = tail,
	};
}

/* Could this be the published head: whole words, not behind the cursor, not
 * further than the writer may have written. */
static bool
is_head(const struct ring_reader *reader, uint64_t head)
{
	uint64_t unreleased = head - reader->released;

	return is_aligned(head) && unreleased <= reader->ring->size &&
	       unreleased >= reader->cursor - reader->released;
}

static bool
is_refused(const struct ring_reader *reader, uint64_t head)
{
	return reader->has_refused && head == reader->refused_head;
}

static int
reader_look(struct ring_reader *reader)
{
	uint64_t head = head_load(reader->ring);

	if (head == reader->cursor || is_refused(reader, head))
		return ERR_AGAIN;
	if (!is_head(reader, head))
		return ERR_CORRUPT;
	reader->head = head;
	reader->has_refused = false;
	return 0;
}

int
ring_next(struct ring_reader *reader, struct ring_record *out)
{
	struct ring_record_header header;
	uint64_t position;
	uint64_t next;
	int rc;

	do {
		if (reader->cursor == reader->head) {
			rc = reader_look(reader);
			if (rc != 0)
				return rc;
		}
		position = reader->cursor;
		rc = item_read(
		    reader->ring, position, reader->head, &header, &next);
		if (rc != 0)
			return rc;
		reader->cursor = next;
	} while (header.type == TYPE_FILLER);
	*out = (struct ring_record){
	    .type = header.type,
	    .from_gen = header.from_gen,
	    .to_gen = header.to_gen,
	    .len = header.len,
	    .data = ring_at(reader->ring, position) + HEADER_BYTES,
	    .position = position,
	};
	return 0;
}

void
ring_release(struct ring_reader *reader)
{
	atomic_store_explicit(
	    &reader->ring->ends->tail, reader->cursor, memory_order_release);
	reader->released = reader->cursor;
}

/*
 * A head between tail and cursor is taken too: a writer that was attached to a
 * ring with a nonsense head starts there.
 */
uint64_t
ring_skip_all(struct ring_reader *reader)
{
	uint64_t head = head_load(reader->ring);
	uint64_t skipped;

	if (!is_aligned(head) || head - reader->released > reader->ring->size) {
		reader->has_refused = true;
		reader->refused_head = head;
		reader->head = reader->cursor;
		return 0;
	}
	skipped = is_head(reader, head) ? head - reader->cursor : 0;
	reader->cursor = head;
	reader->head = head;
	reader->has_refused = false;
	return skipped;
}

bool
ring_is_empty(const struct ring_reader *reader)
{
	uint64_t head;

	if (reader->head != reader->cursor)
		return false;
	head = head_load(reader->ring);
	return head == reader->cursor || is_refused(reader, head);
}

bool
ring_reader_seek(struct ring_reader *reader, uint64_t position)
{
	uint64_t head = head_load(reader->ring);

	reader->cursor = reader->released;
	reader->head = reader->released;
	if (!is_head(reader, head) ||
	    position - reader->released > head - reader->released ||
	    !is_chain(reader->ring, reader->released, position))
		return false;
	reader->cursor = position;
	reader->head = position;
	return true;
}

void
ring_wipe(const struct ring_record *record)
{
	uint8_t *start = (uint8_t *)record->data - HEADER_BYTES;
	uint64_t checksum;

	mem_wipe(start + HEADER_BYTES, record->len);
	checksum = record_checksum(start, record->len, record->position);
	memcpy(start, &checksum, sizeof(checksum));
}
