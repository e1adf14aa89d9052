/*
 * mssql_names.h - how an installation calls its stored procedures, their
 * parameters and the columns of their answers.
 *
 *     user = COB_GetUserById(@UserId = id) -> UserId = id, DisplayName = name
 *
 * Left of each "=" is the installation's name, right of it one of ours
 * (mssql_fields.def). What is not named is not passed, or not read; a
 * procedure that is empty is not there, and what needs it is UNAVAILABLE.
 */
#ifndef DIRECTORY_MSSQL_NAMES_H
#define DIRECTORY_MSSQL_NAMES_H

#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"

enum mssql_field {
#define FIELD(name) MSSQL_FIELD_##name,
#include "directory/mssql_fields.def"
#undef FIELD
	MSSQL_FIELD_END
};

enum mssql_proc {
#define PROCEDURE(name, param_needs, param_more, column_needs, column_more)    \
	MSSQL_PROC_##name,
#include "directory/mssql_procs.def"
#undef PROCEDURE
	MSSQL_PROC_END
};

struct mssql_procedure { /* owned strings; NULL: the installation has none */
	char *name;
	char *params[MSSQL_FIELD_END]; /* without "@" */
	char *columns[MSSQL_FIELD_END];
};

struct mssql_names {
	struct mssql_procedure procedures[MSSQL_PROC_END];
};

/**
 * Read one procedure's mapping.
 *
 * @param proc_out  zeroed; mssql_procedure_fini, also after an error
 * @param error     one line: what is wrong, and the nearest word that would do
 * @return          0 or ERR_BAD_REQUEST
 */
NODISCARD int mssql_procedure_parse(enum mssql_proc proc, const char *text,
    struct mssql_procedure *proc_out, char *error, size_t error_len);
void mssql_procedure_fini(struct mssql_procedure *procedure);

/**
 * All of [mssql_procedures], that what must be there is, and that [mssql]
 * password_check fits them.
 *
 * @param error  one line: conf_refuse
 * @return       0 or ERR_BAD_REQUEST
 */
NODISCARD int mssql_names_new(const struct conf *conf,
    struct mssql_names **names_out, char *error, size_t error_len);
/** Accepts NULL and clears. */
void mssql_names_free(struct mssql_names **names);

#endif
