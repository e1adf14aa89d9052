/*
 * store_seal.c - no row of a sealed table is given out changed or misplaced.
 *
 * Role:    unit tests of shm/store_seal.c, and of the way there from a store
 *          whose rows had no seal.
 * Process: test; a store in a private folder, whose rows are changed with LMDB
 *          itself.
 * Blocks:  on that folder.
 * Trust:   none.
 * See:     shm/store_schema.h (which tables).
 */
#include "t/unit/store_box.h"

#include "base/log.h"
#include "shm/meta.h"
#include "shm/store_priv.h"
#include "shm/userhead.h"
#include "shm/users.h"
#include "shm/verify.h"

#define NOW_MS 1796083200000LL

/* Keys of eight bytes fit every table. */
static void
raw_put(struct store_box *box, enum store_dbi dbi, uint64_t key,
    const void *value, size_t len)
{
	MDB_val k = {sizeof(key), &key};
	MDB_val v = {len, (void *)(uintptr_t)value};

	assert_int_equal(
	    mdb_put(box->txn.mdb, box->main->dbis[dbi], &k, &v, 0), 0);
}

static size_t
raw_get(struct store_box *box, enum store_dbi dbi, uint64_t key, uint8_t *out)
{
	struct blob value;

	assert_int_equal(
	    txn_get_raw(&box->txn, dbi, &key, sizeof(key), &value), 0);
	memcpy(out, value.data, value.len);
	return value.len;
}

static void
quiet(void)
{
	const struct log_conf silent = {
	    .target = "/dev/null", .level = "error", .format = "text"};

	assert_int_equal(log_open(&silent), 0);
}

static void
every_bit_of_a_row_counts(void **state)
{
	static const char text[] = "a value";
	struct store_box box;
	struct blob value;
	uint8_t row[64];
	uint64_t key = 4711;
	size_t len;

	(void)state;
	quiet();
	box_open(&box);
	box_begin(&box);
	for (int dbi = 0; dbi < DBI_END; dbi++) {
		if (!store_is_sealed((enum store_dbi)dbi))
			continue;
		assert_int_equal(txn_put(&box.txn, (enum store_dbi)dbi, &key,
				     sizeof(key), text, sizeof(text)),
		    0);
		len = raw_get(&box, (enum store_dbi)dbi, key, row);
		assert_int_equal(len, sizeof(text) + SEAL_BYTES);
		for (size_t bit = 0; bit < 8 * len; bit++) {
			row[bit / 8] ^= (uint8_t)(1 << bit % 8);
			raw_put(&box, (enum store_dbi)dbi, key, row, len);
			assert_int_equal(txn_get(&box.txn, (enum store_dbi)dbi,
					     &key, sizeof(key), &value),
			    ERR_CORRUPT);
			assert_int_equal(box.txn.rc, 0);
			row[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t cut = 0; cut < len; cut++) {
			raw_put(&box, (enum store_dbi)dbi, key, row, cut);
			assert_int_equal(txn_get(&box.txn, (enum store_dbi)dbi,
					     &key, sizeof(key), &value),
			    ERR_CORRUPT);
		}
		raw_put(&box, (enum store_dbi)dbi, key, row, len);
		assert_int_equal(txn_get(&box.txn, (enum store_dbi)dbi, &key,
				     sizeof(key), &value),
		    0);
		assert_int_equal(value.len, sizeof(text));
		assert_memory_equal(value.data, text, sizeof(text));
	}
	box_close(&box);
}

static void
a_row_belongs_to_its_key_and_its_table(void **state)
{
	struct store_box box;
	struct blob value;
	uint8_t row[64];
	uint64_t key = 1;
	uint64_t other = 2;
	size_t len;

	(void)state;
	quiet();
	box_open(&box);
	box_begin(&box);
	assert_int_equal(
	    txn_put(&box.txn, DBI_users, &key, sizeof(key), "row", 3), 0);
	len = raw_get(&box, DBI_users, key, row);
	raw_put(&box, DBI_users, other, row, len);
	raw_put(&box, DBI_userhead, key, row, len);
	assert_int_equal(
	    txn_get(&box.txn, DBI_users, &other, sizeof(other), &value),
	    ERR_CORRUPT);
	assert_int_equal(
	    txn_get(&box.txn, DBI_userhead, &key, sizeof(key), &value),
	    ERR_CORRUPT);
	/* an empty value is a row as well */
	assert_int_equal(
	    txn_put(&box.txn, DBI_behind, &key, sizeof(key), "", 0), 0);
	assert_int_equal(
	    txn_get(&box.txn, DBI_behind, &key, sizeof(key), &value), 0);
	assert_int_equal(value.len, 0);
	box_close(&box);
}

static void
a_walk_leaves_out_what_is_damaged(void **state)
{
	static const uint64_t sound[] = {2, 4, 5};
	struct store_box box;
	struct walk walk;
	size_t n = 0;
	int rc;

	(void)state;
	quiet();
	box_open(&box);
	box_begin(&box);
	for (uint64_t key = 1; key <= 6; key++)
		assert_int_equal(
		    txn_put(&box.txn, DBI_users, &key, sizeof(key), "row", 3),
		    0);
	raw_put(&box, DBI_users, 1, "no seal at all", 14);
	raw_put(&box, DBI_users, 3, "x", 1);
	raw_put(&box, DBI_users, 6, "", 0);
	rc = walk_begin(&walk, &box.txn, DBI_users, NULL, 0);
	for (; rc == 0; rc = walk_next(&walk)) {
		assert_memory_equal(walk.key.data, &sound[n++], 8);
		assert_int_equal(walk.value.len, 3);
	}
	walk_end(&walk);
	assert_int_equal(rc, ERR_NOT_FOUND);
	assert_int_equal(n, 3);
	/* from behind, too */
	rc = walk_begin_before(
	    &walk, &box.txn, DBI_users, &(uint64_t){100}, sizeof(uint64_t));
	for (; rc == 0; rc = walk_prev(&walk))
		assert_memory_equal(walk.key.data, &sound[--n], 8);
	walk_end(&walk);
	assert_int_equal(n, 0);
	/* whoever judges sees them */
	rc = walk_begin_all(&walk, &box.txn, DBI_users, NULL, 0);
	for (; rc == 0; rc = walk_next(&walk)) {
		uint64_t key;

		memcpy(&key, walk.key.data, sizeof(key));
		assert_int_equal(
		    walk.is_damaged, key == 1 || key == 3 || key == 6);
		n++;
	}
	walk_end(&walk);
	assert_int_equal(n, 6);
	assert_int_equal(box.txn.rc, 0);
	box_close(&box);
}

/* Take the seals off: what an earlier version would have written. */
static void
make_older(struct store_box *box, uint32_t schema)
{
	for (int dbi = 0; dbi < DBI_END; dbi++) {
		MDB_cursor *cursor;
		MDB_val k;
		MDB_val v;
		uint8_t copy[4096];
		int rc;

		if (!store_is_sealed((enum store_dbi)dbi))
			continue;
		assert_int_equal(mdb_cursor_open(box->txn.mdb,
				     box->main->dbis[dbi], &cursor),
		    0);
		rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
		while (rc == 0) {
			uint8_t key[VERIFY_KEY_MAX];

			memcpy(key, k.mv_data, k.mv_size);
			memcpy(copy, v.mv_data, v.mv_size);
			k.mv_data = key;
			v = (MDB_val){v.mv_size - SEAL_BYTES, copy};
			assert_int_equal(mdb_cursor_put(cursor, &k, &v, 0), 0);
			rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
		}
		mdb_cursor_close(cursor);
	}
	assert_int_equal(mdb_put(box->txn.mdb, box->main->dbis[DBI_meta],
			     &(MDB_val){6, "schema"},
			     &(MDB_val){sizeof(schema), &schema}, 0),
	    0);
}

#define USERS 2000 /* several pages of each table */

static void
an_older_store_becomes_one_of_today_in_one_transaction(void **state)
{
	static const char name[] = "somebody";
	struct store_box box;
	struct userhead head;
	struct user user;
	struct meta made;
	struct meta meta;
	uint32_t schema;

	(void)state;
	quiet();
	box_open(&box);
	box_begin(&box);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &made), 0);
	for (uint64_t id = 1; id <= USERS; id++) {
		user = (struct user){.id = id, .name = {name, id % 8}};
		head = (struct userhead){.user = id, .row = {.head = id}};
		assert_int_equal(users_put(&box.txn, &user), 0);
		assert_int_equal(userhead_put(&box.txn, &head), 0);
		assert_int_equal(contact_change(&box.txn, id, id % USERS + 1,
				     CONTACT_TALKED, 0),
		    0);
	}
	assert_int_equal(txn_commit(&box.txn), 0);
	for (schema = SCHEMA_OLDEST; schema < SCHEMA_VERSION; schema++) {
		box_begin(&box);
		if (schema < SCHEMA_SEALED)
			make_older(&box, schema);
		else
			assert_int_equal(txn_put(&box.txn, DBI_meta, "schema",
					     6, &schema, sizeof(schema)),
			    0);
		assert_int_equal(txn_commit(&box.txn), 0);
		/* broken off: it is as it was */
		box_begin(&box);
		assert_int_equal(meta_init(&box.txn, NOW_MS + 1, &meta), 0);
		txn_end(&box.txn);
		box_begin(&box);
		assert_int_equal(meta_get(&box.txn, &meta), ERR_STALE);
		assert_int_equal(meta_init(&box.txn, NOW_MS + 1, &meta), 0);
		assert_memory_equal(&meta, &made, sizeof(meta));
		assert_int_equal(txn_commit(&box.txn), 0);
		box_begin(&box);
		assert_int_equal(meta_get(&box.txn, &meta), 0);
		for (uint64_t id = 1; id <= USERS; id++) {
			uint32_t flags;

			assert_int_equal(users_get(&box.txn, id, &user), 0);
			assert_int_equal(user.name.len, id % 8);
			assert_int_equal(userhead_get(&box.txn, id, &head), 0);
			assert_int_equal(head.row.head, id);
			assert_int_equal(
			    contact_get(&box.txn, id, id % USERS + 1, &flags),
			    0);
			assert_int_equal(flags, CONTACT_TALKED);
		}
		txn_end(&box.txn);
	}
	box_begin(&box);
	make_older(&box, SCHEMA_OLDEST - 1);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), ERR_STALE);
	/* one that has no seal and says that it has */
	make_older(&box, SCHEMA_VERSION);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), ERR_CORRUPT);
	box_close(&box);
}

/* Made by the first version that sealed rows: a store of it must still open,
 * whatever tables were added since. */
static void
seals_outlive_the_order_of_tables(void **state)
{
	static const struct {
		enum store_dbi dbi;
		uint32_t seal;
	} made[] = {
	    {DBI_behind, 0x215c82ac},
	    {DBI_contact, 0x36fa4fb3},
	    {DBI_conv, 0x101cc72d},
	    {DBI_convindex, 0xd892a290},
	    {DBI_device, 0x4d4fa5a5},
	    {DBI_grace, 0x9405baf0},
	    {DBI_meta, 0xc1a9810e},
	    {DBI_userconv, 0x5097fb8f},
	    {DBI_userhead, 0x88a45552},
	    {DBI_users, 0x536cadbc},
	};
	uint64_t key = 4711;
	MDB_val k = {sizeof(key), &key};

	(void)state;
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		assert_int_equal(
		    seal_of(made[i].dbi, &k, "a value", 7), made[i].seal);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_bit_of_a_row_counts),
	    cmocka_unit_test(seals_outlive_the_order_of_tables),
	    cmocka_unit_test(a_row_belongs_to_its_key_and_its_table),
	    cmocka_unit_test(a_walk_leaves_out_what_is_damaged),
	    cmocka_unit_test(
		an_older_store_becomes_one_of_today_in_one_transaction),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("store_seal", tests, NULL, NULL);
}
