/*
 * attempts.c - how often passwords may be tried.
 *
 * Role:    slows down who guesses, by name and by address.
 * Process: directory, on the loop's thread. A restart forgets.
 * Blocks:  never.
 * Trust:   names and addresses are strangers': they are hashed with a secret
 *          of this process, so nobody can aim at somebody else's bucket, and
 *          no flood of them takes more memory.
 * See:     directory.c, t/unit/attempts.c, t/46-attempts.t.
 *
 * A bucket is one time: when it will be full again. A token taken moves it by
 * window / tokens; with more than the window ahead it is empty. A time that has
 * passed is a full bucket, and a free place.
 */
#include "config.h"

#include "directory/attempts.h"

#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"
#include "base/mem.h"

/* 16,384 buckets of 16 bytes. Of a full set the bucket that is nearest to full
 * makes room: forgetting that one gives away the least. */
#define SETS 4096
#define WAYS 4

struct bucket {
	uint64_t key; /* half of the hash; the other half chose the set */
	int64_t full_at_ms;
};

struct attempts {
	const struct conf *conf;
	uint8_t secret[16];
	struct bucket sets[SETS][WAYS];
};

enum kind { KIND_NAME, KIND_PEER };

struct attempts *
attempts_new(const struct conf *conf)
{
	struct attempts *attempts = xcalloc(1, sizeof(*attempts));
	uint64_t random[2] = {crypto_random_u64(), crypto_random_u64()};

	attempts->conf = conf;
	memcpy(attempts->secret, random, sizeof(attempts->secret));
	return attempts;
}

void
attempts_free(struct attempts **attempts)
{
	free(*attempts);
	*attempts = NULL;
}

static struct bucket *
bucket_find(
    struct attempts *attempts, enum kind kind, const void *data, size_t len)
{
	uint8_t key[16];
	uint64_t halves[2];
	struct bucket *set;
	struct bucket *fullest;

	memcpy(key, attempts->secret, sizeof(key));
	key[0] ^= (uint8_t)kind; /* a name is no address */
	crypto_siphash128(key, data, len, (uint8_t *)halves);
	set = attempts->sets[halves[0] % SETS];
	fullest = &set[0];
	for (int i = 0; i < WAYS; i++) {
		if (set[i].key == halves[1])
			return &set[i];
		if (set[i].full_at_ms < fullest->full_at_ms)
			fullest = &set[i];
	}
	*fullest = (struct bucket){.key = halves[1]};
	return fullest;
}

/* Time of one token. */
static int64_t
token_ms(const struct attempts *attempts, int64_t tokens)
{
	int64_t ms = attempts->conf->auth_password_window / tokens;

	return ms > 0 ? ms : 1;
}

/* ms until the bucket has a token; 0: it has one, or there is no limit. */
static int64_t
bucket_wait_ms(const struct attempts *attempts, const struct bucket *bucket,
    int64_t tokens, int64_t now_ms)
{
	int64_t wait_ms;

	if (bucket == NULL)
		return 0;
	wait_ms = bucket->full_at_ms - now_ms -
		  token_ms(attempts, tokens) * (tokens - 1);
	return wait_ms > 0 ? wait_ms : 0;
}

static void
bucket_take(const struct attempts *attempts, struct bucket *bucket,
    int64_t tokens, int64_t now_ms)
{
	if (bucket == NULL)
		return;
	if (bucket->full_at_ms < now_ms)
		bucket->full_at_ms = now_ms;
	bucket->full_at_ms += token_ms(attempts, tokens);
}

static void
bucket_give_back(const struct attempts *attempts, struct bucket *bucket,
    int64_t tokens, int64_t now_ms)
{
	if (bucket != NULL && bucket->full_at_ms > now_ms)
		bucket->full_at_ms -= token_ms(attempts, tokens);
}

static struct bucket *
name_bucket(struct attempts *attempts, const struct attempt *attempt)
{
	if (attempts->conf->auth_password_attempts == 0)
		return NULL;
	return bucket_find(
	    attempts, KIND_NAME, attempt->name, attempt->name_len);
}

static struct bucket *
peer_bucket(struct attempts *attempts, const struct attempt *attempt)
{
	static const uint8_t unknown[16];

	if (attempts->conf->auth_password_attempts_peer == 0 ||
	    memcmp(attempt->peer, unknown, sizeof(unknown)) == 0)
		return NULL;
	return bucket_find(attempts, KIND_PEER, attempt->peer, 16);
}

int64_t
attempts_take(
    struct attempts *attempts, const struct attempt *attempt, int64_t now_ms)
{
	int64_t name_tokens = attempts->conf->auth_password_attempts;
	int64_t peer_tokens = attempts->conf->auth_password_attempts_peer;
	/* The first must not be pushed out by the second: used before it. */
	struct bucket *bucket = peer_bucket(attempts, attempt);
	int64_t wait_ms = bucket_wait_ms(attempts, bucket, peer_tokens, now_ms);

	if (wait_ms > 0)
		return wait_ms;
	bucket_take(attempts, bucket, peer_tokens, now_ms);
	bucket = name_bucket(attempts, attempt);
	wait_ms = bucket_wait_ms(attempts, bucket, name_tokens, now_ms);
	if (wait_ms > 0) {
		bucket_give_back(attempts, peer_bucket(attempts, attempt),
		    peer_tokens, now_ms);
		return wait_ms;
	}
	bucket_take(attempts, bucket, name_tokens, now_ms);
	return 0;
}

void
attempts_give_back(
    struct attempts *attempts, const struct attempt *attempt, int64_t now_ms)
{
	bucket_give_back(attempts, peer_bucket(attempts, attempt),
	    attempts->conf->auth_password_attempts_peer, now_ms);
	bucket_give_back(attempts, name_bucket(attempts, attempt),
	    attempts->conf->auth_password_attempts, now_ms);
}
