/*
 * store_userhead.c - unit test of shm/userhead.c: devices come and go, the
 * last 128 sends of each device are remembered.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/userhead.h"
#include "t/unit/store_box.h"

#define SENT_MAX (SENT_ROWS * SENT_PER_ROW)
#define BASE     1000
#define DEVICES  5

static void
hash_of(uint64_t number, uint8_t hash[16])
{
	memset(hash, 0xa5, 16);
	memcpy(hash, &number, sizeof(number));
}

static struct sent_entry
entry_of(uint64_t number)
{
	struct sent_entry entry = {
	    .request_hash = number * 7,
	    .message_id = 5000 + number,
	    .seq = number % 3,
	};

	hash_of(number, entry.hash);
	return entry;
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

/* ---- the last sends ---- */

static void
check_sent(struct store_box *box, uint64_t user, uint32_t device,
    uint64_t number, bool is_known)
{
	struct sent_entry expected = entry_of(number);
	struct sent_entry entry;
	struct sent_place place;
	uint8_t hash[16];

	hash_of(number, hash);
	assert_int_equal(
	    sent_find(&box->txn, user, device, hash, &entry, &place),
	    is_known ? 0 : ERR_NOT_FOUND);
	assert_true(place.row < SENT_ROWS && place.index < SENT_PER_ROW);
	if (is_known)
		assert_memory_equal(&entry, &expected, sizeof(entry));
}

static void
send_number(
    struct store_box *box, uint64_t user, uint32_t device, uint64_t number)
{
	struct sent_entry entry = entry_of(number);
	struct sent_entry found;
	struct sent_place place;

	assert_int_equal(
	    sent_find(&box->txn, user, device, entry.hash, &found, &place),
	    ERR_NOT_FOUND);
	assert_int_equal(sent_put(&box->txn, user, device, place, &entry), 0);
}

static void
exactly_the_last_128_are_remembered(void **state)
{
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (uint64_t number = 1; number <= 3 * SENT_MAX + 5; number++) {
		uint64_t first = number > SENT_MAX ? number - SENT_MAX + 1 : 1;

		send_number(&box, 7, 1, number);
		/* every position, after each send */
		for (uint64_t i = first; i <= number; i++)
			check_sent(&box, 7, 1, i, true);
		check_sent(&box, 7, 1, number + 1, false);
		if (first > 1)
			check_sent(&box, 7, 1, first - 1, false);
		assert_int_equal(store_count(&box.txn, DBI_sent),
		    number < SENT_MAX
			? (number + SENT_PER_ROW - 1) / SENT_PER_ROW
			: SENT_ROWS);
	}
	box_close(&box);
}

/* Of several devices of several users that are neighbours in the tree. */
static void
devices_do_not_mix(void **state)
{
	static const struct {
		uint64_t user;
		uint32_t device;
	} who[DEVICES] = {{7, 0}, {7, 1}, {7, UINT32_MAX}, {8, 0}, {8, 1}};
	uint64_t sent[DEVICES] = {0};
	struct store_box box;
	uint64_t random = 99;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (int i = 0; i < 1200; i++) {
		size_t d = box_random(&random) % DEVICES;

		sent[d] += 1;
		/* the same numbers everywhere, but not beyond its own */
		send_number(&box, who[d].user, who[d].device, sent[d]);
		d = box_random(&random) % DEVICES;
		check_sent(
		    &box, who[d].user, who[d].device, sent[d], sent[d] > 0);
		check_sent(
		    &box, who[d].user, who[d].device, sent[d] + 1, false);
		if (sent[d] > SENT_MAX)
			check_sent(&box, who[d].user, who[d].device,
			    sent[d] - SENT_MAX, false);
	}
	assert_int_equal(device_put(&box.txn, 7, 1, "phone", 5, 1), 0);
	assert_int_equal(device_put(&box.txn, 8, 1, "phone", 5, 1), 0);
	assert_int_equal(device_forget(&box.txn, 7, 1), 0);
	assert_int_equal(store_count(&box.txn, DBI_device), 1);
	for (size_t d = 0; d < DEVICES; d++)
		check_sent(&box, who[d].user, who[d].device, sent[d], d != 1);
	assert_int_equal(device_forget(&box.txn, 7, 1), 0);
	assert_int_equal(device_forget(&box.txn, 9, 0), 0);
	/* forgotten means from the beginning */
	send_number(&box, 7, 1, 1);
	check_sent(&box, 7, 1, 1, true);
	box_close(&box);
}

static void
sent_rows_of_wrong_length_are_corrupt(void **state)
{
	uint8_t key[13] = {0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0};
	uint8_t row[SENT_PER_ROW * sizeof(struct sent_entry) + 1] = {0};
	struct sent_entry entry = entry_of(1);
	struct sent_entry found;
	struct sent_place place;
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (size_t len = 0; len <= sizeof(row); len++) {
		bool is_right = len == sizeof(row) - 1;

		assert_int_equal(
		    txn_put(&box.txn, DBI_sent, key, sizeof(key), row, len), 0);
		assert_int_equal(
		    sent_find(&box.txn, 7, 1, entry.hash, &found, &place),
		    is_right ? ERR_NOT_FOUND : ERR_CORRUPT);
		place = (struct sent_place){0, 0};
		if (!is_right)
			assert_int_equal(
			    sent_put(&box.txn, 7, 1, place, &entry),
			    ERR_CORRUPT);
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
	    cmocka_unit_test(exactly_the_last_128_are_remembered),
	    cmocka_unit_test(devices_do_not_mix),
	    cmocka_unit_test(sent_rows_of_wrong_length_are_corrupt),
	    cmocka_unit_test(device_ids_are_kept_whole),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
