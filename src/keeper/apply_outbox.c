/*
 * apply_outbox.c - the outboxes: what is put into them with the work itself,
 * and what their consumers say.
 *
 * Role:    entries in the transaction of what they tell of; news to a consumer
 *          that rests; what is done is deleted, in slices.
 * Process: keeper.
 * Trust:   a consumer is believed what it has done, not more: only entries
 *          that are committed and wait can be done or refused.
 * See:     shm/outbox.h, directory/outbox.c (the other end), doc/decisions/005
 */
#include "keeper/apply.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/outbox.h"

#define SWEEP_ROWS  1024 /* of one batch */
#define CHANGE_ROWS 256  /* of one record */

struct keeper_outbox {
	struct outbox queue;
	bool is_on;
	bool rests;           /* the consumer wants news */
	bool rests_committed; /* as of the last commit */
	bool has_done_rows;   /* perhaps there are rows to be deleted */
	bool is_swept;        /* not any more, when this batch is committed */
};

/* ---- start ---- */

static void
tell_switched(struct keeper *keeper, enum outbox_id id)
{
	const struct keeper_outbox *outbox = &keeper->outboxes[id];
	const struct outbox_state *state = &outbox->queue.committed;

	if (outbox->is_on != (state->is_on != 0) && keeper->rings.last_id != 0)
		log_info(NULL, outbox->is_on ? "outbox-on" : "outbox-off",
		    "outbox=%s last_message=%llu; what happens while it is "
		    "off is not in it",
		    outbox_name(id), (unsigned long long)keeper->rings.last_id);
	if (!outbox->is_on && state->head > state->tail)
		log_warn(NULL, "outbox-left",
		    "outbox=%s waiting=%llu; it is switched off: they are "
		    "kept until it is switched on again, or forgotten by "
		    "parleyctl outbox forget",
		    outbox_name(id),
		    (unsigned long long)(state->head - state->tail));
}

static void
tell_depth(const struct keeper *keeper)
{
	uint64_t waiting = 0;
	uint64_t dead = 0;

	for (int id = 0; id < OUTBOX_END; id++) {
		const struct outbox_state *state =
		    &keeper->outboxes[id].queue.committed;

		waiting += state->head - state->tail;
		dead += state->dead_count;
	}
	GAUGE_SET(outbox_depth, waiting);
	GAUGE_SET(outbox_dead, dead);
	if (waiting == 0)
		GAUGE_SET(outbox_lag_seconds, 0);
}

int
keeper_outbox_open(struct keeper *keeper)
{
	int rc = 0;

	keeper->outboxes = xcalloc(OUTBOX_END, sizeof(*keeper->outboxes));
	for (int id = 0; rc == 0 && id < OUTBOX_END; id++) {
		struct keeper_outbox *outbox = &keeper->outboxes[id];

		outbox->is_on = outbox_is_on((enum outbox_id)id, keeper->conf);
		outbox->rests_committed = true; /* news do no harm */
		outbox->has_done_rows = true;
		keeper->has_outbox |= outbox->is_on;
		rc = outbox_load(&keeper->txn,
		    outbox_number((enum outbox_id)id), &outbox->queue);
		if (rc == 0)
			tell_switched(keeper, (enum outbox_id)id);
	}
	tell_depth(keeper);
	return rc;
}

void
keeper_outbox_close(struct keeper *keeper)
{
	free(keeper->outboxes);
	keeper->outboxes = NULL;
}

/* ---- the batch ---- */

void
keeper_outbox_begin(struct keeper *keeper)
{
	for (int id = 0; id < OUTBOX_END; id++) {
		struct keeper_outbox *outbox = &keeper->outboxes[id];

		outbox_begin(&outbox->queue, keeper->now_ms);
		outbox->queue.state.is_on = outbox->is_on;
		outbox->rests = outbox->rests_committed;
		outbox->is_swept = false;
	}
}

int
keeper_outbox_put(struct keeper *keeper, const struct outbox_entry *entry)
{
	int rc = 0;

	if (!keeper->has_outbox)
		return 0;
	for (int id = 0; rc == 0 && id < OUTBOX_END; id++) {
		if (keeper->outboxes[id].is_on)
			rc = outbox_put(
			    &keeper->txn, &keeper->outboxes[id].queue, entry);
	}
	return rc;
}

int
keeper_outbox_sweep(struct keeper *keeper)
{
	size_t count;
	int rc;

	for (int id = 0; id < OUTBOX_END; id++) {
		struct keeper_outbox *outbox = &keeper->outboxes[id];

		if (!outbox->has_done_rows)
			continue;
		rc = outbox_sweep(
		    &keeper->txn, &outbox->queue, SWEEP_ROWS, &count);
		if (rc != 0)
			return rc;
		outbox->is_swept = count < SWEEP_ROWS;
		if (count > 0)
			keeper->batch.has_work = true;
	}
	return 0;
}

/* No room in the ring: the next commit tries again, and the consumer looks by
 * itself now and then. */
static void
tell_news(struct keeper *keeper, enum outbox_id id)
{
	struct keeper_outbox *outbox = &keeper->outboxes[id];
	const struct outbox_state *state = &outbox->queue.state;
	const struct record_outbox_news news = {
	    .head = state->head, .outbox = outbox_number(id)};

	if (outbox->is_on && outbox->rests && state->head > state->tail &&
	    bus_put(keeper->bus, SLOT_DIRECTORY, RECORD_OUTBOX_NEWS, &news,
		sizeof(news)) == 0)
		outbox->rests = false;
}

int
keeper_outbox_flush(struct keeper *keeper)
{
	int rc = 0;

	for (int id = 0; rc == 0 && id < OUTBOX_END; id++) {
		rc = outbox_flush(&keeper->txn, &keeper->outboxes[id].queue);
		if (rc == 0)
			tell_news(keeper, (enum outbox_id)id);
	}
	return rc;
}

void
keeper_outbox_committed(struct keeper *keeper)
{
	uint64_t put = 0;

	for (int id = 0; id < OUTBOX_END; id++) {
		struct keeper_outbox *outbox = &keeper->outboxes[id];

		put += outbox->queue.state.head - outbox->queue.committed.head;
		outbox_committed(&outbox->queue);
		outbox->rests_committed = outbox->rests;
		if (outbox->is_swept)
			outbox->has_done_rows = false;
	}
	COUNT_ADD(outbox_put, put);
	tell_depth(keeper);
}

/* Of those that are on: one that is off is behind by intent. */
static int
oldest_get(struct keeper *keeper, int64_t *at_ms_out)
{
	struct txn txn = {0};
	int64_t at_ms;
	int rc;

	rc = store_begin_read(keeper->main, &txn);
	for (int id = 0; rc == 0 && id < OUTBOX_END; id++) {
		const struct keeper_outbox *outbox = &keeper->outboxes[id];

		if (!outbox->is_on)
			continue;
		rc = outbox_oldest(&txn, outbox->queue.number, &at_ms);
		if (rc == 0 && at_ms < *at_ms_out)
			*at_ms_out = at_ms;
		if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
			rc = txn.rc; /* its consumer says so */
	}
	txn_end(&txn);
	return rc;
}

void
keeper_outbox_look(struct keeper *keeper)
{
	int64_t now_ms = clock_wall_ms();
	int64_t at_ms = now_ms;

	if (!keeper->has_outbox || oldest_get(keeper, &at_ms) != 0)
		return;
	if (at_ms > now_ms)
		at_ms = now_ms; /* the clock was set back since */
	GAUGE_SET(outbox_lag_seconds, (now_ms - at_ms) / 1000);
	GAUGE_SET(outbox_late,
	    now_ms - at_ms > keeper->conf->directory_outbox_lag_max);
}

/* ---- what consumers say ---- */

/* @return OUTBOX_END: not for this consumer to say */
static enum outbox_id
find_outbox(
    const struct keeper *keeper, const struct origin *from, uint32_t number)
{
	enum outbox_id id = outbox_by_number(number);

	if (from->slot != SLOT_DIRECTORY || id == OUTBOX_END ||
	    !keeper->outboxes[id].is_on)
		return OUTBOX_END;
	return id;
}

int
apply_outbox_done(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_outbox_done *record = payload;
	enum outbox_id id = find_outbox(keeper, from, record->outbox);
	struct keeper_outbox *outbox = &keeper->outboxes[id];
	int rc;

	(void)len;
	if (id == OUTBOX_END)
		return ERR_BAD_REQUEST;
	rc = outbox_done(&outbox->queue, record->upto);
	if (rc != 0)
		return rc;
	outbox->has_done_rows = true;
	outbox->rests = (record->flags & OUTBOX_DONE_RESTS) != 0;
	route_reply(keeper, from, record->req, 0, 0, NULL);
	return 0;
}

int
apply_outbox_refuse(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_outbox_refuse *record = payload;
	enum outbox_id id = find_outbox(keeper, from, record->outbox);
	const struct outbox_refusal *refusals;
	struct record_cursor cursor;
	uint32_t count = 0;
	int rc;

	record_cursor_init(&cursor, record + 1, len - sizeof(*record));
	if (id == OUTBOX_END || record->count == 0 ||
	    record->count > OUTBOX_REFUSALS_MAX)
		return ERR_BAD_REQUEST;
	refusals = record_take(&cursor, record->count * sizeof(*refusals));
	if (refusals == NULL)
		return ERR_BAD_REQUEST;
	for (uint32_t i = 0; i < record->count; i++) {
		if (refusals[i].error_len > OUTBOX_ERROR_MAX)
			return ERR_BAD_REQUEST;
	}
	for (uint32_t i = 0; i < record->count; i++) {
		rc = outbox_reject(&keeper->txn, &keeper->outboxes[id].queue,
		    refusals[i].number, refusals[i].code, refusals[i].error,
		    refusals[i].error_len);
		if (rc != 0 && rc != ERR_NOT_FOUND)
			return rc;
		count += rc == 0;
	}
	route_reply(keeper, from, record->req, 0, count, NULL);
	return 0;
}

/* ---- what operators say ---- */

static int
change(struct keeper *keeper, const struct record_outbox_change *record,
    enum outbox_id id, size_t *count_out)
{
	struct keeper_outbox *outbox = &keeper->outboxes[id];
	const struct outbox_range range = {
	    .first = record->first,
	    .last = record->last,
	    .limit = CHANGE_ROWS,
	};
	struct outbox_state *state = &outbox->queue.state;

	switch ((enum outbox_change_op)record->op) {
	case OUTBOX_CHANGE_RETRY:
		/* Where nobody takes them they would wait for ever. */
		if (!outbox->is_on)
			return ERR_CONFLICT;
		return outbox_retry(
		    &keeper->txn, &outbox->queue, &range, count_out);
	case OUTBOX_CHANGE_DROP:
		return outbox_drop(
		    &keeper->txn, &outbox->queue, &range, count_out);
	case OUTBOX_CHANGE_FORGET:
		if (outbox->is_on)
			return ERR_CONFLICT;
		*count_out = state->head - state->tail;
		state->tail = state->head;
		outbox->has_done_rows = true;
		return 0;
	}
	return ERR_BAD_REQUEST;
}

int
apply_outbox_change(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_outbox_change *record = payload;
	enum outbox_id id = outbox_by_number(record->outbox);
	size_t count = 0;
	int rc;

	(void)len;
	if (from->slot != SLOT_CONSOLE || id == OUTBOX_END)
		return ERR_BAD_REQUEST;
	rc = change(keeper, record, id, &count);
	if (rc != 0 && rc != ERR_CONFLICT)
		return rc;
	route_reply(keeper, from, record->req, rc, count, NULL);
	return 0;
}
