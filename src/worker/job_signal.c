/*
 * job_signal.c - may this signal of a call pass, and where to?
 *
 * Role:    a job of the reader thread: looks into the call's row, for a block
 *          between the two, and for the worker that has the receiver's session.
 * Process: worker, reader thread: touches the job and its transactions only.
 * See:     doc/protocol.md: P_SIGNAL; doc/decisions/025
 */
#include "shm/call.h"
#include "shm/userhead.h"
#include "shm/users.h"
#include "worker/reader.h"

static void
refuse(struct job *job, int rc, const char *message)
{
	job->rc = rc;
	job->message = message;
}

/* @return the call with the sender in it, by that very session */
static bool
find_call(struct job *job, struct txn *main, struct call *call)
{
	const struct call_part *sender = NULL;
	int rc = call_get(main, job->call, call);

	if (rc == 0)
		sender = call_find_part(call, job->user);
	if (rc == ERR_NOT_FOUND || (rc == 0 && sender == NULL)) {
		refuse(job, ERR_NOT_FOUND,
		    "CollaborationId: there is no such collaboration");
		return false;
	}
	if (rc != 0) {
		job->rc = rc;
		return false;
	}
	job->state = call_state_name((enum call_state)call->row.state);
	if (call->row.state == CALL_ENDED) {
		refuse(job, ERR_CONFLICT,
		    "CollaborationId: the collaboration has ended");
		return false;
	}
	if (sender->state != PART_JOINED || sender->session != job->session) {
		refuse(job, ERR_CONFLICT,
		    "CollaborationId: this device is not in the collaboration");
		return false;
	}
	return true;
}

/* Between two of whom one blocks the other nothing passes. */
static bool
is_blocked(struct job *job, struct txn *main)
{
	uint32_t flags = 0;

	job->rc = contact_get(main, job->user, job->users[0], &flags);
	return (flags & (CONTACT_BLOCKED_BY | CONTACT_BLOCKING)) != 0;
}

/* @return the session of the receiver that is in the call, 0: refused */
static uint64_t
find_receiver(struct job *job, struct txn *main, struct call *call)
{
	const struct call_part *receiver = call_find_part(call, job->users[0]);

	if (receiver == NULL) {
		refuse(job, ERR_NOT_FOUND,
		    "ToUserId: is no participant of the collaboration");
		return 0;
	}
	/* Who is blocked must not learn it: like somebody who is not there. */
	if (is_blocked(job, main) ||
	    (job->rc == 0 && receiver->state != PART_JOINED)) {
		refuse(job, ERR_UNAVAILABLE,
		    "ToUserId: is not connected to the collaboration now");
		return 0;
	}
	if (job->rc != 0)
		return 0;
	if (job->to_session != 0 && job->to_session != receiver->session) {
		refuse(job, ERR_UNAVAILABLE,
		    "ToSessionId: is not connected to the collaboration now");
		return 0;
	}
	return receiver->session;
}

void
job_signal(struct job *job, struct txn *main, struct txn *presence)
{
	const struct userhead_device *device = NULL;
	struct userhead head;
	struct call call;
	uint64_t session;
	int rc;

	(void)presence;
	if (!find_call(job, main, &call))
		return;
	session = find_receiver(job, main, &call);
	if (session == 0)
		return;
	rc = userhead_get(main, job->users[0], &head);
	if (rc == 0)
		device = userhead_find_session(&head, session);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		job->rc = rc;
	else if (device == NULL)
		refuse(job, ERR_UNAVAILABLE,
		    "ToUserId: is not connected to the collaboration now");
	else
		job->to_slot = device->worker;
	job->to_session = session;
}
