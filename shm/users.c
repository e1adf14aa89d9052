/*
 * users.c - the embedded directory's users, and who is in whose list.
 *
 * Role:    rows of users and contact; a contact row holds both directions, so
 *          that one look-up answers every question about two people.
 * Process: keeper writes; directory, workers and console read.
 * Blocks:  on cold pages of the disk.
 * Trust:   lengths are checked; a row that does not fit is corrupt.
 * See:     users.h, t/unit/store_users.c.
 */
#include "shm/users.h"

#include <string.h>

#include "base/log.h"

#define CONTACT_KEY_LEN 16

static int
user_decode(uint64_t id, const struct blob *value, struct user *out)
{
	struct user_row row;
	const uint8_t *at;

	if (value->len < sizeof(row))
		goto corrupt;
	memcpy(&row, value->data, sizeof(row));
	if (value->len != sizeof(row) + row.name_len + row.password_len +
			      row.role_len + row.profile_len)
		goto corrupt;
	at = (const uint8_t *)value->data + sizeof(row);
	out->id = id;
	out->created_ms = row.created_ms;
	out->name = (struct blob){at, row.name_len};
	at += row.name_len;
	out->password = (struct blob){at, row.password_len};
	at += row.password_len;
	out->role = (struct blob){at, row.role_len};
	at += row.role_len;
	out->profile = (struct blob){at, row.profile_len};
	return 0;
corrupt:
	log_error(NULL, "store-corrupt", "row=users user=%llu",
	    (unsigned long long)id);
	return ERR_CORRUPT;
}

int
users_get(struct txn *txn, uint64_t id, struct user *out)
{
	struct blob value;
	int rc;

	rc = txn_get(txn, DBI_users, &id, sizeof(id), &value);
	if (rc != 0)
		return rc;
	return user_decode(id, &value, out);
}

static bool
is_same(const struct blob *a, const struct blob *b)
{
	return a->len == b->len &&
	       (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

bool
user_looks_like(const struct user *user, const struct user *other)
{
	return is_same(&user->name, &other->name) &&
	       is_same(&user->role, &other->role) &&
	       is_same(&user->profile, &other->profile);
}

int
users_put(struct txn *txn, const struct user *user)
{
	const struct blob parts[] = {
	    user->name, user->password, user->role, user->profile};
	struct user_row row = {
	    .created_ms = user->created_ms,
	    .name_len = (uint16_t)user->name.len,
	    .password_len = (uint16_t)user->password.len,
	    .role_len = (uint16_t)user->role.len,
	    .profile_len = (uint16_t)user->profile.len,
	};
	uint8_t value[8 * 1024];
	size_t len = sizeof(row);

	/* Built apart: the parts may point at the row that is replaced. */
	memcpy(value, &row, sizeof(row));
	for (size_t i = 0; i < 4; i++) {
		if (len + parts[i].len > sizeof(value))
			return ERR_TOO_LARGE;
		if (parts[i].len > 0)
			memcpy(value + len, parts[i].data, parts[i].len);
		len += parts[i].len;
	}
	return txn_put(txn, DBI_users, &user->id, sizeof(user->id), value, len);
}

int
users_delete(struct txn *txn, uint64_t id)
{
	return txn_del(txn, DBI_users, &id, sizeof(id));
}

int
users_each(struct txn *txn, uint64_t above,
    bool (*fn)(void *ctx, const struct user *user), void *ctx)
{
	uint64_t start = above + 1;
	struct walk walk;
	struct user user;
	uint64_t id;
	int rc;

	if (above >= USER_ID_MAX)
		return 0;
	rc = walk_begin(&walk, txn, DBI_users, &start, sizeof(start));
	while (rc == 0) {
		memcpy(&id, walk.key.data, sizeof(id));
		rc = user_decode(id, &walk.value, &user);
		if (rc != 0 || !fn(ctx, &user))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static void
contact_key(uint8_t out[CONTACT_KEY_LEN], uint64_t user, uint64_t other)
{
	key_u64(out, user);
	key_u64(out + sizeof(uint64_t), other);
}

static int
contact_put(struct txn *txn, uint64_t user, uint64_t other, uint32_t flags)
{
	uint8_t key[CONTACT_KEY_LEN];
	int rc;

	contact_key(key, user, other);
	if (flags != 0)
		return txn_put(
		    txn, DBI_contact, key, sizeof(key), &flags, sizeof(flags));
	rc = txn_del(txn, DBI_contact, key, sizeof(key));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
contact_get(struct txn *txn, uint64_t user, uint64_t other, uint32_t *flags_out)
{
	uint8_t key[CONTACT_KEY_LEN];
	int rc;

	*flags_out = 0;
	contact_key(key, user, other);
	rc = txn_get_fixed(
	    txn, DBI_contact, key, sizeof(key), flags_out, sizeof(*flags_out));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

uint32_t
contact_mirror(uint32_t flags)
{
	uint32_t m = flags & CONTACT_TALKED;

	if (flags & CONTACT_LISTED)
		m |= CONTACT_LISTED_BY;
	if (flags & CONTACT_LISTED_BY)
		m |= CONTACT_LISTED;
	if (flags & CONTACT_BLOCKING)
		m |= CONTACT_BLOCKED_BY;
	if (flags & CONTACT_BLOCKED_BY)
		m |= CONTACT_BLOCKING;
	return m;
}

int
contact_change(struct txn *txn, uint64_t user, uint64_t other, uint32_t set,
    uint32_t clear)
{
	uint32_t flags;
	int rc;

	rc = contact_get(txn, user, other, &flags);
	if (rc != 0)
		return rc;
	flags = (flags & ~clear) | set;
	rc = contact_put(txn, user, other, flags);
	if (rc == 0 && user != other)
		rc = contact_put(txn, other, user, contact_mirror(flags));
	return rc;
}

int
contact_each(struct txn *txn, uint64_t user, uint64_t above,
    bool (*fn)(void *ctx, uint64_t other, uint32_t flags), void *ctx)
{
	uint8_t start[CONTACT_KEY_LEN];
	struct walk walk;
	uint32_t flags;
	int rc;

	if (above >= USER_ID_MAX)
		return 0;
	contact_key(start, user, above + 1);
	rc = walk_begin(&walk, txn, DBI_contact, start, sizeof(start));
	while (rc == 0) {
		if (walk.key.len != sizeof(start) ||
		    memcmp(walk.key.data, start, sizeof(uint64_t)) != 0)
			break;
		if (walk.value.len != sizeof(flags)) {
			rc = ERR_CORRUPT;
			break;
		}
		memcpy(&flags, walk.value.data, sizeof(flags));
		if (!fn(ctx, key_get_u64((const uint8_t *)walk.key.data + 8),
			flags))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

bool
contact_is_listed(uint32_t flags)
{
	/* Who blocks me looks like one who does not exist. */
	return (flags & (CONTACT_LISTED | CONTACT_TALKED)) != 0 &&
	       (flags & CONTACT_BLOCKED_BY) == 0;
}

bool
contact_is_watched_by(uint32_t flags)
{
	return (flags & (CONTACT_LISTED_BY | CONTACT_TALKED)) != 0 &&
	       (flags & CONTACT_BLOCKING) == 0;
}

bool
contact_may_write(uint32_t flags)
{
	return (flags & (CONTACT_LISTED | CONTACT_TALKED)) != 0 &&
	       (flags & CONTACT_BLOCKED_BY) == 0;
}
