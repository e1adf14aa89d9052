/*
 * cmd_call.c - collaborations: P_COLLABORATION_*.
 *
 * Role:    checks the fields and hands a record to the keeper; what the
 *          keeper says becomes the reply; its live events go to the devices
 *          for which they are.
 * Process: worker.
 * See:     doc/protocol.md, Collaborations; keeper/call_table.def.
 */
#include <string.h>

#include "base/count.h"
#include "base/crypto.h"
#include "net/net.h"
#include "shm/call_json.h"
#include "worker/worker_priv.h"

/* ---- P_COLLABORATION_CREATE ---- */

struct create {
	struct record_call_create record;
	uint64_t users[RECIPIENTS_MAX];
	const char *client_id;
	size_t client_id_len;
	struct buf payload;
};

static int
read_users(struct request *request, uint64_t *users_out, uint32_t *count_out)
{
	int64_t max = request->worker->conf->calls_max_participants;
	size_t count;
	int rc;

	rc = request_users(request, "ToUserList", users_out, &count);
	if (rc != 0)
		return rc;
	if (count == 0 || (int64_t)count >= max)
		return request_bad_field(request, "ToUserList",
		    "1 to %lld others", (long long)max - 1);
	*count_out = (uint32_t)count;
	return 0;
}

static int
read_kind(struct request *request, uint32_t *kind_out)
{
	enum call_kind kind;
	const char *text;
	size_t len;
	int rc;

	rc =
	    request_string(request, "Kind", FIELD_REQUIRED, 1, 16, &text, &len);
	if (rc != 0 || call_kind_parse(text, len, &kind) != 0)
		return request_bad_field(
		    request, "Kind", "VIDEO, AUDIO, SCREEN or DATA");
	*kind_out = kind;
	return 0;
}

/* Written anew, so that only what was understood is stored and passed on. */
static int
read_payload(struct request *request, struct buf *out)
{
	int64_t max = request->worker->conf->calls_max_payload;
	const struct json_object *value;
	int rc;

	rc = json_get_value(request->json, "Payload", &value);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return request_bad_field(request, "Payload", "a value");
	json_value(out, value);
	if ((int64_t)out->len > max || out->len > CALL_PAYLOAD_MAX)
		return request_fail(request, ERR_TOO_LARGE,
		    "Payload: expected at most %lld bytes", (long long)max);
	return 0;
}

static int
read_create(struct request *request, struct create *create)
{
	int rc;

	rc = read_users(request, create->users, &create->record.user_count);
	if (rc == 0)
		rc = read_kind(request, &create->record.kind);
	if (rc == 0)
		rc = request_string(request, "ClientCollaborationId",
		    FIELD_REQUIRED, 1, CLIENT_ID_MAX, &create->client_id,
		    &create->client_id_len);
	if (rc == 0)
		rc = read_payload(request, &create->payload);
	create->record.payload_len = (uint32_t)create->payload.len;
	return rc;
}

static uint64_t
hash_request(const struct worker *worker,
    const struct record_call_create *record, const uint8_t *tail, size_t len)
{
	uint8_t hash[CRYPTO_HASH128_LEN];
	uint64_t out;

	crypto_siphash128(worker->meta.secret, tail, len, hash);
	memcpy(&out, hash, sizeof(out));
	return out ^ ((uint64_t)record->kind << 32 | record->user_count);
}

/* Room in the keeper's ring for the longest reply. */
static uint32_t
reply_reserve(void)
{
	/* a call may be of a time when more were allowed */
	return (uint32_t)(sizeof(struct record_call_reply) +
			  RECIPIENTS_MAX * sizeof(uint64_t) +
			  call_json_max(CALL_PARTS_MAX));
}

static int
put_create(struct request *request, struct create *create)
{
	struct worker *worker = request->worker;
	struct record_call_create *record = &create->record;
	size_t users_len = record->user_count * sizeof(uint64_t);
	size_t tail_len = users_len + create->payload.len;
	struct ring_writer *writer = bus_writer(worker->bus, SLOT_KEEPER);
	uint8_t *room = ring_put_begin(writer, sizeof(*record) + tail_len);
	uint8_t *tail;

	if (room == NULL)
		return ERR_UNAVAILABLE;
	tail = room + sizeof(*record);
	memcpy(tail, create->users, users_len);
	if (create->payload.len > 0)
		memcpy(tail + users_len, create->payload.data,
		    create->payload.len);
	record->request_hash = hash_request(worker, record, tail, tail_len);
	crypto_siphash128(worker->meta.secret, create->client_id,
	    create->client_id_len, record->client_hash);
	record->req = pending_add(request, reply_reserve(), 0);
	memcpy(room, record, sizeof(*record));
	learn_keep(worker, record->req, RECORD_CALL_CREATE, room,
	    sizeof(*record) + tail_len);
	ring_put_end(writer, RECORD_CALL_CREATE, sizeof(*record) + tail_len);
	return 0;
}

int
cmd_collaboration_create(struct request *request)
{
	struct create create = {
	    .record = {.user = request->session->user,
		.session = request->session->id},
	};
	int rc;

	rc = read_create(request, &create);
	if (rc == 0)
		rc = put_create(request, &create);
	buf_fini(&create.payload);
	return rc;
}

/* ---- the other commands ---- */

static int
ask(struct request *request, enum call_ask what)
{
	struct {
		struct record_call_ask record;
		uint64_t users[RECIPIENTS_MAX];
	} out = {.record = {.user = request->session->user,
		     .session = request->session->id,
		     .ask = what}};
	struct worker *worker = request->worker;
	size_t len;
	int rc;

	rc = request_id(
	    request, "CollaborationId", FIELD_REQUIRED, &out.record.call);
	if (rc == 0 && what == CALL_ASK_INVITE)
		rc = read_users(request, out.users, &out.record.user_count);
	if (rc != 0)
		return rc;
	out.record.req = pending_add(request, reply_reserve(), 0);
	len = sizeof(out.record) + out.record.user_count * sizeof(uint64_t);
	rc = bus_put(worker->bus, SLOT_KEEPER, RECORD_CALL_ASK, &out, len);
	if (rc != 0)
		pending_remove(worker, pending_find(worker, out.record.req));
	else if (what == CALL_ASK_INVITE)
		learn_keep(worker, out.record.req, RECORD_CALL_ASK, &out, len);
	return rc == 0 ? 0 : ERR_UNAVAILABLE;
}

int
cmd_collaboration_accept(struct request *request)
{
	return ask(request, CALL_ASK_ACCEPT);
}

int
cmd_collaboration_cancel(struct request *request)
{
	return ask(request, CALL_ASK_CANCEL);
}

int
cmd_collaboration_end(struct request *request)
{
	return ask(request, CALL_ASK_END);
}

int
cmd_collaboration_invite(struct request *request)
{
	return ask(request, CALL_ASK_INVITE);
}

int
cmd_collaboration_leave(struct request *request)
{
	return ask(request, CALL_ASK_LEAVE);
}

int
cmd_collaboration_reject(struct request *request)
{
	return ask(request, CALL_ASK_REJECT);
}

/* ---- answers ---- */

static const char *
refusal(const struct record_call_reply *reply)
{
	switch (reply->rc) {
	case ERR_NOT_FOUND:
		return reply->unknown_count > 0
			   ? "ToUserList: no such users in your list"
			   : "CollaborationId: there is no such collaboration";
	case ERR_FORBIDDEN:
		return "only who has made the collaboration may do that";
	case ERR_CONFLICT:
		return reply->state < CALL_STATE_END
			   ? "that is not possible in the state in which the "
			     "collaboration is"
			   : "the ClientCollaborationId was used for another "
			     "request, or you are in too many collaborations";
	case ERR_TOO_LARGE:
		return "ToUserList: more than may be in one collaboration";
	default:
		return err_text(reply->rc);
	}
}

static void
put_refusal(struct buf *out, const struct record_call_reply *reply,
    const uint64_t *unknown)
{
	json_put_text(out, "Message", refusal(reply));
	if (reply->state < CALL_STATE_END)
		json_put_text(out, "State",
		    call_state_name((enum call_state)reply->state));
	if (reply->rc == ERR_STORAGE_FULL || reply->rc == ERR_UNAVAILABLE)
		json_put_i64(out, "RetryAfter", RETRY_AFTER_MS);
	if (reply->unknown_count == 0)
		return;
	json_key(out, "UserIds");
	json_array_begin(out);
	for (uint32_t i = 0; i < reply->unknown_count; i++)
		json_u64(out, unknown[i]);
	json_array_end(out);
}

/* Of those who are in the call from now on. */
static bool
needs_ice_servers(const struct command *command)
{
	return command->fn == cmd_collaboration_create ||
	       command->fn == cmd_collaboration_accept;
}

void
call_reply(struct worker *worker, const struct record_call_reply *reply,
    struct record_cursor *tail)
{
	const uint64_t *unknown =
	    record_take(tail, reply->unknown_count * sizeof(uint64_t));
	const char *text = record_take(tail, reply->text_len);
	struct pending *pending = pending_find(worker, reply->req);
	struct pending copy;
	struct buf *out;

	if (pending == NULL || !record_is_whole(tail))
		return;
	if (reply->rc == ERR_NOT_FOUND &&
	    learn_begin(worker, reply->req, unknown, reply->unknown_count))
		return;
	copy = *pending;
	pending_remove(worker, pending);
	if (copy.owner == NULL)
		return;
	out = reply_begin(worker, copy.command->name, &copy.id, reply->rc);
	if (reply->text_len > 0) {
		json_members(out, text, reply->text_len);
		if (needs_ice_servers(copy.command))
			reply_put_ice_servers(copy.owner, out);
	} else {
		put_refusal(out, reply, unknown);
	}
	reply_finish(copy.owner, out);
}

/* ---- events ---- */

void
call_event(struct worker *worker, const struct record_call_event *record,
    struct record_cursor *tail)
{
	const struct call_target *targets =
	    record_take(tail, record->target_count * sizeof(*targets));
	const void *text = record_take(tail, record->text_len);
	struct buf *out = &worker->out;

	if (!record_is_whole(tail))
		return;
	buf_clear(out);
	buf_add(out, text, record->text_len);
	for (uint32_t i = 0; i < record->target_count; i++) {
		const struct call_target *target = &targets[i];
		struct session *s = session_index_user(worker, target->user);

		for (; s != NULL; s = s->next_same_user) {
			if (s->id == target->except ||
			    (target->only != 0 && s->id != target->only))
				continue;
			/* As for presence: what is lost, and what the job
			 * under way may not have seen, is read again. */
			if (!ephemeral_send(s, out) || s->is_presence_job)
				ephemeral_missed(s);
		}
	}
}
