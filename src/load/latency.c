/*
 * latency.c - log-linear histogram of latencies.
 *
 * Role:    counts microseconds in buckets of at most 0.8 % width; mergeable.
 * Process: each generator of parleyload; pure.
 * Blocks:  never.
 * Trust:   values beyond the last bucket are counted there; the maximum is
 *          exact.
 * See:     report.c (who reads it), t/unit/ledger.c (edges).
 */
#include "load/latency.h"

#define SUB_COUNT (1u << LATENCY_SUB_BITS)

static unsigned
bucket_of(uint64_t us)
{
	unsigned shift;

	if (us < SUB_COUNT)
		return (unsigned)us;
	if (us >> LATENCY_BITS)
		return LATENCY_BUCKETS - 1;
	/* the highest bit and the SUB_BITS below it choose the bucket */
	shift = 63 - (unsigned)__builtin_clzll(us) - LATENCY_SUB_BITS;
	return ((shift + 1) << LATENCY_SUB_BITS) +
	       (unsigned)((us >> shift) & (SUB_COUNT - 1));
}

static uint64_t
bucket_edge_us(unsigned bucket)
{
	unsigned shift = bucket >> LATENCY_SUB_BITS;
	uint64_t sub = bucket & (SUB_COUNT - 1);

	if (shift == 0)
		return bucket;
	return ((sub + SUB_COUNT + 1) << (shift - 1)) - 1;
}

void
latency_add(struct latency *latency, uint64_t us)
{
	latency->buckets[bucket_of(us)]++;
	latency->count++;
	if (us > latency->max_us)
		latency->max_us = us;
}

void
latency_merge(struct latency *latency, const struct latency *other)
{
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		latency->buckets[i] += other->buckets[i];
	latency->count += other->count;
	if (other->max_us > latency->max_us)
		latency->max_us = other->max_us;
}

uint64_t
latency_quantile_us(const struct latency *latency, double quantile)
{
	double wanted = quantile * (double)latency->count;
	uint64_t seen = 0;

	for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
		uint64_t edge = bucket_edge_us(i);

		seen += latency->buckets[i];
		if (latency->buckets[i] == 0 || (double)seen < wanted)
			continue;
		/* the last bucket holds all that is beyond, too */
		if (i == LATENCY_BUCKETS - 1 || edge > latency->max_us)
			break;
		return edge;
	}
	return latency->max_us;
}
