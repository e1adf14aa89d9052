/*
 * rowlayout.h - what the parts of t/bench/rowlayout share.
 */
#ifndef T_BENCH_ROWLAYOUT_H
#define T_BENCH_ROWLAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/ids.h"
#include "shm/outbox.h"
#include "shm/ring.h"
#include "shm/store.h"

#define BATCH_MAX   4096
#define WRITERS_MAX 8
#define BODY_BYTES  300
#define PEERS       2 /* conversations per user */

/* Rows left out, or done otherwise. */
enum option {
	NO_SENT = 1,
	NO_CONTACT = 2,
	NO_INBOX = 4,
	NO_HEAD = 8, /* userhead of the recipient and of who acknowledges */
	NO_CONV = 16,
	NO_DELIVERED = 32, /* conv is not written when acknowledged */
	NO_ACK = 64,
	NO_META = 128,
	LAZY_TRIM = 256, /* inbox deleted 16 events at a time */
	NO_LOG = 512,
	/* not in the figures of doc/decisions/001 */
	OUTBOX = 1024,      /* an outbox that its consumer keeps short */
	OUTBOX_ROWS = 2048, /* ... with a row for each entry */
	OUTBOX_KEPT = 4096, /* ... that nobody drains */
};

#define OUTBOX_LAG 32 /* batches that a consumer is behind */

struct letter { /* in the ring */
	uint64_t from;
	uint64_t to;
	uint8_t hash[16];
	uint64_t request_hash;
	char body[BODY_BYTES];
};

struct ack {
	uint64_t user;
	uint64_t seq;
};

struct bench {
	const char *folder;
	bool is_naive;
	unsigned options;
	uint64_t users;
	unsigned sent_rows; /* laid in per device before */
	int writers;
	unsigned batch;
	int seconds;
	uint64_t seed;

	struct store *store;
	struct txn txn;
	struct ring rings[WRITERS_MAX];
	struct ring_reader readers[WRITERS_MAX];
	pid_t pids[WRITERS_MAX];
	int eventfds[WRITERS_MAX]; /* rung when a ring has room again */
	struct meta_rings meta;
	uint64_t last_id;
	struct ack acks[BATCH_MAX];
	size_t ack_count;
	struct outbox outbox;
	uint64_t outbox_heads[OUTBOX_LAG]; /* at the end of the last batches */
	uint64_t messages;
	size_t commits;
	uint32_t *commit_us;
};

/** Ends the program on any error. */
void bench_check(int rc, const char *what);
uint64_t bench_peer(uint64_t user, unsigned k, uint64_t users);

/* rowlayout_real.c: the layout of store_schema.h */
void real_send(struct bench *bench, const struct letter *letter);
void real_ack(struct bench *bench, const struct ack *ack);
/** After a begin; before a commit, and after it. */
void real_outbox_begin(struct bench *bench);
void real_outbox_end(struct bench *bench);
void real_lay_in(struct bench *bench, uint64_t user);
/* rowlayout_naive.c: conversation and number, user and seq, random hashes */
void naive_send(struct bench *bench, const struct letter *letter);
void naive_ack(struct bench *bench, const struct ack *ack);
void naive_lay_in(struct bench *bench, uint64_t user);
bool naive_is_new(struct bench *bench);

#endif
