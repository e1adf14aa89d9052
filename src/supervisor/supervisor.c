/*
 * supervisor.c - the parent of all: sets up, watches, stops, reloads.
 *
 * Role:    one poll loop over signals and parleyctl's orders; the order of
 *          start (keeper and console, then the rest) and stop.
 * Process: supervisor; root where it was started by root.
 * Blocks:  only in poll; at start also on files and names.
 * Trust:   opens no store, reads no client byte. The board can be damaged by
 *          a child: what matters is kept in private memory (crew.h).
 * See:     crew.c, orders.c, doc/decisions, t/60-ctl.t.
 */
#include "config.h"

#include "supervisor/supervisor.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/settings.h"
#include "shm/store_lock.h"
#include "supervisor/command.h"
#include "supervisor/daemon.h"
#include "supervisor/inquest.h"
#include "supervisor/memory.h"
#include "supervisor/notify.h"
#include "supervisor/patrol.h"
#include "supervisor/reload.h"
#include "supervisor/scale.h"
#include "supervisor/setup.h"
#include "supervisor/supervisor_priv.h"
#include "supervisor/upgrade.h"

#define TURN_MAX_MS        WATCHDOG_TURN_MS /* the heartbeat */
#define START_FAILURES_MAX 3 /* in the background: then the start failed */

static struct supervisor sup;

/* ---- set-up ---- */

int
supervisor_open_log(const struct conf *conf, bool is_background, bool may_wait)
{
	struct log_conf log = {
	    .target = conf->log_target,
	    .level = conf->log_level,
	    .format = conf->log_format,
	    .may_wait = may_wait,
	};

	if (is_background && strcmp(log.target, "stderr") == 0)
		log.target = "syslog";
	return log_open(&log);
}

void
supervisor_give_log(const struct supervisor *own)
{
	if (own->conf->log_target[0] == '/')
		rights_give(&own->crew.rights, own->conf->log_target);
}

/* Folders and locks: from here on we are the only one. */
static int
take_possession(const struct conf *conf, char *error, size_t error_len)
{
	struct crew *crew = &sup.crew;
	int rc = rights_find(conf, &crew->rights, error, error_len);

	if (rc == 0)
		rc = rights_make_folder(
		    &crew->rights, conf->server_run_dir, error, error_len);
	if (rc == 0)
		rc = rights_make_folder(
		    &crew->rights, conf->server_data_dir, error, error_len);
	if (rc != 0)
		return rc;
	rc = daemon_open_pid_file(conf->server_run_dir, error, error_len);
	if (rc < 0)
		return rc;
	crew->private_fds[FD_PID_FILE] = rc;
	rc = store_lock(conf->server_data_dir, error, error_len);
	if (rc < 0)
		return rc;
	crew->data_lock_fd = rc;
	return 0;
}

/* @param legacy  NULL: an ordinary start */
static int
set_up_crew(const struct certs_legacy *legacy, int workers, char *error,
    size_t error_len)
{
	struct crew *crew = &sup.crew;
	int rc = certs_open(&sup.certs, sup.conf, legacy, error, error_len);

	crew->vault = sup.certs.vault;
	crew->conf = sup.conf;
	crew->may_realtime = spawn_may_realtime();
	if (rc != 0)
		return rc;
	crew_init(crew, sup.options.kinds, sup.options.kind_count, workers);
	scale_begin(crew, workers);
	return 0;
}

static int
set_up(char *error, size_t error_len)
{
	struct crew *crew = &sup.crew;
	struct conf *conf = sup.conf;
	int workers = setup_worker_count(conf);
	int room = setup_worker_room(workers);
	int rc = take_possession(conf, error, error_len);

	if (rc != 0)
		return rc;
	supervisor_give_log(&sup);
	setup_forget_presence(conf->server_run_dir);
	setup_raise_files(conf, workers);
	spawn_hide_memory();
	rc = setup_shared_memory(crew, conf, room, error, error_len);
	if (rc == 0)
		rc = sockets_open(
		    &crew->sockets, conf, workers, room, error, error_len);
	if (rc != 0)
		return rc;
	rc =
	    command_open(conf->server_run_dir, &crew->rights, error, error_len);
	if (rc < 0)
		return rc;
	crew->private_fds[FD_COMMAND] = rc;
	crew->private_fds[FD_SIGNAL] = setup_signals();
	if (crew->private_fds[FD_SIGNAL] == -1) {
		snprintf(error, error_len, "signalfd: %s", strerror(errno));
		return ERR_IO;
	}
	setup_own_slot(crew);
	settings_publish(crew->board, conf);
	crew->conf_serial = 1;
	reload_digest(conf, sup.key_digest);
	rc = set_up_crew(NULL, workers, error, error_len);
	if (rc == 0)
		inquest_open(crew);
	return rc;
}

/* The same in the place of another program: everything is there. */
static int
set_up_over(const struct handover *legacy, char *error, size_t error_len)
{
	struct crew *crew = &sup.crew;
	const struct conf *conf = sup.conf;
	struct certs_legacy certs = {legacy->vault_fd, legacy->rotate_at_ms};
	int rc = rights_find(conf, &crew->rights, error, error_len);

	if (rc != 0)
		return rc;
	supervisor_give_log(&sup);
	setup_raise_files(conf, legacy->worker_count);
	spawn_hide_memory();
	rc = handover_adopt(legacy, conf, crew, error, error_len);
	if (rc != 0)
		return rc;
	crew->private_fds[FD_PID_FILE] = legacy->pid_file_fd;
	crew->private_fds[FD_COMMAND] = legacy->command_fd;
	crew->private_fds[FD_SIGNAL] = setup_signals();
	if (crew->private_fds[FD_SIGNAL] == -1) {
		snprintf(error, error_len, "signalfd: %s", strerror(errno));
		return ERR_IO;
	}
	memcpy(sup.key_digest, legacy->key_digest, sizeof(sup.key_digest));
	/* what parleyctl scale has set, not what there is room for */
	rc = set_up_crew(&certs,
	    (int)atomic_load(&board_header(crew->board)->workers), error,
	    error_len);
	if (rc != 0)
		return rc;
	for (int i = 0; i < legacy->child_count; i++)
		scale_adopt(crew, legacy->children[i].slot);
	handover_adopt_children(legacy, crew, upgrade_returned() != NULL);
	board_set_version(crew->board, PACKAGE_VERSION);
	settings_publish(crew->board, conf);
	setup_own_slot(crew);
	sup.was_serving = true;
	sup.is_rolling = true;
	upgrade_settle();
	return 0;
}

/* What another program has left is not lost with this one. */
static int
set_up_either(char *error, size_t error_len)
{
	const struct handover *legacy = upgrade_legacy();
	int rc;

	if (legacy == NULL)
		return set_up(error, error_len);
	rc = set_up_over(legacy, error, error_len);
	if (rc != 0)
		upgrade_give_back(error);
	return rc;
}

static void
say_start_failed(const char *error)
{
	log_error(NULL, "start-failed", "error=\"%s\"", error);
	if (!sup.options.is_background &&
	    strcmp(sup.conf->log_target, "stderr") != 0)
		fprintf(stderr, "parleyd: %s\n", error);
	daemon_report(&sup.crew.private_fds[FD_REPORT], error);
}

/* ---- stop ---- */

static bool
is_of_phase(const struct child *child, enum phase phase)
{
	switch (phase) {
	case PHASE_STOP_WORKERS:
		return slot_is_worker(child->slot);
	case PHASE_STOP_HELPERS:
		return !slot_is_worker(child->slot) &&
		       child->slot != SLOT_KEEPER;
	case PHASE_STOP_KEEPER:
		return child->slot == SLOT_KEEPER;
	case PHASE_SERVING:
	case PHASE_STOPPED:
		break;
	}
	return false;
}

static void
enter_phase(enum phase phase, int64_t now_ms)
{
	sup.phase = phase;
	for (int i = 0; i < sup.crew.child_count; i++) {
		struct child *child = &sup.crew.children[i];

		if (!is_of_phase(child, phase))
			continue;
		child->is_wanted = false;
		crew_stop(&sup.crew, child, now_ms);
	}
}

static bool
is_phase_done(void)
{
	for (int i = 0; i < sup.crew.child_count; i++) {
		const struct child *child = &sup.crew.children[i];

		if (is_of_phase(child, sup.phase) &&
		    child->state != PROCESS_DEAD)
			return false;
	}
	return true;
}

static void
begin_stop(int64_t now_ms)
{
	log_info(NULL, "stop", "timeout_ms=%lld",
	    (long long)sup.conf->server_shutdown_timeout);
	sup.is_rolling = false;
	notify_manager("STOPPING=1");
	upgrade_abandon();
	inquest_abandon();
	atomic_store(&board_header(sup.crew.board)->stopping, 1);
	enter_phase(PHASE_STOP_WORKERS, now_ms);
}

static void
stop_step(int64_t now_ms)
{
	while (sup.phase != PHASE_SERVING && sup.phase != PHASE_STOPPED &&
	       is_phase_done())
		enter_phase(sup.phase + 1, now_ms);
}

/* ---- start ---- */

/* In the background somebody waits for the verdict: give it, and end. */
static void
fail_start(const struct child *child, int64_t now_ms)
{
	char error[160];
	char name[24];

	board_slot_name(sup.crew.board, child->slot, name);
	snprintf(error, sizeof(error),
	    "the start failed: process %s ended %d times; the log says why",
	    name, child->policy.short_lives);
	say_start_failed(error);
	sup.exit_status = 1;
	begin_stop(now_ms);
}

static void
start_step(int64_t now_ms)
{
	bool is_without_store;

	if (sup.was_serving || sup.phase != PHASE_SERVING)
		return;
	is_without_store = inquest_is_settled(&sup.crew);
	if (is_without_store || crew_all_in(&sup.crew, PROCESS_RUNNING)) {
		sup.was_serving = true;
		sockets_log(&sup.crew.sockets);
		/* it stays up to say so: a start again would be no better */
		daemon_report(&sup.crew.private_fds[FD_REPORT],
		    is_without_store ? "the store is damaged or gone, and "
				       "parleyd runs without it; the log says "
				       "more, and what to do"
				     : NULL);
		notify_manager("READY=1");
		return;
	}
	if (sup.crew.private_fds[FD_REPORT] == -1)
		return;
	for (int i = 0; i < sup.crew.child_count; i++) {
		if (sup.crew.children[i].policy.short_lives >=
		    START_FAILURES_MAX) {
			fail_start(&sup.crew.children[i], now_ms);
			return;
		}
	}
}

/* ---- signals ---- */

static void
stop_or_hurry(int64_t now_ms)
{
	if (sup.phase == PHASE_SERVING) {
		begin_stop(now_ms);
		return;
	}
	log_warn(NULL, "stop-hurried", "phase=%d", (int)sup.phase);
	crew_hurry(&sup.crew, now_ms);
}

static void
read_signals(int64_t now_ms)
{
	struct signalfd_siginfo info;
	char reply[COMMAND_LEN_MAX]; /* logged where it was found */

	while (read(sup.crew.private_fds[FD_SIGNAL], &info, sizeof(info)) ==
	       (ssize_t)sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGTERM:
		case SIGINT:
			stop_or_hurry(now_ms);
			break;
		case SIGHUP:
			if (sup.phase == PHASE_SERVING)
				orders_reload(&sup, reply);
			break;
		case SIGUSR1:
			orders_reopen_log(&sup);
			break;
		case SIGUSR2:
			orders_upgrade(&sup, reply, sizeof(reply));
			break;
		case SIGCHLD:
			break; /* each turn collects the dead */
		}
	}
}

/* ---- the loop ---- */

static void
turn(void)
{
	struct crew *crew = &sup.crew;
	struct board_slot *slot = board_slot(crew->board, SLOT_SUPERVISOR);
	struct pollfd fds[] = {
	    {.fd = crew->private_fds[FD_SIGNAL], .events = POLLIN},
	    {.fd = crew->private_fds[FD_COMMAND], .events = POLLIN},
	};
	int64_t now_ms = clock_mono_ms();

	atomic_store_explicit(
	    &slot->heartbeat_ms, now_ms, memory_order_relaxed);
	if (log_tick())
		supervisor_give_log(&sup);
	crew_reap(crew, now_ms);
	crew_tick(crew, now_ms);
	patrol_tick(crew, now_ms);
	certs_tick(&sup.certs, now_ms);
	memory_tick(
	    crew, now_ms, sup.phase == PHASE_SERVING && !sup.is_rolling);
	if (sup.phase == PHASE_SERVING)
		inquest_tick(crew, now_ms);
	start_step(now_ms);
	stop_step(now_ms);
	orders_upgrade_step(&sup, now_ms);
	if (sup.is_rolling)
		sup.is_rolling = reload_step(crew, now_ms);
	if (sup.phase == PHASE_STOPPED)
		return;
	poll(fds, 2,
	    (int)crew_patience_ms(
		crew, now_ms, upgrade_patience_ms(TURN_MAX_MS)));
	read_signals(clock_mono_ms());
	if (fds[1].revents != 0)
		command_read(fds[1].fd, orders_obey, &sup);
}

static void
tear_down(void)
{
	struct crew *crew = &sup.crew;

	if (crew->board != NULL) {
		struct board_slot *slot =
		    board_slot(crew->board, SLOT_SUPERVISOR);

		count_attach(NULL);
		atomic_store(&slot->pid, 0);
		atomic_store(&slot->state, PROCESS_DEAD);
		atomic_store(&board_header(crew->board)->supervisor_pid, 0);
		atomic_store(&board_header(crew->board)->ready, 0);
	}
	if (crew->private_fds[FD_COMMAND] != -1)
		command_remove(sup.conf->server_run_dir);
	certs_close(&sup.certs);
	sockets_close(&crew->sockets);
	hold_free(&crew->hold);
	bus_free(&crew->bus);
	board_close(&crew->board);
	/* while its lock is held: a successor makes its own */
	if (crew->private_fds[FD_PID_FILE] != -1)
		daemon_remove_pid_file(sup.conf->server_run_dir);
	for (int i = 0; i < 4; i++) {
		if (crew->private_fds[i] != -1)
			close(crew->private_fds[i]);
	}
	if (crew->data_lock_fd != -1)
		close(crew->data_lock_fd);
	conf_free(&sup.conf);
}

int
supervisor_run(const struct supervisor_options *options, struct conf *take_conf)
{
	char error[512] = "";

	sup.options = *options;
	sup.conf = take_conf;
	sup.crew.data_lock_fd = -1;
	sup.crew.sockets.ops_fd = -1;
	memset(sup.crew.private_fds, -1, sizeof(sup.crew.private_fds));
	sup.crew.private_fds[FD_REPORT] = options->report_fd;
	log_set_process("supervisor");
	/* parleyctl knows us by it, also under a tool that runs us */
	prctl(PR_SET_NAME, "parleyd");
	if (set_up_either(error, sizeof(error)) != 0) {
		say_start_failed(error);
		sup.exit_status = 1;
		goto out;
	}
	if (upgrade_legacy() == NULL)
		log_info(NULL, "start", "version=%s pid=%d", PACKAGE_VERSION,
		    (int)getpid());
	while (sup.phase != PHASE_STOPPED)
		turn();
	log_info(NULL, "stopped", "status=%d", sup.exit_status);
out:
	tear_down();
	log_close();
	return sup.exit_status;
}
