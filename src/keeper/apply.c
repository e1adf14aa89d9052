/*
 * apply.c - from a record to its function, and refusals.
 *
 * Role:    the table apply.def at work.
 * Process: keeper.
 */
#include "keeper/apply.h"

#include <string.h>

#include "base/log.h"

enum refusal {
	REFUSAL_NONE,
	REFUSAL_REPLY,
	REFUSAL_LOGIN,
	REFUSAL_SEND,
	REFUSAL_ADOPT,
	REFUSAL_CALL,
};

struct apply_row {
	apply_fn fn;
	enum refusal refusal;
	bool is_applied_when_full;
};

static const struct apply_row apply_table[RECORD_END] = {
#define APPLY(record, function, refusal, when_full)                            \
	[RECORD_##record] = {                                                  \
	    apply_##function, REFUSAL_##refusal, (when_full) != 0},
#include "keeper/apply.def"
#undef APPLY
};

static void
refuse_login(struct keeper *keeper, const struct origin *from,
    const struct record_login *login, int rc)
{
	struct record_login_reply *reply;

	reply = route_begin(keeper, from, sizeof(*reply));
	if (reply == NULL)
		return;
	*reply = (struct record_login_reply){
	    .req = login->req,
	    .user = login->user,
	    .session = login->session,
	    .rc = rc,
	};
	route_end(keeper, from, RECORD_LOGIN_REPLY, sizeof(*reply));
}

static void
refuse_send(struct keeper *keeper, const struct origin *from,
    const struct record_group_leave *send, int rc)
{
	struct record_send_reply *reply;

	reply = route_begin(keeper, from, sizeof(*reply));
	if (reply == NULL)
		return;
	*reply = (struct record_send_reply){
	    .req = send->req,
	    .user = send->user,
	    .session = send->session,
	    .rc = rc,
	};
	route_end(keeper, from, RECORD_SEND_REPLY, sizeof(*reply));
}

/* Nobody would route anything to it: its client logs in again. */
static void
refuse_adopt(struct keeper *keeper, const struct origin *from,
    const struct record_adopt *adopt)
{
	keeper_session_refuse(
	    keeper, from, adopt->user, adopt->session, REPLACED_LOST);
}

void
apply_refuse(struct keeper *keeper, const struct origin *from, uint16_t type,
    const void *payload, size_t len, int rc)
{
	uint64_t req;

	if (len < record_min_len(type) || type >= RECORD_END)
		return;
	switch (apply_table[type].refusal) {
	case REFUSAL_NONE:
		break;
	case REFUSAL_REPLY:
		memcpy(&req, payload, sizeof(req)); /* first field, records.h */
		route_reply(keeper, from, req, rc, 0, NULL);
		break;
	case REFUSAL_CALL:
		memcpy(&req, payload, sizeof(req));
		call_refuse(keeper, from, req, rc);
		break;
	case REFUSAL_LOGIN:
		refuse_login(keeper, from, payload, rc);
		break;
	case REFUSAL_SEND:
		refuse_send(keeper, from, payload, rc);
		break;
	case REFUSAL_ADOPT:
		refuse_adopt(keeper, from, payload);
		break;
	}
}

int
apply_record(struct keeper *keeper, const struct origin *from, uint16_t type,
    const void *payload, size_t len)
{
	const struct apply_row *row;

	if (len < record_min_len(type) || apply_table[type].fn == NULL) {
		log_error(NULL, "record-refused",
		    "slot=%d type=%u length=%zu; not a record for the keeper",
		    from->slot, type, len);
		return 0;
	}
	row = &apply_table[type];
	if (keeper->storage == STORAGE_FULL && !row->is_applied_when_full) {
		keeper->batch.refused++;
		apply_refuse(
		    keeper, from, type, payload, len, ERR_STORAGE_FULL);
		return 0;
	}
	return row->fn(keeper, from, payload, len);
}
