/*
 * learn.c - users whom the store does not know, where users are kept outside.
 *
 * Role:    a request that the keeper refuses because of unknown users waits
 *          until the directory has asked for them, and is put to the keeper
 *          once more, whatever came of it: the second answer is the truth.
 * Process: worker.
 * Blocks:  never.
 * See:     directory/roster.h, doc/decisions/032, t/53-roster.t.
 *
 * While a message waits so, its sender's next one to the same people would
 * overtake it. It is not read any further than that one until it is known
 * what has become of the first: learn_is_ahead. People who were written to
 * once are known, and nobody waits any more.
 */
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "worker/worker_priv.h"

#define KNOWN_ROWS         64                /* of a session; 2^n */
#define LEARNING_BYTES_MAX (8 * 1024 * 1024) /* of requests that wait */

struct learn {
	uint16_t type;
	bool is_waiting; /* for the directory */
	bool is_over;    /* put once more: nothing is learned for it again */
	uint64_t mark;   /* of a message: of its people; 0: none */
	size_t len;
	uint64_t record[]; /* as it went to the keeper */
};

/* ---- to whom a message goes ---- */

static uint64_t
mark_of(const struct worker *worker, const uint64_t *users, size_t count)
{
	uint8_t hash[CRYPTO_HASH128_LEN];
	uint64_t mark;

	crypto_siphash128(
	    worker->meta.secret, users, count * sizeof(*users), hash);
	memcpy(&mark, hash, sizeof(mark));
	return mark | 1;
}

static bool
is_known(const struct session *session, uint64_t mark)
{
	return session->known != NULL &&
	       session->known[mark % KNOWN_ROWS] == mark;
}

static void
know(struct session *session, uint64_t mark)
{
	if (session->known == NULL)
		session->known = xcalloc(KNOWN_ROWS, sizeof(*session->known));
	session->known[mark % KNOWN_ROWS] = mark;
}

bool
learn_is_ahead(
    const struct session *session, const uint64_t *users, size_t count)
{
	const struct pending *pending;
	uint64_t mark;

	if (!conf_users_are_remote(session->worker->conf) || count == 0)
		return false;
	mark = mark_of(session->worker, users, count);
	if (is_known(session, mark))
		return false;
	LIST_FOREACH(pending, &session->pending_list, owner_link)
	{
		if (pending->learn != NULL && pending->learn->mark == mark)
			return true;
	}
	return false;
}

/* ---- a request and its copy ---- */

void
learn_keep(struct worker *worker, uint64_t req, uint16_t type,
    const void *record, size_t len)
{
	struct pending *pending = pending_find(worker, req);
	struct learn *learn;

	if (!conf_users_are_remote(worker->conf))
		return;
	learn = xcalloc(1, sizeof(*learn) + ((len + 7) & ~(size_t)7));
	learn->type = type;
	learn->len = len;
	memcpy(learn->record, record, len);
	pending->learn = learn;
}

void
learn_mark(
    struct worker *worker, uint64_t req, const uint64_t *users, size_t count)
{
	struct pending *pending = pending_find(worker, req);

	if (pending->learn != NULL && count > 0)
		pending->learn->mark = mark_of(worker, users, count);
}

void
learn_free(struct worker *worker, struct pending *pending)
{
	struct learn *learn = pending->learn;
	struct session *session = pending->owner;

	if (learn == NULL)
		return;
	if (learn->is_waiting)
		worker->learning_bytes -= learn->len;
	pending->learn = NULL;
	/* What would have overtaken it may come now. */
	if (session != NULL && learn->mark != 0 && session->stalled.len > 0 &&
	    !session->is_stalled) {
		session->is_stalled = true;
		TAILQ_INSERT_TAIL(&worker->stalled, session, stalled_link);
	}
	free(learn);
}

void
learn_done(struct pending *pending, bool is_taken)
{
	if (is_taken && pending->learn != NULL && pending->learn->mark != 0 &&
	    pending->owner != NULL)
		know(pending->owner, pending->learn->mark);
}

/* ---- the directory ---- */

/* Nothing is known: neither that there is no such user nor that there is. */
static void
refuse(struct worker *worker, struct pending *pending)
{
	static const char message[] =
	    "it cannot be known now whether there are such users, try again "
	    "later";
	struct session *session = pending->owner;
	const struct command *command = pending->command;
	struct request_id id = pending->id;
	struct buf *out;

	pending_remove(worker, pending);
	if (session == NULL)
		return;
	if (command->fn == cmd_authenticate) {
		login_failed(session, &id, ERR_UNAVAILABLE, message, -1);
	} else if (command->is_in_order) {
		out = reply_begin(worker, command->name, &id, ERR_UNAVAILABLE);
		json_put_text(out, "Message", message);
		json_put_i64(out, "RetryAfter", RETRY_AFTER_MS);
		json_object_end(out);
		delivery_reply(session, 0, out);
	} else {
		reply_error(session, command->name, &id, ERR_UNAVAILABLE,
		    message, RETRY_AFTER_MS);
	}
}

/* @return false: no room */
static bool
put_again(struct worker *worker, struct pending *pending, uint32_t login_flag)
{
	struct learn *learn = pending->learn;

	if (learn->is_waiting)
		worker->learning_bytes -= learn->len;
	learn->is_waiting = false;
	learn->is_over = true;
	pending_clear_deadline(worker, pending);
	if (learn->type == RECORD_LOGIN)
		((struct record_login *)learn->record)->flags |= login_flag;
	if (!pending_resume(worker, pending, learn->len))
		return false;
	return bus_put(worker->bus, SLOT_KEEPER, learn->type, learn->record,
		   learn->len) == 0;
}

/* The directory cannot say. Of a login, the keeper can: whom it knows from
 * somebody's list comes in. */
static void
give_up(struct worker *worker, struct pending *pending)
{
	if (pending->owner == NULL || pending->learn->type != RECORD_LOGIN ||
	    !put_again(worker, pending, LOGIN_UNSURE))
		refuse(worker, pending);
}

/* @return false: no room */
static bool
ask(struct worker *worker, uint64_t req, const struct pending *pending,
    const uint64_t *users, size_t count)
{
	struct ring_writer *writer = bus_writer(worker->bus, SLOT_DIRECTORY);
	const struct record_dir_learn record = {
	    .req = req,
	    .asker = pending->user,
	    .count = (uint32_t)count,
	};
	size_t len = sizeof(record) + count * sizeof(*users);
	uint8_t *room = ring_put_begin(writer, len);

	if (room == NULL)
		return false;
	memcpy(room, &record, sizeof(record));
	memcpy(room + sizeof(record), users, count * sizeof(*users));
	ring_put_end(writer, RECORD_DIR_LEARN, len);
	return true;
}

bool
learn_begin(
    struct worker *worker, uint64_t req, const uint64_t *users, size_t count)
{
	struct pending *pending = pending_find(worker, req);
	struct learn *learn = pending == NULL ? NULL : pending->learn;

	if (learn == NULL || learn->is_over || pending->owner == NULL ||
	    count == 0 || count > LEARN_USERS_MAX)
		return false;
	pending_rest(worker, pending);
	if (worker->learning_bytes + learn->len > LEARNING_BYTES_MAX ||
	    !ask(worker, req, pending, users, count)) {
		give_up(worker, pending);
		return true;
	}
	learn->is_waiting = true;
	worker->learning_bytes += learn->len;
	pending_set_deadline(
	    worker, pending, worker->conf->directory_request_timeout);
	return true;
}

/* What a block is about stands in the record only. */
bool
learn_begin_block(struct worker *worker, uint64_t req)
{
	const struct pending *pending = pending_find(worker, req);
	struct record_block block;

	if (pending == NULL || pending->learn == NULL ||
	    pending->learn->type != RECORD_BLOCK)
		return false;
	memcpy(&block, pending->learn->record, sizeof(block));
	return learn_begin(worker, req, &block.other, 1);
}

bool
learn_reply(struct worker *worker, struct pending *pending, int rc)
{
	struct learn *learn = pending->learn;

	if (learn == NULL || !learn->is_waiting)
		return false;
	if (pending->owner == NULL)
		pending_remove(worker, pending);
	else if (rc != 0 && rc != ERR_NOT_FOUND)
		give_up(worker, pending);
	else if (!put_again(worker, pending, LOGIN_LEARNED))
		refuse(worker, pending);
	return true;
}

bool
learn_expire(struct worker *worker, struct pending *pending)
{
	if (pending->learn == NULL || !pending->learn->is_waiting)
		return false;
	COUNT(directory_unavailable);
	give_up(worker, pending);
	return true;
}

bool
learn_was_put_again(const struct pending *pending)
{
	return pending->learn != NULL && pending->learn->is_over;
}

/* Full, the ring takes it at his next login. */
void
learn_again(struct worker *worker, uint64_t user)
{
	const struct {
		struct record_dir_learn head;
		uint64_t user;
	} record = {{.asker = user, .count = 1, .is_idle = 1}, user};

	if (conf_users_are_remote(worker->conf) &&
	    bus_put(worker->bus, SLOT_DIRECTORY, RECORD_DIR_LEARN, &record,
		sizeof(record)) != 0)
		COUNT(roster_dropped);
}
