/*
 * board.h - the scoreboard: a slot per process, readable by anybody.
 *
 * A file in the run folder (RUN_DIR/board), mapped by every process. Each
 * field has one writer, named in layout.h: the supervisor (pid, generation,
 * state, restarts, started_at) or the process itself (heartbeat, sleeping,
 * counters). parleyctl reads it even when the daemon is dead.
 */
#ifndef SHM_BOARD_H
#define SHM_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/layout.h"

struct board; /* mapping */

/** Supervisor: make (or remake) the file, mode 0644, header filled in, slots
 *  zero. Readers of an older file keep that one. @return 0 or ERR_IO, logged */
NODISCARD int board_create(
    const char *run_dir, int worker_count, struct board **board_out);
/**
 * Supervisor, in the place of board_create: the board of a program that was
 * replaced by this one.
 *
 * @param take_fd  taken on success only
 * @param boot_id  the header must have it
 * @return         0, ERR_IO, ERR_STALE (another layout version), ERR_CORRUPT
 */
NODISCARD int board_adopt(
    int take_fd, uint64_t boot_id, struct board **board_out);
/** Of board_create and board_adopt, else -1; stays the board's. */
int board_fd(const struct board *board);
/** Supervisor: from now on it is this version that runs. */
void board_set_version(struct board *board, const char *version);
/** parleyctl, console: map read-only (a write through it is a SIGSEGV).
 *  @return 0, ERR_IO, ERR_NOT_FOUND, ERR_STALE (another layout version),
 *  ERR_CORRUPT */
NODISCARD int board_open(const char *run_dir, struct board **board_out);
void board_close(struct board **board);

struct board_header *board_header(struct board *board);
/** Slot of a process (enum slot_id, or SLOT_WORKER_0 + n or SLOT_HOLDER_0 + n);
 *  NULL: none such. */
struct board_slot *board_slot(struct board *board, int slot);
/** Behind the last one; between workers and holders there may be a gap. */
int board_slot_end(const struct board *board);
/** "supervisor", "keeper", "worker-3"; NULL for a slot that is not used. */
const char *board_slot_name(const struct board *board, int slot, char buf[24]);
/** What a process waits for: "disk", "processor", "debugger"; "" for nothing */
const char *board_trouble_name(uint32_t trouble);
/** running, starting, stopping, errored, dead ..., "unknown"; never NULL */
const char *board_state_name(uint32_t state);

#endif
