/*
 * apply_receipt.c - acknowledgements and read marks.
 *
 * Role:    moves cursors, shrinks inboxes, tells authors how far the others
 *          have come.
 * Process: keeper.
 * See:     doc/protocol.md: P_ACK, P_MARK_READ, P_RECEIPT, Inbox
 */
#include "keeper/apply.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/roll.h"
#include "shm/users.h"

/* Conversations touched by one acknowledgement, folded before writing. */
#define TOUCHED_MAX 64
/* Events of one user told or deleted at once: more than a window of the usual
 * size, and some 0.1 ms of work. */
#define SLICE_EVENTS 512
/* In larger groups nobody is told how far each member has come: P_GET_GROUPS
 * says it. A message to a thousand would be answered by a thousand receipts. */
#define RECEIPTS_GROUP_MAX 64
/* For those left behind, in each batch. */
#define CATCH_UP_US 1000
/* Read from the store at once, when nobody is left of those that were. */
#define BEHIND_READ 256

struct touched {
	struct conv_key keys[TOUCHED_MAX];
	uint64_t refs[TOUCHED_MAX]; /* newest message in it */
	size_t count;
	size_t left; /* events that may still be looked at */
	uint64_t last_seq;
};

static int
note_receipt(struct keeper *keeper, enum outbox_kind kind,
    const struct conv_key *conv, const struct conv_member *member)
{
	const struct outbox_entry entry = {
	    .kind = kind,
	    .conv = *conv,
	    .user = member->user,
	    .message_id =
		kind == OUTBOX_READ ? member->read : member->delivered,
	};

	return keeper_outbox_put(keeper, &entry);
}

static int
tell_receipt(struct keeper *keeper, uint64_t target,
    const struct conv_key *conv, const struct conv_member *member,
    uint64_t except_session)
{
	struct record_receipt *record;
	struct userhead head;
	uint64_t workers;
	uint32_t flags;
	int rc;

	rc = userhead_get(&keeper->txn, target, &head);
	/* A damaged row of the author must not hold up whoever reads. */
	if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
		return keeper->txn.rc;
	if (rc != 0)
		return rc;
	workers = route_workers(keeper, &head);
	if (workers == 0)
		return 0;
	/* Whom the reader blocks learns nothing of it any more. */
	rc = contact_get(&keeper->txn, target, member->user, &flags);
	if (rc != 0 || (flags & CONTACT_BLOCKED_BY) != 0)
		return rc;
	while (workers != 0) {
		int worker = __builtin_ctzll(workers);

		workers &= workers - 1;
		record = route_event_begin(keeper, worker, sizeof(*record));
		if (record == NULL)
			continue;
		*record = (struct record_receipt){
		    .target = target,
		    .user = member->user,
		    .conv = *conv,
		    .delivered = member->delivered,
		    .read = member->read,
		    .except_session = except_session,
		};
		route_event_end(
		    keeper, worker, RECORD_RECEIPT, sizeof(*record));
	}
	return 0;
}

/* Delivered is the author's business; in a conversation of two the author is
 * the other one. */
static int
tell_author(struct keeper *keeper, const struct conv *conv,
    const struct conv_member *member, uint64_t ref)
{
	struct log_message message;
	uint64_t author;
	int rc;

	if (conv->member_count == 2) {
		author = conv->members[member == &conv->members[0]].user;
	} else {
		rc = log_get(&keeper->txn, ref, &message);
		/* Whose it was cannot be read; the cursor moves on. */
		if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
			return keeper->txn.rc;
		if (rc != 0)
			return rc;
		author = message.sender;
	}
	if (author == member->user)
		return 0;
	return tell_receipt(keeper, author, &conv->key, member, 0);
}

/* ---- in a group or a call: only the row of who has received or read ---- */

static struct conv_member
as_conv_member(const struct member *member)
{
	return (struct conv_member){
	    .user = member->user,
	    .delivered = member->row.delivered,
	    .read = member->row.read,
	};
}

/* The author of a message, as long as he is there and they are few. */
static int
tell_member_author(struct keeper *keeper, const struct conv_key *key,
    const struct member *member, uint64_t message_id)
{
	const struct conv_member receipt = as_conv_member(member);
	struct log_message message;
	struct member author;
	uint32_t count;
	int rc;

	rc = roll_count(&keeper->txn, key, &count);
	if (rc == 0 && count > RECEIPTS_GROUP_MAX)
		return 0;
	if (rc == 0)
		rc = log_get(&keeper->txn, message_id, &message);
	if (rc == 0 && message.sender == member->user)
		return 0;
	if (rc == 0)
		rc = member_get(
		    &keeper->txn, member->group, message.sender, &author);
	/* Whose it was cannot be read; the cursor moves on. */
	if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
		return keeper->txn.rc;
	if (rc != 0 || !member_is_in(&author))
		return rc;
	return tell_receipt(keeper, author.user, key, &receipt, 0);
}

static int
touch_member(struct keeper *keeper, uint64_t user, const struct conv_key *key,
    uint64_t ref)
{
	struct conv_member receipt;
	struct member member;
	int rc;

	rc = member_get(&keeper->txn, conv_key_id(key), user, &member);
	if (rc != 0 || member.row.delivered >= ref)
		return rc;
	member.row.delivered = ref;
	receipt = as_conv_member(&member);
	rc = member_put(&keeper->txn, &member);
	if (rc == 0)
		rc = note_receipt(keeper, OUTBOX_DELIVERED, key, &receipt);
	return rc == 0 ? tell_member_author(keeper, key, &member, ref) : rc;
}

/* ---- */

static int
touch_one(struct keeper *keeper, uint64_t user, const struct conv_key *key,
    uint64_t ref)
{
	struct conv_member *member;
	struct conv conv;
	int rc;

	if (conv_key_has_seats(key))
		return touch_member(keeper, user, key, ref);
	rc = conv_get(&keeper->txn, key, &conv);
	if (rc != 0)
		return rc;
	member = conv_member(&conv, user);
	if (member == NULL || member->delivered >= ref)
		return 0;
	member->delivered = ref;
	rc = conv_put(&keeper->txn, &conv);
	if (rc == 0)
		rc = note_receipt(keeper, OUTBOX_DELIVERED, key, member);
	return rc == 0 ? tell_author(keeper, &conv, member, ref) : rc;
}

static int
touch_flush(struct keeper *keeper, uint64_t user, const struct touched *touched)
{
	int rc;

	for (size_t i = 0; i < touched->count; i++) {
		rc = touch_one(
		    keeper, user, &touched->keys[i], touched->refs[i]);
		if (keeper->txn.rc == 0 &&
		    (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT))
			continue;
		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool
touch(void *ctx, const struct inbox_event *event)
{
	struct touched *touched = ctx;
	size_t i;

	if (touched->left == 0)
		return false;
	/* Authors are told of messages only. */
	if (event->kind != EVENT_MESSAGE) {
		touched->last_seq = event->seq;
		touched->left--;
		return true;
	}
	for (i = 0; i < touched->count; i++) {
		if (conv_key_equal(&touched->keys[i], &event->conv))
			break;
	}
	if (i == TOUCHED_MAX)
		return false; /* the next round begins here */
	if (i == touched->count) {
		touched->keys[i] = event->conv;
		touched->count++;
	}
	touched->refs[i] = event->ref;
	touched->last_seq = event->seq;
	touched->left--;
	return true;
}

/* Receipts for what lies above delivered. @param left  events at most */
static int
tell_delivered(
    struct keeper *keeper, struct userhead *head, uint64_t upto, size_t left)
{
	int rc;

	while (head->row.delivered < upto && left > 0) {
		struct touched touched = {.left = left, .last_seq = upto};

		rc = inbox_each(&keeper->txn, head->user, head->row.delivered,
		    upto, touch, &touched);
		if (rc == 0)
			rc = touch_flush(keeper, head->user, &touched);
		if (rc != 0)
			return rc;
		left = touched.left;
		head->row.delivered = left > 0 && touched.count < TOUCHED_MAX
					  ? upto
					  : touched.last_seq;
	}
	head->row.untold = (uint32_t)(upto - head->row.delivered);
	return 0;
}

/* Up to where no device needs the inbox any more, nor a receipt. */
static uint64_t
needless_upto(const struct keeper *keeper, const struct userhead *head)
{
	int64_t horizon_ms =
	    keeper->age_ms - keeper->conf->store_device_retention;
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < head->row.device_count; i++) {
		const struct userhead_device *device = &head->devices[i];

		if (device->last_used_ms < horizon_ms &&
		    !keeper_is_live(keeper, device))
			continue;
		if (device->cursor < least)
			least = device->cursor;
	}
	if (least == UINT64_MAX)
		return head->row.floor;
	if (head->row.untold > 0 && head->row.delivered < least)
		least = head->row.delivered;
	return least;
}

static bool
is_behind(const struct keeper *keeper, const struct userhead *head)
{
	return head->row.untold > 0 ||
	       needless_upto(keeper, head) > head->row.floor;
}

static void
behind_add(struct keeper *keeper, uint64_t user)
{
	for (size_t i = 0; i < keeper->behind_count; i++) {
		if (keeper->behind[i] == user)
			return;
	}
	if (keeper->behind_count == keeper->behind_cap) {
		keeper->behind_cap =
		    keeper->behind_cap == 0 ? 16 : keeper->behind_cap * 2;
		keeper->behind = xrealloc(keeper->behind,
		    keeper->behind_cap * sizeof(*keeper->behind));
	}
	keeper->behind[keeper->behind_count++] = user;
}

/* The row is for a successor. It is put each time: who is in memory already
 * may have come there in a batch that was undone. */
static int
remember_behind(struct keeper *keeper, uint64_t user)
{
	behind_add(keeper, user);
	return txn_put(&keeper->txn, DBI_behind, &user, sizeof(user), "", 0);
}

/* The first ones of the store. */
static int
read_behind(struct keeper *keeper)
{
	uint64_t user = 0;
	struct walk walk;
	int rc;

	rc = walk_begin(&walk, &keeper->txn, DBI_behind, NULL, 0);
	while (rc == 0 && keeper->behind_count < BEHIND_READ) {
		memcpy(&user, walk.key.data, sizeof(user));
		behind_add(keeper, user);
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	keeper->has_more_behind = rc == 0;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
inbox_trim(struct keeper *keeper, struct userhead *head)
{
	int rc;

	rc = tell_delivered(
	    keeper, head, head->row.delivered + head->row.untold, SLICE_EVENTS);
	if (rc == 0)
		rc = inbox_delete(&keeper->txn, head->user, &head->row.floor,
		    needless_upto(keeper, head), SLICE_EVENTS);
	if (rc == 0 && is_behind(keeper, head))
		rc = remember_behind(keeper, head->user);
	return rc;
}

int
cursor_advance(struct keeper *keeper, struct userhead *head,
    struct userhead_device *device, uint64_t seq)
{
	int rc = 0;

	if (seq > device->cursor)
		device->cursor = seq;
	if (head->row.delivered < head->row.floor)
		head->row.delivered = head->row.floor; /* nothing is left */
	if (seq > head->row.delivered &&
	    seq - head->row.delivered > UINT32_MAX) {
		/* Numbers were skipped, once, when the store was restored. */
		rc = tell_delivered(keeper, head, seq, SIZE_MAX);
	} else if (seq > head->row.delivered + head->row.untold) {
		head->row.untold = (uint32_t)(seq - head->row.delivered);
	}
	return rc == 0 ? inbox_trim(keeper, head) : rc;
}

/* @return ERR_NOT_FOUND: nothing is left to do */
static int
catch_up_one(struct keeper *keeper, uint64_t user)
{
	struct userhead head;
	int rc;

	rc = userhead_get(&keeper->txn, user, &head);
	if (rc == 0 && !is_behind(keeper, &head))
		rc = ERR_NOT_FOUND;
	if (rc != 0)
		return rc;
	rc = inbox_trim(keeper, &head);
	return rc == 0 ? userhead_put(&keeper->txn, &head) : rc;
}

/* Should this batch be undone, a row is left that says too much: then the
 * next keeper finds that there is nothing to do. */
static int
behind_remove(struct keeper *keeper, size_t at)
{
	uint64_t user = keeper->behind[at];
	int rc;

	keeper->behind[at] = keeper->behind[--keeper->behind_count];
	rc = txn_del(&keeper->txn, DBI_behind, &user, sizeof(user));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
inbox_catch_up(struct keeper *keeper)
{
	int64_t until_us = clock_mono_us() + CATCH_UP_US;
	size_t count;
	int rc = 0;

	if (keeper->behind_count == 0 && keeper->has_more_behind)
		rc = read_behind(keeper);
	count = keeper->behind_count;
	/* From the end, where taking one out moves nobody who is still to come;
	 * each once per batch: who is done leaves in the batch after, for this
	 * one may yet be undone. */
	while (rc == 0 && count > 0 && clock_mono_us() < until_us) {
		keeper->batch.has_work = true;
		rc = catch_up_one(keeper, keeper->behind[--count]);
		if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
			rc = keeper->txn.rc != 0 ? keeper->txn.rc
						 : behind_remove(keeper, count);
	}
	return rc;
}

int
apply_ack(struct keeper *keeper, const struct origin *from, const void *payload,
    size_t len)
{
	const struct record_ack *record = payload;
	struct userhead_device *device;
	struct userhead head;
	int rc;

	(void)from;
	(void)len;
	rc = keeper_session_get(
	    keeper, record->user, record->session, &head, &device);
	if (rc == ERR_NOT_FOUND)
		return 0; /* an older session: discarded */
	if (rc != 0)
		return rc;
	if (record->seq > head.row.head)
		return ERR_BAD_REQUEST; /* the worker has checked that */
	if (record->seq <= device->cursor)
		return 0;
	device->last_used_ms = keeper->age_ms;
	rc = cursor_advance(keeper, &head, device, record->seq);
	return rc == 0 ? userhead_put(&keeper->txn, &head) : rc;
}

/* The author of that message is told, and one's other devices. */
static int
mark_member_read(struct keeper *keeper, const struct record_mark_read *record)
{
	struct conv_member receipt;
	struct member member;
	struct conv conv;
	int rc;

	rc = conv_get(&keeper->txn, &record->conv, &conv);
	if (rc == 0)
		rc = member_get(&keeper->txn, conv_key_id(&record->conv),
		    record->user, &member);
	if (rc == 0)
		rc = member_mark_read(
		    &keeper->txn, &conv, &member, record->message_id);
	if (rc != 0)
		return rc == ERR_DUPLICATE ? 0 : rc;
	receipt = as_conv_member(&member);
	rc = member_put(&keeper->txn, &member);
	if (rc == 0)
		rc = note_receipt(keeper, OUTBOX_READ, &conv.key, &receipt);
	if (rc == 0)
		rc = tell_receipt(
		    keeper, record->user, &conv.key, &receipt, record->session);
	return rc == 0 ? tell_member_author(
			     keeper, &conv.key, &member, record->message_id)
		       : rc;
}

static int
mark_read(struct keeper *keeper, const void *payload)
{
	const struct record_mark_read *record = payload;
	struct conv_member *member;
	struct conv conv;
	int rc;

	if (conv_key_has_seats(&record->conv))
		return mark_member_read(keeper, record);
	rc = conv_get(&keeper->txn, &record->conv, &conv);
	if (rc != 0)
		return rc;
	member = conv_member(&conv, record->user);
	if (member == NULL)
		return ERR_NOT_FOUND; /* not the caller's: looks like none */
	rc = conv_mark_read(&keeper->txn, &conv, member, record->message_id);
	if (rc == ERR_DUPLICATE)
		return 0;
	if (rc == 0)
		rc = conv_put(&keeper->txn, &conv);
	if (rc == 0)
		rc = note_receipt(keeper, OUTBOX_READ, &conv.key, member);
	for (uint32_t i = 0; rc == 0 && i < conv.member_count; i++)
		rc = tell_receipt(keeper, conv.members[i].user, &conv.key,
		    member, record->session);
	return rc;
}

int
apply_mark_read(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_mark_read *record = payload;
	struct session_request request = {
	    .req = record->req,
	    .user = record->user,
	    .session = record->session,
	    .record = record,
	    .fn = mark_read,
	};

	(void)len;
	return keeper_session_run(keeper, from, &request);
}
