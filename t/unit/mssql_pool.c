/*
 * mssql_pool.c - unit test of the pool of connections to SQL Server: every
 * job comes back exactly once, with the truth about what became of it.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "directory/mssql_priv.h"
#include "tds_stage.h"

#define PATIENCE_MS 10000
#define CROWD       400

struct stand {
	struct tds_stage *primary;
	struct tds_stage *replica; /* NULL: none */
	struct conf *conf;
	struct pool_results *results;
	struct mssql_pool *pool;
};

struct task {
	struct mssql_job job;
	const char *procedure;
	int64_t spid;
	int64_t id;
	unsigned dones;
};

static int
task_run(struct mssql_job *job, struct tds_conn *conn)
{
	struct task *task = (struct task *)job;
	int rc;

	rc = tds_call(conn, &(struct tds_call){.procedure = task->procedure,
				.deadline_ms = job->call_deadline_ms});
	if (rc == 0)
		rc = tds_next_row(conn);
	if (rc == 0)
		rc = tds_get_i64(conn, "Id", &task->id);
	if (rc == 0)
		rc = tds_get_i64(conn, "Spid", &task->spid);
	return tds_finish(conn, rc);
}

static void
task_done(struct mssql_job *job)
{
	((struct task *)job)->dones++;
}

static void
task_init(struct task *task, const char *procedure)
{
	memset(task, 0, sizeof(*task));
	task->procedure = procedure;
	task->job.run = task_run;
	task->job.done = task_done;
	task->job.deadline_ms = clock_mono_ms() + PATIENCE_MS;
	task->job.is_idempotent = true;
}

static void
set_text(char **field, const char *text)
{
	free(*field);
	*field = xstrdup(text);
}

static void
stand_init(struct stand *stand, bool has_replica, int pool_max)
{
	char error[200] = "";

	memset(stand, 0, sizeof(*stand));
	stand->primary = tds_stage_new();
	assert_int_equal(
	    conf_load(NULL, &stand->conf, error, sizeof(error)), 0);
	set_text(&stand->conf->mssql_server, "127.0.0.1");
	set_text(&stand->conf->mssql_database, "chat");
	set_text(&stand->conf->mssql_user, "parley");
	set_text(&stand->conf->mssql_encryption, "off");
	stand->conf->mssql_port = tds_stage_port(stand->primary);
	stand->conf->mssql_password.items = xcalloc(1, sizeof(char *));
	stand->conf->mssql_password.items[0] = xstrdup("secret");
	stand->conf->mssql_password.count = 1;
	stand->conf->mssql_pool_min = 0;
	stand->conf->mssql_pool_max = pool_max;
	stand->conf->mssql_connect_timeout = 1000;
	stand->conf->mssql_query_timeout = 500;
	if (has_replica) {
		stand->replica = tds_stage_new();
		set_text(&stand->conf->mssql_replica, "127.0.0.1");
		stand->conf->mssql_replica_port =
		    tds_stage_port(stand->replica);
	}
	assert_int_equal(pool_results_new(&stand->results), 0);
}

static void
stand_start(struct stand *stand)
{
	char error[200] = "";

	assert_int_equal(mssql_pool_new(stand->conf, stand->results,
			     &stand->pool, error, sizeof(error)),
	    0);
}

static void
stand_fini(struct stand *stand)
{
	assert_true(
	    mssql_pool_stop(&stand->pool, clock_mono_ms() + PATIENCE_MS));
	pool_results_collect(stand->results);
	pool_results_free(&stand->results);
	tds_stage_free(&stand->primary);
	if (stand->replica != NULL)
		tds_stage_free(&stand->replica);
	conf_free(&stand->conf);
}

static void
submit(struct stand *stand, struct task *task)
{
	int64_t after_ms;

	assert_int_equal(
	    mssql_pool_submit(stand->pool, &task->job, &after_ms), 0);
}

/* Turn by turn until so many were done. */
static void
collect(struct stand *stand, size_t count)
{
	struct pollfd fd = {
	    .fd = pool_results_fd(stand->results), .events = POLLIN};
	int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
	size_t seen = 0;

	while (seen < count && clock_mono_ms() < until_ms) {
		poll(&fd, 1, (int)mssql_pool_turn(stand->pool));
		seen += pool_results_collect(stand->results);
	}
	assert_int_equal(seen, count);
}

static uint64_t
counted(enum counter_id id)
{
	return atomic_load(&count_self->counters[id]);
}

static void
one_job(struct stand *stand, struct task *task, const char *procedure)
{
	task_init(task, procedure);
	submit(stand, task);
	collect(stand, 1);
	assert_int_equal(task->dones, 1);
}

static void
a_crowd_is_served_by_few_connections(void **state)
{
	struct task *tasks = xcalloc(CROWD, sizeof(*tasks));
	struct stand stand;

	(void)state;
	stand_init(&stand, false, 20);
	stand_start(&stand);
	for (int i = 0; i < CROWD; i++) {
		task_init(&tasks[i], "Number");
		submit(&stand, &tasks[i]);
	}
	collect(&stand, CROWD);
	for (int i = 0; i < CROWD; i++) {
		assert_int_equal(tasks[i].dones, 1);
		assert_int_equal(tasks[i].job.rc, 0);
		assert_int_equal(tasks[i].id, 7);
	}
	assert_in_range(tds_stage_connections(stand.primary), 1, 20);
	assert_int_equal(tds_stage_calls(stand.primary), CROWD);
	stand_fini(&stand);
	free(tasks);
}

static void
warm_connections_are_there_before_the_first_job(void **state)
{
	int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
	struct stand stand;

	(void)state;
	stand_init(&stand, false, 4);
	stand.conf->mssql_pool_min = 3;
	stand_start(&stand);
	while (
	    tds_stage_logins(stand.primary) < 3 && clock_mono_ms() < until_ms)
		mssql_pool_turn(stand.pool);
	assert_int_equal(tds_stage_logins(stand.primary), 3);
	stand_fini(&stand);
}

static void
after_a_restart_all_connections_are_new(void **state)
{
	struct task tasks[8];
	struct stand stand;
	unsigned before = 0;

	(void)state;
	stand_init(&stand, false, 4);
	stand_start(&stand);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 8; i++) {
			task_init(&tasks[i], "Number");
			submit(&stand, &tasks[i]);
		}
		collect(&stand, 8);
		for (int i = 0; i < 8; i++) {
			assert_int_equal(tasks[i].job.rc, 0);
			assert_true(round == 0 || tasks[i].spid > before);
		}
		before = tds_stage_connections(stand.primary);
		tds_stage_cut(stand.primary);
	}
	stand_fini(&stand);
}

static void
a_victim_is_repeated_and_a_bad_row_is_not(void **state)
{
	struct stand stand;
	struct task task;

	(void)state;
	stand_init(&stand, false, 2);
	stand_start(&stand);
	one_job(&stand, &task, "Once1205");
	assert_int_equal(task.job.rc, 0);
	assert_int_equal(task.job.tries, 2);
	assert_int_equal(tds_stage_calls(stand.primary), 2);
	one_job(&stand, &task, "Error547");
	assert_int_equal(task.job.rc, ERR_BAD_REQUEST);
	assert_int_equal(task.job.error.number, 547);
	assert_int_equal(tds_stage_calls(stand.primary), 3);
	stand_fini(&stand);
}

static void
a_read_only_primary_is_connected_to_anew(void **state)
{
	struct stand stand;
	struct task task;

	(void)state;
	stand_init(&stand, false, 2);
	stand_start(&stand);
	one_job(&stand, &task, "Once3906");
	assert_int_equal(task.job.rc, 0);
	assert_int_equal(task.spid, 2);
	stand_fini(&stand);
}

static void
a_replica_that_fails_is_replaced_by_the_primary(void **state)
{
	struct stand stand;
	struct task task;

	(void)state;
	stand_init(&stand, true, 2);
	stand_start(&stand);
	task_init(&task, "Number");
	task.job.place = MSSQL_REPLICA;
	submit(&stand, &task);
	collect(&stand, 1);
	assert_int_equal(task.job.rc, 0);
	assert_int_equal(tds_stage_calls(stand.replica), 1);
	assert_int_equal(tds_stage_calls(stand.primary), 0);
	tds_stage_set(stand.replica, TDS_MOOD_REFUSE);
	tds_stage_cut(stand.replica);
	for (int i = 0; i < 10; i++) {
		task_init(&task, "Number");
		task.job.place = MSSQL_REPLICA;
		submit(&stand, &task);
		collect(&stand, 1);
		assert_int_equal(task.job.rc, 0);
	}
	assert_int_equal(tds_stage_calls(stand.primary), 10);
	assert_int_equal(
	    stand.pool->places[MSSQL_REPLICA].breaker.state, BREAKER_OPEN);
	/* The good one counted, too; from then on it is not even asked. */
	assert_int_equal(
	    tds_stage_connections(stand.replica), BREAKER_VOLUME_MIN);
	stand_fini(&stand);
}

static void
a_server_that_fails_is_spared_and_comes_back(void **state)
{
	struct stand stand;
	struct task task;
	int64_t after_ms = 0;
	uint64_t opened = counted(COUNTER_mssql_breaker_opened);

	(void)state;
	stand_init(&stand, false, 2);
	stand_start(&stand);
	tds_stage_set(stand.primary, TDS_MOOD_REFUSE);
	for (int i = 0; i < BREAKER_VOLUME_MIN; i++) {
		one_job(&stand, &task, "Number");
		assert_int_equal(task.job.rc, ERR_UNAVAILABLE);
		assert_int_equal(task.job.error.class, TDS_CLASS_LOGIN);
	}
	task_init(&task, "Number");
	assert_int_equal(mssql_pool_submit(stand.pool, &task.job, &after_ms),
	    ERR_UNAVAILABLE);
	assert_in_range(after_ms, BREAKER_OPEN_MS / 2, BREAKER_OPEN_MS);
	mssql_pool_turn(stand.pool);
	assert_int_equal(counted(COUNTER_mssql_breaker_opened), opened + 1);
	assert_int_equal(counted(COUNTER_mssql_breaker_primary), BREAKER_OPEN);
	tds_stage_set(stand.primary, TDS_MOOD_GOOD);
	clock_shift(BREAKER_OPEN_MS);
	one_job(&stand, &task, "Number");
	assert_int_equal(task.job.rc, 0);
	stand_fini(&stand);
}

static void
a_hung_call_costs_its_time_and_one_connection(void **state)
{
	struct stand stand;
	struct task task;
	int64_t began_ms;

	(void)state;
	stand_init(&stand, false, 1);
	stand_start(&stand);
	task_init(&task, "Hang");
	task.job.is_idempotent = false;
	began_ms = clock_mono_ms();
	submit(&stand, &task);
	collect(&stand, 1);
	assert_int_equal(task.job.rc, ERR_UNAVAILABLE);
	assert_int_equal(task.job.error.class, TDS_CLASS_LOST);
	assert_in_range(clock_mono_ms() - began_ms, 500, 2500);
	one_job(&stand, &task, "Number");
	assert_int_equal(task.job.rc, 0);
	assert_int_equal(task.spid, 2);
	stand_fini(&stand);
}

static void
a_full_queue_says_when_to_come_again(void **state)
{
	struct stand stand;
	struct task tasks[4];
	int64_t after_ms = 0;
	int taken = 0;

	(void)state;
	stand_init(&stand, false, 1);
	stand.conf->mssql_pool_queue = 1;
	stand_start(&stand);
	/* One runs, one waits; a second may still be on its way. */
	for (int i = 0; i < 4; i++) {
		task_init(&tasks[i], "Hang");
		tasks[i].job.is_idempotent = false;
		if (mssql_pool_submit(stand.pool, &tasks[i].job, &after_ms) ==
		    0)
			taken++;
	}
	assert_in_range(taken, 1, 2);
	assert_true(after_ms > 0);
	collect(&stand, (size_t)taken);
	stand_fini(&stand);
}

static void
the_end_gives_back_what_waits_and_what_runs(void **state)
{
	struct stand stand;
	struct task tasks[3];
	size_t seen;

	(void)state;
	stand_init(&stand, false, 1);
	stand_start(&stand);
	for (int i = 0; i < 3; i++) {
		task_init(&tasks[i], "Hang");
		submit(&stand, &tasks[i]);
	}
	assert_true(
	    mssql_pool_stop(&stand.pool, clock_mono_ms() + PATIENCE_MS));
	seen = pool_results_collect(stand.results);
	assert_int_equal(seen, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(tasks[i].dones, 1);
		assert_int_equal(tasks[i].job.rc, ERR_UNAVAILABLE);
	}
	stand_fini(&stand);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_crowd_is_served_by_few_connections),
	    cmocka_unit_test(warm_connections_are_there_before_the_first_job),
	    cmocka_unit_test(after_a_restart_all_connections_are_new),
	    cmocka_unit_test(a_victim_is_repeated_and_a_bad_row_is_not),
	    cmocka_unit_test(a_read_only_primary_is_connected_to_anew),
	    cmocka_unit_test(a_replica_that_fails_is_replaced_by_the_primary),
	    cmocka_unit_test(a_hung_call_costs_its_time_and_one_connection),
	    cmocka_unit_test(a_full_queue_says_when_to_come_again),
	    cmocka_unit_test(the_end_gives_back_what_waits_and_what_runs),
	    /* Shifts the clock: the last one. */
	    cmocka_unit_test(a_server_that_fails_is_spared_and_comes_back),
	};
	int failed;

	if (tds_start() != 0)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	tds_stop();
	return failed;
}
