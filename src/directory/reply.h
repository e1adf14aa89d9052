/*
 * reply.h - the answers on their way to a worker; none is lost because its
 * ring is full.
 */
#ifndef DIRECTORY_REPLY_H
#define DIRECTORY_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "shm/bus.h"
#include "shm/records.h"

struct reply {
	STAILQ_ENTRY(reply) link;
	uint32_t generation; /* of the asker; nobody else gets it */
	struct record_dir_reply head;
	uint8_t *tail; /* owned */
	size_t tail_len;
};

/* Those to one worker that wait for room, in order. */
struct reply_queue {
	STAILQ_HEAD(, reply) waiting;
	size_t count;
};

void reply_queue_init(struct reply_queue *queue);
/** @return replies that were still waiting, now gone */
size_t reply_queue_fini(struct reply_queue *queue);
/**
 * Put it into the ring to slot, or behind those that wait. One for a number 0
 * or for a process that is no more is dropped.
 *
 * @param reply  copied; its tail is taken
 */
void reply_send(struct bus *bus, int slot, struct reply_queue *queue,
    const struct reply *reply);
/** Put what waits, as far as there is room. @return all of it? */
bool reply_flush(struct bus *bus, int slot, struct reply_queue *queue);

#endif
