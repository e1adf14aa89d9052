/*
 * reply.c - what goes back to the client that asked.
 *
 * Role:    the envelope of replies: Command, RequestId, Reason, Message.
 * Process: worker.
 * See:     doc/protocol.md, Envelope
 */
#include "base/clock.h"
#include "base/count.h"
#include "base/ice.h"
#include "net/net.h"
#include "worker/worker_priv.h"

struct buf *
reply_begin(struct worker *worker, const char *command,
    const struct request_id *id, int rc)
{
	struct buf *out = &worker->out;

	buf_clear(out);
	json_object_begin(out);
	json_put_text(out, "Command", command);
	if (id != NULL && id->kind == 1)
		json_put_u64(out, "RequestId", id->number);
	if (id != NULL && id->kind == 2)
		json_put_string(out, "RequestId", id->text, id->len);
	json_put_text(out, "Reason", err_reason(rc));
	return out;
}

void
reply_put_cursor(struct buf *buf, uint64_t next, bool is_id)
{
	json_key(buf, "NextCursor");
	if (next == 0)
		json_null(buf);
	else if (is_id)
		json_id(buf, next);
	else
		json_u64(buf, next);
}

void
reply_put_ice_servers(struct session *session, struct buf *buf)
{
	int64_t now_ms = clock_wall_ms();
	char name[ICE_NAME_LEN + 1];

	ice_name(session->worker->meta.secret, session->user, now_ms, name);
	json_key(buf, "IceServers");
	ice_servers_put(buf, session->worker->conf, name, now_ms);
}

void
reply_finish(struct session *session, struct buf *buf)
{
	json_object_end(buf);
	session_reply(session, buf->data, buf->len);
}

void
reply_ok(struct session *session, const struct command *command,
    const struct request_id *id)
{
	reply_finish(
	    session, reply_begin(session->worker, command->name, id, 0));
}

void
reply_error(struct session *session, const char *command,
    const struct request_id *id, int rc, const char *message,
    int64_t retry_after_ms)
{
	struct buf *out = reply_begin(session->worker, command, id, rc);

	if (rc == ERR_BAD_REQUEST || rc == ERR_UNKNOWN_COMMAND)
		COUNT(bad_requests);
	json_put_text(out, "Message",
	    message != NULL && message[0] != '\0' ? message : err_text(rc));
	if (retry_after_ms < 0 && rc == ERR_UNAVAILABLE)
		retry_after_ms = RETRY_AFTER_MS;
	if (retry_after_ms >= 0)
		json_put_i64(out, "RetryAfter", retry_after_ms);
	reply_finish(session, out);
}
