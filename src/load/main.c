/*
 * main.c - parleyload: load on a parley server, and proof that it loses
 * nothing.
 *
 * Role:    options, limits, generators, report, exit status.
 * Process: parleyload; with --processes it only coordinates its children.
 * Blocks:  never for long: it is the clock of the run.
 * Trust:   the person at the terminal; nothing of the server's.
 * See:     generator.c, coordinator.c, report.c, man/parleyload.1.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load/compare.h"
#include "load/control.h"
#include "load/coordinator.h"
#include "load/generator.h"
#include "load/options.h"
#include "load/prepare.h"
#include "load/proc.h"
#include "load/report.h"
#include "load/server.h"
#include "shm/board.h"

#define EXIT_SOUND   0
#define EXIT_UNSOUND 1
#define EXIT_USAGE   2

/* Beside the connections: event loop, /proc, standard streams. */
#define DESCRIPTORS_SPARE 64

static struct {
	struct control *control; /* for the signal handler */
	pid_t *children;
} state;

static void
interrupt_handler(int signal_number)
{
	(void)signal_number;
	atomic_store(&state.control->interrupted, 1);
}

static void
catch_signals(void)
{
	struct sigaction action = {.sa_handler = interrupt_handler};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int
raise_descriptor_limit(const struct options *options)
{
	rlim_t needed = (options->count / options->processes + 1) *
			    options_users_per(options) +
			DESCRIPTORS_SPARE;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return ERR_IO;
	if (limit.rlim_cur >= needed)
		return 0;
	limit.rlim_cur = needed;
	if (limit.rlim_max < needed)
		limit.rlim_max = needed; /* as root this may be granted */
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return 0;
	getrlimit(RLIMIT_NOFILE, &limit);
	fprintf(stderr,
	    "parleyload: %llu descriptors are needed per process, the hard "
	    "limit is %llu.\nRaise it (ulimit -Hn, fs.nr_open), lower -n or "
	    "use more --processes.\n",
	    (unsigned long long)needed, (unsigned long long)limit.rlim_max);
	return ERR_IO;
}

static void
turn(void *ctx)
{
	coordinator_turn(ctx);
}

/* One generator: it is the coordinator's clock, too. @return broken? */
static bool
run_alone(struct coordinator *coordinator)
{
	coordinator_begin(coordinator);
	return generator_run(coordinator->options, coordinator->control, 0,
		   turn, coordinator) != 0;
}

static _Noreturn void
run_child(const struct coordinator *coordinator, uint64_t number, pid_t parent)
{
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(EXIT_UNSOUND);
	/* the parent hears ^C and ends the run in order */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	rc = generator_run(
	    coordinator->options, coordinator->control, number, NULL, NULL);
	_exit(rc == 0 ? EXIT_SOUND : EXIT_UNSOUND);
}

/* @return true while all children live or have ended well */
static bool
children_are_well(const struct options *options, uint64_t *ended)
{
	for (uint64_t i = 0; i < options->processes; i++) {
		int status;

		if (state.children[i] <= 0 ||
		    waitpid(state.children[i], &status, WNOHANG) <= 0)
			continue;
		state.children[i] = 0;
		++*ended;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SOUND)
			return false;
	}
	return true;
}

static bool
run_with_children(struct coordinator *coordinator)
{
	const struct options *options = coordinator->options;
	const struct timespec nap = {0, 5000000};
	struct control *control = coordinator->control;
	const pid_t parent = getpid();
	bool is_broken = false;
	uint64_t ended = 0;

	state.children = calloc(options->processes, sizeof(pid_t));
	if (!state.children)
		return true;
	for (uint64_t i = 0; i < options->processes && !is_broken; i++) {
		state.children[i] = fork();
		if (state.children[i] == 0)
			run_child(coordinator, i, parent);
		is_broken = state.children[i] < 0;
	}
	coordinator_begin(coordinator);
	while (ended < options->processes && !is_broken) {
		nanosleep(&nap, NULL);
		coordinator_turn(coordinator);
		is_broken = !children_are_well(options, &ended);
	}
	atomic_store(&control->step, control->step_count);
	for (uint64_t i = 0; i < options->processes; i++) {
		if (state.children[i] > 0)
			waitpid(state.children[i], NULL, 0);
	}
	free(state.children);
	return is_broken;
}

static int
run(const struct options *options, struct board *board)
{
	struct control *control = control_new(options);
	struct coordinator *coordinator = calloc(1, sizeof(*coordinator));
	bool is_broken;
	bool is_sound;

	if (!control || !coordinator) {
		fprintf(stderr, "parleyload: no memory\n");
		control_free(&control);
		free(coordinator);
		return EXIT_UNSOUND;
	}
	state.control = control;
	catch_signals();
	coordinator_init(coordinator, options, control, board);
	if (options->processes == 1)
		is_broken = run_alone(coordinator);
	else
		is_broken = run_with_children(coordinator);
	is_sound = report_write(coordinator, is_broken, stdout);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	free(coordinator);
	control_free(&control);
	return is_sound ? EXIT_SOUND : EXIT_UNSOUND;
}

/* The server's scoreboard, if asked for, and its processes. */
static int
find_server(struct options *options, struct board **board_out)
{
	char error[512];

	if (options->run_dir) {
		if (server_open(options->run_dir, board_out, error,
			sizeof(error)) != 0) {
			fprintf(stderr, "parleyload: %s\n", error);
			return EXIT_USAGE;
		}
		if (!options->server_pid)
			options->server_pid = (uint64_t)server_pid(*board_out);
	}
	if (options->server_pid && !proc_exists((pid_t)options->server_pid)) {
		fprintf(stderr, "parleyload: no process %llu (--server-pid)\n",
		    (unsigned long long)options->server_pid);
		return EXIT_USAGE;
	}
	return EXIT_SOUND;
}

static int
prepare_and_run(struct options *options)
{
	struct board *board = NULL;
	int status;

	if (options->prepare) {
		if (prepare_run(options) != 0)
			return EXIT_UNSOUND;
		if (!options->parleyctl)
			return EXIT_SOUND;
	}
	status = find_server(options, &board);
	if (status == EXIT_SOUND && raise_descriptor_limit(options) != 0)
		status = EXIT_UNSOUND;
	if (status == EXIT_SOUND)
		status = run(options, board);
	board_close(&board);
	return status;
}

int
main(int argc, char **argv)
{
	struct options options;
	char error[512];
	int status;

	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		options_print_help(stdout);
		return EXIT_SOUND;
	}
	if (argc == 2 &&
	    (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0)) {
		puts("parleyload " PACKAGE_VERSION);
		return EXIT_SOUND;
	}
	if (argc > 1 && strcmp(argv[1], "--compare") == 0)
		return compare_main(argc - 2, argv + 2);
	if (options_parse(&options, argc, argv, error, sizeof(error)) != 0) {
		fprintf(
		    stderr, "parleyload: %s\nTry parleyload --help.\n", error);
		options_fini(&options);
		return EXIT_USAGE;
	}
	status = prepare_and_run(&options);
	options_fini(&options);
	return status;
}
