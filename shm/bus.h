/*
 * bus.h - who can talk to whom: all rings of one shared segment and an
 * eventfd per process.
 *
 * The supervisor makes it before the first fork. Rings are sparse memory:
 * what is never used costs nothing. Sizes: worker to keeper 1 MiB, keeper to
 * worker 2 MiB, worker to worker 128 KiB... chosen in bus.c.
 *
 *     worker  <-> keeper, directory, every other worker
 *     keeper  <-> directory, console
 *     console <-> directory
 */
#ifndef SHM_BUS_H
#define SHM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/board.h"
#include "shm/ring.h"

struct bus;

/** Supervisor, before fork. @return 0 or ERR_IO (no memory, no descriptors) */
NODISCARD int bus_create(struct board *board, int worker_count,
    struct bus **bus_out);
void bus_free(struct bus **bus);

/** Child, after fork: say who it is (generation from the board). */
void bus_become(struct bus *bus, int slot);
int bus_self(const struct bus *bus);
uint32_t bus_own_generation(const struct bus *bus);
int bus_slot_end(const struct bus *bus); /* SLOT_WORKER_0 + worker_count */
int bus_worker_count(const struct bus *bus);
struct board *bus_board(struct bus *bus);

/** The ring between two slots, NULL where they have none. */
struct ring *bus_ring(struct bus *bus, int from_slot, int to_slot);
/** This process' ends, attached lazily; NULL where there is no ring. */
struct ring_writer *bus_writer(struct bus *bus, int to_slot);
struct ring_reader *bus_reader(struct bus *bus, int from_slot);

/**
 * Publish what was put for to_slot and wake it if it sleeps.
 * Order: head (release), full fence, sleeping flag, eventfd.
 */
void bus_publish(struct bus *bus, int to_slot);
/** bus_publish for every writer with something new; end of the loop turn. */
void bus_publish_all(struct bus *bus);

/** Descriptor that becomes readable when somebody rang; non-blocking. */
int bus_eventfd(struct bus *bus);
/**
 * About to block: set the sleeping flag, fence, look into every incoming
 * ring once more.
 * @return true: all empty, go to sleep; false: the flag is cleared again,
 *         there is work
 */
bool bus_prepare_sleep(struct bus *bus);
/** Awake: clear the flag and empty the eventfd. */
void bus_awake(struct bus *bus);

#endif
