/*
 * attempts.c - how often passwords may be tried.
 *
 * Role:    slows down who guesses, by name and by address.
 * Process: directory, on the loop's thread; its successor goes on with the
 *          same buckets, so that killing it forgives nobody.
 * Blocks:  never.
 * Trust:   names and addresses are strangers': they are hashed with a secret,
 *          so nobody can aim at somebody else's bucket, and no flood of them
 *          takes more memory. What a predecessor left may be garbage: then
 *          somebody waits for a token, and nothing worse.
 * See:     base/bucket.h, shm/keep.h, directory.c, t/unit/attempts.c,
 *          t/46-attempts.t.
 */
#include "config.h"

#include "directory/attempts.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bucket.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "shm/keep.h"

/* 16,384 buckets of 16 bytes. */
#define SETS 4096

/* In the run folder; who writes it is this process alone. */
struct table {
	uint8_t secret[16]; /* zeros: new */
	uint8_t reserved[48];
	struct bucket_set sets[SETS];
};

struct attempts {
	const struct conf *conf;
	struct table *table;
	bool is_kept;            /* else on the heap */
	struct bucket unlimited; /* takes no place from the others */
};

enum kind { KIND_NAME, KIND_PEER };

static bool
is_new(const struct table *table)
{
	static const uint8_t zeros[sizeof(table->secret)];

	return memcmp(table->secret, zeros, sizeof(zeros)) == 0;
}

struct attempts *
attempts_new(const struct conf *conf, const char *run_dir, int64_t now_ms)
{
	struct attempts *attempts = xcalloc(1, sizeof(*attempts));
	void *mem = NULL;

	attempts->conf = conf;
	attempts->is_kept =
	    run_dir != NULL &&
	    keep_open(run_dir, "attempts", sizeof(struct table), &mem) == 0;
	if (!attempts->is_kept)
		mem = xcalloc(1, sizeof(struct table));
	attempts->table = mem;
	if (is_new(attempts->table))
		crypto_random(
		    attempts->table->secret, sizeof(attempts->table->secret));
	bucket_mend(
	    attempts->table->sets, SETS, conf->auth_password_window, now_ms);
	return attempts;
}

void
attempts_free(struct attempts **attempts)
{
	void *mem = (*attempts)->table;

	if ((*attempts)->is_kept)
		keep_close(&mem, sizeof(struct table));
	free(mem);
	free(*attempts);
	*attempts = NULL;
}

static struct bucket *
find(struct attempts *attempts, enum kind kind, const void *data, size_t len)
{
	uint8_t secret[16];
	uint64_t key[2];

	memcpy(secret, attempts->table->secret, sizeof(secret));
	secret[0] ^= (uint8_t)kind; /* a name is no address */
	crypto_siphash128(secret, data, len, (uint8_t *)key);
	return bucket_find(attempts->table->sets, SETS, key);
}

static struct bucket_rate
rate_of(const struct attempts *attempts, int64_t tokens)
{
	int64_t window_ms = attempts->conf->auth_password_window;

	return bucket_rate(tokens, window_ms, window_ms);
}

static struct bucket_rate
name_rate(const struct attempts *attempts)
{
	return rate_of(attempts, attempts->conf->auth_password_attempts);
}

static struct bucket_rate
peer_rate(const struct attempts *attempts, const struct attempt *attempt)
{
	static const uint8_t unknown[16];

	if (memcmp(attempt->peer, unknown, sizeof(unknown)) == 0)
		return (struct bucket_rate){0};
	return rate_of(attempts, attempts->conf->auth_password_attempts_peer);
}

static struct bucket *
name_bucket(struct attempts *attempts, const struct attempt *attempt)
{
	if (attempts->conf->auth_password_attempts == 0)
		return &attempts->unlimited;
	return find(attempts, KIND_NAME, attempt->name, attempt->name_len);
}

static struct bucket *
peer_bucket(struct attempts *attempts, const struct attempt *attempt)
{
	if (peer_rate(attempts, attempt).token == 0)
		return &attempts->unlimited;
	return find(attempts, KIND_PEER, attempt->peer, 16);
}

int64_t
attempts_take(
    struct attempts *attempts, const struct attempt *attempt, int64_t now_ms)
{
	struct bucket_rate by_name = name_rate(attempts);
	struct bucket_rate by_peer = peer_rate(attempts, attempt);
	/* A bucket is used before the next one, which may push it out. */
	struct bucket *bucket = peer_bucket(attempts, attempt);
	int64_t wait_ms = bucket_wait(bucket, &by_peer, now_ms);

	if (wait_ms > 0)
		return wait_ms;
	bucket_take(bucket, &by_peer, 1, now_ms);
	bucket = name_bucket(attempts, attempt);
	wait_ms = bucket_wait(bucket, &by_name, now_ms);
	if (wait_ms > 0) {
		bucket_give_back(
		    peer_bucket(attempts, attempt), &by_peer, 1, now_ms);
		return wait_ms;
	}
	bucket_take(bucket, &by_name, 1, now_ms);
	return 0;
}

void
attempts_give_back(
    struct attempts *attempts, const struct attempt *attempt, int64_t now_ms)
{
	struct bucket_rate by_name = name_rate(attempts);
	struct bucket_rate by_peer = peer_rate(attempts, attempt);

	bucket_give_back(peer_bucket(attempts, attempt), &by_peer, 1, now_ms);
	bucket_give_back(name_bucket(attempts, attempt), &by_name, 1, now_ms);
}
