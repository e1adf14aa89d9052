/*
 * bus.c - all rings of one segment and the way to wake each other.
 *
 * Role:    knows which processes talk, how large their rings are, and who has
 *          news for whom.
 * Process: made by the supervisor, used by all; struct bus itself is private
 *          to each process after the fork, the segment is shared.
 * Blocks:  never; eventfds are non-blocking.
 * Trust:   doorbells are hints: a wrong one costs a look into an empty ring.
 * See:     ring.c, layout.h, t/unit/bus.c (lost wake-ups, dead peers).
 *
 * No wake-up is lost. Writer: head, fence, bell, sleeping flag. Reader about to
 * sleep: sleeping flag, bell, fence, heads. Either the writer sees the flag or
 * the reader sees the bell; either the writer sees a bell taken away and rings
 * again or the reader sees the head. Bells and flag are sequentially
 * consistent, the heads are ordered by the fences.
 *
 * Killed between head and bell: the successor rings again (bus_become), and
 * should it be long in coming, every reader looks into all rings once a second.
 */
#include "config.h"

#include "shm/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/layout.h"
#include "shm/segment.h"

#define PAGE_BYTES    4096
#define SCAN_EVERY_MS 1000
#define ANY_WORKER    SLOT_WORKER_0

/* Private set of slots. */
struct slot_set {
	uint64_t words[SLOT_WORDS];
};

struct bus {
	struct board *board;
	int worker_count;
	int slot_end;
	int self; /* -1 before bus_become */
	uint32_t own_gen;
	void *segment;
	size_t segment_bytes;
	int segment_fd;
	struct bus_bell *bells;      /* shared, one per slot */
	struct crowd_area *crowd;    /* shared */
	struct ring *rings;          /* [from * slot_end + to]; size 0: none */
	int *eventfds;               /* one per slot */
	struct ring_writer *writers; /* by slot; ring NULL: not attached */
	struct ring_reader *readers;
	struct slot_set touched; /* writers handed out since the last publish */
	struct slot_set incoming; /* rung for, or handed out since */
	struct slot_set senders;  /* all that have a ring to self */
	int64_t scanned_at_ms;
};

/* Data bytes of a ring; ANY_WORKER stands for each worker. */
static const struct {
	int from;
	int to;
	uint32_t bytes;
} routes[] = {
    {ANY_WORKER, SLOT_KEEPER, 1024 * 1024},
    {SLOT_KEEPER, ANY_WORKER, 2048 * 1024},
    {ANY_WORKER, SLOT_DIRECTORY, 512 * 1024},
    {SLOT_DIRECTORY, ANY_WORKER, 1024 * 1024},
    {ANY_WORKER, ANY_WORKER, 1024 * 1024},
    {SLOT_KEEPER, SLOT_DIRECTORY, 512 * 1024},
    {SLOT_DIRECTORY, SLOT_KEEPER, 512 * 1024},
    {SLOT_KEEPER, SLOT_CONSOLE, 512 * 1024},
    {SLOT_CONSOLE, SLOT_KEEPER, 512 * 1024},
    {SLOT_DIRECTORY, SLOT_CONSOLE, 512 * 1024},
    {SLOT_CONSOLE, SLOT_DIRECTORY, 512 * 1024},
};

static uint32_t
route_bytes(int from, int to)
{
	int from_role = from >= SLOT_WORKER_0 ? ANY_WORKER : from;
	int to_role = to >= SLOT_WORKER_0 ? ANY_WORKER : to;

	if (from == to)
		return 0;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (routes[i].from == from_role && routes[i].to == to_role)
			return routes[i].bytes;
	}
	return 0;
}

static void
set_add(struct slot_set *set, int slot)
{
	set->words[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static void
set_remove(struct slot_set *set, int slot)
{
	set->words[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

/* The first member behind a slot (-1: the first of all), -1 if none. */
static int
set_next(const struct slot_set *set, int slot)
{
	int from = slot + 1;

	for (int word = from / 64; word < SLOT_WORDS; word++) {
		uint64_t bits = set->words[word];

		if (word == from / 64)
			bits &= ~UINT64_C(0) << (from % 64);
		if (bits != 0)
			return word * 64 + __builtin_ctzll(bits);
	}
	return -1;
}

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t
page_up(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

/*
 * Bells, the ends of all pairs, the crowd, the data areas. base NULL measures,
 * else the rings are described too. Touches no shared memory.
 */
static size_t
segment_lay_out(struct bus *bus, uint8_t *base)
{
	size_t slots = (size_t)bus->slot_end;
	size_t ends = page_up(slots * sizeof(struct bus_bell));
	size_t crowd = page_up(ends + slots * slots * sizeof(struct ring_ends));
	size_t data =
	    page_up(crowd + sizeof(struct crowd_area) +
		    (size_t)bus->worker_count * sizeof(struct crowd_table));

	if (base != NULL) {
		bus->bells = (void *)base;
		bus->crowd = (void *)(base + crowd);
	}
	for (size_t pair = 0; pair < slots * slots; pair++) {
		uint32_t bytes =
		    route_bytes((int)(pair / slots), (int)(pair % slots));

		if (bytes != 0 && base != NULL) {
			ring_format(&bus->rings[pair],
			    (void *)(base + ends +
				     pair * sizeof(struct ring_ends)),
			    base + data, bytes);
		}
		data += bytes;
	}
	return data;
}

static int
eventfds_open(struct bus *bus)
{
	for (int slot = 0; slot < bus->slot_end; slot++) {
		bus->eventfds[slot] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (bus->eventfds[slot] == -1) {
			log_error(NULL, "eventfd-failed",
			    "slot=%d error=\"%s\"", slot, strerror(errno));
			return ERR_IO;
		}
	}
	return 0;
}

/* Everything but the segment and the eventfds. */
static struct bus *
bus_new(struct board *board, int worker_count)
{
	struct bus *bus = xcalloc(1, sizeof(*bus));
	size_t slots = (size_t)(SLOT_WORKER_0 + worker_count);

	if (worker_count < 0 || worker_count > WORKER_MAX ||
	    board_slot(board, (int)slots - 1) == NULL)
		panic("bus for %d workers", worker_count);
	bus->board = board;
	bus->worker_count = worker_count;
	bus->slot_end = (int)slots;
	bus->self = -1;
	bus->segment_fd = -1;
	bus->rings = xcalloc(slots * slots, sizeof(*bus->rings));
	bus->writers = xcalloc(slots, sizeof(*bus->writers));
	bus->readers = xcalloc(slots, sizeof(*bus->readers));
	bus->eventfds = xcalloc(slots, sizeof(*bus->eventfds));
	for (size_t slot = 0; slot < slots; slot++)
		bus->eventfds[slot] = -1;
	bus->segment_bytes = segment_lay_out(bus, NULL);
	return bus;
}

int
bus_create(struct board *board, int worker_count, struct bus **bus_out)
{
	struct bus *bus = bus_new(board, worker_count);
	int rc = eventfds_open(bus);

	if (rc == 0)
		rc = segment_create_kept("parley-bus", bus->segment_bytes,
		    &bus->segment, &bus->segment_fd);
	if (rc != 0) {
		bus_free(&bus);
		return rc;
	}
	segment_lay_out(bus, bus->segment);
	*bus_out = bus; /* ownership moves to the caller */
	return 0;
}

int
bus_adopt(struct board *board, int worker_count, int take_segment_fd,
    const int *take_eventfds, struct bus **bus_out)
{
	struct bus *bus = bus_new(board, worker_count);
	int rc =
	    segment_adopt(take_segment_fd, bus->segment_bytes, &bus->segment);

	if (rc != 0) {
		bus_free(&bus);
		return rc;
	}
	bus->segment_fd = take_segment_fd;
	memcpy(bus->eventfds, take_eventfds,
	    (size_t)bus->slot_end * sizeof(*bus->eventfds));
	segment_lay_out(bus, bus->segment);
	*bus_out = bus; /* ownership moves to the caller */
	return 0;
}

int
bus_segment_fd(const struct bus *bus)
{
	return bus->segment_fd;
}

const int *
bus_eventfds(const struct bus *bus)
{
	return bus->eventfds;
}

void
bus_free(struct bus **bus)
{
	struct bus *old = *bus;

	if (old == NULL)
		return;
	for (int slot = 0; slot < old->slot_end; slot++) {
		if (old->eventfds[slot] != -1)
			close(old->eventfds[slot]);
	}
	if (old->segment_fd != -1)
		close(old->segment_fd);
	segment_free(&old->segment, old->segment_bytes);
	free(old->rings);
	free(old->writers);
	free(old->readers);
	free(old->eventfds);
	free(old);
	*bus = NULL;
}

static bool
is_slot(const struct bus *bus, int slot)
{
	return slot >= 0 && slot < bus->slot_end;
}

uint32_t
bus_generation(const struct bus *bus, int slot)
{
	return atomic_load_explicit(
	    &board_slot(bus->board, slot)->generation, memory_order_relaxed);
}

static _Atomic uint32_t *
sleeping_flag(const struct bus *bus, int slot)
{
	return &board_slot(bus->board, slot)->sleeping;
}

static void
peer_wake(struct bus *bus, int slot)
{
	uint64_t one = 1;
	ssize_t n;

	do {
		n = write(bus->eventfds[slot], &one, sizeof(one));
	} while (n == -1 && errno == EINTR);
	/* EAGAIN: it was rung 2^64 - 2 times and will certainly wake */
	COUNT(wakeups);
}

/* After the head and a full fence. @return does it sleep? */
static bool
bell_ring(struct bus *bus, int to_slot)
{
	_Atomic uint64_t *word = &bus->bells[to_slot].pending[bus->self / 64];
	uint64_t bit = UINT64_C(1) << (bus->self % 64);

	if ((atomic_load(word) & bit) == 0)
		atomic_fetch_or(word, bit);
	return atomic_load(sleeping_flag(bus, to_slot)) != 0;
}

/* The fence at the end stands between taking the bells and loading heads. */
static void
bell_take(struct bus *bus)
{
	struct bus_bell *bell = &bus->bells[bus->self];

	for (int i = 0; i < SLOT_WORDS; i++) {
		if (atomic_load(&bell->pending[i]) == 0)
			continue;
		bus->incoming.words[i] |=
		    atomic_exchange(&bell->pending[i], 0) &
		    bus->senders.words[i];
	}
	if (now_ms() - bus->scanned_at_ms >= SCAN_EVERY_MS) {
		bus->scanned_at_ms = now_ms();
		bus->incoming = bus->senders;
	}
	atomic_thread_fence(memory_order_seq_cst);
}

static void
ring_again(struct bus *bus)
{
	for (int to = 0; to < bus->slot_end; to++) {
		const struct ring *ring = bus_ring(bus, bus->self, to);

		if (ring == NULL || ring_head(ring) == ring_tail(ring))
			continue;
		bell_ring(bus, to);
		peer_wake(bus, to);
	}
}

void
bus_become(struct bus *bus, int slot)
{
	size_t slots = (size_t)bus->slot_end;

	if (!is_slot(bus, slot))
		panic("no slot %d on the bus", slot);
	bus->self = slot;
	bus->own_gen = bus_generation(bus, slot);
	memset(bus->writers, 0, slots * sizeof(*bus->writers));
	memset(bus->readers, 0, slots * sizeof(*bus->readers));
	memset(&bus->touched, 0, sizeof(bus->touched));
	memset(&bus->senders, 0, sizeof(bus->senders));
	for (int from = 0; from < bus->slot_end; from++) {
		if (bus_ring(bus, from, slot) != NULL)
			set_add(&bus->senders, from);
	}
	bus->incoming = bus->senders;
	bus->scanned_at_ms = now_ms();
	atomic_store(sleeping_flag(bus, slot), 0);
	atomic_thread_fence(memory_order_seq_cst);
	ring_again(bus);
}

int
bus_self(const struct bus *bus)
{
	return bus->self;
}

uint32_t
bus_own_generation(const struct bus *bus)
{
	return bus->own_gen;
}

int
bus_slot_end(const struct bus *bus)
{
	return bus->slot_end;
}

int
bus_worker_count(const struct bus *bus)
{
	return bus->worker_count;
}

struct board *
bus_board(struct bus *bus)
{
	return bus->board;
}

struct crowd_area *
bus_crowd(struct bus *bus)
{
	return bus->crowd;
}

const struct ring *
bus_ring(struct bus *bus, int from_slot, int to_slot)
{
	const struct ring *ring;

	if (!is_slot(bus, from_slot) || !is_slot(bus, to_slot))
		return NULL;
	ring = &bus->rings[from_slot * bus->slot_end + to_slot];
	return ring->size != 0 ? ring : NULL;
}

struct ring_writer *
bus_writer(struct bus *bus, int to_slot)
{
	const struct ring *ring = bus_ring(bus, bus->self, to_slot);
	struct ring_writer *writer;

	if (ring == NULL)
		return NULL;
	writer = &bus->writers[to_slot];
	if (writer->ring == NULL)
		ring_writer_attach(writer, ring, bus->own_gen, 0);
	writer->peer_gen = bus_generation(bus, to_slot);
	set_add(&bus->touched, to_slot);
	return writer;
}

struct ring_reader *
bus_reader(struct bus *bus, int from_slot)
{
	const struct ring *ring = bus_ring(bus, from_slot, bus->self);
	struct ring_reader *reader;

	if (ring == NULL)
		return NULL;
	reader = &bus->readers[from_slot];
	if (reader->ring == NULL)
		ring_reader_attach(reader, ring);
	set_add(&bus->incoming, from_slot); /* it may be moved back */
	return reader;
}

int
bus_put(
    struct bus *bus, int to_slot, uint16_t type, const void *data, size_t len)
{
	struct ring_writer *writer = bus_writer(bus, to_slot);

	if (writer == NULL)
		return ERR_NOT_FOUND;
	return ring_put(writer, type, data, len);
}

void
bus_publish(struct bus *bus, int to_slot)
{
	if (!is_slot(bus, to_slot) || bus->writers[to_slot].ring == NULL ||
	    !ring_publish(&bus->writers[to_slot]))
		return;
	set_remove(&bus->touched, to_slot);
	atomic_thread_fence(memory_order_seq_cst);
	if (bell_ring(bus, to_slot))
		peer_wake(bus, to_slot);
}

/* All heads first: one fence serves for all. */
void
bus_publish_all(struct bus *bus)
{
	struct slot_set news = bus->touched;
	bool is_any = false;

	memset(&bus->touched, 0, sizeof(bus->touched));
	for (int to = set_next(&news, -1); to >= 0; to = set_next(&news, to)) {
		if (ring_publish(&bus->writers[to]))
			is_any = true;
		else
			set_remove(&news, to);
	}
	if (!is_any)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	for (int to = set_next(&news, -1); to >= 0; to = set_next(&news, to)) {
		if (bell_ring(bus, to))
			peer_wake(bus, to);
	}
}

void
bus_trim(struct bus *bus)
{
	for (int to = 0; to < bus->slot_end; to++) {
		if (bus->writers[to].ring != NULL)
			ring_trim(&bus->writers[to]);
	}
}

/* A ring found empty leaves the set; its writer's next bell brings it back. */
static int
incoming_after(struct bus *bus, int slot)
{
	int from = set_next(&bus->incoming, slot);

	while (from >= 0 && ring_is_empty(bus_reader(bus, from))) {
		set_remove(&bus->incoming, from);
		from = set_next(&bus->incoming, from);
	}
	return from;
}

int
bus_next_incoming(struct bus *bus, int previous)
{
	if (previous < 0)
		bell_take(bus);
	return incoming_after(bus, previous < 0 ? -1 : previous);
}

int
bus_eventfd(struct bus *bus)
{
	return bus->eventfds[bus->self];
}

bool
bus_prepare_sleep(struct bus *bus)
{
	atomic_store(sleeping_flag(bus, bus->self), 1);
	bell_take(bus);
	if (incoming_after(bus, -1) < 0)
		return true;
	atomic_store(sleeping_flag(bus, bus->self), 0);
	return false;
}

void
bus_awake(struct bus *bus)
{
	uint64_t count;
	ssize_t n;

	atomic_store(sleeping_flag(bus, bus->self), 0);
	do {
		n = read(bus->eventfds[bus->self], &count, sizeof(count));
	} while (n == -1 && errno == EINTR);
}
