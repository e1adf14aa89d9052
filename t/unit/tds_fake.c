/*
 * tds_fake.c - tds.h without a server.
 */
#include "config.h"

#include "t/unit/tds_fake.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/text.h"

#define SET_COUNTS 3 /* before it: those that nobody wants */

static int
answer_error(struct tds_conn *conn, int32_t number)
{
	conn->error = (struct tds_error){.number = number,
	    .severity = 16,
	    .line = 7,
	    .class = tds_classify(number, 16)};
	snprintf(conn->error.procedure, sizeof(conn->error.procedure), "%s",
	    conn->procedure);
	return tds_class_rc(conn->error.class);
}

void
fake_reconnect(struct tds_conn *conn)
{
	conn->is_broken = false;
}

/* The first error that a row of them makes; 0: none. */
static int32_t
look(struct tds_conn *conn, const struct json_object *rows, size_t count)
{
	int32_t error = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t n = 0;

		assert_int_equal(json_get_u64(json_array_at(rows, i), "n",
				     FAKE_ROWS - 1, &n),
		    0);
		conn->sent[n]++;
		if (error == 0 && conn->is_bad[n])
			error = 2628;
		if (error == 0 && conn->is_key[n])
			error = 2627;
	}
	return error;
}

static void
commit(struct tds_conn *conn, const struct json_object *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t n = 0;

		assert_int_equal(json_get_u64(json_array_at(rows, i), "n",
				     FAKE_ROWS - 1, &n),
		    0);
		if (conn->written[n] > 0) {
			conn->old_count++;
			continue;
		}
		conn->written[n]++;
		conn->new_count++;
		conn->order[conn->order_count++] = n;
	}
}

static int
take(struct tds_conn *conn, const struct json_object *rows, size_t count)
{
	int32_t error = look(conn, rows, count);

	if (conn->fate.number != 0 && !conn->fate.is_after)
		error = conn->fate.number;
	if (error == 0)
		commit(conn, rows, count);
	if (conn->fate.number != 0 && conn->fate.is_after)
		error = conn->fate.number;
	conn->is_broken = conn->fate.breaks;
	if (error != 0)
		return answer_error(conn, error);
	conn->set = conn->fate.has_extra_sets ? 1 : SET_COUNTS;
	if (conn->fate.has_no_counts)
		conn->set = 0;
	conn->has_row = true;
	return 0;
}

/* ---- calls that are answered from a table ---- */

static void
note_params(struct fake_answer *answer, const struct tds_call *call)
{
	size_t len = 0;

	answer->params[0] = '\0';
	for (size_t i = 0; i < call->param_count; i++) {
		const struct tds_param *param = &call->params[i];
		size_t room = sizeof(answer->params) - len;
		int put;

		if (param->type == TDS_I64 || param->type == TDS_I32)
			put = snprintf(answer->params + len, room, "%s=%lld;",
			    param->name, (long long)param->number);
		else
			put = snprintf(answer->params + len, room, "%s=%.*s;",
			    param->name, (int)param->len,
			    (const char *)param->data);
		assert_in_range(put, 1, room - 1);
		len += (size_t)put;
	}
}

static struct fake_answer *
answer_of(struct tds_conn *conn, const char *procedure)
{
	for (size_t i = 0; i < conn->answer_count; i++) {
		if (strcmp(conn->answers[i].procedure, procedure) == 0)
			return &conn->answers[i];
	}
	return NULL;
}

static int
answer_call(struct tds_conn *conn, const struct tds_call *call)
{
	struct fake_answer *answer = answer_of(conn, call->procedure);

	conn->open = answer;
	conn->row = 0;
	conn->fate = (struct fake_fate){0};
	conn->error = (struct tds_error){0};
	snprintf(
	    conn->procedure, sizeof(conn->procedure), "%s", call->procedure);
	if (answer == NULL)
		return answer_error(conn, 2812);
	answer->calls++;
	note_params(answer, call);
	return answer->number != 0 ? answer_error(conn, answer->number) : 0;
}

/* @return false: there is no such column */
static bool
cell(struct tds_conn *conn, const char *column, const char **out)
{
	assert_non_null(conn->open);
	assert_true(conn->row > 0);
	for (int i = 0; i < FAKE_COLUMNS; i++) {
		const char *name = conn->open->columns[i];

		if (name == NULL || strcmp(name, column) != 0)
			continue;
		*out = conn->open->rows[conn->row - 1][i];
		return true;
	}
	return false;
}

/* As the real ones: what is missing or NULL is the setup's fault. */
int
tds_get_text(struct tds_conn *conn, const char *column, const char **out,
    size_t *len_out)
{
	if (!cell(conn, column, out) || *out == NULL)
		return answer_error(conn, 207);
	*len_out = strlen(*out);
	return 0;
}

int
tds_get_bit(struct tds_conn *conn, const char *column, bool *out)
{
	const char *text;

	if (!cell(conn, column, &text) || text == NULL)
		return answer_error(conn, 207);
	*out = strcmp(text, "1") == 0;
	return 0;
}

int
tds_get_is_null(struct tds_conn *conn, const char *column, bool *out)
{
	const char *text;

	if (!cell(conn, column, &text))
		return answer_error(conn, 207);
	*out = text == NULL;
	return 0;
}

static int
cell_i64(struct tds_conn *conn, const char *column, int64_t *out)
{
	const char *text;
	uint64_t n;

	if (!cell(conn, column, &text) || text == NULL ||
	    text_parse_u64(text, strlen(text), INT64_MAX, &n) != 0)
		return answer_error(conn, 207);
	*out = (int64_t)n;
	return 0;
}

/* ---- calls ---- */

int
tds_call(struct tds_conn *conn, const struct tds_call *call)
{
	const struct json_object *rows;
	struct json_object *value = NULL;
	struct buf text = {0};
	char error[256];
	size_t count;
	int rc;

	assert_false(conn->is_broken);
	if (conn->answer_count > 0)
		return answer_call(conn, call);
	conn->open = NULL;
	assert_int_equal(call->param_count, 1);
	assert_int_equal(call->params[0].type, TDS_TEXT);
	snprintf(
	    conn->procedure, sizeof(conn->procedure), "%s", call->procedure);
	snprintf(conn->param, sizeof(conn->param), "%s", call->params[0].name);
	if (call->params[0].len > conn->bytes_max)
		conn->bytes_max = call->params[0].len;
	conn->error = (struct tds_error){0};
	conn->new_count = 0;
	conn->old_count = 0;
	conn->fate = (struct fake_fate){0};
	if (conn->calls < conn->fate_count)
		conn->fate = conn->fates[conn->calls];
	conn->calls++;
	buf_add_str(&text, "{\"rows\":");
	buf_add(&text, call->params[0].data, call->params[0].len);
	buf_add_char(&text, '}');
	rc = json_parse(text.data, text.len, &value, error, sizeof(error));
	if (rc != 0)
		fail_msg("rows: %s", error);
	assert_int_equal(json_get_array(value, "rows", &rows, &count), 0);
	rc = take(conn, rows, count);
	json_free(&value);
	buf_fini(&text);
	return rc;
}

int
tds_next_row(struct tds_conn *conn)
{
	if (conn->open != NULL)
		return conn->row++ < conn->open->count ? 0 : ERR_NOT_FOUND;
	if (conn->set == 0 || !conn->has_row)
		return ERR_NOT_FOUND;
	conn->has_row = false;
	return 0;
}

int
tds_next_result(struct tds_conn *conn)
{
	if (conn->set == 0 || conn->set == SET_COUNTS) {
		conn->set = 0;
		return ERR_NOT_FOUND;
	}
	conn->set++;
	conn->has_row = true;
	return 0;
}

bool
tds_has_column(struct tds_conn *conn, const char *column)
{
	return conn->set == SET_COUNTS &&
	       (strcmp(column, "Written") == 0 || strcmp(column, "Known") == 0);
}

/* ms since 1970, as a number */
int
tds_get_time_ms(struct tds_conn *conn, const char *column, int64_t *out)
{
	return cell_i64(conn, column, out);
}

int
tds_get_i64(struct tds_conn *conn, const char *column, int64_t *out)
{
	if (conn->open != NULL)
		return cell_i64(conn, column, out);
	assert_true(tds_has_column(conn, column));
	*out = strcmp(column, "Known") == 0
		   ? conn->old_count
		   : conn->new_count + conn->fate.miscount;
	return 0;
}

int
tds_finish(struct tds_conn *conn, int rc)
{
	conn->set = 0;
	return rc;
}

int32_t
tds_status(const struct tds_conn *conn)
{
	return conn->fate.status;
}

const struct tds_error *
tds_error(const struct tds_conn *conn)
{
	return &conn->error;
}

bool
tds_is_usable(const struct tds_conn *conn)
{
	return !conn->is_broken;
}
