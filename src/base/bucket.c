/*
 * bucket.c - token buckets: how often something may be done.
 *
 * Role:    one number per bucket (the generic cell rate algorithm), and tables
 *          of them.
 * Process: all; pure.
 * Blocks:  never.
 * Trust:   keys are hashes that strangers cannot aim; see bucket.h.
 * See:     directory/attempts.c, t/unit/bucket.c.
 */
#include "base/bucket.h"

struct bucket_rate
bucket_rate(int64_t tokens, int64_t time, int64_t depth)
{
	struct bucket_rate rate = {0};

	if (tokens <= 0)
		return rate;
	rate.token = time / tokens;
	if (rate.token < 1)
		rate.token = 1;
	rate.depth = depth > rate.token ? depth : rate.token;
	return rate;
}

int64_t
bucket_wait(
    const struct bucket *bucket, const struct bucket_rate *rate, int64_t now)
{
	int64_t wait;

	if (rate->token == 0)
		return 0;
	wait = bucket->full_at - now - (rate->depth - rate->token);
	return wait > 0 ? wait : 0;
}

void
bucket_take(struct bucket *bucket, const struct bucket_rate *rate,
    int64_t tokens, int64_t now)
{
	if (rate->token == 0)
		return;
	if (bucket->full_at < now)
		bucket->full_at = now;
	bucket->full_at += tokens * rate->token;
}

void
bucket_give_back(struct bucket *bucket, const struct bucket_rate *rate,
    int64_t tokens, int64_t now)
{
	if (bucket->full_at > now)
		bucket->full_at -= tokens * rate->token;
}

void
bucket_hold_back(struct bucket *bucket, const struct bucket_rate *rate,
    int64_t wait, int64_t now)
{
	int64_t full_at = now + wait + rate->depth - rate->token;

	if (rate->token != 0 && wait > 0 && bucket->full_at < full_at)
		bucket->full_at = full_at;
}

struct bucket *
bucket_find(struct bucket_set *sets, size_t count, const uint64_t key[2])
{
	struct bucket_slot *slots = sets[key[0] % count].slots;
	struct bucket_slot *fullest = &slots[0];

	for (int i = 0; i < BUCKET_WAYS; i++) {
		if (slots[i].key == key[1])
			return &slots[i].bucket;
		if (slots[i].bucket.full_at < fullest->bucket.full_at)
			fullest = &slots[i];
	}
	*fullest = (struct bucket_slot){.key = key[1]};
	return &fullest->bucket;
}

void
bucket_mend(struct bucket_set *sets, size_t count, int64_t depth, int64_t now)
{
	for (size_t i = 0; i < count * BUCKET_WAYS; i++) {
		struct bucket *bucket =
		    &sets[i / BUCKET_WAYS].slots[i % BUCKET_WAYS].bucket;

		if (bucket->full_at < 0)
			bucket->full_at = 0;
		if (bucket->full_at > now + depth)
			bucket->full_at = now + depth;
	}
}
