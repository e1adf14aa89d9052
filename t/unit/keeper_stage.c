/*
 * keeper_stage.c - a keeper in a process of its own for tests.
 */
#include "config.h"

#include "t/unit/keeper_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "keeper/keeper.h"
#include "shm/meta.h"
#include "shm/process.h"

#define DEADLINE_MS 10000
#define USERS       10
#define WORKERS     2

static void
set_text(char **field, const char *text)
{
	free(*field);
	*field = xstrdup(text);
}

static _Noreturn void
keeper_run(struct stage *stage)
{
	struct process process = {
	    .conf = stage->conf, .bus = stage->bus, .slot = SLOT_KEEPER};
	struct log_conf quiet = {"stderr", "error", "text", false};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_set_process("keeper");
	if (log_open(&quiet) != 0)
		_exit(1);
	bus_become(stage->bus, SLOT_KEEPER);
	_exit(keeper_main(&process));
}

void
stage_keeper_start(struct stage *stage)
{
	struct board_slot *slot = board_slot(stage->board, SLOT_KEEPER);
	sigset_t set;

	/* as spawn.c leaves it: the keeper's signalfd takes it from there */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	assert_int_equal(stage->keeper, 0);
	atomic_fetch_add(&slot->generation, 1);
	atomic_store(&slot->state, PROCESS_RUNNING);
	stage->keeper = fork();
	assert_true(stage->keeper >= 0);
	if (stage->keeper == 0)
		keeper_run(stage);
	assert_int_equal(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
}

void
stage_keeper_kill(struct stage *stage)
{
	int status;

	assert_int_equal(kill(stage->keeper, SIGKILL), 0);
	assert_int_equal(waitpid(stage->keeper, &status, 0), stage->keeper);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	stage->keeper = 0;
}

void
stage_keeper_stop(struct stage *stage)
{
	int status;

	assert_int_equal(kill(stage->keeper, SIGTERM), 0);
	assert_int_equal(waitpid(stage->keeper, &status, 0), stage->keeper);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	stage->keeper = 0;
}

void
stage_play(struct stage *stage, int slot)
{
	stage_pump(stage, 0);
	stage->self = slot;
	bus_become(stage->bus, slot);
}

void
stage_worker_restart(struct stage *stage, int slot)
{
	struct record_hello hello = {0};
	struct board_slot *board = board_slot(stage->board, slot);

	hello.generation = atomic_fetch_add(&board->generation, 1) + 1;
	atomic_store(&board->state, PROCESS_RUNNING);
	stage_play(stage, slot);
	stage_put(stage, RECORD_HELLO, &hello, sizeof(hello), NULL, 0);
}

static void
make_users(struct stage *stage)
{
	struct record_user_range range = {.first = 1, .last = USERS};
	struct record_contact contact = {.count = 1};

	stage_play(stage, SLOT_CONSOLE);
	assert_int_equal(
	    stage_ask(stage, RECORD_USER_RANGE, &range, sizeof(range)), 0);
	for (uint64_t a = 1; a <= USERS; a++) {
		for (uint64_t b = a + 1; b <= USERS; b++) {
			contact.a = a;
			contact.b = b;
			assert_int_equal(stage_ask(stage, RECORD_CONTACT,
					     &contact, sizeof(contact)),
			    0);
		}
	}
}

/* Workers hash the ids of clients with it. */
static void
read_secret(struct stage *stage)
{
	struct store *store;
	struct txn txn = {0};
	struct meta meta;
	char error[256];

	assert_int_equal(store_open(STORE_MAIN, stage->dir,
			     (size_t)stage->conf->store_map_size, false, &store,
			     error, sizeof(error)),
	    0);
	assert_int_equal(store_begin_read(store, &txn), 0);
	assert_int_equal(meta_get(&txn, &meta), 0);
	memcpy(stage->secret, meta.secret, sizeof(stage->secret));
	txn_end(&txn);
	store_close(&store);
}

void
stage_open(struct stage *stage)
{
	char error[256];

	*stage = (struct stage){.dir = "keeper-XXXXXX", .self = WORKER_A};
	stage->end = &stage->first;
	assert_non_null(mkdtemp(stage->dir));
	assert_int_equal(
	    conf_load(NULL, &stage->conf, error, sizeof(error)), 0);
	set_text(&stage->conf->server_data_dir, stage->dir);
	set_text(&stage->conf->server_run_dir, stage->dir);
	stage->conf->policy_presence_grace = 20;
	stage->conf->store_map_size = 64 << 20;
	stage->conf->store_presence_map_size = 64 << 20;
	assert_int_equal(board_create(stage->dir, WORKERS, &stage->board), 0);
	for (int slot = 0; slot < SLOT_WORKER_0 + WORKERS; slot++)
		atomic_store(&board_slot(stage->board, slot)->generation, 1);
	assert_int_equal(bus_create(stage->board, WORKERS, &stage->bus), 0);
	bus_become(stage->bus, WORKER_A);
	stage_keeper_start(stage);
	make_users(stage);
	stage_worker_restart(stage, WORKER_B);
	stage_worker_restart(stage, WORKER_A);
	read_secret(stage);
}

void
stage_close(struct stage *stage)
{
	static const char *const files[] = {"board", "main.mdb",
	    "main.mdb-lock", "presence.mdb", "presence.mdb-lock"};
	char path[80];

	if (stage->keeper != 0)
		stage_keeper_stop(stage);
	stage_forget(stage);
	for (int type = 0; type < RECORD_END; type++)
		free(stage->taken[type]);
	bus_free(&stage->bus);
	board_close(&stage->board);
	conf_free(&stage->conf);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", stage->dir, files[i]);
		assert_int_equal(unlink(path), 0);
	}
	/* of a keeper, if one was started */
	snprintf(path, sizeof(path), "%s/store-made", stage->dir);
	unlink(path);
	assert_int_equal(rmdir(stage->dir), 0);
}

void
stage_store_open(struct stage *stage, bool is_writer)
{
	char error[256];

	if (stage->keeper != 0)
		stage_keeper_stop(stage);
	assert_int_equal(store_open(STORE_MAIN, stage->dir,
			     (size_t)stage->conf->store_map_size, is_writer,
			     &stage->store, error, sizeof(error)),
	    0);
	assert_int_equal(is_writer
			     ? store_begin_write(stage->store, &stage->txn)
			     : store_begin_read(stage->store, &stage->txn),
	    0);
}

void
stage_store_close(struct stage *stage)
{
	if (stage->txn.is_write)
		assert_int_equal(txn_commit(&stage->txn), 0);
	txn_end(&stage->txn);
	store_close(&stage->store);
}

/* ---- records ---- */

void
stage_put(struct stage *stage, uint16_t type, const void *record, size_t len,
    const void *tail, size_t tail_len)
{
	struct ring_writer *writer = bus_writer(stage->bus, SLOT_KEEPER);
	int64_t deadline = clock_mono_ms() + DEADLINE_MS;
	uint8_t *room = ring_put_begin(writer, len + tail_len);

	while (room == NULL) {
		assert_true(clock_mono_ms() < deadline);
		stage_pump(stage, 1);
		writer = bus_writer(stage->bus, SLOT_KEEPER);
		room = ring_put_begin(writer, len + tail_len);
	}
	memcpy(room, record, len);
	if (tail_len > 0)
		memcpy(room + len, tail, tail_len);
	ring_put_end(writer, type, len + tail_len);
	bus_publish_all(stage->bus);
}

static void
keep(struct stage *stage, const struct ring_record *record)
{
	struct got *got = calloc(1, sizeof(*got) + record->len);

	assert_non_null(got);
	assert_true(record->len >= record_min_len(record->type));
	got->slot = stage->self;
	got->type = record->type;
	got->to_gen = record->to_gen;
	got->len = record->len;
	memcpy(got->data, record->data, record->len);
	*stage->end = got;
	stage->end = &got->next;
}

static bool
read_all(struct stage *stage)
{
	struct ring_reader *reader = bus_reader(stage->bus, SLOT_KEEPER);
	struct ring_record record;
	bool is_any = false;
	int rc;

	while ((rc = ring_next(reader, &record)) == 0) {
		keep(stage, &record);
		is_any = true;
	}
	assert_int_equal(rc, ERR_AGAIN);
	ring_release(reader);
	return is_any;
}

void
stage_pump(struct stage *stage, int timeout_ms)
{
	struct pollfd fd = {.fd = bus_eventfd(stage->bus), .events = POLLIN};

	if (read_all(stage) || timeout_ms == 0)
		return;
	if (bus_next_incoming(stage->bus, -1) < 0 &&
	    bus_prepare_sleep(stage->bus)) {
		poll(&fd, 1, timeout_ms);
		bus_awake(stage->bus);
	}
	read_all(stage);
}

static struct got *
unlink_type(struct stage *stage, uint16_t type)
{
	for (struct got **at = &stage->first; *at != NULL; at = &(*at)->next) {
		struct got *got = *at;

		if (got->type != type || got->slot != stage->self)
			continue;
		*at = got->next;
		if (stage->end == &got->next)
			stage->end = at;
		return got;
	}
	return NULL;
}

const struct got *
stage_take(struct stage *stage, uint16_t type)
{
	int64_t deadline = clock_mono_ms() + DEADLINE_MS;
	struct got *got;

	while ((got = unlink_type(stage, type)) == NULL) {
		if (clock_mono_ms() > deadline)
			fail_msg("no %s came", record_name(type));
		stage_pump(stage, 100);
	}
	free(stage->taken[type]);
	stage->taken[type] = got;
	return got;
}

size_t
stage_count(const struct stage *stage, uint16_t type)
{
	size_t count = 0;

	for (const struct got *got = stage->first; got != NULL; got = got->next)
		count += got->type == type && got->slot == stage->self;
	return count;
}

void
stage_forget(struct stage *stage)
{
	while (stage->first != NULL) {
		struct got *got = stage->first;

		stage->first = got->next;
		free(got);
	}
	stage->end = &stage->first;
}

int
stage_ask(struct stage *stage, uint16_t type, void *record, size_t len)
{
	const struct record_reply *reply;
	uint64_t req = ++stage->req;

	memcpy(record, &req, sizeof(req)); /* first field, records.h */
	stage_put(stage, type, record, len, NULL, 0);
	reply = (const void *)stage_take(stage, RECORD_REPLY)->data;
	assert_int_equal(reply->req, req);
	return reply->rc;
}

int
stage_end_session(
    struct stage *stage, uint64_t user, uint64_t session, uint64_t flags)
{
	struct record_session_end end = {
	    .user = user, .session = session, .flags = flags};

	return stage_ask(stage, RECORD_SESSION_END, &end, sizeof(end));
}

/* The end of a session that never was is answered, in its turn. */
void
stage_barrier(struct stage *stage)
{
	assert_int_equal(stage_end_session(stage, USERS, UINT64_MAX, 0), 0);
}

void
stage_ack(struct stage *stage, uint64_t user, uint64_t session, uint64_t seq)
{
	struct record_ack ack = {.user = user, .session = session, .seq = seq};

	stage_put(stage, RECORD_ACK, &ack, sizeof(ack), NULL, 0);
}

/* ---- sessions and messages ---- */

uint64_t
stage_put_login(struct stage *stage, const struct login *login)
{
	struct record_login record = {
	    .req = ++stage->req,
	    .user = login->user,
	    .session = login->session,
	    .last_seq = login->last_seq,
	    .flags = login->flags,
	    .status = login->status == 0 ? STATUS_ONLINE : login->status,
	    .device_len = 6,
	};
	char tail[64];
	int len;

	memcpy(record.device_hash, &login->device, sizeof(login->device));
	len = snprintf(tail, sizeof(tail), "device%s",
	    login->name == NULL ? "" : login->name);
	record.name_len = (uint16_t)(len - 6);
	stage_put(
	    stage, RECORD_LOGIN, &record, sizeof(record), tail, (size_t)len);
	return record.req;
}

struct record_login_reply
stage_login(struct stage *stage, const struct login *login)
{
	uint64_t req = stage_put_login(stage, login);
	struct record_login_reply reply;

	memcpy(
	    &reply, stage_take(stage, RECORD_LOGIN_REPLY)->data, sizeof(reply));
	assert_int_equal(reply.req, req);
	assert_int_equal(reply.session, login->session);
	return reply;
}

uint64_t
stage_send(struct stage *stage, const struct letter *letter)
{
	uint8_t tail[256];
	size_t len = letter->to_count * sizeof(uint64_t);
	struct record_send record = {
	    .req = ++stage->req,
	    .user = letter->from,
	    .session = letter->session,
	    .request_hash = letter->request_hash,
	    .client_time_ms = INT64_MIN,
	    .reply_to = letter->reply_to,
	    .recipient_count = letter->to_count,
	    .type_len = 4,
	    .client_id_len = 8,
	};
	int n;

	crypto_siphash128(
	    stage->secret, &letter->number, 8, record.client_id_hash);
	memcpy(tail, letter->to, len);
	n = snprintf(
	    (char *)tail + len, 64, "%llu", (unsigned long long)letter->number);
	record.body_len = (uint32_t)n;
	len += (size_t)n;
	memcpy(tail + len, "text", 4);
	memcpy(tail + len + 4, &letter->number, 8);
	stage_put(stage, RECORD_SEND, &record, sizeof(record), tail, len + 12);
	return record.req;
}

const struct record_send_reply *
stage_sent(struct stage *stage)
{
	return (const void *)stage_take(stage, RECORD_SEND_REPLY)->data;
}

const struct record_send_reply *
stage_send_wait(struct stage *stage, const struct letter *letter)
{
	uint64_t req = stage_send(stage, letter);
	const struct record_send_reply *reply = stage_sent(stage);

	assert_int_equal(reply->req, req);
	assert_int_equal(reply->user, letter->from);
	assert_int_equal(reply->session, letter->session);
	return reply;
}

uint64_t
stage_number(const void *body, size_t len)
{
	char text[32] = {0};

	assert_true(len < sizeof(text));
	memcpy(text, body, len);
	return strtoull(text, NULL, 10);
}

const struct deliver_target *
deliver_targets(const struct record_deliver *deliver)
{
	return (const void *)(deliver + 1);
}

const uint8_t *
deliver_body(const struct record_deliver *deliver)
{
	return (const uint8_t *)(deliver + 1) +
	       deliver->target_count * sizeof(struct deliver_target) +
	       deliver->member_count * sizeof(uint64_t);
}
