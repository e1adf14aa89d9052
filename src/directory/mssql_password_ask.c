/*
 * mssql_password_ask.c - what the database says of a name and a password.
 *
 * Role:    calls the procedure authenticate and reads its one row.
 * Process: directory, on a thread of the pool.
 * Blocks:  on the database.
 * Trust:   an id that cannot be is an error, a hash that is longer than any is
 *          none; of two rows nobody knows who is meant.
 * See:     mssql_password.c, t/unit/dir_mssql.c.
 */
#include "config.h"

#include <string.h>

#include "directory/mssql_password_priv.h"

static const struct mssql_procedure *
procedure_of(const struct mssql_login *login)
{
	return &login->backend->names->procedures[MSSQL_PROC_authenticate];
}

/* A hash that is longer than any is none. */
static int
read_hash(struct mssql_login *login, struct tds_conn *conn, const char *column)
{
	const char *hash;
	size_t len;
	bool has_hash;
	int rc;

	rc = mssql_row_has(conn, column, &has_hash);
	if (rc != 0 || !has_hash)
		return rc;
	rc = tds_get_text(conn, column, &hash, &len);
	if (rc == 0 && len < sizeof(login->told.hash) &&
	    memchr(hash, '\0', len) == NULL) {
		memcpy(login->told.hash, hash, len);
		login->told.hash[len] = '\0';
	}
	return rc;
}

static int
read_row(struct mssql_login *login, struct tds_conn *conn)
{
	const struct mssql_procedure *procedure = procedure_of(login);
	bool is_active = true;
	int rc;

	rc = mssql_row_id(
	    conn, procedure->columns[MSSQL_FIELD_id], &login->told.user);
	if (rc == 0)
		rc = mssql_row_is_active(
		    conn, procedure->columns[MSSQL_FIELD_active], &is_active);
	if (rc == 0 && !login->is_by_procedure)
		rc = read_hash(
		    login, conn, procedure->columns[MSSQL_FIELD_hash]);
	if (rc != 0)
		return rc;
	if (!is_active)
		login->told.user = 0;
	/* Of two users with this name nobody knows who it is. */
	rc = tds_next_row(conn);
	if (rc == ERR_NOT_FOUND)
		return 0;
	return rc == 0 ? ERR_SERVER_ERROR : rc;
}

int
mssql_password_ask(struct mssql_job *job, struct tds_conn *conn)
{
	struct mssql_login *login = (struct mssql_login *)job;
	const struct mssql_procedure *procedure = procedure_of(login);
	struct tds_param params[2];
	size_t count = 0;
	int rc;

	login->told.user = 0;
	login->told.hash[0] = '\0';
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
		login->told.user = 0;
	return rc;
}
