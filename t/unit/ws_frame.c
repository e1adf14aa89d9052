/*
 * ws_frame.c - units of src/net/ws_frame.c.
 *
 * Role:    every header at every split, masks at every offset, close codes.
 * Process: the test.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     src/net/ws_frame.h, RFC 6455 5.2.
 */
#include "net/ws_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* A client's header; count is 0, 2 or 8 bytes of extended length. */
static size_t
make_header(uint8_t *out, uint8_t first, size_t count, uint64_t len)
{
	out[0] = first;
	out[1] = (uint8_t)(0x80 | (count == 8 ? 127 : count == 2 ? 126 : len));
	for (size_t i = 0; i < count; i++)
		out[2 + i] = (uint8_t)(len >> (8 * (count - 1 - i)));
	memcpy(out + 2 + count, "mask", 4);
	return 2 + count + 4;
}

static void
test_good_headers_at_every_split(void **state)
{
	static const struct {
		size_t count;
		uint64_t len;
	} lens[] = {{0, 0}, {0, 1}, {0, 125}, {2, 126}, {2, 65535}, {8, 65536},
	    {8, UINT32_MAX + UINT64_C(1)}, {8, INT64_MAX}};
	static const uint8_t firsts[] = {
	    0x00, 0x80, 0x01, 0x81, 0x02, 0x82, 0x88, 0x89, 0x8a};
	uint8_t data[WS_HEADER_MAX];

	(void)state;
	for (size_t f = 0; f < sizeof(firsts); f++) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			struct ws_frame frame;
			struct ws_violation violation;
			size_t len = make_header(
			    data, firsts[f], lens[i].count, lens[i].len);

			if ((firsts[f] & 8) != 0 && lens[i].count != 0)
				continue;
			for (size_t cut = 0; cut < len; cut++)
				assert_int_equal(ws_frame_parse(data, cut,
						     false, &frame, &violation),
				    0);
			assert_int_equal(ws_frame_parse(data, len, false,
					     &frame, &violation),
			    len);
			assert_true(frame.len == lens[i].len);
			assert_int_equal(frame.opcode, firsts[f] & 0xf);
			assert_int_equal(frame.is_final, firsts[f] >> 7);
			assert_memory_equal(frame.mask, "mask", 4);
		}
	}
}

/* Refused with 1002 when `at` bytes are there, and not before. */
static void
expect_refusal(const uint8_t *data, size_t len, size_t at)
{
	for (size_t cut = 0; cut <= len; cut++) {
		struct ws_frame frame;
		struct ws_violation violation = {0};
		int n = ws_frame_parse(data, cut, false, &frame, &violation);

		assert_int_equal(n, cut < at ? 0 : -1);
		if (n < 0) {
			assert_int_equal(violation.code, WS_CLOSE_PROTOCOL);
			assert_true(strlen(violation.why) <= 123);
		}
	}
}

/* RFC 7692 6: where RSV1 may stand once compression was agreed. */
static void
test_rsv1_begins_a_data_message_only(void **state)
{
	uint8_t data[WS_HEADER_MAX];

	(void)state;
	for (int first = 0; first < 256; first++) {
		struct ws_frame frame;
		struct ws_violation violation = {0};
		int opcode = first & 0xf;
		bool is_good = opcode == 1 || opcode == 2;
		size_t len = make_header(data, (uint8_t)first, 0, 1);
		int n;

		if ((first & 0x70) != 0x40)
			continue;
		n = ws_frame_parse(data, 1, true, &frame, &violation);
		assert_int_equal(n, is_good ? 0 : -1);
		n = ws_frame_parse(data, len, true, &frame, &violation);
		assert_int_equal(n, is_good ? (int)len : -1);
		if (is_good)
			assert_true(frame.is_deflated);
		else
			assert_int_equal(violation.code, WS_CLOSE_PROTOCOL);
		assert_int_equal(
		    ws_frame_parse(data, 1, false, &frame, &violation), -1);
		/* The other two bits stay reserved. */
		data[0] |= 0x20;
		assert_int_equal(
		    ws_frame_parse(data, 1, true, &frame, &violation), -1);
	}
}

static void
test_bad_headers_as_early_as_possible(void **state)
{
	uint8_t data[WS_HEADER_MAX];
	size_t len;

	(void)state;
	for (int first = 0; first < 256; first++) {
		int opcode = first & 0xf;
		bool is_good = (first & 0x70) == 0 &&
			       (opcode <= 2 || (opcode >= 8 && opcode <= 10 &&
						   (first & 0x80) != 0));

		len = make_header(data, (uint8_t)first, 0, 5);
		if (!is_good)
			expect_refusal(data, len, 1);
	}
	len = make_header(data, 0x81, 0, 5);
	data[1] &= 0x7f;
	expect_refusal(data, len, 2);
	len = make_header(data, 0x89, 2, 126);
	expect_refusal(data, len, 2);
	len = make_header(data, 0x88, 8, 65536);
	expect_refusal(data, len, 2);
	for (uint64_t n = 0; n < 126; n++) {
		len = make_header(data, 0x81, 2, n);
		expect_refusal(data, len, 4);
	}
	len = make_header(data, 0x81, 8, 0);
	expect_refusal(data, len, 10);
	len = make_header(data, 0x81, 8, 65535);
	expect_refusal(data, len, 10);
	len = make_header(data, 0x81, 8, UINT64_C(1) << 63);
	expect_refusal(data, len, 10);
	len = make_header(data, 0x81, 8, UINT64_MAX);
	expect_refusal(data, len, 10);
}

static void
test_mask_at_every_offset_and_length(void **state)
{
	static const uint8_t mask[4] = {1, 2, 4, 8};
	char data[64];

	(void)state;
	for (uint64_t offset = 0; offset < 9; offset++) {
		for (size_t start = 0; start < 9; start++) {
			for (size_t len = 0; len + start < 50; len++) {
				memset(data, 'A', sizeof(data));
				ws_mask(data + start, len, mask, offset);
				for (size_t i = 0; i < sizeof(data); i++) {
					bool is_in =
					    i >= start && i < start + len;
					uint8_t key =
					    mask[(offset + i - start) & 3];

					assert_int_equal(
					    data[i], is_in ? 'A' ^ key : 'A');
				}
			}
		}
	}
}

static void
test_written_headers(void **state)
{
	static const struct {
		uint64_t len;
		const char *bytes;
		size_t count;
	} cases[] = {
	    {0, "\x81\0", 2},
	    {125, "\x81\x7d", 2},
	    {126, "\x81\x7e\0\x7e", 4},
	    {65535, "\x81\x7e\xff\xff", 4},
	    {65536, "\x81\x7f\0\0\0\0\0\1\0\0", 10},
	};
	uint8_t out[WS_SEND_HEADER_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(ws_frame_write(out, WS_OP_TEXT, cases[i].len),
		    cases[i].count);
		assert_memory_equal(out, cases[i].bytes, cases[i].count);
	}
}

static void
test_close_codes(void **state)
{
	(void)state;
	for (int code = 0; code < 65536; code++) {
		bool is_valid = (code >= 1000 && code <= 1003) ||
				(code >= 1007 && code <= 1014) ||
				(code >= 3000 && code <= 4999);

		assert_int_equal(ws_close_code_is_valid(code), is_valid);
	}
}

static void
test_close_payloads(void **state)
{
	struct ws_violation violation;
	int code;

	(void)state;
	assert_int_equal(ws_close_parse("", 0, &code, &violation), 0);
	assert_int_equal(code, WS_CLOSE_NO_CODE);
	assert_int_equal(ws_close_parse("\3\xe8", 2, &code, &violation), 0);
	assert_int_equal(code, 1000);
	assert_int_equal(
	    ws_close_parse("\x0f\xa1gr\xc3\xbc", 6, &code, &violation), 0);
	assert_int_equal(code, 4001);
	assert_int_equal(ws_close_parse("\3", 1, &code, &violation), -1);
	assert_int_equal(violation.code, 1002);
	assert_int_equal(ws_close_parse("\3\xee", 2, &code, &violation), -1);
	assert_int_equal(violation.code, 1002);
	assert_int_equal(
	    ws_close_parse("\3\xe8\xc3", 3, &code, &violation), -1);
	assert_int_equal(violation.code, 1007);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good_headers_at_every_split),
	    cmocka_unit_test(test_rsv1_begins_a_data_message_only),
	    cmocka_unit_test(test_bad_headers_as_early_as_possible),
	    cmocka_unit_test(test_mask_at_every_offset_and_length),
	    cmocka_unit_test(test_written_headers),
	    cmocka_unit_test(test_close_codes),
	    cmocka_unit_test(test_close_payloads),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
