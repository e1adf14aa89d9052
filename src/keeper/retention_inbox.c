/*
 * retention_inbox.c - events that have waited for too long.
 *
 * Role:    walks over the inboxes in which something waits, now and then; what
 *          is too old, or held only by devices that are not used any more, is
 *          deleted. Of the others it learns how much of the log they need.
 * Process: keeper; a slice with each batch.
 * Blocks:  on cold pages of the disk.
 * Trust:   a damaged event goes with the ones behind it; a user whose head is
 *          damaged is left alone, and what is too old for him holds nothing.
 * See:     retention.c, doc/decisions/021, t/unit/keeper_retention.c.
 */
#include <string.h>

#include "keeper/retention_priv.h"
#include "shm/ages.h"
#include "shm/inbox.h"
#include "shm/log.h"

#define EVENTS_MAX 512 /* of one user at once: about 0.1 ms */
/* While messages that should go are held by an inbox, the next walk does not
 * wait for its time: but walking is then this part of the time at most. */
#define HURRY_PART   16
#define HURRY_MIN_MS 1000

/* A part of one inbox. */
struct scan {
	struct keeper *keeper;
	uint64_t old_id; /* what is not above it was written too long ago */
	size_t left;
	uint64_t last;    /* seq of the last one that was looked at */
	uint64_t expired; /* all up to it have; 0: none */
	uint64_t least;   /* that those behind it need */
	bool has_more;
};

/* What an edit or a deletion refers to is older than the event itself; when it
 * happened stands in the message. */
static bool
is_old(const struct scan *scan, const struct inbox_event *event)
{
	struct keeper *keeper = scan->keeper;
	struct log_message message;

	if (event->ref > scan->old_id)
		return false;
	if (event->kind != EVENT_EDIT && event->kind != EVENT_DELETE)
		return true;
	return log_get(&keeper->txn, event->ref, &message) != 0 ||
	       message.changed_ms <=
		   keeper->now_ms - keeper->conf->store_inbox_retention;
}

static bool
scan_event(void *ctx, const struct inbox_event *event)
{
	struct scan *scan = ctx;

	if (scan->left == 0) {
		scan->has_more = true;
		return false;
	}
	scan->left--;
	scan->last = event->seq;
	if (is_old(scan, event)) {
		scan->expired = event->seq;
		scan->least = UINT64_MAX;
	} else if (event->ref < scan->least) {
		scan->least = event->ref;
	}
	return true;
}

static int
expire(struct keeper *keeper, struct userhead *head, uint64_t upto)
{
	uint64_t before = head->row.floor;
	int rc;

	if (upto <= before || head->row.untold > 0)
		return 0; /* or receipts first: see inbox_catch_up */
	rc = inbox_delete(
	    &keeper->txn, head->user, &head->row.floor, upto, EVENTS_MAX);
	if (head->row.delivered < head->row.floor)
		head->row.delivered = head->row.floor;
	keeper->retention->state.events += (unsigned)(head->row.floor - before);
	return rc;
}

/* @return 0; ERR_NOT_FOUND: nothing can be done for him */
static int
clean(struct keeper *keeper, struct scan *scan, uint64_t user, uint64_t above)
{
	struct userhead head;
	struct userhead_row before;
	int rc;

	rc = userhead_get(&keeper->txn, user, &head);
	if (keeper_is_lost(keeper, rc))
		return ERR_NOT_FOUND;
	before = head.row;
	/* what no device needs that is used */
	if (rc == 0)
		rc = inbox_trim(keeper, &head);
	if (above < head.row.floor)
		above = head.row.floor;
	if (rc == 0)
		rc = inbox_each(
		    &keeper->txn, user, above, UINT64_MAX, scan_event, scan);
	if (rc == 0)
		rc = expire(keeper, &head, scan->expired);
	if (rc != 0 || memcmp(&before, &head.row, sizeof(before)) == 0)
		return rc;
	keeper->batch.has_work = true;
	return userhead_put(&keeper->txn, &head);
}

/* The next part of an inbox, or all of it. */
static int
visit(struct keeper *keeper, struct slice *slice, uint64_t user)
{
	struct meta_retention *meta = &keeper->retention->state.meta;
	struct scan scan = {
	    .keeper = keeper, .left = EVENTS_MAX, .least = UINT64_MAX};
	uint64_t above = user == meta->walk_user ? meta->walk_seq : 0;
	int rc;

	rc = ages_upto(&keeper->txn,
	    keeper->age_ms - keeper->conf->store_inbox_retention, &scan.old_id);
	if (rc == 0)
		rc = clean(keeper, &scan, user, above);
	if (rc == ERR_NOT_FOUND)
		rc = inbox_each(
		    &keeper->txn, user, above, UINT64_MAX, scan_event, &scan);
	if (rc != 0)
		return rc;
	if (scan.least < meta->walk_least)
		meta->walk_least = scan.least;
	meta->walk_user = scan.has_more ? user : user + 1;
	meta->walk_seq = scan.has_more ? scan.last : 0;
	slice->rows -= EVENTS_MAX - scan.left < slice->rows
			   ? EVENTS_MAX - scan.left
			   : slice->rows;
	return 0;
}

static bool
is_due(const struct keeper *keeper)
{
	const struct retention *retention = keeper->retention;
	int64_t since_ms = keeper->age_ms - retention->state.meta.walk_at_ms;
	int64_t rest_ms = retention_step_ms(keeper->conf);
	int64_t hurry_ms = HURRY_MIN_MS + HURRY_PART * retention->walk_took_ms;

	if (retention->held == HELD_INBOX && hurry_ms < rest_ms)
		rest_ms = hurry_ms;
	return since_ms < 0 || since_ms >= rest_ms;
}

int
retention_inboxes(struct keeper *keeper, struct slice *slice)
{
	struct meta_retention *meta = &keeper->retention->state.meta;
	uint64_t user;
	int rc = 0;

	if (meta->walk_user == 0) {
		if (!is_due(keeper))
			return 0;
		meta->walk_user = 1;
		meta->walk_seq = 0;
		meta->walk_at_ms = keeper->age_ms;
		/* what is put from now on: retention_need() */
		meta->walk_least = keeper->rings.last_id + 1;
	}
	while (rc == 0 && !slice_is_over(slice)) {
		rc = inbox_next_user(&keeper->txn, meta->walk_user, &user);
		if (rc == 0)
			rc = visit(keeper, slice, user);
		if (rc == 0 && slice->rows > 0)
			slice->rows--;
	}
	if (rc == ERR_NOT_FOUND) {
		meta->inbox_floor = meta->walk_least;
		keeper->retention->walk_took_ms =
		    keeper->age_ms - meta->walk_at_ms;
		meta->walk_user = 0;
		rc = 0;
	}
	return rc;
}
