/*
 * reply.c - the answers on their way to a worker.
 *
 * Role:    into the ring, or kept until it has room.
 * Process: directory, on the loop's thread.
 * Blocks:  never. What is kept is bounded by the credits of directory.c and
 *          the queue of password checks.
 * Trust:   none needed.
 * See:     directory.c, bus.h (answers for the generation that asked).
 */
#include "config.h"

#include "directory/reply.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void
reply_queue_init(struct reply_queue *queue)
{
	STAILQ_INIT(&queue->waiting);
	queue->count = 0;
}

static void
drop_first(struct reply_queue *queue)
{
	struct reply *reply = STAILQ_FIRST(&queue->waiting);

	STAILQ_REMOVE_HEAD(&queue->waiting, link);
	queue->count--;
	free(reply->tail);
	free(reply);
}

size_t
reply_queue_fini(struct reply_queue *queue)
{
	size_t count = queue->count;

	while (queue->count > 0)
		drop_first(queue);
	return count;
}

static bool
is_awaited(struct bus *bus, int slot, const struct reply *reply)
{
	struct board_slot *asker = board_slot(bus_board(bus), slot);

	return reply->head.req != 0 &&
	       atomic_load_explicit(&asker->generation, memory_order_relaxed) ==
		   reply->generation;
}

/* @return false: no room */
static bool
put(struct bus *bus, int slot, const struct reply *reply)
{
	struct ring_writer *writer = bus_writer(bus, slot);
	size_t len = sizeof(reply->head) + reply->tail_len;
	uint8_t *room;

	writer->peer_gen = reply->generation;
	room = ring_put_begin(writer, len);
	if (room == NULL)
		return false;
	memcpy(room, &reply->head, sizeof(reply->head));
	if (reply->tail_len > 0)
		memcpy(
		    room + sizeof(reply->head), reply->tail, reply->tail_len);
	ring_put_end(writer, RECORD_DIR_REPLY, len);
	return true;
}

void
reply_send(struct bus *bus, int slot, struct reply_queue *queue,
    const struct reply *reply)
{
	struct reply *kept;

	if (!is_awaited(bus, slot, reply) ||
	    (queue->count == 0 && put(bus, slot, reply))) {
		free(reply->tail);
		return;
	}
	kept = xcalloc(1, sizeof(*kept));
	*kept = *reply;
	STAILQ_INSERT_TAIL(&queue->waiting, kept, link);
	queue->count++;
}

bool
reply_flush(struct bus *bus, int slot, struct reply_queue *queue)
{
	struct reply *reply;

	while ((reply = STAILQ_FIRST(&queue->waiting)) != NULL) {
		if (is_awaited(bus, slot, reply) && !put(bus, slot, reply))
			return false;
		drop_first(queue);
	}
	return true;
}
