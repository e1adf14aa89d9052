/*
 * store_sent.c - unit test of shm/sent.c: the last 128 sends of a device are
 * known again, whether they lie in rows or in the log.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "shm/sent.h"
#include "t/unit/store_box.h"

#define DEVICES 5

static const uint8_t secret[16] = "0123456789abcde";

/* A device as the user's head has it, and what the keeper has at hand. */
struct sender {
	uint64_t user;
	struct userhead_device device;
	struct sent_recall recall;
	uint64_t sent;
};

static uint64_t last_id; /* of the log */

static size_t
client_id_of(uint64_t number, char out[32])
{
	return (size_t)snprintf(
	    out, 32, "client-id-%llu", (unsigned long long)number);
}

static void
hash_of(uint64_t number, uint8_t hash[16])
{
	char id[32];
	size_t len = client_id_of(number, id);

	crypto_siphash128(secret, id, len, hash);
}

/* Its message goes into the log, as the keeper does it. */
static void
send_next(struct store_box *box, struct sender *sender)
{
	uint64_t number = ++sender->sent;
	char id[32];
	struct sent_entry entry = {
	    .request_hash = number * 7,
	    .message_id = ++last_id,
	    .seq = number % 3,
	};
	struct log_message message = {
	    .id = last_id,
	    .sender = sender->user,
	    .prev_sent = sender->device.last_sent,
	    .request_hash = entry.request_hash,
	    .sender_seq = entry.seq,
	    .sender_device = sender->device.number,
	    .body = {"x", 1},
	    .client_id = {id, client_id_of(number, id)},
	};

	hash_of(number, entry.hash);
	assert_int_equal(log_append(&box->txn, &message), 0);
	assert_int_equal(sent_recall_add(&box->txn, &sender->recall,
			     sender->user, &sender->device, &entry),
	    0);
	assert_true(sender->recall.last_sent == last_id);
}

static void
check_in(struct store_box *box, const struct sender *sender,
    const struct sent_recall *recall, uint64_t number, bool is_known)
{
	struct sent_entry entry;
	uint8_t hash[16];

	hash_of(number, hash);
	assert_int_equal(sent_recall_find(&box->txn, recall, sender->user,
			     sender->device.number, hash, &entry),
	    is_known ? 0 : ERR_NOT_FOUND);
	if (!is_known)
		return;
	assert_memory_equal(entry.hash, hash, sizeof(hash));
	assert_int_equal(entry.request_hash, number * 7);
	assert_int_equal(entry.seq, number % 3);
}

/* At hand, and read anew as after a restart of the keeper. */
static void
check_sent(struct store_box *box, const struct sender *sender, uint64_t number,
    bool is_known)
{
	struct sent_recall fresh;

	check_in(box, sender, &sender->recall, number, is_known);
	assert_int_equal(sent_recall_load(&box->txn, secret, sender->user,
			     &sender->device, &fresh),
	    0);
	assert_memory_equal(
	    fresh.marks, sender->recall.marks, sizeof(fresh.marks));
	assert_int_equal(fresh.tail_count, sender->recall.tail_count);
	assert_memory_equal(fresh.tail, sender->recall.tail,
	    fresh.tail_count * sizeof(fresh.tail[0]));
	assert_true(fresh.last_sent == sender->recall.last_sent);
	check_in(box, sender, &fresh, number, is_known);
}

static void
the_last_128_are_remembered(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	check_sent(&box, &sender, 1, false);
	for (uint64_t number = 1; number <= 3 * SENT_MAX + 5; number++) {
		uint64_t tail = number % SENT_PER_ROW;
		uint64_t all = SENT_MAX + tail;
		uint64_t first = number > all ? number - all + 1 : 1;

		send_next(&box, &sender);
		for (uint64_t i = first; i <= number; i++)
			check_in(&box, &sender, &sender.recall, i, true);
		check_sent(&box, &sender, number, true);
		check_sent(&box, &sender, first, true);
		check_sent(&box, &sender, number + 1, false);
		if (first > 1)
			check_sent(&box, &sender, first - 1, false);
		/* only whole rows are written */
		assert_int_equal(store_count(&box.txn, DBI_sent),
		    number < SENT_MAX ? number / SENT_PER_ROW : SENT_ROWS);
	}
	box_close(&box);
}

/* Of several devices of several users that are neighbours in the tree. */
static void
devices_do_not_mix(void **state)
{
	struct sender senders[DEVICES] = {
	    {.user = 7, .device.number = 0},
	    {.user = 7, .device.number = 1},
	    {.user = 7, .device.number = UINT32_MAX},
	    {.user = 8, .device.number = 0},
	    {.user = 8, .device.number = 1},
	};
	struct store_box box;
	uint64_t random = 99;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (int i = 0; i < 1200; i++) {
		struct sender *s = &senders[box_random(&random) % DEVICES];

		/* the same numbers everywhere, but not beyond its own */
		send_next(&box, s);
		s = &senders[box_random(&random) % DEVICES];
		check_sent(&box, s, s->sent, s->sent > 0);
		check_sent(&box, s, s->sent + 1, false);
		if (s->sent > SENT_MAX + SENT_PER_ROW)
			check_sent(
			    &box, s, s->sent - SENT_MAX - SENT_PER_ROW, false);
	}
	assert_int_equal(device_put(&box.txn, 7, 1, "phone", 5, 1), 0);
	assert_int_equal(device_put(&box.txn, 8, 1, "phone", 5, 1), 0);
	assert_int_equal(device_forget(&box.txn, 7, 1), 0);
	assert_int_equal(store_count(&box.txn, DBI_device), 1);
	/* forgotten means from the beginning */
	senders[1] = (struct sender){.user = 7, .device.number = 1};
	for (size_t d = 0; d < DEVICES; d++)
		check_sent(&box, &senders[d], senders[d].sent, d != 1);
	assert_int_equal(device_forget(&box.txn, 7, 1), 0);
	assert_int_equal(device_forget(&box.txn, 9, 0), 0);
	send_next(&box, &senders[1]);
	check_sent(&box, &senders[1], 1, true);
	box_close(&box);
}

/* Marks are 32 bits: two sends with the same are told apart all the same. */
static void
equal_marks_are_told_apart(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	uint8_t twin[16];
	struct sent_entry entry;
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (int i = 0; i < 2 * SENT_PER_ROW; i++)
		send_next(&box, &sender);
	hash_of(3, twin);
	twin[15] ^= 1;
	assert_int_equal(
	    sent_recall_find(&box.txn, &sender.recall, 7, 1, twin, &entry),
	    ERR_NOT_FOUND);
	/* an empty place has the mark 0, a hash may have it, too */
	memset(twin, 0, sizeof(twin));
	assert_int_equal(
	    sent_recall_find(&box.txn, &sender.recall, 7, 1, twin, &entry),
	    ERR_NOT_FOUND);
	box_close(&box);
}

static void
a_trimmed_log_shortens_the_tail(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	struct store_box box;
	uint64_t second;

	(void)state;
	box_open(&box);
	box_begin(&box);
	send_next(&box, &sender);
	send_next(&box, &sender);
	second = last_id;
	send_next(&box, &sender);
	assert_int_equal(
	    txn_del(&box.txn, DBI_log, &second, sizeof(second)), 0);
	assert_int_equal(sent_recall_load(&box.txn, secret, 7, &sender.device,
			     &sender.recall),
	    0);
	check_in(&box, &sender, &sender.recall, 1, false);
	check_in(&box, &sender, &sender.recall, 2, false);
	check_in(&box, &sender, &sender.recall, 3, true);
	/* the row is filled as before */
	while (sender.sent < SENT_PER_ROW)
		send_next(&box, &sender);
	assert_int_equal(sender.recall.tail_count, 0);
	check_sent(&box, &sender, 3, true);
	check_sent(&box, &sender, SENT_PER_ROW, true);
	check_sent(&box, &sender, 1, false);
	box_close(&box);
}

static void
a_chain_to_another_device_ends_there(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	struct sender other = {.user = 7, .device.number = 2};
	struct sender stranger = {.user = 8, .device.number = 1};
	struct sent_recall recall;
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	send_next(&box, &sender);
	send_next(&box, &other);
	sender.device.last_sent = last_id;
	assert_int_equal(
	    sent_recall_load(&box.txn, secret, 7, &sender.device, &recall), 0);
	check_in(&box, &sender, &recall, 1, false);
	send_next(&box, &stranger);
	sender.device.last_sent = last_id;
	assert_int_equal(
	    sent_recall_load(&box.txn, secret, 7, &sender.device, &recall), 0);
	check_in(&box, &sender, &recall, 1, false);
	box_close(&box);
}

static void
rows_of_wrong_shape_are_corrupt(void **state)
{
	uint8_t key[13] = {0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0};
	uint8_t row[SENT_PER_ROW * sizeof(struct sent_entry) + 1] = {0};
	struct userhead_device device = {.number = 1};
	struct sent_recall recall;
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (size_t len = 0; len <= sizeof(row); len++) {
		bool is_right = len == sizeof(row) - 1;

		assert_int_equal(
		    txn_put(&box.txn, DBI_sent, key, sizeof(key), row, len), 0);
		assert_int_equal(
		    sent_recall_load(&box.txn, secret, 7, &device, &recall),
		    is_right ? 0 : ERR_CORRUPT);
	}
	key[12] = SENT_ROWS;
	assert_int_equal(
	    txn_put(&box.txn, DBI_sent, key, sizeof(key), row, sizeof(row) - 1),
	    0);
	assert_int_equal(
	    sent_recall_load(&box.txn, secret, 7, &device, &recall),
	    ERR_CORRUPT);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_last_128_are_remembered),
	    cmocka_unit_test(devices_do_not_mix),
	    cmocka_unit_test(equal_marks_are_told_apart),
	    cmocka_unit_test(a_trimmed_log_shortens_the_tail),
	    cmocka_unit_test(a_chain_to_another_device_ends_there),
	    cmocka_unit_test(rows_of_wrong_shape_are_corrupt),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
