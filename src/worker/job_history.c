/*
 * job_history.c - pages of one conversation: from the store, and what the
 * directory's database has of it beyond that.
 *
 * Role:    jobs of the reader thread.
 * Process: worker, reader thread: touches the job and its transactions only.
 * Trust:   a message is shown only after checking that its conversation is the
 *          caller's, whether it comes from the store or from the directory.
 * See:     doc/protocol.md: P_GET_MESSAGES; older.c
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "shm/conv.h"
#include "shm/users.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/seat.h"
#include "worker/view.h"

/* A page of history ends here: the rest is the next page. */
#define PAGE_BYTES_MAX (1024 * 1024)
#define PAGE_IDS_MAX   200

/* No conversation yet: with somebody of one's list it is empty. */
static int
check_empty(struct job *job, struct txn *txn)
{
	uint64_t lower;
	uint64_t higher;
	uint64_t other;
	uint32_t flags;
	struct user user;
	int rc;

	if (!job->is_by_user)
		return ERR_NOT_FOUND;
	conv_key_members(&job->conv, &lower, &higher);
	other = lower == job->user ? higher : lower;
	rc = users_get(txn, other, &user);
	if (rc == 0)
		rc = contact_get(txn, job->user, other, &flags);
	if (rc != 0)
		return rc;
	if (other == job->user || contact_is_listed(flags) ||
	    (job->is_anyone && (flags & CONTACT_BLOCKED_BY) == 0))
		return 0;
	return ERR_NOT_FOUND;
}

static int
put_page(struct job *job, struct txn *txn, const struct seat *seat,
    const uint64_t *ids, size_t count)
{
	uint64_t members[MEMBERS_MAX];
	size_t member_count = view_members(&seat->conv, members);
	struct view_names names = {0};
	struct message_view view;
	struct log_message m;
	int rc;

	for (size_t i = 0; i < count; i++) {
		if (job->out.len > PAGE_BYTES_MAX) {
			job->has_more = true;
			return 0;
		}
		rc = log_get(txn, ids[i], &m);
		/* It could be read a moment ago (conv_page). */
		if (rc == ERR_CORRUPT && txn->rc == 0) {
			job->skipped_count++;
			continue;
		}
		if (rc == 0 && (!conv_key_equal(&m.conv, &seat->conv.key) ||
				   !seat_sees(seat, m.id)))
			rc = ERR_CORRUPT;
		if (rc != 0)
			return rc;
		view_fill(&view, &m, seat, members, member_count,
		    view_sender_name(txn, m.sender, &names));
		json_object_begin(&job->out);
		event_message_fields(&job->out, &view, m.sender == job->user);
		json_object_end(&job->out);
	}
	return 0;
}

/*
 * Has retention taken what of the page would come next? Then the directory's
 * database has it: nothing goes before it was written there. It takes from the
 * front of the log, so who came later than its oldest row misses nothing.
 */
static int
find_gone(struct job *job, struct txn *txn, const struct seat *seat,
    const struct conv_page *page)
{
	uint64_t first = page->count > 0 ? page->ids[page->count - 1] : 0;
	uint64_t after = job->after;
	uint64_t oldest = UINT64_MAX;
	struct log_message m;
	int rc;

	if (!job->is_remote || seat->conv.count == 0)
		return 0;
	rc = log_oldest(txn, &oldest);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (job->after != 0)
		job->gone_before = page->count > 0 ? page->ids[0] : 0;
	else
		job->gone_before = first != 0 ? first : job->before;
	if (!seat_narrow(seat, &after, &job->gone_before) || after >= oldest)
		return 0;
	if (job->after != 0) {
		job->gone_after = after;
		job->is_gone = true;
		return 0;
	}
	if (job->has_more)
		return 0;
	if (first == 0) {
		job->is_gone = true;
		return 0;
	}
	rc = log_get(txn, first, &m);
	job->is_gone = rc == 0 && m.position > 1;
	return rc == ERR_CORRUPT ? txn->rc : rc;
}

void
job_messages(struct job *job, struct txn *main, struct txn *presence)
{
	uint64_t ids[PAGE_IDS_MAX];
	const struct conv_range range = {job->before, job->after, job->limit};
	struct conv_page page = {.ids = ids};
	struct seat seat;
	bool has_seat;
	int rc;

	(void)presence;
	rc = seat_take(main, &job->conv, job->user, &seat);
	has_seat = rc == 0;
	if (rc == ERR_NOT_FOUND)
		rc = check_empty(job, main);
	else if (rc == 0)
		rc = seat_page(main, &seat, &range, &page);
	job->has_more = page.has_more;
	job->skipped_count = page.damaged;
	if (rc == 0 && page.count > 0)
		rc = put_page(job, main, &seat, ids, page.count);
	if (rc == 0 && has_seat)
		rc = find_gone(job, main, &seat, &page);
	job->shown = page.count;
	job->rc = rc;
}

/* ---- what the directory's database has of it ---- */

/* The next of the answer; its strings stay there.
 * @return 0, ERR_NOT_FOUND: that was all, ERR_BAD_REQUEST */
static int
take_entry(struct record_cursor *cursor, struct log_message *out)
{
	struct dir_message_entry entry;
	const void *at;
	size_t len;

	if (cursor->left == 0)
		return ERR_NOT_FOUND;
	at = record_take(cursor, sizeof(entry));
	if (at == NULL)
		return ERR_BAD_REQUEST;
	memcpy(&entry, at, sizeof(entry));
	*out = (struct log_message){
	    .id = entry.id,
	    .kind = LOG_MESSAGE,
	    .sender = entry.sender,
	    .reply_to = entry.reply_to,
	    .client_time_ms = entry.client_time_ms,
	    .changed_ms = entry.changed_ms,
	    .flags = (uint8_t)entry.flags,
	};
	out->body =
	    (struct blob){record_take(cursor, entry.body_len), entry.body_len};
	out->type =
	    (struct blob){record_take(cursor, entry.type_len), entry.type_len};
	out->attachment = (struct blob){
	    record_take(cursor, entry.attachment_len), entry.attachment_len};
	len = (size_t)entry.body_len + entry.type_len + entry.attachment_len;
	(void)record_take(cursor, (8 - len % 8) % 8);
	return record_is_whole(cursor) ? 0 : ERR_BAD_REQUEST;
}

/* Behind the last of the answer: past what was said while he was away, which
 * may be years of a group, and no further than he has been in it. */
static void
go_on(struct job *job, const struct seat *seat)
{
	bool is_up = job->gone_after != 0;
	uint64_t after = is_up ? job->next : 0;

	if (!is_up)
		job->gone_before = job->next;
	job->has_more =
	    job->has_more && seat_narrow(seat, &after, &job->gone_before);
	if (is_up)
		job->gone_after = after;
}

/* Who may see what is asked anew: he may have been put out meanwhile, and the
 * database knows nothing of seats. */
void
job_older(struct job *job, struct txn *main, struct txn *presence)
{
	struct record_cursor cursor;
	uint64_t members[MEMBERS_MAX];
	size_t member_count;
	struct view_names names = {0};
	struct message_view view;
	struct log_message m;
	struct seat seat;
	int rc;

	(void)presence;
	record_cursor_init(&cursor, job->rows.data, job->rows.len);
	rc = seat_take(main, &job->conv, job->user, &seat);
	member_count = rc == 0 ? view_members(&seat.conv, members) : 0;
	while (rc == 0 && (rc = take_entry(&cursor, &m)) == 0) {
		m.conv = job->conv;
		job->next = m.id;
		if (!seat_sees(&seat, m.id))
			continue;
		view_fill(&view, &m, &seat, members, member_count,
		    view_sender_name(main, m.sender, &names));
		json_object_begin(&job->out);
		/* His ClientMessageId is not written there. */
		event_message_fields(&job->out, &view, false);
		json_object_end(&job->out);
		job->shown++;
	}
	job->rc = rc == ERR_NOT_FOUND && cursor.left == 0 ? 0 : rc;
	if (job->rc == 0 && job->next != 0)
		go_on(job, &seat);
}
