/*
 * ws_deflate.c - units of src/net/ws_deflate.c.
 *
 * Role:    what the RFC's examples say, limits at the byte, damaged data, and
 *          that no window is ever exceeded.
 * Process: the test. With an argument N: compress and inflate N texts of
 *          several sizes and print time and bytes of each.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     RFC 7692 7.2.3.
 */
#include "net/ws_deflate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/clock.h"
#include "net/ws_frame.h"

#define MAX (64 * 1024)

/* From a block of the exact size, so that ASan sees each overrun. */
static int
inflate_exact(struct ws_deflate *codec, const void *data, size_t len,
    size_t max, struct buf **text_out)
{
	struct ws_violation violation = {0};
	char *block = malloc(len == 0 ? 1 : len);
	int rc;

	assert_non_null(block);
	memcpy(block, data, len);
	rc = ws_inflate(codec, block, len, max, text_out, &violation);
	free(block);
	assert_int_equal(violation.code == 0, rc == 0);
	if (rc != 0) {
		assert_int_equal(rc, ERR_BAD_REQUEST);
		assert_true(strlen(violation.why) <= 123);
		return violation.code;
	}
	(*text_out)->data[(*text_out)->len] = '\0'; /* room for it */
	return 0;
}

#define HELLO(bytes)                                                           \
	{                                                                      \
		bytes, sizeof(bytes) - 1                                       \
	}

static void
test_examples_of_the_rfc(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} cases[] = {
	    HELLO("\xf2\x48\xcd\xc9\xc9\x07\x00"),                 /* 7.2.3.1 */
	    HELLO("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), /* .3 */
	    HELLO("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),             /* .4 */
	    HELLO("\xf3\x48\xcd\xc9\xc9\x07\x00"), /* its careless form */
	    HELLO("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
	};
	struct ws_deflate *codec = ws_deflate_new();
	struct buf *text;

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			assert_int_equal(inflate_exact(codec, cases[i].data,
					     cases[i].len, MAX, &text),
			    0);
			assert_string_equal(text->data, "Hello");
		}
		/* 7.2.3.2 needs the window of the message before. */
		assert_int_equal(
		    inflate_exact(codec, "\xf2\x00\x11\x00\x00", 5, MAX, &text),
		    1007);
		/* 7.2.3.6: an empty message */
		assert_int_equal(
		    inflate_exact(codec, "\x00", 1, MAX, &text), 0);
		assert_int_equal(text->len, 0);
		assert_int_equal(
		    inflate_exact(codec, "\x03\x00\x00", 3, MAX, &text), 0);
		assert_int_equal(text->len, 0);
	}
	ws_deflate_free(&codec);
	assert_null(codec);
	ws_deflate_free(&codec);
}

static void
test_what_is_no_message(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} cases[] = {
	    HELLO(""),         /* not even the first byte of a block */
	    HELLO("\x07"),     /* block of an unknown type, final */
	    HELLO("\x06\x00"), /* the same */
	    HELLO("\x00\x05\x00\xfb\xff\x48\x65\x6c\x6c\x6f\x00"), /* ~LEN */
	    HELLO("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f"),     /* no end */
	    HELLO("\xf2\x48\xcd\xc9\xc9\x07"),                     /* no end */
	    HELLO("\xf2\x48\xcd"),                                 /* cut off */
	    HELLO("\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff"), /* uncut */
	    HELLO("\xf2\x48\xcd\xc9\xc9\x07\x00x"), /* more behind */
	    HELLO("\xf3\x48\xcd\xc9\xc9\x07\x00\x00x"),
	    HELLO("\x78\x9c\xf3\x48\xcd\xc9\xc9\x07\x00"), /* zlib header */
	};
	struct ws_deflate *codec = ws_deflate_new();
	struct buf *text;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("# %zu\n", i);
		assert_int_equal(inflate_exact(codec, cases[i].data,
				     cases[i].len, MAX, &text),
		    1007);
	}
	/* The next message is none the worse for it. */
	assert_int_equal(
	    inflate_exact(codec, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, MAX, &text),
	    0);
	ws_deflate_free(&codec);
}

/* As a client would: any level, window and strategy, flushed n times. */
static size_t
make_payload(unsigned char *out, size_t room, const void *data, size_t len,
    int flush, int pieces)
{
	z_stream z = {0};

	assert_int_equal(
	    deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)data;
	z.next_out = out;
	z.avail_out = (uInt)room;
	for (int i = 0; i < pieces; i++) {
		z.avail_in = (uInt)(len * (size_t)(i + 1) / (size_t)pieces -
				    len * (size_t)i / (size_t)pieces);
		(void)deflate(&z, i + 1 < pieces ? flush : Z_SYNC_FLUSH);
		assert_int_equal(z.avail_in, 0);
	}
	(void)deflateEnd(&z);
	return room - z.avail_out - 4;
}

static void
test_size_is_judged_at_the_byte(void **state)
{
	static const size_t lens[] = {
	    1, 4095, 4096, 4097, 8192, 65535, 65536, 65537, 1024 * 1024};
	static char text[1024 * 1024];
	static unsigned char data[1024 * 1024];
	struct ws_deflate *codec = ws_deflate_new();
	struct buf *out;

	(void)state;
	memset(text, ' ', sizeof(text));
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t len = make_payload(
		    data, sizeof(data), text, lens[i], Z_NO_FLUSH, 1);

		assert_int_equal(
		    inflate_exact(codec, data, len, lens[i], &out), 0);
		assert_int_equal(out->len, lens[i]);
		assert_memory_equal(out->data, text, lens[i]);
		assert_int_equal(
		    inflate_exact(codec, data, len, lens[i] - 1, &out), 1009);
	}
	ws_deflate_free(&codec);
}

/* A bomb costs what is permitted, and that only while it is looked at. */
static void
test_bombs_are_refused(void **state)
{
	static char text[16 * 1024 * 1024];
	static unsigned char data[64 * 1024];
	struct ws_deflate *codec = ws_deflate_new();
	struct ws_violation violation;
	struct buf *out = NULL;
	size_t len;

	(void)state;
	memset(text, 'a', sizeof(text));
	len =
	    make_payload(data, sizeof(data), text, sizeof(text), Z_NO_FLUSH, 1);
	assert_true(len < sizeof(text) / 1000);
	assert_int_equal(inflate_exact(codec, data, len, MAX, &out), 1009);
	/* At the limit it passes; its memory was doubled up to there. */
	assert_int_equal(ws_inflate(codec, (char *)data, len, sizeof(text),
			     &out, &violation),
	    0);
	assert_true(out->cap <= 2 * sizeof(text));
	ws_inflate_release(codec);
	assert_null(out->data);
	ws_deflate_free(&codec);
}

static void
test_utf8_is_checked_after_inflating(void **state)
{
	static const struct {
		const char *text;
		int code;
	} cases[] = {
	    {"gr\xc3\xbc\xc3\x9f", 0},
	    {"\xf0\x9f\x98\x80", 0},
	    {"\xff", 1007},
	    {"ok\xc3", 1007},
	    {"\xed\xa0\x80", 1007},
	    {"\xc0\x80", 1007},
	};
	struct ws_deflate *codec = ws_deflate_new();
	struct buf *out;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned char data[100];
		size_t len = make_payload(data, sizeof(data), cases[i].text,
		    strlen(cases[i].text), Z_NO_FLUSH, 1);

		assert_int_equal(
		    inflate_exact(codec, data, len, MAX, &out), cases[i].code);
	}
	ws_deflate_free(&codec);
}

/* Some JSON that is not the same all over. */
static size_t
make_text(char *out, size_t len, unsigned seed)
{
	static const char *const words[] = {"session", "tomorrow", "please",
	    "notes", "week", "better", "sleep", "appointment", "moved", "to",
	    "Thursday", "thank", "you", "and", "the", "a"};
	size_t n = (size_t)sprintf(out,
	    "{\"Command\":\"P_MESSAGE\",\"Seq\":%u,\"MessageId\":\"%u%u\","
	    "\"ConversationId\":\"d:%u:%u\",\"FromUser\":{\"UserId\":%u,"
	    "\"Name\":\"User %u\"},\"Type\":\"text\",\"Message\":\"",
	    seed % 1000, seed, seed, seed % 7919, seed % 977, seed % 977,
	    seed % 977);

	srand(seed);
	while (n + 15 < len)
		n += (size_t)sprintf(out + n, "%s ", words[rand() % 16]);
	memcpy(out + n, "\"}", 2);
	return n + 2;
}

static void
test_blocks_marked_as_the_last(void **state)
{
	static char text[100000];
	static unsigned char data[200000];
	struct ws_deflate *codec = ws_deflate_new();
	struct buf *out;
	size_t text_len = make_text(text, 90000, 7);

	(void)state;
	/* A second block after a final one that looks back beyond it. */
	z_stream z = {0};
	size_t half = text_len / 2;
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -15, 8, 0), Z_OK);
	z.next_in = (Bytef *)text;
	z.avail_in = (uInt)half;
	z.next_out = data;
	z.avail_out = sizeof(data);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(deflateReset(&z), Z_OK);
	assert_int_equal(
	    deflateSetDictionary(&z, (Bytef *)text + half - 32768, 32768),
	    Z_OK);
	z.avail_in = (uInt)(text_len - half);
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	size_t len = sizeof(data) - z.avail_out - 4;
	(void)deflateEnd(&z);
	assert_int_equal(inflate_exact(codec, data, len, 100000, &out), 0);
	assert_int_equal(out->len, text_len);
	assert_memory_equal(out->data, text, text_len);
	/* Empty ones, up to the number that is enough for anybody. */
	for (int n = 1; n <= WS_DEFLATE_FINALS_MAX + 1; n++) {
		len = 0;
		for (int i = 0; i < n; i++) {
			data[len++] = 0x03;
			data[len++] = 0x00;
		}
		data[len++] = 0x00;
		assert_int_equal(inflate_exact(codec, data, len, MAX, &out),
		    n <= WS_DEFLATE_FINALS_MAX ? 0 : 1007);
	}
	ws_deflate_free(&codec);
}

/* Every prefix, every flipped bit: an answer, the same text or a code. */
static void
test_damaged_payloads(void **state)
{
	char text[600];
	unsigned char data[1000];
	struct ws_deflate *codec = ws_deflate_new();
	struct buf *out;
	size_t text_len = make_text(text, 500, 3);
	size_t len =
	    make_payload(data, sizeof(data), text, text_len, Z_FULL_FLUSH, 3);
	int code;

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		code = inflate_exact(codec, data, cut, MAX, &out);
		/* A cut behind a flush is a whole message. */
		if (code == 0) {
			assert_true(out->len < text_len);
			assert_memory_equal(out->data, text, out->len);
		} else {
			assert_int_equal(code, 1007);
		}
	}
	for (size_t bit = 0; bit < len * 8; bit++) {
		data[bit / 8] ^= (unsigned char)(1 << bit % 8);
		code = inflate_exact(codec, data, len, MAX, &out);
		assert_true(code == 0 || code == 1007 || code == 1009);
		data[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	assert_int_equal(inflate_exact(codec, data, len, MAX, &out), 0);
	assert_memory_equal(out->data, text, text_len);
	ws_deflate_free(&codec);
}

/* Read back with exactly the window that was agreed. */
static void
expect_fits(const struct buf *packed, int bits, const char *text, size_t len)
{
	z_stream z = {0};
	unsigned char *out = malloc(len + 1);
	unsigned char *in = malloc(packed->len + 4);

	assert_non_null(out);
	assert_non_null(in);
	memcpy(in, packed->data, packed->len);
	memcpy(in + packed->len, "\x00\x00\xff\xff", 4);
	assert_int_equal(inflateInit2(&z, -bits), Z_OK);
	z.next_in = in;
	z.avail_in = (uInt)(packed->len + 4);
	/* Piece by piece, so that only the window serves as the past. */
	for (size_t at = 0; at < len; at += 100) {
		z.next_out = out + at;
		z.avail_out = (uInt)(len - at < 100 ? len - at : 100);
		assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_OK);
		assert_int_equal(z.avail_out, 0);
	}
	z.next_out = out + len;
	z.avail_out = 1;
	(void)inflate(&z, Z_SYNC_FLUSH);
	assert_int_equal(z.avail_in, 0);
	assert_int_equal(z.avail_out, 1);
	assert_memory_equal(out, text, len);
	(void)inflateEnd(&z);
	free(out);
	free(in);
}

static void
test_every_window_is_kept(void **state)
{
	static const size_t lens[] = {300, 1000, 5000, 70000};
	static char text[70000];
	struct ws_deflate *codec = ws_deflate_new();
	const struct buf *packed;
	struct buf *out;

	(void)state;
	for (int bits = 9; bits <= 12; bits++) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			size_t len = make_text(text, lens[i], (unsigned)bits);

			assert_true(
			    ws_deflate_pack(codec, bits, text, len, &packed));
			assert_true(packed->len < len);
			expect_fits(packed, bits, text, len);
			assert_int_equal(inflate_exact(codec, packed->data,
					     packed->len, sizeof(text), &out),
			    0);
			assert_int_equal(out->len, len);
			ws_deflate_release(codec);
			ws_inflate_release(codec);
		}
	}
	ws_deflate_free(&codec);
}

static void
test_what_does_not_shrink_is_left(void **state)
{
	static char noise[70000];
	struct ws_deflate *codec = ws_deflate_new();
	const struct buf *packed;

	(void)state;
	srand(1);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)(rand() >> 7);
	for (size_t len = 0; len < sizeof(noise); len = len * 2 + 1) {
		assert_false(ws_deflate_pack(codec, 12, noise, len, &packed));
		assert_false(ws_deflate_pack(codec, 12, noise, len, &packed));
	}
	/* One byte less is worth it, nothing else is. */
	for (size_t len = 1; len < 200; len++) {
		char same[200];

		memset(same, 'x', sizeof(same));
		if (ws_deflate_pack(codec, 12, same, len, &packed))
			assert_true(packed->len < len);
		else
			assert_true(len < 10);
	}
	ws_deflate_free(&codec);
}

static void
test_the_same_text_again(void **state)
{
	char text[2000];
	char other[2000];
	struct ws_deflate *codec = ws_deflate_new();
	const struct buf *packed;
	size_t len = make_text(text, 1900, 5);

	(void)state;
	assert_true(ws_deflate_pack(codec, 12, text, len, &packed));
	size_t packed_len = packed->len;
	packed->data[0] ^= 0x55; /* seen again: it was not made again */
	assert_true(ws_deflate_pack(codec, 12, text, len, &packed));
	assert_int_equal(packed->len, packed_len);
	packed->data[0] ^= 0x55;
	expect_fits(packed, 12, text, len);
	packed->data[0] ^= 0x55;
	/* Another length, window or byte is another text. */
	assert_true(ws_deflate_pack(codec, 12, text, len - 1, &packed));
	expect_fits(packed, 12, text, len - 1);
	assert_true(ws_deflate_pack(codec, 10, text, len - 1, &packed));
	expect_fits(packed, 10, text, len - 1);
	memcpy(other, text, len);
	other[len - 3] ^= 1;
	assert_true(ws_deflate_pack(codec, 10, other, len - 1, &packed));
	expect_fits(packed, 10, other, len - 1);
	ws_deflate_release(codec);
	ws_deflate_free(&codec);
}

static void
measure(size_t len, int rounds)
{
	static char texts[64][70000];
	size_t lens[64];
	struct ws_deflate *codec = ws_deflate_new();
	const struct buf *packed = NULL;
	struct ws_violation violation;
	struct buf *text;
	size_t wire = 0;
	int64_t start;

	for (unsigned i = 0; i < 64; i++)
		lens[i] = make_text(texts[i], len, i * 1000003 + 17);
	start = clock_mono_us();
	for (int i = 0; i < rounds; i++) {
		if (ws_deflate_pack(
			codec, 12, texts[i % 64], lens[i % 64], &packed))
			wire += packed->len;
		else
			wire += lens[i % 64];
		ws_deflate_release(codec);
	}
	int64_t pack_us = clock_mono_us() - start;
	start = clock_mono_us();
	for (int i = 0; i < rounds; i++) {
		if (ws_inflate(codec, packed->data, packed->len, 100000, &text,
			&violation) != 0)
			abort();
	}
	printf("%6zu bytes: %6zu on the wire, pack %.2f us, inflate %.2f us\n",
	    lens[0], wire / (size_t)rounds, (double)pack_us / rounds,
	    (double)(clock_mono_us() - start) / rounds);
	ws_deflate_free(&codec);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_examples_of_the_rfc),
	    cmocka_unit_test(test_what_is_no_message),
	    cmocka_unit_test(test_size_is_judged_at_the_byte),
	    cmocka_unit_test(test_bombs_are_refused),
	    cmocka_unit_test(test_utf8_is_checked_after_inflating),
	    cmocka_unit_test(test_blocks_marked_as_the_last),
	    cmocka_unit_test(test_damaged_payloads),
	    cmocka_unit_test(test_every_window_is_kept),
	    cmocka_unit_test(test_what_does_not_shrink_is_left),
	    cmocka_unit_test(test_the_same_text_again),
	};

	if (argc > 1) {
		static const size_t lens[] = {200, 500, 1000, 2000, 65536};

		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
			measure(lens[i], atoi(argv[1]));
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
