/*
 * hold.c - unit test of shm/hold.c: rows, messages with descriptors, and what
 * is refused.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/hold.h"

#define WORKERS 2

/* The test plays worker 1 and its holder over copies of their ends. */
struct place {
	struct hold *hold; /* the supervisor's */
	int worker;
	int holder;
};

static int
place_make(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	struct hold_fds fds;

	if (place == NULL || hold_create(WORKERS, &place->hold) != 0)
		return -1;
	hold_describe(place->hold, &fds);
	place->worker = dup(fds.worker_ends[1]);
	place->holder = dup(fds.holder_ends[1]);
	*state = place;
	return 0;
}

static int
place_remove(void **state)
{
	struct place *place = *state;

	hold_free(&place->hold);
	close(place->worker);
	close(place->holder);
	free(place);
	return 0;
}

static int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static bool
is_same_file(int a, int b)
{
	struct stat x;
	struct stat y;

	assert_int_equal(fstat(a, &x), 0);
	assert_int_equal(fstat(b, &y), 0);
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* ---- rows ---- */

static void
fill(struct hold_row *row)
{
	memset(row, 0, sizeof(*row));
	row->serial = 7;
	row->session.user = 11;
	row->session.session = 12;
	row->session.sent = 13;
	row->session.status = 3;
	hold_row_seal(row);
	atomic_store(&row->mark, HOLD_SETTLED);
}

static void
a_settled_row_is_read(void **state)
{
	struct hold_session session;
	enum hold_mark mark;
	static struct hold_row row; /* aligned */

	(void)state;
	fill(&row);
	assert_int_equal(hold_row_read(&row, 7, &session, &mark), 0);
	assert_int_equal(mark, HOLD_SETTLED);
	assert_int_equal(session.user, 11);
	assert_int_equal(session.sent, 13);
	assert_int_equal(session.status, 3);
}

static void
a_row_that_is_not_settled_is_not_read(void **state)
{
	static const struct {
		uint32_t mark;
		enum hold_mark said;
	} cases[] = {
	    {HOLD_FREE, HOLD_FREE},
	    {HOLD_BUSY, HOLD_BUSY},
	    {HOLD_WRITING, HOLD_WRITING},
	    {HOLD_WRITING + 1, HOLD_WRITING},
	    {UINT32_MAX, HOLD_WRITING},
	};
	struct hold_session session;
	enum hold_mark mark;
	static struct hold_row row; /* aligned */

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fill(&row);
		atomic_store(&row.mark, cases[i].mark);
		assert_int_equal(
		    hold_row_read(&row, 7, &session, &mark), ERR_STALE);
		assert_int_equal(mark, cases[i].said);
	}
}

static void
a_row_of_another_use_is_not_read(void **state)
{
	struct hold_session session;
	enum hold_mark mark;
	static struct hold_row row; /* aligned */

	(void)state;
	fill(&row);
	assert_int_equal(hold_row_read(&row, 6, &session, &mark), ERR_STALE);
	assert_int_equal(mark, HOLD_WRITING);
	atomic_store(&row.mark, HOLD_BUSY);
	assert_int_equal(hold_row_read(&row, 8, &session, &mark), ERR_STALE);
	assert_int_equal(mark, HOLD_WRITING);
}

static void
every_flipped_bit_of_a_row_is_seen(void **state)
{
	uint8_t *bytes;
	struct hold_session session;
	enum hold_mark mark;
	static struct hold_row row; /* aligned */

	(void)state;
	fill(&row);
	bytes = (uint8_t *)&row.session;
	for (size_t bit = 0; bit < sizeof(row.session) * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(
		    hold_row_read(&row, 7, &session, &mark), ERR_CORRUPT);
		assert_int_equal(mark, HOLD_WRITING);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	/* sealed for another serial */
	row.serial = 8;
	assert_int_equal(hold_row_read(&row, 8, &session, &mark), ERR_CORRUPT);
}

/* ---- messages ---- */

static void
descriptors_arrive_with_their_rows(void **state)
{
	struct place *place = *state;
	struct hold_message sent = {.type = HOLD_PUT, .count = 2};
	struct hold_message got;
	int before = count_fds();
	int fds[HOLD_ITEMS_MAX];
	int files[2] = {place->worker, place->holder};

	sent.items[0] = (struct hold_item){5, 50};
	sent.items[1] = (struct hold_item){HOLD_ROWS_MAX - 1, 60};
	assert_int_equal(hold_send(place->worker, &sent, files), 0);
	assert_int_equal(hold_receive(place->holder, &got, fds), 0);
	assert_int_equal(got.type, HOLD_PUT);
	assert_int_equal(got.count, 2);
	assert_int_equal(got.items[1].row, HOLD_ROWS_MAX - 1);
	assert_int_equal(got.items[1].serial, 60);
	for (int i = 0; i < 2; i++) {
		assert_true(is_same_file(fds[i], files[i]));
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		close(fds[i]);
	}
	assert_int_equal(count_fds(), before);
	assert_int_equal(hold_receive(place->holder, &got, fds), ERR_AGAIN);
}

static void
the_largest_message_fits(void **state)
{
	struct place *place = *state;
	struct hold_message sent = {.type = HOLD_GIVE, .count = HOLD_ITEMS_MAX};
	struct hold_message got;
	int before = count_fds();
	int fds[HOLD_ITEMS_MAX];

	for (int i = 0; i < HOLD_ITEMS_MAX; i++) {
		sent.items[i] = (struct hold_item){(uint32_t)i, 1};
		fds[i] = place->worker;
	}
	assert_int_equal(hold_send(place->holder, &sent, fds), 0);
	assert_int_equal(hold_receive(place->worker, &got, fds), 0);
	assert_int_equal(got.count, HOLD_ITEMS_MAX);
	for (int i = 0; i < HOLD_ITEMS_MAX; i++) {
		assert_true(is_same_file(fds[i], place->worker));
		close(fds[i]);
	}
	assert_int_equal(count_fds(), before);
}

static void
a_full_pipe_says_so(void **state)
{
	struct place *place = *state;
	struct hold_message message = {.type = HOLD_DROP, .count = 1};
	int fds[HOLD_ITEMS_MAX];
	size_t sent = 0;
	int rc;

	while ((rc = hold_send(place->worker, &message, NULL)) == 0)
		sent++;
	assert_int_equal(rc, ERR_AGAIN);
	while (hold_receive(place->holder, &message, fds) == 0)
		sent--;
	assert_int_equal(sent, 0);
}

/* What a sound sender never sends; descriptors must not stay open. */
static void
send_raw(int fd, const void *data, size_t len, int file, int count)
{
	struct iovec part = {(void *)(uintptr_t)data, len};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};

	if (count > 0) {
		head.msg_control = control.bytes;
		head.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		for (int i = 0; i < count; i++)
			memcpy(CMSG_DATA(&control.header) +
				   (size_t)i * sizeof(int),
			    &file, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &head, 0), (ssize_t)len);
}

static void
unsound_messages_are_refused_and_leave_nothing_open(void **state)
{
	struct place *place = *state;
	const size_t head = offsetof(struct hold_message, items);
	struct hold_message m = {.type = HOLD_PUT, .count = 1};
	struct hold_message got;
	int fds[HOLD_ITEMS_MAX];
	char large[sizeof(m) + 1] = {HOLD_DROP};
	int before = count_fds();
	const struct {
		uint32_t type;
		uint32_t count;
		uint32_t row;
		size_t len;
		int fds;
	} cases[] = {
	    {HOLD_PUT, 1, 0, head, 1},                 /* an item is missing */
	    {HOLD_PUT, 1, 0, head + 7, 1},             /* in part */
	    {HOLD_PUT, 1, 0, head + 16, 1},            /* one too many */
	    {HOLD_PUT, 1, 0, 3, 1},                    /* no head */
	    {HOLD_PUT, 1, 0, head + 8, 2},             /* descriptors */
	    {HOLD_DROP, 1, 0, head + 8, 1},            /* none expected */
	    {HOLD_PUT, 1, HOLD_ROWS_MAX, head + 8, 1}, /* no such row */
	    {0, 1, 0, head + 8, 1},
	    {HOLD_DONE + 1, 1, 0, head + 8, 1},
	    {HOLD_PUT, UINT32_MAX, 0, head + 8, 1},
	    {HOLD_PUT, HOLD_ITEMS_MAX + 1, 0, head + 8, 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		m.type = cases[i].type;
		m.count = cases[i].count;
		m.items[0].row = cases[i].row;
		send_raw(place->worker, &m, cases[i].len, place->worker,
		    cases[i].fds);
		assert_int_equal(
		    hold_receive(place->holder, &got, fds), ERR_CORRUPT);
		assert_int_equal(count_fds(), before);
	}
	send_raw(place->worker, large, sizeof(large), place->worker, 1);
	assert_int_equal(hold_receive(place->holder, &got, fds), ERR_CORRUPT);
	assert_int_equal(count_fds(), before);
	/* a sound one goes through all the same */
	m = (struct hold_message){.type = HOLD_TAKE, .generation = 3};
	assert_int_equal(hold_send(place->worker, &m, NULL), 0);
	assert_int_equal(hold_receive(place->holder, &got, fds), 0);
	assert_int_equal(got.generation, 3);
}

static void
without_room_for_descriptors_the_rest_is_none(void **state)
{
	struct place *place = *state;
	struct hold_message message = {.type = HOLD_PUT, .count = 3};
	int fds[HOLD_ITEMS_MAX] = {place->worker, place->worker, place->worker};
	struct rlimit limit;
	struct rlimit low;
	int free_fd;

	/* valgrind plays the limit; recvmsg(2) there knows nothing of it */
	if (getenv("PARLEY_VALGRIND") != NULL)
		return;
	free_fd = dup(0);
	assert_int_equal(hold_send(place->worker, &message, fds), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)free_fd + 1; /* one more */
	close(free_fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(hold_receive(place->holder, &message, fds), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(message.count, 3);
	assert_true(is_same_file(fds[0], place->worker));
	close(fds[0]);
	assert_int_equal(fds[1], -1);
	assert_int_equal(fds[2], -1);
}

/* ---- who has it ---- */

static void
a_successor_of_the_supervisor_takes_it_over(void **state)
{
	struct hold *first;
	struct hold *second = NULL;
	struct hold_fds fds;
	struct hold_fds copies;
	struct hold_fds none;
	struct hold_row *row;

	(void)state;
	assert_int_equal(hold_create(WORKERS, &first), 0);
	hold_describe(first, &fds);
	memset(&copies, -1, sizeof(copies));
	copies.segment = dup(fds.segment);
	for (int i = 0; i < WORKERS; i++) {
		copies.worker_ends[i] = dup(fds.worker_ends[i]);
		copies.holder_ends[i] = dup(fds.holder_ends[i]);
	}
	/* another number of workers is another layout */
	assert_int_equal(hold_adopt(WORKERS + 1, &copies, &second), ERR_STALE);
	assert_null(second);
	none = copies;
	none.holder_ends[1] = -1;
	assert_int_equal(hold_adopt(WORKERS, &none, &second), ERR_STALE);
	assert_int_equal(hold_adopt(WORKERS, &copies, &second), 0);
	hold_become_worker(first, 1);
	hold_become_worker(second, 1);
	row = hold_rows(first) + HOLD_ROWS_MAX - 1;
	fill(row);
	atomic_store(hold_rows_used(first), 9);
	assert_int_equal(hold_rows(second)[HOLD_ROWS_MAX - 1].serial, 7);
	assert_int_equal(atomic_load(hold_rows_used(second)), 9);
	assert_int_equal(atomic_load(hold_crashes(second)), 0);
	hold_free(&first);
	hold_free(&second);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_settled_row_is_read),
	    cmocka_unit_test(a_row_that_is_not_settled_is_not_read),
	    cmocka_unit_test(a_row_of_another_use_is_not_read),
	    cmocka_unit_test(every_flipped_bit_of_a_row_is_seen),
	    cmocka_unit_test_setup_teardown(
		descriptors_arrive_with_their_rows, place_make, place_remove),
	    cmocka_unit_test_setup_teardown(
		the_largest_message_fits, place_make, place_remove),
	    cmocka_unit_test_setup_teardown(
		a_full_pipe_says_so, place_make, place_remove),
	    cmocka_unit_test_setup_teardown(
		unsound_messages_are_refused_and_leave_nothing_open, place_make,
		place_remove),
	    cmocka_unit_test_setup_teardown(
		without_room_for_descriptors_the_rest_is_none, place_make,
		place_remove),
	    cmocka_unit_test(a_successor_of_the_supervisor_takes_it_over),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
