/*
 * process.h - what a child process is given by the supervisor, and what it
 * owes: the supervisor's contract in one place.
 *
 * Before the entry function runs, the supervisor's fork has: closed what the
 * child does not need, dropped rights, set PR_SET_PDEATHSIG and checked its
 * parent, set the process name (comm and log) to the slot's name, called
 * bus_become() (not the holder's: it is not on the bus) and count_attach(),
 * reset signal handlers (SIGPIPE, SIGINT and SIGHUP ignored: Ctrl-C tells the
 * whole group, but the supervisor orders the stop) and left SIGTERM, SIGUSR1
 * and SIGUSR2 blocked: the entry reads them through process_signal_fd().
 * SIGABRT and crashes leave a trace (trace.h).
 *
 * The child: sets slot->up to its generation when it serves, beats
 * (process_beat) each turn and at least once a second, stops on SIGTERM and
 * returns an exit status. SIGUSR1 means log_reopen(). SIGUSR2 is sent to
 * workers only: stop without haste (a drain).
 */
#ifndef SHM_PROCESS_H
#define SHM_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "shm/bus.h"
#include "shm/hold.h"
#include "shm/vault.h"

struct process {
	const struct conf *conf;
	struct conf *own_conf; /* the same, for process_beat alone; or NULL */
	struct bus *bus;
	int slot;              /* enum slot_id */
	const int *listen_fds; /* worker, console: listening sockets */
	size_t listen_count;
	size_t listen_plain_count; /* worker: those behind are for TLS */
	struct hold *hold;   /* worker, holder: connections that outlive it */
	struct vault *vault; /* worker: certificates; NULL: no TLS */
};

/** @return exit status */
typedef int (*process_main_fn)(const struct process *process);

/** A signalfd with SIGTERM, SIGUSR1 and SIGUSR2, non-blocking. */
int process_signal_fd(void);
/** Next pending signal number from it, 0 for none. */
int process_signal_next(int fd);
/** Read all that are pending and open the log again when told to.
 *  @return told to stop? For processes that know no other signal. */
bool process_has_stop_signal(int fd);
/** "I live": the monotonic clock into the scoreboard; log_tick. Takes over
 *  settings that a reload has changed. @return have there been any? */
bool process_beat(const struct process *process);
/** "I wait for my disk now", or "no longer": the watchdog is patient. */
void process_commit(const struct process *process, bool begins);
/** "The store cannot be opened, or not be gone on with": before the end of
 *  this process. */
void process_doubt_store(const struct process *process);
/** Start-up is done: slot->up := own generation, state RUNNING is set by the
 *  supervisor when it sees it. */
void process_up(const struct process *process);

#endif
