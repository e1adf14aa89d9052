/*
 * json.c - JSON writer and reader.
 *
 * Role:    what is written is read back; what RFC 8259 forbids is refused at
 *          the right byte; nothing is mended silently.
 * Process: test.
 * Blocks:  no.
 * Trust:   -
 * See:     src/base/json*.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static char error[128];

/* In an allocation of exactly its length, so that reading on is seen. */
static int
parse_len(const char *text, size_t len, struct json_object **value)
{
	char *exact = malloc(len == 0 ? 1 : len);
	int rc;

	assert_non_null(exact);
	memcpy(exact, text, len);
	*error = '\0';
	rc = json_parse(exact, len, value, error, sizeof(error));
	free(exact);
	return rc;
}

static struct json_object *
parse(const char *text)
{
	struct json_object *value = NULL;

	if (parse_len(text, strlen(text), &value) != 0)
		fail_msg("%s: %s", text, error);
	return value;
}

static void
assert_written(struct buf *buf, const char *wanted)
{
	buf_add_char(buf, '\0');
	assert_string_equal(buf->data, wanted);
	buf_fini(buf);
}

static void
writer_puts_commas_where_they_belong(void **state)
{
	struct buf buf = {0};

	(void)state;
	json_object_begin(&buf);
	json_put_u64(&buf, "a", UINT64_MAX);
	json_put_i64(&buf, "b", INT64_MIN);
	json_put_id(&buf, "c", UINT64_MAX);
	json_put_bool(&buf, "d", true);
	json_put_text(&buf, "e", "");
	json_key(&buf, "f");
	json_array_begin(&buf);
	json_null(&buf);
	json_boolean(&buf, false);
	json_array_begin(&buf);
	json_array_end(&buf);
	json_object_begin(&buf);
	json_object_end(&buf);
	json_string(&buf, "[{:", 3);
	json_id(&buf, 5);
	json_raw(&buf, "1.5", 3);
	json_array_end(&buf);
	json_put_raw(&buf, "g", "{}", 2);
	json_object_end(&buf);
	assert_written(&buf,
	    "{\"a\":18446744073709551615,\"b\":-9223372036854775808,"
	    "\"c\":\"18446744073709551615\",\"d\":true,\"e\":\"\",\"f\":"
	    "[null,false,[],{},\"[{:\",\"5\",1.5],\"g\":{}}");
}

static void
writer_escapes_what_rfc_8259_asks_for(void **state)
{
	struct buf buf = {0};

	(void)state;
	json_string(&buf, "\0\x01\b\t\n\v\f\r\x1f \"\\/\x7f\xc3\xa9", 16);
	assert_written(&buf, "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f "
			     "\\\"\\\\/\x7f\xc3\xa9\"");
}

static void
every_byte_survives_a_round_trip(void **state)
{
	char text[256];
	const char *got;
	size_t len = 0;
	struct buf buf = {0};
	struct json_object *value = NULL;

	(void)state;
	for (int i = 0; i < 128; i++)
		text[len++] = (char)i;
	memcpy(text + len, "\xc3\xa9\xf0\x9f\x98\x80", 6);
	len += 6;
	json_object_begin(&buf);
	json_put_string(&buf, "t", text, len);
	json_object_end(&buf);
	assert_int_equal(parse_len(buf.data, buf.len, &value), 0);
	buf_fini(&buf);
	assert_int_equal(json_get_string(value, "t", &got, &len), 0);
	assert_int_equal(len, 134);
	assert_memory_equal(got, text, len);
	json_free(&value);
	assert_null(value);
}

static const struct {
	const char *text;
	size_t offset;
} refused[] = {
    {"", 0},
    {"  ", 2},
    {"[1]", 0},
    {"1", 0},
    {"null", 0},
    {"{", 1},
    {"{\"a\"", 4},
    {"{\"a\":", 5},
    {"{\"a\":1", 6},
    {"{\"a\":1,", 7},
    {"{\"a\":1,}", 7},
    {"{,}", 1},
    {"{\"a\" 1}", 5},
    {"{\"a\":1 \"b\":2}", 7},
    {"{a:1}", 1},
    {"{'a':1}", 1},
    {"{\"a\":'x'}", 5},
    {"{\"a\":1}x", 7},
    {"{\"a\":1}{}", 7},
    {"{\"a\":1}/*c*/", 7},
    {"/*c*/{}", 0},
    {"{\"a\":[1,]}", 8},
    {"{\"a\":[1 2]}", 8},
    {"{\"a\":[1}", 7},
    {"{\"a\":[}", 6},
    {"{\"a\":TRUE}", 5},
    {"{\"a\":nul}", 5},
    {"{\"a\":NaN}", 5},
    {"{\"a\":nan}", 5},
    {"{\"a\":Infinity}", 5},
    {"{\"a\":-Infinity}", 6},
    {"{\"a\":-}", 6},
    {"{\"a\":+1}", 5},
    {"{\"a\":01}", 6},
    {"{\"a\":00}", 6},
    {"{\"a\":-01}", 7},
    {"{\"a\":1.}", 7},
    {"{\"a\":.5}", 5},
    {"{\"a\":1e}", 7},
    {"{\"a\":1e+}", 8},
    {"{\"a\":1-2}", 6},
    {"{\"a\":0x1}", 6},
    {"{\"a\":18446744073709551616}", 5},
    {"{\"a\":-9223372036854775809}", 6},
    {"{\"a\":\"", 6},
    {"{\"a\":\"\\", 7},
    {"{\"a\":\"\\x\"}", 7},
    {"{\"a\":\"\\u12\"}", 10},
    {"{\"a\":\"\\u12g4\"}", 10},
    {"{\"a\":\"\\ud800\"}", 12},
    {"{\"a\":\"\\ud800\\n\"}", 12},
    {"{\"a\":\"\\ud800\\u0041\"}", 18},
    {"{\"a\":\"\\udc00\"}", 12},
    {"{\"a\":\"\x01\"}", 6},
    {"{\"a\":\"\t\"}", 6},
    {"{\"a\":\"\n\"}", 6},
    {"{\"a\\u0000b\":1}", 9},
    {"{\"a\":\"\xff\"}", 6},
    {"{\"a\":\"\xed\xa0\x80\"}", 6},
    {"{\"a\":\"\xc3", 6},
    {"\xef\xbb\xbf{}", 0},
    {"{\"a\":1}\v", 7},
    {"{\xc2\xa0\"a\":1}", 1},
};

static void
reader_refuses_at_the_right_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		struct json_object *value = NULL;
		const char *text = refused[i].text;
		char at[32];
		int rc = parse_len(text, strlen(text), &value);

		snprintf(at, sizeof(at), " at byte %zu", refused[i].offset);
		if (rc != ERR_BAD_REQUEST || value != NULL ||
		    strlen(error) < strlen(at) ||
		    strcmp(error + strlen(error) - strlen(at), at) != 0)
			fail_msg("%s: rc %d, \"%s\"", text, rc, error);
	}
}

static void
reader_accepts_all_of_rfc_8259(void **state)
{
	const char *good[] = {"{}", " \t\r\n{ } \n", "{\"\":1}", "{\"a\":[ ]}",
	    "{\"a\":[[],{}]}", "{\"a\":-0}", "{\"a\":1.50}", "{\"a\":-1.5E+3}",
	    "{\"a\":1e-2}", "{\"a\":1e999}", "{\"a\":0}",
	    "{\"a\":18446744073709551615}", "{\"a\":-9223372036854775808}",
	    "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00E9\\uD83D\\uDE00\"}",
	    "{ \"a\" : true , \"b\" : [ false , null ] }",
	    "{\"a\":\"\x7f/\xe2\x80\xa8\"}"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct json_object *value = parse(good[i]);

		json_free(&value);
	}
}

/* No prefix of a good text is good, and none is read beyond its end. */
static void
every_prefix_is_refused(void **state)
{
	const char *text = "{\"a\":[1,-2.5e3,true,null,\"\\u00e9\\ud83d\\ude00"
			   "\xe2\x82\xac\",{\"b\":{}}]}";

	(void)state;
	for (size_t len = 0; len < strlen(text); len++) {
		struct json_object *value = NULL;

		assert_int_equal(parse_len(text, len, &value), ERR_BAD_REQUEST);
		assert_null(value);
	}
}

static void
one_tokener_serves_after_errors(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct json_object *value = NULL;
		uint64_t n = 0;

		assert_int_equal(
		    parse_len("{\"a\":[", 6, &value), ERR_BAD_REQUEST);
		value = parse("{\"a\":5}");
		assert_int_equal(json_get_u64(value, "a", 9, &n), 0);
		assert_int_equal(n, 5);
		json_free(&value);
		if (i == 1)
			json_fini();
	}
}

static void
repeat_text(struct buf *buf, const char *text, size_t count)
{
	for (size_t i = 0; i < count; i++)
		buf_add_str(buf, text);
}

/* {"a":[[...]]} with depth containers in all */
static int
parse_nested(int depth)
{
	struct buf buf = {0};
	struct json_object *value = NULL;
	int rc;

	buf_add_str(&buf, "{\"a\":");
	repeat_text(&buf, "[", (size_t)depth - 1);
	buf_add_str(&buf, "1");
	repeat_text(&buf, "]", (size_t)depth - 1);
	buf_add_str(&buf, "}");
	rc = parse_len(buf.data, buf.len, &value);
	buf_fini(&buf);
	json_free(&value);
	return rc;
}

static int
parse_list(const char *item, size_t count, bool is_trusted)
{
	struct buf buf = {0};
	struct json_object *value = NULL;
	int rc;

	buf_add_str(&buf, "{\"a\":[");
	for (size_t i = 0; i < count; i++) {
		buf_add_str(&buf, i > 0 ? "," : "");
		buf_add_str(&buf, item);
	}
	buf_add_str(&buf, "]}");
	if (is_trusted)
		rc = json_parse_trusted(
		    buf.data, buf.len, &value, error, sizeof(error));
	else
		rc = parse_len(buf.data, buf.len, &value);
	buf_fini(&buf);
	json_free(&value);
	return rc;
}

static void
limits_are_exact(void **state)
{
	(void)state;
	assert_int_equal(parse_nested(JSON_DEPTH_MAX), 0);
	assert_int_equal(parse_nested(JSON_DEPTH_MAX + 1), ERR_TOO_LARGE);
	assert_int_equal(parse_nested(100000), ERR_TOO_LARGE);
	/* besides the items: the object and the array */
	assert_int_equal(parse_list("{}", JSON_CONTAINER_MAX - 2, false), 0);
	assert_int_equal(
	    parse_list("{}", JSON_CONTAINER_MAX - 1, false), ERR_TOO_LARGE);
	assert_int_equal(parse_list("1", JSON_VALUE_MAX - 2, false), 0);
	assert_int_equal(
	    parse_list("1", JSON_VALUE_MAX - 1, false), ERR_TOO_LARGE);
	assert_int_equal(parse_list("{}", JSON_CONTAINER_MAX, true), 0);
	assert_int_equal(parse_list("1", JSON_VALUE_MAX, true), 0);
}

static void
errors_never_quote_the_text(void **state)
{
	struct json_object *value = NULL;
	const char *text = "{\"Message\":\"SECRETWORD\" SECRETWORD}";

	(void)state;
	assert_int_equal(
	    parse_len(text, strlen(text), &value), ERR_BAD_REQUEST);
	assert_null(strstr(error, "SECRET"));
	assert_string_equal(error, "expected ',' or '}' at byte 24");
}

static void
unsigned_numbers_are_strict(void **state)
{
	struct json_object *value =
	    parse("{\"n\":7,\"neg\":-1,\"real\":1.0,\"exp\":1e3,\"text\":\"7\","
		  "\"null\":null,\"bool\":true,\"max\":18446744073709551615,"
		  "\"list\":[1],\"twice\":1,\"twice\":2}");
	const char *wrong[] = {"neg", "real", "exp", "text", "bool", "list"};
	uint64_t n = 99;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_int_equal(json_get_u64(value, wrong[i], UINT64_MAX, &n),
		    ERR_BAD_REQUEST);
	assert_int_equal(json_get_u64(value, "null", 9, &n), ERR_NOT_FOUND);
	assert_int_equal(json_get_u64(value, "none", 9, &n), ERR_NOT_FOUND);
	assert_int_equal(json_get_u64(value, "n", 6, &n), ERR_BAD_REQUEST);
	assert_int_equal(n, 99);
	assert_int_equal(json_get_u64(value, "n", 7, &n), 0);
	assert_int_equal(n, 7);
	assert_int_equal(json_get_u64(value, "max", UINT64_MAX, &n), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(json_get_u64(value, "twice", 9, &n), 0);
	assert_int_equal(n, 2);
	json_free(&value);
}

static void
signed_numbers_are_strict(void **state)
{
	struct json_object *value =
	    parse("{\"n\":-7,\"max\":9223372036854775807,"
		  "\"over\":9223372036854775808,\"min\":-9223372036854775808,"
		  "\"real\":-7.0}");
	int64_t n = 99;

	(void)state;
	assert_int_equal(json_get_i64(value, "over", INT64_MIN, INT64_MAX, &n),
	    ERR_BAD_REQUEST);
	assert_int_equal(
	    json_get_i64(value, "real", -9, 9, &n), ERR_BAD_REQUEST);
	assert_int_equal(json_get_i64(value, "n", -6, 9, &n), ERR_BAD_REQUEST);
	assert_int_equal(n, 99);
	assert_int_equal(json_get_i64(value, "n", -7, -7, &n), 0);
	assert_int_equal(n, -7);
	assert_int_equal(
	    json_get_i64(value, "max", INT64_MIN, INT64_MAX, &n), 0);
	assert_true(n == INT64_MAX);
	assert_int_equal(
	    json_get_i64(value, "min", INT64_MIN, INT64_MAX, &n), 0);
	assert_true(n == INT64_MIN);
	json_free(&value);
}

static void
other_types_are_strict(void **state)
{
	struct json_object *value =
	    parse("{\"s\":\"x\\u0000y\",\"b\":false,\"a\":[1,null,\"z\"],"
		  "\"o\":{\"k\":1},\"id\":\"12\",\"bad\":\"012\",\"n\":0}");
	const struct json_object *part;
	const char *text;
	size_t len;
	uint64_t n;
	bool is_on = true;

	(void)state;
	assert_int_equal(json_get_string(value, "s", &text, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "x\0y", 4);
	assert_int_equal(
	    json_get_string(value, "n", &text, &len), ERR_BAD_REQUEST);
	assert_int_equal(json_get_bool(value, "b", &is_on), 0);
	assert_false(is_on);
	assert_int_equal(json_get_bool(value, "n", &is_on), ERR_BAD_REQUEST);
	assert_int_equal(json_get_id(value, "id", 12, &n), 0);
	assert_int_equal(n, 12);
	assert_int_equal(json_get_id(value, "id", 11, &n), ERR_BAD_REQUEST);
	assert_int_equal(json_get_id(value, "bad", 99, &n), ERR_BAD_REQUEST);
	assert_int_equal(json_get_id(value, "n", 99, &n), ERR_BAD_REQUEST);
	assert_int_equal(json_get_object(value, "o", &part), 0);
	assert_int_equal(json_get_u64(part, "k", 1, &n), 0);
	assert_int_equal(json_get_object(value, "a", &part), ERR_BAD_REQUEST);
	assert_int_equal(json_get_object(value, "x", &part), ERR_NOT_FOUND);
	assert_int_equal(
	    json_get_array(value, "o", &part, &len), ERR_BAD_REQUEST);
	assert_int_equal(json_get_array(value, "a", &part, &len), 0);
	assert_int_equal(len, 3);
	assert_int_equal(json_value_u64(json_array_at(part, 0), 1, &n), 0);
	assert_null(json_array_at(part, 1));
	assert_null(json_array_at(part, 3));
	assert_int_equal(
	    json_value_u64(json_array_at(part, 2), 1, &n), ERR_BAD_REQUEST);
	assert_int_equal(
	    json_value_bool(json_array_at(part, 1), &is_on), ERR_NOT_FOUND);
	json_free(&value);
}

static void
a_value_is_written_as_it_came(void **state)
{
	const char *text =
	    "{\"a\":[1,1.50,1e3,-2,18446744073709551615,true,false,null,"
	    "\"\\u0000\\n/\xc3\xa9\",[],{}],\"b\":{\"c\":{\"d\":1}}}";
	struct json_object *value = parse(text);
	struct buf buf = {0};

	(void)state;
	json_value(&buf, value);
	json_free(&value);
	assert_written(&buf, text);
	json_fini();
}

/* Members are found in what cannot be read, and only where they stand. */
static void
members_are_found_in_what_cannot_be_read(void **state)
{
	static const struct {
		const char *text;
		const char *value; /* of "a"; NULL: none */
		const char *culprit;
	} rows[] = {
	    {"{\"a\":1,\"b\":tru}", "1", "b"},
	    {"{\"a\":1,\"a\":[1,}", "[1,}", "a"},
	    {"{\"b\":{\"a\":2},\"a\" : \"x\",\"c\":01}", "\"x\"", "c"},
	    {"{\"b\":\"\\\",\\\"a\\\":1\",\"c\":-}", NULL, "c"},
	    {"{\"a\":\"cut", "\"cut", "a"},
	    {"{\"a\":\"cut\\", "\"cut\\", "a"},
	    {"{\"a\":", "", "a"},
	    {"{\"a\"", NULL, NULL},
	    {"{\"a", NULL, NULL},
	    {"{\"", NULL, NULL},
	    {"{", NULL, NULL},
	    {"", NULL, NULL},
	    {"[\"a\":1]", NULL, NULL},
	    {"{a:1}", NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].text);
		char *text = malloc(len + 1); /* its end is watched */
		struct json_object *json;
		struct json_span span;

		assert_non_null(text);
		memcpy(text, rows[i].text, len);
		text = realloc(text, len == 0 ? 1 : len);
		assert_non_null(text);
		assert_int_equal(
		    json_parse(text, len, &json, error, sizeof(error)),
		    ERR_BAD_REQUEST);
		assert_int_equal(json_salvage_member(text, len, "a", &span),
		    rows[i].value != NULL);
		if (rows[i].value != NULL) {
			assert_int_equal(span.len, strlen(rows[i].value));
			assert_memory_equal(span.data, rows[i].value, span.len);
		}
		assert_int_equal(
		    json_salvage_culprit(text, len, json_fault_offset(), &span),
		    rows[i].culprit != NULL);
		if (rows[i].culprit != NULL)
			assert_memory_equal(span.data, rows[i].culprit, 1);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(writer_puts_commas_where_they_belong),
	    cmocka_unit_test(writer_escapes_what_rfc_8259_asks_for),
	    cmocka_unit_test(every_byte_survives_a_round_trip),
	    cmocka_unit_test(reader_refuses_at_the_right_byte),
	    cmocka_unit_test(reader_accepts_all_of_rfc_8259),
	    cmocka_unit_test(every_prefix_is_refused),
	    cmocka_unit_test(one_tokener_serves_after_errors),
	    cmocka_unit_test(limits_are_exact),
	    cmocka_unit_test(errors_never_quote_the_text),
	    cmocka_unit_test(unsigned_numbers_are_strict),
	    cmocka_unit_test(signed_numbers_are_strict),
	    cmocka_unit_test(other_types_are_strict),
	    cmocka_unit_test(a_value_is_written_as_it_came),
	    cmocka_unit_test(members_are_found_in_what_cannot_be_read),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
