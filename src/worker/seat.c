/*
 * seat.c - a conversation as one of its people sees it.
 *
 * Role:    the one place that decides what of a conversation is whose.
 * Process: worker, reader thread.
 * Blocks:  on cold pages of the disk.
 * Trust:   who is in it says the store, never the client.
 * See:     doc/protocol.md: Conversations, Groups
 */
#include "worker/seat.h"

#include "base/json.h"

static bool
has_seats(const struct seat *seat)
{
	return conv_key_has_seats(&seat->conv.key);
}

int
seat_take(struct txn *txn, const struct conv_key *key, uint64_t user,
    struct seat *out)
{
	int rc;

	out->user = user;
	rc = conv_get(txn, key, &out->conv);
	if (rc != 0)
		return rc;
	if (has_seats(out))
		return member_get(txn, conv_key_id(key), user, &out->member);
	return conv_member(&out->conv, user) != NULL ? 0 : ERR_NOT_FOUND;
}

bool
seat_sees(const struct seat *seat, uint64_t message_id)
{
	return !has_seats(seat) || member_sees(&seat->member, message_id);
}

/*
 * The row is as it is now. Ids are taken in the order of their times, so that
 * what was said while he was there is older than his leaving; when it was
 * changed is only known to the millisecond, and in that of his leaving counts
 * as too late.
 */
bool
seat_reads(const struct seat *seat, const struct log_message *m)
{
	if ((m->flags & LOG_EDITED) == 0 || !conv_key_has_seats(&m->conv))
		return true;
	for (int i = 0; i < seat->member.row.span_count; i++) {
		const struct member_span *span = &seat->member.spans[i];

		if ((m->id > span->from ||
			m->changed_ms > message_id_time_ms(span->from)) &&
		    m->changed_ms < message_id_time_ms(span->upto))
			return true;
	}
	return false;
}

bool
seat_narrow(const struct seat *seat, uint64_t *after_io, uint64_t *before_io)
{
	const struct member_span whole = {.upto = UINT64_MAX};
	const struct member_span *spans = &whole;
	int count = 1;
	uint64_t after = *after_io;
	uint64_t before = *before_io != 0 ? *before_io : UINT64_MAX;
	bool is_his = false;

	if (has_seats(seat)) {
		spans = seat->member.spans;
		count = seat->member.row.span_count;
	}
	for (int i = 0; i < count; i++) {
		uint64_t from = spans[i].from > after ? spans[i].from : after;
		uint64_t upto = spans[i].upto < before ? spans[i].upto : before;

		if (upto <= from || upto - from == 1)
			continue;
		if (!is_his)
			*after_io = from;
		is_his = true;
		*before_io = upto != UINT64_MAX ? upto : 0;
	}
	return is_his;
}

int
seat_page(struct txn *txn, const struct seat *seat,
    const struct conv_range *range, struct conv_page *page)
{
	if (has_seats(seat))
		return member_page(
		    txn, &seat->conv, &seat->member, range, page);
	return conv_page(
	    txn, &seat->conv, range->before, range->after, range->limit, page);
}

int
seat_newest(struct txn *txn, const struct seat *seat, uint64_t *id_out)
{
	const struct conv_range range = {.limit = 1};
	struct conv_page page = {.ids = id_out};
	int rc = 0;

	*id_out = seat->conv.last_id;
	if (!has_seats(seat) ||
	    (member_is_in(&seat->member) && seat_sees(seat, *id_out)))
		return 0;
	rc = member_page(txn, &seat->conv, &seat->member, &range, &page);
	if (page.count == 0)
		*id_out = 0;
	return rc;
}

uint64_t
seat_last(const struct seat *seat, uint64_t oldest)
{
	const struct member *member = &seat->member;
	uint64_t last = seat->conv.last_id;

	if (has_seats(seat))
		last = member_last(member, last);
	if (conv_key_kind(&seat->conv.key) == CONV_GROUP)
		return last;
	if (has_seats(seat) && last <= member->spans[0].from)
		return 0; /* nobody has written since he came into the call */
	return last < oldest ? 0 : last;
}

int
seat_unread(struct txn *txn, const struct seat *seat, uint32_t *unread_out)
{
	const struct conv *conv = &seat->conv;
	uint64_t read = 0;

	*unread_out = 0;
	if (has_seats(seat)) {
		*unread_out = member_unread(&seat->member, conv->count);
		read = seat->member.row.read;
	}
	for (uint32_t i = 0; i < conv->member_count; i++) {
		if (conv->members[i].user != seat->user)
			continue;
		*unread_out = conv->members[i].unread;
		read = conv->members[i].read;
	}
	return conv_unread_left(txn, conv, seat->user, read, unread_out);
}

/* The event that says that he has left has the name of then, too. */
static void
put_name_of_then(struct buf *out, struct txn *txn, const struct member *self)
{
	uint64_t id = self->spans[self->row.span_count - 1].upto;
	struct log_message event;
	struct json_span name;

	if (log_get(txn, id, &event) == 0 && event.kind == LOG_EVENT &&
	    conv_key_kind(&event.conv) == CONV_GROUP &&
	    conv_key_id(&event.conv) == self->group &&
	    json_salvage_member(event.body.data, event.body.len, "Name", &name))
		json_put_raw(out, "Name", name.data, name.len);
}

void
seat_put_group(struct buf *out, struct txn *txn, const struct member *self,
    const struct group *group)
{
	json_put_id(out, "GroupId", group->id);
	json_put_text(out, "Role", group_role_name(self->row.role));
	/* What has become of it since he left is not his to know. */
	if (!member_is_in(self)) {
		put_name_of_then(out, txn, self);
		return;
	}
	json_put_string(out, "Name", group->name, group->name_len);
	json_put_u64(out, "OwnerId", group->owner);
	json_put_u64(out, "MemberCount", group->member_count);
}
