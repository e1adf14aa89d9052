/*
 * store_call.c - unit test of shm/call.c: a call and what lies beside it.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/call.h"
#include "t/unit/store_box.h"

static void
make_call(struct call *call, uint64_t id, uint32_t count)
{
	memset(call, 0, sizeof(*call));
	call->id = id;
	call->row.created_ms = 1000;
	call->row.part_count = count;
	call->row.kind = CALL_AUDIO;
	memset(call->row.client_hash, (int)(id & 0xff),
	    sizeof(call->row.client_hash));
	for (uint32_t i = 0; i < count; i++)
		call->parts[i] = (struct call_part){
		    .user = 10 + i,
		    .state = i == 0 ? PART_JOINED : PART_RINGING,
		    .deadline_ms = i == 0 ? 0 : 5000 + (int64_t)i,
		};
}

static bool
count_open(void *ctx, uint64_t id, bool is_in)
{
	uint64_t *seen = ctx;

	*seen = *seen * 100 + id * 10 + is_in;
	return true;
}

static uint64_t
open_of(struct txn *txn, uint64_t user)
{
	uint64_t seen = 0;

	assert_int_equal(call_each_open(txn, user, count_open, &seen), 0);
	return seen;
}

static bool
count_past(void *ctx, uint64_t id)
{
	uint64_t *seen = ctx;

	*seen = *seen * 10 + id;
	return *seen < 10; /* two at most */
}

static uint64_t
past_of(struct txn *txn, uint64_t user, uint64_t before)
{
	uint64_t seen = 0;

	assert_int_equal(
	    call_each_past(txn, user, before, count_past, &seen), 0);
	return seen;
}

/* Of every row of a table. */
static void
assert_sound(struct txn *txn, enum store_dbi dbi, uint64_t count)
{
	struct walk walk;
	int rc = walk_begin(&walk, txn, dbi, NULL, 0);

	assert_int_equal(store_count(txn, dbi), count);
	for (; rc == 0; rc = walk_next(&walk)) {
		const char *what =
		    call_verify(txn, dbi, &walk.key, &walk.value);

		if (what != NULL)
			fail_msg("dbi %d: %s", (int)dbi, what);
	}
	walk_end(&walk);
}

static void
assert_all_sound(struct txn *txn, const uint64_t counts[5])
{
	assert_sound(txn, DBI_calls, counts[0]);
	assert_sound(txn, DBI_usercall, counts[1]);
	assert_sound(txn, DBI_callhist, counts[2]);
	assert_sound(txn, DBI_calldue, counts[3]);
	assert_sound(txn, DBI_callkey, counts[4]);
}

/* The keeper has one struct call for all of them, one after the other. */
static void
a_call_takes_nothing_from_the_one_before(void **state)
{
	struct store_box box;
	struct call call;

	(void)state;
	box_open(&box);
	box_begin(&box);
	make_call(&call, 2, 2);
	assert_int_equal(call_put(&box.txn, &call), 0);
	make_call(&call, 1, 3);
	call.parts[2].outcome = CALL_OUTCOME_MISSED;
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_int_equal(call_get(&box.txn, 1, &call), 0);
	assert_int_equal(call_get(&box.txn, 2, &call), 0);
	call.parts[call.row.part_count++] = (struct call_part){
	    .user = 20,
	    .state = PART_RINGING,
	    .outcome = CALL_OUTCOME_MISSED,
	    .deadline_ms = 5000,
	};
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_int_equal(open_of(&box.txn, 20), 20);
	assert_int_equal(past_of(&box.txn, 20, 0), 2);
	box_close(&box);
}

static void
a_call_is_found_by_all_that_it_is_of(void **state)
{
	static const char payload[] = "{\"a\":1}";
	struct store_box box;
	struct call call;
	struct call found;
	uint64_t id = 0;
	int64_t due_ms = 0;
	bool is_in;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(call_get(&box.txn, 3, &found), ERR_NOT_FOUND);
	assert_int_equal(call_first_due(&box.txn, &due_ms, &id), ERR_NOT_FOUND);
	make_call(&call, 3, 3);
	call.payload = (struct blob){payload, sizeof(payload) - 1};
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_all_sound(&box.txn, (const uint64_t[]){1, 3, 0, 1, 1});
	assert_int_equal(call_get(&box.txn, 3, &found), 0);
	assert_int_equal(found.row.part_count, 3);
	assert_int_equal(found.row.due_ms, 5001);
	assert_int_equal(found.payload.len, sizeof(payload) - 1);
	assert_memory_equal(found.payload.data, payload, sizeof(payload) - 1);
	assert_int_equal(open_of(&box.txn, 10), 31);
	assert_int_equal(open_of(&box.txn, 11), 30);
	assert_int_equal(open_of(&box.txn, 13), 0);
	assert_int_equal(call_is_in_any(&box.txn, 10, 0, &is_in), 0);
	assert_true(is_in);
	assert_int_equal(call_is_in_any(&box.txn, 10, 3, &is_in), 0);
	assert_false(is_in);
	assert_int_equal(call_first_due(&box.txn, &due_ms, &id), 0);
	assert_int_equal(due_ms, 5001);
	assert_int_equal(id, 3);
	assert_int_equal(
	    call_find_key(&box.txn, 10, call.row.client_hash, &id), 0);
	assert_int_equal(call_find_key(&box.txn, 11, call.row.client_hash, &id),
	    ERR_NOT_FOUND);
	assert_non_null(call_find_part(&found, 12));
	assert_null(call_find_part(&found, 13));
	box_close(&box);
}

static void
what_lies_beside_it_follows(void **state)
{
	struct store_box box;
	struct call call;

	(void)state;
	box_open(&box);
	box_begin(&box);
	make_call(&call, 3, 3);
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_int_equal(call_get(&box.txn, 3, &call), 0);
	call.payload.data = "";
	call.row.state = CALL_ACTIVE;
	call.parts[1].state = PART_JOINED;
	call.parts[1].deadline_ms = 0;
	call.parts[2].state = PART_REJECTED;
	call.parts[2].outcome = CALL_OUTCOME_REJECTED;
	call.parts[2].deadline_ms = 0;
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_all_sound(&box.txn, (const uint64_t[]){1, 2, 1, 0, 1});
	assert_int_equal(open_of(&box.txn, 11), 31);
	assert_int_equal(open_of(&box.txn, 12), 0);
	assert_int_equal(past_of(&box.txn, 12, 0), 3);
	assert_int_equal(past_of(&box.txn, 11, 0), 0);
	call.row.state = CALL_ENDED;
	for (uint32_t i = 0; i < 2; i++) {
		call.parts[i].state = PART_LEFT;
		call.parts[i].outcome = CALL_OUTCOME_ANSWERED;
	}
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_all_sound(&box.txn, (const uint64_t[]){1, 0, 3, 0, 1});
	assert_int_equal(call_delete(&box.txn, &call), 0);
	assert_all_sound(&box.txn, (const uint64_t[]){0, 0, 0, 0, 0});
	box_close(&box);
}

static void
history_is_paged_downwards(void **state)
{
	struct store_box box;
	struct call call;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (uint64_t id = 1; id <= 5; id++) {
		make_call(&call, id, 2);
		call.row.state = CALL_ENDED;
		for (uint32_t i = 0; i < 2; i++) {
			call.parts[i].state = PART_LEFT;
			call.parts[i].deadline_ms = 0;
			call.parts[i].outcome = CALL_OUTCOME_MISSED;
		}
		assert_int_equal(call_put(&box.txn, &call), 0);
	}
	assert_int_equal(past_of(&box.txn, 11, 0), 54);
	assert_int_equal(past_of(&box.txn, 11, 4), 32);
	assert_int_equal(past_of(&box.txn, 11, 2), 1);
	assert_int_equal(past_of(&box.txn, 11, 1), 0);
	assert_int_equal(past_of(&box.txn, 12, 0), 0);
	box_close(&box);
}

static void
at_its_largest(void **state)
{
	static char payload[CALL_PAYLOAD_MAX];
	struct store_box box;
	struct call call;

	(void)state;
	memset(payload, 'x', sizeof(payload));
	box_open(&box);
	box_begin(&box);
	make_call(&call, 9, CALL_PARTS_MAX);
	call.payload = (struct blob){payload, sizeof(payload)};
	assert_int_equal(call_put(&box.txn, &call), 0);
	box_commit(&box);
	box_begin(&box);
	assert_int_equal(call_get(&box.txn, 9, &call), 0);
	assert_int_equal(call.row.part_count, CALL_PARTS_MAX);
	assert_memory_equal(call.payload.data, payload, sizeof(payload));
	box_close(&box);
}

/* A row that passes its seal but makes no sense is not believed. */
static void
nonsense_is_corrupt(void **state)
{
	struct store_box box;
	struct call call;
	struct {
		struct call_row row;
		struct call_part parts[2];
	} head;
	const uint64_t id = 3;

	(void)state;
	box_open(&box);
	box_begin(&box);
	make_call(&call, id, 2);
	assert_int_equal(call_put(&box.txn, &call), 0);
	for (int i = 0; i < 8; i++) {
		size_t len = sizeof(head);

		head.row = call.row;
		memcpy(head.parts, call.parts, sizeof(head.parts));
		switch (i) {
		case 0:
			len--;
			break;
		case 1:
			head.row.part_count = 0;
			break;
		case 2:
			head.row.part_count = CALL_PARTS_MAX + 1;
			break;
		case 3:
			head.row.state = CALL_STATE_END;
			break;
		case 4:
			head.row.payload_len = 1;
			break;
		case 5:
			head.parts[1].state = PART_STATE_END;
			break;
		case 6:
			head.parts[0].user = 0;
			break;
		case 7:
			len = sizeof(head.row) - 8;
			break;
		}
		assert_int_equal(
		    txn_put(&box.txn, DBI_calls, &id, sizeof(id), &head, len),
		    0);
		assert_int_equal(call_get(&box.txn, id, &call), ERR_CORRUPT);
		make_call(&call, id, 2);
	}
	box_close(&box);
}

static void
kinds_have_names(void **state)
{
	enum call_kind kind = CALL_KIND_END;

	(void)state;
	for (int i = 0; i < CALL_KIND_END; i++) {
		const char *name = call_kind_name((enum call_kind)i);

		assert_int_equal(call_kind_parse(name, strlen(name), &kind), 0);
		assert_int_equal(kind, i);
	}
	assert_int_equal(call_kind_parse("VIDEOS", 6, &kind), ERR_BAD_REQUEST);
	assert_int_equal(call_kind_parse("", 0, &kind), ERR_BAD_REQUEST);
}

/* The keeper has room for one call, which it reads into again and again. */
static void
nothing_is_left_of_the_call_before(void **state)
{
	struct store_box box;
	struct call call;

	(void)state;
	box_open(&box);
	box_begin(&box);
	make_call(&call, 1, 1);
	assert_int_equal(call_put(&box.txn, &call), 0);
	make_call(&call, 2, 3);
	call.parts[1].outcome = CALL_OUTCOME_MISSED;
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_int_equal(call_get(&box.txn, 2, &call), 0);
	assert_int_equal(call_get(&box.txn, 1, &call), 0);
	call.row.part_count = 2;
	call.parts[1] = (struct call_part){
	    .user = 99,
	    .state = PART_RINGING,
	    .outcome = CALL_OUTCOME_MISSED,
	};
	assert_int_equal(call_put(&box.txn, &call), 0);
	assert_int_equal(open_of(&box.txn, 99), 10);
	assert_int_equal(past_of(&box.txn, 99, 0), 1);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_call_takes_nothing_from_the_one_before),
	    cmocka_unit_test(a_call_is_found_by_all_that_it_is_of),
	    cmocka_unit_test(what_lies_beside_it_follows),
	    cmocka_unit_test(history_is_paged_downwards),
	    cmocka_unit_test(at_its_largest),
	    cmocka_unit_test(nonsense_is_corrupt),
	    cmocka_unit_test(kinds_have_names),
	    cmocka_unit_test(nothing_is_left_of_the_call_before),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
