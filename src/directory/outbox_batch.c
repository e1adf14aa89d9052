/*
 * outbox_batch.c - a piece of an outbox out of the store.
 *
 * Role:    entries, the messages they name and who is in their conversations,
 *          copied within one short read transaction.
 * Process: directory, on a pool's thread.
 * Blocks:  on cold pages of the disk.
 * Trust:   what fails its check is refused, never handed on; so is what
 *          stands for numbers that are missing.
 * See:     outbox.c (who reads), shm/outbox.h, t/unit/outbox_batch.c.
 */
#include "config.h"

#include "directory/outbox_batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/conv.h"
#include "shm/store.h"

#define SLICE_LOOK 64 /* entries between two looks at the clock */

struct reading {
	struct batch *batch;
	struct txn *txn;
	int64_t until_ms;
	int rc;
};

struct batch *
batch_new(void)
{
	struct batch *batch = xcalloc(1, sizeof(*batch));

	batch->bytes = xcalloc(1, BATCH_BYTES_MAX);
	return batch;
}

void
batch_free(struct batch **batch)
{
	if (*batch == NULL)
		return;
	free((*batch)->refusals);
	free((*batch)->bytes);
	free(*batch);
	*batch = NULL;
}

void
batch_refuse(
    struct batch *batch, struct batch_entry *entry, int code, const char *error)
{
	struct outbox_refusal *refusal;
	size_t len = strlen(error);

	if (entry->is_refused)
		return;
	if (batch->refusal_count == batch->refusal_cap) {
		batch->refusal_cap =
		    batch->refusal_cap == 0 ? 16 : batch->refusal_cap * 2;
		batch->refusals = xrealloc(batch->refusals,
		    batch->refusal_cap * sizeof(*batch->refusals));
	}
	entry->is_refused = true;
	refusal = &batch->refusals[batch->refusal_count++];
	*refusal = (struct outbox_refusal){
	    .number = entry->entry.number, .code = code};
	if (len > sizeof(refusal->error))
		len = sizeof(refusal->error);
	refusal->error_len = (uint16_t)len;
	memcpy(refusal->error, error, len);
}

void
batch_write_again(struct batch *batch)
{
	size_t kept = batch->refused_by_reading;
	size_t i = 0;

	batch->refusal_count = kept;
	/* Both are in order of numbers. */
	for (size_t n = 0; n < batch->count; n++) {
		struct batch_entry *entry = &batch->entries[n];

		entry->is_refused = i < kept && batch->refusals[i].number ==
						    entry->entry.number;
		i += entry->is_refused;
	}
}

/* @return false: no room */
static bool
keep(struct batch *batch, struct blob *blob)
{
	uint8_t *at = batch->bytes + batch->bytes_len;

	if (blob->len > BATCH_BYTES_MAX - batch->bytes_len)
		return false;
	if (blob->len > 0)
		memcpy(at, blob->data, blob->len);
	batch->bytes_len += blob->len;
	blob->data = at;
	return true;
}

/* Two people are named by the key; among more the conversation has them. Who
 * is in a group or a call is told by itself. */
static int
keep_members(struct reading *reading, struct batch_entry *entry)
{
	struct batch *batch = reading->batch;
	uint64_t pair[2];
	struct conv conv;
	uint64_t *members;
	size_t count = 2;
	int rc;

	if (conv_key_has_seats(&entry->message.conv))
		return 0;
	batch->bytes_len = (batch->bytes_len + 7) & ~(size_t)7;
	if (conv_key_is_direct(&entry->message.conv)) {
		conv_key_members(&entry->message.conv, &pair[0], &pair[1]);
		count = pair[0] == pair[1] ? 1 : 2;
	} else {
		rc = conv_get(reading->txn, &entry->message.conv, &conv);
		if (rc != 0)
			return rc;
		count = conv.member_count;
	}
	if (batch->bytes_len > BATCH_BYTES_MAX ||
	    count * sizeof(*members) > BATCH_BYTES_MAX - batch->bytes_len)
		return ERR_FULL;
	members = (uint64_t *)(void *)(batch->bytes + batch->bytes_len);
	batch->bytes_len += count * sizeof(*members);
	for (size_t i = 0; i < count; i++)
		members[i] = conv_key_is_direct(&entry->message.conv)
				 ? pair[i]
				 : conv.members[i].user;
	entry->members = members;
	entry->member_count = count;
	return 0;
}

/* @return 0, ERR_FULL: not in this batch, ERR_NOT_FOUND, ERR_CORRUPT, ... */
static int
keep_message(struct reading *reading, struct batch_entry *entry)
{
	struct batch *batch = reading->batch;
	struct log_message *message = &entry->message;
	int rc;

	rc = log_get(reading->txn, entry->entry.message_id, message);
	if (rc == 0 && message->kind != LOG_MESSAGE)
		rc = ERR_NOT_FOUND;
	if (rc != 0)
		return rc;
	rc = keep_members(reading, entry);
	if (rc != 0)
		return rc;
	if (!keep(batch, &message->body) || !keep(batch, &message->type) ||
	    !keep(batch, &message->client_id) ||
	    !keep(batch, &message->attachment))
		return ERR_FULL;
	return 0;
}

static void
refuse_lost(struct batch *batch, struct batch_entry *lost)
{
	log_error(NULL, "outbox-gap",
	    "first=%llu last=%llu; their rows are damaged or gone, a dead "
	    "letter says so",
	    (unsigned long long)lost->entry.first,
	    (unsigned long long)lost->entry.number);
	batch_refuse(batch, lost, ERR_CORRUPT,
	    "rows of the outbox are damaged or gone; their messages are in "
	    "the log");
}

/* @return 0, ERR_FULL, or the store's error */
static int
keep_entry(struct reading *reading, struct batch_entry *entry)
{
	int rc = 0;

	if (entry->entry.kind == OUTBOX_DAMAGED)
		refuse_lost(reading->batch, entry);
	else if (outbox_is_of_message(entry->entry.kind))
		rc = keep_message(reading, entry);
	else if (!keep(reading->batch, &entry->entry.text))
		rc = ERR_FULL;
	if (rc == ERR_NOT_FOUND && entry->entry.kind == OUTBOX_DELETE) {
		/* What is gone here must be gone there, too. */
		rc = 0;
		entry->message = (struct log_message){
		    .id = entry->entry.message_id, .flags = LOG_DELETED};
	} else if (rc == ERR_NOT_FOUND) {
		rc = 0;
		batch_refuse(reading->batch, entry, ERR_NOT_FOUND,
		    "the message is not in the log any more");
	} else if (rc == ERR_CORRUPT && reading->txn->rc == 0) {
		rc = 0;
		batch_refuse(reading->batch, entry, ERR_CORRUPT,
		    "the message's row in the log is damaged");
	}
	return rc;
}

static bool
take_entry(void *ctx, const struct outbox_entry *entry)
{
	struct reading *reading = ctx;
	struct batch *batch = reading->batch;
	struct batch_entry *at = &batch->entries[batch->count];
	size_t before = batch->bytes_len;

	if (batch->count == BATCH_ENTRIES_MAX ||
	    (batch->count % SLICE_LOOK == SLICE_LOOK - 1 &&
		clock_mono_ms() >= reading->until_ms)) {
		batch->has_more = true;
		return false;
	}
	*at = (struct batch_entry){.entry = *entry};
	reading->rc = keep_entry(reading, at);
	if (reading->rc == ERR_FULL && batch->count > 0) {
		reading->rc = 0;
		batch->bytes_len = before;
		batch->has_more = true;
		return false;
	}
	if (reading->rc != 0)
		return false;
	batch->count++;
	batch->last = entry->number;
	return true;
}

int
batch_read(
    struct batch *batch, struct store *store, uint8_t number, uint64_t from)
{
	struct txn txn = {0};
	struct reading reading = {
	    .batch = batch,
	    .txn = &txn,
	    .until_ms = clock_mono_ms() + BATCH_SLICE_MS,
	};
	int rc;

	batch->last = 0;
	batch->has_more = false;
	batch->count = 0;
	batch->refusal_count = 0;
	batch->bytes_len = 0;
	rc = store_begin_read(store, &txn);
	if (rc == 0)
		rc = outbox_each(&txn, number, from, take_entry, &reading);
	if (rc == 0)
		rc = reading.rc;
	batch->refused_by_reading = batch->refusal_count;
	txn_end(&txn);
	return rc;
}
