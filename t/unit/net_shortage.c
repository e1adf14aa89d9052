/*
 * net_shortage.c - units of src/net/accept.c: no descriptors, or nearly none.
 *
 * Role:    checks that who waits is told, that who is in is served, and that
 *          all goes on by itself.
 * Process: the test; client and server in one thread (net_client.h).
 * Blocks:  never for long; every wait has a deadline.
 * Trust:   not applicable.
 * See:     net_limits.c (the other limits), t/65-descriptors.t.
 */
#include "net_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/count.h"
#include "net/net_priv.h"

static void
expect_answer(struct rig_client *client, const char *start)
{
	struct buf answer = {0};

	client_read_answer(client, &answer);
	assert_memory_equal(answer.data, start, strlen(start));
	assert_false(client->is_reset);
	buf_fini(&answer);
}

/* The next one that would be opened. */
static int
next_descriptor(void)
{
	int fd = dup(0);

	assert_true(fd >= 0);
	close(fd);
	return fd;
}

static void
limit_descriptors(int count, struct rlimit *old_out)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	*old_out = limit;
	limit.rlim_cur = (rlim_t)count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void
test_no_descriptors_left(void **state)
{
	struct net_conf conf = rig_conf();
	uint64_t before = count_self->counters[COUNTER_connections_shed];
	struct rig rig;
	struct rig_client client;
	struct rig_client waiting[3];
	struct rig_client late;
	struct rig_frame frame;
	struct rlimit limit;

	(void)state;
	/* valgrind has descriptors of its own and answers for the limit */
	if (getenv("PARLEY_VALGRIND") != NULL)
		return;
	rig_open(&rig, &conf);
	rig.is_echo = true;
	client_open(&client, &rig);
	for (int i = 0; i < 3; i++)
		client_connect(&waiting[i], &rig);
	client_send(&waiting[0], RIG_REQUEST, strlen(RIG_REQUEST));
	client_connect(&late, &rig);
	client_close(&late);
	limit_descriptors(next_descriptor(), &limit);
	/* Who waits is told, whether he has asked yet or not. */
	for (int i = 0; i < 3; i++)
		expect_answer(&waiting[i], "HTTP/1.1 503 ");
	assert_int_equal(rig.opened, 1);
	assert_int_equal(
	    count_self->counters[COUNTER_connections_shed], before + 4);
	/* Who is there is served. */
	client_send_frame(&client, 0x81, "still", 5);
	client_read_frame(&client, &frame);
	assert_memory_equal(frame.payload.data, "still", 5);
	buf_fini(&frame.payload);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	client_connect(&late, &rig);
	client_send(&late, RIG_REQUEST, strlen(RIG_REQUEST));
	rig_turn(&rig);
	rig_turn(&rig);
	assert_int_equal(rig.opened, 1); /* the pause is not over */
	rig_shift(&rig, 101);
	expect_answer(&late, "HTTP/1.1 101 ");
	client_close(&client);
	client_close(&late);
	for (int i = 0; i < 3; i++)
		client_close(&waiting[i]);
	rig_close(&rig);
}

/* Not even the reserve: as long as it lasts nobody is accepted. */
static void
test_less_than_no_descriptors(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client client;
	struct rig_client late;
	struct rlimit limit;

	(void)state;
	if (getenv("PARLEY_VALGRIND") != NULL)
		return;
	rig_open(&rig, &conf);
	client_open(&client, &rig);
	for (int round = 0; round < 2; round++) {
		client_connect(&late, &rig);
		client_send(&late, RIG_REQUEST, strlen(RIG_REQUEST));
		limit_descriptors(3, &limit);
		for (int i = 0; i < 5; i++)
			rig_turn(&rig);
		assert_int_equal(rig.opened, round + 1);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		rig_shift(&rig, 101);
		expect_answer(&late, "HTTP/1.1 101 ");
		assert_true(rig.net->reserve_fd >= 0);
		client_close(&late);
	}
	client_close(&client);
	rig_close(&rig);
}

static void
test_clients_leave_some_descriptors(void **state)
{
	struct net_conf conf = rig_conf();
	struct rig rig;
	struct rig_client clients[40];
	struct rig_client late;
	struct rlimit limit;
	int count = 0;
	int spare = 0;
	int fds[16];

	(void)state;
	if (getenv("PARLEY_VALGRIND") != NULL)
		return;
	limit_descriptors(next_descriptor() + 50, &limit);
	rig_open(&rig, &conf);
	while (next_descriptor() + 1 < rig.net->fd_end) {
		client_open(&clients[count], &rig);
		count++;
	}
	client_connect(&late, &rig);
	expect_answer(&late, "HTTP/1.1 503 ");
	client_close(&late);
	while (spare < 16 && (fds[spare] = dup(0)) >= 0)
		spare++;
	assert_int_equal(spare, 16);
	for (int i = 0; i < spare; i++)
		close(fds[i]);
	/* When one goes another one may come, by itself. */
	client_close(&clients[0]);
	rig_wait_int(&rig, &rig.closed, 1);
	rig_shift(&rig, 101);
	client_open(&clients[0], &rig);
	for (int i = 0; i < count; i++)
		client_close(&clients[i]);
	rig_close(&rig);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_no_descriptors_left),
	    cmocka_unit_test(test_less_than_no_descriptors),
	    cmocka_unit_test(test_clients_leave_some_descriptors),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
