/*
 * tds_row.c - values of an answer, by name and type.
 *
 * Role:    a column that is missing, NULL or of another type is an error of
 *          the installation that names it, not a zero.
 * Process: directory, parleyctl.
 * Blocks:  never: the row is there.
 * Trust:   the server's values are checked: text is UTF-8, times are times.
 * See:     tds.h, t/unit/tds_conn.c.
 */
#include "config.h"

#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "tds/tds_priv.h"

struct value {
	int type;
	const BYTE *data; /* NULL: NULL */
	size_t len;
};

/* 1.. or 0: there is none. */
static int
column_find(struct tds_conn *conn, const char *column)
{
	int count = dbnumcols(conn->db);

	for (int i = 1; i <= count; i++) {
		const char *name = dbcolname(conn->db, i);

		if (name != NULL && strcasecmp(name, column) == 0)
			return i;
	}
	return 0;
}

/* Is a whole number, or something that is no such type? */
static bool
number_read(const struct value *value, int64_t *out)
{
	int16_t i16;
	int32_t i32;

	switch (value->type) {
	case SYBBIT:
	case SYBINT1:
		*out = value->data[0];
		return true;
	case SYBINT2:
		memcpy(&i16, value->data, sizeof(i16));
		*out = i16;
		return true;
	case SYBINT4:
		memcpy(&i32, value->data, sizeof(i32));
		*out = i32;
		return true;
	case SYBINT8:
		memcpy(out, value->data, sizeof(*out));
		return true;
	default: /* db-lib's numbers, not an enum of ours */
		return false;
	}
}

static int
column_fail(struct tds_conn *conn, const char *column, const char *what)
{
	return tds_fail(&conn->error, TDS_CLASS_BAD_SETUP, column, what);
}

static int
column_get(struct tds_conn *conn, const char *column, struct value *out)
{
	int i;

	if (!conn->has_row)
		return column_fail(conn, column, "is asked for without a row");
	i = column_find(conn, column);
	if (i == 0)
		return column_fail(conn, column, "is missing in the result");
	out->type = dbcoltype(conn->db, i);
	out->data = dbdata(conn->db, i);
	out->len = (size_t)dbdatlen(conn->db, i);
	return 0;
}

static int
column_get_some(struct tds_conn *conn, const char *column, struct value *out)
{
	int rc = column_get(conn, column, out);

	if (rc == 0 && out->data == NULL)
		rc = column_fail(conn, column, "is NULL");
	return rc;
}

int
tds_get_i64(struct tds_conn *conn, const char *column, int64_t *out)
{
	struct value value;
	int rc = column_get_some(conn, column, &value);

	if (rc == 0 && !number_read(&value, out))
		rc = column_fail(conn, column, "is no whole number");
	return rc;
}

int
tds_get_bit(struct tds_conn *conn, const char *column, bool *out)
{
	struct value value;
	int rc = column_get_some(conn, column, &value);

	if (rc == 0 && value.type != SYBBIT)
		rc = column_fail(conn, column, "is no BIT");
	if (rc == 0)
		*out = value.data[0] != 0;
	return rc;
}

/* Days from 1970-01-01 in the Gregorian calendar: years begin in March. */
static int64_t
days_from(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t of_era = y - era * 400;
	int64_t of_year =
	    (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 +
	       of_year - 719468;
}

int
tds_get_time_ms(struct tds_conn *conn, const char *column, int64_t *out)
{
	struct value value;
	DBDATEREC2 date;
	int rc = column_get_some(conn, column, &value);

	if (rc != 0)
		return rc;
	if ((value.type != SYBMSDATETIME2 && value.type != SYBDATETIME) ||
	    dbanydatecrack(conn->db, &date, value.type, value.data) != SUCCEED)
		return column_fail(conn, column, "is no time");
	*out = days_from(date.dateyear, date.datemonth + 1, date.datedmonth) *
		   86400000 +
	       date.datehour * INT64_C(3600000) +
	       date.dateminute * INT64_C(60000) +
	       date.datesecond * INT64_C(1000) + date.datensecond / 1000000;
	return 0;
}

static bool
is_text(int type)
{
	return type == SYBCHAR || type == SYBVARCHAR || type == SYBTEXT ||
	       type == SYBNTEXT || type == SYBNVARCHAR;
}

static bool
is_binary(int type)
{
	return type == SYBBINARY || type == SYBVARBINARY || type == SYBIMAGE;
}

int
tds_get_text(struct tds_conn *conn, const char *column, const char **out,
    size_t *len_out)
{
	struct value value;
	int rc = column_get_some(conn, column, &value);

	if (rc == 0 && !is_text(value.type))
		rc = column_fail(conn, column, "is no text");
	if (rc == 0 && !text_utf8_valid(value.data, value.len))
		rc = column_fail(conn, column, "is broken text");
	if (rc != 0)
		return rc;
	*out = (const char *)value.data;
	*len_out = value.len;
	return 0;
}

int
tds_get_binary(struct tds_conn *conn, const char *column, const void **out,
    size_t *len_out)
{
	struct value value;
	int rc = column_get_some(conn, column, &value);

	if (rc == 0 && !is_binary(value.type))
		rc = column_fail(conn, column, "is no VARBINARY");
	if (rc != 0)
		return rc;
	*out = value.data;
	*len_out = value.len;
	return 0;
}

int
tds_get_is_null(struct tds_conn *conn, const char *column, bool *out)
{
	struct value value;
	int rc = column_get(conn, column, &value);

	if (rc == 0)
		*out = value.data == NULL;
	return rc;
}

bool
tds_has_column(struct tds_conn *conn, const char *column)
{
	return (conn->has_result || conn->has_row) &&
	       column_find(conn, column) != 0;
}

int
tds_output_i64(struct tds_conn *conn, const char *name, int64_t *out)
{
	int count = conn->is_broken ? 0 : dbnumrets(conn->db);

	for (int i = 1; i <= count; i++) {
		const char *found = dbretname(conn->db, i);
		struct value value = {
		    .type = dbrettype(conn->db, i),
		    .data = dbretdata(conn->db, i),
		};

		if (found == NULL || found[0] != '@' ||
		    strcasecmp(found + 1, name) != 0)
			continue;
		if (value.data == NULL)
			return ERR_NOT_FOUND;
		if (!number_read(&value, out))
			return column_fail(conn, name, "is no whole number");
		return 0;
	}
	return column_fail(conn, name, "was not returned");
}
