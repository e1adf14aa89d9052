/*
 * tds_call.c - one call: parameters out, result sets in.
 *
 * Role:    makes the library's traps impossible: text is checked and never
 *          cut, an answer is read to its end or its connection is given up,
 *          a call that failed to go out is not sent with the next one.
 * Process: directory, parleyctl.
 * Blocks:  on the server, until the deadline of the call.
 * Trust:   what is in a parameter is anybody's; names are ours. The answer is
 *          the server's.
 * See:     tds.h, tds_row.c, t/unit/tds_conn.c.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "tds/tds_priv.h"

#define PARAM_MAX      64
#define VARBINARY_MAX  8000
#define TEXT_BYTES_MAX (256 * 1024 * 1024)

/* ---- begin and end ---- */

/* Nothing more can be had from it. */
static void
conn_break(struct tds_conn *conn)
{
	conn->is_broken = true;
	conn->has_result = false;
	conn->has_row = false;
}

/* The library said FAIL: with a reason of the server, or because it is gone. */
static int
conn_failed(struct tds_conn *conn)
{
	conn->has_result = false;
	conn->has_row = false;
	if (dbdead(conn->db))
		conn_break(conn);
	return tds_fail(&conn->error, TDS_CLASS_LOST, "", "connection lost");
}

static void
answer_end(struct tds_conn *conn, int *rc)
{
	bool was_cut;

	if (!conn->is_answering)
		return;
	conn->is_answering = false;
	conn->has_result = false;
	conn->has_row = false;
	was_cut = tds_watch_remove(conn);
	if (was_cut || dbdead(conn->db))
		conn_break(conn);
	if (was_cut && *rc != 0) {
		conn->error.class = TDS_CLASS_NONE;
		conn->error.number = 0;
		*rc = tds_fail(
		    &conn->error, TDS_CLASS_LOST, "", "no answer in time");
	}
}

static int
answer_begin(struct tds_conn *conn, const char *procedure, int64_t deadline_ms)
{
	if (conn->is_answering && tds_finish(conn, 0) != 0 && conn->is_broken)
		return tds_class_rc(conn->error.class);
	conn->error = (struct tds_error){.class = TDS_CLASS_NONE};
	snprintf(conn->procedure, sizeof(conn->procedure), "%s", procedure);
	snprintf(conn->error.procedure, sizeof(conn->error.procedure), "%s",
	    procedure);
	conn->status = 0;
	if (conn->is_broken)
		return tds_fail(&conn->error, TDS_CLASS_RETRY, "",
		    "the connection is broken");
	conn->is_answering = true;
	tds_watch_add(conn, deadline_ms);
	return 0;
}

/* To the next result set that has columns. */
static int
result_next(struct tds_conn *conn)
{
	RETCODE code;

	conn->has_row = false;
	conn->has_result = false;
	do {
		code = dbresults(conn->db);
	} while (code == SUCCEED && dbnumcols(conn->db) == 0 &&
		 dbnextrow(conn->db) == NO_MORE_ROWS);
	if (conn->error.class != TDS_CLASS_NONE)
		return conn_failed(conn);
	if (code == NO_MORE_RESULTS)
		return ERR_NOT_FOUND;
	if (code != SUCCEED)
		return conn_failed(conn);
	conn->has_result = true;
	return 0;
}

/* What was sent is answered: the first result set, or none. */
static int
answer_open(struct tds_conn *conn)
{
	int rc;

	if (dbsqlok(conn->db) != SUCCEED)
		return conn_failed(conn);
	rc = result_next(conn);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- parameters ---- */

static const char *
param_refuse(const struct tds_param *param)
{
	if (param->is_null)
		return NULL;
	if (param->type == TDS_I32 &&
	    (param->number < INT32_MIN || param->number > INT32_MAX))
		return "is too large for INT";
	if (param->type == TDS_ASCII) {
		if (param->len > TDS_ASCII_MAX)
			return "is too long for short text";
		for (size_t i = 0; i < param->len; i++) {
			unsigned char c =
			    ((const unsigned char *)param->data)[i];

			if (c < 0x20 || c > 0x7e)
				return "is no plain ASCII";
		}
	}
	if (param->len > TEXT_BYTES_MAX)
		return "is too long";
	if (param->type == TDS_TEXT) {
		if (param->len > 0 && memchr(param->data, 0, param->len))
			return "has a NUL character";
		if (!text_utf8_valid(param->data, param->len))
			return "is no UTF-8";
	}
	return NULL;
}

/* How db-lib calls it; a value of no bytes is NULL whatever it is. */
static int
param_type(const struct tds_param *param)
{
	bool is_empty = param->is_null || param->len == 0;

	switch (param->type) {
	case TDS_BIT:
		return SYBBIT;
	case TDS_I32:
		return SYBINT4;
	case TDS_I64:
		return SYBINT8;
	case TDS_ASCII:
		return SYBVARCHAR;
	case TDS_TEXT: /* SYBVARCHAR is cut at 8,000 bytes without a word */
		return is_empty ? SYBVARCHAR : SYBNTEXT;
	case TDS_BINARY:
		return param->len > VARBINARY_MAX ? SYBIMAGE : SYBVARBINARY;
	}
	return SYBVARCHAR;
}

union number {
	BYTE bit;
	int32_t i32;
	int64_t i64;
};

static RETCODE
param_add(DBPROCESS *db, const struct tds_param *param, union number *number)
{
	char name[TDS_NAME_MAX];
	BYTE status = param->is_output ? DBRPCRETURN : 0;
	int type = param_type(param);
	void *value = number;
	DBINT len = -1; /* of its type */
	DBINT max = -1;

	snprintf(name, sizeof(name), "@%s", param->name);
	if (param->type == TDS_BIT)
		number->bit = param->number != 0;
	else if (param->type == TDS_I32)
		number->i32 = (int32_t)param->number;
	else
		number->i64 = param->number;
	if (param->type == TDS_ASCII || param->type == TDS_TEXT ||
	    param->type == TDS_BINARY) {
		/* The library copies it before it returns. */
		memcpy(&value, &param->data, sizeof(value));
		len = (DBINT)param->len;
	}
	if (param->is_null || len == 0) {
		len = 0;
		value = NULL;
	}
	return dbrpcparam(db, name, status, type, max, len, value);
}

static int
call_send(struct tds_conn *conn, const struct tds_call *call)
{
	union number numbers[PARAM_MAX];

	/* What an earlier call left behind would be sent with this one. */
	dbrpcinit(conn->db, "", DBRPCRESET);
	if (dbrpcinit(conn->db, call->procedure, 0) != SUCCEED)
		return conn_failed(conn);
	for (size_t i = 0; i < call->param_count; i++) {
		if (param_add(conn->db, &call->params[i], &numbers[i]) !=
		    SUCCEED) {
			dbrpcinit(conn->db, "", DBRPCRESET);
			return tds_fail(&conn->error, TDS_CLASS_BAD_SETUP,
			    call->params[i].name, "was refused by the library");
		}
	}
	if (dbrpcsend(conn->db) == SUCCEED)
		return 0;
	/* Alive perhaps, but every later call on it would fail. */
	conn_break(conn);
	return conn_failed(conn);
}

static int
call_check(struct tds_conn *conn, const struct tds_call *call)
{
	if (call->param_count > PARAM_MAX)
		return tds_fail(&conn->error, TDS_CLASS_BAD_SETUP, "",
		    "too many parameters");
	for (size_t i = 0; i < call->param_count; i++) {
		const char *wrong = param_refuse(&call->params[i]);

		if (wrong != NULL)
			return tds_fail(&conn->error, TDS_CLASS_BAD_ROW,
			    call->params[i].name, wrong);
	}
	return 0;
}

int
tds_call(struct tds_conn *conn, const struct tds_call *call)
{
	int rc = answer_begin(conn, call->procedure, call->deadline_ms);

	tds_catch(&conn->error);
	if (rc == 0)
		rc = call_check(conn, call);
	if (rc == 0)
		rc = call_send(conn, call);
	if (rc == 0)
		rc = answer_open(conn);
	tds_catch(NULL);
	return rc != 0 ? tds_finish(conn, rc) : 0;
}

int
tds_batch(struct tds_conn *conn, const char *sql, int64_t deadline_ms)
{
	int rc = answer_begin(conn, "batch", deadline_ms);

	tds_catch(&conn->error);
	if (rc == 0) {
		dbfreebuf(conn->db);
		if (dbcmd(conn->db, sql) != SUCCEED ||
		    dbsqlsend(conn->db) != SUCCEED)
			rc = conn_failed(conn);
	}
	if (rc == 0)
		rc = answer_open(conn);
	tds_catch(NULL);
	return rc != 0 ? tds_finish(conn, rc) : 0;
}

/* ---- the answer ---- */

int
tds_next_row(struct tds_conn *conn)
{
	STATUS status;

	if (!conn->has_result)
		return conn->error.class != TDS_CLASS_NONE
			   ? tds_class_rc(conn->error.class)
			   : ERR_NOT_FOUND;
	tds_catch(&conn->error);
	do {
		status = dbnextrow(conn->db);
	} while (status > 0); /* of COMPUTE: nothing that we ask for */
	tds_catch(NULL);
	conn->has_row = status == REG_ROW;
	if (conn->has_row)
		return 0;
	conn->has_result = false;
	if (status == NO_MORE_ROWS && conn->error.class == TDS_CLASS_NONE)
		return ERR_NOT_FOUND;
	return conn_failed(conn);
}

int
tds_next_result(struct tds_conn *conn)
{
	int rc;

	while ((rc = tds_next_row(conn)) == 0)
		;
	if (rc != ERR_NOT_FOUND || !conn->is_answering)
		return rc;
	tds_catch(&conn->error);
	rc = result_next(conn);
	tds_catch(NULL);
	return rc;
}

int
tds_finish(struct tds_conn *conn, int rc)
{
	int end = 0;

	if (!conn->is_answering)
		return rc;
	while (rc == 0 && (end = tds_next_result(conn)) == 0)
		;
	if (rc == 0 && end != ERR_NOT_FOUND)
		rc = end;
	tds_catch(&conn->error);
	if (rc == 0 && dbhasretstat(conn->db))
		conn->status = dbretstatus(conn->db);
	/* The rest of an answer that failed; the deadline still holds. */
	if (rc != 0 && !conn->is_broken && !dbdead(conn->db) &&
	    dbcancel(conn->db) != SUCCEED)
		conn_break(conn);
	tds_catch(NULL);
	answer_end(conn, &rc);
	return rc;
}

int32_t
tds_status(const struct tds_conn *conn)
{
	return conn->status;
}
