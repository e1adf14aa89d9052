/*
 * reload.h - a new configuration: what of it applies, and handing it to the
 * processes one at a time.
 */
#ifndef SUPERVISOR_RELOAD_H
#define SUPERVISOR_RELOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "supervisor/crew.h"

/**
 * Read and check path. Settings that need a restart keep their old value (it
 * moves from old to new, old is good for conf_free only) and are named in the
 * log, as are those that change.
 *
 * @param error  one line, logged already
 * @return       the new configuration, or NULL: old is untouched
 */
struct conf *reload_read(const char *path, bool is_background, struct conf *old,
    char *error, size_t error_len);

/**
 * One look at a rolling replacement: stops the next process that runs with an
 * old configuration when nothing else is on its way down or up. Workers
 * first, the keeper last.
 *
 * @return true: there is more to do, call again
 */
bool reload_step(struct crew *crew, int64_t now_ms);

#endif
