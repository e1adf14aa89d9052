/*
 * log.c - the log.
 *
 * Role:    form of the lines, repeats, several processes, what goes wrong.
 * Process: test, with children.
 * Blocks:  on small files in the current folder.
 * Trust:   -
 * See:     src/base/log*.c.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/json.h"
#include "base/text.h"
#include "t/unit/log_box.h"

/* From the level on: before it is only the time. */
static void
assert_log(const char *wanted)
{
	char *text = log_text_of(path);
	char *out = text;
	char all[8192] = "";

	while (*out != '\0') {
		char *end = strchr(out, '\n');

		assert_non_null(end);
		assert_true(end - out > 25);
		assert_int_equal(out[10], 'T');
		assert_int_equal(out[23], 'Z');
		strncat(all, out + 25, (size_t)(end - out) - 24);
		out = end + 1;
	}
	assert_string_equal(all, wanted);
	free(text);
}

static void
text_lines_have_their_parts(void **state)
{
	struct log_ctx ctx = {7, 9, "203.0.113.9:51312"};
	char wanted[512];
	long pid = (long)getpid();

	(void)state;
	log_begin("text");
	log_info(&ctx, "session-open", "device=%s", "ab");
	log_warn(NULL, "plain", "n=%d", 1);
	log_debug(NULL, "hidden", "x");
	assert_false(log_is_on(LOG_LEVEL_DEBUG));
	snprintf(wanted, sizeof(wanted),
	    "info worker-0[%ld] session-open user=7 session=9 "
	    "peer=203.0.113.9:51312 device=ab\nwarn worker-0[%ld] plain "
	    "n=1\n",
	    pid, pid);
	assert_log(wanted);
	log_close();
}

static void
nobody_forges_a_line_or_a_terminal_code(void **state)
{
	struct log_ctx ctx = {.peer = "a\nb"};
	char wanted[512];

	(void)state;
	log_begin("text");
	log_info(&ctx, "evil",
	    "a\nb\r\t\x1b[0m\x7f\\ \xc2\x9b \xff\xc3 \xe2\x82 "
	    "\xc3\xa9\"");
	snprintf(wanted, sizeof(wanted),
	    "info worker-0[%ld] evil peer=a\\nb a\\nb\\r\\t\\u001b[0m\\u007f"
	    "\\\\ \\u009b \xef\xbf\xbd\xef\xbf\xbd "
	    "\xef\xbf\xbd\xef\xbf\xbd \xc3\xa9\"\n",
	    (long)getpid());
	assert_log(wanted);
	log_close();
}

static void
assert_member(
    const struct json_object *line, const char *key, const char *wanted)
{
	const char *text;
	size_t len;

	assert_int_equal(json_get_string(line, key, &text, &len), 0);
	assert_string_equal(text, wanted);
}

static void
json_lines_are_json(void **state)
{
	struct log_ctx ctx = {7, UINT64_MAX, "p\""};
	struct json_object *line = NULL;
	char error[100];
	char *text;
	uint64_t n;

	(void)state;
	log_begin("json");
	log_error(&ctx, "evil", "\"a\"\n\x1b\x7f\\ \xc2\x9b \xff");
	text = log_text_of(path);
	assert_int_equal(
	    json_parse(text, strlen(text), &line, error, sizeof(error)), 0);
	assert_member(line, "level", "error");
	assert_member(line, "process", "worker-0");
	assert_member(line, "event", "evil");
	assert_member(line, "session", "18446744073709551615");
	assert_member(line, "peer", "p\"");
	assert_member(
	    line, "message", "\"a\"\n\x1b\x7f\\ \xc2\x9b \xef\xbf\xbd");
	assert_int_equal(json_get_u64(line, "user", 7, &n), 0);
	assert_int_equal(json_get_u64(line, "pid", INT32_MAX, &n), 0);
	assert_int_equal(n, getpid());
	json_free(&line);
	json_fini();
	free(text);
	log_close();
}

/* Around the limit, of characters that take 1, 2 and 6 bytes in the line. */
static void
lines_are_cut_at_4_kib_and_stay_whole(void **state)
{
	const char *units[] = {"x", "\xc3\xa9", "\x01", "\xff"};

	(void)state;
	for (int i = 0; i < 2 * 4 * 20; i++) {
		const char *unit = units[i / 2 % 4];
		bool is_json = i % 2 == 1;
		char message[9000] = "";
		struct json_object *line = NULL;
		char error[100];
		char *text;
		size_t len = 0;

		while (len < 3950 + (size_t)i) {
			memcpy(message + len, unit, strlen(unit));
			len += strlen(unit);
		}
		log_begin(is_json ? "json" : "text");
		log_info(NULL, "long", "%s", message);
		log_close();
		text = log_text_of(path);
		len = strlen(text);
		assert_true(len <= 4096);
		assert_int_equal(line_count(text), 1);
		assert_int_equal(text[len - 1], '\n');
		assert_true(text_utf8_valid(text, len));
		if (is_json) {
			assert_int_equal(
			    json_parse(text, len, &line, error, sizeof(error)),
			    0);
			json_free(&line);
		}
		free(text);
	}
	json_fini();
}

static void
repeats_are_held_back_and_told(void **state)
{
	struct log_ctx ctx = {.user_id = 3};
	char wanted[1024];
	long pid = (long)getpid();

	(void)state;
	log_begin("text");
	for (int i = 0; i < 5; i++) {
		log_warn(NULL, "a", "x=1");
		log_warn(NULL, "b", "x=1"); /* alternating does not help */
		clock_shift(1900);
	}
	log_warn(&ctx, "a", "x=1"); /* about somebody else */
	clock_shift(500);
	log_tick(); /* the 10 s of the first two are over */
	log_warn(NULL, "a", "x=1");
	log_warn(NULL, "a", "x=1");
	log_flush();
	log_flush();
	snprintf(wanted, sizeof(wanted),
	    "warn worker-0[%1$ld] a x=1\n"
	    "warn worker-0[%1$ld] b x=1\n"
	    "warn worker-0[%1$ld] a user=3 x=1\n"
	    "warn worker-0[%1$ld] a repeated 4 times: x=1\n"
	    "warn worker-0[%1$ld] b repeated 4 times: x=1\n"
	    "warn worker-0[%1$ld] a x=1\n"
	    "warn worker-0[%1$ld] a repeated 1 times: x=1\n",
	    pid);
	assert_log(wanted);
	log_close();
}

static void
no_repeat_is_lost_when_many_lines_differ(void **state)
{
	char *text;

	(void)state;
	log_begin("text");
	log_info(NULL, "first", "x");
	log_info(NULL, "first", "x");
	for (int i = 0; i < 100; i++)
		log_info(NULL, "other", "i=%d", i);
	text = log_text_of(path);
	assert_int_equal(line_count(text), 102);
	assert_non_null(strstr(text, "first repeated 1 times: x\n"));
	free(text);
	log_close();
}

/* Texts that are equal as far as they are remembered, then differ. */
static void
long_texts_are_told_apart(void **state)
{
	char message[1500];
	char *text;

	(void)state;
	memset(message, 'x', sizeof(message));
	message[sizeof(message) - 1] = '\0';
	log_begin("text");
	log_info(NULL, "long", "%sa", message);
	log_info(NULL, "long", "%sb", message);
	log_info(NULL, "long", "%sb", message);
	text = log_text_of(path);
	assert_int_equal(line_count(text), 2);
	free(text);
	log_close();
}

static void
errors_are_counted_even_when_held_back(void **state)
{
	uint64_t before = count_self->counters[COUNTER_errors_logged];

	(void)state;
	log_begin("text");
	log_error(NULL, "e", "x");
	log_error(NULL, "e", "x");
	log_warn(NULL, "w", "x");
	assert_int_equal(
	    count_self->counters[COUNTER_errors_logged], before + 2);
	log_close();
}

static void
lines_of_processes_do_not_mix(void **state)
{
	char *text;
	int status;

	(void)state;
	log_begin("text");
	for (int child = 0; child < 4; child++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid != 0)
			continue;
		log_forget();
		for (int i = 0; i < 200; i++)
			log_info(
			    NULL, "mix", "child=%d i=%d %0900d.", child, i, 0);
		_exit(0);
	}
	for (int child = 0; child < 4; child++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	text = log_text_of(path);
	assert_int_equal(line_count(text), 800);
	for (char *line = text; *line != '\0';) {
		char *end = strchr(line, '\n');

		assert_int_equal(line[23], 'Z');
		assert_int_equal(end[-1], '.');
		line = end + 1;
	}
	free(text);
	log_close();
}

static void
reopen_goes_to_the_new_file(void **state)
{
	char *text;

	(void)state;
	log_begin("text");
	log_info(NULL, "one", "x");
	assert_int_equal(rename(path, other_path), 0);
	log_info(NULL, "two", "x");
	log_reopen();
	log_info(NULL, "three", "x");
	text = log_text_of(other_path);
	assert_int_equal(line_count(text), 2);
	free(text);
	text = log_text_of(path);
	assert_int_equal(line_count(text), 1);
	assert_non_null(strstr(text, "three"));
	free(text);
	unlink(other_path);
	log_close();
}

static void
bad_settings_change_nothing(void **state)
{
	struct log_conf level = {path, "loud", "text", false};
	struct log_conf format = {path, "info", "xml", false};
	struct log_conf target = {"relative.log", "info", "text", false};
	struct log_conf missing = {"/nonexistent/x.log", "info", "text", false};
	char *text;

	(void)state;
	log_begin("text");
	assert_int_equal(log_open(&level), ERR_BAD_REQUEST);
	assert_int_equal(log_open(&format), ERR_BAD_REQUEST);
	assert_int_equal(log_open(&target), ERR_BAD_REQUEST);
	assert_int_equal(log_open(&missing), ERR_IO);
	log_info(NULL, "still", "here");
	text = log_text_of(path);
	assert_int_equal(line_count(text), 1);
	free(text);
	log_close();
}

static void
panic_writes_and_aborts(void **state)
{
	char out[2048];
	int fds[2];
	int status;
	pid_t pid = fork_with_stderr(fds);

	(void)state;
	if (pid == 0)
		panic("broken by %d", 42);
	read_all(fds, out, sizeof(out));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(out, " panic at="));
	assert_non_null(strstr(out, " broken by 42\n"));
}

static void
fatal_writes_and_exits_1(void **state)
{
	char out[2048];
	int fds[2];
	int status;
	pid_t pid = fork_with_stderr(fds);

	(void)state;
	if (pid == 0) {
		signal(SIGALRM, SIG_DFL);
		log_warn(NULL, "w", "x");
		log_warn(NULL, "w", "x");
		fatal("no way on");
	}
	read_all(fds, out, sizeof(out));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_non_null(strstr(out, " w repeated 1 times: x\n"));
	assert_non_null(strstr(out, " fatal no way on\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(text_lines_have_their_parts),
	    cmocka_unit_test(nobody_forges_a_line_or_a_terminal_code),
	    cmocka_unit_test(json_lines_are_json),
	    cmocka_unit_test(lines_are_cut_at_4_kib_and_stay_whole),
	    cmocka_unit_test(repeats_are_held_back_and_told),
	    cmocka_unit_test(no_repeat_is_lost_when_many_lines_differ),
	    cmocka_unit_test(long_texts_are_told_apart),
	    cmocka_unit_test(errors_are_counted_even_when_held_back),
	    cmocka_unit_test(lines_of_processes_do_not_mix),
	    cmocka_unit_test(reopen_goes_to_the_new_file),
	    cmocka_unit_test(bad_settings_change_nothing),
	    cmocka_unit_test(panic_writes_and_aborts),
	    cmocka_unit_test(fatal_writes_and_exits_1),
	};
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (make_folder() != 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
