/*
 * apply_edit.c - P_EDIT_MESSAGE and P_DELETE_MESSAGE.
 *
 * Role:    who may, and until when; the message's row is written anew in its
 *          place; everybody who has the message is told.
 * Process: keeper; everything of one change is in one transaction.
 * Trust:   what identifies the send (shm/sent.h) stays in the row: a retry of
 *          the send is known whatever became of its message.
 * See:     doc/protocol.md, P_EDIT_MESSAGE; doc/decisions/023
 */
#include "keeper/apply.h"

#include <string.h>

#include "base/count.h"
#include "keeper/fanout.h"
#include "shm/conv.h"
#include "shm/group.h"
#include "shm/users.h"

/* Each edit is one more event for who is away, and shows the message as it is
 * in the end: a hundred small ones before a long one cost as much as a hundred
 * long messages. */
#define EDITS_MAX 100

struct edit {
	struct keeper *keeper;
	const struct origin *from;
	const struct record_edit *record;
	bool is_delete;
	struct blob body;     /* the new one */
	struct userhead head; /* the author's */
	struct log_message row;
	struct conv conv;
	size_t told; /* members of a group or a call, with the author */
	struct user_name name;
	uint64_t seq; /* the author's own, or 0 */
	/* Parts of the row that stay: writing it moves what lies in the map. */
	uint8_t kept[TYPE_MAX + CLIENT_ID_MAX + ATTACHMENT_MAX];
	size_t kept_len;
};

static void
edit_reply(const struct edit *edit, int rc)
{
	struct record_send_reply *reply;

	reply = route_begin(edit->keeper, edit->from, sizeof(*reply));
	if (reply == NULL)
		return;
	*reply = (struct record_send_reply){
	    .req = edit->record->req,
	    .user = edit->record->user,
	    .session = edit->record->session,
	    .message_id = edit->row.id,
	    .seq = edit->seq,
	    .conv = edit->row.conv,
	    .changed_ms = edit->row.changed_ms,
	    .flags = edit->row.flags,
	    .rc = rc,
	    .member_count = (uint32_t)edit->told,
	};
	route_end(edit->keeper, edit->from, RECORD_SEND_REPLY, sizeof(*reply));
}

/* ---- checks ---- */

/* The time by which ids are made: it does not go back when the clock does. */
static int64_t
id_now_ms(const struct keeper *keeper)
{
	int64_t last_ms = message_id_time_ms(keeper->rings.last_id);

	return keeper->now_ms > last_ms ? keeper->now_ms : last_ms;
}

static bool
is_in_time(const struct edit *edit)
{
	return id_now_ms(edit->keeper) - message_id_time_ms(edit->row.id) <
	       edit->keeper->conf->policy_edit_window;
}

/* What the row says already needs no second event, whenever it is asked. */
static bool
is_done(const struct edit *edit)
{
	const struct blob *body = &edit->row.body;

	if (edit->is_delete)
		return (edit->row.flags & LOG_DELETED) != 0;
	return (edit->row.flags & LOG_DELETED) == 0 &&
	       body->len == edit->body.len &&
	       memcmp(body->data, edit->body.data, body->len) == 0;
}

static bool
has_seats(const struct edit *edit)
{
	return conv_key_has_seats(&edit->row.conv);
}

/* @return ERR_NOT_FOUND: the author is not in it any more */
static int
find_conv(struct edit *edit)
{
	struct txn *txn = &edit->keeper->txn;
	struct member author;
	int rc;

	if (!has_seats(edit))
		return conv_get(txn, &edit->row.conv, &edit->conv);
	rc = member_get(
	    txn, conv_key_id(&edit->row.conv), edit->row.sender, &author);
	return rc == 0 && !member_is_in(&author) ? ERR_NOT_FOUND : rc;
}

/* Between two people what a send asks; among many, who blocks the author gets
 * no words of his, not in this way either. That words are gone is told to all.
 * In a group or a call everybody reads everybody. */
static int
may_change(struct edit *edit, uint64_t reader, bool *may_out)
{
	uint32_t flags;
	int rc;

	if (edit->conv.member_count <= 2)
		return keeper_may_write(
		    edit->keeper, edit->row.sender, reader, false, may_out);
	rc = contact_get(&edit->keeper->txn, edit->row.sender, reader, &flags);
	*may_out = rc == 0 && (flags & CONTACT_BLOCKED_BY) == 0;
	return rc;
}

static int
check_readers(struct edit *edit)
{
	bool may = true;
	int rc = 0;

	if (has_seats(edit))
		return 0;
	for (uint32_t i = 0; rc == 0 && may && i < edit->conv.member_count;
	     i++) {
		uint64_t reader = edit->conv.members[i].user;

		if (reader != edit->row.sender)
			rc = may_change(edit, reader, &may);
	}
	return rc == 0 && !may ? ERR_NOT_FOUND : rc;
}

/* @return 0, ERR_DUPLICATE: it is so already; or why not */
static int
edit_check(struct edit *edit)
{
	struct txn *txn = &edit->keeper->txn;
	int rc;

	rc = log_get(txn, edit->record->message_id, &edit->row);
	if (rc != 0)
		return rc;
	if (edit->row.kind != LOG_MESSAGE ||
	    edit->row.sender != edit->record->user)
		return ERR_NOT_FOUND;
	rc = find_conv(edit);
	if (rc != 0)
		return rc;
	if (is_done(edit))
		return ERR_DUPLICATE;
	if ((edit->row.flags & LOG_DELETED) != 0)
		return ERR_CONFLICT;
	if (!is_in_time(edit))
		return ERR_FORBIDDEN;
	if (!edit->is_delete && edit->row.edits >= EDITS_MAX)
		return ERR_CONFLICT;
	if (!edit->is_delete)
		rc = check_readers(edit);
	return rc == 0 ? keeper_user_name(
			     edit->keeper, edit->record->user, &edit->name)
		       : rc;
}

/* ---- storing ---- */

static int
keep(struct edit *edit, struct blob *part)
{
	uint8_t *at = edit->kept + edit->kept_len;

	if (part->len > sizeof(edit->kept) - edit->kept_len)
		return ERR_CORRUPT;
	if (part->len > 0)
		memcpy(at, part->data, part->len);
	edit->kept_len += part->len;
	part->data = at;
	return 0;
}

static int
change_row(struct edit *edit)
{
	struct log_message *row = &edit->row;
	int rc;

	if (edit->is_delete) {
		row->type.len = 0;
		row->attachment.len = 0;
	}
	if (!edit->is_delete)
		row->edits++;
	row->body = edit->body;
	row->flags = edit->is_delete ? LOG_DELETED : LOG_EDITED;
	/* not before the message, nor before anybody left whom it is kept from
	 * (worker/seat.c), wherever the clock stands */
	row->changed_ms = id_now_ms(edit->keeper);
	rc = keep(edit, &row->type);
	if (rc == 0)
		rc = keep(edit, &row->client_id);
	if (rc == 0)
		rc = keep(edit, &row->attachment);
	return rc == 0 ? log_rewrite(&edit->keeper->txn, row) : rc;
}

/* Who was removed reads nothing any more. */
static int
tell_member(
    struct edit *edit, uint64_t member, const struct fanout_event *event)
{
	struct user user;
	int rc = users_get(&edit->keeper->txn, member, &user);

	if (rc == ERR_NOT_FOUND)
		return 0;
	return rc == 0 ? fanout_put_user(edit->keeper, member, event) : rc;
}

static int
tell_members(struct edit *edit, const struct fanout_event *event)
{
	const struct conv *conv = &edit->conv;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < conv->member_count; i++) {
		if (conv->members[i].user != edit->row.sender)
			rc = tell_member(edit, conv->members[i].user, event);
	}
	return rc;
}

/* With one device he has the reply, and it takes no seq. */
static int
tell_author(struct edit *edit, const struct fanout_event *event)
{
	int rc;

	if (edit->head.row.device_count < 2)
		return 0;
	rc = fanout_put(edit->keeper, &edit->head, event);
	edit->seq = edit->head.row.head;
	return rc == 0 ? userhead_put(&edit->keeper->txn, &edit->head) : rc;
}

static int
edit_store(struct edit *edit)
{
	struct keeper *keeper = edit->keeper;
	bool is_many = conv_key_kind(&edit->row.conv) == CONV_MANY;
	uint64_t members[MEMBERS_MAX];
	const struct fanout_event event = {
	    .kind = edit->is_delete ? EVENT_DELETE : EVENT_EDIT,
	    .row = &edit->row,
	    .members = members,
	    .member_count = is_many ? edit->conv.member_count : 0,
	    .name = {edit->name.text, edit->name.len},
	    .except_session = edit->record->session,
	};
	const struct outbox_entry entry = {
	    .kind = edit->is_delete ? OUTBOX_DELETE : OUTBOX_EDIT,
	    .message_id = edit->row.id,
	};
	int rc;

	for (uint32_t i = 0; is_many && i < edit->conv.member_count; i++)
		members[i] = edit->conv.members[i].user;
	rc = change_row(edit);
	if (rc == 0)
		rc = keeper_outbox_put(keeper, &entry);
	fanout_begin();
	if (rc == 0 && has_seats(edit))
		rc = fanout_put_roll(keeper, edit->row.sender, edit->row.id,
		    &event, &edit->told);
	else if (rc == 0)
		rc = tell_members(edit, &event);
	if (rc == 0)
		rc = tell_author(edit, &event);
	if (rc == 0)
		fanout_send(keeper, &event);
	return rc;
}

/* ---- */

static int
change(struct edit *edit)
{
	struct keeper *keeper = edit->keeper;
	const struct record_edit *record = edit->record;
	struct userhead_device *device;
	int rc;

	rc = keeper_session_ask(keeper, edit->from, record->user,
	    record->session, &edit->head, &device);
	if (rc == ERR_STALE)
		return 0; /* the client asks again in its new session */
	if (rc != 0)
		return rc;
	rc = edit_check(edit);
	if (rc == 0) {
		rc = edit_store(edit);
		if (rc != 0)
			return rc;
		if (edit->is_delete)
			keeper->batch.deleted++;
		else
			keeper->batch.edited++;
	}
	/* A row that is damaged is no reason to do the batch again. */
	if (keeper->txn.rc == 0)
		edit_reply(edit, rc == ERR_DUPLICATE ? 0 : rc);
	return keeper->txn.rc;
}

int
apply_edit(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_edit *record = payload;
	struct edit edit = {.keeper = keeper, .from = from, .record = record};
	struct record_cursor c;

	record_cursor_init(&c, record + 1, len - sizeof(*record));
	edit.body =
	    (struct blob){record_take(&c, record->body_len), record->body_len};
	if (!record_is_whole(&c) || record->body_len == 0 ||
	    record->body_len > UINT32_MAX)
		return ERR_BAD_REQUEST;
	return change(&edit);
}

int
apply_delete(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	struct edit edit = {
	    .keeper = keeper,
	    .from = from,
	    .record = payload,
	    .is_delete = true,
	};

	(void)len;
	return change(&edit);
}
