/*
 * ring.h - byte ring in shared memory between one writer and one reader.
 *
 * Positions are 64-bit byte counts that never wrap; a record lies in one
 * piece (a filler record closes the end of the ring). Payload and header are
 * written first, the head is published last (release), so a writer killed
 * half-way leaves nothing behind. The reader keeps its own cursor and gives
 * space back when it says so: the keeper does that after its commit.
 *
 * What comes out is untrusted: lengths, type, generations and a checksum over
 * position, header and payload are checked; a ring that fails is ERR_CORRUPT.
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define RING_RECORD_MAX (256 * 1024) /* payload bytes */

struct ring;      /* in the segment, see layout.h */

struct ring_record {
	uint16_t type;      /* enum record_type */
	uint32_t from_gen;  /* generation of the writing process */
	uint32_t to_gen;    /* generation it was meant for */
	uint32_t len;       /* bytes of data */
	const uint8_t *data;/* in the ring, 8-byte aligned; until ring_release */
	uint64_t position;  /* of the record */
};

struct ring_writer {
	struct ring *ring;
	uint64_t head;      /* next byte to write; not yet published */
	uint32_t own_gen;
	uint32_t peer_gen;  /* set by the owner when the peer is replaced */
};

struct ring_reader {
	struct ring *ring;
	uint64_t cursor;    /* next byte to read; not yet released */
};

/** Bytes of shared memory for a ring with size bytes of data (power of two). */
size_t ring_footprint(size_t size);
/** Make an empty ring in zeroed memory, before any process uses it. */
struct ring *ring_format(void *mem, size_t size);

/** Go on where the ring says (published head). */
void ring_writer_attach(struct ring_writer *writer, struct ring *ring,
    uint32_t own_gen, uint32_t peer_gen);
/**
 * Room for a payload; write it, then call ring_put_end.
 *
 * @return  8-byte aligned memory, or NULL: no room (or len > RING_RECORD_MAX)
 */
void *ring_put_begin(struct ring_writer *writer, size_t len);
void ring_put_end(struct ring_writer *writer, uint16_t type, size_t len);
/** Begin, copy, end. @return 0 or ERR_FULL */
NODISCARD int ring_put(struct ring_writer *writer, uint16_t type,
    const void *data, size_t len);
/** Let the reader see everything up to writer->head. @return anything new? */
bool ring_publish(struct ring_writer *writer);
/** Take back what was not published: head := position (>= published head). */
void ring_rewind(struct ring_writer *writer, uint64_t position);
/** Bytes that could still be put. */
size_t ring_room(const struct ring_writer *writer);

/** Go on at the released tail. */
void ring_reader_attach(struct ring_reader *reader, struct ring *ring);
/**
 * Next published record; advances the cursor.
 * @return 0, ERR_AGAIN (none), ERR_CORRUPT (cursor not moved; see ring_skip_all)
 */
NODISCARD int ring_next(struct ring_reader *reader, struct ring_record *out);
/** Give everything before the cursor back to the writer. */
void ring_release(struct ring_reader *reader);
/** After ERR_CORRUPT: continue at the published head. @return bytes skipped */
uint64_t ring_skip_all(struct ring_reader *reader);
bool ring_is_empty(const struct ring_reader *reader);
/** Published head and released tail, for set-up and the successor of a reader. */
uint64_t ring_head(const struct ring *ring);
uint64_t ring_tail(const struct ring *ring);
/** The successor of the keeper: position known from the store. */
void ring_reader_seek(struct ring_reader *reader, uint64_t position);
void ring_writer_seek(struct ring_writer *writer, uint64_t position);
/** Overwrite the payload of a record just read (passwords). */
void ring_wipe(const struct ring_record *record);

#endif
