/*
 * group_change.c - a change of a group.
 *
 * Role:    rows of the group and its members, one row of the log that says what
 *          has happened, that in the inbox of everybody concerned, and what
 *          has changed in the outboxes.
 * Process: keeper, within a batch.
 * See:     doc/protocol.md: Groups; doc/decisions/019
 */
#include "keeper/group_change.h"

#include <string.h>

#include "base/json.h"
#include "keeper/fanout.h"
#include "shm/conv.h"
#include "shm/log.h"
#include "shm/outbox.h"

/* ---- rows ---- */

static enum group_role
role_of_new(const struct group_change *change, uint64_t user)
{
	return user == change->group.owner ? ROLE_OWNER : ROLE_MEMBER;
}

static int
join(struct group_change *change, uint64_t user, uint32_t count)
{
	struct group *group = &change->group;
	struct txn *txn = &change->keeper->txn;
	struct member member;
	int rc;

	rc = member_get(txn, group->id, user, &member);
	if (rc == ERR_NOT_FOUND) {
		member = (struct member){.group = group->id, .user = user};
		rc = 0;
	}
	if (rc != 0)
		return rc;
	member_join(
	    &member, role_of_new(change, user), change->event_id, count);
	group->member_count++;
	rc = member_put_new(txn, CONV_GROUP, &member);
	return rc == 0 ? group_count_change(txn, user, 1) : rc;
}

static int
take_out(struct group_change *change, uint64_t user, uint32_t count)
{
	struct txn *txn = &change->keeper->txn;
	struct member member;
	int rc;

	rc = member_get(txn, change->group.id, user, &member);
	if (rc != 0)
		return rc;
	member_leave(&member, change->event_id, count);
	change->group.member_count--;
	rc = member_put(txn, &member);
	return rc == 0 ? group_count_change(txn, user, -1) : rc;
}

static int
set_role(struct group_change *change, const struct group_role_change *role)
{
	struct txn *txn = &change->keeper->txn;
	struct member member;
	int rc;

	rc = member_get(txn, change->group.id, role->user, &member);
	if (rc != 0)
		return rc;
	member.row.role = (uint8_t)role->role;
	if (role->role == ROLE_OWNER)
		change->group.owner = role->user;
	return member_put(txn, &member);
}

/* The conversation of a new group has no row yet. */
static int
put_rows(struct group_change *change)
{
	struct txn *txn = &change->keeper->txn;
	struct conv conv = {0};
	struct conv_key key;
	int rc;

	conv_key_of(CONV_GROUP, change->group.id, &key);
	rc = conv_get(txn, &key, &conv);
	if (rc == ERR_NOT_FOUND) {
		conv.key = key;
		rc = conv_put(txn, &conv);
	}
	for (size_t i = 0; rc == 0 && i < change->removed_count; i++)
		rc = take_out(change, change->removed[i], conv.count);
	for (size_t i = 0; rc == 0 && i < change->added_count; i++)
		rc = join(change, change->added[i], conv.count);
	for (size_t i = 0; rc == 0 && i < change->role_count; i++)
		rc = set_role(change, &change->roles[i]);
	change->group.changed = change->event_id;
	return rc == 0 ? group_put(txn, &change->group) : rc;
}

/* ---- the event ---- */

static void
put_users(
    struct buf *out, const char *field, const uint64_t *users, size_t count)
{
	if (count == 0)
		return;
	json_key(out, field);
	json_array_begin(out);
	for (size_t i = 0; i < count; i++)
		json_u64(out, users[i]);
	json_array_end(out);
}

static void
put_roles(struct buf *out, const struct group_change *change)
{
	if (change->role_count == 0)
		return;
	json_key(out, "Role");
	json_array_begin(out);
	for (size_t i = 0; i < change->role_count; i++) {
		json_object_begin(out);
		json_put_u64(out, "UserId", change->roles[i].user);
		json_put_text(
		    out, "Role", group_role_name(change->roles[i].role));
		json_object_end(out);
	}
	json_array_end(out);
}

static void
make_body(struct buf *out, const struct group_change *change,
    const struct conv_key *conv)
{
	const struct group *group = &change->group;
	char text[CONV_TEXT_MAX];

	json_object_begin(out);
	json_put_id(out, "GroupId", group->id);
	json_put_text(out, "ConversationId", conv_key_format(conv, text));
	json_put_text(out, "Event", change->event);
	json_put_u64(out, "UserId", change->actor);
	json_put_string(out, "Name", group->name, group->name_len);
	json_put_u64(out, "OwnerId", group->owner);
	json_put_u64(out, "MemberCount", group->member_count);
	put_users(out, "Added", change->added, change->added_count);
	put_users(out, "Removed", change->removed, change->removed_count);
	put_roles(out, change);
	json_put_i64(out, "ServerTime", message_id_time_ms(change->event_id));
	json_object_end(out);
}

/* The actor's other devices; his reply stands for it on this one. */
static int
tell_actor(struct group_change *change, const struct fanout_event *event)
{
	struct userhead *head = change->head;
	int rc = 0;

	if (head == NULL)
		return 0;
	if (head->row.device_count > 1) {
		rc = fanout_put(change->keeper, head, event);
		change->seq = head->row.head;
	}
	return rc == 0 ? userhead_put(&change->keeper->txn, head) : rc;
}

static int
tell_removed(
    const struct group_change *change, const struct fanout_event *event)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < change->removed_count; i++) {
		if (change->removed[i] != change->actor)
			rc = fanout_put_user(
			    change->keeper, change->removed[i], event);
	}
	return rc;
}

static int
tell(struct group_change *change, struct log_message *row)
{
	const struct fanout_event event = {
	    .kind = EVENT_GROUP,
	    .row = row,
	    .except_session = change->session,
	};
	int rc;

	fanout_begin();
	rc = log_append(&change->keeper->txn, row);
	if (rc == 0)
		rc = fanout_put_roll(
		    change->keeper, change->actor, 0, &event, &change->told);
	change->told += change->removed_count;
	if (rc == 0)
		rc = tell_removed(change, &event);
	if (rc == 0)
		rc = tell_actor(change, &event);
	if (rc == 0)
		fanout_send(change->keeper, &event);
	return rc;
}

/* ---- for who is told outside ---- */

static int
note_name(const struct group_change *change)
{
	const struct group *group = &change->group;
	const struct outbox_entry entry = {
	    .kind = OUTBOX_GROUP,
	    .group = group->id,
	    .event = change->event_id,
	    .text = {group->name, group->name_len},
	};

	return keeper_outbox_put(change->keeper, &entry);
}

static int
note_member(
    const struct group_change *change, uint64_t user, enum group_role role)
{
	const struct outbox_entry entry = {
	    .kind = OUTBOX_MEMBER,
	    .group = change->group.id,
	    .event = change->event_id,
	    .user = user,
	    .role = role,
	};

	return keeper_outbox_put(change->keeper, &entry);
}

/* Everybody is in one list at most. */
static int
note(const struct group_change *change)
{
	int rc = change->has_new_name ? note_name(change) : 0;

	for (size_t i = 0; rc == 0 && i < change->removed_count; i++)
		rc = note_member(change, change->removed[i], ROLE_NONE);
	for (size_t i = 0; rc == 0 && i < change->added_count; i++)
		rc = note_member(change, change->added[i],
		    role_of_new(change, change->added[i]));
	for (size_t i = 0; rc == 0 && i < change->role_count; i++)
		rc = note_member(change, change->roles[i].user,
		    (enum group_role)change->roles[i].role);
	return rc;
}

int
group_change_make(struct group_change *change)
{
	struct buf body = {0};
	struct log_message row = {
	    .sender = change->actor,
	    .client_time_ms = INT64_MIN,
	    .kind = LOG_EVENT,
	};
	int rc;

	change->event_id = keeper_next_id(change->keeper);
	rc = put_rows(change);
	if (rc == 0) {
		row.id = change->event_id;
		conv_key_of(CONV_GROUP, change->group.id, &row.conv);
		make_body(&body, change, &row.conv);
		row.body = (struct blob){body.data, body.len};
		rc = tell(change, &row);
	}
	if (rc == 0)
		rc = note(change);
	buf_fini(&body);
	return rc;
}

/* ---- leaving ---- */

struct heir {
	uint64_t actor;
	struct member best;
};

static bool
is_before(const struct member *a, const struct member *b)
{
	if (a->row.role != b->row.role)
		return a->row.role > b->row.role;
	return a->spans[a->row.span_count - 1].from <
	       b->spans[b->row.span_count - 1].from;
}

static bool
look_for_heir(void *ctx, const struct member *member)
{
	struct heir *heir = ctx;

	if (member_is_in(member) && member->user != heir->actor &&
	    (heir->best.user == 0 || is_before(member, &heir->best)))
		heir->best = *member;
	return true;
}

int
group_change_leave(struct group_change *change)
{
	struct heir heir = {.actor = change->actor};
	int rc = 0;

	change->event = "LEFT";
	change->removed[change->removed_count++] = change->actor;
	if (change->group.owner == change->actor) {
		rc = member_each(&change->keeper->txn, change->group.id, 0,
		    look_for_heir, &heir);
		change->group.owner = 0;
		if (heir.best.user != 0)
			change->roles[change->role_count++] =
			    (struct group_role_change){
				heir.best.user, ROLE_OWNER};
	}
	return rc == 0 ? group_change_make(change) : rc;
}
