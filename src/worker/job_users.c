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
#include "shm/roll.h"
#include "shm/userhead.h"
#include "shm/users.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/session.h"

/* First page of the list; the rest comes by P_GET_ALL_USER. */
#define PAGE_USERS_MAX 200
#define PAGE_BYTES_MAX (256 * 1024)
/* A page of what was missed: it must fit what there is for such events in the
 * output (ephemeral.c), which is emptied down to as much before. */
#define TEXTS_BYTES_MAX (OUTPUT_BYTES_MAX / 4 - 32 * 1024)

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
	if (job->rc == 0)
		calls_list(job, main);
}

/* ---- what was missed, page by page ---- */

size_t
job_text_begin(struct job *job)
{
	const struct job_text head = {0};
	size_t start = job->out.len;

	buf_add(&job->out, &head, sizeof(head)); /* filled in at the end */
	buf_add_char(&job->out, '{');
	return start;
}

void
job_text_end(struct job *job, size_t start, uint64_t call, uint64_t user)
{
	struct job_text head = {.call = call, .user = user};

	json_object_end(&job->out);
	head.len = job->out.len - start - sizeof(head);
	memcpy(job->out.data + start, &head, sizeof(head));
}

bool
job_text_has_room(struct job *job)
{
	job->has_more = job->out.len >= TEXTS_BYTES_MAX;
	return !job->has_more;
}

static bool
put_presence(void *ctx, uint64_t other, uint32_t flags)
{
	struct page *page = ctx;
	struct job *job = page->job;
	struct presence presence;
	size_t start;

	if (!contact_is_listed(flags) ||
	    presence_get(page->presence, other, &presence) != 0 ||
	    presence.version <= job->version)
		return true;
	if (!job_text_has_room(job))
		return false;
	start = job_text_begin(job);
	json_put_text(&job->out, "Command", "P_PRESENCE");
	event_presence_fields(&job->out, other, &presence);
	job_text_end(job, start, UINT64_MAX, other);
	return true;
}

void
job_presence(struct job *job, struct txn *main, struct txn *presence)
{
	struct page page = {.job = job, .main = main, .presence = presence};

	/* Calls first: a device that does not ring is worse than an old state,
	 * and they are few. */
	if (job->call != UINT64_MAX)
		calls_again(job, main);
	if (job->rc == 0 && !job->has_more)
		job->rc = contact_each(
		    main, job->user, job->above, put_presence, &page);
	job->version = presence_version(presence, PRESENCE_LAST);
}

struct typing {
	struct job *job;
	struct txn *main;
	struct txn *presence;
};

static void
put_place(struct typing *typing, uint64_t user)
{
	struct presence row;
	struct job_place place = {.user = user};

	if (presence_get(typing->presence, user, &row) != 0 || row.workers == 0)
		return;
	place.workers = row.workers;
	buf_add(&typing->job->out, &place, sizeof(place));
}

/* In a group or a call one may write to each; between two of whom one blocks
 * the other nothing of this passes, in either direction. */
static bool
may_tell(const struct typing *typing, uint64_t user)
{
	uint32_t flags;

	return user != typing->job->user &&
	       contact_get(typing->main, typing->job->user, user, &flags) ==
		   0 &&
	       (flags & (CONTACT_BLOCKED_BY | CONTACT_BLOCKING)) == 0;
}

static void
typing_in_room(struct typing *typing)
{
	struct job *job = typing->job;
	uint64_t users[GROUP_MEMBERS_MAX];
	enum call_state state;
	size_t count = 0;

	job->rc = roll_has(typing->main, &job->conv, job->user, &state);
	if (job->rc == ERR_CONFLICT)
		job->state = call_state_name(state);
	if (job->rc == 0)
		job->rc =
		    roll_users(typing->main, &job->conv, 0, users, &count);
	for (size_t i = 0; job->rc == 0 && i < count; i++) {
		if (may_tell(typing, users[i]))
			put_place(typing, users[i]);
	}
	job->member_count = (uint32_t)count;
}

void
job_typing(struct job *job, struct txn *main, struct txn *presence)
{
	struct typing typing = {job, main, presence};
	uint32_t flags;

	if (conv_key_has_seats(&job->conv)) {
		typing_in_room(&typing);
		return;
	}
	for (size_t i = 0; i < job->user_count; i++) {
		if (contact_get(main, job->user, job->users[i], &flags) != 0)
			continue;
		if ((flags & CONTACT_BLOCKED_BY) != 0 ||
		    (!contact_may_write(flags) && !job->is_anyone))
			continue; /* like one who does not exist */
		put_place(&typing, job->users[i]);
	}
}
