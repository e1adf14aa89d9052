/*
 * intake.c - what comes in from other processes.
 *
 * Role:    takes records out of the rings and hands each to its function.
 * Process: worker.
 * Trust:   a record is checked (generation, length) before it is read; one
 *          meant for this worker's predecessor is passed over.
 * See:     shm/records.def
 */
#include "base/count.h"
#include "base/log.h"
#include "worker/worker_priv.h"

/* Per ring and turn: sockets get their turn in between. */
#define RECORDS_PER_TURN 2048

static void
take_keeper(struct worker *worker, const struct ring_record *record)
{
	const void *payload = record->data;
	struct record_cursor tail;
	size_t min = record_min_len(record->type);
	const struct record_login_reply *login = payload;
	const struct record_send_reply *send = payload;
	const void *bytes;

	record_cursor_init(&tail, record->data + min, record->len - min);
	switch (record->type) {
	case RECORD_DELIVER:
		delivery_message(worker, payload, &tail);
		break;
	case RECORD_CALL_EVENT:
		call_event(worker, payload, &tail);
		break;
	case RECORD_CALL_REPLY:
		call_reply(worker, payload, &tail);
		break;
	case RECORD_LOGIN_REPLY:
		bytes = record_take(&tail, login->name_len);
		if (bytes != NULL)
			login_reply(worker, login, bytes);
		break;
	case RECORD_SEND_REPLY:
		bytes =
		    record_take(&tail, send->unknown_count * sizeof(uint64_t));
		if (bytes != NULL)
			send_reply(worker, send, bytes);
		break;
	case RECORD_REPLY:
		keeper_reply(worker, payload);
		break;
	case RECORD_PRESENCE:
		ephemeral_presence(worker, payload, &tail);
		break;
	case RECORD_RECEIPT:
		ephemeral_receipt(worker, payload);
		break;
	default:
		log_error(NULL, "record-refused", "type=%s from=keeper",
		    record_name(record->type));
	}
}

static void
take_replaced(struct worker *worker, const struct record_replaced *record)
{
	struct session *session =
	    session_index_find(worker, record->user, record->session);

	if (session == NULL)
		return;
	/* It does not count any more: nothing more to tell the keeper. */
	session->is_ack_due = false;
	if (record->reason == REPLACED_LOST)
		session_close(session, "RECONNECT", 1012,
		    "The session could not be kept, please reconnect",
		    RETRY_AFTER_MS);
	else if (record->reason == REPLACED_KICKED)
		session_close(session, "KICKED", 4003,
		    "The session was ended by the operator", -1);
	else
		session_close(session, "REPLACED", 4002,
		    "The same device has logged in again", -1);
}

static void
take_record(struct worker *worker, int from, const struct ring_record *record)
{
	size_t min = record_min_len(record->type);
	struct record_cursor tail;

	if (record->to_gen != bus_own_generation(worker->bus))
		return; /* for an earlier generation of this worker */
	if (record->len < min) {
		log_error(NULL, "record-refused", "type=%s from=%d length=%u",
		    record_name(record->type), from, record->len);
		return;
	}
	record_cursor_init(&tail, record->data + min, record->len - min);
	if (record->type == RECORD_REPLACED && from == SLOT_KEEPER)
		take_replaced(worker, (const void *)record->data);
	else if (from == SLOT_KEEPER)
		take_keeper(worker, record);
	else if (from == SLOT_DIRECTORY && record->type == RECORD_DIR_REPLY)
		directory_reply(worker, (const void *)record->data,
		    record->data + min, record->len - min);
	else if (from >= SLOT_WORKER_0 && record->type == RECORD_TYPING)
		ephemeral_typing(worker, (const void *)record->data, &tail);
	else if (from >= SLOT_WORKER_0 && record->type == RECORD_SIGNAL)
		signal_take(worker, from, record);
	else if (from >= SLOT_WORKER_0 && record->type == RECORD_SIGNAL_REPLY)
		signal_reply(worker, (const void *)record->data);
	else
		log_error(NULL, "record-refused", "type=%s from=%d",
		    record_name(record->type), from);
}

static void
take_ring(struct worker *worker, int from)
{
	struct ring_reader *reader = bus_reader(worker->bus, from);
	struct ring_record record;
	int rc;

	for (int i = 0; i < RECORDS_PER_TURN; i++) {
		rc = ring_next(reader, &record);
		if (rc == ERR_AGAIN)
			break;
		if (rc != 0) {
			COUNT(ring_corrupt);
			log_error(NULL, "ring-corrupt", "from=%d skipped=%llu",
			    from, (unsigned long long)ring_skip_all(reader));
			/* Deliveries and replies may have been among it. */
			session_recover_all(worker);
			delivery_resync(worker);
			break;
		}
		take_record(worker, from, &record);
	}
	ring_release(reader);
}

void
intake_run(struct worker *worker)
{
	struct board_slot *slot =
	    board_slot(bus_board(worker->bus), worker->process->slot);
	uint64_t resync;

	for (int from = bus_next_incoming(worker->bus, -1); from >= 0;
	     from = bus_next_incoming(worker->bus, from))
		take_ring(worker, from);
	/* Raised after the commit, before the ring was published: whatever was
	 * dropped is in the inboxes by now. */
	resync = atomic_load(&slot->resync);
	if (resync != worker->resync_seen) {
		worker->resync_seen = resync;
		delivery_resync(worker);
	}
	worker->presence_safe = worker->presence_seen;
}
