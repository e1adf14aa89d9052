/*
 * count.c - counters and histogram buckets.
 *
 * Role:    every edge and its neighbours, quantiles against a sorted list.
 * Process: test.
 * Blocks:  no.
 * Trust:   -
 * See:     src/base/count.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/count.h"

static void
count_goes_to_the_attached_block(void **state)
{
	static struct count_block block;

	(void)state;
	COUNT(logins);
	count_attach(&block);
	COUNT(logins);
	COUNT_ADD(logins, 4);
	GAUGE_SET(connections, 7);
	GAUGE_ADD(connections, -3);
	count_attach(NULL);
	COUNT(logins);
	assert_int_equal(block.counters[COUNTER_logins], 5);
	assert_int_equal(block.counters[COUNTER_connections], 4);
	assert_int_equal(count_self->counters[COUNTER_logins], 2);
}

static void
edges_grow_by_a_fifth_at_most(void **state)
{
	(void)state;
	for (int i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
		uint64_t low = histogram_edge_us(i - 1);
		uint64_t high = histogram_edge_us(i);

		assert_true(high > low);
		/* against the smallest value of the bucket */
		assert_true((double)high / (double)(low + 1) < 1.1893);
	}
	assert_int_equal(histogram_edge_us(0), 1);
	assert_int_equal(
	    histogram_edge_us(HISTOGRAM_BUCKETS - 2), UINT64_C(1) << 28);
	assert_true(histogram_edge_us(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
}

static int
bucket_of(uint64_t us)
{
	static struct histogram histogram;

	memset(&histogram, 0, sizeof(histogram));
	histogram_add(&histogram, us);
	assert_int_equal(histogram.sum_us, us);
	assert_int_equal(histogram.count, 1);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (histogram.buckets[i] == 1)
			return i;
	}
	return -1;
}

static void
each_edge_is_the_last_of_its_bucket(void **state)
{
	(void)state;
	assert_int_equal(bucket_of(0), 0);
	for (int i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		assert_int_equal(bucket_of(histogram_edge_us(i)), i);
		assert_int_equal(bucket_of(histogram_edge_us(i) + 1), i + 1);
	}
	assert_int_equal(bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void
quantile_is_never_low_and_a_fifth_high_at_most(void **state)
{
	static struct histogram histogram;
	const double quantiles[] = {0.5, 0.9, 0.95, 0.99, 1};

	(void)state;
	assert_int_equal(histogram_quantile_us(&histogram, 0.5), 0);
	for (uint64_t us = 1; us <= 100000; us++)
		histogram_add(&histogram, us);
	for (size_t i = 0; i < 5; i++) {
		double exact = quantiles[i] * 100000;
		double got =
		    (double)histogram_quantile_us(&histogram, quantiles[i]);

		assert_true(got >= exact);
		assert_true(got < exact * 1.1893);
	}
	assert_int_equal(histogram_quantile_us(&histogram, 0), 1);
	assert_int_equal(histogram_quantile_us(&histogram, -1), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(count_goes_to_the_attached_block),
	    cmocka_unit_test(edges_grow_by_a_fifth_at_most),
	    cmocka_unit_test(each_edge_is_the_last_of_its_bucket),
	    cmocka_unit_test(quantile_is_never_low_and_a_fifth_high_at_most),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
