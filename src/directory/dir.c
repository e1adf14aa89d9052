/*
 * dir.c - requests and answers of the directory.
 *
 * Role:    from a record to a checked request, and pages of users.
 * Process: directory; requests are read on the loop's thread, answers are
 *          filled by whoever has the request.
 * Blocks:  never.
 * Trust:   a worker's record is not trusted: lengths, ids and texts are
 *          checked here, so that no back end has to.
 * See:     dir.h, shm/records.h, t/unit/directory.c.
 */
#include "config.h"

#include "directory/dir.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/password.h"
#include "base/text.h"

#define TAIL_STEP 4096

/*
 * ---- records to requests ----
 *
 * The fixed part is copied first: it lies in memory that its writer can still
 * change, and what was checked must be what is used.
 */

static bool
is_user_id(uint64_t id)
{
	return id != 0 && id <= USER_ID_MAX;
}

/* A copy of the next len bytes; NULL for none of them. */
static int
take_text(struct record_cursor *cursor, size_t len, char **text_out)
{
	const void *data = record_take(cursor, len);

	if (data == NULL)
		return ERR_BAD_REQUEST;
	if (len == 0)
		return 0;
	*text_out = mem_try(len);
	if (*text_out == NULL)
		return ERR_NO_MEMORY;
	memcpy(*text_out, data, len);
	return 0;
}

static int
parse_history(struct dir_request *request, const void *data, size_t len)
{
	struct record_dir_history record;

	(void)len;
	memcpy(&record, data, sizeof(record));
	request->op = DIR_OP_HISTORY;
	request->asker = record.asker;
	request->conv = record.conv;
	request->before = record.before;
	request->after = record.after;
	if (record.limit == 0 || record.limit > DIR_LIST_MAX)
		return ERR_BAD_REQUEST;
	request->limit = (uint32_t)record.limit;
	return is_user_id(record.asker) && record.before <= MESSAGE_ID_MAX &&
		       record.after <= MESSAGE_ID_MAX
		   ? 0
		   : ERR_BAD_REQUEST;
}

static int
parse_learn(struct dir_request *request, const void *data, size_t len)
{
	struct record_dir_learn record;
	struct record_cursor cursor;
	const void *users;

	memcpy(&record, data, sizeof(record));
	request->op = DIR_OP_LEARN;
	request->asker = record.asker;
	request->is_idle = record.is_idle != 0;
	if (!is_user_id(record.asker) || record.count == 0 ||
	    record.count > LEARN_USERS_MAX)
		return ERR_BAD_REQUEST;
	record_cursor_init(&cursor, (const uint8_t *)data + sizeof(record),
	    len - sizeof(record));
	users = record_take(&cursor, record.count * sizeof(uint64_t));
	if (users == NULL)
		return ERR_BAD_REQUEST;
	request->user_count = record.count;
	request->users = xcalloc(record.count, sizeof(uint64_t));
	memcpy(request->users, users, record.count * sizeof(uint64_t));
	for (size_t i = 0; i < request->user_count; i++) {
		if (!is_user_id(request->users[i]))
			return ERR_BAD_REQUEST;
	}
	return 0;
}

/*
 * A request without a number is what is left of one that was wiped. Longer
 * than any there can be is a wrong name or password, known without a look.
 */
static int
parse_password(struct dir_request *request, const void *data, size_t len)
{
	struct record_dir_password record;
	struct record_cursor cursor;
	int rc;

	memcpy(&record, data, sizeof(record));
	request->op = DIR_OP_PASSWORD;
	if (record.req == 0)
		return ERR_BAD_REQUEST;
	if (record.name_len > NAME_MAX_BYTES ||
	    record.password_len > PASSWORD_LEN_MAX)
		return ERR_AUTH_FAILED;
	record_cursor_init(&cursor, (const uint8_t *)data + sizeof(record),
	    len - sizeof(record));
	rc = take_text(&cursor, record.name_len, &request->name);
	if (rc != 0)
		return rc;
	request->name_len = record.name_len;
	memcpy(request->peer, record.peer, sizeof(request->peer));
	rc = take_text(&cursor, record.password_len, &request->password);
	if (rc == 0)
		request->password_len = record.password_len;
	return rc;
}

/* What is not changed must not be there either. */
static bool
is_sound_update(const struct dir_request *request)
{
	bool has_name = (request->flags & USER_PUT_NAME) != 0;
	bool has_profile = (request->flags & USER_PUT_PROFILE) != 0;

	if (request->flags == 0 ||
	    (request->flags & ~(uint32_t)(USER_PUT_NAME | USER_PUT_PROFILE)))
		return false;
	if (has_name != (request->name_len > 0) ||
	    request->name_len > NAME_MAX_BYTES ||
	    request->profile_len > PROFILE_MAX)
		return false;
	if (has_name && !text_utf8_valid(request->name, request->name_len))
		return false;
	if (!has_profile)
		return request->profile_len == 0;
	/* Others are sent it as it stands. None at all clears it. */
	return request->profile_len == 0 ||
	       json_is_object(request->profile, request->profile_len);
}

static int
parse_update(struct dir_request *request, const void *data, size_t len)
{
	struct record_dir_update record;
	struct record_cursor cursor;
	int rc;

	memcpy(&record, data, sizeof(record));
	request->op = DIR_OP_UPDATE;
	request->asker = record.user;
	request->flags = record.flags;
	request->name_len = record.name_len;
	request->profile_len = record.profile_len;
	record_cursor_init(&cursor, (const uint8_t *)data + sizeof(record),
	    len - sizeof(record));
	rc = take_text(&cursor, record.name_len, &request->name);
	if (rc == 0)
		rc = take_text(&cursor, record.profile_len, &request->profile);
	if (rc != 0)
		return rc;
	return is_user_id(record.user) && is_sound_update(request)
		   ? 0
		   : ERR_BAD_REQUEST;
}

static int
parse_user(struct dir_request *request, const void *data, size_t len)
{
	struct record_dir_user record;

	(void)len;
	memcpy(&record, data, sizeof(record));
	request->op = DIR_OP_USER;
	request->asker = record.asker;
	request->user = record.user;
	return is_user_id(record.asker) && is_user_id(record.user)
		   ? 0
		   : ERR_BAD_REQUEST;
}

static int
parse_users(struct dir_request *request, const void *data, size_t len)
{
	struct record_dir_users record;

	(void)len;
	memcpy(&record, data, sizeof(record));
	request->op = DIR_OP_USERS;
	request->asker = record.asker;
	request->cursor = record.cursor;
	request->limit = record.limit;
	request->is_refresh = record.refresh != 0;
	return is_user_id(record.asker) && record.cursor <= USER_ID_MAX &&
		       record.limit != 0 && record.limit <= DIR_LIST_MAX
		   ? 0
		   : ERR_BAD_REQUEST;
}

static int
parse(struct dir_request *request, uint16_t type, const void *data, size_t len)
{
	if (len < record_min_len(type))
		return ERR_BAD_REQUEST;
	switch (type) {
	case RECORD_DIR_HISTORY:
		return parse_history(request, data, len);
	case RECORD_DIR_LEARN:
		return parse_learn(request, data, len);
	case RECORD_DIR_PASSWORD:
		return parse_password(request, data, len);
	case RECORD_DIR_UPDATE:
		return parse_update(request, data, len);
	case RECORD_DIR_USER:
		return parse_user(request, data, len);
	case RECORD_DIR_USERS:
		return parse_users(request, data, len);
	default: /* a number from a ring, not one of ours */
		return ERR_BAD_REQUEST;
	}
}

int
dir_request_new(uint16_t type, const void *data, size_t len,
    struct dir_request **request_out)
{
	struct dir_request *request = xcalloc(1, sizeof(*request));
	int rc;

	rc = parse(request, type, data, len);
	if (rc != 0)
		dir_request_free(&request);
	else
		*request_out = request;
	return rc;
}

void
dir_request_wipe(struct dir_request *request)
{
	mem_wipe(request->password, request->password_len);
}

void
dir_request_free(struct dir_request **request)
{
	struct dir_request *old = *request;

	if (old == NULL)
		return;
	dir_request_wipe(old);
	free(old->name);
	free(old->profile);
	free(old->password);
	free(old->users);
	free(old->answer.tail);
	free(old);
	*request = NULL;
}

/* ---- answers ---- */

static uint8_t *
answer_reserve(struct dir_answer *answer, size_t len)
{
	size_t room = answer->tail_room;
	uint8_t *tail;

	if (len <= room - answer->tail_len)
		return answer->tail + answer->tail_len;
	while (room - answer->tail_len < len)
		room = room == 0 ? TAIL_STEP : 2 * room;
	tail = realloc(answer->tail, room);
	if (tail == NULL)
		return NULL;
	answer->tail = tail;
	answer->tail_room = room;
	return tail + answer->tail_len;
}

static uint8_t *
add_text(uint8_t *at, const void *text, size_t len)
{
	if (len > 0)
		memcpy(at, text, len);
	return at + len;
}

/* Room for an entry of len bytes, its padding filled with zeros.
 * @return 0, ERR_FULL, ERR_TOO_LARGE, ERR_NO_MEMORY */
static int
answer_begin(
    struct dir_answer *answer, size_t len, size_t max, uint8_t **at_out)
{
	size_t padded = (len + 7) & ~(size_t)7;

	if (padded > max)
		return ERR_TOO_LARGE;
	if (padded > max - answer->tail_len)
		return ERR_FULL;
	*at_out = answer_reserve(answer, padded);
	if (*at_out == NULL)
		return ERR_NO_MEMORY;
	memset(*at_out + len, 0, padded - len);
	answer->tail_len += padded;
	return 0;
}

int
dir_answer_add(struct dir_answer *answer, const struct dir_user *user)
{
	struct dir_user_entry entry = {
	    .user = user->id,
	    .last_seen_ms = user->last_seen_ms,
	    .name_len = (uint16_t)user->name_len,
	    .role_len = (uint16_t)user->role_len,
	    .profile_len = (uint16_t)user->profile_len,
	    .is_stranger = user->is_stranger,
	};
	size_t len = sizeof(entry);
	uint8_t *at;
	int rc;

	if (user->name_len > UINT16_MAX || user->role_len > UINT16_MAX ||
	    user->profile_len > UINT16_MAX)
		return ERR_TOO_LARGE;
	len += user->name_len + user->role_len + user->profile_len;
	rc = answer_begin(answer, len, DIR_ANSWER_BYTES, &at);
	if (rc != 0)
		return rc;
	memcpy(at, &entry, sizeof(entry));
	at = add_text(at + sizeof(entry), user->name, user->name_len);
	at = add_text(at, user->role, user->role_len);
	add_text(at, user->profile, user->profile_len);
	answer->user_count++;
	return 0;
}

int
dir_answer_add_message(
    struct dir_answer *answer, const struct dir_message *message)
{
	struct dir_message_entry entry = {
	    .id = message->id,
	    .sender = message->sender,
	    .reply_to = message->reply_to,
	    .client_time_ms = message->client_time_ms,
	    .changed_ms = message->changed_ms,
	    .body_len = (uint32_t)message->body.len,
	    .attachment_len = (uint32_t)message->attachment.len,
	    .type_len = (uint16_t)message->type.len,
	    .flags = (uint16_t)message->flags,
	};
	size_t len = sizeof(entry);
	uint8_t *at;
	int rc;

	if (message->body.len > DIR_MESSAGES_BYTES ||
	    message->attachment.len > ATTACHMENT_MAX ||
	    message->type.len > TYPE_MAX)
		return ERR_TOO_LARGE;
	len += message->body.len + message->type.len + message->attachment.len;
	rc = answer_begin(answer, len, DIR_MESSAGES_BYTES, &at);
	if (rc != 0)
		return rc;
	memcpy(at, &entry, sizeof(entry));
	at =
	    add_text(at + sizeof(entry), message->body.data, message->body.len);
	at = add_text(at, message->type.data, message->type.len);
	add_text(at, message->attachment.data, message->attachment.len);
	answer->message_count++;
	return 0;
}

bool
dir_answer_next(const uint8_t **at_io, const uint8_t *end, struct dir_user *out)
{
	const uint8_t *at = *at_io;
	struct dir_user_entry entry;
	size_t len = sizeof(entry);

	if (at == NULL || (size_t)(end - at) < len)
		return false;
	memcpy(&entry, at, sizeof(entry));
	len += (size_t)entry.name_len + entry.role_len + entry.profile_len;
	if ((size_t)(end - at) < len)
		return false;
	*out = (struct dir_user){
	    .id = entry.user,
	    .last_seen_ms = entry.last_seen_ms,
	    .name = at + sizeof(entry),
	    .name_len = entry.name_len,
	    .role = at + sizeof(entry) + entry.name_len,
	    .role_len = entry.role_len,
	    .profile = at + sizeof(entry) + entry.name_len + entry.role_len,
	    .profile_len = entry.profile_len,
	    .is_stranger = entry.is_stranger != 0,
	};
	*at_io = at + ((len + 7) & ~(size_t)7);
	return true;
}
