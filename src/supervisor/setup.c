/*
 * setup.c - parts of the supervisor's start.
 *
 * Role:    what is counted, made or raised once, before the first child.
 * Process: supervisor.
 * Blocks:  on files, at start only.
 * Trust:   the configuration has been checked.
 * See:     supervisor.c.
 */
#include "config.h"

#include "supervisor/setup.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/crowd.h"
#include "supervisor/limits.h"

#define DESCRIPTORS_EXTRA   2048 /* besides connections */
#define DESCRIPTORS_SPARE   256  /* what a worker really needs of these */
#define ROOM_MIN            8
#define DESCRIPTORS_DEFAULT 1000000 /* to raise to, if permitted */

int
setup_worker_count(const struct conf *conf)
{
	cpu_set_t set;
	int count = (int)conf->server_workers;

	if (count > 0)
		return count;
	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		count = CPU_COUNT(&set);
	if (count < 1)
		return 1;
	return count > WORKER_MAX ? WORKER_MAX : count;
}

int
setup_worker_room(int workers)
{
	int room = workers * 2 > ROOM_MIN ? workers * 2 : ROOM_MIN;

	return room < WORKER_MAX ? room : WORKER_MAX;
}

/* A new segment has no sessions: who was online is not any more. */
void
setup_forget_presence(const char *run_dir)
{
	static const char *const names[] = {
	    "presence.mdb", "presence.mdb-lock"};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", run_dir, names[i]);
		if (unlink(path) == -1 && errno != ENOENT)
			log_warn(NULL, "presence-left", "path=%s error=\"%s\"",
			    path, strerror(errno));
	}
}

int
setup_signals(void)
{
	static const int numbers[] = {
	    SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&set, numbers[i]);
	signal(SIGPIPE, SIG_IGN);
	/* a parent that ignored it would make the kernel bury our children */
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, &set, NULL);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int
setup_shared_memory(struct crew *crew, const struct conf *conf, int workers,
    char *error, size_t error_len)
{
	char path[PATH_MAX];
	int rc = board_create(conf->server_run_dir, workers, &crew->board);

	if (rc == 0)
		rc = bus_create(crew->board, workers, &crew->bus);
	if (rc == 0)
		crowd_begin(crew->bus);
	if (rc == 0)
		rc = hold_create(workers, &crew->hold);
	if (rc != 0) {
		snprintf(error, error_len,
		    "cannot create shared memory for %d workers: %s", workers,
		    strerror(errno));
		return rc;
	}
	snprintf(path, sizeof(path), "%s/board", conf->server_run_dir);
	rights_give(&crew->rights, path);
	return 0;
}

void
setup_own_slot(const struct crew *crew)
{
	struct board_header *header = board_header(crew->board);
	struct board_slot *slot = board_slot(crew->board, SLOT_SUPERVISOR);

	if (crew->sockets.plain_count > 0)
		atomic_store(&header->listen_port, crew->sockets.ports[0]);
	if (crew->sockets.plain_count < crew->sockets.address_count)
		atomic_store(&header->listen_tls_port,
		    crew->sockets.ports[crew->sockets.plain_count]);
	atomic_store(&header->supervisor_pid, (int32_t)getpid());
	atomic_store(&slot->pid, (int32_t)getpid());
	atomic_store(&slot->generation, 1);
	atomic_store(&slot->up, 1);
	atomic_store(&slot->started_at_ms, clock_wall_ms());
	atomic_store(&slot->state, PROCESS_RUNNING);
	atomic_store(&slot->heartbeat_ms, clock_mono_ms());
	atomic_store(&slot->realtime, spawn_raise_self() ? 1 : 0);
	count_attach(&slot->count);
}

void
setup_raise_files(const struct conf *conf, int workers)
{
	int64_t connections = conf->server_max_connections;

	rights_raise_files(
	    (connections != 0 ? connections : DESCRIPTORS_DEFAULT) +
	    DESCRIPTORS_EXTRA);
	limits_tell(connections, workers, DESCRIPTORS_SPARE);
}
