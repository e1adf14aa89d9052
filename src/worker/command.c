/*
 * command.c - from a text message to the handler of its command.
 *
 * Role:    parses once, finds the row, checks the state, answers what fails.
 * Process: worker.
 * Blocks:  never: without room for a record the text waits and the socket is
 *          not read.
 * Trust:   none: every byte is the client's.
 * See:     commands.def
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "net/net.h"
#include "worker/limit.h"
#include "worker/worker_priv.h"

#define STATES_NEW   (1u << SESSION_NEW)
#define STATES_READY (1u << SESSION_READY)
#define STATES_ANY   (STATES_NEW | STATES_READY)

#define COMMAND_NAME_MAX 64

static const struct command commands[] = {
#define COMMAND(name, function, states, reply, cost, query, doc)               \
	{#name, cmd_##function, STATES_##states, (reply) == 2, cost, query},
#include "worker/commands.def"
#undef COMMAND
};

static int
compare_name(const void *key, const void *row)
{
	return strcmp(key, ((const struct command *)row)->name);
}

static const struct command *
command_find(const char *name)
{
	return bsearch(name, commands, sizeof(commands) / sizeof(commands[0]),
	    sizeof(commands[0]), compare_name);
}

static bool
is_command_name(const char *text, size_t len)
{
	return len > 0 && len <= COMMAND_NAME_MAX &&
	       memchr(text, '\0', len) == NULL;
}

static bool
is_name_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || c == '_' ||
	       ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* @return 0, ERR_BAD_REQUEST with the message set */
static int
read_request_id(struct request *request)
{
	const struct json_object *value;
	const char *text;
	size_t len;

	if (json_get_value(request->json, "RequestId", &value) == ERR_NOT_FOUND)
		return 0;
	if (json_value_u64(value, SEQ_MAX, &request->id.number) == 0) {
		request->id.kind = 1;
		return 0;
	}
	if (json_value_string(value, &text, &len) == 0 && len > 0 &&
	    len <= REQUEST_ID_MAX) {
		request->id.kind = 2;
		request->id.len = (uint8_t)len;
		memcpy(request->id.text, text, len);
		return 0;
	}
	return request_bad_field(request, "RequestId",
	    "an integer from 0 to 2^53-1 or a string of 1 to 64 bytes");
}

static const char *
wrong_state(const struct session *session, const struct command *command)
{
	if (session->state == SESSION_READY)
		return "already logged in on this connection";
	if ((command->states & STATES_READY) != 0)
		return "log in with P_AUTHENTICATE first";
	return "not possible now";
}

/* A login is counted once it is known whose it is; what could not be done is
 * not counted. */
static int
call(struct request *request)
{
	struct session *session = request->session;
	bool is_counted = session->state == SESSION_READY;
	int rc = is_counted ? limit_query(request, session->user) : 0;

	if (rc != 0)
		return rc;
	rc = request->command->fn(request);
	if (rc != 0 && is_counted)
		limit_give_back(request, session->user);
	return rc;
}

/* @return  ERR_AGAIN: nothing was done, it is to come again; else answered */
static int
run_command(struct request *request, const char *name)
{
	struct session *session = request->session;
	const struct command *command = command_find(name);
	int rc;

	if (command == NULL) {
		reply_error(session, name, &request->id, ERR_UNKNOWN_COMMAND,
		    "no such command in this version of the server", -1);
		return 0;
	}
	request->command = command;
	if ((command->states & 1u << session->state) == 0) {
		reply_error(session, name, &request->id,
		    session->state == SESSION_READY ? ERR_CONFLICT
						    : ERR_UNAUTHENTICATED,
		    wrong_state(session, command), -1);
		return 0;
	}
	if (session->state == SESSION_READY)
		session_touch(session);
	request->retry_after_ms = -1;
	rc = call(request);
	if (rc != 0 && rc != ERR_AGAIN)
		reply_error(session, name, &request->id, rc, request->message,
		    request->retry_after_ms);
	return rc == ERR_AGAIN ? rc : 0;
}

/* Members of a text that is no JSON, as JSON of their own. */
static int
salvage(const char *data, size_t len, bool with_id, struct json_object **out)
{
	static const char *const names[] = {"Command", "RequestId"};
	struct buf text = {0};
	struct json_span value;
	char error[128];
	int rc;

	json_object_begin(&text);
	for (size_t i = 0; i < (with_id ? 2 : 1); i++) {
		if (json_salvage_member(data, len, names[i], &value))
			json_put_raw(&text, names[i], value.data, value.len);
	}
	json_object_end(&text);
	rc = json_parse(text.data, text.len, out, error, sizeof(error));
	buf_fini(&text);
	return rc;
}

/* "Seq: expected ... at byte 57", where the name is one of ours. */
static void
name_culprit(struct request *request, const char *data, size_t len)
{
	char message[sizeof(request->message)];
	struct json_span name;

	if (!json_salvage_culprit(data, len, json_fault_offset(), &name) ||
	    name.len == 0 || name.len > COMMAND_NAME_MAX)
		return;
	for (size_t i = 0; i < name.len; i++) {
		if (!is_name_char((unsigned char)name.data[i]))
			return;
	}
	memcpy(message, request->message, sizeof(message));
	(void)request_fail(request, ERR_BAD_REQUEST, "%.*s: %.160s",
	    (int)name.len, name.data, message);
}

/*
 * A text that is no JSON is a bad request like others: the client waits for
 * the reply to this Command and RequestId, if they can be read.
 */
static void
refuse_text(struct request *request, const char *data, size_t len)
{
	struct json_object *json = NULL;
	char name[COMMAND_NAME_MAX + 1] = "P_ERROR";
	char message[sizeof(request->message)];
	const char *text;
	size_t text_len;

	name_culprit(request, data, len);
	if (salvage(data, len, true, &json) != 0 &&
	    salvage(data, len, false, &json) != 0)
		goto out;
	request->json = json;
	if (json_get_string(json, "Command", &text, &text_len) == 0 &&
	    is_command_name(text, text_len)) {
		memcpy(name, text, text_len);
		name[text_len] = '\0';
	}
	/* Whatever is wrong with the RequestId, the text was refused first. */
	memcpy(message, request->message, sizeof(message));
	if (read_request_id(request) != 0)
		request->id.kind = 0;
	memcpy(request->message, message, sizeof(message));
out:
	reply_error(request->session, name, &request->id, ERR_BAD_REQUEST,
	    request->message, -1);
	json_free(&json);
}

/* The request's json is borrowed, and gone when this returns. @return as
 * run_command */
static int
take_text(struct request *request, const char *data, size_t len)
{
	struct session *session = request->session;
	struct json_object *json = NULL;
	char name[COMMAND_NAME_MAX + 1];
	const char *text;
	size_t text_len;
	int again = 0;
	int rc;

	COUNT(requests);
	rc = json_parse(
	    data, len, &json, request->message, sizeof(request->message));
	if (rc != 0) {
		refuse_text(request, data, len);
		return 0;
	}
	request->json = json;
	rc = json_get_string(json, "Command", &text, &text_len);
	if (rc != 0 || !is_command_name(text, text_len)) {
		if (read_request_id(request) != 0)
			request->id.kind = 0;
		reply_error(session, "P_ERROR", &request->id, ERR_BAD_REQUEST,
		    "Command: expected a string of 1 to 64 bytes", -1);
		goto out;
	}
	memcpy(name, text, text_len);
	name[text_len] = '\0';
	rc = read_request_id(request);
	if (rc != 0)
		reply_error(session, name, NULL, rc, request->message, -1);
	else
		again = run_command(request, name);
out:
	json_free(&json);
	return again;
}

static void
dispatch(struct session *session, const char *data, size_t len)
{
	struct request request = {
	    .worker = session->worker,
	    .session = session,
	    .started_us = clock_mono_us(),
	};

	if (take_text(&request, data, len) == 0) {
		limit_pace(session, request.command, len, request.started_us);
		return;
	}
	/* It waits for one before it: learn_free. */
	buf_add(&session->stalled, data, len);
	session_pause(session, PAUSE_RING);
}

void
command_dispatch(struct session *session, char *data, size_t len)
{
	struct worker *worker = session->worker;

	if (session->state >= SESSION_LEAVING)
		return;
	if (!pending_has_room(worker, len)) {
		buf_add(&session->stalled, data, len);
		session->is_stalled = true;
		TAILQ_INSERT_TAIL(&worker->stalled, session, stalled_link);
		session_pause(session, PAUSE_RING);
		return;
	}
	dispatch(session, data, len);
}
