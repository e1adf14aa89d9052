/*
 * memory.h - replaces a process whose memory stays above its limit.
 */
#ifndef SUPERVISOR_MEMORY_H
#define SUPERVISOR_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct crew;

/**
 * Look at all when it is time. At most one process is on its way down or up
 * at any moment: the others wait, and so does all while a reload is rolling.
 *
 * @param may_replace  false: look only
 */
void memory_tick(struct crew *crew, int64_t now_ms, bool may_replace);

#endif
