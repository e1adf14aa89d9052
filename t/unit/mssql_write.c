/*
 * mssql_write.c - unit test of src/directory/mssql_write.c: whatever happens
 * to a call, each row is written once, in order, or refused.
 */
#include "config.h"

#include "directory/mssql_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "shm/ids.h"
#include "t/unit/tds_fake.h"

static const uint64_t pair[2] = {7, 9};

struct stage {
	struct mssql_procedure procedure;
	struct mssql_write write;
	struct batch *batch;
	struct tds_conn *conn;
	char *body; /* of BATCH_BYTES_MAX quotation marks */
};

static int
stage_open(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	char error[256];

	assert_non_null(stage);
	stage->conn = calloc(1, sizeof(*stage->conn));
	stage->body = malloc(BATCH_BYTES_MAX);
	assert_non_null(stage->conn);
	assert_non_null(stage->body);
	memset(stage->body, '"', BATCH_BYTES_MAX);
	stage->batch = batch_new();
	assert_int_equal(mssql_procedure_parse(MSSQL_PROC_write_batch,
			     "W(@Json = rows) -> Written = written, "
			     "Known = known",
			     &stage->procedure, error, sizeof(error)),
	    0);
	stage->write.procedure = &stage->procedure;
	stage->write.epoch = 1;
	stage->write.call_ms = 5000;
	*state = stage;
	return 0;
}

static int
stage_close(void **state)
{
	struct stage *stage = *state;

	mssql_write_fini(&stage->write);
	mssql_procedure_fini(&stage->procedure);
	batch_free(&stage->batch);
	free(stage->conn);
	free(stage->body);
	free(stage);
	return 0;
}

/* A batch of messages with the numbers first, first + 1, ... */
static void
fill(struct stage *stage, uint64_t first, size_t count, size_t body_len)
{
	struct batch *batch = stage->batch;

	batch->count = count;
	batch->last = first + count - 1;
	batch->refusal_count = 0;
	batch->refused_by_reading = 0;
	for (size_t i = 0; i < count; i++) {
		struct batch_entry *entry = &batch->entries[i];

		*entry = (struct batch_entry){
		    .entry = {.number = first + i, .kind = OUTBOX_MESSAGE},
		    .message = {.id = first + i,
			.sender = 7,
			.client_time_ms = INT64_MIN,
			.type = {"text", 4},
			.body = {stage->body, body_len},
			.attachment = {"", 0}},
		    .members = pair,
		    .member_count = 2,
		};
		conv_key_make(pair, 2, &entry->message.conv);
	}
}

static int
run(struct stage *stage)
{
	return mssql_write_run(&stage->write, stage->batch, stage->conn);
}

/* As the consumer does it: the same batch until it is taken. */
static void
run_until_taken(struct stage *stage)
{
	for (int i = 0; run(stage) != 0; i++) {
		assert_true(i < 1000);
		batch_write_again(stage->batch);
		fake_reconnect(stage->conn);
	}
}

static void
assert_all(struct stage *stage, uint64_t first, size_t count)
{
	const struct tds_conn *conn = stage->conn;

	for (size_t i = 0; i < count; i++) {
		bool is_bad =
		    conn->is_bad[first + i] || conn->is_key[first + i];

		assert_int_equal(conn->written[first + i], !is_bad);
		assert_int_equal(stage->batch->entries[i].is_refused, is_bad);
	}
	for (size_t i = 1; i < conn->order_count; i++)
		assert_true(conn->order[i - 1] < conn->order[i]);
}

static void
a_batch_is_written_in_order(void **state)
{
	struct stage *stage = *state;

	fill(stage, 1, BATCH_ENTRIES_MAX, 10);
	assert_int_equal(run(stage), 0);
	assert_all(stage, 1, BATCH_ENTRIES_MAX);
	assert_int_equal(stage->conn->order_count, BATCH_ENTRIES_MAX);
	assert_int_equal(stage->write.known, 0);
	assert_string_equal(stage->conn->procedure, "W");
	assert_string_equal(stage->conn->param, "Json");
	/* ... and the next one with a single call */
	stage->conn->calls = 0;
	fill(stage, 1 + BATCH_ENTRIES_MAX, 1000, 10);
	assert_int_equal(run(stage), 0);
	assert_int_equal(stage->conn->calls, 1);
}

static void
a_call_has_a_size(void **state)
{
	struct stage *stage = *state;

	/* quotation marks are two bytes each in JSON */
	fill(stage, 1, 15, 65536);
	assert_int_equal(run(stage), 0);
	assert_all(stage, 1, 15);
	assert_int_equal(stage->conn->calls, 2);
	assert_true(stage->conn->bytes_max >= MSSQL_CALL_BYTES_MAX);
	assert_true(
	    stage->conn->bytes_max < MSSQL_CALL_BYTES_MAX + 2 * 65536 + 1000);
}

static void
a_lost_reply_is_no_second_row(void **state)
{
	struct stage *stage = *state;

	stage->conn->fate_count = 3;
	stage->conn->fates[0] = (struct fake_fate){
	    .number = 20003, .is_after = true, .breaks = true};
	stage->conn->fates[2] = (struct fake_fate){
	    .number = 20017, .is_after = true, .breaks = true};
	fill(stage, 1, 200, 10);
	assert_int_equal(run(stage), ERR_TIMEOUT);
	assert_int_equal(stage->write.trouble.number, 20003);
	batch_write_again(stage->batch);
	fake_reconnect(stage->conn);
	run_until_taken(stage);
	assert_all(stage, 1, 200);
	assert_int_equal(stage->conn->order_count, 200);
	assert_in_range(stage->write.known, 1, 200);
}

static void
victims_and_losers_try_again_at_once(void **state)
{
	static const int32_t numbers[] = {1205, 2627, 1222, 2601};
	struct stage *stage = *state;

	stage->conn->fate_count = 4;
	for (int i = 0; i < 4; i++)
		stage->conn->fates[i].number = numbers[i];
	fill(stage, 1, 50, 10);
	assert_int_equal(run(stage), 0);
	assert_int_equal(stage->conn->calls, 5);
	assert_int_equal(stage->batch->refusal_count, 0);
	assert_all(stage, 1, 50);
}

static void
one_that_is_always_a_victim_waits(void **state)
{
	struct stage *stage = *state;

	stage->conn->fate_count = 64;
	for (int i = 0; i < 64; i++)
		stage->conn->fates[i].number = 1205;
	fill(stage, 1, 50, 10);
	assert_int_equal(run(stage), ERR_UNAVAILABLE); /* not ERR_AGAIN */
	assert_int_equal(stage->conn->calls, 5);
	assert_int_equal(stage->batch->refusal_count, 0);
}

static void
bad_rows_are_refused_alone(void **state)
{
	struct stage *stage = *state;

	stage->conn->is_bad[1] = true;
	stage->conn->is_bad[77] = true;
	stage->conn->is_bad[78] = true;
	stage->conn->is_bad[500] = true;
	fill(stage, 1, 500, 10);
	assert_int_equal(run(stage), 0);
	assert_all(stage, 1, 500);
	assert_int_equal(stage->batch->refusal_count, 4);
	assert_int_equal(stage->batch->refusals[0].number, 1);
	assert_int_equal(stage->batch->refusals[0].code, 2628);
	assert_memory_equal(stage->batch->refusals[0].error,
	    "SQL Server says 2628 in line 7 of W",
	    stage->batch->refusals[0].error_len);
}

/* A row whose key another one has, as after a backup was restored: it must not
 * stop the queue for ever. */
static void
a_key_that_stays_in_the_way_is_refused(void **state)
{
	struct stage *stage = *state;

	stage->conn->is_key[20] = true;
	fill(stage, 1, 64, 10);
	assert_int_equal(run(stage), 0);
	assert_all(stage, 1, 64);
	assert_int_equal(stage->batch->refusal_count, 1);
	assert_int_equal(stage->batch->refusals[0].number, 20);
	assert_int_equal(stage->batch->refusals[0].code, 2627);
}

static void
what_cannot_go_out_is_refused_here(void **state)
{
	struct stage *stage = *state;

	fill(stage, 1, 10, 10);
	stage->batch->entries[4].message.body = (struct blob){"\xff", 1};
	stage->batch->entries[7].entry.kind = OUTBOX_DAMAGED;
	stage->batch->entries[7].is_refused = true; /* by reading */
	assert_int_equal(run(stage), 0);
	assert_int_equal(stage->batch->refusal_count, 1);
	assert_int_equal(stage->batch->refusals[0].number, 5);
	assert_int_equal(stage->conn->sent[5] + stage->conn->sent[8], 0);
	assert_int_equal(stage->conn->order_count, 8);
	/* nothing but such rows needs no call */
	fill(stage, 11, 1, 10);
	stage->batch->entries[0].message.body = (struct blob){"\xff", 1};
	stage->conn->calls = 0;
	assert_int_equal(run(stage), 0);
	assert_int_equal(stage->conn->calls, 0);
	assert_int_equal(stage->batch->refusal_count, 1);
}

/* The connection breaks in every place of a search for bad rows. */
static void
progress_and_refusals_outlive_a_failure(void **state)
{
	struct stage *stage = *state;
	uint64_t first = 1;

	for (unsigned at = 0; at < 24; at++) {
		struct tds_conn *conn = stage->conn;
		unsigned sent = 0;

		memset(conn, 0, sizeof(*conn));
		conn->is_bad[first] = true;
		conn->is_bad[first + 60] = true;
		conn->fate_count = at + 1;
		conn->fates[at] = (struct fake_fate){
		    .number = 20006, .is_after = at % 2 == 0, .breaks = true};
		fill(stage, first, 100, 10);
		run_until_taken(stage);
		assert_all(stage, first, 100);
		assert_int_equal(stage->batch->refusal_count, 2);
		for (size_t i = 0; i < 100; i++)
			sent += conn->sent[first + i];
		/* twice the search, and not all from the start */
		assert_true(sent < 700);
		first += 100;
	}
}

static void
a_wrong_setup_is_no_rows_fault(void **state)
{
	static const int32_t numbers[] = {2812, 201, 8144, 229};
	struct stage *stage = *state;

	stage->conn->fate_count = 4;
	for (int i = 0; i < 4; i++)
		stage->conn->fates[i].number = numbers[i];
	fill(stage, 1, 50, 10);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(run(stage), ERR_SERVER_ERROR);
		assert_int_equal(
		    stage->write.trouble.class, TDS_CLASS_BAD_SETUP);
		assert_int_equal(stage->write.trouble.number, numbers[i]);
		batch_write_again(stage->batch);
	}
	assert_int_equal(stage->batch->refusal_count, 0);
	assert_int_equal(run(stage), 0);
	assert_int_equal(stage->write.trouble.class, TDS_CLASS_NONE);
	assert_all(stage, 1, 50);
}

static void
an_answer_that_does_not_add_up_is_not_believed(void **state)
{
	static const struct fake_fate fates[] = {
	    {.status = 1},
	    {.miscount = -1},
	    {.miscount = 1},
	    {.miscount = INT64_MAX / 2},
	    {.has_no_counts = true},
	};
	struct stage *stage = *state;
	size_t count = sizeof(fates) / sizeof(fates[0]);

	memcpy(stage->conn->fates, fates, sizeof(fates));
	stage->conn->fate_count = count;
	fill(stage, 1, 50, 10);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(run(stage), ERR_SERVER_ERROR);
		assert_string_equal(stage->write.trouble.procedure, "W");
		assert_true(stage->write.trouble.what[0] != '\0');
		batch_write_again(stage->batch);
	}
	assert_int_equal(run(stage), 0);
	assert_all(stage, 1, 50);
}

static void
other_result_sets_are_passed_over(void **state)
{
	struct stage *stage = *state;

	stage->conn->fate_count = 1;
	stage->conn->fates[0].has_extra_sets = true;
	fill(stage, 1, 50, 10);
	assert_int_equal(run(stage), 0);
	assert_all(stage, 1, 50);
	/* an installation whose procedure says nothing */
	free(stage->procedure.columns[MSSQL_FIELD_known]);
	stage->procedure.columns[MSSQL_FIELD_known] = NULL;
	stage->conn->fate_count = 64;
	stage->conn->fates[stage->conn->calls].has_no_counts = true;
	fill(stage, 51, 50, 10);
	assert_int_equal(run(stage), 0);
	assert_all(stage, 51, 50);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, stage_open, stage_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_batch_is_written_in_order),
	    TEST(a_call_has_a_size),
	    TEST(a_lost_reply_is_no_second_row),
	    TEST(victims_and_losers_try_again_at_once),
	    TEST(one_that_is_always_a_victim_waits),
	    TEST(bad_rows_are_refused_alone),
	    TEST(a_key_that_stays_in_the_way_is_refused),
	    TEST(what_cannot_go_out_is_refused_here),
	    TEST(progress_and_refusals_outlive_a_failure),
	    TEST(a_wrong_setup_is_no_rows_fault),
	    TEST(an_answer_that_does_not_add_up_is_not_believed),
	    TEST(other_result_sets_are_passed_over),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
