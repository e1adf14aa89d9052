/*
 * pool.c - unit test of directory/pool.c: every job comes back exactly once,
 * whatever happens to it.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#include "base/clock.h"
#include "directory/pool.h"

#define FAR_MS      30000
#define DEADLINE_MS 10000
#define CROWD       2000

/* What a stuck thread was left with; for the leak checker. */
static struct {
	struct pool_results *volatile results;
	struct pool *volatile pool;
} left;

struct task {
	struct pool_job job;
	pthread_t runner;
	unsigned runs;
	unsigned dones;
	bool was_run;
	sem_t *started; /* NULL: do not wait */
	sem_t *gate;
};

static void
task_run(struct pool_job *job)
{
	struct task *task = (struct task *)job;

	task->runner = pthread_self();
	task->runs++;
	if (task->gate == NULL)
		return;
	sem_post(task->started);
	while (sem_wait(task->gate) != 0)
		;
}

static void
task_done(struct pool_job *job)
{
	struct task *task = (struct task *)job;

	task->dones++;
	task->was_run = job->was_run;
}

static void
task_init(struct task *task)
{
	memset(task, 0, sizeof(*task));
	task->job.run = task_run;
	task->job.done = task_done;
	task->job.deadline_ms = clock_mono_ms() + FAR_MS;
}

/* Until count jobs were done; the descriptor has to tell. */
static void
collect(struct pool_results *results, size_t count)
{
	struct pollfd fd = {.fd = pool_results_fd(results), .events = POLLIN};
	size_t seen = 0;

	while (seen < count) {
		assert_int_equal(poll(&fd, 1, DEADLINE_MS), 1);
		seen += pool_results_collect(results);
	}
	assert_int_equal(seen, count);
}

static void
a_job_runs_elsewhere_and_is_done_here(void **state)
{
	struct pool_results *results;
	struct task task;
	struct pool *pool;

	(void)state;
	task_init(&task);
	assert_int_equal(pool_results_new(&results), 0);
	assert_int_equal(pool_new("test", 1, 1, results, &pool), 0);
	assert_int_equal(pool_results_collect(results), 0);
	assert_int_equal(pool_submit(pool, &task.job), 0);
	collect(results, 1);
	assert_int_equal(task.runs, 1);
	assert_int_equal(task.dones, 1);
	assert_true(task.was_run);
	assert_false(pthread_equal(task.runner, pthread_self()));
	assert_true(pool_stop(&pool, clock_mono_ms() + DEADLINE_MS));
	assert_null(pool);
	assert_true(pool_stop(&pool, 0));
	pool_results_free(&results);
	pool_results_free(&results);
}

static void
a_full_queue_refuses(void **state)
{
	struct pool_results *results;
	struct task tasks[5];
	struct pool *pool;
	sem_t started;
	sem_t gate;

	(void)state;
	sem_init(&started, 0, 0);
	sem_init(&gate, 0, 0);
	assert_int_equal(pool_results_new(&results), 0);
	assert_int_equal(pool_new("test", 1, 3, results, &pool), 0);
	for (int i = 0; i < 5; i++)
		task_init(&tasks[i]);
	tasks[0].started = &started;
	tasks[0].gate = &gate;
	assert_int_equal(pool_submit(pool, &tasks[0].job), 0);
	sem_wait(&started); /* the only thread is busy, nothing waits */
	for (int i = 1; i < 4; i++)
		assert_int_equal(pool_submit(pool, &tasks[i].job), 0);
	assert_int_equal(pool_submit(pool, &tasks[4].job), ERR_FULL);
	sem_post(&gate);
	collect(results, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(tasks[i].dones, 1);
	assert_int_equal(tasks[4].runs + tasks[4].dones, 0);
	assert_int_equal(pool_submit(pool, &tasks[4].job), 0);
	collect(results, 1);
	assert_int_equal(tasks[4].runs, 1);
	assert_true(pool_stop(&pool, clock_mono_ms() + DEADLINE_MS));
	pool_results_free(&results);
}

static void
what_is_late_is_not_run(void **state)
{
	struct pool_results *results;
	struct task task;
	struct pool *pool;

	(void)state;
	task_init(&task);
	task.job.deadline_ms = clock_mono_ms();
	assert_int_equal(pool_results_new(&results), 0);
	assert_int_equal(pool_new("test", 1, 1, results, &pool), 0);
	assert_int_equal(pool_submit(pool, &task.job), 0);
	collect(results, 1);
	assert_int_equal(task.runs, 0);
	assert_int_equal(task.dones, 1);
	assert_false(task.was_run);
	assert_true(pool_stop(&pool, clock_mono_ms() + DEADLINE_MS));
	pool_results_free(&results);
}

static void
stopping_gives_back_what_waits(void **state)
{
	struct pool_results *results;
	struct task tasks[4];
	struct pool *pool;
	sem_t started;
	sem_t gate;

	(void)state;
	sem_init(&started, 0, 0);
	sem_init(&gate, 0, 0);
	assert_int_equal(pool_results_new(&results), 0);
	assert_int_equal(pool_new("test", 1, 8, results, &pool), 0);
	for (int i = 0; i < 4; i++) {
		task_init(&tasks[i]);
		tasks[i].started = &started;
		tasks[i].gate = &gate;
		assert_int_equal(pool_submit(pool, &tasks[i].job), 0);
	}
	sem_wait(&started);
	left.results = results;
	left.pool = pool;
	/* One is stuck: the others come back unrun, and it is said. */
	assert_false(pool_stop(&pool, clock_mono_ms() + 1));
	assert_null(pool);
	collect(results, 3);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(tasks[i].runs, 0);
		assert_int_equal(tasks[i].dones, 1);
		assert_false(tasks[i].was_run);
	}
	sem_post(&gate);
	collect(results, 1);
	assert_int_equal(tasks[0].dones, 1);
	assert_true(tasks[0].was_run);
}

static void
two_pools_share_the_way_back(void **state)
{
	static struct task tasks[CROWD];
	struct pool_results *results;
	struct pool *pools[2];
	size_t taken = 0;
	size_t next = 0;

	(void)state;
	assert_int_equal(pool_results_new(&results), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
		    pool_new("test", 3, 50, results, &pools[i]), 0);
	for (int i = 0; i < CROWD; i++)
		task_init(&tasks[i]);
	while (next < CROWD) {
		if (pool_submit(pools[next % 2], &tasks[next].job) == 0)
			next++;
		taken += pool_results_collect(results);
	}
	collect(results, CROWD - taken);
	for (int i = 0; i < CROWD; i++) {
		assert_int_equal(tasks[i].runs, 1);
		assert_int_equal(tasks[i].dones, 1);
	}
	for (int i = 0; i < 2; i++)
		assert_true(
		    pool_stop(&pools[i], clock_mono_ms() + DEADLINE_MS));
	assert_int_equal(pool_results_collect(results), 0);
	pool_results_free(&results);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_job_runs_elsewhere_and_is_done_here),
	    cmocka_unit_test(a_full_queue_refuses),
	    cmocka_unit_test(what_is_late_is_not_run),
	    cmocka_unit_test(stopping_gives_back_what_waits),
	    cmocka_unit_test(two_pools_share_the_way_back),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
