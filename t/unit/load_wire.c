/*
 * load_wire.c - what parleyload reads and writes: JSON fields, frames, the
 * upgrade, payloads; at every truncation and limit.
 *
 * Role:    feeds the pure codecs of src/load.
 * Process: a unit test; prints TAP.
 * Blocks:  never.
 * Trust:   inputs lie in heap blocks of exact size, so that ASan sees every
 *          byte too far.
 * See:     src/load/scan.c, frame.c, upgrade.c, payload.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "load/deflate.h"
#include "load/frame.h"
#include "load/options.h"
#include "load/payload.h"
#include "load/scan.h"
#include "load/upgrade.h"

static char *
exact(const void *data, size_t len)
{
	char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	if (len)
		memcpy(copy, data, len);
	return copy;
}

/* The scan's texts point into freed memory afterwards: only rc counts. */
static int
scan_rc(const char *text, size_t len)
{
	struct scan scan;
	char *copy = exact(text, len);
	int rc = scan_parse(copy, len, &scan);

	free(copy);
	return rc;
}

static const char whole[] =
    " {\"Seq\":3 , \"Seq\": 17,\"Command\":\"P_MESSAGE\",\"MessageId\":"
    "\"9007199254740993\",\"FromUser\":{\"Name\":\"a\\\"}{\\\\\","
    "\"UserId\":42},\"Members\":[1,[2,{\"Seq\":9}],\"]\"],\"Message\":"
    "\"x\\\\\\\"y\",\"Recovered\":false,\"RequestId\":12,"
    "\"RetryAfter\":250,\"Reason\":\"OK\",\"LastSeq\":0,\"Epoch\":\"e-1\","
    "\"Pi\":-3.5E+2,\"None\":null,\"\":true}\n";

static void
fields_are_found_wherever_they_stand(void **state)
{
	struct scan scan;

	(void)state;
	assert_int_equal(scan_parse(whole, sizeof(whole) - 1, &scan), 0);
	assert_true(scan_text_is(scan.command, "P_MESSAGE"));
	assert_true(scan_text_is(scan.reason, "OK"));
	assert_true(scan_text_is(scan.message, "x\\\\\\\"y"));
	assert_true(scan_text_is(scan.epoch, "\"e-1\""));
	assert_true(scan.has_seq && scan.seq == 17);
	assert_true(scan.has_last_seq && scan.last_seq == 0);
	assert_true(scan.has_request_id && scan.request_id == 12);
	assert_true(scan.has_message_id);
	assert_true(scan.message_id == 9007199254740993);
	assert_true(scan.from_user == 42);
	assert_true(scan.retry_after == 250);
	assert_true(scan.is_unrecovered);
}

static void
absent_fields_are_absent(void **state)
{
	struct scan scan;

	(void)state;
	assert_int_equal(scan_parse("{}", 2, &scan), 0);
	assert_null(scan.command.data);
	assert_false(
	    scan.has_seq || scan.has_request_id || scan.has_message_id);
	assert_false(scan.is_unrecovered);
}

static void
other_types_do_not_count(void **state)
{
	static const char text[] =
	    "{\"Seq\":\"5\",\"MessageId\":5,\"RequestId\":\"7\","
	    "\"Command\":null,\"LastSeq\":99999999999999999999}";
	struct scan scan;

	(void)state;
	assert_int_equal(scan_parse(text, sizeof(text) - 1, &scan), 0);
	assert_false(scan.has_seq || scan.has_message_id);
	assert_false(scan.has_request_id || scan.has_last_seq);
	assert_null(scan.command.data);
}

static void
every_truncation_is_refused(void **state)
{
	(void)state;
	/* the last two bytes are '}' and a line end that may be missing */
	for (size_t len = 0; len < sizeof(whole) - 2; len++)
		assert_int_equal(scan_rc(whole, len), ERR_BAD_REQUEST);
	assert_int_equal(scan_rc(whole, sizeof(whole) - 2), 0);
}

static void
broken_structure_is_refused(void **state)
{
	static const char *const texts[] = {"[]", "\"x\"", "{,}", "{\"a\"}",
	    "{\"a\":}", "{\"a\":1,,\"b\":2}", "{\"a\":1 \"b\":2}",
	    "{\"a\":[}]}", "{\"a\":{]}}", "{\"a\":1}}", "{\"a\":1} x", "{a:1}",
	    "{\"a\":\"\\\"}", "{\"FromUser\":{\"x\"}}"};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(
		    scan_rc(texts[i], strlen(texts[i])), ERR_BAD_REQUEST);
}

static void
nesting_is_bounded(void **state)
{
	char text[256] = "{\"a\":";
	size_t at = strlen(text);

	(void)state;
	memset(text + at, '[', 64);
	memset(text + at + 64, ']', 64);
	text[at + 128] = '}';
	assert_int_equal(scan_rc(text, at + 129), 0);
	memset(text + at, '[', 65);
	memset(text + at + 65, ']', 65);
	text[at + 130] = '}';
	assert_int_equal(scan_rc(text, at + 131), ERR_BAD_REQUEST);
}

static int
parse_exact(const char *data, size_t len, size_t len_max, struct frame *frame)
{
	char *copy = exact(data, len);
	int rc = frame_parse(copy, len, len_max, false, frame);

	free(copy);
	return rc;
}

/* What a client writes, unmasked again as a server would. */
static size_t
unmask(struct buf *out)
{
	unsigned char *p = (unsigned char *)out->data;
	size_t header = (p[1] & 0x7f) == 126   ? 4
			: (p[1] & 0x7f) == 127 ? 10
					       : 2;
	unsigned char key[4];

	assert_true(p[1] & 0x80);
	p[1] &= 0x7f;
	memcpy(key, p + header, 4);
	memmove(p + header, p + header + 4, out->len - header - 4);
	out->len -= 4;
	for (size_t i = header; i < out->len; i++)
		p[i] ^= key[(i - header) & 3];
	return header;
}

static void
frames_of_every_length_come_back(void **state)
{
	static const size_t lens[] = {
	    0, 1, 2, 3, 4, 5, 7, 8, 9, 124, 125, 126, 127, 65535, 65536, 70000};

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		char *data = malloc(lens[i] + 1);
		struct buf out = {0};
		struct frame frame;

		for (size_t k = 0; k < lens[i]; k++)
			data[k] = (char)(k * 7 + 1);
		frame_put(&out, FRAME_TEXT, data, lens[i], 0xa1b2c3d4);
		unmask(&out);
		assert_int_equal(
		    frame_parse(out.data, out.len, 70000, false, &frame), 0);
		assert_true(frame.is_final && frame.opcode == FRAME_TEXT);
		assert_int_equal(frame.len, lens[i]);
		assert_int_equal(frame.total, out.len);
		assert_memory_equal(frame.data, data, lens[i]);
		for (size_t len = 0; len < out.len; len += 1 + len / 8)
			assert_int_equal(
			    parse_exact(out.data, len, 70000, &frame),
			    ERR_AGAIN);
		buf_fini(&out);
		free(data);
	}
}

static void
bad_frames_are_refused(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} bad[] = {
	    {"\xc1\x00", 2}, /* reserved bit: nothing was negotiated */
	    {"\x81\x81", 2}, /* a server does not mask */
	    {"\x83\x00", 2}, /* reserved opcode */
	    {"\x8f\x00", 2}, {"\x09\x00", 2}, /* fragmented ping */
	    {"\x89\x7e\x00\x7e", 4},          /* ping of 126 bytes */
	    {"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 10},
	    {"\x81\x7e\x03\xe9", 4}, /* 1001 of at most 1000 */
	};
	struct frame frame;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    parse_exact(bad[i].data, bad[i].len, 1000, &frame),
		    ERR_BAD_REQUEST);
	assert_int_equal(
	    parse_exact("\x81\x7e\x03\xe8", 4, 1000, &frame), ERR_AGAIN);
}

static void
payloads_come_back_and_show_every_change(void **state)
{
	static const size_t lens[] = {60, 61, 96, 97, 98, 300, 65536};
	const struct payload in = {
	    .run = 0xfedcba9876543210,
	    .sender = 9007199254740991,
	    .number = 0xffffffffff,
	    .intended_ns = INT64_MAX,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct buf buf = {0};
		struct payload out;

		payload_put(&buf, &in, lens[i]);
		assert_int_equal(buf.len, lens[i]);
		assert_true(payload_parse(buf.data, buf.len, &out));
		assert_true(out.run == in.run && out.sender == in.sender);
		assert_true(out.number == in.number);
		assert_true(out.intended_ns == in.intended_ns);
		assert_true(payload_is_whole(buf.data, buf.len, lens[i]));
		assert_false(payload_is_whole(buf.data, buf.len - 1, lens[i]));
		if (lens[i] > PAYLOAD_LEN_MIN) {
			buf.data[buf.len - 1]++;
			assert_false(
			    payload_is_whole(buf.data, buf.len, lens[i]));
		}
		for (size_t k = 0; k < PAYLOAD_LEN_MIN; k++) {
			char kept = buf.data[k];

			buf.data[k] = 'G';
			assert_false(payload_parse(buf.data, buf.len, &out));
			buf.data[k] = kept;
		}
		assert_false(
		    payload_parse(buf.data, PAYLOAD_LEN_MIN - 1, &out));
		buf_fini(&buf);
	}
}

/* The answer a right server gives to our key, as RFC 6455 4.2.2 says. */
static void
make_answer(
    uint64_t nonce, const char *extensions, char *answer, size_t answer_len)
{
	static const char name[] = "Sec-WebSocket-Key: ";
	struct options options = {.host = "h", .port = "1", .path = "/ws"};
	struct buf request = {0};
	uint8_t digest[20];
	char accept[32];
	char text[64];
	const char *key;

	upgrade_put(&request, &options, nonce);
	buf_add_char(&request, '\0');
	key = strstr(request.data, name);
	assert_non_null(key);
	key += sizeof(name) - 1;
	assert_memory_equal(key + 24, "\r\n", 2);
	snprintf(text, sizeof(text), "%.24s%s", key,
	    "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
	crypto_sha1(text, strlen(text), digest);
	crypto_base64(digest, sizeof(digest), accept);
	snprintf(answer, answer_len,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "sec-websocket-accept:  %s\r\nConnection: Upgrade%s\r\n\r\n",
	    accept, extensions);
	buf_fini(&request);
}

static void
upgrade_is_taken_only_with_our_key(void **state)
{
	char answer[512];
	struct upgrade_answer parsed = {0};
	size_t len;

	(void)state;
	make_answer(4711, "", answer, sizeof(answer));
	len = strlen(answer);
	for (size_t n = 0; n < len; n++) {
		char *copy = exact(answer, n);

		assert_int_equal(
		    upgrade_parse(copy, n, 4711, false, &parsed), ERR_AGAIN);
		free(copy);
	}
	assert_int_equal(upgrade_parse(answer, len, 4711, false, &parsed), 0);
	assert_int_equal(parsed.used, len);
	assert_false(parsed.is_deflate);
	assert_int_equal(
	    upgrade_parse(answer, len, 4712, false, &parsed), ERR_BAD_REQUEST);
	memcpy(answer + 9, "401", 3);
	assert_int_equal(
	    upgrade_parse(answer, len, 4711, false, &parsed), ERR_BAD_REQUEST);
}

#define EXTENSIONS "\r\nsec-websocket-extensions: "
#define OURS       "permessage-deflate; server_no_context_takeover"

static void
compression_is_agreed_upon_as_offered(void **state)
{
	static const struct {
		const char *extensions;
		int rc;
		bool is_deflate;
	} cases[] = {
	    {"", 0, false},
	    {EXTENSIONS OURS, 0, true},
	    {EXTENSIONS OURS ";client_no_context_takeover ", 0, true},
	    {EXTENSIONS "permessage-deflate", ERR_BAD_REQUEST, false},
	    {EXTENSIONS, ERR_BAD_REQUEST, false},
	    {EXTENSIONS "permessage-bzip2", ERR_BAD_REQUEST, false},
	    {EXTENSIONS OURS "; mystery", ERR_BAD_REQUEST, false},
	    {EXTENSIONS OURS "; client_max_window_bits=9", ERR_BAD_REQUEST,
		false},
	    {EXTENSIONS OURS "; server_no_context_takeover", ERR_BAD_REQUEST,
		false},
	    {EXTENSIONS "server_no_context_takeover; permessage-deflate",
		ERR_BAD_REQUEST, false},
	    {EXTENSIONS OURS ", " OURS, ERR_BAD_REQUEST, false},
	};
	struct upgrade_answer parsed;
	char answer[512];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len;

		print_message("# case %zu\n", i);
		make_answer(1, cases[i].extensions, answer, sizeof(answer));
		len = strlen(answer);
		parsed = (struct upgrade_answer){0};
		assert_int_equal(
		    upgrade_parse(answer, len, 1, true, &parsed), cases[i].rc);
		if (cases[i].rc == 0)
			assert_int_equal(
			    parsed.is_deflate, cases[i].is_deflate);
		if (cases[i].extensions[0])
			assert_int_equal(
			    upgrade_parse(answer, len, 1, false, &parsed),
			    ERR_BAD_REQUEST);
	}
}

static void
only_the_first_frame_says_compressed(void **state)
{
	struct frame frame;

	(void)state;
	assert_int_equal(
	    frame_parse("\xc1\x01x", 3, 10, false, &frame), ERR_BAD_REQUEST);
	assert_int_equal(frame_parse("\xc1\x01x", 3, 10, true, &frame), 0);
	assert_true(frame.is_deflated);
	assert_int_equal(frame_parse("\x81\x01x", 3, 10, true, &frame), 0);
	assert_false(frame.is_deflated);
	assert_int_equal(
	    frame_parse("\xc0\x01x", 3, 10, true, &frame), ERR_BAD_REQUEST);
	assert_int_equal(
	    frame_parse("\xc9\x01x", 3, 10, true, &frame), ERR_BAD_REQUEST);
	assert_int_equal(
	    frame_parse("\xe1\x01x", 3, 10, true, &frame), ERR_BAD_REQUEST);
}

static void
compressed_texts_come_back(void **state)
{
	static const size_t lens[] = {
	    DEFLATE_LEN_MIN, 1000, 16384, 32768, 65536, 300000};
	struct deflate *deflate = deflate_new();
	const struct buf *packed;
	const struct buf *text;
	char *data = malloc(300001);

	(void)state;
	for (size_t k = 0; k < 300001; k++)
		data[k] = (char)('a' + k * k / 7 % 26);
	assert_false(deflate_pack(deflate, data, DEFLATE_LEN_MIN - 1, &packed));
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		char *copy;
		size_t len;

		assert_true(deflate_pack(deflate, data, lens[i], &packed));
		assert_true(packed->len < lens[i]);
		len = packed->len;
		copy = exact(packed->data, len);
		assert_int_equal(
		    deflate_unpack(deflate, copy, len, lens[i], &text), 0);
		assert_int_equal(text->len, lens[i]);
		assert_memory_equal(text->data, data, lens[i]);
		assert_int_equal(
		    deflate_unpack(deflate, copy, len, lens[i] - 1, &text),
		    ERR_BAD_REQUEST);
		/* Cut anywhere it is none. */
		for (size_t n = 0; n < len && n < 2000; n++)
			assert_int_equal(
			    deflate_unpack(deflate, copy, n, lens[i], &text),
			    ERR_BAD_REQUEST);
		free(copy);
	}
	crypto_random(data, 600);
	assert_false(deflate_pack(deflate, data, 600, &packed));
	free(data);
	deflate_free(&deflate);
	assert_null(deflate);
}

static void
endless_upgrade_is_refused(void **state)
{
	char *data = malloc(9000);
	struct upgrade_answer parsed = {0};

	(void)state;
	memset(data, 'x', 9000);
	assert_int_equal(
	    upgrade_parse(data, 8192, 1, false, &parsed), ERR_AGAIN);
	assert_int_equal(
	    upgrade_parse(data, 8193, 1, false, &parsed), ERR_BAD_REQUEST);
	free(data);
}

#define SECRET "0123456789abcdef0123456789abcdef"

static int
options_rc(const char *const *words, struct options *options)
{
	char *argv[16] = {(char *)"parleyload"};
	char error[256] = "";
	int argc = 1;
	int rc;

	for (; *words; words++)
		argv[argc++] = (char *)*words;
	rc = options_parse(options, argc, argv, error, sizeof(error));
	assert_int_equal(rc == 0, error[0] == '\0');
	assert_null(strstr(error, SECRET));
	options_fini(options);
	return rc;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void
options_are_read_and_checked(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(options_rc(WORDS("pairs", "-n", "3", "--rate=2.5",
					"--duration", "0.25", "--secret",
					SECRET, "--url", "ws://[::1]:81"),
			     &o),
	    0);
	assert_true(o.count == 3 && o.rate == 2.5 && o.duration_ms == 250);
	assert_string_equal(o.host, "::1");
	assert_string_equal(o.port, "81");
	assert_string_equal(o.path, "/");
	assert_int_equal(
	    options_rc(WORDS("connect", "--secret", SECRET, "-n", "60000"), &o),
	    0);
	assert_true(o.login_rate == 1000 && o.sources == 6);
	assert_string_equal(o.port, "3333");
}

static void
wrong_options_are_refused(void **state)
{
	const char *const *const wrong[] = {
	    WORDS("swim"),
	    WORDS("connect"), /* no secret */
	    WORDS("connect", "--secret", "short"),
	    WORDS("connect", "--secret", SECRET, "--window", "4"),
	    WORDS("connect", "--secret", SECRET, "-n"),
	    WORDS("connect", "--secret", SECRET, "-n", "0"),
	    WORDS("connect", "--secret", SECRET, "-n", "1.5"),
	    WORDS("connect", "--secret", SECRET, "-n", "nan"),
	    WORDS("connect", "--secret", SECRET, "--json=1"),
	    WORDS("connect", "--secret", SECRET, "--nosuch"),
	    WORDS("connect", "--secret", SECRET, "--url", "ws://h:99999"),
	    WORDS("connect", "--secret", SECRET, "--url", "ws://h/a b"),
	    WORDS("connect", "--secret", SECRET, "--first-user",
		"9007199254740991", "-n", "2"),
	    WORDS("pairs", "--secret", SECRET),
	    WORDS("pairs", "--secret", SECRET, "--rate", "1", "--window", "1"),
	    WORDS("pairs", "--secret", SECRET, "--window", "65"),
	    WORDS("pairs", "--secret", SECRET, "--rate", "1", "--size", "59"),
	    WORDS("offline", "--secret", SECRET, "--parleyctl", "x"),
	    WORDS("offline", "--secret", SECRET, "-n", "2", "--processes", "3"),
	};
	struct options o;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(options_rc(wrong[i], &o), ERR_BAD_REQUEST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fields_are_found_wherever_they_stand),
	    cmocka_unit_test(absent_fields_are_absent),
	    cmocka_unit_test(other_types_do_not_count),
	    cmocka_unit_test(every_truncation_is_refused),
	    cmocka_unit_test(broken_structure_is_refused),
	    cmocka_unit_test(nesting_is_bounded),
	    cmocka_unit_test(frames_of_every_length_come_back),
	    cmocka_unit_test(bad_frames_are_refused),
	    cmocka_unit_test(payloads_come_back_and_show_every_change),
	    cmocka_unit_test(upgrade_is_taken_only_with_our_key),
	    cmocka_unit_test(endless_upgrade_is_refused),
	    cmocka_unit_test(compression_is_agreed_upon_as_offered),
	    cmocka_unit_test(only_the_first_frame_says_compressed),
	    cmocka_unit_test(compressed_texts_come_back),
	    cmocka_unit_test(options_are_read_and_checked),
	    cmocka_unit_test(wrong_options_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("load_wire", tests, NULL, NULL);
}
