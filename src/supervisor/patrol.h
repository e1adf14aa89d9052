/*
 * patrol.h - the watchdog's round: looks at every process each turn.
 */
#ifndef SUPERVISOR_PATROL_H
#define SUPERVISOR_PATROL_H

#include <stdint.h>

struct child;
struct crew;

/** Look at all; abort, kill or report what does not beat. */
void patrol_tick(struct crew *crew, int64_t now_ms);
/** A process has died: the trace that it left, into the log. */
void patrol_log_trace(const struct crew *crew, const struct child *child);

#endif
