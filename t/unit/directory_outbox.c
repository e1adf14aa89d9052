/*
 * directory_outbox.c - unit test of the consumer's end of an outbox: a back
 * end that fails, is busy, refuses and hangs; the test is the keeper.
 */
#include "config.h"

#include "directory_stage.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "directory/directory.h"
#include "shm/conv.h"
#include "shm/outbox.h"
#include "t/unit/moody_backend.h"

#define REHEARSAL 1 /* outboxes.def */

/* ---- the test as the keeper ---- */

struct outbox_stage {
	struct stage stage;
	struct outbox outbox;
	uint64_t last_id;
};

static void
put(struct outbox_stage *os, bool has_row)
{
	struct stage *stage = &os->stage;
	struct outbox_entry entry = {
	    .kind = OUTBOX_MESSAGE, .message_id = ++os->last_id};
	struct log_message message = {.id = os->last_id, .sender = 1};
	const uint64_t pair[2] = {1, 2};
	char body[24];
	int len;

	len = snprintf(
	    body, sizeof(body), "%llu", (unsigned long long)os->last_id);
	message.body = (struct blob){body, (size_t)len + 1};
	conv_key_make(pair, 2, &message.conv);
	if (has_row)
		assert_int_equal(log_append(&stage->txn, &message), 0);
	assert_int_equal(outbox_put(&stage->txn, &os->outbox, &entry), 0);
}

static void
put_many(struct outbox_stage *os, uint64_t count)
{
	while (count-- > 0)
		put(os, true);
}

static void
commit(struct outbox_stage *os)
{
	struct stage *stage = &os->stage;

	assert_int_equal(outbox_flush(&stage->txn, &os->outbox), 0);
	assert_int_equal(txn_commit(&stage->txn), 0);
	outbox_committed(&os->outbox);
	assert_int_equal(store_begin_write(stage->store, &stage->txn), 0);
	outbox_begin(&os->outbox, 1000);
}

static int
os_open(void **state)
{
	struct outbox_stage *os = calloc(1, sizeof(*os));

	assert_non_null(os);
	memset(moods, 0, sizeof(*moods));
	stage_open(&os->stage);
	os->stage.conf->directory_rehearse_outbox = true;
	assert_int_equal(
	    outbox_load(&os->stage.txn, REHEARSAL, &os->outbox), 0);
	outbox_begin(&os->outbox, 1000);
	*state = os;
	return 0;
}

static int
os_close(void **state)
{
	struct outbox_stage *os = *state;

	stage_close(&os->stage);
	free(os);
	return 0;
}

/* No environment may be open over the fork: closed and opened around it. */
static void
start_with(struct outbox_stage *os, const struct dir_ops *ops)
{
	struct stage *stage = &os->stage;
	char error[256];

	assert_int_equal(outbox_flush(&stage->txn, &os->outbox), 0);
	stage_fill_end(stage);
	outbox_committed(&os->outbox);
	stage_start(stage, ops);
	bus_become(stage->bus, SLOT_KEEPER);
	assert_int_equal(store_open(STORE_MAIN, stage->dir,
			     (size_t)stage->conf->store_map_size, true,
			     &stage->store, error, sizeof(error)),
	    0);
	assert_int_equal(store_begin_write(stage->store, &stage->txn), 0);
	outbox_begin(&os->outbox, 1000);
}

static void
start(struct outbox_stage *os)
{
	start_with(os, &moody_ops);
}

static void
kill_directory(struct outbox_stage *os)
{
	struct stage *stage = &os->stage;

	assert_int_equal(kill(stage->pid, SIGKILL), 0);
	assert_int_equal(waitpid(stage->pid, NULL, 0), stage->pid);
	stage->pid = 0;
	board_slot(stage->board, SLOT_DIRECTORY)->generation++;
	store_reader_check(stage->store);
}

static void
answer(struct outbox_stage *os, uint64_t req, int rc)
{
	const struct record_reply reply = {.req = req, .rc = rc};

	stage_send(&os->stage, RECORD_REPLY, &reply, sizeof(reply));
}

/* The next DONE; answered. @return does it rest? */
static bool
hear_done(struct outbox_stage *os, uint64_t *upto_out)
{
	struct record_outbox_done done;
	struct ring_record record;

	stage_next(&os->stage, SLOT_DIRECTORY, &record);
	assert_int_equal(record.type, RECORD_OUTBOX_DONE);
	assert_int_equal(record.len, sizeof(done));
	memcpy(&done, record.data, sizeof(done));
	ring_release(bus_reader(os->stage.bus, SLOT_DIRECTORY));
	assert_int_equal(done.outbox, REHEARSAL);
	*upto_out = done.upto;
	assert_int_equal(outbox_done(&os->outbox, done.upto), 0);
	commit(os);
	answer(os, done.req, 0);
	return (done.flags & OUTBOX_DONE_RESTS) != 0;
}

/* All up to a number is done, and then it rests. */
static void
hear_rest(struct outbox_stage *os, uint64_t expected)
{
	uint64_t last = 0;
	uint64_t upto;

	while (!hear_done(os, &upto)) {
		assert_true(upto >= last);
		last = upto;
	}
	assert_int_equal(upto, expected);
}

static void
tell_news(struct outbox_stage *os)
{
	const struct record_outbox_news news = {
	    .head = os->outbox.committed.head, .outbox = REHEARSAL};

	stage_send(&os->stage, RECORD_OUTBOX_NEWS, &news, sizeof(news));
}

static void
wait_for(_Atomic unsigned *number, unsigned at_least)
{
	int64_t until_ms = clock_mono_ms() + DEADLINE_MS;

	while (atomic_load(number) < at_least) {
		assert_true(clock_mono_ms() < until_ms);
		poll(NULL, 0, 1);
	}
}

static void
assert_written(uint64_t first, uint64_t last)
{
	assert_int_equal(atomic_load(&moods->written), last - first + 1);
	for (uint64_t n = first; n <= last; n++)
		assert_int_equal(moods->numbers[n - first], n);
}

/* ---- tests ---- */

static void
what_waits_at_the_start_is_written(void **state)
{
	struct outbox_stage *os = *state;

	put_many(os, 5000);
	start(os);
	hear_rest(os, 5000);
	assert_written(1, 5000);
	assert_int_equal(
	    stage_counter(&os->stage, COUNTER_outbox_written), 5000);
	assert_int_equal(stage_counter(&os->stage, COUNTER_outbox_failed), 0);
}

static void
an_empty_one_asks_for_news(void **state)
{
	struct outbox_stage *os = *state;

	start(os);
	hear_rest(os, 0);
	for (uint64_t n = 1; n <= 20; n++) {
		put_many(os, n);
		commit(os);
		tell_news(os);
		hear_rest(os, os->outbox.committed.head);
	}
	assert_written(1, 210);
}

static void
lost_news_cost_a_second(void **state)
{
	struct outbox_stage *os = *state;
	uint64_t upto;

	start(os);
	hear_rest(os, 0);
	put_many(os, 3);
	commit(os);
	/* it had asked already: no need to ask again */
	assert_false(hear_done(os, &upto));
	assert_int_equal(upto, 3);
	assert_written(1, 3);
}

static void
a_failure_is_tried_again(void **state)
{
	struct outbox_stage *os = *state;

	atomic_store(&moods->fail_left, 3);
	put_many(os, 10);
	start(os);
	hear_rest(os, 10);
	assert_int_equal(stage_counter(&os->stage, COUNTER_outbox_failed), 3);
	assert_int_equal(stage_counter(&os->stage, COUNTER_outbox_written), 10);
	/* each time all of it, in order */
	assert_int_equal(atomic_load(&moods->written), 40);
	for (int i = 0; i < 40; i++)
		assert_int_equal(moods->numbers[i], 1 + i % 10);
}

static void
being_busy_is_no_failure(void **state)
{
	struct outbox_stage *os = *state;

	atomic_store(&moods->again_left, 2);
	put_many(os, 10);
	start(os);
	hear_rest(os, 10);
	assert_int_equal(stage_counter(&os->stage, COUNTER_outbox_failed), 0);
	assert_int_equal(atomic_load(&moods->calls), 3);
	assert_written(1, 10);
}

/* One REFUSE. @return how many in it */
static uint32_t
hear_refusals(struct outbox_stage *os, uint64_t first, unsigned step, int rc)
{
	const struct record_outbox_refuse *refuse;
	const struct outbox_refusal *refusals;
	struct ring_record record;
	uint32_t count;
	uint64_t req;

	stage_next(&os->stage, SLOT_DIRECTORY, &record);
	assert_int_equal(record.type, RECORD_OUTBOX_REFUSE);
	refuse = (const void *)record.data;
	refusals = (const void *)(refuse + 1);
	count = refuse->count;
	req = refuse->req;
	assert_true(count >= 1 && count <= OUTBOX_REFUSALS_MAX);
	assert_int_equal(
	    record.len, sizeof(*refuse) + count * sizeof(*refusals));
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(refusals[i].number, first + i * step);
		assert_int_equal(refusals[i].code, 8152);
		assert_int_equal(refusals[i].error_len, 14);
		assert_memory_equal(refusals[i].error, "it is too long", 14);
	}
	ring_release(bus_reader(os->stage.bus, SLOT_DIRECTORY));
	answer(os, req, rc);
	return count;
}

static void
refusals_are_stored_before_it_goes_on(void **state)
{
	struct outbox_stage *os = *state;
	uint32_t heard = 0;

	/* One slice of reading must take all 600, or every third is not. */
	if (getenv("PARLEY_VALGRIND") != NULL)
		return;
	atomic_store(&moods->refuse_each, 3);
	put_many(os, 600);
	start(os);
	/* a keeper whose disk is full is asked again; how many at once is also
	 * a matter of time: a slice of reading ends after some ms */
	assert_in_range(
	    hear_refusals(os, 3, 3, ERR_STORAGE_FULL), 1, OUTBOX_REFUSALS_MAX);
	while (heard < 200)
		heard += hear_refusals(os, 3 + 3 * heard, 3, 0);
	assert_int_equal(heard, 200);
	hear_rest(os, 600);
	assert_int_equal(
	    stage_counter(&os->stage, COUNTER_outbox_written), 400);
	assert_int_equal(
	    stage_counter(&os->stage, COUNTER_outbox_refused), 200);
}

static void
a_failure_after_refusals_forgets_them(void **state)
{
	struct outbox_stage *os = *state;

	atomic_store(&moods->refuse_each, 2);
	atomic_store(&moods->fail_left, 1);
	put_many(os, 4);
	start(os);
	wait_for(&moods->calls, 1);
	atomic_store(&moods->refuse_each, 4);
	assert_int_equal(hear_refusals(os, 4, 1, 0), 1);
	hear_rest(os, 4);
	assert_int_equal(stage_counter(&os->stage, COUNTER_outbox_refused), 1);
}

static void
a_message_that_is_gone_is_refused(void **state)
{
	struct outbox_stage *os = *state;
	struct ring_record record;
	struct record_outbox_refuse refuse;
	struct outbox_refusal refusal;

	put(os, true);
	put(os, false);
	put(os, true);
	start(os);
	stage_next(&os->stage, SLOT_DIRECTORY, &record);
	assert_int_equal(record.type, RECORD_OUTBOX_REFUSE);
	memcpy(&refuse, record.data, sizeof(refuse));
	memcpy(&refusal, record.data + sizeof(refuse), sizeof(refusal));
	ring_release(bus_reader(os->stage.bus, SLOT_DIRECTORY));
	assert_int_equal(refuse.count, 1);
	assert_int_equal(refusal.number, 2);
	assert_int_equal(refusal.code, ERR_NOT_FOUND);
	answer(os, refuse.req, 0);
	hear_rest(os, 3);
	assert_int_equal(atomic_load(&moods->passed_over), 1);
	assert_int_equal(atomic_load(&moods->written), 2);
}

static void
killed_while_it_writes_it_writes_again(void **state)
{
	struct outbox_stage *os = *state;

	put_many(os, 4);
	start(os);
	hear_rest(os, 4);
	atomic_store(&moods->hold, 1);
	put_many(os, 4);
	commit(os);
	tell_news(os);
	wait_for(&moods->calls, 2);
	kill_directory(os);
	atomic_store(&moods->hold, 0);
	txn_end(&os->stage.txn);
	assert_int_equal(store_begin_write(os->stage.store, &os->stage.txn), 0);
	outbox_begin(&os->outbox, 1000);
	start(os);
	hear_rest(os, 8);
	assert_written(1, 8);
}

static void
stopped_while_it_writes_nothing_is_done(void **state)
{
	struct outbox_stage *os = *state;

	atomic_store(&moods->hold, 1);
	put_many(os, 4);
	start(os);
	wait_for(&moods->calls, 1);
	stage_stop(&os->stage);
	assert_true(ring_is_empty(bus_reader(os->stage.bus, SLOT_DIRECTORY)));
	assert_int_equal(atomic_load(&moods->written), 0);
}

/* Small batches are told with the next look; a stop does not wait for it. */
static void
what_is_done_is_said_at_the_stop(void **state)
{
	struct outbox_stage *os = *state;
	uint64_t upto = 0;

	put_many(os, 3000);
	start(os);
	wait_for(&moods->calls, 2);
	stage_stop(&os->stage);
	while (!ring_is_empty(bus_reader(os->stage.bus, SLOT_DIRECTORY)))
		hear_done(os, &upto);
	/* all of it, unless reading took longer than a slice may */
	assert_true(upto > 0);
	assert_int_equal(upto, atomic_load(&moods->written));
}

static void
a_keeper_that_does_not_answer_is_asked_again(void **state)
{
	struct outbox_stage *os = *state;
	struct record_outbox_done done;
	struct ring_record record;
	uint64_t upto;

	put_many(os, 1);
	start(os);
	stage_next(&os->stage, SLOT_DIRECTORY, &record);
	memcpy(&done, record.data, sizeof(done));
	ring_release(bus_reader(os->stage.bus, SLOT_DIRECTORY));
	answer(os, done.req + 1, 0); /* somebody else's */
	answer(os, done.req, ERR_STORAGE_FULL);
	assert_true(hear_done(os, &upto));
	assert_int_equal(upto, 1);
}

/* The product's own: without a back end that writes. */
static void
the_rehearsal_reads_and_forgets(void **state)
{
	struct outbox_stage *os = *state;

	put_many(os, 3000);
	start_with(os, NULL);
	hear_rest(os, 3000);
	assert_int_equal(
	    stage_counter(&os->stage, COUNTER_outbox_written), 3000);
	assert_int_equal(atomic_load(&moods->calls), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, os_open, os_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(what_waits_at_the_start_is_written),
	    TEST(an_empty_one_asks_for_news),
	    TEST(lost_news_cost_a_second),
	    TEST(a_failure_is_tried_again),
	    TEST(being_busy_is_no_failure),
	    TEST(refusals_are_stored_before_it_goes_on),
	    TEST(a_failure_after_refusals_forgets_them),
	    TEST(a_message_that_is_gone_is_refused),
	    TEST(killed_while_it_writes_it_writes_again),
	    TEST(stopped_while_it_writes_nothing_is_done),
	    TEST(what_is_done_is_said_at_the_stop),
	    TEST(a_keeper_that_does_not_answer_is_asked_again),
	    TEST(the_rehearsal_reads_and_forgets),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	moods_new();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
