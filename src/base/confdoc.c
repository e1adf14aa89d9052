/*
 * confdoc.c - writes what is generated from conf.def.
 *
 * Role:    at build time: the sample configuration and parleyd.conf(5).
 * Process: none of the daemon's; runs in make and is not installed.
 * Blocks:  on its output.
 * Trust:   its input is compiled in.
 * See:     conf.h (the two printers), etc/Makefile.inc, man/Makefile.inc.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "sample") == 0) {
		conf_print_sample(stdout);
	} else if (argc == 2 && strcmp(argv[1], "manual") == 0) {
		conf_print_manual(stdout);
	} else {
		fprintf(stderr, "usage: confdoc sample|manual\n");
		return 2;
	}
	/* A full disk must fail the build, not leave half a manual. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("confdoc");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
