/*
 * store_conv.c - unit test of shm/conv.c: pages and unread counts against a
 * naive model, damaged rows, retention.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/conv.h"
#include "t/unit/store_box.h"

#define MODEL_MAX 2000
#define PAGE_MAX  200
#define NOW_MS    1795450000000LL

/* What a conversation should hold. */
struct model {
	struct conv conv;
	uint64_t ids[MODEL_MAX];
	uint64_t senders[MODEL_MAX];
	size_t count;
	size_t gone; /* by retention, from the front */
};

struct stage {
	struct store_box box;
	struct model a;
	struct model b;
	uint64_t last_id;
	uint64_t random;
};

static void
model_create(struct stage *stage, struct model *model, uint64_t first,
    size_t member_count)
{
	uint64_t members[MEMBERS_MAX];
	struct conv_key key;

	for (size_t i = 0; i < member_count; i++)
		members[i] = first + i;
	conv_key_make(members, member_count, &key);
	assert_int_equal(conv_create(&stage->box.txn, &key, members,
			     member_count, &model->conv),
	    0);
	assert_int_equal(conv_put(&stage->box.txn, &model->conv), 0);
}

static void
model_add(struct stage *stage, struct model *model, uint64_t sender)
{
	struct log_message m = {.sender = sender};
	char body[32];

	snprintf(body, sizeof(body), "message %zu", model->count);
	m.body = (struct blob){body, strlen(body)};
	m.type = (struct blob){"text", 4};
	m.client_time_ms = INT64_MIN;
	/* now and then time stands still: ids with no room between */
	m.id = message_id_next(stage->last_id,
	    NOW_MS + (int64_t)(stage->last_id % 3 == 0 ? model->count : 0),
	    (unsigned)(box_random(&stage->random) % 256));
	stage->last_id = m.id;
	m.conv = model->conv.key;
	assert_int_equal(
	    conv_add_message(&stage->box.txn, &model->conv, &m), 0);
	assert_int_equal(m.position, model->count + 1);
	assert_int_equal(
	    m.prev, model->count == 0 ? 0 : model->ids[model->count - 1]);
	assert_int_equal(log_append(&stage->box.txn, &m), 0);
	assert_int_equal(conv_put(&stage->box.txn, &model->conv), 0);
	model->ids[model->count] = m.id;
	model->senders[model->count++] = sender;
}

static struct stage *
stage_open(size_t members_a, size_t members_b)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	box_open(&stage->box);
	stage->random = 0x9e3779b97f4a7c15;
	box_begin(&stage->box);
	model_create(stage, &stage->a, 10, members_a);
	model_create(stage, &stage->b, 11, members_b);
	return stage;
}

static void
stage_close(struct stage *stage)
{
	box_close(&stage->box);
	free(stage);
}

/* Interleaved with about as many messages of the other conversation. */
static void
stage_fill(struct stage *stage, size_t count)
{
	while (stage->a.count < count) {
		if (box_random(&stage->random) % 2 == 0)
			model_add(stage, &stage->a,
			    10 + box_random(&stage->random) % 2);
		else if (stage->b.count < MODEL_MAX)
			model_add(stage, &stage->b,
			    11 + box_random(&stage->random) % 2);
	}
}

static size_t
model_before(const struct model *model, uint64_t before, size_t limit,
    uint64_t *ids, bool *more)
{
	size_t n = 0;

	*more = false;
	for (size_t i = model->count; i > model->gone; i--) {
		if (before != 0 && model->ids[i - 1] >= before)
			continue;
		if (n == limit) {
			*more = true;
			break;
		}
		ids[n++] = model->ids[i - 1];
	}
	return n;
}

static size_t
model_after(const struct model *model, uint64_t after, size_t limit,
    uint64_t *ids, bool *more)
{
	size_t n = 0;

	*more = false;
	for (size_t i = model->gone; i < model->count; i++) {
		if (model->ids[i] <= after)
			continue;
		if (n == limit) {
			*more = true;
			break;
		}
		ids[n++] = model->ids[i];
	}
	return n;
}

static void
check_page(struct stage *stage, uint64_t before, uint64_t after, size_t limit)
{
	uint64_t expected[PAGE_MAX];
	uint64_t ids[PAGE_MAX];
	bool expected_more;
	bool more = true;
	size_t expected_count;
	size_t count = 9999;

	expected_count = after != 0 ? model_after(&stage->a, after, limit,
					  expected, &expected_more)
				    : model_before(&stage->a, before, limit,
					  expected, &expected_more);
	assert_int_equal(conv_page(&stage->box.txn, &stage->a.conv, before,
			     after, limit, ids, &count, &more),
	    0);
	assert_int_equal(count, expected_count);
	assert_int_equal(more, expected_more);
	assert_memory_equal(ids, expected, count * sizeof(ids[0]));
}

static void
check_pages_at(struct stage *stage, uint64_t id, size_t step)
{
	for (size_t limit = 1; limit <= PAGE_MAX;
	     limit += limit < 3 ? 1 : step) {
		check_page(stage, id, 0, limit);
		if (id != 0)
			check_page(stage, 0, id, limit);
	}
}

/* Each id of either conversation, and those beside it. */
static void
check_all_pages(struct stage *stage, size_t every, size_t step)
{
	struct model *models[] = {&stage->a, &stage->b};

	check_pages_at(stage, 0, 1);
	check_pages_at(stage, 1, 1);
	check_pages_at(stage, MESSAGE_ID_MAX, 1);
	for (int which = 0; which < 2; which++) {
		for (size_t i = 0; i < models[which]->count; i += every) {
			uint64_t id = models[which]->ids[i];

			check_pages_at(stage, id - 1, step);
			check_pages_at(stage, id, step);
			check_pages_at(stage, id + 1, step);
		}
	}
}

static void
pages_are_those_of_a_naive_list(void **state)
{
	static const size_t counts[] = {0, 1, 2, 63, 64, 65, 127, 128, 129};
	struct stage *stage = stage_open(2, 2);

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		stage_fill(stage, counts[i]);
		check_all_pages(stage, 3, 7);
	}
	stage_fill(stage, 1000);
	check_all_pages(stage, 61, 1);
	stage_close(stage);
}

static void
retain_from(struct stage *stage, size_t gone)
{
	uint64_t horizon = stage->a.ids[gone];

	for (; stage->a.gone < gone; stage->a.gone++)
		assert_int_equal(txn_del(&stage->box.txn, DBI_log,
				     &stage->a.ids[stage->a.gone], 8),
		    0);
	for (; stage->b.gone < stage->b.count &&
	       stage->b.ids[stage->b.gone] < horizon;
	     stage->b.gone++)
		assert_int_equal(txn_del(&stage->box.txn, DBI_log,
				     &stage->b.ids[stage->b.gone], 8),
		    0);
}

static void
pages_end_where_retention_was(void **state)
{
	static const size_t gone[] = {1, 2, 63, 64, 65, 200, 511, 512, 699};
	struct stage *stage = stage_open(2, 2);

	(void)state;
	stage_fill(stage, 700);
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		retain_from(stage, gone[i]);
		check_all_pages(stage, 47, 33);
	}
	/* nothing is left of it */
	assert_int_equal(
	    txn_del(&stage->box.txn, DBI_log, &stage->a.ids[699], 8), 0);
	stage->a.gone = 700;
	check_all_pages(stage, 47, 33);
	stage_close(stage);
}

static uint32_t
model_unread(const struct model *model, const struct conv_member *member)
{
	uint32_t unread = 0;

	for (size_t i = 0; i < model->count; i++)
		unread += model->ids[i] > member->read &&
			  model->senders[i] != member->user;
	return unread;
}

static void
check_unread(const struct model *model)
{
	for (uint32_t i = 0; i < model->conv.member_count; i++) {
		const struct conv_member *member = &model->conv.members[i];

		assert_int_equal(member->unread, model_unread(model, member));
		assert_true(member->delivered >= member->read);
	}
}

static void
mark_random(struct stage *stage, struct model *model)
{
	struct conv_member *member =
	    &model->conv.members[box_random(&stage->random) %
				 model->conv.member_count];
	struct conv_member was = *member;
	uint64_t id = model->ids[box_random(&stage->random) % model->count];
	int rc;

	rc = conv_mark_read(&stage->box.txn, &model->conv, member, id);
	if (id <= was.read) {
		assert_int_equal(rc, ERR_DUPLICATE);
		assert_memory_equal(&was, member, sizeof(was));
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(member->read, id);
}

static void
unread_is_counted_right_for(size_t members)
{
	struct stage *stage = stage_open(members, 2);
	struct conv conv;

	for (int i = 0; i < 900; i++) {
		uint64_t draw = box_random(&stage->random);

		if (stage->a.count == 0 || draw % 4 != 0)
			model_add(stage, &stage->a, 10 + (draw >> 8) % members);
		else
			mark_random(stage, &stage->a);
		if (draw % 3 == 0)
			model_add(stage, &stage->b, 11);
		check_unread(&stage->a);
	}
	assert_int_equal(conv_put(&stage->box.txn, &stage->a.conv), 0);
	assert_int_equal(
	    conv_get(&stage->box.txn, &stage->a.conv.key, &conv), 0);
	assert_int_equal(conv.count, stage->a.count);
	assert_int_equal(conv.last_id, stage->a.ids[stage->a.count - 1]);
	assert_memory_equal(conv.members, stage->a.conv.members,
	    members * sizeof(conv.members[0]));
	stage_close(stage);
}

static void
unread_is_counted_right(void **state)
{
	(void)state;
	unread_is_counted_right_for(1);
	unread_is_counted_right_for(2);
	unread_is_counted_right_for(5);
}

static void
far_marks_never_make_more_unread(void **state)
{
	struct stage *stage = stage_open(5, 1);
	struct conv_member *member = &stage->a.conv.members[0];

	(void)state;
	for (int i = 0; i < 1500; i++) {
		model_add(stage, &stage->a, 10 + (uint64_t)i % 2);
		model_add(stage, &stage->b, 11);
	}
	for (size_t i = 0; i < 1500; i += 100) {
		uint32_t before = member->unread;

		assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv,
				     member, stage->a.ids[i]),
		    0);
		assert_true(member->unread <= before);
		assert_true(member->unread >= model_unread(&stage->a, member));
		if (i >= 500)
			assert_int_equal(
			    member->unread, model_unread(&stage->a, member));
	}
	/* one's own notes are never unread, however far back */
	member = &stage->b.conv.members[0];
	assert_int_equal(conv_mark_read(&stage->box.txn, &stage->b.conv, member,
			     stage->b.ids[3]),
	    0);
	assert_int_equal(member->unread, 0);
	stage_close(stage);
}

static void
marks_of_foreign_messages_are_refused(void **state)
{
	struct stage *stage = stage_open(2, 2);
	struct conv_member *member = &stage->a.conv.members[0];

	(void)state;
	stage_fill(stage, 100);
	for (size_t i = 0; i < stage->b.count; i++)
		assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv,
				     member, stage->b.ids[i]),
		    ERR_NOT_FOUND);
	assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv, member,
			     MESSAGE_ID_MAX),
	    ERR_NOT_FOUND);
	assert_int_equal(member->read, 0);
	assert_int_equal(member->delivered, 0);
	assert_ptr_equal(
	    conv_member(&stage->a.conv, 11), &stage->a.conv.members[1]);
	assert_null(conv_member(&stage->a.conv, 12));
	stage_close(stage);
}

struct seen {
	struct conv_key keys[8];
	size_t count;
	size_t stop_at;
};

static bool
see(void *ctx, const struct conv_key *key)
{
	struct seen *seen = ctx;

	seen->keys[seen->count++] = *key;
	return seen->count != seen->stop_at;
}

static void
lists_hold_each_member_s_conversations(void **state)
{
	struct stage *stage = stage_open(2, 2); /* 10, 11 and 11, 12 */
	struct seen seen = {.count = 0};

	(void)state;
	assert_int_equal(conv_each(&stage->box.txn, 11, see, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_true(conv_key_equal(&seen.keys[0], &stage->a.conv.key));
	assert_true(conv_key_equal(&seen.keys[1], &stage->b.conv.key));
	seen = (struct seen){.stop_at = 1};
	assert_int_equal(conv_each(&stage->box.txn, 11, see, &seen), 0);
	assert_int_equal(seen.count, 1);
	seen = (struct seen){.count = 0};
	assert_int_equal(conv_each(&stage->box.txn, 10, see, &seen), 0);
	assert_int_equal(seen.count, 1);
	seen = (struct seen){.count = 0};
	assert_int_equal(conv_each(&stage->box.txn, 9, see, &seen), 0);
	assert_int_equal(conv_each(&stage->box.txn, 13, see, &seen), 0);
	assert_int_equal(seen.count, 0);
	stage_close(stage);
}

/* ---- damage ---- */

static void
pages_and_marks_stop_at_a_damaged_message(void **state)
{
	struct stage *stage = stage_open(5, 2);
	uint64_t ids[PAGE_MAX];
	struct blob value;
	uint8_t row[256];
	size_t count;
	bool more;

	(void)state;
	stage_fill(stage, 10);
	assert_int_equal(txn_get(&stage->box.txn, DBI_log, &stage->a.ids[5],
			     sizeof(uint64_t), &value),
	    0);
	memcpy(row, value.data, value.len);
	row[80] ^= 1;
	assert_int_equal(txn_put(&stage->box.txn, DBI_log, &stage->a.ids[5],
			     sizeof(uint64_t), row, value.len),
	    0);
	assert_int_equal(conv_page(&stage->box.txn, &stage->a.conv, 0, 0, 10,
			     ids, &count, &more),
	    ERR_CORRUPT);
	assert_int_equal(conv_page(&stage->box.txn, &stage->a.conv, 0, 1, 10,
			     ids, &count, &more),
	    ERR_CORRUPT);
	assert_int_equal(conv_page(&stage->box.txn, &stage->a.conv, 0, 0, 3,
			     ids, &count, &more),
	    0);
	assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv,
			     &stage->a.conv.members[0], stage->a.ids[2]),
	    ERR_CORRUPT);
	assert_int_equal(stage->a.conv.members[0].read, 0);
	stage_close(stage);
}

static void
a_conversation_of_wrong_length_is_corrupt(void **state)
{
	struct stage *stage = stage_open(2, 2);
	const struct conv_key *key = &stage->a.conv.key;
	uint8_t row[sizeof(struct conv_row) + 3 * sizeof(struct conv_member)];
	struct conv_row head;
	struct blob value;
	struct conv conv;
	size_t len;

	(void)state;
	assert_int_equal(txn_get(&stage->box.txn, DBI_conv, key->bytes,
			     sizeof(key->bytes), &value),
	    0);
	len = value.len;
	memcpy(row, value.data, len);
	for (size_t wrong = 0; wrong <= sizeof(row); wrong++) {
		assert_int_equal(txn_put(&stage->box.txn, DBI_conv, key->bytes,
				     sizeof(key->bytes), row, wrong),
		    0);
		assert_int_equal(conv_get(&stage->box.txn, key, &conv),
		    wrong == len ? 0 : ERR_CORRUPT);
	}
	for (uint32_t count = 0; count < 70000; count += 257) {
		memcpy(&head, row, sizeof(head));
		head.member_count = count;
		memcpy(row, &head, sizeof(head));
		assert_int_equal(txn_put(&stage->box.txn, DBI_conv, key->bytes,
				     sizeof(key->bytes), row, len),
		    0);
		assert_int_equal(
		    conv_get(&stage->box.txn, key, &conv), ERR_CORRUPT);
	}
	stage_close(stage);
}

static void
the_largest_conversation_fits(void **state)
{
	struct stage *stage = stage_open(MEMBERS_MAX, 2);
	struct conv conv;

	(void)state;
	for (uint64_t i = 0; i < 130; i++)
		model_add(stage, &stage->a, 10 + i % MEMBERS_MAX);
	check_unread(&stage->a);
	assert_int_equal(
	    conv_get(&stage->box.txn, &stage->a.conv.key, &conv), 0);
	assert_int_equal(conv.member_count, MEMBERS_MAX);
	assert_memory_equal(
	    conv.members, stage->a.conv.members, sizeof(conv.members));
	check_all_pages(stage, 20, 50);
	stage_close(stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pages_are_those_of_a_naive_list),
	    cmocka_unit_test(pages_end_where_retention_was),
	    cmocka_unit_test(unread_is_counted_right),
	    cmocka_unit_test(far_marks_never_make_more_unread),
	    cmocka_unit_test(marks_of_foreign_messages_are_refused),
	    cmocka_unit_test(lists_hold_each_member_s_conversations),
	    cmocka_unit_test(pages_and_marks_stop_at_a_damaged_message),
	    cmocka_unit_test(a_conversation_of_wrong_length_is_corrupt),
	    cmocka_unit_test(the_largest_conversation_fits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
