/*
 * keeper_call.c - questions to the keeper and their answers.
 *
 * Role:    numbers records, keeps them until there is room in the ring, finds
 *          the asker of an answer, gives up after a deadline.
 * Process: console.
 * Blocks:  never.
 * Trust:   answers are checked for their length and matched by number; those
 *          to a predecessor carry its generation and find nobody.
 * See:     shm/records.h, keeper/apply_user.c.
 */
#include "config.h"

#include "console/keeper_call.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/bus.h"
#include "shm/records.h"

#define ANSWER_WITHIN_MS 10000 /* a keeper's restart is over in a second */
#define ANSWERS_PER_TURN 1000

void
keeper_call_begin(struct console *console, struct keeper_call *call,
    uint16_t type, const void *record, size_t len)
{
	uint32_t generation = bus_own_generation(console->process->bus);

	if (call->is_open)
		panic("keeper call begun twice");
	call->req = (uint64_t)generation << 32 | ++console->next_call;
	call->type = type;
	call->is_put = false;
	call->is_open = true;
	call->deadline_ms = clock_mono_ms() + ANSWER_WITHIN_MS;
	buf_clear(&call->record);
	buf_add(&call->record, record, len);
	memcpy(call->record.data, &call->req, sizeof(call->req));
	TAILQ_INSERT_TAIL(&console->calls, call, link);
}

void
keeper_call_end(struct console *console, struct keeper_call *call)
{
	if (call->is_open)
		TAILQ_REMOVE(&console->calls, call, link);
	call->is_open = false;
	buf_fini(&call->record);
}

static struct keeper_call *
find_call(struct console *console, uint64_t req)
{
	struct keeper_call *call;

	TAILQ_FOREACH(call, &console->calls, link)
	{
		if (call->req == req)
			return call;
	}
	return NULL;
}

/* Out of the list first: fn may begin the next call with it. */
static void
answer_call(struct console *console, struct keeper_call *call,
    const struct keeper_answer *answer)
{
	TAILQ_REMOVE(&console->calls, call, link);
	call->is_open = false;
	call->fn(call->ctx, answer);
}

static void
take_reply(struct console *console, const struct ring_record *record)
{
	const struct record_reply *reply = (const void *)record->data;
	struct keeper_answer answer;
	struct keeper_call *call;

	if (record->type != RECORD_REPLY ||
	    record->len < record_min_len(RECORD_REPLY)) {
		log_warn(NULL, "record-unexpected", "type=%s len=%u",
		    record_name(record->type), record->len);
		return;
	}
	call = find_call(console, reply->req);
	if (call == NULL)
		return; /* asked by a predecessor, or given up */
	answer.rc = reply->rc;
	answer.value = reply->value;
	answer_call(console, call, &answer);
}

static void
read_ring(struct console *console, int from_slot)
{
	struct ring_reader *reader =
	    bus_reader(console->process->bus, from_slot);
	struct ring_record record;
	int rc = 0;

	for (int i = 0; i < ANSWERS_PER_TURN; i++) {
		rc = ring_next(reader, &record);
		if (rc != 0)
			break;
		if (from_slot == SLOT_KEEPER)
			take_reply(console, &record);
	}
	if (rc == ERR_CORRUPT)
		log_error(NULL, "ring-corrupt", "from=%d skipped=%llu",
		    from_slot, (unsigned long long)ring_skip_all(reader));
	ring_release(reader);
}

static void
expire(struct console *console)
{
	struct keeper_answer answer = {.rc = ERR_TIMEOUT};
	int64_t now_ms = clock_mono_ms();
	struct keeper_call *call = TAILQ_FIRST(&console->calls);

	/* all have the same patience: the list is in order of deadlines */
	while (call != NULL && call->deadline_ms <= now_ms) {
		answer_call(console, call, &answer);
		call = TAILQ_FIRST(&console->calls);
	}
}

void
keeper_calls_read(struct console *console)
{
	struct bus *bus = console->process->bus;

	for (int from = bus_next_incoming(bus, -1); from >= 0;
	     from = bus_next_incoming(bus, from))
		read_ring(console, from);
	expire(console);
}

void
keeper_calls_put(struct console *console)
{
	struct keeper_call *call;

	TAILQ_FOREACH(call, &console->calls, link)
	{
		if (call->is_put)
			continue;
		if (bus_put(console->process->bus, SLOT_KEEPER, call->type,
			call->record.data, call->record.len) != 0)
			return; /* in their order: the next turn tries again */
		call->is_put = true;
	}
}
