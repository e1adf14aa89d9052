/*
 * daemon.h - into the background, and only once: detaching, pid file, lock.
 */
#ifndef SUPERVISOR_DAEMON_H
#define SUPERVISOR_DAEMON_H

#include <stddef.h>

#include "base/err.h"

/**
 * Go into the background. The caller's process waits until daemon_report and
 * exits with its verdict; only the daemon returns from here.
 *
 * @return descriptor for daemon_report
 */
int daemon_detach(void);
/**
 * Tell the waiting process how the start went, once.
 *
 * @param report_fd  cleared to -1; -1: nobody waits
 * @param failure    one line for its stderr, NULL: the server serves
 */
void daemon_report(int *report_fd, const char *failure);

/**
 * RUN_DIR/parleyd.pid with a lock on it for the life of this process.
 *
 * @param error  one line: who holds it
 * @return       descriptor, ERR_CONFLICT (another parleyd), ERR_IO
 */
int daemon_open_pid_file(const char *run_dir, char *error, size_t error_len);
void daemon_remove_pid_file(const char *run_dir);

#endif
