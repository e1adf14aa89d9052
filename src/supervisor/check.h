/*
 * check.h - what a configuration must satisfy beyond conf.def's ranges.
 */
#ifndef SUPERVISOR_CHECK_H
#define SUPERVISOR_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"
#include "supervisor/spawn.h"

/**
 * Before check_conf: the processes that know more about some settings than is
 * known here (check_fn).
 *
 * @param kinds  borrowed for good
 */
void check_use(const struct process_kind *kinds, size_t count);

/**
 * Start, reload and `parleyd -t` ask the same questions.
 *
 * @param is_background  the daemon leaves its folder: paths must be absolute
 * @param error          one line: the setting and what to do
 * @return               0 or ERR_BAD_REQUEST, ERR_IO (a key file)
 */
NODISCARD int check_conf(
    const struct conf *conf, bool is_background, char *error, size_t error_len);

#endif
