/*
 * directory.c - who the users are: the loop.
 *
 * Role:    takes the workers' questions to a back end, brings back exactly
 *          one answer to each, in time or ERR_UNAVAILABLE.
 * Process: directory; this file runs on the loop's thread only.
 * Blocks:  never; the back ends have threads for what does.
 * Trust:   ring records are checked (dir.c); a worker that does not take its
 *          answers is not read any further.
 * See:     dir.h (back ends), reply.h, t/unit/directory.c.
 *
 * Credits: a worker has a share of CREDITS_ALL requests that are not answered
 * yet or whose answer waits for room; beyond it its ring is left alone. That
 * bounds the memory for pages. Password checks do not count: their queue has
 * an end where they are refused, and a flood of them keeps nobody else from
 * being read.
 */
#include "config.h"

#include "directory/directory.h"

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/attempts.h"
#include "directory/dir.h"
#include "directory/outboxes.h"
#include "directory/reply.h"
#include "directory/roster.h"
#include "shm/store.h"

#define IDLE_MS          500 /* longest sleep: the heartbeat */
#define RETRY_MS         2   /* somebody else has to make room */
#define OPEN_RETRY_MS    100
#define OPEN_MS          10000 /* the keeper makes the store before */
#define FINISH_MS        700   /* SIGTERM: for what was begun */
#define STOP_MS          1000  /* SIGTERM: all of it */
#define CREDITS_ALL      1024
#define CREDITS_MIN      16
#define CREDITS_MAX      128
#define RECORDS_PER_TURN 256 /* of one ring */

struct directory;

/* A request and who waits for it. */
struct asked {
	TAILQ_ENTRY(asked) due; /* while not answered */
	struct directory *directory;
	struct dir_request *request;
	uint64_t req;
	int64_t start_us;
	int64_t retry_after_ms; /* with ERR_RATE_LIMITED */
	uint32_t generation;    /* of the asker */
	int slot;
	bool is_answered; /* the back end is late */
};

TAILQ_HEAD(asked_list, asked);

struct peer {
	struct reply_queue replies;
	size_t credit_used; /* requests not answered, without passwords */
};

struct directory {
	const struct process *process;
	const struct dir_ops *ops;
	struct dir_backend *backend;
	struct roster *roster; /* NULL: the back end is the store */
	struct dir_host host;
	struct bus *bus;
	struct attempts *attempts; /* of passwords */
	struct asked_list due;     /* by deadline: all have the same timeout */
	size_t pending_count;      /* with the back end, answered or not */
	size_t credits;            /* of each worker */
	bool is_stalled;           /* a ring with records was left alone */
	bool is_waiting;           /* for somebody who does not wake us */
	int64_t stop_at_ms;        /* 0: not stopping */
	struct outboxes outboxes;
	int64_t outboxes_at_ms; /* their next turn */
	int64_t backend_at_ms;  /* and the back end's */
	struct peer peers[SLOT_END];
};

/* ---- answers ---- */

static void
answer(struct directory *directory, const struct asked *to, int rc,
    struct dir_answer *content)
{
	struct reply reply = {
	    .generation = to->generation,
	    .head = {.req = to->req,
		.rc = rc,
		.retry_after_ms = to->retry_after_ms},
	};

	if (rc == 0 && content != NULL) {
		reply.head.user = content->user;
		reply.head.next_cursor = content->next_cursor;
		reply.head.user_count = content->user_count;
		reply.head.message_count = content->message_count;
		reply.head.has_more = content->has_more;
		reply.tail = content->tail;
		reply.tail_len = content->tail_len;
		content->tail = NULL; /* the reply's from here on */
	}
	if (rc == ERR_UNAVAILABLE)
		COUNT(directory_unavailable);
	reply_send(directory->bus, to->slot,
	    &directory->peers[to->slot].replies, &reply);
}

static void
asked_answer(struct asked *asked, int rc, struct dir_answer *content)
{
	struct directory *directory = asked->directory;

	TAILQ_REMOVE(&directory->due, asked, due);
	asked->is_answered = true;
	if (asked->request->op != DIR_OP_PASSWORD)
		directory->peers[asked->slot].credit_used--;
	MEASURE_US(directory_us, (uint64_t)(clock_mono_us() - asked->start_us));
	answer(directory, asked, rc, content);
}

/* May the password be looked at? What is taken here comes back unless it was
 * wrong. */
static int
attempt_begin(struct asked *asked, const struct dir_request *request)
{
	struct attempt attempt = {
	    request->name, request->name_len, request->peer};

	asked->retry_after_ms = attempts_take(
	    asked->directory->attempts, &attempt, clock_mono_ms());
	if (asked->retry_after_ms == 0)
		return 0;
	COUNT(logins_limited);
	return ERR_RATE_LIMITED;
}

static void
attempt_end(const struct asked *asked, int rc)
{
	const struct dir_request *request = asked->request;
	struct attempt attempt = {
	    request->name, request->name_len, request->peer};

	if (request->op == DIR_OP_PASSWORD && rc != ERR_AUTH_FAILED &&
	    rc != ERR_NOT_FOUND && !request->is_guess)
		attempts_give_back(
		    asked->directory->attempts, &attempt, clock_mono_ms());
}

/* dir_done_fn: the back end lets go of it. */
static void
asked_done(struct dir_request *request, int rc)
{
	struct asked *asked = request->owner;

	attempt_end(asked, rc);
	if (!asked->is_answered)
		asked_answer(asked, rc, &request->answer);
	asked->directory->pending_count--;
	dir_request_free(&asked->request);
	free(asked);
}

static void
deadlines_pass(struct directory *directory)
{
	int64_t now_ms = clock_mono_ms();
	struct asked *asked;

	while ((asked = TAILQ_FIRST(&directory->due)) != NULL &&
	       asked->request->deadline_ms <= now_ms)
		asked_answer(asked, ERR_UNAVAILABLE, NULL);
}

/* ---- requests ---- */

static void
ask(struct directory *directory, const struct asked *from,
    struct dir_request *request)
{
	struct asked *asked = xcalloc(1, sizeof(*asked));

	*asked = *from;
	asked->request = request;
	request->owner = asked;
	request->deadline_ms =
	    clock_mono_ms() + directory->host.conf->directory_request_timeout;
	TAILQ_INSERT_TAIL(&directory->due, asked, due);
	directory->pending_count++;
	if (request->op != DIR_OP_PASSWORD)
		directory->peers[asked->slot].credit_used++;
	if (directory->roster != NULL)
		roster_run(directory->roster, request, asked_done);
	else
		directory->ops->run[request->op](
		    directory->backend, request, asked_done);
}

static void
record_refused(int slot, const struct ring_record *record)
{
	log_error(NULL, "record-refused",
	    "slot=%d type=%s length=%u; it makes no sense", slot,
	    record_name(record->type), record->len);
}

static void
record_from_worker(
    struct directory *directory, int slot, const struct ring_record *record)
{
	struct asked from = {
	    .directory = directory,
	    .generation = record->from_gen,
	    .slot = slot,
	    .start_us = clock_mono_us(),
	};
	bool is_secret = record->type == RECORD_DIR_PASSWORD;
	struct dir_request *request = NULL;
	int rc;

	if (record->len >= sizeof(from.req)) /* first field of all of them */
		memcpy(&from.req, record->data, sizeof(from.req));
	rc = dir_request_new(record->type, record->data, record->len, &request);
	if (is_secret)
		ring_wipe(record);
	if (is_secret && from.req == 0) {
		/* Wiped by a predecessor that could not release it. */
		dir_request_free(&request);
		return;
	}
	COUNT(directory_requests);
	if (rc == ERR_BAD_REQUEST)
		record_refused(slot, record);
	if (rc == 0 && is_secret)
		rc = attempt_begin(&from, request);
	if (rc == 0) {
		ask(directory, &from, request);
		return;
	}
	answer(directory, &from, rc, NULL);
	dir_request_free(&request);
}

static void
keeper_replied(struct directory *directory, const struct record_reply *reply)
{
	if (directory->roster != NULL && roster_reply(directory->roster, reply))
		return;
	if (!outboxes_reply(&directory->outboxes, reply) &&
	    directory->ops->keeper_reply != NULL)
		directory->ops->keeper_reply(directory->backend, reply);
}

static void
record_from_keeper(
    struct directory *directory, const struct ring_record *record)
{
	bool is_whole = record->len >= record_min_len(record->type);
	/* Aligned and released after this turn: ring.h. */
	const void *payload = record->data;

	if (is_whole && record->to_gen != bus_own_generation(directory->bus))
		return; /* asked by a predecessor */
	if (is_whole && record->type == RECORD_REPLY) {
		keeper_replied(directory, payload);
	} else if (is_whole && record->type == RECORD_CONTACT_NEWS) {
		if (directory->roster != NULL)
			roster_contact_changed(directory->roster, payload);
	} else if (is_whole && record->type == RECORD_OUTBOX_NEWS) {
		outboxes_news(&directory->outboxes, payload);
	} else {
		record_refused(SLOT_KEEPER, record);
	}
}

static bool
has_credit(const struct directory *directory, int slot)
{
	const struct peer *peer = &directory->peers[slot];

	if (slot == SLOT_KEEPER)
		return true;
	return directory->stop_at_ms == 0 &&
	       peer->credit_used + peer->replies.count < directory->credits;
}

/* @return false: nothing more to be had from it now */
static bool
record_read(struct directory *directory, int slot, struct ring_reader *reader)
{
	struct ring_record record;
	int rc;

	rc = ring_next(reader, &record);
	if (rc == ERR_CORRUPT) {
		COUNT(ring_corrupt);
		log_error(NULL, "ring-corrupt", "slot=%d skipped=%llu", slot,
		    (unsigned long long)ring_skip_all(reader));
	}
	if (rc != 0)
		return false;
	if (slot == SLOT_KEEPER)
		record_from_keeper(directory, &record);
	else if (slot >= SLOT_WORKER_0)
		record_from_worker(directory, slot, &record);
	else
		record_refused(slot, &record);
	return true;
}

static void
rings_read(struct directory *directory)
{
	struct bus *bus = directory->bus;

	directory->is_stalled = false;
	for (int slot = bus_next_incoming(bus, -1); slot >= 0;
	     slot = bus_next_incoming(bus, slot)) {
		struct ring_reader *reader = bus_reader(bus, slot);

		for (int i = 0; i < RECORDS_PER_TURN; i++) {
			if (!has_credit(directory, slot)) {
				directory->is_stalled = true;
				break;
			}
			if (!record_read(directory, slot, reader))
				break;
		}
		ring_release(reader);
	}
}

/* ---- the turn ---- */

/* @return does anything still wait for room? */
static bool
replies_flush(struct directory *directory)
{
	bool is_waiting = false;

	for (int slot = SLOT_WORKER_0; slot < bus_slot_end(directory->bus);
	     slot++) {
		if (!reply_flush(
			directory->bus, slot, &directory->peers[slot].replies))
			is_waiting = true;
	}
	return is_waiting;
}

static void
turn(struct directory *directory)
{
	bool is_waiting;

	process_beat(directory->process);
	/* Room first: who has taken his answers is read again. */
	replies_flush(directory);
	rings_read(directory);
	pool_results_collect(directory->host.results);
	directory->backend_at_ms = INT64_MAX;
	if (directory->ops->turn != NULL)
		directory->backend_at_ms =
		    directory->ops->turn(directory->backend);
	is_waiting = directory->backend_at_ms == 0;
	if (directory->roster != NULL && roster_turn(directory->roster))
		is_waiting = true;
	directory->outboxes_at_ms = outboxes_turn(&directory->outboxes);
	deadlines_pass(directory);
	if (replies_flush(directory))
		is_waiting = true;
	directory->is_waiting = is_waiting;
	GAUGE_SET(directory_pending, directory->pending_count);
	bus_publish_all(directory->bus);
}

static int
sleep_ms(const struct directory *directory)
{
	const struct asked *next = TAILQ_FIRST(&directory->due);
	int64_t ms = IDLE_MS;
	int64_t now_ms = clock_mono_ms();

	if (directory->is_stalled || directory->is_waiting)
		ms = RETRY_MS;
	if (next != NULL && next->request->deadline_ms - now_ms < ms)
		ms = next->request->deadline_ms - now_ms;
	/* One that waits for room in a ring is not asked in a circle. */
	if (directory->outboxes_at_ms <= now_ms && ms > RETRY_MS)
		ms = RETRY_MS;
	else if (directory->outboxes_at_ms - now_ms < ms)
		ms = directory->outboxes_at_ms - now_ms;
	if (!directory->is_waiting && directory->backend_at_ms - now_ms < ms)
		ms = directory->backend_at_ms - now_ms;
	if (directory->stop_at_ms != 0 && directory->stop_at_ms - now_ms < ms)
		ms = directory->stop_at_ms - now_ms;
	return ms < 0 ? 0 : (int)ms;
}

/*
 * While a ring is left alone, the bus sees work that there is not; then a nap
 * that only results, signals and time end.
 */
static void
turn_sleep(struct directory *directory, int signal_fd)
{
	struct pollfd fds[] = {
	    {.fd = pool_results_fd(directory->host.results), .events = POLLIN},
	    {.fd = signal_fd, .events = POLLIN},
	    {.fd = bus_eventfd(directory->bus), .events = POLLIN},
	};

	if (!bus_prepare_sleep(directory->bus) && !directory->is_stalled)
		return;
	poll(fds, sizeof(fds) / sizeof(fds[0]), sleep_ms(directory));
	bus_awake(directory->bus);
}

/* When stopping: is everything said that was asked, or the time up? */
static bool
is_finished(const struct directory *directory)
{
	if (directory->stop_at_ms == 0)
		return false;
	return clock_mono_ms() >= directory->stop_at_ms ||
	       (TAILQ_EMPTY(&directory->due) && !directory->is_waiting);
}

static void
loop(struct directory *directory, int signal_fd)
{
	for (;;) {
		if (process_has_stop_signal(signal_fd) &&
		    directory->stop_at_ms == 0)
			directory->stop_at_ms = clock_mono_ms() + FINISH_MS;
		turn(directory);
		if (is_finished(directory))
			return;
		turn_sleep(directory, signal_fd);
	}
}

/* ---- start and stop ---- */

/* @return 0, ERR_AGAIN: the keeper has not made it yet, else it cannot be */
static int
store_attach(struct directory *directory, char *error, size_t error_len)
{
	const struct conf *conf = directory->host.conf;
	int rc;

	if (directory->host.store != NULL ||
	    (!directory->ops->reads_store && !directory->ops->is_remote &&
		!outboxes_any_on(conf)))
		return 0;
	rc = store_open(STORE_MAIN, conf->server_data_dir,
	    (size_t)conf->store_map_size, false, &directory->host.store, error,
	    error_len);
	return rc == ERR_NOT_FOUND ? ERR_AGAIN : rc;
}

/* @return false: told to stop before there was a store */
static bool
backend_open(struct directory *directory, int signal_fd)
{
	struct pollfd fd = {.fd = signal_fd, .events = POLLIN};
	int64_t until_ms = clock_mono_ms() + OPEN_MS;
	char error[512] = "";
	int rc;

	for (;;) {
		process_beat(directory->process);
		rc = store_attach(directory, error, sizeof(error));
		if (rc == 0)
			rc = directory->ops->open(&directory->host,
			    &directory->backend, error, sizeof(error));
		if (rc == 0)
			return true;
		if (rc != ERR_AGAIN || clock_mono_ms() >= until_ms)
			fatal("%s", error);
		poll(&fd, 1, OPEN_RETRY_MS);
		if (process_has_stop_signal(signal_fd))
			return false;
	}
}

static struct directory *
directory_new(const struct process *process, const struct dir_ops *ops)
{
	struct directory *directory = xcalloc(1, sizeof(*directory));
	size_t workers = (size_t)bus_worker_count(process->bus);

	directory->process = process;
	directory->ops = ops;
	directory->bus = process->bus;
	directory->host.conf = process->conf;
	directory->host.bus = process->bus;
	directory->attempts = attempts_new(
	    process->conf, process->conf->server_run_dir, clock_mono_ms());
	TAILQ_INIT(&directory->due);
	for (int slot = 0; slot < SLOT_END; slot++)
		reply_queue_init(&directory->peers[slot].replies);
	directory->credits = CREDITS_ALL / (workers == 0 ? 1 : workers);
	if (directory->credits < CREDITS_MIN)
		directory->credits = CREDITS_MIN;
	if (directory->credits > CREDITS_MAX)
		directory->credits = CREDITS_MAX;
	if (pool_results_new(&directory->host.results) != 0)
		fatal("the directory has no descriptor for its threads");
	return directory;
}

/*
 * Everybody who still waits is told. A thread that is stuck (in a database
 * that does not answer) keeps memory that we cannot free: then the process
 * ends here, without the clean-up of a library under that thread's feet.
 */
static void
directory_stop(struct directory *directory)
{
	int64_t until_ms = clock_mono_ms() + (STOP_MS - FINISH_MS);
	bool has_ended;
	size_t lost = 0;
	struct asked *asked;

	/* Consumers first: what the back end gives back is not tried again. */
	has_ended = outboxes_stop(&directory->outboxes, until_ms);
	if (directory->roster != NULL &&
	    !roster_stop(directory->roster, until_ms))
		has_ended = false;
	if (directory->backend != NULL &&
	    !directory->ops->close(&directory->backend, until_ms))
		has_ended = false;
	pool_results_collect(directory->host.results);
	while ((asked = TAILQ_FIRST(&directory->due)) != NULL)
		asked_answer(asked, ERR_UNAVAILABLE, NULL);
	replies_flush(directory);
	bus_publish_all(directory->bus);
	for (int slot = 0; slot < SLOT_END; slot++)
		lost += reply_queue_fini(&directory->peers[slot].replies);
	if (lost > 0)
		log_warn(NULL, "replies-lost",
		    "count=%zu; their rings stayed full", lost);
	if (!has_ended) {
		log_flush();
		_exit(0);
	}
	roster_free(&directory->roster);
	outboxes_fini(&directory->outboxes);
	pool_results_free(&directory->host.results);
	attempts_free(&directory->attempts);
	store_close(&directory->host.store);
	free(directory);
}

/* Of a back end that is outside the store has what is said of users. */
static void
roster_start(struct directory *directory)
{
	if (roster_new(&directory->host, directory->ops, directory->backend,
		&directory->roster) != 0)
		fatal("the directory has no thread for its roster");
	directory->host.changed = roster_user_changed;
	directory->host.changed_ctx = directory->roster;
}

int
directory_run(const struct process *process, const struct dir_ops *ops)
{
	struct directory *directory = directory_new(process, ops);
	int signal_fd = process_signal_fd();

	if (backend_open(directory, signal_fd)) {
		if (ops->is_remote)
			roster_start(directory);
		outboxes_start(&directory->outboxes, &directory->host,
		    directory->backend, ops->write_batch);
		log_info(NULL, "directory-ready", "backend=%s", ops->name);
		process_up(process);
		loop(directory, signal_fd);
	}
	directory_stop(directory);
	close(signal_fd);
	return 0;
}
