/*
 * tls_record.c - units of src/net/tls_record.c and tls_schedule.c.
 *
 * Role:    both sides of a connection in both versions and all suites, at
 *          every split; what must be refused is refused. OpenSSL as the other
 *          side: t/23-tls.t.
 * Process: the test.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     src/net/tls_record.h, RFC 8446 5, RFC 8448.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/tls_record.h"

#define TEXT_MAX (4 * TLS_RECORD_PLAIN_MAX)

struct sides {
	struct tls_crypto *crypto;
	struct tls_keys client; /* out is the server's in */
	struct tls_keys server;
};

static const struct {
	enum tls_aead aead;
	bool is_13;
	bool uses_sha384;
} suites[] = {
    {TLS_AES_128_GCM, true, false},
    {TLS_AES_256_GCM, true, true},
    {TLS_CHACHA20_POLY1305, true, false},
    {TLS_AES_128_GCM, false, false},
    {TLS_AES_256_GCM, false, true},
    {TLS_CHACHA20_POLY1305, false, false},
};

#define SUITE_COUNT (sizeof(suites) / sizeof(suites[0]))

static void
swap_halves(struct tls_keys *keys)
{
	struct tls_half in = keys->in;

	keys->in = keys->out;
	keys->out = in;
}

static struct sides
make_sides(size_t suite)
{
	struct sides sides = {.crypto = NULL};
	uint8_t random[32] = {1, 2, 3};
	uint8_t master[48] = {4, 5, 6};
	char error[128];

	sides.crypto = tls_crypto_new(error, sizeof(error));
	assert_non_null(sides.crypto);
	sides.server.aead = suites[suite].aead;
	sides.server.is_13 = suites[suite].is_13;
	sides.server.uses_sha384 = suites[suite].uses_sha384;
	sides.server.plain_max = TLS_RECORD_PLAIN_MAX;
	if (sides.server.is_13) {
		memset(sides.server.in.secret, 7, TLS_SECRET_MAX);
		memset(sides.server.out.secret, 8, TLS_SECRET_MAX);
		assert_int_equal(tls_keys_derive(sides.crypto, &sides.server,
				     &sides.server.in),
		    0);
		assert_int_equal(tls_keys_derive(sides.crypto, &sides.server,
				     &sides.server.out),
		    0);
	} else {
		assert_int_equal(tls_keys_derive_12(sides.crypto, &sides.server,
				     master, sizeof(master), random, random),
		    0);
	}
	sides.client = sides.server;
	swap_halves(&sides.client);
	return sides;
}

static void
free_sides(struct sides *sides)
{
	tls_crypto_free(&sides->crypto);
}

static uint8_t *
make_text(size_t len)
{
	uint8_t *text = xcalloc(1, len + 1);

	for (size_t i = 0; i < len; i++)
		text[i] = (uint8_t)(i * 31 + i / 251);
	return text;
}

/* Open all records of data as they come in pieces of step bytes. */
static size_t
open_all(struct sides *sides, const uint8_t *data, size_t len, uint8_t *out)
{
	struct tls_open open;
	size_t total = 0;
	size_t at = 0;

	while (at < len) {
		assert_int_equal(tls_open(sides->crypto, &sides->server,
				     data + at, len - at, out + total, &open),
		    TLS_OPENED_DATA);
		at += open.used;
		total += open.out_len;
	}
	assert_int_equal(at, len);
	return total;
}

static void
test_what_is_sealed_can_be_opened(void **state)
{
	static const size_t lens[] = {
	    1, 2, 15, 16, 17, 255, 16383, 16384, 16385, 32768, 40000, TEXT_MAX};

	(void)state;
	for (size_t suite = 0; suite < SUITE_COUNT; suite++) {
		struct sides sides = make_sides(suite);
		uint8_t *text = make_text(TEXT_MAX);
		uint8_t *out = xcalloc(1, 2 * TEXT_MAX);
		uint8_t *sealed =
		    xcalloc(1, tls_seal_bound(&sides.client, TEXT_MAX));

		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			size_t n = tls_seal(
			    sides.crypto, &sides.client, text, lens[i], sealed);

			assert_true(n > lens[i]);
			assert_true(
			    n <= tls_seal_bound(&sides.client, lens[i]));
			assert_int_equal(
			    open_all(&sides, sealed, n, out), lens[i]);
			assert_memory_equal(out, text, lens[i]);
		}
		assert_int_equal(sides.client.out.seq, sides.server.in.seq);
		free(sealed);
		free(out);
		free(text);
		free_sides(&sides);
	}
}

static void
test_incomplete_is_said_at_every_split(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < SUITE_COUNT; suite++) {
		struct sides sides = make_sides(suite);
		uint8_t sealed[256];
		uint8_t out[256];
		struct tls_open open;
		size_t n = tls_seal(
		    sides.crypto, &sides.client, "to be split", 11, sealed);

		for (size_t len = 0; len < n; len++) {
			/* exact memory: a read beyond it is found */
			uint8_t *part = xcalloc(1, len + 1);

			memcpy(part, sealed, len);
			assert_int_equal(tls_open(sides.crypto, &sides.server,
					     part, len, out, &open),
			    TLS_OPENED_MORE);
			free(part);
		}
		assert_int_equal(sides.server.in.seq, 0);
		assert_int_equal(open_all(&sides, sealed, n, out), 11);
		assert_memory_equal(out, "to be split", 11);
		free_sides(&sides);
	}
}

static void
test_each_changed_bit_is_found(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < SUITE_COUNT; suite++) {
		struct sides sides = make_sides(suite);
		uint8_t sealed[256];
		size_t n =
		    tls_seal(sides.crypto, &sides.client, "nobody", 6, sealed);

		for (size_t bit = 0; bit < 8 * n; bit++) {
			struct tls_keys keys = sides.server;
			uint8_t out[256];
			struct tls_open open;
			enum tls_opened opened;

			sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
			memset(out, 0, sizeof(out));
			opened = tls_open(
			    sides.crypto, &keys, sealed, n, out, &open);
			sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
			/* the length may ask for more; the legacy version's
			 * second byte means nothing in 1.3 (RFC 8446 5.1) but
			 * is authenticated */
			assert_true(
			    opened == TLS_OPENED_BROKEN ||
			    (opened == TLS_OPENED_MORE &&
				(bit / 8 == 3 || bit / 8 == 4)) ||
			    (opened == TLS_OPENED_DATA && bit / 8 == 2));
			if (opened == TLS_OPENED_BROKEN) {
				assert_int_not_equal(
				    open.alert, TLS_ALERT_NONE);
				assert_int_equal(open.out_len, 0);
				assert_int_not_equal(
				    memcmp(out, "nobody", 6), 0);
			}
		}
		free_sides(&sides);
	}
}

static void
test_order_counts(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < SUITE_COUNT; suite++) {
		struct sides sides = make_sides(suite);
		uint8_t first[128];
		uint8_t second[128];
		uint8_t out[128];
		struct tls_open open;
		size_t n =
		    tls_seal(sides.crypto, &sides.client, "one", 3, first);
		size_t m =
		    tls_seal(sides.crypto, &sides.client, "two", 3, second);
		struct tls_keys keys = sides.server;

		assert_int_equal(
		    tls_open(sides.crypto, &keys, second, m, out, &open),
		    TLS_OPENED_BROKEN);
		assert_int_equal(open.alert, TLS_ALERT_BAD_RECORD_MAC);
		keys = sides.server;
		assert_int_equal(
		    tls_open(sides.crypto, &keys, first, n, out, &open),
		    TLS_OPENED_DATA);
		assert_int_equal(
		    tls_open(sides.crypto, &keys, first, n, out, &open),
		    TLS_OPENED_BROKEN);
		free_sides(&sides);
	}
}

static void
expect_broken(size_t suite, const uint8_t *head, size_t len, int alert)
{
	struct sides sides = make_sides(suite);
	uint8_t out[64];
	struct tls_open open;

	assert_int_equal(
	    tls_open(sides.crypto, &sides.server, head, len, out, &open),
	    TLS_OPENED_BROKEN);
	assert_int_equal(open.alert, alert);
	free_sides(&sides);
}

static void
test_lengths_and_types_are_limited(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < SUITE_COUNT; suite++) {
		size_t max = TLS_RECORD_CIPHER_MAX(suites[suite].is_13) + 1;
		uint8_t too_long[] = {
		    23, 3, 3, (uint8_t)(max >> 8), (uint8_t)max};
		uint8_t too_short[] = {23, 3, 3, 0, 15};
		uint8_t empty[] = {23, 3, 3, 0, 0};
		uint8_t ccs[] = {20, 3, 3, 0, 1, 1};
		uint8_t http[] = "GET / HTTP/1.1";
		uint8_t version[] = {23, 2, 3, 0, 64};

		expect_broken(suite, too_long, sizeof(too_long),
		    TLS_ALERT_RECORD_OVERFLOW);
		expect_broken(suite, too_short, sizeof(too_short),
		    TLS_ALERT_DECODE_ERROR);
		expect_broken(
		    suite, empty, sizeof(empty), TLS_ALERT_DECODE_ERROR);
		expect_broken(
		    suite, ccs, sizeof(ccs), TLS_ALERT_UNEXPECTED_MESSAGE);
		expect_broken(
		    suite, http, sizeof(http), TLS_ALERT_UNEXPECTED_MESSAGE);
		expect_broken(suite, version, sizeof(version),
		    TLS_ALERT_UNEXPECTED_MESSAGE);
	}
}

static void
test_alerts(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < SUITE_COUNT; suite++) {
		struct sides sides = make_sides(suite);
		uint8_t record[TLS_RECORD_EXTRA_MAX + 2];
		uint8_t out[64];
		struct tls_open open;
		size_t n = tls_seal_alert(sides.crypto, &sides.client,
		    TLS_ALERT_CLOSE_NOTIFY, record);

		assert_true(n <= sizeof(record));
		assert_int_equal(tls_open(sides.crypto, &sides.server, record,
				     n, out, &open),
		    TLS_OPENED_CLOSED);
		n = tls_seal_alert(sides.crypto, &sides.client,
		    TLS_ALERT_BAD_RECORD_MAC, record);
		assert_int_equal(tls_open(sides.crypto, &sides.server, record,
				     n, out, &open),
		    TLS_OPENED_LOST);
		free_sides(&sides);
	}
}

static void
test_key_update(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < SUITE_COUNT; suite++) {
		struct sides sides = make_sides(suite);
		uint8_t old_key[TLS_KEY_MAX];
		uint8_t sealed[256];
		uint8_t out[256];
		size_t n;

		if (!suites[suite].is_13) {
			free_sides(&sides);
			continue;
		}
		memcpy(old_key, sides.server.in.key, sizeof(old_key));
		sides.client.owes_key_update = true;
		n = tls_seal(
		    sides.crypto, &sides.client, "under new keys", 14, sealed);
		assert_false(sides.client.owes_key_update);
		assert_int_equal(sides.client.out.seq, 1);
		assert_int_equal(open_all(&sides, sealed, n, out), 14);
		assert_memory_equal(out, "under new keys", 14);
		assert_int_equal(sides.server.in.seq, 1);
		assert_int_not_equal(
		    memcmp(old_key, sides.server.in.key, sizeof(old_key)), 0);
		/* it did not ask for an answer */
		assert_false(sides.server.owes_key_update);
		free_sides(&sides);
	}
}

static void
test_worn_keys_are_renewed(void **state)
{
	struct sides sides = make_sides(0);
	uint8_t sealed[256];
	uint8_t out[256];
	size_t n;

	(void)state;
	sides.client.out.seq = (uint64_t)1 << 22;
	sides.server.in.seq = (uint64_t)1 << 22;
	n = tls_seal(sides.crypto, &sides.client, "x", 1, sealed);
	assert_int_equal(sides.client.out.seq, 1);
	assert_int_equal(open_all(&sides, sealed, n, out), 1);
	free_sides(&sides);
}

static void
test_a_counter_never_wraps(void **state)
{
	struct sides sides = make_sides(3);
	uint8_t sealed[256];

	(void)state;
	sides.client.out.seq = UINT64_MAX - 1;
	assert_true(tls_seal(sides.crypto, &sides.client, "x", 1, sealed) > 0);
	assert_int_equal(
	    tls_seal(sides.crypto, &sides.client, "x", 1, sealed), 0);
	assert_int_equal(
	    tls_seal(sides.crypto, &sides.client, "x", 1, sealed), 0);
	free_sides(&sides);
}

static void
test_smaller_records_where_asked_for(void **state)
{
	struct sides sides = make_sides(0);
	uint8_t *text = make_text(5000);
	uint8_t *sealed;
	uint8_t *out = xcalloc(1, 8000);
	size_t n;
	size_t at = 0;
	int records = 0;

	(void)state;
	sides.client.plain_max = 512;
	sealed = xcalloc(1, tls_seal_bound(&sides.client, 5000));
	n = tls_seal(sides.crypto, &sides.client, text, 5000, sealed);
	assert_true(n <= tls_seal_bound(&sides.client, 5000));
	while (at < n) {
		size_t body = (size_t)sealed[at + 3] << 8 | sealed[at + 4];

		assert_true(body <= 512 + 1 + 16);
		at += TLS_RECORD_HEAD + body;
		records++;
	}
	assert_int_equal(records, 10);
	assert_int_equal(open_all(&sides, sealed, n, out), 5000);
	assert_memory_equal(out, text, 5000);
	free(out);
	free(sealed);
	free(text);
	free_sides(&sides);
}

/* RFC 8448 3: "derive write traffic keys for application data", server. */
static void
test_keys_of_rfc_8448(void **state)
{
	static const uint8_t secret[32] = {0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31,
	    0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50, 0x32, 0x82,
	    0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f,
	    0xcb, 0x63, 0x16, 0x43};
	static const uint8_t key[16] = {0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c,
	    0x07, 0xef, 0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56};
	static const uint8_t iv[12] = {0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54,
	    0x9a, 0xad, 0xf1, 0xe9, 0x84};
	struct sides sides = make_sides(0);

	(void)state;
	memcpy(sides.server.out.secret, secret, sizeof(secret));
	assert_int_equal(
	    tls_keys_derive(sides.crypto, &sides.server, &sides.server.out), 0);
	assert_memory_equal(sides.server.out.key, key, sizeof(key));
	assert_memory_equal(sides.server.out.iv, iv, sizeof(iv));
	free_sides(&sides);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_is_sealed_can_be_opened),
	    cmocka_unit_test(test_incomplete_is_said_at_every_split),
	    cmocka_unit_test(test_each_changed_bit_is_found),
	    cmocka_unit_test(test_order_counts),
	    cmocka_unit_test(test_lengths_and_types_are_limited),
	    cmocka_unit_test(test_alerts),
	    cmocka_unit_test(test_key_update),
	    cmocka_unit_test(test_worn_keys_are_renewed),
	    cmocka_unit_test(test_a_counter_never_wraps),
	    cmocka_unit_test(test_smaller_records_where_asked_for),
	    cmocka_unit_test(test_keys_of_rfc_8448),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
