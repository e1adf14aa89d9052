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
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

static void
answer(struct worker *worker, const struct pending *pending,
    const struct job *job, bool has_more)
{
	struct buf *out =
	    reply_begin(worker, pending->command->name, &pending->id, 0);

	history_put_page(out, job, has_more);
	reply_finish(pending->owner, out);
}

static void
answer_error(const struct pending *pending, int rc)
{
	reply_error(pending->owner, pending->command->name, &pending->id, rc,
	    rc == ERR_UNAVAILABLE
		? "older messages cannot be read now, try again later"
		: NULL,
	    rc == ERR_UNAVAILABLE ? RETRY_AFTER_MS : -1);
}

/* Without the database. Upwards it would be a gap. */
static void
answer_late(
    struct worker *worker, const struct pending *pending, const struct job *job)
{
	if (job->kept_count > 0 && job->gone_after == 0)
		answer(worker, pending, job, true);
	else
		answer_error(pending, ERR_UNAVAILABLE);
}

static void older_done(struct worker *worker, struct job *job);

/* What a job has come to, for the next one. */
static struct job *
job_next(struct session *session, struct job *before)
{
	struct job *job = reader_job_new(session, job_older, older_done);

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

/* @param job_io  taken */
static void
ask(struct worker *worker, const struct pending *before, struct job **job_io)
{
	struct job *job = *job_io;
	struct session *session = before->owner;
	struct request request = {
	    .worker = worker,
	    .session = session,
	    .command = before->command,
	    .id = before->id,
	    .started_us = before->started_us,
	};
	struct record_dir_history record = {
	    .asker = session->user,
	    .conv = job->conv,
	    .before = job->gone_before,
	    .after = job->gone_after,
	    .limit = job->limit,
	};

	record.req =
	    pending_add(&request, 0, worker->conf->directory_request_timeout);
	if (bus_put(worker->bus, SLOT_DIRECTORY, RECORD_DIR_HISTORY, &record,
		sizeof(record)) == 0) {
		pending_find(worker, record.req)->page = job;
		*job_io = NULL;
		return;
	}
	pending_remove(worker, pending_find(worker, record.req));
	answer_late(worker, before, job);
	reader_job_free(job_io);
}

void
older_ask(
    struct worker *worker, const struct pending *pending, struct job *page)
{
	struct job *job;

	page->kept = page->out;
	page->out = (struct buf){0};
	page->kept_count = page->shown;
	page->kept_has_more = page->has_more;
	/* Upwards the database comes first: the store's part is the next page,
	 * unless there is nothing in between. */
	if (page->gone_after == 0)
		page->limit -= page->shown;
	job = job_next(pending->owner, page);
	ask(worker, pending, &job);
}

void
older_give_up(struct worker *worker, struct pending *pending)
{
	struct pending copy = *pending;

	pending->page = NULL;
	pending_remove(worker, pending);
	answer_late(worker, &copy, copy.page);
	reader_job_free(&copy.page);
}

void
older_reply(struct worker *worker, const struct pending *pending,
    struct job *job, const struct record_dir_reply *reply, const void *tail,
    size_t len)
{
	if (reply->rc != 0) {
		answer_late(worker, pending, job);
		reader_job_free(&job);
		return;
	}
	buf_add(&job->rows, tail, len);
	job->has_more = reply->has_more != 0;
	job->req = pending_again(worker, pending);
	reader_submit_take(worker, job);
}

/* Upwards the store's part is left for the next page: it may have lost more of
 * its front meanwhile. */
static void
put_together(
    struct worker *worker, const struct pending *pending, struct job *job)
{
	bool has_more = job->has_more;

	if (job->gone_after != 0 && job->shown > 0) {
		has_more = has_more || job->kept_count > 0;
		buf_fini(&job->kept);
	} else if (job->gone_after != 0) {
		has_more = job->kept_has_more;
	}
	answer(worker, pending, job, has_more);
}

static void
older_done(struct worker *worker, struct job *job)
{
	struct pending *pending = pending_find(worker, job->req);
	struct pending copy;
	struct job *next;

	if (pending == NULL)
		return;
	copy = *pending;
	pending_remove(worker, pending);
	if (copy.owner == NULL)
		return;
	if (job->rc != 0) {
		answer_error(&copy, job->rc);
		return;
	}
	if (job->shown > 0 || !job->has_more || job->next == 0) {
		put_together(worker, &copy, job);
		return;
	}
	/* All of these were said while he was away: further on. */
	next = job_next(copy.owner, job);
	ask(worker, &copy, &next);
}
