/*
 * server.h - what the server's scoreboard says: who it is, what it counts.
 */
#ifndef LOAD_SERVER_H
#define LOAD_SERVER_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "load/proc.h"

struct board;

/** Sums over all processes since the server began. */
struct server_counts {
	uint64_t messages; /* stored */
	uint64_t commits;
	uint64_t commit_us;
	uint64_t wakeups; /* eventfd writes to sleeping processes */
};

/**
 * Open the scoreboard of a running server.
 *
 * @param run_dir  the server's setting run_dir
 * @param error    one line: what is wrong, what to do
 * @return         0, ERR_NOT_FOUND (no server there), ERR_STALE (a server of
 *                 another version), ERR_IO, ERR_CORRUPT
 */
NODISCARD int server_open(const char *run_dir, struct board **board_out,
    char *error, size_t error_len);
/** Root of the process tree. */
pid_t server_pid(struct board *board);
/** Read the counters; wakeups go into the groups, too. */
void server_counts_take(struct board *board, struct proc_sample *sample,
    struct server_counts *counts_out);

#endif
