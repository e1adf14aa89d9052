/*
 * keeper.c - unit test of src/keeper/: messages, receipts, status and blocks,
 * over real rings and a real store.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/userhead.h"
#include "t/unit/keeper_stage.h"

/* User n with device and session 100 + n on the worker that is played. */
static void
log_in(struct stage *stage, uint64_t user)
{
	struct login login = {
	    .user = user, .session = 100 + user, .device = 100 + user};

	assert_int_equal(stage_login(stage, &login).rc, 0);
}

static struct letter
letter_to(uint64_t from, uint64_t to, uint64_t number)
{
	return (struct letter){
	    .from = from,
	    .session = 100 + from,
	    .to = {to},
	    .to_count = 1,
	    .number = number,
	};
}

static uint64_t
rows(struct stage *stage, enum store_dbi dbi)
{
	uint64_t count;

	stage_store_open(stage, false);
	count = store_count(&stage->txn, dbi);
	stage_store_close(stage);
	stage_keeper_start(stage);
	return count;
}

static void
a_message_is_answered_and_delivered(void **state)
{
	struct letter letter = letter_to(1, 2, 7001);
	const struct record_send_reply *reply;
	const struct record_deliver *deliver;
	struct stage stage;
	struct conv_key key;
	const uint8_t *body;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	reply = stage_send_wait(&stage, &letter);
	assert_int_equal(reply->rc, 0);
	assert_true(reply->message_id != 0);
	assert_int_equal(reply->seq, 0); /* one device */
	conv_key_make((const uint64_t[]){1, 2}, 2, &key);
	assert_true(conv_key_equal(&reply->conv, &key));
	deliver = (const void *)stage_take(&stage, RECORD_DELIVER)->data;
	assert_int_equal(deliver->message_id, reply->message_id);
	assert_int_equal(deliver->sender, 1);
	assert_int_equal(deliver->sender_session, 101);
	assert_true(conv_key_equal(&deliver->conv, &key));
	assert_int_equal(deliver->target_count, 1);
	assert_int_equal(deliver->member_count, 0);
	assert_int_equal(deliver_targets(deliver)->user, 2);
	body = deliver_body(deliver);
	assert_int_equal(stage_number(body, deliver->body_len), 7001);
	body += deliver->body_len;
	assert_memory_equal(body, "text", 4);
	assert_memory_equal(body + 4, &letter.number, 8);
	assert_int_equal(deliver->name_len, 6); /* as the store has it */
	assert_memory_equal(body + 12, "User 1", 6);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_DELIVER), 0);
	stage_close(&stage);
}

static void
a_retry_is_stored_once_and_a_contradiction_is_told(void **state)
{
	struct letter letter = letter_to(1, 2, 5);
	struct stage stage;
	struct record_send_reply first;
	uint64_t again;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	first = *stage_send_wait(&stage, &letter);
	again = stage_send(&stage, &letter);
	assert_int_equal(stage_sent(&stage)->req, again);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, ERR_DUPLICATE);
	assert_int_equal(
	    stage_send_wait(&stage, &letter)->message_id, first.message_id);
	assert_true(conv_key_equal(
	    &stage_send_wait(&stage, &letter)->conv, &first.conv));
	letter.request_hash = 1;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, ERR_CONFLICT);
	letter.request_hash = 0;
	/* also after a restart, and for another user it is another message */
	stage_keeper_kill(&stage);
	stage_keeper_start(&stage);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, ERR_DUPLICATE);
	letter = letter_to(2, 1, 5);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_DELIVER), 2);
	assert_int_equal(rows(&stage, DBI_log), 2);
	stage_close(&stage);
}

static void
unknown_recipients_are_named_and_nothing_is_stored(void **state)
{
	struct letter letter = letter_to(1, 2, 5);
	const struct record_send_reply *reply;
	const uint64_t *unknown;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	letter.to[1] = 3;
	letter.to[2] = 77;
	letter.to[3] = 99;
	letter.to_count = 4;
	reply = stage_send_wait(&stage, &letter);
	assert_int_equal(reply->rc, ERR_NOT_FOUND);
	assert_int_equal(reply->message_id, 0);
	assert_int_equal(reply->unknown_count, 2);
	unknown = (const void *)(reply + 1);
	assert_int_equal(unknown[0], 77);
	assert_int_equal(unknown[1], 99);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_DELIVER), 0);
	assert_int_equal(rows(&stage, DBI_log), 0);
	assert_int_equal(rows(&stage, DBI_inbox), 0);
	/* the same id may be used for what can be stored */
	letter.to_count = 2;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	stage_close(&stage);
}

static void
malformed_recipients_are_refused(void **state)
{
	static const uint64_t lists[][3] = {{3, 2, 0}, {2, 2, 0}, {1, 2, 0},
	    {0, 2, 0}, {2, USER_ID_MAX + 1, 0}};
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	for (size_t i = 0; i < 5; i++) {
		struct letter letter = letter_to(1, 0, i);

		memcpy(letter.to, lists[i], sizeof(lists[i]));
		letter.to_count = 2;
		assert_int_equal(
		    stage_send_wait(&stage, &letter)->rc, ERR_BAD_REQUEST);
	}
	assert_int_equal(rows(&stage, DBI_log), 0);
	stage_close(&stage);
}

static void
replies_must_answer_something_in_the_conversation(void **state)
{
	struct letter letter = letter_to(1, 2, 1);
	struct stage stage;
	uint64_t elsewhere;
	uint64_t here;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	here = stage_send_wait(&stage, &letter)->message_id;
	letter = letter_to(1, 3, 2);
	elsewhere = stage_send_wait(&stage, &letter)->message_id;
	letter = letter_to(1, 2, 3);
	letter.reply_to = elsewhere;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, ERR_BAD_REQUEST);
	letter.reply_to = 12345;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, ERR_BAD_REQUEST);
	letter.reply_to = here;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	stage_close(&stage);
}

/* Members, workers and devices: each gets its own seq, the sender's too. */
static void
every_device_of_every_member_is_told(void **state)
{
	struct letter letter = {.from = 1, .session = 101, .number = 9};
	struct login second = {.user = 1, .session = 201, .device = 201};
	const struct record_deliver *deliver;
	const struct record_send_reply *reply;
	struct stage stage;
	uint64_t seq;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	stage_play(&stage, WORKER_B);
	assert_int_equal(stage_login(&stage, &second).rc, 0);
	log_in(&stage, 3);
	stage_play(&stage, WORKER_A);
	letter.to[0] = 2;
	letter.to[1] = 3;
	letter.to_count = 2;
	reply = stage_send_wait(&stage, &letter);
	assert_int_equal(reply->rc, 0);
	seq = reply->seq;
	assert_true(seq != 0);
	deliver = (const void *)stage_take(&stage, RECORD_DELIVER)->data;
	assert_int_equal(deliver->member_count, 3);
	assert_int_equal(deliver->target_count, 1);
	assert_int_equal(deliver_targets(deliver)[0].user, 2);
	stage_play(&stage, WORKER_B);
	deliver = (const void *)stage_take(&stage, RECORD_DELIVER)->data;
	assert_int_equal(deliver->target_count, 2);
	assert_int_equal(deliver_targets(deliver)[0].user, 3);
	assert_int_equal(deliver_targets(deliver)[1].user, 1);
	assert_int_equal(deliver_targets(deliver)[1].seq, seq);
	assert_int_equal(deliver->sender_session, 101);
	/* one more: seqs grow by exactly 1 */
	stage_play(&stage, WORKER_A);
	letter.number++;
	assert_int_equal(stage_send_wait(&stage, &letter)->seq, seq + 1);
	/* a retry tells the first seq */
	letter.number--;
	assert_int_equal(stage_send_wait(&stage, &letter)->seq, seq);
	stage_close(&stage);
}

/* The worker may have had no room for the first telling. */
static void
expect_told_again(struct stage *stage, uint64_t user, uint64_t session)
{
	const struct record_replaced *replaced;

	stage_barrier(stage);
	assert_int_equal(stage_count(stage, RECORD_REPLACED), 1);
	replaced = (const void *)stage_take(stage, RECORD_REPLACED)->data;
	assert_int_equal(replaced->user, user);
	assert_int_equal(replaced->session, session);
	assert_int_equal(replaced->reason, REPLACED_BY_LOGIN);
	assert_int_equal(stage_count(stage, RECORD_REPLY), 0);
}

static void
an_older_session_is_told_again_when_it_asks(void **state)
{
	struct login again = {.user = 1, .session = 901, .device = 101};
	struct record_block block = {
	    .req = 1, .user = 1, .session = 101, .other = 2, .on = 1};
	struct record_mark_read mark = {.req = 2, .user = 1, .session = 101};
	struct record_status status = {
	    .req = 3, .user = 1, .session = 101, .status = STATUS_BUSY};
	struct letter letter = letter_to(1, 2, 1);
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	assert_int_equal(stage_login(&stage, &again).rc, 0);
	expect_told_again(&stage, 1, 101);
	stage_send(&stage, &letter);
	expect_told_again(&stage, 1, 101);
	stage_put(&stage, RECORD_BLOCK, &block, sizeof(block), NULL, 0);
	expect_told_again(&stage, 1, 101);
	stage_put(&stage, RECORD_MARK_READ, &mark, sizeof(mark), NULL, 0);
	expect_told_again(&stage, 1, 101);
	stage_put(&stage, RECORD_STATUS, &status, sizeof(status), NULL, 0);
	expect_told_again(&stage, 1, 101);
	assert_int_equal(rows(&stage, DBI_log), 0);
	stage_close(&stage);
}

static void
what_an_older_session_sends_is_discarded(void **state)
{
	struct login again = {.user = 1, .session = 901, .device = 101};
	struct letter letter = letter_to(1, 2, 1);
	const struct record_replaced *replaced;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	assert_int_equal(stage_login(&stage, &again).rc, 0);
	replaced = (const void *)stage_take(&stage, RECORD_REPLACED)->data;
	assert_int_equal(replaced->user, 1);
	assert_int_equal(replaced->session, 101);
	assert_int_equal(replaced->reason, REPLACED_BY_LOGIN);
	stage_send(&stage, &letter);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_SEND_REPLY), 0);
	letter.session = 901;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	/* nor does it belong to whoever names it */
	letter = letter_to(2, 1, 2);
	letter.session = 901;
	stage_send(&stage, &letter);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_SEND_REPLY), 0);
	assert_int_equal(rows(&stage, DBI_log), 1);
	stage_close(&stage);
}

static void
acknowledged_events_leave_the_inbox(void **state)
{
	struct letter letter = letter_to(1, 2, 1);
	const struct record_receipt *receipt;
	const struct record_deliver *deliver;
	struct stage stage;
	uint64_t ids[3];
	uint64_t seq = 0;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	for (int i = 0; i < 3; i++) {
		ids[i] = stage_send_wait(&stage, &letter)->message_id;
		letter.number++;
		deliver =
		    (const void *)stage_take(&stage, RECORD_DELIVER)->data;
		assert_true(i == 0 || deliver_targets(deliver)->seq == seq + 1);
		seq = deliver_targets(deliver)->seq;
	}
	stage_ack(&stage, 2, 102, seq - 1);
	receipt = (const void *)stage_take(&stage, RECORD_RECEIPT)->data;
	assert_int_equal(receipt->target, 1);
	assert_int_equal(receipt->user, 2);
	assert_int_equal(receipt->delivered, ids[1]);
	assert_int_equal(receipt->read, 0);
	assert_int_equal(rows(&stage, DBI_inbox), 1);
	stage_ack(&stage, 2, 102, seq - 2); /* not back */
	stage_ack(&stage, 2, 102, seq + 1); /* beyond the head */
	stage_ack(&stage, 2, 101, seq);     /* not this user's session */
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_RECEIPT), 0);
	assert_int_equal(rows(&stage, DBI_inbox), 1);
	stage_ack(&stage, 2, 102, seq);
	receipt = (const void *)stage_take(&stage, RECORD_RECEIPT)->data;
	assert_int_equal(receipt->delivered, ids[2]);
	assert_int_equal(rows(&stage, DBI_inbox), 0);
	stage_close(&stage);
}

static int
mark(struct stage *stage, uint64_t user, const struct conv_key *conv,
    uint64_t id)
{
	struct record_mark_read record = {
	    .user = user,
	    .session = 100 + user,
	    .conv = *conv,
	    .message_id = id,
	};

	return stage_ask(stage, RECORD_MARK_READ, &record, sizeof(record));
}

static void
read_marks_are_told_to_the_members(void **state)
{
	struct letter letter = letter_to(1, 2, 1);
	const struct record_receipt *receipt;
	struct record_send_reply sent;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	log_in(&stage, 3);
	sent = *stage_send_wait(&stage, &letter);
	assert_int_equal(mark(&stage, 2, &sent.conv, sent.message_id), 0);
	assert_int_equal(stage_count(&stage, RECORD_RECEIPT), 2);
	for (uint64_t user = 1; user <= 2; user++) {
		receipt =
		    (const void *)stage_take(&stage, RECORD_RECEIPT)->data;
		assert_int_equal(receipt->target, user);
		assert_int_equal(receipt->user, 2);
		assert_int_equal(receipt->read, sent.message_id);
		assert_int_equal(receipt->delivered, sent.message_id);
		assert_int_equal(receipt->except_session, 102);
	}
	assert_int_equal(mark(&stage, 2, &sent.conv, sent.message_id), 0);
	/* no member, no such message, no such conversation */
	assert_int_equal(
	    mark(&stage, 3, &sent.conv, sent.message_id), ERR_NOT_FOUND);
	assert_int_equal(
	    mark(&stage, 2, &sent.conv, sent.message_id + 256), ERR_NOT_FOUND);
	sent.conv.bytes[15]++;
	assert_int_equal(
	    mark(&stage, 2, &sent.conv, sent.message_id), ERR_NOT_FOUND);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_RECEIPT), 0);
	stage_close(&stage);
}

static void
blocked_users_find_nobody(void **state)
{
	struct record_block block = {
	    .user = 2, .session = 102, .other = 1, .on = 1};
	struct letter letter = letter_to(1, 2, 1);
	const struct record_presence *presence;
	const struct record_send_reply *reply;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	stage_barrier(&stage);
	stage_forget(&stage);
	assert_int_equal(
	    stage_ask(&stage, RECORD_BLOCK, &block, sizeof(block)), 0);
	presence = (const void *)stage_take(&stage, RECORD_PRESENCE)->data;
	assert_int_equal(presence->user, 2);
	assert_int_equal(presence->status, STATUS_OFFLINE);
	assert_int_equal(presence->target_count, 1);
	assert_int_equal(*(const uint64_t *)(presence + 1), 1);
	reply = stage_send_wait(&stage, &letter);
	assert_int_equal(reply->rc, ERR_NOT_FOUND);
	assert_int_equal(reply->unknown_count, 1);
	block.on = 0;
	assert_int_equal(
	    stage_ask(&stage, RECORD_BLOCK, &block, sizeof(block)), 0);
	presence = (const void *)stage_take(&stage, RECORD_PRESENCE)->data;
	assert_int_equal(presence->status, STATUS_ONLINE);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	block.other = 77;
	assert_int_equal(stage_ask(&stage, RECORD_BLOCK, &block, sizeof(block)),
	    ERR_NOT_FOUND);
	stage_close(&stage);
}

/* Two records that meet damaged rows, in one batch: each is answered, the
 * third is stored, the keeper goes on. */
static void
damaged_rows_cost_only_who_needs_them(void **state)
{
	struct letter letters[4];
	uint64_t reqs[4];
	struct stage stage;
	struct conv_key key;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	for (uint64_t i = 0; i < 4; i++) {
		letters[i] = letter_to(1, 2 + i, i);
		assert_int_equal(stage_send_wait(&stage, &letters[i])->rc, 0);
	}
	stage_store_open(&stage, true);
	for (uint64_t i = 0; i < 3; i++) {
		conv_key_make((const uint64_t[]){1, 2 + i}, 2, &key);
		assert_int_equal(txn_put(&stage.txn, DBI_conv, key.bytes,
				     sizeof(key.bytes), "damaged", 7),
		    0);
	}
	stage_store_close(&stage);
	for (uint64_t i = 0; i < 4; i++) {
		letters[i].number += 10;
		reqs[i] = stage_send(&stage, &letters[i]);
	}
	stage_keeper_start(&stage);
	for (uint64_t i = 0; i < 4; i++) {
		const struct record_send_reply *reply = stage_sent(&stage);

		assert_int_equal(reply->req, reqs[i]);
		assert_int_equal(reply->rc, i < 3 ? ERR_SERVER_ERROR : 0);
	}
	assert_int_equal(rows(&stage, DBI_log), 5);
	stage_close(&stage);
}

/* More than a batch takes lies in the ring of a worker that died. */
static void
what_a_dead_worker_had_submitted_is_applied(void **state)
{
	struct letter letter = letter_to(1, 2, 0);
	const int count = 1500;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1);
	stage_keeper_stop(&stage);
	for (int i = 0; i < count; i++) {
		letter.number++;
		stage_send(&stage, &letter);
	}
	atomic_store(&board_slot(stage.board, WORKER_A)->state, PROCESS_DEAD);
	stage_keeper_start(&stage);
	stage_play(&stage, WORKER_B);
	while (ring_tail(bus_ring(stage.bus, WORKER_A, SLOT_KEEPER)) !=
	       ring_head(bus_ring(stage.bus, WORKER_A, SLOT_KEEPER)))
		stage_barrier(&stage);
	stage_barrier(&stage);
	assert_int_equal(rows(&stage, DBI_log), count);
	stage_close(&stage);
}

static void
a_full_store_refuses_messages_and_does_the_rest(void **state)
{
	struct letter letter = letter_to(1, 2, 0);
	const struct record_deliver *deliver;
	struct stage stage;
	uint64_t seq = 0;
	uint64_t stored = 0;

	(void)state;
	stage_open(&stage);
	stage_keeper_stop(&stage);
	stage.conf->store_map_size = 1 << 20;
	stage_keeper_start(&stage);
	log_in(&stage, 1);
	log_in(&stage, 2);
	for (;;) {
		letter.number++;
		if (stage_send_wait(&stage, &letter)->rc != 0)
			break;
		stored++;
		deliver =
		    (const void *)stage_take(&stage, RECORD_DELIVER)->data;
		seq = deliver_targets(deliver)->seq;
	}
	assert_true(stored > 100);
	assert_int_equal(
	    stage_send_wait(&stage, &letter)->rc, ERR_STORAGE_FULL);
	stage_ack(&stage, 2, 102, seq);
	stage_take(&stage, RECORD_RECEIPT);
	assert_int_equal(stage_end_session(&stage, 2, 102, 0), 0);
	log_in(&stage, 2);
	stage_store_open(&stage, false);
	assert_int_equal(store_count(&stage.txn, DBI_log), stored);
	assert_int_equal(store_count(&stage.txn, DBI_inbox), 0);
	stage_store_close(&stage);
	/* more room, and it goes on */
	stage.conf->store_map_size = 2 << 20;
	stage_keeper_start(&stage);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_message_is_answered_and_delivered),
	    cmocka_unit_test(
		a_retry_is_stored_once_and_a_contradiction_is_told),
	    cmocka_unit_test(
		unknown_recipients_are_named_and_nothing_is_stored),
	    cmocka_unit_test(malformed_recipients_are_refused),
	    cmocka_unit_test(replies_must_answer_something_in_the_conversation),
	    cmocka_unit_test(every_device_of_every_member_is_told),
	    cmocka_unit_test(an_older_session_is_told_again_when_it_asks),
	    cmocka_unit_test(what_an_older_session_sends_is_discarded),
	    cmocka_unit_test(acknowledged_events_leave_the_inbox),
	    cmocka_unit_test(read_marks_are_told_to_the_members),
	    cmocka_unit_test(blocked_users_find_nobody),
	    cmocka_unit_test(damaged_rows_cost_only_who_needs_them),
	    cmocka_unit_test(what_a_dead_worker_had_submitted_is_applied),
	    cmocka_unit_test(a_full_store_refuses_messages_and_does_the_rest),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
