/*
 * keeper.c - the only writer of the store.
 *
 * Role:    drains all incoming rings, applies their records in one
 *          transaction, commits once for all, then lets replies and events
 *          out. The flush under way is the batching window.
 * Process: keeper; one.
 * Blocks:  on fdatasync only. Work between two commits is cut at BATCH_US.
 * Trust:   ring records are checked; one that breaks the store is set aside
 *          and answered, the batch is done again without it.
 * See:     architecture.md, “The way of one message”; apply.def
 *
 * Exactly once over a kill: the positions up to which rings are applied and
 * the heads of the outgoing rings are committed with the work itself. Space
 * in a ring is given back, and heads are published, only after the commit; a
 * successor goes on from what is committed.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "keeper/apply.h"
#include "keeper/keeper_priv.h"

#define BATCH_US         2000
#define BATCH_RECORDS    4096
#define IDLE_MS          500 /* longest sleep: heartbeat, graces */
#define STORAGE_RETRY_MS 1000
#define READER_CHECK_MS  10000
#define REDO_MAX         (CULPRITS_MAX + 2) /* and full, and stuck */

static const char *const storage_names[STORAGE_END] = {
    [STORAGE_GOOD] = "good",
    [STORAGE_FULL] = "full",
    [STORAGE_STUCK] = "stuck",
};

static void
storage_set_state(struct keeper *keeper, enum storage_state state)
{
	if (keeper->storage == state)
		return;
	if (state == STORAGE_GOOD)
		log_info(NULL, "storage-state", "state=%s was=%s",
		    storage_names[state], storage_names[keeper->storage]);
	else
		log_error(NULL, "storage-state",
		    "state=%s was=%s; free space on the disk of data_dir or "
		    "raise [store] map_size",
		    storage_names[state], storage_names[keeper->storage]);
	keeper->storage = state;
}

bool
keeper_is_live(
    const struct keeper *keeper, const struct userhead_device *device)
{
	struct board_slot *slot;

	if (device->session == 0 || device->boot != keeper->boot ||
	    device->worker < SLOT_WORKER_0 ||
	    device->worker >= bus_slot_end(keeper->bus))
		return false;
	slot = board_slot(keeper->board, device->worker);
	return atomic_load_explicit(&slot->generation, memory_order_relaxed) ==
	       device->worker_gen;
}

/* ---- start ---- */

static void
open_stores(struct keeper *keeper)
{
	const struct conf *conf = keeper->conf;
	char error[512];

	if (store_open(STORE_MAIN, conf->server_data_dir,
		(size_t)conf->store_map_size, true, &keeper->main, error,
		sizeof(error)) != 0)
		fatal("%s", error);
	if (store_open(STORE_PRESENCE, conf->server_run_dir,
		(size_t)conf->store_presence_map_size, true, &keeper->presence,
		error, sizeof(error)) != 0)
		fatal("%s", error);
	store_reader_check(keeper->main);
	store_reader_check(keeper->presence);
}

/* Positions belong to one segment: another boot begins at zero. */
static void
load_meta(struct keeper *keeper)
{
	uint64_t boot_id = board_header(keeper->board)->boot_id;
	int rc;

	rc = store_begin_write(keeper->main, &keeper->txn);
	if (rc == 0)
		rc = meta_init(&keeper->txn, clock_wall_ms(), &keeper->meta);
	if (rc == 0) {
		rc = meta_rings_get(&keeper->txn, &keeper->rings);
		if (rc == ERR_NOT_FOUND)
			rc = 0;
	}
	if (rc == 0)
		rc = txn_commit(&keeper->txn);
	txn_end(&keeper->txn);
	if (rc == ERR_STALE)
		fatal("the store in %s was written by another version of "
		      "parleyd; start that version or restore a backup",
		    keeper->conf->server_data_dir);
	if (rc != 0)
		fatal("cannot read the store in %s: %s",
		    keeper->conf->server_data_dir, err_text(rc));
	if (keeper->rings.boot_id != boot_id) {
		uint64_t last_id = keeper->rings.last_id;

		keeper->rings =
		    (struct meta_rings){.boot_id = boot_id, .last_id = last_id};
	}
	keeper->boot = (uint32_t)boot_id;
}

/* What the predecessor committed is let out; what it had not committed is
 * applied again. */
static void
attach_rings(struct keeper *keeper)
{
	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++) {
		struct ring_reader *reader = bus_reader(keeper->bus, slot);
		struct ring_writer *writer = bus_writer(keeper->bus, slot);
		const struct meta_ring *ring = &keeper->rings.rings[slot];

		if (reader != NULL && !ring_reader_seek(reader, ring->applied))
			log_error(NULL, "ring-position-refused",
			    "slot=%d applied=%llu; going on at what was "
			    "released",
			    slot, (unsigned long long)ring->applied);
		if (writer != NULL && !ring_writer_seek(writer, ring->head))
			log_error(NULL, "ring-position-refused",
			    "slot=%d head=%llu; going on at what was "
			    "published",
			    slot, (unsigned long long)ring->head);
	}
	bus_publish_all(keeper->bus);
	/* The predecessor may have dropped deliveries and died between its
	 * commit and telling so: that is not in the store. */
	for (int n = 0; n < bus_worker_count(keeper->bus); n++)
		atomic_fetch_add(
		    &board_slot(keeper->board, SLOT_WORKER_0 + n)->resync, 1);
}

/* ---- one batch ---- */

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
	batch->dirty_count = 0;
	batch->resync = 0;
	batch->records = 0;
	batch->messages = 0;
	batch->refused = 0;
	batch->has_work = false;
	batch->start_grace_ms = keeper->next_grace_ms;
	keeper->failed.slot = -1;
	keeper->now_ms = clock_wall_ms();
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

static int
apply_one(struct keeper *keeper, int slot, const struct ring_record *record)
{
	struct origin from = {slot, record->from_gen, record->position};
	int rc;

	keeper->batch.records++;
	keeper->batch.has_work = true;
	if (keeper->storage == STORAGE_STUCK) {
		keeper->batch.refused++;
		apply_refuse(keeper, &from, record->type, record->data,
		    record->len, ERR_STORAGE_FULL);
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
	if (rc != 0)
		keeper->failed = from;
	return rc;
}

/* Apply what slot has published up to end. */
static int
drain(struct keeper *keeper, int slot, uint64_t end, int64_t until_us)
{
	struct ring_reader *reader = bus_reader(keeper->bus, slot);
	struct ring_record record;
	int rc = 0;

	while (rc == 0 && reader->cursor < end &&
	       keeper->batch.records < BATCH_RECORDS) {
		rc = read_record(keeper, reader, slot, &record);
		if (rc == ERR_AGAIN)
			return 0;
		if (rc == 0)
			rc = apply_one(keeper, slot, &record);
		if (until_us != 0 && keeper->batch.records % 16 == 0 &&
		    clock_mono_us() > until_us)
			break;
	}
	return rc;
}

void
keeper_drain_slot(struct keeper *keeper, int slot)
{
	struct ring_reader *reader = bus_reader(keeper->bus, slot);
	unsigned records = keeper->batch.records;
	uint64_t start;
	uint64_t end;
	int rc;

	if (keeper->is_draining || reader == NULL)
		return;
	keeper->is_draining = true;
	end = ring_head(reader->ring);
	do { /* all of it, however long the batch is */
		start = reader->cursor;
		keeper->batch.records = 0;
		rc = drain(keeper, slot, end, 0);
		records += keeper->batch.records;
	} while (rc == 0 && reader->cursor < end && reader->cursor != start);
	keeper->batch.records = records;
	keeper->is_draining = false;
	if (rc != 0 && keeper->txn.rc == 0)
		keeper->txn.rc = rc; /* the batch is done again */
}

static int
batch_fill(struct keeper *keeper)
{
	int64_t until_us = clock_mono_us() + BATCH_US;
	int rc = 0;

	for (int slot = bus_next_incoming(keeper->bus, -1);
	     rc == 0 && slot >= 0;
	     slot = bus_next_incoming(keeper->bus, slot)) {
		rc = drain(keeper, slot,
		    ring_head(bus_ring(keeper->bus, slot, SLOT_KEEPER)),
		    until_us);
	}
	if (rc != 0 || keeper->storage == STORAGE_STUCK)
		return rc;
	if (keeper->next_grace_ms != 0 &&
	    keeper->next_grace_ms <= keeper->now_ms)
		rc = grace_expire(keeper);
	if (rc == 0)
		rc = stale_sessions_end(keeper);
	if (rc == 0)
		rc = announce_dirty(keeper);
	return rc;
}

static int
put_positions(struct keeper *keeper)
{
	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++) {
		struct ring_reader *reader = bus_reader(keeper->bus, slot);
		struct ring_writer *writer = bus_writer(keeper->bus, slot);

		if (reader != NULL)
			keeper->rings.rings[slot].applied = reader->cursor;
		if (writer != NULL)
			keeper->rings.rings[slot].head = writer->head;
	}
	return meta_rings_put(&keeper->txn, &keeper->rings);
}

static int
batch_commit(struct keeper *keeper)
{
	int64_t start_us = clock_mono_us();
	int rc;

	/* The presence environment first: see presence.c. */
	rc = put_positions(keeper);
	if (rc == 0)
		rc = txn_commit(&keeper->presence_txn);
	if (rc == 0)
		rc = txn_commit(&keeper->txn);
	if (rc == 0) {
		COUNT(commits);
		MEASURE_US(commit_us, (uint64_t)(clock_mono_us() - start_us));
	}
	return rc;
}

/* Committed: give space back, let replies and events out. */
static void
batch_release(struct keeper *keeper)
{
	struct batch *batch = &keeper->batch;

	for (int n = 0; batch->resync != 0 && n < WORKER_MAX; n++) {
		if ((batch->resync & 1ULL << n) == 0)
			continue;
		atomic_fetch_add(
		    &board_slot(keeper->board, SLOT_WORKER_0 + n)->resync, 1);
		COUNT(resyncs);
	}
	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++) {
		struct ring_reader *reader = bus_reader(keeper->bus, slot);

		if (reader != NULL)
			ring_release(reader);
	}
	bus_publish_all(keeper->bus);
	COUNT_ADD(messages, batch->messages);
	COUNT_ADD(storage_full, batch->refused);
	keeper->culprit_count = 0;
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
	keeper->next_grace_ms = keeper->batch.start_grace_ms;
	keeper->storage_retry_at_ms = clock_mono_ms() + STORAGE_RETRY_MS;
	if (rc == ERR_STORAGE_FULL) {
		storage_set_state(keeper, keeper->storage == STORAGE_GOOD
					      ? STORAGE_FULL
					      : STORAGE_STUCK);
	} else if (keeper->failed.slot >= 0 &&
		   keeper->culprit_count < CULPRITS_MAX) {
		keeper->culprits[keeper->culprit_count++] = keeper->failed;
		log_error(NULL, "record-set-aside",
		    "slot=%d position=%llu error=\"%s\"; it is answered "
		    "SERVER_ERROR",
		    keeper->failed.slot,
		    (unsigned long long)keeper->failed.position, err_text(rc));
	} else if (rc == ERR_CORRUPT) {
		/* No record's fault, or of too many: a fresh process looks. */
		panic("the store is damaged");
	} else {
		storage_set_state(keeper, STORAGE_STUCK);
	}
}

/** @return true when something was committed or refused */
static bool
keeper_turn(struct keeper *keeper)
{
	int64_t start_us = clock_mono_us();
	int rc;

	if (keeper->storage != STORAGE_GOOD &&
	    clock_mono_ms() >= keeper->storage_retry_at_ms)
		storage_set_state(keeper, STORAGE_GOOD);
	for (int i = 0; i < REDO_MAX; i++) {
		rc = batch_run(keeper);
		if (rc == 0)
			break;
		batch_failed(keeper, rc);
	}
	if (!keeper->batch.has_work)
		return false;
	batch_release(keeper);
	MEASURE_US(turn_us, (uint64_t)(clock_mono_us() - start_us));
	return true;
}

/* ---- between batches ---- */

static void
housekeeping(struct keeper *keeper)
{
	static int64_t next_look_ms;
	static int64_t next_check_ms;
	int64_t now_ms = clock_mono_ms();

	process_beat(keeper->process);
	if (now_ms >= next_look_ms) {
		next_look_ms = now_ms + 1000;
		stale_sessions_look(keeper);
		GAUGE_SET(store_bytes, store_used_bytes(keeper->main));
	}
	if (now_ms >= next_check_ms) {
		next_check_ms = now_ms + READER_CHECK_MS;
		store_reader_check(keeper->main);
		store_reader_check(keeper->presence);
	}
}

static int
sleep_ms(const struct keeper *keeper)
{
	int64_t ms = IDLE_MS;
	int64_t left;

	if (keeper->storage == STORAGE_STUCK)
		return IDLE_MS; /* neither is looked at */
	if (keeper->stale_slots != 0)
		return 0;
	if (keeper->next_grace_ms != 0) {
		left = keeper->next_grace_ms - clock_wall_ms();
		ms = left < 0 ? 0 : left < ms ? left : ms;
	}
	return (int)ms;
}

static void
keeper_sleep(struct keeper *keeper, int signal_fd)
{
	struct pollfd fds[] = {
	    {.fd = bus_eventfd(keeper->bus), .events = POLLIN},
	    {.fd = signal_fd, .events = POLLIN},
	};

	if (!bus_prepare_sleep(keeper->bus))
		return;
	poll(fds, 2, sleep_ms(keeper));
	bus_awake(keeper->bus);
	if (keeper->conf->store_commit_delay_max > 0)
		poll(NULL, 0, (int)keeper->conf->store_commit_delay_max);
}

static bool
keeper_signals(int signal_fd)
{
	bool is_stopping = false;
	int signo;

	while ((signo = process_signal_next(signal_fd)) != 0) {
		if (signo == SIGUSR1)
			log_reopen();
		else
			is_stopping = true;
	}
	return is_stopping;
}

static void
keeper_loop(struct keeper *keeper, int signal_fd)
{
	bool is_stopping = false;

	for (;;) {
		if (keeper_signals(signal_fd))
			is_stopping = true;
		housekeeping(keeper);
		if (keeper_turn(keeper))
			continue;
		/* The supervisor stops the keeper last: rings are empty. */
		if (is_stopping)
			return;
		keeper_sleep(keeper, signal_fd);
	}
}

int
keeper_main(const struct process *process)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	int signal_fd = process_signal_fd();

	if (keeper == NULL)
		fatal("out of memory");
	keeper->process = process;
	keeper->conf = process->conf;
	keeper->bus = process->bus;
	keeper->board = bus_board(process->bus);
	open_stores(keeper);
	load_meta(keeper);
	attach_rings(keeper);
	stale_sessions_look(keeper);
	keeper->next_grace_ms = 1; /* look at the stored deadlines */
	log_info(NULL, "keeper-ready", "epoch=%016llx",
	    (unsigned long long)keeper->meta.epoch);
	atomic_store(&board_header(keeper->board)->ready, 1);
	process_up(process);
	keeper_loop(keeper, signal_fd);
	store_close(&keeper->presence);
	store_close(&keeper->main);
	free(keeper->batch.dirty);
	free(keeper);
	close(signal_fd);
	return 0;
}
