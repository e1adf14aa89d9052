/*
 * outboxes.c - the outboxes that this directory drains.
 *
 * Role:    a consumer for each that is switched on, and who writes for it.
 * Process: directory, on the loop's thread.
 * Blocks:  never.
 * Trust:   see outbox.c.
 * See:     shm/outboxes.def, outbox.h, directory.c.
 */
#include "config.h"

#include "directory/outboxes.h"

#include "base/log.h"
#include "directory/outbox.h"
#include "directory/rehearsal.h"

bool
outboxes_any_on(const struct conf *conf)
{
	for (int id = 0; id < OUTBOX_END; id++) {
		if (outbox_is_on((enum outbox_id)id, conf))
			return true;
	}
	return false;
}

void
outboxes_start(struct outboxes *outboxes, const struct dir_host *host,
    struct dir_backend *backend, dir_write_fn write)
{
	for (int id = 0; id < OUTBOX_END; id++) {
		if (!outbox_is_on((enum outbox_id)id, host->conf))
			continue;
		outboxes->is_rehearsal = write == NULL;
		if (consumer_new(host, backend,
			write != NULL ? write : rehearsal_write,
			(enum outbox_id)id, &outboxes->consumers[id]) != 0)
			fatal("the directory has no thread for an outbox");
	}
}

void
outboxes_news(struct outboxes *outboxes, const struct record_outbox_news *news)
{
	for (int id = 0; id < OUTBOX_END; id++) {
		if (outboxes->consumers[id] != NULL)
			consumer_news(outboxes->consumers[id], news);
	}
}

bool
outboxes_reply(struct outboxes *outboxes, const struct record_reply *reply)
{
	for (int id = 0; id < OUTBOX_END; id++) {
		if (outboxes->consumers[id] != NULL &&
		    consumer_reply(outboxes->consumers[id], reply))
			return true;
	}
	return false;
}

int64_t
outboxes_turn(struct outboxes *outboxes)
{
	int64_t next_ms = INT64_MAX;

	for (int id = 0; id < OUTBOX_END; id++) {
		struct consumer *consumer = outboxes->consumers[id];

		if (consumer == NULL)
			continue;
		consumer_turn(consumer);
		if (consumer_wake_at_ms(consumer) < next_ms)
			next_ms = consumer_wake_at_ms(consumer);
	}
	return next_ms;
}

bool
outboxes_stop(struct outboxes *outboxes, int64_t until_ms)
{
	bool has_ended = true;

	for (int id = 0; id < OUTBOX_END; id++) {
		if (outboxes->consumers[id] != NULL &&
		    !consumer_stop(outboxes->consumers[id], until_ms))
			has_ended = false;
	}
	return has_ended;
}

void
outboxes_fini(struct outboxes *outboxes)
{
	if (outboxes->is_rehearsal)
		rehearsal_tell();
	for (int id = 0; id < OUTBOX_END; id++)
		consumer_free(&outboxes->consumers[id]);
}
