/*
 * layout.h - everything that lies in shared memory: field, unit, its one
 * writer. A change here raises LAYOUT_VERSION.
 */
#ifndef SHM_LAYOUT_H
#define SHM_LAYOUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/count.h"

#define LAYOUT_MAGIC   0x3179656c726170ULL /* "parley1" */
#define LAYOUT_VERSION 8
#define CACHE_LINE     64

#define WORKER_MAX 64

/* Slots of the scoreboard and, below SLOT_END, ends of the rings. */
enum slot_id {
	SLOT_SUPERVISOR,
	SLOT_KEEPER,
	SLOT_DIRECTORY,
	SLOT_CONSOLE,
	SLOT_HERALD, /* later */
	SLOT_LINK,   /* later */
	SLOT_WORKER_0,
	SLOT_END = SLOT_WORKER_0 + WORKER_MAX,
	SLOT_HOLDER_0 = SLOT_END, /* worker n has holder n */
	BOARD_SLOT_END = SLOT_HOLDER_0 + WORKER_MAX
};

static inline bool
slot_is_worker(int slot)
{
	return slot >= SLOT_WORKER_0 && slot < SLOT_END;
}

static inline bool
slot_is_holder(int slot)
{
	return slot >= SLOT_HOLDER_0 && slot < BOARD_SLOT_END;
}

enum process_state {
	PROCESS_DEAD,
	PROCESS_STARTING,
	PROCESS_RUNNING,
	PROCESS_STOPPING,
	PROCESS_BACKOFF,
	PROCESS_ERRORED,
};

/* Why a process that lives does not get on. */
enum process_trouble {
	TROUBLE_NONE,
	TROUBLE_DISK,    /* waits for a disk */
	TROUBLE_STARVED, /* gets no processor */
	TROUBLE_TRACED,  /* a debugger holds it */
};

/* Of the main store, as the supervisor sees it. */
enum store_state {
	STORE_USABLE,
	STORE_SUSPECT, /* nobody has it open, each row of it is being read */
	STORE_REFUSED, /* damaged or gone, see store_mark.h */
};

#define SETTINGS_MAX 192

/* Settings that processes take over while they run, see settings.c. */
struct board_settings {
	_Atomic uint64_t fingerprint;          /* supervisor */
	_Atomic uint32_t serial;               /* supervisor; odd: under way */
	uint32_t reserved;                     /* 0 */
	_Atomic int64_t numbers[SETTINGS_MAX]; /* supervisor */
} __attribute__((aligned(CACHE_LINE)));

struct board_header {
	uint64_t magic;          /* supervisor */
	uint32_t layout_version; /* supervisor */
	uint32_t worker_count;   /* supervisor: room for so many */
	uint64_t boot_id;        /* supervisor: random, of this segment */
	_Atomic int32_t supervisor_pid; /* supervisor */
	uint32_t slot_count;            /* supervisor */
	int64_t started_at_ms;          /* supervisor: wall clock */
	char version[32];               /* supervisor: PACKAGE_VERSION */
	_Atomic uint32_t ready;    /* keeper: store open and first commit done;
				    * supervisor: 0, nobody has it open */
	_Atomic uint32_t stopping; /* supervisor: orderly stop under way */
	_Atomic uint32_t ops_port; /* console: bound port, 0 if none */
	_Atomic uint32_t listen_port;     /* supervisor: first bound ws port */
	_Atomic uint32_t listen_tls_port; /* supervisor: first bound wss port */
	_Atomic uint32_t workers;         /* supervisor: wanted now */
	_Atomic uint32_t store;           /* supervisor: enum store_state */
	char pad[52];
	struct board_settings settings;
} __attribute__((aligned(CACHE_LINE)));

#define TRACE_FRAMES 28

/* Where a process was when it crashed. */
struct board_trace {
	_Atomic int32_t pid;     /* the process itself */
	_Atomic int32_t signal;  /* the process itself */
	_Atomic uint32_t count;  /* the process itself: of frames; 0: none */
	uint32_t reserved;       /* 0 */
	_Atomic uint64_t base;   /* the process itself: of its program */
	_Atomic uint64_t unused; /* 0 */
	_Atomic uint64_t frames[TRACE_FRAMES]; /* the process itself */
} __attribute__((aligned(CACHE_LINE)));

struct board_slot {
	/* written by the supervisor */
	_Atomic int32_t pid;
	_Atomic uint32_t generation; /* +1 at each fork, from 1 */
	_Atomic uint32_t state;      /* enum process_state */
	_Atomic uint32_t restarts;
	_Atomic int64_t started_at_ms; /* wall clock */
	_Atomic int32_t last_status;   /* wait(2) status of the predecessor */
	_Atomic uint32_t realtime;     /* 1: SCHED_RR was granted */
	_Atomic uint32_t trouble;      /* enum process_trouble */
	_Atomic uint32_t successor;    /* 1: told to stop, one comes */
	char pad1[24];
	/* written by the process itself */
	_Atomic int64_t heartbeat_ms __attribute__((aligned(CACHE_LINE)));
	/* monotonic clock, each turn, at least once a second */
	_Atomic uint32_t up;       /* generation that finished its start */
	_Atomic uint32_t sleeping; /* 1: write its eventfd after publishing */
	_Atomic int64_t commit_since_ms; /* monotonic; 0: in no commit */
	_Atomic uint32_t settings_seen;  /* serial taken over */
	_Atomic uint32_t in_store;    /* transactions open now, see store.h */
	_Atomic uint32_t store_doubt; /* 1: it cannot go on with the store */
	/* written by the keeper */
	_Atomic uint64_t resync __attribute__((aligned(CACHE_LINE)));
	/* +1: deliveries were dropped, read the inboxes */
	_Atomic uint32_t greeted; /* generation that has said HELLO */
	/* written by the process itself */
	struct count_block count __attribute__((aligned(CACHE_LINE)));
	struct board_trace trace;
} __attribute__((aligned(CACHE_LINE)));

/*
 * The two ends of a ring, on lines of their own. They lie densely in one
 * table at the front of the segment; the data areas lie apart, so that a ring
 * that is never used costs 128 bytes and not a page. Zeroed memory is an
 * empty ring. Size and place of the data are no part of shared memory: every
 * process has them from before its fork (struct ring in ring.h).
 *
 * head and tail are positions in bytes since the ring was made, multiples of
 * 8; tail <= head <= tail + size.
 */
struct ring_ends {
	_Atomic uint64_t head __attribute__((aligned(CACHE_LINE))); /* writer */
	_Atomic uint64_t tail __attribute__((aligned(CACHE_LINE))); /* reader */
};

/* In the data area, at a multiple of 8, in one piece with its payload. */
struct ring_record_header {
	uint64_t checksum; /* XXH3 over the rest of the header and payload,
			    * bound to the position; see ring.c */
	uint32_t len;      /* payload bytes; record takes header + len, to 8 */
	uint16_t type; /* enum record_type; 0: skip to the end of the area */
	uint16_t reserved; /* 0 */
	uint32_t from_gen;
	uint32_t to_gen;
};

#define SLOT_WORDS ((SLOT_END + 63) / 64)

/*
 * Doorbell of a process: which peers published something since it looked last.
 * The one field with several writers: peers set their bit, the owner takes all
 * at once, each with one atomic operation. Only a hint: a peer killed between
 * publishing and ringing leaves it unset; bus.c says who makes up for it.
 */
struct bus_bell {
	_Atomic uint64_t pending[SLOT_WORDS]
	    __attribute__((aligned(CACHE_LINE)));
};

/*
 * How many connections each address has, see crowd.h: a count-min sketch for
 * each worker. An address counts in one column of each row.
 */
#define CROWD_ROWS    4
#define CROWD_COLUMNS 16384

struct crowd_table {
	_Atomic uint32_t counts[CROWD_ROWS][CROWD_COLUMNS]; /* its worker */
};

struct crowd_area {
	uint8_t key[16]; /* supervisor, before the first fork: random */
	_Atomic uint32_t generations[WORKER_MAX]; /* worker n: of table n */
	/* whole pages, so that they can be given back */
	struct crowd_table tables[] __attribute__((aligned(4096)));
};

_Static_assert(sizeof(struct crowd_table) % 4096 == 0, "layout");

_Static_assert(sizeof(struct ring_record_header) == 24, "layout");
_Static_assert(sizeof(struct ring_ends) == 2 * CACHE_LINE, "layout");
_Static_assert(sizeof(struct bus_bell) == CACHE_LINE, "layout");
_Static_assert(sizeof(struct board_header) % CACHE_LINE == 0, "layout");

#endif
