/*
 * ctl_client.c - verbs that the console executes.
 *
 * Role:    one request line to the control socket, one answer line back.
 * Process: parleyctl.
 * Blocks:  on the console, up to ANSWER_WITHIN_S.
 * Trust:   the answer comes from the console; it is shown.
 * See:     console/control.c.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/password.h"
#include "base/text.h"
#include "ctl/ctl_priv.h"

#define CONNECT_WITHIN_MS 5000 /* a console that is being restarted */
#define CONNECT_RETRY_MS  20
#define ANSWER_WITHIN_S   60 /* of silence; see console/keeper_call.c */
#define ANSWER_MAX        (8 * 1024 * 1024)

/* ---- the request ---- */

size_t
ctl_read_secret(char *line, size_t size)
{
	size_t len;

	if (fgets(line, (int)size, stdin) == NULL)
		line[0] = '\0';
	len = strcspn(line, "\r\n");
	line[len] = '\0';
	return len;
}

int
ctl_read_password(struct ctl *ctl, char hash[PASSWORD_HASH_MAX])
{
	char line[PASSWORD_LEN_MAX + 2];
	size_t len = ctl_read_secret(line, sizeof(line));
	int rc;

	rc = password_hash(line, len, hash);
	mem_wipe(line, sizeof(line));
	if (rc == ERR_BAD_REQUEST)
		return ctl_fail(ctl, CTL_FAILED,
		    "a password has 1 to %d bytes, on the first line of "
		    "standard input",
		    PASSWORD_LEN_MAX);
	if (rc != 0)
		return ctl_fail(ctl, CTL_FAILED, "password: %s", err_text(rc));
	return CTL_OK;
}

static void
put_options(const struct ctl *ctl, struct buf *out, const char *hash)
{
	json_key(out, "options");
	json_object_begin(out);
	for (size_t i = 0; i < ctl->option_count; i++) {
		const char *name = ctl->option_names[i];

		if (strcmp(name, "password-stdin") == 0)
			json_put_text(out, "password-hash", hash);
		else if (ctl->option_values[i] != NULL)
			json_put_text(out, name, ctl->option_values[i]);
		else
			json_put_bool(out, name, true);
	}
	json_object_end(out);
}

static void
put_request(const struct ctl *ctl, struct buf *out, const char *hash)
{
	json_object_begin(out);
	json_put_text(out, "verb", ctl->row->name);
	json_put_bool(out, "json", ctl->wants_json);
	json_key(out, "args");
	json_array_begin(out);
	for (size_t i = 0; i < ctl->arg_count; i++)
		json_string(out, ctl->args[i], strlen(ctl->args[i]));
	json_array_end(out);
	put_options(ctl, out, hash);
	json_object_end(out);
	buf_add_char(out, '\n');
}

static bool
words_are_utf8(const struct ctl *ctl)
{
	for (size_t i = 0; i < ctl->arg_count; i++) {
		if (!text_utf8_valid(ctl->args[i], strlen(ctl->args[i])))
			return false;
	}
	for (size_t i = 0; i < ctl->option_count; i++) {
		const char *value = ctl->option_values[i];

		if (value != NULL && !text_utf8_valid(value, strlen(value)))
			return false;
	}
	return true;
}

/* ---- the connection ---- */

/* @return CTL_OK and a descriptor, else said */
static int
connect_console(struct ctl *ctl, int *fd_out)
{
	int64_t deadline_ms = clock_mono_ms() + CONNECT_WITHIN_MS;
	int cause;

	for (;;) {
		*fd_out = ctl_connect(
		    ctl, "control.sock", SOCK_STREAM, ANSWER_WITHIN_S);
		if (*fd_out != -1)
			return CTL_OK;
		cause = errno;
		if (cause != ENOENT && cause != ECONNREFUSED)
			return ctl_fail(ctl, CTL_FAILED,
			    "cannot reach the console in %s: %s",
			    ctl->conf->server_run_dir, strerror(cause));
		if (ctl_daemon_pid(ctl) == 0)
			return ctl_fail_not_running(ctl);
		if (clock_mono_ms() >= deadline_ms)
			return ctl_fail(ctl, CTL_FAILED,
			    "parleyd runs, but its console does not answer; "
			    "look at parleyctl status");
		ctl_sleep_ms(CONNECT_RETRY_MS);
	}
}

static int
send_all(int fd, const struct buf *data)
{
	size_t done = 0;

	while (done < data->len) {
		ssize_t n =
		    send(fd, data->data + done, data->len - done, MSG_NOSIGNAL);

		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return ERR_IO;
		done += (size_t)n;
	}
	return 0;
}

/* One line, without its newline. */
static int
read_line(int fd, struct buf *out)
{
	for (;;) {
		char *room = buf_reserve(out, 16384);
		ssize_t n = recv(fd, room, 16384, 0);

		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0 || out->len > ANSWER_MAX)
			return ERR_IO;
		out->len += (size_t)n;
		if (out->data[out->len - 1] == '\n') {
			out->len--;
			return 0;
		}
	}
}

/* ---- the answer ---- */

static int
show(struct ctl *ctl, const struct buf *line)
{
	struct json_object *answer = NULL;
	const char *text = NULL;
	uint64_t code = CTL_FAILED;
	char error[128];
	bool is_ok = false;
	size_t len;
	int exit_code;

	if (json_parse_trusted(
		line->data, line->len, &answer, error, sizeof(error)) != 0)
		return ctl_fail(
		    ctl, CTL_FAILED, "the console's answer: %s", error);
	if (json_get_bool(answer, "ok", &is_ok) != 0)
		is_ok = false;
	if (is_ok) {
		if (ctl->wants_json)
			printf("%.*s\n", (int)line->len, line->data);
		else if (json_get_string(answer, "text", &text, &len) == 0)
			fwrite(text, 1, len, stdout);
		json_free(&answer);
		return CTL_OK;
	}
	if (json_get_string(answer, "error", &text, &len) != 0)
		text = "refused";
	if (json_get_u64(answer, "code", CTL_USAGE, &code) != 0)
		code = CTL_FAILED;
	exit_code = ctl_fail(ctl, (enum ctl_exit)code, "%s", text);
	json_free(&answer);
	return exit_code;
}

int
ctl_ask_console(struct ctl *ctl)
{
	char hash[PASSWORD_HASH_MAX] = "";
	struct buf request = {0};
	struct buf answer = {0};
	int fd = -1;
	int code = CTL_OK;

	if (!words_are_utf8(ctl))
		return ctl_fail(ctl, CTL_USAGE, "arguments must be UTF-8");
	if (ctl_option(ctl, "password-stdin") != NULL)
		code = ctl_read_password(ctl, hash);
	if (code == CTL_OK)
		code = connect_console(ctl, &fd);
	if (code != CTL_OK)
		goto out;
	put_request(ctl, &request, hash);
	if (send_all(fd, &request) != 0 || read_line(fd, &answer) != 0)
		code = ctl_fail(ctl, CTL_FAILED,
		    "the console ended or was silent before it answered; what "
		    "was asked for may have been done");
	else
		code = show(ctl, &answer);
out:
	if (fd != -1)
		close(fd);
	mem_wipe(hash, sizeof(hash));
	if (request.data != NULL)
		mem_wipe(request.data, request.len);
	buf_fini(&request);
	buf_fini(&answer);
	return code;
}
