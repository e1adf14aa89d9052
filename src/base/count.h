/*
 * count.h - counters, gauges and latency histograms of this process.
 *
 * They live in the scoreboard (shared memory), have one writer and are read
 * by anybody without help of the daemon. COUNT(logins) is one add.
 */
#ifndef BASE_COUNT_H
#define BASE_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

enum counter_id {
#define COUNTER(name, help)   COUNTER_##name,
#define GAUGE(name, of, help) COUNTER_##name,
#define HISTOGRAM(name, help)
#include "base/counters.def"
#undef HISTOGRAM
	COUNTER_END
#undef COUNTER
#undef GAUGE
};

enum histogram_id {
#define COUNTER(name, help)
#define GAUGE(name, of, help)
#define HISTOGRAM(name, help) HISTOGRAM_##name,
#include "base/counters.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
	HISTOGRAM_END
};

/*
 * Four buckets per octave from 8 us to 268 s, exact below: a quantile read
 * from it is at most 19 % too high. The last bucket has no upper edge.
 */
#define HISTOGRAM_BUCKETS 108

struct histogram {
	_Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
	_Atomic uint64_t sum_us;
	_Atomic uint64_t count;
};

/** One process' metrics; embedded in the scoreboard's slot. */
struct count_block {
	_Atomic uint64_t counters[COUNTER_END];
	struct histogram histograms[HISTOGRAM_END];
};

/** Where COUNT() writes; a private block until count_attach. */
extern struct count_block *count_self;

/** @param block  shared memory owned by the scoreboard, or NULL for private */
void count_attach(struct count_block *block);

/* One writer per block: a relaxed load and store, no locked instruction. */
static inline void
count_add(enum counter_id id, uint64_t n)
{
	_Atomic uint64_t *c = &count_self->counters[id];

	atomic_store_explicit(c,
	    atomic_load_explicit(c, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

#define COUNT(name)        count_add(COUNTER_##name, 1)
#define COUNT_ADD(name, n) count_add(COUNTER_##name, (uint64_t)(n))
#define GAUGE_SET(name, n)                                                     \
	atomic_store_explicit(&count_self->counters[COUNTER_##name],           \
	    (uint64_t)(n), memory_order_relaxed)
#define GAUGE_ADD(name, n) count_add(COUNTER_##name, (uint64_t)(int64_t)(n))
#define MEASURE_US(name, us)                                                   \
	histogram_add(&count_self->histograms[HISTOGRAM_##name], (us))

void histogram_add(struct histogram *histogram, uint64_t us);
/** Upper edge of a bucket, us; the last one has none (UINT64_MAX). */
uint64_t histogram_edge_us(int bucket);
/**
 * @param quantile  0..1
 * @return          upper edge of the bucket that holds it, us; 0 when empty
 */
uint64_t histogram_quantile_us(
    const struct histogram *histogram, double quantile);

#endif
