/*
 * mssql_row.c - an entry of the outbox as a row for the database.
 *
 * Role:    the JSON objects that Parley_Write_Batch takes.
 * Process: directory, on a thread of its pool.
 * Blocks:  never.
 * Trust:   texts came from clients. Only what is valid UTF-8 without NUL goes
 *          out: FreeTDS cannot convert anything else and loses the connection
 *          over it, and JSON of the database has no NUL.
 * See:     mssql_row.h, doc/decisions/029, t/unit/mssql_row.c.
 *
 * A row says what its message is like now, not what it was when the entry was
 * put: rows that come twice, or late, then say the same as those before them.
 */
#include "config.h"

#include "directory/mssql_row.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/crypto.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "shm/call.h"
#include "shm/group.h"
#include "shm/ids.h"
#include "shm/presence.h"

#define WHAT_MAX 16
#define YEAR_1   (-62135596800000LL) /* ms since 1970 */
#define YEAR_END 253402300799999LL   /* of 9999 */

/* One row in the making. */
struct row {
	struct buf *json;
	const struct batch_entry *entry;
	uint64_t epoch;
	const char *error; /* NULL: none so far */
};

static void
put_be64(uint8_t out[8], uint64_t n)
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(n >> (56 - 8 * i));
}

void
mssql_guid(
    const char *what, uint64_t epoch, uint64_t id, char out[MSSQL_GUID_LEN + 1])
{
	static const uint8_t dashes[] = {4, 6, 8, 10};
	uint8_t input[WHAT_MAX + 16] = {0};
	uint8_t hash[CRYPTO_HASH128_LEN];
	size_t len = strlen(what);
	size_t dash = 0;
	char *at = out;

	if (len >= WHAT_MAX)
		panic("a GUID of something with a long name");
	memcpy(input, what, len);
	put_be64(input + WHAT_MAX, epoch);
	put_be64(input + WHAT_MAX + 8, id);
	crypto_sha256_128(input, sizeof(input), hash);
	hash[6] = (uint8_t)(0x80 | (hash[6] & 0x0f)); /* version 8 */
	hash[8] = (uint8_t)(0x80 | (hash[8] & 0x3f)); /* variant */
	for (size_t i = 0; i < sizeof(hash); i++) {
		if (dash < sizeof(dashes) && i == dashes[dash]) {
			*at++ = '-';
			dash++;
		}
		text_hex(&hash[i], 1, at);
		at += 2;
	}
}

bool
mssql_time(int64_t ms, char out[MSSQL_TIME_LEN + 1])
{
	int64_t rest = ms % 1000;
	time_t seconds = (time_t)(ms / 1000);
	char text[64];
	struct tm utc;

	if (ms < YEAR_1 || ms > YEAR_END)
		return false;
	if (rest < 0) { /* before 1970 */
		rest += 1000;
		seconds--;
	}
	gmtime_r(&seconds, &utc);
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03d",
	    utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
	    utc.tm_min, utc.tm_sec, (int)rest);
	memcpy(out, text, MSSQL_TIME_LEN);
	out[MSSQL_TIME_LEN] = '\0';
	return true;
}

/* ---- members ---- */

/* A time that the database does not know stays away: only the clock of a
 * client can name one. */
static void
put_time(struct row *row, const char *key, int64_t ms)
{
	char text[MSSQL_TIME_LEN + 1];

	if (mssql_time(ms, text))
		json_put_text(row->json, key, text);
}

static void
put_text(struct row *row, const char *key, const struct blob *text)
{
	if (!text_utf8_valid(text->data, text->len))
		row->error = "a text of it is not valid UTF-8";
	else if (text->len > 0 && memchr(text->data, '\0', text->len) != NULL)
		row->error = "a text of it holds a NUL character";
	else
		json_put_string(row->json, key, text->data, text->len);
}

static void
put_conv(struct row *row, const struct conv_key *conv)
{
	char text[CONV_TEXT_MAX];

	json_put_text(row->json, "v", conv_key_format(conv, text));
}

/* When it was changed; of a row that is gone only the entry knows. */
static int64_t
changed_ms(const struct batch_entry *entry)
{
	return entry->message.changed_ms != 0 ? entry->message.changed_ms
					      : entry->entry.at_ms;
}

/* All but the sender; of who has a seat rows of their own tell. */
static void
put_receivers(struct row *row)
{
	const struct batch_entry *entry = row->entry;

	if (conv_key_has_seats(&entry->message.conv))
		return;
	json_key(row->json, "o");
	json_array_begin(row->json);
	for (size_t i = 0; i < entry->member_count; i++) {
		if (entry->members[i] != entry->message.sender)
			json_u64(row->json, entry->members[i]);
	}
	json_array_end(row->json);
}

/* ---- rows, by kind ---- */

static void
put_kind(struct row *row, const char *kind)
{
	json_put_text(row->json, "k", kind);
}

static void
put_message(struct row *row)
{
	const struct log_message *message = &row->entry->message;
	bool is_deleted = (message->flags & LOG_DELETED) != 0;
	char guid[MSSQL_GUID_LEN + 1];

	mssql_guid("message", row->epoch, message->id, guid);
	put_kind(row, "message");
	json_put_u64(row->json, "i", message->id);
	json_put_text(row->json, "g", guid);
	put_conv(row, &message->conv);
	json_put_u64(row->json, "s", message->sender);
	put_time(row, "t", message_id_time_ms(message->id));
	if (message->reply_to != 0)
		json_put_u64(row->json, "r", message->reply_to);
	if (message->client_time_ms != INT64_MIN)
		put_time(row, "x", message->client_time_ms);
	if (is_deleted) {
		put_time(row, "d", changed_ms(row->entry));
	} else {
		put_text(row, "y", &message->type);
		put_text(row, "b", &message->body);
		if (message->attachment.len > 0)
			put_text(row, "a", &message->attachment);
		if ((message->flags & LOG_EDITED) != 0)
			put_time(row, "e", changed_ms(row->entry));
	}
	put_receivers(row);
}

/* An edit of what was deleted since has no text any more: it is the delete. */
static void
put_change(struct row *row)
{
	const struct log_message *message = &row->entry->message;
	bool is_deleted = (message->flags & LOG_DELETED) != 0;

	put_kind(row, is_deleted ? "delete" : "edit");
	json_put_u64(row->json, "i", message->id);
	put_time(row, "t", changed_ms(row->entry));
	if (!is_deleted)
		put_text(row, "b", &message->body);
}

static void
put_receipt(struct row *row, const char *kind)
{
	const struct outbox_entry *entry = &row->entry->entry;

	put_kind(row, kind);
	put_conv(row, &entry->conv);
	json_put_u64(row->json, "u", entry->user);
	json_put_u64(row->json, "i", entry->message_id);
	put_time(row, "t", entry->at_ms);
}

static void
put_status(struct row *row)
{
	const struct outbox_entry *entry = &row->entry->entry;

	if (entry->status >= STATUS_END) {
		row->error = "there is no such status";
		return;
	}
	put_kind(row, "status");
	json_put_u64(row->json, "u", entry->user);
	json_put_text(
	    row->json, "c", status_name((enum user_status)entry->status));
	put_text(row, "x", &entry->text);
	put_time(row, "t", entry->at_ms);
}

static void
put_group(struct row *row)
{
	const struct outbox_entry *entry = &row->entry->entry;

	put_kind(row, "group");
	json_put_u64(row->json, "i", entry->group);
	put_text(row, "x", &entry->text);
	put_time(row, "t", message_id_time_ms(entry->event));
}

/* Without a role he has left. */
static void
put_member(struct row *row)
{
	const struct outbox_entry *entry = &row->entry->entry;

	put_kind(row, "member");
	json_put_u64(row->json, "i", entry->group);
	json_put_u64(row->json, "u", entry->user);
	if (entry->role != ROLE_NONE)
		json_put_text(row->json, "c", group_role_name(entry->role));
	put_time(row, "t", message_id_time_ms(entry->event));
}

static void
put_outcome(struct row *row, uint8_t outcome)
{
	json_put_text(
	    row->json, "c", call_outcome_name((enum call_outcome)outcome));
}

/* A participant who was never in it has no times. */
static void
put_part(struct row *row, const struct outbox_part *part)
{
	json_object_begin(row->json);
	json_put_u64(row->json, "u", part->user);
	put_outcome(row, part->outcome);
	if (part->joined_ms != 0)
		put_time(row, "t", part->joined_ms);
	if (part->left_ms != 0)
		put_time(row, "e", part->left_ms);
	json_object_end(row->json);
}

/* One of many participants comes as several rows, each with some of them. */
static void
put_call(struct row *row)
{
	const struct outbox_entry *entry = &row->entry->entry;
	const struct outbox_call *call = &entry->call;
	char guid[MSSQL_GUID_LEN + 1];

	mssql_guid("call", row->epoch, call->id, guid);
	put_kind(row, "call");
	json_put_u64(row->json, "i", call->id);
	json_put_text(row->json, "g", guid);
	json_put_text(
	    row->json, "y", call_kind_name((enum call_kind)call->kind));
	json_put_u64(row->json, "s", call->user);
	put_time(row, "t", call->created_ms);
	put_time(row, "e", call->ended_ms);
	put_outcome(row, call->outcome);
	json_key(row->json, "p");
	json_array_begin(row->json);
	for (size_t i = 0; i < call->part_count; i++) {
		const struct outbox_part part = outbox_part_get(entry, i);

		put_part(row, &part);
	}
	json_array_end(row->json);
}

static void
put_row(struct row *row)
{
	switch (row->entry->entry.kind) {
	case OUTBOX_MESSAGE:
		put_message(row);
		return;
	case OUTBOX_EDIT:
	case OUTBOX_DELETE:
		put_change(row);
		return;
	case OUTBOX_DELIVERED:
		put_receipt(row, "delivered");
		return;
	case OUTBOX_READ:
		put_receipt(row, "read");
		return;
	case OUTBOX_STATUS:
		put_status(row);
		return;
	case OUTBOX_GROUP:
		put_group(row);
		return;
	case OUTBOX_MEMBER:
		put_member(row);
		return;
	case OUTBOX_CALL:
		put_call(row);
		return;
	case OUTBOX_DAMAGED:
	case OUTBOX_KIND_END:
		break;
	}
	row->error = "nobody knows what it was";
}

int
mssql_row_add(struct buf *rows, uint64_t epoch, const struct batch_entry *entry,
    const char **error_out)
{
	struct row row = {.json = rows, .entry = entry, .epoch = epoch};
	size_t before = rows->len;

	json_object_begin(rows);
	json_put_u64(rows, "n", entry->entry.number);
	put_row(&row);
	json_object_end(rows);
	if (row.error == NULL)
		return 0;
	rows->len = before;
	*error_out = row.error;
	return ERR_BAD_REQUEST;
}
