/*
 * outboxes.h - the outboxes that this directory drains.
 */
#ifndef DIRECTORY_OUTBOXES_H
#define DIRECTORY_OUTBOXES_H

#include <stdbool.h>
#include <stdint.h>

#include "directory/dir.h"
#include "shm/outbox.h"
#include "shm/records.h"

struct consumer;

struct outboxes {                               /* zeroed: none */
	struct consumer *consumers[OUTBOX_END]; /* NULL: that one is off */
	bool is_rehearsal;
};

/** Is any switched on? Then the host needs a store. */
bool outboxes_any_on(const struct conf *conf);
/** For a back end that writes nothing outside it is a rehearsal.
 *  @param write  the back end's, or NULL */
void outboxes_start(struct outboxes *outboxes, const struct dir_host *host,
    struct dir_backend *backend, dir_write_fn write);
void outboxes_news(
    struct outboxes *outboxes, const struct record_outbox_news *news);
/** @return was the reply for one of them? */
bool outboxes_reply(
    struct outboxes *outboxes, const struct record_reply *reply);
/** Part of the turn. @return when they want the next one, clock_mono_ms() */
int64_t outboxes_turn(struct outboxes *outboxes);
/** outbox.h, consumer_stop; before the back end is closed. */
bool outboxes_stop(struct outboxes *outboxes, int64_t until_ms);
/** After that, and after the results were collected. */
void outboxes_fini(struct outboxes *outboxes);

#endif
