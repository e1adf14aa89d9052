/*
 * count.c - where counters live and how histograms fall into buckets.
 *
 * Role:    cheap adds by one writer, quantiles by anybody.
 * Process: all; the block is in the scoreboard once attached.
 * Blocks:  never.
 * Trust:   a reader may see a histogram between two adds: off by one sample.
 * See:     counters.def, t/unit/count.c.
 */
#include "base/count.h"

#include <stddef.h>

/*
 * Upper edges, inclusive, in us: 1 2 3 4 5 6, then floor(2^(k/4)) from 8 on.
 * Plain floor(2^(k/4)) below 8 would repeat edges, which no reader of
 * /metrics accepts.
 */
#define EDGE_SMALL_COUNT  6
#define EDGE_FIRST_OCTAVE 3

/* 2^62 times 2^(0/4), 2^(1/4), 2^(2/4), 2^(3/4), rounded down */
static const uint64_t roots[4] = {
    UINT64_C(0x4000000000000000),
    UINT64_C(0x4c1bf828c6dc54b7),
    UINT64_C(0x5a827999fcef3242),
    UINT64_C(0x6ba27e656b4eb57a),
};

static struct count_block private_block;

struct count_block *count_self = &private_block;

void
count_attach(struct count_block *block)
{
	count_self = block != NULL ? block : &private_block;
}

uint64_t
histogram_edge_us(int bucket)
{
	int step;

	if (bucket < EDGE_SMALL_COUNT)
		return bucket < 0 ? 0 : (uint64_t)bucket + 1;
	if (bucket >= HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	step = bucket - EDGE_SMALL_COUNT;
	return roots[step % 4] >> (62 - EDGE_FIRST_OCTAVE - step / 4);
}

static int
histogram_find(uint64_t us)
{
	int bucket;
	int octave;

	if (us <= EDGE_SMALL_COUNT)
		return us == 0 ? 0 : (int)us - 1;
	octave = 63 - __builtin_clzll(us);
	if (octave < EDGE_FIRST_OCTAVE)
		return EDGE_SMALL_COUNT;
	bucket = EDGE_SMALL_COUNT + 4 * (octave - EDGE_FIRST_OCTAVE);
	if (bucket >= HISTOGRAM_BUCKETS - 1)
		bucket = HISTOGRAM_BUCKETS - 2;
	while (us > histogram_edge_us(bucket)) /* at most four times */
		bucket++;
	return bucket;
}

/* One writer: a relaxed load and store, no locked instruction. */
static void
cell_add(_Atomic uint64_t *cell, uint64_t n)
{
	atomic_store_explicit(cell,
	    atomic_load_explicit(cell, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

void
histogram_add(struct histogram *histogram, uint64_t us)
{
	cell_add(&histogram->buckets[histogram_find(us)], 1);
	cell_add(&histogram->sum_us, us);
	cell_add(&histogram->count, 1);
}

uint64_t
histogram_quantile_us(const struct histogram *histogram, double quantile)
{
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t total = 0;
	uint64_t seen = 0;
	uint64_t rank;

	/* Not histogram->count: it may be ahead of or behind the buckets. */
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		counts[i] = atomic_load_explicit(
		    &histogram->buckets[i], memory_order_relaxed);
		total += counts[i];
	}
	if (total == 0)
		return 0;
	if (!(quantile > 0)) /* NaN too */
		quantile = 0;
	rank = quantile >= 1 ? total
			     : (uint64_t)(quantile * (double)total + 0.999999);
	if (rank < 1)
		rank = 1;
	if (rank > total)
		rank = total;
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += counts[i];
		if (seen >= rank)
			return histogram_edge_us(i);
	}
	return UINT64_MAX;
}
