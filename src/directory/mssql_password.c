/*
 * mssql_password.c - logins by name and password, of users in SQL Server.
 *
 * Role:    asks for the name's row; checks the hash here, or has the database
 *          say that the password is right: [mssql] password_check. While it
 *          cannot be asked, what is kept of earlier logins may decide:
 *          password_cache.
 * Process: directory; the database on a thread of its pool, scrypt on one of
 *          another, the rest on the loop's.
 * Blocks:  those threads.
 * Trust:   name and password are a stranger's, what the database says of an
 *          id is checked. Name and password are wiped where they end. A name
 *          that is not there takes as long as a wrong password.
 * See:     dir_mssql.c, verifiers.h, base/password.h, doc/decisions/034,
 *          t/unit/dir_mssql.c, t/unit/dir_mssql_login.c.
 *
 * A person waits in front of a screen: after LOGIN_MS he is told that it
 * cannot be known now, whatever the database is doing. The login then has
 * nobody to answer any more and ends when its threads let go of it; so it has
 * copies of all that they need.
 *
 * After half of that time, or as soon as it is known that the database does
 * not answer, the password is held against what is kept of the last login
 * under this name. If it fits he is let in. If not, nobody knows: it may be
 * the right one since yesterday. So he is told UNAVAILABLE, and it counts as a
 * wrong one, also where nothing is kept: else one could find out for whom
 * something is.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "base/password.h"
#include "base/text.h"
#include "directory/mssql_password_priv.h"

#define LOGIN_MS 2400 /* with all that is slow besides, he is told in 3 s */

/* ---- answers ---- */

static void
answer(struct mssql_login *login, uint64_t user, int rc)
{
	struct dir_request *request = login->request;

	if (request == NULL)
		return;
	TAILQ_REMOVE(&login->backend->logins, login, link);
	login->request = NULL;
	request->answer.user = rc == 0 ? user : 0;
	request->is_guess = rc != 0 && login->is_guess;
	login->done(request, rc);
}

static void
login_free(struct mssql_login *login)
{
	LIST_REMOVE(login, living);
	mem_wipe(login->name, login->name_len);
	mem_wipe(login->password, login->password_len);
	mem_wipe(&login->told, sizeof(login->told));
	mem_wipe(&login->kept, sizeof(login->kept));
	free(login->name);
	free(login->password);
	free(login);
}

static void
login_end(struct mssql_login *login, int rc)
{
	answer(login, login->told.user, mssql_asker_rc(rc));
	login_free(login);
}

/* ---- scrypt ---- */

static struct mssql_login *
login_of(struct pool_job *job)
{
	return (struct mssql_login *)((char *)job -
				      offsetof(struct mssql_login, check));
}

/* pool_fn, on a thread */
static void
check_run(struct pool_job *job)
{
	struct mssql_login *login = login_of(job);
	int64_t start_us = clock_mono_us();

	if (login->checked != NULL)
		login->is_match = password_verify(
		    login->checked->hash, login->password, login->password_len);
	else
		login->is_match =
		    password_hash(login->password, login->password_len,
			login->told.hash) == 0;
	login->took_us = clock_mono_us() - start_us;
}

static void check_done(struct pool_job *job);

/* @return false: it cannot be */
static bool
check_begin(struct mssql_login *login, const struct verifier *checked)
{
	login->checked = checked;
	login->is_match = false;
	login->check.run = check_run;
	login->check.done = check_done;
	login->check.deadline_ms = login->until_ms;
	login->is_checking =
	    pool_submit(login->backend->passwords, &login->check) == 0;
	return login->is_checking;
}

/* ---- what decides ---- */

/* The database has told its hash, and nobody has the time to check it. */
static void
told_in_vain(struct mssql_login *login)
{
	mssql_keep_refused(login);
	login_end(login, ERR_UNAVAILABLE);
}

/* The database's hash was held against. */
static void
told_checked(struct mssql_login *login)
{
	if (!login->check.was_run) {
		told_in_vain(login);
		return;
	}
	if (login->is_match && login->told.user != 0) {
		absent_forget(login->backend->absent, login->told.user);
		mssql_keep_settle(login, &login->told);
		login_end(login, 0);
		return;
	}
	mssql_keep_refused(login);
	login_end(login, ERR_AUTH_FAILED);
}

/* The procedure has decided; what it let in is kept behind the answer. */
static void
procedure_told(struct mssql_login *login)
{
	if (login->told.user == 0) {
		mssql_keep_refused(login);
		login_end(login, ERR_AUTH_FAILED);
		return;
	}
	absent_forget(login->backend->absent, login->told.user);
	answer(login, login->told.user, 0);
	if (!mssql_keep_is_on(login->backend)) {
		login_free(login);
		return;
	}
	if (check_begin(login, NULL))
		return;
	/* What is kept may be wrong by now. */
	mssql_keep_settle(login, NULL);
	login_free(login);
}

/* He was answered already: his password is not looked at any more, but what is
 * kept has to agree with the database. */
static void
told_too_late(struct mssql_login *login)
{
	bool is_agreed = login->is_by_procedure && login->was_let_in &&
			 login->told.user == login->kept.user;

	if (!is_agreed)
		mssql_keep_refused(login);
	login_free(login);
}

static bool
hold_begin(struct mssql_login *login)
{
	struct dir_backend *backend = login->backend;

	if (!mssql_keep_is_on(backend))
		return false;
	mssql_keep_expire(backend, clock_mono_ms());
	mssql_keep_find(login, &login->kept);
	return check_begin(login, &login->kept);
}

/* After each event: what the login does next, or its end. */
static void
go_on(struct mssql_login *login)
{
	bool is_answered = login->request == NULL;

	if (login->is_checking)
		return;
	switch (login->asked) {
	case ASK_TOLD:
		if (is_answered)
			told_too_late(login);
		else if (login->is_by_procedure)
			procedure_told(login);
		else if (!check_begin(login, &login->told))
			told_in_vain(login);
		return;
	case ASK_FAILED:
		login_end(login, ERR_UNAVAILABLE);
		return;
	case ASK_AWAY:
		if (is_answered || login->was_held || !hold_begin(login))
			login_end(login, ERR_UNAVAILABLE);
		return;
	case ASK_RUNS:
		if (!is_answered && !login->was_held &&
		    clock_mono_ms() >= login->hold_at_ms)
			(void)hold_begin(login);
		return;
	}
}

/* What is kept was held against. If the database has spoken meanwhile, its
 * word counts. */
static void
kept_checked(struct mssql_login *login)
{
	bool is_in = login->check.was_run && login->is_match &&
		     login->kept.user != 0 && !login->is_crossed &&
		     (login->asked == ASK_RUNS || login->asked == ASK_AWAY);

	login->was_held = true;
	login->is_guess = login->check.was_run && !is_in;
	if (is_in && login->request != NULL) {
		login->was_let_in = true;
		COUNT(mssql_password_cache_hits);
		answer(login, login->kept.user, 0);
	}
	go_on(login);
}

/* pool_fn, on the loop */
static void
check_done(struct pool_job *job)
{
	struct mssql_login *login = login_of(job);

	login->is_checking = false;
	if (job->was_run)
		MEASURE_US(password_us, (uint64_t)login->took_us);
	if (login->checked == &login->told) {
		told_checked(login);
	} else if (login->checked == &login->kept) {
		kept_checked(login);
	} else {
		mssql_keep_settle(login, login->is_match ? &login->told : NULL);
		login_free(login);
	}
}

/* @return when to look again */
static int64_t
hold_late(struct dir_backend *backend, int64_t now_ms)
{
	struct mssql_login *login;
	struct mssql_login *next;

	for (login = TAILQ_FIRST(&backend->logins); login != NULL;
	     login = next) {
		next = TAILQ_NEXT(login, link);
		if (login->hold_at_ms > now_ms)
			return login->hold_at_ms;
		go_on(login);
	}
	return INT64_MAX;
}

int64_t
mssql_password_turn(struct dir_backend *backend)
{
	int64_t now_ms = clock_mono_ms();
	int64_t next_ms = INT64_MAX;
	struct mssql_login *login;

	while ((login = TAILQ_FIRST(&backend->logins)) != NULL &&
	       login->until_ms <= now_ms)
		answer(login, 0, ERR_UNAVAILABLE);
	mssql_keep_expire(backend, now_ms);
	if (mssql_keep_is_on(backend))
		next_ms = hold_late(backend, now_ms);
	login = TAILQ_FIRST(&backend->logins);
	if (login != NULL && login->until_ms < next_ms)
		next_ms = login->until_ms;
	return next_ms;
}

void
mssql_password_stop(struct dir_backend *backend)
{
	struct mssql_login *login;

	while ((login = TAILQ_FIRST(&backend->logins)) != NULL)
		answer(login, 0, ERR_UNAVAILABLE);
}

/* ---- the database ---- */

/* mssql_done_fn */
static void
ask_done(struct mssql_job *job)
{
	struct mssql_login *login = (struct mssql_login *)job;

	if (job->rc == 0)
		login->asked = ASK_TOLD;
	else
		login->asked =
		    job->rc == ERR_UNAVAILABLE ? ASK_AWAY : ASK_FAILED;
	go_on(login);
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
	int64_t now_ms = clock_mono_ms();

	login->backend = backend;
	login->request = request;
	login->done = done;
	login->until_ms = now_ms + LOGIN_MS;
	if (login->until_ms > request->deadline_ms)
		login->until_ms = request->deadline_ms;
	login->hold_at_ms = now_ms + (login->until_ms - now_ms) / 2;
	login->is_by_procedure =
	    strcmp(backend->host->conf->mssql_password_check, "procedure") == 0;
	login->name = copy(request->name, request->name_len);
	login->name_len = request->name_len;
	login->password = copy(request->password, request->password_len);
	login->password_len = request->password_len;
	dir_request_wipe(request);
	TAILQ_INSERT_TAIL(&backend->logins, login, link);
	LIST_INSERT_HEAD(&backend->living_logins, login, living);
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
		login->asked = ASK_TOLD; /* that there is nobody */
		if (login->is_by_procedure)
			login_end(login, ERR_AUTH_FAILED);
		else
			go_on(login); /* takes its time and fails */
		return;
	}
	login->job = (struct mssql_job){
	    .run = mssql_password_ask,
	    .done = ask_done,
	    .deadline_ms = login->until_ms,
	    .place = MSSQL_PRIMARY, /* a changed password counts at once */
	    .is_idempotent = true,
	};
	if (mssql_pool_submit(backend->pool, &login->job, &retry_after_ms) !=
	    0) {
		login->asked = ASK_AWAY;
		go_on(login);
	}
}
