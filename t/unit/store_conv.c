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
#include "t/unit/conv_box.h"

/* What a conversation should hold. */
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
	struct conv_page page = {.ids = ids, .count = 9999, .has_more = true};
	size_t expected_count;

	expected_count = after != 0 ? model_after(&stage->a, after, limit,
					  expected, &expected_more)
				    : model_before(&stage->a, before, limit,
					  expected, &expected_more);
	assert_int_equal(conv_page(&stage->box.txn, &stage->a.conv, before,
			     after, limit, &page),
	    0);
	assert_int_equal(page.count, expected_count);
	assert_int_equal(page.has_more, expected_more);
	assert_int_equal(page.damaged, 0);
	assert_memory_equal(ids, expected, page.count * sizeof(ids[0]));
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

/* With a mark before, at and behind where retention was. */
static void
check_unread_left(struct stage *stage)
{
	const struct model *a = &stage->a;

	for (size_t mark = 0; mark <= a->count; mark += 33) {
		for (uint32_t n = 0; n < a->conv.member_count; n++) {
			struct conv_member member = a->conv.members[n];
			uint32_t wanted = 0;
			uint32_t unread;

			member.read = mark == 0 ? 0 : a->ids[mark - 1];
			unread = model_unread(a, &member);
			for (size_t i = mark > a->gone ? mark : a->gone;
			     i < a->count; i++)
				wanted += a->senders[i] != member.user;
			assert_int_equal(
			    conv_unread_left(&stage->box.txn, &a->conv,
				member.user, member.read, &unread),
			    0);
			assert_int_equal(unread, wanted);
		}
	}
}

static void
what_is_gone_is_not_unread(void **state)
{
	static const size_t gone[] = {0, 1, 63, 64, 65, 300, 511, 512, 699};
	struct stage *stage = stage_open(5, 2);

	(void)state;
	stage_fill(stage, 700);
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		retain_from(stage, gone[i]);
		check_unread_left(stage);
	}
	assert_int_equal(
	    txn_del(&stage->box.txn, DBI_log, &stage->a.ids[699], 8), 0);
	stage->a.gone = 700;
	check_unread_left(stage);
	stage_close(stage);
}

/* Of many people only what is near the end, or what was read before, is
 * counted. */
static size_t
draw_mark(
    struct stage *stage, const struct model *model, struct conv_member *member)
{
	size_t count = model->count;
	size_t read = 0;
	size_t at;

	if (model->conv.member_count <= 2)
		return box_random(&stage->random) % count;
	while (read < count && model->ids[read] <= member->read)
		read++;
	at = box_random(&stage->random) % 65;
	if (box_random(&stage->random) % 2 == 0)
		return at < count ? count - 1 - at : 0;
	return read + at < count + 1 && read + at > 0 ? read + at - 1
						      : count - 1;
}

static void
mark_random(struct stage *stage, struct model *model)
{
	struct conv_member *member =
	    &model->conv.members[box_random(&stage->random) %
				 model->conv.member_count];
	struct conv_member was = *member;
	uint64_t id = model->ids[draw_mark(stage, model, member)];
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
	/* 100 further each time is too far, but for the last ones */
	for (size_t i = 0; i < 1500; i += 100) {
		uint32_t before = member->unread;

		assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv,
				     member, stage->a.ids[i]),
		    0);
		assert_true(member->unread <= before);
		assert_true(member->unread >= model_unread(&stage->a, member));
	}
	assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv, member,
			     stage->a.ids[1440]),
	    0);
	assert_int_equal(member->unread, model_unread(&stage->a, member));
	/* who reads on bit by bit is never guessed */
	member = &stage->a.conv.members[1];
	for (size_t i = 0; i < 1500; i += 64) {
		assert_int_equal(conv_mark_read(&stage->box.txn, &stage->a.conv,
				     member, stage->a.ids[i]),
		    0);
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
	assert_int_equal(conv_each(&stage->box.txn, 11, NULL, see, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_true(conv_key_equal(&seen.keys[0], &stage->a.conv.key));
	assert_true(conv_key_equal(&seen.keys[1], &stage->b.conv.key));
	seen = (struct seen){.stop_at = 1};
	assert_int_equal(conv_each(&stage->box.txn, 11, NULL, see, &seen), 0);
	assert_int_equal(seen.count, 1);
	seen = (struct seen){.count = 0};
	assert_int_equal(conv_each(&stage->box.txn, 10, NULL, see, &seen), 0);
	assert_int_equal(seen.count, 1);
	seen = (struct seen){.count = 0};
	assert_int_equal(conv_each(&stage->box.txn, 9, NULL, see, &seen), 0);
	assert_int_equal(conv_each(&stage->box.txn, 13, NULL, see, &seen), 0);
	assert_int_equal(seen.count, 0);
	stage_close(stage);
}

/* ---- damage ---- */

static void
a_conversation_of_wrong_length_is_corrupt(void **state)
{
	struct stage *stage = stage_open(2, 2);
	const struct conv_key *key = &stage->a.conv.key;
	uint8_t row[sizeof(struct conv_row) + 3 * sizeof(struct conv_member)] =
	    {0};
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
	    cmocka_unit_test(what_is_gone_is_not_unread),
	    cmocka_unit_test(unread_is_counted_right),
	    cmocka_unit_test(far_marks_never_make_more_unread),
	    cmocka_unit_test(marks_of_foreign_messages_are_refused),
	    cmocka_unit_test(lists_hold_each_member_s_conversations),
	    cmocka_unit_test(a_conversation_of_wrong_length_is_corrupt),
	    cmocka_unit_test(the_largest_conversation_fits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
