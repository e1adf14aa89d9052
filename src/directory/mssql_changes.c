/*
 * mssql_changes.c - users who were changed in SQL Server by somebody else.
 *
 * Role:    asks from time to time who was changed since; of whom has a session
 *          here the directory is told, which looks him up anew: his name, his
 *          list, whether he is a user still. Others are looked up when they
 *          log in.
 * Process: directory; rows and store are read on a thread of the pool.
 * Blocks:  that thread.
 * Trust:   an answer is only a reason to look: nobody is changed or removed
 *          for being named in it.
 * See:     dir_mssql.c, roster.h, etc/mssql/002-procedures.sql,
 *          t/56-mssql-changes.t.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "directory/dir_mssql_priv.h"
#include "directory/mssql_row.h"
#include "shm/userhead.h"

#define INTERVAL_MIN_MS 1000
#define INTERVAL_MS     30000 /* without [directory] cache_ttl */
#define OVERLAP_MS      60000 /* clocks differ; rows are seen after their time */
#define CHANGES_MAX     100000 /* of one answer: the others log in some day */
#define SLICE_ROWS      4096   /* users looked up in one transaction */

struct mssql_changes {
	struct mssql_job job; /* first: its functions get this one */
	struct dir_backend *backend;
	bool is_running;
	int64_t next_at_ms; /* clock_mono_ms() */
	int64_t since_ms;   /* clock_wall_ms() */
	int64_t asked_ms;   /* of the answer that is under way */
	uint64_t *users;
	size_t count;
	size_t room;
};

static const struct mssql_procedure *
procedure_of(const struct dir_backend *backend)
{
	return &backend->names->procedures[MSSQL_PROC_changes];
}

static int64_t
interval_ms(const struct dir_backend *backend)
{
	int64_t ttl_ms = backend->host->conf->directory_cache_ttl;

	if (ttl_ms == 0)
		return INTERVAL_MS;
	return ttl_ms < INTERVAL_MIN_MS ? INTERVAL_MIN_MS : ttl_ms;
}

/* ---- on the thread ---- */

static void
add(struct mssql_changes *changes, uint64_t user)
{
	if (changes->count == changes->room) {
		changes->room = changes->room == 0 ? 64 : 2 * changes->room;
		changes->users = xrealloc(
		    changes->users, changes->room * sizeof(*changes->users));
	}
	changes->users[changes->count++] = user;
}

static int
read_rows(struct mssql_changes *changes, struct tds_conn *conn)
{
	const struct mssql_procedure *procedure =
	    procedure_of(changes->backend);
	uint64_t user;
	int rc;

	while ((rc = tds_next_row(conn)) == 0) {
		rc = mssql_row_id(
		    conn, procedure->columns[MSSQL_FIELD_id], &user);
		if (rc != 0)
			return rc;
		if (changes->count == CHANGES_MAX)
			return 0;
		add(changes, user);
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static bool
has_session(struct txn *txn, uint64_t user)
{
	struct userhead head;

	if (userhead_get(txn, user, &head) != 0)
		return false;
	for (int i = 0; i < head.row.device_count; i++) {
		if (head.devices[i].session != 0)
			return true;
	}
	return false;
}

/* Who has no session is taken out. */
static int
keep_present(struct mssql_changes *changes)
{
	size_t kept = 0;
	size_t at = 0;

	while (at < changes->count) {
		struct txn txn = {0};
		size_t end = at + SLICE_ROWS;
		int rc = store_begin_read(changes->backend->host->store, &txn);

		if (rc != 0)
			return rc;
		for (; at < changes->count && at < end; at++) {
			if (has_session(&txn, changes->users[at]))
				changes->users[kept++] = changes->users[at];
		}
		txn_end(&txn);
	}
	changes->count = kept;
	return 0;
}

/* mssql_run_fn: may run again, from the start */
static int
changes_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct mssql_changes *changes = (struct mssql_changes *)job;
	const struct mssql_procedure *procedure =
	    procedure_of(changes->backend);
	char since[MSSQL_TIME_LEN + 1];
	struct tds_param param;
	int rc;

	changes->count = 0;
	if (!mssql_time(changes->since_ms, since))
		return ERR_SERVER_ERROR;
	param = tds_ascii(
	    procedure->params[MSSQL_FIELD_since], since, strlen(since));
	rc = tds_call(conn, &(struct tds_call){procedure->name, &param, 1,
				job->call_deadline_ms});
	if (rc == 0)
		rc = read_rows(changes, conn);
	rc = tds_finish(conn, rc);
	return rc == 0 ? keep_present(changes) : rc;
}

/* ---- on the loop ---- */

/* mssql_done_fn */
static void
changes_done(struct mssql_job *job)
{
	struct mssql_changes *changes = (struct mssql_changes *)job;
	const struct dir_host *host = changes->backend->host;

	changes->is_running = false;
	if (job->rc != 0)
		return; /* the same time is asked for once more */
	changes->since_ms = changes->asked_ms - OVERLAP_MS;
	for (size_t i = 0; i < changes->count; i++) {
		COUNT(mssql_users_changed);
		if (host->changed != NULL)
			host->changed(host->changed_ctx, changes->users[i]);
	}
}

void
mssql_changes_new(struct dir_backend *backend)
{
	struct mssql_changes *changes = xcalloc(1, sizeof(*changes));

	changes->backend = backend;
	changes->next_at_ms = clock_mono_ms() + interval_ms(backend);
	changes->since_ms = clock_wall_ms() - OVERLAP_MS;
	backend->changes = changes;
}

int64_t
mssql_changes_turn(struct dir_backend *backend)
{
	struct mssql_changes *changes = backend->changes;
	int64_t now_ms = clock_mono_ms();
	int64_t retry_after_ms = 0;

	if (procedure_of(backend)->name == NULL || changes->is_running)
		return INT64_MAX;
	if (now_ms < changes->next_at_ms)
		return changes->next_at_ms;
	changes->next_at_ms = now_ms + interval_ms(backend);
	changes->asked_ms = clock_wall_ms();
	changes->job = (struct mssql_job){
	    .run = changes_run,
	    .done = changes_done,
	    .deadline_ms = changes->next_at_ms,
	    .place = MSSQL_REPLICA,
	    .is_idempotent = true,
	};
	changes->is_running = mssql_pool_submit(backend->pool, &changes->job,
				  &retry_after_ms) == 0;
	return changes->is_running ? INT64_MAX : changes->next_at_ms;
}

void
mssql_changes_free(struct dir_backend *backend)
{
	if (backend->changes == NULL)
		return;
	free(backend->changes->users);
	free(backend->changes);
	backend->changes = NULL;
}
