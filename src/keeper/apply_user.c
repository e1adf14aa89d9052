/*
 * apply_user.c - users of the embedded directory, contacts and blocks.
 *
 * Role:    what parleyctl changes, and P_BLOCK.
 * Process: keeper.
 */
#include "keeper/apply.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "keeper/leaving.h"
#include "shm/presence.h"
#include "shm/users.h"

#define RANGE_MAX 1000 /* per record: keeps the keeper's slices short */

/* ---- users ---- */

static int
user_revoke_sessions(struct keeper *keeper, uint64_t user)
{
	struct userhead head;
	int rc;

	rc = userhead_get(&keeper->txn, user, &head);
	if (rc != 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	for (int i = 0; i < head.row.device_count; i++) {
		if (head.devices[i].session == 0)
			continue;
		keeper_session_revoke(
		    keeper, user, &head.devices[i], REPLACED_KICKED);
		call_note(keeper, CALL_QUIT, user, &head.devices[i]);
		rc = keeper_session_close(keeper, &head, &head.devices[i]);
		if (rc != 0)
			return rc;
	}
	return userhead_put(&keeper->txn, &head);
}

/*
 * What was written to and by a removed user stays with its conversations, so
 * nobody else may ever get the id: its userhead without a row of users says
 * that it was taken.
 */
bool
keeper_user_was_removed(struct keeper *keeper, uint64_t user)
{
	struct userhead head;

	return userhead_get(&keeper->txn, user, &head) == 0;
}

struct contact_list {
	uint64_t others[256];
	bool is_watcher[256];
	size_t count;
};

static bool
collect_contact(void *ctx, uint64_t other, uint32_t flags)
{
	struct contact_list *list = ctx;

	list->is_watcher[list->count] = contact_is_watched_by(flags);
	list->others[list->count++] = other;
	return list->count < sizeof(list->others) / sizeof(list->others[0]);
}

static int
user_remove_contacts(struct keeper *keeper, uint64_t user, uint32_t clear)
{
	struct contact_list list;
	uint64_t above = 0;
	int rc;

	do {
		list.count = 0;
		rc = contact_each(
		    &keeper->txn, user, above, collect_contact, &list);
		for (size_t i = 0; rc == 0 && i < list.count; i++) {
			above = list.others[i];
			if (list.is_watcher[i])
				rc = announce_to(keeper, above, user, true);
			if (rc == 0)
				rc = contact_change(
				    &keeper->txn, user, above, 0, clear);
		}
	} while (rc == 0 && list.count > 0);
	return rc;
}

int
keeper_user_remove(
    struct keeper *keeper, uint64_t user, enum user_removal removal)
{
	const uint32_t blocks = CONTACT_BLOCKING | CONTACT_BLOCKED_BY;
	struct userhead head;
	int rc;

	rc = user_revoke_sessions(keeper, user);
	if (rc == 0)
		rc = leaving_begin(keeper, user);
	if (rc == 0)
		rc = user_remove_contacts(keeper, user,
		    removal == USER_REMOVED ? UINT32_MAX : ~blocks);
	if (rc == 0)
		rc = userhead_get_or_new(
		    &keeper->txn, user, keeper->meta.base, &head);
	if (rc == 0)
		rc = userhead_put(&keeper->txn, &head);
	if (rc == 0)
		rc = users_delete(&keeper->txn, user);
	return rc;
}

static int
user_put(struct keeper *keeper, const struct record_user_put *record,
    struct user *news)
{
	struct user user;
	int rc;

	rc = users_get(&keeper->txn, record->user, &user);
	if (rc == 0 && (record->flags & USER_PUT_NEW) != 0)
		return ERR_CONFLICT;
	if (rc == ERR_NOT_FOUND && (record->flags & USER_PUT_NEW) != 0) {
		if (keeper_user_was_removed(keeper, record->user))
			return ERR_CONFLICT;
		user = (struct user){
		    .id = record->user,
		    .created_ms = keeper->now_ms,
		};
		rc = 0;
	}
	if (rc != 0)
		return rc;
	if ((record->flags & USER_PUT_REMOVE) != 0)
		return keeper_user_remove(keeper, record->user, USER_REMOVED);
	if ((record->flags & USER_PUT_NAME) != 0)
		user.name = news->name;
	if ((record->flags & USER_PUT_PASSWORD) != 0)
		user.password = news->password;
	if ((record->flags & USER_PUT_ROLE) != 0)
		user.role = news->role;
	if ((record->flags & USER_PUT_PROFILE) != 0)
		user.profile = news->profile;
	return users_put(&keeper->txn, &user);
}

int
apply_user_put(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_user_put *record = payload;
	struct record_cursor c;
	struct user news;
	int rc;

	record_cursor_init(&c, record + 1, len - sizeof(*record));
	news.name =
	    (struct blob){record_take(&c, record->name_len), record->name_len};
	news.password = (struct blob){
	    record_take(&c, record->password_len), record->password_len};
	news.role =
	    (struct blob){record_take(&c, record->role_len), record->role_len};
	news.profile = (struct blob){
	    record_take(&c, record->profile_len), record->profile_len};
	if (!record_is_whole(&c) || record->user == 0 ||
	    record->user > USER_ID_MAX || record->name_len > NAME_MAX_BYTES ||
	    record->profile_len > PROFILE_MAX)
		return ERR_BAD_REQUEST;
	rc = user_put(keeper, record, &news);
	if (rc != 0 && rc != ERR_CONFLICT && rc != ERR_NOT_FOUND &&
	    rc != ERR_TOO_LARGE)
		return rc;
	if (keeper->txn.rc == 0)
		route_reply(keeper, from, record->req, rc, 0, NULL);
	return keeper->txn.rc;
}

int
apply_user_range(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_user_range *record = payload;
	uint64_t made = 0;
	struct user user;
	char name[32];
	int rc;

	(void)len;
	if (record->first == 0 || record->last > USER_ID_MAX ||
	    record->last < record->first ||
	    record->last - record->first >= RANGE_MAX)
		return ERR_BAD_REQUEST;
	for (uint64_t id = record->first; id <= record->last; id++) {
		rc = users_get(&keeper->txn, id, &user);
		if (rc == 0)
			continue;
		if (rc != ERR_NOT_FOUND)
			return rc;
		if (keeper_user_was_removed(keeper, id))
			continue;
		snprintf(
		    name, sizeof(name), "User %llu", (unsigned long long)id);
		user = (struct user){
		    .id = id,
		    .created_ms = keeper->now_ms,
		    .name = {name, strlen(name)},
		};
		rc = users_put(&keeper->txn, &user);
		if (rc != 0)
			return rc;
		made++;
	}
	route_reply(keeper, from, record->req, 0, made, NULL);
	return 0;
}

int
keeper_user_name(struct keeper *keeper, uint64_t user, struct user_name *out)
{
	struct user row;
	int rc;

	out->len = 0;
	rc = users_get(&keeper->txn, user, &row);
	if (rc != 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	if (row.name.len > sizeof(out->text))
		return ERR_CORRUPT;
	memcpy(out->text, row.name.data, row.name.len);
	out->len = row.name.len;
	return 0;
}

/* ---- contacts ---- */

int
keeper_may_write(struct keeper *keeper, uint64_t from, uint64_t to,
    bool is_known, bool *may_out)
{
	bool is_anyone =
	    strcmp(keeper->conf->policy_may_message, "anyone") == 0;
	struct user user;
	uint32_t flags;
	int rc;

	rc = contact_get(&keeper->txn, from, to, &flags);
	if (rc != 0)
		return rc;
	*may_out = contact_may_write(flags);
	if (*may_out || (flags & CONTACT_BLOCKED_BY) != 0)
		return 0;
	if (!is_anyone && !is_known)
		return 0;
	rc = users_get(&keeper->txn, to, &user);
	*may_out = rc == 0;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* The directory has heard of it otherwise than by its own word. */
static void
contact_tell(struct keeper *keeper, uint64_t user, uint64_t other)
{
	const struct record_contact_news news = {user, other};

	if (conf_users_are_remote(keeper->conf) &&
	    bus_put(keeper->bus, SLOT_DIRECTORY, RECORD_CONTACT_NEWS, &news,
		sizeof(news)) != 0)
		log_warn(NULL, "contact-news-dropped",
		    "the directory does not read its ring; its lists are of "
		    "before for [directory] cache_ttl");
}

int
keeper_contact_set(struct keeper *keeper, uint64_t user, uint64_t other,
    uint32_t set, uint32_t clear)
{
	uint32_t before;
	uint32_t flags;
	int rc;

	rc = contact_get(&keeper->txn, user, other, &before);
	if (rc != 0)
		return rc;
	if (((before | set) & ~clear) == before)
		return 0;
	rc = contact_change(&keeper->txn, user, other, set, clear);
	if (rc == 0)
		rc = contact_get(&keeper->txn, user, other, &flags);
	/*
	 * They may block each other, or stay in the list for having talked:
	 * only who sees a change is told one.
	 */
	if (rc == 0 && contact_is_listed(flags) != contact_is_listed(before))
		rc =
		    announce_to(keeper, user, other, !contact_is_listed(flags));
	if (rc == 0 &&
	    contact_is_watched_by(flags) != contact_is_watched_by(before))
		rc = announce_to(
		    keeper, other, user, !contact_is_watched_by(flags));
	return rc;
}

static int
contact_one(struct keeper *keeper, uint64_t a, uint64_t b, uint32_t op)
{
	uint32_t listed = CONTACT_LISTED |
			  (op == CONTACT_ADD_ONE_WAY ? 0 : CONTACT_LISTED_BY);
	bool is_removed = op == CONTACT_REMOVE;

	contact_tell(keeper, a, b);
	return keeper_contact_set(
	    keeper, a, b, is_removed ? 0 : listed, is_removed ? listed : 0);
}

static int
contact_check(struct keeper *keeper, uint64_t user, uint64_t *missing_out)
{
	struct user row;
	int rc;

	rc = users_get(&keeper->txn, user, &row);
	if (rc == ERR_NOT_FOUND)
		*missing_out = user;
	return rc;
}

int
apply_contact(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_contact *record = payload;
	uint64_t missing = 0;
	int rc = 0;

	(void)len;
	if (record->count == 0 || record->count > RANGE_MAX || record->a == 0 ||
	    record->b == 0 || record->a == record->b ||
	    record->a > USER_ID_MAX - RANGE_MAX ||
	    record->b > USER_ID_MAX - RANGE_MAX || record->op > CONTACT_REMOVE)
		return ERR_BAD_REQUEST;
	for (uint32_t i = 0; rc == 0 && i < record->count; i++) {
		rc = contact_check(keeper, record->a + i, &missing);
		if (rc == 0)
			rc = contact_check(keeper, record->b + i, &missing);
	}
	for (uint32_t i = 0; rc == 0 && i < record->count; i++)
		rc = contact_one(
		    keeper, record->a + i, record->b + i, record->op);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (keeper->txn.rc == 0)
		route_reply(keeper, from, record->req, rc, missing, NULL);
	return keeper->txn.rc;
}

/* ---- blocks ---- */

static int
block(struct keeper *keeper, const void *payload)
{
	const struct record_block *record = payload;
	bool is_anyone =
	    strcmp(keeper->conf->policy_may_message, "anyone") == 0;
	struct user user;
	uint32_t flags;
	bool was_on;
	int rc;

	rc = users_get(&keeper->txn, record->other, &user);
	if (rc == 0)
		rc = contact_get(
		    &keeper->txn, record->user, record->other, &flags);
	if (rc != 0)
		return rc;
	/* A stranger looks like one who does not exist. */
	if (flags == 0 && !is_anyone)
		return ERR_NOT_FOUND;
	rc = contact_change(&keeper->txn, record->user, record->other,
	    record->on ? CONTACT_BLOCKING : 0,
	    record->on ? 0 : CONTACT_BLOCKING);
	contact_tell(keeper, record->user, record->other);
	was_on = (flags & CONTACT_BLOCKING) != 0;
	if (rc != 0 || was_on == (record->on != 0) ||
	    (flags & (CONTACT_LISTED_BY | CONTACT_TALKED)) == 0)
		return rc;
	return announce_to(
	    keeper, record->other, record->user, record->on != 0);
}

int
apply_block(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_block *record = payload;
	struct session_request request = {
	    .req = record->req,
	    .user = record->user,
	    .session = record->session,
	    .record = record,
	    .fn = block,
	};

	(void)len;
	return keeper_session_run(keeper, from, &request);
}
