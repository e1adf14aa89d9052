/*
 * dir_mssql_history.c - unit test of old messages out of SQL Server: rows that
 * are where they were asked for, and rows that are not.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "shm/ids.h"
#include "shm/store_schema.h"
#include "t/unit/dir_mssql_stage.h"

#define MAPPING                                                                \
	"Old(@c = conversation, @b = before, @a = after, @s = size) -> "       \
	"Id = id, Sender = sender, Body = body, Attachment = attachment, "     \
	"Edited = edited, Deleted = deleted"

/* What a page came to. */
struct outcome {
	int rc;
	uint32_t count;
	bool has_more;
	struct dir_request *request;
};

static int
history_open(void **state)
{
	static const char *const columns[FAKE_COLUMNS] = {
	    "Id", "Sender", "Body", "Attachment", "Edited", "Deleted"};
	struct stage *stage;

	stage_open(state);
	stage = *state;
	stage_set(&stage->conf->mssql_procedures_messages, MAPPING);
	assert_true(dir_mssql_ops.close(&stage->backend, INT64_MAX));
	stage_open_backend(stage);
	stage->answers[USER].procedure = "Old";
	memcpy(stage->answers[USER].columns, columns, sizeof(columns));
	return 0;
}

/* @param before, after, limit  as asked for */
static struct outcome
ask(struct stage *stage, const char *(*rows)[FAKE_COLUMNS], size_t count,
    uint64_t before, uint64_t after, uint32_t limit)
{
	struct dir_request *request = stage_request(DIR_OP_HISTORY, 1);
	const uint64_t members[] = {1, 2};
	struct outcome outcome = {.request = request};

	conv_key_make(members, 2, &request->conv);
	request->before = before;
	request->after = after;
	request->limit = limit;
	stage->answers[USER].rows = rows;
	stage->answers[USER].count = count;
	stage_ask(stage, request, &outcome.rc);
	fake_pool_run(stage->conn);
	outcome.count = request->answer.message_count;
	outcome.has_more = request->answer.has_more;
	return outcome;
}

static void
end(struct outcome *outcome)
{
	dir_request_free(&outcome->request);
}

static const char *down[][FAKE_COLUMNS] = {
    {"90", "1", "newest", NULL, NULL, NULL},
    {"80", "2", "\xd9\x85 \xf0\x9f\x98\x80", "{\"Size\":7}", "5000", NULL},
    {"70", "1", "must not be seen", "no JSON", NULL, "6000"},
    {"60", "2", "", NULL, NULL, NULL},
};

static void
a_page_is_what_was_asked_for(void **state)
{
	struct stage *stage = *state;
	struct outcome page = ask(stage, down, 4, 100, 0, 4);
	const uint8_t *at = page.request->answer.tail;
	struct dir_message_entry entry;

	assert_int_equal(page.rc, 0);
	assert_int_equal(page.count, 4);
	assert_false(page.has_more);
	assert_string_equal(stage->answers[USER].params, "c=1-2;b=100;s=5;");
	memcpy(&entry, at, sizeof(entry));
	assert_int_equal(entry.id, 90);
	assert_int_equal(entry.sender, 1);
	assert_memory_equal(at + sizeof(entry), "newest", 6);
	assert_int_equal(entry.flags, 0);
	at += sizeof(entry) + 8;
	memcpy(&entry, at, sizeof(entry));
	assert_int_equal(entry.id, 80);
	assert_int_equal(entry.flags, LOG_EDITED);
	assert_int_equal(entry.changed_ms, 5000);
	assert_int_equal(entry.attachment_len, 10);
	at += sizeof(entry) + ((entry.body_len + 10 + 7) & ~7U);
	memcpy(&entry, at, sizeof(entry));
	assert_int_equal(entry.id, 70);
	assert_int_equal(entry.flags, LOG_DELETED);
	assert_int_equal(entry.changed_ms, 6000);
	assert_int_equal(entry.body_len + entry.attachment_len, 0);
	end(&page);
}

static void
one_more_row_says_that_there_is_more(void **state)
{
	struct outcome page = ask(*state, down, 4, 0, 0, 3);

	assert_int_equal(page.rc, 0);
	assert_int_equal(page.count, 3);
	assert_true(page.has_more);
	assert_string_equal(((struct stage *)*state)->answers[USER].params,
	    "c=1-2;b=9223372036854775807;s=4;");
	end(&page);
}

static void
upwards_the_oldest_comes_first(void **state)
{
	static const char *up[][FAKE_COLUMNS] = {
	    {"60", "2", "a", NULL, NULL, NULL},
	    {"70", "2", "b", NULL, NULL, NULL},
	};
	struct outcome page = ask(*state, up, 2, 100, 50, 10);

	assert_int_equal(page.rc, 0);
	assert_int_equal(page.count, 2);
	assert_string_equal(((struct stage *)*state)->answers[USER].params,
	    "c=1-2;b=100;a=50;s=11;");
	end(&page);
	page = ask(*state, down, 4, 100, 50, 10);
	assert_int_equal(page.rc, ERR_UNAVAILABLE);
	end(&page);
}

static void
rows_that_make_no_sense_are_nobody_s_history(void **state)
{
	static const char *bad[][2][FAKE_COLUMNS] = {
	    {{"100", "1", "at the border", NULL, NULL, NULL}},
	    {{"0", "1", "no id", NULL, NULL, NULL}},
	    {{"-5", "1", "no id", NULL, NULL, NULL}},
	    {{NULL, "1", "no id", NULL, NULL, NULL}},
	    {{"90", NULL, "no sender", NULL, NULL, NULL}},
	    {{"90", "9007199254740992", "no user", NULL, NULL, NULL}},
	    {{"90", "1", "\xff", NULL, NULL, NULL}},
	    {{"90", "1", "x", "[7]", NULL, NULL}},
	    {{"90", "1", "x", "{\"a\":", NULL, NULL}},
	    {{"80", "1", "x", NULL, NULL, NULL},
		{"80", "1", "twice", NULL, NULL, NULL}},
	    {{"80", "1", "x", NULL, NULL, NULL},
		{"90", "1", "back again", NULL, NULL, NULL}},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t count = bad[i][1][0] != NULL ? 2 : 1;
		struct outcome page = ask(*state, bad[i], count, 100, 0, 10);

		if (page.rc != ERR_UNAVAILABLE)
			fail_msg("rows %zu: rc %d", i, page.rc);
		end(&page);
	}
}

static void
the_longest_messages_share_no_page(void **state)
{
	static const char *rows[3][FAKE_COLUMNS];
	char *body = malloc(131072 + 1);
	struct outcome page;

	memset(body, 'x', 131072);
	body[131072] = '\0';
	for (int i = 0; i < 3; i++) {
		rows[i][0] = (const char *[]){"90", "80", "70"}[i];
		rows[i][1] = "1";
		rows[i][2] = body;
	}
	page = ask(*state, rows, 3, 0, 0, 10);
	assert_int_equal(page.rc, 0);
	assert_int_equal(page.count, 1);
	assert_true(page.has_more);
	end(&page);
	free(body);
}

static void
without_a_procedure_nobody_knows(void **state)
{
	struct stage *stage = *state;
	struct outcome page;

	stage_set(&stage->conf->mssql_procedures_messages, "");
	assert_true(dir_mssql_ops.close(&stage->backend, INT64_MAX));
	stage_open_backend(stage);
	page = ask(stage, down, 4, 100, 0, 4);
	assert_int_equal(page.rc, ERR_UNAVAILABLE);
	end(&page);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, history_open, stage_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_page_is_what_was_asked_for),
	    TEST(one_more_row_says_that_there_is_more),
	    TEST(upwards_the_oldest_comes_first),
	    TEST(rows_that_make_no_sense_are_nobody_s_history),
	    TEST(the_longest_messages_share_no_page),
	    TEST(without_a_procedure_nobody_knows),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
