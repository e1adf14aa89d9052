/*
 * store_conv_damage.c - unit test of shm/conv.c where messages are damaged or
 * gone: history steps over them, and over nothing else.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t/unit/conv_box.h"

enum harm { HARM_BODY, HARM_PREV, HARM_LEN, HARM_GONE, HARM_END };

static void
harm(struct stage *stage, uint64_t id, enum harm how)
{
	struct txn *txn = &stage->box.txn;
	struct blob value;
	uint8_t row[256];
	size_t len;

	assert_int_equal(txn_get(txn, DBI_log, &id, sizeof(id), &value), 0);
	len = value.len;
	memcpy(row, value.data, len);
	switch (how) {
	case HARM_BODY:
		row[len - 1] ^= 1;
		break;
	case HARM_PREV:
		row[offsetof(struct log_row, prev) + 3] ^= 1;
		break;
	case HARM_LEN:
		len = 20;
		break;
	case HARM_GONE:
	case HARM_END:
		assert_int_equal(txn_del(txn, DBI_log, &id, sizeof(id)), 0);
		return;
	}
	assert_int_equal(txn_put(txn, DBI_log, &id, sizeof(id), row, len), 0);
}

/* All pages, from the newest or from the oldest. */
static size_t
read_through(struct stage *stage, bool is_up, size_t limit, uint64_t *out)
{
	uint64_t ids[PAGE_MAX];
	struct conv_page page = {.ids = ids, .has_more = true};
	uint64_t from = is_up ? 1 : 0;
	size_t count = 0;

	while (page.has_more) {
		assert_int_equal(
		    conv_page(&stage->box.txn, &stage->a.conv, is_up ? 0 : from,
			is_up ? from : 0, limit, &page),
		    0);
		if (page.has_more)
			assert_in_range(page.count, 1, limit);
		memcpy(out + count, ids, page.count * sizeof(*ids));
		count += page.count;
		if (page.count > 0)
			from = ids[page.count - 1];
	}
	return count;
}

/* Nothing but what is damaged is missing, in either direction. */
static void
check_reachable(struct stage *stage, const bool *bad)
{
	const struct model *model = &stage->a;
	uint64_t good[MODEL_MAX];
	uint64_t seen[MODEL_MAX];
	size_t count = 0;

	for (size_t i = 0; i < model->count; i++) {
		if (!bad[i])
			good[count++] = model->ids[i];
	}
	for (size_t limit = 1; limit <= PAGE_MAX; limit += limit < 3 ? 1 : 31) {
		assert_int_equal(read_through(stage, true, limit, seen), count);
		assert_memory_equal(seen, good, count * sizeof(*seen));
		assert_int_equal(
		    read_through(stage, false, limit, seen), count);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(seen[i], good[count - 1 - i]);
	}
}

static void
pages_step_over_what_is_damaged(void **state)
{
	/* alone, in a row, at the places of the index, the first, the last */
	static const struct {
		size_t first;
		size_t last;
	} spots[] = {{30, 30}, {40, 43}, {63, 63}, {64, 64}, {100, 140}, {1, 1},
	    {199, 199}, {190, 199}};

	(void)state;
	for (int how = 0; how < HARM_END; how++) {
		for (size_t n = 0; n < sizeof(spots) / sizeof(*spots); n++) {
			struct stage *stage = stage_open(5, 2);
			bool bad[MODEL_MAX] = {false};

			stage_fill(stage, 200);
			for (size_t i = spots[n].first; i <= spots[n].last;
			     i++) {
				harm(stage, stage->a.ids[i], (enum harm)how);
				bad[i] = true;
			}
			check_reachable(stage, bad);
			stage_close(stage);
		}
	}
}

static void
damaged_messages_are_counted(void **state)
{
	struct stage *stage = stage_open(5, 2);
	uint64_t ids[PAGE_MAX];
	struct conv_page page = {.ids = ids};

	(void)state;
	stage_fill(stage, 10);
	for (size_t i = 3; i <= 5; i++)
		harm(stage, stage->a.ids[i], HARM_BODY);
	assert_int_equal(
	    conv_page(&stage->box.txn, &stage->a.conv, 0, 0, 10, &page), 0);
	assert_int_equal(page.count, 7);
	assert_int_equal(page.damaged, 3);
	assert_int_equal(
	    conv_page(&stage->box.txn, &stage->a.conv, 0, 1, 10, &page), 0);
	assert_int_equal(page.count, 7);
	assert_int_equal(page.damaged, 3);
	assert_int_equal(
	    conv_page(&stage->box.txn, &stage->a.conv, 0, 0, 3, &page), 0);
	assert_int_equal(page.damaged, 0);
	/* one cannot mark it, but what is around it */
	assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv,
			     &stage->a.conv.members[0], stage->a.ids[4]),
	    ERR_CORRUPT);
	assert_int_equal(stage->a.conv.members[0].read, 0);
	assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv,
			     &stage->a.conv.members[0], stage->a.ids[2]),
	    0);
	assert_int_equal(stage->a.conv.members[0].read, stage->a.ids[2]);
	stage_close(stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pages_step_over_what_is_damaged),
	    cmocka_unit_test(damaged_messages_are_counted),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
