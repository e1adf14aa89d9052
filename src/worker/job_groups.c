/*
 * job_groups.c - groups read from the store: one's own, and who is in one.
 *
 * Role:    jobs of the reader thread.
 * Process: worker, reader thread: touches the job and its transactions only.
 * Trust:   only who is in a group learns anything of it.
 * See:     doc/protocol.md: P_GET_GROUPS
 */
#include "base/json.h"
#include "shm/group.h"
#include "shm/users.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/seat.h"

/* A page ends here: the rest is the next page. */
#define PAGE_BYTES_MAX (256 * 1024)

struct page {
	struct job *job;
	struct txn *txn;
	size_t count;
	uint64_t last;
	int rc;
};

/* @return false: the page is full, NextCursor says where it goes on */
static bool
has_room(struct page *page)
{
	if (page->count < page->job->limit &&
	    page->job->out.len < PAGE_BYTES_MAX)
		return true;
	page->job->next = page->last;
	return false;
}

/* A damaged row costs that one, not the whole list. */
static bool
goes_on(struct page *page, int rc)
{
	page->rc =
	    rc == ERR_NOT_FOUND || rc == ERR_CORRUPT ? page->txn->rc : rc;
	return page->rc == 0;
}

static bool
put_group(void *ctx, const struct conv_key *key)
{
	struct page *page = ctx;
	struct buf *out = &page->job->out;
	struct member self;
	struct group group;
	uint64_t id = conv_key_id(key);
	int rc;

	if (conv_key_kind(key) != CONV_GROUP)
		return false; /* they stand together */
	rc = member_get(page->txn, id, page->job->user, &self);
	if (rc == 0 && !member_is_in(&self))
		return true;
	if (rc == 0)
		rc = group_get(page->txn, id, &group);
	if (rc != 0)
		return goes_on(page, rc);
	if (!has_room(page))
		return false;
	json_object_begin(out);
	event_put_conv(out, key);
	seat_put_group(out, page->txn, &self, &group);
	json_object_end(out);
	page->count++;
	page->last = id;
	return true;
}

void
job_groups(struct job *job, struct txn *main, struct txn *presence)
{
	struct page page = {.job = job, .txn = main};
	struct conv_key from;

	(void)presence;
	conv_key_of(CONV_GROUP, job->above + 1, &from);
	json_array_begin(&job->out);
	job->rc = conv_each(main, job->user, &from, put_group, &page);
	if (job->rc == 0)
		job->rc = page.rc;
	json_array_end(&job->out);
}

/* How far he has come is not told to whom he blocks. */
static int
put_progress(struct page *page, const struct member *member)
{
	uint32_t flags;
	int rc;

	rc = contact_get(page->txn, page->job->user, member->user, &flags);
	if (rc != 0 || (flags & CONTACT_BLOCKED_BY) != 0)
		return rc;
	event_put_progress(
	    &page->job->out, member->row.delivered, member->row.read);
	return 0;
}

static bool
put_member(void *ctx, const struct member *member)
{
	struct page *page = ctx;
	struct buf *out = &page->job->out;
	struct user user = {0};
	int rc;

	if (!member_is_in(member))
		return true;
	if (!has_room(page))
		return false;
	rc = users_get(page->txn, member->user, &user);
	if (rc != 0 && !goes_on(page, rc))
		return false;
	json_object_begin(out);
	json_put_u64(out, "UserId", member->user);
	json_put_string(out, "Name", user.name.data, user.name.len);
	json_put_text(out, "Role", group_role_name(member->row.role));
	rc = put_progress(page, member);
	json_object_end(out);
	page->count++;
	page->last = member->user;
	return rc == 0 || goes_on(page, rc);
}

void
job_group_members(struct job *job, struct txn *main, struct txn *presence)
{
	uint64_t group = conv_key_id(&job->conv);
	struct page page = {.job = job, .txn = main};
	struct member self;

	(void)presence;
	json_array_begin(&job->out);
	job->rc = member_get(main, group, job->user, &self);
	if (job->rc == 0 && !member_is_in(&self))
		job->rc = ERR_NOT_FOUND;
	if (job->rc == 0)
		job->rc =
		    member_each(main, group, job->above, put_member, &page);
	if (job->rc == 0)
		job->rc = page.rc;
	json_array_end(&job->out);
}
