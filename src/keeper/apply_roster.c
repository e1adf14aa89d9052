/*
 * apply_roster.c - users and lists as a database outside has them.
 *
 * Role:    what the directory was told there becomes rows of users and
 *          contact, which every decision here is taken from.
 * Process: keeper.
 * Trust:   the directory's records are checked; a list names nobody who has
 *          no row of his own.
 * See:     directory/roster.h, doc/decisions/032, t/unit/keeper_roster.c.
 *
 * These records say how things are, not what has changed: one that comes
 * twice, or says what is known, changes nothing.
 */
#include "keeper/apply.h"

#include <string.h>

#include "shm/users.h"

/* Does the record come from where it may, about one who can be? */
static bool
is_sound(const struct origin *from, uint64_t user)
{
	return from->slot == SLOT_DIRECTORY && user != 0 && user <= USER_ID_MAX;
}

/* What the store said of a user who is looked for; a damaged row of his is
 * logged there and refused here. */
static int
answer(struct keeper *keeper, const struct origin *from, uint64_t req, int rc)
{
	if (keeper->txn.rc == 0)
		route_reply(keeper, from, req, rc, 0, NULL);
	return keeper->txn.rc;
}

/* ---- a user ---- */

/* His password and his age, if the store has any, are not the database's. */
static int
user_take(struct keeper *keeper, const struct user *told)
{
	struct user user;
	int rc;

	rc = users_get(&keeper->txn, told->id, &user);
	if (rc == ERR_NOT_FOUND) {
		user = *told;
		user.created_ms = keeper->now_ms;
		return users_put(&keeper->txn, &user);
	}
	if (rc != 0)
		return rc;
	if (user_looks_like(&user, told))
		return 0;
	user.name = told->name;
	user.role = told->role;
	user.profile = told->profile;
	return users_put(&keeper->txn, &user);
}

int
apply_roster_user(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_roster_user *record = payload;
	struct user told = {.id = record->user};
	struct record_cursor c;

	record_cursor_init(&c, record + 1, len - sizeof(*record));
	told.name =
	    (struct blob){record_take(&c, record->name_len), record->name_len};
	told.role =
	    (struct blob){record_take(&c, record->role_len), record->role_len};
	told.profile = (struct blob){
	    record_take(&c, record->profile_len), record->profile_len};
	if (!record_is_whole(&c) || !is_sound(from, record->user) ||
	    record->name_len > NAME_MAX_BYTES || record->role_len > ROLE_MAX ||
	    record->profile_len > PROFILE_MAX)
		return ERR_BAD_REQUEST;
	return answer(keeper, from, record->req, user_take(keeper, &told));
}

int
apply_roster_gone(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_roster_gone *record = payload;
	struct user user;
	int rc;

	(void)len;
	if (!is_sound(from, record->user))
		return ERR_BAD_REQUEST;
	rc = users_get(&keeper->txn, record->user, &user);
	if (rc == 0)
		rc = keeper_user_remove(keeper, record->user, USER_GONE);
	else if (rc == ERR_NOT_FOUND)
		rc = 0;
	return answer(keeper, from, record->req, rc);
}

/* ---- a list ---- */

struct pairs {
	const uint8_t *others; /* u64 each */
	uint32_t count;
	uint32_t set;
	uint32_t clear;
};

/* Who has no row is passed over: he was removed since, or will be told. */
static int
pairs_apply(struct keeper *keeper, uint64_t user, const struct pairs *pairs)
{
	struct user row;
	uint64_t other;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < pairs->count; i++) {
		memcpy(
		    &other, pairs->others + i * sizeof(other), sizeof(other));
		if (other == 0 || other > USER_ID_MAX || other == user)
			continue;
		if (pairs->set != 0)
			rc = users_get(&keeper->txn, other, &row);
		if (rc == 0)
			rc = keeper_contact_set(
			    keeper, user, other, pairs->set, pairs->clear);
		else if (keeper_is_lost(keeper, rc))
			rc = 0;
	}
	return rc;
}

int
apply_roster_list(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_roster_list *record = payload;
	struct pairs add = {.count = record->add_count, .set = CONTACT_LISTED};
	struct pairs remove = {
	    .count = record->remove_count, .clear = CONTACT_LISTED};
	struct record_cursor c;
	struct user row;
	int rc;

	if (!is_sound(from, record->user) || add.count > ROSTER_PAIRS_MAX ||
	    remove.count > ROSTER_PAIRS_MAX - add.count)
		return ERR_BAD_REQUEST;
	record_cursor_init(&c, record + 1, len - sizeof(*record));
	add.others = record_take(&c, add.count * sizeof(uint64_t));
	remove.others = record_take(&c, remove.count * sizeof(uint64_t));
	if (!record_is_whole(&c))
		return ERR_BAD_REQUEST;
	rc = users_get(&keeper->txn, record->user, &row);
	if (rc == 0)
		rc = pairs_apply(keeper, record->user, &add);
	if (rc == 0)
		rc = pairs_apply(keeper, record->user, &remove);
	return answer(keeper, from, record->req, rc);
}
