/*
 * gzip.c - bodies of the ops port, packed.
 *
 * Role:    unit tests of console/gzip.c.
 * Process: test.
 * Blocks:  never.
 * Trust:   none.
 * See:     console/gzip.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/mem.h"
#include "console/gzip.h"

#define MIB ((size_t)1024 * 1024)

static void
only_who_takes_gzip_gets_it(void **state)
{
	static const char *const yes[] = {"gzip", "GZip", "deflate, gzip",
	    "gzip;q=1.0", "br;q=0,gzip ; q=0.001, *", " ,, gzip\t"};
	static const char *const no[] = {"", "identity", "gzip;q=0",
	    "gzip ;q=0.000", "gzipped", "x-gzip", "br, deflate", ";gzip", ","};

	(void)state;
	assert_false(gzip_is_accepted(NULL));
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (!gzip_is_accepted(yes[i]))
			fail_msg("refused: %s", yes[i]);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		if (gzip_is_accepted(no[i]))
			fail_msg("accepted: %s", no[i]);
	}
}

/* @return whether it was packed; then it is checked to come back the same */
static bool
comes_back(const char *text, size_t len)
{
	struct buf body = {0};
	char *back = xcalloc(1, len + 1);
	z_stream stream = {0};
	bool is_packed;

	buf_add(&body, text, len);
	is_packed = gzip_pack(&body);
	if (is_packed) {
		assert_true(body.len < len);
		assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
		stream.next_in = (unsigned char *)body.data;
		stream.avail_in = (unsigned)body.len;
		stream.next_out = (unsigned char *)back;
		stream.avail_out = (unsigned)len + 1;
		assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
		assert_int_equal(stream.total_out, len);
		inflateEnd(&stream);
	} else {
		assert_int_equal(body.len, len);
		if (len > 0)
			memcpy(back, body.data, len);
	}
	if (len > 0)
		assert_memory_equal(back, text, len);
	free(back);
	buf_fini(&body);
	return is_packed;
}

static void
a_body_comes_back_as_it_was(void **state)
{
	char *text = xcalloc(1, MIB + 1);

	(void)state;
	memset(text, 'a', MIB + 1);
	assert_false(comes_back(text, 0));
	assert_false(comes_back(text, 1023));
	assert_true(comes_back(text, 1024));
	assert_true(comes_back(text, 70000));
	assert_true(comes_back(text, MIB));
	assert_false(comes_back(text, MIB + 1));
	free(text);
}

static void
what_would_grow_stays(void **state)
{
	char noise[4096];
	uint32_t seed = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(noise); i++) {
		seed = seed * 1664525 + 1013904223;
		noise[i] = (char)(seed >> 24);
	}
	assert_false(comes_back(noise, sizeof(noise)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_who_takes_gzip_gets_it),
	    cmocka_unit_test(a_body_comes_back_as_it_was),
	    cmocka_unit_test(what_would_grow_stays),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
