/*
 * verify.c - every row of the main store, judged.
 *
 * Role:    one function for each kind of row: lengths, checks, and whether
 *          what it names is there and names it back.
 * Process: parleyctl check; offline checks.
 * Blocks:  on the disk, for as long as the store is large.
 * Trust:   none: pages may be damaged. What liblmdb makes of those may crash,
 *          so this runs in a process of its own (ctl/ctl_check.c).
 * See:     store_schema.h (the rows), t/unit/store_verify.c.
 */
#include "shm/verify.h"

#include <stdio.h>
#include <string.h>

#include "shm/call.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/log.h"
#include "shm/meta.h"
#include "shm/outbox_priv.h"
#include "shm/sent.h"
#include "shm/userhead.h"
#include "shm/users.h"
#include "shm/verify_priv.h"

/* Rows in one snapshot: a writer cannot reuse pages while it lasts. */
#define BATCH_ROWS 2000

static const uint8_t *
key_of(const struct row *row)
{
	return row->walk->key.data;
}

static bool
is_sized(const struct row *row, size_t key_len, size_t value_len)
{
	return row->walk->key.len == key_len &&
	       row->walk->value.len == value_len;
}

/* In this snapshot. @return 0, ERR_NOT_FOUND, or the library's error */
static int
find(struct row *row, enum store_dbi dbi, const void *key, size_t len)
{
	struct blob value;

	return txn_get(row->txn, dbi, key, len, &value);
}

/* One that is damaged is found at its own row. */
static const char *
judge_message(struct row *row, uint64_t id, const struct conv_key *conv,
    uint32_t position, const char *what)
{
	struct log_message message;
	int rc = log_get(row->txn, id, &message);

	if (rc == ERR_NOT_FOUND)
		return id < row->oldest ? NULL : what;
	if (rc != 0)
		return NULL;
	if (conv != NULL && memcmp(&message.conv, conv, sizeof(*conv)) != 0)
		return "the message that it names is of another conversation";
	if (position != 0 && message.position != position)
		return "the message that it names has another position";
	return NULL;
}

/* ---- one function for each kind of row ---- */

static const char *
check_log(struct row *row)
{
	struct log_message message;
	struct conv conv;
	const char *what = NULL;
	uint64_t id;

	if (row->walk->key.len != sizeof(id))
		return "its key has a wrong length";
	memcpy(&id, key_of(row), sizeof(id));
	if (log_get(row->txn, id, &message) != 0)
		return "its length or its checksum does not fit";
	if (row->last_id != 0 && id > row->last_id)
		return "its id has not been given out yet";
	if (message.kind == LOG_EVENT)
		return message.position != 0 || message.prev != 0
			   ? "it is an event within a conversation"
		       : message.flags != 0 ? "it is an event that was changed"
					    : NULL;
	if ((message.flags & ~(LOG_EDITED | LOG_DELETED)) != 0)
		return "it was changed in an unknown way";
	if ((message.flags & LOG_DELETED) != 0 &&
	    message.body.len + message.type.len + message.attachment.len > 0)
		return "it was deleted and has a content";
	if (message.prev >= id || message.prev_sent >= id)
		return "it names a later message as an earlier one";
	if (conv_get(row->txn, &message.conv, &conv) != 0)
		return "its conversation is not there";
	if (conv.last_id < id || conv.count < message.position)
		return "its conversation ends before it";
	if (!verify_is_of(row, &conv, message.sender))
		return "its sender is not in its conversation";
	if (message.prev != 0)
		what = judge_message(row, message.prev, &message.conv,
		    message.position - 1, "the message before it is not there");
	if (what == NULL && message.prev_sent != 0)
		what = judge_message(row, message.prev_sent, NULL, 0,
		    "the sender's message before it is not there");
	return what;
}

static const char *
check_members(struct row *row, const struct conv *conv)
{
	uint8_t key[sizeof(uint64_t) + sizeof(struct conv_key)];

	memcpy(key + sizeof(uint64_t), &conv->key, sizeof(conv->key));
	for (uint32_t i = 0; i < conv->member_count; i++) {
		const struct conv_member *member = &conv->members[i];

		if (i > 0 && member->user <= member[-1].user)
			return "its members are not in order";
		if (member->delivered > conv->last_id ||
		    member->read > conv->last_id)
			return "a member has more than there is";
		key_u64(key, member->user);
		if (find(row, DBI_userconv, key, sizeof(key)) != 0)
			return "it is not in the list of one of its members";
	}
	return NULL;
}

static const char *
check_conv(struct row *row)
{
	struct conv_key key;
	struct conv conv;
	const char *what;

	if (row->walk->key.len != sizeof(key))
		return "its key has a wrong length";
	memcpy(&key, key_of(row), sizeof(key));
	if (conv_get(row->txn, &key, &conv) != 0)
		return "its length does not fit";
	if ((conv.count == 0) != (conv.last_id == 0))
		return "its number of messages does not fit";
	what = check_members(row, &conv);
	if (what == NULL && conv.last_id != 0)
		what = judge_message(row, conv.last_id, &key, conv.count,
		    "its last message is not there");
	return what;
}

static const char *
check_convindex(struct row *row)
{
	struct conv_key key;
	uint64_t id;

	if (!is_sized(row, sizeof(key) + sizeof(uint32_t), sizeof(id)))
		return "its length does not fit";
	memcpy(&key, key_of(row), sizeof(key));
	memcpy(&id, row->walk->value.data, sizeof(id));
	if (find(row, DBI_conv, &key, sizeof(key)) != 0)
		return "its conversation is not there";
	return judge_message(row, id, &key,
	    key_get_u32(key_of(row) + sizeof(key)) * CONV_INDEX_STEP,
	    "its message is not there");
}

static const char *
check_userconv(struct row *row)
{
	struct conv_key key;
	struct conv conv;

	if (!is_sized(row, sizeof(uint64_t) + sizeof(key), 0))
		return "its length does not fit";
	memcpy(&key, key_of(row) + sizeof(uint64_t), sizeof(key));
	if (conv_get(row->txn, &key, &conv) != 0)
		return "its conversation is not there";
	if (!verify_is_of(row, &conv, key_get_u64(key_of(row))))
		return "its user is not in the conversation";
	return NULL;
}

static const char *
check_inbox(struct row *row)
{
	struct inbox_event event;
	struct userhead head;
	struct conv conv;
	uint64_t user;

	if (!inbox_decode(&row->walk->key, &row->walk->value, &event))
		return "its length or its check does not fit";
	user = key_get_u64(key_of(row));
	if (event.kind == 0 || event.kind >= EVENT_KIND_END)
		return "it is of no known kind";
	if (userhead_get(row->txn, user, &head) != 0)
		return "its user's head is not there";
	if (event.seq > head.row.head)
		return "its seq has not been given out yet";
	/* who leaves a group or a call is told so */
	if (event.kind < EVENT_GROUP) {
		if (conv_get(row->txn, &event.conv, &conv) != 0)
			return "its conversation is not there";
		if (!verify_is_of(row, &conv, user))
			return "its user is not in the conversation";
	}
	return judge_message(
	    row, event.ref, &event.conv, 0, "what it refers to is not there");
}

static const char *
check_userhead(struct row *row)
{
	uint8_t key[sizeof(uint64_t) + sizeof(uint32_t)];
	struct userhead head;
	uint64_t user;

	if (row->walk->key.len != sizeof(user))
		return "its key has a wrong length";
	memcpy(&user, key_of(row), sizeof(user));
	if (userhead_get(row->txn, user, &head) != 0)
		return "its length does not fit";
	if (head.row.floor > head.row.head ||
	    head.row.delivered > head.row.head)
		return "its seqs are out of order";
	key_u64(key, user);
	for (int i = 0; i < head.row.device_count; i++) {
		const struct userhead_device *device = &head.devices[i];

		if (device->cursor > head.row.head)
			return "a device has acknowledged what is not there";
		if (device->number >= head.row.next_device)
			return "a device has a number not given out yet";
		key_u32(key + sizeof(uint64_t), device->number);
		if (find(row, DBI_device, key, sizeof(key)) != 0)
			return "the name of one of its devices is not there";
	}
	return NULL;
}

static const char *
check_of_device(struct row *row)
{
	struct userhead head;
	uint32_t number = key_get_u32(key_of(row) + sizeof(uint64_t));

	if (userhead_get(row->txn, key_get_u64(key_of(row)), &head) != 0)
		return "its user's head is not there";
	for (int i = 0; i < head.row.device_count; i++) {
		if (head.devices[i].number == number)
			return NULL;
	}
	return "its user has no such device";
}

static const char *
check_device(struct row *row)
{
	struct device_row device;

	if (row->walk->key.len != sizeof(uint64_t) + sizeof(uint32_t))
		return "its key has a wrong length";
	if (row->walk->value.len < sizeof(device))
		return "its length does not fit";
	memcpy(&device, row->walk->value.data, sizeof(device));
	if (row->walk->value.len != sizeof(device) + device.id_len)
		return "its length does not fit";
	return check_of_device(row);
}

static const char *
check_sent(struct row *row)
{
	const uint8_t *at = row->walk->value.data;

	if (!sent_is_sound(&row->walk->key, &row->walk->value))
		return "its length or its check does not fit";
	for (int i = 0; i < SENT_PER_ROW; i++) {
		struct sent_entry entry;
		const char *what;

		memcpy(&entry, at + (size_t)i * sizeof(entry), sizeof(entry));
		what = entry.message_id == 0
			   ? NULL
			   : judge_message(row, entry.message_id, NULL, 0,
				 "a message that was sent is not there");
		if (what != NULL)
			return what;
	}
	return check_of_device(row);
}

static const char *
check_contact(struct row *row)
{
	uint64_t user = 0;
	uint64_t other = 0;
	uint32_t flags = 0;
	uint32_t back = 0;

	if (!is_sized(row, 2 * sizeof(uint64_t), sizeof(flags)))
		return "its length does not fit";
	user = key_get_u64(key_of(row));
	other = key_get_u64(key_of(row) + sizeof(uint64_t));
	memcpy(&flags, row->walk->value.data, sizeof(flags));
	if (contact_get(row->txn, other, user, &back) != 0 ||
	    back != contact_mirror(flags))
		return "what the other one has of it is not the same";
	return NULL;
}

static const char *
check_users(struct row *row)
{
	struct user user;
	uint64_t id;

	if (row->walk->key.len != sizeof(id))
		return "its key has a wrong length";
	memcpy(&id, key_of(row), sizeof(id));
	return users_get(row->txn, id, &user) != 0 ? "its length does not fit"
						   : NULL;
}

static const char *
check_grace(struct row *row)
{
	uint64_t user;

	if (!is_sized(row, 2 * sizeof(uint64_t), 0))
		return "its length does not fit";
	user = key_get_u64(key_of(row) + sizeof(uint64_t));
	return find(row, DBI_userhead, &user, sizeof(user)) != 0
		   ? "its user's head is not there"
		   : NULL;
}

static const char *
check_ages(struct row *row)
{
	uint64_t id;

	if (!is_sized(row, sizeof(uint64_t), sizeof(id)))
		return "its length does not fit";
	memcpy(&id, row->walk->value.data, sizeof(id));
	return row->last_id != 0 && id > row->last_id
		   ? "its id has not been given out yet"
		   : NULL;
}

static const char *
check_behind(struct row *row)
{
	if (!is_sized(row, sizeof(uint64_t), 0))
		return "its length does not fit";
	return find(row, DBI_userhead, key_of(row), sizeof(uint64_t)) != 0
		   ? "its user's head is not there"
		   : NULL;
}

static const char *
check_outbox(struct row *row)
{
	size_t head_len;

	if (row->walk->key.len != OUTBOX_KEY_LEN)
		return "its key has a wrong length";
	switch (key_of(row)[1]) {
	case OUTBOX_WAITING:
		head_len = sizeof(struct outbox_block);
		break;
	case OUTBOX_DEAD:
		head_len = sizeof(struct outbox_dead_row);
		break;
	default:
		return "it is of no known section";
	}
	return outbox_is_sound(row->walk, head_len)
		   ? NULL
		   : "its length or its check does not fit";
}

static const char *
check_call(struct row *row)
{
	return call_verify(
	    row->txn, row->walk->dbi, &row->walk->key, &row->walk->value);
}

#define check_calldue  check_call
#define check_callhist check_call
#define check_callkey  check_call
#define check_calls    check_call
#define check_unsaid   check_behind
#define check_usercall check_call

/* What is in it has been judged before the rows: meta_get, meta_rings_get. */
static const char *
check_meta(struct row *row)
{
	return row->walk->key.len == 0 || row->walk->value.len == 0
		   ? "it is empty"
		   : NULL;
}

/* ---- all of them ---- */

static const struct {
	const char *name;
	const char *(*check)(struct row *row);
} kinds[] = {
#define DBI(name, flags, kind) [DBI_##name] = {#name, check_##name},
    STORE_MAIN_DBIS(DBI)
#undef DBI
};

struct verifier {
	struct store *store;
	struct verify_place *place;
	verify_fn fn;
	void *ctx;
	struct verify_result *result;
};

static void
report(
    struct verifier *v, enum store_dbi dbi, struct blob key, const char *what)
{
	if (key.len > VERIFY_KEY_MAX)
		key.len = VERIFY_KEY_MAX;
	v->result->findings++;
	v->fn(v->ctx, dbi, key, what);
}

static void
note_place(struct verifier *v, enum store_dbi dbi, struct blob key)
{
	if (v->place == NULL)
		return;
	if (key.len > VERIFY_KEY_MAX)
		key.len = VERIFY_KEY_MAX;
	atomic_store(&v->place->key_len, 0);
	if (key.len > 0)
		memcpy(v->place->key, key.data, key.len);
	atomic_store(&v->place->key_len, (uint32_t)key.len);
	atomic_store(&v->place->dbi, (uint32_t)dbi);
	atomic_fetch_add(&v->place->rows, 1);
}

/* @return 0; ERR_STALE, ERR_CORRUPT: nothing in it can be believed */
static int
read_bounds(struct txn *txn, struct row *row)
{
	struct meta_rings rings;
	struct meta meta;
	int rc = meta_get(txn, &meta);

	if (rc != 0)
		return rc;
	row->last_id = 0;
	rc = meta_rings_get(txn, &rings);
	if (rc == 0)
		row->last_id = rings.last_id;
	else if (rc != ERR_NOT_FOUND)
		return rc;
	row->oldest = 0;
	rc = log_oldest(txn, &row->oldest);
	if (rc == ERR_NOT_FOUND)
		row->oldest = UINT64_MAX;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/*
 * A part of a tree, from the row behind last on.
 *
 * @param last  in: the last key that was judged, len 0: none; out: likewise
 * @return      0: there may be more; ERR_NOT_FOUND: that was all; or what
 *              keeps it from being read
 */
static int
check_batch(struct verifier *v, enum store_dbi dbi, uint8_t *last_key,
    struct blob *last)
{
	struct txn txn = {0};
	struct walk walk = {0};
	struct row row = {.walk = &walk, .txn = &txn};
	int rc = store_begin_read(v->store, &txn);

	if (rc == 0)
		rc = read_bounds(&txn, &row);
	if (rc == 0)
		rc = walk_begin_all(&walk, &txn, dbi,
		    last->len > 0 ? last->data : NULL, last->len);
	if (rc == 0 && last->len > 0 && walk.key.len == last->len &&
	    memcmp(walk.key.data, last->data, last->len) == 0)
		rc = walk_next(&walk);
	for (int n = 0; rc == 0 && n < BATCH_ROWS; n++) {
		const char *what;

		note_place(v, dbi, walk.key);
		what = walk.is_damaged ? "its check does not fit"
				       : kinds[dbi].check(&row);
		v->result->rows[dbi]++;
		if (what != NULL)
			report(v, dbi, walk.key, what);
		if (txn.rc != 0)
			rc = txn.rc; /* the library could not go on */
		/* or damaged pages may lead in a circle */
		if (walk.key.len == 0 || walk.key.len > VERIFY_KEY_MAX ||
		    (last->len > 0 &&
			!store_is_behind(&txn, dbi, &walk.key, last)))
			rc = ERR_CORRUPT;
		if (rc != 0)
			break;
		memcpy(last_key, walk.key.data, walk.key.len);
		*last = (struct blob){last_key, walk.key.len};
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	txn_end(&txn);
	return rc;
}

int
verify_store(struct store *store, struct verify_place *place, verify_fn fn,
    void *ctx, struct verify_result *result_out)
{
	struct verifier v = {store, place, fn, ctx, result_out};
	struct txn txn = {0};
	struct row row = {0};
	int rc;

	memset(result_out, 0, sizeof(*result_out));
	rc = store_begin_read(store, &txn);
	if (rc == 0)
		rc = read_bounds(&txn, &row);
	txn_end(&txn);
	if (rc != 0)
		return rc;
	if (store_check_free(store) != 0)
		report(&v, DBI_END, (struct blob){NULL, 0},
		    "the list of free pages is damaged");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		uint8_t last_key[VERIFY_KEY_MAX];
		struct blob last = {last_key, 0};

		do {
			rc =
			    check_batch(&v, (enum store_dbi)i, last_key, &last);
		} while (rc == 0);
		if (rc != ERR_NOT_FOUND)
			report(&v, (enum store_dbi)i, last,
			    "behind this row the tree cannot be read");
	}
	return 0;
}

int
verify_folder(const char *folder, size_t map_size, struct verify_place *place,
    const struct verify_sink *sink, struct verify_result *result_out,
    char *why_out)
{
	struct store *store = NULL;
	int rc = store_open(STORE_MAIN, folder, map_size, false, &store,
	    why_out, VERIFY_WHY_MAX);

	if (rc != 0)
		return rc;
	rc = verify_store(store, place, sink->fn, sink->ctx, result_out);
	if (rc == ERR_NOT_FOUND)
		snprintf(
		    why_out, VERIFY_WHY_MAX, "there is no parley store in it");
	else if (rc == ERR_STALE)
		snprintf(why_out, VERIFY_WHY_MAX,
		    "the store is of another schema than this program");
	else if (rc != 0)
		snprintf(why_out, VERIFY_WHY_MAX,
		    "the store's own description is damaged");
	store_close(&store);
	return rc;
}

const char *
verify_dbi_name(enum store_dbi dbi)
{
	return (size_t)dbi < sizeof(kinds) / sizeof(kinds[0]) ? kinds[dbi].name
							      : "store";
}
