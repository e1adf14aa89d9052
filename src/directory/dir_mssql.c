/*
 * dir_mssql.c - users and records that are in SQL Server.
 *
 * Role:    the back end's life and its writing: what the outbox brings goes to
 *          a thread that has a connection, one batch at a time, in order.
 * Process: directory; this file runs on the loop's thread but for write_run.
 * Blocks:  never; the pool's threads do.
 * Trust:   see mssql_write.c. The server's errors are told by number, never
 *          with its text.
 * See:     dir.h, mssql_password.c, mssql_users.c, mssql_pool.h,
 *          doc/decisions/029, t/unit/dir_mssql.c.
 */
#include "config.h"

#include "directory/dir_mssql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/dir_mssql_priv.h"
#include "shm/meta.h"
#include "tds/tds_conf.h"

#define ABSENT_MAX    8192
#define ABSENT_MS     10000 /* or [directory] cache_ttl, if that is less */
#define PASSWORDS_MAX 256   /* that wait for scrypt; more: UNAVAILABLE */

/* ---- for all files of it ---- */

int
mssql_asker_rc(int rc)
{
	if (rc == 0 || rc == ERR_NOT_FOUND || rc == ERR_AUTH_FAILED)
		return rc;
	return ERR_UNAVAILABLE;
}

int
mssql_row_id(struct tds_conn *conn, const char *column, uint64_t *out)
{
	int64_t id;
	int rc;

	rc = tds_get_i64(conn, column, &id);
	if (rc != 0)
		return rc;
	if (id <= 0 || (uint64_t)id > USER_ID_MAX)
		return ERR_SERVER_ERROR;
	*out = (uint64_t)id;
	return 0;
}

int
mssql_row_has(struct tds_conn *conn, const char *column, bool *out)
{
	bool is_null = true;
	int rc = 0;

	if (column != NULL)
		rc = tds_get_is_null(conn, column, &is_null);
	*out = !is_null;
	return rc;
}

int
mssql_row_is_active(struct tds_conn *conn, const char *column, bool *out)
{
	*out = true;
	return column != NULL ? tds_get_bit(conn, column, out) : 0;
}

enum mssql_place
mssql_read_place(const struct dir_backend *backend)
{
	return clock_mono_ms() < backend->primary_until_ms ? MSSQL_PRIMARY
							   : MSSQL_REPLICA;
}

/* ---- writing ---- */

/* What an operator can do about it. */
static const char *
advice(int32_t number)
{
	switch (number) {
	case 0: /* ours */
		return "it is not written as etc/mssql says";
	case 201:
	case 8144:
	case 8145:
		return "name its parameters in [mssql_procedures] write_batch";
	case 229:
	case 230:
		return "grant EXECUTE on it to the login of [mssql] user";
	case 2812:
		return "create it (etc/mssql), or name yours in "
		       "[mssql_procedures] write_batch";
	default:
		return "look the number up in sys.messages";
	}
}

/* Said once, and once more when it is over: the outbox tries again and again.
 * The error's number is what tells two troubles apart; ours has none. */
static void
tell_trouble(struct dir_backend *backend, const struct tds_error *error)
{
	bool is_trouble = error->class == TDS_CLASS_BAD_SETUP;
	int32_t number = error->number != 0 ? error->number : -1;
	char text[512];

	if (!is_trouble) {
		if (error->class == TDS_CLASS_NONE &&
		    backend->trouble_number != 0) {
			log_info(NULL, "mssql-setup-right", "procedure=%s",
			    backend->write.procedure->name);
			backend->trouble_number = 0;
		}
	} else if (backend->trouble_number != number) {
		log_error(NULL, "mssql-setup-wrong",
		    "%s; nothing is written to the database until it is put "
		    "right: %s",
		    tds_error_text(error, text, sizeof(text)),
		    advice(error->number));
		backend->trouble_number = number;
	}
	GAUGE_SET(mssql_setup_wrong, backend->trouble_number != 0);
}

static int
epoch_get(struct dir_backend *backend)
{
	struct txn txn = {0};
	struct meta meta;
	int rc;

	rc = store_begin_read(backend->host->store, &txn);
	if (rc == 0)
		rc = meta_get(&txn, &meta);
	txn_end(&txn);
	if (rc == 0)
		backend->write.epoch = meta.epoch;
	return rc;
}

static struct dir_backend *
backend_of(struct mssql_job *job)
{
	return (struct dir_backend *)(void *)((char *)job -
					      offsetof(struct dir_backend,
						  write_job));
}

/* mssql_run_fn */
static int
write_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct dir_backend *backend = backend_of(job);
	int rc = 0;

	if (backend->write.epoch == 0)
		rc = epoch_get(backend);
	if (rc == 0)
		rc = mssql_write_run(&backend->write, backend->batch, conn);
	return rc;
}

static void
write_end(struct dir_backend *backend, int rc)
{
	struct batch *batch = backend->batch;

	backend->batch = NULL;
	backend->written(batch, rc);
}

/* mssql_done_fn */
static void
write_done(struct mssql_job *job)
{
	struct dir_backend *backend = backend_of(job);
	int rc = job->rc;

	COUNT_ADD(
	    mssql_rows_known, backend->write.known - backend->known_counted);
	backend->known_counted = backend->write.known;
	if (rc == 0 || backend->write_job.error.class != TDS_CLASS_NONE ||
	    rc == ERR_SERVER_ERROR)
		tell_trouble(backend, &backend->write.trouble);
	write_end(backend, rc);
}

static void
mssql_write(
    struct dir_backend *backend, struct batch *batch, dir_written_fn done)
{
	struct mssql_job *job = &backend->write_job;
	int64_t retry_after_ms = 0;

	if (backend->batch != NULL)
		panic("two batches are written to SQL Server at once");
	backend->batch = batch;
	backend->written = done;
	*job = (struct mssql_job){
	    .run = write_run,
	    .done = write_done,
	    .deadline_ms = INT64_MAX,
	    .place = MSSQL_PRIMARY,
	};
	if (mssql_pool_submit(backend->pool, job, &retry_after_ms) != 0)
		write_end(backend, ERR_UNAVAILABLE);
}

/* ---- life ---- */

static int64_t
mssql_turn(struct dir_backend *backend)
{
	int64_t login_at_ms = mssql_password_turn(backend);
	int64_t changes_at_ms = mssql_changes_turn(backend);
	int64_t pool_at_ms = clock_mono_ms() + mssql_pool_turn(backend->pool);
	int64_t at_ms = login_at_ms < pool_at_ms ? login_at_ms : pool_at_ms;

	return changes_at_ms < at_ms ? changes_at_ms : at_ms;
}

/* @return false: a thread is stuck */
static bool
mssql_close(struct dir_backend **backend, int64_t until_ms)
{
	struct dir_backend *old = *backend;
	bool has_ended = true;

	if (old == NULL)
		return true;
	mssql_password_stop(old);
	if (old->pool != NULL && !mssql_pool_stop(&old->pool, until_ms))
		has_ended = false;
	pool_results_collect(old->host->results);
	if (old->passwords != NULL && !pool_stop(&old->passwords, until_ms))
		has_ended = false;
	pool_results_collect(old->host->results);
	if (!has_ended)
		return false;
	verifiers_free(&old->verifiers);
	absent_free(&old->absent);
	mssql_changes_free(old);
	mssql_users_fini(old);
	mssql_write_fini(&old->write);
	mssql_names_free(&old->names);
	if (old->has_library)
		tds_stop();
	free(old);
	*backend = NULL;
	return true;
}

static int
library_start(struct dir_backend *backend, char *error, size_t error_len)
{
	int rc;

	rc = tds_start();
	if (rc != 0)
		snprintf(
		    error, error_len, "cannot start FreeTDS: %s", err_text(rc));
	backend->has_library = rc == 0;
	return rc;
}

/* The settings that a start rests on. */
static int
names_read(const struct conf *conf, struct mssql_names **names_out, char *error,
    size_t error_len)
{
	int rc = tds_conf_check(conf, error, error_len);

	if (rc == 0)
		rc = mssql_names_new(conf, names_out, error, error_len);
	return rc;
}

static int
mssql_check(const struct conf *conf, char *error, size_t error_len)
{
	struct mssql_names *names = NULL;
	int rc = names_read(conf, &names, error, error_len);

	mssql_names_free(&names);
	return rc;
}

static struct absent *
absent_open(const struct conf *conf)
{
	int64_t ttl_ms = conf->directory_cache_ttl;
	const struct absent_config config = {
	    .ttl_ms = ttl_ms < ABSENT_MS ? ttl_ms : ABSENT_MS,
	    .max = ABSENT_MAX,
	};

	return absent_new(&config);
}

static int
mssql_open(const struct dir_host *host, struct dir_backend **backend_out,
    char *error, size_t error_len)
{
	struct dir_backend *backend = xcalloc(1, sizeof(*backend));
	int rc;

	backend->host = host;
	backend->absent = absent_open(host->conf);
	TAILQ_INIT(&backend->logins);
	LIST_INIT(&backend->living_logins);
	TAILQ_INIT(&backend->list_order);
	rc = names_read(host->conf, &backend->names, error, error_len);
	if (rc == 0)
		rc = library_start(backend, error, error_len);
	if (rc == 0)
		rc = mssql_pool_new(host->conf, host->results, &backend->pool,
		    error, error_len);
	if (rc == 0) {
		rc = pool_new("dir-password",
		    (int)host->conf->auth_password_threads, PASSWORDS_MAX,
		    host->results, &backend->passwords);
		if (rc != 0)
			snprintf(error, error_len,
			    "cannot start the directory's threads: %s",
			    err_text(rc));
	}
	if (rc != 0) {
		mssql_close(&backend, INT64_MAX);
		return rc;
	}
	backend->write.procedure =
	    &backend->names->procedures[MSSQL_PROC_write_batch];
	backend->write.call_ms = host->conf->mssql_query_timeout;
	mssql_changes_new(backend);
	*backend_out = backend;
	return 0;
}

const struct dir_ops dir_mssql_ops = {
    .name = "mssql",
    .reads_store = true,
    .is_remote = true,
    .check = mssql_check,
    .open = mssql_open,
    .run =
	{
	    [DIR_OP_HISTORY] = mssql_history,
	    [DIR_OP_PASSWORD] = mssql_password,
	    [DIR_OP_UPDATE] = mssql_update,
	    [DIR_OP_USER] = mssql_users,
	    [DIR_OP_USERS] = mssql_users,
	},
    .forget = mssql_users_forget,
    .turn = mssql_turn,
    .write_batch = mssql_write,
    .close = mssql_close,
};
