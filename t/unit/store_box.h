/*
 * store_box.h - both environments of a store in a folder of their own, for
 * tests.
 */
#ifndef T_UNIT_STORE_BOX_H
#define T_UNIT_STORE_BOX_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/store.h"

#define STORE_BOX_MAP ((size_t)64 << 20)

struct store_box {
	char dir[40];
	struct store *main;
	struct store *presence;
	struct txn txn; /* main */
};

static inline void
box_folder(struct store_box *box)
{
	*box = (struct store_box){.dir = "store-XXXXXX"};
	assert_non_null(mkdtemp(box->dir));
}

static inline void
box_open_stores(struct store_box *box, size_t map_size)
{
	char error[256];

	assert_int_equal(store_open(STORE_MAIN, box->dir, map_size, true,
			     &box->main, error, sizeof(error)),
	    0);
	assert_int_equal(store_open(STORE_PRESENCE, box->dir, map_size, true,
			     &box->presence, error, sizeof(error)),
	    0);
}

static inline void
box_open(struct store_box *box)
{
	box_folder(box);
	box_open_stores(box, STORE_BOX_MAP);
}

static inline void
box_close(struct store_box *box)
{
	static const char *const files[] = {
	    "main.mdb", "main.mdb-lock", "presence.mdb", "presence.mdb-lock"};
	char path[80];

	txn_end(&box->txn);
	store_close(&box->main);
	store_close(&box->presence);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", box->dir, files[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(box->dir), 0);
}

static inline void
box_begin(struct store_box *box)
{
	assert_int_equal(store_begin_write(box->main, &box->txn), 0);
}

static inline void
box_commit(struct store_box *box)
{
	assert_int_equal(txn_commit(&box->txn), 0);
}

/* A number under a number, in any one dbi. */
static inline int
box_put_number(struct txn *txn, uint64_t key, uint64_t value)
{
	uint8_t k[8];

	key_u64(k, key);
	return txn_put(txn, DBI_contact, k, sizeof(k), &value, sizeof(value));
}

static inline int
box_get_number(struct txn *txn, uint64_t key, uint64_t *value_out)
{
	struct blob value;
	uint8_t k[8];
	int rc;

	key_u64(k, key);
	rc = txn_get(txn, DBI_contact, k, sizeof(k), &value);
	if (rc == 0)
		memcpy(value_out, value.data, sizeof(*value_out));
	return rc;
}

/* xorshift64: the same numbers in every run. */
static inline uint64_t
box_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
