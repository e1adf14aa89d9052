/*
 * keeper_outbox.c - unit test of the keeper's end of an outbox: what is put
 * into it with what happens, news, what consumers and operators say, kills.
 */
#include "config.h"

#include "t/unit/keeper_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "shm/outbox.h"

#define REHEARSAL 1 /* outboxes.def */
#define ENTRIES   4096

/* What waits, by its numbers. */
struct waiting {
	struct outbox_entry entries[ENTRIES];
	char texts[ENTRIES][8];
	size_t count;
};

static struct waiting waiting;

static bool
note(void *ctx, const struct outbox_entry *entry)
{
	struct waiting *all = ctx;
	size_t len = entry->text.len < 8 ? entry->text.len : 8;

	assert_true(all->count < ENTRIES);
	if (all->count > 0)
		assert_int_equal(
		    entry->number, all->entries[all->count - 1].number + 1);
	all->entries[all->count] = *entry;
	if (len > 0)
		memcpy(all->texts[all->count], entry->text.data, len);
	all->count++;
	return true;
}

/* Ends the keeper. */
static struct outbox_state
read_store(struct stage *stage)
{
	struct outbox_state state;

	stage_store_open(stage, false);
	memset(&waiting, 0, sizeof(waiting));
	assert_int_equal(outbox_state_get(&stage->txn, REHEARSAL, &state), 0);
	assert_int_equal(
	    outbox_each(&stage->txn, REHEARSAL, state.tail + 1, note, &waiting),
	    0);
	assert_int_equal(waiting.count, state.head - state.tail);
	stage_store_close(stage);
	return state;
}

static size_t
count_kind(enum outbox_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < waiting.count; i++)
		count += waiting.entries[i].kind == kind;
	return count;
}

static void
restart(struct stage *stage, bool is_on)
{
	if (stage->keeper != 0)
		stage_keeper_stop(stage);
	stage->conf->directory_rehearse_outbox = is_on;
	stage_keeper_start(stage);
}

static struct stage *
open_with(void **state, bool is_on)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	stage_open(stage);
	if (is_on)
		restart(stage, true);
	stage_play(stage, WORKER_A);
	*state = stage;
	return stage;
}

static int
open_on(void **state)
{
	open_with(state, true);
	return 0;
}

static int
open_off(void **state)
{
	open_with(state, false);
	return 0;
}

static int
close_stage(void **state)
{
	struct stage *stage = *state;

	stage_close(stage);
	free(stage);
	return 0;
}

static uint64_t
send(struct stage *stage, uint64_t number)
{
	struct letter letter = {
	    .from = 1,
	    .session = 11,
	    .to = {2},
	    .to_count = 1,
	    .number = number,
	    .request_hash = number,
	};
	const struct record_send_reply *reply = stage_send_wait(stage, &letter);

	assert_int_equal(reply->rc, 0);
	return reply->message_id;
}

/* Users 1 and 2 are there: two statuses. */
static void
log_in(struct stage *stage)
{
	stage_login(
	    stage, &(struct login){.user = 1, .session = 11, .device = 1});
	stage_login(
	    stage, &(struct login){.user = 2, .session = 22, .device = 2});
}

/* What a consumer says. @return the answer */
static int
say_done(struct stage *stage, uint64_t upto, uint32_t flags)
{
	struct record_outbox_done done = {
	    .upto = upto, .outbox = REHEARSAL, .flags = flags};

	return stage_ask(stage, RECORD_OUTBOX_DONE, &done, sizeof(done));
}

struct refuse {
	struct record_outbox_refuse head;
	struct outbox_refusal refusals[OUTBOX_REFUSALS_MAX + 1];
};

static int
say_refused(struct stage *stage, uint64_t number, uint64_t *value_out)
{
	struct refuse refuse = {
	    .head = {.req = ++stage->req, .outbox = REHEARSAL, .count = 1},
	    .refusals =
		{{.number = number, .code = 7, .error_len = 2, .error = "no"}},
	};
	const struct record_reply *reply;

	stage_put(stage, RECORD_OUTBOX_REFUSE, &refuse,
	    sizeof(refuse.head) + sizeof(refuse.refusals[0]), NULL, 0);
	reply = (const void *)stage_take(stage, RECORD_REPLY)->data;
	assert_int_equal(reply->req, stage->req);
	*value_out = reply->value;
	return reply->rc;
}

static int
say_change(struct stage *stage, enum outbox_change_op op, uint64_t *value_out)
{
	struct record_outbox_change change = {
	    .req = ++stage->req,
	    .first = 1,
	    .last = INT64_MAX,
	    .outbox = REHEARSAL,
	    .op = op,
	};
	const struct record_reply *reply;

	stage_put(
	    stage, RECORD_OUTBOX_CHANGE, &change, sizeof(change), NULL, 0);
	reply = (const void *)stage_take(stage, RECORD_REPLY)->data;
	*value_out = reply->value;
	return reply->rc;
}

static void
nothing_is_put_while_it_is_off(void **state)
{
	struct stage *stage = *state;
	struct outbox_state row;

	log_in(stage);
	send(stage, 1);
	stage_ack(stage, 2, 22, 1);
	stage_barrier(stage);
	row = read_store(stage);
	assert_int_equal(row.head, 0);
	assert_int_equal(row.is_on, 0);
	stage_store_open(stage, false);
	assert_int_equal(store_count(&stage->txn, DBI_outbox), 0);
	stage_store_close(stage);
}

static void
what_happens_is_put_in_its_order(void **state)
{
	struct stage *stage = *state;
	struct record_mark_read mark = {.user = 2, .session = 22};
	struct record_status status = {.user = 1,
	    .session = 11,
	    .status = STATUS_BUSY,
	    .text_len = 4,
	    .has_text = 1};
	const uint64_t pair[2] = {1, 2};
	const struct record_presence *told;
	uint64_t ids[2];
	uint64_t seq;

	log_in(stage);
	ids[0] = send(stage, 1);
	ids[1] = send(stage, 2);
	conv_key_make(pair, 2, &mark.conv);
	seq = deliver_targets(
	    (const void *)stage_take(stage, RECORD_DELIVER)->data)[0]
		  .seq;
	stage_ack(stage, 2, 22, seq);
	mark.message_id = ids[1];
	assert_int_equal(
	    stage_ask(stage, RECORD_MARK_READ, &mark, sizeof(mark)), 0);
	status.req = ++stage->req;
	stage_put(stage, RECORD_STATUS, &status, sizeof(status), "away", 4);
	stage_take(stage, RECORD_REPLY);
	/* again the same: nobody sees a difference */
	assert_int_equal(
	    stage_ask(stage, RECORD_MARK_READ, &mark, sizeof(mark)), 0);
	/* a second status within a moment is told, and put, a little later */
	do {
		told = (const void *)stage_take(stage, RECORD_PRESENCE)->data;
	} while (told->user != 1 || told->status != STATUS_BUSY);
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(waiting.count, 7);
	assert_int_equal(waiting.entries[0].kind, OUTBOX_STATUS);
	assert_int_equal(waiting.entries[0].user, 1);
	assert_int_equal(waiting.entries[0].status, STATUS_ONLINE);
	assert_int_equal(waiting.entries[1].user, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waiting.entries[2 + i].kind, OUTBOX_MESSAGE);
		assert_int_equal(waiting.entries[2 + i].message_id, ids[i]);
	}
	assert_int_equal(waiting.entries[4].kind, OUTBOX_DELIVERED);
	assert_int_equal(waiting.entries[4].user, 2);
	assert_int_equal(waiting.entries[4].message_id, ids[0]);
	assert_true(conv_key_equal(&waiting.entries[4].conv, &mark.conv));
	assert_int_equal(waiting.entries[5].kind, OUTBOX_READ);
	assert_int_equal(waiting.entries[5].user, 2);
	assert_int_equal(waiting.entries[5].message_id, ids[1]);
	assert_int_equal(waiting.entries[6].kind, OUTBOX_STATUS);
	assert_int_equal(waiting.entries[6].status, STATUS_BUSY);
	assert_memory_equal(waiting.texts[6], "away", 4);
}

static void
a_refused_message_leaves_no_entry(void **state)
{
	struct stage *stage = *state;
	struct letter letter = {
	    .from = 1,
	    .session = 11,
	    .to = {99},
	    .to_count = 1,
	    .number = 1,
	    .request_hash = 1,
	};

	log_in(stage);
	assert_int_equal(stage_send_wait(stage, &letter)->rc, ERR_NOT_FOUND);
	send(stage, 2);
	letter.to[0] = 2;
	letter.number = 2;
	letter.request_hash = 2;
	assert_int_equal(stage_send_wait(stage, &letter)->rc, ERR_DUPLICATE);
	stage_barrier(stage);
	read_store(stage);
	assert_int_equal(count_kind(OUTBOX_MESSAGE), 1);
}

static void
news_come_once_to_who_rests(void **state)
{
	struct stage *stage = *state;
	const struct record_outbox_news *news;

	log_in(stage);
	stage_barrier(stage);
	stage_play(stage, SLOT_DIRECTORY);
	/* after a start it is not known who rests */
	news = (const void *)stage_take(stage, RECORD_OUTBOX_NEWS)->data;
	assert_int_equal(news->outbox, REHEARSAL);
	assert_int_equal(news->head, 1);
	assert_int_equal(say_done(stage, 2, 0), 0);
	stage_play(stage, WORKER_A);
	for (uint64_t n = 1; n <= 5; n++)
		send(stage, n);
	stage_play(stage, SLOT_DIRECTORY);
	assert_int_equal(say_done(stage, 2, 0), 0);
	assert_int_equal(stage_count(stage, RECORD_OUTBOX_NEWS), 0);
	/* it did not know of 7 when it went to rest */
	assert_int_equal(say_done(stage, 2, OUTBOX_DONE_RESTS), 0);
	news = (const void *)stage_take(stage, RECORD_OUTBOX_NEWS)->data;
	assert_int_equal(news->head, 7);
	assert_int_equal(say_done(stage, 7, OUTBOX_DONE_RESTS), 0);
	assert_int_equal(say_done(stage, 7, OUTBOX_DONE_RESTS), 0);
	assert_int_equal(stage_count(stage, RECORD_OUTBOX_NEWS), 0);
	stage_play(stage, WORKER_A);
	send(stage, 6);
	send(stage, 7);
	stage_play(stage, SLOT_DIRECTORY);
	news = (const void *)stage_take(stage, RECORD_OUTBOX_NEWS)->data;
	assert_int_equal(news->head, 8);
	assert_int_equal(say_done(stage, 9, 0), 0);
	assert_int_equal(stage_count(stage, RECORD_OUTBOX_NEWS), 0);
}

static void
what_is_done_is_deleted(void **state)
{
	struct stage *stage = *state;
	struct outbox_state row;

	log_in(stage);
	for (uint64_t n = 1; n <= 200; n++)
		send(stage, n);
	stage_play(stage, SLOT_DIRECTORY);
	assert_int_equal(say_done(stage, 100, 0), 0);
	row = read_store(stage);
	assert_int_equal(row.tail, 100);
	assert_int_equal(row.head, 202);
	stage_keeper_start(stage);
	assert_int_equal(say_done(stage, 202, 0), 0);
	stage_barrier(stage);
	row = read_store(stage);
	assert_int_equal(row.tail, 202);
	stage_store_open(stage, false);
	assert_int_equal(store_count(&stage->txn, DBI_outbox), 0);
	stage_store_close(stage);
}

/* More rows than one batch deletes. */
static void
much_is_deleted_in_slices(void **state)
{
	struct outbox_entry entry = {.kind = OUTBOX_READ, .user = 1};
	struct stage *stage = *state;
	struct outbox outbox;
	int64_t until_ms = clock_mono_ms() + 10000;
	uint64_t rows;

	stage_store_open(stage, true);
	assert_int_equal(outbox_load(&stage->txn, REHEARSAL, &outbox), 0);
	for (uint64_t n = 0; n < 5000; n++) {
		outbox_begin(&outbox, 1);
		assert_int_equal(outbox_put(&stage->txn, &outbox, &entry), 0);
		assert_int_equal(outbox_flush(&stage->txn, &outbox), 0);
		outbox_committed(&outbox);
	}
	assert_int_equal(store_count(&stage->txn, DBI_outbox), 5000);
	stage_store_close(stage);
	stage_keeper_start(stage);
	stage_play(stage, SLOT_DIRECTORY);
	assert_int_equal(say_done(stage, 5000, 0), 0);
	/* the keeper goes on by itself, nobody sends it anything */
	do {
		stage_store_open(stage, false);
		rows = store_count(&stage->txn, DBI_outbox);
		stage_store_close(stage);
		stage_keeper_start(stage);
		assert_true(clock_mono_ms() < until_ms);
	} while (rows > 0);
}

static void
nonsense_is_refused(void **state)
{
	struct stage *stage = *state;
	struct record_outbox_done done = {.upto = 1, .outbox = 200};
	struct refuse refuse = {.head = {.outbox = REHEARSAL}};
	struct outbox_state row;
	uint64_t value;

	log_in(stage);
	send(stage, 1);
	/* a worker is no consumer, an operator neither */
	assert_int_equal(say_done(stage, 1, 0), ERR_BAD_REQUEST);
	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(say_done(stage, 1, 0), ERR_BAD_REQUEST);
	stage_play(stage, SLOT_DIRECTORY);
	assert_int_equal(say_done(stage, 4, 0), ERR_BAD_REQUEST);
	assert_int_equal(say_done(stage, UINT64_MAX, 0), ERR_BAD_REQUEST);
	assert_int_equal(
	    stage_ask(stage, RECORD_OUTBOX_DONE, &done, sizeof(done)),
	    ERR_BAD_REQUEST);
	assert_int_equal(
	    say_change(stage, OUTBOX_CHANGE_DROP, &value), ERR_BAD_REQUEST);
	assert_int_equal(stage_ask(stage, RECORD_OUTBOX_REFUSE, &refuse,
			     sizeof(refuse.head)),
	    ERR_BAD_REQUEST);
	refuse.head.count = 2; /* and one there */
	assert_int_equal(stage_ask(stage, RECORD_OUTBOX_REFUSE, &refuse,
			     sizeof(refuse.head) + sizeof(refuse.refusals[0])),
	    ERR_BAD_REQUEST);
	refuse.head.count = OUTBOX_REFUSALS_MAX + 1;
	assert_int_equal(
	    stage_ask(stage, RECORD_OUTBOX_REFUSE, &refuse, sizeof(refuse)),
	    ERR_BAD_REQUEST);
	refuse.head.count = 1;
	refuse.refusals[0].number = 1;
	refuse.refusals[0].error_len = OUTBOX_ERROR_MAX + 1;
	assert_int_equal(stage_ask(stage, RECORD_OUTBOX_REFUSE, &refuse,
			     sizeof(refuse.head) + sizeof(refuse.refusals[0])),
	    ERR_BAD_REQUEST);
	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(say_change(stage, (enum outbox_change_op)9, &value),
	    ERR_BAD_REQUEST);
	row = read_store(stage);
	assert_int_equal(row.tail, 0);
	assert_int_equal(row.head, 3);
	assert_int_equal(row.dead_count, 0);
}

static void
dead_letters_are_tried_again_or_dropped(void **state)
{
	struct stage *stage = *state;
	struct outbox_state row;
	uint64_t value;
	uint64_t id;

	log_in(stage);
	id = send(stage, 1);
	send(stage, 2);
	stage_play(stage, SLOT_DIRECTORY);
	assert_int_equal(say_refused(stage, 3, &value), 0);
	assert_int_equal(value, 1);
	assert_int_equal(say_refused(stage, 9, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(say_done(stage, 4, 0), 0);
	row = read_store(stage);
	assert_int_equal(row.dead_count, 1);
	assert_int_equal(waiting.count, 0);
	stage_keeper_start(stage);
	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(say_change(stage, OUTBOX_CHANGE_RETRY, &value), 0);
	assert_int_equal(value, 1);
	row = read_store(stage);
	assert_int_equal(row.dead_count, 0);
	assert_int_equal(waiting.count, 1);
	assert_int_equal(waiting.entries[0].number, 5);
	assert_int_equal(waiting.entries[0].message_id, id);
	stage_keeper_start(stage);
	stage_play(stage, SLOT_DIRECTORY);
	assert_int_equal(say_refused(stage, 5, &value), 0);
	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(say_change(stage, OUTBOX_CHANGE_DROP, &value), 0);
	assert_int_equal(value, 1);
	assert_int_equal(say_change(stage, OUTBOX_CHANGE_DROP, &value), 0);
	assert_int_equal(value, 0);
	/* what waits in one that is on is not forgotten */
	assert_int_equal(
	    say_change(stage, OUTBOX_CHANGE_FORGET, &value), ERR_CONFLICT);
	row = read_store(stage);
	assert_int_equal(row.dead_count, 0);
	assert_int_equal(row.tail, 4);
}

static void
what_is_left_when_it_is_switched_off_stays(void **state)
{
	struct stage *stage = *state;
	struct outbox_state row;
	uint64_t value;

	log_in(stage);
	send(stage, 1);
	restart(stage, false);
	send(stage, 2);
	row = read_store(stage);
	assert_int_equal(row.head, 3);
	assert_int_equal(waiting.count, 3);
	assert_int_equal(row.is_on, 0);
	/* on again: that goes on, with a hole that the log told of */
	restart(stage, true);
	send(stage, 3);
	row = read_store(stage);
	assert_int_equal(waiting.count, 4);
	assert_int_equal(row.is_on, 1);
	restart(stage, false);
	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(
	    say_change(stage, OUTBOX_CHANGE_RETRY, &value), ERR_CONFLICT);
	assert_int_equal(say_change(stage, OUTBOX_CHANGE_FORGET, &value), 0);
	assert_int_equal(value, 4);
	stage_barrier(stage);
	row = read_store(stage);
	assert_int_equal(waiting.count, 0);
	assert_int_equal(row.head, 4);
	stage_store_open(stage, false);
	assert_int_equal(store_count(&stage->txn, DBI_outbox), 0);
	stage_store_close(stage);
}

/* The test is a consumer, the keeper is killed at moments of its own. */
static void
kills_neither_skip_nor_repeat_an_entry(void **state)
{
	struct stage *stage = *state;
	struct letter letter = {
	    .from = 1, .session = 11, .to = {2}, .to_count = 1};
	struct outbox_state row;
	uint64_t sent = 0;
	uint64_t last_id = 0;

	log_in(stage);
	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < 25; i++) {
			letter.number = ++sent;
			letter.request_hash = sent;
			stage_send(stage, &letter);
		}
		for (int i = 0; i < round % 7; i++)
			stage_pump(stage, 1);
		stage_keeper_kill(stage);
		stage_keeper_start(stage);
		for (int i = 0; i < 25; i++)
			assert_int_equal(stage_sent(stage)->rc, 0);
	}
	row = read_store(stage);
	assert_int_equal(row.head, sent + 2);
	assert_int_equal(count_kind(OUTBOX_MESSAGE), sent);
	for (size_t i = 2; i < waiting.count; i++) {
		assert_true(waiting.entries[i].message_id > last_id);
		last_id = waiting.entries[i].message_id;
	}
}

#define ON(name)  cmocka_unit_test_setup_teardown(name, open_on, close_stage)
#define OFF(name) cmocka_unit_test_setup_teardown(name, open_off, close_stage)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    OFF(nothing_is_put_while_it_is_off),
	    ON(what_happens_is_put_in_its_order),
	    ON(a_refused_message_leaves_no_entry),
	    ON(news_come_once_to_who_rests),
	    ON(what_is_done_is_deleted),
	    ON(much_is_deleted_in_slices),
	    ON(nonsense_is_refused),
	    ON(dead_letters_are_tried_again_or_dropped),
	    ON(what_is_left_when_it_is_switched_off_stays),
	    ON(kills_neither_skip_nor_repeat_an_entry),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
