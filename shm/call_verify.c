/*
 * call_verify.c - rows of calls, judged.
 *
 * Role:    does each row of the tables of call.h agree with the others?
 * Process: parleyctl check; offline checks.
 * Blocks:  on the disk.
 * Trust:   none, see verify.c.
 */
#include <string.h>

#include "shm/call.h"
#include "shm/conv.h"
#include "shm/group.h"

#define PAIR_KEY_LEN   (2 * sizeof(uint64_t))
#define CLIENT_KEY_LEN (sizeof(uint64_t) + 16)

static bool
is_there(struct txn *txn, enum store_dbi dbi, uint64_t first, uint64_t second)
{
	uint8_t key[PAIR_KEY_LEN];
	struct blob value;

	key_u64(key, first);
	key_u64(key + sizeof(uint64_t), second);
	return txn_get(txn, dbi, key, sizeof(key), &value) == 0;
}

static const char *
judge_part(struct txn *txn, struct call *call, const struct call_part *part)
{
	bool is_open = call->row.state != CALL_ENDED &&
		       (part->state == PART_RINGING || call_part_is_in(part));

	if (call_find_part(call, part->user) != part)
		return "a participant stands in it twice";
	if (call->row.state == CALL_ENDED && part->deadline_ms != 0)
		return "it has ended and still has a deadline";
	if (is_open != is_there(txn, DBI_usercall, part->user, call->id))
		return "the open calls of a participant do not agree with it";
	if ((part->outcome != CALL_OUTCOME_NONE) !=
	    is_there(txn, DBI_callhist, part->user, call->id))
		return "the history of a participant does not agree with it";
	return NULL;
}

/* Once somebody has written, who is in it has a row that says so. */
static const char *
judge_seats(struct txn *txn, const struct call *call)
{
	struct member member;
	struct conv_key key;
	struct conv conv;

	conv_key_of(CONV_COLLABORATION, call->id, &key);
	if (conv_get(txn, &key, &conv) != 0)
		return NULL;
	for (uint32_t i = 0; i < call->row.part_count; i++) {
		const struct call_part *part = &call->parts[i];

		if (call_part_is_in(part) &&
		    (member_get(txn, call->id, part->user, &member) != 0 ||
			!member_is_in(&member)))
			return "who is in it does not see what is said in it";
	}
	return NULL;
}

static const char *
judge_call(struct txn *txn, struct call *call)
{
	const char *what = judge_seats(txn, call);
	uint64_t id;

	for (uint32_t i = 0; what == NULL && i < call->row.part_count; i++)
		what = judge_part(txn, call, &call->parts[i]);
	if (what != NULL)
		return what;
	if (call->row.due_ms != 0 &&
	    !is_there(txn, DBI_calldue, (uint64_t)call->row.due_ms, call->id))
		return "its deadline is not in the list of deadlines";
	if (call_find_key(
		txn, call->parts[0].user, call->row.client_hash, &id) != 0)
		return "its client's id is not there";
	return NULL;
}

const char *
call_verify(struct txn *txn, enum store_dbi dbi, const struct blob *key,
    const struct blob *value)
{
	const uint8_t *at = key->data;
	size_t key_len = dbi == DBI_calls     ? sizeof(uint64_t)
			 : dbi == DBI_callkey ? CLIENT_KEY_LEN
					      : PAIR_KEY_LEN;
	struct call call;
	uint64_t id = 0;

	if (key->len != key_len)
		return "its key has a wrong length";
	if (dbi == DBI_calls)
		memcpy(&id, at, sizeof(id));
	else if (dbi != DBI_callkey)
		id = key_get_u64(at + sizeof(uint64_t));
	else if (value->len == sizeof(id))
		memcpy(&id, value->data, sizeof(id));
	else
		return "its length does not fit";
	if (call_get(txn, id, &call) != 0)
		return dbi == DBI_calls ? "its length does not fit"
					: "its call is not there";
	if (dbi == DBI_calls)
		return judge_call(txn, &call);
	if (dbi == DBI_callkey)
		return memcmp(at + sizeof(uint64_t), call.row.client_hash,
			   sizeof(call.row.client_hash)) == 0
			   ? NULL
			   : "its call has been made by another id";
	if (dbi == DBI_calldue)
		return key_get_u64(at) == (uint64_t)call.row.due_ms
			   ? NULL
			   : "its call has another deadline";
	return call_find_part(&call, key_get_u64(at)) != NULL
		   ? NULL
		   : "its user is no participant of the call";
}
