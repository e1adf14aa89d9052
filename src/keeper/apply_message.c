/*
 * apply_message.c - P_SEND_MESSAGE: stored once, delivered to all or to none.
 *
 * Role:    idempotency, who may write to whom, ids, log, inboxes, deliveries.
 * Process: keeper; everything of one message is in one transaction.
 * See:     doc/protocol.md: Messages, Conversations, Inbox, Retries
 */
#include "keeper/apply.h"

#include <string.h>

#include "base/count.h"
#include "base/log.h"
#include "keeper/call_seats.h"
#include "keeper/fanout.h"
#include "keeper/sends.h"
#include "shm/conv.h"
#include "shm/roll.h"
#include "shm/users.h"

struct send {
	struct keeper *keeper;
	const struct origin *from;
	const struct record_send *record;
	const uint64_t *recipients; /* not of a group, nor of a call */
	size_t recipient_count;
	/* A session may be older than its user's name: the store's counts. */
	struct user_name name;
	uint64_t members[MEMBERS_MAX]; /* recipients and sender, sorted */
	size_t member_count;
	uint64_t unknown[RECIPIENTS_MAX];
	size_t unknown_count;
	struct userhead head; /* the sender's */
	struct userhead_device *device;
	struct conv conv;
	bool is_new_conv;
	struct member self;  /* of the group or the call */
	size_t told;         /* who are in it */
	uint32_t call_state; /* of a call that he cannot write to: 1 + it */
	struct log_message message;
	uint64_t seq;               /* the sender's own, or 0 */
	struct sent_recall *recall; /* of the device */
};

static bool
has_seats(const struct send *send)
{
	return conv_key_has_seats(&send->record->room);
}

static void
target_key(const struct send *send, struct conv_key *out)
{
	if (has_seats(send))
		*out = send->record->room;
	else
		conv_key_make(send->members, send->member_count, out);
}

/* ---- checks ---- */

static void
send_reply(struct send *send, int rc)
{
	size_t unknown_len = send->unknown_count * sizeof(uint64_t);
	struct record_send_reply *reply;
	size_t len = sizeof(*reply) + unknown_len;

	reply = route_begin(send->keeper, send->from, len);
	if (reply == NULL)
		return;
	*reply = (struct record_send_reply){
	    .req = send->record->req,
	    .user = send->record->user,
	    .session = send->record->session,
	    .message_id = send->message.id,
	    .seq = send->seq,
	    .conv = send->conv.key,
	    .rc = rc,
	    .unknown_count = (uint32_t)send->unknown_count,
	    .member_count = (uint32_t)send->told,
	    .call_state = send->call_state,
	};
	memcpy(reply + 1, send->unknown, unknown_len);
	route_end(send->keeper, send->from, RECORD_SEND_REPLY, len);
}

/* Recipients are sorted and unique; put the sender where it belongs. */
static int
collect_members(struct send *send)
{
	uint64_t sender = send->record->user;
	uint64_t last = 0;
	bool is_placed = false;

	for (uint32_t i = 0; i < send->record->recipient_count; i++) {
		uint64_t user = send->recipients[i];

		if (user <= last || user == sender || user > USER_ID_MAX)
			return ERR_BAD_REQUEST;
		if (!is_placed && sender < user) {
			send->members[send->member_count++] = sender;
			is_placed = true;
		}
		send->members[send->member_count++] = user;
		last = user;
	}
	if (!is_placed)
		send->members[send->member_count++] = sender;
	return 0;
}

/* A hash names conversations of many: be sure it is the one meant. */
static int
check_members(const struct send *send)
{
	const struct conv *conv = &send->conv;

	if (conv->member_count != send->member_count)
		return ERR_CORRUPT;
	for (uint32_t i = 0; i < conv->member_count; i++) {
		if (conv->members[i].user != send->members[i])
			return ERR_CORRUPT;
	}
	return 0;
}

/* Who is not in it learns nothing of it. A call has no conversation before the
 * first message. */
static int
find_room(struct send *send)
{
	const struct conv_key *key = &send->record->room;
	uint64_t sender = send->record->user;
	struct txn *txn = &send->keeper->txn;
	enum call_state state;
	int rc;

	send->conv.key = *key;
	rc = roll_has(txn, key, sender, &state);
	if (rc == ERR_CONFLICT)
		send->call_state = 1 + (uint32_t)state;
	if (rc != 0)
		return rc;
	rc = conv_get(txn, key, &send->conv);
	send->is_new_conv =
	    rc == ERR_NOT_FOUND && conv_key_kind(key) == CONV_COLLABORATION;
	if (send->is_new_conv)
		return 0;
	return rc == 0 ? member_get(txn, conv_key_id(key), sender, &send->self)
		       : rc;
}

static int
find_conv(struct send *send)
{
	struct conv_key key;
	int rc;

	if (has_seats(send))
		return find_room(send);
	target_key(send, &key);
	rc = conv_get(&send->keeper->txn, &key, &send->conv);
	send->is_new_conv = rc == ERR_NOT_FOUND;
	if (rc == ERR_NOT_FOUND) {
		send->conv = (struct conv){.key = key};
		rc = 0;
	} else if (rc == 0) {
		rc = check_members(send);
	}
	return rc;
}

static int
check_recipients(struct send *send)
{
	/* Members of a conversation among many may go on in it. */
	bool is_known = !send->is_new_conv && send->member_count > 2;
	bool may;
	int rc;

	if (has_seats(send))
		return 0; /* each has been brought in by somebody who may */
	for (size_t i = 0; i < send->recipient_count; i++) {
		rc = keeper_may_write(send->keeper, send->record->user,
		    send->recipients[i], is_known, &may);
		if (rc != 0)
			return rc;
		if (!may)
			send->unknown[send->unknown_count++] =
			    send->recipients[i];
	}
	return send->unknown_count > 0 ? ERR_NOT_FOUND : 0;
}

static int
check_reply_to(struct send *send)
{
	struct log_message answered;
	int rc;

	if (send->record->reply_to == 0)
		return 0;
	rc = log_get(&send->keeper->txn, send->record->reply_to, &answered);
	if (rc == ERR_NOT_FOUND ||
	    (rc == 0 && (answered.kind != LOG_MESSAGE ||
			    !conv_key_equal(&answered.conv, &send->conv.key) ||
			    (has_seats(send) &&
				!member_sees(&send->self, answered.id)))))
		return ERR_BAD_REQUEST;
	return rc;
}

/* send->recall is set with it. */
static int
find_sent(struct send *send, struct sent_entry *entry_out)
{
	struct keeper *keeper = send->keeper;
	const struct record_send *record = send->record;
	int rc;

	rc = sends_recall(keeper, record->user, send->device, &send->recall);
	if (rc != 0)
		return rc;
	return sent_recall_find(&keeper->txn, send->recall, record->user,
	    send->device->number, record->client_id_hash, entry_out);
}

/* A retry of what is stored already, or its contradiction? */
static int
check_sent(struct send *send)
{
	struct keeper *keeper = send->keeper;
	struct sent_entry entry;
	int rc;

	rc = find_sent(send, &entry);
	/* A row has been damaged since it was read: reading mends it. */
	if (rc == ERR_CORRUPT && keeper->txn.rc == 0) {
		sends_forget(keeper, send->record->user, send->device->number);
		rc = find_sent(send, &entry);
	}
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return rc;
	if (entry.request_hash != send->record->request_hash)
		return ERR_CONFLICT;
	send->message.id = entry.message_id;
	send->seq = entry.seq;
	target_key(send, &send->conv.key);
	return ERR_DUPLICATE;
}

/* ---- storing ---- */

/* His other devices get it, too; and the send is remembered for a retry. */
static int
put_sender(struct send *send, const struct fanout_event *event)
{
	struct sent_entry entry = {
	    .request_hash = send->message.request_hash,
	    .message_id = send->message.id,
	    .seq = send->seq,
	};
	int rc = 0;

	if (has_seats(send)) {
		member_wrote(&send->self);
		rc = member_put(&send->keeper->txn, &send->self);
	}
	memcpy(entry.hash, send->record->client_id_hash, sizeof(entry.hash));
	if (rc == 0 && send->seq != 0)
		rc = fanout_put(send->keeper, &send->head, event);
	if (rc == 0)
		rc = sent_recall_add(&send->keeper->txn, send->recall,
		    send->head.user, send->device, &entry);
	return rc == 0 ? userhead_put(&send->keeper->txn, &send->head) : rc;
}

/* From the first answer on, two people are in each other's list. */
static int
note_talk(struct send *send)
{
	const struct conv *conv = &send->conv;
	struct keeper *keeper = send->keeper;
	uint32_t flags;
	int rc;

	if (conv->member_count != 2 || conv->members[0].sent == 0 ||
	    conv->members[1].sent == 0 ||
	    (conv->members[0].sent > 1 && conv->members[1].sent > 1))
		return 0;
	rc = contact_get(
	    &keeper->txn, conv->members[0].user, conv->members[1].user, &flags);
	if (rc != 0 || (flags & CONTACT_TALKED) != 0)
		return rc;
	rc = contact_change(&keeper->txn, conv->members[0].user,
	    conv->members[1].user, CONTACT_TALKED, 0);
	if (rc != 0 || (flags & CONTACT_LISTED) != 0)
		return rc;
	rc = announce_to(keeper, conv->members[0].user, conv->members[1].user,
	    (flags & CONTACT_BLOCKED_BY) != 0);
	if (rc == 0)
		rc = announce_to(keeper, conv->members[1].user,
		    conv->members[0].user, (flags & CONTACT_BLOCKING) != 0);
	return rc;
}

static int
create_conv(struct send *send)
{
	struct conv_key key = send->conv.key;
	struct txn *txn = &send->keeper->txn;
	int rc;

	if (!has_seats(send))
		return conv_create(
		    txn, &key, send->members, send->member_count, &send->conv);
	send->conv = (struct conv){.key = key};
	rc = call_seats_make(send->keeper, &key);
	return rc == 0 ? member_get(txn, conv_key_id(&key), send->record->user,
			     &send->self)
		       : rc;
}

static int
store_message(struct send *send, const struct fanout_event *event)
{
	struct keeper *keeper = send->keeper;
	struct txn *txn = &keeper->txn;
	int rc = 0;

	if (send->is_new_conv)
		rc = create_conv(send);
	send->message.id = keeper_next_id(keeper);
	send->message.conv = send->conv.key;
	if (send->head.row.device_count > 1)
		send->seq = send->head.row.head + 1;
	send->message.prev_sent = send->device->last_sent;
	send->message.request_hash = send->record->request_hash;
	send->message.sender_seq = send->seq;
	send->message.sender_device = send->device->number;
	if (rc == 0)
		rc = conv_add_message(txn, &send->conv, &send->message);
	if (rc == 0)
		rc = log_append(txn, &send->message);
	if (rc == 0)
		rc = conv_put(txn, &send->conv);
	if (rc == 0)
		rc = keeper_outbox_put(
		    keeper, &(struct outbox_entry){.kind = OUTBOX_MESSAGE,
				.message_id = send->message.id});
	if (rc == 0 && has_seats(send))
		rc = fanout_put_roll(
		    keeper, send->record->user, 0, event, &send->told);
	for (size_t i = 0; rc == 0 && i < send->recipient_count; i++)
		rc = fanout_put_user(keeper, send->recipients[i], event);
	if (rc == 0)
		rc = put_sender(send, event);
	if (rc == 0)
		rc = note_talk(send);
	return rc;
}

/* To people, or to one group or call, by its only name. */
static bool
is_sound(const struct record_send *record)
{
	const struct conv_key *room = &record->room;
	struct conv_key key;

	if (record->recipient_count > RECIPIENTS_MAX)
		return false;
	if (!conv_key_has_seats(room))
		return true;
	conv_key_of(conv_key_kind(room), conv_key_id(room), &key);
	return record->recipient_count == 0 && conv_key_equal(&key, room);
}

static int
send_parse(struct send *send, const void *payload, size_t len)
{
	const struct record_send *record = payload;
	struct log_message *m = &send->message;
	struct record_cursor c;

	send->record = record;
	if (!is_sound(record))
		return ERR_BAD_REQUEST;
	record_cursor_init(&c, record + 1, len - sizeof(*record));
	send->recipients =
	    record_take(&c, record->recipient_count * sizeof(uint64_t));
	send->recipient_count = record->recipient_count;
	m->body =
	    (struct blob){record_take(&c, record->body_len), record->body_len};
	m->type =
	    (struct blob){record_take(&c, record->type_len), record->type_len};
	m->client_id = (struct blob){
	    record_take(&c, record->client_id_len), record->client_id_len};
	m->attachment = (struct blob){
	    record_take(&c, record->attachment_len), record->attachment_len};
	if (!record_is_whole(&c) || record->body_len == 0 ||
	    record->client_id_len == 0)
		return ERR_BAD_REQUEST;
	m->sender = record->user;
	m->client_time_ms = record->client_time_ms;
	m->reply_to = record->reply_to;
	return has_seats(send) ? 0 : collect_members(send);
}

/* Nothing is changed before every check has passed. */
static int
send_check(struct send *send)
{
	int rc;

	rc = check_sent(send);
	if (rc == 0)
		rc = find_conv(send);
	if (rc == 0)
		rc = check_recipients(send);
	if (rc == 0)
		rc = check_reply_to(send);
	if (rc == 0)
		rc = keeper_user_name(
		    send->keeper, send->record->user, &send->name);
	return rc;
}

int
apply_send(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	struct send send = {.keeper = keeper, .from = from};
	struct fanout_event event;
	int rc;

	rc = send_parse(&send, payload, len);
	if (rc != 0)
		return rc;
	rc = keeper_session_ask(keeper, from, send.record->user,
	    send.record->session, &send.head, &send.device);
	if (rc == ERR_STALE)
		return 0; /* the client retries in its new session */
	if (rc == 0)
		rc = send_check(&send);
	switch (rc) {
	case 0:
		break;
	case ERR_DUPLICATE:
	case ERR_CONFLICT:
	case ERR_NOT_FOUND:
	case ERR_BAD_REQUEST:
		if (keeper->txn.rc == 0)
			send_reply(&send, rc);
		return keeper->txn.rc;
	default:
		return rc;
	}
	event = (struct fanout_event){
	    .kind = EVENT_MESSAGE,
	    .row = &send.message,
	    .members = send.members,
	    .member_count = send.member_count > 2 ? send.member_count : 0,
	    .name = {send.name.text, send.name.len},
	    .except_session = send.record->session,
	};
	fanout_begin();
	rc = store_message(&send, &event);
	if (rc != 0)
		return rc;
	fanout_send(keeper, &event);
	send_reply(&send, 0);
	keeper->batch.messages++;
	return 0;
}
