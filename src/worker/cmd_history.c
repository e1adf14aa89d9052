/*
 * cmd_history.c - pages of messages, of conversations and of calls.
 *
 * Role:    checks the fields; the reader thread makes the page.
 * Process: worker.
 * See:     doc/protocol.md: P_GET_MESSAGES, P_GET_CONVERSATIONS,
 *          P_GET_COLLABORATION_HISTORY
 */
#include <string.h>

#include "base/count.h"
#include "net/net.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

#define MESSAGES_LIMIT_MAX      200
#define LIMIT_DEFAULT           50
#define CONVERSATIONS_LIMIT_MAX 200
#define CALLS_LIMIT_MAX         200

void
history_put_page(struct buf *out, const struct job *job, bool has_more)
{
	json_key(out, "Messages");
	json_array_begin(out);
	if (job->kept.len > 0)
		json_raw(out, job->kept.data, job->kept.len);
	if (job->out.len > 0)
		json_raw(out, job->out.data, job->out.len);
	json_array_end(out);
	json_put_bool(out, "HasMore", has_more);
}

struct buf *
page_reply(struct worker *worker, const struct job *job, const char *not_found,
    struct session **session_out)
{
	struct pending *pending = pending_find(worker, job->req);
	struct pending copy;

	if (pending == NULL)
		return NULL;
	copy = *pending;
	pending_remove(worker, pending);
	*session_out = copy.owner;
	if (copy.owner == NULL)
		return NULL;
	if (job->rc == 0)
		return reply_begin(worker, copy.command->name, &copy.id, 0);
	reply_error(copy.owner, copy.command->name, &copy.id, job->rc,
	    job->rc == ERR_NOT_FOUND ? not_found : NULL, -1);
	return NULL;
}

int
page_ask(struct request *request, struct job *job, int rc)
{
	if (rc != 0) {
		reader_job_free(&job);
		return rc;
	}
	job->req = pending_add(request, 0, 0);
	reader_submit_take(request->worker, job);
	return 0;
}

/* A page of what is listed newest first. @param below  the field that says
 * where it begins */
static int
ask_newest(struct request *request, struct job *job, const char *below,
    uint64_t limit_max)
{
	uint64_t limit = LIMIT_DEFAULT;
	int rc;

	rc = request_id(request, below, FIELD_OPTIONAL, &job->before);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_u64(
		    request, "Limit", FIELD_OPTIONAL, 1, limit_max, &limit);
	job->limit = (size_t)limit;
	return page_ask(request, job, rc == ERR_NOT_FOUND ? 0 : rc);
}

/* Downwards a full page needs nothing more. */
static bool
wants_older(const struct job *job)
{
	return job->is_gone &&
	       (job->gone_after != 0 || job->shown < job->limit);
}

static void
messages_done(struct worker *worker, struct job *job)
{
	struct pending *pending = pending_find(worker, job->req);
	struct session *session;
	struct buf *out;

	COUNT_ADD(messages_skipped, job->skipped_count);
	if (job->rc == 0 && wants_older(job) && pending != NULL &&
	    pending->owner != NULL) {
		older_ask(worker, pending, job);
		return;
	}
	out = page_reply(worker, job,
	    job->is_by_user ? "UserId: no such user in your list"
			    : "ConversationId: there is no such conversation",
	    &session);
	if (out == NULL)
		return;
	/* A full page ends here; its next one is the database's. */
	history_put_page(out, job, job->has_more || job->is_gone);
	reply_finish(session, out);
}

static int
read_conversation(struct request *request, struct job *job)
{
	uint64_t self = request->session->user;
	uint64_t members[2];
	const char *text;
	uint64_t user;
	size_t len;
	int rc;

	rc = request_string(request, "ConversationId", FIELD_OPTIONAL, 1,
	    CONV_TEXT_MAX, &text, &len);
	if (rc == 0) {
		if (conv_key_parse(text, len, &job->conv) != 0)
			return request_fail(request, ERR_NOT_FOUND,
			    "ConversationId: there is no such conversation");
		return 0;
	}
	if (rc != ERR_NOT_FOUND)
		return rc;
	rc = request_u64(
	    request, "UserId", FIELD_OPTIONAL, 1, USER_ID_MAX, &user);
	if (rc == ERR_NOT_FOUND)
		return request_fail(request, ERR_BAD_REQUEST,
		    "ConversationId, UserId: expected one of them");
	if (rc != 0)
		return rc;
	job->is_by_user = true;
	members[0] = user < self ? user : self;
	members[1] = user < self ? self : user;
	conv_key_make(members, 2, &job->conv);
	return 0;
}

static int
read_messages(struct request *request, struct job *job)
{
	uint64_t limit = LIMIT_DEFAULT;
	int rc;

	rc = read_conversation(request, job);
	if (rc != 0)
		return rc;
	rc = request_id(request, "Before", FIELD_OPTIONAL, &job->before);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_id(request, "After", FIELD_OPTIONAL, &job->after);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_u64(request, "Limit", FIELD_OPTIONAL, 1,
		    MESSAGES_LIMIT_MAX, &limit);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (job->before != 0 && job->after != 0)
		return request_fail(request, ERR_BAD_REQUEST,
		    "Before, After: expected at most one of them");
	job->limit = (size_t)limit;
	return 0;
}

int
cmd_get_messages(struct request *request)
{
	struct job *job =
	    reader_job_new(request->session, job_messages, messages_done);

	return page_ask(request, job, read_messages(request, job));
}

static void
conversations_done(struct worker *worker, struct job *job)
{
	struct session *session;
	struct buf *out = page_reply(worker, job, NULL, &session);

	if (out == NULL)
		return;
	json_put_raw(out, "Conversations", job->out.data, job->out.len);
	reply_put_cursor(out, job->next, true);
	reply_finish(session, out);
}

int
cmd_get_conversations(struct request *request)
{
	return ask_newest(request,
	    reader_job_new(
		request->session, job_conversations, conversations_done),
	    "Cursor", CONVERSATIONS_LIMIT_MAX);
}

static void
calls_done(struct worker *worker, struct job *job)
{
	struct session *session;
	struct buf *out = page_reply(worker, job, NULL, &session);

	if (out == NULL)
		return;
	json_put_raw(out, "Collaborations", job->out.data, job->out.len);
	json_put_bool(out, "HasMore", job->has_more);
	reply_finish(session, out);
}

int
cmd_get_collaboration_history(struct request *request)
{
	return ask_newest(request,
	    reader_job_new(request->session, job_call_history, calls_done),
	    "Before", CALLS_LIMIT_MAX);
}
