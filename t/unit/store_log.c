/*
 * store_log.c - unit test of shm/log.c: messages come back as they were, or
 * not at all.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/log.h"
#include "t/unit/store_box.h"

static void
assert_blob(struct blob blob, const void *data, size_t len)
{
	assert_int_equal(blob.len, len);
	assert_memory_equal(blob.data, data, len);
}

static void
messages_come_back_as_they_were(void **state)
{
	static uint8_t body[128 * 1024];
	static uint8_t attachment[8192];
	static const size_t lens[] = {1, 2, 4096, sizeof(body)};
	struct store_box box;
	struct log_message out;
	struct conv_key conv;

	(void)state;
	box_open(&box);
	box_begin(&box);
	conv_key_make((const uint64_t[]){1, 2}, 2, &conv);
	memset(body, 'b', sizeof(body));
	memset(attachment, 'a', sizeof(attachment));
	for (uint64_t i = 0; i < 4; i++) {
		struct log_message in = {
		    .id = 1000 + i,
		    .conv = conv,
		    .prev = 999,
		    .sender = USER_ID_MAX,
		    .client_time_ms = i == 0 ? INT64_MIN : -5,
		    .reply_to = i,
		    .position = 77,
		    .lower_count = 33,
		    .body = {body, lens[i]},
		    .type = {"text", i == 1 ? 0 : 4},
		    .client_id = {body, 64},
		    .attachment = {attachment, i == 2 ? 8192 : 0},
		};

		assert_int_equal(log_append(&box.txn, &in), 0);
		assert_int_equal(log_get(&box.txn, in.id, &out), 0);
		assert_int_equal(out.id, in.id);
		assert_true(conv_key_equal(&out.conv, &in.conv));
		assert_int_equal(out.prev, 999);
		assert_int_equal(out.sender, USER_ID_MAX);
		assert_true(out.client_time_ms == in.client_time_ms);
		assert_int_equal(out.reply_to, i);
		assert_int_equal(out.position, 77);
		assert_int_equal(out.lower_count, 33);
		assert_blob(out.body, body, in.body.len);
		assert_blob(out.type, "text", in.type.len);
		assert_blob(out.client_id, body, 64);
		assert_blob(out.attachment, attachment, in.attachment.len);
	}
	assert_int_equal(log_get(&box.txn, 999, &out), ERR_NOT_FOUND);
	box_close(&box);
}

static void
put_raw(struct txn *txn, uint64_t id, const void *row, size_t len)
{
	assert_int_equal(txn_put(txn, DBI_log, &id, sizeof(id), row, len), 0);
}

static void
a_damaged_message_is_never_served(void **state)
{
	struct store_box box;
	struct log_message out;
	struct blob value;
	uint8_t row[256];
	uint64_t id;
	size_t len;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (id = 1; id <= 3; id++) {
		struct log_message in = {
		    .id = id,
		    .body = {"some message", 12},
		    .type = {"text", 4},
		};

		assert_int_equal(log_append(&box.txn, &in), 0);
	}
	id = 2;
	assert_int_equal(
	    txn_get(&box.txn, DBI_log, &id, sizeof(id), &value), 0);
	len = value.len;
	assert_true(len > sizeof(struct log_row) && len < sizeof(row));
	memcpy(row, value.data, len);
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			row[i] ^= (uint8_t)(1 << bit);
			put_raw(&box.txn, id, row, len);
			assert_int_equal(
			    log_get(&box.txn, id, &out), ERR_CORRUPT);
			row[i] ^= (uint8_t)(1 << bit);
		}
	}
	for (size_t shorter = 0; shorter < len; shorter++) {
		put_raw(&box.txn, id, row, shorter);
		assert_int_equal(log_get(&box.txn, id, &out), ERR_CORRUPT);
	}
	put_raw(&box.txn, id, row, len + 1);
	assert_int_equal(log_get(&box.txn, id, &out), ERR_CORRUPT);
	/* a whole row under another message's key */
	put_raw(&box.txn, 3, row, len);
	assert_int_equal(log_get(&box.txn, 3, &out), ERR_CORRUPT);
	put_raw(&box.txn, id, row, len);
	assert_int_equal(log_get(&box.txn, id, &out), 0);
	assert_int_equal(box.txn.rc, 0);
	box_close(&box);
}

/* Longer, shorter, and in the middle of others. */
static void
a_message_is_rewritten_in_its_place(void **state)
{
	static const size_t lens[] = {5, 3000, 0};
	static uint8_t body[3000];
	struct log_message in = {.body = {"first", 5}, .type = {"text", 4}};
	struct store_box box;
	struct log_message out;

	(void)state;
	box_open(&box);
	box_begin(&box);
	memset(body, 'b', sizeof(body));
	for (in.id = 1; in.id <= 100; in.id++)
		assert_int_equal(log_append(&box.txn, &in), 0);
	in.id = 50;
	in.flags = LOG_EDITED;
	for (size_t i = 0; i < 3; i++) {
		in.body = (struct blob){body, lens[i]};
		in.changed_ms = INT64_MAX - (int64_t)i;
		assert_int_equal(log_rewrite(&box.txn, &in), 0);
		assert_int_equal(log_get(&box.txn, in.id, &out), 0);
		assert_int_equal(out.flags, LOG_EDITED);
		assert_int_equal(out.kind, LOG_MESSAGE);
		assert_true(out.changed_ms == in.changed_ms);
		assert_blob(out.body, body, lens[i]);
		assert_blob(out.type, "text", 4);
	}
	for (uint64_t id = 1; id <= 100; id++) {
		assert_int_equal(log_get(&box.txn, id, &out), 0);
		assert_int_equal(out.body.len, id == 50 ? 0 : 5);
		assert_int_equal(out.flags, id == 50 ? LOG_EDITED : 0);
	}
	in.id = 101;
	in.flags = 0;
	in.kind = LOG_EVENT;
	assert_int_equal(log_append(&box.txn, &in), 0);
	assert_int_equal(log_get(&box.txn, in.id, &out), 0);
	assert_int_equal(out.kind, LOG_EVENT);
	box_close(&box);
}

static void
the_oldest_message_is_the_first_row(void **state)
{
	struct log_message in = {.body = {"x", 1}};
	struct store_box box;
	uint64_t id = 0;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(log_oldest(&box.txn, &id), ERR_NOT_FOUND);
	for (in.id = 255; in.id < 259; in.id++)
		assert_int_equal(log_append(&box.txn, &in), 0);
	for (uint64_t oldest = 255; oldest < 259; oldest++) {
		assert_int_equal(log_oldest(&box.txn, &id), 0);
		assert_int_equal(id, oldest);
		assert_int_equal(
		    txn_del(&box.txn, DBI_log, &id, sizeof(id)), 0);
	}
	assert_int_equal(log_oldest(&box.txn, &id), ERR_NOT_FOUND);
	box_close(&box);
}

/* Does a copy without free pages hold this text? */
static bool
copy_has(struct store_box *box, const char *text)
{
	FILE *file = tmpfile();
	char *bytes;
	bool has;
	long len;

	assert_non_null(file);
	assert_int_equal(store_copy(box->main, fileno(file), true), 0);
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	len = ftell(file);
	assert_true(len > 0);
	rewind(file);
	bytes = malloc((size_t)len);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, (size_t)len, file), len);
	has = memmem(bytes, (size_t)len, text, strlen(text)) != NULL;
	free(bytes);
	fclose(file);
	return has;
}

/* In the transaction that has put it, and in a later one. */
static void
of_a_rewritten_row_nothing_is_left(void **state)
{
	static const size_t lens[] = {
	    30, 900, 1000, 1800, 1950, 2100, 4000, 4200, 9000, 128 * 1024};
	static char body[128 * 1024];
	struct store_box box;
	struct log_message m;

	(void)state;
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = "confidential-"[i % 13];
	box_open(&box);
	for (size_t i = 0; i < 2 * (sizeof(lens) / sizeof(lens[0])); i++) {
		struct log_message in = {
		    .id = 1000 + i,
		    .position = 7,
		    .prev_sent = 5,
		    .request_hash = 6,
		    .body = {body, lens[i / 2]},
		    .client_id = {"id", 2},
		};

		box_begin(&box);
		assert_int_equal(log_append(&box.txn, &in), 0);
		if (i % 2 == 1) {
			box_commit(&box);
			assert_true(copy_has(&box, "confidential-"));
			box_begin(&box);
		}
		in.flags = LOG_DELETED;
		in.changed_ms = 123;
		in.body.len = 0;
		assert_int_equal(log_rewrite(&box.txn, &in), 0);
		assert_int_equal(log_get(&box.txn, in.id, &m), 0);
		assert_int_equal(m.flags, LOG_DELETED);
		assert_int_equal(m.changed_ms, 123);
		assert_int_equal(m.prev_sent, 5);
		assert_int_equal(m.request_hash, 6);
		assert_int_equal(m.body.len, 0);
		assert_blob(m.client_id, "id", 2);
		box_commit(&box);
		assert_false(copy_has(&box, "confidential-"));
	}
	box_close(&box);
}

static void
rows_grow_and_shrink_in_their_place(void **state)
{
	static char body[20000];
	struct store_box box;
	uint64_t random = 1;
	uint64_t lens[50];
	struct log_message m;

	(void)state;
	memset(body, 'g', sizeof(body));
	box_open(&box);
	box_begin(&box);
	for (uint64_t n = 0; n < 2000; n++) {
		struct log_message in = {
		    .id = 1 + n % 50,
		    .flags = n < 50 ? 0 : LOG_EDITED,
		    .changed_ms = (int64_t)n,
		    .body = {body, 1 + box_random(&random) % 6000},
		};

		assert_int_equal(n < 50 ? log_append(&box.txn, &in)
					: log_rewrite(&box.txn, &in),
		    0);
		lens[n % 50] = in.body.len;
		if (n % 64 == 63) {
			box_commit(&box);
			box_begin(&box);
		}
	}
	assert_int_equal(store_count(&box.txn, DBI_log), 50);
	for (uint64_t id = 1; id <= 50; id++) {
		assert_int_equal(log_get(&box.txn, id, &m), 0);
		assert_int_equal(m.body.len, lens[id - 1]);
		assert_int_equal(m.changed_ms, 1950 + id - 1);
	}
	m = (struct log_message){.id = 51};
	assert_int_equal(log_rewrite(&box.txn, &m), ERR_NOT_FOUND);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(of_a_rewritten_row_nothing_is_left),
	    cmocka_unit_test(rows_grow_and_shrink_in_their_place),
	    cmocka_unit_test(messages_come_back_as_they_were),
	    cmocka_unit_test(a_damaged_message_is_never_served),
	    cmocka_unit_test(a_message_is_rewritten_in_its_place),
	    cmocka_unit_test(the_oldest_message_is_the_first_row),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
