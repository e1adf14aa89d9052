/*
 * event.h - messages and users as JSON, the same in events, history, lists.
 */
#ifndef WORKER_EVENT_H
#define WORKER_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "shm/presence.h"
#include "shm/records.h"
#include "shm/store.h"
#include "shm/store_schema.h"

/* A message or another durable event, wherever it comes from: ring, log. */
struct message_view {
	enum event_kind kind;
	unsigned flags;     /* enum log_flags */
	int64_t changed_ms; /* with flags: when */
	uint64_t id;
	uint64_t sender;
	struct conv_key conv;
	int64_t client_time_ms; /* INT64_MIN: not given */
	uint64_t reply_to;
	const uint64_t *members; /* of a conversation of more than two */
	size_t member_count;
	struct blob name;
	struct blob body;
	struct blob type;
	struct blob client_id;
	struct blob attachment;
	bool is_withheld; /* who sees it may not read what it says now */
};

/** MessageId ... Attachment, without braces; ClientMessageId if is_own. What
 *  was deleted or is withheld has no Message, Type, Attachment. */
void event_message_fields(
    struct buf *buf, const struct message_view *view, bool is_own);
/** Everything of a durable event behind Seq, without braces. */
void event_durable_fields(
    struct buf *buf, const struct message_view *view, bool is_own);
/** "P_MESSAGE" or what else it is. NULL: there is no such kind. */
const char *event_command(uint32_t kind);
/** Does a row of the log go with this kind of event? */
bool event_fits(uint32_t kind, unsigned log_kind);
/** {"UserId":..,"Name":..,"Status":..}; presence may be NULL. */
void event_user(struct buf *buf, uint64_t user, struct blob name,
    struct blob role, struct blob profile, const struct presence *presence);
/** UserId, Status, StatusText, LastSeen, InCollaboration. */
void event_presence_fields(
    struct buf *buf, uint64_t user, const struct presence *presence);
/** What has become of a message: EditTime, or Deleted and DeleteTime. */
void event_put_change(struct buf *buf, unsigned flags, int64_t changed_ms);
/** SessionId, FromSessionId. */
void event_put_session(struct buf *buf, const char *key, uint64_t session);
/** DeliveredUpTo, ReadUpTo: message ids. */
void event_put_progress(struct buf *buf, uint64_t delivered, uint64_t read);
/** GroupId or CollaborationId of a conversation that is one. */
void event_put_room(struct buf *buf, const struct conv_key *conv);
void event_put_conv(struct buf *buf, const struct conv_key *conv);

#endif
