/*
 * cmd_message.c - sending, acknowledging, marking as read, typing.
 *
 * Role:    checks the fields and hands a record to the keeper; what the
 *          keeper says becomes the reply.
 * Process: worker.
 * See:     doc/protocol.md, Messages
 */
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/crypto.h"
#include "net/net.h"
#include "shm/call.h"
#include "worker/attachment.h"
#include "worker/event.h"
#include "worker/limit.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

#define NO_SUCH_CALL "CollaborationId: there is no such collaboration"
#define NOT_IN_CALL  "CollaborationId: you are not in it now"

/* ---- P_SEND_MESSAGE ---- */

/* To whom: people, a group, or those who are in a call. */
struct target {
	uint64_t users[RECIPIENTS_MAX];
	size_t user_count;
	struct conv_key room; /* all 0: to the users */
};

struct send_fields {
	struct target to;
	const char *body;
	size_t body_len;
	const char *client_id;
	size_t client_id_len;
	const char *type;
	size_t type_len;
	struct buf attachment;
	uint64_t reply_to;
	int64_t client_time_ms;
};

static int
read_room(struct request *request, const char *field, enum conv_kind kind,
    struct conv_key *out)
{
	uint64_t id;
	int rc = request_id(request, field, FIELD_REQUIRED, &id);

	if (rc == 0)
		conv_key_of(kind, id, out);
	return rc;
}

/* Exactly one of ToUserList, GroupId, CollaborationId. */
static int
read_target(struct request *request, struct target *out)
{
	const struct json_object *value;
	bool has_list =
	    json_get_value(request->json, "ToUserList", &value) == 0;
	bool has_group = json_get_value(request->json, "GroupId", &value) == 0;
	bool has_call =
	    json_get_value(request->json, "CollaborationId", &value) == 0;

	if (has_list + has_group + has_call != 1)
		return request_fail(request, ERR_BAD_REQUEST,
		    "ToUserList, GroupId, CollaborationId: expected exactly "
		    "one of them");
	out->user_count = 0;
	memset(&out->room, 0, sizeof(out->room));
	if (has_group)
		return read_room(request, "GroupId", CONV_GROUP, &out->room);
	if (has_call)
		return read_room(
		    request, "CollaborationId", CONV_COLLABORATION, &out->room);
	return request_users(
	    request, "ToUserList", out->users, &out->user_count);
}

static int
read_attachment(struct request *request, struct buf *out)
{
	const struct json_object *object;
	const char *fault;
	int rc;

	rc = json_get_object(request->json, "Attachment", &object);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return request_bad_field(
		    request, "Attachment", "an object with a Url");
	fault = attachment_read(object, request->worker->conf, out);
	return fault == NULL ? 0
			     : request_fail(request, ERR_BAD_REQUEST,
				   "Attachment.%s", fault);
}

static int
read_options(struct request *request, struct send_fields *fields)
{
	int rc;

	fields->type = "text";
	fields->type_len = 4;
	fields->client_time_ms = INT64_MIN;
	rc = request_string(request, "Type", FIELD_OPTIONAL, 1, TYPE_MAX,
	    &fields->type, &fields->type_len);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_i64(request, "ClientInitiationTime",
		    FIELD_OPTIONAL, &fields->client_time_ms);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_id(
		    request, "ReplyTo", FIELD_OPTIONAL, &fields->reply_to);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = read_attachment(request, &fields->attachment);
	return rc;
}

static int
read_send(struct request *request, struct send_fields *fields)
{
	const struct conf *conf = request->worker->conf;
	int rc;

	rc = read_target(request, &fields->to);
	if (rc == 0)
		rc = request_string(request, "Message", FIELD_REQUIRED, 1,
		    (size_t)conf->policy_max_text_size, &fields->body,
		    &fields->body_len);
	if (rc == 0)
		rc = request_string(request, "ClientMessageId", FIELD_REQUIRED,
		    1, CLIENT_ID_MAX, &fields->client_id,
		    &fields->client_id_len);
	if (rc == 0)
		rc = read_options(request, fields);
	return rc;
}

/*
 * What makes a retry the same request: everything that is stored but the
 * time, which a client may take anew.
 */
static uint64_t
hash_request(const struct worker *worker, const struct record_send *record,
    const uint8_t *tail, size_t len)
{
	uint8_t hash[CRYPTO_HASH128_LEN];
	uint8_t seed[CRYPTO_HASH128_LEN];
	bool is_call = conv_key_kind(&record->room) == CONV_COLLABORATION;
	uint64_t shape[5] = {record->recipient_count, record->body_len,
	    record->type_len, record->reply_to,
	    conv_key_id(&record->room) | (uint64_t)is_call << 63};
	/* as ever where there is none: a retry may come after an upgrade */
	size_t shape_len = conv_key_has_seats(&record->room)
			       ? sizeof(shape)
			       : 4 * sizeof(shape[0]);
	uint64_t out;

	crypto_siphash128(worker->meta.secret, shape, shape_len, seed);
	crypto_siphash128(worker->meta.secret, tail, len, hash);
	for (int i = 0; i < CRYPTO_HASH128_LEN; i++)
		hash[i] ^= seed[i];
	memcpy(&out, hash, sizeof(out));
	return out;
}

static uint8_t *
append(uint8_t *at, const void *data, size_t len)
{
	if (len > 0)
		memcpy(at, data, len);
	return at + len;
}

static int
put_send(struct request *request, const struct send_fields *fields)
{
	struct session *session = request->session;
	struct worker *worker = request->worker;
	struct ring_writer *writer = bus_writer(worker->bus, SLOT_KEEPER);
	size_t users_len = fields->to.user_count * sizeof(uint64_t);
	struct record_send *record;
	size_t len = sizeof(*record) + users_len + fields->body_len +
		     fields->type_len + fields->client_id_len +
		     fields->attachment.len;
	uint8_t *tail;
	uint8_t *at;

	record = ring_put_begin(writer, len);
	if (record == NULL)
		return request_fail(
		    request, ERR_UNAVAILABLE, "the server is busy, try again");
	*record = (struct record_send){
	    .user = session->user,
	    .session = session->id,
	    .client_time_ms = fields->client_time_ms,
	    .reply_to = fields->reply_to,
	    .body_len = (uint32_t)fields->body_len,
	    .room = fields->to.room,
	    .recipient_count = (uint32_t)fields->to.user_count,
	    .attachment_len = (uint16_t)fields->attachment.len,
	    .type_len = (uint8_t)fields->type_len,
	    .client_id_len = (uint8_t)fields->client_id_len,
	};
	tail = (uint8_t *)(record + 1);
	at = append(tail, fields->to.users, users_len);
	at = append(at, fields->body, fields->body_len);
	at = append(at, fields->type, fields->type_len);
	at = append(at, fields->client_id, fields->client_id_len);
	at = append(at, fields->attachment.data, fields->attachment.len);
	record->request_hash =
	    hash_request(worker, record, tail, (size_t)(at - tail));
	crypto_siphash128(worker->meta.secret, fields->client_id,
	    fields->client_id_len, record->client_id_hash);
	record->req = pending_add(request,
	    (uint32_t)(sizeof(struct record_send_reply) + users_len), 0);
	if (fields->to.user_count > 0) {
		learn_keep(worker, record->req, RECORD_SEND, record, len);
		learn_mark(worker, record->req, fields->to.users,
		    fields->to.user_count);
	}
	ring_put_end(writer, RECORD_SEND, len);
	return 0;
}

int
cmd_send_message(struct request *request)
{
	struct send_fields fields;
	int rc;

	memset(&fields.attachment, 0, sizeof(fields.attachment));
	fields.reply_to = 0;
	rc = read_send(request, &fields);
	if (rc == 0 && learn_is_ahead(request->session, fields.to.users,
			   fields.to.user_count))
		rc = ERR_AGAIN;
	if (rc == 0)
		rc = put_send(request, &fields);
	buf_fini(&fields.attachment);
	return rc;
}

static const char *
send_refusal(const struct record_send_reply *reply)
{
	switch (reply->rc) {
	case ERR_NOT_FOUND:
		if (conv_key_kind(&reply->conv) == CONV_GROUP)
			return "GroupId: you are in no such group";
		if (conv_key_kind(&reply->conv) == CONV_COLLABORATION)
			return NO_SUCH_CALL;
		return "ToUserList: UserIds are not known to you; nothing was "
		       "stored";
	case ERR_CONFLICT:
		if (reply->call_state != 0)
			return NOT_IN_CALL;
		return "ClientMessageId: was used for another message";
	case ERR_BAD_REQUEST:
		return "ReplyTo: expected a message of this conversation";
	default:
		return err_text(reply->rc);
	}
}

static void
put_send_result(struct buf *out, const struct record_send_reply *reply)
{
	json_put_id(out, "MessageId", reply->message_id);
	event_put_conv(out, &reply->conv);
	json_put_i64(out, "ServerTime", message_id_time_ms(reply->message_id));
	event_put_change(out, (unsigned)reply->flags, reply->changed_ms);
	if (reply->seq != 0)
		json_put_u64(out, "Seq", reply->seq);
}

static void
put_send_refusal(struct buf *out, const struct record_send_reply *reply,
    const char *message, const uint64_t *unknown)
{
	json_put_text(out, "Message", message);
	if (reply->call_state != 0)
		json_put_text(out, "State",
		    call_state_name((enum call_state)(reply->call_state - 1)));
	if (reply->unknown_count > 0) {
		json_key(out, "UserIds");
		json_array_begin(out);
		for (uint32_t i = 0; i < reply->unknown_count; i++)
			json_u64(out, unknown[i]);
		json_array_end(out);
	}
	if (reply->rc == ERR_STORAGE_FULL || reply->rc == ERR_UNAVAILABLE)
		json_put_i64(out, "RetryAfter", RETRY_AFTER_MS);
}

/* What the reply to a command is made of. */
static const struct answer {
	int (*fn)(struct request *request);
	void (*put_result)(
	    struct buf *out, const struct record_send_reply *reply);
	const char *(*refusal)(const struct record_send_reply *reply);
} answers[] = {
    {cmd_create_group, group_put_result, group_refusal},
    {cmd_delete_message, put_send_result, edit_refusal},
    {cmd_edit_message, put_send_result, edit_refusal},
    {cmd_leave_group, group_put_result, group_refusal},
    {cmd_send_message, put_send_result, send_refusal},
    {cmd_update_group, group_put_result, group_refusal},
};

static const struct answer *
answer_to(const struct command *command)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		if (answers[i].fn == command->fn)
			return &answers[i];
	}
	return NULL;
}

void
send_reply(struct worker *worker, const struct record_send_reply *reply,
    const uint64_t *unknown)
{
	struct pending *pending = pending_find(worker, reply->req);
	bool is_stored = reply->rc == 0 || reply->rc == ERR_DUPLICATE;
	const struct answer *answer;
	struct session *session;
	struct buf *out;

	answer = pending == NULL ? NULL : answer_to(pending->command);
	if (answer == NULL)
		return;
	if (reply->rc == ERR_NOT_FOUND &&
	    learn_begin(worker, reply->req, unknown, reply->unknown_count))
		return;
	learn_done(pending, is_stored);
	session = pending->owner;
	out = reply_begin(
	    worker, pending->command->name, &pending->id, reply->rc);
	MEASURE_US(send_us, (uint64_t)(clock_mono_us() - pending->started_us));
	pending_remove(worker, pending);
	if (session == NULL)
		return;
	if (reply->member_count > 0)
		limit_pace_group(session, reply->member_count, clock_mono_us());
	if (is_stored)
		answer->put_result(out, reply);
	else
		put_send_refusal(out, reply, answer->refusal(reply), unknown);
	json_object_end(out);
	delivery_reply(session, is_stored ? reply->seq : 0, out);
}

/* ---- P_ACK, P_MARK_READ ---- */

int
cmd_ack(struct request *request)
{
	struct session *session = request->session;
	uint64_t seq;
	int rc;

	rc = request_u64(request, "Seq", FIELD_REQUIRED, 0, SEQ_MAX, &seq);
	if (rc != 0)
		return rc;
	if (seq > session->sent)
		return request_bad_field(request, "Seq",
		    "at most %llu, the last one sent to this device",
		    (unsigned long long)session->sent);
	COUNT(acks);
	delivery_ack(session, seq);
	return 0;
}

int
cmd_mark_read(struct request *request)
{
	struct session *session = request->session;
	struct record_mark_read record = {
	    .user = session->user,
	    .session = session->id,
	};
	const char *text;
	size_t len;
	int rc;

	rc = request_string(request, "ConversationId", FIELD_REQUIRED, 1,
	    CONV_TEXT_MAX, &text, &len);
	if (rc == 0)
		rc = request_id(
		    request, "MessageId", FIELD_REQUIRED, &record.message_id);
	if (rc != 0)
		return rc;
	if (conv_key_parse(text, len, &record.conv) != 0)
		return request_fail(request, ERR_NOT_FOUND,
		    "ConversationId: there is no such conversation");
	record.req = pending_add(request, sizeof(struct record_reply), 0);
	rc = bus_put(request->worker->bus, SLOT_KEEPER, RECORD_MARK_READ,
	    &record, sizeof(record));
	if (rc != 0)
		pending_remove(
		    request->worker, pending_find(request->worker, record.req));
	return rc == 0 ? 0 : ERR_UNAVAILABLE;
}

/* ---- P_TYPING ---- */

static void
typing_send(struct worker *worker, int n, const struct record_typing *record,
    const uint64_t *targets)
{
	size_t targets_len = record->target_count * sizeof(*targets);
	struct {
		struct record_typing record;
		uint64_t targets[RECIPIENTS_MAX];
	} out = {.record = *record};
	struct record_cursor tail;

	if (SLOT_WORKER_0 + n == worker->process->slot) {
		record_cursor_init(&tail, targets, targets_len);
		ephemeral_typing(worker, record, &tail);
		return;
	}
	memcpy(out.targets, targets, targets_len);
	if (bus_put(worker->bus, SLOT_WORKER_0 + n, RECORD_TYPING, &out,
		sizeof(out.record) + targets_len) != 0)
		COUNT(ephemeral_dropped);
}

static void
typing_refuse(struct worker *worker, struct session *session,
    const struct request_id *id, const struct job *job)
{
	bool is_group = conv_key_kind(&job->conv) == CONV_GROUP;
	struct buf *out;

	if (job->rc != ERR_CONFLICT) {
		reply_error(session, "P_TYPING", id, job->rc,
		    job->rc != ERR_NOT_FOUND ? NULL
		    : is_group ? "GroupId: you are in no such group"
			       : NO_SUCH_CALL,
		    -1);
		return;
	}
	out = reply_begin(worker, "P_TYPING", id, job->rc);
	json_put_text(out, "Message", NOT_IN_CALL);
	json_put_text(out, "State", job->state);
	reply_finish(session, out);
}

/* It costs as much as a message to so many, and only a failure is answered. */
static void
typing_answer(struct worker *worker, const struct job *job)
{
	struct pending *pending = pending_find(worker, job->req);
	struct session *session = pending == NULL ? NULL : pending->owner;
	struct request_id id;

	if (pending == NULL)
		return;
	id = pending->id;
	pending_remove(worker, pending);
	if (session == NULL)
		return;
	session->is_typing = false;
	if (job->member_count > 0)
		limit_pace_group(session, job->member_count, clock_mono_us());
	if (job->rc != 0)
		typing_refuse(worker, session, &id, job);
}

/* The thread has looked who may know and where they are. */
static void
typing_done(struct worker *worker, struct job *job)
{
	const struct job_place *places = (const void *)job->out.data;
	size_t place_count = job->out.len / sizeof(*places);
	struct record_typing record = {
	    .user = job->user,
	    .conv = job->conv,
	    .started = job->is_started,
	};
	uint64_t targets[RECIPIENTS_MAX];

	typing_answer(worker, job);
	for (int n = 0; n < bus_worker_count(worker->bus); n++) {
		record.target_count = 0;
		for (size_t i = 0; i < place_count; i++) {
			if ((places[i].workers & 1ULL << n) == 0)
				continue;
			targets[record.target_count++] = places[i].user;
			if (record.target_count == RECIPIENTS_MAX) {
				typing_send(worker, n, &record, targets);
				record.target_count = 0;
			}
		}
		if (record.target_count > 0)
			typing_send(worker, n, &record, targets);
	}
}

static bool
text_is(const char *text, size_t len, const char *expected)
{
	return len == strlen(expected) && memcmp(text, expected, len) == 0;
}

static void
typing_conv(const struct session *session, const struct target *to,
    struct conv_key *out)
{
	uint64_t members[RECIPIENTS_MAX + 1];
	size_t before = 0;

	if (conv_key_has_seats(&to->room)) {
		*out = to->room;
		return;
	}
	while (before < to->user_count && to->users[before] < session->user)
		before++;
	memcpy(members, to->users, before * sizeof(*members));
	members[before] = session->user;
	memcpy(members + before + 1, to->users + before,
	    (to->user_count - before) * sizeof(*members));
	conv_key_make(members, to->user_count + 1, out);
}

int
cmd_typing(struct request *request)
{
	struct session *session = request->session;
	struct target to;
	const char *state;
	size_t len;
	struct job *job;
	int rc;

	rc = read_target(request, &to);
	if (rc != 0)
		return rc;
	rc = request_string(
	    request, "State", FIELD_REQUIRED, 1, 16, &state, &len);
	if (rc != 0 || (!text_is(state, len, "STARTED") &&
			   !text_is(state, len, "STOPPED")))
		return request_bad_field(
		    request, "State", "STARTED or STOPPED");
	/* One at a time: it is nothing that could not be lost. */
	if (session->is_typing) {
		COUNT(ephemeral_dropped);
		return 0;
	}
	session->is_typing = true;
	job = reader_job_new(session, job_typing, typing_done);
	job->is_started = text_is(state, len, "STARTED");
	job->user_count = to.user_count;
	memcpy(job->users, to.users, to.user_count * sizeof(*to.users));
	typing_conv(session, &to, &job->conv);
	return page_ask(request, job, 0);
}
