/*
 * cmd_user.c - other people: lists, single users, blocks; and answers of the
 * keeper that are no more than a Reason.
 *
 * Role:    asks the directory process, adds presence to what it says.
 * Process: worker.
 * See:     doc/protocol.md, Session
 */
#include <string.h>

#include "base/count.h"
#include "net/net.h"
#include "shm/presence.h"
#include "worker/event.h"
#include "worker/worker_priv.h"

#define USERS_LIMIT_MAX     1000
#define USERS_LIMIT_DEFAULT 100

static int
ask_directory(struct request *request, uint16_t type, void *record, size_t len)
{
	struct worker *worker = request->worker;
	uint64_t req =
	    pending_add(request, 0, worker->conf->directory_request_timeout);

	memcpy(record, &req, sizeof(req)); /* first field, records.h */
	if (bus_put(worker->bus, SLOT_DIRECTORY, type, record, len) == 0)
		return 0;
	pending_remove(worker, pending_find(worker, req));
	request->retry_after_ms = RETRY_AFTER_MS;
	return request_fail(
	    request, ERR_UNAVAILABLE, "the directory is busy, try again later");
}

int
cmd_get_all_user(struct request *request)
{
	struct record_dir_users record = {.asker = request->session->user};
	uint64_t limit = USERS_LIMIT_DEFAULT;
	bool is_refresh = false;
	int rc;

	rc = request_u64(
	    request, "Cursor", FIELD_OPTIONAL, 0, USER_ID_MAX, &record.cursor);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_u64(request, "Limit", FIELD_OPTIONAL, 1,
		    USERS_LIMIT_MAX, &limit);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_bool(request, "Refresh", &is_refresh);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	record.limit = (uint32_t)limit;
	record.refresh = is_refresh;
	return ask_directory(
	    request, RECORD_DIR_USERS, &record, sizeof(record));
}

int
cmd_get_user(struct request *request)
{
	struct record_dir_user record = {.asker = request->session->user};
	int rc;

	rc = request_u64(
	    request, "UserId", FIELD_REQUIRED, 1, USER_ID_MAX, &record.user);
	if (rc != 0)
		return rc;
	return ask_directory(request, RECORD_DIR_USER, &record, sizeof(record));
}

int
cmd_update_user(struct request *request)
{
	struct {
		struct record_dir_update record;
		char text[NAME_MAX_BYTES + PROFILE_MAX];
	} out = {.record = {.user = request->session->user}};
	const struct json_object *profile;
	struct buf text = {0};
	const char *name;
	size_t len;
	int rc;

	rc = request_string(
	    request, "Name", FIELD_OPTIONAL, 1, NAME_MAX_BYTES, &name, &len);
	if (rc == 0 && memchr(name, '\0', len) != NULL)
		return request_bad_field(request, "Name",
		    "a string of 1 to %d bytes without \\u0000",
		    NAME_MAX_BYTES);
	if (rc == 0) {
		out.record.flags |= USER_PUT_NAME;
		out.record.name_len = (uint16_t)len;
		memcpy(out.text, name, len);
	} else if (rc != ERR_NOT_FOUND) {
		return rc;
	}
	rc = json_get_object(request->json, "Profile", &profile);
	if (rc == ERR_BAD_REQUEST)
		return request_bad_field(request, "Profile", "an object");
	if (rc == 0) {
		json_value(&text, profile);
		if (text.len > PROFILE_MAX) {
			buf_fini(&text);
			return request_fail(request, ERR_TOO_LARGE,
			    "Profile: expected at most %d bytes", PROFILE_MAX);
		}
		out.record.flags |= USER_PUT_PROFILE;
		out.record.profile_len = (uint16_t)text.len;
		memcpy(out.text + out.record.name_len, text.data, text.len);
		buf_fini(&text);
	}
	if (out.record.flags == 0)
		return request_fail(request, ERR_BAD_REQUEST,
		    "Name, Profile: expected at least one of them");
	return ask_directory(request, RECORD_DIR_UPDATE, &out,
	    sizeof(out.record) + out.record.name_len + out.record.profile_len);
}

static int
block_user(struct request *request, bool is_on)
{
	struct session *session = request->session;
	struct record_block record = {
	    .user = session->user,
	    .session = session->id,
	    .on = is_on,
	};
	int rc;

	rc = request_u64(
	    request, "UserId", FIELD_REQUIRED, 1, USER_ID_MAX, &record.other);
	if (rc != 0)
		return rc;
	if (record.other == session->user)
		return request_bad_field(
		    request, "UserId", "another user than oneself");
	record.req = pending_add(request, sizeof(struct record_reply), 0);
	rc = bus_put(request->worker->bus, SLOT_KEEPER, RECORD_BLOCK, &record,
	    sizeof(record));
	if (rc != 0)
		pending_remove(
		    request->worker, pending_find(request->worker, record.req));
	else
		learn_keep(request->worker, record.req, RECORD_BLOCK, &record,
		    sizeof(record));
	return rc == 0 ? 0 : ERR_UNAVAILABLE;
}

int
cmd_block(struct request *request)
{
	return block_user(request, true);
}

int
cmd_unblock(struct request *request)
{
	return block_user(request, false);
}

/* ---- answers ---- */

static const char *
keeper_refusal(const struct command *command, int rc)
{
	if (rc != ERR_NOT_FOUND)
		return err_text(rc);
	if (command->fn == cmd_mark_read)
		return "ConversationId, MessageId: there is no such message "
		       "in a conversation of yours";
	return "UserId: no such user in your list";
}

void
keeper_reply(struct worker *worker, const struct record_reply *reply)
{
	struct pending *pending = pending_find(worker, reply->req);
	struct request_id id;
	struct session *session;
	const struct command *command;

	if (pending == NULL)
		return;
	if (reply->rc == ERR_NOT_FOUND && learn_begin_block(worker, reply->req))
		return;
	session = pending->owner;
	command = pending->command;
	id = pending->id;
	pending_remove(worker, pending);
	if (session == NULL)
		return;
	if (reply->rc != 0)
		reply_error(session, command->name, &id, reply->rc,
		    keeper_refusal(command, reply->rc), -1);
	else
		reply_ok(session, command, &id);
	if (command->fn == cmd_logout)
		session_log_out(session);
}

struct user_parts {
	struct blob name;
	struct blob role;
	struct blob profile;
};

static bool
take_entry(struct record_cursor *cursor, struct dir_user_entry *entry,
    struct user_parts *parts)
{
	const void *at = record_take(cursor, sizeof(*entry));
	size_t len;

	if (at == NULL)
		return false;
	memcpy(entry, at, sizeof(*entry));
	parts->name = (struct blob){
	    record_take(cursor, entry->name_len), entry->name_len};
	parts->role = (struct blob){
	    record_take(cursor, entry->role_len), entry->role_len};
	parts->profile = (struct blob){
	    record_take(cursor, entry->profile_len), entry->profile_len};
	len = (size_t)entry->name_len + entry->role_len + entry->profile_len;
	(void)record_take(cursor, (8 - len % 8) % 8);
	return record_is_whole(cursor);
}

static void
put_entries(struct worker *worker, struct buf *out,
    const struct record_dir_reply *reply, const uint8_t *tail, size_t len)
{
	struct txn txn;
	struct record_cursor cursor;
	struct dir_user_entry entry;
	struct user_parts parts;
	struct presence presence;
	bool has_txn = store_begin_read(worker->presence, &txn) == 0;

	record_cursor_init(&cursor, tail, len);
	for (uint32_t i = 0; i < reply->user_count; i++) {
		if (!take_entry(&cursor, &entry, &parts))
			break;
		if (!has_txn || entry.is_stranger != 0 ||
		    presence_get(&txn, entry.user, &presence) != 0)
			presence = (struct presence){
			    .status = STATUS_OFFLINE,
			    .last_seen_ms = entry.last_seen_ms,
			};
		event_user(out, entry.user, parts.name, parts.role,
		    parts.profile, &presence);
	}
	txn_end(&txn);
}

static const char *
directory_refusal(int rc)
{
	switch (rc) {
	case ERR_NOT_FOUND:
		return "UserId: no such user in your list";
	case ERR_UNAVAILABLE:
		return "the directory cannot be asked now, try again later";
	default:
		return err_text(rc);
	}
}

void
directory_reply(struct worker *worker, const struct record_dir_reply *reply,
    const uint8_t *tail, size_t len)
{
	struct pending *pending = pending_find(worker, reply->req);
	const struct command *command;
	struct session *session;
	struct request_id id;
	struct buf *out;

	if (pending == NULL)
		return; /* answered UNAVAILABLE before */
	if (learn_reply(worker, pending, reply->rc))
		return;
	command = pending->command;
	session = pending->owner;
	id = pending->id;
	if (session != NULL && command->fn == cmd_authenticate) {
		struct pending copy = *pending;

		pending_remove(worker, pending);
		login_password_reply(&copy, reply);
		return;
	}
	if (session != NULL && pending->page != NULL) {
		older_reply(worker, pending, reply, tail, len);
		return;
	}
	pending_remove(worker, pending);
	if (session == NULL)
		return;
	if (reply->rc != 0) {
		reply_error(session, command->name, &id, reply->rc,
		    directory_refusal(reply->rc),
		    reply->rc == ERR_UNAVAILABLE ? RETRY_AFTER_MS : -1);
		return;
	}
	out = reply_begin(worker, command->name, &id, 0);
	if (command->fn == cmd_get_all_user) {
		json_key(out, "Users");
		json_array_begin(out);
		put_entries(worker, out, reply, tail, len);
		json_array_end(out);
		reply_put_cursor(out, reply->next_cursor, false);
	} else if (command->fn == cmd_get_user) {
		json_key(out, "User");
		put_entries(worker, out, reply, tail, len);
	}
	reply_finish(session, out);
}
