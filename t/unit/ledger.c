/*
 * ledger.c - good histories are sound, each bad one is found and only it.
 *
 * Role:    feeds the ledger histories of a stream and of an inbox.
 * Process: a unit test; prints TAP.
 * Blocks:  never.
 * Trust:   nothing to distrust.
 * See:     src/load/ledger.c, src/load/latency.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "load/latency.h"
#include "load/ledger.h"

#define SENDER   11
#define RECEIVER 22

struct history {
	struct verdict verdict;
	struct ledger_stream stream;
	struct ledger_inbox inbox;
};

static int
history_begin(void **state)
{
	struct history *history = calloc(1, sizeof(*history));

	ledger_stream_init(&history->stream, SENDER, RECEIVER);
	ledger_inbox_init(&history->inbox, RECEIVER);
	*state = history;
	return 0;
}

static int
history_end(void **state)
{
	struct history *history = *state;

	ledger_stream_fini(&history->stream);
	free(history);
	return 0;
}

static uint64_t
sent(struct history *h)
{
	return ledger_send(&h->stream, &h->verdict);
}

static void
answered(struct history *h, uint64_t number, uint64_t message_id)
{
	ledger_answer(&h->stream, &h->verdict, number, message_id);
}

static bool
arrived(struct history *h, uint64_t number, uint64_t message_id, uint64_t seq)
{
	enum ledger_seq_rc rc = ledger_inbox_take(&h->inbox, &h->verdict, seq);

	return ledger_receive(
	    &h->stream, &h->verdict, number, message_id, seq, rc);
}

static void
finish(struct history *h)
{
	ledger_finish(&h->stream, &h->verdict, true, true);
}

/* Exactly count violations of one kind and none of another. */
static void
assert_only(const struct history *h, enum violation_kind kind, uint64_t count)
{
	assert_int_equal(h->verdict.counts[kind], count);
	assert_int_equal(verdict_total(&h->verdict), count);
}

static void
assert_sound(const struct history *h)
{
	assert_int_equal(verdict_total(&h->verdict), 0);
	assert_int_equal(h->verdict.unanswered, 0);
	assert_int_equal(h->verdict.undelivered, 0);
}

static void
in_order_history_is_sound(void **state)
{
	struct history *h = *state;

	for (uint64_t n = 1; n <= 100; n++) {
		assert_int_equal(sent(h), n);
		if (n % 2) { /* reply and delivery race */
			answered(h, n, 1000 + n);
			assert_true(arrived(h, n, 1000 + n, n));
		} else {
			assert_true(arrived(h, n, 1000 + n, n));
			answered(h, n, 1000 + n);
		}
	}
	finish(h);
	assert_sound(h);
}

static void
long_history_keeps_bounded_memory(void **state)
{
	struct history *h = *state;
	uint32_t cap = 0;

	for (uint64_t n = 1; n <= 100000; n++) {
		sent(h);
		answered(h, n, n + 7);
		assert_true(arrived(h, n, n + 7, n));
		if (n == 5000)
			cap = h->stream.cap;
	}
	assert_int_equal(h->stream.cap, cap);
	assert_true(cap <= 1024);
	finish(h);
	assert_sound(h);
}

static void
open_message_is_kept_however_long(void **state)
{
	struct history *h = *state;

	for (uint64_t n = 1; n <= 5000; n++) {
		sent(h);
		answered(h, n, n + 7);
		if (n != 3)
			assert_true(arrived(h, n, n + 7, n < 3 ? n : n - 1));
	}
	assert_int_equal(h->verdict.undelivered, 1);
	finish(h);
	assert_only(h, VIOLATION_LOST, 1);
	assert_int_equal(h->verdict.details[VIOLATION_LOST][0].number, 3);
	assert_int_equal(
	    h->verdict.details[VIOLATION_LOST][0].message_id_other, 10);
}

static void
acknowledged_but_never_delivered_is_lost(void **state)
{
	struct history *h = *state;
	const struct violation *lost = h->verdict.details[VIOLATION_LOST];

	sent(h);
	sent(h);
	answered(h, 1, 51);
	answered(h, 2, 52);
	arrived(h, 2, 52, 1);
	assert_int_equal(h->verdict.undelivered, 1);
	finish(h);
	assert_only(h, VIOLATION_LOST, 1);
	assert_int_equal(lost->sender, SENDER);
	assert_int_equal(lost->receiver, RECEIVER);
	assert_int_equal(lost->number, 1);
}

static void
absent_receiver_proves_nothing(void **state)
{
	struct history *h = *state;

	sent(h);
	answered(h, 1, 51);
	ledger_finish(&h->stream, &h->verdict, true, false);
	assert_int_equal(verdict_total(&h->verdict), 0);
	assert_int_equal(h->verdict.unproven, 1);
}

static void
no_reply_is_a_violation_only_on_a_living_connection(void **state)
{
	struct history *h = *state;

	sent(h);
	ledger_finish(&h->stream, &h->verdict, false, true);
	assert_int_equal(h->verdict.unconfirmed, 1);
	assert_int_equal(verdict_total(&h->verdict), 0);
	finish(h);
	assert_only(h, VIOLATION_UNANSWERED, 1);
}

static void
delivered_without_reply_is_unanswered_not_lost(void **state)
{
	struct history *h = *state;

	sent(h);
	arrived(h, 1, 51, 1);
	finish(h);
	assert_only(h, VIOLATION_UNANSWERED, 1);
}

static void
second_message_id_is_a_duplicate(void **state)
{
	struct history *h = *state;
	const struct violation *detail =
	    h->verdict.details[VIOLATION_DUPLICATE];

	sent(h);
	answered(h, 1, 51);
	assert_true(arrived(h, 1, 51, 1));
	assert_false(arrived(h, 1, 52, 2));
	finish(h);
	assert_only(h, VIOLATION_DUPLICATE, 1);
	assert_int_equal(detail->message_id, 52);
	assert_int_equal(detail->message_id_other, 51);
	assert_int_equal(detail->seq, 2);
	assert_int_equal(detail->seq_other, 1);
}

static void
second_seq_is_a_duplicate(void **state)
{
	struct history *h = *state;

	sent(h);
	answered(h, 1, 51);
	assert_true(arrived(h, 1, 51, 1));
	assert_false(arrived(h, 1, 51, 2));
	assert_only(h, VIOLATION_DUPLICATE, 1);
}

static void
very_late_second_seq_is_a_duplicate(void **state)
{
	struct history *h = *state;

	for (uint64_t n = 1; n <= 3000; n++) {
		sent(h);
		answered(h, n, n);
		arrived(h, n, n, n);
	}
	assert_true(h->stream.base > 1);
	assert_false(arrived(h, 1, 1, 3001));
	assert_only(h, VIOLATION_DUPLICATE, 1);
}

static void
reply_and_delivery_must_name_one_id(void **state)
{
	struct history *h = *state;

	sent(h);
	sent(h);
	answered(h, 1, 51);
	arrived(h, 1, 61, 1);
	arrived(h, 2, 52, 2);
	answered(h, 2, 62);
	assert_only(h, VIOLATION_DUPLICATE, 2);
}

static void
repetition_after_a_resume_is_sound(void **state)
{
	struct history *h = *state;

	for (uint64_t n = 1; n <= 5; n++) {
		sent(h);
		answered(h, n, 50 + n);
		arrived(h, n, 50 + n, n);
	}
	ledger_inbox_session(&h->inbox);
	for (uint64_t n = 3; n <= 5; n++)
		assert_false(arrived(h, n, 50 + n, n));
	sent(h);
	answered(h, 6, 56);
	assert_true(arrived(h, 6, 56, 6));
	finish(h);
	assert_sound(h);
}

static void
repetition_with_another_content_is_a_duplicate(void **state)
{
	struct history *h = *state;

	for (uint64_t n = 1; n <= 2; n++) {
		sent(h);
		answered(h, n, 50 + n);
		arrived(h, n, 50 + n, n);
	}
	ledger_inbox_session(&h->inbox);
	assert_false(arrived(h, 1, 51, 2)); /* Seq 2 was message 2 */
	assert_only(h, VIOLATION_DUPLICATE, 1);
}

static void
overtaking_is_out_of_order(void **state)
{
	struct history *h = *state;

	for (uint64_t n = 1; n <= 3; n++) {
		sent(h);
		answered(h, n, 50 + n);
	}
	arrived(h, 1, 51, 1);
	arrived(h, 3, 53, 2);
	arrived(h, 2, 52, 3);
	finish(h);
	assert_only(h, VIOLATION_OUT_OF_ORDER, 1);
	assert_int_equal(
	    h->verdict.details[VIOLATION_OUT_OF_ORDER][0].number, 2);
}

static void
unknown_numbers_are_invented(void **state)
{
	struct history *h = *state;

	assert_false(arrived(h, 1, 51, 1)); /* nothing was sent at all */
	sent(h);
	assert_false(arrived(h, 0, 51, 2));
	assert_false(arrived(h, 2, 51, 3));
	assert_false(arrived(h, UINT64_MAX, 51, 4));
	assert_only(h, VIOLATION_INVENTED, 4);
}

static void
second_reply_is_extra(void **state)
{
	struct history *h = *state;

	sent(h);
	answered(h, 1, 51);
	answered(h, 1, 51);
	answered(h, 2, 52);
	answered(h, 0, 52);
	ledger_refuse(&h->stream, &h->verdict, 1, true);
	ledger_refuse(&h->stream, &h->verdict, UINT64_MAX, true);
	assert_only(h, VIOLATION_EXTRA_ANSWER, 5);
	assert_int_equal(h->verdict.unanswered, 0);
}

static void
refused_message_is_not_awaited(void **state)
{
	struct history *h = *state;

	sent(h);
	ledger_refuse(&h->stream, &h->verdict, 1, true);
	finish(h);
	assert_sound(h);
}

static void
refused_message_must_not_arrive(void **state)
{
	struct history *h = *state;

	sent(h);
	sent(h);
	ledger_refuse(&h->stream, &h->verdict, 1, true);
	arrived(h, 1, 51, 1);
	arrived(h, 2, 52, 2);
	ledger_refuse(&h->stream, &h->verdict, 2, true);
	assert_only(h, VIOLATION_REFUSED_DELIVERED, 2);
}

static void
unavailable_message_may_arrive(void **state)
{
	struct history *h = *state;

	sent(h);
	ledger_refuse(&h->stream, &h->verdict, 1, false);
	assert_true(arrived(h, 1, 51, 1));
	finish(h);
	assert_sound(h);
}

static uint64_t
gaps(struct history *h, uint64_t seq)
{
	ledger_inbox_take(&h->inbox, &h->verdict, seq);
	return h->verdict.counts[VIOLATION_SEQ_GAP];
}

static void
first_session_may_start_anywhere(void **state)
{
	struct history *h = *state;

	ledger_inbox_session(&h->inbox);
	assert_int_equal(gaps(h, 4711), 0);
	assert_int_equal(gaps(h, 4712), 0);
}

static void
skipped_seq_is_a_gap(void **state)
{
	struct history *h = *state;

	gaps(h, 1);
	assert_int_equal(gaps(h, 3), 1);
	assert_int_equal(gaps(h, 4), 1); /* told once */
	assert_int_equal(h->verdict.details[VIOLATION_SEQ_GAP][0].seq_other, 2);
}

static void
seq_that_goes_back_within_a_session_is_a_gap(void **state)
{
	struct history *h = *state;

	gaps(h, 5);
	assert_int_equal(gaps(h, 5), 1);
	assert_int_equal(gaps(h, 4), 2);
	assert_int_equal(gaps(h, 6), 2);
}

static void
seq_zero_is_a_gap(void **state)
{
	struct history *h = *state;

	assert_int_equal(gaps(h, 0), 1);
}

static void
resume_must_not_skip(void **state)
{
	struct history *h = *state;

	gaps(h, 1);
	gaps(h, 2);
	ledger_inbox_session(&h->inbox);
	assert_int_equal(gaps(h, 4), 1);
	ledger_inbox_session(&h->inbox);
	assert_int_equal(gaps(h, 5), 1);
}

static void
verdicts_add_up(void **state)
{
	static struct verdict sum;
	static struct verdict part;
	struct violation v = {.kind = VIOLATION_LOST};

	(void)state;
	for (uint64_t n = 1; n <= 3; n++) {
		v.number = n;
		verdict_add(&part, &v);
	}
	part.unproven = 2;
	verdict_merge(&sum, &part);
	verdict_merge(&sum, &part);
	assert_int_equal(sum.counts[VIOLATION_LOST], 6);
	assert_int_equal(sum.unproven, 4);
	assert_int_equal(
	    verdict_detail_count(&sum, VIOLATION_LOST), VERDICT_DETAILS);
	assert_int_equal(sum.details[VIOLATION_LOST][2].number, 3);
	assert_int_equal(sum.details[VIOLATION_LOST][3].number, 1);
	assert_int_equal(verdict_detail_count(&sum, VIOLATION_DUPLICATE), 0);
}

static void
quantiles_are_tight(void **state)
{
	static struct latency latency;
	static struct latency one;

	(void)state;
	assert_int_equal(latency_quantile_us(&latency, 0.5), 0);
	for (uint64_t us = 1; us <= 100000; us++)
		latency_add(&latency, us);
	assert_in_range(latency_quantile_us(&latency, 0.5), 50000, 50400);
	assert_in_range(latency_quantile_us(&latency, 0.99), 99000, 99800);
	assert_int_equal(latency_quantile_us(&latency, 1), 100000);
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t us = UINT64_C(1) << bit;

		memset(&one, 0, sizeof(one));
		latency_add(&one, us);
		latency_add(&one, us - 1);
		assert_int_equal(latency_quantile_us(&one, 1), us);
		assert_int_equal(one.count, 2);
	}
	memset(&one, 0, sizeof(one));
	latency_add(&one, 500000);
	latency_merge(&latency, &one);
	assert_int_equal(latency.count, 100001);
	assert_int_equal(latency.max_us, 500000);
}

#define HISTORY(name)                                                          \
	cmocka_unit_test_setup_teardown(name, history_begin, history_end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    HISTORY(in_order_history_is_sound),
	    HISTORY(long_history_keeps_bounded_memory),
	    HISTORY(open_message_is_kept_however_long),
	    HISTORY(acknowledged_but_never_delivered_is_lost),
	    HISTORY(absent_receiver_proves_nothing),
	    HISTORY(no_reply_is_a_violation_only_on_a_living_connection),
	    HISTORY(delivered_without_reply_is_unanswered_not_lost),
	    HISTORY(second_message_id_is_a_duplicate),
	    HISTORY(second_seq_is_a_duplicate),
	    HISTORY(very_late_second_seq_is_a_duplicate),
	    HISTORY(reply_and_delivery_must_name_one_id),
	    HISTORY(repetition_after_a_resume_is_sound),
	    HISTORY(repetition_with_another_content_is_a_duplicate),
	    HISTORY(overtaking_is_out_of_order),
	    HISTORY(unknown_numbers_are_invented),
	    HISTORY(second_reply_is_extra),
	    HISTORY(refused_message_is_not_awaited),
	    HISTORY(refused_message_must_not_arrive),
	    HISTORY(unavailable_message_may_arrive),
	    HISTORY(first_session_may_start_anywhere),
	    HISTORY(skipped_seq_is_a_gap),
	    HISTORY(seq_that_goes_back_within_a_session_is_a_gap),
	    HISTORY(seq_zero_is_a_gap),
	    HISTORY(resume_must_not_skip),
	    cmocka_unit_test(verdicts_add_up),
	    cmocka_unit_test(quantiles_are_tight),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
