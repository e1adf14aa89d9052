/*
 * directory_stage.h - a directory process with everything around it: board,
 * bus, store, and this process as a worker or the keeper.
 */
#ifndef UNIT_DIRECTORY_STAGE_H
#define UNIT_DIRECTORY_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/conf.h"
#include "directory/dir.h"
#include "shm/board.h"
#include "shm/bus.h"
#include "shm/records.h"
#include "shm/store.h"

#define WORKER_A    SLOT_WORKER_0
#define WORKER_B    (SLOT_WORKER_0 + 1)
#define DEADLINE_MS 20000 /* of the test, under sanitizers too */

struct stage {
	char dir[32];
	struct board *board;
	struct bus *bus;
	struct conf *conf;
	struct store *store; /* open while it is being filled */
	struct txn txn;
	pid_t pid; /* directory; 0: none */
};

/* A reply taken out of the ring. */
struct heard {
	struct record_dir_reply head;
	uint8_t tail[DIR_ANSWER_BYTES];
	size_t tail_len;
};

/** Two workers, an empty store that is open for filling. */
void stage_open(struct stage *stage);
/** Stops the directory if it runs; removes the folder. */
void stage_close(struct stage *stage);
/** Commit and close: nothing of it may be open over the fork. */
void stage_fill_end(struct stage *stage);
void stage_add_user(struct stage *stage, uint64_t id, const char *name,
    const char *hash, const char *profile);
void stage_add_contact(
    struct stage *stage, uint64_t user, uint64_t other, uint32_t flags);

/** Fork the directory, be WORKER_A. @param ops NULL: as configured */
void stage_start(struct stage *stage, const struct dir_ops *ops);
/** Wait for it to be up. */
void stage_wait_up(struct stage *stage);
/** SIGTERM; it must return 0. */
void stage_stop(struct stage *stage);
uint64_t stage_counter(struct stage *stage, enum counter_id id);

/** Put a record for the directory and ring. */
void stage_send(
    struct stage *stage, uint16_t type, const void *data, size_t len);
/** Next record for this process, of whatever type; fails after a deadline. */
void stage_next(struct stage *stage, int from, struct ring_record *out);
/** Next DIR_REPLY. */
void stage_hear(struct stage *stage, struct heard *heard);
/** Hear one reply and nothing but its rc for that number. */
int stage_hear_rc(struct stage *stage, uint64_t req);
/** Is there nothing to read at the moment? */
bool stage_is_silent(struct stage *stage);

void send_password(
    struct stage *stage, uint64_t req, const char *name, const char *password);
void send_user(
    struct stage *stage, uint64_t req, uint64_t asker, uint64_t user);
void send_users(struct stage *stage, uint64_t req, uint64_t asker,
    uint64_t cursor, uint32_t limit);
void send_update(struct stage *stage, uint64_t req, uint64_t user,
    const char *name, const char *profile);

#endif
