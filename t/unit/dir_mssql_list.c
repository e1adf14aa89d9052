/*
 * dir_mssql_list.c - unit test of long lists out of SQL Server, through the
 * cache before the back end: one question to the database for all askers and
 * pages, and soon answered after it.
 */
#include "config.h"

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
#include "directory/cache.h"
#include "t/unit/dir_mssql_stage.h"

#define ASKERS    16
#define USERS     10000
#define PAGES     (USERS / DIR_LIST_MAX)
#define SELF      500
#define TTL_MS    300000
#define LIST_KEPT 40000 /* longer than the back end keeps a list */

struct text {
	char id[24];
	char name[32];
};

struct hall {
	struct stage *stage;
	struct cache *cache;
	const char *(*rows)[FAKE_COLUMNS];
	struct text *texts;
	struct dir_request *requests[ASKERS];
	int rcs[ASKERS];
};

/* He is on his own list, too, and nobody else is sent in order. */
static void
fill(struct hall *hall)
{
	hall->rows = xcalloc(USERS + 1, sizeof(hall->rows[0]));
	hall->texts = xcalloc(USERS + 1, sizeof(hall->texts[0]));
	for (size_t i = 0; i <= USERS; i++) {
		struct text *text = &hall->texts[i];
		size_t id = 1 + (i * 7919) % (USERS + 1);

		snprintf(text->id, sizeof(text->id), "%zu", id);
		snprintf(text->name, sizeof(text->name), "User %zu", id);
		hall->rows[i][0] = text->id;
		hall->rows[i][2] = text->name;
		hall->rows[i][3] = "nurse";
		hall->rows[i][4] = "{\"Room\":\"12\"}";
		hall->rows[i][5] = "1";
	}
	hall->stage->answers[LIST].rows = hall->rows;
	hall->stage->answers[LIST].count = USERS + 1;
}

static int
hall_open(void **state)
{
	const struct cache_config config = {
	    .ttl_ms = TTL_MS, .bytes_max = 64 << 20};
	struct hall *hall = xcalloc(1, sizeof(*hall));

	stage_open(state);
	hall->stage = *state;
	fill(hall);
	hall->cache = cache_new(&config, &dir_mssql_ops, hall->stage->backend);
	*state = hall;
	return 0;
}

static int
hall_close(void **state)
{
	struct hall *hall = *state;
	void *stage = hall->stage;

	cache_stop(hall->cache);
	stage_close(&stage);
	cache_free(&hall->cache);
	free(hall->rows);
	free(hall->texts);
	free(hall);
	return 0;
}

/* dir_done_fn */
static void
heard(struct dir_request *request, int rc)
{
	int *out = request->owner;

	*out = rc;
}

static void
ask(struct hall *hall, int asker, uint64_t cursor)
{
	struct dir_request *request = stage_request(DIR_OP_USERS, SELF);

	request->cursor = cursor;
	request->deadline_ms = clock_mono_ms() + 60000;
	request->owner = &hall->rcs[asker];
	hall->rcs[asker] = PENDING;
	hall->requests[asker] = request;
	cache_run(hall->cache, request, heard);
}

/* A page is who comes next, all of them. @return its next_cursor */
static uint64_t
take_page(struct hall *hall, int asker, uint64_t cursor)
{
	struct dir_request *request = hall->requests[asker];
	const uint8_t *at = request->answer.tail;
	uint64_t next_cursor = request->answer.next_cursor;
	uint64_t id = cursor;

	assert_int_equal(hall->rcs[asker], 0);
	for (uint32_t i = 0; i < request->answer.user_count; i++) {
		struct dir_user_entry user;

		memcpy(&user, at, sizeof(user));
		id += id + 1 == SELF ? 2 : 1;
		assert_int_equal(user.user, id);
		at += (sizeof(user) + user.name_len + user.role_len +
			  user.profile_len + 7) &
		      ~(size_t)7;
	}
	assert_int_equal(next_cursor, id == USERS + 1 ? 0 : id);
	dir_request_free(&hall->requests[asker]);
	return next_cursor;
}

/* All at once, page after page. @return pages of each */
static unsigned
walk(struct hall *hall)
{
	uint64_t cursors[ASKERS] = {0};
	unsigned pages = 0;

	do {
		for (int i = 0; i < ASKERS; i++)
			ask(hall, i, cursors[i]);
		fake_pool_run(hall->stage->conn);
		for (int i = 0; i < ASKERS; i++)
			cursors[i] = take_page(hall, i, cursors[i]);
		pages++;
	} while (cursors[0] != 0);
	return pages;
}

static unsigned
calls(const struct hall *hall)
{
	return hall->stage->answers[LIST].calls;
}

static void
all_pages_for_all_are_one_question(void **state)
{
	struct hall *hall = *state;

	assert_int_equal(walk(hall), PAGES);
	assert_int_equal(calls(hall), 1);
	walk(hall);
	/* each page is kept for itself, and longer than the list */
	clock_shift(LIST_KEPT);
	walk(hall);
	assert_int_equal(calls(hall), 1);
}

/* Whoever comes first, wherever he begins. */
static void
different_pages_at_once_are_one_question(void **state)
{
	struct hall *hall = *state;

	for (int i = 0; i < ASKERS; i++)
		ask(hall, i, (uint64_t)i * 600);
	fake_pool_run(hall->stage->conn);
	for (int i = 0; i < ASKERS; i++)
		take_page(hall, i, (uint64_t)i * 600);
	assert_int_equal(calls(hall), 1);
}

static void
after_a_change_it_is_one_more(void **state)
{
	struct hall *hall = *state;

	walk(hall);
	cache_forget(hall->cache, 7777);
	walk(hall);
	assert_int_equal(calls(hall), 2);
	clock_shift(TTL_MS + 1);
	walk(hall);
	assert_int_equal(calls(hall), 3);
}

static int
by_value(const void *a, const void *b)
{
	const int64_t *one = a;
	const int64_t *other = b;

	return (*one > *other) - (*one < *other);
}

/* Also when what is kept has to be looked through for who has changed. */
static void
what_is_kept_is_answered_in_less_than_a_millisecond(void **state)
{
	struct hall *hall = *state;
	int64_t times[PAGES * ASKERS];
	size_t count = 0;
	uint64_t cursor = 0;

	walk(hall);
	cache_forget(hall->cache, 2 * USERS); /* he is on no list */
	do {
		for (int i = 0; i < ASKERS; i++) {
			int64_t start_us = clock_mono_us();

			ask(hall, i, cursor);
			times[count++] = clock_mono_us() - start_us;
		}
		for (int i = 1; i < ASKERS; i++)
			take_page(hall, i, cursor);
		cursor = take_page(hall, 0, cursor);
	} while (cursor != 0);
	assert_int_equal(count, PAGES * ASKERS);
	qsort(times, count, sizeof(times[0]), by_value);
	print_message("# a page of %d: median %lld us, slowest %lld us\n",
	    DIR_LIST_MAX, (long long)times[count / 2],
	    (long long)times[count - 1]);
	assert_in_range(times[count / 2], 0, 999);
	assert_int_equal(calls(hall), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hall_open, hall_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(all_pages_for_all_are_one_question),
	    TEST(different_pages_at_once_are_one_question),
	    TEST(after_a_change_it_is_one_more),
	    TEST(what_is_kept_is_answered_in_less_than_a_millisecond),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
