/*
 * verb_contact.c - who is in whose list.
 *
 * Role:    contact add, list, remove.
 * Process: console; reads the store, asks the keeper to write.
 * Blocks:  on a page of the store that is not in memory.
 * Trust:   ids are checked here, whether they exist by the keeper.
 * See:     verbs.def, keeper/apply_user.c.
 */
#include "config.h"

#include "base/json.h"
#include "console/verb.h"
#include "shm/records.h"
#include "shm/store.h"
#include "shm/users.h"

#define PAIRS_PIECE 500 /* pairs per record: short slices of the keeper */
#define PAIRS_MAX   5000000

/* Pairs (next+i, other+i) up to next == last. */
static void pairs_next(struct job *job);

static void
pairs_done(struct job *job, const struct keeper_answer *answer)
{
	if (answer->rc == ERR_NOT_FOUND) {
		job_fail(job, JOB_FAILED, "there is no user %llu",
		    (unsigned long long)answer->value);
		return;
	}
	if (answer->rc != 0) {
		job_fail_rc(job, answer->rc);
		return;
	}
	job->next += job->piece;
	job->other += job->piece;
	job->made += job->piece;
	pairs_next(job);
}

static void
pairs_next(struct job *job)
{
	struct record_contact record = {
	    .a = job->next,
	    .b = job->other,
	    .op = job->op,
	};

	if (job->next > job->last) {
		json_put_u64(&job->fields, "pairs", job->made);
		job_finish(job);
		return;
	}
	job->piece = PAIRS_PIECE;
	if (job->last - job->next < PAIRS_PIECE)
		job->piece = (uint32_t)(job->last - job->next) + 1;
	record.count = job->piece;
	job_ask(job, RECORD_CONTACT, &record, sizeof(record), pairs_done);
}

static void
one_pair(struct job *job, enum contact_op op)
{
	if (job_user_id(job, job->args[0], &job->next) != 0 ||
	    job_user_id(job, job->args[1], &job->other) != 0)
		return;
	if (job->next == job->other) {
		job_fail(job, JOB_USAGE, "A and B must be two users");
		return;
	}
	job->last = job->next;
	job->op = op;
	pairs_next(job);
}

static void
many_pairs(struct job *job, const char *first, enum contact_op op)
{
	uint64_t count;
	uint64_t step;

	if (job_user_id(job, first, &job->next) != 0 ||
	    job_number(job, "COUNT", job->args[0], PAIRS_MAX, &count) != 0)
		return;
	step = count;
	if (job->arg_count == 2 &&
	    job_number(job, "STEP", job->args[1], PAIRS_MAX, &step) != 0)
		return;
	if (count == 0 || step == 0 || job->next > USER_ID_MAX - count - step) {
		job_fail(job, JOB_USAGE, "--pairs: 1 to %d pairs of user ids",
		    PAIRS_MAX);
		return;
	}
	job->other = job->next + step;
	job->last = job->next + count - 1;
	job->op = op;
	pairs_next(job);
}

void
verb_contact_add(struct job *job)
{
	const char *first = job_option(job, "pairs");
	enum contact_op op = job_option(job, "one-way") != NULL
				 ? CONTACT_ADD_ONE_WAY
				 : CONTACT_ADD;

	if (first != NULL)
		many_pairs(job, first, op);
	else if (first == NULL && job->arg_count == 2)
		one_pair(job, op);
	else
		job_fail(job, JOB_USAGE,
		    "contact add: needs A B, or --pairs FIRST COUNT [STEP]");
}

void
verb_contact_remove(struct job *job)
{
	one_pair(job, CONTACT_REMOVE);
}

/* ---- reading ---- */

static const struct {
	uint32_t flag;
	const char *name;
} flag_names[] = {
    {CONTACT_LISTED, "listed"},
    {CONTACT_LISTED_BY, "listed_by"},
    {CONTACT_TALKED, "talked"},
    {CONTACT_BLOCKING, "blocking"},
    {CONTACT_BLOCKED_BY, "blocked_by"},
};

struct contact_page {
	struct job *job;
	uint64_t left;
	uint64_t last_id;
	bool has_more;
};

static bool
list_one(void *ctx, uint64_t other, uint32_t flags)
{
	struct contact_page *page = ctx;
	struct buf *fields = &page->job->fields;
	struct buf *text = &page->job->text;

	if (page->left == 0) {
		page->has_more = true;
		return false;
	}
	page->left--;
	page->last_id = other;
	json_object_begin(fields);
	json_put_u64(fields, "id", other);
	buf_printf(text, "%llu\t", (unsigned long long)other);
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]);
	     i++) {
		bool is_set = (flags & flag_names[i].flag) != 0;

		json_put_bool(fields, flag_names[i].name, is_set);
		if (is_set)
			buf_printf(text, " %s", flag_names[i].name);
	}
	buf_add_char(text, '\n');
	json_object_end(fields);
	return true;
}

void
verb_contact_list(struct job *job)
{
	struct contact_page page = {.job = job};
	struct txn txn = {0};
	struct user row;
	uint64_t user;
	uint64_t cursor;
	int rc;

	if (job_user_id(job, job->args[0], &user) != 0 ||
	    job_page(job, &page.left, &cursor) != 0 ||
	    job_read_begin(job, &txn) != 0)
		return;
	rc = users_get(&txn, user, &row);
	if (rc == 0) {
		json_key(&job->fields, "contacts");
		json_array_begin(&job->fields);
		rc = contact_each(&txn, user, cursor, list_one, &page);
		json_array_end(&job->fields);
	}
	txn_end(&txn);
	if (rc == ERR_NOT_FOUND) {
		job_fail(job, JOB_FAILED, "there is no user %llu",
		    (unsigned long long)user);
		return;
	}
	if (rc != 0) {
		job_fail_rc(job, rc);
		return;
	}
	json_key(&job->fields, "next_cursor");
	if (page.has_more)
		json_u64(&job->fields, page.last_id);
	else
		json_null(&job->fields);
	job_finish(job);
}
