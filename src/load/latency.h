/*
 * latency.h - histogram fine enough to publish from: 128 buckets per octave.
 */
#ifndef LOAD_LATENCY_H
#define LOAD_LATENCY_H

#include <stdint.h>

/* 1 us to 2^36 us (19 hours); a quantile is at most 0.8 % too high. */
#define LATENCY_SUB_BITS 7
#define LATENCY_BITS     36
#define LATENCY_BUCKETS                                                        \
	((LATENCY_BITS - LATENCY_SUB_BITS + 1) << LATENCY_SUB_BITS)

struct latency {
	uint64_t buckets[LATENCY_BUCKETS];
	uint64_t count;
	uint64_t max_us;
};

void latency_add(struct latency *latency, uint64_t us);
/** Add what other holds to latency. */
void latency_merge(struct latency *latency, const struct latency *other);
/**
 * @param quantile  0..1
 * @return          us, upper edge of the bucket, never above the maximum;
 *                  0 when empty
 */
uint64_t latency_quantile_us(const struct latency *latency, double quantile);

#endif
