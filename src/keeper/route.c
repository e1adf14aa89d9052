/*
 * route.c - what leaves the keeper: replies to who asked, events to the
 * workers on which somebody is.
 *
 * Role:    puts records into outgoing rings, unpublished until the commit.
 * Blocks:  never. A full ring costs a delivery its short cut, not its life:
 *          the inbox has it, the worker is told to look.
 */
#include "keeper/keeper_priv.h"

#include <string.h>

#include "base/log.h"

void *
route_begin(struct keeper *keeper, const struct origin *to, size_t len)
{
	struct ring_writer *writer = bus_writer(keeper->bus, to->slot);
	void *room;

	if (writer == NULL)
		return NULL;
	writer->peer_gen = to->generation;
	room = ring_put_begin(writer, len);
	/* Nobody reads for a process that died; the one after it did not ask.
	 */
	if (room == NULL)
		log_warn(NULL, "reply-dropped",
		    "slot=%d generation=%u; its ring is full", to->slot,
		    to->generation);
	return room;
}

void
route_end(
    struct keeper *keeper, const struct origin *to, uint16_t type, size_t len)
{
	struct ring_writer *writer = bus_writer(keeper->bus, to->slot);

	writer->peer_gen = to->generation;
	ring_put_end(writer, type, len);
}

void
route_reply(struct keeper *keeper, const struct origin *to, uint64_t req,
    int rc, uint64_t value, const char *text)
{
	size_t text_len = text == NULL ? 0 : strlen(text);
	struct record_reply *reply;

	if (req == 0)
		return;
	reply = route_begin(keeper, to, sizeof(*reply) + text_len);
	if (reply == NULL)
		return;
	*reply = (struct record_reply){
	    .req = req,
	    .value = value,
	    .rc = rc,
	    .text_len = (uint32_t)text_len,
	};
	if (text_len > 0)
		memcpy(reply + 1, text, text_len);
	route_end(keeper, to, RECORD_REPLY, sizeof(*reply) + text_len);
}

void *
route_event_begin(struct keeper *keeper, int worker, size_t len)
{
	struct ring_writer *writer =
	    bus_writer(keeper->bus, SLOT_WORKER_0 + worker);
	uint64_t half;
	void *room = NULL;

	if (writer == NULL)
		return NULL;
	half = writer->ring->size / 2;
	if (writer->head - writer->tail + len < half ||
	    writer->head - ring_tail(writer->ring) + len < half)
		room = ring_put_begin(writer, len);
	if (room == NULL)
		keeper->batch.resync |= 1ULL << worker;
	return room;
}

void
route_event_end(struct keeper *keeper, int worker, uint16_t type, size_t len)
{
	ring_put_end(
	    bus_writer(keeper->bus, SLOT_WORKER_0 + worker), type, len);
}

uint64_t
route_workers(const struct keeper *keeper, const struct userhead *head)
{
	uint64_t workers = 0;

	for (int i = 0; i < head->row.device_count; i++) {
		if (keeper_is_live(keeper, &head->devices[i]))
			workers |= 1ULL
				   << (head->devices[i].worker - SLOT_WORKER_0);
	}
	return workers;
}
