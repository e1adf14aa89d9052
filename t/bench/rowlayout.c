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
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/layout.h"
#include "shm/meta.h"
#include "shm/ring.h"
#include "shm/segment.h"
#include "shm/userhead.h"
#include "shm/users.h"

#define RING_BYTES   ((size_t)1 << 20)
#define RING_SPACE   (RING_BYTES + 4096)
#define WRITERS_MAX  8
#define BATCH_MAX    4096
#define BODY_BYTES   300
#define PEERS        2 /* conversations per user */
#define PAGE_BYTES   4096
#define COMMITS_MAX  1000000
#define MAP_BYTES    ((size_t)32 << 30)
#define LAZY_EVENTS  16
#define PRELOAD_STEP 20000

/* Rows left out, or done otherwise. */
enum option {
	NO_SENT = 1,
	NO_CONTACT = 2,
	NO_INBOX = 4,
	NO_HEAD = 8, /* userhead of the recipient and of who acknowledges */
	NO_CONV = 16,
	NO_DELIVERED = 32, /* conv is not written when acknowledged */
	NO_ACK = 64,
	NO_META = 128,
	LAZY_TRIM = 256, /* inbox deleted 16 events at a time */
	NO_LOG = 512,
};

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
};

struct letter { /* in the ring */
	uint64_t from;
	uint64_t to;
	uint8_t hash[16];
	uint64_t request_hash;
	char body[BODY_BYTES];
};

struct ack {
	uint64_t user;
	uint64_t seq;
};

struct bench {
	const char *folder;
	bool is_naive;
	unsigned options;
	unsigned sent_per_row; /* 0: the store's own */
	uint64_t users;
	unsigned sent_rows; /* laid in per device before */
	int writers;
	unsigned batch;
	int seconds;
	uint64_t seed;

	struct store *store;
	struct txn txn;
	struct ring rings[WRITERS_MAX];
	struct ring_reader readers[WRITERS_MAX];
	pid_t pids[WRITERS_MAX];
	struct meta_rings meta;
	uint64_t last_id;
	struct ack acks[BATCH_MAX];
	size_t ack_count;
	uint64_t messages;
	size_t commits;
	uint32_t *commit_us;
};

static void
check(int rc, const char *what)
{
	if (rc != 0)
		fatal("%s: %s", what, err_text(rc));
}

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* k-th peer: an involution without a pattern the tree could profit from. */
static uint64_t
peer_of(uint64_t user, unsigned k, uint64_t users)
{
	uint64_t turn = (k + 1) * 0x9e3779b97f4a7c15ULL % users;
	uint64_t peer = (turn + users - (user - 1) % users) % users + 1;

	return peer == user ? user % users + 1 : peer;
}

/* ---- processes that fill the rings ---- */

static _Noreturn void
writer_run(const struct bench *bench, int number)
{
	uint64_t random = bench->seed * 1000003 + (uint64_t)number + 1;
	const struct timespec pause_time = {.tv_nsec = 100000};
	struct ring_writer writer;
	struct letter letter;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(letter.body, 'm', sizeof(letter.body));
	ring_writer_attach(&writer, &bench->rings[number], 1, 1);
	for (;;) {
		letter.from = next_random(&random) % bench->users + 1;
		letter.to = peer_of(letter.from,
		    (unsigned)(next_random(&random) % PEERS), bench->users);
		letter.request_hash = next_random(&random);
		memcpy(letter.hash, &letter.request_hash, 8);
		memcpy(letter.hash + 8, &random, 8);
		while (ring_put(&writer, 1, &letter, sizeof(letter)) != 0) {
			ring_publish(&writer);
			nanosleep(&pause_time, NULL);
		}
		if (next_random(&random) % 16 == 0)
			ring_publish(&writer);
	}
}

static void
writers_start(struct bench *bench)
{
	void *segment;

	check(segment_create(
		  "bench", (size_t)bench->writers * RING_SPACE, &segment),
	    "shared memory");
	for (int i = 0; i < bench->writers; i++) {
		uint8_t *at = (uint8_t *)segment + (size_t)i * RING_SPACE;

		ring_format(
		    &bench->rings[i], (void *)at, at + 4096, RING_BYTES);
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

/* ---- the layout of the store ---- */

/* Rows of another size than SENT_PER_ROW, at a place taken from the id. */
static void
sent_put_sized(
    struct bench *bench, uint64_t user, const struct sent_entry *entry)
{
	struct sent_entry entries[128] = {0};
	unsigned per_row = bench->sent_per_row;
	unsigned place = (unsigned)(entry->request_hash % 128);
	size_t len = per_row * sizeof(entries[0]);
	uint8_t key[13] = {0};
	struct blob value;
	int rc;

	key_u64(key, user);
	key[12] = (uint8_t)(place / per_row);
	rc = txn_get(&bench->txn, DBI_sent, key, sizeof(key), &value);
	if (rc == 0 && value.len == len)
		memcpy(entries, value.data, len);
	entries[place % per_row] = *entry;
	check(txn_put(&bench->txn, DBI_sent, key, sizeof(key), entries, len),
	    "sent");
}

static void
remember_sent(struct bench *bench, const struct letter *letter, uint32_t device,
    struct sent_place place, uint64_t id)
{
	struct sent_entry entry = {
	    .request_hash = letter->request_hash, .message_id = id};

	memcpy(entry.hash, letter->hash, sizeof(entry.hash));
	if (bench->options & NO_SENT)
		return;
	if (bench->sent_per_row != 0)
		sent_put_sized(bench, letter->from, &entry);
	else
		check(
		    sent_put(&bench->txn, letter->from, device, place, &entry),
		    "sent");
}

static void
deliver_real(struct bench *bench, uint64_t user, const struct conv_key *conv,
    uint64_t id)
{
	struct inbox_event event = {
	    .ref = id, .conv = *conv, .kind = EVENT_MESSAGE};
	struct userhead head;

	check(userhead_get(&bench->txn, user, &head), "userhead");
	event.seq = ++head.row.head;
	if (!(bench->options & NO_INBOX))
		check(inbox_put(&bench->txn, user, &event), "inbox");
	if (bench->options & NO_HEAD)
		return;
	check(userhead_put(&bench->txn, &head), "userhead");
	bench->acks[bench->ack_count++] = (struct ack){user, event.seq};
}

static void
send_real(struct bench *bench, const struct letter *letter)
{
	uint64_t pair[2] = {letter->from, letter->to};
	struct log_message message = {.sender = letter->from};
	struct txn *txn = &bench->txn;
	struct sent_place place = {0, 0};
	struct sent_entry entry;
	struct userhead sender;
	struct conv_key key;
	struct conv conv;
	uint32_t flags;

	if (pair[0] > pair[1]) {
		pair[0] = letter->to;
		pair[1] = letter->from;
	}
	check(userhead_get(txn, letter->from, &sender), "sender");
	if (!(bench->options & NO_SENT) && bench->sent_per_row == 0 &&
	    sent_find(txn, letter->from, sender.devices[0].number, letter->hash,
		&entry, &place) != ERR_NOT_FOUND)
		fatal("a message came twice");
	conv_key_make(pair, 2, &key);
	check(conv_get(txn, &key, &conv), "conv");
	if (!(bench->options & NO_CONTACT))
		check(contact_get(txn, letter->from, letter->to, &flags),
		    "flags");
	bench->last_id = message_id_next(bench->last_id, clock_wall_ms(), 0);
	message.id = bench->last_id;
	message.conv = key;
	message.client_time_ms = INT64_MIN;
	message.body = (struct blob){letter->body, BODY_BYTES};
	message.type = (struct blob){"text", 4};
	message.client_id = (struct blob){letter->body, 36};
	check(conv_add_message(txn, &conv, &message), "convindex");
	if (!(bench->options & NO_LOG))
		check(log_append(txn, &message), "log");
	if (!(bench->options & NO_CONV))
		check(conv_put(txn, &conv), "conv");
	deliver_real(bench, letter->to, &key, message.id);
	remember_sent(
	    bench, letter, sender.devices[0].number, place, message.id);
}

struct touched {
	struct conv_key conv;
	uint64_t ref;
};

static bool
touch(void *ctx, const struct inbox_event *event)
{
	struct touched *touched = ctx;

	*touched = (struct touched){event->conv, event->ref};
	return true;
}

static void
trim_real(struct bench *bench, struct userhead *head)
{
	uint64_t least = head->devices[0].cursor;

	if ((bench->options & LAZY_TRIM) &&
	    least - head->row.floor < LAZY_EVENTS)
		return;
	check(inbox_delete(&bench->txn, head->user, head->row.floor, least),
	    "inbox");
	head->row.floor = least;
}

static void
ack_real(struct bench *bench, const struct ack *ack)
{
	struct touched touched = {.ref = 0};
	struct conv_member *member;
	struct userhead head;
	struct conv conv;

	check(userhead_get(&bench->txn, ack->user, &head), "userhead");
	if (ack->seq <= head.devices[0].cursor)
		return;
	head.devices[0].cursor = ack->seq;
	check(inbox_each(&bench->txn, ack->user, head.row.delivered, ack->seq,
		  touch, &touched),
	    "inbox");
	head.row.delivered = ack->seq;
	if (touched.ref != 0 && !(bench->options & NO_DELIVERED)) {
		check(conv_get(&bench->txn, &touched.conv, &conv), "conv");
		member = conv_member(&conv, ack->user);
		member->delivered = touched.ref;
		check(conv_put(&bench->txn, &conv), "conv");
	}
	trim_real(bench, &head);
	check(userhead_put(&bench->txn, &head), "userhead");
}

/* ---- the naive layout, in trees of the same store ---- */

/* Trees without flags, used for something else here. */
#define NAIVE_LOG    DBI_conv   /* conversation, number */
#define NAIVE_INBOX  DBI_inbox  /* user, seq */
#define NAIVE_DEDUPE DBI_device /* hash: random, grows with history */
#define NAIVE_COUNT  DBI_sent   /* conversation or user: last number */

static uint64_t
naive_count(struct bench *bench, const void *key, size_t len)
{
	struct blob value;
	uint64_t n = 0;
	int rc;

	rc = txn_get(&bench->txn, NAIVE_COUNT, key, len, &value);
	if (rc == 0)
		memcpy(&n, value.data, sizeof(n));
	n++;
	check(txn_put(&bench->txn, NAIVE_COUNT, key, len, &n, sizeof(n)),
	    "count");
	return n;
}

static void
send_naive(struct bench *bench, const struct letter *letter)
{
	bool is_up = letter->from < letter->to;
	struct txn *txn = &bench->txn;
	uint8_t log_key[24];
	uint8_t inbox_key[16];
	struct blob value;
	uint64_t seq;

	if (txn_get(txn, NAIVE_DEDUPE, letter->hash, sizeof(letter->hash),
		&value) != ERR_NOT_FOUND)
		fatal("a message came twice");
	key_u64(log_key, is_up ? letter->from : letter->to);
	key_u64(log_key + 8, is_up ? letter->to : letter->from);
	key_u64(log_key + 16, naive_count(bench, log_key, 16));
	check(txn_put(txn, NAIVE_LOG, log_key, sizeof(log_key), letter,
		  sizeof(*letter)),
	    "log");
	key_u64(inbox_key, letter->to);
	seq = naive_count(bench, inbox_key, 8);
	key_u64(inbox_key + 8, seq);
	check(txn_put(txn, NAIVE_INBOX, inbox_key, sizeof(inbox_key), log_key,
		  sizeof(log_key)),
	    "inbox");
	check(txn_put(txn, NAIVE_DEDUPE, letter->hash, sizeof(letter->hash),
		  log_key, sizeof(log_key)),
	    "dedupe");
	bench->acks[bench->ack_count++] = (struct ack){letter->to, seq};
}

static void
ack_naive(struct bench *bench, const struct ack *ack)
{
	uint8_t key[16];
	int rc;

	key_u64(key, ack->user);
	key_u64(key + 8, ack->seq);
	rc = txn_del(&bench->txn, NAIVE_INBOX, key, sizeof(key));
	if (rc != ERR_NOT_FOUND)
		check(rc, "inbox");
	/* the device's cursor */
	check(txn_put(&bench->txn, DBI_grace, key, 8, &ack->seq, 8), "cursor");
}

/* ---- what is there before ---- */

static void
preload_user(struct bench *bench, uint64_t user)
{
	unsigned per_row =
	    bench->sent_per_row == 0 ? SENT_PER_ROW : bench->sent_per_row;
	unsigned rows = bench->sent_rows * SENT_PER_ROW / per_row;
	struct sent_entry entries[128];
	struct userhead head;
	uint8_t key[13] = {0};
	struct conv conv;

	check(userhead_get_or_new(&bench->txn, user, 1, &head), "userhead");
	head.row.device_count = 1;
	check(userhead_put(&bench->txn, &head), "userhead");
	key_u64(key, user);
	for (unsigned row = 0; row < rows; row++) {
		for (unsigned i = 0; i < per_row; i++) {
			entries[i] = (struct sent_entry){
			    .message_id = row * per_row + i + 1};
			memset(entries[i].hash, (int)i, 16);
		}
		key[12] = (uint8_t)row;
		check(txn_put(&bench->txn, DBI_sent, key, sizeof(key), entries,
			  per_row * sizeof(entries[0])),
		    "sent");
	}
	for (unsigned k = 0; k < PEERS; k++) {
		uint64_t peer = peer_of(user, k, bench->users);
		uint64_t pair[2] = {
		    user < peer ? user : peer, user < peer ? peer : user};
		struct conv_key conv_key;
		int rc;

		conv_key_make(pair, 2, &conv_key);
		rc = conv_get(&bench->txn, &conv_key, &conv);
		if (rc == 0)
			continue;
		check(conv_create(&bench->txn, &conv_key, pair, 2, &conv),
		    "conv");
		check(conv_put(&bench->txn, &conv), "conv");
		check(contact_change(&bench->txn, pair[0], pair[1],
			  CONTACT_LISTED | CONTACT_LISTED_BY, 0),
		    "contact");
	}
}

/* The same history: counters, cursors, and as many hashes as the real layout
 * has entries, spread over the tree. */
static void
preload_naive_user(struct bench *bench, uint64_t user)
{
	uint64_t each = bench->sent_rows * SENT_PER_ROW;
	uint64_t one = 1;
	uint8_t hash[16] = {0};
	uint8_t key[16];

	key_u64(key, user);
	check(txn_put(&bench->txn, NAIVE_COUNT, key, 8, &one, 8), "count");
	check(txn_put(&bench->txn, DBI_grace, key, 8, &one, 8), "cursor");
	for (unsigned k = 0; k < PEERS; k++) {
		uint64_t peer = peer_of(user, k, bench->users);

		key_u64(key, user < peer ? user : peer);
		key_u64(key + 8, user < peer ? peer : user);
		check(txn_put(&bench->txn, NAIVE_COUNT, key, 16, &one, 8),
		    "count");
	}
	for (uint64_t i = 0; i < each; i++) {
		key_u64(hash, (user * each + i) *
				  (UINT64_MAX / (each * (bench->users + 2))));
		check(txn_put(&bench->txn, NAIVE_DEDUPE, hash, sizeof(hash),
			  key, 24 - 8),
		    "dedupe");
	}
}

static void
preload(struct bench *bench)
{
	uint64_t user = 1;

	while (user <= bench->users) {
		check(store_begin_write(bench->store, &bench->txn), "begin");
		for (int i = 0; i < PRELOAD_STEP && user <= bench->users; i++) {
			if (bench->is_naive)
				preload_naive_user(bench, user++);
			else
				preload_user(bench, user++);
		}
		check(txn_commit(&bench->txn), "commit");
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
	check(store_begin_read(bench->store, &bench->txn), "begin");
	is_new = store_count(&bench->txn,
		     bench->is_naive ? DBI_grace : DBI_userhead) == 0;
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
				send_naive(bench, (const void *)record.data);
			else
				send_real(bench, (const void *)record.data);
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
			ack_naive(bench, &bench->acks[i]);
		else
			ack_real(bench, &bench->acks[i]);
	}
}

/* One batch: acknowledgements of the last one, then new messages. */
static void
run_batch(struct bench *bench)
{
	int64_t start_us;
	unsigned count;

	check(store_begin_write(bench->store, &bench->txn), "begin");
	take_acks(bench);
	count = take_letters(bench);
	for (int i = 0; i < bench->writers; i++)
		bench->meta.rings[i].applied = bench->readers[i].cursor;
	bench->meta.last_id = bench->last_id;
	if (!(bench->options & NO_META))
		check(meta_rings_put(&bench->txn, &bench->meta), "meta");
	start_us = clock_mono_us();
	check(txn_commit(&bench->txn), "commit");
	if (bench->commits < COMMITS_MAX)
		bench->commit_us[bench->commits++] =
		    (uint32_t)(clock_mono_us() - start_us);
	for (int i = 0; i < bench->writers; i++)
		ring_release(&bench->readers[i]);
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
	    "[-b BATCH] [-s SECONDS] [-r SENT_ROWS] [-p SENT_PER_ROW] "
	    "[-x OPTION]...\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static struct bench bench = {
	    .users = 1000, .writers = 2, .batch = 256, .seconds = 3};
	int option;

	while ((option = getopt(argc, argv, "d:nu:w:b:s:r:p:x:")) != -1) {
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
		else if (option == 'p')
			bench.sent_per_row = n;
		else if (option == 'x')
			bench.options |= parse_option(optarg);
		else
			usage();
	}
	if (bench.folder == NULL || bench.users < 3 || bench.writers < 1 ||
	    bench.writers > WRITERS_MAX || bench.batch < 1 ||
	    bench.batch > BATCH_MAX || bench.sent_per_row > 128 ||
	    bench.sent_rows > SENT_ROWS)
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
