/*
 * outbox_entry.c - one entry of an outbox as bytes.
 *
 * Role:    the kinds and their form; a block and a dead letter hold the same.
 * Process: keeper writes; directory and console read.
 * Blocks:  never.
 * Trust:   lengths, counts and roles are checked before anything is believed.
 * See:     store_schema.h (the form), outbox.c, outbox_dead.c,
 *          t/unit/store_outbox_kinds.c.
 */
#include "shm/outbox.h"

#include <string.h>

#include "shm/outbox_priv.h"

static const char *const kind_names[OUTBOX_KIND_END] = {
    [OUTBOX_DAMAGED] = "damaged",
    [OUTBOX_MESSAGE] = "message",
    [OUTBOX_DELIVERED] = "delivered",
    [OUTBOX_READ] = "read",
    [OUTBOX_STATUS] = "status",
    [OUTBOX_EDIT] = "edit",
    [OUTBOX_DELETE] = "delete",
    [OUTBOX_GROUP] = "group",
    [OUTBOX_MEMBER] = "member",
    [OUTBOX_CALL] = "call",
};

const char *
outbox_kind_name(enum outbox_kind kind)
{
	return kind < OUTBOX_KIND_END ? kind_names[kind] : "unknown";
}

bool
outbox_is_of_message(enum outbox_kind kind)
{
	return kind == OUTBOX_MESSAGE || kind == OUTBOX_EDIT ||
	       kind == OUTBOX_DELETE;
}

struct outbox_part
outbox_part_get(const struct outbox_entry *entry, size_t i)
{
	struct outbox_part part;

	/* not aligned, neither in a block nor in a batch */
	memcpy(&part, (const uint8_t *)entry->text.data + i * sizeof(part),
	    sizeof(part));
	return part;
}

/* ---- into bytes ---- */

struct writing {
	uint8_t *at;
};

static void
put(struct writing *writing, const void *data, size_t len)
{
	if (len > 0)
		memcpy(writing->at, data, len);
	writing->at += len;
}

static void
put_u8(struct writing *writing, uint32_t value)
{
	*writing->at++ = (uint8_t)value;
}

static void
put_u64(struct writing *writing, uint64_t value)
{
	put(writing, &value, sizeof(value));
}

static void
put_text(struct writing *writing, const struct blob *text)
{
	uint16_t len = (uint16_t)text->len;

	put(writing, &len, sizeof(len));
	put(writing, text->data, text->len);
}

static bool
is_writable(const struct outbox_entry *entry)
{
	switch (entry->kind) {
	case OUTBOX_STATUS:
		return entry->text.len <= STATUS_TEXT_MAX;
	case OUTBOX_GROUP:
		return entry->text.len <= GROUP_NAME_MAX;
	case OUTBOX_MEMBER:
		return entry->role < ROLE_END;
	case OUTBOX_CALL:
		return entry->call.part_count > 0 &&
		       entry->call.part_count <= OUTBOX_PARTS_MAX &&
		       entry->text.len ==
			   entry->call.part_count * sizeof(struct outbox_part);
	default:
		return entry->kind != OUTBOX_DAMAGED &&
		       entry->kind < OUTBOX_KIND_END;
	}
}

size_t
outbox_encode(uint8_t out[OUTBOX_ENTRY_MAX], const struct outbox_entry *entry)
{
	struct writing writing = {.at = out};

	if (!is_writable(entry))
		return 0;
	put_u8(&writing, entry->kind);
	switch (entry->kind) {
	case OUTBOX_MESSAGE:
	case OUTBOX_EDIT:
	case OUTBOX_DELETE:
		put_u64(&writing, entry->message_id);
		break;
	case OUTBOX_DELIVERED:
	case OUTBOX_READ:
		put(&writing, &entry->conv, sizeof(entry->conv));
		put_u64(&writing, entry->user);
		put_u64(&writing, entry->message_id);
		break;
	case OUTBOX_STATUS:
		put_u64(&writing, entry->user);
		put_u8(&writing, entry->status);
		put_text(&writing, &entry->text);
		break;
	case OUTBOX_GROUP:
		put_u64(&writing, entry->group);
		put_u64(&writing, entry->event);
		put_text(&writing, &entry->text);
		break;
	case OUTBOX_MEMBER:
		put_u64(&writing, entry->group);
		put_u64(&writing, entry->event);
		put_u64(&writing, entry->user);
		put_u8(&writing, entry->role);
		break;
	case OUTBOX_CALL:
		put(&writing, &entry->call, sizeof(entry->call));
		put(&writing, entry->text.data, entry->text.len);
		break;
	case OUTBOX_DAMAGED:
	case OUTBOX_KIND_END:
		return 0;
	}
	return (size_t)(writing.at - out);
}

/* ---- and back ---- */

static void
take(struct record_cursor *cursor, void *out, size_t len)
{
	const void *data = record_take(cursor, len);

	if (data != NULL)
		memcpy(out, data, len);
}

static uint32_t
take_u8(struct record_cursor *cursor)
{
	uint8_t value = 0;

	take(cursor, &value, sizeof(value));
	return value;
}

static uint64_t
take_u64(struct record_cursor *cursor)
{
	uint64_t value = 0;

	take(cursor, &value, sizeof(value));
	return value;
}

static void
take_text(struct record_cursor *cursor, struct blob *out)
{
	uint16_t len = 0;

	take(cursor, &len, sizeof(len));
	*out = (struct blob){record_take(cursor, len), len};
}

static void
take_call(struct record_cursor *cursor, struct outbox_entry *out)
{
	size_t len;

	take(cursor, &out->call, sizeof(out->call));
	len = out->call.part_count * sizeof(struct outbox_part);
	out->text = (struct blob){record_take(cursor, len), len};
}

bool
outbox_decode(struct record_cursor *cursor, struct outbox_entry *out)
{
	out->kind = (enum outbox_kind)take_u8(cursor);
	switch (out->kind) {
	case OUTBOX_MESSAGE:
	case OUTBOX_EDIT:
	case OUTBOX_DELETE:
		out->message_id = take_u64(cursor);
		break;
	case OUTBOX_DELIVERED:
	case OUTBOX_READ:
		take(cursor, &out->conv, sizeof(out->conv));
		out->user = take_u64(cursor);
		out->message_id = take_u64(cursor);
		break;
	case OUTBOX_STATUS:
		out->user = take_u64(cursor);
		out->status = take_u8(cursor);
		take_text(cursor, &out->text);
		break;
	case OUTBOX_GROUP:
		out->group = take_u64(cursor);
		out->event = take_u64(cursor);
		take_text(cursor, &out->text);
		break;
	case OUTBOX_MEMBER:
		out->group = take_u64(cursor);
		out->event = take_u64(cursor);
		out->user = take_u64(cursor);
		out->role = take_u8(cursor);
		break;
	case OUTBOX_CALL:
		take_call(cursor, out);
		break;
	default:
		return false;
	}
	return record_is_whole(cursor) && is_writable(out);
}
