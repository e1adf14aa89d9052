/*
 * upgrade.c - another program in the place of this one.
 *
 * Role:    SIGUSR2 and parleyctl upgrade: judges the file, runs it as a
 *          probe, executes it with everything open, watches its processes
 *          come up, goes back when they do not.
 * Process: supervisor.
 * Blocks:  never; the probe is a child with a deadline.
 * Trust:   a program of root or of the supervisor's user that nobody else
 *          can write to. What was judged and probed is what is executed: a
 *          descriptor, not a path. Who gives the order cannot name a file.
 * See:     handover.c, probe.c, doc/decisions/009-upgrade.md, t/64-upgrade.t.
 */
#include "config.h"

#include "supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/probe.h"
#include "supervisor/program.h"
#include "supervisor/spawn.h"

#define PROBE_MAX_MS    30000
#define START_MAX_MS    60000 /* of a process of the new program */
#define PROBE_POLL_MS   20
#define TAKE_OVER_MAX_S 20 /* nobody is watched or replaced meanwhile */
#define OUTPUT_MAX      1024

enum upgrade_stage { UPGRADE_IDLE, UPGRADE_PROBING, UPGRADE_ROLLING };

/* SIGALRM: a start that takes longer than TAKE_OVER_MAX_S hangs. */
static const int crashes[] = {
    SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};

static struct {
	enum upgrade_stage stage;
	struct program program; /* this one */
	char verdict[320];
	/* the probe */
	int candidate_fd;
	int output_fd;
	int probe_fd; /* pidfd */
	int64_t deadline_ms;
	char output[OUTPUT_MAX];
	size_t output_len;
	/* after the take-over */
	struct handover legacy;
	bool has_legacy;
	bool is_guarded;
	int handover_fd;
	uint32_t giver_serial;
	const char *conf_path;
	const char *returned;
	bool is_background;
	struct program_arguments line; /* back; the stack may be broken */
} up = {
    .program = {.fd = -1},
    .candidate_fd = -1,
    .output_fd = -1,
    .probe_fd = -1,
    .handover_fd = -1,
};

static void
close_fd(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

void
upgrade_remember_program(void)
{
	program_find_self(&up.program);
}

const char *
upgrade_program(void)
{
	return up.program.path;
}

/* ---- executing it ---- */

static void
close_conf(const struct handover *handover)
{
	if (handover->conf_fd >= 0)
		close(handover->conf_fd);
}

static int
describe(const struct upgrade_world *world, int image_fd, struct handover *out)
{
	handover_fill(out, world->crew, world->conf);
	out->conf_fd = handover_write_conf(world->conf);
	if (out->conf_fd < 0)
		return ERR_IO;
	out->program_fd = up.program.fd;
	out->image_fd = image_fd;
	out->pid_file_fd = world->pid_file_fd;
	out->command_fd = world->command_fd;
	out->rotate_at_ms = world->certs->rotate_at_ms;
	memcpy(out->key_digest, world->key_digest, sizeof(out->key_digest));
	snprintf(out->program, sizeof(out->program), "%s", up.program.path);
	return 0;
}

static void
say_failed(const char *why)
{
	log_error(NULL, "upgrade-failed",
	    "program=%s error=\"cannot execute it: %s\"", up.program.path, why);
	snprintf(up.verdict, sizeof(up.verdict),
	    "error: cannot execute %.200s: %s", up.program.path, why);
}

/* Does not return when it succeeds. */
static void
execute(const struct upgrade_world *world, const struct handover *handover,
    const char *returned)
{
	struct sched_param ordinary = {.sched_priority = 0};
	struct program_arguments line;
	int handover_fd = handover_write(handover);
	int cause;

	if (handover_fd < 0) {
		say_failed("no memory for the handover");
		return;
	}
	program_arguments(&line, up.program.path, "--handover", handover_fd,
	    world->conf_path, world->is_background, returned);
	log_flush();
	/* its start computes; what catches SIGXCPU ends with this program */
	sched_setscheduler(0, SCHED_OTHER, &ordinary);
	handover_inherit(handover, true);
	(void)fcntl(handover_fd, F_SETFD, 0);
	fexecve(handover->image_fd, line.args, environ);
	cause = errno;
	handover_inherit(handover, false);
	close(handover_fd);
	spawn_raise_self();
	say_failed(strerror(cause));
}

/* ---- the probe ---- */

_Noreturn static void
run_probe(const struct upgrade_world *world, const struct handover *handover,
    int handover_fd, int out_fd, pid_t parent)
{
	struct program_arguments line;
	sigset_t none;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1 || getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(out_fd, STDOUT_FILENO);
	dup2(out_fd, STDERR_FILENO);
	handover_inherit(handover, true);
	(void)fcntl(handover_fd, F_SETFD, 0);
	program_arguments(&line, up.program.path, "--probe", handover_fd,
	    world->conf_path, world->is_background, NULL);
	fexecve(up.candidate_fd, line.args, environ);
	dprintf(STDERR_FILENO, PROBE_BAD "cannot execute it: %s\n",
	    strerror(errno));
	_exit(127);
}

static int
start_probe(const struct upgrade_world *world, char *error, size_t error_len)
{
	struct handover handover;
	int out[2] = {-1, -1};
	int handover_fd = -1;
	pid_t parent = getpid();
	pid_t pid = -1;

	if (describe(world, up.candidate_fd, &handover) == 0)
		handover_fd = handover_write(&handover);
	if (handover_fd >= 0 && pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0)
		pid = fork();
	if (pid == 0)
		run_probe(world, &handover, handover_fd, out[1], parent);
	if (pid == -1)
		snprintf(error, error_len, "cannot start a probe: %s",
		    strerror(errno));
	close_conf(&handover);
	if (handover_fd >= 0)
		close(handover_fd);
	close_fd(&out[1]);
	if (pid == -1) {
		close_fd(&out[0]);
		return ERR_IO;
	}
	up.output_fd = out[0];
	up.output_len = 0;
	up.output[0] = '\0';
	/* before it can be reaped: names this process whatever follows */
	up.probe_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	up.deadline_ms = clock_mono_ms() + PROBE_MAX_MS;
	return 0;
}

static void
end_probe(void)
{
	if (up.probe_fd != -1)
		(void)syscall(
		    SYS_pidfd_send_signal, up.probe_fd, SIGKILL, NULL, 0);
	close_fd(&up.probe_fd);
	close_fd(&up.output_fd);
	up.stage = UPGRADE_IDLE;
}

int
upgrade_begin(const struct upgrade_world *world, char *error, size_t error_len)
{
	int rc = 0;

	if (up.stage != UPGRADE_IDLE) {
		snprintf(error, error_len, "an upgrade is under way");
		rc = ERR_CONFLICT;
	} else if (!crew_all_in(world->crew, PROCESS_RUNNING)) {
		snprintf(error, error_len,
		    "not every process runs; parleyctl status shows which");
		rc = ERR_CONFLICT;
	} else if (up.program.fd == -1) {
		snprintf(error, error_len,
		    "there would be no way back: /proc is not there");
		rc = ERR_IO;
	}
	if (rc == 0) {
		up.candidate_fd =
		    program_open(up.program.path, error, error_len);
		if (up.candidate_fd < 0) {
			rc = up.candidate_fd;
			up.candidate_fd = -1;
		}
	}
	if (rc == 0)
		rc = start_probe(world, error, error_len);
	if (rc != 0) {
		if (rc != ERR_CONFLICT)
			close_fd(&up.candidate_fd);
		log_error(NULL, "upgrade-refused", "error=\"%s\"", error);
		return rc;
	}
	up.stage = UPGRADE_PROBING;
	log_info(NULL, "upgrade-probe", "program=%s", up.program.path);
	return 0;
}

/* @return true: the output is complete */
static bool
read_output(void)
{
	for (;;) {
		size_t room = sizeof(up.output) - 1 - up.output_len;
		char rest[256];
		ssize_t n = room > 0 ? read(up.output_fd,
					   up.output + up.output_len, room)
				     : read(up.output_fd, rest, sizeof(rest));

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			return false;
		if (n <= 0)
			return true;
		if (room > 0)
			up.output_len += (size_t)n;
		up.output[up.output_len] = '\0';
	}
}

static void
refuse(const char *why)
{
	log_error(NULL, "upgrade-refused",
	    "program=%s error=\"%s\" hint=\"nothing has changed\"",
	    up.program.path, why);
	snprintf(up.verdict, sizeof(up.verdict), "error: %s", why);
	close_fd(&up.candidate_fd);
}

static void
probe_step(const struct upgrade_world *world, int64_t now_ms)
{
	struct handover handover;
	char text[PROBE_TEXT_MAX];
	const char *why = NULL;

	if (!read_output()) {
		if (now_ms < up.deadline_ms)
			return;
		why = "the probe takes too long";
	}
	end_probe();
	if (why == NULL)
		why = probe_verdict(up.output, text);
	if (why != NULL) {
		refuse(why);
		return;
	}
	log_info(NULL, "upgrade-takes-over", "program=%s probe=\"%s\"",
	    up.program.path, text);
	if (describe(world, up.candidate_fd, &handover) == 0)
		execute(world, &handover, NULL);
	else
		say_failed("no memory for the configuration");
	close_conf(&handover); /* still here: it was said */
	close_fd(&up.candidate_fd);
}

/* ---- taking over ---- */

/* Async-signal-safe, as are execve and fcntl. */
static void
go_back_at_once(const char *why)
{
	program_arguments(&up.line, up.legacy.program, "--handover",
	    up.handover_fd, up.conf_path, up.is_background, why);
	handover_inherit(&up.legacy, true);
	(void)fcntl(up.handover_fd, F_SETFD, 0);
	fexecve(up.legacy.program_fd, up.line.args, environ);
}

static void
on_crash(int signal_number)
{
	signal(signal_number, SIG_DFL);
	go_back_at_once(signal_number == SIGALRM ? "it hung in its start"
						 : "it crashed in its start");
	raise(signal_number);
}

static void
on_exit_call(void)
{
	if (up.is_guarded)
		go_back_at_once("it ended in its start; the log says why");
}

static void
catch_crashes(bool is_on)
{
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		signal(crashes[i], is_on ? on_crash : SIG_DFL);
	alarm(is_on ? TAKE_OVER_MAX_S : 0);
}

int
upgrade_guard(int handover_fd, const char *conf_path, bool is_background,
    const char *returned)
{
	char error[256];
	int rc;

	/* parleyctl knows us by it */
	prctl(PR_SET_NAME, "parleyd");
	rc = handover_read(handover_fd, &up.legacy, error, sizeof(error));
	if (rc != 0) {
		fprintf(stderr, "parleyd: %s\n", error);
		return rc;
	}
	snprintf(
	    up.program.path, sizeof(up.program.path), "%s", up.legacy.program);
	up.handover_fd = handover_fd;
	up.conf_path = conf_path;
	up.is_background = is_background;
	up.returned = returned;
	up.has_legacy = true;
	if (returned != NULL)
		return 0;
	up.is_guarded = true;
	catch_crashes(true);
	atexit(on_exit_call);
	return 0;
}

const struct handover *
upgrade_legacy(void)
{
	return up.has_legacy ? &up.legacy : NULL;
}

const char *
upgrade_returned(void)
{
	return up.returned;
}

void
upgrade_give_back(const char *why)
{
	struct sched_param ordinary = {.sched_priority = 0};

	if (!up.is_guarded)
		return;
	up.is_guarded = false;
	log_flush();
	sched_setscheduler(0, SCHED_OTHER, &ordinary);
	go_back_at_once(why);
}

void
upgrade_settle(void)
{
	if (up.is_guarded)
		catch_crashes(false);
	up.is_guarded = false;
	handover_inherit(&up.legacy, false);
	close_fd(&up.handover_fd);
	close_fd(&up.legacy.conf_fd);
	close_fd(&up.legacy.image_fd);
	if (up.returned != NULL) {
		close_fd(&up.legacy.program_fd); /* this one */
		log_error(NULL, "upgrade-failed",
		    "error=\"%s\" hint=\"version %s goes on\"", up.returned,
		    PACKAGE_VERSION);
		snprintf(up.verdict, sizeof(up.verdict),
		    "error: the new program did not come up: %s; version %s "
		    "goes on",
		    up.returned, PACKAGE_VERSION);
		return;
	}
	up.stage = UPGRADE_ROLLING;
	up.giver_serial = up.legacy.serial_current;
	log_info(NULL, "upgrade-taken-over", "version=%s was=%s children=%d",
	    PACKAGE_VERSION, up.legacy.giver, up.legacy.child_count);
}

/* ---- while it rolls ---- */

static bool
is_failing(const struct child *child, int64_t now_ms)
{
	if (child->conf_serial == up.giver_serial)
		return false;
	return child->state == PROCESS_BACKOFF ||
	       child->state == PROCESS_ERRORED ||
	       (child->state == PROCESS_STARTING &&
		   now_ms - child->started_at_ms > START_MAX_MS);
}

/* What this program has started ends or waits; the giver starts it. */
static void
release_child(struct handover_child *out)
{
	if (out->conf_serial == up.giver_serial)
		return;
	switch ((enum process_state)out->state) {
	case PROCESS_STARTING:
		kill(out->pid, SIGKILL);
		out->state = PROCESS_STOPPING;
		out->kill_at_ms = 0;
		break;
	case PROCESS_BACKOFF:
	case PROCESS_ERRORED:
		out->state = PROCESS_BACKOFF;
		out->restart_at_ms = 0;
		break;
	case PROCESS_DEAD:
	case PROCESS_RUNNING:
	case PROCESS_STOPPING:
		break;
	}
}

static void
go_back(const struct upgrade_world *world, const struct child *culprit)
{
	struct handover handover;
	char why[128];
	char name[24];

	snprintf(why, sizeof(why), "its process %s does not start",
	    board_slot_name(world->crew->board, culprit->slot, name));
	log_warn(NULL, "upgrade-goes-back", "why=\"%s\"", why);
	if (describe(world, up.legacy.program_fd, &handover) != 0) {
		say_failed("no memory for the configuration");
		up.stage = UPGRADE_IDLE;
		return;
	}
	handover.program_fd = -1;
	handover.serial_current = up.giver_serial;
	for (int i = 0; i < handover.child_count; i++)
		release_child(&handover.children[i]);
	execute(world, &handover, why);
	close_conf(&handover);
	up.stage = UPGRADE_IDLE;
}

static void
roll_step(const struct upgrade_world *world, bool is_rolling, int64_t now_ms)
{
	for (int i = 0; i < world->crew->child_count; i++) {
		const struct child *child = &world->crew->children[i];

		if (is_failing(child, now_ms)) {
			go_back(world, child);
			return;
		}
	}
	if (is_rolling)
		return;
	up.stage = UPGRADE_IDLE;
	close_fd(&up.legacy.program_fd);
	snprintf(up.verdict, sizeof(up.verdict), "ok: version %s serves",
	    PACKAGE_VERSION);
	log_info(NULL, "upgrade-done", "version=%s was=%s", PACKAGE_VERSION,
	    up.legacy.giver);
}

void
upgrade_step(const struct upgrade_world *world, bool is_rolling, int64_t now_ms)
{
	switch (up.stage) {
	case UPGRADE_IDLE:
		break;
	case UPGRADE_PROBING:
		probe_step(world, now_ms);
		break;
	case UPGRADE_ROLLING:
		roll_step(world, is_rolling, now_ms);
		break;
	}
}

void
upgrade_abandon(void)
{
	if (up.stage == UPGRADE_PROBING)
		end_probe();
	up.stage = UPGRADE_IDLE;
	close_fd(&up.candidate_fd);
}

void
upgrade_status(char *reply, size_t reply_len)
{
	const char *text = up.verdict;

	if (up.stage == UPGRADE_PROBING)
		text = "busy: the new program is probed";
	else if (up.stage == UPGRADE_ROLLING)
		text = "busy: processes are replaced";
	else if (text[0] == '\0')
		text = "error: there was no upgrade";
	snprintf(reply, reply_len, "%s", text);
}

int64_t
upgrade_patience_ms(int64_t max_ms)
{
	if (up.stage == UPGRADE_PROBING && max_ms > PROBE_POLL_MS)
		return PROBE_POLL_MS;
	return max_ms;
}
