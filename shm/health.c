/*
 * health.c - the scoreboard read as a verdict.
 *
 * Role:    failed: messages do not go through; degraded: something is down
 *          that the rest can do without.
 * Process: console, parleyctl.
 * Blocks:  never.
 * Trust:   the board's numbers are compared, nothing is reached through them.
 * See:     layout.h (who writes what), t/unit/health.c.
 */
#include "config.h"

#include "shm/health.h"

#include <stddef.h>

/* Of a worker that is not wanted now? */
static bool
is_spare(struct board *board, int slot)
{
	int workers = (int)atomic_load(&board_header(board)->workers);

	return (slot_is_worker(slot) && slot >= SLOT_WORKER_0 + workers) ||
	       (slot_is_holder(slot) && slot >= SLOT_HOLDER_0 + workers);
}

bool
health_is_used(struct board *board, int slot)
{
	const struct board_slot *at = board_slot(board, slot);

	if (at == NULL)
		return false;
	/* kinds of a later version */
	if (slot == SLOT_HERALD || slot == SLOT_LINK)
		return atomic_load(&at->generation) != 0;
	/* room for more, or one that is taking its leave */
	if (is_spare(board, slot))
		return atomic_load(&at->state) != PROCESS_DEAD;
	return true;
}

bool
health_is_serving(struct board *board, int slot)
{
	const struct board_slot *at = board_slot(board, slot);

	return at != NULL && atomic_load(&at->state) == PROCESS_RUNNING &&
	       atomic_load(&at->up) == atomic_load(&at->generation);
}

int64_t
health_beat_age_ms(struct board *board, int slot, int64_t mono_ms)
{
	const struct board_slot *at = board_slot(board, slot);
	int64_t beat_ms = at == NULL ? 0 : atomic_load(&at->heartbeat_ms);

	if (beat_ms == 0)
		return -1;
	return mono_ms > beat_ms ? mono_ms - beat_ms : 0;
}

static const char *
trouble_text(uint32_t trouble)
{
	switch ((enum process_trouble)trouble) {
	case TROUBLE_NONE:
		break;
	case TROUBLE_DISK:
		return "a process waits for a slow disk";
	case TROUBLE_STARVED:
		return "a process gets no processor";
	case TROUBLE_TRACED:
		return "a process is held by a debugger";
	}
	return NULL;
}

static bool
is_well(struct board *board, int slot, int64_t mono_ms)
{
	return health_is_serving(board, slot) &&
	       health_beat_age_ms(board, slot, mono_ms) < HEALTH_STALL_MS;
}

static void
find(struct health *health, enum health_status status, const char *reason)
{
	if (status > health->status) {
		health->status = status;
		health->reason = reason;
	}
}

struct health_database
health_database(struct board *board)
{
	_Atomic uint64_t *counters =
	    board_slot(board, SLOT_DIRECTORY)->count.counters;

	return (struct health_database){
	    .connections = atomic_load(&counters[COUNTER_mssql_connections]),
	    .waiting = atomic_load(&counters[COUNTER_mssql_queue]),
	    .is_spared =
		atomic_load(&counters[COUNTER_mssql_breaker_primary]) != 0,
	    .is_setup_wrong =
		atomic_load(&counters[COUNTER_mssql_setup_wrong]) != 0,
	};
}

static void
find_database(struct board *board, struct health *health)
{
	struct health_database database = health_database(board);

	if (!health_is_serving(board, SLOT_DIRECTORY))
		return; /* what its last process has said counts no more */
	if (database.is_setup_wrong)
		find(health, HEALTH_DEGRADED,
		    "SQL Server refuses to be written to: procedures or "
		    "rights are wrong, the log says which");
	if (database.is_spared)
		find(health, HEALTH_DEGRADED,
		    "SQL Server cannot be reached: logins by password are "
		    "UNAVAILABLE, what happens is kept until it can");
}

/* What the keeper says of its store (keeper/batch.c, room.c). */
static void
find_storage(struct board *board, struct health *health)
{
	_Atomic uint64_t *counters =
	    board_slot(board, SLOT_KEEPER)->count.counters;

	if (atomic_load(&counters[COUNTER_store_state]) >= 2)
		find(health, HEALTH_FAILED,
		    "nothing can be stored: the disk is full, fails or is "
		    "read-only");
	else if (atomic_load(&counters[COUNTER_store_state]) == 1 ||
		 atomic_load(&counters[COUNTER_store_room]) == 2)
		find(health, HEALTH_DEGRADED,
		    "the store is full: new messages are refused");
	else if (atomic_load(&counters[COUNTER_store_room]) == 1)
		find(health, HEALTH_DEGRADED,
		    "the disk of data_dir or [store] map_size is nearly full");
}

/* First of all: what else is wrong follows from it. */
static void
find_store(struct board *board, struct health *health)
{
	const struct board_header *header = board_header(board);

	switch ((enum store_state)atomic_load(&header->store)) {
	case STORE_USABLE:
		break;
	case STORE_SUSPECT:
		find(health, HEALTH_FAILED,
		    "the store is being checked: a process died in it twice");
		break;
	case STORE_REFUSED:
		find(health, HEALTH_FAILED,
		    "the store is damaged or gone: the log says what was "
		    "found, parleyctl restore puts a backup in its place");
		break;
	}
}

struct health
health_read(struct board *board, int64_t mono_ms)
{
	const struct board_header *header = board_header(board);
	struct health health = {.status = HEALTH_OK, .reason = ""};
	int workers = 0;
	int serving = 0;

	find_store(board, &health);
	for (int slot = 0; slot < board_slot_end(board); slot++) {
		const char *trouble;
		bool is_good;

		if (!health_is_used(board, slot))
			continue;
		is_good = is_well(board, slot, mono_ms);
		trouble = trouble_text(
		    atomic_load(&board_slot(board, slot)->trouble));
		if (trouble != NULL)
			find(&health, HEALTH_DEGRADED, trouble);
		if (is_spare(board, slot)) {
			continue; /* not missed when it is gone */
		} else if (slot_is_worker(slot)) {
			workers++;
			serving += is_good ? 1 : 0;
		} else if (slot == SLOT_KEEPER && !is_good) {
			find(&health, HEALTH_FAILED,
			    "the keeper does not serve");
		} else if (!is_good) {
			find(&health, HEALTH_DEGRADED,
			    "a process does not serve");
		}
	}
	if (atomic_load(&header->ready) == 0)
		find(&health, HEALTH_FAILED, "the store is not open");
	find_storage(board, &health);
	if (serving == 0)
		find(&health, HEALTH_FAILED, "no worker serves");
	if (atomic_load(&header->stopping) != 0)
		find(&health, HEALTH_FAILED, "the server is stopping");
	switch (atomic_load(&board_slot(board, SLOT_SUPERVISOR)
				 ->count.counters[COUNTER_tls_cert_state])) {
	case 0:
		break;
	case 1:
		find(
		    &health, HEALTH_DEGRADED, "a TLS certificate expires soon");
		break;
	default:
		find(&health, HEALTH_DEGRADED,
		    "a TLS certificate is not valid now");
		break;
	}
	health.is_ready = health.status != HEALTH_FAILED;
	if (serving < workers)
		find(&health, HEALTH_DEGRADED, "a worker does not serve");
	find_database(board, &health);
	if (atomic_load(&board_slot(board, SLOT_KEEPER)
			     ->count.counters[COUNTER_outbox_late]) != 0)
		find(&health, HEALTH_DEGRADED,
		    "an outbox is late: what waits there is older than "
		    "[directory] outbox_lag_max");
	return health;
}

const char *
health_status_name(enum health_status status)
{
	switch (status) {
	case HEALTH_OK:
		return "ok";
	case HEALTH_DEGRADED:
		return "degraded";
	case HEALTH_FAILED:
		return "failed";
	}
	return "unknown";
}
