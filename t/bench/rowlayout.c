/*
 * rowlayout.c - what one message costs in the store: the figures of
 * doc/decisions/001-row-layout.md.
 *
 * Role:    makes the same calls into shm/ as keeper/apply_message.c and
 *          keeper/apply_receipt.c make for a message between two people and
 *          its acknowledgement in the next commit; or a naive layout; with
 *          single rows left out or done otherwise.
 * Process: one writer of the store, 1..8 processes that fill its rings.
 * Blocks:  on synced commits, that is the point.
 * Trust:   none needed.
 * See:     t/bench/rowlayout.sh (which cells), doc/decisions/001.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/meta.h"
#include "shm/segment.h"
#include "t/bench/rowlayout.h"

#define RING_BYTES   ((size_t)1 << 20)
#define RING_SPACE   (RING_BYTES + 4096)
#define PAGE_BYTES   4096
#define COMMITS_MAX  1000000
#define MAP_BYTES    ((size_t)32 << 30)
#define PRELOAD_STEP 20000

static const struct {
	const char *name;
	unsigned flag;
} option_table[] = {
    {"no-ack", NO_ACK},
    {"no-contact", NO_CONTACT},
    {"no-conv", NO_CONV},
    {"no-delivered", NO_DELIVERED},
    {"no-head", NO_HEAD},
    {"no-inbox", NO_INBOX},
    {"no-log", NO_LOG},
    {"no-meta", NO_META},
    {"no-sent", NO_SENT},
    {"lazy-trim", LAZY_TRIM},
    {"outbox", OUTBOX},
    {"outbox-kept", OUTBOX | OUTBOX_KEPT},
    {"outbox-rows", OUTBOX | OUTBOX_ROWS},
};

void
bench_check(int rc, const char *what)
{
	if (rc != 0)
		fatal("%s: %s", what, err_text(rc));
}

/* k-th peer: an involution without a pattern the tree could profit from. */
uint64_t
bench_peer(uint64_t user, unsigned k, uint64_t users)
{
	uint64_t turn = (k + 1) * 0x9e3779b97f4a7c15ULL % users;
	uint64_t peer = (turn + users - (user - 1) % users) % users + 1;

	return peer == user ? user % users + 1 : peer;
}

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* ---- processes that fill the rings ---- */

static _Noreturn void
writer_run(const struct bench *bench, int number)
{
	uint64_t random = bench->seed * 1000003 + (uint64_t)number + 1;
	struct ring_writer writer;
	struct letter letter;
	uint64_t released;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(letter.body, 'm', sizeof(letter.body));
	ring_writer_attach(&writer, &bench->rings[number], 1, 1);
	for (;;) {
		letter.from = next_random(&random) % bench->users + 1;
		letter.to = bench_peer(letter.from,
		    (unsigned)(next_random(&random) % PEERS), bench->users);
		letter.request_hash = next_random(&random);
		memcpy(letter.hash, &letter.request_hash, 8);
		memcpy(letter.hash + 8, &random, 8);
		while (ring_put(&writer, 1, &letter, sizeof(letter)) != 0) {
			ring_publish(&writer);
			/* full: until the store has taken some */
			if (read(bench->eventfds[number], &released,
				sizeof(released)) != sizeof(released))
				_exit(1);
		}
		if (next_random(&random) % 16 == 0)
			ring_publish(&writer);
	}
}

static void
writers_start(struct bench *bench)
{
	void *segment;

	bench_check(segment_create(
			"bench", (size_t)bench->writers * RING_SPACE, &segment),
	    "shared memory");
	for (int i = 0; i < bench->writers; i++) {
		uint8_t *at = (uint8_t *)segment + (size_t)i * RING_SPACE;

		ring_format(
		    &bench->rings[i], (void *)at, at + 4096, RING_BYTES);
		bench->eventfds[i] = eventfd(0, EFD_CLOEXEC);
		if (bench->eventfds[i] == -1)
			fatal("eventfd: %s", strerror(errno));
		bench->pids[i] = fork();
		if (bench->pids[i] == 0)
			writer_run(bench, i);
		if (bench->pids[i] == -1)
			fatal("fork: %s", strerror(errno));
		ring_reader_attach(&bench->readers[i], &bench->rings[i]);
	}
}

static void
writers_stop(struct bench *bench)
{
	for (int i = 0; i < bench->writers; i++) {
		kill(bench->pids[i], SIGKILL);
		waitpid(bench->pids[i], NULL, 0);
	}
}

/* ---- what is there before ---- */

static void
preload(struct bench *bench)
{
	uint64_t user = 1;

	while (user <= bench->users) {
		bench_check(
		    store_begin_write(bench->store, &bench->txn), "begin");
		for (int i = 0; i < PRELOAD_STEP && user <= bench->users; i++) {
			if (bench->is_naive)
				naive_lay_in(bench, user++);
			else
				real_lay_in(bench, user++);
		}
		bench_check(txn_commit(&bench->txn), "commit");
	}
}

static void
open_store(struct bench *bench)
{
	char error[512];
	bool is_new;

	if (mkdir(bench->folder, 0700) == -1 && errno != EEXIST)
		fatal("%s: %s", bench->folder, strerror(errno));
	if (store_open(STORE_MAIN, bench->folder, MAP_BYTES, true,
		&bench->store, error, sizeof(error)) != 0)
		fatal("%s", error);
	bench_check(store_begin_read(bench->store, &bench->txn), "begin");
	is_new = bench->is_naive ? naive_is_new(bench)
				 : store_count(&bench->txn, DBI_userhead) == 0;
	if (meta_rings_get(&bench->txn, &bench->meta) == 0)
		bench->last_id = bench->meta.last_id;
	txn_end(&bench->txn);
	if (is_new)
		preload(bench);
}

/* ---- measuring ---- */

static uint64_t
bytes_written(void)
{
	char line[128];
	uint64_t bytes = 0;
	FILE *file = fopen("/proc/self/io", "r");

	if (file == NULL)
		fatal("/proc/self/io: %s", strerror(errno));
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, "wchar: ", 7) == 0)
			bytes = strtoull(line + 7, NULL, 10);
	}
	fclose(file);
	return bytes;
}

static unsigned
take_letters(struct bench *bench)
{
	struct ring_record record;
	unsigned count = 0;
	bool is_any = true;

	while (is_any && count < bench->batch) {
		is_any = false;
		for (int i = 0; i < bench->writers && count < bench->batch;
		     i++) {
			if (ring_next(&bench->readers[i], &record) != 0)
				continue;
			is_any = true;
			count++;
			if (bench->is_naive)
				naive_send(bench, (const void *)record.data);
			else
				real_send(bench, (const void *)record.data);
		}
	}
	return count;
}

static void
take_acks(struct bench *bench)
{
	size_t count = bench->ack_count;

	bench->ack_count = 0;
	if (bench->options & NO_ACK)
		return;
	for (size_t i = 0; i < count; i++) {
		if (bench->is_naive)
			naive_ack(bench, &bench->acks[i]);
		else
			real_ack(bench, &bench->acks[i]);
	}
}

/* One batch: acknowledgements of the last one, then new messages. */
static void
run_batch(struct bench *bench)
{
	const uint64_t one = 1;
	int64_t start_us;
	unsigned count;

	bench_check(store_begin_write(bench->store, &bench->txn), "begin");
	real_outbox_begin(bench);
	take_acks(bench);
	count = take_letters(bench);
	for (int i = 0; i < bench->writers; i++)
		bench->meta.rings[i].applied = bench->readers[i].cursor;
	bench->meta.last_id = bench->last_id;
	if (!(bench->options & NO_META))
		bench_check(meta_rings_put(&bench->txn, &bench->meta), "meta");
	real_outbox_end(bench);
	start_us = clock_mono_us();
	bench_check(txn_commit(&bench->txn), "commit");
	if (bench->commits < COMMITS_MAX)
		bench->commit_us[bench->commits++] =
		    (uint32_t)(clock_mono_us() - start_us);
	for (int i = 0; i < bench->writers; i++) {
		ring_release(&bench->readers[i]);
		if (write(bench->eventfds[i], &one, sizeof(one)) != sizeof(one))
			fatal("eventfd: %s", strerror(errno));
	}
	bench->messages += count;
	if (count == 0)
		sched_yield();
}

static int
compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void
run(struct bench *bench)
{
	int64_t start_us = clock_mono_us();
	int64_t end_us = start_us + (int64_t)bench->seconds * 1000000;
	uint64_t start_bytes = bytes_written();
	struct timespec cpu_start;
	struct timespec cpu_end;
	double cpu_us;
	double seconds;
	uint64_t bytes;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_start);
	while (clock_mono_us() < end_us)
		run_batch(bench);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_end);
	seconds = (double)(clock_mono_us() - start_us) / 1e6;
	bytes = bytes_written() - start_bytes;
	cpu_us = (double)(cpu_end.tv_sec - cpu_start.tv_sec) * 1e6 +
		 (double)(cpu_end.tv_nsec - cpu_start.tv_nsec) / 1e3;
	if (bench->messages == 0)
		fatal("no message arrived");
	qsort(bench->commit_us, bench->commits, sizeof(uint32_t), compare_u32);
	printf("%-6s %8llu users %d writers batch %4u: %7.0f msg/s %6.0f per "
	       "commit %6.2f pages/msg %7.0f B/msg commit p50 %6u p99 %6u us "
	       "cpu %5.1f us/msg\n",
	    bench->is_naive ? "naive" : "real",
	    (unsigned long long)bench->users, bench->writers, bench->batch,
	    (double)bench->messages / seconds,
	    (double)bench->messages / (double)bench->commits,
	    (double)bytes / PAGE_BYTES / (double)bench->messages,
	    (double)bytes / (double)bench->messages,
	    bench->commit_us[bench->commits / 2],
	    bench->commit_us[bench->commits * 99 / 100],
	    cpu_us / (double)bench->messages);
}

static unsigned
parse_option(const char *name)
{
	for (size_t i = 0; i < sizeof(option_table) / sizeof(option_table[0]);
	     i++) {
		if (strcmp(option_table[i].name, name) == 0)
			return option_table[i].flag;
	}
	fatal("unknown option %s", name);
}

static _Noreturn void
usage(void)
{
	fprintf(stderr,
	    "usage: rowlayout -d FOLDER [-n] [-u USERS] [-w WRITERS] "
	    "[-b BATCH] [-s SECONDS] [-r SENT_ROWS] "
	    "[-x OPTION]...\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static struct bench bench = {
	    .users = 1000, .writers = 2, .batch = 256, .seconds = 3};
	int option;

	while ((option = getopt(argc, argv, "d:nu:w:b:s:r:x:")) != -1) {
		unsigned n = optarg == NULL ? 0 : (unsigned)atoi(optarg);

		if (option == 'd')
			bench.folder = optarg;
		else if (option == 'n')
			bench.is_naive = true;
		else if (option == 'u')
			bench.users = n;
		else if (option == 'w')
			bench.writers = (int)n;
		else if (option == 'b')
			bench.batch = n;
		else if (option == 's')
			bench.seconds = (int)n;
		else if (option == 'r')
			bench.sent_rows = n;
		else if (option == 'x')
			bench.options |= parse_option(optarg);
		else
			usage();
	}
	if (bench.folder == NULL || bench.users < 3 || bench.writers < 1 ||
	    bench.writers > WRITERS_MAX || bench.batch < 1 ||
	    bench.batch > BATCH_MAX || bench.sent_rows > SENT_ROWS)
		usage();
	bench.seed = (uint64_t)clock_mono_ns() | 1;
	bench.commit_us = xcalloc(COMMITS_MAX, sizeof(uint32_t));
	if (bench.seconds == 0) { /* only lay in */
		open_store(&bench);
	} else {
		writers_start(&bench); /* no store crosses a fork */
		open_store(&bench);
		run(&bench);
		writers_stop(&bench);
	}
	store_close(&bench.store);
	free(bench.commit_us);
	return 0;
}
