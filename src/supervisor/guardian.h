/*
 * guardian.h - starts the supervisor again when it dies: what an init that
 * does not watch its daemons leaves to be done.
 */
#ifndef SUPERVISOR_GUARDIAN_H
#define SUPERVISOR_GUARDIAN_H

#include "base/conf.h"

/**
 * In the background, after daemon_detach: run supervisors until one of them
 * ends in order.
 *
 * @param program         file to be executed; a new one is taken when it is
 *                        needed
 * @param conf_path       absolute
 * @param take_conf       becomes the guardian's
 * @param take_report_fd  of daemon_detach, for the first supervisor
 * @return                exit status of the last one
 */
int guardian_run(const char *program, const char *conf_path,
    struct conf *take_conf, int take_report_fd);

#endif
