/*
 * err_buf_text.c - errors, memory, buffers, text and UTF-8.
 *
 * Role:    limits of each; UTF-8 over all code points and at every split.
 * Process: test.
 * Blocks:  no.
 * Trust:   -
 * See:     src/base/{err,mem,buf,text}.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"

/* AddressSanitizer otherwise ends the process where malloc says NULL. */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void
errors_have_their_row(void **state)
{
	(void)state;
	assert_string_equal(err_reason(0), "OK");
	assert_int_equal(err_http_status(0), 200);
#define ERR(name, reason, http, close, text)                                   \
	assert_true(ERR_##name < 0);                                           \
	assert_string_equal(err_reason(ERR_##name), reason);                   \
	assert_string_equal(err_text(ERR_##name), text);                       \
	assert_int_equal(err_http_status(ERR_##name), http);
#include "base/err.def"
#undef ERR
	assert_int_equal(err_http_status(ERR_FIRST_), 500);
	assert_int_equal(err_http_status(ERR_END_), 500);
	assert_int_equal(err_http_status(1), 500);
	assert_non_null(err_text(-1));
}

static void
memory_is_zeroed_copied_and_wiped(void **state)
{
	char *zero = xcalloc(0, 5);
	char *copy = xstrndup("abc", 2);
	char *whole = xstrndup("abc", 20);
	void *tried = mem_try(0);

	(void)state;
	assert_int_equal(zero[0], 0);
	assert_string_equal(copy, "ab");
	assert_string_equal(whole, "abc");
	assert_non_null(tried);
	assert_null(mem_try(SIZE_MAX / 2));
	mem_wipe(whole, 3);
	assert_memory_equal(whole, "\0\0\0", 3);
	mem_wipe(NULL, 0);
	free(zero);
	free(copy);
	free(whole);
	free(tried);
}

static void
buffer_doubles_from_64_and_keeps_its_bytes(void **state)
{
	struct buf buf = {0};

	(void)state;
	for (int i = 0; i < 1000; i++) {
		buf_add_char(&buf, (char)i);
		assert_true(buf.cap >= buf.len);
		assert_true(buf.cap % 64 == 0);
		assert_int_equal(buf.cap & (buf.cap - 1), 0);
	}
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf.data[i], (char)i);
	buf_drop(&buf, 10);
	assert_int_equal(buf.len, 990);
	assert_int_equal(buf.data[0], 10);
	buf_drop(&buf, 990);
	assert_int_equal(buf.len, 0);
	assert_int_equal(buf.cap, 1024);
	buf_clear(&buf);
	buf_fini(&buf);
	assert_null(buf.data);
	buf_drop(&buf, 0);
	buf_add(&buf, NULL, 0);
	assert_null(buf.data);
	buf_fini(&buf);
}

static void
buffer_prints_numbers_at_their_limits(void **state)
{
	struct buf buf = {0};

	(void)state;
	buf_add_u64(&buf, 0);
	buf_add_char(&buf, ' ');
	buf_add_u64(&buf, UINT64_MAX);
	buf_add_char(&buf, ' ');
	buf_add_i64(&buf, INT64_MIN);
	buf_add_char(&buf, ' ');
	buf_add_i64(&buf, INT64_MAX);
	buf_add_char(&buf, '\0');
	assert_string_equal(buf.data,
	    "0 18446744073709551615 -9223372036854775808 "
	    "9223372036854775807");
	buf_fini(&buf);
}

/* Formatted text that ends before, at and after the allocation's end. */
static void
buffer_printf_grows_at_every_length(void **state)
{
	char text[200];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (int before = 0; before < 130; before++) {
		for (int len = 0; len < 140; len++) {
			struct buf buf = {0};

			buf_add(&buf, text, (size_t)before);
			buf_printf(&buf, "%.*s|", len, text);
			assert_int_equal(buf.len, before + len + 1);
			assert_int_equal(buf.data[buf.len - 1], '|');
			buf_fini(&buf);
		}
	}
}

static int
u64(const char *text, uint64_t max, uint64_t *out)
{
	return text_parse_u64(text, strlen(text), max, out);
}

static void
integers_are_strict(void **state)
{
	const char *bad[] = {"", "00", "01", "-1", "+1", " 1", "1 ", "1a",
	    "0x1", "1.0", "18446744073709551616", "99999999999999999999",
	    "184467440737095516150"};
	uint64_t n = 77;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(u64(bad[i], UINT64_MAX, &n), ERR_BAD_REQUEST);
	assert_int_equal(text_parse_u64("1\0", 2, 99, &n), ERR_BAD_REQUEST);
	assert_int_equal(n, 77);
	assert_int_equal(u64("0", 0, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(u64("18446744073709551615", UINT64_MAX, &n), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(u64("100", 100, &n), 0);
	assert_int_equal(u64("101", 100, &n), ERR_BAD_REQUEST);
	assert_int_equal(text_parse_u64("123456", 3, 999, &n), 0);
	assert_int_equal(n, 123);
}

static void
durations_and_sizes_have_units(void **state)
{
	const struct {
		const char *text;
		int64_t ms;
	} durations[] = {{"0", 0}, {"10", 10000}, {"250ms", 250},
	    {"10s", 10000}, {"5m", 300000}, {"2h", 7200000},
	    {"30d", INT64_C(2592000000)}};
	const char *bad[] = {"", "s", "ms", "1.5s", "-1s", "1 s", "1S", "1x",
	    "1mss", "01s", "9223372036854775807s", "106751991168d"};
	int64_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(durations) / sizeof(*durations); i++) {
		assert_int_equal(text_parse_duration_ms(durations[i].text,
				     strlen(durations[i].text), &n),
		    0);
		assert_int_equal(n, durations[i].ms);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(
		    text_parse_duration_ms(bad[i], strlen(bad[i]), &n),
		    ERR_BAD_REQUEST);
		assert_int_equal(text_parse_size(bad[i], strlen(bad[i]), &n),
		    ERR_BAD_REQUEST);
	}
	assert_int_equal(text_parse_size("64K", 3, &n), 0);
	assert_int_equal(n, 65536);
	assert_int_equal(text_parse_size("8589934591G", 11, &n), 0);
	assert_int_equal(
	    text_parse_size("8589934592G", 11, &n), ERR_BAD_REQUEST);
	assert_int_equal(text_parse_size("9223372036854775807", 19, &n), 0);
	assert_true(n == INT64_MAX);
}

static void
formatted_units_are_read_back(void **state)
{
	int64_t values[] = {0, 1, 999, 1000, 1001, 1024, 60000, 65536, 3600000,
	    86400000, 90000000, 1 << 20, INT64_C(1) << 40,
	    INT64_C(315360000000), INT64_MAX};
	char text[TEXT_UNIT_MAX];
	int64_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		text_format_duration(values[i], text);
		assert_int_equal(
		    text_parse_duration_ms(text, strlen(text), &n), 0);
		assert_true(n == values[i]);
		text_format_size(values[i], text);
		assert_int_equal(text_parse_size(text, strlen(text), &n), 0);
		assert_true(n == values[i]);
	}
	assert_string_equal(text_format_duration(1800000, text), "30m");
	assert_string_equal(text_format_size(1 << 20, text), "1M");
}

static void
nearest_word_is_near(void **state)
{
	const char *words[] = {"listen", "listen_tls", "workers", "user"};
	char long_word[300];

	(void)state;
	assert_string_equal(text_nearest("lisen", words, 4), "listen");
	assert_string_equal(text_nearest("LISTEN-TLS", words, 4), "listen_tls");
	assert_string_equal(text_nearest("wrokers", words, 4), "workers");
	assert_null(text_nearest("qqqqqqqq", words, 4));
	assert_null(text_nearest("", words, 4));
	memset(long_word, 'w', sizeof(long_word) - 1);
	long_word[sizeof(long_word) - 1] = '\0';
	assert_null(text_nearest(long_word, words, 4));
}

static void
hex_is_lower_case(void **state)
{
	char out[9];

	(void)state;
	assert_string_equal(text_hex("\x00\x9f\xff\x10", 4, out), "009fff10");
	assert_string_equal(text_hex("", 0, out), "");
}

/* RFC 3629's encoding of any number, also of those it forbids. */
static size_t
encode(uint32_t code, size_t len, unsigned char *out)
{
	static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};

	if (len == 1) {
		out[0] = (unsigned char)code;
		return 1;
	}
	for (size_t i = len - 1; i > 0; i--) {
		out[i] = (unsigned char)(0x80 | (code & 0x3f));
		code >>= 6;
	}
	out[0] = (unsigned char)(leads[len] | code);
	return len;
}

static size_t
shortest(uint32_t code)
{
	if (code < 0x80)
		return 1;
	if (code < 0x800)
		return 2;
	return code < 0x10000 ? 3 : 4;
}

static void
utf8_accepts_exactly_the_scalar_values(void **state)
{
	const uint32_t above[] = {0x80, 0x80, 0x800, 0x10000, 0x200000};
	unsigned char bytes[4];

	(void)state;
	for (size_t len = 1; len <= 4; len++) {
		for (uint32_t code = 0; code < above[len]; code++) {
			bool wanted = len == shortest(code) &&
				      code <= 0x10ffff &&
				      (code < 0xd800 || code > 0xdfff);

			encode(code, len, bytes);
			if (text_utf8_valid(bytes, len) != wanted)
				fail_msg("U+%04X in %zu bytes", code, len);
		}
	}
	for (int c = 0x80; c < 0x100; c++) {
		bytes[0] = (unsigned char)c;
		assert_false(text_utf8_valid(bytes, 1));
	}
}

static const char utf8_sample[] =
    "ascii that is longer than eight \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 z "
    "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf end";

static void
utf8_is_the_same_at_every_split(void **state)
{
	size_t len = strlen(utf8_sample);

	(void)state;
	for (size_t a = 0; a <= len; a++) {
		for (size_t b = a; b <= len; b++) {
			struct utf8_state utf8 = {0};

			assert_true(utf8_feed(&utf8, utf8_sample, a));
			assert_int_equal(utf8_is_complete(&utf8),
			    text_utf8_valid_len(utf8_sample, a) == a);
			assert_true(utf8_feed(&utf8, utf8_sample + a, b - a));
			assert_true(utf8_feed(&utf8, utf8_sample + b, len - b));
			assert_true(utf8_is_complete(&utf8));
		}
	}
}

/* At each place, and known at the bad byte itself, not later. */
static void
utf8_fails_at_the_first_bad_byte(void **state)
{
	size_t len = strlen(utf8_sample);
	char bytes[sizeof(utf8_sample)];

	(void)state;
	for (size_t bad = 0; bad < len; bad++) {
		struct utf8_state utf8 = {0};

		memcpy(bytes, utf8_sample, len);
		bytes[bad] = (char)0xff;
		assert_false(text_utf8_valid(bytes, len));
		assert_true(utf8_feed(&utf8, bytes, bad));
		assert_false(utf8_feed(&utf8, bytes + bad, 1));
		assert_true(text_utf8_valid_len(bytes, len) <= bad);
	}
	assert_false(text_utf8_valid("\xe2\x82", 2));
	assert_true(text_utf8_valid("", 0));
	assert_int_equal(text_utf8_lead_len(0xf0), 4);
	assert_int_equal(text_utf8_lead_len(0xc3), 2);
	assert_int_equal(text_utf8_lead_len(0xff), 1);
	assert_int_equal(text_utf8_lead_len('a'), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(errors_have_their_row),
	    cmocka_unit_test(memory_is_zeroed_copied_and_wiped),
	    cmocka_unit_test(buffer_doubles_from_64_and_keeps_its_bytes),
	    cmocka_unit_test(buffer_prints_numbers_at_their_limits),
	    cmocka_unit_test(buffer_printf_grows_at_every_length),
	    cmocka_unit_test(integers_are_strict),
	    cmocka_unit_test(durations_and_sizes_have_units),
	    cmocka_unit_test(formatted_units_are_read_back),
	    cmocka_unit_test(nearest_word_is_near),
	    cmocka_unit_test(hex_is_lower_case),
	    cmocka_unit_test(utf8_accepts_exactly_the_scalar_values),
	    cmocka_unit_test(utf8_is_the_same_at_every_split),
	    cmocka_unit_test(utf8_fails_at_the_first_bad_byte),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
