/*
 * crypto.c - unit tests of base/crypto: published vectors, every tail length
 * of base64, every character the decoder must refuse.
 */
#include "base/crypto.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* The SipHash reference's vectors_sip128: inputs 00 01 02 ..., key 00..0f. */
static const struct {
	size_t len;
	uint8_t out[16];
} sip_vectors[] = {
    {0, {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14,
	    0xc7, 0x55, 0x02, 0x93}},
    {1, {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11,
	    0x9b, 0x22, 0xfc, 0x45}},
    {2, {0x81, 0x77, 0x22, 0x8d, 0xa4, 0xa4, 0x5d, 0xc7, 0xfc, 0xa3, 0x8b, 0xde,
	    0xf6, 0x0a, 0xff, 0xe4}},
    {3, {0x9c, 0x70, 0xb6, 0x0c, 0x52, 0x67, 0xa9, 0x4e, 0x5f, 0x33, 0xb6, 0xb0,
	    0x29, 0x85, 0xed, 0x51}},
    {7, {0xa1, 0xf1, 0xeb, 0xbe, 0xd8, 0xdb, 0xc1, 0x53, 0xc0, 0xb8, 0x4a, 0xa6,
	    0x1f, 0xf0, 0x82, 0x39}},
    {8, {0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64,
	    0xf3, 0x14, 0x97, 0xb4}},
    {15, {0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11, 0x7e, 0x08, 0xec,
	     0x0f, 0x97, 0xcf, 0xc3, 0xd9}},
};

static void
bytes_count_up(uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)i;
}

static void
test_siphash_vectors(void **state)
{
	uint8_t key[16];
	uint8_t input[16];
	uint8_t out[16];

	(void)state;
	bytes_count_up(key, sizeof(key));
	bytes_count_up(input, sizeof(input));
	for (size_t i = 0; i < sizeof(sip_vectors) / sizeof(sip_vectors[0]);
	     i++) {
		crypto_siphash128(key, input, sip_vectors[i].len, out);
		assert_memory_equal(out, sip_vectors[i].out, sizeof(out));
	}
}

static void
test_siphash_keys_do_not_mix(void **state)
{
	uint8_t keys[2][16] = {{1}, {2}};
	uint8_t first[2][16];
	uint8_t again[16];

	(void)state;
	crypto_siphash128(keys[0], "device", 6, first[0]);
	crypto_siphash128(keys[1], "device", 6, first[1]);
	assert_memory_not_equal(first[0], first[1], 16);
	for (int i = 0; i < 4; i++) {
		crypto_siphash128(keys[i % 2], "device", 6, again);
		assert_memory_equal(again, first[i % 2], 16);
	}
}

static void *
hash_in_thread(void *arg)
{
	uint8_t key[16];
	uint8_t sum[20];

	bytes_count_up(key, sizeof(key));
	for (int i = 0; i < 1000; i++) {
		crypto_siphash128(key, key, 15, arg);
		crypto_sha1("abc", 3, sum);
	}
	return NULL;
}

static void
test_threads_hash_alike(void **state)
{
	pthread_t threads[4];
	uint8_t out[4][16];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, hash_in_thread, out[i]),
		    0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_memory_equal(out[i], sip_vectors[6].out, 16);
	}
}

static void
test_sha256_vectors(void **state)
{
	/* FIPS 180-4 examples, first half. */
	static const uint8_t empty[16] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc,
	    0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24};
	static const uint8_t abc[16] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01,
	    0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23};
	uint8_t out[16];

	(void)state;
	crypto_sha256_128("", 0, out);
	assert_memory_equal(out, empty, 16);
	crypto_sha256_128("abc", 3, out);
	assert_memory_equal(out, abc, 16);
}

static void
test_hmac_sha1_vectors(void **state)
{
	/* RFC 2202 3: cases 2, 6 (a key longer than a block); no key at all */
	static const uint8_t jefe[20] = {0xef, 0xfc, 0xdf, 0x6a, 0xe5, 0xeb,
	    0x2f, 0xa2, 0xd2, 0x74, 0x16, 0xd5, 0xf1, 0x84, 0xdf, 0x9c, 0x25,
	    0x9a, 0x7c, 0x79};
	static const uint8_t longer[20] = {0xaa, 0x4a, 0xe5, 0xe1, 0x52, 0x72,
	    0xd0, 0x0e, 0x95, 0x70, 0x56, 0x37, 0xce, 0x8a, 0x3b, 0x55, 0xed,
	    0x40, 0x21, 0x12};
	static const uint8_t empty[20] = {0xfb, 0xdb, 0x1d, 0x1b, 0x18, 0xaa,
	    0x6c, 0x08, 0x32, 0x4b, 0x7d, 0x64, 0xb7, 0x1f, 0xb7, 0x63, 0x70,
	    0x69, 0x0e, 0x1d};
	static const char question[] = "what do ya want for nothing?";
	static const char large[] =
	    "Test Using Larger Than Block-Size Key - Hash Key First";
	uint8_t key[80];
	uint8_t out[20];

	(void)state;
	crypto_hmac_sha1("Jefe", 4, question, strlen(question), out);
	assert_memory_equal(out, jefe, sizeof(out));
	memset(key, 0xaa, sizeof(key));
	crypto_hmac_sha1(key, sizeof(key), large, strlen(large), out);
	assert_memory_equal(out, longer, sizeof(out));
	crypto_hmac_sha1("", 0, "", 0, out);
	assert_memory_equal(out, empty, sizeof(out));
}

static void
test_websocket_accept(void **state)
{
	/* RFC 6455 1.3 */
	static const char input[] = "dGhlIHNhbXBsZSBub25jZQ=="
				    "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t sum[20];
	char text[29];

	(void)state;
	crypto_sha1(input, strlen(input), sum);
	crypto_base64(sum, sizeof(sum), text);
	assert_string_equal(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void
test_base64_vectors(void **state)
{
	/* RFC 4648 10 */
	static const char *const vectors[][3] = {
	    {"", "", ""},
	    {"f", "Zg==", "Zg"},
	    {"fo", "Zm8=", "Zm8"},
	    {"foo", "Zm9v", "Zm9v"},
	    {"foob", "Zm9vYg==", "Zm9vYg"},
	    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
	    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
	    {"\xfb\xff\xbf", "+/+/", "-_-_"},
	};
	char out[16];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		crypto_base64(vectors[i][0], strlen(vectors[i][0]), out);
		assert_string_equal(out, vectors[i][1]);
		assert_int_equal(
		    crypto_base64url(vectors[i][0], strlen(vectors[i][0]), out),
		    strlen(vectors[i][2]));
		assert_string_equal(out, vectors[i][2]);
	}
}

static void
test_base64url_round_trip(void **state)
{
	uint8_t data[256];
	uint8_t back[3 * 344 / 4 + 3];
	char text[345];
	size_t text_len;
	size_t len;

	(void)state;
	crypto_random(data, sizeof(data));
	for (size_t i = 0; i <= sizeof(data); i++) {
		text_len = crypto_base64url(data, i, text);
		assert_int_equal(
		    crypto_base64url_decode(text, text_len, back, &len), 0);
		assert_int_equal(len, i);
		assert_memory_equal(back, data, i);
	}
}

/* Of all texts of two characters exactly 256 are right: one for each byte. */
static void
test_base64url_is_canonical(void **state)
{
	uint8_t out[8];
	char text[2];
	size_t len;
	int accepted = 0;

	(void)state;
	for (int i = 0; i < 65536; i++) {
		text[0] = (char)(i & 0xff);
		text[1] = (char)(i >> 8);
		if (crypto_base64url_decode(text, 2, out, &len) == 0) {
			assert_int_equal(len, 1);
			accepted++;
		}
	}
	assert_int_equal(accepted, 256);
}

static void
test_base64url_refuses(void **state)
{
	static const char *const bad[] = {"A", "AAAAA",
	    "Zg==", "Zg=", "Zm8=", "Zm9v\n", "Zm 9v", " Zm9", "Zm+v", "Zm/v",
	    "Zh", "Zm9", "Zm9vYh"};
	uint8_t out[16];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (crypto_base64url_decode(
			bad[i], strlen(bad[i]), out, &len) != ERR_BAD_REQUEST)
			fail_msg("accepted: %s", bad[i]);
	}
	/* A NUL inside is a character like any other wrong one. */
	assert_int_equal(
	    crypto_base64url_decode("AA\0A", 4, out, &len), ERR_BAD_REQUEST);
}

static void
test_equal(void **state)
{
	char other[] = "secret";

	(void)state;
	assert_int_equal(crypto_equal("secret", other, 6), 1);
	for (size_t i = 0; i < 6; i++) {
		other[i] ^= 1;
		assert_int_equal(crypto_equal("secret", other, 6), 0);
		other[i] ^= 1;
	}
	assert_int_equal(crypto_equal("a", "b", 0), 1);
}

static void
test_random(void **state)
{
	uint8_t data[1024] = {0};
	int zeros = 0;

	(void)state;
	assert_true(crypto_random_u64() != crypto_random_u64());
	crypto_random(data, sizeof(data));
	for (size_t i = 0; i < sizeof(data); i++)
		zeros += data[i] == 0;
	/* Four are expected; 64 would be a part left unfilled. */
	assert_in_range(zeros, 0, 63);
	crypto_random(data, 0);
}

static void
test_speed_is_told(void **state)
{
	enum { ROUNDS = 20000 };
	uint8_t key[16] = {0};
	uint8_t data[40] = {0};
	struct timespec start;
	struct timespec end;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < ROUNDS; i++)
		crypto_siphash128(key, data, sizeof(data), data);
	clock_gettime(CLOCK_MONOTONIC, &end);
	/* For people: no bound, a busy machine would fail it. */
	print_message("# siphash128 of 40 bytes: %.0f ns\n",
	    ((double)(end.tv_sec - start.tv_sec) * 1e9 +
		(double)(end.tv_nsec - start.tv_nsec)) /
		ROUNDS);
	assert_memory_not_equal(data, key, 16);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_siphash_vectors),
	    cmocka_unit_test(test_siphash_keys_do_not_mix),
	    cmocka_unit_test(test_threads_hash_alike),
	    cmocka_unit_test(test_sha256_vectors),
	    cmocka_unit_test(test_hmac_sha1_vectors),
	    cmocka_unit_test(test_websocket_accept),
	    cmocka_unit_test(test_base64_vectors),
	    cmocka_unit_test(test_base64url_round_trip),
	    cmocka_unit_test(test_base64url_is_canonical),
	    cmocka_unit_test(test_base64url_refuses),
	    cmocka_unit_test(test_equal),
	    cmocka_unit_test(test_random),
	    cmocka_unit_test(test_speed_is_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
