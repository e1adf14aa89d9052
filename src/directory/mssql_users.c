/*
 * mssql_users.c - users and lists of users out of SQL Server.
 *
 * Role:    USERS and USER. A list is fetched whole, by one call for all who ask
 *          at once, and kept while its pages are asked for; who is not on it is
 *          asked for by himself (mssql_user.c).
 * Process: directory; rows are read on a thread of the pool, the rest is the
 *          loop's.
 * Blocks:  those threads.
 * Trust:   rows are checked (mssql_people.c). What one user was answered is
 *          never given to another.
 * See:     dir_mssql.c, cache.h (which keeps the pages), t/unit/dir_mssql.c.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "base/clock.h"
#include "base/mem.h"
#include "directory/dir_mssql_priv.h"
#include "directory/mssql_people.h"
#include "shm/users.h"

/* Of its further pages; as an answer of its own no longer than [directory]
 * cache_ttl. */
#define LIST_KEEP_MS 30000
#define SLICE_ROWS   4096 /* contacts looked at in one transaction */

struct waiter {
	STAILQ_ENTRY(waiter) link;
	struct dir_request *request;
	dir_done_fn done;
};

struct mssql_list {
	struct mssql_job job; /* first: its functions get this one */
	struct dir_backend *backend;
	uint64_t asker;
	bool is_kept; /* false: it is being fetched */
	bool is_old;  /* fetched before a change: in nobody's table */
	int64_t fetched_ms;
	struct mssql_people people;
	STAILQ_HEAD(, waiter) waiters;
	TAILQ_ENTRY(mssql_list) link;
	UT_hash_handle hh;
};

/* ---- kept lists ---- */

static size_t
list_bytes(const struct mssql_list *list)
{
	return sizeof(*list) + list->people.text.cap +
	       list->people.room * sizeof(*list->people.persons);
}

static void
list_drop(struct dir_backend *backend, struct mssql_list *list)
{
	backend->list_bytes -= list_bytes(list);
	TAILQ_REMOVE(&backend->list_order, list, link);
	HASH_DEL(backend->lists, list);
	mssql_people_fini(&list->people);
	free(list);
}

/* He has changed: lists that he is in are fetched anew. One that is under way
 * may be from before it: it answers who waits for it, nobody else. */
void
mssql_users_forget(struct dir_backend *backend, uint64_t user)
{
	struct mssql_list *list;
	struct mssql_list *next;

	absent_forget(backend->absent, user);
	HASH_ITER(hh, backend->lists, list, next)
	{
		if (!list->is_kept) {
			HASH_DEL(backend->lists, list);
			list->is_old = true;
		} else if (list->asker == user ||
			   mssql_people_find(&list->people, user) != NULL) {
			list_drop(backend, list);
		}
	}
}

/* ---- lists ---- */

static const struct mssql_procedure *
list_procedure(const struct dir_backend *backend)
{
	return &backend->names->procedures[MSSQL_PROC_user_list];
}

static int
page(const struct mssql_list *list, struct dir_request *request)
{
	const struct mssql_people *people = &list->people;
	struct dir_answer *answer = &request->answer;
	size_t at = mssql_people_above(people, request->cursor);
	uint64_t given = 0;

	answer->is_partial = people->skipped > 0;
	for (; at < people->count; at++) {
		const struct mssql_person *person = &people->persons[at];
		int rc = ERR_FULL;

		if (person->id == request->asker)
			continue;
		if (answer->user_count < request->limit)
			rc = mssql_people_answer(answer, people, person, false);
		if (rc == ERR_FULL) {
			answer->next_cursor = given;
			return 0;
		}
		if (rc == 0)
			given = person->id;
		else if (rc == ERR_TOO_LARGE)
			answer->is_partial = true;
		else
			return rc;
	}
	return 0;
}

/* Who is on the list is answered from it; of others one sees what the policy
 * says, and who one may not see looks like one who does not exist. */
static void
answer_user(
    struct mssql_list *list, struct dir_request *request, dir_done_fn done)
{
	struct dir_backend *backend = list->backend;
	const struct mssql_person *person =
	    mssql_people_find(&list->people, request->user);

	if (person != NULL)
		done(request,
		    mssql_asker_rc(mssql_people_answer(
			&request->answer, &list->people, person, false)));
	else if (strcmp(backend->host->conf->policy_may_message, "anyone") == 0)
		mssql_user_ask(backend, request, done, true);
	else
		done(request, ERR_NOT_FOUND);
}

static void
list_answer(
    struct mssql_list *list, struct dir_request *request, dir_done_fn done)
{
	if (request->op == DIR_OP_USER) {
		answer_user(list, request, done);
		return;
	}
	done(request, mssql_asker_rc(page(list, request)));
}

struct sieve {
	struct mssql_people *people;
	uint64_t visited; /* last contact looked at */
	unsigned rows;    /* in this transaction */
};

static bool
sieve_visit(void *ctx, uint64_t other, uint32_t flags)
{
	struct sieve *sieve = ctx;

	if ((flags & CONTACT_BLOCKED_BY) != 0)
		mssql_people_remove(sieve->people, other);
	sieve->visited = other;
	sieve->rows++;
	return sieve->rows < SLICE_ROWS;
}

/* Who blocks the asker looks like one who does not exist. Blocks are in the
 * store, whatever the database has on its lists. */
static int
remove_blockers(struct mssql_list *list)
{
	struct sieve sieve = {.people = &list->people};
	int rc;

	do {
		struct txn txn = {0};

		sieve.rows = 0;
		rc = store_begin_read(list->backend->host->store, &txn);
		if (rc == 0)
			rc = contact_each(&txn, list->asker, sieve.visited,
			    sieve_visit, &sieve);
		txn_end(&txn);
	} while (rc == 0 && sieve.rows == SLICE_ROWS);
	return rc;
}

/* mssql_run_fn; the hash table is the loop's, the list is ours meanwhile */
static int
list_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct mssql_list *list = (struct mssql_list *)job;
	int rc;

	rc = mssql_people_fetch(&list->people, conn,
	    list_procedure(list->backend), list->asker, job->call_deadline_ms);
	return rc == 0 ? remove_blockers(list) : rc;
}

static void
list_keep(struct mssql_list *list)
{
	struct dir_backend *backend = list->backend;
	size_t max = (size_t)backend->host->conf->directory_cache_size;

	list->is_kept = true;
	list->fetched_ms = clock_mono_ms();
	TAILQ_INSERT_HEAD(&backend->list_order, list, link);
	backend->list_bytes += list_bytes(list);
	while (backend->list_bytes > max)
		list_drop(backend,
		    TAILQ_LAST(&backend->list_order, mssql_list_order));
}

static void
list_seen(const struct mssql_list *list)
{
	struct absent *absent = list->backend->absent;

	for (size_t i = 0; absent_count(absent) > 0 && i < list->people.count;
	     i++)
		absent_forget(absent, list->people.persons[i].id);
}

static void
list_end(struct mssql_list *list, int rc)
{
	struct waiter *waiter;

	if (rc == 0) {
		mssql_people_tell_skipped(
		    &list->people, list_procedure(list->backend));
		list_seen(list);
	}
	while ((waiter = STAILQ_FIRST(&list->waiters)) != NULL) {
		STAILQ_REMOVE_HEAD(&list->waiters, link);
		if (rc == 0)
			list_answer(list, waiter->request, waiter->done);
		else
			waiter->done(waiter->request, ERR_UNAVAILABLE);
		free(waiter);
	}
	if (rc == 0 && !list->is_old) {
		list_keep(list);
		return;
	}
	if (!list->is_old)
		HASH_DEL(list->backend->lists, list);
	mssql_people_fini(&list->people);
	free(list);
}

/* mssql_done_fn */
static void
list_done(struct mssql_job *job)
{
	struct mssql_list *list = (struct mssql_list *)job;

	list_end(list, list->job.rc);
}

static void
list_wait(
    struct mssql_list *list, struct dir_request *request, dir_done_fn done)
{
	struct waiter *waiter = xcalloc(1, sizeof(*waiter));

	waiter->request = request;
	waiter->done = done;
	STAILQ_INSERT_TAIL(&list->waiters, waiter, link);
}

static void
list_fetch(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	struct mssql_list *list = xcalloc(1, sizeof(*list));
	int64_t retry_after_ms = 0;

	list->backend = backend;
	list->asker = request->asker;
	STAILQ_INIT(&list->waiters);
	HASH_ADD(hh, backend->lists, asker, sizeof(list->asker), list);
	list_wait(list, request, done);
	list->job.done = list_done;
	list->job.deadline_ms = request->deadline_ms;
	list->job.run = list_run;
	list->job.place = mssql_read_place(backend);
	list->job.is_idempotent = true;
	if (list_procedure(backend)->name == NULL ||
	    mssql_pool_submit(backend->pool, &list->job, &retry_after_ms) != 0)
		list_end(list, ERR_UNAVAILABLE);
}

/* Is what is kept good enough? The first page with Refresh is not. */
static bool
is_fresh(const struct mssql_list *list, const struct dir_request *request)
{
	int64_t ttl_ms = list->backend->host->conf->directory_cache_ttl;
	int64_t age_ms = clock_mono_ms() - list->fetched_ms;

	if (request->cursor != 0)
		return age_ms < LIST_KEEP_MS;
	return !request->is_refresh && age_ms < LIST_KEEP_MS && age_ms < ttl_ms;
}

void
mssql_users(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	struct mssql_list *list;

	if (request->op == DIR_OP_USER && request->user == request->asker) {
		mssql_user_ask(backend, request, done, false);
		return;
	}
	HASH_FIND(
	    hh, backend->lists, &request->asker, sizeof(request->asker), list);
	if (list != NULL && !list->is_kept) {
		list_wait(list, request, done);
		return;
	}
	if (list != NULL && is_fresh(list, request)) {
		list_answer(list, request, done);
		return;
	}
	if (list != NULL)
		list_drop(backend, list);
	list_fetch(backend, request, done);
}

void
mssql_users_fini(struct dir_backend *backend)
{
	while (!TAILQ_EMPTY(&backend->list_order))
		list_drop(backend, TAILQ_FIRST(&backend->list_order));
}
