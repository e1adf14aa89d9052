/*
 * store_userhead.c - unit test of shm/userhead.c: devices come and go.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/userhead.h"
#include "t/unit/store_box.h"

#define BASE 1000

static void
hash_of(uint64_t number, uint8_t hash[16])
{
	memset(hash, 0xa5, 16);
	memcpy(hash, &number, sizeof(number));
}

/* ---- the row ---- */

static void
a_new_user_begins_at_the_base(void **state)
{
	struct store_box box;
	struct userhead head;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(userhead_get(&box.txn, 7, &head), ERR_NOT_FOUND);
	assert_int_equal(userhead_get_or_new(&box.txn, 7, BASE, &head), 0);
	assert_int_equal(head.user, 7);
	assert_int_equal(head.row.head, BASE);
	assert_int_equal(head.row.floor, BASE);
	assert_int_equal(head.row.delivered, BASE);
	assert_int_equal(head.row.device_count, 0);
	head.row.head++;
	assert_int_equal(userhead_put(&box.txn, &head), 0);
	assert_int_equal(userhead_get_or_new(&box.txn, 7, 1, &head), 0);
	assert_int_equal(head.row.head, BASE + 1);
	box_close(&box);
}

static struct userhead_device
device_of(uint64_t number)
{
	struct userhead_device device = {
	    .cursor = BASE + number,
	    .session = number % 2 == 0 ? 0 : 100 + number,
	    .last_used_ms = (int64_t)number,
	    .number = (uint32_t)number,
	};

	hash_of(number, device.hash);
	return device;
}

static void
check_devices(struct store_box *box, const bool *has)
{
	struct userhead_device *device;
	struct userhead_device expected;
	struct userhead head;
	uint8_t hash[16];
	int count = 0;

	assert_int_equal(userhead_get(&box->txn, 7, &head), 0);
	for (uint64_t i = 0; i < 64; i++) {
		hash_of(i, hash);
		expected = device_of(i);
		device = userhead_find_device(&head, hash);
		assert_int_equal(device != NULL, has[i]);
		count += has[i];
		if (device != NULL)
			assert_memory_equal(
			    device, &expected, sizeof(expected));
		if (expected.session != 0)
			assert_ptr_equal(
			    userhead_find_session(&head, expected.session),
			    device);
	}
	assert_int_equal(head.row.device_count, count);
	assert_null(userhead_find_session(&head, 0));
}

static void
devices_come_and_go(void **state)
{
	uint64_t random = 3;
	bool has[64] = {false};
	struct store_box box;
	struct userhead head;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(userhead_get_or_new(&box.txn, 7, BASE, &head), 0);
	for (int i = 0; i < 3000; i++) {
		uint64_t number = box_random(&random) % 64;
		uint8_t hash[16];
		struct userhead_device *device;

		hash_of(number, hash);
		device = userhead_find_device(&head, hash);
		if (device != NULL) {
			userhead_remove_device(&head, device);
			has[number] = false;
		} else if (head.row.device_count < DEVICES_MAX) {
			head.devices[head.row.device_count++] =
			    device_of(number);
			has[number] = true;
		}
		assert_int_equal(userhead_put(&box.txn, &head), 0);
		check_devices(&box, has);
	}
	box_close(&box);
}

static void
a_row_of_wrong_length_is_corrupt(void **state)
{
	uint8_t row[sizeof(struct userhead_row) +
		    17 * sizeof(struct userhead_device)] = {0};
	struct store_box box;
	struct userhead head;
	uint64_t user = 7;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (size_t len = 0; len <= sizeof(row); len++) {
		for (unsigned count = 0; count < 256; count++) {
			size_t right = sizeof(struct userhead_row) +
				       count * sizeof(struct userhead_device);
			bool is_right = count <= DEVICES_MAX && len == right;

			if (len % 64 > 1 && !is_right)
				continue;
			row[offsetof(struct userhead_row, device_count)] =
			    (uint8_t)count;
			assert_int_equal(txn_put(&box.txn, DBI_userhead, &user,
					     sizeof(user), row, len),
			    0);
			assert_int_equal(userhead_get(&box.txn, 7, &head),
			    is_right ? 0 : ERR_CORRUPT);
		}
	}
	box_close(&box);
}

static void
device_ids_are_kept_whole(void **state)
{
	struct device_row row;
	uint8_t key[12] = {0};
	struct store_box box;
	struct blob value;
	char id[64];

	(void)state;
	memset(id, 'd', sizeof(id));
	box_open(&box);
	box_begin(&box);
	assert_int_equal(device_put(&box.txn, 7, 3, id, sizeof(id), 42), 0);
	key[7] = 7;
	key[11] = 3;
	assert_int_equal(
	    txn_get(&box.txn, DBI_device, key, sizeof(key), &value), 0);
	assert_int_equal(value.len, sizeof(row) + sizeof(id));
	memcpy(&row, value.data, sizeof(row));
	assert_int_equal(row.created_ms, 42);
	assert_int_equal(row.id_len, sizeof(id));
	assert_memory_equal(
	    (const uint8_t *)value.data + sizeof(row), id, sizeof(id));
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_new_user_begins_at_the_base),
	    cmocka_unit_test(devices_come_and_go),
	    cmocka_unit_test(a_row_of_wrong_length_is_corrupt),
	    cmocka_unit_test(device_ids_are_kept_whole),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
