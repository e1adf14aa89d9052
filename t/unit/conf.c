/*
 * conf.c - the configuration.
 *
 * Role:    every default, unit and refusal; what is printed is read back;
 *          long and odd secrets survive and never show.
 * Process: test.
 * Blocks:  on small files in a folder of its own.
 * Trust:   -
 * See:     src/base/conf*.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/conf.h"

static char path[] = "conf-test-XXXXXX";
static char error[512];

static void
file_write(const char *text, size_t len)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static struct conf *
load(const char *text)
{
	struct conf *conf = NULL;

	file_write(text, strlen(text));
	if (conf_load(path, &conf, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	return conf;
}

static void
assert_refused_len(const char *text, size_t len, const char *wanted)
{
	struct conf *conf = NULL;
	char whole[600];

	file_write(text, len);
	*error = '\0';
	assert_int_equal(
	    conf_load(path, &conf, error, sizeof(error)), ERR_BAD_REQUEST);
	assert_null(conf);
	snprintf(whole, sizeof(whole), "%s:%s", path, wanted);
	assert_string_equal(error, whole);
}

static void
assert_refused(const char *text, const char *wanted)
{
	assert_refused_len(text, strlen(text), wanted);
}

/* The stream's text; to free. */
static char *
printed(const struct conf *conf, void (*print_fn)(FILE *))
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	if (conf != NULL)
		conf_print(conf, out);
	else
		print_fn(out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void
defaults_hold_without_a_file(void **state)
{
	struct conf *conf = NULL;

	(void)state;
	assert_int_equal(conf_load(NULL, &conf, error, sizeof(error)), 0);
	assert_int_equal(conf->server_auth_timeout, 10000);
	assert_int_equal(conf->server_listen.count, 1);
	assert_string_equal(conf->server_listen.items[0], "0.0.0.0:3333");
	assert_int_equal(conf->server_listen_tls.count, 0);
	assert_int_equal(conf->server_max_message_size, 1 << 20);
	assert_false(conf->auth_auto_provision);
	assert_int_equal(conf->server_tls_cert.count, 0);
	assert_string_equal(conf->policy_may_message, "contacts");
	assert_true(conf->store_map_size == INT64_C(64) << 30);
	conf_free(&conf);
	assert_null(conf);
	conf_free(&conf);
}

static void
missing_file_is_an_io_error(void **state)
{
	struct conf *conf = NULL;

	(void)state;
	assert_int_equal(
	    conf_load("/nonexistent/parleyd.conf", &conf, error, sizeof(error)),
	    ERR_IO);
	assert_string_equal(
	    error, "/nonexistent/parleyd.conf: No such file or directory");
	assert_int_equal(conf_load("/", &conf, error, sizeof(error)), ERR_IO);
}

static void
file_syntax_is_forgiving_where_it_is_safe(void **state)
{
	struct conf *conf = load("\xef\xbb\xbf# c\r\n"
				 "; [x]\n\n"
				 "  [server]  ; c\r\n"
				 "\tlisten=a:1 , b:2,,  [::1]:3 ,\r\n"
				 "   workers : 4\n"
				 "run_dir = /tmp/a b=c;d#e\n"
				 "[auth]\n"
				 "auto_provision = ON\n"
				 "[server]\n"
				 "node=255");

	(void)state;
	assert_int_equal(conf->server_listen.count, 3);
	assert_string_equal(conf->server_listen.items[0], "a:1");
	assert_string_equal(conf->server_listen.items[1], "b:2");
	assert_string_equal(conf->server_listen.items[2], "[::1]:3");
	assert_int_equal(conf->server_workers, 4);
	assert_string_equal(conf->server_run_dir, "/tmp/a b=c;d#e");
	assert_true(conf->auth_auto_provision);
	assert_int_equal(conf->server_node, 255);
	conf_free(&conf);
}

static void
units_are_read(void **state)
{
	struct conf *conf = load("[server]\nping_interval = 30\n"
				 "auth_timeout=100ms\nmax_message_size=2048\n"
				 "heartbeat_interval = 1d\n"
				 "[store]\nmap_size=16384G\n"
				 "[ops]\nlisten =\n");

	(void)state;
	assert_int_equal(conf->server_ping_interval, 30000);
	assert_int_equal(conf->server_auth_timeout, 100);
	assert_int_equal(conf->server_heartbeat_interval, 86400000);
	assert_int_equal(conf->server_max_message_size, 2048);
	assert_true(conf->store_map_size == INT64_C(17592186044416));
	assert_string_equal(conf->ops_listen, "");
	conf_free(&conf);
}

static void
mistakes_are_refused_with_their_place(void **state)
{
	(void)state;
	assert_refused("[server]\nlisen = a:1\n",
	    "2: unknown key in [server]: \"lisen\"; did you mean \"listen\"?");
	assert_refused(
	    "[server]\nqqqq = 1\n", "2: unknown key in [server]: \"qqqq\"");
	assert_refused("[server]\n= 1\n", "2: unknown key in [server]:");
	assert_refused("\n[sever]\n",
	    "2: unknown section \"sever\"; did you mean \"server\"?");
	assert_refused("[]\n", "1: unknown section");
	assert_refused("listen = a:1\n", "1: a key before the first [section]");
	assert_refused(
	    "[server] listen = a:1\n", "1: expected nothing after ']'");
	assert_refused("[server\n", "1: expected ']' at the end of a section");
	assert_refused("[server]\nlisten\n",
	    "2: expected [section], key = value, or a comment");
	assert_refused("[server]\nlisten ; = a\n",
	    "2: expected [section], key = value, or a comment");
	assert_refused("[server]\nnode = 1\n[log]\n[server]\nnode = 1\n",
	    "5: node is set in line 2 already");
	assert_refused_len("[log]\n\0", 7, "2: not a text in UTF-8");
	assert_refused("[log]\n;\xff\n", "2: not a text in UTF-8");
}

static void
bad_values_say_what_was_expected(void **state)
{
	(void)state;
	assert_refused("[server]\nworkers = 65\n",
	    "2: workers: expected an integer from 0 to 64");
	assert_refused("[server]\nworkers = many\n",
	    "2: workers: expected an integer from 0 to 64");
	assert_refused("[server]\nworkers = 4 ; four\n",
	    "2: workers: expected an integer from 0 to 64");
	assert_refused("[server]\nping_interval = 99ms\n",
	    "2: ping_interval: expected a duration from 100ms to 1h "
	    "(with ms, s, m, h or d)");
	assert_refused("[server]\nping_interval =\n",
	    "2: ping_interval: expected a duration from 100ms to 1h "
	    "(with ms, s, m, h or d)");
	assert_refused("[server]\nmax_message_size = 17M\n",
	    "2: max_message_size: expected a size from 1K to 16M "
	    "(with K, M or G)");
	assert_refused("[auth]\nauto_provision = maybe\n",
	    "2: auto_provision: expected yes or no");
	assert_refused("[log]\nlevel = Info\n",
	    "2: level: expected one of error, warn, info, debug");
	assert_refused("[log]\nlevel = info|debug\n",
	    "2: level: expected one of error, warn, info, debug");
	assert_refused("[server]\nuser = parley ; who\n",
	    "2: user: expected text (no comment behind it)");
	assert_refused("[server]\nlisten = a:1, #b\n",
	    "2: listen: expected a list separated by commas "
	    "(no comment behind it)");
	assert_refused("[server]\nuser = a\x1b[0m\n",
	    "2: user: expected text (no comment behind it)");
}

/* libinih alone would cut each of them. */
static void
secrets_survive_whole(void **state)
{
	char text[4096] = "[auth]\njwt_hs256_secret = "
			  ";first ;x-----------------------, #b=:";
	size_t len = strlen(text);
	struct conf *conf;
	const struct conf_list *list;

	(void)state;
	memset(text + len, 'k', 3000);
	strcpy(text + len + 3000, ", last-789012345678901234567890123\n"
				  "jwt_issuer = me\n");
	conf = load(text);
	list = &conf->auth_jwt_hs256_secret;
	assert_int_equal(list->count, 3);
	assert_string_equal(list->items[0], ";first ;x-----------------------");
	assert_int_equal(strlen(list->items[1]), 3004);
	assert_string_equal(list->items[2], "last-789012345678901234567890123");
	assert_string_equal(conf->auth_jwt_issuer, "me");
	conf_free(&conf);
}

/* Lengths around the line buffers of libinih. */
static void
values_of_every_length_survive(void **state)
{
	(void)state;
	for (size_t len = 150; len < 450; len++) {
		char text[600] = "[server]\nrun_dir = ";
		size_t head = strlen(text);
		struct conf *conf;

		memset(text + head, 'x', len);
		text[head + len] = '\n';
		conf = load(text);
		assert_int_equal(strlen(conf->server_run_dir), len);
		conf_free(&conf);
	}
}

static void
a_short_secret_is_refused_with_its_place(void **state)
{
	static const char why[] = "jwt_hs256_secret: expected secrets of at "
				  "least 32 bytes each, separated by commas";
	char text[200];

	(void)state;
	snprintf(text, sizeof(text), "2: %s", why);
	assert_refused(
	    "[auth]\njwt_hs256_secret = 1234567890123456789012345678901\n",
	    text);
	assert_refused(
	    "[auth]\njwt_hs256_secret = 12345678901234567890123456789012,x\n",
	    text);
	conf_free(&(struct conf *){load(
	    "[auth]\njwt_hs256_secret = 12345678901234567890123456789012\n")});
	setenv("PARLEY_AUTH_JWT_HS256_SECRET", "short", 1);
	file_write("", 0);
	struct conf *conf = NULL;
	assert_int_equal(
	    conf_load(path, &conf, error, sizeof(error)), ERR_BAD_REQUEST);
	assert_non_null(strstr(error, "PARLEY_AUTH_JWT_HS256_SECRET"));
	assert_non_null(strstr(error, "32 bytes"));
	unsetenv("PARLEY_AUTH_JWT_HS256_SECRET");
}

static void
secrets_never_show(void **state)
{
	const char *texts[] = {
	    "[auth]\njwt_hs256_secret = TOPSECRET, a\x01\n",
	    "[auth]\njwt_hs256_secret = a,\n TOPSECRET=\n",
	    "[auth]\nTOPSECRET\n",
	    "[auth]\nTOPSECRET = x\n",
	    "TOPSECRET = x\n",
	    "[TOPSECRET]\n",
	    "[auth]\njwt_hs256_secret=TOPSECRET\njwt_hs256_secret=TOPSECRET\n",
	};
	struct conf *conf = NULL;
	char *text;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		file_write(texts[i], strlen(texts[i]));
		assert_int_equal(conf_load(path, &conf, error, sizeof(error)),
		    ERR_BAD_REQUEST);
		assert_null(strstr(error, "TOPSECRET"));
	}
	conf = load(
	    "[auth]\njwt_hs256_secret = TOPSECRET-of-at-least-32-bytes---\n");
	text = printed(conf, NULL);
	assert_null(strstr(text, "TOPSECRET"));
	assert_non_null(strstr(text, "\n; jwt_hs256_secret = (hidden)\n"));
	free(text);
	conf_free(&conf);
}

static void
environment_overrides_the_file(void **state)
{
	struct conf *conf;

	(void)state;
	setenv("PARLEY_SERVER_LISTEN", "c:9, d:8", 1);
	setenv("PARLEY_SERVER_LISTEN_TLS", " ", 1);
	setenv("PARLEY_AUTH_JWT_HS256_SECRET",
	    "a;b ; c which is 32 bytes long--", 1);
	setenv("PARLEY_UNRELATED", "x", 1);
	conf = load("[server]\nlisten = a:1\n");
	assert_int_equal(conf->server_listen.count, 2);
	assert_string_equal(conf->server_listen.items[1], "d:8");
	assert_int_equal(conf->server_listen_tls.count, 0);
	assert_string_equal(conf->auth_jwt_hs256_secret.items[0],
	    "a;b ; c which is 32 bytes long--");
	conf_free(&conf);
	unsetenv("PARLEY_SERVER_LISTEN");
	unsetenv("PARLEY_SERVER_LISTEN_TLS");
	unsetenv("PARLEY_AUTH_JWT_HS256_SECRET");
	unsetenv("PARLEY_UNRELATED");
}

static void
assert_env_refused(const char *name, const char *value, const char *wanted)
{
	struct conf *conf = NULL;

	setenv(name, value, 1);
	assert_int_equal(
	    conf_load(NULL, &conf, error, sizeof(error)), ERR_BAD_REQUEST);
	assert_string_equal(error, wanted);
	unsetenv(name);
}

static void
bad_environment_is_refused(void **state)
{
	(void)state;
	assert_env_refused("PARLEY_LOG_LEVLE", "info",
	    "environment: unknown setting \"PARLEY_LOG_LEVLE\"; did you mean "
	    "\"PARLEY_LOG_LEVEL\"?");
	assert_env_refused("PARLEY_LOG_LEVEL", "loud",
	    "environment: PARLEY_LOG_LEVEL: expected one of error, warn, "
	    "info, debug");
	assert_env_refused("PARLEY_SERVER_USER", "a\nb",
	    "environment: PARLEY_SERVER_USER: expected text (no comment "
	    "behind it)");
}

static void
printed_configuration_is_read_back(void **state)
{
	struct conf *conf =
	    load("[server]\nlisten = a:1, b:2\nauth_timeout = 1500ms\n"
		 "run_dir = /a b;c\nlisten_tls =\nmax_message_size = 1025\n"
		 "[auth]\nauto_provision = yes\n[store]\nmap_size = 17M\n"
		 "commit_delay_max = 0\n[policy]\nmay_message = anyone\n");
	char *first = printed(conf, NULL);
	char *second;

	(void)state;
	conf_free(&conf);
	conf = load(first);
	second = printed(conf, NULL);
	assert_string_equal(first, second);
	assert_non_null(strstr(first, "\nauth_timeout = 1500ms\n"));
	assert_non_null(strstr(first, "\nlisten = a:1, b:2\n"));
	assert_non_null(strstr(first, "\nmax_message_size = 1025\n"));
	assert_string_equal(conf->server_run_dir, "/a b;c");
	assert_true(conf->auth_auto_provision);
	conf_free(&conf);
	free(first);
	free(second);
}

/* As an operator does it: the ';' before each key goes. */
static void
sample_holds_every_default(void **state)
{
	char *sample = printed(NULL, conf_print_sample);
	struct conf *defaults = NULL;
	struct conf *conf = load(sample);
	char *wanted;
	char *got;

	(void)state;
	conf_free(&conf);
	for (char *at = sample; *at != '\0'; at++) {
		if (at[0] == '\n' && at[1] == ';' && at[2] != ' ')
			at[1] = ' ';
	}
	conf = load(sample);
	assert_int_equal(conf_load(NULL, &defaults, error, sizeof(error)), 0);
	got = printed(conf, NULL);
	wanted = printed(defaults, NULL);
	assert_string_equal(got, wanted);
#define CONF(section, key, type, def, min, max, reload, help)                  \
	assert_non_null(strstr(sample, "\n " #key " ="));
#include "base/conf.def"
#undef CONF
	free(got);
	free(wanted);
	free(sample);
	conf_free(&conf);
	conf_free(&defaults);
}

static void
manual_names_every_key(void **state)
{
	char *manual = printed(NULL, conf_print_manual);

	(void)state;
#define CONF(section, key, type, def, min, max, reload, help)                  \
	assert_non_null(strstr(manual, "\n.B " #key "\n"));
#include "base/conf.def"
#undef CONF
	assert_non_null(strstr(manual, "\n.SH SEE ALSO\n"));
	free(manual);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(defaults_hold_without_a_file),
	    cmocka_unit_test(missing_file_is_an_io_error),
	    cmocka_unit_test(file_syntax_is_forgiving_where_it_is_safe),
	    cmocka_unit_test(units_are_read),
	    cmocka_unit_test(mistakes_are_refused_with_their_place),
	    cmocka_unit_test(bad_values_say_what_was_expected),
	    cmocka_unit_test(secrets_survive_whole),
	    cmocka_unit_test(values_of_every_length_survive),
	    cmocka_unit_test(a_short_secret_is_refused_with_its_place),
	    cmocka_unit_test(secrets_never_show),
	    cmocka_unit_test(environment_overrides_the_file),
	    cmocka_unit_test(bad_environment_is_refused),
	    cmocka_unit_test(printed_configuration_is_read_back),
	    cmocka_unit_test(sample_holds_every_default),
	    cmocka_unit_test(manual_names_every_key),
	};
	int fd = mkstemp(path);
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (fd < 0)
		return 1;
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
