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
row_key(const struct sender *sender, uint8_t row, uint8_t key[13])
{
	key_u64(key, sender->user);
	key_u32(key + 8, sender->device.number);
	key[12] = row;
}

static size_t
row_get(struct store_box *box, const struct sender *sender, uint8_t row,
    uint8_t out[512])
{
	struct blob value;
	uint8_t key[13];

	row_key(sender, row, key);
	assert_int_equal(
	    txn_get(&box->txn, DBI_sent, key, sizeof(key), &value), 0);
	memcpy(out, value.data, value.len);
	return value.len;
}

static void
row_set(struct store_box *box, const struct sender *sender, uint8_t row,
    const uint8_t *data, size_t len)
{
	uint8_t key[13];

	row_key(sender, row, key);
	assert_int_equal(
	    txn_put(&box->txn, DBI_sent, key, sizeof(key), data, len), 0);
}

/* All are known, by what the log says. */
static void
check_mended(struct store_box *box, struct sender *sender, uint64_t first)
{
	assert_int_equal(sent_recall_load(&box->txn, secret, sender->user,
			     &sender->device, &sender->recall),
	    0);
	for (uint64_t number = first; number <= sender->sent; number++)
		check_in(box, sender, &sender->recall, number, true);
}

static void
every_byte_of_a_row_is_checked(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	uint8_t mended[512];
	uint8_t good[512];
	uint8_t bad[512];
	struct store_box box;
	size_t len;

	(void)state;
	box_open(&box);
	box_begin(&box);
	while (sender.sent < SENT_MAX + 20)
		send_next(&box, &sender);
	len = row_get(&box, &sender, 4, good);
	assert_int_equal(len, sizeof(struct sent_row));
	for (size_t i = 0; i < len; i++) {
		memcpy(bad, good, len);
		bad[i] ^= 0x08;
		row_set(&box, &sender, 4, bad, len);
		check_mended(&box, &sender, 21);
		assert_int_equal(row_get(&box, &sender, 4, mended), len);
		assert_memory_equal(mended, good, len);
	}
	/* of any length, of another place, under a number that cannot be */
	for (size_t cut = 0; cut < len; cut += 7) {
		row_set(&box, &sender, 4, good, cut);
		check_mended(&box, &sender, 21);
	}
	row_set(&box, &sender, 5, good, len);
	row_set(&box, &sender, SENT_ROWS + 3, good, len);
	check_mended(&box, &sender, 21);
	assert_int_equal(store_count(&box.txn, DBI_sent), SENT_ROWS);
	box_close(&box);
}

/* Found while a copy is at hand: the caller loads it again. */
static void
a_copy_at_hand_does_not_hide_damage(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	struct sent_entry entry;
	struct store_box box;
	uint8_t hash[16];
	uint8_t row[512];
	size_t len;

	(void)state;
	box_open(&box);
	box_begin(&box);
	while (sender.sent < 20)
		send_next(&box, &sender);
	len = row_get(&box, &sender, 0, row);
	row[len / 2]++;
	row_set(&box, &sender, 0, row, len);
	hash_of(3, hash);
	assert_int_equal(
	    sent_recall_find(&box.txn, &sender.recall, 7, 1, hash, &entry),
	    ERR_CORRUPT);
	assert_int_equal(box.txn.rc, 0);
	check_mended(&box, &sender, 1);
	box_close(&box);
}

/* Then it is shorter, and the device goes on. */
static void
without_the_log_a_damaged_row_is_forgotten(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	struct store_box box;
	uint64_t id;

	(void)state;
	box_open(&box);
	box_begin(&box);
	while (sender.sent < 36)
		send_next(&box, &sender);
	id = last_id - 16; /* number 20 */
	assert_int_equal(txn_del(&box.txn, DBI_log, &id, sizeof(id)), 0);
	row_set(&box, &sender, 1, (const uint8_t *)"x", 1);
	row_set(&box, &sender, 2, (const uint8_t *)"x", 1);
	row_set(&box, &sender, 3, (const uint8_t *)"x", 1);
	check_mended(&box, &sender, 21);
	for (uint64_t number = 1; number <= 8; number++)
		check_in(&box, &sender, &sender.recall, number, true);
	for (uint64_t number = 9; number <= 20; number++)
		check_in(&box, &sender, &sender.recall, number, false);
	send_next(&box, &sender);
	check_sent(&box, &sender, 37, true);
	box_close(&box);
}

/* Written by schema 2: without a check, until they are written anew. */
static void
rows_of_an_older_store_are_read(void **state)
{
	struct sender sender = {.user = 7, .device.number = 1};
	struct store_box box;
	uint8_t row[512];
	size_t len;

	(void)state;
	box_open(&box);
	box_begin(&box);
	while (sender.sent < SENT_MAX)
		send_next(&box, &sender);
	for (uint8_t n = 0; n < SENT_ROWS; n++) {
		len = row_get(&box, &sender, n, row);
		row_set(&box, &sender, n, row, len - 8);
	}
	check_mended(&box, &sender, 1);
	assert_int_equal(row_get(&box, &sender, 0, row), len - 8);
	while (sender.sent < SENT_MAX + 8)
		send_next(&box, &sender);
	assert_int_equal(row_get(&box, &sender, 0, row), len);
	check_mended(&box, &sender, 9);
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
	    cmocka_unit_test(every_byte_of_a_row_is_checked),
	    cmocka_unit_test(a_copy_at_hand_does_not_hide_damage),
	    cmocka_unit_test(without_the_log_a_damaged_row_is_forgotten),
	    cmocka_unit_test(rows_of_an_older_store_are_read),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
