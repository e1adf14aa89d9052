/*
 * dir_mssql.c - unit test of the back end mssql over fakes of the database:
 * who is let in, who is seen, and how often the database is asked.
 */
#include "config.h"

#include "directory/dir_mssql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "shm/users.h"
#include "t/unit/dir_mssql_stage.h"

static void
the_hash_of_the_database_decides(void **state)
{
	struct stage *stage = *state;
	struct fake_answer *auth = &stage->answers[AUTH];
	uint64_t user = 0;

	assert_int_equal(stage_login(stage, "o'brien", 7, "right", &user), 0);
	assert_int_equal(user, 7);
	assert_string_equal(auth->params, "LoginName=o'brien;");
	assert_int_equal(fake_pool.places[MSSQL_PRIMARY], 1);
	assert_int_equal(
	    stage_login(stage, "o'brien", 7, "wrong", &user), ERR_AUTH_FAILED);
	assert_int_equal(user, 0);
	stage_logins[0][2] = "0"; /* not active any more */
	assert_int_equal(
	    stage_login(stage, "o'brien", 7, "right", &user), ERR_AUTH_FAILED);
	stage_logins[0][2] = "1";
	stage_logins[0][1] = NULL; /* has no password */
	assert_int_equal(
	    stage_login(stage, "o'brien", 7, "right", &user), ERR_AUTH_FAILED);
	auth->count = 0;
	assert_int_equal(
	    stage_login(stage, "nobody", 6, "right", &user), ERR_AUTH_FAILED);
	stage_logins[0][1] = stage->hash;
	auth->count = 2; /* two stage_people of this name: neither of them */
	assert_int_equal(
	    stage_login(stage, "o'brien", 7, "right", &user), ERR_UNAVAILABLE);
	assert_int_equal(user, 0);
}

static void
an_id_that_cannot_be_lets_nobody_in(void **state)
{
	static const char *const ids[] = {"0", "9007199254740992", NULL, "x"};
	struct stage *stage = *state;
	uint64_t user = 0;

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		stage_logins[0][0] = ids[i];
		assert_int_equal(stage_login(stage, "a", 1, "right", &user),
		    ERR_UNAVAILABLE);
		assert_int_equal(user, 0);
	}
	stage_logins[0][0] = "7";
}

static void
names_that_are_no_text_are_not_asked_for(void **state)
{
	static const struct {
		const char *name;
		size_t len;
	} names[] = {{"", 0}, {"a\0b", 3}, {"\xed\xa0\x80", 3}};
	struct stage *stage = *state;
	uint64_t user;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(stage_login(stage, names[i].name, names[i].len,
				     "right", &user),
		    ERR_AUTH_FAILED);
	assert_int_equal(stage->answers[AUTH].calls, 0);
}

static void
a_procedure_may_decide(void **state)
{
	struct stage *stage = *state;
	uint64_t user = 0;

	stage_let_procedure_decide(stage);
	assert_int_equal(stage_login(stage, "anna", 4, "right", &user), 0);
	assert_int_equal(user, 7);
	assert_string_equal(stage->answers[AUTH].params, "N=anna;P=right;");
	stage->answers[AUTH].count = 0;
	assert_int_equal(
	    stage_login(stage, "anna", 4, "wrong", &user), ERR_AUTH_FAILED);
	assert_int_equal(
	    stage_login(stage, "anna", 4, "", &user), ERR_AUTH_FAILED);
	assert_int_equal(stage->answers[AUTH].calls, 2);
}

/* The database hangs: who logs in is told so in time, and what the thread
 * finds later finds nobody. */
static void
a_login_does_not_wait_for_ever(void **state)
{
	struct stage *stage = *state;
	struct dir_request *request = stage_request(DIR_OP_PASSWORD, 0);
	int rc;

	request->name = xstrdup("anna");
	request->name_len = 4;
	request->password = xstrdup("right");
	request->password_len = 5;
	stage_ask(stage, request, &rc);
	dir_mssql_ops.turn(stage->backend);
	assert_int_equal(rc, PENDING);
	clock_shift(2500);
	dir_mssql_ops.turn(stage->backend);
	assert_int_equal(rc, ERR_UNAVAILABLE);
	dir_request_free(&request);
	assert_int_equal(fake_pool_run(stage->conn), 1);
	fake_pool.is_away = true;
	request = stage_request(DIR_OP_PASSWORD, 0);
	request->name = xstrdup("anna");
	request->name_len = 4;
	stage_ask(stage, request, &rc);
	assert_int_equal(rc, ERR_UNAVAILABLE);
	dir_request_free(&request);
}

/* Users on a page, as "id:name:role:profile ". */
static void
assert_page(const struct dir_request *request, const char *expected)
{
	const uint8_t *at = request->answer.tail;
	char text[512] = "";
	size_t len = 0;

	for (uint32_t i = 0; i < request->answer.user_count; i++) {
		struct dir_user_entry user;
		const char *tail = (const char *)at + sizeof(user);

		memcpy(&user, at, sizeof(user));
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    "%llu:%.*s:%.*s:%.*s%s ", (unsigned long long)user.user,
		    user.name_len, tail, user.role_len, tail + user.name_len,
		    user.profile_len, tail + user.name_len + user.role_len,
		    user.is_stranger ? "!" : "");
		at += (sizeof(user) + user.name_len + user.role_len +
			  user.profile_len + 7) &
		      ~(size_t)7;
	}
	assert_string_equal(text, expected);
}

static void
a_list_is_what_makes_sense_in_order(void **state)
{
	struct stage *stage = *state;
	struct dir_request *request = stage_request(DIR_OP_USERS, 7);
	int rc;

	stage_ask(stage, request, &rc);
	fake_pool_run(stage->conn);
	assert_int_equal(rc, 0);
	assert_page(request,
	    "9:\xd9\x85\xd8\xb1 \xf0\x9f\x98\x80::{\"Room\":\"1\"} "
	    "12:Twelve:nurse: ");
	assert_int_equal(request->answer.next_cursor, 0);
	assert_string_equal(stage->answers[LIST].params, "UserId=7;");
	assert_int_equal(fake_pool.places[MSSQL_REPLICA], 1);
	dir_request_free(&request);
}

static void
many_who_ask_are_one_question(void **state)
{
	struct stage *stage = *state;
	struct dir_request *requests[20];
	int rcs[20];

	for (int i = 0; i < 20; i++) {
		requests[i] =
		    stage_request(i % 2 == 0 ? DIR_OP_USERS : DIR_OP_USER, 7);
		requests[i]->user = 12;
		requests[i]->limit = 1;
		requests[i]->cursor = i % 4 == 0 ? 0 : 9;
		stage_ask(stage, requests[i], &rcs[i]);
	}
	fake_pool_run(stage->conn);
	assert_int_equal(stage->answers[LIST].calls, 1);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(rcs[i], 0);
		if (i % 4 == 0)
			assert_int_equal(requests[i]->answer.next_cursor, 9);
		else
			assert_page(requests[i], "12:Twelve:nurse: ");
		dir_request_free(&requests[i]);
	}
	/* ... and its next page needs none */
	requests[0] = stage_request(DIR_OP_USERS, 7);
	requests[0]->cursor = 9;
	stage_ask(stage, requests[0], &rcs[0]);
	assert_int_equal(rcs[0], 0);
	assert_page(requests[0], "12:Twelve:nurse: ");
	dir_request_free(&requests[0]);
	/* another one's list is another one */
	requests[0] = stage_request(DIR_OP_USERS, 8);
	stage_ask(stage, requests[0], &rcs[0]);
	assert_int_equal(rcs[0], PENDING);
	fake_pool_run(stage->conn);
	assert_string_equal(stage->answers[LIST].params, "UserId=8;");
	dir_request_free(&requests[0]);
}

static int
see(struct stage *stage, uint64_t asker, uint64_t user, const char *expected)
{
	struct dir_request *request = stage_request(DIR_OP_USER, asker);
	int rc;

	request->user = user;
	stage_ask(stage, request, &rc);
	while (rc == PENDING && fake_pool_run(stage->conn) > 0)
		;
	if (rc == 0)
		assert_page(request, expected);
	dir_request_free(&request);
	return rc;
}

static void
who_is_not_on_the_list_is_not_there(void **state)
{
	struct stage *stage = *state;

	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse: "), 0);
	assert_int_equal(see(stage, 7, 10, ""), ERR_NOT_FOUND);
	assert_int_equal(see(stage, 7, 500, ""), ERR_NOT_FOUND);
	assert_int_equal(stage->answers[USER].calls, 0);
	/* oneself, on or off it */
	assert_int_equal(see(stage, 12, 12, "12:Twelve:nurse: "), 0);
	assert_int_equal(stage->answers[USER].calls, 1);
	/* the procedure's answer is about somebody else: nobody sees it */
	assert_int_equal(see(stage, 8, 8, ""), ERR_UNAVAILABLE);
	stage->answers[USER].count = 0;
	assert_int_equal(see(stage, 8, 8, ""), ERR_NOT_FOUND);
	stage->answers[USER].number = 2812;
	assert_int_equal(see(stage, 6, 6, ""), ERR_UNAVAILABLE);
}

static void
block(struct stage *stage, uint64_t who, uint64_t whom, bool is_on)
{
	box_begin(&stage->box);
	assert_int_equal(
	    contact_change(&stage->box.txn, who, whom,
		is_on ? CONTACT_BLOCKING : 0, is_on ? 0 : CONTACT_BLOCKING),
	    0);
	box_commit(&stage->box);
	dir_mssql_ops.forget(stage->backend, who);
}

/* Whatever the database's list says. */
static void
who_blocks_looks_like_nobody(void **state)
{
	struct stage *stage = *state;
	struct dir_request *request = stage_request(DIR_OP_USERS, 7);
	int rc;

	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse: "), 0);
	block(stage, 12, 7, true);
	assert_int_equal(see(stage, 7, 12, ""), ERR_NOT_FOUND);
	stage_ask(stage, request, &rc);
	assert_int_equal(rc, 0);
	assert_page(
	    request, "9:\xd9\x85\xd8\xb1 \xf0\x9f\x98\x80::{\"Room\":\"1\"} ");
	dir_request_free(&request);
	stage_set(&stage->conf->policy_may_message, "anyone");
	assert_int_equal(see(stage, 7, 12, ""), ERR_NOT_FOUND);
	assert_int_equal(stage->answers[USER].calls, 0);
	/* the other way he is still seen */
	block(stage, 12, 7, false);
	block(stage, 7, 12, true);
	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse: "), 0);
}

static void
strangers_are_seen_where_anyone_may_write(void **state)
{
	struct stage *stage = *state;

	stage_set(&stage->conf->policy_may_message, "anyone");
	stage->answers[LIST].count = 0;
	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse:! "), 0);
}

static int
change(
    struct stage *stage, uint32_t flags, const char *name, const char *profile)
{
	struct dir_request *request = stage_request(DIR_OP_UPDATE, 12);
	int rc;

	request->flags = flags;
	request->name = xstrdup(name);
	request->name_len = strlen(name);
	request->profile = xstrdup(profile);
	request->profile_len = strlen(profile);
	stage_ask(stage, request, &rc);
	fake_pool_run(stage->conn);
	dir_request_free(&request);
	return rc;
}

static void
who_changes_is_read_anew_from_the_primary(void **state)
{
	struct stage *stage = *state;
	struct fake_answer *update = &stage->answers[UPDATE];

	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse: "), 0);
	assert_int_equal(
	    change(stage, USER_PUT_NAME | USER_PUT_PROFILE, "New", ""), 0);
	assert_string_equal(
	    update->params, "UserId=12;DisplayName=New;Profile={};");
	assert_int_equal(change(stage, USER_PUT_NAME, "N", ""), 0);
	assert_string_equal(update->params, "UserId=12;DisplayName=N;");
	fake_pool.places[MSSQL_PRIMARY] = 0;
	stage_people[0][2] = "New";
	assert_int_equal(see(stage, 7, 12, "12:New:nurse: "), 0);
	stage_people[0][2] = "Twelve";
	assert_int_equal(stage->answers[LIST].calls, 2);
	assert_int_equal(fake_pool.places[MSSQL_PRIMARY], 1);
	update->number = 20003;
	assert_int_equal(
	    change(stage, USER_PUT_NAME, "N", ""), ERR_UNAVAILABLE);
}

/* What is fetched while somebody changes may be from before it. */
static void
a_list_under_way_is_not_kept_over_a_change(void **state)
{
	struct stage *stage = *state;
	struct dir_request *request = stage_request(DIR_OP_USERS, 7);
	struct dir_request *update = stage_request(DIR_OP_UPDATE, 12);
	int update_rc;
	int rc;

	update->flags = USER_PUT_NAME;
	update->name = xstrdup("New");
	update->name_len = 3;
	stage_ask(stage, update, &update_rc);
	stage_ask(stage, request, &rc);
	fake_pool_run(stage->conn);
	assert_int_equal(update_rc, 0);
	assert_int_equal(rc, 0);
	dir_request_free(&request);
	dir_request_free(&update);
	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse: "), 0);
	assert_int_equal(stage->answers[LIST].calls, 2);
}

/* Also for others, while it is asked and a little after; and no longer than
 * until he is seen. */
static void
nobody_is_asked_for_once(void **state)
{
	struct stage *stage = *state;
	struct dir_request *requests[20];
	int rcs[20];

	stage_set(&stage->conf->policy_may_message, "anyone");
	stage->answers[LIST].count = 0;
	stage->answers[USER].count = 0;
	for (int i = 0; i < 20; i++) {
		requests[i] = stage_request(DIR_OP_USER, (uint64_t)i + 100);
		requests[i]->user = 12;
		stage_ask(stage, requests[i], &rcs[i]);
	}
	fake_pool_run(stage->conn); /* their lists */
	fake_pool_run(stage->conn);
	assert_int_equal(stage->answers[USER].calls, 1);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(rcs[i], ERR_NOT_FOUND);
		dir_request_free(&requests[i]);
	}
	assert_int_equal(see(stage, 7, 12, ""), ERR_NOT_FOUND);
	assert_int_equal(stage->answers[USER].calls, 1);
	/* he is made, and somebody is sent him on a list */
	stage->answers[USER].count = 1;
	stage->answers[LIST].count = 1;
	assert_int_equal(see(stage, 9, 12, "12:Twelve:nurse: "), 0);
	stage->answers[LIST].count = 0;
	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse:! "), 0);
	assert_int_equal(stage->answers[USER].calls, 2);
	/* ... or time goes by */
	stage->answers[USER].count = 0;
	assert_int_equal(see(stage, 7, 12, ""), ERR_NOT_FOUND);
	stage->answers[USER].count = 1;
	assert_int_equal(see(stage, 7, 12, ""), ERR_NOT_FOUND);
	clock_shift(10001);
	assert_int_equal(see(stage, 7, 12, "12:Twelve:nurse:! "), 0);
}

/* Many who ask for somebody who is there: each has an answer of his own. */
static void
somebody_is_told_to_all_who_ask(void **state)
{
	struct stage *stage = *state;
	struct dir_request *requests[5];
	int rcs[5];

	stage_set(&stage->conf->policy_may_message, "anyone");
	stage->answers[LIST].count = 0;
	block(stage, 12, 102, true);
	for (int i = 0; i < 5; i++) {
		requests[i] = stage_request(DIR_OP_USER, (uint64_t)i + 100);
		requests[i]->user = 12;
		stage_ask(stage, requests[i], &rcs[i]);
	}
	while (fake_pool_run(stage->conn) > 0)
		;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(rcs[i], i == 2 ? ERR_NOT_FOUND : 0);
		if (i != 2)
			assert_page(requests[i], "12:Twelve:nurse:! ");
		dir_request_free(&requests[i]);
	}
	/* whom he blocks learns nothing, and makes others miss nothing */
	assert_int_equal(see(stage, 102, 12, ""), ERR_NOT_FOUND);
	assert_int_equal(see(stage, 100, 12, "12:Twelve:nurse:! "), 0);
	/* a database that is away is nobody's absence */
	fake_pool.is_away = true;
	assert_int_equal(see(stage, 103, 12, ""), ERR_UNAVAILABLE);
	fake_pool.is_away = false;
	assert_int_equal(see(stage, 103, 12, "12:Twelve:nurse:! "), 0);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, stage_open, stage_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(the_hash_of_the_database_decides),
	    TEST(an_id_that_cannot_be_lets_nobody_in),
	    TEST(names_that_are_no_text_are_not_asked_for),
	    TEST(a_procedure_may_decide),
	    TEST(a_login_does_not_wait_for_ever),
	    TEST(a_list_is_what_makes_sense_in_order),
	    TEST(many_who_ask_are_one_question),
	    TEST(who_is_not_on_the_list_is_not_there),
	    TEST(who_blocks_looks_like_nobody),
	    TEST(strangers_are_seen_where_anyone_may_write),
	    TEST(who_changes_is_read_anew_from_the_primary),
	    TEST(a_list_under_way_is_not_kept_over_a_change),
	    TEST(nobody_is_asked_for_once),
	    TEST(somebody_is_told_to_all_who_ask),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
