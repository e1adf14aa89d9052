/*
 * call_json.h - calls as JSON: one form in events, replies, lists, outcomes
 * and history (doc/protocol.md, Collaborations).
 *
 * Here and not in a process folder because the keeper writes outcomes into the
 * log as they go out, and workers make the same from the rows.
 */
#ifndef SHM_CALL_JSON_H
#define SHM_CALL_JSON_H

#include "base/buf.h"
#include "shm/call.h"

/** CollaborationId, Kind, State, FromUser, times, Participants: members of an
 *  object that has begun. @param name  of who has made the call */
void call_json_now(
    struct buf *buf, const struct call *call, const struct blob *name);
/** The same of one that is over for somebody, with that one's Outcome and
 *  those of the participants. */
void call_json_past(struct buf *buf, const struct call *call,
    const struct blob *name, enum call_outcome outcome);
/** Payload, if there is one. */
void call_json_payload(struct buf *buf, const struct call *call);
/** Most bytes that call_json_now makes. */
size_t call_json_max(uint32_t parts);

#endif
