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
 *          row passes its check and names this conversation. A damaged row is
 *          asked for the way, never for anything else; where it leads counts
 *          when the message there is the one expected.
 * See:     conv.h, conv_unread.c, t/unit/store_conv.c (a naive model).
 */
#include "shm/conv_chain.h"

#include <string.h>

#include "base/log.h"

/* Rows of the log that are searched for what a damaged one does not lead to;
 * then the next one is that of the index. */
#define SEARCH_MAX 4096

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
	if ((row.member_count == 0) != conv_key_has_seats(key) ||
	    row.member_count > MEMBERS_MAX ||
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
	const struct blob key = {conv->key.bytes, sizeof(conv->key.bytes)};
	const struct blob head = {&row, sizeof(row)};
	const struct blob members = {
	    conv->members, conv->member_count * sizeof(struct conv_member)};

	return txn_put_parts(txn, DBI_conv, &key, &head, &members);
}

int
conv_list_put(struct txn *txn, uint64_t user, const struct conv_key *key)
{
	uint8_t list_key[sizeof(uint64_t) + sizeof(struct conv_key)];

	key_u64(list_key, user);
	memcpy(list_key + sizeof(uint64_t), key->bytes, sizeof(key->bytes));
	return txn_put(txn, DBI_userconv, list_key, sizeof(list_key), "", 0);
}

int
conv_create(struct txn *txn, const struct conv_key *key,
    const uint64_t *members, size_t count, struct conv *out)
{
	int rc = 0;

	*out = (struct conv){.key = *key, .member_count = (uint32_t)count};
	for (size_t i = 0; rc == 0 && i < count; i++) {
		out->members[i].user = members[i];
		rc = conv_list_put(txn, members[i], key);
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
	message->lower_count =
	    conv->member_count > 0 ? conv->members[0].sent : 0;
	if (message->position % CONV_INDEX_STEP != 0)
		return 0;
	index_key(key, &conv->key, message->position / CONV_INDEX_STEP);
	return txn_put(txn, DBI_convindex, key, sizeof(key), &message->id,
	    sizeof(message->id));
}

int
conv_forget_message(struct txn *txn, const struct log_message *message)
{
	uint8_t key[CONV_INDEX_KEY_LEN];
	int rc;

	if (message->position == 0 || message->position % CONV_INDEX_STEP != 0)
		return 0;
	index_key(key, &message->conv, message->position / CONV_INDEX_STEP);
	rc = txn_del(txn, DBI_convindex, key, sizeof(key));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
index_get(
    struct txn *txn, const struct conv *conv, uint32_t bucket, uint64_t *id_out)
{
	uint8_t key[CONV_INDEX_KEY_LEN];

	index_key(key, &conv->key, bucket);
	return txn_get_fixed(
	    txn, DBI_convindex, key, sizeof(key), id_out, sizeof(*id_out));
}

int
chain_get_own(struct txn *txn, const struct conv *conv, uint64_t id,
    struct log_message *out)
{
	int rc;

	rc = log_get(txn, id, out);
	if (rc == 0 && (out->kind != LOG_MESSAGE ||
			   !conv_key_equal(&out->conv, &conv->key)))
		rc = ERR_NOT_FOUND;
	return rc;
}

int
chain_get(struct chain *chain, struct log_message *out)
{
	uint64_t oldest;
	int rc;

	if (chain->id == 0)
		return ERR_NOT_FOUND;
	rc = chain_get_own(chain->txn, chain->conv, chain->id, out);
	if (rc == 0)
		chain->position = out->position;
	if (rc != ERR_NOT_FOUND)
		return rc;
	/* Retention takes from the front only. */
	rc = log_oldest(chain->txn, &oldest);
	return rc == 0 && chain->id > oldest ? ERR_CORRUPT
	       : rc == 0                     ? ERR_NOT_FOUND
					     : rc;
}

/* Ask damaged rows for the way, until one is the message it should be. */
static int
follow_damaged(struct chain *chain)
{
	uint32_t position = chain->position;
	uint64_t id = chain->id;
	struct log_message m;
	uint64_t prev;
	int rc;

	do {
		rc = log_guess_prev(chain->txn, id, &prev);
		if (rc != 0)
			return rc;
		if (prev == 0 || prev >= id || --position == 0)
			return ERR_NOT_FOUND;
		id = prev;
		rc = chain_get_own(chain->txn, chain->conv, id, &m);
	} while (rc == ERR_CORRUPT && chain->txn->rc == 0);
	if (rc == 0 && m.position != position)
		rc = ERR_NOT_FOUND;
	if (rc != 0)
		return rc;
	chain->damaged += chain->position - position - 1;
	chain->id = id;
	chain->position = position;
	return 0;
}

/* Nobody leads there: look around, as far as the index or the limit. */
static int
search_below(struct chain *chain)
{
	uint32_t bucket = (chain->position - 1) / CONV_INDEX_STEP;
	uint64_t id = chain->id;
	uint64_t low = 1;
	struct log_message m;
	int rc = 0;

	if (bucket > 0)
		rc = index_get(chain->txn, chain->conv, bucket, &low);
	if (rc == ERR_NOT_FOUND)
		low = 1;
	else if (rc != 0)
		return rc;
	do {
		rc = log_guess_below(
		    chain->txn, id, &chain->conv->key, low, SEARCH_MAX, &id);
		if (rc == 0)
			rc = chain_get_own(chain->txn, chain->conv, id, &m);
		if (rc == 0 && m.position >= chain->position)
			rc = ERR_CORRUPT; /* not this one */
	} while (rc == ERR_CORRUPT && chain->txn->rc == 0);
	if (rc == 0) {
		chain->damaged += chain->position - m.position - 1;
		chain->id = id;
		chain->position = m.position;
	} else if (rc == ERR_NOT_FOUND && low > 1 && low < chain->id) {
		chain->damaged +=
		    chain->position - bucket * CONV_INDEX_STEP - 1;
		chain->id = low;
		chain->position = bucket * CONV_INDEX_STEP;
		rc = 0;
	}
	return rc;
}

int
chain_back(struct chain *chain, const struct log_message *m)
{
	int rc;

	if (m != NULL) {
		chain->id = m->prev;
		chain->position--;
		return 0;
	}
	rc = chain->position > 1 ? follow_damaged(chain) : ERR_NOT_FOUND;
	if (rc == ERR_NOT_FOUND && chain->position > 1)
		rc = search_below(chain);
	if (rc == ERR_NOT_FOUND) {
		chain->id = 0;
		rc = 0;
	}
	return rc;
}

/* Smallest indexed id >= id, or the end of the conversation: where a walk
 * back towards id begins. */
static int
chain_from(struct chain *chain, uint64_t id)
{
	uint32_t low = 1;
	uint32_t high =
	    chain->conv->count / CONV_INDEX_STEP + 1; /* exclusive */
	int rc;

	chain->id = chain->conv->last_id;
	chain->position = chain->conv->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		uint64_t at;

		rc = index_get(chain->txn, chain->conv, middle, &at);
		if (rc != 0 && rc != ERR_NOT_FOUND)
			return rc;
		if (rc == 0 && at >= id) {
			chain->id = at;
			chain->position = middle * CONV_INDEX_STEP;
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return 0;
}

static int
page_before(
    struct chain *chain, uint64_t before, size_t limit, struct conv_page *page)
{
	struct log_message m;
	int rc = 0;

	chain->id = chain->conv->last_id;
	chain->position = chain->conv->count;
	if (before != 0 && before <= chain->conv->last_id)
		rc = chain_from(chain, before);
	while (rc == 0 && chain->id != 0) {
		bool is_on = before == 0 || chain->id < before;

		rc = chain_get(chain, &m);
		if (rc == ERR_NOT_FOUND)
			return 0; /* older ones are gone */
		if (rc != 0 && (rc != ERR_CORRUPT || chain->txn->rc != 0))
			return rc;
		if (rc == 0 && is_on && page->count == limit) {
			page->has_more = true;
			return 0;
		}
		if (rc == 0 && is_on)
			page->ids[page->count++] = chain->id;
		else if (is_on)
			page->damaged++;
		rc = chain_back(chain, rc == 0 ? &m : NULL);
	}
	return rc;
}

int
chain_position_upto(struct chain *chain, uint64_t id, uint32_t *position_out)
{
	struct log_message m;
	uint64_t oldest;
	int rc;

	*position_out = chain->conv->count; /* nothing is left */
	rc = log_oldest(chain->txn, &oldest);
	if (rc == 0)
		rc = chain_from(chain, id < oldest ? oldest : id);
	while (rc == 0 && chain->id != 0) {
		rc = chain_get(chain, &m);
		if (rc != 0 && (rc != ERR_CORRUPT || chain->txn->rc != 0))
			break;
		if (chain->id <= id) {
			*position_out = chain->position;
			return 0;
		}
		*position_out = chain->position - 1;
		rc = chain_back(chain, rc == 0 ? &m : NULL);
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* Those that can be read of (first, last], in their order. */
static int
page_between(
    struct chain *chain, uint32_t first, uint32_t last, struct conv_page *page)
{
	uint32_t bucket = (last + CONV_INDEX_STEP - 1) / CONV_INDEX_STEP;
	struct log_message m;
	int rc;

	memset(page->ids, 0, (last - first) * sizeof(*page->ids));
	/* Walk back from the first indexed message at or behind the page. */
	chain->position = bucket * CONV_INDEX_STEP;
	rc = index_get(chain->txn, chain->conv, bucket, &chain->id);
	if (rc == ERR_NOT_FOUND) {
		chain->id = chain->conv->last_id;
		chain->position = chain->conv->count;
		rc = 0;
	}
	while (rc == 0 && chain->position > first) {
		rc = chain_get(chain, &m);
		if (rc != 0 && (rc != ERR_CORRUPT || chain->txn->rc != 0))
			break;
		if (rc != 0 && chain->position <= last)
			page->damaged++;
		else if (chain->position > first && chain->position <= last)
			page->ids[chain->position - first - 1] = chain->id;
		rc = chain_back(chain, rc == 0 ? &m : NULL);
	}
	for (uint32_t i = 0; i < last - first; i++) {
		if (page->ids[i] != 0)
			page->ids[page->count++] = page->ids[i];
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
page_after(
    struct chain *chain, uint64_t after, size_t limit, struct conv_page *page)
{
	uint32_t count = chain->conv->count;
	uint32_t first;
	int rc;

	rc = chain_position_upto(chain, after, &first);
	chain->damaged = 0;
	/* A page without any message leads nowhere. */
	while (rc == 0 && page->count == 0 && first < count) {
		uint32_t last =
		    count - first > limit ? first + (uint32_t)limit : count;

		rc = page_between(chain, first, last, page);
		page->has_more = last < count;
		first = last;
	}
	return rc;
}

int
conv_page(struct txn *txn, const struct conv *conv, uint64_t before,
    uint64_t after, size_t limit, struct conv_page *page)
{
	struct chain chain = {.txn = txn, .conv = conv};
	int rc;

	page->count = 0;
	page->has_more = false;
	page->damaged = 0;
	if (after != 0)
		rc = page_after(&chain, after, limit, page);
	else
		rc = page_before(&chain, before, limit, page);
	page->damaged += chain.damaged;
	return rc;
}

int
conv_each(struct txn *txn, uint64_t user, const struct conv_key *from,
    bool (*fn)(void *ctx, const struct conv_key *key), void *ctx)
{
	uint8_t start[sizeof(user) + sizeof(struct conv_key)] = {0};
	struct conv_key key;
	struct walk walk;
	int rc;

	key_u64(start, user);
	if (from != NULL)
		memcpy(start + sizeof(user), from->bytes, sizeof(from->bytes));
	rc = walk_begin(&walk, txn, DBI_userconv, start, sizeof(start));
	while (rc == 0) {
		if (walk.key.len != sizeof(start) ||
		    memcmp(walk.key.data, start, sizeof(user)) != 0)
			break;
		memcpy(&key, (const uint8_t *)walk.key.data + sizeof(user),
		    sizeof(key));
		if (!fn(ctx, &key))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}
