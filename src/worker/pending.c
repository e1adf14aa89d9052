/*
 * pending.c - requests handed on to the keeper or the directory.
 *
 * Role:    number -> who asked; room in the incoming ring kept for replies,
 *          so that the keeper never meets a full ring with one.
 * Process: worker.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "worker/reader.h"
#include "worker/worker_priv.h"

#define NO_ROW UINT32_MAX

/* Replies may fill half of the ring, events the other (keeper/route.c), less
 * what the end of the area may cost an event that does not fit there. */
#define REPLY_ROOM (1024 * 1024 - 320 * 1024)

/* A ring record with its header and padding costs this much more. */
#define RECORD_OVERHEAD 32

/* A request is never longer as a record than as JSON, but for its fixed part,
 * its hashes, the sender's name and users of 8 bytes instead of 2, of whom a
 * new group has most. */
#define RECORD_SLACK 8192
_Static_assert(RECORD_SLACK >= GROUP_MEMBERS_MAX * 6 + 1024, "room for users");

/* The longest record that a request becomes, however much white space and
 * how many escapes it has: P_SEND_MESSAGE with all it may hold (conf.def:
 * max_text_size ends at 128 KiB). To ask for more than an empty ring has
 * would be to wait for ever. */
#define RECORD_MAX ((size_t)160 * 1024)
_Static_assert(RECORD_SLACK + RECIPIENTS_MAX * 8 + 128 * 1024 + TYPE_MAX +
			   CLIENT_ID_MAX + ATTACHMENT_MAX <=
		       RECORD_MAX &&
		   RECORD_MAX <= RING_RECORD_MAX,
    "the longest record must fit a ring, and this must cover it");

/* Requests under way while devices wait for the reader thread. Each makes more
 * to deliver: without a limit clients that send as fast as they are answered
 * keep the others seconds behind (measured with one worker: 0 deliveries in
 * 2.7 s, then all of them). */
#define BEHIND_MAX 64

void
pending_init(struct pending_table *table)
{
	*table = (struct pending_table){.first_free = NO_ROW};
	TAILQ_INIT(&table->deadlines);
	TAILQ_INIT(&table->signals);
}

void
pending_fini(struct pending_table *table)
{
	for (uint32_t i = 0; i < table->count; i++) {
		if (table->rows[i]->is_used) {
			reader_job_free(&table->rows[i]->page);
			free(table->rows[i]->learn);
		}
		free(table->rows[i]);
	}
	free(table->rows);
	pending_init(table);
}

static uint32_t
take_row(struct pending_table *table)
{
	uint32_t row = table->first_free;

	if (row != NO_ROW) {
		table->first_free = table->rows[row]->next_free;
		return row;
	}
	row = table->count++;
	if ((row & (row - 1)) == 0)
		table->rows = xrealloc(table->rows,
		    (row == 0 ? 1 : 2 * (size_t)row) * sizeof(*table->rows));
	table->rows[row] = xcalloc(1, sizeof(struct pending));
	return row;
}

/* Sends and the like have a limit of their own (protocol.md, Retries: 64
 * unanswered, then nothing more is read), which counts until their replies
 * have gone out: delivery.c. */
static void
count(struct session *session, const struct command *command)
{
	if (command->is_in_order) {
		if (++session->sends_unanswered >= SENDS_UNANSWERED_MAX)
			session_pause(session, PAUSE_SENDS);
	} else if (++session->queries_unanswered >= QUERIES_UNANSWERED_MAX) {
		session_pause(session, PAUSE_QUERIES);
	}
}

static void
discount(struct session *session, const struct command *command)
{
	if (command->is_in_order)
		return;
	session->queries_unanswered--;
	session_resume(session, PAUSE_QUERIES);
}

static struct pending_list *
deadlines_of(struct pending_table *table, const struct command *command)
{
	return command->fn == cmd_signal ? &table->signals : &table->deadlines;
}

void
pending_set_deadline(
    struct worker *worker, struct pending *pending, int64_t timeout_ms)
{
	pending->deadline_ms = clock_mono_ms() + timeout_ms;
	TAILQ_INSERT_TAIL(deadlines_of(&worker->pending, pending->command),
	    pending, deadline_link);
}

void
pending_clear_deadline(struct worker *worker, struct pending *pending)
{
	if (pending->deadline_ms == 0)
		return;
	TAILQ_REMOVE(deadlines_of(&worker->pending, pending->command), pending,
	    deadline_link);
	pending->deadline_ms = 0;
}

uint64_t
pending_add(struct request *request, uint32_t reserve, int64_t timeout_ms)
{
	struct pending_table *table = &request->worker->pending;
	uint32_t row = take_row(table);
	struct pending *pending = table->rows[row];

	*pending = (struct pending){
	    .user = request->session->user,
	    .session = request->session->id,
	    .owner = request->session,
	    .command = request->command,
	    .id = request->id,
	    .started_us = request->started_us,
	    .reserved = reserve + RECORD_OVERHEAD,
	    .row = row,
	    .salt = ++table->salt,
	    .is_used = true,
	};
	if (timeout_ms > 0)
		pending_set_deadline(request->worker, pending, timeout_ms);
	table->reserved += pending->reserved;
	table->used++;
	LIST_INSERT_HEAD(&request->session->pending_list, pending, owner_link);
	request->session->pending++;
	count(request->session, request->command);
	return (uint64_t)pending->salt << 32 | row | 1ULL << 31;
}

void
pending_weigh(struct worker *worker, uint64_t req, size_t bytes)
{
	struct pending *pending = pending_find(worker, req);
	struct session *session = pending->owner;

	pending->signal_bytes = (uint32_t)bytes;
	session->signal_bytes += pending->signal_bytes;
	if (session->signal_bytes >= SIGNAL_BYTES_UNANSWERED_MAX)
		session_pause(session, PAUSE_SIGNALS);
}

static void
take_weight(struct session *session, const struct pending *pending)
{
	session->signal_bytes -= pending->signal_bytes;
	if (session->signal_bytes < SIGNAL_BYTES_UNANSWERED_MAX)
		session_resume(session, PAUSE_SIGNALS);
}

struct pending *
pending_find(struct worker *worker, uint64_t req)
{
	struct pending_table *table = &worker->pending;
	uint32_t row = (uint32_t)req & 0x7fffffff;
	struct pending *pending;

	if (row >= table->count)
		return NULL;
	pending = table->rows[row];
	if (!pending->is_used || pending->salt != (uint32_t)(req >> 32))
		return NULL;
	return pending;
}

void
pending_rest(struct worker *worker, struct pending *pending)
{
	if (pending->is_resting)
		return;
	worker->pending.reserved -= pending->reserved;
	worker->pending.used--;
	pending->is_resting = true;
}

void
pending_remove(struct worker *worker, struct pending *pending)
{
	struct pending_table *table = &worker->pending;

	pending->next_free = table->first_free;
	table->first_free = pending->row;
	pending_clear_deadline(worker, pending);
	learn_free(worker, pending);
	if (pending->owner != NULL) {
		LIST_REMOVE(pending, owner_link);
		pending->owner->pending--;
		discount(pending->owner, pending->command);
		take_weight(pending->owner, pending);
	}
	pending_rest(worker, pending);
	pending->is_used = false;
	reader_job_free(&pending->page);
}

/* The first that will get no answer any more, NULL: none. */
static struct pending *
first_lost(struct worker *worker, int64_t now_ms)
{
	struct pending *pending = TAILQ_FIRST(&worker->pending.deadlines);

	if (pending != NULL && pending->deadline_ms <= now_ms)
		return pending;
	TAILQ_FOREACH(pending, &worker->pending.signals, deadline_link)
	{
		if (pending->deadline_ms <= now_ms ||
		    (pending->peer_slot != 0 &&
			pending->peer_gen !=
			    bus_generation(worker->bus, pending->peer_slot)))
			return pending;
	}
	return NULL;
}

/* Another worker, or the thread, for a signal; else the directory. */
static const char *
say_late(const struct pending *pending)
{
	if (pending->command->fn == cmd_signal) {
		COUNT(signals_refused);
		return "the receiver's worker does not answer, try again later";
	}
	COUNT(directory_unavailable);
	return "the directory does not answer, try again later";
}

void
pending_expire(struct worker *worker)
{
	struct pending *pending;
	int64_t now_ms = clock_mono_ms();

	while ((pending = first_lost(worker, now_ms)) != NULL) {
		struct session *session = pending->owner;
		struct request_id id = pending->id;
		const char *command = pending->command->name;
		const char *message;

		if (session != NULL && pending->page != NULL) {
			older_give_up(worker, pending);
			continue;
		}
		if (learn_expire(worker, pending))
			continue;
		message = say_late(pending);
		pending_remove(worker, pending);
		if (session == NULL)
			continue;
		reply_error(session, command, &id, ERR_UNAVAILABLE, message,
		    RETRY_AFTER_MS);
		if (session->state == SESSION_CHECKING) {
			login_free(session);
			session_set_state(session, SESSION_NEW);
			session_resume(session, PAUSE_LOGIN);
			session_not_let_in(session);
		}
	}
}

bool
pending_has_deadline(const struct worker *worker)
{
	return !TAILQ_EMPTY(&worker->pending.deadlines) ||
	       !TAILQ_EMPTY(&worker->pending.signals);
}

bool
pending_has_room(struct worker *worker, size_t len)
{
	struct ring_writer *writer = bus_writer(worker->bus, SLOT_KEEPER);
	size_t need = len + RECORD_SLACK;

	if (delivery_is_behind(worker) && worker->pending.used >= BEHIND_MAX)
		return false;
	return worker->pending.reserved < REPLY_ROOM &&
	       ring_room(writer) >= (need < RECORD_MAX ? need : RECORD_MAX);
}

bool
pending_resume(struct worker *worker, struct pending *pending, size_t len)
{
	if (!pending_has_room(worker, len))
		return false;
	worker->pending.reserved += pending->reserved;
	worker->pending.used++;
	pending->is_resting = false;
	return true;
}

void
pending_orphan(struct session *session)
{
	struct pending *pending;

	while ((pending = LIST_FIRST(&session->pending_list)) != NULL) {
		LIST_REMOVE(pending, owner_link);
		pending->owner = NULL;
	}
	session->pending = 0;
}
