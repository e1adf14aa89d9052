/*
 * dir_mssql_priv.h - what the files of the back end `mssql` share.
 */
#ifndef DIRECTORY_DIR_MSSQL_PRIV_H
#define DIRECTORY_DIR_MSSQL_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "directory/absent.h"
#include "directory/dir.h"
#include "directory/mssql_names.h"
#include "directory/mssql_pool.h"
#include "directory/mssql_write.h"
#include "directory/pool.h"
#include "directory/verifiers.h"

struct mssql_list;
struct mssql_changes;
struct mssql_login;

TAILQ_HEAD(mssql_list_order, mssql_list);
TAILQ_HEAD(mssql_logins, mssql_login);
LIST_HEAD(mssql_living_logins, mssql_login);

struct dir_backend {
	const struct dir_host *host;
	bool has_library; /* tds_start */
	struct mssql_names *names;
	struct mssql_pool *pool;
	struct pool *passwords; /* scrypt */
	/* writing: one batch at a time */
	struct mssql_job write_job;
	struct mssql_write write;
	struct batch *batch; /* NULL: none is under way */
	dir_written_fn written;
	uint64_t known_counted;
	int32_t trouble_number; /* told in the log; 0: none */
	/* mssql_password.c: those that are not answered, by deadline */
	struct mssql_logins logins;
	struct mssql_living_logins living_logins; /* all that have not ended */
	struct verifiers *verifiers;              /* NULL: nothing is kept */
	/* mssql_users.c */
	struct mssql_list *lists;           /* by asker */
	struct mssql_list_order list_order; /* kept ones, last used first */
	size_t list_bytes;
	int64_t primary_until_ms; /* reads see what was written just now */
	struct absent *absent;    /* whom the database does not know */
	struct mssql_changes *changes;
};

/** What the asker is told of it: whatever keeps us from knowing is
 *  ERR_UNAVAILABLE. */
int mssql_asker_rc(int rc);
/** The user id of a row. @return 0, or ERR_*: none that can be */
NODISCARD int mssql_row_id(
    struct tds_conn *conn, const char *column, uint64_t *out);
/** Is there a value in it? Not without such a column, and not if it is NULL. */
NODISCARD int mssql_row_has(
    struct tds_conn *conn, const char *column, bool *out);
/** Is the user of the row one at all? Without such a column all are. */
NODISCARD int mssql_row_is_active(
    struct tds_conn *conn, const char *column, bool *out);
/** Where to read. */
enum mssql_place mssql_read_place(const struct dir_backend *backend);

/** ops->run, of DIR_OP_PASSWORD. */
void mssql_password(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done);
/** Part of the turn: answer those whose time is up. @return clock_mono_ms() of
 *  the next one, or INT64_MAX */
int64_t mssql_password_turn(struct dir_backend *backend);
/** Answer all. */
void mssql_password_stop(struct dir_backend *backend);

/** ops->run, of DIR_OP_USER and DIR_OP_USERS. */
void mssql_users(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done);
/** Ask the database for request->user. @param is_stranger  to the asker */
void mssql_user_ask(struct dir_backend *backend, struct dir_request *request,
    dir_done_fn done, bool is_stranger);
/** ops->run, of DIR_OP_UPDATE. */
void mssql_update(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done);
/** ops->run, of DIR_OP_HISTORY. */
void mssql_history(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done);
/** dir_ops' forget. */
void mssql_users_forget(struct dir_backend *backend, uint64_t user);
/** Free what is kept; nothing is under way any more. */
void mssql_users_fini(struct dir_backend *backend);

void mssql_changes_new(struct dir_backend *backend);
/** Part of the turn. @return clock_mono_ms() of the next one, or INT64_MAX */
int64_t mssql_changes_turn(struct dir_backend *backend);
/** Nothing is under way any more. */
void mssql_changes_free(struct dir_backend *backend);

#endif
