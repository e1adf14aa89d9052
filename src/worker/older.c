/*
 * older.c - history that the store has let go.
 *
 * Role:    has the directory complete a page of P_GET_MESSAGES, and puts it
 *          together: nothing is left out at the seam, nothing comes twice.
 * Process: worker, on the loop.
 * Blocks:  never.
 * Trust:   what the directory answers is looked through by job_older.
 * See:     job_history.c, doc/decisions/033, t/56-mssql-history.t
 *
 * The store's part is read first and kept. Where it ends the database is asked
 * to go on: rows leave the store only after they were written there. If it
 * cannot be asked, the store's part goes out with HasMore; a page of which the
 * store has nothing is UNAVAILABLE, as an empty one would mean the end.
 */
#include "worker/reader.h"
#include "worker/worker_priv.h"

static void
finish(struct worker *worker, const struct job *job, bool has_more)
{
	struct session *session;
	struct buf *out = page_reply(worker, job, NULL, &session);

	if (out == NULL)
		return;
	history_put_page(out, job, has_more);
	reply_finish(session, out);
}

/* Upwards the store's part alone would be a gap. */
void
older_give_up(struct worker *worker, struct pending *pending)
{
	struct job *job = pending->page;
	const char *command = pending->command->name;
	struct session *session = pending->owner;
	struct request_id id = pending->id;

	pending->page = NULL;
	if (job->kept_count > 0 && job->gone_after == 0) {
		finish(worker, job, true);
	} else {
		pending_remove(worker, pending);
		reply_error(session, command, &id, ERR_UNAVAILABLE,
		    "older messages cannot be read now, try again later",
		    RETRY_AFTER_MS);
	}
	reader_job_free(&job);
}

static void older_done(struct worker *worker, struct job *job);

/* What a job has come to, for the next one. */
static struct job *
job_next(struct session *session, struct job *before)
{
	struct job *job = reader_job_new(session, job_older, older_done);

	job->req = before->req;
	job->conv = before->conv;
	job->limit = before->limit;
	job->gone_before = before->gone_before;
	job->gone_after = before->gone_after;
	job->kept = before->kept;
	before->kept = (struct buf){0};
	job->kept_count = before->kept_count;
	job->kept_has_more = before->kept_has_more;
	return job;
}

/* @param before  done; what it holds is taken */
static void
ask(struct worker *worker, struct pending *pending, struct job *before)
{
	struct job *job = job_next(pending->owner, before);
	const struct record_dir_history record = {
	    .req = job->req,
	    .asker = pending->user,
	    .conv = job->conv,
	    .before = job->gone_before,
	    .after = job->gone_after,
	    .limit = job->limit,
	};

	pending->page = job;
	pending_set_deadline(
	    worker, pending, worker->conf->directory_request_timeout);
	if (bus_put(worker->bus, SLOT_DIRECTORY, RECORD_DIR_HISTORY, &record,
		sizeof(record)) != 0)
		older_give_up(worker, pending);
}

void
older_ask(struct worker *worker, struct pending *pending, struct job *page)
{
	page->kept = page->out;
	page->out = (struct buf){0};
	page->kept_count = page->shown;
	page->kept_has_more = page->has_more;
	/* Upwards the database comes first: the store's part is the next page,
	 * unless there is nothing in between. */
	if (page->gone_after == 0)
		page->limit -= page->shown;
	ask(worker, pending, page);
}

void
older_reply(struct worker *worker, struct pending *pending,
    const struct record_dir_reply *reply, const void *tail, size_t len)
{
	struct job *job = pending->page;

	if (reply->rc != 0) {
		older_give_up(worker, pending);
		return;
	}
	pending->page = NULL;
	pending_clear_deadline(worker, pending);
	buf_add(&job->rows, tail, len);
	job->has_more = reply->has_more != 0;
	reader_submit_take(worker, job);
}

/* Upwards the store's part is left for the next page: it may have lost more of
 * its front meanwhile. */
static void
put_together(struct worker *worker, struct job *job)
{
	bool has_more = job->has_more;

	if (job->gone_after != 0 && job->shown > 0) {
		has_more = has_more || job->kept_count > 0;
		buf_fini(&job->kept);
	} else if (job->gone_after != 0) {
		has_more = job->kept_has_more;
	}
	finish(worker, job, has_more);
}

static void
older_done(struct worker *worker, struct job *job)
{
	struct pending *pending = pending_find(worker, job->req);
	bool is_all_hidden =
	    job->rc == 0 && job->shown == 0 && job->has_more && job->next != 0;

	/* All of these were said while he was away: further on. */
	if (is_all_hidden && pending != NULL && pending->owner != NULL)
		ask(worker, pending, job);
	else
		put_together(worker, job);
}
