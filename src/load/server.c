/*
 * server.c - what the server's scoreboard says.
 *
 * Role:    finds the server's processes and reads its counters without
 *          asking it for anything: a request would be part of the load.
 * Process: the coordinator, outside of what is measured where possible.
 * Blocks:  opening the file.
 * Trust:   numbers are taken as they stand; a process that was replaced
 *          meanwhile goes on counting in the same slot.
 * See:     shm/board.h, proc.c.
 */
#include "config.h"

#include "load/server.h"

#include <stdio.h>

#include "shm/board.h"

int
server_open(const char *run_dir, struct board **board_out, char *error,
    size_t error_len)
{
	int rc = board_open(run_dir, board_out);

	if (rc == ERR_STALE)
		snprintf(error, error_len,
		    "%s/board: the server is of another version", run_dir);
	else if (rc != 0)
		snprintf(error, error_len, "%s/board: %s (--run-dir)", run_dir,
		    err_text(rc));
	return rc;
}

pid_t
server_pid(struct board *board)
{
	return atomic_load(&board_header(board)->supervisor_pid);
}

static void
add_counts(struct board *board, int slot, struct proc_sample *sample,
    struct server_counts *counts)
{
	const struct count_block *count = &board_slot(board, slot)->count;
	const struct histogram *commit =
	    &count->histograms[HISTOGRAM_commit_us];
	uint64_t wakeups = atomic_load(&count->counters[COUNTER_wakeups]);
	char name_buf[24];
	struct proc_group *group =
	    proc_group_find(sample, board_slot_name(board, slot, name_buf));

	counts->messages += atomic_load(&count->counters[COUNTER_messages]);
	counts->commits += atomic_load(&count->counters[COUNTER_commits]);
	counts->commit_us += atomic_load(&commit->sum_us);
	counts->wakeups += wakeups;
	if (group)
		group->wakeups += wakeups;
}

void
server_counts_take(struct board *board, struct proc_sample *sample,
    struct server_counts *counts_out)
{
	*counts_out = (struct server_counts){0};
	for (int slot = 0; slot < board_slot_end(board); slot++) {
		if (board_slot(board, slot) != NULL)
			add_counts(board, slot, sample, counts_out);
	}
}
