/*
 * outbox.h - the consumer's end of an outbox: reads, has it written, says
 * what is done.
 */
#ifndef DIRECTORY_OUTBOX_H
#define DIRECTORY_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "directory/dir.h"
#include "shm/outbox.h"
#include "shm/records.h"

struct consumer;

/**
 * Begin with what waits. All calls on the loop's thread.
 *
 * @param host     with a store; lives longer
 * @param write    dir.h, write_batch
 * @return         0 or ERR_IO (no thread)
 */
NODISCARD int consumer_new(const struct dir_host *host,
    struct dir_backend *backend, dir_write_fn write, enum outbox_id id,
    struct consumer **consumer_out);
/** The keeper says that there is more. */
void consumer_news(
    struct consumer *consumer, const struct record_outbox_news *news);
/** The keeper's reply. @return was it ours? */
bool consumer_reply(
    struct consumer *consumer, const struct record_reply *reply);
/** Once per turn, behind the results. */
void consumer_turn(struct consumer *consumer);
/** When it wants its next turn, clock_mono_ms(); INT64_MAX: when woken. */
int64_t consumer_wake_at_ms(const struct consumer *consumer);
/**
 * No more reading, what the back end gives back is left for the next process;
 * what is done is put into the ring once more. Close the back end and collect
 * the results before it is freed.
 *
 * @return false: a thread is stuck and keeps what it has
 */
bool consumer_stop(struct consumer *consumer, int64_t until_ms);
/** After consumer_stop; accepts NULL and clears. */
void consumer_free(struct consumer **consumer);

#endif
