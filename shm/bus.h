/*
 * bus.h - who can talk to whom: all rings of one shared segment, a doorbell
 * and an eventfd per process.
 *
 * The supervisor makes it before the first fork. Rings are sparse memory:
 * what is never used costs nothing, what was used is given back (bus_trim); a
 * table in bus.c has the sizes.
 *
 *     worker  <-> keeper, directory, every other worker
 *     keeper  <-> directory, console
 *     console <-> directory
 *
 * The turn of a process:
 *
 *     for (int from = bus_next_incoming(bus, -1); from >= 0;
 *         from = bus_next_incoming(bus, from))
 *             ... ring_next(bus_reader(bus, from), ...), ring_release
 *     ... bus_put(bus, to, ...)
 *     bus_publish_all(bus);
 *     if (bus_prepare_sleep(bus))
 *             poll bus_eventfd(bus) with a deadline of at most a second
 *     bus_awake(bus);
 */
#ifndef SHM_BUS_H
#define SHM_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/board.h"
#include "shm/ring.h"

struct bus;

/** Supervisor, before fork. @return 0 or ERR_IO (no memory, no descriptors) */
NODISCARD int bus_create(
    struct board *board, int worker_count, struct bus **bus_out);
/**
 * Supervisor, in the place of bus_create: the bus of a program that was
 * replaced by this one. The descriptors are taken on success only.
 *
 * @param take_eventfds  bus_slot_end of them
 * @return               0, ERR_STALE (another layout), ERR_IO
 */
NODISCARD int bus_adopt(struct board *board, int worker_count,
    int take_segment_fd, const int *take_eventfds, struct bus **bus_out);
void bus_free(struct bus **bus);
/** For a description of the bus to a successor; they stay the bus's. */
int bus_segment_fd(const struct bus *bus);
const int *bus_eventfds(const struct bus *bus); /* bus_slot_end */

/**
 * Child, after fork: say who it is (generation from the board). Forgets all
 * attached ends, looks into every incoming ring in its first round, and rings
 * again for whatever its predecessor published and the peer has not released:
 * the predecessor may have been killed before it rang.
 */
void bus_become(struct bus *bus, int slot);
int bus_self(const struct bus *bus);
uint32_t bus_own_generation(const struct bus *bus);
int bus_slot_end(const struct bus *bus); /* SLOT_WORKER_0 + worker_count */
int bus_worker_count(const struct bus *bus);
struct board *bus_board(struct bus *bus);
/** Of the process that has a slot now. */
uint32_t bus_generation(const struct bus *bus, int slot);
/** For crowd.c. */
struct crowd_area *bus_crowd(struct bus *bus);

/** The ring between two slots, NULL where they have none. */
const struct ring *bus_ring(struct bus *bus, int from_slot, int to_slot);
/**
 * This process' ends, attached at first use; NULL where there is no ring.
 *
 * bus_writer takes the peer's current generation from the board and marks the
 * ring for bus_publish_all: ask for it again in every turn that puts records.
 * An answer meant for the generation that asked: set peer_gen after the call.
 * bus_reader makes the next round look into that ring, also when it was moved
 * back (ring_reader_seek) to read something again.
 */
struct ring_writer *bus_writer(struct bus *bus, int to_slot);
struct ring_reader *bus_reader(struct bus *bus, int from_slot);
/**
 * Put one record for to_slot, current generation; not yet published.
 *
 * @return  0, ERR_FULL, ERR_TOO_LARGE, ERR_NOT_FOUND (no such ring)
 */
NODISCARD int bus_put(
    struct bus *bus, int to_slot, uint16_t type, const void *data, size_t len);

/**
 * Publish what was put for to_slot and wake it if it sleeps.
 * Order: head (release), full fence, doorbell, sleeping flag, eventfd.
 */
void bus_publish(struct bus *bus, int to_slot);
/** bus_publish for every writer with something new; end of the loop turn. */
void bus_publish_all(struct bus *bus);

/**
 * Give memory back that the rings this process writes do not need any more;
 * once a second or so.
 */
void bus_trim(struct bus *bus);

/**
 * The next ring with something to read, in order of slots; looks only at rings
 * somebody rang for, and once a second at all. A ring left with records in it
 * comes again in the next round.
 *
 * @param previous  -1 begins a round: takes what was rung since
 * @return          from_slot, or -1: round is over
 */
int bus_next_incoming(struct bus *bus, int previous);

/** Descriptor that becomes readable when somebody rang; non-blocking. */
int bus_eventfd(struct bus *bus);
/**
 * About to block: set the sleeping flag, fence, look once more into the rings
 * that were rung for (once a second: into all).
 * @return true: all empty, go to sleep; false: the flag is cleared again,
 *         there is work
 */
bool bus_prepare_sleep(struct bus *bus);
/** Awake: clear the flag and empty the eventfd. */
void bus_awake(struct bus *bus);

#endif
