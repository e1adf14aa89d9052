/*
 * rehearsal.c - the outbox without a database behind it.
 *
 * Role:    counts what a back end would write, so that the cost of writing,
 *          reading and draining the outbox can be measured.
 * Process: directory, on the loop's thread.
 * Blocks:  never.
 * Trust:   none needed: the batch is checked (outbox_batch.c).
 * See:     [directory] rehearse_outbox, doc/decisions/005.
 */
#include "config.h"

#include "directory/rehearsal.h"

#include "base/log.h"
#include "directory/outbox_batch.h"

static struct {
	uint64_t counts[OUTBOX_KIND_END];
	uint64_t bytes; /* of bodies and attachments */
} seen;

void
rehearsal_write(
    struct dir_backend *backend, struct batch *batch, dir_written_fn done)
{
	(void)backend;
	for (size_t i = 0; i < batch->count; i++) {
		const struct batch_entry *entry = &batch->entries[i];

		if (entry->is_refused)
			continue;
		seen.counts[entry->entry.kind]++;
		if (outbox_is_of_message(entry->entry.kind))
			seen.bytes += entry->message.body.len +
				      entry->message.attachment.len;
	}
	done(batch, 0);
}

void
rehearsal_tell(void)
{
	log_info(NULL, "rehearsal-over",
	    "messages=%llu edits=%llu deletes=%llu delivered=%llu read=%llu "
	    "statuses=%llu groups=%llu members=%llu calls=%llu bytes=%llu",
	    (unsigned long long)seen.counts[OUTBOX_MESSAGE],
	    (unsigned long long)seen.counts[OUTBOX_EDIT],
	    (unsigned long long)seen.counts[OUTBOX_DELETE],
	    (unsigned long long)seen.counts[OUTBOX_DELIVERED],
	    (unsigned long long)seen.counts[OUTBOX_READ],
	    (unsigned long long)seen.counts[OUTBOX_STATUS],
	    (unsigned long long)seen.counts[OUTBOX_GROUP],
	    (unsigned long long)seen.counts[OUTBOX_MEMBER],
	    (unsigned long long)seen.counts[OUTBOX_CALL],
	    (unsigned long long)seen.bytes);
}
