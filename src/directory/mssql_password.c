/*
 * mssql_password.c - logins by name and password, of users in SQL Server.
 *
 * Role:    asks for the name's row; checks the hash here, or has the database
 *          say that the password is right: [mssql] password_check.
 * Process: directory; the database on a thread of its pool, scrypt on one of
 *          another, the rest on the loop's.
 * Blocks:  those threads.
 * Trust:   name and password are a stranger's, what the database says of an
 *          id is checked. Name and password are wiped where they end. A name
 *          that is not there takes as long as a wrong password.
 * See:     dir_mssql.c, base/password.h, t/unit/dir_mssql.c.
 *
 * A person waits in front of a screen: after LOGIN_MS he is told that it
 * cannot be known now, whatever the database is doing. The login then has
 * nobody to answer any more and ends when its threads let go of it; so it has
 * copies of all that they need.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "base/password.h"
#include "base/text.h"
#include "directory/dir_mssql_priv.h"

#define LOGIN_MS 2400 /* with all that is slow besides, he is told in 3 s */

struct mssql_login {
	struct mssql_job job; /* first: its functions get this one */
	struct pool_job check;
	TAILQ_ENTRY(mssql_login) link; /* while there is a request */
	struct dir_backend *backend;
	struct dir_request *request; /* NULL: it was answered */
	dir_done_fn done;
	int64_t until_ms;
	bool is_by_procedure;
	char *name;
	size_t name_len;
	char *password;
	size_t password_len;
	/* the database's answer */
	uint64_t id; /* 0: nobody, or not to be let in */
	char hash[PASSWORD_HASH_MAX];
	/* the check's */
	bool is_match;
	int64_t took_us;
};

static const struct mssql_procedure *
procedure_of(const struct mssql_login *login)
{
	return &login->backend->names->procedures[MSSQL_PROC_authenticate];
}

/* ---- answers ---- */

static void
answer(struct mssql_login *login, int rc)
{
	struct dir_request *request = login->request;

	if (request == NULL)
		return;
	TAILQ_REMOVE(&login->backend->logins, login, link);
	login->request = NULL;
	if (rc == 0)
		request->answer.user = login->id;
	login->done(request, rc);
}

static void
login_free(struct mssql_login *login)
{
	mem_wipe(login->name, login->name_len);
	mem_wipe(login->password, login->password_len);
	mem_wipe(login->hash, sizeof(login->hash));
	free(login->name);
	free(login->password);
	free(login);
}

static void
login_end(struct mssql_login *login, int rc)
{
	answer(login, mssql_asker_rc(rc));
	login_free(login);
}

int64_t
mssql_password_turn(struct dir_backend *backend)
{
	int64_t now_ms = clock_mono_ms();
	struct mssql_login *login;

	while ((login = TAILQ_FIRST(&backend->logins)) != NULL &&
	       login->until_ms <= now_ms)
		answer(login, ERR_UNAVAILABLE);
	return login != NULL ? login->until_ms : INT64_MAX;
}

void
mssql_password_stop(struct dir_backend *backend)
{
	struct mssql_login *login;

	while ((login = TAILQ_FIRST(&backend->logins)) != NULL)
		answer(login, ERR_UNAVAILABLE);
}

/* ---- scrypt ---- */

/* pool_fn, on a thread */
static void
check_run(struct pool_job *job)
{
	struct mssql_login *login =
	    (struct mssql_login *)((char *)job -
				   offsetof(struct mssql_login, check));
	int64_t start_us = clock_mono_us();

	login->is_match =
	    password_verify(login->hash, login->password, login->password_len);
	login->took_us = clock_mono_us() - start_us;
}

/* pool_fn, on the loop */
static void
check_done(struct pool_job *job)
{
	struct mssql_login *login =
	    (struct mssql_login *)((char *)job -
				   offsetof(struct mssql_login, check));
	int rc = ERR_UNAVAILABLE;

	if (job->was_run) {
		MEASURE_US(password_us, (uint64_t)login->took_us);
		rc = login->is_match && login->id != 0 ? 0 : ERR_AUTH_FAILED;
	}
	login_end(login, rc);
}

static void
check_begin(struct mssql_login *login)
{
	login->check.run = check_run;
	login->check.done = check_done;
	login->check.deadline_ms = login->until_ms;
	if (pool_submit(login->backend->passwords, &login->check) != 0)
		login_end(login, ERR_UNAVAILABLE);
}

/* ---- the database ---- */

/* A hash that is longer than any is none. */
static int
read_hash(struct mssql_login *login, struct tds_conn *conn, const char *column)
{
	const char *hash;
	size_t len;
	bool is_null;
	int rc;

	rc = tds_get_is_null(conn, column, &is_null);
	if (rc != 0 || is_null)
		return rc;
	rc = tds_get_text(conn, column, &hash, &len);
	if (rc == 0 && len < sizeof(login->hash) &&
	    memchr(hash, '\0', len) == NULL) {
		memcpy(login->hash, hash, len);
		login->hash[len] = '\0';
	}
	return rc;
}

static int
read_row(struct mssql_login *login, struct tds_conn *conn)
{
	const struct mssql_procedure *procedure = procedure_of(login);
	bool is_active = true;
	int rc;

	rc = mssql_row_id(conn, procedure->columns[MSSQL_FIELD_id], &login->id);
	if (rc == 0)
		rc = mssql_row_is_active(
		    conn, procedure->columns[MSSQL_FIELD_active], &is_active);
	if (rc == 0 && !login->is_by_procedure)
		rc = read_hash(
		    login, conn, procedure->columns[MSSQL_FIELD_hash]);
	if (rc != 0)
		return rc;
	if (!is_active)
		login->id = 0;
	/* Of two users with this name nobody knows who it is. */
	rc = tds_next_row(conn);
	if (rc == ERR_NOT_FOUND)
		return 0;
	return rc == 0 ? ERR_SERVER_ERROR : rc;
}

/* mssql_run_fn: may run again, from the start */
static int
ask_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct mssql_login *login = (struct mssql_login *)job;
	const struct mssql_procedure *procedure = procedure_of(login);
	struct tds_param params[2];
	size_t count = 0;
	int rc;

	login->id = 0;
	login->hash[0] = '\0';
	params[count++] = tds_text(
	    procedure->params[MSSQL_FIELD_login], login->name, login->name_len);
	if (login->is_by_procedure)
		params[count++] =
		    tds_text(procedure->params[MSSQL_FIELD_password],
			login->password, login->password_len);
	rc = tds_call(conn, &(struct tds_call){procedure->name, params, count,
				job->call_deadline_ms});
	if (rc == 0)
		rc = tds_next_row(conn);
	if (rc == 0)
		rc = read_row(login, conn);
	if (rc == ERR_NOT_FOUND)
		rc = 0; /* nobody has this name */
	rc = tds_finish(conn, rc);
	if (rc != 0 || tds_status(conn) != 0)
		login->id = 0;
	return rc;
}

/* mssql_done_fn */
static void
ask_done(struct mssql_job *job)
{
	struct mssql_login *login = (struct mssql_login *)job;
	if (job->rc != 0)
		login_end(login, ERR_UNAVAILABLE);
	else if (login->is_by_procedure)
		login_end(login, login->id != 0 ? 0 : ERR_AUTH_FAILED);
	else if (login->request == NULL)
		login_end(login, ERR_UNAVAILABLE);
	else
		check_begin(login);
}

/* ---- the way in ---- */

/* Something that the database has a text for. */
static bool
is_text(const char *text, size_t len)
{
	return len > 0 && memchr(text, '\0', len) == NULL &&
	       text_utf8_valid(text, len);
}

static char *
copy(const char *text, size_t len)
{
	char *out = xcalloc(len + 1, 1);

	if (len > 0)
		memcpy(out, text, len);
	return out;
}

static struct mssql_login *
login_new(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	struct mssql_login *login = xcalloc(1, sizeof(*login));

	login->backend = backend;
	login->request = request;
	login->done = done;
	login->until_ms = clock_mono_ms() + LOGIN_MS;
	if (login->until_ms > request->deadline_ms)
		login->until_ms = request->deadline_ms;
	login->is_by_procedure =
	    strcmp(backend->host->conf->mssql_password_check, "procedure") == 0;
	login->name = copy(request->name, request->name_len);
	login->name_len = request->name_len;
	login->password = copy(request->password, request->password_len);
	login->password_len = request->password_len;
	dir_request_wipe(request);
	TAILQ_INSERT_TAIL(&backend->logins, login, link);
	return login;
}

void
mssql_password(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	struct mssql_login *login;
	int64_t retry_after_ms = 0;

	if (backend->names->procedures[MSSQL_PROC_authenticate].name == NULL) {
		dir_request_wipe(request);
		done(request, ERR_AUTH_FAILED); /* nobody has one here */
		return;
	}
	login = login_new(backend, request, done);
	if (!is_text(login->name, login->name_len) ||
	    (login->is_by_procedure &&
		!is_text(login->password, login->password_len))) {
		if (login->is_by_procedure)
			login_end(login, ERR_AUTH_FAILED);
		else
			check_begin(login); /* takes its time and fails */
		return;
	}
	login->job = (struct mssql_job){
	    .run = ask_run,
	    .done = ask_done,
	    .deadline_ms = login->until_ms,
	    .place = MSSQL_PRIMARY, /* a changed password counts at once */
	    .is_idempotent = true,
	};
	if (mssql_pool_submit(backend->pool, &login->job, &retry_after_ms) != 0)
		login_end(login, ERR_UNAVAILABLE);
}
