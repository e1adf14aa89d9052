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
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/file.h"
#include "base/log.h"
#include "keeper/apply.h"
#include "keeper/hush.h"
#include "keeper/keeper_priv.h"
#include "keeper/leaving.h"
#include "keeper/retention.h"
#include "keeper/sends.h"
#include "shm/store_mark.h"

#define IDLE_MS           500 /* longest sleep: heartbeat, graces */
#define LOOK_MS           1000
#define SETTLE_RETRY_MS   1000
#define READER_CHECK_MS   10000
#define PAUSE_RECORDS_MIN 4 /* in the batch before */
#define PAUSE_RECORDS_MAX 256
#define PAUSE_MAX_US      2000
#define PAUSE_LOGINS_US   5000

uint64_t
keeper_next_id(struct keeper *keeper)
{
	keeper->rings.last_id = message_id_next(keeper->rings.last_id,
	    keeper->now_ms, (unsigned)keeper->conf->server_node);
	return keeper->rings.last_id;
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

bool
keeper_slot_is_alive(const struct keeper *keeper, int slot)
{
	switch (atomic_load(&board_slot(keeper->board, slot)->state)) {
	case PROCESS_STARTING:
	case PROCESS_RUNNING:
	case PROCESS_STOPPING:
		return true;
	default:
		return false;
	}
}

/* ---- start ---- */

static int
open_main(struct keeper *keeper, char *error, size_t error_len)
{
	const struct conf *conf = keeper->conf;
	int rc = store_mark_judge(conf->server_data_dir, error, error_len);

	if (rc == 0)
		rc = store_open(STORE_MAIN, conf->server_data_dir,
		    (size_t)conf->store_map_size, true, &keeper->main, error,
		    error_len);
	if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND)
		process_doubt_store(keeper->process);
	return rc;
}

static void
open_stores(struct keeper *keeper)
{
	const struct conf *conf = keeper->conf;
	char error[1024];

	if (open_main(keeper, error, sizeof(error)) != 0)
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
		rc = age_open(&keeper->age, &keeper->txn);
	if (rc == 0)
		rc = keeper_outbox_open(keeper);
	if (rc == 0)
		rc = retention_open(keeper);
	if (rc == 0)
		rc = txn_commit(&keeper->txn);
	txn_end(&keeper->txn);
	if (rc == ERR_STALE)
		fatal("the store in %s was written by another version of "
		      "parleyd; start that version or restore a backup",
		    keeper->conf->server_data_dir);
	if (rc == ERR_CORRUPT)
		process_doubt_store(keeper->process);
	if (rc != 0)
		fatal("cannot read the store in %s: %s",
		    keeper->conf->server_data_dir, err_text(rc));
	if (store_mark_made(keeper->conf->server_data_dir) != 0)
		log_warn(NULL, "store-mark-failed",
		    "folder=%s error=\"%s\" hint=\"without it a store that "
		    "has vanished would be begun anew\"",
		    keeper->conf->server_data_dir, strerror(errno));
	if (keeper->rings.boot_id != boot_id) {
		uint64_t last_id = keeper->rings.last_id;

		keeper->rings =
		    (struct meta_rings){.boot_id = boot_id, .last_id = last_id};
	}
	keeper->boot = (uint32_t)boot_id;
}

/*
 * The last commit in the file may be one that its writer never saw synced: it
 * was killed within the write, or the write failed. Before any of it is let
 * out this process commits on top of it (doc/decisions/011). And a file that is
 * new can be gone with all that was synced in it until its folder is synced
 * (fsync(2)).
 *
 * After a failure the file is opened again: a meta page that could not be
 * written makes the library's handle useless, and a process that ended for it
 * at each attempt would soon be left down.
 */
static int
settle_once(struct keeper *keeper)
{
	char error[1024];
	int rc = 0;

	if (keeper->main == NULL)
		rc = open_main(keeper, error, sizeof(error));
	if (rc == 0)
		rc = batch_commit_nothing(keeper);
	if (rc == 0)
		rc = file_sync_folder(keeper->conf->server_data_dir);
	if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND) {
		process_doubt_store(keeper->process);
		panic("the store is damaged");
	}
	if (rc != 0)
		store_close(&keeper->main);
	return rc;
}

/* @return false: told to stop before it was possible */
static bool
settle(struct keeper *keeper, int signal_fd)
{
	struct pollfd wait = {.fd = signal_fd, .events = POLLIN};
	bool was_told = false;

	while (settle_once(keeper) != 0) {
		if (!was_told)
			log_error(NULL, "store-not-writable",
			    "folder=%s; the disk fails or is read-only: tried "
			    "again each second",
			    keeper->conf->server_data_dir);
		was_told = true;
		process_beat(keeper->process);
		poll(&wait, 1, SETTLE_RETRY_MS);
		if (process_has_stop_signal(signal_fd))
			return false;
	}
	return true;
}

void
keeper_tell_resync(struct keeper *keeper, uint64_t workers)
{
	for (int n = 0; n < bus_worker_count(keeper->bus); n++) {
		if ((workers & 1ULL << n) == 0)
			continue;
		atomic_fetch_add(
		    &board_slot(keeper->board, SLOT_WORKER_0 + n)->resync, 1);
		COUNT(resyncs);
	}
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
	/* The predecessor may have died between a commit that dropped
	 * deliveries and telling so. */
	keeper_tell_resync(keeper, keeper->rings.resync);
	bus_publish_all(keeper->bus);
}

/* ---- between batches ---- */

static uint64_t
sum_generations(struct keeper *keeper)
{
	uint64_t sum = 0;

	for (int slot = 0; slot < bus_slot_end(keeper->bus); slot++)
		sum +=
		    atomic_load(&board_slot(keeper->board, slot)->generation);
	return sum;
}

static void
housekeeping(struct keeper *keeper)
{
	int64_t now_ms = clock_mono_ms();
	uint64_t generations;

	process_beat(keeper->process);
	if (now_ms < keeper->next_look_ms)
		return;
	keeper->next_look_ms = now_ms + LOOK_MS;
	bus_trim(keeper->bus);
	stale_sessions_look(keeper);
	keeper_outbox_look(keeper);
	retention_look(keeper);
	GAUGE_SET(store_bytes, store_used_bytes(keeper->main));
	room_look(keeper);
	/* A process that was killed in a read transaction keeps its pages from
	 * being used again: look after every death, and now and then. */
	generations = sum_generations(keeper);
	if (generations == keeper->generations_seen &&
	    now_ms < keeper->next_check_ms)
		return;
	keeper->generations_seen = generations;
	keeper->next_check_ms = now_ms + READER_CHECK_MS;
	store_reader_check(keeper->main);
	store_reader_check(keeper->presence);
}

static int
sleep_ms(const struct keeper *keeper)
{
	const int64_t next_ms[] = {keeper->next_grace_ms, keeper->next_call_ms};
	int64_t ms = IDLE_MS;
	int64_t left = retention_wait_ms(keeper);

	if (keeper->storage == STORAGE_STUCK)
		return IDLE_MS; /* neither is looked at */
	if (keeper->stale_slots != 0 || keeper->behind_count > 0 ||
	    keeper->has_more_behind || keeper->is_call_sweeping ||
	    leaving_has_work(keeper))
		return 0;
	if (left >= 0)
		ms = left;
	for (size_t i = 0; i < sizeof(next_ms) / sizeof(next_ms[0]); i++) {
		if (next_ms[i] == 0)
			continue;
		left = next_ms[i] - age_now(&keeper->age);
		ms = left < 0 ? 0 : left < ms ? left : ms;
	}
	left = hush_wait_ms(keeper);
	if (left >= 0 && left < ms)
		ms = left;
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

/*
 * Under load a batch that could be larger is let grow for as long as the last
 * commit took: the disk is busy half of the time at most, and a page is
 * written once for more messages (doc/decisions/008). A few records are no
 * load, and many need no more company. While clients come back in crowds and
 * nobody writes a message, the pause is longer: a login can wait, and each
 * commit wakes all workers that had one.
 */
static void
keeper_pause(const struct keeper *keeper)
{
	const struct batch *batch = &keeper->batch;
	int64_t pause_us = batch->commit_us;

	if (batch->records < PAUSE_RECORDS_MIN ||
	    batch->records > PAUSE_RECORDS_MAX)
		return;
	if (pause_us > PAUSE_MAX_US)
		pause_us = PAUSE_MAX_US;
	if (batch->messages == 0 && batch->logins >= PAUSE_RECORDS_MIN)
		pause_us = PAUSE_LOGINS_US;
	nanosleep(&(struct timespec){.tv_nsec = pause_us * 1000}, NULL);
}

static void
keeper_loop(struct keeper *keeper, int signal_fd)
{
	bool is_stopping = false;

	for (;;) {
		if (process_has_stop_signal(signal_fd))
			is_stopping = true;
		housekeeping(keeper);
		if (batch_turn(keeper)) {
			keeper_pause(keeper);
			continue;
		}
		/* The supervisor stops the keeper last: rings are empty. */
		if (is_stopping)
			return;
		keeper_sleep(keeper, signal_fd);
	}
}

static void
serve(struct keeper *keeper, int signal_fd)
{
	attach_rings(keeper);
	stale_sessions_look(keeper);
	room_look(keeper);
	keeper->next_grace_ms = 1; /* look at the stored deadlines */
	keeper->next_call_ms = 1;
	keeper->has_more_behind = true;  /* and at those left behind */
	keeper->is_call_sweeping = true; /* and at who is not there any more */
	keeper->has_leaving = true;
	log_info(NULL, "keeper-ready", "epoch=%016llx",
	    (unsigned long long)keeper->meta.epoch);
	atomic_store(&board_header(keeper->board)->ready, 1);
	process_up(keeper->process);
	keeper_loop(keeper, signal_fd);
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
	keeper->sends = sends_new(SENDS_MAX);
	keeper->hush = hush_new();
	open_stores(keeper);
	load_meta(keeper);
	if (settle(keeper, signal_fd))
		serve(keeper, signal_fd);
	store_close(&keeper->presence);
	store_close(&keeper->main);
	sends_free(&keeper->sends);
	hush_free(&keeper->hush);
	keeper_outbox_close(keeper);
	retention_close(keeper);
	free(keeper->batch.dirty);
	free(keeper->batch.call_notes);
	free(keeper->lost_ends);
	free(keeper->behind);
	free(keeper);
	close(signal_fd);
	return 0;
}
