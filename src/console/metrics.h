/*
 * metrics.h - the scoreboard in the text format of Prometheus 0.0.4.
 */
#ifndef CONSOLE_METRICS_H
#define CONSOLE_METRICS_H

#include "base/buf.h"
#include "shm/board.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/** Append every metric of every process. */
void metrics_write(struct buf *out, struct board *board);

#endif
