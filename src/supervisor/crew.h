/*
 * crew.h - the supervisor's children: their states, deaths and successors.
 */
#ifndef SUPERVISOR_CREW_H
#define SUPERVISOR_CREW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/process.h"
#include "supervisor/policy.h"
#include "supervisor/rights.h"
#include "supervisor/sockets.h"
#include "supervisor/spawn.h"
#include "supervisor/watchdog.h"

struct child {
	int slot;
	const struct process_kind *kind;
	/* The truth; the board has a copy for others, who could damage it. */
	enum process_state state;
	uint32_t generation;
	uint32_t restarts;
	pid_t pid;              /* 0: none */
	uint32_t conf_serial;   /* configuration it was forked with */
	bool is_wanted;         /* dead: start it (again) */
	bool is_realtime;       /* as granted */
	bool is_draining;       /* stopping without haste */
	int64_t started_at_ms;  /* monotonic, as all below */
	int64_t restart_at_ms;  /* backoff */
	int64_t kill_at_ms;     /* stopping: patience ends; 0: killed */
	int64_t realtime_at_ms; /* when to ask for it (again) */
	bool is_surplus;        /* a worker that is not wanted any more */
	struct restart_policy policy;
	struct watchdog watchdog;
	struct memory_watch memory;
	int64_t memory_rest_ms; /* not replaced for its memory before */
};

struct crew {
	struct conf *conf;
	uint32_t conf_serial; /* +1 with each configuration */
	struct board *board;
	struct bus *bus;
	struct sockets sockets;
	struct vault *vault; /* the supervisor's; NULL: no TLS */
	struct hold *hold;
	struct rights rights;
	int data_lock_fd;
	int private_fds[4]; /* the supervisor's own, -1: unused */
	bool may_realtime;
	int64_t memory_look_at_ms;
	struct child children[BOARD_SLOT_END];
	int child_count;
	int worker_count;       /* wanted */
	enum store_state store; /* the truth; the board has a copy */
};

/** Enter every slot that kinds and worker_count name. Nothing starts yet. */
void crew_init(struct crew *crew, const struct process_kind *kinds,
    size_t kind_count, int worker_count);
/** Enter one more slot, likewise. */
void crew_add(struct crew *crew, const struct process_kind *kind, int slot);
/** Collect the dead, decide what becomes of them. */
void crew_reap(struct crew *crew, int64_t now_ms);
/** What is due: starts, deadlines, "it serves now", priorities. */
void crew_tick(struct crew *crew, int64_t now_ms);
/** ms until crew_tick is needed, at most max_ms. */
int64_t crew_patience_ms(
    const struct crew *crew, int64_t now_ms, int64_t max_ms);
/** SIGTERM now, SIGKILL after the time for a stop, also for one that is being
 *  drained; paused ones just end. */
void crew_stop(struct crew *crew, struct child *child, int64_t now_ms);
/** Without haste: a worker that is not the only one tells its clients one
 *  after the other to come back, over drain_window; the rest as crew_stop. */
void crew_drain(struct crew *crew, struct child *child, int64_t now_ms);
/** Is one on its way down or up? */
bool crew_is_moving(const struct crew *crew);
/** A second SIGTERM: those that are stopping leave their requests and have one
 *  second. */
void crew_hurry(struct crew *crew, int64_t now_ms);
/** Begin again without pause or history (parleyctl restart). */
void crew_restart(struct crew *crew, struct child *child, int64_t now_ms);
/** Down until the store can be opened again; it is dead. */
void crew_hold_back(struct crew *crew, struct child *child);
/** Does it open the store? */
bool crew_uses_store(const struct child *child);
/** Pass a signal to every living child. */
void crew_signal(const struct crew *crew, int signal_number);
/** NULL: none. */
struct child *crew_child(struct crew *crew, int slot);
/** By the name on the board; NULL: none. */
struct child *crew_find(struct crew *crew, const char *name);
bool crew_is_alive(const struct child *child);
/** Is every wanted child in this state? */
bool crew_all_in(const struct crew *crew, enum process_state state);

#endif
