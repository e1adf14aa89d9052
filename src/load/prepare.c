/*
 * prepare.c - the parleyctl commands that make users and contacts.
 *
 * Role:    prints them, or runs them before the load begins.
 * Process: parleyload, before any connection.
 * Blocks:  while a command runs.
 * Trust:   --parleyctl is a command line of the person at the terminal and
 *          goes through the shell as typed.
 * See:     main.c, man/parleyload.1.
 */
#include "load/prepare.h"

#include <stdlib.h>
#include <sys/wait.h>

#include "base/buf.h"

static int
run_or_print(const struct options *options, const char *verb)
{
	struct buf line = {0};
	int status;
	int rc = 0;

	buf_printf(&line, "%s %s",
	    options->parleyctl ? options->parleyctl : "parleyctl", verb);
	buf_add_char(&line, '\0');
	if (!options->parleyctl) {
		puts(line.data);
		goto out;
	}
	fflush(NULL);
	status = system(line.data);
	if (status == -1 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "parleyload: failed: %s\n", line.data);
		rc = ERR_IO;
	}
out:
	buf_fini(&line);
	return rc;
}

/* In a circle, each with the half before and behind it: load/watch.h. */
static int
befriend_circle(const struct options *options)
{
	unsigned long long first = options->first_user;
	unsigned long long count = options->count;
	char verb[128];
	int rc = 0;

	for (uint64_t d = 1; rc == 0 && d <= options->contacts / 2; d++) {
		unsigned long long n = d;

		snprintf(verb, sizeof(verb),
		    "contact add --pairs %llu %llu %llu", first, count - n, n);
		rc = run_or_print(options, verb);
		snprintf(verb, sizeof(verb),
		    "contact add --pairs %llu %llu %llu", first, n, count - n);
		if (rc == 0)
			rc = run_or_print(options, verb);
	}
	return rc;
}

int
prepare_run(const struct options *options)
{
	bool is_paired = options_is_paired(options);
	unsigned long long first = options->first_user;
	unsigned long long count = options->count;
	unsigned long long last =
	    first + count * options_users_per(options) - 1;
	char verb[128];
	int rc;

	snprintf(verb, sizeof(verb), "user add --range %llu-%llu", first, last);
	rc = run_or_print(options, verb);
	if (rc == 0 && options->scenario == SCENARIO_PRESENCE)
		return befriend_circle(options);
	if (rc != 0 || !is_paired)
		return rc;
	/* pair i is FIRST+i and FIRST+COUNT+i, i from 0 */
	snprintf(
	    verb, sizeof(verb), "contact add --pairs %llu %llu", first, count);
	return run_or_print(options, verb);
}
