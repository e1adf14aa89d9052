/*
 * spawn.h - from fork to the entry of a process; and its priority.
 */
#ifndef SUPERVISOR_SPAWN_H
#define SUPERVISOR_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "shm/process.h"
#include "supervisor/rights.h"
#include "supervisor/sockets.h"

/* One row of main.c's table: the slots first_slot..last_slot. */
struct process_kind {
	int first_slot;
	int last_slot;
	process_main_fn entry_fn;
	/** What only this process knows of its settings; before any is forked.
	 *  NULL: nothing. @param error  one line @return 0 or ERR_* */
	int (*check_fn)(const struct conf *conf, char *error, size_t error_len);
	bool is_realtime;     /* the keeper */
	bool needs_store;     /* started once the keeper has opened it */
	bool keeps_data_lock; /* see daemon.h */
	const char *name;     /* of a tool; processes have their slot's */
};

struct spawn {
	const struct process_kind *kind;
	struct conf *conf;
	struct bus *bus;
	struct sockets *sockets;
	struct vault *vault; /* NULL: no TLS */
	struct hold *hold;
	const struct rights *rights;
	int slot;
	int data_lock_fd;
	const int *private_fds; /* the supervisor's own; closed in the child */
	size_t private_count;
};

/**
 * Fork one process; the child does not return. Its generation stands on the
 * board already.
 *
 * @return pid, or -1 (errno)
 */
pid_t spawn_process(const struct spawn *spawn);

/**
 * Fork a process for one task, without a slot: fn, then its end. What it has to
 * say it leaves in memory that its caller shares with it.
 *
 * @param spawn  slot: SLOT_SUPERVISOR
 * @return       pid, or -1 (errno)
 */
pid_t spawn_tool(const struct spawn *spawn, void (*fn)(void *ctx), void *ctx);

/** Is real-time priority of use here (two or more CPUs)? */
bool spawn_may_realtime(void);
/** The supervisor's own priority, one above the keeper's. @return granted? */
bool spawn_raise_self(void);
/** SCHED_RR for a keeper that has finished its start. @return granted? */
bool spawn_raise_keeper(pid_t pid);
/** No core files, nobody else attaches: bodies and secrets are in memory. */
void spawn_hide_memory(void);

#endif
