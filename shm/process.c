/*
 * process.c - a child's side of the supervisor's contract.
 *
 * Role:    signals as a descriptor, the heartbeat, "I serve now".
 * Process: every child.
 * Blocks:  never.
 * Trust:   none needed; writes only this process' own fields of the board.
 * See:     supervisor/spawn.c (the other side).
 */
#include "config.h"

#include "shm/process.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/settings.h"

int
process_signal_fd(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	/* blocked already by the supervisor; again, for a process of a test */
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd == -1)
		fatal("signalfd: %s", strerror(errno));
	return fd;
}

int
process_signal_next(int fd)
{
	struct signalfd_siginfo info;
	ssize_t n;

	do {
		n = read(fd, &info, sizeof(info));
	} while (n == -1 && errno == EINTR);
	if (n == -1 && errno == EAGAIN)
		return 0;
	if (n != (ssize_t)sizeof(info))
		panic("signalfd: read gives %zd", n);
	return (int)info.ssi_signo;
}

bool
process_has_stop_signal(int fd)
{
	bool is_stopping = false;
	int number;

	while ((number = process_signal_next(fd)) != 0) {
		if (number == SIGUSR1)
			log_reopen();
		else
			is_stopping = true;
	}
	return is_stopping;
}

bool
process_beat(const struct process *process)
{
	struct board *board = bus_board(process->bus);
	struct board_slot *slot = board_slot(board, process->slot);

	atomic_store_explicit(
	    &slot->heartbeat_ms, clock_mono_ms(), memory_order_relaxed);
	log_tick();
	if (process->own_conf == NULL ||
	    !settings_follow(board, slot, process->own_conf))
		return false;
	log_set(process->conf->log_level, process->conf->log_format);
	return true;
}

void
process_commit(const struct process *process, bool begins)
{
	struct board_slot *slot =
	    board_slot(bus_board(process->bus), process->slot);

	atomic_store_explicit(&slot->commit_since_ms,
	    begins ? clock_mono_ms() : 0, memory_order_relaxed);
}

void
process_doubt_store(const struct process *process)
{
	atomic_store(
	    &board_slot(bus_board(process->bus), process->slot)->store_doubt,
	    1);
}

void
process_up(const struct process *process)
{
	struct board_slot *slot =
	    board_slot(bus_board(process->bus), process->slot);

	process_beat(process);
	atomic_store(&slot->up, atomic_load(&slot->generation));
}
