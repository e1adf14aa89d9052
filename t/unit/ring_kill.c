/*
 * ring_kill.c - unit test of shm/ring.c between two that run at once: writers
 * killed at any instruction, readers killed likewise, and two threads (for a
 * thread sanitizer).
 */
#include "config.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/segment.h"
#include "t/unit/ring_box.h"

#define RING_BYTES     4096
#define DATA_OFFSET    4096
#define SEGMENT_BYTES  (DATA_OFFSET + RING_BYTES)
#define WRITER_KILLS   400
#define READER_KILLS   100
#define THREAD_RECORDS 20000
#define DEADLINE_S     120
#define LEN_MAX        600

/* At the front of the segment. */
struct shared {
	struct ring_ends ends;
	_Atomic uint64_t seen; /* reader: last number, before its release */
};

struct stage {
	void *segment;
	struct shared *shared;
	struct ring ring;
	time_t deadline;
};

static time_t
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void
stage_init(struct stage *stage)
{
	assert_int_equal(
	    segment_create("test", SEGMENT_BYTES, &stage->segment), 0);
	stage->shared = stage->segment;
	ring_format(&stage->ring, &stage->shared->ends,
	    (uint8_t *)stage->segment + DATA_OFFSET, RING_BYTES);
	stage->deadline = now_s() + DEADLINE_S;
}

/*
 * Nobody to talk to: give the other side the processor, up to a deadline. A
 * yield would not do: who only yields stays runnable, and on a machine where
 * others are busy each lap of the ring then costs two of their time slices.
 */
static void
stage_wait(const struct stage *stage)
{
	if (now_s() > stage->deadline)
		abort();
	ppoll(NULL, 0, &(struct timespec){.tv_nsec = 20000}, NULL);
}

static void
number_put(struct ring_writer *writer, uint64_t number, size_t len)
{
	uint8_t *room = ring_put_begin(writer, len);

	memcpy(room, &number, sizeof(number));
	payload_fill(room + 8, len - 8, number);
	ring_put_end(writer, 1, len);
}

/* @return the record's number, 0 if its bytes are not what they were */
static uint64_t
number_of(const struct ring_record *record)
{
	uint64_t number;

	if (record->len < 8)
		return 0;
	memcpy(&number, record->data, sizeof(number));
	return payload_is(record->data + 8, record->len - 8, number) ? number
								     : 0;
}

/* In batches of one to eight, whatever length, until count numbers are out. */
static void
write_numbers(struct stage *stage, struct ring_writer *writer, uint64_t number,
    uint64_t last)
{
	uint64_t random = number * 2654435761u + 1;

	while (number <= last) {
		size_t len = 8 + next_random(&random) % (LEN_MAX - 8);

		while (ring_room(writer) < len) {
			ring_publish(writer);
			stage_wait(stage);
		}
		number_put(writer, number++, len);
		if (next_random(&random) % 8 == 0)
			ring_publish(writer);
	}
	ring_publish(writer);
}

/* Go on after the last published: what the reader saw, or what still waits. */
static _Noreturn void
writer_run(struct stage *stage)
{
	struct ring_reader look;
	struct ring_record record;
	struct ring_writer writer;
	uint64_t last;

	/* Attached before "seen" is read: the other way round the reader may
	 * take the last record in between, and it would be written again. */
	ring_reader_attach(&look, &stage->ring);
	last = atomic_load(&stage->shared->seen);
	while (ring_next(&look, &record) == 0)
		last = number_of(&record);
	ring_writer_attach(&writer, &stage->ring, 1, 2);
	write_numbers(stage, &writer, last + 1, UINT64_MAX - 1);
	_exit(1);
}

/* @return 0, or what ring_next said; exits the test on a gap in numbers */
static int
read_one(struct stage *stage, struct ring_reader *reader)
{
	struct ring_record record;
	int rc = ring_next(reader, &record);

	if (rc != 0)
		return rc;
	if (number_of(&record) != atomic_load(&stage->shared->seen) + 1)
		return ERR_CORRUPT;
	atomic_fetch_add(&stage->shared->seen, 1);
	ring_release(reader);
	return 0;
}

static void
killed_writers_leave_nothing_half_written(void **state)
{
	struct stage stage;
	struct ring_reader reader;
	uint64_t random = 0xdead;
	int rc;

	(void)state;
	stage_init(&stage);
	ring_reader_attach(&reader, &stage.ring);
	for (int kill_count = 0; kill_count < WRITER_KILLS; kill_count++) {
		uint64_t until = atomic_load(&stage.shared->seen) +
				 next_random(&random) % 99;
		uint64_t spin = next_random(&random) % 2000;
		pid_t pid = fork();

		if (pid == 0)
			writer_run(&stage);
		assert_true(pid > 0);
		while (atomic_load(&stage.shared->seen) < until) {
			rc = read_one(&stage, &reader);
			if (rc == ERR_AGAIN)
				stage_wait(&stage);
			else
				assert_int_equal(rc, 0);
		}
		for (uint64_t i = 0; i < spin; i++) {
			rc = read_one(&stage, &reader);
			assert_true(rc == 0 || rc == ERR_AGAIN);
		}
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &rc, 0), pid);
		assert_true(WIFSIGNALED(rc) && WTERMSIG(rc) == SIGKILL);
		if (kill_count % 2 == 0)
			continue; /* the successor finds unread records */
		while ((rc = read_one(&stage, &reader)) == 0)
			;
		assert_int_equal(rc, ERR_AGAIN);
	}
	printf("# %llu records over %d kills\n",
	    (unsigned long long)stage.shared->seen, WRITER_KILLS);
	assert_true(stage.shared->seen > WRITER_KILLS * 20);
	segment_free(&stage.segment, SEGMENT_BYTES);
}

/*
 * A reader killed between noting a number and releasing it sees it again: at
 * least once, in order, never torn. A number noted for good is told by "seen".
 */
static _Noreturn void
reader_run(struct stage *stage)
{
	struct ring_reader reader;
	struct ring_record record;

	ring_reader_attach(&reader, &stage->ring);
	for (;;) {
		uint64_t seen = atomic_load(&stage->shared->seen);
		int rc = ring_next(&reader, &record);

		if (rc == ERR_AGAIN) {
			stage_wait(stage);
			continue;
		}
		if (rc != 0 || number_of(&record) > seen + 1 ||
		    number_of(&record) < seen)
			_exit(1);
		atomic_store(&stage->shared->seen, number_of(&record));
		ring_release(&reader);
	}
}

static void
killed_readers_are_followed_without_loss(void **state)
{
	struct stage stage;
	struct ring_writer writer;
	uint64_t random = 0xbeef;
	uint64_t number = 1;
	int status;

	(void)state;
	stage_init(&stage);
	ring_writer_attach(&writer, &stage.ring, 1, 2);
	for (int kill_count = 0; kill_count < READER_KILLS; kill_count++) {
		uint64_t last = number + next_random(&random) % 200;
		pid_t pid = fork();

		if (pid == 0)
			reader_run(&stage);
		assert_true(pid > 0);
		write_numbers(&stage, &writer, number, last);
		number = last + 1;
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
	}
	assert_true(atomic_load(&stage.shared->seen) < number);
	segment_free(&stage.segment, SEGMENT_BYTES);
}

static void *
thread_write(void *arg)
{
	struct stage *stage = arg;
	struct ring_writer writer;

	ring_writer_attach(&writer, &stage->ring, 1, 2);
	write_numbers(stage, &writer, 1, THREAD_RECORDS);
	return NULL;
}

static void
two_threads_see_whole_records(void **state)
{
	struct stage stage;
	struct ring_reader reader;
	pthread_t thread;

	(void)state;
	stage_init(&stage);
	ring_reader_attach(&reader, &stage.ring);
	assert_int_equal(
	    pthread_create(&thread, NULL, thread_write, &stage), 0);
	while (atomic_load(&stage.shared->seen) < THREAD_RECORDS) {
		int rc = read_one(&stage, &reader);

		if (rc == ERR_AGAIN)
			stage_wait(&stage);
		else
			assert_int_equal(rc, 0);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(ring_is_empty(&reader));
	segment_free(&stage.segment, SEGMENT_BYTES);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(killed_writers_leave_nothing_half_written),
	    cmocka_unit_test(killed_readers_are_followed_without_loss),
	    cmocka_unit_test(two_threads_see_whole_records),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
