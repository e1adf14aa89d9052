/*
 * view.c - a row of the log as one of its people is shown it.
 *
 * Role:    who wrote it, who else is there, may it be read.
 * Process: worker, reader thread.
 * See:     event.h, seat.h
 */
#include "worker/view.h"

#include <string.h>

#include "shm/users.h"

struct blob
view_sender_name(struct txn *txn, uint64_t user, struct view_names *cache)
{
	struct user row;

	if (cache->user != user) {
		cache->user = user;
		cache->len = 0;
		if (users_get(txn, user, &row) == 0 &&
		    row.name.len <= sizeof(cache->name)) {
			memcpy(cache->name, row.name.data, row.name.len);
			cache->len = row.name.len;
		}
	}
	return (struct blob){cache->name, cache->len};
}

void
view_fill(struct message_view *view, const struct log_message *m,
    const struct seat *seat, const uint64_t *members, size_t member_count,
    struct blob name)
{
	*view = (struct message_view){
	    .kind = EVENT_MESSAGE,
	    .flags = m->flags,
	    .changed_ms = m->changed_ms,
	    .id = m->id,
	    .sender = m->sender,
	    .conv = m->conv,
	    .client_time_ms = m->client_time_ms,
	    .reply_to = m->reply_to,
	    .members = members,
	    .member_count = member_count,
	    .name = name,
	    .body = m->body,
	    .type = m->type,
	    .client_id = m->client_id,
	    .attachment = m->attachment,
	    .is_withheld = !seat_reads(seat, m),
	};
}

size_t
view_members(const struct conv *conv, uint64_t members[MEMBERS_MAX])
{
	if (conv_key_is_direct(&conv->key))
		return 0;
	for (uint32_t i = 0; i < conv->member_count; i++)
		members[i] = conv->members[i].user;
	return conv->member_count;
}
