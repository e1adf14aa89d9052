/*
 * job_signal.c - who may signal to whom: every state of a participant and of
 * a call, on either side.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/call.h"
#include "shm/userhead.h"
#include "shm/users.h"
#include "t/unit/store_box.h"
#include "worker/reader.h"

#define CALL_ID  77
#define ALICE    10
#define BRUNO    11
#define STRANGER 12

static uint64_t
session_of(uint64_t user)
{
	return 1000 + user;
}

/* A user with a device that is connected and one that is not. */
static void
put_user(struct txn *txn, uint64_t user, int slot)
{
	struct userhead head = {.user = user};

	head.row.device_count = 2;
	head.devices[0] = (struct userhead_device){.hash = {1}, .number = 1};
	head.devices[1] = (struct userhead_device){
	    .hash = {2},
	    .number = 2,
	    .session = session_of(user),
	    .worker = (uint8_t)slot,
	};
	assert_int_equal(userhead_put(txn, &head), 0);
}

static void
put_call(struct store_box *box, enum call_state state, enum part_state alice,
    enum part_state bruno)
{
	struct call call = {.id = CALL_ID};

	box_begin(box);
	call.row.state = state;
	call.row.part_count = 2;
	call.parts[0] = (struct call_part){
	    .user = ALICE, .state = alice, .session = session_of(ALICE)};
	call.parts[1] = (struct call_part){
	    .user = BRUNO, .state = bruno, .session = session_of(BRUNO)};
	assert_int_equal(call_put(&box->txn, &call), 0);
	put_user(&box->txn, ALICE, SLOT_WORKER_0);
	put_user(&box->txn, BRUNO, SLOT_WORKER_0 + 1);
	assert_int_equal(txn_commit(&box->txn), 0);
}

static struct job
ask(struct store_box *box, uint64_t call, uint64_t user, uint64_t session,
    uint64_t to, uint64_t to_session)
{
	struct job job = {.user = user, .session = session};
	struct txn txn = {0};

	job.call = call;
	job.users[0] = to;
	job.to_session = to_session;
	assert_int_equal(store_begin_read(box->main, &txn), 0);
	job_signal(&job, &txn, NULL);
	txn_end(&txn);
	return job;
}

static struct job
alice_to_bruno(struct store_box *box)
{
	return ask(box, CALL_ID, ALICE, session_of(ALICE), BRUNO, 0);
}

static void
one_that_may_pass_is_shown_its_way(void **state)
{
	struct store_box box;
	struct job job;

	(void)state;
	box_open(&box);
	put_call(&box, CALL_ACTIVE, PART_JOINED, PART_JOINED);
	job = alice_to_bruno(&box);
	assert_int_equal(job.rc, 0);
	assert_int_equal(job.to_session, session_of(BRUNO));
	assert_int_equal(job.to_slot, SLOT_WORKER_0 + 1);
	job = ask(
	    &box, CALL_ID, BRUNO, session_of(BRUNO), ALICE, session_of(ALICE));
	assert_int_equal(job.rc, 0);
	assert_int_equal(job.to_session, session_of(ALICE));
	assert_int_equal(job.to_slot, SLOT_WORKER_0);
	box_close(&box);
}

static void
strangers_learn_nothing(void **state)
{
	struct store_box box;
	struct job job;
	struct job none;

	(void)state;
	box_open(&box);
	put_call(&box, CALL_ACTIVE, PART_JOINED, PART_JOINED);
	none = ask(&box, CALL_ID + 1, STRANGER, 5, BRUNO, 0);
	job = ask(&box, CALL_ID, STRANGER, 5, BRUNO, 0);
	assert_int_equal(job.rc, ERR_NOT_FOUND);
	assert_int_equal(none.rc, ERR_NOT_FOUND);
	assert_string_equal(job.message, none.message);
	assert_null(job.state);
	/* not by a session that is in the call either */
	job = ask(&box, CALL_ID, STRANGER, session_of(ALICE), BRUNO, 0);
	assert_int_equal(job.rc, ERR_NOT_FOUND);
	job = ask(&box, CALL_ID, ALICE, session_of(ALICE), STRANGER, 0);
	assert_int_equal(job.rc, ERR_NOT_FOUND);
	assert_non_null(strstr(job.message, "ToUserId"));
	box_close(&box);
}

static void
only_joined_sessions_send_and_receive(void **state)
{
	struct store_box box;
	struct job job;

	(void)state;
	box_open(&box);
	for (int part = 0; part < PART_STATE_END; part++) {
		put_call(&box, CALL_ACTIVE, (enum part_state)part, PART_JOINED);
		job = alice_to_bruno(&box);
		assert_int_equal(
		    job.rc, part == PART_JOINED ? 0 : ERR_CONFLICT);
		assert_string_equal(job.state, "ACTIVE");
		put_call(&box, CALL_ACTIVE, PART_JOINED, (enum part_state)part);
		job = alice_to_bruno(&box);
		assert_int_equal(
		    job.rc, part == PART_JOINED ? 0 : ERR_UNAVAILABLE);
	}
	put_call(&box, CALL_ACTIVE, PART_JOINED, PART_JOINED);
	job = ask(&box, CALL_ID, ALICE, session_of(ALICE) + 1, BRUNO, 0);
	assert_int_equal(job.rc, ERR_CONFLICT); /* another device of hers */
	job = ask(&box, CALL_ID, ALICE, session_of(ALICE), BRUNO,
	    session_of(BRUNO) + 1);
	assert_int_equal(job.rc, ERR_UNAVAILABLE);
	box_close(&box);
}

static void
the_state_of_the_call_is_told(void **state)
{
	static const int expected[CALL_STATE_END] = {
	    [CALL_RINGING] = 0, [CALL_ACTIVE] = 0, [CALL_ENDED] = ERR_CONFLICT};
	struct store_box box;
	struct job job;

	(void)state;
	box_open(&box);
	for (int call = 0; call < CALL_STATE_END; call++) {
		put_call(&box, (enum call_state)call, PART_JOINED, PART_JOINED);
		job = alice_to_bruno(&box);
		assert_int_equal(job.rc, expected[call]);
		assert_string_equal(
		    job.state, call_state_name((enum call_state)call));
		if (call == CALL_ENDED)
			assert_non_null(strstr(job.message, "has ended"));
	}
	box_close(&box);
}

static void
a_session_that_is_gone_is_unavailable(void **state)
{
	struct store_box box;
	struct userhead head = {.user = BRUNO};
	struct job job;

	(void)state;
	box_open(&box);
	put_call(&box, CALL_ACTIVE, PART_JOINED, PART_JOINED);
	box_begin(&box);
	assert_int_equal(userhead_put(&box.txn, &head), 0);
	assert_int_equal(txn_commit(&box.txn), 0);
	job = alice_to_bruno(&box);
	assert_int_equal(job.rc, ERR_UNAVAILABLE);
	box_close(&box);
}

static void
nothing_passes_a_block(void **state)
{
	static const uint32_t blocks[] = {CONTACT_BLOCKING, CONTACT_BLOCKED_BY};
	struct store_box box;
	struct job absent;
	struct job job;

	(void)state;
	box_open(&box);
	put_call(&box, CALL_ACTIVE, PART_JOINED, PART_RECONNECTING);
	absent = alice_to_bruno(&box);
	put_call(&box, CALL_ACTIVE, PART_JOINED, PART_JOINED);
	for (size_t i = 0; i < 2; i++) {
		box_begin(&box);
		assert_int_equal(contact_change(&box.txn, ALICE, BRUNO,
				     blocks[i], blocks[1 - i]),
		    0);
		assert_int_equal(txn_commit(&box.txn), 0);
		job = alice_to_bruno(&box);
		assert_int_equal(job.rc, ERR_UNAVAILABLE);
		assert_int_equal(job.rc, absent.rc);
		assert_string_equal(job.message, absent.message);
		job = ask(&box, CALL_ID, BRUNO, session_of(BRUNO), ALICE, 0);
		assert_int_equal(job.rc, ERR_UNAVAILABLE);
	}
	box_begin(&box);
	assert_int_equal(contact_change(&box.txn, ALICE, BRUNO, 0,
			     CONTACT_BLOCKING | CONTACT_BLOCKED_BY),
	    0);
	assert_int_equal(txn_commit(&box.txn), 0);
	assert_int_equal(alice_to_bruno(&box).rc, 0);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_that_may_pass_is_shown_its_way),
	    cmocka_unit_test(strangers_learn_nothing),
	    cmocka_unit_test(only_joined_sessions_send_and_receive),
	    cmocka_unit_test(the_state_of_the_call_is_told),
	    cmocka_unit_test(a_session_that_is_gone_is_unavailable),
	    cmocka_unit_test(nothing_passes_a_block),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
