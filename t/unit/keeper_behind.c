/*
 * keeper_behind.c - unit test of the keeper: inboxes that are acknowledged by
 * a hundred thousand events at once, in slices and over kills.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/userhead.h"
#include "t/unit/keeper_stage.h"

#define BEHIND_DEADLINE_MS 60000 /* under valgrind */

static void
log_in(struct stage *stage, uint64_t user, uint64_t session)
{
	struct login login = {.user = user, .session = session, .device = 1};

	assert_int_equal(stage_login(stage, &login).rc, 0);
}

/* An inbox of count events of conversation 1-2 for user 2, the last of which
 * the conversation knows. @return head of the inbox */
static uint64_t
fill_inbox(struct stage *stage, uint64_t count)
{
	uint64_t members[2] = {1, 2};
	struct userhead head;
	struct conv conv;

	stage_store_open(stage, true);
	assert_int_equal(userhead_get(&stage->txn, 2, &head), 0);
	conv_key_make(members, 2, &conv.key);
	assert_int_equal(conv_get(&stage->txn, &conv.key, &conv), 0);
	for (uint64_t i = 1; i <= count; i++) {
		struct inbox_event event = {
		    .seq = head.row.head + i,
		    .ref = conv.last_id + i,
		    .conv = conv.key,
		    .kind = EVENT_MESSAGE,
		};

		assert_int_equal(inbox_put(&stage->txn, 2, &event), 0);
	}
	head.row.head += count;
	assert_int_equal(userhead_put(&stage->txn, &head), 0);
	stage_store_close(stage);
	return head.row.head;
}

/* What the store says of user 2 while no keeper runs. @return delivered mark
 * of its conversation with user 1 */
static uint64_t
look_at_inbox(struct stage *stage, struct userhead *head, uint64_t *rows_out)
{
	uint64_t members[2] = {1, 2};
	struct conv conv;

	stage_store_open(stage, false);
	assert_int_equal(userhead_get(&stage->txn, 2, head), 0);
	*rows_out = store_count(&stage->txn, DBI_inbox);
	conv_key_make(members, 2, &conv.key);
	assert_int_equal(conv_get(&stage->txn, &conv.key, &conv), 0);
	stage_store_close(stage);
	return conv_member(&conv, 2)->delivered;
}

static uint64_t
behind_rows(struct stage *stage)
{
	uint64_t rows;

	stage_store_open(stage, false);
	rows = store_count(&stage->txn, DBI_behind);
	stage_store_close(stage);
	return rows;
}

/* Beside the keeper, which must not be stopped before it is through. */
static void
await_nobody_behind(struct stage *stage)
{
	int64_t deadline = clock_mono_ms() + BEHIND_DEADLINE_MS;
	struct store *store = NULL;
	uint64_t rows;
	char error[256];
	struct txn txn;

	assert_int_equal(store_open(STORE_MAIN, stage->dir,
			     (size_t)stage->conf->store_map_size, false, &store,
			     error, sizeof(error)),
	    0);
	do {
		assert_true(clock_mono_ms() < deadline);
		stage_pump(stage, 10);
		assert_int_equal(store_begin_read(store, &txn), 0);
		rows = store_count(&txn, DBI_behind);
		txn_end(&txn);
	} while (rows != 0);
	store_close(&store);
}

/* More than are read at once, among them many with nothing to do and some who
 * do not exist. */
static void
all_who_are_left_behind_are_looked_at(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101);
	stage_keeper_stop(&stage);
	stage_store_open(&stage, true);
	for (uint64_t user = 1; user <= 1000; user++)
		assert_int_equal(
		    txn_put(&stage.txn, DBI_behind, &user, sizeof(user), "", 0),
		    0);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	await_nobody_behind(&stage);
	stage_close(&stage);
}

/* The cursor is the truth at once; the rest follows, over a kill too. */
static void
a_huge_inbox_is_acknowledged_in_slices(void **state)
{
	enum { COUNT = 100000 };
	struct letter letter = {.from = 1,
	    .session = 101,
	    .to = {2},
	    .to_count = 1,
	    .number = 7000};
	struct login login = {
	    .user = 2, .session = 202, .device = 1, .flags = LOGIN_HAS_SEQ};
	struct userhead head;
	struct stage stage;
	uint64_t delivered;
	uint64_t first_ref;
	uint64_t rows;
	uint64_t upto;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101);
	log_in(&stage, 2, 201);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	upto = fill_inbox(&stage, COUNT);
	first_ref = look_at_inbox(&stage, &head, &rows);
	assert_int_equal(rows, COUNT + 1);
	stage_keeper_start(&stage);
	login.last_seq = upto;
	assert_int_equal(stage_login(&stage, &login).cursor, upto);
	stage_keeper_kill(&stage);
	delivered = look_at_inbox(&stage, &head, &rows);
	assert_int_equal(userhead_find_session(&head, 202)->cursor, upto);
	/* far from done, and what is left is what the row says */
	assert_in_range(rows, COUNT / 2, COUNT);
	assert_int_equal(head.row.head - head.row.floor, rows);
	assert_true(head.row.floor <= head.row.delivered);
	assert_int_equal(head.row.delivered + head.row.untold, upto);
	assert_true(delivered > first_ref);
	assert_int_equal(behind_rows(&stage), 1);
	/* A successor ends the work by itself: nobody logs in. */
	stage_keeper_start(&stage);
	await_nobody_behind(&stage);
	delivered = look_at_inbox(&stage, &head, &rows);
	assert_int_equal(rows, 0);
	assert_int_equal(head.row.floor, upto);
	assert_int_equal(head.row.delivered, upto);
	assert_int_equal(head.row.untold, 0);
	stage_store_open(&stage, false);
	uint64_t members[2] = {1, 2};
	struct conv conv;
	conv_key_make(members, 2, &conv.key);
	assert_int_equal(conv_get(&stage.txn, &conv.key, &conv), 0);
	assert_int_equal(delivered, conv.last_id + COUNT);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	stage_close(&stage);
}

/* The reader gets past it, though nobody can be told. */
static void
an_authors_damaged_row_does_not_hold_up_the_reader(void **state)
{
	struct letter letter = {.from = 1,
	    .session = 101,
	    .to = {2},
	    .to_count = 1,
	    .number = 7001};
	const struct record_deliver *deliver;
	uint64_t author = 1;
	struct stage stage;
	uint64_t seq;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101);
	log_in(&stage, 2, 201);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	deliver = (const void *)stage_take(&stage, RECORD_DELIVER)->data;
	seq = deliver_targets(deliver)->seq;
	stage_store_open(&stage, true);
	assert_int_equal(txn_put(&stage.txn, DBI_userhead, &author,
			     sizeof(author), "short", 5),
	    0);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	stage_ack(&stage, 2, 201, seq);
	stage_barrier(&stage);
	stage_store_open(&stage, false);
	assert_int_equal(store_count(&stage.txn, DBI_inbox), 0);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_huge_inbox_is_acknowledged_in_slices),
	    cmocka_unit_test(all_who_are_left_behind_are_looked_at),
	    cmocka_unit_test(
		an_authors_damaged_row_does_not_hold_up_the_reader),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
