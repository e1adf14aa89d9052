/*
 * store.c - unit test of shm/store.c: transactions and their sticky error,
 * walks, a full map.
 */
#include "config.h"

#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t/unit/store_box.h"

#define SMALL_MAP ((size_t)1 << 20)

static void
what_is_committed_stays_and_the_rest_does_not(void **state)
{
	struct store_box box;
	uint64_t n = 0;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(box_put_number(&box.txn, 1, 11), 0);
	assert_int_equal(box_get_number(&box.txn, 1, &n), 0);
	assert_int_equal(n, 11);
	box_commit(&box);
	box_begin(&box);
	assert_int_equal(box_put_number(&box.txn, 1, 12), 0);
	assert_int_equal(box_put_number(&box.txn, 2, 22), 0);
	txn_end(&box.txn);
	txn_end(&box.txn); /* in any state */
	store_close(&box.main);
	store_close(&box.presence);
	box_open_stores(&box, STORE_BOX_MAP);
	assert_int_equal(store_begin_read(box.main, &box.txn), 0);
	assert_int_equal(box_get_number(&box.txn, 1, &n), 0);
	assert_int_equal(n, 11);
	assert_int_equal(box_get_number(&box.txn, 2, &n), ERR_NOT_FOUND);
	assert_int_equal(store_count(&box.txn, DBI_contact), 1);
	assert_true(store_used_bytes(box.main) > 0);
	box_close(&box);
}

static void
not_found_does_not_stick(void **state)
{
	struct store_box box;
	struct walk walk;
	uint64_t n;
	uint8_t k[8] = {0};

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(box_get_number(&box.txn, 1, &n), ERR_NOT_FOUND);
	assert_int_equal(
	    txn_del(&box.txn, DBI_contact, k, sizeof(k)), ERR_NOT_FOUND);
	assert_int_equal(walk_begin(&walk, &box.txn, DBI_contact, k, sizeof(k)),
	    ERR_NOT_FOUND);
	walk_end(&walk);
	walk_end(&walk);
	assert_int_equal(box_put_number(&box.txn, 1, 1), 0);
	box_commit(&box);
	box_close(&box);
}

static void
an_error_sticks_to_its_transaction(void **state)
{
	struct store_box box;
	struct walk walk;
	struct blob value;
	uint8_t k[8] = {0};
	void *room;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(txn_append(&box.txn, DBI_log, 10, "x", 1), 0);
	/* not above all others */
	assert_int_equal(
	    txn_append(&box.txn, DBI_log, 9, "x", 1), ERR_CONFLICT);
	assert_int_equal(box.txn.rc, ERR_CONFLICT);
	assert_int_equal(box_put_number(&box.txn, 1, 1), ERR_CONFLICT);
	assert_int_equal(
	    txn_get(&box.txn, DBI_contact, k, sizeof(k), &value), ERR_CONFLICT);
	assert_int_equal(
	    txn_del(&box.txn, DBI_contact, k, sizeof(k)), ERR_CONFLICT);
	assert_int_equal(
	    txn_append(&box.txn, DBI_log, 11, "x", 1), ERR_CONFLICT);
	assert_int_equal(
	    txn_reserve(&box.txn, DBI_contact, k, sizeof(k), 8, &room),
	    ERR_CONFLICT);
	assert_int_equal(walk_begin(&walk, &box.txn, DBI_contact, k, sizeof(k)),
	    ERR_CONFLICT);
	walk_end(&walk);
	assert_int_equal(store_count(&box.txn, DBI_log), 0);
	assert_int_equal(txn_commit(&box.txn), ERR_CONFLICT);
	assert_null(box.txn.mdb);
	box_begin(&box);
	assert_int_equal(store_count(&box.txn, DBI_log), 0);
	assert_int_equal(txn_append(&box.txn, DBI_log, 9, "x", 1), 0);
	box_commit(&box);
	box_close(&box);
}

static void
a_read_transaction_writes_nothing(void **state)
{
	struct store_box box;

	(void)state;
	box_open(&box);
	assert_int_equal(store_begin_read(box.main, &box.txn), 0);
	assert_true(box_put_number(&box.txn, 1, 1) != 0);
	assert_true(box.txn.rc != 0);
	txn_end(&box.txn);
	box_close(&box);
}

static void
walks_see_keys_in_order_and_delete_under_way(void **state)
{
	uint64_t random = 5;
	bool has[500] = {false};
	struct store_box box;
	uint8_t start[8];

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (int round = 0; round < 300; round++) {
		uint64_t from = box_random(&random) % 500;
		uint64_t next = from;
		struct walk walk;
		int rc;

		for (int i = 0; i < 100; i++) {
			uint64_t n = box_random(&random) % 500;

			has[n] = true;
			assert_int_equal(box_put_number(&box.txn, n, n * 3), 0);
		}
		key_u64(start, from);
		rc = walk_begin(
		    &walk, &box.txn, DBI_contact, start, sizeof(start));
		for (; rc == 0; rc = walk_next(&walk)) {
			uint64_t n = key_get_u64(walk.key.data);
			uint64_t value;

			for (; next < n; next++)
				assert_false(has[next]);
			next = n + 1;
			assert_true(has[n]);
			memcpy(&value, walk.value.data, sizeof(value));
			assert_int_equal(value, n * 3);
			if (box_random(&random) % 3 != 0)
				continue;
			assert_int_equal(walk_delete(&walk), 0);
			has[n] = false;
		}
		assert_int_equal(rc, ERR_NOT_FOUND);
		for (; next < 500; next++)
			assert_false(has[next]);
		walk_end(&walk);
	}
	box_close(&box);
}

/* Until it is full: as many rows as went in, each in its own commit. */
static uint64_t
fill_up(struct store_box *box)
{
	char row[900];
	uint64_t count = 0;

	memset(row, 'f', sizeof(row));
	for (;;) {
		int rc;

		box_begin(box);
		rc =
		    txn_append(&box->txn, DBI_log, count + 1, row, sizeof(row));
		if (rc == 0)
			rc = txn_commit(&box->txn);
		if (rc == 0) {
			count++;
			continue;
		}
		assert_int_equal(rc, ERR_STORAGE_FULL);
		return count;
	}
}

static void
a_full_map_refuses_and_recovers(void **state)
{
	struct store_box box;
	uint64_t count;
	uint64_t n;

	(void)state;
	box_folder(&box);
	box_open_stores(&box, SMALL_MAP);
	for (int round = 0; round < 3; round++) {
		count = fill_up(&box);
		assert_true(count > 500);
		/* it sticks */
		assert_int_equal(box.txn.rc, ERR_STORAGE_FULL);
		assert_int_equal(
		    box_get_number(&box.txn, 1, &n), ERR_STORAGE_FULL);
		assert_int_equal(txn_commit(&box.txn), ERR_STORAGE_FULL);
		txn_end(&box.txn);
		/* what is there can be read */
		assert_int_equal(store_begin_read(box.main, &box.txn), 0);
		assert_int_equal(store_count(&box.txn, DBI_log), count);
		txn_end(&box.txn);
		/* and deleted, which makes room */
		for (n = 1; n <= count; n++) {
			box_begin(&box);
			assert_int_equal(
			    txn_del(&box.txn, DBI_log, &n, sizeof(n)), 0);
			box_commit(&box);
		}
	}
	box_close(&box);
}

/* A batch that does not fit leaves nothing behind. */
static void
a_batch_too_large_for_the_map_is_undone_whole(void **state)
{
	struct store_box box;
	char row[900] = {0};
	uint64_t n = 0;
	int rc;

	(void)state;
	box_folder(&box);
	box_open_stores(&box, SMALL_MAP);
	box_begin(&box);
	assert_int_equal(box_put_number(&box.txn, 1, 1), 0);
	box_commit(&box);
	box_begin(&box);
	assert_int_equal(box_put_number(&box.txn, 1, 2), 0);
	do { /* through the reserve, too */
		rc = txn_append(&box.txn, DBI_log, ++n, row, sizeof(row));
	} while (rc == 0);
	assert_int_equal(rc, ERR_STORAGE_FULL);
	assert_int_equal(txn_commit(&box.txn), ERR_STORAGE_FULL);
	box_begin(&box);
	assert_int_equal(box_get_number(&box.txn, 1, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(store_count(&box.txn, DBI_log), 0);
	assert_int_equal(box_put_number(&box.txn, 1, 3), 0);
	box_commit(&box);
	box_close(&box);
}

static void
a_reader_keeps_its_view(void **state)
{
	struct store_box box;
	struct txn before;
	struct txn after;
	uint64_t n;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(box_put_number(&box.txn, 1, 1), 0);
	assert_int_equal(store_begin_read(box.main, &before), 0);
	assert_int_equal(box_get_number(&before, 1, &n), ERR_NOT_FOUND);
	assert_int_equal(box_put_number(&box.txn, 2, 2), 0);
	box_commit(&box);
	assert_int_equal(store_begin_read(box.main, &after), 0);
	assert_int_equal(box_get_number(&before, 1, &n), ERR_NOT_FOUND);
	assert_int_equal(box_get_number(&after, 1, &n), 0);
	assert_int_equal(box_get_number(&after, 2, &n), 0);
	txn_end(&before);
	txn_end(&after);
	box_close(&box);
}

static void
opening_says_what_is_wrong(void **state)
{
	struct store_box box;
	struct store *store = NULL;
	char error[256] = "";
	char path[80];
	FILE *file;

	(void)state;
	box_folder(&box);
	assert_int_equal(store_open(STORE_MAIN, box.dir, STORE_BOX_MAP, false,
			     &store, error, sizeof(error)),
	    ERR_NOT_FOUND);
	assert_null(store);
	assert_non_null(strstr(error, "main.mdb"));
	assert_int_equal(store_open(STORE_MAIN, "/nowhere/at/all",
			     STORE_BOX_MAP, true, &store, error, sizeof(error)),
	    ERR_NOT_FOUND);
	assert_non_null(strstr(error, "/nowhere/at/all"));
	snprintf(path, sizeof(path), "%s/main.mdb", box.dir);
	file = fopen(path, "w");
	assert_non_null(file);
	for (int i = 0; i < 4096; i++)
		fputs("not a store ", file);
	fclose(file);
	assert_int_equal(store_open(STORE_MAIN, box.dir, STORE_BOX_MAP, true,
			     &store, error, sizeof(error)),
	    ERR_CORRUPT);
	assert_null(store);
	store_close(&store);
	box_close(&box);
}

/* A program that is to take over from an earlier one reads its store. */
static void
a_table_that_is_missing_is_of_an_earlier_version(void **state)
{
	struct store *store = NULL;
	struct store_box box;
	MDB_env *env = NULL;
	char error[256];
	char path[80];

	(void)state;
	box_folder(&box);
	snprintf(path, sizeof(path), "%s/main.mdb", box.dir);
	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
	mdb_env_close(env);
	assert_int_equal(store_open(STORE_MAIN, box.dir, STORE_BOX_MAP, false,
			     &store, error, sizeof(error)),
	    ERR_NOT_FOUND);
	assert_non_null(strstr(error, "earlier version"));
	box_close(&box);
}

/* mdb.c, MDB_meta: mm_last_pg, in both meta pages. */
static void
a_meta_page_that_asks_for_too_much_is_damage(void **state)
{
	const uint64_t last_page = UINT64_C(1) << 50;
	const off_t last_page_at = 136;
	struct store_box box;
	struct store *store = NULL;
	char path[80];
	char error[256];
	int fd;

	(void)state;
	box_open(&box);
	store_close(&box.main);
	snprintf(path, sizeof(path), "%s/main.mdb", box.dir);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	for (off_t page = 0; page < 2; page++)
		assert_int_equal(
		    pwrite(fd, &last_page, sizeof(last_page),
			page * sysconf(_SC_PAGESIZE) + last_page_at),
		    sizeof(last_page));
	close(fd);
	assert_int_equal(store_open(STORE_MAIN, box.dir, STORE_BOX_MAP, true,
			     &store, error, sizeof(error)),
	    ERR_CORRUPT);
	box_close(&box);
}

static void
keys_sort_as_numbers(void **state)
{
	static const uint64_t numbers[] = {
	    0, 1, 255, 256, 1ULL << 32, 1ULL << 63, UINT64_MAX};
	uint8_t a[8];
	uint8_t b[8];

	(void)state;
	for (size_t i = 0; i < 7; i++) {
		key_u64(a, numbers[i]);
		assert_int_equal(key_get_u64(a), numbers[i]);
		if (i > 0)
			assert_true(memcmp(b, a, sizeof(a)) < 0);
		memcpy(b, a, sizeof(a));
		key_u32(a, (uint32_t)numbers[i]);
		assert_int_equal(key_get_u32(a), (uint32_t)numbers[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_committed_stays_and_the_rest_does_not),
	    cmocka_unit_test(not_found_does_not_stick),
	    cmocka_unit_test(an_error_sticks_to_its_transaction),
	    cmocka_unit_test(a_read_transaction_writes_nothing),
	    cmocka_unit_test(walks_see_keys_in_order_and_delete_under_way),
	    cmocka_unit_test(a_full_map_refuses_and_recovers),
	    cmocka_unit_test(a_batch_too_large_for_the_map_is_undone_whole),
	    cmocka_unit_test(a_reader_keeps_its_view),
	    cmocka_unit_test(opening_says_what_is_wrong),
	    cmocka_unit_test(a_table_that_is_missing_is_of_an_earlier_version),
	    cmocka_unit_test(a_meta_page_that_asks_for_too_much_is_damage),
	    cmocka_unit_test(keys_sort_as_numbers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
