/*
 * ids.c - unit test of shm/ids.c: message ids only grow, whatever the clock
 * does; conversation keys go to text and back.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shm/ids.h"

#define EPOCH_MS 1577836800000LL /* 2020-01-01 UTC */
#define NOW_MS   1795450000000LL

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Greater than last, not before now, and none smaller would do. */
static void
check_next(uint64_t last, int64_t now_ms, unsigned node, uint64_t id)
{
	assert_true(id > last);
	assert_true(id <= MESSAGE_ID_MAX);
	assert_int_equal(id & 0xff, node);
	assert_true(message_id_time_ms(id) >= now_ms || now_ms < EPOCH_MS);
	if (id < 256 + node)
		return;
	/* the counter before is taken (by whatever node) or too early */
	assert_true(
	    id - 256 <= (last | 0xff) || message_id_time_ms(id - 256) < now_ms);
}

static void
ids_grow_whatever_the_clock_does(void **state)
{
	uint64_t random = 0x5eed;
	uint64_t last = 0;
	int64_t now_ms = NOW_MS;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		unsigned node = next_random(&random) % 256;
		uint64_t id;

		switch (next_random(&random) % 50) {
		case 0: /* an hour back */
			now_ms -= 3600000;
			break;
		case 1:
			now_ms += (int64_t)(next_random(&random) % 10000);
			break;
		case 2: /* a clock without a battery */
			now_ms = (int64_t)(next_random(&random) % 1000);
			break;
		case 3:
			now_ms = NOW_MS + i;
			break;
		default:
			break;
		}
		id = message_id_next(last, now_ms, node);
		check_next(last, now_ms, node, id);
		last = id;
	}
}

static void
a_full_millisecond_runs_over_into_the_next(void **state)
{
	uint64_t last = message_id_next(0, NOW_MS, 7);

	(void)state;
	assert_int_equal(message_id_time_ms(last), NOW_MS);
	for (int i = 1; i < 1 << 14; i++) {
		last = message_id_next(last, NOW_MS, 7);
		assert_int_equal(message_id_time_ms(last), NOW_MS);
	}
	last = message_id_next(last, NOW_MS, 7);
	assert_int_equal(message_id_time_ms(last), NOW_MS + 1);
	/* the borrowed millisecond does not come again */
	assert_true(message_id_next(last, NOW_MS + 1, 7) > last);
	assert_int_equal(
	    message_id_time_ms(message_id_next(last, NOW_MS + 2, 7)),
	    NOW_MS + 2);
}

static void
ids_of_several_nodes_differ(void **state)
{
	(void)state;
	for (unsigned node = 1; node < 256; node++)
		assert_int_not_equal(message_id_next(0, NOW_MS, node - 1),
		    message_id_next(0, NOW_MS, node));
	assert_true(message_id_next(0, 0, 0) > 0);
	assert_true(message_id_next(0, INT64_MIN, 3) > 0);
	/* the last second that fits */
	assert_true(message_id_next(0, EPOCH_MS + (1LL << 41) - 1, 255) <=
		    MESSAGE_ID_MAX);
}

static void
check_round_trip(const struct conv_key *key, const char *expected)
{
	char text[CONV_TEXT_MAX];
	struct conv_key back;

	assert_ptr_equal(conv_key_format(key, text), text);
	assert_true(strlen(text) < CONV_TEXT_MAX);
	if (expected != NULL)
		assert_string_equal(text, expected);
	assert_int_equal(conv_key_parse(text, strlen(text), &back), 0);
	assert_true(conv_key_equal(key, &back));
	/* each shorter beginning is another key or none */
	for (size_t len = 0; len < strlen(text); len++) {
		if (conv_key_parse(text, len, &back) == 0)
			assert_false(conv_key_equal(key, &back));
	}
}

static void
keys_of_groups_and_calls_are_of_no_users(void **state)
{
	static const uint64_t ids[] = {1, 1ULL << 40, MESSAGE_ID_MAX};
	struct conv_key group;
	struct conv_key call;
	char text[CONV_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		conv_key_of(CONV_GROUP, ids[i], &group);
		conv_key_of(CONV_COLLABORATION, ids[i], &call);
		assert_false(conv_key_equal(&group, &call));
		assert_int_equal(conv_key_kind(&group), CONV_GROUP);
		assert_int_equal(conv_key_kind(&call), CONV_COLLABORATION);
		assert_false(conv_key_is_direct(&group));
		assert_false(conv_key_is_direct(&call));
		assert_true(conv_key_id(&group) == ids[i]);
		assert_true(conv_key_id(&call) == ids[i]);
		snprintf(
		    text, sizeof(text), "g%llu", (unsigned long long)ids[i]);
		check_round_trip(&group, text);
		text[0] = 'c';
		check_round_trip(&call, text);
	}
}

static void
keys_of_two_name_both(void **state)
{
	static const uint64_t ids[] = {
	    1, 2, 17, 255, 256, 1ULL << 32, USER_ID_MAX - 1, USER_ID_MAX};
	uint64_t lower;
	uint64_t higher;
	struct conv_key key;
	char expected[64];

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		for (size_t j = i; j < sizeof(ids) / sizeof(ids[0]); j++) {
			uint64_t pair[] = {ids[i], ids[j]};

			conv_key_make(pair, i == j ? 1 : 2, &key);
			assert_true(conv_key_is_direct(&key));
			conv_key_members(&key, &lower, &higher);
			assert_int_equal(lower, ids[i]);
			assert_int_equal(higher, ids[j]);
			snprintf(expected, sizeof(expected), "%llu-%llu",
			    (unsigned long long)lower,
			    (unsigned long long)higher);
			check_round_trip(&key, expected);
		}
	}
}

static void
keys_of_many_are_hashes_of_the_members(void **state)
{
	uint64_t members[257];
	struct conv_key before = {{0}};
	struct conv_key key;

	(void)state;
	for (size_t i = 0; i < 257; i++)
		members[i] = i + 1;
	conv_key_make(members, 3, &key);
	/* sha256 of 1, 2, 3 as 64-bit little-endian numbers */
	check_round_trip(&key, "me2e2033ae7e19d680599d4eb0a1359a2");
	for (size_t count = 3; count <= 257; count++) {
		conv_key_make(members, count, &key);
		assert_false(conv_key_is_direct(&key));
		assert_false(conv_key_equal(&key, &before));
		check_round_trip(&key, NULL);
		before = key;
	}
	members[256]++;
	conv_key_make(members, 257, &key);
	assert_false(conv_key_equal(&key, &before));
}

static void
malformed_keys_are_refused(void **state)
{
	static const char *const bad[] = {
	    "",
	    "-",
	    "1",
	    "1-",
	    "-1",
	    "g",
	    "g0",
	    "g1x",
	    "c",
	    "c-1",
	    "c9223372036854775808",
	    "0-1",
	    "0-0",
	    "2-1",
	    "1-2-3",
	    "1--2",
	    " 1-2",
	    "1-2 ",
	    "+1-2",
	    "1-0x2",
	    "1-9007199254740992",
	    "9007199254740992-9007199254740993",
	    "1-18446744073709551617",
	    "m",
	    "m0",
	    "M80000000000000000000000000000001",
	    "m80000000000000000000000000000g01",
	    "m8000000000000000000000000000000",
	    "m800000000000000000000000000000011",
	    "m8000000000000000000000000000000A",
	    "m00000000000000010000000000000002", /* two people in hex */
	    "m7fffffffffffffffffffffffffffffff",
	};
	struct conv_key key;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(conv_key_parse(bad[i], strlen(bad[i]), &key),
		    ERR_BAD_REQUEST);
	assert_int_equal(conv_key_parse("1-2\0", 4, &key), ERR_BAD_REQUEST);
	assert_int_equal(conv_key_parse("1-2junk", 3, &key), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keys_of_groups_and_calls_are_of_no_users),
	    cmocka_unit_test(ids_grow_whatever_the_clock_does),
	    cmocka_unit_test(a_full_millisecond_runs_over_into_the_next),
	    cmocka_unit_test(ids_of_several_nodes_differ),
	    cmocka_unit_test(keys_of_two_name_both),
	    cmocka_unit_test(keys_of_many_are_hashes_of_the_members),
	    cmocka_unit_test(malformed_keys_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
