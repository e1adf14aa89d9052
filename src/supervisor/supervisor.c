/*
 * supervisor.c - the parent of all: sets up, watches, stops, reloads.
 *
 * Role:    one poll loop over signals and parleyctl's orders; the order of
 *          start (keeper and console, then the rest), stop and reload.
 * Process: supervisor; root where it was started by root.
 * Blocks:  only in poll; at start also on files and names.
 * Trust:   opens no store, reads no client byte. The board can be damaged by
 *          a child: what matters is kept in private memory (crew.h).
 * See:     crew.c, doc/decisions, t/60-ctl.t.
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
#include "supervisor/certs.h"
#include "supervisor/command.h"
#include "supervisor/crew.h"
#include "supervisor/daemon.h"
#include "supervisor/memory.h"
#include "supervisor/patrol.h"
#include "supervisor/reload.h"
#include "supervisor/setup.h"

#define TURN_MAX_MS        WATCHDOG_TURN_MS /* the heartbeat */
#define START_FAILURES_MAX 3 /* in the background: then the start failed */

enum phase {
	PHASE_SERVING,
	PHASE_STOP_WORKERS,
	PHASE_STOP_HELPERS, /* directory, console */
	PHASE_STOP_KEEPER,
	PHASE_STOPPED,
};

enum private_fd { FD_SIGNAL, FD_COMMAND, FD_PID_FILE, FD_REPORT };

static struct {
	struct supervisor_options options;
	struct conf *conf;
	struct crew crew;
	struct certs certs;
	uint8_t key_digest[16]; /* reload_digest of what runs */
	enum phase phase;
	bool was_serving; /* everything has been up once */
	bool is_rolling;
	int exit_status;
} sup;

/* ---- set-up ---- */

int
supervisor_open_log(const struct conf *conf, bool is_background)
{
	struct log_conf log = {
	    .target = conf->log_target,
	    .level = conf->log_level,
	    .format = conf->log_format,
	};

	if (is_background && strcmp(log.target, "stderr") == 0)
		log.target = "syslog";
	return log_open(&log);
}

static void
give_log_file(void)
{
	if (sup.conf->log_target[0] == '/')
		rights_give(&sup.crew.rights, sup.conf->log_target);
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
	rc = daemon_lock_data(conf->server_data_dir, error, error_len);
	if (rc < 0)
		return rc;
	crew->data_lock_fd = rc;
	return 0;
}

static int
set_up(char *error, size_t error_len)
{
	struct crew *crew = &sup.crew;
	struct conf *conf = sup.conf;
	int workers = setup_worker_count(conf);
	int rc = take_possession(conf, error, error_len);

	if (rc != 0)
		return rc;
	give_log_file();
	setup_forget_presence(conf->server_run_dir);
	setup_raise_files(conf, workers);
	spawn_hide_memory();
	rc = setup_shared_memory(crew, conf, workers, error, error_len);
	if (rc == 0)
		rc = sockets_open(
		    &crew->sockets, conf, workers, error, error_len);
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
	rc = certs_open(&sup.certs, conf, error, error_len);
	if (rc != 0)
		return rc;
	reload_digest(conf, sup.key_digest);
	crew->vault = sup.certs.vault;
	crew->conf = conf;
	crew->conf_serial = 1;
	crew->may_realtime = spawn_may_realtime();
	crew_init(crew, sup.options.kinds, sup.options.kind_count, workers);
	return 0;
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
		return child->slot >= SLOT_WORKER_0;
	case PHASE_STOP_HELPERS:
		return child->slot < SLOT_WORKER_0 &&
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
	if (sup.was_serving || sup.phase != PHASE_SERVING)
		return;
	if (crew_all_in(&sup.crew, PROCESS_RUNNING)) {
		sup.was_serving = true;
		sockets_log(&sup.crew.sockets);
		daemon_report(&sup.crew.private_fds[FD_REPORT], NULL);
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

/* ---- orders ---- */

/*
 * Certificates go to the workers as they are; everything else that a process
 * has read when it started needs a successor, unless it can take it over from
 * the board. Without a difference nothing happens: whoever wants new processes
 * restarts them.
 */
static bool
needs_successors(struct conf *next, struct certs_next *take_certs,
    struct reload_names *names)
{
	uint8_t digest[sizeof(sup.key_digest)];
	enum reload_kind kind = reload_adopt(sup.conf, next, names);

	if (certs_replace(&sup.certs, next, take_certs) &&
	    kind == RELOAD_NOTHING)
		kind = RELOAD_IN_PLACE;
	reload_digest(next, digest);
	if (memcmp(digest, sup.key_digest, sizeof(digest)) != 0)
		kind = RELOAD_SUCCESSORS;
	memcpy(sup.key_digest, digest, sizeof(digest));
	return kind == RELOAD_SUCCESSORS;
}

/*
 * @param reply  COMMAND_LEN_MAX bytes: what has changed, see command.h, or why
 *               nothing has
 * @return       0 or ERR_BAD_REQUEST
 */
static int
reload(char *reply)
{
	struct reload_names names = {.in_place = {0}};
	struct certs_next certs = {.pack = {0}};
	struct conf *next = reload_read(sup.options.conf_path,
	    sup.options.is_background, sup.certs.vault != NULL ? &certs : NULL,
	    reply, COMMAND_LEN_MAX);

	if (next == NULL)
		return ERR_BAD_REQUEST;
	sup.is_rolling =
	    needs_successors(next, &certs, &names) || sup.is_rolling;
	conf_free(&sup.conf);
	sup.conf = next;
	sup.crew.conf = next;
	if (names.in_place.len > 0)
		settings_publish(sup.crew.board, next);
	if (sup.is_rolling)
		sup.crew.conf_serial++;
	else
		log_info(
		    NULL, "reload-done", "serial=%u", sup.crew.conf_serial);
	sockets_set_conf(&sup.crew.sockets, next);
	if (supervisor_open_log(next, sup.options.is_background) != 0)
		log_error(
		    NULL, "log-open-failed", "target=%s", next->log_target);
	give_log_file();
	reload_answer(&names, sup.is_rolling, reply, COMMAND_LEN_MAX);
	reload_names_fini(&names);
	return 0;
}

static void
reopen_log(void)
{
	log_reopen();
	give_log_file();
	crew_signal(&sup.crew, SIGUSR1);
}

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
				(void)reload(reply);
			break;
		case SIGUSR1:
			reopen_log();
			break;
		case SIGCHLD:
			break; /* each turn collects the dead */
		}
	}
}

static void
obey_drain(const char *name, char *reply)
{
	struct child *child = crew_find(&sup.crew, name);

	if (child == NULL || child->slot < SLOT_WORKER_0) {
		snprintf(reply, COMMAND_LEN_MAX,
		    "error: there is no worker of this name");
		return;
	}
	if (child->state != PROCESS_RUNNING) {
		snprintf(reply, COMMAND_LEN_MAX, "error: %s is %s", name,
		    board_state_name(child->state));
		return;
	}
	log_info(NULL, "drain-ordered", "name=%s", name);
	crew_drain(&sup.crew, child, clock_mono_ms());
	snprintf(reply, COMMAND_LEN_MAX, "ok");
}

static void
obey_restart(const char *name, char *reply)
{
	struct child *child = crew_find(&sup.crew, name);

	if (child == NULL) {
		snprintf(reply, COMMAND_LEN_MAX,
		    "error: no process of this name can be restarted");
		return;
	}
	log_info(NULL, "restart-ordered", "name=%s", name);
	crew_restart(&sup.crew, child, clock_mono_ms());
	snprintf(reply, COMMAND_LEN_MAX, "ok");
}

static void
obey_reload(char *reply)
{
	char text[COMMAND_LEN_MAX];

	snprintf(reply, COMMAND_LEN_MAX, "%s%.*s",
	    reload(text) != 0 ? "error: " : "", COMMAND_LEN_MAX - 8, text);
}

static void
obey(void *ctx, const char *text, char *reply)
{
	const char restart[] = "restart ";
	const char drain[] = "drain ";

	(void)ctx;
	if (sup.phase != PHASE_SERVING)
		snprintf(reply, COMMAND_LEN_MAX, "error: parleyd is stopping");
	else if (strncmp(text, restart, sizeof(restart) - 1) == 0)
		obey_restart(text + sizeof(restart) - 1, reply);
	else if (strncmp(text, drain, sizeof(drain) - 1) == 0)
		obey_drain(text + sizeof(drain) - 1, reply);
	else if (strcmp(text, "reload") == 0)
		obey_reload(reply);
	else if (strcmp(text, "settings") == 0)
		reload_print(sup.conf, reply, COMMAND_LEN_MAX);
	else
		snprintf(reply, COMMAND_LEN_MAX, "error: unknown order");
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
	crew_reap(crew, now_ms);
	crew_tick(crew, now_ms);
	patrol_tick(crew, now_ms);
	certs_tick(&sup.certs, now_ms);
	memory_tick(
	    crew, now_ms, sup.phase == PHASE_SERVING && !sup.is_rolling);
	start_step(now_ms);
	stop_step(now_ms);
	if (sup.is_rolling)
		sup.is_rolling = reload_step(crew, now_ms);
	if (sup.phase == PHASE_STOPPED)
		return;
	poll(fds, 2, (int)crew_patience_ms(crew, now_ms, TURN_MAX_MS));
	read_signals(clock_mono_ms());
	if (fds[1].revents != 0)
		command_read(fds[1].fd, obey, NULL);
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
	if (set_up(error, sizeof(error)) != 0) {
		say_start_failed(error);
		sup.exit_status = 1;
		goto out;
	}
	log_info(
	    NULL, "start", "version=%s pid=%d", PACKAGE_VERSION, (int)getpid());
	while (sup.phase != PHASE_STOPPED)
		turn();
	log_info(NULL, "stopped", "status=%d", sup.exit_status);
out:
	tear_down();
	log_close();
	return sup.exit_status;
}
