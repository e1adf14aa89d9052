/*
 * event.c - messages and users as JSON.
 *
 * Role:    one form wherever they appear: event, history, list.
 * Process: worker, its loop and its reader thread; pure.
 * See:     doc/protocol.md
 */
#include "worker/event.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

void
event_put_session(struct buf *buf, const char *key, uint64_t session)
{
	char text[24];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)session);
	json_put_text(buf, key, text);
}

void
event_put_conv(struct buf *buf, const struct conv_key *conv)
{
	char text[CONV_TEXT_MAX];

	json_put_text(buf, "ConversationId", conv_key_format(conv, text));
}

void
event_put_progress(struct buf *buf, uint64_t delivered, uint64_t read)
{
	json_put_id(buf, "DeliveredUpTo", delivered);
	json_put_id(buf, "ReadUpTo", read);
}

void
event_put_room(struct buf *buf, const struct conv_key *conv)
{
	json_put_id(buf,
	    conv_key_kind(conv) == CONV_GROUP ? "GroupId" : "CollaborationId",
	    conv_key_id(conv));
}

static void
put_members(struct buf *buf, const struct message_view *view)
{
	uint64_t lower;
	uint64_t higher;

	if (conv_key_has_seats(&view->conv)) {
		event_put_room(buf, &view->conv);
		return;
	}
	json_key(buf, "Members");
	json_array_begin(buf);
	if (conv_key_is_direct(&view->conv)) {
		conv_key_members(&view->conv, &lower, &higher);
		json_u64(buf, lower);
		if (higher != lower)
			json_u64(buf, higher);
	}
	for (size_t i = 0; i < view->member_count; i++)
		json_u64(buf, view->members[i]);
	json_array_end(buf);
}

static void
put_from_user(struct buf *buf, const struct message_view *view)
{
	json_key(buf, "FromUser");
	json_object_begin(buf);
	json_put_u64(buf, "UserId", view->sender);
	json_put_string(buf, "Name", view->name.data, view->name.len);
	json_object_end(buf);
}

void
event_put_change(struct buf *buf, unsigned flags, int64_t changed_ms)
{
	if ((flags & LOG_DELETED) != 0) {
		json_put_bool(buf, "Deleted", true);
		json_put_i64(buf, "DeleteTime", changed_ms);
	} else if ((flags & LOG_EDITED) != 0) {
		json_put_i64(buf, "EditTime", changed_ms);
	}
}

void
event_message_fields(
    struct buf *buf, const struct message_view *view, bool is_own)
{
	bool has_text = (view->flags & LOG_DELETED) == 0 && !view->is_withheld;

	json_put_id(buf, "MessageId", view->id);
	event_put_conv(buf, &view->conv);
	put_members(buf, view);
	put_from_user(buf, view);
	if (has_text) {
		json_put_string(
		    buf, "Message", view->body.data, view->body.len);
		json_put_string(buf, "Type", view->type.data, view->type.len);
	}
	json_put_i64(buf, "ServerTime", message_id_time_ms(view->id));
	event_put_change(buf, view->flags, view->changed_ms);
	if (view->client_time_ms != INT64_MIN)
		json_put_i64(buf, "ClientInitiationTime", view->client_time_ms);
	if (view->reply_to != 0)
		json_put_id(buf, "ReplyTo", view->reply_to);
	if (view->attachment.len > 0 && has_text)
		json_put_raw(buf, "Attachment", view->attachment.data,
		    view->attachment.len);
	if (is_own)
		json_put_string(buf, "ClientMessageId", view->client_id.data,
		    view->client_id.len);
}

static const struct {
	const char *command;
	enum log_kind row;
} durable[EVENT_KIND_END] = {
    [EVENT_MESSAGE] = {"P_MESSAGE", LOG_MESSAGE},
    [EVENT_EDIT] = {"P_EDIT_MESSAGE", LOG_MESSAGE},
    [EVENT_DELETE] = {"P_DELETE_MESSAGE", LOG_MESSAGE},
    [EVENT_GROUP] = {"P_GROUP", LOG_EVENT},
    [EVENT_OUTCOME] = {"P_COLLABORATION_OUTCOME", LOG_EVENT},
};

const char *
event_command(uint32_t kind)
{
	return kind < EVENT_KIND_END ? durable[kind].command : NULL;
}

bool
event_fits(uint32_t kind, unsigned log_kind)
{
	return event_command(kind) != NULL && durable[kind].row == log_kind;
}

void
event_durable_fields(
    struct buf *buf, const struct message_view *view, bool is_own)
{
	if (durable[view->kind].row == LOG_EVENT)
		json_members(buf, view->body.data, view->body.len);
	else
		event_message_fields(buf, view, is_own);
}

static void
put_status(struct buf *buf, const struct presence *presence)
{
	static const struct presence unseen = {.status = STATUS_OFFLINE};

	if (presence == NULL)
		presence = &unseen;
	json_put_text(buf, "Status", status_name(presence->status));
	/* The text of one who is INVISIBLE would say that somebody is there. */
	json_put_string(buf, "StatusText", presence->text,
	    presence->status == STATUS_OFFLINE ? 0 : presence->text_len);
	json_key(buf, "LastSeen");
	if (presence->last_seen_ms != 0)
		json_i64(buf, presence->last_seen_ms);
	else
		json_null(buf);
	json_put_bool(buf, "InCollaboration", presence->is_in_call);
}

void
event_presence_fields(
    struct buf *buf, uint64_t user, const struct presence *presence)
{
	json_put_u64(buf, "UserId", user);
	put_status(buf, presence);
}

void
event_user(struct buf *buf, uint64_t user, struct blob name, struct blob role,
    struct blob profile, const struct presence *presence)
{
	json_object_begin(buf);
	json_put_u64(buf, "UserId", user);
	json_put_string(buf, "Name", name.data, name.len);
	put_status(buf, presence);
	json_put_string(buf, "Role", role.data, role.len);
	json_key(buf, "Profile");
	if (profile.len > 0)
		json_raw(buf, profile.data, profile.len);
	else
		json_null(buf);
	json_object_end(buf);
}
