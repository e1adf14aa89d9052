/*
 * hold.h - connections that outlive their worker.
 *
 * Beside each worker runs a holder, a process that keeps a duplicate of every
 * client's socket and reads none of them. What a session needs to go on lies
 * in a table of the worker in shared memory, a row per connection, with a mark
 * that says whether the connection is at a boundary: nothing read from it that
 * is not in a ring, no request unanswered, nothing of the output in part. When
 * the worker is gone its successor asks the holder for the sockets (HOLD_TAKE)
 * and goes on with every one that was at a boundary.
 *
 *     worker N --- HOLD_PUT, HOLD_DROP, HOLD_TAKE ---> holder N
 *              <--------- HOLD_GIVE, HOLD_DONE --------
 *
 * over a socketpair of which the supervisor keeps both ends: what the dead
 * worker has said is read before what its successor says.
 *
 * A row and a socket that do not belong together would show one person's
 * messages to another: serial and SO_COOKIE must fit.
 */
#ifndef SHM_HOLD_H
#define SHM_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/layout.h"

struct hold;

/* Rows of one worker; connections beyond are not held. Sparse memory: a row
 * that was never used costs nothing. */
#define HOLD_ROWS_MAX ((uint32_t)1 << 18)

/* ---- the table ---- */

enum hold_mark {
	HOLD_FREE,
	HOLD_SETTLED, /* at a boundary: a successor goes on */
	HOLD_BUSY,    /* input or a request under way, the output is whole */
	HOLD_WRITING, /* a write was begun: perhaps half a frame is out */
};

/* All that a successor needs of a session; see worker/session.h. It may be of
 * another program: a change here raises LAYOUT_VERSION, too. */
struct hold_session {
	uint64_t cookie; /* SO_COOKIE of its socket */
	uint64_t user;
	uint64_t session;
	uint64_t key_id; /* that has signed its token; 0: password */
	uint64_t sent;
	uint64_t presence_upto;    /* shm/presence.h */
	int64_t expires_at_ms;     /* wall clock; 0: never */
	int64_t away_at_ms;        /* monotonic; 0: away */
	uint32_t unacked;          /* sent - acked */
	uint32_t window_back;      /* sent - window_base */
	uint32_t event_back;       /* sent - last_event */
	uint32_t ping_interval_ms; /* that it was told at the login */
	uint8_t peer_address[16];  /* struct conn_peer */
	uint16_t peer_port;
	uint8_t peer_family;
	uint8_t deflate_bits;
	uint8_t status; /* enum user_status */
	uint8_t is_auto_away;
	uint8_t reserved[2]; /* 0 */
};

struct hold_row {
	_Atomic uint32_t mark; /* enum hold_mark; its worker */
	uint32_t serial;       /* of this use of the row, from 1; its worker */
	uint64_t checksum;     /* over serial and session; its worker */
	struct hold_session session; /* its worker */
} __attribute__((aligned(CACHE_LINE)));

/** This worker's table (after hold_become_worker); HOLD_ROWS_MAX rows. */
struct hold_row *hold_rows(struct hold *hold);
/** How many rows from the first on have ever been in use; in shared memory, so
 *  that a successor knows. */
_Atomic uint32_t *hold_rows_used(struct hold *hold);
/** Successors in a row that have crashed; in shared memory. */
_Atomic uint32_t *hold_crashes(struct hold *hold);
/** Seal a row before it is marked HOLD_SETTLED. */
void hold_row_seal(struct hold_row *row);
/**
 * Copy a row that a predecessor has left.
 *
 * @return 0; ERR_STALE: not settled or of another serial, mark_out says how it
 *         was left; ERR_CORRUPT: its checksum is wrong
 */
NODISCARD int hold_row_read(const struct hold_row *row, uint32_t serial,
    struct hold_session *out, enum hold_mark *mark_out);

/* ---- the messages ---- */

enum hold_message_type {
	HOLD_PUT = 1, /* keep these; a descriptor for each item */
	HOLD_DROP,    /* close these */
	HOLD_TAKE,    /* generation asks for all */
	HOLD_GIVE,    /* to generation: a descriptor for each item */
	HOLD_DONE,    /* to generation: that was all */
};

/* Descriptors of one message; the kernel's limit is 253 (SCM_MAX_FD). */
#define HOLD_ITEMS_MAX 250

struct hold_item {
	uint32_t row;
	uint32_t serial;
};

struct hold_message {
	uint32_t type;       /* enum hold_message_type */
	uint32_t generation; /* of the worker */
	uint32_t count;      /* items that follow */
	uint32_t reserved;   /* 0 */
	struct hold_item items[HOLD_ITEMS_MAX];
};

/**
 * Send a message, without waiting.
 *
 * @param fds  message->count descriptors, which stay the caller's; NULL: none
 * @return     0, ERR_AGAIN (no room now, or too many descriptors under way:
 *             try again later), ERR_IO
 */
NODISCARD int hold_send(
    int fd, const struct hold_message *message, const int *fds);
/**
 * Next message, without waiting.
 *
 * @param fds_out  of HOLD_PUT and HOLD_GIVE: count descriptors, the caller's
 *                 to close; -1 where this process had no room for one
 * @return         0, ERR_AGAIN (none), ERR_CORRUPT (no sound message; its
 *                 descriptors are closed), ERR_IO
 */
NODISCARD int hold_receive(
    int fd, struct hold_message *message_out, int fds_out[HOLD_ITEMS_MAX]);

/* ---- who has it ---- */

/* Descriptors of it all, for a successor of the supervisor; -1: none. */
struct hold_fds {
	int32_t segment;
	int32_t worker_ends[WORKER_MAX];
	int32_t holder_ends[WORKER_MAX];
};

/** Supervisor, before the first fork. @return 0 or ERR_IO */
NODISCARD int hold_create(int worker_count, struct hold **hold_out);
/** Supervisor, in the place of hold_create: what a program that was replaced
 *  by this one has left. Taken on success only. @return 0, ERR_STALE, ERR_IO */
NODISCARD int hold_adopt(
    int worker_count, const struct hold_fds *take_fds, struct hold **hold_out);
/** They stay its own. */
void hold_describe(const struct hold *hold, struct hold_fds *out);
void hold_free(struct hold **hold);
/** Child, after fork: as worker n or its holder; keeps that end only. */
void hold_become_worker(struct hold *hold, int worker);
void hold_become_holder(struct hold *hold, int worker);
/** The end that is kept: non-blocking. */
int hold_fd(const struct hold *hold);

#endif
