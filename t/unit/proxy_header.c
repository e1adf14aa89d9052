/*
 * proxy_header.c - units of src/net/proxy_header.c: every header, cut at every
 * byte, and whatever could be wrong with it.
 */
#include "net/proxy_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/conn_peer.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4        "\xc0\x00\x02\x01\x0a\x00\x00\x01\xc3\x50\x01\xbb"
#define V6                                                                     \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"                           \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xc3\x50\x01\xbb"
#define MAPPED                                                                 \
	"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"                         \
	"\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x00\x00\x01\xc3\x50\x01\xbb"

struct header {
	uint8_t data[70000];
	size_t len;
};

/* length: what it claims; -1: the truth */
static void
make(struct header *header, int command, int family, const void *block,
    size_t block_len, int length)
{
	size_t claimed = length >= 0 ? (size_t)length : block_len;

	memcpy(header->data, SIGNATURE, 12);
	header->data[12] = (uint8_t)command;
	header->data[13] = (uint8_t)family;
	header->data[14] = (uint8_t)(claimed >> 8);
	header->data[15] = (uint8_t)claimed;
	memcpy(header->data + PROXY_FIXED_LEN, block, block_len);
	header->len = PROXY_FIXED_LEN + block_len;
}

/* As conn_proxy.c reads, at most `step` bytes at once. The bytes lie at the
 * end of their memory, so that a sanitizer sees who looks further. */
static enum proxy_result
read_in_steps(const struct header *header, size_t step, char text[64])
{
	struct conn_peer peer = {
	    .address = {10, 0, 0, 1}, .port = 4711, .family = AF_INET};
	enum proxy_result result = PROXY_MORE;
	size_t want = PROXY_FIXED_LEN;
	size_t len = 0;

	while (result == PROXY_MORE && len < header->len) {
		const char *why = NULL;
		uint8_t *copy;

		len = len + step < want ? len + step : want;
		if (len > header->len)
			len = header->len;
		copy = malloc(len);
		memcpy(copy, header->data, len);
		result = proxy_header_read(copy, len, &want, &peer, &why);
		free(copy);
		if (result == PROXY_BROKEN)
			assert_non_null(why);
		else
			assert_true(want <= PROXY_HEADER_MAX);
	}
	if (result == PROXY_DONE)
		assert_int_equal(len, header->len);
	conn_peer_text(&peer, text);
	return result;
}

static void
expect(
    const struct header *header, enum proxy_result expected, const char *peer)
{
	static const size_t steps[] = {1, 2, 7, 16, 100000};
	char text[64];

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		assert_int_equal(
		    read_in_steps(header, steps[i], text), expected);
		assert_string_equal(text, peer);
	}
}

#define SELF "10.0.0.1:4711"

static void
the_source_becomes_the_peer(void **state)
{
	static struct header header;

	(void)state;
	make(&header, 0x21, 0x11, V4, 12, -1);
	expect(&header, PROXY_DONE, "192.0.2.1:50000");
	make(&header, 0x21, 0x21, V6, 36, -1);
	expect(&header, PROXY_DONE, "[2001:db8::1]:50000");
	make(&header, 0x21, 0x21, MAPPED, 36, -1);
	expect(&header, PROXY_DONE, "192.0.2.1:50000");
}

static void
a_proxy_may_speak_for_itself(void **state)
{
	static const char unix_paths[216] = "/run/a";
	static struct header header;

	(void)state;
	make(&header, 0x20, 0x00, "", 0, -1);
	expect(&header, PROXY_DONE, SELF);
	make(&header, 0x20, 0x11, V4, 12, -1);
	expect(&header, PROXY_DONE, SELF);
	make(&header, 0x20, 0xff, "whatever", 8, -1);
	expect(&header, PROXY_DONE, SELF);
	make(&header, 0x21, 0x00, "", 0, -1);
	expect(&header, PROXY_DONE, SELF);
	make(&header, 0x21, 0x00, "whatever", 8, -1);
	expect(&header, PROXY_DONE, SELF);
	make(&header, 0x21, 0x31, unix_paths, 216, -1);
	expect(&header, PROXY_DONE, SELF);
}

static void
extensions_are_skipped(void **state)
{
	static const char tlvs[] = V4 "\x04\0\x02xx" /* padding */
				      "\xee\0\0"     /* nobody knows it */
				      "\x02\0\x0b"
				      "example.org";
	static struct header header;
	static char full[PROXY_HEADER_MAX] = V4;

	(void)state;
	make(&header, 0x21, 0x11, tlvs, sizeof(tlvs) - 1, -1);
	expect(&header, PROXY_DONE, "192.0.2.1:50000");
	for (size_t len = 13; len < sizeof(tlvs) - 1; len++) {
		bool is_whole = len == 12 + 5 || len == 12 + 5 + 3;

		make(&header, 0x21, 0x11, tlvs, len, -1);
		expect(&header, is_whole ? PROXY_DONE : PROXY_BROKEN,
		    is_whole ? "192.0.2.1:50000" : SELF);
	}
	/* as long as may be, and one more */
	full[12] = 4;
	full[13] = (char)((PROXY_HEADER_MAX - 16 - 12 - 3) >> 8);
	full[14] = (char)(PROXY_HEADER_MAX - 16 - 12 - 3);
	make(&header, 0x21, 0x11, full, PROXY_HEADER_MAX - 16, -1);
	expect(&header, PROXY_DONE, "192.0.2.1:50000");
	make(&header, 0x21, 0x11, full, PROXY_HEADER_MAX - 15, -1);
	expect(&header, PROXY_BROKEN, SELF);
}

static void
what_is_none_is_broken(void **state)
{
	static struct header header;

	(void)state;
	for (size_t i = 1; i < 12; i++) {
		make(&header, 0x21, 0x11, V4, 12, -1);
		header.data[i] ^= 1;
		expect(&header, PROXY_BROKEN, SELF);
	}
	for (int command = 0; command < 256; command++) {
		make(&header, command, 0x11, V4, 12, -1);
		if (command != 0x20 && command != 0x21)
			expect(&header, PROXY_BROKEN, SELF);
	}
	for (int family = 0; family < 256; family++) {
		make(&header, 0x21, family, V4, 12, -1);
		if (family != 0x00 && family != 0x11)
			expect(&header, PROXY_BROKEN, SELF);
	}
}

static void
wrong_lengths_are_broken(void **state)
{
	static struct header header;

	(void)state;
	for (size_t len = 0; len < 12; len++) {
		make(&header, 0x21, 0x11, V4, len, -1);
		expect(&header, PROXY_BROKEN, SELF);
	}
	for (size_t len = 0; len < 36; len++) {
		make(&header, 0x21, 0x21, V6, len, -1);
		expect(&header, PROXY_BROKEN, SELF);
	}
	make(&header, 0x21, 0x11, V4, 12, 65535);
	expect(&header, PROXY_BROKEN, SELF);
	make(&header, 0x20, 0x00, "", 0, 65535);
	expect(&header, PROXY_BROKEN, SELF);
	/* cut off: more is wanted, for ever */
	for (size_t len = 0; len < 12; len++) {
		make(&header, 0x21, 0x11, V4, len, 12);
		expect(&header, PROXY_MORE, SELF);
	}
	for (size_t len = 1; len < PROXY_FIXED_LEN; len++) {
		make(&header, 0x21, 0x11, V4, 12, -1);
		header.len = len;
		expect(&header, PROXY_MORE, SELF);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_source_becomes_the_peer),
	    cmocka_unit_test(a_proxy_may_speak_for_itself),
	    cmocka_unit_test(extensions_are_skipped),
	    cmocka_unit_test(what_is_none_is_broken),
	    cmocka_unit_test(wrong_lengths_are_broken),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
