/*
 * job_users.c - people read from the store: the list's first page, presence,
 * who may be told that somebody types.
 *
 * Role:    jobs of the reader thread.
 * Process: worker, reader thread: touches the job and its transactions only.
 * See:     doc/protocol.md: P_AUTHENTICATE, P_PRESENCE, P_TYPING
 */
#include <string.h>

#include "base/json.h"
#include "shm/presence.h"
#include "shm/userhead.h"
#include "shm/users.h"
#include "worker/event.h"
#include "worker/reader.h"

/* First page of the list; the rest comes by P_GET_ALL_USER. */
#define PAGE_USERS_MAX 200
#define PAGE_BYTES_MAX (256 * 1024)

struct page {
	struct job *job;
	struct txn *main;
	struct txn *presence;
	size_t count;
	uint64_t last;
	int rc;
};

/* @return true: row is what others see; false: never seen */
static bool
look_presence(struct page *page, uint64_t user, struct presence *out)
{
	struct userhead head;

	if (presence_get(page->presence, user, out) == 0)
		return true;
	/* Not since the machine started: the main store knows when. */
	if (userhead_get(page->main, user, &head) != 0)
		return false;
	*out = (struct presence){
	    .status = STATUS_OFFLINE,
	    .last_seen_ms = head.row.last_seen_ms,
	};
	return true;
}

static bool
put_user(void *ctx, uint64_t other, uint32_t flags)
{
	struct page *page = ctx;
	struct presence presence;
	struct user user;
	bool is_seen;
	int rc;

	if (!contact_is_listed(flags))
		return true;
	if (page->count == PAGE_USERS_MAX ||
	    page->job->out.len > PAGE_BYTES_MAX) {
		page->job->next = page->last;
		return false;
	}
	rc = users_get(page->main, other, &user);
	if (rc != 0) {
		/* A damaged row costs that user, not the whole list. */
		page->rc = rc == ERR_NOT_FOUND || rc == ERR_CORRUPT
			       ? page->main->rc
			       : rc;
		return page->rc == 0;
	}
	is_seen = look_presence(page, other, &presence);
	event_user(&page->job->out, other, user.name, user.role, user.profile,
	    is_seen ? &presence : NULL);
	page->count++;
	page->last = other;
	return true;
}

void
job_users(struct job *job, struct txn *main, struct txn *presence)
{
	struct page page = {.job = job, .main = main, .presence = presence};
	struct userhead head;

	if (userhead_get(main, job->user, &head) == 0)
		job->upto = head.row.head;
	job->version = presence_version(presence, PRESENCE_LAST);
	json_array_begin(&job->out);
	job->rc = contact_each(main, job->user, 0, put_user, &page);
	if (job->rc == 0)
		job->rc = page.rc;
	json_array_end(&job->out);
}

static bool
put_presence(void *ctx, uint64_t other, uint32_t flags)
{
	struct page *page = ctx;
	struct buf *out = &page->job->out;
	struct presence presence;
	size_t start = out->len;
	uint32_t len = 0;

	if (!contact_is_listed(flags) ||
	    presence_get(page->presence, other, &presence) != 0 ||
	    presence.version <= page->job->version)
		return true;
	buf_add(out, &len, sizeof(len)); /* filled in below */
	buf_add_char(out, '{');
	json_put_text(out, "Command", "P_PRESENCE");
	event_presence_fields(out, other, &presence);
	json_object_end(out);
	len = (uint32_t)(out->len - start - sizeof(len));
	memcpy(out->data + start, &len, sizeof(len));
	return true;
}

void
job_presence(struct job *job, struct txn *main, struct txn *presence)
{
	struct page page = {.job = job, .main = main, .presence = presence};

	job->rc = contact_each(main, job->user, 0, put_presence, &page);
	job->version = presence_version(presence, PRESENCE_LAST);
}

void
job_typing(struct job *job, struct txn *main, struct txn *presence)
{
	struct presence row;
	uint32_t flags;

	(void)main;
	for (size_t i = 0; i < job->user_count; i++) {
		job->workers[i] = 0;
		if (contact_get(main, job->user, job->users[i], &flags) != 0)
			continue;
		if ((flags & CONTACT_BLOCKED_BY) != 0 ||
		    (!contact_may_write(flags) && !job->is_anyone))
			continue; /* like one who does not exist */
		if (presence_get(presence, job->users[i], &row) == 0)
			job->workers[i] = row.workers;
	}
}
