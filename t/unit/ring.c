/*
 * ring.c - unit test of shm/ring.c: what goes in comes out, at every position
 * and length; publish, rewind, full, seek, successors.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "shm/segment.h"
#include "t/unit/ring_box.h"

#define SMALL     512
#define TRIM_RING ((size_t)256 * 1024)

static void
put_number(struct ring_box *box, uint64_t number, size_t len)
{
	uint8_t data[SMALL];

	payload_fill(data, len, number);
	assert_int_equal(ring_put(&box->writer, 7, data, len), 0);
}

static void
expect_number(struct ring_box *box, uint64_t number, size_t len)
{
	struct ring_record record;

	assert_int_equal(ring_next(&box->reader, &record), 0);
	assert_int_equal(record.type, 7);
	assert_int_equal(record.from_gen, 11);
	assert_int_equal(record.to_gen, 22);
	assert_int_equal(record.len, len);
	assert_int_equal((uintptr_t)record.data % 8, 0);
	assert_true(payload_is(record.data, len, number));
}

static void
expect_none(struct ring_box *box)
{
	struct ring_record record;

	assert_true(ring_is_empty(&box->reader));
	assert_int_equal(ring_next(&box->reader, &record), ERR_AGAIN);
}

/* Two records from each position: the first or the second crosses the end. */
static void
every_position_and_length(void **state)
{
	static const uint64_t laps[] = {0, SMALL * 5, -(uint64_t)SMALL};
	struct ring_box box;
	size_t max;

	(void)state;
	box_init(&box, SMALL);
	max = ring_record_max(&box.ring);
	assert_int_equal(max, SMALL / 2 - RING_RECORD_HEADER);
	for (size_t lap = 0; lap < 3; lap++) {
		for (uint64_t at = 0; at < SMALL; at += 8) {
			for (size_t len = 0; len <= max; len++) {
				box_place(&box, laps[lap] + at);
				put_number(&box, at, len);
				assert_true(ring_publish(&box.writer));
				expect_number(&box, at, len);
				ring_release(&box.reader);
				put_number(&box, at + 1, max - len);
				assert_true(ring_publish(&box.writer));
				expect_number(&box, at + 1, max - len);
				expect_none(&box);
			}
		}
	}
	box_fini(&box);
}

static void
largest_record_fits_an_empty_ring_anywhere(void **state)
{
	struct ring_box box;
	const uint64_t size = RING_SIZE_MAX_RECORD;
	const uint64_t around[] = {0, 64, size / 2, size - 64, size};

	(void)state;
	box_init(&box, size);
	assert_int_equal(ring_record_max(&box.ring), RING_RECORD_MAX);
	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
		for (uint64_t at = size + around[i] - 40;
		     at <= size + around[i] + 40; at += 8) {
			struct ring_record record;
			uint8_t *data;

			box_place(&box, at);
			assert_int_equal(
			    ring_room(&box.writer), RING_RECORD_MAX);
			data = ring_put_begin(&box.writer, RING_RECORD_MAX);
			assert_non_null(data);
			data[0] = 1;
			data[RING_RECORD_MAX - 1] = 2;
			ring_put_end(&box.writer, 3, RING_RECORD_MAX);
			assert_true(ring_publish(&box.writer));
			assert_int_equal(ring_next(&box.reader, &record), 0);
			assert_int_equal(record.len, RING_RECORD_MAX);
			assert_int_equal(record.data[RING_RECORD_MAX - 1], 2);
		}
	}
	assert_null(ring_put_begin(&box.writer, RING_RECORD_MAX + 1));
	assert_int_equal(
	    ring_put(&box.writer, 3, "", RING_RECORD_MAX + 1), ERR_TOO_LARGE);
	assert_null(ring_put_begin(&box.writer, SIZE_MAX));
	box_fini(&box);
}

/* What ring_room says is what ring_put_begin does. */
static void
check_room(struct ring_box *box)
{
	size_t room = ring_room(&box->writer);

	assert_null(ring_put_begin(&box->writer, room + 1));
	if (room > 0)
		assert_non_null(ring_put_begin(&box->writer, room));
}

/*
 * Random lengths, batches, releases and taken-back records against a plain
 * count of what was published and read.
 */
static void
long_stream_with_rewinds(void **state)
{
	struct ring_box box;
	uint64_t random = 0x5eed;
	uint64_t put = 0;
	uint64_t published = 0;
	uint64_t read = 0;
	uint64_t full_count = 0;
	size_t lens[64];

	(void)state;
	box_init(&box, SMALL);
	while (read < 100000) {
		uint64_t dice = next_random(&random) % 8;
		size_t len = next_random(&random) % 100;

		check_room(&box);
		if (dice < 4 && ring_put_begin(&box.writer, len) == NULL) {
			full_count++;
			assert_true(ring_room(&box.writer) < len || len == 0);
		} else if (dice < 4) {
			put_number(&box, put, len);
			lens[put++ % 64] = len;
		} else if (dice == 4) {
			assert_int_equal(
			    ring_publish(&box.writer), put != published);
			published = put;
		} else if (dice == 5) {
			ring_rewind(&box.writer, ring_head(&box.ring));
			put = published;
		} else if (read < published) {
			expect_number(&box, read, lens[read % 64]);
			read++;
			if (dice == 7)
				ring_release(&box.reader);
		} else {
			expect_none(&box);
			ring_release(&box.reader);
		}
	}
	assert_true(full_count > 100);
	box_fini(&box);
}

static void
unpublished_is_invisible_and_can_be_taken_back(void **state)
{
	struct ring_box box;
	uint64_t middle;

	(void)state;
	box_init(&box, SMALL);
	put_number(&box, 1, 10);
	expect_none(&box);
	middle = box.writer.head;
	put_number(&box, 2, 20);
	ring_rewind(&box.writer, middle);
	put_number(&box, 3, 30);
	assert_true(ring_publish(&box.writer));
	assert_false(ring_publish(&box.writer));
	expect_number(&box, 1, 10);
	expect_number(&box, 3, 30);
	expect_none(&box);
	box_fini(&box);
}

static void
a_record_may_end_shorter_or_not_at_all(void **state)
{
	struct ring_box box;

	(void)state;
	box_init(&box, SMALL);
	for (uint64_t at = 0; at < SMALL; at += 8) {
		uint8_t *data;

		box_place(&box, at);
		assert_non_null(ring_put_begin(&box.writer, 200));
		data =
		    ring_put_begin(&box.writer, 150); /* the one that counts */
		assert_non_null(data);
		payload_fill(data, 9, at);
		ring_put_end(&box.writer, 7, 9);
		put_number(&box, at + 1, 40);
		ring_publish(&box.writer);
		expect_number(&box, at, 9);
		expect_number(&box, at + 1, 40);
		expect_none(&box);
	}
	box_fini(&box);
}

static void
a_full_ring_refuses_until_released(void **state)
{
	struct ring_box box;
	uint64_t count = 0;

	(void)state;
	box_init(&box, SMALL);
	while (ring_put(&box.writer, 7, "12345678", 8) == 0)
		count++;
	assert_int_equal(count, SMALL / 32);
	assert_int_equal(ring_room(&box.writer), 0);
	ring_publish(&box.writer);
	for (uint64_t i = 0; i < count; i++) {
		struct ring_record record;

		assert_int_equal(
		    ring_put(&box.writer, 7, "12345678", 8), ERR_FULL);
		assert_int_equal(ring_next(&box.reader, &record), 0);
		assert_int_equal(ring_put(&box.writer, 7, "", 0), ERR_FULL);
		ring_release(&box.reader);
		assert_int_equal(ring_put(&box.writer, 7, "abcdefgh", 8), 0);
	}
	ring_publish(&box.writer);
	box_fini(&box);
}

static void
successors_go_on_at_published_and_released(void **state)
{
	struct ring_box box;

	(void)state;
	box_init(&box, SMALL);
	put_number(&box, 1, 8);
	put_number(&box, 2, 8);
	ring_publish(&box.writer);
	put_number(&box, 99, 8); /* dies with its writer */
	expect_number(&box, 1, 8);
	ring_release(&box.reader);
	expect_number(&box, 2, 8); /* read, not released: comes again */
	box_attach(&box);
	put_number(&box, 3, 8);
	ring_publish(&box.writer);
	expect_number(&box, 2, 8);
	expect_number(&box, 3, 8);
	expect_none(&box);
	box_fini(&box);
}

/* As the keeper: put, commit, die before publishing; the heir publishes. */
static void
writer_seek_takes_whole_records_only(void **state)
{
	struct ring_box box;
	uint64_t committed;

	(void)state;
	box_init(&box, SMALL);
	box_place(&box, SMALL - 64);
	put_number(&box, 1, 100); /* behind a filler */
	put_number(&box, 2, 50);
	committed = box.writer.head;
	put_number(&box, 3, 50); /* not committed */
	for (uint64_t wrong = 0; wrong < 3 * SMALL; wrong++) {
		uint64_t position = SMALL - 64 - 8 + wrong;

		box_attach(&box);
		if (!ring_writer_seek(&box.writer, position))
			assert_int_equal(box.writer.head, ring_head(&box.ring));
		else
			assert_true(
			    position == SMALL - 64 || position == SMALL ||
			    position == SMALL + 128 || position == committed ||
			    position == committed + 80);
	}
	box_attach(&box);
	assert_true(ring_writer_seek(&box.writer, committed));
	assert_true(ring_publish(&box.writer));
	put_number(&box, 4, 60);
	assert_true(ring_publish(&box.writer));
	assert_false(ring_writer_seek(&box.writer, committed));
	expect_number(&box, 1, 100);
	expect_number(&box, 2, 50);
	expect_number(&box, 4, 60);
	box_fini(&box);
}

static void
reader_seek_stays_at_the_tail_when_in_doubt(void **state)
{
	struct ring_box box;
	uint64_t applied;

	(void)state;
	box_init(&box, SMALL);
	for (uint64_t i = 0; i < 5; i++)
		put_number(&box, i, 40);
	ring_publish(&box.writer);
	expect_number(&box, 0, 40);
	ring_release(&box.reader);
	expect_number(&box, 1, 40);
	expect_number(&box, 2, 40);
	applied = box.reader.cursor;
	ring_reader_attach(&box.reader, &box.ring);
	assert_true(ring_reader_seek(&box.reader, applied));
	expect_number(&box, 3, 40);
	for (uint64_t wrong = 0; wrong < 2 * SMALL; wrong++) {
		bool is_boundary =
		    wrong % 64 == 0 && wrong >= 64 && wrong <= 5 * 64;

		assert_int_equal(
		    ring_reader_seek(&box.reader, wrong), is_boundary);
		if (!is_boundary)
			expect_number(&box, 1, 40);
	}
	assert_false(ring_reader_seek(&box.reader, UINT64_MAX - 7));
	assert_true(ring_reader_seek(&box.reader, ring_head(&box.ring)));
	expect_none(&box);
	box_fini(&box);
}

static void
a_wiped_record_leaves_a_sound_ring(void **state)
{
	struct ring_box box;
	struct ring_record record;

	(void)state;
	box_init(&box, SMALL);
	assert_int_equal(ring_put(&box.writer, 5, "secret pass", 11), 0);
	put_number(&box, 2, 33);
	ring_publish(&box.writer);
	assert_int_equal(ring_next(&box.reader, &record), 0);
	ring_wipe(&record);
	for (size_t i = 0; i + 6 <= SMALL; i++)
		assert_memory_not_equal(box.ring.data + i, "secret", 6);
	ring_reader_attach(&box.reader, &box.ring); /* killed before release */
	assert_int_equal(ring_next(&box.reader, &record), 0);
	assert_int_equal(record.type, 5);
	assert_int_equal(record.len, 11);
	assert_memory_equal(record.data, "\0\0\0\0\0\0\0\0\0\0\0", 11);
	expect_number(&box, 2, 33);
	box_fini(&box);
}

static size_t
pages_resident(const struct ring *ring)
{
	unsigned char in_core[TRIM_RING / 4096];
	size_t count = 0;

	assert_int_equal(mincore(ring->data, ring->size, in_core), 0);
	for (size_t i = 0; i < sizeof(in_core); i++)
		count += in_core[i] & 1;
	return count;
}

/* Records of all lengths under way, read and unread, trimmed at any time. */
static void
trimming_gives_back_what_is_free_and_nothing_else(void **state)
{
	static struct ring_ends ends; /* a frame of ASan is not aligned so */
	struct ring_box box = {0};
	uint8_t payload[8000];
	struct ring_record record;
	uint64_t random = 77;
	uint64_t number_in = 0;
	uint64_t number_out = 0;
	uint64_t lens[4096];
	void *segment = NULL;

	(void)state;
	assert_int_equal(segment_create("trim", TRIM_RING, &segment), 0);
	ring_format(&box.ring, &ends, segment, TRIM_RING);
	box_attach(&box);
	for (int turn = 0; turn < 20000; turn++) {
		for (uint64_t n = next_random(&random) % 16; n > 0; n--) {
			size_t len = next_random(&random) % sizeof(payload);

			payload_fill(payload, len, number_in);
			if (ring_put(&box.writer, 3, payload, len) != 0)
				break;
			lens[number_in++ % 4096] = len;
		}
		if (next_random(&random) % 2 == 0)
			ring_publish(&box.writer);
		if (next_random(&random) % 4 == 0)
			ring_trim(&box.writer);
		for (uint64_t n = next_random(&random) % 16; n > 0; n--) {
			if (ring_next(&box.reader, &record) != 0)
				break;
			assert_int_equal(record.len, lens[number_out % 4096]);
			assert_true(
			    payload_is(record.data, record.len, number_out));
			number_out++;
		}
		if (next_random(&random) % 2 == 0)
			ring_release(&box.reader);
	}
	ring_publish(&box.writer);
	while (ring_next(&box.reader, &record) == 0) {
		assert_true(payload_is(record.data, record.len, number_out));
		number_out++;
	}
	assert_int_equal(number_out, number_in);
	assert_true(number_in > 20000);
	ring_release(&box.reader);
	ring_trim(&box.writer);
	ring_trim(&box.writer); /* quiet since */
	assert_in_range(pages_resident(&box.ring), 0, 1);
	segment_free(&segment, TRIM_RING);
}

/* Whoever writes little all the time does not pay for it all the time. */
static void
little_is_given_back_only_when_it_is_quiet(void **state)
{
	static struct ring_ends ends;
	struct ring_box box = {0};
	uint8_t payload[5000] = {0};
	struct ring_record record;
	void *segment = NULL;

	(void)state;
	assert_int_equal(segment_create("trim", TRIM_RING, &segment), 0);
	ring_format(&box.ring, &ends, segment, TRIM_RING);
	box_attach(&box);
	assert_int_equal(ring_put(&box.writer, 3, payload, sizeof(payload)), 0);
	ring_publish(&box.writer);
	assert_int_equal(ring_next(&box.reader, &record), 0);
	ring_release(&box.reader);
	ring_trim(&box.writer);
	assert_in_range(pages_resident(&box.ring), 2, 2);
	ring_trim(&box.writer);
	assert_in_range(pages_resident(&box.ring), 0, 1);
	segment_free(&segment, TRIM_RING);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_position_and_length),
	    cmocka_unit_test(largest_record_fits_an_empty_ring_anywhere),
	    cmocka_unit_test(long_stream_with_rewinds),
	    cmocka_unit_test(unpublished_is_invisible_and_can_be_taken_back),
	    cmocka_unit_test(a_record_may_end_shorter_or_not_at_all),
	    cmocka_unit_test(a_full_ring_refuses_until_released),
	    cmocka_unit_test(successors_go_on_at_published_and_released),
	    cmocka_unit_test(writer_seek_takes_whole_records_only),
	    cmocka_unit_test(reader_seek_stays_at_the_tail_when_in_doubt),
	    cmocka_unit_test(a_wiped_record_leaves_a_sound_ring),
	    cmocka_unit_test(trimming_gives_back_what_is_free_and_nothing_else),
	    cmocka_unit_test(little_is_given_back_only_when_it_is_quiet),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
