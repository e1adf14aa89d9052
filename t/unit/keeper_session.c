/*
 * keeper_session.c - unit test of src/keeper/: logins and where their cursor
 * stands, devices, status, graces.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>

#include "shm/userhead.h"
#include "t/unit/keeper_stage.h"

static struct record_login_reply
log_in(struct stage *stage, uint64_t user, uint64_t session, uint64_t device)
{
	struct login login = {
	    .user = user, .session = session, .device = device};

	return stage_login(stage, &login);
}

static struct record_login_reply
log_in_from(struct stage *stage, uint64_t session, uint64_t device,
    uint64_t last_seq, uint32_t flags)
{
	struct login login = {
	    .user = 2,
	    .session = session,
	    .device = device,
	    .last_seq = last_seq,
	    .flags = LOGIN_HAS_SEQ | flags,
	};

	return stage_login(stage, &login);
}

/* From user 1, session 101, to user 2. */
static void
send_some(struct stage *stage, int count)
{
	struct letter letter = {
	    .from = 1, .session = 101, .to = {2}, .to_count = 1};

	for (int i = 0; i < count; i++) {
		letter.number = ++stage->req;
		assert_int_equal(stage_send_wait(stage, &letter)->rc, 0);
	}
}

static void
only_known_users_log_in(void **state)
{
	struct login login = {.user = 77, .session = 1, .device = 1};
	struct record_login_reply reply;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	assert_int_equal(stage_login(&stage, &login).rc, ERR_NOT_FOUND);
	login.flags = LOGIN_PROVISION;
	login.name = "Bea";
	reply = stage_login(&stage, &login);
	assert_int_equal(reply.rc, 0);
	assert_int_equal(reply.name_len, 3);
	assert_int_equal(reply.device_count, 1);
	/* known from now on, the name does not change by logging in */
	login.flags = 0;
	login.name = "Someone";
	assert_int_equal(stage_login(&stage, &login).name_len, 3);
	stage_close(&stage);
}

static void
a_first_device_begins_at_the_oldest_a_further_one_at_the_head(void **state)
{
	struct record_login_reply reply;
	struct stage stage;
	uint64_t base;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	send_some(&stage, 5);
	reply = log_in(&stage, 2, 201, 1);
	base = reply.cursor;
	assert_int_equal(reply.head, base + 5);
	assert_int_equal(reply.floor, base);
	assert_int_equal(reply.recovered, 1);
	reply = log_in(&stage, 2, 202, 2);
	assert_int_equal(reply.cursor, base + 5);
	assert_int_equal(reply.device_count, 2);
	assert_int_equal(reply.recovered, 1);
	/* each goes on where it was */
	send_some(&stage, 2);
	assert_int_equal(log_in(&stage, 2, 203, 1).cursor, base);
	assert_int_equal(log_in(&stage, 2, 204, 2).cursor, base + 5);
	stage_close(&stage);
}

static void
last_seq_sets_the_cursor_in_either_direction(void **state)
{
	struct record_login_reply reply;
	struct stage stage;
	uint64_t base;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	send_some(&stage, 10);
	base = log_in(&stage, 2, 201, 1).cursor;
	log_in(&stage, 2, 301, 2); /* holds what is above its cursor */
	reply = log_in_from(&stage, 302, 2, base + 2, 0);
	assert_int_equal(reply.cursor, base + 2);
	assert_int_equal(reply.recovered, 1);
	/* forward: an acknowledgement */
	reply = log_in_from(&stage, 202, 1, base + 6, 0);
	assert_int_equal(reply.cursor, base + 6);
	assert_int_equal(reply.recovered, 1);
	assert_int_equal(reply.floor, base + 2);
	/* back, as far as there is something */
	reply = log_in_from(&stage, 203, 1, base + 3, 0);
	assert_int_equal(reply.cursor, base + 3);
	assert_int_equal(reply.recovered, 1);
	assert_int_equal(log_in(&stage, 2, 204, 1).cursor, base + 3);
	/* further back something is gone */
	reply = log_in_from(&stage, 205, 1, base + 1, 0);
	assert_int_equal(reply.cursor, base + 2);
	assert_int_equal(reply.recovered, 0);
	/* exactly at the floor nothing is */
	reply = log_in_from(&stage, 206, 1, base + 2, 0);
	assert_int_equal(reply.recovered, 1);
	/* the head itself, and above it */
	reply = log_in_from(&stage, 207, 1, base + 10, 0);
	assert_int_equal(reply.cursor, base + 10);
	assert_int_equal(reply.recovered, 1);
	reply = log_in_from(&stage, 208, 1, base + 11, 0);
	assert_int_equal(reply.cursor, base + 10);
	assert_int_equal(reply.recovered, 0);
	/* of another store */
	reply = log_in_from(&stage, 209, 1, base + 4, LOGIN_EPOCH_DIFFERS);
	assert_int_equal(reply.recovered, 0);
	assert_true(reply.cursor <= reply.head);
	stage_close(&stage);
}

static void
a_seq_from_before_the_first_is_no_loss(void **state)
{
	struct record_login_reply reply;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	send_some(&stage, 1);
	reply = log_in_from(&stage, 201, 1, 0, 0);
	assert_int_equal(reply.recovered, 1);
	assert_int_equal(reply.cursor + 1, reply.head);
	stage_close(&stage);
}

/* A device back after device_retention moves on to where it says it is: what
 * is above that is either there or told to be gone. */
static void
a_device_long_away_sees_no_silent_hole(void **state)
{
	struct record_login_reply reply;
	struct stage stage;
	uint64_t base;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	base = log_in(&stage, 2, 201, 1).cursor;
	log_in(&stage, 2, 301, 2);
	send_some(&stage, 10);
	assert_int_equal(stage_end_session(&stage, 2, 201, 0), 0);
	stage_ack(&stage, 2, 301, base + 10);
	assert_int_equal(stage_end_session(&stage, 2, 301, 0), 0);
	/* of no use any more: it holds nothing */
	stage_keeper_stop(&stage);
	stage_store_open(&stage, true);
	{
		struct userhead head;

		assert_int_equal(userhead_get(&stage.txn, 2, &head), 0);
		assert_int_equal(head.row.floor, base);
		for (int i = 0; i < head.row.device_count; i++) {
			if (head.devices[i].cursor == base)
				head.devices[i].last_used_ms = 1;
		}
		assert_int_equal(userhead_put(&stage.txn, &head), 0);
	}
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	reply = log_in_from(&stage, 202, 1, base + 4, 0);
	assert_int_equal(reply.cursor, base + 4);
	assert_int_equal(reply.floor, base + 4);
	assert_int_equal(reply.recovered, 1);
	stage_store_open(&stage, false);
	assert_int_equal(store_count(&stage.txn, DBI_inbox), 6);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	stage_close(&stage);
}

static void
the_device_unused_longest_makes_room(void **state)
{
	struct record_login_reply reply;
	struct stage stage;

	(void)state;
	stage_open(&stage);
	for (uint64_t i = 1; i <= 16; i++)
		assert_int_equal(log_in(&stage, 1, 100 + i, i).rc, 0);
	/* all of them connected */
	assert_int_equal(log_in(&stage, 1, 117, 17).rc, ERR_CONFLICT);
	assert_int_equal(stage_end_session(&stage, 1, 105, 0), 0);
	assert_int_equal(stage_end_session(&stage, 1, 103, 0), 0);
	stage_store_open(&stage, true);
	{
		struct userhead head;

		/* the clock has but milliseconds */
		assert_int_equal(userhead_get(&stage.txn, 1, &head), 0);
		for (int i = 0; i < head.row.device_count; i++) {
			if (head.devices[i].number == 4)
				head.devices[i].last_used_ms -= 10;
		}
		assert_int_equal(userhead_put(&stage.txn, &head), 0);
	}
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	reply = log_in(&stage, 1, 117, 17);
	assert_int_equal(reply.rc, 0);
	assert_int_equal(reply.device_count, 16);
	/* 3 is still known, 5 is not */
	stage_store_open(&stage, false);
	{
		struct userhead head;
		uint8_t hash[16] = {3};

		assert_int_equal(userhead_get(&stage.txn, 1, &head), 0);
		assert_non_null(userhead_find_device(&head, hash));
		hash[0] = 5;
		assert_null(userhead_find_device(&head, hash));
		assert_int_equal(store_count(&stage.txn, DBI_device), 16);
	}
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	stage_close(&stage);
}

static void
forgetting_a_device_frees_what_it_held(void **state)
{
	struct letter letter = {
	    .from = 2, .session = 302, .to = {1}, .to_count = 1};
	struct stage stage;
	uint64_t head;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	head = log_in(&stage, 2, 201, 1).head + 5;
	log_in(&stage, 2, 302, 2);
	send_some(&stage, 5);
	/* a whole row of sends, and one in the log only */
	for (letter.number = 1; letter.number <= SENT_PER_ROW + 1;
	     letter.number++)
		assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	stage_ack(&stage, 2, 201, head);
	assert_int_equal(
	    stage_end_session(&stage, 2, 302, SESSION_END_FORGET), 0);
	stage_store_open(&stage, false);
	/* user 1 has the answers to wait for, user 2 its own sends */
	assert_int_equal(
	    store_count(&stage.txn, DBI_inbox), 2 * (SENT_PER_ROW + 1));
	assert_int_equal(store_count(&stage.txn, DBI_sent), 0);
	assert_int_equal(store_count(&stage.txn, DBI_device), 2);
	stage_store_close(&stage);
	stage_keeper_start(&stage);
	stage_close(&stage);
}

static const struct record_presence *
presence_of(struct stage *stage, uint64_t user)
{
	const struct record_presence *presence;

	presence = (const void *)stage_take(stage, RECORD_PRESENCE)->data;
	assert_int_equal(presence->user, user);
	return presence;
}

static void
set_status(struct stage *stage, uint64_t user, uint64_t session,
    enum user_status status)
{
	struct record_status record = {
	    .user = user, .session = session, .status = status};

	assert_int_equal(
	    stage_ask(stage, RECORD_STATUS, &record, sizeof(record)), 0);
}

static void
others_see_the_most_available_session(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	log_in(&stage, 2, 201, 1);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_ONLINE);
	set_status(&stage, 2, 201, STATUS_AWAY);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_AWAY);
	log_in(&stage, 2, 202, 2);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_ONLINE);
	set_status(&stage, 2, 201, STATUS_BUSY);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_PRESENCE), 0);
	set_status(&stage, 2, 202, STATUS_INVISIBLE);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_BUSY);
	set_status(&stage, 2, 201, STATUS_INVISIBLE);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_OFFLINE);
	stage_close(&stage);
}

static void
offline_is_told_after_the_grace(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	log_in(&stage, 1, 101, 1);
	log_in(&stage, 2, 201, 1);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_ONLINE);
	assert_int_equal(stage_end_session(&stage, 2, 201, 0), 0);
	assert_true(presence_of(&stage, 2)->last_seen_ms != 0);
	log_in(&stage, 2, 202, 1);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_ONLINE);
	/* also when the keeper is killed in between */
	assert_int_equal(stage_end_session(&stage, 2, 202, 0), 0);
	stage_keeper_kill(&stage);
	stage_keeper_start(&stage);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_OFFLINE);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_PRESENCE), 0);
	stage_close(&stage);
}

static void
a_reconnect_within_the_grace_is_not_told(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	stage_keeper_stop(&stage);
	stage.conf->policy_presence_grace = 600000;
	stage_keeper_start(&stage);
	log_in(&stage, 1, 101, 1);
	log_in(&stage, 2, 201, 1);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_ONLINE);
	assert_int_equal(stage_end_session(&stage, 2, 201, 0), 0);
	log_in(&stage, 2, 202, 1);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_PRESENCE), 0);
	stage_close(&stage);
}

static void
sessions_end_with_their_worker(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	stage_play(&stage, WORKER_B);
	log_in(&stage, 2, 201, 1);
	stage_play(&stage, WORKER_A);
	log_in(&stage, 1, 101, 1);
	stage_forget(&stage);
	stage_worker_restart(&stage, WORKER_B);
	stage_play(&stage, WORKER_A);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_OFFLINE);
	stage_close(&stage);
}

/* ---- logins of the dead ---- */

/* B's worker dies with a login under way; its client logs in by A, whose ring
 * is read first. */
static void
a_login_whose_worker_has_died_replaces_nobody(void **state)
{
	struct stage stage;
	const struct login late = {.user = 2, .session = 201, .device = 1};
	const struct login latest = {.user = 2, .session = 202, .device = 1};

	(void)state;
	stage_open(&stage);
	stage_keeper_kill(&stage);
	stage_play(&stage, WORKER_B);
	stage_put_login(&stage, &late);
	stage_play(&stage, WORKER_A);
	stage_put_login(&stage, &latest);
	stage_worker_restart(&stage, WORKER_B);
	stage_keeper_start(&stage);
	stage_barrier(&stage);
	stage_play(&stage, WORKER_A);
	(void)stage_take(&stage, RECORD_LOGIN_REPLY);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_REPLACED), 0);
	stage_close(&stage);
}

/* Nor before there is another worker. */
static void
a_login_of_a_worker_that_is_gone_replaces_nobody(void **state)
{
	struct stage stage;
	const struct login late = {.user = 2, .session = 201, .device = 1};

	(void)state;
	stage_open(&stage);
	log_in(&stage, 2, 202, 1);
	stage_play(&stage, WORKER_B);
	atomic_store(
	    &board_slot(stage.board, WORKER_B)->state, PROCESS_BACKOFF);
	stage_put_login(&stage, &late);
	stage_barrier(&stage);
	stage_play(&stage, WORKER_A);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_REPLACED), 0);
	stage_close(&stage);
}

/* ---- adopted ---- */

/* The next generation of worker B, which takes over a session of its
 * predecessor's. */
static void
adopt_as_b(
    struct stage *stage, const struct record_adopt *adopt, uint64_t adopted)
{
	struct board_slot *board = board_slot(stage->board, WORKER_B);
	struct record_hello hello = {.adopted = adopted};

	hello.generation = atomic_fetch_add(&board->generation, 1) + 1;
	stage_play(stage, WORKER_B);
	stage_put(stage, RECORD_ADOPT, adopt, sizeof(*adopt), NULL, 0);
	stage_put(stage, RECORD_HELLO, &hello, sizeof(hello), NULL, 0);
	stage_barrier(stage);
}

static void
a_session_is_adopted_by_the_next_worker(void **state)
{
	struct stage stage;
	struct record_adopt adopt = {.user = 2, .session = 201};
	struct letter letter = {
	    .from = 1, .session = 101, .to = {2}, .to_count = 1, .number = 1};
	uint64_t resync;
	const struct got *got;

	(void)state;
	stage_open(&stage);
	stage_play(&stage, WORKER_B);
	log_in(&stage, 2, 201, 1);
	stage_play(&stage, WORKER_A);
	log_in(&stage, 1, 101, 1);
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	stage_play(&stage, WORKER_B);
	got = stage_take(&stage, RECORD_DELIVER);
	adopt.acked =
	    deliver_targets((const struct record_deliver *)got->data)->seq;
	resync = atomic_load(&board_slot(stage.board, WORKER_B)->resync);
	stage_forget(&stage);
	adopt_as_b(&stage, &adopt, 1);
	/* it is to look for what came meanwhile */
	assert_int_equal(
	    atomic_load(&board_slot(stage.board, WORKER_B)->resync),
	    resync + 1);
	assert_int_equal(stage_count(&stage, RECORD_REPLACED), 0);
	/* what is sent from now on finds it there */
	stage_play(&stage, WORKER_A);
	letter.number = 2;
	assert_int_equal(stage_send_wait(&stage, &letter)->rc, 0);
	stage_play(&stage, WORKER_B);
	got = stage_take(&stage, RECORD_DELIVER);
	assert_int_equal(got->to_gen,
	    atomic_load(&board_slot(stage.board, WORKER_B)->generation));
	assert_int_equal(
	    deliver_targets((const struct record_deliver *)got->data)->seq,
	    adopt.acked + 1);
	/* and nobody saw it go, though its predecessor's rest was ended */
	stage_play(&stage, WORKER_A);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_PRESENCE), 0);
	/* the cursor stands where the session had said */
	stage_play(&stage, WORKER_B);
	assert_int_equal(log_in(&stage, 2, 202, 1).cursor, adopt.acked);
	stage_close(&stage);
}

static void
a_session_that_ended_meanwhile_is_not_adopted(void **state)
{
	struct stage stage;
	struct record_adopt adopt = {.user = 2, .session = 201};
	const struct record_replaced *replaced;

	(void)state;
	stage_open(&stage);
	stage_play(&stage, WORKER_B);
	log_in(&stage, 2, 201, 1);
	stage_play(&stage, WORKER_A);
	log_in(&stage, 2, 202, 1); /* the same device, elsewhere */
	adopt_as_b(&stage, &adopt, 1);
	replaced = (const void *)stage_take(&stage, RECORD_REPLACED)->data;
	assert_int_equal(replaced->user, 2);
	assert_int_equal(replaced->session, 201);
	assert_int_equal(replaced->reason, REPLACED_BY_LOGIN);
	stage_close(&stage);
}

static void
who_is_not_adopted_is_seen_to_go(void **state)
{
	struct stage stage;
	struct record_adopt adopt = {.user = 3, .session = 301};

	(void)state;
	stage_open(&stage);
	stage_play(&stage, WORKER_B);
	log_in(&stage, 2, 201, 1);
	log_in(&stage, 3, 301, 1);
	stage_play(&stage, WORKER_A);
	log_in(&stage, 1, 101, 1);
	stage_forget(&stage);
	adopt_as_b(&stage, &adopt, 1);
	stage_play(&stage, WORKER_A);
	assert_int_equal(presence_of(&stage, 2)->status, STATUS_OFFLINE);
	stage_barrier(&stage);
	assert_int_equal(stage_count(&stage, RECORD_PRESENCE), 0);
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_known_users_log_in),
	    cmocka_unit_test(
		a_first_device_begins_at_the_oldest_a_further_one_at_the_head),
	    cmocka_unit_test(last_seq_sets_the_cursor_in_either_direction),
	    cmocka_unit_test(a_seq_from_before_the_first_is_no_loss),
	    cmocka_unit_test(a_device_long_away_sees_no_silent_hole),
	    cmocka_unit_test(the_device_unused_longest_makes_room),
	    cmocka_unit_test(forgetting_a_device_frees_what_it_held),
	    cmocka_unit_test(others_see_the_most_available_session),
	    cmocka_unit_test(offline_is_told_after_the_grace),
	    cmocka_unit_test(a_reconnect_within_the_grace_is_not_told),
	    cmocka_unit_test(sessions_end_with_their_worker),
	    cmocka_unit_test(a_login_whose_worker_has_died_replaces_nobody),
	    cmocka_unit_test(a_login_of_a_worker_that_is_gone_replaces_nobody),
	    cmocka_unit_test(a_session_is_adopted_by_the_next_worker),
	    cmocka_unit_test(a_session_that_ended_meanwhile_is_not_adopted),
	    cmocka_unit_test(who_is_not_adopted_is_seen_to_go),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
