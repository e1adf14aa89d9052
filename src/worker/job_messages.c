/*
 * job_messages.c - messages read from the store: backlog, conversations.
 *
 * Role:    jobs of the reader thread.
 * Process: worker, reader thread: touches the job and its transactions only.
 * Trust:   a message is shown only after checking that its conversation is
 *          the caller's (the inbox row or the membership says so, and the
 *          log's row must agree).
 * See:     doc/protocol.md: Inbox, Conversations
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/userhead.h"
#include "shm/users.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/seat.h"
#include "worker/view.h"

/* A page of history ends here: the rest is the next page. */
#define PAGE_BYTES_MAX    (1024 * 1024)
#define CONVERSATIONS_MAX 100000

/* ---- backlog ---- */

struct backlog {
	struct job *job;
	struct txn *txn;
	struct view_names names;
	struct seat seat; /* in the conversation of the message before */
	int rc;
};

/* The rows contradict each other; which one is wrong cannot be known. */
static int
damaged(const struct job *job, const struct inbox_event *event)
{
	log_error(NULL, "store-corrupt",
	    "row=inbox user=%llu seq=%llu message=%llu; there is no such "
	    "message in its conversation",
	    (unsigned long long)job->user, (unsigned long long)event->seq,
	    (unsigned long long)event->ref);
	return ERR_CORRUPT;
}

/* Is it his to see, and who are the others? Two people are in the key, which
 * the inbox row has, too. */
static int
check_seat(struct backlog *backlog, const struct log_message *m,
    const struct inbox_event *event, uint64_t members[MEMBERS_MAX],
    size_t *count_out)
{
	struct job *job = backlog->job;
	struct seat *seat = &backlog->seat;
	int rc = 0;

	*count_out = 0;
	if (m->kind != LOG_MESSAGE || conv_key_is_direct(&m->conv))
		return 0;
	if (seat->user == 0 || !conv_key_equal(&seat->conv.key, &m->conv))
		rc = seat_take(backlog->txn, &m->conv, job->user, seat);
	if (rc != 0)
		seat->user = 0;
	if (rc == 0 && !seat_sees(seat, m->id))
		rc = damaged(job, event);
	if (rc == 0)
		*count_out = view_members(&seat->conv, members);
	return rc;
}

/* @return where it begins in out */
static size_t
put_event(struct buf *out, const struct inbox_event *event,
    const struct message_view *view, bool is_own)
{
	size_t start = out->len;

	json_object_begin(out);
	/* Texts stand one after the other: no comma between them. */
	if (start > 0 && out->data[start] == ',')
		start++;
	json_put_text(out, "Command", event_command(event->kind));
	json_put_u64(out, "Seq", event->seq);
	event_durable_fields(out, view, is_own);
	json_object_end(out);
	return start;
}

static bool
backlog_event(void *ctx, const struct inbox_event *event)
{
	struct backlog *backlog = ctx;
	struct job *job = backlog->job;
	uint64_t members[MEMBERS_MAX];
	struct message_view view;
	struct log_message m;
	size_t count;
	size_t start = job->out.len;
	int rc;

	if (job->event_count == job->limit || start > JOB_BYTES_MAX ||
	    job->skipped_count == JOB_EVENTS_MAX) {
		job->has_more = true;
		return false;
	}
	rc = log_get(backlog->txn, event->ref, &m);
	if (rc == ERR_NOT_FOUND ||
	    (rc == 0 && (!event_fits(event->kind, m.kind) ||
			    !conv_key_equal(&m.conv, &event->conv))))
		rc = damaged(job, event);
	if (rc == 0)
		rc = check_seat(backlog, &m, event, members, &count);
	/* Its Seq is left out, which the client sees (protocol.md, Inbox): a
	 * session that ended here would end here for ever. */
	if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND) {
		job->next = event->seq;
		job->skipped_count++;
		return true;
	}
	if (rc != 0) {
		backlog->rc = rc;
		return false;
	}
	view_fill(&view, &m, &backlog->seat, members, count,
	    view_sender_name(backlog->txn, m.sender, &backlog->names));
	view.kind = event->kind;
	start = put_event(&job->out, event, &view, m.sender == job->user);
	job->events[job->event_count++] = (struct job_event){
	    .seq = event->seq,
	    .offset = start,
	    .len = job->out.len - start,
	    .is_own = m.sender == job->user,
	};
	job->next = event->seq;
	return true;
}

void
job_backlog(struct job *job, struct txn *main, struct txn *presence)
{
	struct backlog backlog = {.job = job, .txn = main};
	struct userhead head;
	int rc;

	(void)presence;
	rc = userhead_get(main, job->user, &head);
	if (rc == 0 && job->upto > head.row.head)
		job->upto = head.row.head;
	if (rc == 0)
		rc = inbox_each(main, job->user, job->above, job->upto,
		    backlog_event, &backlog);
	if (rc == 0)
		rc = backlog.rc;
	/* What could be read goes out first; the next job meets the error. */
	if (rc != 0 && job->event_count == 0)
		job->rc = rc;
	if (rc != 0)
		job->has_more = true;
	if (!job->has_more)
		job->next = job->upto;
}

/* ---- conversations ---- */

struct conv_item {
	uint64_t last_id;
	struct conv_key key;
};

struct conv_collect {
	struct txn *txn;
	uint64_t user;
	struct conv_item *items;
	size_t count;
	size_t cap;
	uint64_t before;
	uint64_t oldest; /* message that is left, of anybody's */
	int rc;
};

static bool
collect_conv(void *ctx, const struct conv_key *key)
{
	struct conv_collect *collect = ctx;
	struct seat seat;
	uint64_t last_id;
	int rc;

	rc = seat_take(collect->txn, key, collect->user, &seat);
	if (rc != 0) {
		collect->rc = rc == ERR_NOT_FOUND ? 0 : rc;
		return collect->rc == 0;
	}
	last_id = seat_last(&seat, collect->oldest);
	if (last_id == 0 ||
	    (collect->before != 0 && last_id >= collect->before))
		return true;
	if (collect->count == collect->cap) {
		collect->cap = collect->cap == 0 ? 64 : collect->cap * 2;
		collect->items = xrealloc(
		    collect->items, collect->cap * sizeof(*collect->items));
	}
	collect->items[collect->count++] = (struct conv_item){last_id, *key};
	return collect->count < CONVERSATIONS_MAX;
}

static int
newest_first(const void *a, const void *b)
{
	uint64_t x = ((const struct conv_item *)a)->last_id;
	uint64_t y = ((const struct conv_item *)b)->last_id;

	return x > y ? -1 : x < y;
}

static void
put_conv_members(struct buf *out, const struct conv *conv)
{
	json_key(out, "Members");
	json_array_begin(out);
	for (uint32_t i = 0; i < conv->member_count; i++)
		json_u64(out, conv->members[i].user);
	json_array_end(out);
}

static void
put_receipt(struct buf *out, uint64_t user, uint64_t delivered, uint64_t read)
{
	json_object_begin(out);
	json_put_u64(out, "UserId", user);
	event_put_progress(out, delivered, read);
	json_object_end(out);
}

/* Whom a member blocks learns nothing of that member's reading: neither by
 * P_RECEIPT (the keeper's tell_receipt) nor here. */
static int
put_receipts(struct job *job, struct txn *txn, const struct conv *conv)
{
	struct buf *out = &job->out;
	uint32_t flags;
	int rc;

	json_key(out, "Receipts");
	json_array_begin(out);
	for (uint32_t i = 0; i < conv->member_count; i++) {
		const struct conv_member *member = &conv->members[i];

		rc = contact_get(txn, job->user, member->user, &flags);
		if (rc != 0)
			return rc;
		if ((flags & CONTACT_BLOCKED_BY) != 0)
			continue;
		put_receipt(out, member->user, member->delivered, member->read);
	}
	json_array_end(out);
	return 0;
}

/* Of a thousand members only the caller's own receipt; how far the others have
 * come P_GET_GROUPS says. Of a call P_GET_COLLABORATION_HISTORY tells more. */
static int
put_room(struct job *job, struct txn *txn, const struct seat *seat)
{
	const struct member_row *row = &seat->member.row;
	struct buf *out = &job->out;
	struct group group;
	int rc;

	if (conv_key_kind(&seat->conv.key) == CONV_GROUP) {
		rc = group_get(txn, seat->member.group, &group);
		if (rc != 0)
			return rc;
		seat_put_group(out, txn, &seat->member, &group);
	} else {
		event_put_room(out, &seat->conv.key);
	}
	json_key(out, "Receipts");
	json_array_begin(out);
	put_receipt(out, job->user, row->delivered, row->read);
	json_array_end(out);
	return 0;
}

static int
put_people(struct job *job, struct txn *txn, const struct seat *seat)
{
	if (conv_key_has_seats(&seat->conv.key))
		return put_room(job, txn, seat);
	put_conv_members(&job->out, &seat->conv);
	return put_receipts(job, txn, &seat->conv);
}

/* @return 0, the store's error */
static int
put_last_message(struct job *job, struct txn *txn, const struct seat *seat)
{
	uint64_t members[MEMBERS_MAX];
	struct view_names names = {0};
	struct message_view view;
	struct log_message m;
	uint64_t id;
	int rc;

	rc = seat_newest(txn, seat, &id);
	if (rc != 0 || id == 0)
		return rc;
	rc = log_get(txn, id, &m);
	if (rc == 0 && (!conv_key_equal(&m.conv, &seat->conv.key) ||
			   !seat_sees(seat, m.id)))
		rc = ERR_CORRUPT;
	if (rc != 0)
		return rc;
	view_fill(&view, &m, seat, members, view_members(&seat->conv, members),
	    view_sender_name(txn, m.sender, &names));
	json_key(&job->out, "LastMessage");
	json_object_begin(&job->out);
	event_message_fields(&job->out, &view, m.sender == job->user);
	json_object_end(&job->out);
	return 0;
}

static int
put_conversation(struct job *job, struct txn *txn, const struct conv_key *key)
{
	struct seat seat;
	uint32_t unread;
	int rc;

	rc = seat_take(txn, key, job->user, &seat);
	if (rc == 0)
		rc = seat_unread(txn, &seat, &unread);
	if (rc != 0)
		return rc;
	json_object_begin(&job->out);
	event_put_conv(&job->out, key);
	json_put_u64(&job->out, "UnreadCount", unread);
	rc = put_people(job, txn, &seat);
	if (rc != 0)
		return rc;
	rc = put_last_message(job, txn, &seat);
	json_object_end(&job->out);
	/* Retention took the last one, or it is damaged (and logged). */
	return rc == ERR_NOT_FOUND || rc == ERR_CORRUPT ? txn->rc : rc;
}

void
job_conversations(struct job *job, struct txn *main, struct txn *presence)
{
	struct conv_collect collect = {
	    .txn = main, .user = job->user, .before = job->before};
	size_t i;
	int rc;

	(void)presence;
	json_array_begin(&job->out);
	rc = log_oldest(main, &collect.oldest);
	if (rc == ERR_NOT_FOUND) {
		collect.oldest = UINT64_MAX; /* all is gone, but groups */
		rc = 0;
	}
	if (rc == 0)
		rc = conv_each(main, job->user, NULL, collect_conv, &collect);
	if (rc == 0)
		rc = collect.rc;
	if (collect.count > 0)
		qsort(collect.items, collect.count, sizeof(*collect.items),
		    newest_first);
	for (i = 0; rc == 0 && i < collect.count && i < job->limit &&
		    job->out.len < PAGE_BYTES_MAX;
	     i++)
		rc = put_conversation(job, main, &collect.items[i].key);
	if (rc == 0 && i > 0 && i < collect.count)
		job->next = collect.items[i - 1].last_id;
	json_array_end(&job->out);
	free(collect.items);
	job->rc = rc;
}
