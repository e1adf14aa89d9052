/*
 * keeper_stage.h - a keeper in a process of its own with a real store and
 * real rings; the test plays the workers and the console.
 */
#ifndef T_UNIT_KEEPER_STAGE_H
#define T_UNIT_KEEPER_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/conf.h"
#include "shm/bus.h"
#include "shm/records.h"
#include "shm/store.h"

#define WORKER_A SLOT_WORKER_0
#define WORKER_B (SLOT_WORKER_0 + 1)

/* A record that arrived and was not asked for yet. */
struct got {
	struct got *next;
	int slot; /* who it came to */
	uint16_t type;
	uint32_t to_gen;
	size_t len;
	uint8_t data[] __attribute__((aligned(8)));
};

struct stage {
	char dir[40];
	struct conf *conf;
	struct board *board;
	struct bus *bus;
	pid_t keeper; /* 0: not running */
	int self;     /* slot that the test plays */
	struct got *first;
	struct got **end;
	struct got *taken[RECORD_END]; /* what stage_take gave last */
	uint64_t req;                  /* last one given out */
	uint8_t secret[16];            /* of the store */
	struct store *store;           /* between stage_store_open and _close */
	struct txn txn;
};

/** Board, bus, folders; users 1..10, everybody in everybody's list. The keeper
 *  runs, the test is worker A. */
void stage_open(struct stage *stage);
void stage_close(struct stage *stage);
void stage_keeper_start(struct stage *stage);
/** SIGKILL, reaped. */
void stage_keeper_kill(struct stage *stage);
/** SIGTERM; it must leave with 0. */
void stage_keeper_stop(struct stage *stage);
/** Play another slot from now on; SLOT_CONSOLE or a worker. */
void stage_play(struct stage *stage, int slot);
/** A worker of the next generation; says hello. */
void stage_worker_restart(struct stage *stage, int slot);

/** The store, only while no keeper runs: ends the keeper first. */
void stage_store_open(struct stage *stage, bool is_writer);
/** Commits if it was opened for writing. */
void stage_store_close(struct stage *stage);

/** Put and publish. */
void stage_put(struct stage *stage, uint16_t type, const void *record,
    size_t len, const void *tail, size_t tail_len);
/** Read what is there; waits up to timeout_ms for something. */
void stage_pump(struct stage *stage, int timeout_ms);
/** The next record of a type for the slot played; fails the test after 10 s.
 *  Valid until the next stage_take of that type. */
const struct got *stage_take(struct stage *stage, uint16_t type);
/** The keeper has dealt with all that was put: what it had to say is here. */
void stage_barrier(struct stage *stage);
/** After a barrier: records of a type that nobody has taken. */
size_t stage_count(const struct stage *stage, uint16_t type);
void stage_forget(struct stage *stage);

struct letter {
	uint64_t from;
	uint64_t session;
	uint64_t to[8];
	uint32_t to_count;
	uint64_t number; /* names it: client message id and body */
	uint64_t request_hash;
	uint64_t reply_to;
};

/** @return req */
uint64_t stage_send(struct stage *stage, const struct letter *letter);
const struct record_send_reply *stage_sent(struct stage *stage);
/** Send and wait. */
const struct record_send_reply *stage_send_wait(
    struct stage *stage, const struct letter *letter);

struct login {
	uint64_t user;
	uint64_t session;
	uint64_t device;
	uint64_t last_seq;
	uint32_t flags;
	enum user_status status; /* 0: online */
	const char *name;
};

/** @return req */
uint64_t stage_put_login(struct stage *stage, const struct login *login);
/** Put and wait. */
struct record_login_reply stage_login(
    struct stage *stage, const struct login *login);
/** A request with a plain reply. @return its rc */
int stage_ask(struct stage *stage, uint16_t type, void *record, size_t len);
int stage_end_session(
    struct stage *stage, uint64_t user, uint64_t session, uint64_t flags);
void stage_ack(
    struct stage *stage, uint64_t user, uint64_t session, uint64_t seq);

/** The body that stage_send gave to a message, as a number. */
uint64_t stage_number(const void *body, size_t len);
const struct deliver_target *deliver_targets(
    const struct record_deliver *deliver);
const uint8_t *deliver_body(const struct record_deliver *deliver);

#endif
