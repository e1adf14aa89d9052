/*
 * job_presence.c - what was missed is read again page by page: open calls
 * first, everything once, and no page is larger than its room in the output.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/call.h"
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(everything_is_told_once_in_pages),
	    cmocka_unit_test(a_page_cut_short_goes_on_behind_what_was_sent),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
