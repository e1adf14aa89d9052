/*
 * apply_call.c - collaborations: made, and changed by those who are in them.
 *
 * Role:    loads a call, lets call_machine.c do the step, tells it, stores it,
 *          and answers.
 * Process: keeper.
 * Trust:   records are checked; users, sessions and devices come from the
 *          store.
 * See:     doc/protocol.md, Collaborations; call_table.def;
 *          doc/decisions/020.
 */
#include "keeper/apply.h"

#include <string.h>

#include "base/count.h"
#include "base/json.h"
#include "keeper/call_work.h"
#include "shm/call_json.h"

/* Calls that one user is in at the same time; to ring is not to be in. */
#define JOINED_MAX 16

/* ---- replies ---- */

struct answer {
	const struct origin *from;
	uint64_t req;
	int rc;
	bool has_call; /* call_work.call */
	const uint64_t *unknown;
	size_t unknown_count;
};

static void
answer(struct keeper *keeper, const struct answer *answer)
{
	size_t unknown_len = answer->unknown_count * sizeof(uint64_t);
	struct record_call_reply *reply;
	struct user_name name;
	struct buf text = {0};

	if (answer->has_call &&
	    (answer->rc == 0 || answer->rc == ERR_DUPLICATE)) {
		call_creator_name(keeper, &call_work.call, &name);
		json_object_begin(&text);
		call_json_now(&text, &call_work.call,
		    &(struct blob){name.text, name.len});
		json_object_end(&text);
	}
	reply = route_begin(
	    keeper, answer->from, sizeof(*reply) + unknown_len + text.len);
	if (reply != NULL) {
		*reply = (struct record_call_reply){
		    .req = answer->req,
		    .call = answer->has_call ? call_work.call.id : 0,
		    .rc = answer->rc,
		    .state = answer->has_call ? call_work.call.row.state
					      : CALL_STATE_END,
		    .unknown_count = (uint32_t)answer->unknown_count,
		    .text_len = (uint32_t)text.len,
		};
		if (unknown_len > 0)
			memcpy(reply + 1, answer->unknown, unknown_len);
		if (text.len > 0)
			memcpy((uint8_t *)(reply + 1) + unknown_len, text.data,
			    text.len);
		route_end(keeper, answer->from, RECORD_CALL_REPLY,
		    sizeof(*reply) + unknown_len + text.len);
	}
	buf_fini(&text);
}

void
call_refuse(
    struct keeper *keeper, const struct origin *from, uint64_t req, int rc)
{
	answer(keeper, &(struct answer){.from = from, .req = req, .rc = rc});
}

/* ---- whom one may call ---- */

struct guests {
	const uint64_t *users;
	uint32_t count;
	struct call_guest list[RECIPIENTS_MAX];
	uint64_t unknown[RECIPIENTS_MAX];
	size_t unknown_count;
};

static bool
are_sound(const struct guests *guests, uint64_t caller)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < guests->count; i++) {
		uint64_t user = guests->users[i];

		if (user <= last || user == caller || user > USER_ID_MAX)
			return false;
		last = user;
	}
	return true;
}

static int
is_busy(struct keeper *keeper, uint64_t user, uint64_t call, bool *is_busy_out)
{
	struct userhead head;
	int rc;

	rc = call_is_in_any(&keeper->txn, user, call, is_busy_out);
	if (rc != 0 || *is_busy_out)
		return rc;
	rc = userhead_get(&keeper->txn, user, &head);
	*is_busy_out = rc == 0 && announce_status(keeper, &head) == STATUS_BUSY;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* @return 0, ERR_NOT_FOUND: see unknown; the store's error */
static int
look_at_guests(struct keeper *keeper, uint64_t caller, uint64_t call,
    struct guests *guests)
{
	int rc = 0;

	guests->unknown_count = 0;
	for (uint32_t i = 0; rc == 0 && i < guests->count; i++) {
		struct call_guest *guest = &guests->list[i];
		bool may = false;

		guest->user = guests->users[i];
		rc = keeper_may_write(keeper, caller, guest->user, false, &may);
		if (rc == 0 && !may)
			guests->unknown[guests->unknown_count++] = guest->user;
		if (rc == 0)
			rc =
			    is_busy(keeper, guest->user, call, &guest->is_busy);
	}
	if (rc == 0 && guests->unknown_count > 0)
		return ERR_NOT_FOUND;
	return rc;
}

/* ---- P_COLLABORATION_CREATE ---- */

static bool
count_joined(void *ctx, uint64_t id, bool is_in)
{
	unsigned *count = ctx;

	(void)id;
	*count += is_in;
	return true;
}

static int
check_joined(struct keeper *keeper, uint64_t user)
{
	unsigned count = 0;
	int rc = call_each_open(&keeper->txn, user, count_joined, &count);

	return rc == 0 && count >= JOINED_MAX ? ERR_CONFLICT : rc;
}

/* A retry? Then call_work.call is what it has made. */
static int
find_made(struct keeper *keeper, const struct record_call_create *record,
    bool *has_call_out)
{
	uint64_t id;
	int rc;

	rc =
	    call_find_key(&keeper->txn, record->user, record->client_hash, &id);
	if (rc == 0)
		rc = call_load(keeper, id);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return rc;
	if (call_work.call.row.request_hash != record->request_hash)
		return ERR_CONFLICT;
	*has_call_out = true;
	return ERR_DUPLICATE;
}

static int
make(struct keeper *keeper, const struct record_call_create *record,
    const struct guests *guests, uint32_t device)
{
	struct call_input input = call_input_now(keeper);

	memset(&call_work.call, 0, sizeof(call_work.call));
	call_work.call.id = keeper_next_id(keeper);
	call_work.call.row.request_hash = record->request_hash;
	call_work.call.row.boot = keeper->boot;
	memcpy(call_work.call.row.client_hash, record->client_hash,
	    sizeof(call_work.call.row.client_hash));
	memcpy(call_work.payload,
	    (const uint8_t *)(guests->users + guests->count),
	    record->payload_len);
	call_work.call.payload =
	    (struct blob){call_work.payload, record->payload_len};
	input.user = record->user;
	input.session = record->session;
	input.device = device;
	input.guests = guests->list;
	input.guest_count = guests->count;
	call_begin(&call_work.call, (enum call_kind)record->kind, &input,
	    &call_work.effects);
	keeper->batch.calls++;
	return call_store(keeper, record->session);
}

/* What the asker is told; else the batch has failed. */
static bool
is_answer(const struct keeper *keeper, int rc)
{
	return keeper->txn.rc == 0 && keeper->presence_txn.rc == 0 &&
	       (rc == 0 || rc == ERR_DUPLICATE || rc == ERR_CONFLICT ||
		   rc == ERR_FORBIDDEN || rc == ERR_NOT_FOUND ||
		   rc == ERR_TOO_LARGE);
}

int
apply_call_create(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_call_create *record = payload;
	struct answer reply = {.from = from, .req = record->req};
	struct userhead_device *device;
	struct guests guests = {.count = record->user_count};
	struct record_cursor cursor;
	struct userhead head;

	record_cursor_init(&cursor, record + 1, len - sizeof(*record));
	if (guests.count > RECIPIENTS_MAX)
		return ERR_BAD_REQUEST;
	guests.users = record_take(&cursor, guests.count * sizeof(uint64_t));
	record_take(&cursor, record->payload_len);
	if (!record_is_whole(&cursor) || guests.count == 0 ||
	    guests.count >= CALL_PARTS_MAX || record->kind >= CALL_KIND_END ||
	    record->payload_len > CALL_PAYLOAD_MAX ||
	    !are_sound(&guests, record->user))
		return ERR_BAD_REQUEST;
	reply.rc = keeper_session_ask(
	    keeper, from, record->user, record->session, &head, &device);
	if (reply.rc == ERR_STALE)
		return 0;
	if (reply.rc == 0)
		reply.rc = find_made(keeper, record, &reply.has_call);
	if (reply.rc == 0)
		reply.rc = check_joined(keeper, record->user);
	if (reply.rc == 0)
		reply.rc = look_at_guests(keeper, record->user, 0, &guests);
	if (reply.rc == 0) {
		reply.rc = make(keeper, record, &guests, device->number);
		reply.has_call = reply.rc == 0;
	}
	if (!is_answer(keeper, reply.rc))
		return reply.rc;
	reply.unknown = guests.unknown;
	reply.unknown_count = guests.unknown_count;
	answer(keeper, &reply);
	return 0;
}

/* ---- the other commands ---- */

static const enum call_command commands[CALL_ASK_COUNT] = {
    [CALL_ASK_ACCEPT] = CALL_ACCEPT,
    [CALL_ASK_CANCEL] = CALL_CANCEL,
    [CALL_ASK_END] = CALL_END,
    [CALL_ASK_INVITE] = CALL_INVITE,
    [CALL_ASK_LEAVE] = CALL_LEAVE,
    [CALL_ASK_REJECT] = CALL_REJECT,
};

/* Of a call that is loaded, by one of its participants or somebody else. */
static int
ask(struct keeper *keeper, const struct record_call_ask *record,
    struct guests *guests, uint32_t device)
{
	struct call_input input = call_input_now(keeper);
	const struct call_part *part =
	    call_find_part(&call_work.call, record->user);
	int rc = 0;

	if (part == NULL)
		return ERR_NOT_FOUND;
	if (record->ask == CALL_ASK_INVITE)
		rc = look_at_guests(
		    keeper, record->user, call_work.call.id, guests);
	if (rc == 0 && record->ask == CALL_ASK_ACCEPT && !call_part_is_in(part))
		rc = check_joined(keeper, record->user);
	if (rc != 0)
		return rc;
	input.command = commands[record->ask];
	input.user = record->user;
	input.session = record->session;
	input.device = device;
	input.guests = guests->list;
	input.guest_count = guests->count;
	rc = call_step(&call_work.call, &input, &call_work.effects);
	if (rc == 0 && call_work.effects.is_changed)
		rc = call_store(keeper, record->session);
	return rc;
}

int
apply_call_ask(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_call_ask *record = payload;
	struct answer reply = {.from = from, .req = record->req};
	struct guests guests = {.count = record->user_count};
	struct userhead_device *device;
	struct record_cursor cursor;
	struct userhead head;

	record_cursor_init(&cursor, record + 1, len - sizeof(*record));
	if (guests.count > RECIPIENTS_MAX)
		return ERR_BAD_REQUEST;
	guests.users = record_take(&cursor, guests.count * sizeof(uint64_t));
	if (!record_is_whole(&cursor) || record->ask >= CALL_ASK_COUNT ||
	    !are_sound(&guests, record->user))
		return ERR_BAD_REQUEST;
	reply.rc = keeper_session_ask(
	    keeper, from, record->user, record->session, &head, &device);
	if (reply.rc == ERR_STALE)
		return 0;
	if (reply.rc == 0)
		reply.rc = call_load(keeper, record->call);
	if (reply.rc == 0)
		reply.rc = ask(keeper, record, &guests, device->number);
	if (!is_answer(keeper, reply.rc))
		return reply.rc;
	/* to somebody else it does not exist */
	reply.has_call = reply.rc != ERR_NOT_FOUND;
	reply.unknown = guests.unknown;
	reply.unknown_count = guests.unknown_count;
	answer(keeper, &reply);
	return 0;
}
