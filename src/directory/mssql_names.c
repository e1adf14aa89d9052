/*
 * mssql_names.c - the mapping of stored procedures.
 *
 * Role:    from [mssql_procedures] to names for calls.
 * Process: directory, supervisor (-t).
 * Blocks:  never.
 * Trust:   the operator's; a mistake is refused with the word that is wrong.
 *          Names go into the protocol's fields for names, never into SQL.
 * See:     mssql_names.h, mssql_procs.def, t/unit/mssql_names.c.
 */
#include "config.h"

#include "directory/mssql_names.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"

#define SECTION      "mssql_procedures"
#define NAME_LEN_MAX 127 /* bytes; TDS_NAME_MAX keeps as many */
#define ERROR_MAX    512
#define F(name)      (1U << MSSQL_FIELD_##name)
#define MESSAGE_FIELDS                                                         \
	(F(attachment) | F(client_time) | F(deleted) | F(edited) |             \
	    F(reply_to) | F(type))
#define USER_FIELDS (F(active) | F(login) | F(name) | F(profile) | F(role))

static const char *const field_names[MSSQL_FIELD_END] = {
#define FIELD(name) #name,
#include "directory/mssql_fields.def"
#undef FIELD
};

static const struct {
	const char *name;
	unsigned param_needs;
	unsigned param_may;
	unsigned column_needs;
	unsigned column_may;
} procs[MSSQL_PROC_END] = {
#define PROCEDURE(name, param_needs, param_more, column_needs, column_more)    \
	{#name, param_needs, (param_needs) | (param_more), column_needs,       \
	    (column_needs) | (column_more)},
#include "directory/mssql_procs.def"
#undef PROCEDURE
};

/* A list of "Name = field" that is being read. */
struct reading {
	const char *what; /* "parameter" or "column" */
	bool are_params;
	const char *at;
	const char *end;
	unsigned may;
	unsigned needs;
	char **names; /* by field */
	char *error;
	size_t error_len;
};

static void
trim(const char **at, const char **end)
{
	while (*at < *end && isspace((unsigned char)**at))
		(*at)++;
	while (*end > *at && isspace((unsigned char)(*end)[-1]))
		(*end)--;
}

/* Nothing that the form above gives a meaning to, and nothing invisible. */
static bool
is_name(const char *at, const char *end)
{
	if (at == end || end - at > NAME_LEN_MAX)
		return false;
	for (const char *c = at; c < end; c++) {
		if (iscntrl((unsigned char)*c) || strchr("=,()@", *c) != NULL)
			return false;
	}
	return text_utf8_valid(at, (size_t)(end - at));
}

static int
fail_field(const struct reading *reading, const char *word)
{
	const char *known[MSSQL_FIELD_END];
	struct buf text = {0};
	const char *nearest;
	size_t count = 0;

	buf_printf(&text, "no %s of it is \"%.64s\"", reading->what, word);
	for (int i = 0; i < MSSQL_FIELD_END; i++) {
		if ((reading->may & 1U << i) != 0)
			known[count++] = field_names[i];
	}
	nearest = text_nearest(word, known, count);
	if (nearest != NULL)
		buf_printf(&text, "; did you mean \"%s\"?", nearest);
	if (count == 0)
		buf_add_str(&text, ", none is known here");
	for (size_t i = 0; i < count; i++)
		buf_printf(&text, "%s%s",
		    i > 0             ? ", "
		    : nearest != NULL ? " Known are: "
				      : "; known are: ",
		    known[i]);
	snprintf(reading->error, reading->error_len, "%.*s", (int)text.len,
	    text.data);
	buf_fini(&text);
	return ERR_BAD_REQUEST;
}

/* Parameters are given by name, which counts without case there; a column may
 * be read as two things. */
static bool
is_taken(const struct reading *reading, const char *at, size_t len)
{
	for (int i = 0; reading->are_params && i < MSSQL_FIELD_END; i++) {
		const char *name = reading->names[i];

		if (name != NULL && strlen(name) == len &&
		    strncasecmp(name, at, len) == 0)
			return true;
	}
	return false;
}

/* "@Name = field" or "Name = field" */
static int
read_pair(struct reading *reading, const char *at, const char *end)
{
	const char *equals = memchr(at, '=', (size_t)(end - at));
	const char *name_end = equals;
	const char *word_at = equals != NULL ? equals + 1 : end;
	char *word;
	int field = 0;
	int rc = 0;

	if (equals != NULL) {
		trim(&at, &name_end);
		trim(&word_at, &end);
		if (at < name_end && *at == '@')
			at++;
	}
	if (equals == NULL || !is_name(at, name_end)) {
		snprintf(reading->error, reading->error_len,
		    "expected a %s as \"Name = word\"", reading->what);
		return ERR_BAD_REQUEST;
	}
	word = xstrndup(word_at, (size_t)(end - word_at));
	while (field < MSSQL_FIELD_END && strcmp(field_names[field], word) != 0)
		field++;
	if (field == MSSQL_FIELD_END || (reading->may & 1U << field) == 0) {
		rc = fail_field(reading, word);
	} else if (reading->names[field] != NULL) {
		snprintf(reading->error, reading->error_len,
		    "\"%s\" stands for two %ss", word, reading->what);
		rc = ERR_BAD_REQUEST;
	} else if (is_taken(reading, at, (size_t)(name_end - at))) {
		snprintf(reading->error, reading->error_len,
		    "it has two parameters \"@%.*s\"", (int)(name_end - at),
		    at);
		rc = ERR_BAD_REQUEST;
	} else {
		reading->names[field] = xstrndup(at, (size_t)(name_end - at));
	}
	free(word);
	return rc;
}

static int
read_pairs(struct reading *reading)
{
	trim(&reading->at, &reading->end);
	while (reading->at < reading->end) {
		const char *comma = memchr(
		    reading->at, ',', (size_t)(reading->end - reading->at));
		const char *end = comma != NULL ? comma : reading->end;
		int rc = read_pair(reading, reading->at, end);

		if (rc != 0)
			return rc;
		reading->at = comma != NULL ? comma + 1 : reading->end;
	}
	for (int i = 0; i < MSSQL_FIELD_END; i++) {
		if ((reading->needs & 1U << i) == 0 ||
		    reading->names[i] != NULL)
			continue;
		snprintf(reading->error, reading->error_len,
		    "it needs a %s for \"%s\"", reading->what, field_names[i]);
		return ERR_BAD_REQUEST;
	}
	return 0;
}

/* Where its columns begin: behind "->", or at the end when there are none.
 * NULL: something else stands there. */
static const char *
columns_begin(const char *at, const char *end)
{
	trim(&at, &end);
	if (at == end)
		return end;
	return end - at >= 2 && at[0] == '-' && at[1] == '>' ? at + 2 : NULL;
}

int
mssql_procedure_parse(enum mssql_proc proc, const char *text,
    struct mssql_procedure *proc_out, char *error, size_t error_len)
{
	const char *open = strchr(text, '(');
	const char *close = strchr(text, ')');
	const char *end = text + strlen(text);
	const char *at = text;
	const char *name_end = open;
	const char *columns = NULL;
	struct reading reading = {.error = error, .error_len = error_len};
	int rc;

	trim(&at, &end);
	if (at == end)
		return 0;
	if (open != NULL && close != NULL && open < close) {
		trim(&at, &name_end);
		columns = columns_begin(close + 1, end);
	}
	if (columns == NULL || !is_name(at, name_end)) {
		snprintf(error, error_len,
		    "%sexpected \"Procedure(@Parameter = word, ...) -> "
		    "Column = word, ...\", such as \"%s\"",
		    open != NULL && close == NULL ? "the \"(\" is not closed: "
						  : "",
		    conf_default(SECTION, procs[proc].name));
		return ERR_BAD_REQUEST;
	}
	proc_out->name = xstrndup(at, (size_t)(name_end - at));
	reading.what = "parameter";
	reading.are_params = true;
	reading.at = open + 1;
	reading.end = close;
	reading.may = procs[proc].param_may;
	reading.needs = procs[proc].param_needs;
	reading.names = proc_out->params;
	rc = read_pairs(&reading);
	if (rc != 0)
		return rc;
	reading.what = "column";
	reading.are_params = false;
	reading.at = columns;
	reading.end = end;
	reading.may = procs[proc].column_may;
	reading.needs = procs[proc].column_needs;
	reading.names = proc_out->columns;
	return read_pairs(&reading);
}

void
mssql_procedure_fini(struct mssql_procedure *procedure)
{
	free(procedure->name);
	for (int i = 0; i < MSSQL_FIELD_END; i++) {
		free(procedure->params[i]);
		free(procedure->columns[i]);
	}
	*procedure = (struct mssql_procedure){0};
}

/* Who checks a password must be told it, or have its hash. */
static int
check_password(
    const struct conf_check *check, const struct mssql_procedure *procedure)
{
	const struct conf *conf = check->conf;
	bool is_hash = strcmp(conf->mssql_password_check, "hash") == 0;
	const char *what = NULL;

	if (procedure->name == NULL)
		return 0;
	if (!is_hash && strcmp(conf->mssql_encryption, "off") == 0)
		return conf_refuse(check, "mssql", "encryption",
		    "must not be off: with password_check = procedure "
		    "passwords are sent to the server");
	if (is_hash && procedure->params[MSSQL_FIELD_password] != NULL)
		what = "has a parameter for \"password\", but so no password "
		       "leaves this machine: leave it out";
	else if (is_hash && procedure->columns[MSSQL_FIELD_hash] == NULL)
		what = "needs a column for \"hash\"";
	else if (!is_hash && procedure->params[MSSQL_FIELD_password] == NULL)
		what = "needs a parameter for \"password\"";
	if (what == NULL)
		return 0;
	return conf_refuse(check, SECTION, "authenticate",
	    "with [mssql] password_check = %s it %s",
	    conf->mssql_password_check, what);
}

static int
check_all(const struct conf_check *check, const struct mssql_names *names)
{
	if (names->procedures[MSSQL_PROC_write_batch].name == NULL)
		return conf_refuse(check, SECTION, "write_batch",
		    "there must be one, such as \"%s\"",
		    conf_default(SECTION, "write_batch"));
	return check_password(
	    check, &names->procedures[MSSQL_PROC_authenticate]);
}

int
mssql_names_new(const struct conf *conf, struct mssql_names **names_out,
    char *error, size_t error_len)
{
	const char *const texts[MSSQL_PROC_END] = {
#define PROCEDURE(name, param_needs, param_more, column_needs, column_more)    \
	conf->mssql_procedures_##name,
#include "directory/mssql_procs.def"
#undef PROCEDURE
	};
	const struct conf_check check = {conf, error, error_len};
	struct mssql_names *names = xcalloc(1, sizeof(*names));
	char why[ERROR_MAX];
	int rc = 0;

	for (int i = 0; i < MSSQL_PROC_END && rc == 0; i++) {
		rc = mssql_procedure_parse((enum mssql_proc)i, texts[i],
		    &names->procedures[i], why, sizeof(why));
		if (rc != 0)
			rc = conf_refuse(
			    &check, SECTION, procs[i].name, "%s", why);
	}
	if (rc == 0)
		rc = check_all(&check, names);
	if (rc == 0)
		*names_out = names;
	else
		mssql_names_free(&names);
	return rc;
}

void
mssql_names_free(struct mssql_names **names)
{
	if (*names == NULL)
		return;
	for (int i = 0; i < MSSQL_PROC_END; i++)
		mssql_procedure_fini(&(*names)->procedures[i]);
	free(*names);
	*names = NULL;
}
