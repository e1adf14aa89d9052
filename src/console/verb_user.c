/*
 * verb_user.c - users of the embedded directory.
 *
 * Role:    user add, list, passwd, remove, show.
 * Process: console; reads the store, asks the keeper to write.
 * Blocks:  on a page of the store that is not in memory.
 * Trust:   passwords arrive as hashes, made by parleyctl.
 * See:     verbs.def, keeper/apply_user.c.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/password.h"
#include "console/verb.h"
#include "shm/records.h"
#include "shm/store.h"
#include "shm/users.h"

#define RANGE_PIECE 500      /* users per record: short slices of the keeper */
#define RANGE_MAX   10000000 /* users of one request */
#define HASH_PREFIX "$scrypt$"

static unsigned long long
first_id(const struct job *job)
{
	return (unsigned long long)job->next;
}

/* ---- one record ---- */

static void
user_put_done(struct job *job, const struct keeper_answer *answer)
{
	if (answer->rc == ERR_CONFLICT)
		job_fail(
		    job, JOB_FAILED, "user %llu exists already", first_id(job));
	else if (answer->rc == ERR_NOT_FOUND)
		job_fail(
		    job, JOB_FAILED, "there is no user %llu", first_id(job));
	else if (answer->rc != 0)
		job_fail_rc(job, answer->rc);
	else {
		json_put_u64(&job->fields, "id", job->next);
		job_finish(job);
	}
}

/* name and hash: NULL for "as it is". */
static void
user_put(struct job *job, uint64_t user, uint32_t flags, const char *name,
    const char *hash)
{
	struct record_user_put record = {.user = user, .flags = flags};
	struct buf payload = {0};

	if (name != NULL) {
		record.flags |= USER_PUT_NAME;
		record.name_len = (uint16_t)strlen(name);
	}
	if (hash != NULL) {
		record.flags |= USER_PUT_PASSWORD;
		record.password_len = (uint16_t)strlen(hash);
	}
	buf_add(&payload, &record, sizeof(record));
	buf_add(&payload, name, record.name_len);
	buf_add(&payload, hash, record.password_len);
	job->next = user;
	job_ask(job, RECORD_USER_PUT, payload.data, payload.len, user_put_done);
	buf_fini(&payload);
}

static bool
is_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return false;
	}
	return true; /* UTF-8: the JSON reader has seen to that */
}

/* @return 0 (NULL: none given), else the job has failed */
static int
take_hash(struct job *job, const char **hash_out)
{
	const char *hash = job_option(job, "password-hash");

	*hash_out = hash;
	if (hash == NULL)
		return 0;
	if (strncmp(hash, HASH_PREFIX, sizeof(HASH_PREFIX) - 1) == 0 &&
	    strlen(hash) < PASSWORD_HASH_MAX)
		return 0;
	job_fail(job, JOB_USAGE, "the password's hash is malformed");
	return ERR_BAD_REQUEST;
}

void
verb_user_passwd(struct job *job)
{
	const char *hash;
	uint64_t user;

	if (job_user_id(job, job->args[0], &user) != 0 ||
	    take_hash(job, &hash) != 0)
		return;
	if (hash == NULL) {
		job_fail(job, JOB_USAGE, "user passwd: needs --password-stdin");
		return;
	}
	user_put(job, user, 0, NULL, hash);
}

void
verb_user_remove(struct job *job)
{
	uint64_t user;

	if (job_user_id(job, job->args[0], &user) == 0)
		user_put(job, user, USER_PUT_REMOVE, NULL, NULL);
}

/* ---- many ---- */

static void range_next(struct job *job);

static void
range_done(struct job *job, const struct keeper_answer *answer)
{
	if (answer->rc != 0) {
		job_fail(job, JOB_FAILED, "after %llu users: %s",
		    (unsigned long long)job->made, err_text(answer->rc));
		return;
	}
	job->made += answer->value;
	job->next += job->piece;
	range_next(job);
}

static void
range_next(struct job *job)
{
	struct record_user_range record = {.first = job->next};

	if (job->next > job->last) {
		json_put_u64(&job->fields, "created", job->made);
		buf_printf(&job->text, "%llu users created\n",
		    (unsigned long long)job->made);
		job_finish(job);
		return;
	}
	job->piece = RANGE_PIECE;
	if (job->last - job->next < RANGE_PIECE)
		job->piece = (uint32_t)(job->last - job->next) + 1;
	record.last = job->next + job->piece - 1;
	job_ask(job, RECORD_USER_RANGE, &record, sizeof(record), range_done);
}

static void
add_range(struct job *job, const char *range)
{
	char first[24];
	const char *dash = strchr(range, '-');

	if (dash == NULL || (size_t)(dash - range) >= sizeof(first)) {
		job_fail(job, JOB_USAGE, "--range: must be FIRST-LAST");
		return;
	}
	snprintf(first, sizeof(first), "%.*s", (int)(dash - range), range);
	if (job_user_id(job, first, &job->next) != 0 ||
	    job_user_id(job, dash + 1, &job->last) != 0)
		return;
	if (job->last < job->next || job->last - job->next >= RANGE_MAX) {
		job_fail(job, JOB_USAGE,
		    "--range: 1 to %d users, the lower id first", RANGE_MAX);
		return;
	}
	range_next(job);
}

void
verb_user_add(struct job *job)
{
	const char *range = job_option(job, "range");
	const char *hash;
	uint64_t user;

	if (range != NULL && job->arg_count == 0) {
		add_range(job, range);
		return;
	}
	if (range != NULL || job->arg_count != 2) {
		job_fail(job, JOB_USAGE,
		    "user add: needs ID NAME, or --range alone");
		return;
	}
	if (job_user_id(job, job->args[0], &user) != 0 ||
	    take_hash(job, &hash) != 0)
		return;
	if (!is_name(job->args[1])) {
		job_fail(job, JOB_USAGE,
		    "a name has 1 to %d bytes and no control characters",
		    NAME_MAX_BYTES);
		return;
	}
	user_put(job, user, USER_PUT_NEW, job->args[1], hash);
}

/* ---- reading ---- */

static void
put_user(struct job *job, const struct user *user)
{
	struct buf *fields = &job->fields;

	json_put_u64(fields, "id", user->id);
	json_put_string(fields, "name", user->name.data, user->name.len);
	json_put_string(fields, "role", user->role.data, user->role.len);
	json_put_bool(fields, "has_password", user->password.len > 0);
	json_put_i64(fields, "created_ms", user->created_ms);
	buf_printf(&job->text, "%llu\t%.*s%s\n", (unsigned long long)user->id,
	    (int)user->name.len, (const char *)user->name.data,
	    user->password.len > 0 ? "" : "\t(no password)");
}

struct user_page {
	struct job *job;
	uint64_t left;
	uint64_t last_id;
	bool has_more;
};

static bool
list_one(void *ctx, const struct user *user)
{
	struct user_page *page = ctx;

	if (page->left == 0) {
		page->has_more = true;
		return false;
	}
	page->left--;
	page->last_id = user->id;
	json_object_begin(&page->job->fields);
	put_user(page->job, user);
	json_object_end(&page->job->fields);
	return true;
}

void
verb_user_list(struct job *job)
{
	struct user_page page = {.job = job};
	struct txn txn = {0};
	uint64_t cursor;
	int rc;

	if (job_page(job, &page.left, &cursor) != 0 ||
	    job_read_begin(job, &txn) != 0)
		return;
	json_key(&job->fields, "users");
	json_array_begin(&job->fields);
	rc = users_each(&txn, cursor, list_one, &page);
	json_array_end(&job->fields);
	txn_end(&txn);
	if (rc != 0) {
		job_fail_rc(job, rc);
		return;
	}
	json_key(&job->fields, "next_cursor");
	if (page.has_more) {
		json_u64(&job->fields, page.last_id);
		buf_printf(&job->text, "more: --cursor %llu\n",
		    (unsigned long long)page.last_id);
	} else {
		json_null(&job->fields);
	}
	job_finish(job);
}

void
verb_user_show(struct job *job)
{
	struct txn txn = {0};
	struct user user;
	uint64_t id;
	int rc;

	if (job_user_id(job, job->args[0], &id) != 0 ||
	    job_read_begin(job, &txn) != 0)
		return;
	rc = users_get(&txn, id, &user);
	if (rc == 0) {
		json_key(&job->fields, "user");
		json_object_begin(&job->fields);
		put_user(job, &user);
		json_object_end(&job->fields);
		job_finish(job);
	} else if (rc == ERR_NOT_FOUND) {
		job_fail(job, JOB_FAILED, "there is no user %llu",
		    (unsigned long long)id);
	} else {
		job_fail_rc(job, rc);
	}
	txn_end(&txn);
}
