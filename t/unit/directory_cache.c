/*
 * directory_cache.c - unit test of directory/cache.c: who is answered from
 * memory, who shares a question, and who must not.
 */
#include "config.h"

#include "directory/cache.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "directory_stage.h"

#define TTL_MS   300000
#define HELD_MAX 256

/* ---- a back end that answers when it is told to ---- */

struct dir_backend {
	struct dir_request *held[HELD_MAX];
	dir_done_fn done[HELD_MAX];
	size_t count;
	unsigned asked; /* in all */
	unsigned edition;
};

static void
hold(struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	assert_true(backend->count < HELD_MAX);
	backend->held[backend->count] = request;
	backend->done[backend->count++] = done;
	backend->asked++;
}

/* The asker's list: the three ids above his own, named after the asker and the
 * edition. */
static void
fill(struct dir_backend *backend, struct dir_request *request)
{
	char name[64];

	snprintf(name, sizeof(name), "of %llu, %u",
	    (unsigned long long)request->asker, backend->edition);
	for (uint64_t i = 1; i <= 3; i++) {
		struct dir_user user = {
		    .id = request->asker + i,
		    .name = name,
		    .name_len = strlen(name),
		};

		assert_int_equal(dir_answer_add(&request->answer, &user), 0);
	}
	request->answer.next_cursor = request->asker;
}

/* The oldest question gets its answer. */
static void
let_go(struct dir_backend *backend, int rc)
{
	struct dir_request *request = backend->held[0];
	dir_done_fn done = backend->done[0];

	assert_true(backend->count > 0);
	backend->count--;
	memmove(backend->held, backend->held + 1,
	    backend->count * sizeof(backend->held[0]));
	memmove(backend->done, backend->done + 1,
	    backend->count * sizeof(backend->done[0]));
	if (rc == 0 && request->op != DIR_OP_UPDATE)
		fill(backend, request);
	done(request, rc);
}

static const struct dir_ops held_ops = {
    .name = "held",
    .is_remote = true,
    .run =
	{
	    [DIR_OP_HISTORY] = hold,
	    [DIR_OP_PASSWORD] = hold,
	    [DIR_OP_UPDATE] = hold,
	    [DIR_OP_USER] = hold,
	    [DIR_OP_USERS] = hold,
	},
};

/* ---- askers ---- */

static struct {
	struct dir_backend backend;
	struct cache *cache;
	unsigned answered;
	unsigned failed;
	char name[64]; /* of the first user of the last answer */
	int rc;
	unsigned told;
	enum dir_op told_op; /* of the last one */
} stage;

static void
told(void *ctx, const struct dir_request *request)
{
	assert_null(ctx);
	stage.told++;
	stage.told_op = request->op;
}

static void
begin(int64_t ttl_ms, size_t bytes_max)
{
	const struct cache_config config = {
	    .ttl_ms = ttl_ms, .bytes_max = bytes_max, .told = told};

	memset(&stage, 0, sizeof(stage));
	stage.cache = cache_new(&config, &held_ops, &stage.backend);
}

static void
end(void)
{
	assert_int_equal(stage.backend.count, 0);
	cache_free(&stage.cache);
}

static void
heard(struct dir_request *request, int rc)
{
	struct dir_user_entry entry;

	stage.answered++;
	stage.rc = rc;
	stage.failed += rc != 0;
	if (rc == 0 && request->op == DIR_OP_USERS) {
		assert_int_equal(request->answer.user_count, 3);
		assert_int_equal(request->answer.next_cursor, request->asker);
		memcpy(&entry, request->answer.tail, sizeof(entry));
		/* never the list of another one */
		assert_int_equal(entry.user, request->asker + 1);
		memcpy(stage.name, request->answer.tail + sizeof(entry),
		    entry.name_len);
		stage.name[entry.name_len] = '\0';
	}
	dir_request_free(&request);
}

static void
ask(uint64_t asker, bool is_refresh)
{
	const struct record_dir_users record = {
	    .req = 1, .asker = asker, .limit = 100, .refresh = is_refresh};
	struct dir_request *request;

	assert_int_equal(dir_request_new(RECORD_DIR_USERS, &record,
			     sizeof(record), &request),
	    0);
	cache_run(stage.cache, request, heard);
}

static void
change_name(uint64_t user)
{
	struct {
		struct record_dir_update record;
		char name[8];
	} update = {.record = {.req = 1,
			.user = user,
			.flags = USER_PUT_NAME,
			.name_len = 3},
	    .name = "new"};
	struct dir_request *request;

	assert_int_equal(
	    dir_request_new(RECORD_DIR_UPDATE, &update,
		sizeof(update.record) + update.record.name_len, &request),
	    0);
	cache_run(stage.cache, request, heard);
}

/* A question that is answered at once by the back end, or without it. */
static void
ask_and_hear(uint64_t asker, unsigned asked)
{
	unsigned answered = stage.answered;

	ask(asker, false);
	while (stage.backend.count > 0)
		let_go(&stage.backend, 0);
	assert_int_equal(stage.answered, answered + 1);
	assert_int_equal(stage.backend.asked, asked);
}

/* ---- tests ---- */

static void
a_hundred_who_ask_at_once_are_one_question(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	for (int i = 0; i < 100; i++)
		ask(7, false);
	assert_int_equal(stage.backend.asked, 1);
	assert_int_equal(stage.answered, 0);
	let_go(&stage.backend, 0);
	assert_int_equal(stage.answered, 100);
	assert_int_equal(stage.failed, 0);
	ask_and_hear(7, 1); /* from memory */
	assert_string_equal(stage.name, "of 7, 0");
	end();
}

static void
a_list_is_given_to_nobody_else(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	ask_and_hear(7, 1);
	ask(8, false); /* heard looks whose it is */
	ask(7, false);
	assert_int_equal(stage.backend.asked, 2);
	let_go(&stage.backend, 0);
	ask_and_hear(8, 2);
	end();
}

static void
refresh_goes_around_and_waits_for_its_own_answer(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	ask_and_hear(7, 1);
	stage.backend.edition = 1;
	ask(7, true);
	for (int i = 0; i < 50; i++)
		ask(7, true); /* what is under way may be too old for them */
	ask(7, false);        /* and is good enough for this one */
	assert_int_equal(stage.backend.asked, 2);
	let_go(&stage.backend, 0);
	assert_int_equal(stage.answered, 3);
	assert_int_equal(stage.backend.asked, 3);
	stage.backend.edition = 2;
	let_go(&stage.backend, 0);
	assert_int_equal(stage.answered, 53);
	assert_string_equal(stage.name, "of 7, 2");
	ask_and_hear(7, 3);
	assert_string_equal(stage.name, "of 7, 2");
	end();
}

static void
a_change_makes_old_what_holds_its_user_only(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	ask_and_hear(10, 1); /* 11, 12, 13 */
	ask_and_hear(12, 2); /* 13, 14, 15 */
	ask_and_hear(20, 3);
	change_name(13);
	let_go(&stage.backend, 0);
	assert_int_equal(stage.backend.asked, 4);
	stage.backend.edition = 1;
	ask_and_hear(20, 4);
	assert_string_equal(stage.name, "of 20, 0");
	ask_and_hear(10, 5);
	assert_string_equal(stage.name, "of 10, 1");
	ask_and_hear(12, 6);
	ask_and_hear(10, 6);
	cache_forget(stage.cache, 10); /* whom he knows has changed */
	ask_and_hear(10, 7);
	ask_and_hear(20, 7);
	end();
}

static void
what_was_asked_before_a_change_is_not_joined_after_it(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	ask(10, false);
	change_name(11);
	let_go(&stage.backend, 0); /* the list, read before */
	assert_int_equal(stage.answered, 1);
	let_go(&stage.backend, 0); /* the change */
	ask_and_hear(10, 3);       /* the list that was kept is old */

	ask(30, false);
	cache_forget(stage.cache, 31);
	stage.backend.edition = 1;
	ask(30, false);
	assert_int_equal(stage.backend.asked, 4);
	let_go(&stage.backend, 0);
	assert_int_equal(stage.backend.asked, 5);
	stage.backend.edition = 2;
	let_go(&stage.backend, 0);
	assert_string_equal(stage.name, "of 30, 2");
	end();
}

/* The store is to be what the database is now. */
static void
what_is_new_is_told_and_what_was_overtaken_is_not(void **state)
{
	(void)state;
	for (int64_t ttl_ms = 0; ttl_ms <= TTL_MS; ttl_ms += TTL_MS) {
		begin(ttl_ms, 1 << 20);
		ask_and_hear(10, 1);
		assert_int_equal(stage.told, 1);
		assert_int_equal(stage.told_op, DIR_OP_USERS);
		ask(10, true);
		let_go(&stage.backend, ERR_UNAVAILABLE);
		assert_int_equal(stage.told, 1);
		ask(20, false);
		cache_forget(stage.cache, 22); /* on it */
		cache_forget(stage.cache, 99);
		let_go(&stage.backend, 0);
		assert_int_equal(stage.told, 1);
		change_name(30);
		let_go(&stage.backend, ERR_UNAVAILABLE);
		assert_int_equal(stage.told, 1);
		change_name(30);
		let_go(&stage.backend, 0);
		assert_int_equal(stage.told, 2);
		assert_int_equal(stage.told_op, DIR_OP_UPDATE);
		end();
	}
	begin(TTL_MS, 1 << 20);
	ask_and_hear(10, 1);
	ask_and_hear(10, 1); /* from memory */
	assert_int_equal(stage.told, 1);
	end();
}

static void
an_update_without_an_answer_may_have_been_done(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	ask_and_hear(10, 1);
	change_name(11);
	let_go(&stage.backend, ERR_UNAVAILABLE);
	assert_int_equal(stage.rc, ERR_UNAVAILABLE);
	ask_and_hear(10, 3);
	end();
}

static void
errors_go_to_all_and_are_not_kept(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	for (int i = 0; i < 5; i++)
		ask(7, false);
	let_go(&stage.backend, ERR_UNAVAILABLE);
	assert_int_equal(stage.failed, 5);
	assert_int_equal(stage.rc, ERR_UNAVAILABLE);
	ask_and_hear(7, 2);
	assert_int_equal(stage.rc, 0);
	end();
}

static void
answers_grow_old(void **state)
{
	int64_t until_ms;

	(void)state;
	begin(20, 1 << 20);
	ask_and_hear(7, 1);
	until_ms = clock_mono_ms() + 21;
	while (clock_mono_ms() < until_ms)
		poll(NULL, 0, 1);
	ask_and_hear(7, 2);
	end();
	begin(0, 1 << 20); /* nothing is kept, questions are shared */
	ask(7, false);
	ask(7, false);
	let_go(&stage.backend, 0);
	assert_int_equal(stage.answered, 2);
	ask_and_hear(7, 2);
	end();
}

static void
memory_has_an_end(void **state)
{
	(void)state;
	begin(TTL_MS, 2000);
	for (uint64_t asker = 100; asker < 150; asker++)
		ask_and_hear(asker, (unsigned)asker - 99);
	ask_and_hear(149, 50); /* the last ones are there */
	ask_and_hear(100, 51); /* the first are not */
	end();
	begin(TTL_MS, 100); /* less than one answer */
	ask_and_hear(7, 1);
	ask_and_hear(7, 2);
	end();
}

static void
a_stop_leaves_nobody_waiting(void **state)
{
	(void)state;
	begin(TTL_MS, 1 << 20);
	ask(7, false);
	ask(7, false);
	ask(7, true);
	cache_stop(stage.cache);
	let_go(&stage.backend, ERR_UNAVAILABLE);
	assert_int_equal(stage.answered, 3);
	assert_int_equal(stage.failed, 3);
	assert_int_equal(stage.backend.asked, 1);
	end();
}

/* ---- in its process ---- */

#define CROWD 100

static _Atomic unsigned *asked; /* shared with the process */

static int
slow_open(const struct dir_host *host, struct dir_backend **backend_out,
    char *error, size_t error_len)
{
	(void)host;
	(void)error;
	(void)error_len;
	*backend_out = xcalloc(1, sizeof(**backend_out));
	return 0;
}

static uint64_t
directory_requests(void)
{
	return atomic_load(&count_self->counters[COUNTER_directory_requests]);
}

/* Not before the whole crowd is there. */
static int64_t
slow_turn(struct dir_backend *backend)
{
	atomic_store(asked, backend->asked);
	while (backend->count > 0 && directory_requests() >= CROWD)
		let_go(backend, 0);
	return backend->count > 0 ? 0 : INT64_MAX;
}

static bool
slow_close(struct dir_backend **backend, int64_t until_ms)
{
	(void)until_ms;
	while ((*backend)->count > 0)
		let_go(*backend, ERR_UNAVAILABLE);
	free(*backend);
	*backend = NULL;
	return true;
}

static void
the_process_asks_a_slow_back_end_once(void **state)
{
	struct dir_ops ops = held_ops;
	struct stage process;

	(void)state;
	asked = mmap(NULL, sizeof(*asked), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(asked != MAP_FAILED);
	ops.open = slow_open;
	ops.turn = slow_turn;
	ops.close = slow_close;
	stage_open(&process);
	stage_fill_end(&process);
	stage_start(&process, &ops);
	stage_wait_up(&process);
	for (uint64_t req = 1; req <= CROWD; req++)
		send_users(&process, req, 7, 0, 100);
	for (uint64_t req = 1; req <= CROWD; req++) {
		struct heard heard_one;

		stage_hear(&process, &heard_one);
		assert_int_equal(heard_one.head.rc, 0);
		assert_int_equal(heard_one.head.user_count, 3);
	}
	send_users(&process, CROWD + 1, 7, 0, 100);
	assert_int_equal(stage_hear_rc(&process, CROWD + 1), 0);
	assert_int_equal(atomic_load(asked), 1);
	assert_int_equal(
	    stage_counter(&process, COUNTER_directory_cache_misses), 1);
	assert_int_equal(
	    stage_counter(&process, COUNTER_directory_cache_joined), CROWD - 1);
	assert_int_equal(
	    stage_counter(&process, COUNTER_directory_cache_hits), 1);
	stage_close(&process);
	munmap(asked, sizeof(*asked));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_hundred_who_ask_at_once_are_one_question),
	    cmocka_unit_test(a_list_is_given_to_nobody_else),
	    cmocka_unit_test(refresh_goes_around_and_waits_for_its_own_answer),
	    cmocka_unit_test(a_change_makes_old_what_holds_its_user_only),
	    cmocka_unit_test(
		what_was_asked_before_a_change_is_not_joined_after_it),
	    cmocka_unit_test(what_is_new_is_told_and_what_was_overtaken_is_not),
	    cmocka_unit_test(an_update_without_an_answer_may_have_been_done),
	    cmocka_unit_test(errors_go_to_all_and_are_not_kept),
	    cmocka_unit_test(answers_grow_old),
	    cmocka_unit_test(memory_has_an_end),
	    cmocka_unit_test(a_stop_leaves_nobody_waiting),
	    cmocka_unit_test(the_process_asks_a_slow_back_end_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
