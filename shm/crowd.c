/*
 * crowd.c - how many connections each address has, over all workers.
 *
 * Role:    see crowd.h.
 * Process: worker; the supervisor makes the key.
 * Blocks:  never.
 * Trust:   addresses are hashed with a secret, so that nobody can find others
 *          that share their columns, or aim at somebody else's. Other workers'
 *          tables are only added up: a wrong one can refuse a connection or
 *          let one in.
 * See:     layout.h, worker/gate.c, t/unit/crowd.c.
 */
#include "config.h"

#include "shm/crowd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/layout.h"

struct crowd {
	struct bus *bus;
	const struct crowd_area *area;
	struct crowd_table *own;
};

/* A column in each row. */
struct place {
	uint16_t columns[CROWD_ROWS];
};

_Static_assert(CROWD_COLUMNS <= UINT16_MAX + 1, "columns");
_Static_assert(
    sizeof(struct place) <= CRYPTO_HASH128_LEN, "a hash has enough of them");

static struct place
place_of(const struct crowd *crowd, const uint8_t key[CROWD_KEY_LEN])
{
	uint8_t hash[CRYPTO_HASH128_LEN];
	struct place place;

	crypto_siphash128(crowd->area->key, key, CROWD_KEY_LEN, hash);
	memcpy(&place, hash, sizeof(place));
	for (int row = 0; row < CROWD_ROWS; row++)
		place.columns[row] %= CROWD_COLUMNS;
	return place;
}

/* Does its worker live, and are these its counts and not a predecessor's? */
static bool
is_current(const struct crowd *crowd, int worker)
{
	const struct board_slot *slot =
	    board_slot(bus_board(crowd->bus), SLOT_WORKER_0 + worker);

	return atomic_load(&slot->pid) != 0 &&
	       atomic_load(&slot->generation) ==
		   atomic_load(&crowd->area->generations[worker]);
}

static uint32_t
count_at(const struct crowd *crowd, const struct place *place)
{
	uint32_t sums[CROWD_ROWS] = {0};
	uint32_t least;

	for (int i = 0; i < bus_worker_count(crowd->bus); i++) {
		const struct crowd_table *table = &crowd->area->tables[i];

		if (table != crowd->own && !is_current(crowd, i))
			continue;
		for (int row = 0; row < CROWD_ROWS; row++)
			sums[row] += atomic_load_explicit(
			    &table->counts[row][place->columns[row]],
			    memory_order_relaxed);
	}
	least = sums[0];
	for (int row = 1; row < CROWD_ROWS; row++) {
		if (sums[row] < least)
			least = sums[row];
	}
	return least;
}

/* There is one writer: a load and a store, no locked instruction. */
static void
change(struct crowd *crowd, const struct place *place, uint32_t by)
{
	for (int row = 0; row < CROWD_ROWS; row++) {
		_Atomic uint32_t *count =
		    &crowd->own->counts[row][place->columns[row]];

		atomic_store_explicit(count,
		    atomic_load_explicit(count, memory_order_relaxed) + by,
		    memory_order_relaxed);
	}
}

bool
crowd_enter(struct crowd *crowd, const uint8_t key[CROWD_KEY_LEN], uint32_t max)
{
	struct place place = place_of(crowd, key);

	if (max != 0 && count_at(crowd, &place) >= max)
		return false;
	change(crowd, &place, 1);
	return true;
}

void
crowd_leave(struct crowd *crowd, const uint8_t key[CROWD_KEY_LEN])
{
	struct place place = place_of(crowd, key);

	change(crowd, &place, (uint32_t)-1);
}

uint32_t
crowd_count(const struct crowd *crowd, const uint8_t key[CROWD_KEY_LEN])
{
	struct place place = place_of(crowd, key);

	return count_at(crowd, &place);
}

/* ---- life ---- */

void
crowd_begin(struct bus *bus)
{
	struct crowd_area *area = bus_crowd(bus);

	crypto_random(area->key, sizeof(area->key));
}

/* A page that is given back is empty; one that was never used stays so. */
static void
empty(struct crowd_table *table)
{
	if (madvise(table, sizeof(*table), MADV_REMOVE) == 0)
		return;
	for (int row = 0; row < CROWD_ROWS; row++) {
		for (int i = 0; i < CROWD_COLUMNS; i++)
			atomic_store_explicit(
			    &table->counts[row][i], 0, memory_order_relaxed);
	}
}

struct crowd *
crowd_new(struct bus *bus)
{
	struct crowd *crowd = xcalloc(1, sizeof(*crowd));
	struct crowd_area *area = bus_crowd(bus);
	int worker = bus_self(bus) - SLOT_WORKER_0;

	if (worker < 0 || worker >= bus_worker_count(bus))
		panic("no worker's process");
	crowd->bus = bus;
	crowd->area = area;
	crowd->own = &area->tables[worker];
	/* Nobody adds up what is being emptied. */
	atomic_store(&area->generations[worker], 0);
	empty(crowd->own);
	atomic_store(&area->generations[worker], bus_own_generation(bus));
	return crowd;
}

void
crowd_free(struct crowd **crowd)
{
	free(*crowd);
	*crowd = NULL;
}
