/*
 * main.c - parleyd: options, and the table of its processes.
 *
 * Role:    wires the process folders together; nothing else knows them all.
 * Process: becomes the supervisor.
 * Blocks:  on the configuration file; without -f until the daemon serves.
 * Trust:   the command line and the configuration are the operator's.
 * See:     man/parleyd.8, supervisor/supervisor.c.
 */
#include "config.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/log.h"
#include "console/console.h"
#include "directory/directory.h"
#include "holder/holder.h"
#include "keeper/keeper.h"
#include "net/tls_memory.h"
#include "supervisor/certs.h"
#include "supervisor/check.h"
#include "supervisor/daemon.h"
#include "supervisor/guardian.h"
#include "supervisor/probe.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"
#include "worker/worker.h"

#define DEFAULT_CONF PARLEY_SYSCONFDIR "/parley/parleyd.conf"
#define EXIT_USAGE   2

/* In the order of their start. */
static const struct process_kind kinds[] = {
    {.first_slot = SLOT_KEEPER,
	.last_slot = SLOT_KEEPER,
	.entry_fn = keeper_main,
	.is_realtime = true,
	.keeps_data_lock = true},
    {.first_slot = SLOT_CONSOLE,
	.last_slot = SLOT_CONSOLE,
	.entry_fn = console_main,
	.keeps_data_lock = true},
    {.first_slot = SLOT_DIRECTORY,
	.last_slot = SLOT_DIRECTORY,
	.entry_fn = directory_main,
	.check_fn = directory_check,
	.needs_store = true},
    {.first_slot = SLOT_HOLDER_0,
	.last_slot = BOARD_SLOT_END - 1,
	.entry_fn = holder_main},
    {.first_slot = SLOT_WORKER_0,
	.last_slot = SLOT_END - 1,
	.entry_fn = worker_main,
	.needs_store = true,
	.keeps_data_lock = true},
};

static void
print_usage(FILE *out)
{
	fputs("usage: parleyd [-f] [-c FILE] [-t | -T | -V | -h]\n"
	      "  -c FILE  configuration (" DEFAULT_CONF ")\n"
	      "  -f       stay in the foreground\n"
	      "  -t       check the configuration and exit\n"
	      "  -T       print the configuration with its defaults and exit\n"
	      "  -V       print the version and exit\n"
	      "  -h       print this and exit\n",
	    out);
}

struct options {
	const char *conf_path;
	bool is_foreground;
	int action; /* 0: run, else t, T, V, h, or one of below */
	/* between supervisors only (upgrade.h) */
	int handover_fd;
	const char *returned;
	/* from the guardian */
	bool is_guarded;
	int report_fd;
};

enum { ACTION_HANDOVER = 256, ACTION_PROBE, OPTION_RETURNED, OPTION_GUARDED };

static const struct option long_options[] = {
    {"guarded", required_argument, NULL, OPTION_GUARDED},
    {"handover", required_argument, NULL, ACTION_HANDOVER},
    {"probe", required_argument, NULL, ACTION_PROBE},
    {"returned", required_argument, NULL, OPTION_RETURNED},
    {NULL, 0, NULL, 0},
};

static bool
parse_options(int argc, char **argv, struct options *options)
{
	int c;

	options->conf_path = DEFAULT_CONF;
	while ((c = getopt_long(argc, argv, "c:ftTVh", long_options, NULL)) !=
	       -1) {
		switch (c) {
		case 'c':
			options->conf_path = optarg;
			break;
		case 'f':
			options->is_foreground = true;
			break;
		case 't':
		case 'T':
		case 'V':
		case 'h':
			options->action = c;
			break;
		case ACTION_HANDOVER:
		case ACTION_PROBE:
			options->action = c;
			options->handover_fd = atoi(optarg);
			break;
		case OPTION_GUARDED:
			options->is_guarded = true;
			options->report_fd = atoi(optarg);
			break;
		case OPTION_RETURNED:
			options->returned = optarg;
			break;
		default:
			return false;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "parleyd: unexpected argument \"%s\"\n",
		    argv[optind]);
		return false;
	}
	return true;
}

/* A background daemon leaves its folder: remember where the file is. */
static const char *
absolute_path(const char *path, char buf[PATH_MAX])
{
	return realpath(path, buf) != NULL ? buf : path;
}

static int
run(const struct options *options, struct conf *take_conf)
{
	char path[PATH_MAX];
	struct supervisor_options supervisor = {
	    .conf_path = absolute_path(options->conf_path, path),
	    .kinds = kinds,
	    .kind_count = sizeof(kinds) / sizeof(kinds[0]),
	    .is_background = !options->is_foreground,
	    .report_fd = -1,
	};
	bool may_wait;
	int rc;

	umask(027);
	if (options->is_guarded && options->report_fd != -1) {
		supervisor.report_fd = options->report_fd;
		(void)fcntl(supervisor.report_fd, F_SETFD, FD_CLOEXEC);
	} else if (supervisor.is_background && !options->is_guarded &&
		   options->action == 0) {
		supervisor.report_fd = daemon_detach();
		if (take_conf->supervisor_guardian)
			return guardian_run(upgrade_program(),
			    supervisor.conf_path, take_conf,
			    supervisor.report_fd);
	}
	/* In the place of one that served: with or without its log. */
	may_wait = upgrade_legacy() != NULL ||
		   (options->is_guarded && options->report_fd == -1);
	rc = supervisor_open_log(take_conf, supervisor.is_background, may_wait);
	if (rc != 0) {
		char error[PATH_MAX + 64];

		snprintf(error, sizeof(error), "cannot open the log %s: %s",
		    take_conf->log_target, err_text(rc));
		upgrade_give_back(error);
		if (supervisor.report_fd == -1)
			fprintf(stderr, "parleyd: %s\n", error);
		daemon_report(&supervisor.report_fd, error);
		conf_free(&take_conf);
		return EXIT_FAILURE;
	}
	return supervisor_run(&supervisor, take_conf);
}

/* In the place of another program: its configuration, or its last good one. */
static int
take_over(const struct options *options)
{
	const struct handover *legacy;
	struct conf *conf = NULL;
	char error[512] = "";
	char dump[32];
	int rc;

	if (upgrade_guard(options->handover_fd, options->conf_path,
		!options->is_foreground, options->returned) != 0)
		return EXIT_FAILURE;
	legacy = upgrade_legacy();
	snprintf(dump, sizeof(dump), "/proc/self/fd/%d", legacy->conf_fd);
	if (options->returned != NULL)
		rc = conf_load_dump(dump, &conf, error, sizeof(error));
	else
		rc = conf_load(options->conf_path, &conf, error, sizeof(error));
	if (rc == 0 && options->returned == NULL)
		rc = check_conf(
		    conf, !options->is_foreground, error, sizeof(error));
	if (rc == 0 && options->returned == NULL)
		rc =
		    handover_check_settings(legacy, conf, error, sizeof(error));
	if (rc == 0)
		return run(options, conf);
	upgrade_give_back(error);
	fprintf(stderr, "parleyd: %s\n", error);
	conf_free(&conf);
	return EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
	struct options options = {0};
	struct conf *conf = NULL;
	char error[512] = "";
	int rc;

	tls_memory_init();
	upgrade_remember_program();
	check_use(kinds, sizeof(kinds) / sizeof(kinds[0]));
	if (!parse_options(argc, argv, &options)) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (options.action == 'h') {
		print_usage(stdout);
		return EXIT_SUCCESS;
	}
	if (options.action == 'V') {
		puts("parleyd " PACKAGE_VERSION);
		return EXIT_SUCCESS;
	}
	if (options.action == ACTION_HANDOVER)
		return take_over(&options);
	if (options.action == ACTION_PROBE)
		return probe_run(options.handover_fd, options.conf_path,
		    !options.is_foreground);
	rc = conf_load(options.conf_path, &conf, error, sizeof(error));
	if (rc == 0)
		rc = check_conf(conf,
		    !options.is_foreground && options.action == 0, error,
		    sizeof(error));
	/* at the start an expired certificate is no reason to stay down */
	if (rc == 0 && options.action == 't')
		rc = certs_read(conf, true, NULL, error, sizeof(error));
	if (rc != 0) {
		fprintf(stderr, "parleyd: %s\n", error);
		conf_free(&conf);
		return EXIT_FAILURE;
	}
	if (options.action == 0)
		return run(&options, conf);
	if (options.action == 'T')
		conf_print(conf, stdout);
	else
		printf("configuration %s is good\n", options.conf_path);
	conf_free(&conf);
	return EXIT_SUCCESS;
}
