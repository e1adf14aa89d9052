/*
 * job_presence.c - what was missed is read again page by page: open calls
 * first, everything once, and no page is larger than its room in the output.
 * And typing in a group: whom it reaches, and how many were looked at.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/call.h"
#include "shm/group.h"
#include "shm/presence.h"
#include "shm/users.h"
#include "t/unit/store_box.h"
#include "worker/reader.h"
#include "worker/session.h"

#define ALICE    1
#define BRUNO    2
#define CONTACTS 3000
#define CALLS    40
#define PAYLOAD  8000

static void
put_calls(struct txn *txn)
{
	char payload[PAYLOAD];

	memset(payload, '1', sizeof(payload));
	for (uint64_t id = 1; id <= CALLS; id++) {
		struct call call = {.id = id};

		call.row.state = CALL_RINGING;
		call.row.part_count = 2;
		memcpy(call.row.client_hash, &id, sizeof(id));
		call.payload = (struct blob){payload, sizeof(payload)};
		call.parts[0] = (struct call_part){
		    .user = BRUNO, .state = PART_JOINED, .session = 5};
		call.parts[1] = (struct call_part){
		    .user = ALICE, .state = PART_RINGING, .invited_by = BRUNO};
		assert_int_equal(call_put(txn, &call), 0);
	}
}

static void
put_world(struct store_box *box)
{
	struct presence row = {.status = STATUS_ONLINE, .version = 100};
	struct txn presence = {0};

	box_begin(box);
	put_calls(&box->txn);
	for (uint64_t user = 10; user < 10 + CONTACTS; user++)
		assert_int_equal(
		    contact_change(&box->txn, ALICE, user, CONTACT_LISTED, 0),
		    0);
	assert_int_equal(txn_commit(&box->txn), 0);
	row.text_len = sizeof(row.text);
	memset(row.text, 't', sizeof(row.text));
	assert_int_equal(store_begin_write(box->presence, &presence), 0);
	for (uint64_t user = 10; user < 10 + CONTACTS; user++) {
		/* every other one was told of before */
		row.version = user % 2 == 0 ? 100 : 7;
		assert_int_equal(presence_put(&presence, user, &row), 0);
	}
	assert_int_equal(txn_commit(&presence), 0);
}

struct seen {
	size_t pages;
	size_t calls;
	size_t users;
	uint64_t call; /* cursor */
	uint64_t user;
};

/* As ephemeral.c does, which may get rid of only the first texts of a page. */
static void
take(const struct job *job, struct seen *seen, size_t max)
{
	const char *at = job->out.data;
	const char *end = at + job->out.len;

	while (at < end && max-- > 0) {
		struct job_text text;

		memcpy(&text, at, sizeof(text));
		at += sizeof(text);
		assert_true(text.len > 2 && text.len <= (size_t)(end - at));
		assert_int_equal(at[0], '{');
		assert_int_equal(at[text.len - 1], '}');
		at += text.len;
		if (text.call != UINT64_MAX) {
			assert_int_equal(text.call, ++seen->calls);
			assert_int_equal(seen->users, 0);
		} else {
			assert_int_equal(text.user, 10 + 2 * seen->users++);
		}
		seen->call = text.call;
		seen->user = text.user;
	}
}

static bool
page(struct store_box *box, struct seen *seen, size_t max)
{
	struct job job = {.user = ALICE, .session = 9, .version = 50};
	struct txn main = {0};
	struct txn presence = {0};
	bool has_more;

	job.call = seen->call;
	job.above = seen->user;
	assert_int_equal(store_begin_read(box->main, &main), 0);
	assert_int_equal(store_begin_read(box->presence, &presence), 0);
	job_presence(&job, &main, &presence);
	txn_end(&presence);
	txn_end(&main);
	assert_int_equal(job.rc, 0);
	assert_true(job.out.len <= OUTPUT_BYTES_MAX / 4);
	assert_true(job.version > 50);
	take(&job, seen, max);
	has_more = job.has_more;
	buf_fini(&job.out);
	buf_fini(&job.calls);
	assert_true(++seen->pages < 1000);
	return has_more;
}

static void
read_all(size_t max, size_t pages_min)
{
	struct store_box box;
	struct seen seen = {0};

	box_open(&box);
	put_world(&box);
	while (page(&box, &seen, max) || seen.users < CONTACTS / 2)
		;
	assert_int_equal(seen.calls, CALLS);
	assert_int_equal(seen.users, CONTACTS / 2);
	assert_true(seen.pages >= pages_min);
	box_close(&box);
}

static void
everything_is_told_once_in_pages(void **state)
{
	(void)state;
	read_all(SIZE_MAX, CALLS * PAYLOAD / (OUTPUT_BYTES_MAX / 4));
}

static void
a_page_cut_short_goes_on_behind_what_was_sent(void **state)
{
	(void)state;
	read_all(7, (CALLS + CONTACTS / 2) / 7);
}

/* ---- typing in a group ---- */

#define GROUP   50
#define MEMBERS 100
#define SEATED  (MEMBERS - MEMBERS / 4)

static void
put_group(struct store_box *box)
{
	struct presence row = {.status = STATUS_ONLINE, .workers = 1};
	struct group group = {.id = GROUP,
	    .owner = ALICE,
	    .changed = 2000,
	    .member_count = SEATED};
	struct txn presence = {0};

	assert_int_equal(store_begin_write(box->presence, &presence), 0);
	box_begin(box);
	assert_int_equal(group_put(&box->txn, &group), 0);
	for (uint64_t user = 1; user <= MEMBERS; user++) {
		struct member member = {.group = GROUP, .user = user};

		member_join(&member, ROLE_MEMBER, 1000, 0);
		/* one in four has left, one in four is not there */
		if (user % 4 == 0)
			member_leave(&member, 2000, 0);
		assert_int_equal(member_put(&box->txn, &member), 0);
		if (user % 4 != 1)
			assert_int_equal(
			    presence_put(&presence, user, &row), 0);
	}
	assert_int_equal(
	    contact_change(&box->txn, ALICE, BRUNO, CONTACT_BLOCKED_BY, 0), 0);
	assert_int_equal(txn_commit(&box->txn), 0);
	assert_int_equal(txn_commit(&presence), 0);
}

static struct job
type_in(struct store_box *box, uint64_t user, uint64_t group)
{
	struct job job = {.user = user};
	struct txn main = {0};
	struct txn presence = {0};

	conv_key_of(CONV_GROUP, group, &job.conv);
	assert_int_equal(store_begin_read(box->main, &main), 0);
	assert_int_equal(store_begin_read(box->presence, &presence), 0);
	job_typing(&job, &main, &presence);
	txn_end(&presence);
	txn_end(&main);
	return job;
}

static void
typing_counts_who_is_in_it(void **state)
{
	static const struct {
		uint64_t user;
		uint64_t group;
	} outside[] = {{4, GROUP}, {MEMBERS + 1, GROUP}, {ALICE, GROUP + 1}};
	struct store_box box;
	struct job job;

	(void)state;
	box_open(&box);
	put_group(&box);
	job = type_in(&box, ALICE, GROUP);
	assert_int_equal(job.rc, 0);
	assert_int_equal(job.member_count, SEATED);
	/* half of them, but one who blocks her */
	assert_int_equal(
	    job.out.len / sizeof(struct job_place), MEMBERS / 2 - 1);
	buf_fini(&job.out);
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		job = type_in(&box, outside[i].user, outside[i].group);
		assert_int_equal(job.rc, ERR_NOT_FOUND);
		assert_int_equal(job.member_count, 0);
		assert_int_equal(job.out.len, 0);
	}
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(everything_is_told_once_in_pages),
	    cmocka_unit_test(a_page_cut_short_goes_on_behind_what_was_sent),
	    cmocka_unit_test(typing_counts_who_is_in_it),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
