/*
 * rowlayout_naive.c - the layout one would think of first, for comparison.
 *
 * Role:    messages by conversation and number, events by user and seq, hashes
 *          of client message ids in one random tree; in trees of the same
 *          store that have no flags. It keeps fewer facts than the real one:
 *          no members, no unread counts, no marks, no checksums.
 * Process: the writer of t/bench/rowlayout.
 * Blocks:  on cold pages.
 * Trust:   none needed.
 * See:     t/bench/rowlayout.c, doc/decisions/001-row-layout.md.
 */
#include "config.h"

#include "t/bench/rowlayout.h"

#include <string.h>

#include "base/log.h"

/* Trees without flags, used for something else here. */
#define NAIVE_LOG    DBI_conv   /* conversation, number */
#define NAIVE_INBOX  DBI_inbox  /* user, seq */
#define NAIVE_DEDUPE DBI_device /* hash: random, grows with history */
#define NAIVE_COUNT  DBI_sent   /* conversation or user: last number */

static uint64_t
naive_count(struct bench *bench, const void *key, size_t len)
{
	struct blob value;
	uint64_t n = 0;
	int rc;

	rc = txn_get(&bench->txn, NAIVE_COUNT, key, len, &value);
	if (rc == 0)
		memcpy(&n, value.data, sizeof(n));
	n++;
	bench_check(txn_put(&bench->txn, NAIVE_COUNT, key, len, &n, sizeof(n)),
	    "count");
	return n;
}

void
naive_send(struct bench *bench, const struct letter *letter)
{
	bool is_up = letter->from < letter->to;
	struct txn *txn = &bench->txn;
	uint8_t log_key[24];
	uint8_t inbox_key[16];
	struct blob value;
	uint64_t seq;

	if (txn_get(txn, NAIVE_DEDUPE, letter->hash, sizeof(letter->hash),
		&value) != ERR_NOT_FOUND)
		fatal("a message came twice");
	key_u64(log_key, is_up ? letter->from : letter->to);
	key_u64(log_key + 8, is_up ? letter->to : letter->from);
	key_u64(log_key + 16, naive_count(bench, log_key, 16));
	bench_check(txn_put(txn, NAIVE_LOG, log_key, sizeof(log_key), letter,
			sizeof(*letter)),
	    "log");
	key_u64(inbox_key, letter->to);
	seq = naive_count(bench, inbox_key, 8);
	key_u64(inbox_key + 8, seq);
	bench_check(txn_put(txn, NAIVE_INBOX, inbox_key, sizeof(inbox_key),
			log_key, sizeof(log_key)),
	    "inbox");
	bench_check(txn_put(txn, NAIVE_DEDUPE, letter->hash,
			sizeof(letter->hash), log_key, sizeof(log_key)),
	    "dedupe");
	bench->acks[bench->ack_count++] = (struct ack){letter->to, seq};
}

void
naive_ack(struct bench *bench, const struct ack *ack)
{
	uint8_t key[16];
	int rc;

	key_u64(key, ack->user);
	key_u64(key + 8, ack->seq);
	rc = txn_del(&bench->txn, NAIVE_INBOX, key, sizeof(key));
	if (rc != ERR_NOT_FOUND)
		bench_check(rc, "inbox");
	/* the device's cursor */
	bench_check(
	    txn_put(&bench->txn, DBI_grace, key, 8, &ack->seq, 8), "cursor");
}

/* The same history: counters, cursors, and as many hashes as the real layout
 * has entries, spread over the tree. */
void
naive_lay_in(struct bench *bench, uint64_t user)
{
	uint64_t each = bench->sent_rows * SENT_PER_ROW;
	uint64_t one = 1;
	uint8_t hash[16] = {0};
	uint8_t key[16];

	key_u64(key, user);
	bench_check(
	    txn_put(&bench->txn, NAIVE_COUNT, key, 8, &one, 8), "count");
	bench_check(txn_put(&bench->txn, DBI_grace, key, 8, &one, 8), "cursor");
	for (unsigned k = 0; k < PEERS; k++) {
		uint64_t peer = bench_peer(user, k, bench->users);

		key_u64(key, user < peer ? user : peer);
		key_u64(key + 8, user < peer ? peer : user);
		bench_check(txn_put(&bench->txn, NAIVE_COUNT, key, 16, &one, 8),
		    "count");
	}
	for (uint64_t i = 0; i < each; i++) {
		key_u64(hash, (user * each + i) *
				  (UINT64_MAX / (each * (bench->users + 2))));
		bench_check(txn_put(&bench->txn, NAIVE_DEDUPE, hash,
				sizeof(hash), key, 24 - 8),
		    "dedupe");
	}
}

bool
naive_is_new(struct bench *bench)
{
	return store_count(&bench->txn, DBI_grace) == 0;
}
