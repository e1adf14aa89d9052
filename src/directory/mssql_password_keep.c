/*
 * mssql_password_keep.c - what is kept of logins by password, for the time in
 * which the database cannot be asked.
 *
 * Role:    decides what becomes of a name's verifier after each word of the
 *          database.
 * Process: directory, on the loop's thread.
 * Blocks:  never.
 * Trust:   only what the database has said makes a verifier, and whatever it
 *          says against one ends it.
 * See:     verifiers.h, mssql_password.c, doc/decisions/034,
 *          t/unit/dir_mssql_login.c.
 */
#include "config.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "directory/mssql_password_priv.h"

bool
mssql_keep_is_on(const struct dir_backend *backend)
{
	return backend->host->conf->mssql_password_cache > 0;
}

static bool
is_of(const struct mssql_login *login, const struct mssql_login *other)
{
	return login->name_len == other->name_len &&
	       memcmp(login->name, other->name, login->name_len) == 0;
}

static bool
is_same(const struct verifier *a, const struct verifier *b)
{
	return a->user == b->user && strcmp(a->hash, b->hash) == 0;
}

void
mssql_keep_find(const struct mssql_login *login, struct verifier *out)
{
	*out = (struct verifier){0};
	if (login->backend->verifiers != NULL)
		verifiers_find(login->backend->verifiers, login->name,
		    login->name_len, out);
}

static void
learn(struct mssql_login *login, const struct verifier *verifier)
{
	struct dir_backend *backend = login->backend;
	int64_t max = backend->host->conf->mssql_password_cache_max;

	if (backend->verifiers == NULL)
		backend->verifiers = verifiers_new((size_t)max);
	verifiers_learn(backend->verifiers, login->name, login->name_len,
	    verifier, clock_mono_ms());
}

static void
cross_others(const struct mssql_login *login)
{
	struct mssql_login *other;

	LIST_FOREACH(other, &login->backend->living_logins, living)
	{
		if (other != login && is_of(login, other))
			other->is_crossed = true;
	}
}

/* Of logins that cross, nobody knows whose word is newer: then nothing is kept
 * that they do not agree on. */
void
mssql_keep_settle(struct mssql_login *login, const struct verifier *verifier)
{
	struct dir_backend *backend = login->backend;
	struct verifier now;

	if (!mssql_keep_is_on(backend))
		return;
	cross_others(login);
	mssql_keep_find(login, &now);
	if (verifier != NULL && (!login->is_crossed || is_same(verifier, &now)))
		learn(login, verifier);
	else if (backend->verifiers != NULL)
		verifiers_forget(
		    backend->verifiers, login->name, login->name_len);
	mem_wipe(&now, sizeof(now));
}

/* The hash of the database may still be the one that is kept: then a stranger's
 * guess costs its owner nothing. A procedure's no may mean anything. */
void
mssql_keep_refused(struct mssql_login *login)
{
	struct verifier now;

	mssql_keep_find(login, &now);
	if (login->is_by_procedure || !is_same(&login->told, &now))
		mssql_keep_settle(login, NULL);
	mem_wipe(&now, sizeof(now));
}

void
mssql_keep_expire(struct dir_backend *backend, int64_t now_ms)
{
	int64_t ttl_ms = backend->host->conf->mssql_password_cache;

	if (backend->verifiers == NULL)
		return;
	if (ttl_ms > 0)
		verifiers_expire(backend->verifiers, now_ms - ttl_ms);
	else
		verifiers_free(&backend->verifiers);
}
