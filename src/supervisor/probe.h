/*
 * probe.h - parleyd --probe: could this program take over from that one?
 */
#ifndef SUPERVISOR_PROBE_H
#define SUPERVISOR_PROBE_H

#include <stdbool.h>

#define PROBE_GOOD     "parleyd-probe: good: "
#define PROBE_BAD      "parleyd-probe: refused: "
#define PROBE_TEXT_MAX 256

/**
 * What a probe has printed; it may be a program of any kind.
 *
 * @param text  what it says of itself, or why not
 * @return      NULL: it can take over; else text
 */
const char *probe_verdict(const char *output, char text[PROBE_TEXT_MAX]);
/**
 * Run by the supervisor of a running server, in a child. Takes over on trial,
 * without touching anything, and prints the verdict to stdout.
 *
 * @return exit status
 */
int probe_run(int handover_fd, const char *conf_path, bool is_background);

#endif
