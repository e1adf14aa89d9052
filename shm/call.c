/*
 * call.c - collaborations (calls) in the store.
 *
 * Role:    one row per call, rewritten in place, and the small tables by
 *          which it is found: open calls and history of a user, deadlines,
 *          and what a client's own id has made.
 * Process: keeper writes; workers read.
 * Blocks:  on cold pages of the disk.
 * Trust:   counts, lengths and enumerations are checked before anything is
 *          copied; a row that does not fit is corrupt.
 * See:     call.h, doc/decisions/020, t/unit/store_call.c.
 */
#include "shm/call.h"

#include <string.h>

#include "base/log.h"

#define PAIR_KEY_LEN   (2 * sizeof(uint64_t))
#define CLIENT_KEY_LEN (sizeof(uint64_t) + 16)

/* How a participant stands in usercall. */
enum part_class { CLASS_NONE, CLASS_RINGING, CLASS_IN };

static const char *const state_names[CALL_STATE_END] = {
    [CALL_RINGING] = "RINGING",
    [CALL_ACTIVE] = "ACTIVE",
    [CALL_ENDED] = "ENDED",
};

static const char *const kind_names[CALL_KIND_END] = {
    [CALL_VIDEO] = "VIDEO",
    [CALL_AUDIO] = "AUDIO",
    [CALL_SCREEN] = "SCREEN",
    [CALL_DATA] = "DATA",
};

static const char *const outcome_names[CALL_OUTCOME_END] = {
    [CALL_OUTCOME_NONE] = "NONE",
    [CALL_OUTCOME_ANSWERED] = "ANSWERED",
    [CALL_OUTCOME_MISSED] = "MISSED",
    [CALL_OUTCOME_REJECTED] = "REJECTED",
    [CALL_OUTCOME_CANCELLED] = "CANCELLED",
    [CALL_OUTCOME_FAILED] = "FAILED",
};

static const char *const part_names[PART_STATE_END] = {
    [PART_RINGING] = "RINGING",
    [PART_JOINED] = "JOINED",
    [PART_RECONNECTING] = "RECONNECTING",
    [PART_REJECTED] = "REJECTED",
    [PART_LEFT] = "LEFT",
    [PART_MISSED] = "MISSED",
    [PART_BUSY] = "BUSY",
    [PART_CANCELLED] = "CANCELLED",
};

static const char *const event_names[CALL_EVENT_END] = {
    [CALL_EVENT_NONE] = "NONE",
    [CALL_EVENT_INVITED] = "INVITED",
    [CALL_EVENT_ACCEPTED] = "ACCEPTED",
    [CALL_EVENT_JOINED] = "JOINED",
    [CALL_EVENT_REJOINED] = "REJOINED",
    [CALL_EVENT_REJECTED] = "REJECTED",
    [CALL_EVENT_CANCELLED] = "CANCELLED",
    [CALL_EVENT_RECONNECTING] = "RECONNECTING",
    [CALL_EVENT_MISSED] = "MISSED",
    [CALL_EVENT_LEFT] = "LEFT",
    [CALL_EVENT_ENDED] = "ENDED",
    [CALL_EVENT_ANSWERED_ELSEWHERE] = "ANSWERED_ELSEWHERE",
};

const char *
call_state_name(enum call_state state)
{
	return state < CALL_STATE_END ? state_names[state] : "ENDED";
}

const char *
call_kind_name(enum call_kind kind)
{
	return kind < CALL_KIND_END ? kind_names[kind] : "DATA";
}

const char *
call_outcome_name(enum call_outcome outcome)
{
	return outcome < CALL_OUTCOME_END ? outcome_names[outcome] : "NONE";
}

const char *
part_state_name(enum part_state state)
{
	return state < PART_STATE_END ? part_names[state] : "LEFT";
}

const char *
call_event_name(enum call_event event)
{
	return event < CALL_EVENT_END ? event_names[event] : "NONE";
}

int
call_kind_parse(const char *text, size_t len, enum call_kind *out)
{
	for (int i = 0; i < CALL_KIND_END; i++) {
		if (strlen(kind_names[i]) == len &&
		    memcmp(kind_names[i], text, len) == 0) {
			*out = (enum call_kind)i;
			return 0;
		}
	}
	return ERR_BAD_REQUEST;
}

bool
call_part_is_in(const struct call_part *part)
{
	return part->state == PART_JOINED || part->state == PART_RECONNECTING;
}

bool
call_was_in(const struct call *call, uint32_t part)
{
	return call->stored_class[part] == CLASS_IN;
}

bool
call_was_ringing(const struct call *call, uint32_t part)
{
	return call->stored_class[part] == CLASS_RINGING;
}

static enum part_class
class_of(const struct call *call, const struct call_part *part)
{
	if (call->row.state == CALL_ENDED)
		return CLASS_NONE;
	if (call_part_is_in(part))
		return CLASS_IN;
	return part->state == PART_RINGING ? CLASS_RINGING : CLASS_NONE;
}

static void
pair_key(uint8_t out[PAIR_KEY_LEN], uint64_t first, uint64_t second)
{
	key_u64(out, first);
	key_u64(out + sizeof(uint64_t), second);
}

static void
client_key(uint8_t out[CLIENT_KEY_LEN], uint64_t user, const uint8_t hash[16])
{
	key_u64(out, user);
	memcpy(out + sizeof(uint64_t), hash, 16);
}

/* ---- the row ---- */

static bool
decode(const struct blob *value, struct call *out)
{
	const uint8_t *at = value->data;
	size_t parts_len;

	if (value->len < sizeof(out->row))
		return false;
	memcpy(&out->row, at, sizeof(out->row));
	if (out->row.part_count == 0 || out->row.part_count > CALL_PARTS_MAX ||
	    out->row.payload_len > CALL_PAYLOAD_MAX ||
	    out->row.kind >= CALL_KIND_END ||
	    out->row.state >= CALL_STATE_END ||
	    out->row.outcome >= CALL_OUTCOME_END)
		return false;
	parts_len = out->row.part_count * sizeof(out->parts[0]);
	if (value->len != sizeof(out->row) + parts_len + out->row.payload_len)
		return false;
	memcpy(out->parts, at + sizeof(out->row), parts_len);
	out->payload = (struct blob){
	    at + sizeof(out->row) + parts_len, out->row.payload_len};
	for (uint32_t i = 0; i < out->row.part_count; i++) {
		const struct call_part *part = &out->parts[i];

		if (part->state >= PART_STATE_END ||
		    part->outcome >= CALL_OUTCOME_END || part->user == 0 ||
		    part->user > USER_ID_MAX)
			return false;
	}
	return true;
}

int
call_get(struct txn *txn, uint64_t id, struct call *out)
{
	struct blob value;
	int rc;

	rc = txn_get(txn, DBI_calls, &id, sizeof(id), &value);
	if (rc != 0)
		return rc;
	if (!decode(&value, out)) {
		log_error(NULL, "store-corrupt", "row=calls id=%llu length=%zu",
		    (unsigned long long)id, value.len);
		return ERR_CORRUPT;
	}
	out->id = id;
	out->is_stored = true;
	out->stored_due_ms = out->row.due_ms;
	/* also of those who are still to come: out may be of another call */
	memset(out->stored_class, 0, sizeof(out->stored_class));
	memset(out->is_in_history, 0, sizeof(out->is_in_history));
	for (uint32_t i = 0; i < out->row.part_count; i++) {
		out->stored_class[i] = (uint8_t)class_of(out, &out->parts[i]);
		out->is_in_history[i] =
		    out->parts[i].outcome != CALL_OUTCOME_NONE;
	}
	return 0;
}

struct call_part *
call_find_part(struct call *call, uint64_t user)
{
	for (uint32_t i = 0; i < call->row.part_count; i++) {
		if (call->parts[i].user == user)
			return &call->parts[i];
	}
	return NULL;
}

/* ---- what lies beside it ---- */

static int
del_if_there(struct txn *txn, enum store_dbi dbi, const void *key, size_t len)
{
	int rc = txn_del(txn, dbi, key, len);

	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
put_due(struct txn *txn, struct call *call)
{
	uint8_t key[PAIR_KEY_LEN];
	int64_t due_ms = call->row.tell_at_ms;
	int rc = 0;

	for (uint32_t i = 0; i < call->row.part_count; i++) {
		int64_t at_ms = call->parts[i].deadline_ms;

		if (at_ms != 0 && (due_ms == 0 || at_ms < due_ms))
			due_ms = at_ms;
	}
	call->row.due_ms = due_ms;
	if (due_ms == call->stored_due_ms)
		return 0;
	if (call->stored_due_ms != 0) {
		pair_key(key, (uint64_t)call->stored_due_ms, call->id);
		rc = del_if_there(txn, DBI_calldue, key, sizeof(key));
	}
	if (rc == 0 && due_ms != 0) {
		pair_key(key, (uint64_t)due_ms, call->id);
		rc = txn_put(txn, DBI_calldue, key, sizeof(key), "", 0);
	}
	call->stored_due_ms = due_ms;
	return rc;
}

static int
put_part(struct txn *txn, struct call *call, uint32_t i)
{
	const struct call_part *part = &call->parts[i];
	enum part_class class = class_of(call, part);
	uint8_t is_in = class == CLASS_IN;
	uint8_t key[PAIR_KEY_LEN];
	int rc = 0;

	pair_key(key, part->user, call->id);
	if (class != call->stored_class[i])
		rc = class == CLASS_NONE
			 ? del_if_there(txn, DBI_usercall, key, sizeof(key))
			 : txn_put(txn, DBI_usercall, key, sizeof(key), &is_in,
			       sizeof(is_in));
	call->stored_class[i] = (uint8_t) class;
	if (rc != 0 || call->is_in_history[i] ||
	    part->outcome == CALL_OUTCOME_NONE)
		return rc;
	call->is_in_history[i] = true;
	return txn_put(txn, DBI_callhist, key, sizeof(key), "", 0);
}

int
call_put(struct txn *txn, struct call *call)
{
	struct {
		struct call_row row;
		struct call_part parts[CALL_PARTS_MAX];
	} head;
	size_t parts_len = call->row.part_count * sizeof(call->parts[0]);
	const struct blob key = {&call->id, sizeof(call->id)};
	const struct blob first = {&head, sizeof(head.row) + parts_len};
	uint8_t client[CLIENT_KEY_LEN];
	int rc;

	rc = put_due(txn, call);
	for (uint32_t i = 0; rc == 0 && i < call->row.part_count; i++)
		rc = put_part(txn, call, i);
	if (rc == 0 && !call->is_stored) {
		client_key(client, call->parts[0].user, call->row.client_hash);
		rc = txn_put(txn, DBI_callkey, client, sizeof(client),
		    &call->id, sizeof(call->id));
	}
	if (rc != 0)
		return rc;
	call->is_stored = true;
	call->row.payload_len = (uint32_t)call->payload.len;
	head.row = call->row;
	memcpy(head.parts, call->parts, parts_len);
	return txn_put_parts(txn, DBI_calls, &key, &first, &call->payload);
}

int
call_delete(struct txn *txn, const struct call *call)
{
	uint8_t client[CLIENT_KEY_LEN];
	uint8_t key[PAIR_KEY_LEN];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < call->row.part_count; i++) {
		pair_key(key, call->parts[i].user, call->id);
		rc = del_if_there(txn, DBI_usercall, key, sizeof(key));
		if (rc == 0)
			rc = del_if_there(txn, DBI_callhist, key, sizeof(key));
	}
	if (rc == 0 && call->row.due_ms != 0) {
		pair_key(key, (uint64_t)call->row.due_ms, call->id);
		rc = del_if_there(txn, DBI_calldue, key, sizeof(key));
	}
	client_key(client, call->parts[0].user, call->row.client_hash);
	if (rc == 0)
		rc = del_if_there(txn, DBI_callkey, client, sizeof(client));
	return rc == 0
		   ? del_if_there(txn, DBI_calls, &call->id, sizeof(call->id))
		   : rc;
}

/* ---- finding ---- */

int
call_find_key(
    struct txn *txn, uint64_t user, const uint8_t hash[16], uint64_t *id_out)
{
	uint8_t key[CLIENT_KEY_LEN];
	struct blob value;
	int rc;

	client_key(key, user, hash);
	rc = txn_get(txn, DBI_callkey, key, sizeof(key), &value);
	if (rc != 0)
		return rc;
	if (value.len != sizeof(*id_out))
		return ERR_CORRUPT;
	memcpy(id_out, value.data, sizeof(*id_out));
	return 0;
}

static bool
is_of_user(const struct walk *walk, uint64_t user)
{
	return walk->key.len == PAIR_KEY_LEN &&
	       key_get_u64(walk->key.data) == user;
}

static uint64_t
second_of(const struct walk *walk)
{
	return key_get_u64((const uint8_t *)walk->key.data + sizeof(uint64_t));
}

int
call_each_open(struct txn *txn, uint64_t user,
    bool (*fn)(void *ctx, uint64_t id, bool is_in), void *ctx)
{
	uint8_t start[PAIR_KEY_LEN];
	struct walk walk;
	int rc;

	pair_key(start, user, 0);
	rc = walk_begin(&walk, txn, DBI_usercall, start, sizeof(start));
	while (rc == 0 && is_of_user(&walk, user)) {
		bool is_in = walk.value.len == 1 &&
			     *(const uint8_t *)walk.value.data != 0;

		if (!fn(ctx, second_of(&walk), is_in))
			break;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
call_next_open(struct txn *txn, uint64_t *user_io, uint64_t *id_io)
{
	uint8_t start[PAIR_KEY_LEN];
	struct walk walk;
	int rc;

	pair_key(start, *user_io, *id_io + 1);
	rc = walk_begin(&walk, txn, DBI_usercall, start, sizeof(start));
	if (rc == 0 && walk.key.len != PAIR_KEY_LEN)
		rc = ERR_CORRUPT;
	if (rc == 0) {
		*user_io = key_get_u64(walk.key.data);
		*id_io = second_of(&walk);
	}
	walk_end(&walk);
	return rc;
}

struct in_any {
	uint64_t except;
	bool is_in;
};

static bool
note_in(void *ctx, uint64_t id, bool is_in)
{
	struct in_any *any = ctx;

	any->is_in = is_in && id != any->except;
	return !any->is_in;
}

int
call_is_in_any(struct txn *txn, uint64_t user, uint64_t except, bool *is_in_out)
{
	struct in_any any = {.except = except};
	int rc = call_each_open(txn, user, note_in, &any);

	*is_in_out = any.is_in;
	return rc;
}

int
call_each_past(struct txn *txn, uint64_t user, uint64_t before,
    bool (*fn)(void *ctx, uint64_t id), void *ctx)
{
	uint8_t start[PAIR_KEY_LEN];
	struct walk walk;
	int rc;

	pair_key(start, user, before == 0 ? UINT64_MAX : before);
	rc = walk_begin_before(&walk, txn, DBI_callhist, start, sizeof(start));
	while (rc == 0 && is_of_user(&walk, user)) {
		if (!fn(ctx, second_of(&walk)))
			break;
		rc = walk_prev(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
call_first_due(struct txn *txn, int64_t *due_ms_out, uint64_t *id_out)
{
	struct walk walk;
	int rc = walk_begin(&walk, txn, DBI_calldue, NULL, 0);

	if (rc == 0 && walk.key.len != PAIR_KEY_LEN)
		rc = ERR_CORRUPT;
	if (rc == 0) {
		*due_ms_out = (int64_t)key_get_u64(walk.key.data);
		*id_out = second_of(&walk);
	}
	walk_end(&walk);
	return rc;
}

int
call_drop_due(struct txn *txn, int64_t due_ms, uint64_t id)
{
	uint8_t key[PAIR_KEY_LEN];

	pair_key(key, (uint64_t)due_ms, id);
	return del_if_there(txn, DBI_calldue, key, sizeof(key));
}
