/*
 * mssql_password_priv.h - a login by password on its way: what the files about
 * it share.
 */
#ifndef DIRECTORY_MSSQL_PASSWORD_PRIV_H
#define DIRECTORY_MSSQL_PASSWORD_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "directory/dir_mssql_priv.h"

struct mssql_login {
	struct mssql_job job; /* first: its functions get this one */
	struct pool_job check;
	TAILQ_ENTRY(mssql_login) link;  /* while there is a request */
	LIST_ENTRY(mssql_login) living; /* from its begin to its end */
	struct dir_backend *backend;
	struct dir_request *request; /* NULL: it was answered */
	dir_done_fn done;
	int64_t hold_at_ms; /* against what is kept, at the latest */
	int64_t until_ms;
	bool is_by_procedure;
	bool is_crossed; /* the database has told another login under this
			  * name something since it was asked by this one */
	char *name;
	size_t name_len;
	char *password;
	size_t password_len;
	enum {
		ASK_RUNS,
		ASK_AWAY,   /* it could not be asked */
		ASK_FAILED, /* what it says makes no sense */
		ASK_TOLD
	} asked;
	struct verifier told; /* by the database; user 0: nobody, or not to be
			       * let in */
	struct verifier kept; /* of an earlier login */
	bool was_held;        /* against it */
	bool was_let_in;      /* by it */
	bool is_guess;        /* it did not fit */
	/* the check's, and while it is under way nobody else's */
	bool is_checking;
	const struct verifier *checked; /* told or kept; NULL: a hash of the
					 * password is made, into told */
	bool is_match;
	int64_t took_us;
};

/** mssql_run_fn: the name's row, into told. May run again, from the start. */
int mssql_password_ask(struct mssql_job *job, struct tds_conn *conn);

/* ---- mssql_password_keep.c: what is kept of logins ---- */

/** Is anything to be kept, and used? */
bool mssql_keep_is_on(const struct dir_backend *backend);
/** Forget what is older than the setting says. */
void mssql_keep_expire(struct dir_backend *backend, int64_t now_ms);
/** What is kept under its name; user 0: nothing. */
void mssql_keep_find(const struct mssql_login *login, struct verifier *out);
/** The database has said what holds for this name: a verifier, or NULL, that
 *  there is none. */
void mssql_keep_settle(
    struct mssql_login *login, const struct verifier *verifier);
/** It has told something, and this password was not let in by it. */
void mssql_keep_refused(struct mssql_login *login);

#endif
