/*
 * trace.h - where a process was when it crashed.
 */
#ifndef SHM_TRACE_H
#define SHM_TRACE_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/layout.h"

#define TRACE_TEXT_MAX 1600

/**
 * From now on a SIGABRT leaves the return addresses of this process in its
 * slot before it kills; no message body, no content of memory.
 *
 * @param trace   this process' own, kept
 * @param others  likewise for SIGSEGV, SIGBUS, SIGILL and SIGFPE; not where a
 *                sanitizer has its own handlers
 */
void trace_arm(struct board_trace *trace, bool others);

/**
 * What a process that is dead has left.
 *
 * @param pid       the process
 * @param text_out  "parleyd+0x1a2b libc.so.6+0x3c4d ...", innermost first:
 *                  offsets for addr2line -e FILE
 * @return          the signal, or 0: it has left nothing
 */
int trace_describe(
    const struct board_trace *trace, int pid, char text_out[TRACE_TEXT_MAX]);

#endif
