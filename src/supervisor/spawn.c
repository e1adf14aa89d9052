/*
 * spawn.c - from fork to the entry of a process.
 *
 * Role:    keeps the supervisor's half of shm/process.h: descriptors, limits,
 *          signals, rights, death with the parent.
 * Process: supervisor before the fork, then the child.
 * Blocks:  on the group database (initgroups).
 * Trust:   nothing of it comes from outside.
 * See:     shm/process.h, supervisor/rights.c.
 *
 * Memory holds message bodies, tokens and secrets. Core files are switched off
 * twice: RLIMIT_CORE 0 for files (systemd-coredump heeds it as well), not
 * dumpable for other handlers behind kernel.core_pattern, which the limit does
 * not stop (core(5)), and against other processes of the same user.
 */
#include "config.h"

#include "supervisor/spawn.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/count.h"
#include "base/log.h"
#include "shm/store.h"
#include "shm/trace.h"
#include "shm/vault.h"

#define KEEPER_PRIORITY     2
#define SUPERVISOR_PRIORITY 3
/*
 * CPU time a real-time process may use without sleeping once: slices are 2 ms
 * and each commit sleeps in fdatasync. Where it does not (a tmpfs, a start
 * with much to read) the process falls back to the ordinary class.
 */
#define REALTIME_SOFT_US 200000
#define REALTIME_HARD_US 5000000 /* the handler itself does not run */

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

static struct {
	struct board_slot *slot; /* of this process, for the SIGXCPU handler */
} self;

/* SIGXCPU: too long without sleeping; be an ordinary process again. */
static void
fall_back(int signal_number)
{
	struct sched_param param = {.sched_priority = 0};
	int saved = errno;

	(void)signal_number;
	sched_setscheduler(0, SCHED_OTHER, &param);
	if (self.slot != NULL)
		atomic_store(&self.slot->realtime, 0);
	errno = saved;
}

static void
limit_realtime(void)
{
	struct rlimit limit = {REALTIME_SOFT_US, REALTIME_HARD_US};
	struct sigaction action = {.sa_handler = fall_back};

	action.sa_flags = SA_RESTART;
	sigemptyset(&action.sa_mask);
	sigaction(SIGXCPU, &action, NULL);
	setrlimit(RLIMIT_RTTIME, &limit);
}

bool
spawn_may_realtime(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	return sched_getaffinity(0, sizeof(set), &set) == 0 &&
	       CPU_COUNT(&set) >= 2;
}

bool
spawn_raise_self(void)
{
	struct sched_param param = {.sched_priority = SUPERVISOR_PRIORITY};

	if (!spawn_may_realtime())
		return false;
	limit_realtime();
	/* children begin as ordinary processes */
	return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param) ==
	       0;
}

bool
spawn_raise_keeper(pid_t pid)
{
	struct sched_param param = {.sched_priority = KEEPER_PRIORITY};

	return spawn_may_realtime() &&
	       sched_setscheduler(
		   pid, SCHED_RR | SCHED_RESET_ON_FORK, &param) == 0;
}

void
spawn_hide_memory(void)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	/* LeakSanitizer traces its own process */
	if (!IS_SANITIZED)
		prctl(PR_SET_DUMPABLE, 0);
}

/* TERM, USR1 and USR2 stay blocked for the signalfd, the rest is as new. */
static void
child_signals(void)
{
	sigset_t set;
	int ours[] = {SIGXCPU, SIGCHLD, SIGUSR2, SIGALRM, SIGQUIT};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		signal(ours[i], SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	/* A terminal tells the whole group; the supervisor orders the stop. */
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

/* What the process says of itself begins at 0, what it counted goes on. */
static void
child_metrics(struct board_slot *slot)
{
	count_attach(&slot->count);
#define COUNTER(name, help)
#define GAUGE(name, of, help) GAUGE_SET(name, 0);
#define HISTOGRAM(name, help)
#include "base/counters.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
}

static void
child_descriptors(const struct spawn *spawn)
{
	for (size_t i = 0; i < spawn->private_count; i++) {
		if (spawn->private_fds[i] != -1)
			close(spawn->private_fds[i]);
	}
	if (!spawn->kind->keeps_data_lock)
		close(spawn->data_lock_fd);
	sockets_keep_worker(spawn->sockets, spawn->slot - SLOT_WORKER_0);
	if (spawn->slot != SLOT_CONSOLE)
		sockets_close_ops(spawn->sockets);
}

/* Its own end, or none of it. */
static struct hold *
child_hold(const struct spawn *spawn)
{
	struct hold *hold = spawn->hold;

	if (slot_is_worker(spawn->slot))
		hold_become_worker(hold, spawn->slot - SLOT_WORKER_0);
	else if (slot_is_holder(spawn->slot))
		hold_become_holder(hold, spawn->slot - SLOT_HOLDER_0);
	else
		hold_free(&hold);
	return hold;
}

static void
child_become_user(const struct spawn *spawn, pid_t parent)
{
	if (rights_drop(spawn->rights) != 0)
		fatal("cannot become user %s: %s", spawn->rights->name,
		    strerror(errno));
	spawn_hide_memory();
	/* after the change of user, which clears it: prctl(2) */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
		fatal("PR_SET_PDEATHSIG: %s", strerror(errno));
	if (getppid() != parent)
		_exit(1); /* the supervisor is gone already */
}

_Noreturn static void
child_main(const struct spawn *spawn, pid_t parent)
{
	struct board *board = bus_board(spawn->bus);
	struct vault *vault = spawn->vault;
	struct process process = {
	    .conf = spawn->conf,
	    .own_conf = spawn->conf,
	    .bus = spawn->bus,
	    .slot = spawn->slot,
	};
	char name[24];

	self.slot = board_slot(board, spawn->slot);
	board_slot_name(board, spawn->slot, name);
	prctl(PR_SET_NAME, name);
	log_set_process(name);
	log_forget();
	child_signals();
	trace_arm(&self.slot->trace, !IS_SANITIZED);
	child_descriptors(spawn);
	if (spawn->kind->is_realtime)
		limit_realtime();
	child_become_user(spawn, parent);
	if (!slot_is_holder(spawn->slot))
		bus_become(spawn->bus, spawn->slot);
	child_metrics(self.slot);
	atomic_store(&self.slot->commit_since_ms, 0);
	atomic_store(&self.slot->in_store, 0);
	atomic_store(&self.slot->store_doubt, 0);
	store_watch(&self.slot->in_store);
	if (!slot_is_worker(spawn->slot))
		vault_free(&vault);
	else if (vault != NULL && vault_become_reader(vault) != 0)
		fatal("cannot map the vault: %s", strerror(errno));
	process.vault = vault;
	process.hold = child_hold(spawn);
	if (slot_is_worker(spawn->slot)) {
		process.listen_fds =
		    spawn->sockets->worker_fds[spawn->slot - SLOT_WORKER_0];
		process.listen_count = spawn->sockets->address_count;
		process.listen_plain_count = spawn->sockets->plain_count;
	} else if (spawn->slot == SLOT_CONSOLE &&
		   spawn->sockets->ops_fd != -1) {
		process.listen_fds = &spawn->sockets->ops_fd;
		process.listen_count = 1;
	}
	process_beat(&process);
	exit(spawn->kind->entry_fn(&process));
}

pid_t
spawn_process(const struct spawn *spawn)
{
	pid_t parent = getpid();
	pid_t pid;

	log_flush(); /* what is held back is the supervisor's to say */
	pid = fork();
	if (pid == 0)
		child_main(spawn, parent);
	return pid;
}

/* Nothing of a process but its rights: no ring, no key, nobody's socket. */
_Noreturn static void
tool_main(
    const struct spawn *spawn, void (*fn)(void *ctx), void *ctx, pid_t parent)
{
	struct vault *vault = spawn->vault;
	struct hold *hold = spawn->hold;
	struct bus *bus = spawn->bus;

	count_attach(NULL);
	prctl(PR_SET_NAME, spawn->kind->name);
	log_set_process(spawn->kind->name);
	child_signals();
	child_descriptors(spawn);
	child_become_user(spawn, parent);
	vault_free(&vault);
	hold_free(&hold);
	bus_free(&bus);
	fn(ctx);
	_exit(EXIT_SUCCESS);
}

pid_t
spawn_tool(const struct spawn *spawn, void (*fn)(void *ctx), void *ctx)
{
	pid_t parent = getpid();
	pid_t pid;

	log_flush();
	pid = fork();
	if (pid == 0)
		tool_main(spawn, fn, ctx, parent);
	return pid;
}
