/*
 * ring.h - byte ring in shared memory between one writer and one reader.
 *
 * Positions are 64-bit byte counts that never wrap; a record lies in one
 * piece (a filler record closes the end of the data area). Payload and header
 * are written first, the head is published last (release), so a writer killed
 * half-way leaves nothing behind. The reader keeps its own cursor and gives
 * space back when it says so: the keeper does that after its commit.
 *
 * What comes out is untrusted: head, lengths, type and a checksum over
 * position, header and payload are checked; a ring that fails is ERR_CORRUPT.
 * Generations are handed out, whether they are current is the caller's
 * question. No value found in shared memory makes reader or writer touch
 * anything outside the ring.
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Payload bytes of one record, in rings of at least RING_SIZE_MAX_RECORD. A
 * record never takes more than half of the data area: then an empty ring takes
 * it at any position, even when almost as much is lost to the filler.
 */
#define RING_RECORD_HEADER   24
#define RING_RECORD_MAX      (256 * 1024 - RING_RECORD_HEADER)
#define RING_SIZE_MAX_RECORD (512 * 1024)
#define RING_SIZE_MIN        128

struct ring_ends; /* in the segment, see layout.h */

/* Where a ring lies: private memory, made before the fork, then constant. */
struct ring {
	struct ring_ends *ends; /* shared */
	uint8_t *data;          /* shared */
	uint64_t size;          /* bytes of data, power of two */
};

struct ring_record {
	uint16_t type;       /* enum record_type */
	uint32_t from_gen;   /* generation of the writing process */
	uint32_t to_gen;     /* generation it was meant for */
	uint32_t len;        /* bytes of data */
	const uint8_t *data; /* in the ring, 8-byte aligned; to ring_release */
	uint64_t position;   /* of the record */
};

struct ring_writer {
	const struct ring *ring;
	uint64_t head; /* next byte to write; not yet published */
	uint32_t own_gen;
	uint32_t peer_gen; /* of the records put from now on; bus.h */
	/* private to ring.c */
	uint64_t published;    /* what the shared head says */
	uint64_t tail;         /* last one seen; saves touching that line */
	uint64_t begun;        /* position given by ring_put_begin */
	uint64_t begun_bytes;  /* header and payload asked for; 0: none begun */
	uint64_t looked_head;  /* head at the last ring_trim */
	uint64_t trimmed_head; /* head when pages were given back last */
};

struct ring_reader {
	const struct ring *ring;
	uint64_t cursor; /* next byte to read; not yet released */
	/* private to ring.c */
	uint64_t head;         /* last one seen, checked */
	uint64_t released;     /* what the shared tail says */
	uint64_t refused_head; /* nonsense that ring_skip_all met */
	bool has_refused;
};

/**
 * Describe an empty ring; touches no shared memory.
 *
 * @param ends  zeroed shared memory
 * @param data  shared memory, 8-byte aligned, contents do not matter
 * @param size  bytes of data, a power of two >= RING_SIZE_MIN
 */
void ring_format(
    struct ring *ring, struct ring_ends *ends, void *data, size_t size);
/** Largest payload this ring takes (RING_RECORD_MAX or what half holds). */
size_t ring_record_max(const struct ring *ring);

/**
 * Go on where the ring says (published head). A head that cannot be is set to
 * the tail and counted: what was in the ring is lost.
 */
void ring_writer_attach(struct ring_writer *writer, const struct ring *ring,
    uint32_t own_gen, uint32_t peer_gen);
/**
 * Room for a payload; write it, then call ring_put_end. A begin without an end
 * is forgotten at the next begin. Many records may be put before a publish.
 *
 * @return  8-byte aligned memory, or NULL: no room (or len larger than
 *          ring_record_max)
 */
void *ring_put_begin(struct ring_writer *writer, size_t len);
/**
 * @param type  not 0
 * @param len   at most what ring_put_begin was asked for
 */
void ring_put_end(struct ring_writer *writer, uint16_t type, size_t len);
/** Begin, copy, end. @return 0 or ERR_FULL (ERR_TOO_LARGE: never fits) */
NODISCARD int ring_put(
    struct ring_writer *writer, uint16_t type, const void *data, size_t len);
/** Let the reader see everything up to writer->head. @return anything new? */
bool ring_publish(struct ring_writer *writer);
/**
 * Take back what was not published.
 *
 * @param position  a writer->head of before; not below the published head
 */
void ring_rewind(struct ring_writer *writer, uint64_t position);
/**
 * Give the pages of the free part back to the system: what has been read and
 * released. Only the writer may, nobody else looks at that part. For now and
 * then, outside of a begin and end; does nothing when little was written.
 */
void ring_trim(struct ring_writer *writer);
/** Largest payload that could be put now, 0 if none. */
size_t ring_room(const struct ring_writer *writer);

/**
 * Go on at the released tail. A tail that cannot be is set to the head and
 * counted: what was in the ring is lost.
 */
void ring_reader_attach(struct ring_reader *reader, const struct ring *ring);
/**
 * Next published record; advances the cursor.
 * @return 0, ERR_AGAIN (none), ERR_CORRUPT (cursor not moved; see
 * ring_skip_all)
 */
NODISCARD int ring_next(struct ring_reader *reader, struct ring_record *out);
/** Give everything before the cursor back to the writer. */
void ring_release(struct ring_reader *reader);
/**
 * After ERR_CORRUPT: continue at the published head; release as usual. If it
 * is the head that cannot be, nothing moves and the ring counts as empty until
 * the writer publishes another (its next one, or its successor's first).
 *
 * @return  bytes skipped
 */
uint64_t ring_skip_all(struct ring_reader *reader);
bool ring_is_empty(const struct ring_reader *reader);
/** Published head and released tail, for set-up and the successor of a reader.
 */
uint64_t ring_head(const struct ring *ring);
uint64_t ring_tail(const struct ring *ring);
/**
 * The successor of the keeper goes on at a position known from the store. It
 * is taken if it lies between tail and head and whole records lead there from
 * the tail; else the reader stays at the tail: rather a record twice, which
 * the store's own check for duplicates catches, than one lost.
 *
 * @return  was it taken?
 */
bool ring_reader_seek(struct ring_reader *reader, uint64_t position);
/**
 * The successor of the keeper publishes what its predecessor committed but did
 * not publish any more: writer->head becomes the position if it is not below
 * the published head and whole records lead there from it; else it stays at
 * the published head. ring_publish makes it visible.
 *
 * @return  was it taken?
 */
bool ring_writer_seek(struct ring_writer *writer, uint64_t position);
/**
 * Overwrite the payload of a record just read and not yet released (passwords)
 * with zeros. The record stays a sound one, so that a successor of this reader
 * finds the records behind it; it must refuse the zeros as contents.
 */
void ring_wipe(const struct ring_record *record);

#endif
