/*
 * group.c - groups and their members.
 *
 * Role:    one small row per group and per member; which part of the group's
 *          history is whose.
 * Process: keeper writes; reader threads of workers read.
 * Blocks:  on cold pages of the disk.
 * Trust:   counts and lengths are checked before anything is copied. A member
 *          whose row is damaged is left out of a walk, so that walks which must
 *          not miss anybody compare with the group's own count.
 * See:     group.h, store_schema.h, doc/decisions/019, t/unit/store_group.c.
 */
#include "shm/group.h"

#include <string.h>

#include "base/log.h"

#define MEMBER_KEY_LEN (2 * sizeof(uint64_t))
#define MADE_KEY_LEN   (sizeof(uint64_t) + 16)

const char *
group_role_name(unsigned role)
{
	static const char *const names[ROLE_END] = {
	    [ROLE_NONE] = "NONE",
	    [ROLE_MEMBER] = "MEMBER",
	    [ROLE_ADMIN] = "ADMIN",
	    [ROLE_OWNER] = "OWNER",
	};

	return role < ROLE_END ? names[role] : names[ROLE_NONE];
}

/* ---- groups ---- */

int
group_get(struct txn *txn, uint64_t id, struct group *out)
{
	struct group_row row;
	struct blob value;
	int rc;

	rc = txn_get(txn, DBI_groups, &id, sizeof(id), &value);
	if (rc != 0)
		return rc;
	if (value.len < sizeof(row))
		goto corrupt;
	memcpy(&row, value.data, sizeof(row));
	if (row.name_len > sizeof(out->name) ||
	    row.member_count > GROUP_MEMBERS_MAX ||
	    value.len != sizeof(row) + row.name_len)
		goto corrupt;
	*out = (struct group){
	    .id = id,
	    .owner = row.owner,
	    .changed = row.changed,
	    .member_count = row.member_count,
	    .name_len = row.name_len,
	};
	memcpy(
	    out->name, (const uint8_t *)value.data + sizeof(row), row.name_len);
	return 0;
corrupt:
	log_error(NULL, "store-corrupt", "row=groups group=%llu length=%zu",
	    (unsigned long long)id, value.len);
	return ERR_CORRUPT;
}

int
group_put(struct txn *txn, const struct group *group)
{
	struct group_row row = {
	    .owner = group->owner,
	    .changed = group->changed,
	    .member_count = group->member_count,
	    .name_len = (uint16_t)group->name_len,
	};
	const struct blob key = {&group->id, sizeof(group->id)};
	const struct blob head = {&row, sizeof(row)};
	const struct blob name = {group->name, group->name_len};

	return txn_put_parts(txn, DBI_groups, &key, &head, &name);
}

/* ---- members ---- */

static void
member_key(uint8_t out[MEMBER_KEY_LEN], uint64_t group, uint64_t user)
{
	key_u64(out, group);
	key_u64(out + sizeof(uint64_t), user);
}

/* @return false: its lengths do not fit */
static bool
member_decode(
    const struct blob *key, const struct blob *value, struct member *out)
{
	size_t spans_len;

	if (key->len != MEMBER_KEY_LEN || value->len < sizeof(out->row))
		return false;
	out->group = key_get_u64(key->data);
	out->user = key_get_u64((const uint8_t *)key->data + sizeof(uint64_t));
	memcpy(&out->row, value->data, sizeof(out->row));
	if (out->row.span_count == 0 ||
	    out->row.span_count > MEMBER_SPANS_MAX || out->row.role >= ROLE_END)
		return false;
	spans_len = out->row.span_count * sizeof(out->spans[0]);
	if (value->len != sizeof(out->row) + spans_len)
		return false;
	memcpy(out->spans, (const uint8_t *)value->data + sizeof(out->row),
	    spans_len);
	return true;
}

static int
member_damaged(uint64_t group, uint64_t user)
{
	log_error(NULL, "store-corrupt", "row=member group=%llu user=%llu",
	    (unsigned long long)group, (unsigned long long)user);
	return ERR_CORRUPT;
}

int
member_get(struct txn *txn, uint64_t group, uint64_t user, struct member *out)
{
	uint8_t key[MEMBER_KEY_LEN];
	struct blob value;
	int rc;

	member_key(key, group, user);
	rc = txn_get(txn, DBI_member, key, sizeof(key), &value);
	if (rc != 0)
		return rc;
	if (!member_decode(&(struct blob){key, sizeof(key)}, &value, out))
		return member_damaged(group, user);
	return 0;
}

int
member_put(struct txn *txn, const struct member *member)
{
	uint8_t key[MEMBER_KEY_LEN];
	const struct blob key_blob = {key, sizeof(key)};
	const struct blob row = {&member->row, sizeof(member->row)};
	const struct blob spans = {
	    member->spans, member->row.span_count * sizeof(member->spans[0])};

	member_key(key, member->group, member->user);
	return txn_put_parts(txn, DBI_member, &key_blob, &row, &spans);
}

int
member_put_new(
    struct txn *txn, enum conv_kind kind, const struct member *member)
{
	struct conv_key conv;
	int rc = member_put(txn, member);

	conv_key_of(kind, member->group, &conv);
	return rc == 0 ? conv_list_put(txn, member->user, &conv) : rc;
}

int
member_delete(struct txn *txn, const struct conv_key *conv, uint64_t user)
{
	uint8_t list_key[sizeof(uint64_t) + sizeof(*conv)];
	uint8_t key[MEMBER_KEY_LEN];
	int rc;

	key_u64(list_key, user);
	memcpy(list_key + sizeof(uint64_t), conv->bytes, sizeof(conv->bytes));
	rc = txn_del(txn, DBI_userconv, list_key, sizeof(list_key));
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	member_key(key, conv_key_id(conv), user);
	return txn_del(txn, DBI_member, key, sizeof(key));
}

bool
member_is_in(const struct member *member)
{
	return member->row.role != ROLE_NONE;
}

bool
member_sees(const struct member *member, uint64_t message_id)
{
	for (int i = 0; i < member->row.span_count; i++) {
		if (message_id > member->spans[i].from &&
		    message_id < member->spans[i].upto)
			return true;
	}
	return false;
}

uint64_t
member_last(const struct member *member, uint64_t last_id)
{
	const struct member_span *span =
	    &member->spans[member->row.span_count - 1];

	if (last_id <= span->from)
		return span->from;
	return last_id < span->upto ? last_id : span->upto;
}

void
member_join(
    struct member *member, enum group_role role, uint64_t at, uint32_t count)
{
	struct member_row *row = &member->row;

	/* Of one who comes and goes the oldest times are forgotten. */
	if (row->span_count == MEMBER_SPANS_MAX) {
		memmove(member->spans, member->spans + 1,
		    (MEMBER_SPANS_MAX - 1) * sizeof(member->spans[0]));
		row->span_count--;
	}
	member->spans[row->span_count++] =
	    (struct member_span){.from = at, .upto = UINT64_MAX};
	row->role = (uint8_t)role;
	row->read_position = count;
	row->left_position = 0;
	row->own = 0;
}

void
member_leave(struct member *member, uint64_t at, uint32_t count)
{
	member->spans[member->row.span_count - 1].upto = at;
	member->row.role = ROLE_NONE;
	member->row.left_position = count;
}

void
member_wrote(struct member *member)
{
	member->row.own++;
}

uint32_t
member_unread(const struct member *member, uint32_t count)
{
	const struct member_row *row = &member->row;
	uint32_t last = member_is_in(member) ? count : row->left_position;
	uint32_t seen = row->read_position + row->own;

	return last > seen ? last - seen : 0;
}

int
member_mark_read(struct txn *txn, const struct conv *conv,
    struct member *member, uint64_t message_id)
{
	uint32_t before = member_unread(member, conv->count);
	struct log_message mark;
	uint32_t after;
	bool is_on;
	int rc;

	if (message_id <= member->row.read)
		return ERR_DUPLICATE;
	if (!member_sees(member, message_id))
		return ERR_NOT_FOUND;
	rc = log_get(txn, message_id, &mark);
	if (rc == 0 && (mark.kind != LOG_MESSAGE ||
			   !conv_key_equal(&mark.conv, &conv->key)))
		rc = ERR_NOT_FOUND;
	/* of an older time than the last one: nothing of this one is read */
	is_on = rc == 0 && mark.position > member->row.read_position;
	if (is_on)
		rc = conv_count_own(txn, conv, member->user, &mark,
		    member->row.read_position, &member->row.own);
	if (rc != 0)
		return rc;
	member->row.read = message_id;
	if (member->row.delivered < message_id)
		member->row.delivered = message_id;
	if (!is_on)
		return 0;
	member->row.read_position = mark.position;
	/* Reading on never makes more unread, though the walk may guess so. */
	after = member_unread(member, conv->count);
	if (after > before)
		member->row.own += after - before;
	return 0;
}

int
member_each(struct txn *txn, uint64_t group, uint64_t above,
    bool (*fn)(void *ctx, const struct member *member), void *ctx)
{
	uint8_t start[MEMBER_KEY_LEN];
	struct member member;
	struct walk walk;
	int rc;

	if (above >= USER_ID_MAX)
		return 0;
	member_key(start, group, above + 1);
	rc = walk_begin(&walk, txn, DBI_member, start, sizeof(start));
	while (rc == 0) {
		if (walk.key.len != sizeof(start) ||
		    memcmp(walk.key.data, start, sizeof(group)) != 0)
			break;
		if (!member_decode(&walk.key, &walk.value, &member)) {
			rc = member_damaged(group, 0);
			break;
		}
		if (!fn(ctx, &member))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

struct roll {
	uint64_t *users;
	size_t count; /* of users */
	uint64_t seen;
	uint32_t member_count;
};

static bool
call_roll(void *ctx, const struct member *member)
{
	struct roll *roll = ctx;

	if (!member_is_in(member))
		return true;
	if (++roll->member_count > GROUP_MEMBERS_MAX)
		return false;
	if (roll->seen == 0 || member_sees(member, roll->seen))
		roll->users[roll->count++] = member->user;
	return true;
}

int
group_users(struct txn *txn, const struct group *group, uint64_t seen,
    uint64_t users[GROUP_MEMBERS_MAX], size_t *count_out)
{
	struct roll roll = {.users = users, .seen = seen};
	int rc = member_each(txn, group->id, 0, call_roll, &roll);

	*count_out = roll.count;
	if (rc == 0 && roll.member_count != group->member_count) {
		log_error(NULL, "store-corrupt",
		    "row=groups group=%llu members=%u rows=%u; nothing is "
		    "sent to some of a group",
		    (unsigned long long)group->id, group->member_count,
		    roll.member_count);
		rc = ERR_CORRUPT;
	}
	return rc;
}

/* ---- the groups of one user ---- */

int
group_count_get(struct txn *txn, uint64_t user, uint32_t *count_out)
{
	int rc;

	*count_out = 0;
	rc = txn_get_fixed(txn, DBI_groupcount, &user, sizeof(user), count_out,
	    sizeof(*count_out));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
group_count_change(struct txn *txn, uint64_t user, int by)
{
	uint32_t count;
	int rc = group_count_get(txn, user, &count);

	/* It bounds, no more: a damaged one keeps nobody from leaving. */
	if (rc == ERR_CORRUPT && txn->rc == 0)
		count = 0;
	else if (rc != 0)
		return rc;
	count = by < 0 && count == 0 ? 0 : count + (uint32_t)by;
	if (count > 0)
		return txn_put(txn, DBI_groupcount, &user, sizeof(user), &count,
		    sizeof(count));
	rc = txn_del(txn, DBI_groupcount, &user, sizeof(user));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- the history of one member ---- */

/* Is there one more of this time of his behind a full page? */
static int
look_behind(struct txn *txn, const struct conv *conv,
    const struct member_span *span, bool is_up, struct conv_page *page)
{
	uint64_t last = page->ids[page->count - 1];
	uint64_t id = 0;
	struct conv_page next = {.ids = &id};
	int rc;

	rc = conv_page(txn, conv, is_up ? 0 : last, is_up ? last : 0, 1, &next);
	page->has_more = next.count > 0 && id > span->from && id < span->upto;
	return rc;
}

/* One time of his. */
static int
span_page(struct txn *txn, const struct conv *conv,
    const struct member_span *span, const struct conv_range *range,
    struct conv_page *page)
{
	bool is_up = range->after != 0;
	uint64_t before = range->before;
	uint64_t after = range->after;
	int rc;

	if (is_up && after < span->from)
		after = span->from;
	if (!is_up && (before == 0 || before > span->upto))
		before = span->upto == UINT64_MAX ? 0 : span->upto;
	if (after >= span->upto || (before != 0 && before <= span->from))
		return 0;
	rc = conv_page(txn, conv, before, after, range->limit, page);
	while (rc == 0 && page->count > 0 &&
	       (page->ids[page->count - 1] <= span->from ||
		   page->ids[page->count - 1] >= span->upto)) {
		page->count--;
		page->has_more = false;
	}
	if (rc == 0 && page->has_more && page->count > 0)
		rc = look_behind(txn, conv, span, is_up, page);
	return rc;
}

int
member_page(struct txn *txn, const struct conv *conv,
    const struct member *member, const struct conv_range *range,
    struct conv_page *page)
{
	int count = member->row.span_count;
	uint64_t probe;
	int rc = 0;

	page->count = 0;
	page->has_more = false;
	page->damaged = 0;
	for (int i = 0; rc == 0 && i < count && !page->has_more; i++) {
		bool is_up = range->after != 0;
		size_t left = range->limit - page->count;
		struct conv_range rest = *range;
		/* with a full page: is there anything in the next one? */
		struct conv_page part = {
		    .ids = left > 0 ? page->ids + page->count : &probe};

		rest.limit = left > 0 ? left : 1;
		rc = span_page(txn, conv,
		    &member->spans[is_up ? i : count - 1 - i], &rest, &part);
		if (left > 0)
			page->count += part.count;
		page->has_more = part.has_more || (left == 0 && part.count > 0);
		page->damaged += left > 0 ? part.damaged : 0;
	}
	return rc;
}

/* ---- what a ClientGroupId has made ---- */

static void
made_key(uint8_t out[MADE_KEY_LEN], uint64_t user, const uint8_t hash[16])
{
	key_u64(out, user);
	memcpy(out + sizeof(uint64_t), hash, 16);
}

int
group_made_get(struct txn *txn, uint64_t user, const uint8_t hash[16],
    struct group_made *out)
{
	uint8_t key[MADE_KEY_LEN];

	made_key(key, user, hash);
	return txn_get_fixed(
	    txn, DBI_groupmade, key, sizeof(key), out, sizeof(*out));
}

int
group_made_put(struct txn *txn, uint64_t user, const uint8_t hash[16],
    const struct group_made *made)
{
	uint8_t key[MADE_KEY_LEN];

	made_key(key, user, hash);
	return txn_put(
	    txn, DBI_groupmade, key, sizeof(key), made, sizeof(*made));
}
