/*
 * verify_group.c - rows of groups and of their members, judged.
 *
 * Role:    a group has a conversation, an owner, and as many members as it
 *          says; a member has a group, or a call in which somebody has written,
 *          and that is in his list.
 * Process: parleyctl check; offline checks.
 * Blocks:  on the disk.
 * Trust:   none, see verify.c.
 * See:     store_schema.h (the rows), group.h, t/unit/store_group.c.
 */
#include <string.h>

#include "shm/call.h"
#include "shm/group.h"
#include "shm/verify_priv.h"

bool
verify_is_of(struct row *row, struct conv *conv, uint64_t user)
{
	struct member member;

	if (!conv_key_has_seats(&conv->key))
		return conv_member(conv, user) != NULL;
	return member_get(row->txn, conv_key_id(&conv->key), user, &member) ==
	       0;
}

static bool
count_member(void *ctx, const struct member *member)
{
	uint32_t *count = ctx;

	if (member_is_in(member))
		++*count;
	return true;
}

static const char *
check_owner(struct row *row, const struct group *group)
{
	struct member owner;

	if ((group->owner == 0) != (group->member_count == 0))
		return "it has members and no owner, or an owner alone";
	if (group->owner == 0)
		return NULL;
	if (member_get(row->txn, group->id, group->owner, &owner) != 0 ||
	    owner.row.role != ROLE_OWNER)
		return "its owner does not know of it";
	return NULL;
}

const char *
check_groups(struct row *row)
{
	struct conv_key key;
	struct group group;
	struct conv conv;
	uint32_t count = 0;
	uint64_t id;

	if (row->walk->key.len != sizeof(id))
		return "its key has a wrong length";
	memcpy(&id, row->walk->key.data, sizeof(id));
	if (group_get(row->txn, id, &group) != 0)
		return "its length does not fit";
	if (row->last_id != 0 &&
	    (id > row->last_id || group.changed > row->last_id))
		return "its id has not been given out yet";
	conv_key_of(CONV_GROUP, id, &key);
	if (conv_get(row->txn, &key, &conv) != 0)
		return "its conversation is not there";
	if (member_each(row->txn, id, 0, count_member, &count) != 0 ||
	    count != group.member_count)
		return "it has another number of members than it says";
	return check_owner(row, &group);
}

/* @param newest  the last event of the group, or the last id of all */
static const char *
check_spans(const struct member *member, uint64_t newest)
{
	uint64_t last = 0;

	for (int i = 0; i < member->row.span_count; i++) {
		const struct member_span *span = &member->spans[i];
		bool is_open = span->upto == UINT64_MAX;

		if (span->from <= last || span->upto <= span->from ||
		    (!is_open && span->upto > newest))
			return "its times in the group are not in order";
		if (is_open !=
		    (i + 1 == member->row.span_count && member_is_in(member)))
			return "its times in the group do not fit its role";
		last = span->upto;
	}
	return NULL;
}

static const char *
check_listed(struct row *row, const struct member *member, enum conv_kind kind)
{
	uint8_t list_key[sizeof(uint64_t) + sizeof(struct conv_key)];
	struct conv_key conv;
	struct blob value;

	conv_key_of(kind, member->group, &conv);
	key_u64(list_key, member->user);
	memcpy(list_key + sizeof(uint64_t), conv.bytes, sizeof(conv.bytes));
	return txn_get(row->txn, DBI_userconv, list_key, sizeof(list_key),
		   &value) == 0
		   ? NULL
		   : "its group or call is not in its user's list";
}

/* Of a call, which may be gone while something that was said in it is left. */
static const char *
check_call_member(struct row *row, const struct member *member)
{
	const char *what = check_listed(row, member, CONV_COLLABORATION);
	const struct call_part *part = NULL;
	struct conv_key key;
	struct call call;
	struct conv conv;
	int rc;

	conv_key_of(CONV_COLLABORATION, member->group, &key);
	if (what != NULL || conv_get(row->txn, &key, &conv) != 0)
		return "its group or call is not there";
	rc = call_get(row->txn, member->group, &call);
	if (rc == 0)
		part = call_find_part(&call, member->user);
	if (rc == 0 && part == NULL)
		return "its user is no participant of the call";
	if (member_is_in(member) != (part != NULL && call_part_is_in(part)))
		return "its call does not agree on who is in it";
	if (member_is_in(member) && member->row.role != ROLE_MEMBER)
		return "it has a role in a call";
	return check_spans(
	    member, row->last_id != 0 ? row->last_id : UINT64_MAX - 1);
}

const char *
check_member(struct row *row)
{
	const uint8_t *key = row->walk->key.data;
	struct member member;
	struct group group;
	const char *what;

	if (row->walk->key.len != 2 * sizeof(uint64_t))
		return "its key has a wrong length";
	if (member_get(row->txn, key_get_u64(key),
		key_get_u64(key + sizeof(uint64_t)), &member) != 0)
		return "its length does not fit";
	if (group_get(row->txn, member.group, &group) != 0)
		return check_call_member(row, &member);
	if (member.row.role == ROLE_OWNER && group.owner != member.user)
		return "its group has another owner";
	what = check_listed(row, &member, CONV_GROUP);
	return what != NULL ? what : check_spans(&member, group.changed);
}

const char *
check_groupmade(struct row *row)
{
	const uint8_t *key = row->walk->key.data;
	struct group_made made;
	struct group group;

	if (row->walk->key.len != sizeof(uint64_t) + 16 ||
	    group_made_get(
		row->txn, key_get_u64(key), key + sizeof(uint64_t), &made) != 0)
		return "its length does not fit";
	return group_get(row->txn, made.group, &group) != 0
		   ? "its group is not there"
		   : NULL;
}

const char *
check_groupcount(struct row *row)
{
	uint32_t count;

	if (row->walk->key.len != sizeof(uint64_t) ||
	    row->walk->value.len != sizeof(count))
		return "its length does not fit";
	memcpy(&count, row->walk->value.data, sizeof(count));
	return count == 0 ? "it counts nothing" : NULL;
}

const char *
check_leaving(struct row *row)
{
	return row->walk->key.len != sizeof(uint64_t) ||
		       row->walk->value.len != sizeof(struct conv_key)
		   ? "its length does not fit"
		   : NULL;
}
