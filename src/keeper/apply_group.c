/*
 * apply_group.c - P_CREATE_GROUP, P_UPDATE_GROUP, P_LEAVE_GROUP: checks.
 *
 * Role:    who may; what of it changes anything; the reply. Asked again, a
 *          change that has been made is no change any more: OK.
 * Process: keeper; everything of one change is in one transaction.
 * See:     doc/protocol.md: Groups; group_rights.def, group_change.c
 */
#include "keeper/apply.h"

#include <string.h>

#include "keeper/group_change.h"
#include "keeper/group_rights.h"
#include "shm/group.h"

struct asked {
	const struct origin *from;
	const struct record_group_leave *record; /* each begins as it does */
	struct userhead head;                    /* the actor's */
	struct userhead_device *device;
	struct member self;
	uint64_t answer_id; /* message_id of the reply */
	uint64_t unknown[GROUP_MEMBERS_MAX];
	size_t unknown_count;
	struct group_change change;
};

/* Of the request under way; kept here because of its size. */
static struct asked asked_now;

static struct asked *
ask(struct keeper *keeper, const struct origin *from, const void *record)
{
	struct asked *asked = &asked_now;

	memset(asked, 0, sizeof(*asked));
	asked->from = from;
	asked->record = record;
	asked->change.keeper = keeper;
	asked->change.actor = asked->record->user;
	asked->change.session = asked->record->session;
	asked->change.head = &asked->head;
	return asked;
}

static void
answer(struct asked *asked, int rc)
{
	struct keeper *keeper = asked->change.keeper;
	size_t unknown_len = asked->unknown_count * sizeof(uint64_t);
	struct record_send_reply *reply;
	size_t len = sizeof(*reply) + unknown_len;

	reply = route_begin(keeper, asked->from, len);
	if (reply == NULL)
		return;
	*reply = (struct record_send_reply){
	    .req = asked->record->req,
	    .user = asked->record->user,
	    .session = asked->record->session,
	    .message_id = asked->answer_id,
	    .seq = asked->change.seq,
	    .rc = rc,
	    .member_count = (uint32_t)asked->change.told,
	    .unknown_count = (uint32_t)asked->unknown_count,
	};
	conv_key_of(CONV_GROUP, asked->change.group.id, &reply->conv);
	memcpy(reply + 1, asked->unknown, unknown_len);
	route_end(keeper, asked->from, RECORD_SEND_REPLY, len);
}

/* What a request came to. @return of an apply function */
static int
finish(struct asked *asked, int rc)
{
	struct keeper *keeper = asked->change.keeper;

	switch (rc) {
	case ERR_STALE:
		return 0; /* the client asks again in its new session */
	case 0:
	case ERR_DUPLICATE:
	case ERR_CONFLICT:
	case ERR_NOT_FOUND:
	case ERR_FORBIDDEN:
	case ERR_TOO_LARGE:
		if (keeper->txn.rc == 0)
			answer(asked, rc);
		return keeper->txn.rc;
	default:
		return rc;
	}
}

static void
note_unknown(struct asked *asked, uint64_t user)
{
	if (asked->unknown_count < GROUP_MEMBERS_MAX)
		asked->unknown[asked->unknown_count++] = user;
}

static bool
is_ascending(const uint64_t *users, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (users[i] == 0 || users[i] > USER_ID_MAX ||
		    (i > 0 && users[i] <= users[i - 1]))
			return false;
	}
	return true;
}

/* Whom one may write to one may bring in; others look like nobody. */
static int
check_reach(struct asked *asked, const uint64_t *users, size_t count)
{
	bool may;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = keeper_may_write(asked->change.keeper, asked->change.actor,
		    users[i], false, &may);
		if (rc == 0 && !may)
			note_unknown(asked, users[i]);
	}
	return rc == 0 && asked->unknown_count > 0 ? ERR_NOT_FOUND : rc;
}

static int
check_size(const struct asked *asked)
{
	const struct group_change *change = &asked->change;

	return (int64_t)(change->group.member_count + change->added_count -
			 change->removed_count) >
		       change->keeper->conf->policy_max_group_size
		   ? ERR_TOO_LARGE
		   : 0;
}

/* Those who are in too many groups are named. */
static int
check_group_counts(struct asked *asked)
{
	struct group_change *change = &asked->change;
	struct keeper *keeper = change->keeper;
	uint32_t count;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < change->added_count; i++) {
		rc = group_count_get(&keeper->txn, change->added[i], &count);
		if (rc == 0 && count >= keeper->conf->policy_max_groups)
			note_unknown(asked, change->added[i]);
	}
	return rc == 0 && asked->unknown_count > 0 ? ERR_TOO_LARGE : rc;
}

static int
ask_session(struct asked *asked)
{
	return keeper_session_ask(asked->change.keeper, asked->from,
	    asked->record->user, asked->record->session, &asked->head,
	    &asked->device);
}

/* ---- P_CREATE_GROUP ---- */

static int
check_made(struct asked *asked, const struct record_group_create *record)
{
	struct group_made made;
	int rc;

	rc = group_made_get(&asked->change.keeper->txn, record->user,
	    record->client_id_hash, &made);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return rc;
	if (made.request_hash != record->request_hash)
		return ERR_CONFLICT;
	asked->change.group.id = made.group;
	asked->change.seq = made.seq;
	asked->answer_id = made.group;
	return ERR_DUPLICATE;
}

static int
create(struct asked *asked, const struct record_group_create *record)
{
	struct group_change *change = &asked->change;
	struct group_made made = {.request_hash = record->request_hash};
	int rc;

	change->event = "CREATED";
	change->has_new_name = true;
	change->group.id = keeper_next_id(change->keeper);
	change->group.owner = record->user;
	asked->answer_id = change->group.id;
	rc = group_change_make(change);
	made.group = change->group.id;
	made.seq = change->seq;
	return rc == 0 ? group_made_put(&change->keeper->txn, record->user,
			     record->client_id_hash, &made)
		       : rc;
}

int
apply_group_create(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_group_create *record = payload;
	struct asked *asked = ask(keeper, from, payload);
	struct group_change *change = &asked->change;
	const uint64_t *members;
	struct record_cursor c;
	const char *name;
	int rc;

	if (record->member_count >= GROUP_MEMBERS_MAX ||
	    record->name_len == 0 || record->name_len > GROUP_NAME_MAX)
		return ERR_BAD_REQUEST;
	record_cursor_init(&c, record + 1, len - sizeof(*record));
	members = record_take(&c, record->member_count * sizeof(*members));
	name = record_take(&c, record->name_len);
	if (!record_is_whole(&c) ||
	    !is_ascending(members, record->member_count))
		return ERR_BAD_REQUEST;
	memcpy(change->group.name, name, record->name_len);
	change->group.name_len = record->name_len;
	change->added[change->added_count++] = record->user;
	for (uint32_t i = 0; i < record->member_count; i++) {
		if (members[i] == record->user)
			return ERR_BAD_REQUEST;
		change->added[change->added_count++] = members[i];
	}
	rc = ask_session(asked);
	if (rc == 0)
		rc = check_made(asked, record);
	if (rc == 0)
		rc = check_size(asked);
	if (rc == 0)
		rc = check_reach(asked, members, record->member_count);
	if (rc == 0)
		rc = check_group_counts(asked);
	if (rc == 0)
		rc = create(asked, record);
	return finish(asked, rc);
}

/* ---- P_UPDATE_GROUP ---- */

struct update {
	const struct record_group_update *record;
	const uint64_t *add;
	const uint64_t *remove;
	const struct group_role_change *roles;
	const char *name;
};

static bool
is_in_list(const uint64_t *users, size_t count, uint64_t user)
{
	for (size_t i = 0; i < count; i++) {
		if (users[i] == user)
			return true;
	}
	return false;
}

static bool
roles_are_sound(const struct update *update)
{
	const struct record_group_update *record = update->record;

	for (uint32_t i = 0; i < record->role_count; i++) {
		const struct group_role_change *role = &update->roles[i];

		if (role->role == ROLE_NONE || role->role >= ROLE_END ||
		    role->user == 0 || (i > 0 && role->user <= role[-1].user) ||
		    is_in_list(update->add, record->add_count, role->user) ||
		    is_in_list(
			update->remove, record->remove_count, role->user))
			return false;
	}
	return true;
}

static bool
update_parse(struct update *update, const void *payload, size_t len)
{
	const struct record_group_update *record = payload;
	struct record_cursor c;

	update->record = record;
	if (record->add_count > RECIPIENTS_MAX ||
	    record->remove_count > RECIPIENTS_MAX ||
	    record->role_count > RECIPIENTS_MAX ||
	    record->name_len > GROUP_NAME_MAX)
		return false;
	record_cursor_init(&c, record + 1, len - sizeof(*record));
	update->add = record_take(&c, record->add_count * sizeof(*update->add));
	update->remove =
	    record_take(&c, record->remove_count * sizeof(*update->remove));
	update->roles =
	    record_take(&c, record->role_count * sizeof(*update->roles));
	update->name = record_take(&c, record->name_len);
	if (!record_is_whole(&c) ||
	    !is_ascending(update->add, record->add_count) ||
	    !is_ascending(update->remove, record->remove_count))
		return false;
	for (uint32_t i = 0; i < record->remove_count; i++) {
		if (is_in_list(
			update->add, record->add_count, update->remove[i]))
			return false;
	}
	return roles_are_sound(update);
}

/* Who is not in the group learns nothing of it. */
static int
load_group(struct asked *asked, uint64_t id)
{
	struct txn *txn = &asked->change.keeper->txn;
	int rc;

	rc = group_get(txn, id, &asked->change.group);
	asked->change.group.id = id;
	return rc == 0 ? member_get(txn, id, asked->change.actor, &asked->self)
		       : rc;
}

static int
role_of(struct asked *asked, uint64_t user, enum group_role *role_out)
{
	struct member member;
	int rc;

	*role_out = ROLE_NONE;
	rc = member_get(
	    &asked->change.keeper->txn, asked->change.group.id, user, &member);
	if (rc == 0)
		*role_out = (enum group_role)member.row.role;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static bool
may(const struct asked *asked, enum group_operation operation,
    enum group_role target)
{
	return group_may(
	    operation, (enum group_role)asked->self.row.role, target);
}

static int
plan_name(struct asked *asked, const struct update *update)
{
	struct group *group = &asked->change.group;
	size_t len = update->record->name_len;

	if (len == 0 || (len == group->name_len &&
			    memcmp(group->name, update->name, len) == 0))
		return 0;
	if (!may(asked, GROUP_RENAME, ROLE_NONE))
		return ERR_FORBIDDEN;
	memcpy(group->name, update->name, len);
	group->name_len = len;
	asked->change.has_new_name = true;
	return 0;
}

static int
plan_remove(struct asked *asked, const struct update *update)
{
	struct group_change *change = &asked->change;
	enum group_role role;
	int rc;

	for (uint32_t i = 0; i < update->record->remove_count; i++) {
		rc = role_of(asked, update->remove[i], &role);
		if (rc != 0)
			return rc;
		if (role == ROLE_NONE)
			continue;
		if (!may(asked, GROUP_REMOVE, role))
			return ERR_FORBIDDEN;
		change->removed[change->removed_count++] = update->remove[i];
	}
	return 0;
}

static int
plan_add(struct asked *asked, const struct update *update)
{
	struct group_change *change = &asked->change;
	enum group_role role;
	int rc;

	for (uint32_t i = 0; i < update->record->add_count; i++) {
		rc = role_of(asked, update->add[i], &role);
		if (rc != 0)
			return rc;
		if (role != ROLE_NONE)
			continue;
		if (!may(asked, GROUP_ADD, ROLE_NONE))
			return ERR_FORBIDDEN;
		change->added[change->added_count++] = update->add[i];
	}
	rc = check_reach(asked, change->added, change->added_count);
	return rc == 0 ? check_group_counts(asked) : rc;
}

/* @return 0, ERR_CONFLICT: two owners */
static int
plan_owner(struct asked *asked)
{
	struct group_change *change = &asked->change;
	size_t count = 0;

	for (size_t i = 0; i < change->role_count; i++)
		count += change->roles[i].role == ROLE_OWNER;
	if (count == 1)
		change->roles[change->role_count++] =
		    (struct group_role_change){change->group.owner, ROLE_ADMIN};
	return count > 1 ? ERR_CONFLICT : 0;
}

static int
plan_roles(struct asked *asked, const struct update *update)
{
	struct group_change *change = &asked->change;
	enum group_role role;
	int rc;

	for (uint32_t i = 0; i < update->record->role_count; i++) {
		const struct group_role_change *wanted = &update->roles[i];

		rc = role_of(asked, wanted->user, &role);
		if (rc != 0)
			return rc;
		if (role == ROLE_NONE)
			note_unknown(asked, wanted->user);
		if (role == ROLE_NONE || role == wanted->role)
			continue;
		if (!may(asked, group_making((enum group_role)wanted->role),
			role))
			return ERR_FORBIDDEN;
		change->roles[change->role_count++] = *wanted;
	}
	return asked->unknown_count > 0 ? ERR_NOT_FOUND : plan_owner(asked);
}

static int
update(struct asked *asked, const struct update *update)
{
	struct group_change *change = &asked->change;
	int rc;

	rc = load_group(asked, update->record->group);
	if (rc == 0 && !member_is_in(&asked->self))
		rc = ERR_NOT_FOUND;
	if (rc == 0)
		rc = plan_name(asked, update);
	if (rc == 0)
		rc = plan_remove(asked, update);
	if (rc == 0)
		rc = plan_add(asked, update);
	/* what has become smaller since keeps nobody from taking somebody out
	 */
	if (rc == 0 && change->added_count > 0)
		rc = check_size(asked);
	if (rc == 0)
		rc = plan_roles(asked, update);
	if (rc != 0 || (!change->has_new_name && change->removed_count == 0 &&
			   change->added_count == 0 && change->role_count == 0))
		return rc;
	change->event = "UPDATED";
	rc = group_change_make(change);
	asked->answer_id = change->event_id;
	return rc;
}

int
apply_group_update(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	struct asked *asked = ask(keeper, from, payload);
	struct update wanted;
	int rc;

	if (!update_parse(&wanted, payload, len))
		return ERR_BAD_REQUEST;
	rc = ask_session(asked);
	if (rc == 0)
		rc = update(asked, &wanted);
	return finish(asked, rc);
}

/* ---- P_LEAVE_GROUP ---- */

int
apply_group_leave(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_group_leave *record = payload;
	struct asked *asked = ask(keeper, from, payload);
	int rc;

	(void)len;
	rc = ask_session(asked);
	if (rc == 0)
		rc = load_group(asked, record->group);
	/* Whoever has left has left: asked again, it is done. */
	if (rc == 0 && member_is_in(&asked->self)) {
		rc = group_change_leave(&asked->change);
		asked->answer_id = asked->change.event_id;
	}
	return finish(asked, rc);
}
