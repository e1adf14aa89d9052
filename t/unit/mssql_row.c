/*
 * mssql_row.c - unit test of src/directory/mssql_row.c: every kind of row to
 * the letter, hostile texts byte for byte or refused, names and times at
 * their limits.
 */
#include "config.h"

#include "directory/mssql_row.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "shm/call.h"
#include "shm/ids.h"

#define EPOCH   0x0123456789abcdefULL
#define AT_MS   1796120430123LL /* 2026-12-01T10:20:30.123 */
#define AT_TEXT "2026-12-01T10:20:30.123"

static const uint64_t pair[2] = {7, 9};
static const uint64_t alone[1] = {7};

static uint64_t
id_at(int64_t ms)
{
	return message_id_next(0, ms, 0);
}

static struct conv_key
key_of(const uint64_t *members, size_t count)
{
	struct conv_key key;

	conv_key_make(members, count, &key);
	return key;
}

static struct batch_entry
message_entry(enum outbox_kind kind, const char *body)
{
	return (struct batch_entry){
	    .entry = {.number = 5,
		.at_ms = AT_MS + 1,
		.kind = kind,
		.message_id = id_at(AT_MS)},
	    .message = {.id = id_at(AT_MS),
		.conv = key_of(pair, 2),
		.sender = 7,
		.client_time_ms = INT64_MIN,
		.type = {"text", 4},
		.body = {body, strlen(body)},
		.client_id = {"c", 1},
		.attachment = {"", 0}},
	    .members = pair,
	    .member_count = 2,
	};
}

static char *
row_of(const struct batch_entry *entry)
{
	const char *error = NULL;
	struct buf rows = {0};
	char *text;

	assert_int_equal(mssql_row_add(&rows, EPOCH, entry, &error), 0);
	assert_null(error);
	buf_add_char(&rows, '\0');
	text = strdup(rows.data);
	assert_non_null(text);
	buf_fini(&rows);
	return text;
}

/* Expected, with the id and the GUID where they stand as %s. */
static void
assert_row(const struct batch_entry *entry, const char *head, const char *tail)
{
	char guid[MSSQL_GUID_LEN + 1];
	struct buf expected = {0};
	char *text = row_of(entry);

	mssql_guid("message", EPOCH, entry->message.id, guid);
	buf_add_str(&expected, head);
	buf_add_u64(&expected, entry->message.id);
	if (strstr(head, "\"message\"") != NULL)
		buf_printf(&expected, ",\"g\":\"%s\"", guid);
	buf_add_str(&expected, tail);
	buf_add_char(&expected, '\0');
	assert_string_equal(text, expected.data);
	buf_fini(&expected);
	free(text);
}

static void
a_name_is_that_of_one_thing(void **state)
{
	char guid[MSSQL_GUID_LEN + 1];
	char other[MSSQL_GUID_LEN + 1];

	(void)state;
	mssql_guid("message", EPOCH, 42, guid);
	/* as Python's hashlib and uuid say */
	assert_string_equal(guid, "df61c950-3bee-8368-a419-275bff9d2416");
	mssql_guid("message", EPOCH, 42, other);
	assert_string_equal(guid, other);
	mssql_guid("message", EPOCH, 43, other);
	assert_string_not_equal(guid, other);
	mssql_guid("message", EPOCH + 1, 42, other);
	assert_string_not_equal(guid, other);
	mssql_guid("call", EPOCH, 42, other);
	assert_string_not_equal(guid, other);
}

static void
times_are_those_of_datetime2(void **state)
{
	static const struct {
		int64_t ms;
		const char *text; /* NULL: there is none */
	} times[] = {
	    {AT_MS, AT_TEXT},
	    {0, "1970-01-01T00:00:00.000"},
	    {-1, "1969-12-31T23:59:59.999"},
	    {-1000, "1969-12-31T23:59:59.000"},
	    {951827696789LL, "2000-02-29T12:34:56.789"},
	    {-62135596800000LL, "0001-01-01T00:00:00.000"},
	    {-62135596800001LL, NULL},
	    {253402300799999LL, "9999-12-31T23:59:59.999"},
	    {253402300800000LL, NULL},
	    {INT64_MAX, NULL},
	    {INT64_MIN, NULL},
	};
	char text[MSSQL_TIME_LEN + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		assert_int_equal(
		    mssql_time(times[i].ms, text), times[i].text != NULL);
		if (times[i].text != NULL)
			assert_string_equal(text, times[i].text);
	}
}

static void
a_message_is_a_row(void **state)
{
	struct batch_entry entry = message_entry(OUTBOX_MESSAGE, "hello");

	(void)state;
	assert_row(&entry, "{\"n\":5,\"k\":\"message\",\"i\":",
	    ",\"v\":\"7-9\",\"s\":7,\"t\":\"" AT_TEXT
	    "\",\"y\":\"text\",\"b\":\"hello\",\"o\":[9]}");
	entry.message.reply_to = 77;
	entry.message.client_time_ms = 0;
	entry.message.attachment = (struct blob){"{\"Size\":1}", 10};
	entry.message.flags = LOG_EDITED;
	entry.message.changed_ms = AT_MS + 1000;
	assert_row(&entry, "{\"n\":5,\"k\":\"message\",\"i\":",
	    ",\"v\":\"7-9\",\"s\":7,\"t\":\"" AT_TEXT
	    "\",\"r\":77,\"x\":\"1970-01-01T00:00:00.000\",\"y\":\"text\","
	    "\"b\":\"hello\",\"a\":\"{\\\"Size\\\":1}\","
	    "\"e\":\"2026-12-01T10:20:31.123\",\"o\":[9]}");
}

static void
a_time_that_only_a_client_has_stays_away(void **state)
{
	struct batch_entry entry = message_entry(OUTBOX_MESSAGE, "");

	(void)state;
	entry.message.client_time_ms = INT64_MAX;
	assert_row(&entry, "{\"n\":5,\"k\":\"message\",\"i\":",
	    ",\"v\":\"7-9\",\"s\":7,\"t\":\"" AT_TEXT
	    "\",\"y\":\"text\",\"b\":\"\",\"o\":[9]}");
}

static void
receivers_are_all_but_the_sender(void **state)
{
	static const uint64_t many[3] = {3, 7, MESSAGE_ID_MAX};
	struct batch_entry entry = message_entry(OUTBOX_MESSAGE, "x");
	char *text;

	(void)state;
	entry.message.conv = key_of(alone, 1);
	entry.members = alone;
	entry.member_count = 1;
	text = row_of(&entry);
	assert_non_null(strstr(text, "\"v\":\"7-7\""));
	assert_non_null(strstr(text, ",\"o\":[]}"));
	free(text);
	entry.message.conv = key_of(many, 3);
	entry.members = many;
	entry.member_count = 3;
	text = row_of(&entry);
	assert_non_null(strstr(text, ",\"o\":[3,9223372036854775807]}"));
	free(text);
	conv_key_of(CONV_GROUP, 12, &entry.message.conv);
	entry.member_count = 0;
	text = row_of(&entry);
	assert_non_null(strstr(text, "\"v\":\"g12\""));
	assert_null(strstr(text, "\"o\""));
	free(text);
}

static void
what_was_deleted_since_has_no_text(void **state)
{
	struct batch_entry entry = message_entry(OUTBOX_MESSAGE, "");

	(void)state;
	entry.message.flags = LOG_DELETED | LOG_EDITED;
	entry.message.changed_ms = AT_MS + 1000;
	entry.message.type = (struct blob){"", 0};
	assert_row(&entry, "{\"n\":5,\"k\":\"message\",\"i\":",
	    ",\"v\":\"7-9\",\"s\":7,\"t\":\"" AT_TEXT
	    "\",\"d\":\"2026-12-01T10:20:31.123\",\"o\":[9]}");
}

static void
changes_are_rows(void **state)
{
	struct batch_entry entry = message_entry(OUTBOX_EDIT, "new");

	(void)state;
	entry.message.flags = LOG_EDITED;
	entry.message.changed_ms = AT_MS;
	assert_row(&entry, "{\"n\":5,\"k\":\"edit\",\"i\":",
	    ",\"t\":\"" AT_TEXT "\",\"b\":\"new\"}");
	/* deleted between its edit and this reading */
	entry.message.flags = LOG_EDITED | LOG_DELETED;
	assert_row(&entry,
	    "{\"n\":5,\"k\":\"delete\",\"i\":", ",\"t\":\"" AT_TEXT "\"}");
	/* gone from the log: the entry has the time */
	entry.entry.kind = OUTBOX_DELETE;
	entry.entry.at_ms = AT_MS;
	entry.message =
	    (struct log_message){.id = entry.message.id, .flags = LOG_DELETED};
	assert_row(&entry,
	    "{\"n\":5,\"k\":\"delete\",\"i\":", ",\"t\":\"" AT_TEXT "\"}");
}

static void
receipts_and_statuses_are_rows(void **state)
{
	struct batch_entry entry = {.entry = {.number = 6,
					.at_ms = AT_MS,
					.kind = OUTBOX_DELIVERED,
					.conv = key_of(pair, 2),
					.user = 9,
					.message_id = 1234}};
	char *text = row_of(&entry);

	(void)state;
	assert_string_equal(text,
	    "{\"n\":6,\"k\":\"delivered\",\"v\":\"7-9\",\"u\":9,\"i\":1234,"
	    "\"t\":\"" AT_TEXT "\"}");
	free(text);
	entry.entry.kind = OUTBOX_READ;
	text = row_of(&entry);
	assert_non_null(strstr(text, "\"k\":\"read\",\"v\":\"7-9\""));
	free(text);
	entry.entry.kind = OUTBOX_STATUS;
	entry.entry.status = STATUS_AWAY;
	entry.entry.text = (struct blob){"at \"lunch\"", 10};
	text = row_of(&entry);
	assert_string_equal(text,
	    "{\"n\":6,\"k\":\"status\",\"u\":9,\"c\":\"AWAY\","
	    "\"x\":\"at \\\"lunch\\\"\",\"t\":\"" AT_TEXT "\"}");
	free(text);
}

static void
assert_text(struct outbox_entry *entry, const char *expected)
{
	struct batch_entry of = {.entry = *entry};
	char *text = row_of(&of);

	assert_string_equal(text, expected);
	free(text);
}

static void
groups_and_members_are_rows(void **state)
{
	struct outbox_entry entry = {
	    .number = 6,
	    .at_ms = AT_MS + 5000, /* not when it happened */
	    .kind = OUTBOX_GROUP,
	    .group = 12,
	    .event = id_at(AT_MS),
	    .text = {"Ward \"3\"", 8},
	};

	(void)state;
	assert_text(&entry,
	    "{\"n\":6,\"k\":\"group\",\"i\":12,\"x\":\"Ward \\\"3\\\"\","
	    "\"t\":\"" AT_TEXT "\"}");
	entry.kind = OUTBOX_MEMBER;
	entry.user = 9;
	entry.role = ROLE_ADMIN;
	assert_text(&entry,
	    "{\"n\":6,\"k\":\"member\",\"i\":12,\"u\":9,\"c\":\"ADMIN\","
	    "\"t\":\"" AT_TEXT "\"}");
	entry.role = ROLE_NONE;
	assert_text(&entry,
	    "{\"n\":6,\"k\":\"member\",\"i\":12,\"u\":9,\"t\":\"" AT_TEXT
	    "\"}");
}

static void
a_call_is_a_row_with_its_participants(void **state)
{
	const struct outbox_part parts[] = {
	    {7, AT_MS, AT_MS + 1000, CALL_OUTCOME_ANSWERED, {0}},
	    {9, 0, 0, CALL_OUTCOME_MISSED, {0}},
	};
	/* where nothing is aligned, as in a block */
	uint8_t bytes[1 + sizeof(parts)];
	struct outbox_entry entry = {
	    .number = 6,
	    .kind = OUTBOX_CALL,
	    .call = {.id = 1234,
		.user = 7,
		.created_ms = AT_MS,
		.ended_ms = AT_MS + 1000,
		.kind = CALL_VIDEO,
		.outcome = CALL_OUTCOME_ANSWERED,
		.part_count = 2},
	    .text = {bytes + 1, sizeof(parts)},
	};
	char expected[512];
	char guid[MSSQL_GUID_LEN + 1];
	char other[MSSQL_GUID_LEN + 1];

	(void)state;
	memcpy(bytes + 1, parts, sizeof(parts));
	mssql_guid("call", EPOCH, 1234, guid);
	mssql_guid("message", EPOCH, 1234, other);
	assert_string_not_equal(guid, other);
	snprintf(expected, sizeof(expected),
	    "{\"n\":6,\"k\":\"call\",\"i\":1234,\"g\":\"%s\",\"y\":\"VIDEO\","
	    "\"s\":7,\"t\":\"" AT_TEXT
	    "\",\"e\":\"2026-12-01T10:20:31.123\",\"c\":\"ANSWERED\",\"p\":["
	    "{\"u\":7,\"c\":\"ANSWERED\",\"t\":\"" AT_TEXT
	    "\",\"e\":\"2026-12-01T10:20:31.123\"},"
	    "{\"u\":9,\"c\":\"MISSED\"}]}",
	    guid);
	assert_text(&entry, expected);
}

/* Read back by the strict reader, and through the database's eyes. */
static void
assert_body_survives(const char *body, size_t len)
{
	struct batch_entry entry = message_entry(OUTBOX_MESSAGE, "");
	struct json_object *value = NULL;
	const char *back = NULL;
	size_t back_len = 0;
	char error[128];
	char *text;

	entry.message.body = (struct blob){body, len};
	text = row_of(&entry);
	assert_int_equal(
	    json_parse(text, strlen(text), &value, error, sizeof(error)), 0);
	assert_int_equal(json_get_string(value, "b", &back, &back_len), 0);
	assert_int_equal(back_len, len);
	assert_memory_equal(back, body, len);
	json_free(&value);
	free(text);
}

static void
texts_survive_byte_for_byte(void **state)
{
	static const char *const texts[] = {
	    "", "'; DROP TABLE dbo.Messages; --",
	    "\"quotes\" and \\ and \\u0000 as letters",
	    "\x01\x1f\x7f\t\r\n\b\f",
	    "\xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7", /* Arabic */
	    "\xe2\x80\xae"
	    "RTL"
	    "\xe2\x80\xac",                                 /* override */
	    "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb", /* emoji, joined */
	    "\xef\xbf\xbf\xf4\x8f\xbf\xbf",                 /* the last ones */
	};
	size_t len = 64 * 1024;
	char *large = malloc(len);

	(void)state;
	assert_non_null(large);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_body_survives(texts[i], strlen(texts[i]));
	memset(large, '"', len);
	assert_body_survives(large, len);
	for (size_t i = 0; i < len; i += 4)
		memcpy(large + i, "\xf0\x9f\x98\x80", 4);
	assert_body_survives(large, len);
	free(large);
}

static void
assert_refused(const struct batch_entry *entry, const char *sentence)
{
	const char *error = NULL;
	struct buf rows = {0};

	json_array_begin(&rows);
	json_u64(&rows, 1);
	assert_int_equal(
	    mssql_row_add(&rows, EPOCH, entry, &error), ERR_BAD_REQUEST);
	assert_string_equal(error, sentence);
	assert_true(strlen(error) <= OUTBOX_ERROR_MAX);
	assert_int_equal(rows.len, 2); /* as before it */
	assert_memory_equal(rows.data, "[1", 2);
	buf_fini(&rows);
}

static void
no_text_that_a_database_cannot_hold_goes_out(void **state)
{
	static const struct blob broken[] = {
	    {"\xed\xa0\x80", 3},     /* a lone surrogate */
	    {"\xc0\xaf", 2},         /* overlong */
	    {"\xf4\x90\x80\x80", 4}, /* beyond the last */
	    {"ab\xf0\x9f\x98", 5},   /* cut */
	    {"\xff", 1},
	};
	static const struct blob nul = {"a\0b", 3};
	struct batch_entry entry = message_entry(OUTBOX_MESSAGE, "");

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		entry.message.body = broken[i];
		assert_refused(&entry, "a text of it is not valid UTF-8");
	}
	entry.message.body = nul;
	assert_refused(&entry, "a text of it holds a NUL character");
	entry.entry.kind = OUTBOX_EDIT;
	assert_refused(&entry, "a text of it holds a NUL character");
	entry.entry.kind = OUTBOX_STATUS;
	entry.entry.text = nul;
	assert_refused(&entry, "a text of it holds a NUL character");
	entry.entry.text = broken[0];
	assert_refused(&entry, "a text of it is not valid UTF-8");
	entry.entry.status = STATUS_END;
	assert_refused(&entry, "there is no such status");
	entry.entry.kind = OUTBOX_DAMAGED;
	assert_refused(&entry, "nobody knows what it was");
}

static void
rows_stand_in_one_array(void **state)
{
	struct batch_entry good = message_entry(OUTBOX_MESSAGE, "x");
	struct batch_entry bad = message_entry(OUTBOX_MESSAGE, "\xff");
	const struct json_object *array;
	struct json_object *value = NULL;
	struct buf rows = {0};
	const char *why;
	char error[128];
	size_t count;

	(void)state;
	json_object_begin(&rows);
	json_key(&rows, "rows");
	json_array_begin(&rows);
	assert_int_equal(
	    mssql_row_add(&rows, EPOCH, &bad, &why), ERR_BAD_REQUEST);
	assert_int_equal(mssql_row_add(&rows, EPOCH, &good, &why), 0);
	assert_int_equal(
	    mssql_row_add(&rows, EPOCH, &bad, &why), ERR_BAD_REQUEST);
	assert_int_equal(mssql_row_add(&rows, EPOCH, &good, &why), 0);
	json_array_end(&rows);
	json_object_end(&rows);
	assert_int_equal(
	    json_parse(rows.data, rows.len, &value, error, sizeof(error)), 0);
	assert_int_equal(json_get_array(value, "rows", &array, &count), 0);
	assert_int_equal(count, 2);
	json_free(&value);
	buf_fini(&rows);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_name_is_that_of_one_thing),
	    cmocka_unit_test(times_are_those_of_datetime2),
	    cmocka_unit_test(a_message_is_a_row),
	    cmocka_unit_test(a_time_that_only_a_client_has_stays_away),
	    cmocka_unit_test(receivers_are_all_but_the_sender),
	    cmocka_unit_test(what_was_deleted_since_has_no_text),
	    cmocka_unit_test(changes_are_rows),
	    cmocka_unit_test(receipts_and_statuses_are_rows),
	    cmocka_unit_test(groups_and_members_are_rows),
	    cmocka_unit_test(a_call_is_a_row_with_its_participants),
	    cmocka_unit_test(texts_survive_byte_for_byte),
	    cmocka_unit_test(no_text_that_a_database_cannot_hold_goes_out),
	    cmocka_unit_test(rows_stand_in_one_array),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
