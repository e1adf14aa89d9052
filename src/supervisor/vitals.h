/*
 * vitals.h - what the kernel says of a process: its state, time and memory.
 */
#ifndef SUPERVISOR_VITALS_H
#define SUPERVISOR_VITALS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Of the main thread, which is the one that beats. */
struct vitals {
	char state;       /* as in /proc/PID/stat: R S D T t Z ... */
	int64_t cpu_ms;   /* has run for so long */
	int64_t delay_ms; /* was ready to run, but had to wait; -1: unknown */
};

/**
 * @return 0, or ERR_NOT_FOUND: no such process, or /proc does not show it
 */
NODISCARD int vitals_read(pid_t pid, struct vitals *vitals_out);

/**
 * Memory that would be free if the process ended: anonymous pages in RAM and
 * in swap. Pages of the store and of the rings, which it shares with others
 * or which the kernel can drop, are not counted.
 *
 * @return bytes, or -1: unknown
 */
int64_t vitals_private_bytes(pid_t pid);

/** The two parsers, for tests. @return 0 or ERR_BAD_REQUEST */
NODISCARD int vitals_parse_stat(const char *text, struct vitals *vitals_out);
/** @return kB of a line "name: 123 kB" of /proc/PID/status, -1: none */
int64_t vitals_parse_kb(const char *text, const char *name);

#endif
