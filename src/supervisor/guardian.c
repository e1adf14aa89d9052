/*
 * guardian.c - the supervisor's supervisor.
 *
 * Role:    executes the supervisor, waits for its death, executes it again;
 *          passes signals on.
 * Process: guardian; the supervisor does not depend on it.
 * Blocks:  in sigtimedwait, nowhere else.
 * Trust:   of the board only one flag is read: was it told to stop?
 * See:     doc/operations.md, t/68-guardian.t.
 */
#include "config.h"

#include "supervisor/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/board.h"
#include "supervisor/supervisor.h"

#define SHORT_LIFE_MS  10000 /* then the next one has to wait */
#define BACKOFF_MS     100   /* and half as long again each time */
#define BACKOFF_MAX_MS 15000

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

struct guardian {
	const char *program;
	const char *conf_path;
	struct conf *conf;
	sigset_t signals;
	pid_t pid;      /* of the supervisor; 0: none */
	pid_t last_pid; /* of the one that was started last */
	int64_t started_at_ms;
	int64_t pause_ms; /* the last one */
	bool is_stopping; /* it was told so through us */
};

static void
take_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(set, passed_on[i]);
	sigprocmask(SIG_BLOCK, set, NULL);
}

_Noreturn static void
execute(const struct guardian *guardian, int report_fd)
{
	char guarded[32];
	sigset_t none;

	snprintf(guarded, sizeof(guarded), "--guarded=%d", report_fd);
	if (report_fd != -1)
		(void)fcntl(report_fd, F_SETFD, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execl(guardian->program, guardian->program, guarded, "-c",
	    guardian->conf_path, (char *)NULL);
	log_error(NULL, "guardian-failed", "program=%s error=\"%s\"",
	    guardian->program, strerror(errno));
	log_flush();
	_exit(127);
}

static void
start(struct guardian *guardian, int report_fd)
{
	guardian->started_at_ms = clock_mono_ms();
	log_flush(); /* not twice */
	guardian->pid = fork();
	guardian->last_pid = guardian->pid;
	if (guardian->pid == 0)
		execute(guardian, report_fd);
	if (guardian->pid == -1) {
		log_error(NULL, "guardian-failed", "error=\"fork: %s\"",
		    strerror(errno));
		guardian->pid = 0;
	}
}

/* Told by parleyctl or another program: its board says so. */
static bool
was_told_to_stop(const struct guardian *guardian)
{
	struct board *board = NULL;
	bool is_stopping = guardian->is_stopping;

	if (board_open(guardian->conf->server_run_dir, &board) != 0)
		return is_stopping;
	if (atomic_load(&board_header(board)->stopping) != 0)
		is_stopping = true;
	board_close(&board);
	return is_stopping;
}

/* Killed by somebody when it served: no sign that the next one would fail. The
 * board is the one that it has left. */
static bool
was_killed_serving(const struct guardian *guardian, int status)
{
	struct board *board = NULL;
	bool has_served;

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL ||
	    board_open(guardian->conf->server_run_dir, &board) != 0)
		return false;
	has_served = atomic_load(&board_header(board)->supervisor_pid) ==
			 (int32_t)guardian->last_pid &&
		     atomic_load(&board_header(board)->ready) != 0;
	board_close(&board);
	return has_served;
}

static int64_t
next_pause(struct guardian *guardian, int status)
{
	if (was_killed_serving(guardian, status))
		return BACKOFF_MS;
	if (clock_mono_ms() - guardian->started_at_ms >= SHORT_LIFE_MS)
		guardian->pause_ms = 0;
	else if (guardian->pause_ms == 0)
		guardian->pause_ms = BACKOFF_MS;
	else if (guardian->pause_ms < BACKOFF_MAX_MS)
		guardian->pause_ms += guardian->pause_ms / 2;
	if (guardian->pause_ms > BACKOFF_MAX_MS)
		guardian->pause_ms = BACKOFF_MAX_MS;
	return guardian->pause_ms;
}

static void
pass_on(struct guardian *guardian, int signal_number)
{
	if (signal_number == SIGTERM || signal_number == SIGINT)
		guardian->is_stopping = true;
	if (signal_number == SIGUSR1)
		log_reopen();
	if (guardian->pid > 0)
		kill(guardian->pid, signal_number);
}

/* @return the supervisor's wait(2) status; -1: none is to be started */
static int
await_death(struct guardian *guardian)
{
	int status = -1;

	while (guardian->pid > 0) {
		int number = sigwaitinfo(&guardian->signals, NULL);

		if (number == SIGCHLD) {
			if (waitpid(guardian->pid, &status, WNOHANG) ==
			    guardian->pid)
				guardian->pid = 0;
		} else if (number > 0) {
			pass_on(guardian, number);
		}
	}
	return status;
}

/* Before the next one; SIGTERM ends it. */
static void
rest(struct guardian *guardian, int64_t pause_ms)
{
	int64_t until_ms = clock_mono_ms() + pause_ms;
	int64_t left_ms;

	while (!guardian->is_stopping &&
	       (left_ms = until_ms - clock_mono_ms()) > 0) {
		struct timespec time = {
		    left_ms / 1000, left_ms % 1000 * 1000000};
		int number = sigtimedwait(&guardian->signals, NULL, &time);

		if (number > 0 && number != SIGCHLD)
			pass_on(guardian, number);
	}
}

static void
log_death(const struct guardian *guardian, int status, int64_t pause_ms)
{
	if (WIFSIGNALED(status))
		log_error(NULL, "supervisor-died",
		    "signal=%d (%s) lived_ms=%lld restart_in_ms=%lld",
		    WTERMSIG(status), strsignal(WTERMSIG(status)),
		    (long long)(clock_mono_ms() - guardian->started_at_ms),
		    (long long)pause_ms);
	else
		log_error(NULL, "supervisor-died",
		    "status=%d lived_ms=%lld restart_in_ms=%lld",
		    WEXITSTATUS(status),
		    (long long)(clock_mono_ms() - guardian->started_at_ms),
		    (long long)pause_ms);
}

/* It had served, or it comes after one that had: only its death by a signal,
 * or a later start that fails, is nothing that anybody wanted. */
static bool
is_over(const struct guardian *guardian, int status, bool is_first)
{
	if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || is_first))
		return true;
	return was_told_to_stop(guardian);
}

int
guardian_run(const char *program, const char *conf_path, struct conf *take_conf,
    int take_report_fd)
{
	struct guardian guardian = {
	    .program = program,
	    .conf_path = conf_path,
	    .conf = take_conf,
	};
	bool is_first = true;
	int status;

	log_set_process("guardian");
	prctl(PR_SET_NAME, "parleyd-guard");
	if (supervisor_open_log(take_conf, true, false) != 0)
		log_warn(NULL, "log-open-failed", "target=%s",
		    take_conf->log_target); /* the supervisor says why */
	take_signals(&guardian.signals);
	start(&guardian, take_report_fd);
	if (take_report_fd != -1)
		close(take_report_fd);
	for (;;) {
		int64_t pause_ms;

		status = await_death(&guardian);
		if (is_over(&guardian, status, is_first))
			break;
		is_first = false;
		pause_ms = next_pause(&guardian, status);
		log_death(&guardian, status, pause_ms);
		rest(&guardian, pause_ms);
		if (guardian.is_stopping)
			break;
		start(&guardian, -1);
	}
	conf_free(&guardian.conf);
	log_close();
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
