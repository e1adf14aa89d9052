/*
 * dir_embedded.c - users that live in the server's own store.
 *
 * Role:    passwords against stored scrypt hashes, lists from the contacts,
 *          profiles; changes go to the keeper, the store's only writer.
 * Process: directory; reads on pool threads, the rest on the loop's.
 * Blocks:  the pools' threads, on cold pages and scrypt; nothing else. Two
 *          pools: what only reads never waits behind a password.
 * Trust:   requests are checked (dir.c); rows by shm/users.c. The user name
 *          is the decimal user id.
 * See:     dir.h, shm/users.h, t/unit/directory.c.
 */
#include "config.h"

#include "directory/dir_embedded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/password.h"
#include "base/text.h"
#include "shm/userhead.h"
#include "shm/users.h"

#define READ_THREADS 2
#define READS_MAX    8192 /* waiting; directory.c's credits come first */
#define SLICE_ROWS   4096 /* contacts looked at in one transaction */
#define UPDATES_MAX  256  /* not yet answered by the keeper */

struct embedded_job {
	struct pool_job pool; /* first: done gets this one */
	struct dir_backend *backend;
	struct dir_request *request;
	dir_done_fn done;
	int (*work)(struct dir_backend *backend, struct dir_request *request);
	int rc;
	int64_t took_us;
};

struct update {
	TAILQ_ENTRY(update) link;
	uint64_t req; /* our number for the keeper */
	struct dir_request *request;
	dir_done_fn done;
	bool is_put; /* false: the ring to the keeper had no room yet */
};

TAILQ_HEAD(update_list, update);

struct dir_backend {
	const struct dir_host *host;
	struct pool *reads;
	struct pool *passwords;
	struct update_list updates; /* in the order they came */
	size_t update_count;
	uint64_t last_req;
};

/* ---- on the threads ---- */

/*
 * The stored hash, or an empty text for who does not exist or has none: both
 * take the same way through scrypt.
 */
static int
hash_get(struct dir_backend *backend, uint64_t id, char hash[PASSWORD_HASH_MAX])
{
	struct user user;
	struct txn txn = {0};
	int rc;

	hash[0] = '\0';
	rc = store_begin_read(backend->host->store, &txn);
	if (rc == 0)
		rc = users_get(&txn, id, &user);
	if (rc == 0 && user.password.len < PASSWORD_HASH_MAX) {
		memcpy(hash, user.password.data, user.password.len);
		hash[user.password.len] = '\0';
	}
	txn_end(&txn);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
password_work(struct dir_backend *backend, struct dir_request *request)
{
	char hash[PASSWORD_HASH_MAX];
	uint64_t id = 0; /* nobody has it */
	bool is_match;
	int rc;

	if (text_parse_u64(
		request->name, request->name_len, USER_ID_MAX, &id) != 0)
		id = 0;
	rc = hash_get(backend, id, hash);
	is_match =
	    password_verify(hash, request->password, request->password_len);
	dir_request_wipe(request);
	mem_wipe(hash, sizeof(hash));
	if (rc != 0)
		return rc;
	if (!is_match)
		return ERR_AUTH_FAILED;
	request->answer.user = id;
	return 0;
}

/* Presence forgets at a restart of the machine; this does not. */
static int
last_seen_get(struct txn *txn, uint64_t id, int64_t *at_ms_out)
{
	struct userhead head;
	int rc;

	rc = userhead_get(txn, id, &head);
	*at_ms_out = rc == 0 ? head.row.last_seen_ms : 0;
	/* A damaged row hides a time, not its user. */
	return rc == ERR_NOT_FOUND || rc == ERR_CORRUPT ? txn->rc : rc;
}

static int
answer_user(struct dir_answer *answer, struct txn *txn, const struct user *user,
    bool is_stranger)
{
	struct dir_user entry = {
	    .id = user->id,
	    .name = user->name.data,
	    .name_len = user->name.len,
	    .role = user->role.data,
	    .role_len = user->role.len,
	    .profile = user->profile.data,
	    .profile_len = user->profile.len,
	    .is_stranger = is_stranger,
	};
	int rc = 0;

	if (!is_stranger)
		rc = last_seen_get(txn, user->id, &entry.last_seen_ms);
	if (rc != 0)
		return rc;
	return dir_answer_add(answer, &entry);
}

static bool
may_see(
    const struct conf *conf, const struct dir_request *request, uint32_t flags)
{
	if (request->user == request->asker || contact_is_listed(flags))
		return true;
	return strcmp(conf->policy_may_message, "anyone") == 0 &&
	       (flags & CONTACT_BLOCKED_BY) == 0;
}

static int
user_work(struct dir_backend *backend, struct dir_request *request)
{
	struct txn txn = {0};
	struct user user;
	uint32_t flags;
	int rc;

	rc = store_begin_read(backend->host->store, &txn);
	if (rc == 0)
		rc = contact_get(&txn, request->asker, request->user, &flags);
	if (rc == 0)
		rc = users_get(&txn, request->user, &user);
	/* Whom one may not see looks like one who does not exist. */
	if (rc == 0 && !may_see(backend->host->conf, request, flags))
		rc = ERR_NOT_FOUND;
	if (rc == 0)
		rc = answer_user(&request->answer, &txn, &user,
		    request->user != request->asker &&
			!contact_is_listed(flags));
	txn_end(&txn);
	return rc;
}

struct page {
	struct txn *txn;
	struct dir_request *request;
	uint64_t given;   /* last user on the page */
	uint64_t visited; /* last contact looked at */
	unsigned rows;    /* looked at in this transaction */
	bool is_full;
	int rc;
};

/* A user who cannot be read (users.c logs it) costs himself, not the list. */
static void
page_add(struct page *page, uint64_t id)
{
	struct dir_answer *answer = &page->request->answer;
	struct user user;
	int rc;

	rc = users_get(page->txn, id, &user);
	if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT) {
		page->rc = page->txn->rc;
		return;
	}
	if (rc == 0 && answer->user_count == page->request->limit)
		rc = ERR_FULL;
	if (rc == 0)
		rc = answer_user(answer, page->txn, &user, false);
	if (rc == 0)
		page->given = id;
	else if (rc == ERR_FULL)
		page->is_full = true;
	else
		page->rc = rc;
}

static bool
page_visit(void *ctx, uint64_t other, uint32_t flags)
{
	struct page *page = ctx;

	if (contact_is_listed(flags))
		page_add(page, other);
	page->visited = other;
	page->rows++;
	return page->rc == 0 && !page->is_full && page->rows < SLICE_ROWS;
}

/* @return 0: the list or the page has ended; ERR_AGAIN: only the slice has */
static int
page_slice(struct dir_backend *backend, struct page *page)
{
	struct txn txn = {0};
	int rc;

	page->txn = &txn;
	page->rows = 0;
	rc = store_begin_read(backend->host->store, &txn);
	if (rc == 0)
		rc = contact_each(&txn, page->request->asker, page->visited,
		    page_visit, page);
	txn_end(&txn);
	if (rc == 0)
		rc = page->rc;
	if (rc == 0 && !page->is_full && page->rows == SLICE_ROWS)
		rc = ERR_AGAIN;
	return rc;
}

/*
 * People with many contacts whom they do not see (those that others put on
 * their lists) have long walks between two users of a page: they are cut, so
 * that no transaction holds the store's pages for long.
 */
static int
users_work(struct dir_backend *backend, struct dir_request *request)
{
	struct page page = {
	    .request = request,
	    .visited = request->cursor,
	};
	int rc;

	do {
		if (clock_mono_ms() >= request->deadline_ms)
			return ERR_UNAVAILABLE;
		rc = page_slice(backend, &page);
	} while (rc == ERR_AGAIN);
	if (rc == 0 && page.is_full)
		request->answer.next_cursor = page.given;
	return rc;
}

static void
job_run(struct pool_job *pool_job)
{
	struct embedded_job *job = (struct embedded_job *)pool_job;
	int64_t start_us = clock_mono_us();

	job->rc = job->work(job->backend, job->request);
	job->took_us = clock_mono_us() - start_us;
}

/* ---- on the loop ---- */

static void
job_done(struct pool_job *pool_job)
{
	struct embedded_job *job = (struct embedded_job *)pool_job;
	int rc = pool_job->was_run ? job->rc : ERR_UNAVAILABLE;

	if (pool_job->was_run && job->work == password_work)
		MEASURE_US(password_us, (uint64_t)job->took_us);
	job->done(job->request, rc);
	free(job);
}

static void
job_start(struct dir_backend *backend, struct pool *pool,
    struct dir_request *request, dir_done_fn done,
    int (*work)(struct dir_backend *backend, struct dir_request *request))
{
	struct embedded_job *job = xcalloc(1, sizeof(*job));

	job->pool.run = job_run;
	job->pool.done = job_done;
	job->pool.deadline_ms = request->deadline_ms;
	job->backend = backend;
	job->request = request;
	job->done = done;
	job->work = work;
	if (pool_submit(pool, &job->pool) == 0)
		return;
	free(job);
	done(request, ERR_UNAVAILABLE);
}

static void
embedded_password(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	job_start(backend, backend->passwords, request, done, password_work);
}

static void
embedded_user(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	job_start(backend, backend->reads, request, done, user_work);
}

static void
embedded_users(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	job_start(backend, backend->reads, request, done, users_work);
}

/* The workers read the store themselves, and nothing is older than it holds:
 * nobody asks. */
static void
embedded_history(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	(void)backend;
	done(request, 0);
}

/* Whom the store does not know nobody knows. */
static void
embedded_learn(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	(void)backend;
	done(request, request->is_idle ? 0 : ERR_NOT_FOUND);
}

/* ---- changes, by the keeper ---- */

static void
update_end(struct dir_backend *backend, struct update *update, int rc)
{
	TAILQ_REMOVE(&backend->updates, update, link);
	backend->update_count--;
	update->done(update->request, rc);
	free(update);
}

/* @return false: no room */
static bool
update_put(struct dir_backend *backend, struct update *update)
{
	const struct dir_request *request = update->request;
	struct ring_writer *writer =
	    bus_writer(backend->host->bus, SLOT_KEEPER);
	struct record_user_put *record;
	size_t len = sizeof(*record) + request->name_len + request->profile_len;
	uint8_t *tail;

	record = ring_put_begin(writer, len);
	if (record == NULL)
		return false;
	*record = (struct record_user_put){
	    .req = update->req,
	    .user = request->asker,
	    .flags = request->flags,
	    .name_len = (uint16_t)request->name_len,
	    .profile_len = (uint16_t)request->profile_len,
	};
	tail = (uint8_t *)(record + 1);
	if (request->name_len > 0)
		memcpy(tail, request->name, request->name_len);
	if (request->profile_len > 0)
		memcpy(tail + request->name_len, request->profile,
		    request->profile_len);
	ring_put_end(writer, RECORD_USER_PUT, len);
	update->is_put = true;
	return true;
}

/*
 * Put what waits for room, in order. What was put and is not answered at its
 * deadline may still be done by the keeper: the answer then finds nobody.
 */
static int64_t
embedded_turn(struct dir_backend *backend)
{
	int64_t now_ms = clock_mono_ms();
	bool is_waiting = false;
	struct update *next;

	for (struct update *update = TAILQ_FIRST(&backend->updates);
	     update != NULL; update = next) {
		next = TAILQ_NEXT(update, link);
		if (now_ms >= update->request->deadline_ms)
			update_end(backend, update, ERR_UNAVAILABLE);
		else if (!update->is_put && !is_waiting)
			is_waiting = !update_put(backend, update);
	}
	return is_waiting ? 0 : INT64_MAX;
}

static void
embedded_update(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done)
{
	struct update *update;

	if (backend->update_count >= UPDATES_MAX) {
		done(request, ERR_UNAVAILABLE);
		return;
	}
	update = xcalloc(1, sizeof(*update));
	update->req = ++backend->last_req;
	update->request = request;
	update->done = done;
	TAILQ_INSERT_TAIL(&backend->updates, update, link);
	backend->update_count++; /* put by embedded_turn, behind the others */
}

static void
embedded_keeper_reply(
    struct dir_backend *backend, const struct record_reply *reply)
{
	struct update *update;

	TAILQ_FOREACH(update, &backend->updates, link)
	{
		if (update->req == reply->req && update->is_put)
			break;
	}
	if (update != NULL)
		update_end(backend, update,
		    reply->rc <= 0 ? reply->rc : ERR_SERVER_ERROR);
}

/* ---- life ---- */

static int
pools_start(struct dir_backend *backend)
{
	const struct dir_host *host = backend->host;
	int rc;

	rc = pool_new("dir-read", READ_THREADS, READS_MAX, host->results,
	    &backend->reads);
	if (rc == 0)
		rc = pool_new("dir-password",
		    (int)host->conf->auth_password_threads,
		    EMBEDDED_PASSWORDS_MAX, host->results, &backend->passwords);
	return rc;
}

static bool
embedded_close(struct dir_backend **backend, int64_t until_ms)
{
	struct dir_backend *old = *backend;
	bool has_ended;

	if (old == NULL)
		return true;
	while (!TAILQ_EMPTY(&old->updates))
		update_end(old, TAILQ_FIRST(&old->updates), ERR_UNAVAILABLE);
	has_ended = pool_stop(&old->passwords, until_ms);
	if (!pool_stop(&old->reads, until_ms))
		has_ended = false;
	if (!has_ended)
		return false;
	free(old);
	*backend = NULL;
	return true;
}

static int
embedded_open(const struct dir_host *host, struct dir_backend **backend_out,
    char *error, size_t error_len)
{
	struct dir_backend *backend = xcalloc(1, sizeof(*backend));
	int rc;

	backend->host = host;
	TAILQ_INIT(&backend->updates);
	rc = pools_start(backend);
	if (rc != 0) {
		snprintf(error, error_len,
		    "cannot start the directory's threads: %s", err_text(rc));
		embedded_close(&backend, INT64_MAX);
		return rc;
	}
	*backend_out = backend;
	return 0;
}

const struct dir_ops dir_embedded_ops = {
    .name = "embedded",
    .reads_store = true,
    .open = embedded_open,
    .run =
	{
	    [DIR_OP_HISTORY] = embedded_history,
	    [DIR_OP_LEARN] = embedded_learn,
	    [DIR_OP_PASSWORD] = embedded_password,
	    [DIR_OP_UPDATE] = embedded_update,
	    [DIR_OP_USER] = embedded_user,
	    [DIR_OP_USERS] = embedded_users,
	},
    .turn = embedded_turn,
    .keeper_reply = embedded_keeper_reply,
    .close = embedded_close,
};
