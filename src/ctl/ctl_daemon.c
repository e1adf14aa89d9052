/*
 * ctl_daemon.c - verbs for the supervisor: stop, restart, drain, scale.
 *
 * Role:    works with the board, a signal and the supervisor's own socket, so
 *          that it does not need the console.
 * Process: parleyctl.
 * Blocks:  until the order is carried out.
 * Trust:   a pid from the board is believed only if it is a parleyd.
 * See:     supervisor/command.c.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "ctl/ctl_priv.h"
#include "shm/board.h"
#include "shm/health.h"

#define REPLY_WITHIN_S    10
#define STOP_MARGIN_MS    20000 /* beyond three times shutdown_timeout */
#define RESTART_WITHIN_MS 30000 /* beyond shutdown_timeout */
#define LOOK_EVERY_MS     20
#define NAMELESS_LOOKS    15
#define UPGRADE_WITHIN_MS 600000 /* with many processes to be replaced */

void
ctl_sleep_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* "PID (comm) STATE ...": a zombie is not running. */
bool
ctl_is_parleyd(int pid)
{
	char path[48];
	char text[128] = "";
	const char *end;
	FILE *file;

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	end = strstr(text, " (parleyd) ");
	return end != NULL && strchr("ZX", end[11]) == NULL;
}

int
ctl_daemon_pid(const struct ctl *ctl)
{
	struct board *board = NULL;
	int pid;

	if (board_open(ctl->conf->server_run_dir, &board) != 0)
		return 0;
	pid = atomic_load(&board_header(board)->supervisor_pid);
	board_close(&board);
	/* one that has just been executed by an upgrade has no name yet */
	for (int i = 0; i < NAMELESS_LOOKS; i++) {
		if (ctl_is_parleyd(pid))
			return pid;
		if (pid <= 0 || (kill(pid, 0) == -1 && errno == ESRCH))
			return 0;
		ctl_sleep_ms(LOOK_EVERY_MS);
	}
	return 0;
}

int
ctl_fail_not_running(const struct ctl *ctl)
{
	return ctl_fail(ctl, CTL_NOT_RUNNING, "parleyd is not running in %s",
	    ctl->conf->server_run_dir);
}

static int
say_done(const struct ctl *ctl, const char *text)
{
	if (ctl->wants_json)
		puts("{\"ok\":true}");
	else if (text != NULL)
		puts(text);
	return CTL_OK;
}

/* ---- stop ---- */

int
ctl_stop(struct ctl *ctl)
{
	int64_t patience_ms =
	    3 * ctl->conf->server_shutdown_timeout + STOP_MARGIN_MS;
	int pid = ctl_daemon_pid(ctl);
	struct pollfd process = {.events = POLLIN};
	int code = CTL_OK;

	/* the descriptor names this process, whatever the pid becomes */
	process.fd = pid == 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	if (process.fd == -1 || !ctl_is_parleyd(pid)) {
		code = ctl_fail_not_running(ctl);
	} else if (syscall(SYS_pidfd_send_signal, process.fd, SIGTERM, NULL,
		       0) == -1) {
		code = ctl_fail(ctl, CTL_FAILED, "cannot stop process %d: %s",
		    pid, strerror(errno));
	} else if (poll(&process, 1, (int)patience_ms) != 1) {
		code = ctl_fail(ctl, CTL_FAILED,
		    "parleyd (process %d) was told to stop and has not ended",
		    pid);
	} else {
		say_done(ctl, NULL);
	}
	if (process.fd != -1)
		close(process.fd);
	return code;
}

/* ---- orders to the supervisor ---- */

/* @return 0: there is a reply; ESRCH: it does not run; or why there is none */
static int
ask(struct ctl *ctl, const char *text, char reply[CTL_REPLY_MAX])
{
	ssize_t n = -1;
	int cause;
	int fd;

	if (ctl_daemon_pid(ctl) == 0)
		return ESRCH;
	fd = ctl_connect(ctl, "supervisor.sock", SOCK_DGRAM, REPLY_WITHIN_S);
	if (fd != -1 && send(fd, text, strlen(text), MSG_NOSIGNAL) != -1)
		n = recv(fd, reply, CTL_REPLY_MAX - 1, 0);
	cause = errno;
	if (fd != -1)
		close(fd);
	if (n == -1)
		return cause;
	reply[n] = '\0';
	return 0;
}

static int
fail_as_told(const struct ctl *ctl, const char *reply)
{
	return ctl_fail(ctl, CTL_FAILED, "%s",
	    strncmp(reply, "error: ", 7) == 0 ? reply + 7 : reply);
}

int
ctl_order(struct ctl *ctl, const char *text, char reply[CTL_REPLY_MAX])
{
	int cause = ask(ctl, text, reply);

	if (cause == ESRCH)
		return ctl_fail_not_running(ctl);
	if (cause != 0)
		return ctl_fail(ctl, CTL_FAILED,
		    "the supervisor does not answer: %s", strerror(cause));
	if (strncmp(reply, "ok", 2) == 0)
		return CTL_OK;
	return fail_as_told(ctl, reply);
}

/* ---- upgrade ---- */

int
ctl_upgrade(struct ctl *ctl)
{
	int64_t deadline_ms = clock_mono_ms() + UPGRADE_WITHIN_MS;
	char reply[CTL_REPLY_MAX];
	int code = ctl_order(ctl, "upgrade", reply);

	while (code == CTL_OK) {
		int cause = ask(ctl, "upgrade status", reply);

		if (cause == ESRCH)
			return ctl_fail_not_running(ctl);
		if (cause != 0) /* between two programs nobody answers */
			snprintf(reply, sizeof(reply), "busy: no answer: %s",
			    strerror(cause));
		if (strncmp(reply, "ok: ", 4) == 0)
			return say_done(ctl, reply + 4);
		if (strncmp(reply, "busy: ", 6) != 0)
			return fail_as_told(ctl, reply);
		if (clock_mono_ms() >= deadline_ms)
			return ctl_fail(ctl, CTL_FAILED,
			    "the upgrade is still under way: %s", reply + 6);
		ctl_sleep_ms(LOOK_EVERY_MS);
	}
	return code;
}

/* ---- restart, drain ---- */

static int
find_slot(struct board *board, const char *name)
{
	char buf[24];

	for (int slot = 0; slot < board_slot_end(board); slot++) {
		if (health_is_used(board, slot) &&
		    strcmp(board_slot_name(board, slot, buf), name) == 0)
			return slot;
	}
	return -1;
}

/* @return CTL_OK: a newer generation serves; else said */
static int
await_successor(struct ctl *ctl, struct board *board, int slot,
    uint32_t generation, int64_t within_ms)
{
	int64_t deadline_ms = clock_mono_ms() + within_ms;
	const struct board_slot *at = board_slot(board, slot);

	while (clock_mono_ms() < deadline_ms) {
		if (atomic_load(&at->generation) > generation) {
			if (health_is_serving(board, slot))
				return say_done(ctl, NULL);
			if (atomic_load(&at->state) == PROCESS_ERRORED)
				break;
		}
		if (ctl_daemon_pid(ctl) == 0)
			return ctl_fail(ctl, CTL_NOT_RUNNING,
			    "parleyd has stopped meanwhile");
		ctl_sleep_ms(LOOK_EVERY_MS);
	}
	return ctl_fail(ctl, CTL_FAILED,
	    "%s was restarted and is %s; the log says why", ctl->args[0],
	    board_state_name(atomic_load(&at->state)));
}

/* An order that ends with a successor. */
static int
order_successor(struct ctl *ctl, const char *verb, int64_t within_ms)
{
	struct board *board = NULL;
	uint32_t generation = 0;
	char reply[CTL_REPLY_MAX];
	char text[64];
	int slot = -1;
	int code;

	if (ctl_daemon_pid(ctl) == 0 ||
	    board_open(ctl->conf->server_run_dir, &board) != 0)
		return ctl_fail_not_running(ctl);
	slot = find_slot(board, ctl->args[0]);
	if (slot <= SLOT_SUPERVISOR) {
		code = ctl_fail(ctl, CTL_FAILED,
		    "\"%s\" cannot be restarted; parleyctl status has the "
		    "names",
		    ctl->args[0]);
		goto out;
	}
	generation = atomic_load(&board_slot(board, slot)->generation);
	snprintf(text, sizeof(text), "%s %s", verb, ctl->args[0]);
	code = ctl_order(ctl, text, reply);
	if (code == CTL_OK)
		code = await_successor(ctl, board, slot, generation,
		    within_ms + ctl->conf->server_shutdown_timeout +
			RESTART_WITHIN_MS);
out:
	board_close(&board);
	return code;
}

int
ctl_restart(struct ctl *ctl)
{
	return order_successor(ctl, "restart", 0);
}

int
ctl_drain(struct ctl *ctl)
{
	return order_successor(ctl, "drain", ctl->conf->server_drain_window);
}

/* Do so many serve, and no others? */
static bool
is_scaled(struct board *board, int workers)
{
	for (int slot = SLOT_WORKER_0; slot < board_slot_end(board); slot++) {
		int first =
		    slot_is_holder(slot) ? SLOT_HOLDER_0 : SLOT_WORKER_0;
		bool is_wanted = slot < first + workers;

		if (board_slot(board, slot) == NULL)
			continue;

		if (is_wanted ? !health_is_serving(board, slot)
			      : health_is_used(board, slot))
			return false;
	}
	return true;
}

int
ctl_scale(struct ctl *ctl)
{
	int64_t deadline_ms = clock_mono_ms() + ctl->conf->server_drain_window +
			      ctl->conf->server_shutdown_timeout +
			      RESTART_WITHIN_MS;
	struct board *board = NULL;
	char reply[CTL_REPLY_MAX];
	char text[32];
	int code;

	snprintf(text, sizeof(text), "scale %.16s", ctl->args[0]);
	code = ctl_order(ctl, text, reply);
	if (code != CTL_OK)
		return code;
	if (board_open(ctl->conf->server_run_dir, &board) != 0)
		return ctl_fail_not_running(ctl);
	while (!is_scaled(board, atoi(ctl->args[0])) &&
	       clock_mono_ms() < deadline_ms)
		ctl_sleep_ms(LOOK_EVERY_MS);
	if (is_scaled(board, atoi(ctl->args[0])))
		code = say_done(ctl, NULL);
	else
		code = ctl_fail(ctl, CTL_FAILED,
		    "the order was taken, but not all workers are as they "
		    "should be; parleyctl status shows them");
	board_close(&board);
	return code;
}

/* ---- version ---- */

int
ctl_version(struct ctl *ctl)
{
	struct board *board = NULL;
	struct buf json = {0};
	char server[32] = "";

	if (ctl_daemon_pid(ctl) != 0 &&
	    board_open(ctl->conf->server_run_dir, &board) == 0) {
		snprintf(server, sizeof(server), "%.31s",
		    board_header(board)->version);
		board_close(&board);
	}
	if (!ctl->wants_json) {
		printf("parleyctl %s\nparleyd %s\n", PACKAGE_VERSION,
		    server[0] != '\0' ? server : "(not running)");
		return CTL_OK;
	}
	json_object_begin(&json);
	json_put_bool(&json, "ok", true);
	json_put_text(&json, "parleyctl", PACKAGE_VERSION);
	json_key(&json, "parleyd");
	if (server[0] != '\0')
		json_string(&json, server, strlen(server));
	else
		json_null(&json);
	json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	buf_fini(&json);
	return CTL_OK;
}
