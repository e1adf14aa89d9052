/*
 * mssql_user.c - one user out of SQL Server, and changes to him.
 *
 * Role:    UPDATE, and USER where no list answers it: one question about a
 *          user who does not exist for all who ask, now and a little later.
 * Process: directory; calls on a thread of the pool, the rest is the loop's.
 * Blocks:  those threads.
 * Trust:   rows are checked (mssql_people.c). What one user was answered is
 *          never given to another; that there is nobody is the same for all.
 * See:     mssql_users.c, absent.h, t/unit/dir_mssql.c.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "directory/dir_mssql_priv.h"
#include "directory/mssql_people.h"
#include "shm/users.h"

#define PRIMARY_MS 10000 /* a replica may be so far behind */

/* A question about one user, or a change. */
struct errand {
	struct mssql_job job; /* first: its functions get this one */
	struct dir_backend *backend;
	struct dir_request *request;
	dir_done_fn done;
	bool is_stranger;
	bool is_hidden; /* he blocks the asker: the database was not asked */
	struct absent_waiter waiter;
	struct mssql_people people;
};

static void
errand_end(struct errand *errand, int rc)
{
	errand->done(errand->request, mssql_asker_rc(rc));
	mssql_people_fini(&errand->people);
	free(errand);
}

static void
errand_start(struct errand *errand, const struct mssql_procedure *procedure)
{
	int64_t retry_after_ms = 0;

	errand->job.deadline_ms = errand->request->deadline_ms;
	if (procedure->name == NULL ||
	    mssql_pool_submit(
		errand->backend->pool, &errand->job, &retry_after_ms) != 0) {
		errand->job.rc = ERR_UNAVAILABLE;
		errand->job.done(&errand->job);
	}
}

static const struct mssql_procedure *
user_procedure(const struct dir_backend *backend)
{
	return &backend->names->procedures[MSSQL_PROC_user];
}

/* Has he blocked the asker? Only the store knows. */
static int
is_blocked(const struct dir_backend *backend, const struct dir_request *request,
    bool *out)
{
	struct txn txn = {0};
	uint32_t flags = 0;
	int rc;

	rc = store_begin_read(backend->host->store, &txn);
	if (rc == 0)
		rc = contact_get(&txn, request->asker, request->user, &flags);
	txn_end(&txn);
	*out = (flags & CONTACT_BLOCKED_BY) != 0;
	return rc;
}

/* mssql_run_fn */
static int
user_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct errand *errand = (struct errand *)job;
	const struct dir_request *request = errand->request;
	int rc = 0;

	mssql_people_fini(&errand->people);
	if (errand->is_stranger)
		rc = is_blocked(errand->backend, request, &errand->is_hidden);
	if (rc != 0 || errand->is_hidden)
		return rc;
	return mssql_people_fetch(&errand->people, conn,
	    user_procedure(errand->backend), request->user,
	    job->call_deadline_ms);
}

static int
user_answer(struct errand *errand)
{
	struct dir_request *request = errand->request;
	const struct mssql_people *people = &errand->people;

	mssql_people_tell_skipped(people, user_procedure(errand->backend));
	if (people->count == 1 && people->persons[0].id == request->user)
		return mssql_people_answer(&request->answer, people,
		    people->persons, errand->is_stranger);
	/* Another than who was asked for is nobody's business. */
	return people->skipped > 0 || people->count > 0 ? ERR_UNAVAILABLE
							: ERR_NOT_FOUND;
}

/* mssql_done_fn */
static void
user_done(struct mssql_job *job)
{
	struct errand *errand = (struct errand *)job;
	int rc = errand->job.rc == 0 ? user_answer(errand) : errand->job.rc;

	errand_end(errand, rc);
}

/* mssql_done_fn, of the first who asks about him while nobody knows */
static void
user_done_first(struct mssql_job *job)
{
	struct errand *errand = (struct errand *)job;
	struct dir_backend *backend = errand->backend;
	uint64_t user = errand->request->user;
	bool is_hidden = errand->is_hidden;
	int rc = errand->job.rc == 0 ? user_answer(errand) : errand->job.rc;

	errand_end(errand, rc);
	/* Who blocks somebody exists. */
	absent_end(backend->absent, user, is_hidden ? 0 : mssql_asker_rc(rc),
	    clock_mono_ms());
	if (rc == 0)
		absent_forget(backend->absent, user);
}

/* absent_waiter's go: if there is such a user, each asks for what he may see
 * of him. */
static void
user_go(struct absent_waiter *waiter, int rc)
{
	struct errand *errand =
	    (struct errand *)((char *)waiter - offsetof(struct errand, waiter));

	if (rc == 0)
		errand_start(errand, user_procedure(errand->backend));
	else
		errand_end(errand, rc);
}

void
mssql_user_ask(struct dir_backend *backend, struct dir_request *request,
    dir_done_fn done, bool is_stranger)
{
	bool is_urgent = request->is_lesson && request->is_refresh;
	struct errand *errand;

	if (!is_urgent &&
	    absent_has(backend->absent, request->user, clock_mono_ms())) {
		COUNT(directory_cache_absent);
		done(request, ERR_NOT_FOUND);
		return;
	}
	errand = xcalloc(1, sizeof(*errand));

	errand->backend = backend;
	errand->request = request;
	errand->done = done;
	errand->is_stranger = is_stranger;
	errand->job.done = user_done;
	errand->job.run = user_run;
	/* Who was made just now must not look like one who is gone. */
	errand->job.place =
	    request->is_lesson ? MSSQL_PRIMARY : mssql_read_place(backend);
	errand->job.is_idempotent = true;
	errand->waiter.go = user_go;
	if (!absent_begin(backend->absent, request->user, &errand->waiter))
		return;
	errand->job.done = user_done_first;
	errand_start(errand, user_procedure(backend));
}

static const struct mssql_procedure *
update_procedure(const struct dir_backend *backend)
{
	return &backend->names->procedures[MSSQL_PROC_update_user];
}

/* mssql_run_fn: what is not changed is not passed. Not run again on its own: a
 * later change may have been made meanwhile. */
static int
update_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct errand *errand = (struct errand *)job;
	const struct dir_request *request = errand->request;
	const struct mssql_procedure *procedure =
	    update_procedure(errand->backend);
	struct tds_param params[3];
	size_t count = 0;
	int rc;

	params[count++] =
	    tds_i64(procedure->params[MSSQL_FIELD_id], (int64_t)request->asker);
	if ((request->flags & USER_PUT_NAME) != 0)
		params[count++] = tds_text(procedure->params[MSSQL_FIELD_name],
		    request->name, request->name_len);
	if ((request->flags & USER_PUT_PROFILE) != 0)
		params[count++] =
		    request->profile_len > 0
			? tds_text(procedure->params[MSSQL_FIELD_profile],
			      request->profile, request->profile_len)
			: tds_text(procedure->params[MSSQL_FIELD_profile], "{}",
			      2); /* NULL would be: as it was */
	rc = tds_call(conn, &(struct tds_call){procedure->name, params, count,
				job->call_deadline_ms});
	rc = tds_finish(conn, rc);
	if (rc == 0 && tds_status(conn) != 0)
		rc = ERR_SERVER_ERROR;
	return rc;
}

/* mssql_done_fn */
static void
update_done(struct mssql_job *job)
{
	struct errand *errand = (struct errand *)job;

	errand->backend->primary_until_ms = clock_mono_ms() + PRIMARY_MS;
	mssql_users_forget(errand->backend, errand->request->asker);
	errand_end(errand, errand->job.rc);
}

/* Can the installation's procedure be told it? */
static bool
is_known_change(
    const struct mssql_procedure *procedure, const struct dir_request *request)
{
	return ((request->flags & USER_PUT_NAME) == 0 ||
		   procedure->params[MSSQL_FIELD_name] != NULL) &&
	       ((request->flags & USER_PUT_PROFILE) == 0 ||
		   procedure->params[MSSQL_FIELD_profile] != NULL);
}

void
mssql_update(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	struct errand *errand;

	if (!is_known_change(update_procedure(backend), request) ||
	    (request->name_len > 0 &&
		memchr(request->name, '\0', request->name_len) != NULL)) {
		done(request, ERR_BAD_REQUEST);
		return;
	}
	errand = xcalloc(1, sizeof(*errand));
	errand->backend = backend;
	errand->request = request;
	errand->done = done;
	errand->job.done = update_done;
	errand->job.run = update_run;
	errand->job.place = MSSQL_PRIMARY;
	errand_start(errand, update_procedure(backend));
}
