/*
 * inbox.c - durable events waiting for a user's devices.
 *
 * Role:    user | seq -> what and where; acknowledged by range delete.
 * Process: keeper writes; reader threads of workers walk.
 * Blocks:  on cold pages of the disk.
 * Trust:   a row whose check does not fit is left out: the event of somebody
 *          else is never shown.
 * See:     store_schema.h (struct inbox_row), t/unit/store_inbox.c.
 */
#include "shm/inbox.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"

#define INBOX_KEY_LEN 16

static void
inbox_key(uint8_t out[INBOX_KEY_LEN], uint64_t user, uint64_t seq)
{
	key_u64(out, user);
	key_u64(out + sizeof(uint64_t), seq);
}

static uint32_t
row_check(const uint8_t key[INBOX_KEY_LEN], const struct inbox_row *row)
{
	size_t len = offsetof(struct inbox_row, check);
	uint64_t seed = XXH3_64bits(key, INBOX_KEY_LEN);

	return (uint32_t)XXH3_64bits_withSeed(row, len, seed);
}

int
inbox_put(struct txn *txn, uint64_t user, const struct inbox_event *event)
{
	struct inbox_row row = {
	    .ref = event->ref,
	    .conv = event->conv,
	    .kind = event->kind,
	};
	uint8_t key[INBOX_KEY_LEN];

	inbox_key(key, user, event->seq);
	row.check = row_check(key, &row);
	return txn_put(txn, DBI_inbox, key, sizeof(key), &row, sizeof(row));
}

bool
inbox_decode(
    const struct blob *key, const struct blob *value, struct inbox_event *out)
{
	struct inbox_row row;

	if (key->len != INBOX_KEY_LEN || value->len != sizeof(row))
		return false;
	memcpy(&row, value->data, sizeof(row));
	if (row.check != row_check(key->data, &row))
		return false;
	*out = (struct inbox_event){
	    .seq = key_get_u64((const uint8_t *)key->data + 8),
	    .ref = row.ref,
	    .conv = row.conv,
	    .kind = row.kind,
	};
	return true;
}

static uint64_t
walk_seq(const struct walk *walk)
{
	return key_get_u64((const uint8_t *)walk->key.data + 8);
}

static void
log_damaged(const struct walk *walk, uint64_t user)
{
	log_error(NULL, "store-corrupt",
	    "row=inbox user=%llu seq=%llu; the row failed its check and is "
	    "left out",
	    (unsigned long long)user, (unsigned long long)walk_seq(walk));
}

/* Stands the walk on a row of user with seq <= upto? */
static bool
is_within(
    const struct walk *walk, const uint8_t start[INBOX_KEY_LEN], uint64_t upto)
{
	return walk->key.len == INBOX_KEY_LEN &&
	       memcmp(walk->key.data, start, sizeof(uint64_t)) == 0 &&
	       walk_seq(walk) <= upto;
}

int
inbox_each(struct txn *txn, uint64_t user, uint64_t above, uint64_t upto,
    bool (*fn)(void *ctx, const struct inbox_event *event), void *ctx)
{
	uint8_t start[INBOX_KEY_LEN];
	struct inbox_event event;
	struct walk walk;
	int rc;

	if (above >= upto)
		return 0;
	inbox_key(start, user, above + 1);
	rc = walk_begin(&walk, txn, DBI_inbox, start, sizeof(start));
	while (rc == 0 && is_within(&walk, start, upto)) {
		if (!inbox_decode(&walk.key, &walk.value, &event))
			log_damaged(&walk, user);
		else if (!fn(ctx, &event))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
inbox_next_user(struct txn *txn, uint64_t from, uint64_t *user_out)
{
	uint8_t start[INBOX_KEY_LEN];
	struct walk walk;
	int rc;

	inbox_key(start, from, 0);
	rc = walk_begin(&walk, txn, DBI_inbox, start, sizeof(start));
	while (rc == 0 && walk.key.len != INBOX_KEY_LEN)
		rc = walk_next(&walk);
	if (rc == 0)
		*user_out = key_get_u64(walk.key.data);
	walk_end(&walk);
	return rc;
}

int
inbox_delete(struct txn *txn, uint64_t user, uint64_t *above_io, uint64_t upto,
    size_t limit)
{
	uint8_t start[INBOX_KEY_LEN];
	uint64_t reached = upto;
	struct walk walk;
	int rc;

	if (*above_io >= upto)
		return 0;
	inbox_key(start, user, *above_io + 1);
	rc = walk_begin(&walk, txn, DBI_inbox, start, sizeof(start));
	for (; rc == 0 && is_within(&walk, start, upto); limit--) {
		if (limit == 0) {
			reached = walk_seq(&walk) - 1;
			break;
		}
		rc = walk_delete(&walk);
		if (rc == 0)
			rc = walk_next(&walk);
	}
	walk_end(&walk);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	*above_io = reached;
	return 0;
}
