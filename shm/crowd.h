/*
 * crowd.h - how many connections each address has, over all workers.
 *
 * Each worker counts its own connections in a table that the others read: a
 * count-min sketch. What is counted is at least what is there; with n
 * connections in all, about n / CROWD_COLUMNS too many at most. No address is
 * stored, and no flood of them takes more memory.
 *
 * The counts of a worker that died do not count any more: its successor begins
 * anew, and counts again whom it goes on with.
 */
#ifndef SHM_CROWD_H
#define SHM_CROWD_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/bus.h"

struct crowd;

#define CROWD_KEY_LEN 16

/** Supervisor, after bus_create: nobody can know who shares his columns. */
void crowd_begin(struct bus *bus);
/** Worker, after bus_become: with an empty table. */
struct crowd *crowd_new(struct bus *bus);
void crowd_free(struct crowd **crowd);

/**
 * One more from there.
 *
 * @param key  of the address
 * @param max  refused if there are so many already; 0: never. Workers that ask
 *             at the same moment may all get the last place.
 * @return     whether it was counted
 */
bool crowd_enter(
    struct crowd *crowd, const uint8_t key[CROWD_KEY_LEN], uint32_t max);
/** One that was counted is gone. */
void crowd_leave(struct crowd *crowd, const uint8_t key[CROWD_KEY_LEN]);
/** How many there are, of all workers. */
uint32_t crowd_count(
    const struct crowd *crowd, const uint8_t key[CROWD_KEY_LEN]);

#endif
