/*
 * cmd_session.c - logging in and out, status, tokens.
 *
 * Role:    P_AUTHENTICATE in its steps: credentials (token here, password in
 *          the directory process), the keeper's word, the first page, the
 *          reply. Meanwhile the socket is not read.
 * Process: worker.
 * Trust:   a token is checked before anything in it is believed.
 * See:     doc/protocol.md, Session; base/jwt.h
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/crypto.h"
#include "base/jwt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/password.h"
#include "net/net.h"
#include "shm/presence.h"
#include "worker/event.h"
#include "worker/limit.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

#define EPOCH_TEXT_MAX      64
#define USERNAME_MAX        128
#define LOGIN_REPLY_RESERVE (sizeof(struct record_login_reply) + NAME_MAX_BYTES)

struct login_params {
	struct request_id id;
	int64_t started_us;
	int64_t expires_at_ms; /* wall clock; 0: never */
	uint64_t key_id;       /* of the token; 0: password */
	uint64_t last_seq;
	uint32_t flags; /* enum login_flags */
	uint8_t status;
	uint8_t device_len;
	char device[DEVICE_ID_MAX];
	uint8_t name_len; /* of the token, for a user that is made now */
	char name[NAME_MAX_BYTES];
	/* the keeper's answer, until the reply */
	struct record_login_reply reply;
};

void
login_free(struct session *session)
{
	free(session->login);
	session->login = NULL;
	if (session->bearer != NULL &&
	    (session->state == SESSION_GONE || session->id != 0)) {
		mem_wipe(session->bearer, strlen(session->bearer));
		free(session->bearer);
		session->bearer = NULL;
	}
}

void
login_failed(struct session *session, const struct request_id *id, int rc,
    const char *message, int64_t retry_after_ms)
{
	COUNT(logins_failed);
	free(session->login);
	session->login = NULL;
	session->id = 0;
	session->user = 0;
	if (session->state == SESSION_CHECKING)
		session_set_state(session, SESSION_NEW);
	if (rc == ERR_UNAVAILABLE)
		retry_after_ms = RETRY_AFTER_MS;
	reply_error(session, "P_AUTHENTICATE", id, rc, message, retry_after_ms);
	session_resume(session, PAUSE_LOGIN);
	session_not_let_in(session);
}

/* ---- fields ---- */

static int
read_device(struct request *request, struct login_params *login)
{
	const char *text;
	size_t len;
	int rc;

	rc = request_string(
	    request, "DeviceId", FIELD_REQUIRED, 1, DEVICE_ID_MAX, &text, &len);
	if (rc != 0)
		return rc;
	memcpy(login->device, text, len);
	login->device_len = (uint8_t)len;
	return 0;
}

static int
read_position(struct request *request, struct login_params *login)
{
	const char *text;
	size_t len;
	int rc;

	rc = request_u64(
	    request, "LastSeq", FIELD_OPTIONAL, 0, SEQ_MAX, &login->last_seq);
	if (rc == 0)
		login->flags |= LOGIN_HAS_SEQ;
	else if (rc != ERR_NOT_FOUND)
		return rc;
	rc = request_string(
	    request, "Epoch", FIELD_OPTIONAL, 1, EPOCH_TEXT_MAX, &text, &len);
	if (rc == 0 && (len != EPOCH_LEN ||
			   memcmp(text, request->worker->epoch, len) != 0))
		login->flags |= LOGIN_EPOCH_DIFFERS;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
read_status(struct request *request, enum field kind, uint8_t *status_out)
{
	enum user_status status;
	const char *text;
	size_t len;
	int rc;

	rc = request_string(request, "Status", kind, 1, 16, &text, &len);
	if (rc == ERR_NOT_FOUND)
		return rc;
	if (rc != 0 || status_parse(text, len, &status) != 0)
		return request_bad_field(
		    request, "Status", "ONLINE, AWAY, BUSY or INVISIBLE");
	*status_out = (uint8_t)status;
	return 0;
}

static int
read_params(struct request *request, struct login_params *login)
{
	int rc;

	login->id = request->id;
	login->started_us = request->started_us;
	login->status = STATUS_ONLINE;
	rc = read_device(request, login);
	if (rc == 0)
		rc = read_position(request, login);
	if (rc == 0)
		rc = read_status(request, FIELD_OPTIONAL, &login->status);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- steps ---- */

/* The keeper decides: is there such a user, where does the device stand. */
static int
ask_keeper(struct request *request, uint64_t user)
{
	struct session *session = request->session;
	struct login_params *login = session->login;
	struct worker *worker = request->worker;
	struct record_login record = {
	    .user = user,
	    .session = crypto_random_u64() >> 1 | 1,
	    .last_seq = login->last_seq,
	    .flags = login->flags,
	    .status = login->status,
	    .device_len = login->device_len,
	    .name_len = login->name_len,
	};
	size_t len = sizeof(record) + login->device_len + login->name_len;
	struct ring_writer *writer = bus_writer(worker->bus, SLOT_KEEPER);
	uint8_t *room;
	int rc = limit_query(request, user);

	if (rc != 0)
		return rc;
	room = ring_put_begin(writer, len);
	if (room == NULL)
		return request_fail(
		    request, ERR_UNAVAILABLE, "the server is busy, try again");
	session->user = user;
	session->id = record.session;
	session_set_state(session, SESSION_CHECKING);
	session_pause(session, PAUSE_LOGIN);
	record.req = pending_add(request, LOGIN_REPLY_RESERVE, 0);
	crypto_siphash128(worker->meta.secret, login->device, login->device_len,
	    record.device_hash);
	memcpy(room, &record, sizeof(record));
	memcpy(room + sizeof(record), login->device, login->device_len);
	memcpy(room + sizeof(record) + login->device_len, login->name,
	    login->name_len);
	learn_keep(worker, record.req, RECORD_LOGIN, room, len);
	ring_put_end(writer, RECORD_LOGIN, len);
	return 0;
}

static int
check_token(struct request *request, const char *token, size_t len)
{
	struct login_params *login = request->session->login;
	struct jwt_claims claims;
	int rc = token_verify(request, token, len, &claims);

	if (rc != 0)
		return rc;
	login->expires_at_ms = claims.expires_at_ms;
	login->key_id = claims.key_id;
	login->name_len = (uint8_t)strlen(claims.name);
	memcpy(login->name, claims.name, login->name_len);
	if (login->name_len == 0) {
		int n = snprintf(login->name, sizeof(login->name), "User %llu",
		    (unsigned long long)claims.user_id);

		login->name_len = (uint8_t)n;
	}
	if (request->worker->conf->auth_auto_provision)
		login->flags |= LOGIN_PROVISION;
	return ask_keeper(request, claims.user_id);
}

/* scrypt is nothing for an event loop: the directory process has a pool. */
static int
ask_directory(struct request *request)
{
	struct record_dir_password record;
	struct session *session = request->session;
	struct worker *worker = request->worker;
	const char *password;
	size_t password_len;
	const char *name;
	size_t name_len;
	struct ring_writer *writer;
	uint8_t *room;
	size_t len;
	int rc;

	rc = request_string(request, "UserName", FIELD_REQUIRED, 1,
	    USERNAME_MAX, &name, &name_len);
	if (rc == 0)
		rc = request_string(request, "Password", FIELD_REQUIRED, 1,
		    PASSWORD_LEN_MAX, &password, &password_len);
	if (rc != 0)
		return rc;
	len = sizeof(record) + name_len + password_len;
	writer = bus_writer(worker->bus, SLOT_DIRECTORY);
	room = ring_put_begin(writer, len);
	if (room == NULL) {
		request->retry_after_ms = RETRY_AFTER_MS;
		return request_fail(request, ERR_UNAVAILABLE,
		    "too many logins at once, try again later");
	}
	session_set_state(session, SESSION_CHECKING);
	session_pause(session, PAUSE_LOGIN);
	record = (struct record_dir_password){
	    .req = pending_add(
		request, 0, worker->conf->directory_request_timeout),
	    .name_len = (uint32_t)name_len,
	    .password_len = (uint32_t)password_len,
	};
	ws_conn_peer_key(session->conn, record.peer);
	memcpy(room, &record, sizeof(record));
	memcpy(room + sizeof(record), name, name_len);
	memcpy(room + sizeof(record) + name_len, password, password_len);
	ring_put_end(writer, RECORD_DIR_PASSWORD, len);
	return 0;
}

int
cmd_authenticate(struct request *request)
{
	struct session *session = request->session;
	const char *token = session->bearer;
	size_t token_len = token == NULL ? 0 : strlen(token);
	int rc;

	if (request->worker->main == NULL) {
		request->retry_after_ms = RETRY_AFTER_MS;
		return request_fail(
		    request, ERR_UNAVAILABLE, "the store is not available");
	}
	free(session->login);
	session->login = xcalloc(1, sizeof(*session->login));
	rc = read_params(request, session->login);
	if (rc == 0) {
		rc = request_string(request, "Token", FIELD_OPTIONAL, 1,
		    JWT_LEN_MAX, &token, &token_len);
		rc = rc == ERR_NOT_FOUND ? 0 : rc;
	}
	if (rc == 0)
		rc = token != NULL ? check_token(request, token, token_len)
				   : ask_directory(request);
	if (rc != 0) {
		COUNT(logins_failed);
		free(session->login);
		session->login = NULL;
	}
	return rc;
}

void
login_password_reply(
    struct pending *pending, const struct record_dir_reply *reply)
{
	struct session *session = pending->owner;
	struct request request = {
	    .worker = session->worker,
	    .session = session,
	    .command = pending->command,
	    .id = pending->id,
	    .started_us = pending->started_us,
	    .retry_after_ms = reply->retry_after_ms,
	};
	const char *message = NULL;
	int rc = reply->rc;

	if (session->state != SESSION_CHECKING || session->login == NULL)
		return;
	if (rc == ERR_NOT_FOUND || rc == ERR_AUTH_FAILED) {
		rc = ERR_AUTH_FAILED;
		message = "user name or password is wrong";
	} else if (rc == ERR_RATE_LIMITED) {
		message = "too many wrong passwords, try again later";
	}
	if (rc == 0) {
		session_set_state(session, SESSION_NEW);
		rc = ask_keeper(&request, reply->user);
		message = request.message;
	}
	if (rc != 0)
		login_failed(session, &pending->id, rc, message,
		    rc == ERR_RATE_LIMITED ? request.retry_after_ms : -1);
}

/* ---- the keeper's answer ---- */

static void
put_login_fields(
    struct session *session, struct buf *out, const struct job *page)
{
	const struct record_login_reply *reply = &session->login->reply;
	const struct conf *conf = session->worker->conf;

	json_put_u64(out, "UserId", session->user);
	json_put_string(out, "Name", session->name, session->name_len);
	event_put_session(out, "SessionId", session->id);
	json_put_text(out, "Epoch", session->worker->epoch);
	json_put_u64(out, "FirstSeq", reply->floor + 1);
	json_put_u64(out, "LastSeq", reply->head);
	json_put_bool(out, "Recovered", reply->recovered != 0);
	json_put_raw(out, "Users", page->out.data, page->out.len);
	reply_put_cursor(out, page->next, false);
	json_put_raw(out, "Collaborations", page->calls.data, page->calls.len);
	/* A page that was loaded anew begins its connections anew. */
	if (page->calls.len > strlen("[]"))
		reply_put_ice_servers(session, out);
	json_put_i64(out, "ServerTime", clock_wall_ms());
	json_put_i64(out, "PingInterval", conf->server_ping_interval);
	json_put_i64(out, "HeartbeatInterval", conf->server_heartbeat_interval);
	json_put_i64(out, "MaxMessageSize", conf->server_max_message_size);
	json_put_i64(out, "EditWindow", conf->policy_edit_window);
	json_put_text(out, "Node", session->worker->node);
}

static void
login_done(struct worker *worker, struct job *job)
{
	struct session *session =
	    session_index_find(worker, job->user, job->session);
	struct login_params *login;
	struct log_ctx log;
	struct buf *out;

	if (session == NULL || session->state != SESSION_ENTERING)
		return;
	if (job->rc != 0) {
		log = session_log(session);
		log_error(&log, "login-page-failed", "error=\"%s\"",
		    err_text(job->rc));
		session_close(session, "RECONNECT", 1012,
		    "The list cannot be read now, please reconnect",
		    RETRY_AFTER_MS);
		return;
	}
	/* A delivery dropped in the batch of the login itself may have been
	 * told of (resync) before this session was in the index. */
	if (session->head < job->upto)
		session->head = job->upto;
	login = session->login;
	out = reply_begin(worker, "P_AUTHENTICATE", &login->id, 0);
	put_login_fields(session, out, job);
	reply_finish(session, out);
	session->presence_upto = job->version;
	session->status = login->status;
	session->key_id = login->key_id;
	token_set_expiry(session, login->expires_at_ms);
	session->auth_at_ms = 0;
	session_set_state(session, SESSION_READY);
	session_touch(session);
	session_arm(session);
	COUNT(logins);
	log = session_log(session);
	log_info(&log, "session-open", "recovered=%d", login->reply.recovered);
	login_free(session);
	session_resume(session, PAUSE_LOGIN);
	delivery_open(session);
	hold_begin(session);
}

/* Nobody waits for this login any more: the keeper must not count it. */
static void
login_orphaned(struct worker *worker, const struct record_login_reply *reply)
{
	struct session *session;

	if (reply->rc != 0)
		return;
	session = session_new(worker, NULL);
	if (session == NULL)
		panic("out of memory");
	session->user = reply->user;
	session->id = reply->session;
	session->has_end_due = true;
	session_set_state(session, SESSION_GONE);
	session_make_due(session);
}

static int
login_refusal(int rc, const char **message_out)
{
	switch (rc) {
	case ERR_NOT_FOUND:
		*message_out = "there is no such user";
		return ERR_AUTH_FAILED;
	case ERR_CONFLICT:
		*message_out = "16 devices of this user are connected";
		return rc;
	default:
		*message_out = err_text(rc);
		return rc;
	}
}

void
login_reply(struct worker *worker, const struct record_login_reply *reply,
    const char *name)
{
	struct pending *pending = pending_find(worker, reply->req);
	struct session *session = pending == NULL ? NULL : pending->owner;
	struct request_id id = {0};
	bool is_learned = false;
	const char *message;
	struct job *job;
	int rc;

	if (reply->rc == ERR_NOT_FOUND &&
	    learn_begin(worker, reply->req, &reply->user, 1))
		return;
	if (pending != NULL) {
		id = pending->id;
		is_learned = learn_was_put_again(pending);
		pending_remove(worker, pending);
	}
	if (session == NULL || session->state != SESSION_CHECKING) {
		login_orphaned(worker, reply);
		return;
	}
	if (reply->rc != 0) {
		rc = login_refusal(reply->rc, &message);
		login_failed(session, &id, rc, message, -1);
		return;
	}
	session->login->reply = *reply;
	free(session->name);
	/* Counted, not ended: whatever wrote the row, it may hold a NUL. */
	session->name = xcalloc(1, (size_t)reply->name_len + 1);
	memcpy(session->name, name, reply->name_len);
	session->name_len = (uint8_t)reply->name_len;
	session->acked = reply->cursor;
	session->window_base = reply->cursor;
	session->sent = reply->cursor;
	session->last_event = reply->cursor;
	session->head = reply->head;
	session_index_add(session);
	if (!is_learned)
		learn_again(worker, session->user);
	session_set_state(session, SESSION_ENTERING);
	job = reader_job_new(session, job_users, login_done);
	reader_submit_take(worker, job);
}

/* ---- the rest ---- */

int
cmd_heartbeat(struct request *request)
{
	struct buf *out = reply_begin(
	    request->worker, request->command->name, &request->id, 0);

	json_put_i64(out, "ServerTime", clock_wall_ms());
	reply_finish(request->session, out);
	return 0;
}

int
cmd_update_status(struct request *request)
{
	struct session *session = request->session;
	struct record_status record = {
	    .user = session->user,
	    .session = session->id,
	};
	struct ring_writer *writer =
	    bus_writer(request->worker->bus, SLOT_KEEPER);
	uint8_t status = session->status;
	const char *text = "";
	size_t text_len = 0;
	uint8_t *room;
	int rc;

	rc = read_status(request, FIELD_REQUIRED, &status);
	if (rc == 0)
		rc = request_string(request, "StatusText", FIELD_OPTIONAL, 0,
		    STATUS_TEXT_MAX, &text, &text_len);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	record.has_text = rc == 0;
	record.status = status;
	record.text_len = (uint16_t)text_len;
	room = ring_put_begin(writer, sizeof(record) + text_len);
	if (room == NULL)
		return ERR_UNAVAILABLE;
	record.req = pending_add(request, sizeof(struct record_reply), 0);
	memcpy(room, &record, sizeof(record));
	memcpy(room + sizeof(record), text, text_len);
	ring_put_end(writer, RECORD_STATUS, sizeof(record) + text_len);
	session->status = status;
	session->is_auto_away = false;
	return 0;
}

int
cmd_logout(struct request *request)
{
	struct session *session = request->session;
	bool is_forgotten = false;
	struct record_session_end record = {
	    .user = session->user,
	    .session = session->id,
	};
	int rc;

	rc = request_bool(request, "Forget", &is_forgotten);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	/* What this device has acknowledged counts before it is gone. */
	if (session->is_ack_due && !session_do_due(session))
		return ERR_UNAVAILABLE;
	record.flags = is_forgotten ? SESSION_END_FORGET : 0;
	record.req = pending_add(request, sizeof(struct record_reply), 0);
	rc = bus_put(request->worker->bus, SLOT_KEEPER, RECORD_SESSION_END,
	    &record, sizeof(record));
	if (rc != 0) {
		pending_remove(
		    request->worker, pending_find(request->worker, record.req));
		return ERR_UNAVAILABLE;
	}
	session_pause(session, PAUSE_LOGIN);
	return 0;
}
