/*
 * conv.c - conversations.
 *
 * Role:    the head row with its members; the chain of messages goes back
 *          through log_row.prev, convindex has every 64th so that no page
 *          walks far.
 * Process: keeper writes; reader threads of workers page.
 * Blocks:  on cold pages of the disk: a page of messages walks up to 64 rows
 *          beyond its own.
 * Trust:   lengths are checked; what the chain leads to is served only if its
 *          row passes its check and names this conversation.
 * See:     conv.h, t/unit/store_conv.c (a naive model).
 */
#include "shm/conv.h"

#include <string.h>

#include "base/log.h"

/* More than this is not walked to count what is unread among many. */
#define UNREAD_WALK_MAX 1000

#define CONV_INDEX_KEY_LEN (sizeof(struct conv_key) + sizeof(uint32_t))

static void
index_key(uint8_t out[CONV_INDEX_KEY_LEN], const struct conv_key *key,
    uint32_t bucket)
{
	memcpy(out, key->bytes, sizeof(key->bytes));
	key_u32(out + sizeof(key->bytes), bucket);
}

int
conv_get(struct txn *txn, const struct conv_key *key, struct conv *out)
{
	struct conv_row row;
	struct blob value;
	int rc;

	rc = txn_get(txn, DBI_conv, key->bytes, sizeof(key->bytes), &value);
	if (rc != 0)
		return rc;
	if (value.len < sizeof(row))
		goto corrupt;
	memcpy(&row, value.data, sizeof(row));
	if (row.member_count == 0 || row.member_count > MEMBERS_MAX ||
	    value.len !=
		sizeof(row) + row.member_count * sizeof(struct conv_member))
		goto corrupt;
	out->key = *key;
	out->last_id = row.last_id;
	out->count = row.count;
	out->member_count = row.member_count;
	memcpy(out->members, (const uint8_t *)value.data + sizeof(row),
	    row.member_count * sizeof(struct conv_member));
	return 0;
corrupt:
	log_error(NULL, "store-corrupt", "row=conv length=%zu", value.len);
	return ERR_CORRUPT;
}

int
conv_put(struct txn *txn, const struct conv *conv)
{
	struct conv_row row = {
	    .last_id = conv->last_id,
	    .count = conv->count,
	    .member_count = conv->member_count,
	};
	size_t members_len = conv->member_count * sizeof(struct conv_member);
	void *room;
	int rc;

	rc = txn_reserve(txn, DBI_conv, conv->key.bytes,
	    sizeof(conv->key.bytes), sizeof(row) + members_len, &room);
	if (rc != 0)
		return rc;
	memcpy(room, &row, sizeof(row));
	memcpy((uint8_t *)room + sizeof(row), conv->members, members_len);
	return 0;
}

int
conv_create(struct txn *txn, const struct conv_key *key,
    const uint64_t *members, size_t count, struct conv *out)
{
	uint8_t list_key[sizeof(uint64_t) + sizeof(struct conv_key)];
	int rc = 0;

	*out = (struct conv){.key = *key, .member_count = (uint32_t)count};
	for (size_t i = 0; rc == 0 && i < count; i++) {
		out->members[i].user = members[i];
		key_u64(list_key, members[i]);
		memcpy(list_key + sizeof(uint64_t), key->bytes,
		    sizeof(key->bytes));
		rc = txn_put(
		    txn, DBI_userconv, list_key, sizeof(list_key), "", 0);
	}
	return rc;
}

struct conv_member *
conv_member(struct conv *conv, uint64_t user)
{
	for (uint32_t i = 0; i < conv->member_count; i++) {
		if (conv->members[i].user == user)
			return &conv->members[i];
	}
	return NULL;
}

int
conv_add_message(
    struct txn *txn, struct conv *conv, struct log_message *message)
{
	uint8_t key[CONV_INDEX_KEY_LEN];

	message->prev = conv->last_id;
	message->position = ++conv->count;
	conv->last_id = message->id;
	for (uint32_t i = 0; i < conv->member_count; i++) {
		struct conv_member *member = &conv->members[i];

		if (member->user == message->sender)
			member->sent++;
		else
			member->unread++;
	}
	message->lower_count = conv->members[0].sent;
	if (message->position % CONV_INDEX_STEP != 0)
		return 0;
	index_key(key, &conv->key, message->position / CONV_INDEX_STEP);
	return txn_put(txn, DBI_convindex, key, sizeof(key), &message->id,
	    sizeof(message->id));
}

/* A message that belongs to this conversation, or ERR_NOT_FOUND. */
static int
get_own(struct txn *txn, const struct conv *conv, uint64_t id,
    struct log_message *out)
{
	int rc;

	rc = log_get(txn, id, out);
	if (rc == 0 && !conv_key_equal(&out->conv, &conv->key))
		rc = ERR_NOT_FOUND;
	return rc;
}

/*
 * Among many people: count back from the end, at most UNREAD_WALK_MAX; what
 * lies further back is taken to be from others.
 */
static int
count_unread_walking(struct txn *txn, const struct conv *conv, uint64_t user,
    const struct log_message *mark, uint32_t *unread_out)
{
	uint32_t total = conv->count - mark->position;
	uint32_t own = 0;
	uint64_t id = conv->last_id;
	struct log_message m;
	int rc;

	for (int i = 0; id > mark->id && i < UNREAD_WALK_MAX; i++) {
		rc = get_own(txn, conv, id, &m);
		if (rc == ERR_NOT_FOUND)
			break; /* retention was here */
		if (rc != 0)
			return rc;
		if (m.sender == user)
			own++;
		id = m.prev;
	}
	*unread_out = total - own;
	return 0;
}

int
conv_mark_read(struct txn *txn, struct conv *conv, struct conv_member *member,
    uint64_t message_id)
{
	struct log_message mark;
	uint32_t unread;
	uint32_t upto;
	int rc;

	if (message_id <= member->read)
		return ERR_DUPLICATE;
	rc = get_own(txn, conv, message_id, &mark);
	if (rc != 0)
		return rc;
	if (conv->member_count == 2) {
		const struct conv_member *other =
		    &conv->members[member == &conv->members[0]];

		upto = member == &conv->members[0]
			   ? mark.position - mark.lower_count
			   : mark.lower_count;
		unread = other->sent - upto;
	} else {
		rc = count_unread_walking(
		    txn, conv, member->user, &mark, &unread);
		if (rc != 0)
			return rc;
	}
	/* Reading on never makes more unread, though the walk may guess so. */
	if (unread < member->unread)
		member->unread = unread;
	member->read = message_id;
	if (member->delivered < message_id)
		member->delivered = message_id;
	return 0;
}

static int
index_get(
    struct txn *txn, const struct conv *conv, uint32_t bucket, uint64_t *id_out)
{
	uint8_t key[CONV_INDEX_KEY_LEN];
	struct blob value;
	int rc;

	index_key(key, &conv->key, bucket);
	rc = txn_get(txn, DBI_convindex, key, sizeof(key), &value);
	if (rc != 0)
		return rc;
	if (value.len != sizeof(*id_out))
		return ERR_CORRUPT;
	memcpy(id_out, value.data, sizeof(*id_out));
	return 0;
}

/* Smallest indexed id >= id, or the end of the conversation: where a walk
 * back towards id begins. */
static int
index_at_or_above(
    struct txn *txn, const struct conv *conv, uint64_t id, uint64_t *start_out)
{
	uint32_t low = 1;
	uint32_t high = conv->count / CONV_INDEX_STEP + 1; /* exclusive */
	int rc;

	*start_out = conv->last_id;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		uint64_t at;

		rc = index_get(txn, conv, middle, &at);
		if (rc != 0 && rc != ERR_NOT_FOUND)
			return rc;
		if (rc == 0 && at >= id) {
			*start_out = at;
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return 0;
}

static int
page_before(struct txn *txn, const struct conv *conv, uint64_t before,
    size_t limit, uint64_t *ids_out, size_t *count_out, bool *more_out)
{
	uint64_t id = conv->last_id;
	struct log_message m;
	int rc = 0;

	if (before != 0 && before <= conv->last_id) {
		rc = index_at_or_above(txn, conv, before, &id);
		if (rc != 0)
			return rc;
	}
	*count_out = 0;
	*more_out = false;
	while (id != 0) {
		rc = get_own(txn, conv, id, &m);
		if (rc == ERR_NOT_FOUND)
			return 0; /* older ones are gone */
		if (rc != 0)
			return rc;
		if (before == 0 || id < before) {
			if (*count_out == limit) {
				*more_out = true;
				return 0;
			}
			ids_out[(*count_out)++] = id;
		}
		id = m.prev;
	}
	return 0;
}

/*
 * Position of the last message at or before id. Where retention has taken
 * that one, the position before the oldest that is left.
 */
static int
position_upto(struct txn *txn, const struct conv *conv, uint64_t id,
    uint32_t *position_out)
{
	struct log_message m;
	uint64_t oldest;
	uint64_t at = 0;
	int rc;

	*position_out = conv->count; /* nothing is left */
	rc = log_oldest(txn, &oldest);
	if (rc == 0)
		rc = index_at_or_above(
		    txn, conv, id < oldest ? oldest : id, &at);
	while (rc == 0 && at != 0) {
		rc = get_own(txn, conv, at, &m);
		if (rc != 0)
			break;
		*position_out = at <= id ? m.position : m.position - 1;
		at = at <= id ? 0 : m.prev;
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
page_after(struct txn *txn, const struct conv *conv, uint64_t after,
    size_t limit, uint64_t *ids_out, size_t *count_out, bool *more_out)
{
	struct log_message m;
	uint32_t first;
	uint32_t last;
	uint32_t lowest = 0; /* position of the first id of the page */
	uint64_t id;
	int rc;

	*count_out = 0;
	*more_out = false;
	rc = position_upto(txn, conv, after, &first);
	if (rc != 0 || first >= conv->count)
		return rc;
	last =
	    conv->count - first > limit ? first + (uint32_t)limit : conv->count;
	*more_out = last < conv->count;
	/* Walk back from the first indexed message at or behind the page. */
	rc = index_get(
	    txn, conv, (last + CONV_INDEX_STEP - 1) / CONV_INDEX_STEP, &id);
	if (rc == ERR_NOT_FOUND) {
		id = conv->last_id;
		rc = 0;
	}
	while (rc == 0 && id > after) {
		rc = get_own(txn, conv, id, &m);
		if (rc != 0 || m.position <= first)
			break;
		if (m.position <= last) {
			ids_out[m.position - first - 1] = id;
			lowest = m.position;
		}
		id = m.prev;
	}
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (lowest == 0)
		return 0;
	/* Missing at the front of the page: close the gap. */
	*count_out = last - lowest + 1;
	memmove(ids_out, ids_out + (lowest - first - 1),
	    *count_out * sizeof(*ids_out));
	return 0;
}

int
conv_page(struct txn *txn, const struct conv *conv, uint64_t before,
    uint64_t after, size_t limit, uint64_t *ids_out, size_t *count_out,
    bool *more_out)
{
	if (after != 0)
		return page_after(
		    txn, conv, after, limit, ids_out, count_out, more_out);
	return page_before(
	    txn, conv, before, limit, ids_out, count_out, more_out);
}

int
conv_each(struct txn *txn, uint64_t user,
    bool (*fn)(void *ctx, const struct conv_key *key), void *ctx)
{
	uint8_t prefix[sizeof(uint64_t)];
	struct conv_key key;
	struct walk walk;
	int rc;

	key_u64(prefix, user);
	rc = walk_begin(&walk, txn, DBI_userconv, prefix, sizeof(prefix));
	while (rc == 0) {
		if (walk.key.len != sizeof(prefix) + sizeof(key) ||
		    memcmp(walk.key.data, prefix, sizeof(prefix)) != 0)
			break;
		memcpy(&key, (const uint8_t *)walk.key.data + sizeof(prefix),
		    sizeof(key));
		if (!fn(ctx, &key))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}
