/*
 * roll.c - who is in a group or in a call.
 *
 * Role:    one answer for both, so that whoever tells something to all of a
 *          conversation need not know which it is.
 * Process: keeper, and reader threads of workers.
 * Blocks:  on cold pages of the disk.
 * See:     roll.h, doc/decisions/027, t/unit/store_roll.c.
 */
#include "shm/roll.h"

#include <stdlib.h>

#include "shm/log.h"

/* ---- in a call ---- */

static int
by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* @return 0, ERR_NOT_FOUND: he cannot, the store's error */
static int
sees(struct txn *txn, uint64_t call, uint64_t user, uint64_t message_id)
{
	struct member member;
	int rc = member_get(txn, call, user, &member);

	return rc == 0 && !member_sees(&member, message_id) ? ERR_NOT_FOUND
							    : rc;
}

static int
call_users(struct txn *txn, uint64_t id, uint64_t seen,
    uint64_t users[CALL_PARTS_MAX], size_t *count_out)
{
	struct call call;
	size_t count = 0;
	int rc = call_get(txn, id, &call);

	for (uint32_t i = 0; rc == 0 && i < call.row.part_count; i++) {
		uint64_t user = call.parts[i].user;

		if (!call_part_is_in(&call.parts[i]))
			continue;
		rc = seen == 0 ? 0 : sees(txn, id, user, seen);
		if (rc == 0)
			users[count++] = user;
		else if (rc == ERR_NOT_FOUND)
			rc = 0;
	}
	qsort(users, count, sizeof(*users), by_id);
	*count_out = count;
	return rc;
}

/* ---- in either ---- */

int
roll_users(struct txn *txn, const struct conv_key *key, uint64_t seen,
    uint64_t users[GROUP_MEMBERS_MAX], size_t *count_out)
{
	uint64_t id = conv_key_id(key);
	struct group group;
	int rc;

	*count_out = 0;
	if (conv_key_kind(key) == CONV_COLLABORATION)
		return call_users(txn, id, seen, users, count_out);
	rc = group_get(txn, id, &group);
	return rc == 0 ? group_users(txn, &group, seen, users, count_out) : rc;
}

static int
call_has(
    struct txn *txn, uint64_t id, uint64_t user, enum call_state *state_out)
{
	const struct call_part *part;
	struct call call;
	int rc = call_get(txn, id, &call);

	if (rc != 0)
		return rc;
	part = call_find_part(&call, user);
	if (part == NULL)
		return ERR_NOT_FOUND;
	*state_out = (enum call_state)call.row.state;
	return call_part_is_in(part) ? 0 : ERR_CONFLICT;
}

int
roll_has(struct txn *txn, const struct conv_key *key, uint64_t user,
    enum call_state *state_out)
{
	uint64_t id = conv_key_id(key);
	struct member member;
	int rc;

	if (conv_key_kind(key) == CONV_COLLABORATION)
		return call_has(txn, id, user, state_out);
	rc = member_get(txn, id, user, &member);
	return rc == 0 && !member_is_in(&member) ? ERR_NOT_FOUND : rc;
}

int
roll_count(struct txn *txn, const struct conv_key *key, uint32_t *count_out)
{
	uint64_t users[CALL_PARTS_MAX];
	struct group group;
	size_t count;
	int rc;

	if (conv_key_kind(key) == CONV_COLLABORATION) {
		rc = call_users(txn, conv_key_id(key), 0, users, &count);
		*count_out = (uint32_t)count;
		return rc;
	}
	rc = group_get(txn, conv_key_id(key), &group);
	*count_out = rc == 0 ? group.member_count : 0;
	return rc;
}

/* ---- the end ---- */

struct seats {
	uint64_t users[CALL_PARTS_MAX];
	size_t count;
};

static bool
collect(void *ctx, const struct member *member)
{
	struct seats *seats = ctx;

	seats->users[seats->count++] = member->user;
	return seats->count < CALL_PARTS_MAX;
}

/* Messages that were damaged may have left an entry of the index behind. */
static int
forget_conv(struct txn *txn, const struct conv *conv)
{
	struct log_message gone = {.conv = conv->key};
	uint32_t buckets = conv->count / CONV_INDEX_STEP;
	int rc = 0;

	for (uint32_t i = 1; rc == 0 && i <= buckets; i++) {
		gone.position = i * CONV_INDEX_STEP;
		rc = conv_forget_message(txn, &gone);
	}
	return rc == 0 ? txn_del(txn, DBI_conv, conv->key.bytes,
			     sizeof(conv->key.bytes))
		       : rc;
}

int
roll_forget_call(struct txn *txn, uint64_t id, uint64_t upto)
{
	struct seats seats = {.count = 0};
	struct conv_key key;
	struct blob value;
	struct conv conv;
	int rc;

	conv_key_of(CONV_COLLABORATION, id, &key);
	rc = conv_get(txn, &key, &conv);
	if (rc == ERR_NOT_FOUND || (rc == 0 && conv.last_id > upto))
		return 0;
	if (rc == 0)
		rc = txn_get(txn, DBI_calls, &id, sizeof(id), &value);
	if (rc != ERR_NOT_FOUND)
		return rc;
	rc = member_each(txn, id, 0, collect, &seats);
	for (size_t i = 0; rc == 0 && i < seats.count; i++)
		rc = member_delete(txn, &key, seats.users[i]);
	return rc == 0 ? forget_conv(txn, &conv) : rc;
}
