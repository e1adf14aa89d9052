/*
 * cache.c - answers of a back end about users, kept for a while.
 *
 * Role:    lists (P_GET_ALL_USER) and single users (P_GET_USER) by who asked
 *          and what; one question to the back end for all who ask the same at
 *          a time (single flight).
 * Process: directory, on the loop's thread.
 * Blocks:  never.
 * Trust:   the back end's answers are taken as they are; the asker is part of
 *          the key, so nobody is given what another one may see.
 * See:     dir.h, doc/decisions/022, t/unit/directory_cache.c
 *
 * An update does not look for the answers that hold its user: it is noted with
 * a number, and an answer that is older than the last update is looked
 * through before it is given out. What was read before the number was given
 * may be as old as that, so a question under way is not joined either: who
 * comes then, or asks for a fresh answer, waits for the next one.
 */
#include "config.h"

#include "directory/cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"

#define CHANGES_MAX 65536 /* users noted; beyond, all is forgotten */
#define FLIGHT_MS   60000 /* no question is under way for longer */

struct key {
	uint64_t asker;
	uint64_t user;   /* USER; else 0 */
	uint64_t cursor; /* USERS */
	uint32_t limit;  /* USERS; 0: USER */
	uint32_t reserved;
};

/* An answer that is kept. */
struct entry {
	struct key key;
	UT_hash_handle hh;
	TAILQ_ENTRY(entry) link;
	int64_t until_ms;
	uint64_t change; /* the last one when the back end was asked */
	struct dir_answer answer;
};

/* One who waits. */
struct waiter {
	STAILQ_ENTRY(waiter) link;
	struct dir_request *request;
	dir_done_fn done;
};

STAILQ_HEAD(waiter_list, waiter);

/* A question that the back end has. */
struct flight {
	struct key key;
	UT_hash_handle hh;
	struct cache *cache;
	struct dir_request *leader; /* the back end's */
	dir_done_fn done;           /* of the leader */
	uint64_t change;
	struct waiter_list waiters; /* for this answer */
	struct waiter_list next;    /* for one that is asked for after it */
};

/* A user who was changed; kept for as long as an answer can be. */
struct change {
	uint64_t user;
	UT_hash_handle hh;
	TAILQ_ENTRY(change) link; /* oldest first */
	uint64_t number;
	int64_t until_ms;
};

struct cache {
	struct cache_config config;
	const struct dir_ops *ops;
	struct dir_backend *backend;
	struct entry *entries;
	TAILQ_HEAD(entry_list, entry) order; /* used last first */
	size_t bytes;
	struct flight *flights;
	struct change *changes;
	TAILQ_HEAD(change_list, change) changed;
	uint64_t last_change;
	bool is_stopping;
};

/* ---- what is kept ---- */

static size_t
entry_bytes(const struct entry *entry)
{
	return sizeof(*entry) + entry->answer.tail_len;
}

static void
entry_drop(struct cache *cache, struct entry *entry)
{
	HASH_DEL(cache->entries, entry);
	TAILQ_REMOVE(&cache->order, entry, link);
	cache->bytes -= entry_bytes(entry);
	free(entry->answer.tail);
	free(entry);
}

/* @return  ERR_NO_MEMORY: nothing was copied */
static int
answer_copy(struct dir_answer *to, const struct dir_answer *from)
{
	uint8_t *tail = NULL;

	if (from->tail_len > 0) {
		tail = mem_try(from->tail_len);
		if (tail == NULL)
			return ERR_NO_MEMORY;
		memcpy(tail, from->tail, from->tail_len);
	}
	*to = *from;
	to->tail = tail;
	to->tail_room = from->tail_len;
	return 0;
}

static void
entry_keep(struct cache *cache, const struct flight *flight,
    const struct dir_answer *answer)
{
	struct entry *entry;

	HASH_FIND(hh, cache->entries, &flight->key, sizeof(flight->key), entry);
	if (entry != NULL)
		entry_drop(cache, entry);
	if (cache->config.ttl_ms == 0 ||
	    sizeof(*entry) + answer->tail_len > cache->config.bytes_max)
		return;
	entry = xcalloc(1, sizeof(*entry));
	if (answer_copy(&entry->answer, answer) != 0) {
		free(entry);
		return;
	}
	entry->key = flight->key;
	entry->change = flight->change;
	entry->until_ms = clock_mono_ms() + cache->config.ttl_ms;
	cache->bytes += entry_bytes(entry);
	HASH_ADD(hh, cache->entries, key, sizeof(entry->key), entry);
	TAILQ_INSERT_HEAD(&cache->order, entry, link);
	while (cache->bytes > cache->config.bytes_max)
		entry_drop(cache, TAILQ_LAST(&cache->order, entry_list));
}

/* ---- changes ---- */

static void
change_drop(struct cache *cache, struct change *change)
{
	HASH_DEL(cache->changes, change);
	TAILQ_REMOVE(&cache->changed, change, link);
	free(change);
}

static void
forget_all(struct cache *cache)
{
	while (!TAILQ_EMPTY(&cache->order))
		entry_drop(cache, TAILQ_FIRST(&cache->order));
	while (!TAILQ_EMPTY(&cache->changed))
		change_drop(cache, TAILQ_FIRST(&cache->changed));
}

void
cache_forget(struct cache *cache, uint64_t user)
{
	int64_t now_ms = clock_mono_ms();
	struct change *change;

	if (cache->ops->forget != NULL)
		cache->ops->forget(cache->backend, user);
	cache->last_change++;
	while ((change = TAILQ_FIRST(&cache->changed)) != NULL &&
	       change->until_ms <= now_ms)
		change_drop(cache, change);
	HASH_FIND(hh, cache->changes, &user, sizeof(user), change);
	if (change != NULL)
		change_drop(cache, change);
	if (HASH_COUNT(cache->changes) >= CHANGES_MAX)
		forget_all(cache);
	change = xcalloc(1, sizeof(*change));
	change->user = user;
	change->number = cache->last_change;
	change->until_ms =
	    now_ms + (cache->config.ttl_ms > FLIGHT_MS ? cache->config.ttl_ms
						       : FLIGHT_MS);
	HASH_ADD(hh, cache->changes, user, sizeof(user), change);
	TAILQ_INSERT_TAIL(&cache->changed, change, link);
}

static bool
was_changed(const struct cache *cache, uint64_t user, uint64_t since)
{
	struct change *change;

	HASH_FIND(hh, cache->changes, &user, sizeof(user), change);
	return change != NULL && change->number > since;
}

/* Is anybody in it, or its asker, another one since? */
static bool
is_outdated(const struct cache *cache, const struct dir_answer *answer,
    uint64_t asker, uint64_t since)
{
	const uint8_t *at = answer->tail;
	struct dir_user user;

	if (since == cache->last_change)
		return false;
	if (was_changed(cache, asker, since))
		return true;
	while (dir_answer_next(&at, answer->tail + answer->tail_len, &user)) {
		if (was_changed(cache, user.id, since))
			return true;
	}
	return false;
}

/* ---- flights ---- */

static void
wait_in(struct waiter_list *list, struct dir_request *request, dir_done_fn done)
{
	struct waiter *waiter = xcalloc(1, sizeof(*waiter));

	waiter->request = request;
	waiter->done = done;
	STAILQ_INSERT_TAIL(list, waiter, link);
}

static struct waiter
take_first(struct waiter_list *list)
{
	struct waiter *first = STAILQ_FIRST(list);
	struct waiter copy = *first;

	STAILQ_REMOVE_HEAD(list, link);
	free(first);
	return copy;
}

static void flight_done(struct dir_request *leader, int rc);

/* The first of next asks, the others wait for it. */
static void
flight_start(
    struct cache *cache, const struct key *key, struct waiter_list *next)
{
	struct flight *flight = xcalloc(1, sizeof(*flight));
	struct waiter first = take_first(next);

	flight->key = *key;
	flight->cache = cache;
	flight->leader = first.request;
	flight->done = first.done;
	flight->change = cache->last_change;
	STAILQ_INIT(&flight->waiters);
	STAILQ_INIT(&flight->next);
	STAILQ_CONCAT(&flight->waiters, next);
	HASH_ADD(hh, cache->flights, key, sizeof(flight->key), flight);
	COUNT(directory_cache_misses);
	first.request->flight = flight;
	cache->ops->run[first.request->op](
	    cache->backend, first.request, flight_done);
}

/* dir_done_fn: the back end has answered. */
static void
flight_done(struct dir_request *leader, int rc)
{
	struct flight *flight = leader->flight;
	struct cache *cache = flight->cache;

	HASH_DEL(cache->flights, flight);
	if (rc == 0) {
		entry_keep(cache, flight, &leader->answer);
		if (cache->config.told != NULL &&
		    !is_outdated(
			cache, &leader->answer, leader->asker, flight->change))
			cache->config.told(cache->config.ctx, leader);
	}
	while (!STAILQ_EMPTY(&flight->waiters)) {
		struct waiter waiter = take_first(&flight->waiters);
		int copy_rc = rc;

		if (rc == 0)
			copy_rc = answer_copy(
			    &waiter.request->answer, &leader->answer);
		waiter.done(waiter.request, copy_rc);
	}
	flight->done(leader, rc);
	if (cache->is_stopping) {
		while (!STAILQ_EMPTY(&flight->next)) {
			struct waiter waiter = take_first(&flight->next);

			waiter.done(waiter.request, ERR_UNAVAILABLE);
		}
	} else if (!STAILQ_EMPTY(&flight->next)) {
		flight_start(cache, &flight->key, &flight->next);
	}
	free(flight);
}

/* ---- the way through ---- */

static void
key_of(struct key *key, const struct dir_request *request)
{
	*key = (struct key){
	    .asker = request->asker,
	    .user = request->user,
	    .cursor = request->cursor,
	    .limit = request->limit,
	};
}

/* @return  it was answered from what is kept */
static bool
answer_kept(struct cache *cache, const struct key *key,
    struct dir_request *request, dir_done_fn done)
{
	struct entry *entry;

	HASH_FIND(hh, cache->entries, key, sizeof(*key), entry);
	if (entry == NULL)
		return false;
	if (request->is_refresh || entry->until_ms <= clock_mono_ms() ||
	    is_outdated(cache, &entry->answer, key->asker, entry->change)) {
		entry_drop(cache, entry);
		return false;
	}
	if (answer_copy(&request->answer, &entry->answer) != 0)
		return false;
	TAILQ_REMOVE(&cache->order, entry, link);
	TAILQ_INSERT_HEAD(&cache->order, entry, link);
	COUNT(directory_cache_hits);
	done(request, 0);
	return true;
}

static void
ask_about_users(
    struct cache *cache, struct dir_request *request, dir_done_fn done)
{
	struct waiter_list alone = STAILQ_HEAD_INITIALIZER(alone);
	struct flight *flight;
	struct key key;

	key_of(&key, request);
	HASH_FIND(hh, cache->flights, &key, sizeof(key), flight);
	if (flight != NULL) {
		COUNT(directory_cache_joined);
		wait_in(
		    request->is_refresh || flight->change != cache->last_change
			? &flight->next
			: &flight->waiters,
		    request, done);
		return;
	}
	if (answer_kept(cache, &key, request, done))
		return;
	wait_in(&alone, request, done);
	flight_start(cache, &key, &alone);
}

/* An update: what is kept of him is old from its begin on, and what was asked
 * for while it was under way may be. */
static void
update_done(struct dir_request *request, int rc)
{
	struct flight *flight = request->flight;
	struct cache *cache = flight->cache;

	cache_forget(cache, request->asker);
	if (rc == 0 && cache->config.told != NULL)
		cache->config.told(cache->config.ctx, request);
	flight->done(request, rc);
	free(flight);
}

static void
update(struct cache *cache, struct dir_request *request, dir_done_fn done)
{
	struct flight *flight = xcalloc(1, sizeof(*flight));

	flight->cache = cache;
	flight->done = done;
	request->flight = flight;
	cache->ops->run[DIR_OP_UPDATE](cache->backend, request, update_done);
}

void
cache_run(struct cache *cache, struct dir_request *request, dir_done_fn done)
{
	switch (request->op) {
	case DIR_OP_USER:
	case DIR_OP_USERS:
		ask_about_users(cache, request, done);
		return;
	case DIR_OP_UPDATE:
		update(cache, request, done);
		return;
	case DIR_OP_HISTORY:
	case DIR_OP_LEARN:
	case DIR_OP_PASSWORD:
		cache->ops->run[request->op](cache->backend, request, done);
		return;
	case DIR_OP_END:
		break;
	}
}

/* ---- life ---- */

struct cache *
cache_new(const struct cache_config *config, const struct dir_ops *ops,
    struct dir_backend *backend)
{
	struct cache *cache = xcalloc(1, sizeof(*cache));

	cache->config = *config;
	cache->ops = ops;
	cache->backend = backend;
	TAILQ_INIT(&cache->order);
	TAILQ_INIT(&cache->changed);
	return cache;
}

void
cache_stop(struct cache *cache)
{
	cache->is_stopping = true;
}

void
cache_free(struct cache **cache_io)
{
	struct cache *cache = *cache_io;

	if (cache == NULL)
		return;
	forget_all(cache);
	free(cache);
	*cache_io = NULL;
}
