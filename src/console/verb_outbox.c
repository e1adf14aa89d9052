/*
 * verb_outbox.c - what consumers outside have refused.
 *
 * Role:    outbox list, retry, drop, forget.
 * Process: console; reads the store, asks the keeper to write.
 * Blocks:  on a page of the store that is not in memory.
 * Trust:   shows numbers, ids, times and errors; never what anybody wrote.
 * See:     verbs.def, shm/outbox.h, keeper/apply_outbox.c.
 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "console/verb.h"
#include "shm/outbox.h"
#include "shm/records.h"
#include "shm/store.h"

/* The one that is named, or the first that is on. @return OUTBOX_END: the job
 * has failed */
/* Does anything wait in it, or lie dead? */
static bool
has_left(struct job *job, enum outbox_id id)
{
	struct store *store = console_store(job->console);
	struct outbox_state state = {0};
	struct txn txn = {0};
	int rc;

	if (store == NULL)
		return false;
	rc = store_begin_read(store, &txn);
	if (rc == 0)
		rc = outbox_state_get(&txn, outbox_number(id), &state);
	txn_end(&txn);
	return rc == 0 && (state.head != state.tail || state.dead_count > 0);
}

/* Without a name the one that is on; of those that are off, one that somebody
 * has to look after. */
static enum outbox_id
job_outbox(struct job *job)
{
	const struct conf *conf = job->console->process->conf;
	const char *name = job_option(job, "outbox");
	enum outbox_id id;

	if (name == NULL) {
		for (int n = 0; n < OUTBOX_END; n++) {
			if (outbox_is_on((enum outbox_id)n, conf))
				return (enum outbox_id)n;
		}
		for (int n = 0; n < OUTBOX_END; n++) {
			if (has_left(job, (enum outbox_id)n))
				return (enum outbox_id)n;
		}
		return (enum outbox_id)0;
	}
	id = outbox_by_name(name);
	if (id == OUTBOX_END)
		job_fail(job, JOB_USAGE, "there is no outbox \"%.32s\"", name);
	return id;
}

/* ---- list ---- */

struct dead_page {
	struct job *job;
	uint64_t left;
	uint64_t last;
	bool has_more;
};

/* As text: readers of JSON know no such numbers. */
static void
put_id(struct job *job, const char *key, const char *name, uint64_t id)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, id);
	json_put_text(&job->fields, key, text);
	buf_printf(&job->text, " %s=%s", name, text);
}

static void
put_entry(struct job *job, const struct outbox_entry *entry)
{
	struct buf *fields = &job->fields;
	char conv[CONV_TEXT_MAX];

	json_put_u64(fields, "number", entry->number);
	json_put_text(fields, "kind", outbox_kind_name(entry->kind));
	buf_printf(&job->text, "%" PRIu64 "\t%s", entry->number,
	    outbox_kind_name(entry->kind));
	if (entry->user != 0) {
		json_put_u64(fields, "user", entry->user);
		buf_printf(&job->text, " user=%" PRIu64, entry->user);
	}
	if (entry->message_id != 0)
		put_id(job, "message_id", "message", entry->message_id);
	if (entry->group != 0)
		put_id(job, "group_id", "group", entry->group);
	if (entry->call.id != 0)
		put_id(job, "collaboration_id", "call", entry->call.id);
	if (entry->first != 0) {
		json_put_u64(fields, "first", entry->first);
		buf_printf(&job->text, " first=%" PRIu64, entry->first);
		put_id(job, "first_message_id", "first_message", entry->low_id);
	}
	if (entry->kind == OUTBOX_DELIVERED || entry->kind == OUTBOX_READ) {
		json_put_text(fields, "conversation",
		    conv_key_format(&entry->conv, conv));
		buf_printf(&job->text, " conversation=%s", conv);
	}
}

static bool
list_one(void *ctx, const struct outbox_dead *dead)
{
	struct dead_page *page = ctx;
	struct buf *fields = &page->job->fields;

	if (page->left == 0) {
		page->has_more = true;
		return false;
	}
	page->left--;
	page->last = dead->entry.number;
	json_object_begin(fields);
	put_entry(page->job, &dead->entry);
	json_put_i64(fields, "at_ms", dead->entry.at_ms);
	json_put_i64(fields, "rejected_at_ms", dead->rejected_at_ms);
	json_put_i64(fields, "code", dead->code);
	json_put_string(fields, "error", dead->error.data, dead->error.len);
	json_object_end(fields);
	buf_printf(&page->job->text, " code=%d: %.*s\n", dead->code,
	    (int)dead->error.len, (const char *)dead->error.data);
	return true;
}

static int
put_state(struct job *job, struct txn *txn, enum outbox_id id)
{
	bool is_on = outbox_is_on(id, job->console->process->conf);
	struct outbox_state state;
	int64_t at_ms = clock_wall_ms();
	uint64_t waiting;
	int64_t lag_s;
	int rc;

	rc = outbox_state_get(txn, outbox_number(id), &state);
	if (rc != 0)
		return rc;
	rc = outbox_oldest(txn, outbox_number(id), &at_ms);
	if (rc != 0 && rc != ERR_NOT_FOUND && rc != ERR_CORRUPT)
		return rc;
	waiting = state.head - state.tail;
	lag_s = (clock_wall_ms() - at_ms) / 1000;
	json_put_text(&job->fields, "outbox", outbox_name(id));
	json_put_bool(&job->fields, "on", is_on);
	json_put_u64(&job->fields, "put", state.head);
	json_put_u64(&job->fields, "done", state.tail);
	json_put_u64(&job->fields, "waiting", waiting);
	json_put_i64(&job->fields, "lag_seconds", lag_s);
	json_put_u64(&job->fields, "dead", state.dead_count);
	buf_printf(&job->text,
	    "outbox %s: %s, %" PRIu64 " waiting, the oldest for %" PRId64
	    " s; %" PRIu64 " dead letters\n",
	    outbox_name(id), is_on ? "on" : "off", waiting, lag_s,
	    state.dead_count);
	return txn->rc;
}

void
verb_outbox_list(struct job *job)
{
	struct dead_page page = {.job = job};
	enum outbox_id id = job_outbox(job);
	struct txn txn = {0};
	uint64_t cursor;
	int rc;

	if (id == OUTBOX_END || job_page(job, &page.left, &cursor) != 0 ||
	    job_read_begin(job, &txn) != 0)
		return;
	rc = put_state(job, &txn, id);
	json_key(&job->fields, "dead_letters");
	json_array_begin(&job->fields);
	if (rc == 0)
		rc = outbox_each_dead(
		    &txn, outbox_number(id), cursor + 1, list_one, &page);
	json_array_end(&job->fields);
	txn_end(&txn);
	if (rc != 0) {
		job_fail_rc(job, rc);
		return;
	}
	json_key(&job->fields, "next_cursor");
	if (page.has_more)
		json_u64(&job->fields, page.last);
	else
		json_null(&job->fields);
	job_finish(job);
}

/* ---- changes ---- */

/* Pieces, until there is nothing left to change. */
static void change_next(struct job *job);

static void
change_done(struct job *job, const struct keeper_answer *answer)
{
	bool is_forgotten = job->op == OUTBOX_CHANGE_FORGET;

	if (answer->rc == ERR_CONFLICT) {
		job_fail(job, JOB_FAILED,
		    is_forgotten ? "this outbox is switched on: what waits "
				   "there will be written"
				 : "this outbox is switched off: nobody would "
				   "take what is tried again");
		return;
	}
	if (answer->rc != 0) {
		job_fail_rc(job, answer->rc);
		return;
	}
	job->made += answer->value;
	if (answer->value > 0 && !is_forgotten) {
		change_next(job);
		return;
	}
	if (job->made == 0 && job->next == job->last) {
		job_fail(job, JOB_FAILED,
		    "there is no such dead letter, or it is damaged");
		return;
	}
	json_put_u64(&job->fields, "count", job->made);
	buf_printf(&job->text, "%" PRIu64 "\n", job->made);
	job_finish(job);
}

static void
change_next(struct job *job)
{
	const struct record_outbox_change record = {
	    .first = job->next,
	    .last = job->last,
	    .outbox = outbox_number((enum outbox_id)job->other),
	    .op = job->op,
	};

	job_ask(
	    job, RECORD_OUTBOX_CHANGE, &record, sizeof(record), change_done);
}

static void
change_begin(struct job *job, enum outbox_change_op op)
{
	enum outbox_id id = job_outbox(job);
	bool is_all = job_option(job, "all") != NULL;

	if (id == OUTBOX_END)
		return;
	job->other = (uint64_t)id;
	job->op = op;
	job->next = 1;
	job->last = INT64_MAX;
	if (op != OUTBOX_CHANGE_FORGET && is_all == (job->arg_count == 1)) {
		job_fail(job, JOB_USAGE,
		    "needs the NUMBER of a dead letter, or --all");
		return;
	}
	if (job->arg_count == 1) {
		if (job_number(job, "NUMBER", job->args[0], INT64_MAX,
			&job->next) != 0)
			return;
		job->last = job->next;
	}
	change_next(job);
}

void
verb_outbox_retry(struct job *job)
{
	change_begin(job, OUTBOX_CHANGE_RETRY);
}

void
verb_outbox_drop(struct job *job)
{
	change_begin(job, OUTBOX_CHANGE_DROP);
}

void
verb_outbox_forget(struct job *job)
{
	change_begin(job, OUTBOX_CHANGE_FORGET);
}
