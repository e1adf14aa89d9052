/*
 * tds_conf.c - unit test of tds/tds_conf.c: what -t says about [mssql].
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "tds/tds_conf.h"

static char folder[] = "/tmp/parley-tds-conf-XXXXXX";
static char path[sizeof(folder) + 16];

/* Settings as in the environment; "" is the default. */
static const char *
check(const char *key, const char *value)
{
	static char error[300];
	struct conf *conf = NULL;

	error[0] = '\0';
	setenv("PARLEY_MSSQL_SERVER", "db.example.org", 1);
	setenv("PARLEY_MSSQL_DATABASE", "chat", 1);
	setenv("PARLEY_MSSQL_USER", "parley", 1);
	setenv("PARLEY_MSSQL_PASSWORD", "s;e#cret", 1);
	if (strcmp(key, "PARLEY_MSSQL_PASSWORD_FILE") == 0)
		setenv("PARLEY_MSSQL_PASSWORD", "", 1);
	setenv(key, value, 1);
	assert_int_equal(conf_load(NULL, &conf, error, sizeof(error)), 0);
	if (tds_conf_check(conf, error, sizeof(error)) == 0)
		assert_string_equal(error, "");
	else
		assert_null(strstr(error, "cret"));
	conf_free(&conf);
	unsetenv(key);
	return error;
}

static void
file_write(const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void
what_is_missing_is_named(void **state)
{
	(void)state;
	assert_string_equal(check("PARLEY_MSSQL_POOL_MIN", "20"), "");
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_SERVER", ""), "MSSQL_SERVER:"));
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_DATABASE", ""), "MSSQL_DATABASE:"));
	assert_non_null(strstr(check("PARLEY_MSSQL_USER", ""), "MSSQL_USER:"));
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_PASSWORD", ""), "MSSQL_PASSWORD:"));
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_PASSWORD", "a,secret"), "comma"));
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_POOL_MIN", "21"), "MSSQL_POOL_MIN:"));
	assert_non_null(strstr(
	    check("PARLEY_MSSQL_CA_FILE", "/nowhere/ca"), "MSSQL_CA_FILE:"));
}

static void
a_password_file_is_kept_from_others(void **state)
{
	char longest[131];

	(void)state;
	file_write("with, comma secret\nsecond line\n", 0640);
	assert_string_equal(check("PARLEY_MSSQL_PASSWORD_FILE", path), "");
	file_write("secret\n", 0644);
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_PASSWORD_FILE", path), "chmod"));
	file_write("\nsecret\n", 0600);
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_PASSWORD_FILE", path), "first line"));
	memset(longest, 'x', sizeof(longest));
	longest[128] = '\0';
	file_write(longest, 0600);
	assert_string_equal(check("PARLEY_MSSQL_PASSWORD_FILE", path), "");
	longest[128] = 'x';
	longest[129] = '\0';
	file_write(longest, 0600);
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_PASSWORD_FILE", path), "128 bytes"));
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_PASSWORD_FILE", folder), "plain file"));
	unlink(path);
	assert_non_null(
	    strstr(check("PARLEY_MSSQL_PASSWORD_FILE", path), "No such"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_missing_is_named),
	    cmocka_unit_test(a_password_file_is_kept_from_others),
	};
	int failed;

	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s/password", folder);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
