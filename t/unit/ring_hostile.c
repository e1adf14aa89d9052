/*
 * ring_hostile.c - unit test of shm/ring.c: a peer gone mad. Whatever lies in
 * shared memory, the answer is ERR_CORRUPT and nothing beyond the ring is
 * touched (run under a sanitizer, which sees it).
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "t/unit/ring_box.h"

#define SMALL 512

/* From head, each published alone: 40 bytes, then one behind a filler. */
static void
box_two_records(struct ring_box *box)
{
	uint8_t data[150];

	box_place(box, SMALL - 128);
	payload_fill(data, 40, 1);
	assert_int_equal(ring_put(&box->writer, 7, data, 40), 0);
	payload_fill(data, 150, 2);
	assert_int_equal(ring_put(&box->writer, 7, data, 150), 0);
	assert_true(ring_publish(&box->writer));
}

/* @return records read before the first answer that is not 0 */
static int
read_all(struct ring_box *box, int *rc_out)
{
	struct ring_record record;
	int count = 0;

	while ((*rc_out = ring_next(&box->reader, &record)) == 0) {
		assert_true(record.len <= ring_record_max(&box->ring));
		assert_true(record.data >= box->ring.data + RING_RECORD_HEADER);
		assert_true(record.data + record.len <=
			    box->ring.data + box->ring.size);
		assert_true(++count <= SMALL / RING_RECORD_HEADER);
	}
	return count;
}

/* After any damage the ring works again once the nonsense is skipped. */
static void
check_recovery(struct ring_box *box)
{
	struct ring_record record;

	ring_skip_all(&box->reader);
	assert_true(ring_is_empty(&box->reader));
	assert_int_equal(ring_next(&box->reader, &record), ERR_AGAIN);
	ring_release(&box->reader);
	assert_int_equal(ring_put(&box->writer, 9, "again", 5), 0);
	assert_true(ring_publish(&box->writer));
	assert_int_equal(ring_next(&box->reader, &record), 0);
	assert_int_equal(record.type, 9);
	assert_memory_equal(record.data, "again", 5);
	ring_release(&box->reader);
}

static void
every_flipped_bit_is_seen(void **state)
{
	/* records, filler header, second record: offset, bytes, whole before */
	static const struct {
		size_t offset;
		size_t bytes;
		int good_before;
	} areas[] = {
	    {SMALL - 128, RING_RECORD_HEADER + 40, 0},
	    {SMALL - 64, RING_RECORD_HEADER, 1},
	    {0, RING_RECORD_HEADER + 150, 1},
	};
	struct ring_box box;
	int rc;

	(void)state;
	box_init(&box, SMALL);
	for (size_t a = 0; a < 3; a++) {
		for (size_t bit = 0; bit < areas[a].bytes * 8; bit++) {
			box_two_records(&box);
			box.ring.data[areas[a].offset + bit / 8] ^=
			    (uint8_t)(1 << bit % 8);
			assert_int_equal(
			    read_all(&box, &rc), areas[a].good_before);
			assert_int_equal(rc, ERR_CORRUPT);
			check_recovery(&box);
		}
	}
	box_two_records(&box);
	assert_int_equal(read_all(&box, &rc), 2);
	assert_int_equal(rc, ERR_AGAIN);
	box_fini(&box);
}

/* A header with the right checksum, so that only the other checks remain. */
static void
forge(struct ring_box *box, uint64_t position, uint16_t type, uint32_t len)
{
	uint64_t offset = position % SMALL;
	uint8_t *record = box->ring.data + offset;
	struct ring_record_header header = {
	    .len = len, .type = type, .from_gen = 11, .to_gen = 22};
	size_t hashed = RING_RECORD_HEADER - 8 + (size_t)len;

	memcpy(record, &header, sizeof(header));
	if (hashed > SMALL - offset - 8)
		hashed = SMALL - offset - 8;
	header.checksum = XXH3_64bits(record + 8, hashed) ^
			  (position * 0x9e3779b97f4a7c15ULL);
	memcpy(record, &header, sizeof(header));
}

static void
forged_lengths_are_refused(void **state)
{
	/* position of both ends, what is published, the forged header */
	static const struct {
		uint64_t at;
		uint64_t published;
		uint32_t len;
		uint16_t type;
		int rc;
	} rows[] = {
	    {0, 64, 40, 1, 0},                    /* the sound one */
	    {0, 64, 41, 1, ERR_CORRUPT},          /* beyond the head */
	    {0, 64, 48, 1, ERR_CORRUPT},          /* beyond the head */
	    {0, 16, 0, 1, ERR_CORRUPT},           /* half a header */
	    {0, 8, 0, 1, ERR_CORRUPT},            /* a third of it */
	    {0, 512, 233, 1, ERR_CORRUPT},        /* over the largest */
	    {0, 512, UINT32_MAX, 1, ERR_CORRUPT}, /* wraps in 32 bits */
	    {0, 512, UINT32_MAX - 23, 1, ERR_CORRUPT},
	    {448, 512, 41, 1, ERR_CORRUPT}, /* beyond the area */
	    {448, 512, 40, 1, 0},
	    {448, 64, 0, 0, ERR_AGAIN},    /* a filler and no more */
	    {448, 56, 0, 0, ERR_CORRUPT},  /* filler beyond the head */
	    {448, 64, 40, 0, ERR_CORRUPT}, /* filler with payload */
	    {448, 64, 8, 0, ERR_CORRUPT},
	    {0, 512, 0, 0, ERR_CORRUPT},   /* filler as large as the ring */
	    {248, 512, 0, 0, ERR_CORRUPT}, /* more than half of it */
	    {504, 8, 0, 0, ERR_AGAIN},     /* gap without header */
	    {496, 16, 0, 0, ERR_AGAIN},
	    {496, 8, 0, 0, ERR_CORRUPT}, /* gap beyond the head */
	};
	struct ring_box box;
	int rc;

	(void)state;
	box_init(&box, SMALL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		box_place(&box, SMALL + rows[i].at);
		memset(box.ring.data, 0, SMALL);
		if (SMALL - rows[i].at >= RING_RECORD_HEADER)
			forge(&box, SMALL + rows[i].at, rows[i].type,
			    rows[i].len);
		atomic_store(&box.ring.ends->head,
		    SMALL + rows[i].at + rows[i].published);
		if (rows[i].rc == 0) {
			struct ring_record record;

			assert_int_equal(ring_next(&box.reader, &record), 0);
			continue;
		}
		assert_int_equal(read_all(&box, &rc), 0);
		assert_int_equal(rc, rows[i].rc);
	}
	box_fini(&box);
}

static void
a_record_of_another_lap_is_refused(void **state)
{
	struct ring_box box;
	int rc;

	(void)state;
	box_init(&box, SMALL);
	box_two_records(&box);
	atomic_store(&box.ring.ends->tail, 2 * SMALL - 128);
	atomic_store(&box.ring.ends->head, 2 * SMALL - 128 + 64);
	ring_reader_attach(&box.reader, &box.ring);
	assert_int_equal(read_all(&box, &rc), 0);
	assert_int_equal(rc, ERR_CORRUPT);
	box_fini(&box);
}

static void
a_nonsense_head_is_refused_and_heals(void **state)
{
	static const int64_t offsets[] = {-8, -1, 1, 7, 129, SMALL + 8,
	    SMALL + 1, 1 << 20, INT64_MAX, INT64_MIN};
	struct ring_box box;
	int rc;

	(void)state;
	box_init(&box, SMALL);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		uint64_t tail = SMALL - 128;

		/* the writer lives: its next publish puts the head right */
		box_two_records(&box);
		atomic_store(&box.ring.ends->head, tail + (uint64_t)offsets[i]);
		assert_int_equal(read_all(&box, &rc), 0);
		assert_int_equal(rc, ERR_CORRUPT);
		assert_false(ring_is_empty(&box.reader));
		assert_int_equal(ring_skip_all(&box.reader), 0);
		assert_true(ring_is_empty(&box.reader));
		assert_int_equal(ring_put(&box.writer, 9, "again", 5), 0);
		assert_true(ring_publish(&box.writer));
		assert_int_equal(read_all(&box, &rc), 3);
		assert_int_equal(rc, ERR_AGAIN);

		/* the writer is replaced: what was there is lost, no more */
		box_two_records(&box);
		atomic_store(&box.ring.ends->head, tail + (uint64_t)offsets[i]);
		read_all(&box, &rc);
		ring_writer_attach(&box.writer, &box.ring, 11, 22);
		check_recovery(&box);
	}
	box_fini(&box);
}

static void
a_nonsense_tail_never_lets_the_writer_overwrite(void **state)
{
	struct ring_box box;
	uint64_t random = 0x7a11;
	int rc;

	(void)state;
	box_init(&box, SMALL);
	for (int i = 0; i < 1000; i++) {
		uint64_t tail = SMALL - 128;
		uint64_t nonsense = tail + 1000 + next_random(&random) / 2;

		box_two_records(&box);
		atomic_store(&box.ring.ends->tail, nonsense);
		while (ring_put(&box.writer, 7, "12345678", 8) == 0)
			;
		assert_true(box.writer.head - tail <= SMALL);
		ring_publish(&box.writer);
		assert_true(read_all(&box, &rc) > 2);
		assert_int_equal(rc, ERR_AGAIN);
		check_recovery(&box);

		/* a successor of the reader cannot know better than the head */
		atomic_store(&box.ring.ends->tail, nonsense);
		ring_reader_attach(&box.reader, &box.ring);
		check_recovery(&box);
	}
	box_fini(&box);
}

/* Random bytes everywhere, ends near each other so that reading begins. */
static void
garbage_stays_inside(void **state)
{
	struct ring_box box;
	uint64_t random = 0x6a5ba6e;
	int rc;

	(void)state;
	box_init(&box, SMALL);
	for (int i = 0; i < 20000; i++) {
		uint64_t tail = next_random(&random);
		uint64_t head = tail + next_random(&random) % (2 * SMALL);
		uint64_t seek = tail + next_random(&random) % (2 * SMALL);

		for (size_t at = 0; at < SMALL; at++)
			box.ring.data[at] = (uint8_t)next_random(&random);
		if (i % 2 == 0) { /* small numbers look more like lengths */
			for (size_t at = 0; at < SMALL; at += 8)
				memset(box.ring.data + at + 1, 0, 7);
		}
		if (i % 4 < 3) {
			tail &= ~UINT64_C(7);
			head &= ~UINT64_C(7);
			seek &= ~UINT64_C(7);
		}
		atomic_store(&box.ring.ends->tail, tail);
		atomic_store(&box.ring.ends->head, head);
		ring_reader_attach(&box.reader, &box.ring);
		assert_int_equal(read_all(&box, &rc), 0);
		assert_true(rc == ERR_CORRUPT || rc == ERR_AGAIN);
		ring_reader_seek(&box.reader, seek);
		ring_writer_attach(&box.writer, &box.ring, 11, 22);
		ring_writer_seek(&box.writer, seek);
		ring_rewind(&box.writer, ring_head(&box.ring));
		check_recovery(&box);
	}
	box_fini(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_flipped_bit_is_seen),
	    cmocka_unit_test(forged_lengths_are_refused),
	    cmocka_unit_test(a_record_of_another_lap_is_refused),
	    cmocka_unit_test(a_nonsense_head_is_refused_and_heals),
	    cmocka_unit_test(a_nonsense_tail_never_lets_the_writer_overwrite),
	    cmocka_unit_test(garbage_stays_inside),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
