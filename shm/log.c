/*
 * log.c - the log of messages and of events.
 *
 * Role:    one row each, appended; rewritten in place when a message is edited
 *          or deleted.
 * Process: keeper appends; everybody reads.
 * Blocks:  on cold pages of the disk.
 * Trust:   LMDB checks no pages; a row whose lengths or checksum do not fit is
 *          never served: it could be somebody else's message.
 * See:     store_schema.h (struct log_row), t/unit/store_conv.c.
 */
#include "shm/log.h"

#include <stdatomic.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"

#define TOLD_MAX 256
/* Rows of up to about half a page lie in a leaf (mdb.c, me_nodemax), certainly
 * each one shorter than this. */
#define OWN_PAGES_MIN 1024

static struct {
	_Atomic uint64_t ids[TOLD_MAX]; /* damaged rows, any thread's */
} told;

static uint64_t
row_checksum(uint64_t id, const uint8_t *row, size_t len)
{
	size_t skip = sizeof(uint64_t); /* the checksum itself */

	return XXH3_64bits_withSeed(row + skip, len - skip, id);
}

static int
put_row(struct txn *txn, const struct log_message *m,
    int (*reserve)(struct txn *txn, enum store_dbi dbi, const void *key,
	size_t key_len, size_t value_len, void **room_out))
{
	struct log_row row = {
	    .conv = m->conv,
	    .prev = m->prev,
	    .sender = m->sender,
	    .client_time_ms = m->client_time_ms,
	    .reply_to = m->reply_to,
	    .prev_sent = m->prev_sent,
	    .request_hash = m->request_hash,
	    .sender_seq = m->sender_seq,
	    .sender_device = m->sender_device,
	    .position = m->position,
	    .lower_count = m->lower_count,
	    .body_len = (uint32_t)m->body.len,
	    .attachment_len = (uint16_t)m->attachment.len,
	    .type_len = (uint8_t)m->type.len,
	    .client_id_len = (uint8_t)m->client_id.len,
	    .kind = m->kind,
	    .flags = m->flags,
	    .edits = m->edits,
	};
	const struct blob changed = {
	    &m->changed_ms, m->flags != 0 ? sizeof(m->changed_ms) : 0};
	const struct blob parts[] = {
	    m->body, m->type, m->client_id, m->attachment, changed};
	const size_t count = sizeof(parts) / sizeof(parts[0]);
	size_t len = sizeof(row);
	uint8_t *at;
	void *room;
	int rc;

	for (size_t i = 0; i < count; i++)
		len += parts[i].len;
	rc = reserve(txn, DBI_log, &m->id, sizeof(m->id), len, &room);
	if (rc != 0)
		return rc;
	at = room;
	memcpy(at, &row, sizeof(row));
	at += sizeof(row);
	for (size_t i = 0; i < count; i++) {
		if (parts[i].len == 0)
			continue;
		memcpy(at, parts[i].data, parts[i].len);
		at += parts[i].len;
	}
	row.checksum = row_checksum(m->id, room, len);
	memcpy(room, &row.checksum, sizeof(row.checksum));
	return 0;
}

int
log_append(struct txn *txn, const struct log_message *m)
{
	return put_row(txn, m, txn_reserve);
}

int
log_rewrite(struct txn *txn, const struct log_message *m)
{
	struct blob old;
	int rc;

	rc = txn_get(txn, DBI_log, &m->id, sizeof(m->id), &old);
	/* LMDB would leave a shorter row in the pages of the longer one, with
	 * what was written there in this transaction behind it. */
	if (rc == 0 && old.len >= OWN_PAGES_MIN)
		rc = txn_del(txn, DBI_log, &m->id, sizeof(m->id));
	return rc == 0 ? put_row(txn, m, txn_reserve_again) : rc;
}

static struct blob
take(const uint8_t **at, size_t len)
{
	struct blob blob = {*at, len};

	*at += len;
	return blob;
}

/* Each damaged row is logged once, not with every page that it would be on;
 * again where two of them share a place. */
static bool
is_news(uint64_t id)
{
	size_t at = XXH3_64bits(&id, sizeof(id)) % TOLD_MAX;

	return atomic_exchange(&told.ids[at], id) != id;
}

int
log_get(struct txn *txn, uint64_t id, struct log_message *out)
{
	struct log_row row;
	struct blob value;
	const uint8_t *at;
	size_t changed_len;
	int rc;

	rc = txn_get(txn, DBI_log, &id, sizeof(id), &value);
	if (rc != 0)
		return rc;
	if (value.len < sizeof(row))
		goto corrupt;
	memcpy(&row, value.data, sizeof(row));
	changed_len = row.flags != 0 ? sizeof(out->changed_ms) : 0;
	if (value.len != sizeof(row) + row.body_len + row.type_len +
			     row.client_id_len + row.attachment_len +
			     changed_len ||
	    row.kind >= LOG_KIND_END ||
	    row.checksum != row_checksum(id, value.data, value.len))
		goto corrupt;
	at = (const uint8_t *)value.data + sizeof(row);
	*out = (struct log_message){
	    .id = id,
	    .conv = row.conv,
	    .prev = row.prev,
	    .sender = row.sender,
	    .client_time_ms = row.client_time_ms,
	    .reply_to = row.reply_to,
	    .prev_sent = row.prev_sent,
	    .request_hash = row.request_hash,
	    .sender_seq = row.sender_seq,
	    .sender_device = row.sender_device,
	    .position = row.position,
	    .lower_count = row.lower_count,
	    .kind = row.kind,
	    .flags = row.flags,
	    .edits = row.edits,
	};
	out->body = take(&at, row.body_len);
	out->type = take(&at, row.type_len);
	out->client_id = take(&at, row.client_id_len);
	out->attachment = take(&at, row.attachment_len);
	if (changed_len != 0)
		memcpy(&out->changed_ms, at, changed_len);
	return 0;
corrupt:
	if (is_news(id))
		log_error(NULL, "store-corrupt",
		    "row=log id=%llu; the row failed its check and is not "
		    "served",
		    (unsigned long long)id);
	return ERR_CORRUPT;
}

int
log_next(struct txn *txn, uint64_t from, uint64_t *id_out)
{
	struct walk walk;
	int rc;

	rc = walk_begin(&walk, txn, DBI_log, &from, sizeof(from));
	if (rc == 0)
		memcpy(id_out, walk.key.data, sizeof(*id_out));
	walk_end(&walk);
	return rc;
}

int
log_oldest(struct txn *txn, uint64_t *id_out)
{
	return log_next(txn, 0, id_out);
}

bool
log_is_message(struct txn *txn, uint64_t id)
{
	struct log_message message;

	return log_get(txn, id, &message) == 0 && message.kind == LOG_MESSAGE;
}

int
log_back(struct txn *txn, uint64_t upto, uint64_t count, uint64_t *id_out)
{
	uint64_t above = upto + 1;
	struct walk walk;
	bool is_any = false;
	int rc;

	rc = walk_begin_before(&walk, txn, DBI_log, &above, sizeof(above));
	while (rc == 0 && count > 0) {
		memcpy(id_out, walk.key.data, sizeof(*id_out));
		is_any = true;
		if (log_is_message(txn, *id_out))
			count--;
		rc = walk_prev(&walk);
	}
	walk_end(&walk);
	return rc == 0 || (rc == ERR_NOT_FOUND && is_any) ? 0 : rc;
}

/* The head of a row, whatever is in it. */
static int
guess_row(struct txn *txn, uint64_t id, struct log_row *row_out)
{
	struct blob value;
	int rc;

	rc = txn_get(txn, DBI_log, &id, sizeof(id), &value);
	if (rc == 0 && value.len < sizeof(*row_out))
		rc = ERR_NOT_FOUND;
	if (rc == 0)
		memcpy(row_out, value.data, sizeof(*row_out));
	return rc;
}

int
log_guess_prev(struct txn *txn, uint64_t id, uint64_t *prev_out)
{
	struct log_row row;
	int rc = guess_row(txn, id, &row);

	if (rc == 0)
		*prev_out = row.prev;
	return rc;
}

int
log_guess_prev_sent(struct txn *txn, uint64_t id, uint64_t *prev_out)
{
	struct log_row row;
	int rc = guess_row(txn, id, &row);

	if (rc == 0)
		*prev_out = row.prev_sent;
	return rc;
}

int
log_guess_below(struct txn *txn, uint64_t id, const struct conv_key *conv,
    uint64_t low, size_t limit, uint64_t *id_out)
{
	struct log_row row;
	struct walk walk;
	uint64_t at = id;
	int rc;

	rc = walk_begin_before(&walk, txn, DBI_log, &id, sizeof(id));
	for (; rc == 0 && limit > 0; limit--, rc = walk_prev(&walk)) {
		memcpy(&at, walk.key.data, sizeof(at));
		if (at < low)
			limit = 1; /* the last one */
		if (at < low || walk.value.len < sizeof(row))
			continue;
		memcpy(&row, walk.value.data, sizeof(row));
		if (at < id && row.kind == LOG_MESSAGE &&
		    conv_key_equal(&row.conv, conv))
			break;
	}
	walk_end(&walk);
	if (rc == 0 && limit == 0)
		rc = ERR_NOT_FOUND;
	if (rc == 0)
		*id_out = at;
	return rc;
}
