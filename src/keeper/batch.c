/*
 * batch.c - one transaction of the keeper.
 *
 * Role:    reads the rings, applies their records, commits, lets replies and
 *          events out; undoes and redoes a batch that failed.
 * Process: keeper.
 * Blocks:  on fdatasync only. Work before a commit is cut at BATCH_US.
 * Trust:   ring records are checked; one that breaks the store is set aside
 *          and answered, the batch is done again without it.
 * See:     keeper.c (the loop), apply.def (what a record does)
 *
 * Exactly once over a kill: the positions up to which rings are applied and
 * the heads of the outgoing rings are committed with the work itself. Space
 * in a ring is given back, and heads are published, only after the commit; a
 * successor goes on from what is committed.
 */
#include <limits.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "keeper/apply.h"
#include "keeper/hush.h"
#include "keeper/keeper_priv.h"
#include "keeper/leaving.h"
#include "keeper/retention.h"

#define BATCH_US          2000
#define BATCH_RECORDS     4096
#define RECORDS_PER_ROUND 64 /* of one ring, before the next has its turn */
#define STORAGE_RETRY_MS  1000
#define STORAGE_CALM_MS   10000
#define PIECE_RECORDS     16                     /* far below CULPRITS_MAX */
#define REDO_MAX          (2 * CULPRITS_MAX + 3) /* pieces, full, stuck */

#define ADVICE_MAIN                                                            \
	"free space on the disk of data_dir or raise [store] map_size"
#define ADVICE_BROKEN                                                          \
	"the disk of data_dir fails or is read-only, the kernel's log says "   \
	"more; nothing is acknowledged until it takes data again"
#define ADVICE_PRESENCE                                                        \
	"free space in run_dir or raise [store] presence_map_size"

static const char *const storage_names[STORAGE_END] = {
    [STORAGE_GOOD] = "good",
    [STORAGE_FULL] = "full",
    [STORAGE_STUCK] = "stuck",
};

static const char *
advice_on(const struct keeper *keeper)
{
	if (keeper->storage_rc != ERR_STORAGE_FULL)
		return ADVICE_BROKEN;
	return keeper->is_presence_full ? ADVICE_PRESENCE : ADVICE_MAIN;
}

/*
 * Say what the mode is, once it is settled: the store is tried again every
 * second, and good is only what has taken a message or has been calm.
 */
static void
storage_tell(struct keeper *keeper)
{
	enum storage_state state = keeper->storage;

	if (state == keeper->storage_told)
		return;
	if (state == STORAGE_GOOD && keeper->batch.messages == 0 &&
	    clock_mono_ms() < keeper->storage_retry_at_ms + STORAGE_CALM_MS)
		return;
	if (state == STORAGE_GOOD)
		log_info(NULL, "storage-state", "state=%s was=%s",
		    storage_names[state], storage_names[keeper->storage_told]);
	else
		log_error(NULL, "storage-state", "state=%s was=%s; %s",
		    storage_names[state], storage_names[keeper->storage_told],
		    advice_on(keeper));
	keeper->storage_told = state;
	GAUGE_SET(store_state, state);
}

static void
batch_begin(struct keeper *keeper)
{
	struct batch *batch = &keeper->batch;

	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++) {
		struct ring_reader *reader = bus_reader(keeper->bus, slot);
		struct ring_writer *writer = bus_writer(keeper->bus, slot);

		if (reader != NULL)
			batch->start_cursor[slot] = reader->cursor;
		if (writer != NULL)
			batch->start_head[slot] = writer->head;
	}
	batch->resync = 0;
	batch->records = 0;
	batch->messages = 0;
	batch->edited = 0;
	batch->deleted = 0;
	batch->calls = 0;
	batch->calls_ended = 0;
	batch->logins = 0;
	batch->refused = 0;
	batch->told = 0;
	batch->has_work = false;
	batch->start_grace_ms = keeper->next_grace_ms;
	batch->start_call_ms = keeper->next_call_ms;
	batch->call_note_count = 0;
	keeper->failed.slot = -1;
	keeper->now_ms = clock_wall_ms();
	keeper->age_ms = age_now(&keeper->age);
	keeper_outbox_begin(keeper);
	retention_begin(keeper);
}

/* Everything since batch_begin is undone; the rings are read again. */
static void
batch_undo(struct keeper *keeper)
{
	struct batch *batch = &keeper->batch;

	txn_end(&keeper->txn);
	txn_end(&keeper->presence_txn);
	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++) {
		struct ring_reader *reader = bus_reader(keeper->bus, slot);
		struct ring_writer *writer = bus_writer(keeper->bus, slot);

		if (reader != NULL &&
		    reader->cursor != batch->start_cursor[slot] &&
		    !ring_reader_seek(reader, batch->start_cursor[slot]))
			panic("ring %d cannot go back", slot);
		if (writer != NULL)
			ring_rewind(writer, batch->start_head[slot]);
	}
}

static int
read_record(struct keeper *keeper, struct ring_reader *reader, int slot,
    struct ring_record *record)
{
	int rc;

	rc = ring_next(reader, record);
	if (rc == ERR_CORRUPT) {
		uint64_t skipped = ring_skip_all(reader);

		COUNT(ring_corrupt);
		log_error(NULL, "ring-corrupt", "slot=%d skipped=%llu", slot,
		    (unsigned long long)skipped);
		keeper->batch.has_work = true;
		return ERR_AGAIN;
	}
	return rc;
}

static bool
is_culprit(const struct keeper *keeper, const struct origin *from)
{
	for (size_t i = 0; i < keeper->culprit_count; i++) {
		if (keeper->culprits[i].slot == from->slot &&
		    keeper->culprits[i].position == from->position)
			return true;
	}
	return false;
}

/*
 * While nothing can be committed the end of a session cannot be noted, but it
 * must not be forgotten either: the user would look online for ever.
 */
static void
remember_end(struct keeper *keeper, const struct ring_record *record)
{
	const struct record_session_end *end = (const void *)record->data;

	if (record->type != RECORD_SESSION_END || record->len < sizeof(*end))
		return;
	if (keeper->lost_end_count == keeper->lost_end_cap) {
		keeper->lost_end_cap =
		    keeper->lost_end_cap == 0 ? 64 : keeper->lost_end_cap * 2;
		keeper->lost_ends = xrealloc(keeper->lost_ends,
		    keeper->lost_end_cap * sizeof(*keeper->lost_ends));
	}
	keeper->lost_ends[keeper->lost_end_count] = *end;
	keeper->lost_ends[keeper->lost_end_count++].req = 0; /* answered */
}

static int
apply_lost_ends(struct keeper *keeper)
{
	struct origin from = {SLOT_KEEPER, 0, 0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < keeper->lost_end_count; i++) {
		rc = apply_record(keeper, &from, RECORD_SESSION_END,
		    &keeper->lost_ends[i], sizeof(keeper->lost_ends[i]));
		keeper->batch.has_work = true;
	}
	return rc;
}

/* What is answered while nothing can be committed: "free some space" is no
 * help where the disk itself fails. */
static int
stuck_reason(const struct keeper *keeper)
{
	return keeper->storage_rc == ERR_STORAGE_FULL ? ERR_STORAGE_FULL
						      : ERR_UNAVAILABLE;
}

static int
apply_one(struct keeper *keeper, int slot, const struct ring_record *record)
{
	struct origin from = {slot, record->from_gen, record->position};
	int rc;

	keeper->batch.records++;
	keeper->batch.has_work = true;
	if (keeper->storage == STORAGE_STUCK) {
		keeper->batch.refused++;
		remember_end(keeper, record);
		apply_refuse(keeper, &from, record->type, record->data,
		    record->len, stuck_reason(keeper));
		return 0;
	}
	if (is_culprit(keeper, &from)) {
		apply_refuse(keeper, &from, record->type, record->data,
		    record->len, ERR_SERVER_ERROR);
		return 0;
	}
	rc = apply_record(
	    keeper, &from, record->type, record->data, record->len);
	if (rc == 0)
		rc = keeper->txn.rc != 0 ? keeper->txn.rc
					 : keeper->presence_txn.rc;
	if (rc == ERR_BAD_REQUEST) {
		log_error(NULL, "record-refused",
		    "slot=%d type=%s length=%u; it makes no sense", slot,
		    record_name(record->type), record->len);
		apply_refuse(
		    keeper, &from, record->type, record->data, record->len, rc);
		return 0;
	}
	/* A login fails, too, when a record that had to go first fails. */
	if (rc != 0 && keeper->failed.slot < 0)
		keeper->failed = from;
	return rc;
}

/* Apply what slot has published up to end, at most limit records, and none
 * after the first once the time is up: one can be told to a thousand. */
static int
drain(struct keeper *keeper, int slot, uint64_t end, unsigned limit,
    int64_t until_us)
{
	struct ring_reader *reader = bus_reader(keeper->bus, slot);
	struct ring_record record;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < limit && reader->cursor < end;
	     i++) {
		if (i > 0 && clock_mono_us() >= until_us)
			return 0;
		rc = read_record(keeper, reader, slot, &record);
		if (rc == ERR_AGAIN)
			return 0;
		if (rc == 0)
			rc = apply_one(keeper, slot, &record);
	}
	return rc;
}

void
keeper_drain_slot(struct keeper *keeper, int slot)
{
	struct ring_reader *reader = bus_reader(keeper->bus, slot);
	uint64_t bit = 1ULL << (slot - SLOT_WORKER_0);
	int rc;

	if ((keeper->draining & bit) != 0 || reader == NULL)
		return;
	keeper->draining |= bit;
	rc = drain(keeper, slot, ring_head(reader->ring), UINT_MAX, INT64_MAX);
	keeper->draining &= ~bit;
	if (rc != 0 && keeper->txn.rc == 0)
		keeper->txn.rc = rc; /* the batch is done again */
}

/* Rings take turns, so that a busy worker does not keep the others waiting.
 * @return 0 when all were empty or the time is up */
static int
batch_read(struct keeper *keeper)
{
	unsigned limit = keeper->is_in_pieces ? PIECE_RECORDS : BATCH_RECORDS;
	int64_t until_us = clock_mono_us() + BATCH_US;
	bool has_more;
	int rc = 0;

	do {
		has_more = false;
		for (int slot = bus_next_incoming(keeper->bus, -1);
		     rc == 0 && slot >= 0 && keeper->batch.records < limit;
		     slot = bus_next_incoming(keeper->bus, slot)) {
			rc = drain(keeper, slot,
			    ring_head(bus_ring(keeper->bus, slot, SLOT_KEEPER)),
			    limit < RECORDS_PER_ROUND ? limit
						      : RECORDS_PER_ROUND,
			    until_us);
			has_more = true;
		}
	} while (rc == 0 && has_more && keeper->batch.records < limit &&
		 clock_mono_us() < until_us);
	return rc;
}

static int
batch_fill(struct keeper *keeper)
{
	int rc;

	rc = batch_read(keeper);
	if (rc != 0 || keeper->storage == STORAGE_STUCK)
		return rc;
	rc = apply_lost_ends(keeper);
	if (rc == 0 && keeper->next_grace_ms != 0 &&
	    (keeper->next_grace_ms <= keeper->age_ms ||
		keeper->next_grace_ms >
		    keeper->age_ms + keeper->conf->policy_presence_grace))
		rc = grace_expire(keeper);
	if (rc == 0)
		rc = stale_sessions_end(keeper);
	if (rc == 0)
		rc = calls_catch_up(keeper);
	if (rc == 0)
		rc = leaving_turn(keeper);
	if (rc == 0)
		rc = inbox_catch_up(keeper);
	if (rc == 0)
		rc = hush_turn(keeper);
	if (rc == 0)
		rc = announce_dirty(keeper);
	if (rc == 0)
		rc = keeper_outbox_sweep(keeper);
	if (rc == 0)
		rc = retention_run(keeper);
	if (rc == 0)
		rc = retention_save(keeper);
	return rc;
}

static int
put_positions(struct keeper *keeper)
{
	int rc;

	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++) {
		struct ring_reader *reader = bus_reader(keeper->bus, slot);
		struct ring_writer *writer = bus_writer(keeper->bus, slot);

		if (reader != NULL)
			keeper->rings.rings[slot].applied = reader->cursor;
		if (writer != NULL)
			keeper->rings.rings[slot].head = writer->head;
	}
	keeper->rings.resync = keeper->batch.resync;
	rc = meta_rings_put(&keeper->txn, &keeper->rings);
	return rc == 0 ? age_save(&keeper->age, &keeper->txn) : rc;
}

static int
batch_commit(struct keeper *keeper)
{
	int64_t start_us = clock_mono_us();
	int rc;

	process_commit(keeper->process, true);
	/* The presence environment first: see presence.c. */
	rc = keeper_outbox_flush(keeper);
	if (rc == 0)
		rc = put_positions(keeper);
	if (rc == 0)
		rc = txn_commit(&keeper->presence_txn);
	if (rc == 0)
		rc = txn_commit(&keeper->txn);
	process_commit(keeper->process, false);
	if (rc == 0) {
		keeper_outbox_committed(keeper);
		retention_committed(keeper);
		COUNT(commits);
		keeper->batch.commit_us = clock_mono_us() - start_us;
		MEASURE_US(commit_us, (uint64_t)keeper->batch.commit_us);
	}
	return rc;
}

/* Committed: give space back, let replies and events out. */
static void
batch_release(struct keeper *keeper)
{
	struct batch *batch = &keeper->batch;

	keeper_tell_resync(keeper, batch->resync);
	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++) {
		struct ring_reader *reader = bus_reader(keeper->bus, slot);

		if (reader != NULL)
			ring_release(reader);
	}
	bus_publish_all(keeper->bus);
	COUNT_ADD(messages, batch->messages);
	COUNT_ADD(messages_edited, batch->edited);
	COUNT_ADD(messages_deleted, batch->deleted);
	COUNT_ADD(calls, batch->calls);
	COUNT_ADD(calls_ended, batch->calls_ended);
	COUNT_ADD(storage_full, batch->refused);
	keeper->culprit_count = 0;
	keeper->is_in_pieces = false;
}

static int
batch_run(struct keeper *keeper)
{
	int rc;

	batch_begin(keeper);
	rc = store_begin_write(keeper->main, &keeper->txn);
	if (rc == 0)
		rc = store_begin_write(keeper->presence, &keeper->presence_txn);
	if (rc == 0)
		rc = batch_fill(keeper);
	if (rc == 0 && keeper->txn.rc != 0)
		rc = keeper->txn.rc;
	if (rc != 0 || !keeper->batch.has_work) {
		batch_undo(keeper);
		if (rc == 0)
			retention_committed(keeper); /* it has looked on */
		return rc;
	}
	if (keeper->storage == STORAGE_STUCK) {
		/* Only refusals: let them out, nothing to commit. */
		txn_end(&keeper->txn);
		txn_end(&keeper->presence_txn);
		return 0;
	}
	rc = batch_commit(keeper);
	if (rc != 0)
		batch_undo(keeper);
	return rc;
}

/*
 * After a failure: which mode, and is there a record to blame? A full
 * store first refuses what makes it grow, then everything; any other failure
 * of one record costs that record; a failing commit stops everything that
 * has to be durable.
 */
static void
batch_failed(struct keeper *keeper, int rc)
{
	/* Of no record's doing, and none may be left out for it: a successor
	 * begins with little, and applies all of this batch. */
	if (rc == ERR_NO_MEMORY)
		fatal("out of memory: a transaction of %u records",
		    keeper->batch.records);
	keeper->next_grace_ms = keeper->batch.start_grace_ms;
	keeper->next_call_ms = keeper->batch.start_call_ms;
	keeper->is_call_sweeping = true; /* ends of sessions may be forgotten */
	keeper->has_leaving = true;      /* what was found may be undone */
	keeper->call_sweep_user = 0;
	keeper->call_sweep_id = 0;
	keeper->storage_retry_at_ms = clock_mono_ms() + STORAGE_RETRY_MS;
	keeper->storage_rc = rc;
	if (rc == ERR_STORAGE_FULL) {
		keeper->is_presence_full =
		    keeper->presence_txn.rc == ERR_STORAGE_FULL;
		keeper->storage = keeper->storage == STORAGE_GOOD
				      ? STORAGE_FULL
				      : STORAGE_STUCK;
	} else if (keeper->failed.slot >= 0 &&
		   keeper->culprit_count < CULPRITS_MAX) {
		keeper->culprits[keeper->culprit_count++] = keeper->failed;
		log_error(NULL, "record-set-aside",
		    "slot=%d position=%llu error=\"%s\"; it is answered "
		    "SERVER_ERROR",
		    keeper->failed.slot,
		    (unsigned long long)keeper->failed.position, err_text(rc));
	} else if (keeper->failed.slot >= 0 && !keeper->is_in_pieces) {
		keeper->is_in_pieces = true; /* with fewer of them in each */
		keeper->culprit_count = 0;
	} else if (rc == ERR_CORRUPT) {
		/* No record's fault, or of too many: a fresh process looks. */
		process_doubt_store(keeper->process);
		panic("the store is damaged");
	} else {
		keeper->storage = STORAGE_STUCK;
	}
}

int
batch_commit_nothing(struct keeper *keeper)
{
	struct meta_rings rings = {0};
	int rc = store_begin_write(keeper->main, &keeper->txn);

	/* the row as it is stored, not as a batch that failed left ours */
	if (rc == 0)
		rc = meta_rings_get(&keeper->txn, &rings);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = meta_rings_put(&keeper->txn, &rings);
	if (rc == 0)
		rc = txn_commit(&keeper->txn);
	txn_end(&keeper->txn);
	/* No page is left for it: what is there has to do. */
	return rc == ERR_STORAGE_FULL ? store_sync(keeper->main) : rc;
}

/* Nobody may come while /ready says that nothing can be stored: try it. */
static void
storage_probe(struct keeper *keeper)
{
	int rc;

	if (keeper->storage_told != STORAGE_STUCK ||
	    keeper->storage == STORAGE_STUCK)
		return;
	rc = batch_commit_nothing(keeper);
	if (rc != 0)
		batch_failed(keeper, rc);
	storage_tell(keeper);
}

bool
batch_turn(struct keeper *keeper)
{
	int64_t start_us = clock_mono_us();
	int rc;

	if (keeper->storage != STORAGE_GOOD &&
	    clock_mono_ms() >= keeper->storage_retry_at_ms)
		keeper->storage = STORAGE_GOOD;
	if (keeper->storage == STORAGE_GOOD && keeper->room == ROOM_NONE) {
		keeper->storage = STORAGE_FULL;
		keeper->storage_rc = ERR_STORAGE_FULL;
		keeper->is_presence_full = false;
		keeper->storage_retry_at_ms = start_us / 1000;
	}
	for (int i = 0; i < REDO_MAX; i++) {
		rc = batch_run(keeper);
		if (rc == 0)
			break;
		batch_failed(keeper, rc);
	}
	if (rc == 0 && !keeper->batch.has_work)
		storage_probe(keeper);
	if (rc != 0 || !keeper->batch.has_work)
		return false;
	storage_tell(keeper);
	if (keeper->storage != STORAGE_STUCK) {
		keeper->lost_end_count = 0;
		keeper->batch.dirty_count = 0;
	}
	batch_release(keeper);
	MEASURE_US(turn_us, (uint64_t)(clock_mono_us() - start_us));
	return true;
}
