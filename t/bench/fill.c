/*
 * fill.c - a store as years of use leave it, in a minute.
 *
 * Writes users, conversations, messages and inboxes with the calls the keeper
 * makes, conversation by conversation in large transactions, so that t/bench/
 * run can measure a start with millions of messages and the load on users who
 * have a backlog. Pairs and devices are those of parleyload: user FIRST+i
 * and FIRST+USERS/2+i, each on its device "load-ID".
 *
 * See: shm/store_schema.h, keeper/apply_message.c, t/bench/run.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/meta.h"
#include "shm/userhead.h"
#include "shm/users.h"

#define MAP_BYTES     ((size_t)64 << 30)
#define COMMIT_EVERY  50000 /* messages: some thousand dirty pages */
#define COMMIT_USERS  20000
#define BODY_MAX      4096
#define PER_MS        8 /* messages with the same time in their id */
#define DEVICE_NUMBER 1

struct fill {
	const char *folder;
	uint64_t first;
	uint64_t users;
	uint64_t messages;
	uint64_t backlog; /* messages in each inbox */
	size_t body_len;

	struct store *store;
	struct txn txn;
	struct meta meta;
	uint64_t last_id;
	int64_t start_ms; /* time of the first message */
	uint64_t written; /* messages so far */
	char body[BODY_MAX];
};

static void
check(int rc, const char *what)
{
	if (rc != 0)
		fatal("%s: %s", what, err_text(rc));
}

static void
next_txn(struct fill *fill)
{
	check(txn_commit(&fill->txn), "commit");
	check(store_begin_write(fill->store, &fill->txn), "begin");
}

static void
open_store(struct fill *fill)
{
	char error[512];

	if (mkdir(fill->folder, 0700) == -1 && errno != EEXIST)
		fatal("%s: %s", fill->folder, strerror(errno));
	if (store_open(STORE_MAIN, fill->folder, MAP_BYTES, true, &fill->store,
		error, sizeof(error)) != 0)
		fatal("%s", error);
	check(store_begin_write(fill->store, &fill->txn), "begin");
	check(meta_init(&fill->txn, clock_wall_ms(), &fill->meta), "meta");
	if (store_count(&fill->txn, DBI_users) != 0)
		fatal("%s holds users already", fill->folder);
	/* all of it before now, so that new ids come after */
	fill->start_ms =
	    clock_wall_ms() - (int64_t)(fill->messages / PER_MS) - 1000;
}

static void
put_user(struct fill *fill, uint64_t id)
{
	struct userhead head;
	struct user user = {.id = id, .created_ms = fill->start_ms};
	char name[32];
	char device[32];
	int len =
	    snprintf(name, sizeof(name), "User %llu", (unsigned long long)id);

	user.name = (struct blob){name, (size_t)len};
	check(users_put(&fill->txn, &user), "user");
	check(userhead_get_or_new(&fill->txn, id, fill->meta.base, &head),
	    "userhead");
	len = snprintf(
	    device, sizeof(device), "load-%llu", (unsigned long long)id);
	head.devices[0] = (struct userhead_device){
	    .cursor = head.row.head,
	    .last_used_ms = clock_wall_ms(),
	    .number = DEVICE_NUMBER,
	};
	crypto_siphash128(
	    fill->meta.secret, device, (size_t)len, head.devices[0].hash);
	head.row.device_count = 1;
	head.row.next_device = DEVICE_NUMBER + 1;
	check(userhead_put(&fill->txn, &head), "userhead");
	check(device_put(&fill->txn, id, DEVICE_NUMBER, device, (size_t)len,
		  fill->start_ms),
	    "device");
}

static void
put_inbox(struct fill *fill, uint64_t user, const struct log_message *message)
{
	struct inbox_event event = {
	    .ref = message->id, .conv = message->conv, .kind = EVENT_MESSAGE};
	struct userhead head;

	check(userhead_get(&fill->txn, user, &head), "userhead");
	event.seq = ++head.row.head;
	check(inbox_put(&fill->txn, user, &event), "inbox");
	check(userhead_put(&fill->txn, &head), "userhead");
}

static void
put_message(struct fill *fill, struct conv *conv, uint64_t from, uint64_t to,
    bool is_waiting)
{
	struct log_message message = {
	    .conv = conv->key,
	    .sender = from,
	    .client_time_ms = INT64_MIN,
	    .body = {fill->body, fill->body_len},
	    .type = {"text", 4},
	    .client_id = {fill->body, 22},
	};

	fill->last_id = message_id_next(fill->last_id,
	    fill->start_ms + (int64_t)(fill->written / PER_MS), 0);
	message.id = fill->last_id;
	check(conv_add_message(&fill->txn, conv, &message), "convindex");
	check(log_append(&fill->txn, &message), "log");
	if (is_waiting)
		put_inbox(fill, to, &message);
	if (++fill->written % COMMIT_EVERY == 0)
		next_txn(fill);
}

static void
put_pair(struct fill *fill, uint64_t from, uint64_t to, uint64_t count)
{
	uint64_t pair[2] = {from, to};
	struct conv_key key;
	struct conv conv;

	conv_key_make(pair, 2, &key);
	check(conv_create(&fill->txn, &key, pair, 2, &conv), "conv");
	for (uint64_t i = 0; i < count; i++) {
		bool is_waiting = count - i <= 2 * fill->backlog;

		/* in turn, so that both have a backlog */
		if (i % 2 == 0)
			put_message(fill, &conv, from, to, is_waiting);
		else
			put_message(fill, &conv, to, from, is_waiting);
	}
	check(conv_put(&fill->txn, &conv), "conv");
}

static void
fill_all(struct fill *fill)
{
	uint64_t pairs = fill->users / 2;
	struct meta_rings rings = {0};

	memset(fill->body, 'm', sizeof(fill->body));
	for (uint64_t i = 0; i < fill->users; i++) {
		put_user(fill, fill->first + i);
		if (i % COMMIT_USERS == COMMIT_USERS - 1)
			next_txn(fill);
	}
	for (uint64_t i = 0; i < pairs; i++)
		put_pair(fill, fill->first + i, fill->first + pairs + i,
		    fill->messages * (i + 1) / pairs -
			fill->messages * i / pairs);
	rings.last_id = fill->last_id;
	check(meta_rings_put(&fill->txn, &rings), "meta");
	check(txn_commit(&fill->txn), "commit");
}

static _Noreturn void
usage(void)
{
	fprintf(stderr, "usage: fill -d FOLDER [-f FIRST] [-u USERS] "
			"[-m MESSAGES] [-b BACKLOG] [-s BYTES]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static struct fill fill = {
	    .first = 1, .users = 2, .messages = 1, .body_len = 200};
	int64_t start_us = clock_mono_us();
	int option;

	while ((option = getopt(argc, argv, "d:f:u:m:b:s:")) != -1) {
		uint64_t n = optarg ? strtoull(optarg, NULL, 10) : 0;

		if (option == 'd')
			fill.folder = optarg;
		else if (option == 'f')
			fill.first = n;
		else if (option == 'u')
			fill.users = n;
		else if (option == 'm')
			fill.messages = n;
		else if (option == 'b')
			fill.backlog = n;
		else if (option == 's')
			fill.body_len = (size_t)n;
		else
			usage();
	}
	if (!fill.folder || fill.first < 1 || fill.users < 2 ||
	    fill.first + fill.users > USER_ID_MAX || fill.body_len < 22 ||
	    fill.body_len > BODY_MAX)
		usage();
	open_store(&fill);
	fill_all(&fill);
	printf("%llu users, %llu messages, %llu bytes, %.1f s\n",
	    (unsigned long long)fill.users, (unsigned long long)fill.written,
	    (unsigned long long)store_used_bytes(fill.store),
	    (double)(clock_mono_us() - start_us) / 1e6);
	store_close(&fill.store);
	return 0;
}
