/*
 * outbox.c - the consumer's end of an outbox.
 *
 * Role:    reads what waits in batches, has the back end write them, in order
 *          and one at a time; says what is done, or refused for good.
 * Process: directory; a thread reads the store, the rest is the loop's.
 * Blocks:  the thread, on cold pages.
 * Trust:   the keeper's answers are matched by number. Nothing is said to be
 *          done before it was written, nor moved past before the refusal was
 *          stored; killed in between, it is written again: consumers take
 *          everything any number of times.
 * See:     outbox.h, keeper/apply_outbox.c (the other end),
 *          doc/decisions/005, t/unit/directory_outbox.c.
 */
#include "config.h"

#include "directory/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/outbox_batch.h"

#define GATHER_MS    50    /* after a small batch: let more come together */
#define LOOK_MS      1000  /* at rest: news may have been lost */
#define PAUSE_MIN_MS 100   /* after a failure, then twice that ... */
#define PAUSE_MAX_MS 30000 /* ... up to this */
#define ANSWER_MS    5000  /* the keeper's; then it is asked again */
#define ASK_AGAIN_MS 500   /* after a refusal: its disk is full */
#define REQ_MARK     (1ULL << 63)
#define REQ_ID_SHIFT 56

enum consumer_state {
	CONSUMER_RESTING,   /* until wake_at_ms or news */
	CONSUMER_GATHERING, /* until wake_at_ms */
	CONSUMER_READING,   /* the thread has the batch */
	CONSUMER_WRITING,   /* the back end has it */
	CONSUMER_PAUSING,   /* until wake_at_ms, then the same batch again */
	CONSUMER_REFUSING,  /* the keeper stores the refusals */
	CONSUMER_STOPPED,
	CONSUMER_STATE_END
};

static const char *const state_names[CONSUMER_STATE_END] = {
    [CONSUMER_RESTING] = "resting",
    [CONSUMER_GATHERING] = "gathering",
    [CONSUMER_READING] = "reading",
    [CONSUMER_WRITING] = "writing",
    [CONSUMER_PAUSING] = "pausing",
    [CONSUMER_REFUSING] = "refusing",
    [CONSUMER_STOPPED] = "stopped",
};

/* A question to the keeper. */
struct asking {
	uint64_t req; /* 0: none is open */
	int64_t again_at_ms;
};

struct consumer {
	struct pool_job job; /* first: the thread's functions get this one */
	const struct dir_host *host;
	struct dir_backend *backend;
	dir_write_fn write;
	enum outbox_id id;
	enum consumer_state state;
	struct pool *pool;
	struct batch *batch; /* NULL at rest */
	int read_rc;
	int64_t wake_at_ms;
	uint64_t next; /* number to read from; 0: behind the tail */
	bool has_news;
	unsigned pauses; /* in a row */
	bool is_stalled; /* it has failed since it was last written */
	size_t refused;  /* of batch->refusals, stored by the keeper */
	size_t refusing; /* in the question that is open */
	uint64_t last_req;
	struct asking refuse;
	struct asking done;
	uint64_t written; /* up to this number, refusals stored */
	uint64_t due;     /* of that, what it is time to tell the keeper */
	uint64_t told;    /* what the keeper has taken */
	uint64_t telling; /* in the question that is open */
	bool wants_news;  /* to be said with it */
	bool asks_news;   /* is said in it */
	bool awaits_news; /* the keeper knows */
};

static void
set_state(struct consumer *consumer, enum consumer_state state)
{
	if (consumer->state == state)
		return;
	log_debug(NULL, "outbox-state", "outbox=%s state=%s was=%s",
	    outbox_name(consumer->id), state_names[state],
	    state_names[consumer->state]);
	consumer->state = state;
}

/* ---- questions to the keeper ---- */

static uint64_t
next_req(struct consumer *consumer)
{
	return REQ_MARK | (uint64_t)consumer->id << REQ_ID_SHIFT |
	       ++consumer->last_req;
}

/* The ring is full, or an answer is to come: not now. */
static bool
may_ask(const struct asking *asking)
{
	return clock_mono_ms() >= asking->again_at_ms;
}

static void
tell_done(struct consumer *consumer)
{
	struct asking *done = &consumer->done;
	struct record_outbox_done record = {
	    .req = next_req(consumer),
	    .upto = consumer->written,
	    .outbox = outbox_number(consumer->id),
	    .flags = consumer->wants_news ? OUTBOX_DONE_RESTS : 0,
	};

	if (bus_put(consumer->host->bus, SLOT_KEEPER, RECORD_OUTBOX_DONE,
		&record, sizeof(record)) != 0)
		return;
	done->req = record.req;
	done->again_at_ms = clock_mono_ms() + ANSWER_MS;
	consumer->telling = record.upto;
	consumer->asks_news = consumer->wants_news;
}

static void
done_answered(struct consumer *consumer, int rc)
{
	struct asking *done = &consumer->done;

	done->req = 0;
	if (rc != 0) {
		done->again_at_ms = clock_mono_ms() + ASK_AGAIN_MS;
		return;
	}
	done->again_at_ms = 0;
	consumer->told = consumer->telling;
	if (consumer->asks_news) {
		consumer->wants_news = false;
		consumer->awaits_news = true;
	}
}

static bool
is_done_due(const struct consumer *consumer)
{
	return consumer->due > consumer->told || consumer->wants_news;
}

static void
ask_refusals(struct consumer *consumer)
{
	const struct batch *batch = consumer->batch;
	struct asking *refuse = &consumer->refuse;
	size_t count = batch->refusal_count - consumer->refused;
	struct record_outbox_refuse head = {
	    .req = next_req(consumer), .outbox = outbox_number(consumer->id)};
	struct ring_writer *writer =
	    bus_writer(consumer->host->bus, SLOT_KEEPER);
	uint8_t *room;

	if (count > OUTBOX_REFUSALS_MAX)
		count = OUTBOX_REFUSALS_MAX;
	head.count = (uint32_t)count;
	room = ring_put_begin(
	    writer, sizeof(head) + count * sizeof(*batch->refusals));
	if (room == NULL)
		return;
	memcpy(room, &head, sizeof(head));
	memcpy(room + sizeof(head), batch->refusals + consumer->refused,
	    count * sizeof(*batch->refusals));
	ring_put_end(writer, RECORD_OUTBOX_REFUSE,
	    sizeof(head) + count * sizeof(*batch->refusals));
	refuse->req = head.req;
	refuse->again_at_ms = clock_mono_ms() + ANSWER_MS;
	consumer->refusing = count;
}

/* ---- reading ---- */

static void
read_run(struct pool_job *job)
{
	struct consumer *consumer = (struct consumer *)job;

	consumer->read_rc = batch_read(consumer->batch, consumer->host->store,
	    outbox_number(consumer->id), consumer->next);
}

static void
rest(struct consumer *consumer, int64_t for_ms)
{
	batch_free(&consumer->batch);
	consumer->wake_at_ms = clock_mono_ms() + for_ms;
	set_state(consumer, CONSUMER_RESTING);
}

static void
read_begin(struct consumer *consumer)
{
	if (consumer->batch == NULL)
		consumer->batch = batch_new();
	consumer->has_news = false;
	consumer->job.deadline_ms = INT64_MAX;
	set_state(consumer, CONSUMER_READING);
	/* Its own pool with one thread that has nothing else to do. */
	if (pool_submit(consumer->pool, &consumer->job) != 0)
		panic("the outbox is read twice at once");
}

static void write_begin(struct consumer *consumer);

static void
read_done(struct pool_job *job)
{
	struct consumer *consumer = (struct consumer *)job;

	if (consumer->state == CONSUMER_STOPPED || !job->was_run)
		return;
	if (consumer->read_rc != 0) {
		log_error(NULL, "outbox-read-failed", "outbox=%s error=\"%s\"",
		    outbox_name(consumer->id), err_text(consumer->read_rc));
		rest(consumer, LOOK_MS);
		return;
	}
	/* A small batch is told with the first look behind it: then one
	 * record says both that and that nothing follows. */
	consumer->due = consumer->written;
	if (consumer->batch->count > 0) {
		write_begin(consumer);
		return;
	}
	consumer->wants_news = !consumer->awaits_news;
	rest(consumer, LOOK_MS);
}

/* ---- writing ---- */

static void
count_batch(const struct batch *batch)
{
	COUNT_ADD(outbox_written, batch->count - batch->refusal_count);
	COUNT_ADD(outbox_refused, batch->refusal_count);
	for (size_t i = 0; batch->refusal_count > 0 && i < batch->count; i++) {
		const struct outbox_entry *entry = &batch->entries[i].entry;

		if (entry->kind == OUTBOX_DAMAGED)
			COUNT_ADD(
			    outbox_lost, entry->number - entry->first + 1);
	}
}

/* The batch is behind us. */
static void
batch_over(struct consumer *consumer)
{
	const struct batch *batch = consumer->batch;

	count_batch(batch);
	if (batch->refusal_count > 0)
		log_warn(NULL, "outbox-refused",
		    "outbox=%s count=%zu; parleyctl outbox list shows them",
		    outbox_name(consumer->id), batch->refusal_count);
	consumer->written = batch->last;
	consumer->next = batch->last + 1;
	if (batch->has_more) {
		consumer->due = consumer->written;
		read_begin(consumer);
		return;
	}
	consumer->wake_at_ms = clock_mono_ms() + GATHER_MS;
	set_state(consumer, CONSUMER_GATHERING);
}

static void
pause_after(struct consumer *consumer, int rc)
{
	int64_t pause_ms = PAUSE_MIN_MS;

	for (unsigned i = 0; i < consumer->pauses && pause_ms < PAUSE_MAX_MS;
	     i++)
		pause_ms *= 2;
	if (pause_ms > PAUSE_MAX_MS)
		pause_ms = PAUSE_MAX_MS;
	consumer->pauses++;
	/* Later is no failure: whoever says so is there. */
	if (rc != ERR_AGAIN) {
		COUNT(outbox_failed);
		if (!consumer->is_stalled)
			log_warn(NULL, "outbox-stalled",
			    "outbox=%s error=\"%s\"; it is tried again",
			    outbox_name(consumer->id), err_text(rc));
		consumer->is_stalled = true;
	}
	consumer->wake_at_ms = clock_mono_ms() + pause_ms;
	set_state(consumer, CONSUMER_PAUSING);
}

/* dir_written_fn */
static void
written(struct batch *batch, int rc)
{
	struct consumer *consumer = batch->owner;

	if (consumer->state == CONSUMER_STOPPED)
		return; /* it will be written once more */
	if (rc != 0) {
		batch_write_again(batch);
		pause_after(consumer, rc);
		return;
	}
	if (consumer->is_stalled)
		log_info(NULL, "outbox-goes-on", "outbox=%s pauses=%u",
		    outbox_name(consumer->id), consumer->pauses);
	consumer->is_stalled = false;
	consumer->pauses = 0;
	consumer->refused = 0;
	consumer->refusing = 0;
	consumer->refuse = (struct asking){0};
	if (batch->refusal_count == 0)
		batch_over(consumer);
	else
		set_state(consumer, CONSUMER_REFUSING);
}

static void
write_begin(struct consumer *consumer)
{
	consumer->batch->owner = consumer;
	set_state(consumer, CONSUMER_WRITING);
	consumer->write(consumer->backend, consumer->batch, written);
}

static void
refuse_answered(struct consumer *consumer, int rc)
{
	struct asking *refuse = &consumer->refuse;

	refuse->req = 0;
	if (rc != 0) {
		refuse->again_at_ms = clock_mono_ms() + ASK_AGAIN_MS;
		return;
	}
	refuse->again_at_ms = 0;
	consumer->refused += consumer->refusing;
	if (consumer->refused == consumer->batch->refusal_count)
		batch_over(consumer);
}

/* ---- for the loop ---- */

void
consumer_news(struct consumer *consumer, const struct record_outbox_news *news)
{
	if (news->outbox != outbox_number(consumer->id))
		return;
	consumer->has_news = true;
	consumer->awaits_news = false;
}

bool
consumer_reply(struct consumer *consumer, const struct record_reply *reply)
{
	if (reply->req == consumer->done.req && reply->req != 0)
		done_answered(consumer, reply->rc);
	else if (reply->req == consumer->refuse.req && reply->req != 0)
		refuse_answered(consumer, reply->rc);
	return (reply->req & REQ_MARK) != 0;
}

void
consumer_turn(struct consumer *consumer)
{
	bool is_time = clock_mono_ms() >= consumer->wake_at_ms;

	switch (consumer->state) {
	case CONSUMER_RESTING:
		if (is_time || consumer->has_news)
			read_begin(consumer);
		break;
	case CONSUMER_GATHERING:
		if (is_time)
			read_begin(consumer);
		break;
	case CONSUMER_PAUSING:
		if (is_time)
			write_begin(consumer);
		break;
	case CONSUMER_REFUSING:
		if (may_ask(&consumer->refuse))
			ask_refusals(consumer);
		break;
	case CONSUMER_READING:
	case CONSUMER_WRITING:
	case CONSUMER_STOPPED:
	case CONSUMER_STATE_END:
		break;
	}
	if (is_done_due(consumer) && may_ask(&consumer->done))
		tell_done(consumer);
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t
consumer_wake_at_ms(const struct consumer *consumer)
{
	int64_t at_ms = INT64_MAX;

	switch (consumer->state) {
	case CONSUMER_RESTING:
	case CONSUMER_GATHERING:
	case CONSUMER_PAUSING:
		at_ms = consumer->wake_at_ms;
		break;
	case CONSUMER_REFUSING:
		at_ms = consumer->refuse.again_at_ms;
		break;
	case CONSUMER_READING:
	case CONSUMER_WRITING:
	case CONSUMER_STOPPED:
	case CONSUMER_STATE_END:
		break;
	}
	if (is_done_due(consumer))
		at_ms = earlier(at_ms, consumer->done.again_at_ms);
	return at_ms;
}

/* ---- life ---- */

int
consumer_new(const struct dir_host *host, struct dir_backend *backend,
    dir_write_fn write, enum outbox_id id, struct consumer **consumer_out)
{
	struct consumer *consumer = xcalloc(1, sizeof(*consumer));
	int rc;

	consumer->host = host;
	consumer->backend = backend;
	consumer->write = write;
	consumer->id = id;
	consumer->has_news = true; /* what a predecessor has left */
	consumer->job.run = read_run;
	consumer->job.done = read_done;
	rc = pool_new("dir-outbox", 1, 1, host->results, &consumer->pool);
	if (rc != 0) {
		free(consumer);
		return rc;
	}
	*consumer_out = consumer;
	return 0;
}

bool
consumer_stop(struct consumer *consumer, int64_t until_ms)
{
	/* Of what is said now nobody waits for the answer. */
	consumer->due = consumer->written;
	consumer->wants_news = false;
	if (is_done_due(consumer))
		tell_done(consumer);
	set_state(consumer, CONSUMER_STOPPED);
	return pool_stop(&consumer->pool, until_ms);
}

void
consumer_free(struct consumer **consumer)
{
	if (*consumer == NULL)
		return;
	batch_free(&(*consumer)->batch);
	free(*consumer);
	*consumer = NULL;
}
