/*
 * verb.c - requests of the control socket, from line to function.
 *
 * Role:    the table of verbs.def; checks arguments and options by the row
 *          before the function is called; makes the answer.
 * Process: console.
 * Blocks:  never; a verb that asks the keeper goes on in its step function.
 * Trust:   who can open the socket may do all of this; what they send is
 *          checked all the same.
 * See:     verbs.def, control.c, ctl/ctl.c.
 */
#include "config.h"

#include "console/verb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "shm/ids.h"
#include "shm/store.h"

#define PAGE_MAX 1000

#define WHERE_CONSOLE(id) verb_##id
#define WHERE_LOCAL(id)   NULL

static const struct verb_row rows[] = {
#define VERB(id, name, where, min, max, options, usage, help)                  \
	{name, WHERE_##where(id), min, max, options},
#include "console/verbs.def"
#undef VERB
};

static const struct verb_row *
find_row(const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].fn != NULL && strcmp(rows[i].name, name) == 0)
			return &rows[i];
	}
	return NULL;
}

/* ---- the end of a job ---- */

void
job_finish(struct job *job)
{
	job->is_done = true;
	if (job->text.len > 0 && !job->wants_json)
		json_put_string(
		    &job->fields, "text", job->text.data, job->text.len);
	json_object_end(&job->fields);
}

void
job_fail(struct job *job, enum job_code code, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	job->is_done = true;
	buf_clear(&job->fields);
	json_object_begin(&job->fields);
	json_put_bool(&job->fields, "ok", false);
	json_put_text(&job->fields, "error", text);
	json_put_u64(&job->fields, "code", (uint64_t)code);
	json_object_end(&job->fields);
}

void
job_fail_rc(struct job *job, int rc)
{
	if (rc == ERR_TIMEOUT)
		job_fail(job, JOB_FAILED,
		    "the keeper does not answer; look at parleyctl status "
		    "(what was asked for may still be done)");
	else
		job_fail(job, JOB_FAILED, "%s", err_text(rc));
}

void
job_answer(struct job *job, struct buf *out)
{
	buf_add(out, job->fields.data, job->fields.len);
	buf_add_char(out, '\n');
}

/* ---- for verbs ---- */

static void
answered(void *ctx, const struct keeper_answer *answer)
{
	struct job *job = ctx;

	job->step_fn(job, answer);
}

void
job_ask(struct job *job, uint16_t type, const void *record, size_t len,
    void (*step_fn)(struct job *job, const struct keeper_answer *answer))
{
	job->step_fn = step_fn;
	job->call.fn = answered;
	job->call.ctx = job;
	keeper_call_begin(job->console, &job->call, type, record, len);
}

const char *
job_option(const struct job *job, const char *name)
{
	const char *text = NULL;
	size_t len;
	bool value;

	if (job->options == NULL)
		return NULL;
	if (json_get_string(job->options, name, &text, &len) == 0)
		return text;
	if (json_get_bool(job->options, name, &value) == 0 && value)
		return "";
	return NULL;
}

int
job_number(struct job *job, const char *what, const char *text, uint64_t max,
    uint64_t *out)
{
	if (text_parse_u64(text, strlen(text), max, out) == 0)
		return 0;
	job_fail(job, JOB_USAGE, "%s: \"%.64s\" is not a number from 0 to %llu",
	    what, text, (unsigned long long)max);
	return ERR_BAD_REQUEST;
}

int
job_user_id(struct job *job, const char *text, uint64_t *id_out)
{
	if (text_parse_u64(text, strlen(text), USER_ID_MAX, id_out) == 0 &&
	    *id_out != 0)
		return 0;
	job_fail(job, JOB_USAGE, "\"%.64s\" is not a user id (1 to %llu)", text,
	    (unsigned long long)USER_ID_MAX);
	return ERR_BAD_REQUEST;
}

int
job_page(struct job *job, uint64_t *limit_out, uint64_t *cursor_out)
{
	const char *limit = job_option(job, "limit");
	const char *cursor = job_option(job, "cursor");

	*limit_out = PAGE_MAX;
	*cursor_out = 0;
	if (limit != NULL &&
	    job_number(job, "--limit", limit, PAGE_MAX, limit_out) != 0)
		return ERR_BAD_REQUEST;
	if (cursor != NULL &&
	    job_number(job, "--cursor", cursor, USER_ID_MAX, cursor_out) != 0)
		return ERR_BAD_REQUEST;
	if (*limit_out == 0) {
		job_fail(job, JOB_USAGE, "--limit: must be at least 1");
		return ERR_BAD_REQUEST;
	}
	return 0;
}

int
job_read_begin(struct job *job, struct txn *txn)
{
	struct store *store = console_store(job->console);
	int rc;

	if (store == NULL) {
		job_fail(job, JOB_FAILED,
		    "the store is not open yet; look at parleyctl status");
		return ERR_UNAVAILABLE;
	}
	rc = store_begin_read(store, txn);
	if (rc != 0)
		job_fail_rc(job, rc);
	return rc;
}

/* ---- the beginning of a job ---- */

/* "limit=" or "one-way" in the row's list? */
static bool
is_permitted(const struct verb_row *row, const char *name)
{
	size_t len = strlen(name);
	const char *at = row->options;

	while (*at != '\0') {
		size_t word = strcspn(at, " ");
		size_t bare = at[word - 1] == '=' ? word - 1 : word;

		if (bare == len && memcmp(at, name, len) == 0)
			return true;
		at += word;
		at += strspn(at, " ");
	}
	/* what parleyctl makes of --password-stdin */
	return strcmp(name, "password-hash") == 0 &&
	       strstr(row->options, "password-stdin") != NULL;
}

struct option_check {
	const struct verb_row *row;
	const char *unknown;
};

static void
check_option(void *ctx, const char *key, const struct json_object *value)
{
	struct option_check *check = ctx;

	(void)value;
	if (!is_permitted(check->row, key))
		check->unknown = key;
}

static int
take_args(struct job *job, const struct verb_row *row)
{
	const struct json_object *array = NULL;
	size_t count = 0;
	size_t len;
	int rc = json_get_array(job->request, "args", &array, &count);

	if (rc == ERR_BAD_REQUEST || count < row->arg_min ||
	    count > row->arg_max) {
		job_fail(
		    job, JOB_USAGE, "%s: wrong number of arguments", row->name);
		return ERR_BAD_REQUEST;
	}
	for (size_t i = 0; i < count; i++) {
		rc = json_value_string(
		    json_array_at(array, i), &job->args[i], &len);
		if (rc != 0 || strlen(job->args[i]) != len) {
			job_fail(job, JOB_USAGE, "%s: arguments are strings",
			    row->name);
			return ERR_BAD_REQUEST;
		}
	}
	job->arg_count = count;
	return 0;
}

static int
take_options(struct job *job, const struct verb_row *row)
{
	struct option_check check = {.row = row};
	int rc = json_get_object(job->request, "options", &job->options);

	if (rc == 0)
		json_each(job->options, check_option, &check);
	if (rc == ERR_BAD_REQUEST || check.unknown != NULL) {
		job_fail(job, JOB_USAGE, "%s: unknown option %.32s", row->name,
		    check.unknown != NULL ? check.unknown : "");
		return ERR_BAD_REQUEST;
	}
	return 0;
}

static void
job_start(struct job *job, const char *line, size_t len)
{
	const struct verb_row *row;
	const char *name = "";
	char error[128];
	size_t name_len;

	if (json_parse(line, len, &job->request, error, sizeof(error)) != 0) {
		job_fail(job, JOB_USAGE, "not a request: %s", error);
		return;
	}
	if (json_get_bool(job->request, "json", &job->wants_json) != 0)
		job->wants_json = false;
	if (json_get_string(job->request, "verb", &name, &name_len) != 0)
		name = "";
	row = find_row(name);
	if (row == NULL) {
		job_fail(job, JOB_USAGE, "unknown verb \"%.32s\"", name);
		return;
	}
	if (take_args(job, row) != 0 || take_options(job, row) != 0)
		return;
	json_object_begin(&job->fields);
	json_put_bool(&job->fields, "ok", true);
	row->fn(job);
}

struct job *
job_new(struct console *console, const char *line, size_t len)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->console = console;
	job_start(job, line, len);
	return job;
}

void
job_free(struct job **job)
{
	if (*job == NULL)
		return;
	keeper_call_end((*job)->console, &(*job)->call);
	buf_fini(&(*job)->fields);
	buf_fini(&(*job)->text);
	json_free(&(*job)->request);
	free(*job);
	*job = NULL;
}
