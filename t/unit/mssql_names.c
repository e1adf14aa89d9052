/*
 * mssql_names.c - unit test of src/directory/mssql_names.c: the defaults, what
 * an installation may rename or leave out, and what is refused.
 */
#include "config.h"

#include "directory/mssql_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
parse(enum mssql_proc proc, const char *text, struct mssql_procedure *out,
    char error[256])
{
	*out = (struct mssql_procedure){0};
	error[0] = '\0';
	return mssql_procedure_parse(proc, text, out, error, 256);
}

static void
names_are_the_installations(void **state)
{
	struct mssql_procedure user;
	char error[256];

	(void)state;
	assert_int_equal(parse(MSSQL_PROC_user,
			     " chat.GetPerson ( @PersonNo=id ) ->"
			     "PersonNo = id,Voller Name=name ,Akt\xc3\xadv "
			     "= active ",
			     &user, error),
	    0);
	assert_string_equal(user.name, "chat.GetPerson");
	assert_string_equal(user.params[MSSQL_FIELD_id], "PersonNo");
	assert_string_equal(user.columns[MSSQL_FIELD_id], "PersonNo");
	assert_string_equal(user.columns[MSSQL_FIELD_name], "Voller Name");
	assert_string_equal(user.columns[MSSQL_FIELD_active], "Akt\xc3\xadv");
	assert_null(user.columns[MSSQL_FIELD_role]);
	mssql_procedure_fini(&user);
	assert_null(user.name);
}

static void
a_procedure_may_be_missing(void **state)
{
	struct mssql_procedure none;
	char error[256];

	(void)state;
	assert_int_equal(parse(MSSQL_PROC_user, "", &none, error), 0);
	assert_null(none.name);
	assert_int_equal(parse(MSSQL_PROC_user, " \t ", &none, error), 0);
	assert_null(none.name);
	/* ... and so may its columns, where none is needed */
	assert_int_equal(
	    parse(MSSQL_PROC_write_batch, "W(Json = rows)", &none, error), 0);
	assert_string_equal(none.params[MSSQL_FIELD_rows], "Json");
	assert_null(none.columns[MSSQL_FIELD_written]);
	mssql_procedure_fini(&none);
}

static void
mistakes_are_named(void **state)
{
	static const struct {
		const char *text;
		const char *error; /* a part of it */
	} mistakes[] = {
	    {"COB_GetUserById", "such as \"COB_GetUserById(@UserId = id)"},
	    {"X(@UserId = id", "the \"(\" is not closed"},
	    {"X(@UserId = id)) -> UserId = id", "expected \"Procedure("},
	    {"X((@UserId = id) -> UserId = id", "expected a parameter as"},
	    {"X)@UserId = id(", "expected \"Procedure("},
	    {"(@UserId = id) -> UserId = id", "expected \"Procedure("},
	    {"X(@UserId = id) UserId = id", "expected \"Procedure("},
	    {"X(@UserId = id) - > UserId = id", "expected \"Procedure("},
	    {"X(@UserId)", "expected a parameter as"},
	    {"X(= id)", "expected a parameter as"},
	    {"X(@ = id)", "expected a parameter as"},
	    {"X(@@Id = id)", "expected a parameter as"},
	    {"X(@UserId = id,,)", "expected a parameter as"},
	    {"X(@UserId = idd)",
		"no parameter of it is \"idd\"; did you mean \"id\"?"},
	    {"X(@UserId = name)",
		"no parameter of it is \"name\"; known are: id"},
	    {"X(@UserId = id) -> UserId = id, N = quux",
		"\"quux\"; known are: active, id, login, name, profile, role"},
	    {"X(@UserId = id, @Id = id)", "\"id\" stands for two parameters"},
	    {"X()", "it needs a parameter for \"id\""},
	    {"X(@UserId = id)", "it needs a column for \"id\""},
	    {"X(@UserId = id) -> DisplayName = name",
		"it needs a column for \"id\""},
	    {"X(@UserId = id) -> UserId = id, N = nane",
		"no column of it is \"nane\"; did you mean \"name\"?"},
	    {"X(@UserId = id) -> UserId = id, A = name, B = name",
		"\"name\" stands for two columns"},
	    {"X\x01(@UserId = id) -> UserId = id", "expected \"Procedure("},
	    {"X(@\xff = id) -> UserId = id", "expected a parameter as"},
	};
	struct mssql_procedure out;
	char error[256];

	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		assert_int_equal(
		    parse(MSSQL_PROC_user, mistakes[i].text, &out, error),
		    ERR_BAD_REQUEST);
		if (strstr(error, mistakes[i].error) == NULL)
			fail_msg("%s: %s", mistakes[i].text, error);
		mssql_procedure_fini(&out);
	}
}

static void
names_have_a_length(void **state)
{
	struct mssql_procedure out;
	char text[400];
	char error[256];
	char name[140];

	(void)state;
	memset(name, 'n', sizeof(name));
	snprintf(text, sizeof(text), "%.127s(@%.127s = rows)", name, name);
	assert_int_equal(parse(MSSQL_PROC_write_batch, text, &out, error), 0);
	mssql_procedure_fini(&out);
	snprintf(text, sizeof(text), "%.128s(@%.127s = rows)", name, name);
	assert_int_equal(
	    parse(MSSQL_PROC_write_batch, text, &out, error), ERR_BAD_REQUEST);
	mssql_procedure_fini(&out);
	snprintf(text, sizeof(text), "%.127s(@%.128s = rows)", name, name);
	assert_int_equal(
	    parse(MSSQL_PROC_write_batch, text, &out, error), ERR_BAD_REQUEST);
	mssql_procedure_fini(&out);
}

static void
a_parameter_is_given_once(void **state)
{
	struct mssql_procedure out;
	char error[256];

	(void)state;
	assert_int_equal(
	    parse(MSSQL_PROC_authenticate,
		"L(@N = login, @n = password) -> Id = id", &out, error),
	    ERR_BAD_REQUEST);
	assert_string_equal(error, "it has two parameters \"@n\"");
	mssql_procedure_fini(&out);
	/* ... but one column may say two things */
	assert_int_equal(
	    parse(MSSQL_PROC_user,
		"U(@Id = id) -> Id = id, N = login, N = name", &out, error),
	    0);
	mssql_procedure_fini(&out);
}

/* A configuration of these lines. @return as mssql_names_new */
static int
names_of(const char *lines, struct mssql_names **out, char error[256])
{
	char path[] = "/tmp/parley-names-XXXXXX";
	struct conf *conf = NULL;
	int fd = mkstemp(path);
	FILE *file;
	int rc;

	assert_true(fd >= 0);
	file = fdopen(fd, "w");
	assert_non_null(file);
	fputs(lines, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(conf_load(path, &conf, error, 256), 0);
	unlink(path);
	rc = mssql_names_new(conf, out, error, 256);
	conf_free(&conf);
	return rc;
}

static void
the_defaults_are_complete(void **state)
{
	struct mssql_names *names = NULL;
	char error[256];

	(void)state;
	assert_int_equal(names_of("", &names, error), 0);
	for (int i = 0; i < MSSQL_PROC_END; i++)
		assert_non_null(names->procedures[i].name);
	assert_string_equal(names->procedures[MSSQL_PROC_write_batch].name,
	    "Parley_Write_Batch");
	assert_string_equal(names->procedures[MSSQL_PROC_authenticate]
				.columns[MSSQL_FIELD_hash],
	    "PasswordHash");
	mssql_names_free(&names);
	assert_null(names);
	mssql_names_free(&names);
}

static void
a_password_goes_where_it_was_allowed_to(void **state)
{
	static const char mapped[] =
	    "[mssql_procedures]\nauthenticate = Login(@U = login, "
	    "@P = password) -> UserId = id\n";
	struct mssql_names *names = NULL;
	char lines[512];
	char error[256];

	(void)state;
	assert_int_equal(names_of(mapped, &names, error), ERR_BAD_REQUEST);
	assert_null(names);
	assert_non_null(strstr(error, "no password leaves"));
	snprintf(lines, sizeof(lines),
	    "[mssql]\npassword_check = procedure\n%s", mapped);
	assert_int_equal(names_of(lines, &names, error), 0);
	mssql_names_free(&names);
	snprintf(lines, sizeof(lines),
	    "[mssql]\nencryption = off\npassword_check = procedure\n%s",
	    mapped);
	assert_int_equal(names_of(lines, &names, error), ERR_BAD_REQUEST);
	assert_non_null(strstr(error, ":2: encryption: must not be off"));
	assert_int_equal(
	    names_of("[mssql]\npassword_check = procedure\n", &names, error),
	    ERR_BAD_REQUEST);
	assert_non_null(strstr(error, "a parameter for \"password\""));
	assert_int_equal(
	    names_of("[mssql_procedures]\nauthenticate = L(@U = login) -> "
		     "UserId = id\n",
		&names, error),
	    ERR_BAD_REQUEST);
	assert_non_null(strstr(error, "a column for \"hash\""));
	/* an installation where nobody logs in by password */
	assert_int_equal(
	    names_of("[mssql_procedures]\nauthenticate =\n", &names, error), 0);
	mssql_names_free(&names);
}

/* Where it stands: in a line, in the environment, or nowhere. */
static void
a_mistake_has_a_place(void **state)
{
	struct mssql_names *names = NULL;
	char error[256];

	(void)state;
	assert_int_equal(
	    names_of("[mssql]\npassword_check = procedure\n\n"
		     "[mssql_procedures]\nuser = U(@I = id) -> I = idd\n",
		&names, error),
	    ERR_BAD_REQUEST);
	assert_non_null(strstr(error, ":5: user: no column of it is \"idd\""));
	assert_int_equal(
	    names_of("[mssql_procedures]\nwrite_batch =\n", &names, error),
	    ERR_BAD_REQUEST);
	assert_non_null(strstr(error, ":2: write_batch: there must be one"));
	assert_int_equal(
	    names_of("[mssql]\npassword_check = procedure\n", &names, error),
	    ERR_BAD_REQUEST);
	assert_int_equal(
	    strncmp(error, "[mssql_procedures] authenticate: with ", 38), 0);
	setenv("PARLEY_MSSQL_PROCEDURES_USER_LIST", "oops", 1);
	assert_int_equal(names_of("", &names, error), ERR_BAD_REQUEST);
	unsetenv("PARLEY_MSSQL_PROCEDURES_USER_LIST");
	assert_non_null(strstr(
	    error, "environment: PARLEY_MSSQL_PROCEDURES_USER_LIST: expected"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_are_the_installations),
	    cmocka_unit_test(a_procedure_may_be_missing),
	    cmocka_unit_test(mistakes_are_named),
	    cmocka_unit_test(names_have_a_length),
	    cmocka_unit_test(a_parameter_is_given_once),
	    cmocka_unit_test(a_mistake_has_a_place),
	    cmocka_unit_test(the_defaults_are_complete),
	    cmocka_unit_test(a_password_goes_where_it_was_allowed_to),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
