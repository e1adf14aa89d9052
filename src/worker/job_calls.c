/*
 * job_calls.c - calls read from the store: those still open, and history.
 *
 * Role:    jobs of the reader thread.
 * Process: worker, reader thread: touches the job and its transactions only.
 * Trust:   a call is shown to its participants only: it is found by way of
 *          the user's own rows, and the call's row must agree.
 * See:     doc/protocol.md: P_AUTHENTICATE, P_COLLABORATION,
 *          P_GET_COLLABORATION_HISTORY
 */
#include <string.h>

#include "base/json.h"
#include "shm/call_json.h"
#include "shm/users.h"
#include "worker/reader.h"

#define OPEN_MAX       64 /* calls of one user; the oldest ones */
#define PAGE_BYTES_MAX (512 * 1024)

struct calls {
	struct job *job;
	struct txn *txn;
	size_t count;
	struct call call;
	struct blob name;
};

/* @return the user's part; NULL: nothing to be shown */
static const struct call_part *
load(struct calls *calls, uint64_t id)
{
	struct user user;

	/* A damaged row costs that call, not the whole list. */
	if (call_get(calls->txn, id, &calls->call) != 0)
		return NULL;
	calls->name = (struct blob){"", 0};
	if (users_get(calls->txn, calls->call.parts[0].user, &user) == 0)
		calls->name = user.name;
	return call_find_part(&calls->call, calls->job->user);
}

/* ---- open ones ---- */

static bool
put_open(void *ctx, uint64_t id, bool is_in)
{
	struct calls *calls = ctx;
	struct buf *out = &calls->job->calls;

	(void)is_in;
	if (load(calls, id) == NULL)
		return true;
	json_object_begin(out);
	call_json_now(out, &calls->call, &calls->name);
	call_json_payload(out, &calls->call);
	json_object_end(out);
	return ++calls->count < OPEN_MAX && out->len < PAGE_BYTES_MAX;
}

void
calls_list(struct job *job, struct txn *main)
{
	struct calls calls = {.job = job, .txn = main};

	json_array_begin(&job->calls);
	job->rc = call_each_open(main, job->user, put_open, &calls);
	json_array_end(&job->calls);
}

/* What this session would have been told last, were it told of its state. */
static enum call_event
event_of(const struct job *job, const struct call_part *part)
{
	if (part->state == PART_RINGING)
		return CALL_EVENT_INVITED;
	if (part->state != PART_JOINED)
		return CALL_EVENT_NONE;
	return part->session == job->session ? CALL_EVENT_JOINED
					     : CALL_EVENT_ANSWERED_ELSEWHERE;
}

static bool
put_again(void *ctx, uint64_t id, bool is_in)
{
	struct calls *calls = ctx;
	struct job *job = calls->job;
	struct buf *out = &job->out;
	const struct call_part *part;
	enum call_event event;
	size_t start;

	(void)is_in;
	if (id <= job->call)
		return true;
	part = load(calls, id);
	event = part == NULL ? CALL_EVENT_NONE : event_of(job, part);
	if (event == CALL_EVENT_NONE)
		return true;
	if (!job_text_has_room(job))
		return false;
	start = job_text_begin(job);
	json_put_text(out, "Command", "P_COLLABORATION");
	json_put_text(out, "Event", call_event_name(event));
	json_put_u64(out, "UserId",
	    event == CALL_EVENT_INVITED ? part->invited_by : part->user);
	call_json_now(out, &calls->call, &calls->name);
	if (event == CALL_EVENT_INVITED)
		call_json_payload(out, &calls->call);
	job_text_end(job, start, id, job->above);
	return ++calls->count < OPEN_MAX;
}

void
calls_again(struct job *job, struct txn *main)
{
	struct calls calls = {.job = job, .txn = main};

	job->rc = call_each_open(main, job->user, put_again, &calls);
}

/* ---- history ---- */

static bool
put_past(void *ctx, uint64_t id)
{
	struct calls *calls = ctx;
	struct job *job = calls->job;
	const struct call_part *part;

	if (calls->count == job->limit || job->out.len > PAGE_BYTES_MAX) {
		job->has_more = true;
		return false;
	}
	part = load(calls, id);
	if (part == NULL)
		return true;
	json_object_begin(&job->out);
	call_json_past(&job->out, &calls->call, &calls->name,
	    (enum call_outcome)part->outcome);
	json_object_end(&job->out);
	calls->count++;
	return true;
}

void
job_call_history(struct job *job, struct txn *main, struct txn *presence)
{
	struct calls calls = {.job = job, .txn = main};

	(void)presence;
	json_array_begin(&job->out);
	job->rc =
	    call_each_past(main, job->user, job->before, put_past, &calls);
	json_array_end(&job->out);
}
