/*
 * keeper_edit.c - unit test of src/keeper/apply_edit.c over real rings and a
 * real store: who may change what, what is told to whom, what stays.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/log.h"
#include "shm/userhead.h"
#include "t/unit/keeper_stage.h"

static void
log_in(struct stage *stage, uint64_t user, uint64_t device)
{
	struct login login = {
	    .user = user, .session = 100 + device, .device = device};

	assert_int_equal(stage_login(stage, &login).rc, 0);
}

/* User 1 with devices 1 and 11, users 2 and 3; a message of his to both. */
static uint64_t
open_with_message(struct stage *stage, uint64_t number)
{
	struct letter letter = {
	    .from = 1,
	    .session = 101,
	    .to = {2, 3},
	    .to_count = 2,
	    .number = number,
	};
	uint64_t id;

	stage_open(stage);
	log_in(stage, 1, 1);
	log_in(stage, 2, 2);
	log_in(stage, 3, 3);
	id = stage_send_wait(stage, &letter)->message_id;
	log_in(stage, 1, 11);
	stage_barrier(stage);
	stage_forget(stage);
	return id;
}

static uint64_t
put_edit(struct stage *stage, uint64_t user, uint64_t id, const char *text)
{
	struct record_edit record = {
	    .req = ++stage->req,
	    .user = user,
	    .session = 100 + user,
	    .message_id = id,
	    .body_len = text == NULL ? 0 : strlen(text),
	};

	stage_put(stage, text == NULL ? RECORD_DELETE : RECORD_EDIT, &record,
	    sizeof(record), text, record.body_len);
	return record.req;
}

/* text NULL: delete */
static struct record_send_reply
edit(struct stage *stage, uint64_t user, uint64_t id, const char *text)
{
	uint64_t req = put_edit(stage, user, id, text);
	struct record_send_reply reply = *stage_sent(stage);

	assert_int_equal(reply.req, req);
	assert_int_equal(reply.user, user);
	return reply;
}

static const struct record_deliver *
take_delivery(struct stage *stage)
{
	return (const void *)stage_take(stage, RECORD_DELIVER)->data;
}

static void
assert_untold(struct stage *stage)
{
	stage_barrier(stage);
	assert_int_equal(stage_count(stage, RECORD_DELIVER), 0);
}

static void
an_edit_is_stored_and_told_to_all_who_have_it(void **state)
{
	const struct deliver_target *targets;
	const struct record_deliver *deliver;
	struct record_send_reply reply;
	struct log_message m;
	struct stage stage;
	uint64_t id;

	(void)state;
	id = open_with_message(&stage, 7001);
	reply = edit(&stage, 1, id, "other words");
	assert_int_equal(reply.rc, 0);
	assert_int_equal(reply.message_id, id);
	assert_int_equal(reply.flags, LOG_EDITED);
	assert_true(reply.changed_ms >= message_id_time_ms(id));
	assert_int_not_equal(reply.seq, 0);
	deliver = take_delivery(&stage);
	assert_int_equal(deliver->kind, EVENT_EDIT);
	assert_int_equal(deliver->flags, LOG_EDITED);
	assert_int_equal(deliver->changed_ms, reply.changed_ms);
	assert_int_equal(deliver->message_id, id);
	assert_int_equal(deliver->sender, 1);
	assert_int_equal(deliver->sender_session, 101);
	assert_int_equal(deliver->member_count, 3);
	assert_int_equal(deliver->target_count, 3);
	assert_int_equal(deliver->body_len, 11);
	assert_memory_equal(deliver_body(deliver), "other words", 11);
	assert_memory_equal(deliver_body(deliver) + 11, "text", 4);
	targets = deliver_targets(deliver);
	assert_int_equal(targets[0].user, 2);
	assert_int_equal(targets[1].user, 3);
	assert_int_equal(targets[2].user, 1);
	assert_int_equal(targets[2].seq, reply.seq);
	assert_untold(&stage);
	stage_store_open(&stage, false);
	assert_int_equal(log_get(&stage.txn, id, &m), 0);
	assert_int_equal(m.flags, LOG_EDITED);
	assert_int_equal(m.body.len, 11);
	assert_int_equal(m.position, 1);
	assert_int_equal(store_count(&stage.txn, DBI_log), 1);
	assert_int_equal(store_count(&stage.txn, DBI_inbox), 5);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
what_is_so_already_is_told_to_nobody(void **state)
{
	struct record_send_reply first;
	struct record_send_reply again;
	struct stage stage;
	uint64_t id;

	(void)state;
	id = open_with_message(&stage, 5);
	assert_int_equal(edit(&stage, 1, id, "5").rc, 0);
	assert_untold(&stage);
	first = edit(&stage, 1, id, "words");
	take_delivery(&stage);
	for (int i = 0; i < 2; i++) {
		again = edit(&stage, 1, id, "words");
		assert_int_equal(again.rc, 0);
		assert_int_equal(again.seq, 0);
		assert_int_equal(again.changed_ms, first.changed_ms);
		/* however late */
		stage_keeper_stop(&stage);
		stage.conf->policy_edit_window = 0;
		stage_keeper_start(&stage);
	}
	assert_untold(&stage);
	assert_int_equal(edit(&stage, 1, id, "more").rc, ERR_FORBIDDEN);
	assert_int_equal(edit(&stage, 1, id, NULL).rc, ERR_FORBIDDEN);
	assert_untold(&stage);
	stage_close(&stage);
}

static void
of_what_is_deleted_a_tombstone_stays(void **state)
{
	const struct record_deliver *deliver;
	struct record_send_reply first;
	struct log_message m;
	struct stage stage;
	struct conv conv;
	uint64_t id;

	(void)state;
	id = open_with_message(&stage, 7001);
	edit(&stage, 1, id, "confidential");
	take_delivery(&stage);
	first = edit(&stage, 1, id, NULL);
	assert_int_equal(first.rc, 0);
	assert_int_equal(first.flags, LOG_DELETED);
	deliver = take_delivery(&stage);
	assert_int_equal(deliver->kind, EVENT_DELETE);
	assert_int_equal(deliver->flags, LOG_DELETED);
	assert_int_equal(
	    deliver->body_len + deliver->type_len + deliver->attachment_len, 0);
	assert_int_equal(edit(&stage, 1, id, NULL).rc, 0);
	assert_int_equal(
	    edit(&stage, 1, id, NULL).changed_ms, first.changed_ms);
	assert_int_equal(edit(&stage, 1, id, "back").rc, ERR_CONFLICT);
	assert_untold(&stage);
	stage_store_open(&stage, false);
	assert_int_equal(log_get(&stage.txn, id, &m), 0);
	assert_int_equal(m.flags, LOG_DELETED);
	assert_int_equal(m.body.len + m.type.len + m.attachment.len, 0);
	assert_int_equal(conv_get(&stage.txn, &m.conv, &conv), 0);
	assert_int_equal(conv.last_id, id);
	assert_int_equal(conv.members[1].unread, 1);
	stage_store_close(&stage);
	stage_close(&stage);
}

static void
nobody_changes_what_is_not_his(void **state)
{
	struct stage stage;
	uint64_t id;

	(void)state;
	id = open_with_message(&stage, 5);
	for (int i = 0; i < 2; i++) {
		const char *text = i == 0 ? "words" : NULL;

		assert_int_equal(edit(&stage, 2, id, text).rc, ERR_NOT_FOUND);
		assert_int_equal(
		    edit(&stage, 1, id + 256, text).rc, ERR_NOT_FOUND);
		assert_int_equal(edit(&stage, 1, 0, text).rc, ERR_NOT_FOUND);
		assert_int_equal(
		    edit(&stage, 1, UINT64_MAX, text).rc, ERR_NOT_FOUND);
		/* a session that does not count is not answered */
		put_edit(&stage, 9, id, text);
		stage_barrier(&stage);
		assert_int_equal(stage_count(&stage, RECORD_SEND_REPLY), 0);
		assert_int_equal(stage_count(&stage, RECORD_REPLACED), 1);
		stage_forget(&stage);
	}
	assert_untold(&stage);
	stage_close(&stage);
}

static void
records_that_make_no_sense_are_refused(void **state)
{
	struct record_edit record = {.user = 1, .session = 101};
	struct stage stage;

	(void)state;
	record.message_id = open_with_message(&stage, 5);
	for (int i = 0; i < 3; i++) {
		record.req = ++stage.req;
		record.body_len = i == 0 ? 0 : i == 1 ? 6 : UINT64_MAX;
		stage_put(&stage, RECORD_EDIT, &record, sizeof(record), "words",
		    i == 0 ? 0 : 5);
		assert_int_equal(stage_sent(&stage)->rc, ERR_BAD_REQUEST);
	}
	assert_untold(&stage);
	stage_close(&stage);
}

static void
who_blocks_gets_no_words_but_learns_that_they_are_gone(void **state)
{
	struct record_block block = {
	    .user = 3, .session = 103, .other = 1, .on = 1};
	const struct record_deliver *deliver;
	struct stage stage;
	uint64_t id;

	(void)state;
	id = open_with_message(&stage, 5);
	assert_int_equal(
	    stage_ask(&stage, RECORD_BLOCK, &block, sizeof(block)), 0);
	assert_int_equal(edit(&stage, 1, id, "words").rc, ERR_NOT_FOUND);
	assert_untold(&stage);
	assert_int_equal(edit(&stage, 1, id, NULL).rc, 0);
	deliver = take_delivery(&stage);
	assert_int_equal(deliver->target_count, 3);
	stage_close(&stage);
}

static void
take_away(struct stage *stage, uint64_t user)
{
	struct record_user_put record = {
	    .user = user, .flags = USER_PUT_REMOVE};

	assert_int_equal(
	    stage_ask(stage, RECORD_USER_PUT, &record, sizeof(record)), 0);
	stage_barrier(stage);
	stage_forget(stage);
}

/* Not a contact any more, they have not talked: no words, but a deletion. */
static void
of_two_an_edit_needs_what_a_send_needs(void **state)
{
	struct record_contact contact = {
	    .a = 1, .b = 2, .count = 1, .op = CONTACT_REMOVE};
	struct letter letter = {.from = 1,
	    .session = 101,
	    .to = {2},
	    .to_count = 1,
	    .number = 8000};
	struct stage stage;
	uint64_t many;
	uint64_t id;

	(void)state;
	many = open_with_message(&stage, 5);
	id = stage_send_wait(&stage, &letter)->message_id;
	letter.number++;
	assert_int_equal(edit(&stage, 1, id, "words").rc, 0);
	assert_int_equal(
	    stage_ask(&stage, RECORD_CONTACT, &contact, sizeof(contact)), 0);
	stage_barrier(&stage);
	stage_forget(&stage);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, ERR_NOT_FOUND);
	assert_int_equal(edit(&stage, 1, id, "more").rc, ERR_NOT_FOUND);
	assert_untold(&stage);
	/* among many they go on */
	assert_int_equal(edit(&stage, 1, many, "more").rc, 0);
	assert_int_equal(take_delivery(&stage)->target_count, 3);
	assert_int_equal(edit(&stage, 1, id, NULL).rc, 0);
	assert_int_equal(take_delivery(&stage)->target_count, 2);
	stage_close(&stage);
}

static void
who_was_removed_is_told_nothing(void **state)
{
	struct userhead before;
	struct userhead after;
	struct stage stage;
	uint64_t id;

	(void)state;
	id = open_with_message(&stage, 5);
	take_away(&stage, 3);
	stage_store_open(&stage, false);
	assert_int_equal(userhead_get(&stage.txn, 3, &before), 0);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	assert_int_equal(edit(&stage, 1, id, "words").rc, 0);
	assert_int_equal(take_delivery(&stage)->target_count, 2);
	stage_store_open(&stage, false);
	assert_int_equal(userhead_get(&stage.txn, 3, &after), 0);
	assert_int_equal(after.row.head, before.row.head);
	stage_store_close(&stage);
	stage_close(&stage);
}

/* What is so already is no edit; deleting is always possible. */
static void
a_message_is_edited_a_hundred_times(void **state)
{
	struct log_message m;
	struct stage stage;
	uint64_t id;
	char text[8];

	(void)state;
	id = open_with_message(&stage, 5);
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "nr %d", i);
		assert_int_equal(edit(&stage, 1, id, text).rc, 0);
		assert_int_equal(edit(&stage, 1, id, text).rc, 0);
	}
	stage_keeper_kill(&stage);
	stage_keeper_start(&stage);
	stage_barrier(&stage);
	stage_forget(&stage);
	assert_int_equal(edit(&stage, 1, id, "words").rc, ERR_CONFLICT);
	assert_int_equal(edit(&stage, 1, id, "nr 99").rc, 0);
	assert_untold(&stage);
	assert_int_equal(edit(&stage, 1, id, NULL).rc, 0);
	stage_store_open(&stage, false);
	assert_int_equal(log_get(&stage.txn, id, &m), 0);
	assert_int_equal(m.edits, 100);
	stage_store_close(&stage);
	stage_close(&stage);
}

/* The chain of what a device has sent goes through the rows. */
static void
a_retry_of_the_send_is_known_whatever_became_of_it(void **state)
{
	struct letter letter = {
	    .from = 1, .session = 101, .to = {2, 3}, .to_count = 2};
	uint64_t ids[20];
	struct stage stage;

	(void)state;
	ids[0] = open_with_message(&stage, 100);
	for (uint64_t i = 1; i < 20; i++) {
		letter.number = 100 + i;
		ids[i] = stage_send_wait(&stage, &letter)->message_id;
	}
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(
		    edit(&stage, 1, ids[i], i % 2 == 0 ? "changed" : NULL).rc,
		    0);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < 20; i++) {
			const struct record_send_reply *reply;

			letter.number = 100 + i;
			reply = stage_send_wait(&stage, &letter);
			assert_int_equal(reply->rc, ERR_DUPLICATE);
			assert_int_equal(reply->message_id, ids[i]);
		}
		stage_keeper_kill(&stage);
		stage_keeper_start(&stage);
	}
	letter.request_hash = 1;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, ERR_CONFLICT);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_edit_is_stored_and_told_to_all_who_have_it),
	    cmocka_unit_test(what_is_so_already_is_told_to_nobody),
	    cmocka_unit_test(of_what_is_deleted_a_tombstone_stays),
	    cmocka_unit_test(nobody_changes_what_is_not_his),
	    cmocka_unit_test(records_that_make_no_sense_are_refused),
	    cmocka_unit_test(
		who_blocks_gets_no_words_but_learns_that_they_are_gone),
	    cmocka_unit_test(of_two_an_edit_needs_what_a_send_needs),
	    cmocka_unit_test(who_was_removed_is_told_nothing),
	    cmocka_unit_test(a_message_is_edited_a_hundred_times),
	    cmocka_unit_test(
		a_retry_of_the_send_is_known_whatever_became_of_it),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
