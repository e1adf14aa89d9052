/*
 * apply_adopt.c - sessions that a worker has taken over from its predecessor.
 *
 * Role:    decides which of them still count, and ends those that nobody took.
 * Process: keeper.
 * See:     doc/decisions/010, worker/adopt.c
 */
#include "keeper/apply.h"

#include "shm/presence.h"

/* The session of a worker that is gone is its successor's now. */
static int
adopt(struct keeper *keeper, const struct origin *from, struct userhead *head,
    struct userhead_device *device)
{
	int rc;

	rc = presence_session_delete(&keeper->presence_txn, device->worker,
	    device->worker_gen, head->user, device->session);
	if (rc == 0)
		rc = presence_session_put(&keeper->presence_txn, from->slot,
		    from->generation, head->user, device->session);
	device->worker = (uint8_t)from->slot;
	device->worker_gen = from->generation;
	device->boot = keeper->boot;
	return rc;
}

int
apply_adopt(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_adopt *record = payload;
	struct userhead_device *device;
	struct userhead head;
	int rc;

	(void)len;
	if (from->slot < SLOT_WORKER_0)
		return ERR_BAD_REQUEST;
	rc = keeper_session_ask(
	    keeper, from, record->user, record->session, &head, &device);
	if (rc == ERR_STALE)
		return 0; /* replaced or logged out meanwhile */
	if (rc == 0 && record->acked > head.row.head)
		return ERR_BAD_REQUEST;
	if (rc == 0)
		rc = adopt(keeper, from, &head, device);
	if (rc == 0 && record->acked > device->cursor)
		rc = cursor_advance(keeper, &head, device, record->acked);
	if (rc == 0)
		rc = userhead_put(&keeper->txn, &head);
	if (rc == 0)
		announce_later(keeper, record->user, false);
	return rc;
}

int
apply_hello(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_hello *record = payload;
	uint64_t bit;

	(void)len;
	if (from->slot < SLOT_WORKER_0)
		return 0;
	/* All that its predecessors had submitted and all that it has adopted
	 * lies before this record; what is left of theirs is nobody's. */
	bit = 1ULL << (from->slot - SLOT_WORKER_0);
	keeper->stale_slots |= bit;
	atomic_store(
	    &board_slot(keeper->board, from->slot)->greeted, from->generation);
	if (record->adopted > 0)
		keeper->batch.resync |= bit;
	return 0;
}
