/*
 * cmd_edit.c - P_EDIT_MESSAGE and P_DELETE_MESSAGE.
 *
 * Role:    checks the fields and hands a record to the keeper; the reply is
 *          that of a send (cmd_message.c).
 * Process: worker.
 * See:     doc/protocol.md, Messages; keeper/apply_edit.c; doc/decisions/023
 */
#include <string.h>

#include "worker/worker_priv.h"

static int
put_edit(struct request *request, enum record_type type, uint64_t message_id,
    struct json_span body)
{
	struct ring_writer *writer =
	    bus_writer(request->worker->bus, SLOT_KEEPER);
	struct record_edit *record;
	size_t len = sizeof(*record) + body.len;

	record = ring_put_begin(writer, len);
	if (record == NULL)
		return request_fail(
		    request, ERR_UNAVAILABLE, "the server is busy, try again");
	*record = (struct record_edit){
	    .user = request->session->user,
	    .session = request->session->id,
	    .message_id = message_id,
	    .body_len = body.len,
	};
	if (body.len > 0)
		memcpy(record + 1, body.data, body.len);
	record->req = pending_add(request, sizeof(struct record_send_reply), 0);
	ring_put_end(writer, type, len);
	return 0;
}

int
cmd_edit_message(struct request *request)
{
	size_t max = (size_t)request->worker->conf->policy_max_text_size;
	struct json_span body;
	uint64_t id;
	int rc;

	rc = request_id(request, "MessageId", FIELD_REQUIRED, &id);
	if (rc == 0)
		rc = request_string(request, "Message", FIELD_REQUIRED, 1, max,
		    &body.data, &body.len);
	return rc == 0 ? put_edit(request, RECORD_EDIT, id, body) : rc;
}

int
cmd_delete_message(struct request *request)
{
	const struct json_span none = {NULL, 0};
	uint64_t id;
	int rc;

	rc = request_id(request, "MessageId", FIELD_REQUIRED, &id);
	return rc == 0 ? put_edit(request, RECORD_DELETE, id, none) : rc;
}

const char *
edit_refusal(const struct record_send_reply *reply)
{
	switch (reply->rc) {
	case ERR_NOT_FOUND:
		return "MessageId: there is no such message of yours";
	case ERR_FORBIDDEN:
		return "MessageId: the time in which it could be changed is "
		       "over";
	case ERR_CONFLICT:
		return (reply->flags & LOG_DELETED) != 0
			   ? "MessageId: the message has been deleted"
			   : "MessageId: the message has been edited too often";
	default:
		return err_text(reply->rc);
	}
}
