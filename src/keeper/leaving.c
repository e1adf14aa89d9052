/*
 * leaving.c - users who were removed leave their groups.
 *
 * Role:    one group after the other, as many as a slice of a batch has time
 *          for: each leave is told to up to a thousand members, and one who has
 *          made many groups must not keep the keeper from everything else.
 * Process: keeper, at the end of a batch.
 * Blocks:  on cold pages of the disk.
 * Trust:   a group that cannot be told of it, as rows of it are damaged, is
 *          left as it is: nothing can be sent to it either.
 * See:     group_change.h; table `leaving`, which a successor goes on with;
 *          t/unit/keeper_leaving.c.
 */
#include "keeper/leaving.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "keeper/group_change.h"

#define SLICE_US 1000 /* one group at least, however large */

/* Who leaves, and what he is still in: conversations from this key on. */
struct leaver {
	uint64_t user;
	struct conv_key from;
};

static int
put(struct keeper *keeper, const struct leaver *leaver)
{
	return txn_put(&keeper->txn, DBI_leaving, &leaver->user,
	    sizeof(leaver->user), leaver->from.bytes,
	    sizeof(leaver->from.bytes));
}

int
leaving_begin(struct keeper *keeper, uint64_t user)
{
	struct leaver leaver = {.user = user};

	conv_key_of(CONV_GROUP, 0, &leaver.from);
	keeper->has_leaving = true;
	return put(keeper, &leaver);
}

static int
first_leaver(struct keeper *keeper, struct leaver *out)
{
	struct walk walk;
	int rc = walk_begin(&walk, &keeper->txn, DBI_leaving, NULL, 0);

	if (rc == 0) {
		memcpy(&out->user, walk.key.data, sizeof(out->user));
		if (walk.value.len == sizeof(out->from.bytes))
			memcpy(out->from.bytes, walk.value.data,
			    sizeof(out->from.bytes));
		else
			conv_key_of(CONV_GROUP, 0, &out->from);
	}
	walk_end(&walk);
	return rc;
}

/* @return 0; ERR_NOT_FOUND, ERR_CORRUPT: not all of them can be told */
static int
check_members(struct keeper *keeper, const struct group *group)
{
	uint64_t users[GROUP_MEMBERS_MAX];
	struct userhead head;
	struct conv_key key;
	struct conv conv;
	size_t count;
	int rc;

	conv_key_of(CONV_GROUP, group->id, &key);
	rc = conv_get(&keeper->txn, &key, &conv);
	if (rc == 0)
		rc = group_users(&keeper->txn, group, 0, users, &count);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = userhead_get_or_new(
		    &keeper->txn, users[i], keeper->meta.base, &head);
	return rc;
}

static int
leave(struct keeper *keeper, uint64_t user, uint64_t group)
{
	struct group_change change = {.keeper = keeper, .actor = user};
	struct member member;
	int rc;

	rc = member_get(&keeper->txn, group, user, &member);
	if (rc == 0 && !member_is_in(&member))
		return 0;
	if (rc == 0)
		rc = group_get(&keeper->txn, group, &change.group);
	if (rc == 0)
		rc = check_members(keeper, &change.group);
	if (keeper_is_lost(keeper, rc)) {
		log_error(NULL, "group-not-left",
		    "group=%llu user=%llu; rows of it are damaged",
		    (unsigned long long)group, (unsigned long long)user);
		return 0;
	}
	return rc == 0 ? group_change_leave(&change) : rc;
}

static bool
take_key(void *ctx, const struct conv_key *key)
{
	struct conv_key *out = ctx;

	*out = *key;
	return false;
}

/* @return 0, ERR_NOT_FOUND: there is no further group */
static int
leave_next(struct keeper *keeper, struct leaver *leaver)
{
	struct conv_key key = {0};
	int rc;

	rc = conv_each(
	    &keeper->txn, leaver->user, &leaver->from, take_key, &key);
	if (rc == 0 && conv_key_kind(&key) != CONV_GROUP)
		rc = ERR_NOT_FOUND;
	if (rc == 0)
		rc = leave(keeper, leaver->user, conv_key_id(&key));
	if (rc == 0)
		conv_key_of(CONV_GROUP, conv_key_id(&key) + 1, &leaver->from);
	return rc;
}

/* Of the first of them, until the time is up. */
static int
leave_some(struct keeper *keeper, int64_t until_us)
{
	struct leaver leaver;
	int rc = first_leaver(keeper, &leaver);

	if (rc == ERR_NOT_FOUND) {
		keeper->has_leaving = false;
		return 0;
	}
	keeper->batch.has_work = true;
	while (rc == 0) {
		rc = leave_next(keeper, &leaver);
		if (rc == 0 && clock_mono_us() >= until_us)
			return put(keeper, &leaver);
	}
	return rc == ERR_NOT_FOUND ? txn_del(&keeper->txn, DBI_leaving,
					 &leaver.user, sizeof(leaver.user))
				   : rc;
}

int
leaving_turn(struct keeper *keeper)
{
	int64_t until_us = clock_mono_us() + SLICE_US;
	int rc = 0;

	/* A batch that is done again for its records has enough to do. */
	if (keeper->storage != STORAGE_GOOD || keeper->culprit_count > 0 ||
	    keeper->is_in_pieces)
		return 0;
	while (rc == 0 && keeper->has_leaving && clock_mono_us() < until_us)
		rc = leave_some(keeper, until_us);
	return rc;
}

bool
leaving_has_work(const struct keeper *keeper)
{
	return keeper->has_leaving && keeper->storage == STORAGE_GOOD;
}
