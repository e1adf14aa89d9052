/*
 * ws_decode.c - units of src/net/ws_decode.c.
 *
 * Role:    messages at every split, UTF-8 across fragments, sizes, and random
 *          frames against a plain model of RFC 6455 5.4.
 * Process: the test. With an argument N: decode N messages and print the
 *          time of each.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     src/net/ws_decode.h.
 */
#include "config.h"

#include "net/ws_decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

#define MAX_MESSAGE 1000

/* What came out, in order: "T:text;", "D:deflated;", "P:ping;", "O:pong;",
 * "C:close;", and "V:code;" at the end. */
struct feed {
	struct ws_decoder decoder;
	struct buf rest; /* not used yet */
	struct buf log;
	size_t max;
	bool is_over;
};

static void
feed_log(struct feed *feed, char kind, const char *data, size_t len)
{
	buf_add_char(&feed->log, kind);
	buf_add_char(&feed->log, ':');
	if (len > 0)
		buf_add(&feed->log, data, len);
	buf_add_char(&feed->log, ';');
}

static void
feed_item(struct feed *feed, const struct ws_item *item)
{
	char code[16];
	char kind;

	switch (item->kind) {
	case WS_ITEM_NONE:
		return;
	case WS_ITEM_TEXT:
	case WS_ITEM_DEFLATED:
		kind = item->kind == WS_ITEM_TEXT ? 'T' : 'D';
		feed_log(feed, kind, item->data, item->len);
		item->data[item->len] ^= 0x55; /* must be writable memory */
		item->data[item->len] ^= 0x55;
		ws_decoder_release(&feed->decoder);
		return;
	case WS_ITEM_PING:
		feed_log(feed, 'P', item->data, item->len);
		return;
	case WS_ITEM_PONG:
		feed_log(feed, 'O', item->data, item->len);
		return;
	case WS_ITEM_CLOSE:
		feed_log(feed, 'C', item->data, item->len);
		feed->is_over = true;
		return;
	case WS_ITEM_VIOLATION:
		snprintf(code, sizeof(code), "%d", item->violation.code);
		feed_log(feed, 'V', code, strlen(code));
		assert_true(strlen(item->violation.why) <= 123);
		feed->is_over = true;
		return;
	}
}

/* As conn.c does it: the rest stands before what is new. */
static void
feed_bytes(struct feed *feed, const char *data, size_t len)
{
	size_t used = 0;
	size_t n = 1;

	if (feed->is_over)
		return;
	if (len > 0)
		buf_add(&feed->rest, data, len);
	/* A fresh block of the exact size, so that ASan sees each overrun. */
	len = feed->rest.len;
	char *block = malloc(len + 1);
	assert_non_null(block);
	if (len > 0)
		memcpy(block, feed->rest.data, len);
	while (n > 0 && used < len && !feed->is_over) {
		struct ws_item item;

		n = ws_decode_next(
		    &feed->decoder, block + used, len - used, feed->max, &item);
		used += n;
		assert_true(used <= len);
		feed_item(feed, &item);
	}
	buf_clear(&feed->rest);
	if (len > used)
		buf_add(&feed->rest, block + used, len - used);
	if (!feed->is_over)
		assert_true(feed->rest.len < WS_HEADER_MAX + WS_CONTROL_MAX);
	free(block);
}

static void
feed_fini(struct feed *feed)
{
	ws_decoder_fini(&feed->decoder);
	buf_fini(&feed->rest);
	buf_fini(&feed->log);
}

static void
expect_log(struct feed *feed, const char *log, size_t len)
{
	assert_int_equal(feed->log.len, len);
	assert_memory_equal(feed->log.data, log, len);
}

static void
add_frame(struct buf *out, int first, const void *data, size_t len)
{
	static const uint8_t mask[4] = {0xa5, 0x0f, 0xff, 0x80};
	const uint8_t *bytes = data;

	buf_add_char(out, (char)first);
	if (len <= 125) {
		buf_add_char(out, (char)(0x80 | len));
	} else if (len <= 65535) {
		buf_add_char(out, (char)(0x80 | 126));
		buf_add_char(out, (char)(len >> 8));
		buf_add_char(out, (char)len);
	} else {
		buf_add_char(out, (char)(0x80 | 127));
		for (int shift = 56; shift >= 0; shift -= 8)
			buf_add_char(out, (char)((uint64_t)len >> shift));
	}
	buf_add(out, mask, sizeof(mask));
	for (size_t i = 0; i < len; i++)
		buf_add_char(out, (char)(bytes[i] ^ mask[i & 3]));
}

/* Whether the next messages are those of a client with compression. */
static bool may_deflate;

/* Whole, cut in two at every place, and byte by byte: the same log. */
static void
expect_at_every_split(const struct buf *in, const char *log, size_t log_len)
{
	const struct feed fresh = {
	    .max = MAX_MESSAGE, .decoder.may_deflate = may_deflate};
	struct feed feed = fresh;

	for (size_t i = 0; i < in->len; i++)
		feed_bytes(&feed, in->data + i, 1);
	expect_log(&feed, log, log_len);
	feed_fini(&feed);
	for (size_t cut = 0; cut <= in->len; cut++) {
		feed = fresh;
		feed_bytes(&feed, in->data, cut);
		feed_bytes(&feed, in->data + cut, in->len - cut);
		expect_log(&feed, log, log_len);
		if (!feed.is_over)
			assert_null(feed.decoder.message.data);
		feed_fini(&feed);
	}
}

static void
test_messages_at_every_split(void **state)
{
	static const char log[] = "T:hello;T:;P:ping;T:gr\xc3\xbc\xc3\x9f"
				  "e;P:;O:pong;T:last;";
	struct buf in = {0};

	(void)state;
	add_frame(&in, 0x81, "hello", 5);
	add_frame(&in, 0x81, "", 0);
	add_frame(&in, 0x01, "gr\xc3", 3);
	add_frame(&in, 0x89, "ping", 4);
	add_frame(&in, 0x00, "\xbc\xc3", 2);
	add_frame(&in, 0x00, "", 0);
	add_frame(&in, 0x80,
	    "\x9f"
	    "e",
	    2);
	add_frame(&in, 0x89, "", 0);
	add_frame(&in, 0x8a, "pong", 4);
	add_frame(&in, 0x81, "last", 4);
	expect_at_every_split(&in, log, strlen(log));
	buf_fini(&in);
}

static void
test_empty_fragments(void **state)
{
	struct buf in = {0};

	(void)state;
	add_frame(&in, 0x01, "", 0);
	add_frame(&in, 0x00, "", 0);
	add_frame(&in, 0x80, "", 0);
	add_frame(&in, 0x01, "", 0);
	add_frame(&in, 0x80, "x", 1);
	expect_at_every_split(&in, "T:;T:x;", 7);
	buf_fini(&in);
}

static void
test_close_ends_it(void **state)
{
	struct buf in = {0};

	(void)state;
	add_frame(&in, 0x01, "a", 1);
	add_frame(&in, 0x88, "\3\xe8 by", 5);
	add_frame(&in, 0x80, "b", 1);
	expect_at_every_split(&in, "C:\3\xe8 by;", 8);
	buf_fini(&in);
}

static void
test_sequence_rules(void **state)
{
	static const struct {
		int firsts[2];
		const char *log;
	} cases[] = {
	    {{0x80, 0}, "V:1002;"}, /* continuation of nothing */
	    {{0x00, 0}, "V:1002;"},
	    {{0x01, 0x81}, "V:1002;"}, /* text within a message */
	    {{0x01, 0x01}, "V:1002;"},
	    {{0x02, 0}, "V:1003;"},
	    {{0x82, 0}, "V:1003;"},
	    {{0x01, 0x82}, "V:1003;"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf in = {0};

		add_frame(&in, cases[i].firsts[0], "x", 1);
		if (cases[i].firsts[1] != 0)
			add_frame(&in, cases[i].firsts[1], "y", 1);
		expect_at_every_split(&in, cases[i].log, strlen(cases[i].log));
		buf_fini(&in);
	}
}

static void
test_compressed_messages_are_only_collected(void **state)
{
	static const char log[] = "D:\xff\xfe;T:plain;P:ping;D:a\x80z;";
	struct buf in = {0};

	(void)state;
	add_frame(&in, 0xc1, "\xff\xfe", 2);
	add_frame(&in, 0x81, "plain", 5);
	add_frame(&in, 0x41, "a", 1);
	add_frame(&in, 0x89, "ping", 4);
	add_frame(&in, 0x80, "\x80z", 2);
	may_deflate = true;
	expect_at_every_split(&in, log, sizeof(log) - 1);
	may_deflate = false;
	buf_fini(&in);
}

static void
test_characters_cut_across_fragments(void **state)
{
	/* One character of each length, then each again. */
	static const char text[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
	size_t len = strlen(text);
	struct buf log = {0};

	(void)state;
	buf_add_str(&log, "T:");
	buf_add_str(&log, text);
	buf_add_char(&log, ';');
	for (size_t a = 0; a <= len; a++) {
		for (size_t b = a; b <= len; b++) {
			struct buf in = {0};

			add_frame(&in, 0x01, text, a);
			add_frame(&in, 0x00, text + a, b - a);
			add_frame(&in, 0x80, text + b, len - b);
			expect_at_every_split(&in, log.data, log.len);
			buf_fini(&in);
		}
	}
	buf_fini(&log);
}

static void
test_bad_utf8_fails_at_the_byte(void **state)
{
	static const struct {
		const char *text;
		size_t bad_at; /* first byte that cannot be */
	} cases[] = {
	    {"ok\xff", 2},
	    {"ok\x80", 2},
	    {"\xc0\x80", 0},
	    {"\xc3 ", 1},
	    {"\xe0\x80\x80", 1},
	    {"\xed\xa0\x80", 1},
	    {"\xf0\x80\x80\x80", 1},
	    {"\xf4\x90\x80\x80", 1},
	    {"\xf5\x80\x80\x80", 0},
	    {"\xe2\x82 ", 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf in = {0};
		struct feed feed = {.max = MAX_MESSAGE};
		char payload[64] = {0};
		size_t at = 0;

		/* Within an unfinished frame of an unfinished message. */
		strcpy(payload, cases[i].text);
		add_frame(&in, 0x01, payload, sizeof(payload));
		while (!feed.is_over && at < in.len)
			feed_bytes(&feed, in.data + at++, 1);
		expect_log(&feed, "V:1007;", 7);
		assert_int_equal(at, 6 + cases[i].bad_at + 1);
		feed_fini(&feed);
		buf_fini(&in);
	}
	struct buf in = {0};
	add_frame(&in, 0x01, "ok", 2);
	add_frame(&in, 0x80, "\xe2\x82", 2); /* ends within a character */
	expect_at_every_split(&in, "V:1007;", 7);
	buf_fini(&in);
}

static void
test_size_is_judged_by_the_header(void **state)
{
	static char text[MAX_MESSAGE + 1];
	struct buf in = {0};
	struct feed feed = {.max = MAX_MESSAGE};

	(void)state;
	memset(text, 'x', sizeof(text));
	/* Exactly max: whole, and as fragments. */
	add_frame(&in, 0x81, text, MAX_MESSAGE);
	add_frame(&in, 0x01, text, 400);
	add_frame(&in, 0x80, text, MAX_MESSAGE - 400);
	feed_bytes(&feed, in.data, in.len);
	assert_int_equal(feed.log.len, 2 * (MAX_MESSAGE + 3));
	assert_false(feed.is_over);
	feed_fini(&feed);
	buf_clear(&in);
	/* One more: the header alone is enough. */
	feed = (struct feed){.max = MAX_MESSAGE};
	add_frame(&in, 0x81, text, MAX_MESSAGE + 1);
	feed_bytes(&feed, in.data, 8);
	expect_log(&feed, "V:1009;", 7);
	feed_fini(&feed);
	buf_clear(&in);
	feed = (struct feed){.max = MAX_MESSAGE};
	add_frame(&in, 0x01, text, 400);
	size_t head = in.len + 8;
	add_frame(&in, 0x80, text, MAX_MESSAGE - 399);
	feed_bytes(&feed, in.data, head);
	expect_log(&feed, "V:1009;", 7);
	assert_true(feed.decoder.message.len == 400);
	feed_fini(&feed);
	/* The largest length there is must not wrap round. */
	feed = (struct feed){.max = MAX_MESSAGE};
	feed_bytes(&feed, in.data, 6 + 2 + 400);
	feed_bytes(&feed, "\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff....", 14);
	expect_log(&feed, "V:1009;", 7);
	feed_fini(&feed);
	buf_fini(&in);
}

static void
test_announcement_takes_no_memory(void **state)
{
	struct feed feed = {.max = 16 * 1024 * 1024};

	(void)state;
	/* 8 MiB announced, three bytes sent. */
	feed_bytes(&feed, "\x01\xff\0\0\0\0\0\x80\0\0\0\0\0\0abc", 17);
	assert_int_equal(feed.decoder.message.len, 3);
	assert_true(feed.decoder.message.cap < 4096);
	feed_fini(&feed);
}

static void
test_skip_finds_the_close(void **state)
{
	struct buf in = {0};

	(void)state;
	add_frame(&in, 0x82, "binary is skipped too", 21);
	add_frame(&in, 0x89, "ping", 4);
	add_frame(&in, 0x01, "\xff", 1);
	add_frame(&in, 0x80, "", 0);
	add_frame(&in, 0x88, "\3\xe8", 2);
	for (size_t cut = 0; cut <= in.len; cut++) {
		struct ws_decoder decoder = {0};
		struct ws_item item = {0};
		char data[256];
		size_t used;

		memcpy(data, in.data, in.len);
		used = ws_decode_skip(&decoder, data, cut, &item);
		if (cut < in.len) {
			assert_int_equal(item.kind, WS_ITEM_NONE);
			used += ws_decode_skip(
			    &decoder, data + used, in.len - used, &item);
		}
		assert_int_equal(item.kind, WS_ITEM_CLOSE);
		assert_int_equal(used, in.len);
		assert_memory_equal(item.data, "\3\xe8", 2);
		ws_decoder_fini(&decoder);
	}
	buf_fini(&in);
}

/* xorshift64: the same numbers on every machine. */
static uint64_t
next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Mostly frames that make sense, so that the interesting states are met. */
static void
add_random_frame(struct buf *in, uint64_t *seed)
{
	static const int firsts[] = {0x81, 0x81, 0x01, 0x00, 0x00, 0x80, 0x80,
	    0x89, 0x8a, 0x81, 0x01, 0x80, 0x88, 0x82, 0xff};
	char payload[300];
	uint64_t pick = next_random(seed);
	int first = firsts[pick % 120 < 118 ? pick % 12 : 12 + pick % 3];
	size_t len = (size_t)(next_random(seed) % 12);

	if (pick % 7 == 0)
		len = (size_t)(next_random(seed) % sizeof(payload));
	if ((first & 8) != 0 && pick % 50 != 1 && len > 125)
		len = 125;
	for (size_t i = 0; i < len; i++)
		payload[i] = (char)('a' + next_random(seed) % 26);
	if (len > 1 && pick % 5 == 0)
		memcpy(payload, "\xc3\xa4", 2);
	if (len > 0 && pick % 97 == 0)
		payload[len / 2] = (char)next_random(seed);
	add_frame(in, first, payload, len);
	if (pick % 211 == 0)
		in->data[in->len - 1 - next_random(seed) % (len + 1)] ^=
		    (char)(1 << (pick % 8));
}

/* However the stream is cut, what comes out is the same. */
static void
test_random_frames(void **state)
{
	uint64_t seed = 0x9e3779b97f4a7c15;
	size_t texts = 0;
	size_t violations = 0;

	(void)state;
	for (int round = 0; round < 1500; round++) {
		struct buf in = {0};
		struct feed whole = {.max = MAX_MESSAGE};
		struct feed cut = {.max = MAX_MESSAGE};

		for (int i = 0; i < 40; i++) {
			if (next_random(&seed) % 300 == 0)
				buf_add_char(&in, (char)next_random(&seed));
			add_random_frame(&in, &seed);
		}
		feed_bytes(&whole, in.data, in.len);
		for (size_t at = 0; at < in.len;) {
			size_t n =
			    1 + next_random(&seed) % (round % 3 == 0 ? 3 : 200);

			n = n < in.len - at ? n : in.len - at;
			feed_bytes(&cut, in.data + at, n);
			at += n;
		}
		assert_int_equal(whole.log.len, cut.log.len);
		if (whole.log.len > 0) {
			assert_memory_equal(
			    whole.log.data, cut.log.data, whole.log.len);
			texts += whole.log.data[0] == 'T';
			violations += memmem(whole.log.data, whole.log.len,
					  "V:", 2) != NULL;
		}
		feed_fini(&whole);
		feed_fini(&cut);
		buf_fini(&in);
	}
	/* The generator is of use only while both happen. */
	assert_true(texts > 100);
	assert_true(violations > 100);
}

/* Nothing but noise: it must end, and with a code. */
static void
test_random_bytes(void **state)
{
	uint64_t seed = 42;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct feed feed = {.max = MAX_MESSAGE};
		char noise[64];

		for (size_t i = 0; i < sizeof(noise); i++)
			noise[i] = (char)next_random(&seed);
		feed_bytes(&feed, noise, 1 + (size_t)round % 64);
		feed_fini(&feed);
	}
}

static int
measure(long count)
{
	char text[200];
	struct buf batch = {0};
	struct buf work = {0};
	size_t batch_count = 0;
	long done = 0;
	size_t bytes = 0;

	memset(text, 'm', sizeof(text));
	while (batch.len < 60000) {
		add_frame(&batch, 0x81, text, sizeof(text));
		batch_count++;
	}
	(void)buf_reserve(&work, batch.len + 1);
	int64_t start_ns = clock_mono_ns();
	while (done < count) {
		struct ws_decoder decoder = {0};
		struct ws_item item;
		size_t used = 0;

		memcpy(work.data, batch.data, batch.len);
		while (used < batch.len) {
			used += ws_decode_next(&decoder, work.data + used,
			    batch.len - used, 1 << 20, &item);
			bytes += item.len;
		}
		done += (long)batch_count;
	}
	int64_t ns = clock_mono_ns() - start_ns;
	printf("%ld messages of %zu bytes (%zu), %.1f ns each\n", done,
	    sizeof(text), bytes, (double)ns / (double)done);
	buf_fini(&batch);
	buf_fini(&work);
	return 0;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_messages_at_every_split),
	    cmocka_unit_test(test_empty_fragments),
	    cmocka_unit_test(test_close_ends_it),
	    cmocka_unit_test(test_sequence_rules),
	    cmocka_unit_test(test_compressed_messages_are_only_collected),
	    cmocka_unit_test(test_characters_cut_across_fragments),
	    cmocka_unit_test(test_bad_utf8_fails_at_the_byte),
	    cmocka_unit_test(test_size_is_judged_by_the_header),
	    cmocka_unit_test(test_announcement_takes_no_memory),
	    cmocka_unit_test(test_skip_finds_the_close),
	    cmocka_unit_test(test_random_frames),
	    cmocka_unit_test(test_random_bytes),
	};

	if (argc > 1)
		return measure(atol(argv[1]));
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
