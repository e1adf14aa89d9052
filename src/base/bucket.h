/*
 * bucket.h - token buckets: how often something may be done.
 *
 * A bucket is one time: when it will be full again. A token taken moves it by
 * the time in which one comes; with more than `depth` ahead it is empty. A
 * time that has passed is a full bucket, so a zeroed one is full.
 *
 * Whoever finds a token may take as many as the thing costs and owes the rest:
 * what costs more than a bucket holds is rare, not impossible.
 *
 * Times are in any unit and on any clock that only goes forward, the same for
 * rate, bucket and now.
 */
#ifndef BASE_BUCKET_H
#define BASE_BUCKET_H

#include <stddef.h>
#include <stdint.h>

struct bucket {
	int64_t full_at;
};

struct bucket_rate {
	int64_t token; /* time in which one comes; 0: no limit */
	int64_t depth; /* time in which all come; at least one token */
};

/** `tokens` in `time`, of which as many as come in `depth` may be taken at
 *  once, but one at least. tokens 0: no limit. */
struct bucket_rate bucket_rate(int64_t tokens, int64_t time, int64_t depth);
/** Time until a token is there; 0: it is there now. */
int64_t bucket_wait(
    const struct bucket *bucket, const struct bucket_rate *rate, int64_t now);
/** Take tokens, whether they are there or not. */
void bucket_take(struct bucket *bucket, const struct bucket_rate *rate,
    int64_t tokens, int64_t now);
/** Put back what was taken; never more than it holds. */
void bucket_give_back(struct bucket *bucket, const struct bucket_rate *rate,
    int64_t tokens, int64_t now);
/** No token comes for so long at least; 0: it stays as it is. */
void bucket_hold_back(struct bucket *bucket, const struct bucket_rate *rate,
    int64_t wait, int64_t now);

/*
 * Buckets of whoever comes, in a table of fixed size that may lie in memory of
 * any origin. Of a full set the bucket that is nearest to full makes room:
 * forgetting that one gives away the least.
 */
#define BUCKET_WAYS 4

struct bucket_slot {
	uint64_t key; /* the other half chose the set */
	struct bucket bucket;
};

struct bucket_set {
	struct bucket_slot slots[BUCKET_WAYS];
};

/**
 * The bucket of a key; if there is none, a full one that is its own from now
 * on.
 *
 * @param key  a hash that nobody can aim; key[0] chooses the set
 * @return     valid until the next call
 */
struct bucket *bucket_find(
    struct bucket_set *sets, size_t count, const uint64_t key[2]);
/** What was found lying about: no bucket is emptier than `depth` makes it. */
void bucket_mend(
    struct bucket_set *sets, size_t count, int64_t depth, int64_t now);

#endif
