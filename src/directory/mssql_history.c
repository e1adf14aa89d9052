/*
 * mssql_history.c - messages out of SQL Server that the store has let go.
 *
 * Role:    HISTORY: a page of one conversation by keyset, as it is there now.
 * Process: directory; rows are read on a thread of the pool.
 * Blocks:  that thread.
 * Trust:   the worker has decided that the asker may ask for this conversation,
 *          and decides again what of the answer he sees. Rows are checked: one
 *          that is not where it was asked for is no history of anybody.
 * See:     dir_mssql.c, etc/mssql/002-procedures.sql, worker/cmd_history.c,
 *          doc/decisions/033, t/unit/dir_mssql.c.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "directory/dir_mssql_priv.h"

struct mssql_page {
	struct mssql_job job; /* first: its functions get this one */
	struct dir_backend *backend;
	struct dir_request *request;
	dir_done_fn done;
	const char *error; /* what is wrong with the rows; NULL: nothing */
};

static const struct mssql_procedure *
procedure_of(const struct mssql_page *page)
{
	return &page->backend->names->procedures[MSSQL_PROC_messages];
}

/* ---- rows ---- */

static int
read_text(struct tds_conn *conn, const char *column, struct blob *out)
{
	const char *text;
	bool has_text;
	int rc = mssql_row_has(conn, column, &has_text);

	if (rc != 0 || !has_text)
		return rc;
	rc = tds_get_text(conn, column, &text, &out->len);
	out->data = text;
	return rc;
}

static int
read_time(struct tds_conn *conn, const char *column, int64_t *ms_io)
{
	bool has_time;
	int rc = mssql_row_has(conn, column, &has_time);

	return rc == 0 && has_time ? tds_get_time_ms(conn, column, ms_io) : rc;
}

/* Since when is it edited, or deleted? Not at all: the flag stays away. */
static int
read_change(struct tds_conn *conn, const char *column, unsigned flag,
    struct dir_message *message)
{
	bool has_time;
	int rc = mssql_row_has(conn, column, &has_time);

	if (rc != 0 || !has_time)
		return rc;
	message->flags |= flag;
	return tds_get_time_ms(conn, column, &message->changed_ms);
}

static int
read_id(struct tds_conn *conn, const char *column, uint64_t *out)
{
	int64_t number;
	bool has_id;
	int rc = mssql_row_has(conn, column, &has_id);

	if (rc != 0 || !has_id)
		return rc;
	rc = tds_get_i64(conn, column, &number);
	if (rc == 0 && number > 0)
		*out = (uint64_t)number;
	return rc;
}

static int
read_message(struct tds_conn *conn, const struct mssql_procedure *procedure,
    struct dir_message *out)
{
	char *const *columns = procedure->columns;
	int rc;

	*out = (struct dir_message){.client_time_ms = INT64_MIN};
	rc = read_id(conn, columns[MSSQL_FIELD_id], &out->id);
	if (rc == 0)
		rc = read_id(conn, columns[MSSQL_FIELD_sender], &out->sender);
	if (rc == 0)
		rc = read_id(
		    conn, columns[MSSQL_FIELD_reply_to], &out->reply_to);
	if (rc == 0)
		rc = read_time(conn, columns[MSSQL_FIELD_client_time],
		    &out->client_time_ms);
	if (rc == 0)
		rc = read_change(
		    conn, columns[MSSQL_FIELD_edited], LOG_EDITED, out);
	if (rc == 0)
		rc = read_change(
		    conn, columns[MSSQL_FIELD_deleted], LOG_DELETED, out);
	if (rc != 0 || (out->flags & LOG_DELETED) != 0)
		return rc; /* of a deleted one no word, whatever is there */
	rc = read_text(conn, columns[MSSQL_FIELD_body], &out->body);
	if (rc == 0)
		rc = read_text(conn, columns[MSSQL_FIELD_type], &out->type);
	if (rc == 0)
		rc = read_text(
		    conn, columns[MSSQL_FIELD_attachment], &out->attachment);
	return rc;
}

/* @param last  the one before it; 0: it is the first */
static const char *
find_wrong(const struct dir_request *request, uint64_t last,
    const struct dir_message *message)
{
	bool is_up = request->after != 0;
	uint64_t low = is_up && last != 0 ? last : request->after;
	uint64_t high = !is_up && last != 0 ? last : request->before;

	if (message->id == 0 || message->id <= low ||
	    (high != 0 && message->id >= high))
		return "ids are not in order, or not those that were asked for";
	if (message->sender == 0 || message->sender > USER_ID_MAX)
		return "a message has no sender that can be";
	if (!text_utf8_valid(message->body.data, message->body.len) ||
	    !text_utf8_valid(message->type.data, message->type.len))
		return "a text is not valid UTF-8";
	/* Clients are sent it as it stands. */
	if (message->attachment.len > 0 &&
	    !json_is_object(message->attachment.data, message->attachment.len))
		return "an attachment is no JSON object";
	return NULL;
}

static int
read_rows(struct mssql_page *page, struct tds_conn *conn)
{
	struct dir_request *request = page->request;
	struct dir_answer *answer = &request->answer;
	struct dir_message message;
	uint64_t last = 0;
	int rc;

	while ((rc = tds_next_row(conn)) == 0) {
		rc = read_message(conn, procedure_of(page), &message);
		if (rc != 0)
			return rc;
		page->error = find_wrong(request, last, &message);
		if (page->error != NULL)
			return ERR_SERVER_ERROR;
		if (answer->message_count == request->limit) {
			answer->has_more = true;
			return 0;
		}
		rc = dir_answer_add_message(answer, &message);
		if (rc == ERR_FULL) {
			answer->has_more = true;
			return 0;
		}
		if (rc == ERR_TOO_LARGE)
			page->error = "a message is longer than any can be";
		if (rc != 0)
			return rc == ERR_TOO_LARGE ? ERR_SERVER_ERROR : rc;
		last = message.id;
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- the call ---- */

/* mssql_run_fn: may run again, from the start */
static int
page_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct mssql_page *page = (struct mssql_page *)job;
	const struct mssql_procedure *procedure = procedure_of(page);
	struct dir_request *request = page->request;
	char conv[CONV_TEXT_MAX];
	struct tds_param params[4];
	size_t count = 0;
	int rc;

	request->answer.message_count = 0;
	request->answer.has_more = false;
	request->answer.tail_len = 0;
	conv_key_format(&request->conv, conv);
	params[count++] = tds_ascii(
	    procedure->params[MSSQL_FIELD_conversation], conv, strlen(conv));
	params[count++] = tds_i64(procedure->params[MSSQL_FIELD_before],
	    request->before != 0 ? (int64_t)request->before : INT64_MAX);
	if (request->after != 0)
		params[count++] = tds_i64(procedure->params[MSSQL_FIELD_after],
		    (int64_t)request->after);
	/* One more tells whether there is more. */
	params[count++] = tds_i32(
	    procedure->params[MSSQL_FIELD_size], (int32_t)request->limit + 1);
	rc = tds_call(conn, &(struct tds_call){procedure->name, params, count,
				job->call_deadline_ms});
	if (rc == 0)
		rc = read_rows(page, conn);
	rc = tds_finish(conn, rc);
	return rc == 0 && tds_status(conn) != 0 ? ERR_SERVER_ERROR : rc;
}

/* mssql_done_fn */
static void
page_done(struct mssql_job *job)
{
	struct mssql_page *page = (struct mssql_page *)job;

	if (page->error != NULL) {
		COUNT(mssql_history_wrong);
		log_error(NULL, "mssql-history-wrong",
		    "procedure=%s what=\"%s\"", procedure_of(page)->name,
		    page->error);
	}
	page->done(page->request, mssql_asker_rc(job->rc));
	free(page);
}

void
mssql_history(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	struct mssql_page *page = xcalloc(1, sizeof(*page));
	const struct mssql_procedure *procedure;
	int64_t retry_after_ms = 0;

	page->backend = backend;
	page->request = request;
	page->done = done;
	page->job = (struct mssql_job){
	    .run = page_run,
	    .done = page_done,
	    .deadline_ms = request->deadline_ms,
	    /* It was written long ago: what retention takes is that old. */
	    .place = MSSQL_REPLICA,
	    .is_idempotent = true,
	};
	procedure = procedure_of(page);
	if (procedure->name != NULL &&
	    (request->after == 0 ||
		procedure->params[MSSQL_FIELD_after] != NULL) &&
	    mssql_pool_submit(backend->pool, &page->job, &retry_after_ms) == 0)
		return;
	free(page);
	done(request, ERR_UNAVAILABLE);
}
