/*
 * supervisor.h - binds, creates, forks, restarts, stops and reloads in order.
 */
#ifndef SUPERVISOR_SUPERVISOR_H
#define SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "supervisor/spawn.h"

struct supervisor_options {
	const char *conf_path; /* read again on SIGHUP; absolute or NULL */
	const struct process_kind *kinds;
	size_t kind_count;
	bool is_background;
	int report_fd; /* of daemon_detach, or -1 */
};

/**
 * Open the log as configured; stderr of a daemon is syslog.
 *
 * @param may_wait  a file that cannot be opened is no error: clients are to be
 *                  served first, and the file comes when it can
 * @return          0, ERR_*
 */
NODISCARD int supervisor_open_log(
    const struct conf *conf, bool is_background, bool may_wait);
/**
 * Run the server until it is told to stop.
 *
 * @param take_conf  becomes the supervisor's
 * @return           exit status
 */
int supervisor_run(
    const struct supervisor_options *options, struct conf *take_conf);

#endif
