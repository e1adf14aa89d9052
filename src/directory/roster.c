/*
 * roster.c - the store's users and lists as a remote back end has them.
 *
 * Role:    what was said waits here, is compared on a thread, and goes to the
 *          keeper, a round at a time.
 * Process: directory, on the loop's thread but for compare_run.
 * Blocks:  never; that thread, on the store's cold pages.
 * Trust:   the keeper's replies are counted; one that does not come ends the
 *          round in time.
 * See:     roster.h, roster_diff.c, roster_learn.c, doc/decisions/032,
 *          t/unit/roster.c, t/53-roster.t.
 *
 * What nobody waits for may be dropped when too much waits: it will be said
 * again, or learned when somebody needs it.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/roster_priv.h"

#define REQ_MARK       (1ULL << 62) /* of our records; outbox.c has bit 63 */
#define NEWS_BYTES_MAX (16UL * 1024 * 1024) /* waiting */
#define ROUND_NEWS     64
#define ROUND_BYTES    (512UL * 1024)
#define ROUND_WINDOW   1024  /* records that the keeper has not answered */
#define ROUND_MS       10000 /* the keeper does not answer */

enum round_state {
	ROUND_NONE,
	ROUND_COMPARING, /* with the thread */
	ROUND_PUTTING,   /* with the keeper */
};

struct roster {
	const struct dir_host *host;
	struct cache *cache;
	struct pool *pool; /* one thread */
	struct news_list waiting;
	size_t waiting_bytes;
	struct roster_lessons lessons;
	bool is_stopping;
	/* the round */
	enum round_state state;
	struct pool_job job;
	struct news_list round;
	uint64_t req;
	struct buf records;
	size_t record_count;
	size_t put_at; /* of records */
	size_t unanswered;
	uint32_t keeper_gen; /* who has it */
	int64_t until_ms;
	int rc;
};

/* ---- news ---- */

static size_t
news_bytes(const struct news *news)
{
	return sizeof(*news) + news->tail_len;
}

static void
news_end(struct news *news, int rc)
{
	if (news->done != NULL)
		news->done(news->ctx, rc);
	free(news->tail);
	free(news);
}

/* What of the asker's list an answer is about. */
static void
set_range(struct news *news, const struct dir_request *request)
{
	const struct dir_answer *answer = &request->answer;
	const uint8_t *at = answer->tail;
	struct dir_user user;

	news->is_partial = answer->is_partial;
	if (request->op == DIR_OP_USERS) {
		news->above = request->cursor;
		news->upto = answer->next_cursor != 0 ? answer->next_cursor
						      : USER_ID_MAX;
	} else if (request->user != request->asker &&
		   dir_answer_next(&at, at + answer->tail_len, &user) &&
		   !user.is_stranger) {
		news->above = request->user - 1;
		news->upto = request->user;
	}
}

void
roster_take(struct roster *roster, const struct dir_request *request, int rc,
    news_done_fn done, void *ctx)
{
	const struct dir_answer *answer = &request->answer;
	struct news *news = xcalloc(1, sizeof(*news));

	news->asker = request->asker;
	news->done = done;
	news->ctx = ctx;
	if (rc == ERR_NOT_FOUND)
		news->is_gone = true;
	else
		set_range(news, request);
	if (rc == 0 && answer->tail_len > 0)
		news->tail = mem_try(answer->tail_len);
	if (roster->is_stopping ||
	    roster->waiting_bytes + answer->tail_len > NEWS_BYTES_MAX ||
	    (rc == 0 && answer->tail_len > 0 && news->tail == NULL)) {
		COUNT(roster_dropped);
		news_end(news, ERR_UNAVAILABLE);
		return;
	}
	if (news->tail != NULL) {
		memcpy(news->tail, answer->tail, answer->tail_len);
		news->tail_len = answer->tail_len;
	}
	roster->waiting_bytes += news_bytes(news);
	STAILQ_INSERT_TAIL(&roster->waiting, news, link);
}

/* cache.h: told */
static void
told(void *ctx, const struct dir_request *request)
{
	struct roster *roster = ctx;

	if (request->op == DIR_OP_UPDATE)
		lesson_refresh(roster, request->asker);
	else if (!request->is_lesson) /* it takes its answers by itself */
		roster_take(roster, request, 0, NULL, NULL);
}

/* ---- rounds ---- */

/* The store must have the one before the other can be compared with it. */
static bool
is_about_the_same(const struct news *one, const struct news *other)
{
	if (one->asker != other->asker)
		return false;
	return one->is_gone || other->is_gone ||
	       (one->above < other->upto && other->above < one->upto);
}

static bool
fits_round(const struct roster *roster, const struct news *news)
{
	const struct news *one;

	STAILQ_FOREACH(one, &roster->round, link)
	{
		if (is_about_the_same(one, news))
			return false;
	}
	return true;
}

static void
round_end(struct roster *roster, int rc)
{
	struct news_list round = STAILQ_HEAD_INITIALIZER(round);
	struct news *news;

	if (rc != 0 && !roster->is_stopping) {
		COUNT(roster_failed);
		log_warn(NULL, "roster-failed",
		    "error=\"%s\"; said again later", err_text(rc));
	}
	roster->state = ROUND_NONE;
	buf_clear(&roster->records);
	STAILQ_CONCAT(&round, &roster->round);
	while ((news = STAILQ_FIRST(&round)) != NULL) {
		STAILQ_REMOVE_HEAD(&round, link);
		news_end(news, rc == 0 ? 0 : ERR_UNAVAILABLE);
	}
}

/* pool_fn, on the thread: the round is its own meanwhile */
static void
compare_run(struct pool_job *job)
{
	struct roster *roster =
	    (struct roster *)(void *)((char *)job -
				      offsetof(struct roster, job));

	roster->rc = roster_diff(roster->host->store, &roster->round,
	    roster->req, &roster->records, &roster->record_count);
}

/* pool_fn, on the loop */
static void
compare_done(struct pool_job *job)
{
	struct roster *roster =
	    (struct roster *)(void *)((char *)job -
				      offsetof(struct roster, job));

	if (!job->was_run || roster->is_stopping)
		roster->rc = ERR_UNAVAILABLE;
	if (roster->rc != 0 || roster->record_count == 0) {
		round_end(roster, roster->rc);
		return;
	}
	roster->state = ROUND_PUTTING;
	roster->put_at = 0;
	roster->unanswered = 0;
	roster->keeper_gen = bus_generation(roster->host->bus, SLOT_KEEPER);
	roster->until_ms = clock_mono_ms() + ROUND_MS;
}

static void
round_begin(struct roster *roster)
{
	struct news *news;
	size_t bytes = 0;

	for (size_t i = 0; i < ROUND_NEWS && bytes < ROUND_BYTES; i++) {
		news = STAILQ_FIRST(&roster->waiting);
		if (news == NULL || !fits_round(roster, news))
			break;
		STAILQ_REMOVE_HEAD(&roster->waiting, link);
		STAILQ_INSERT_TAIL(&roster->round, news, link);
		roster->waiting_bytes -= news_bytes(news);
		bytes += news_bytes(news);
	}
	roster->req++;
	roster->record_count = 0;
	roster->state = ROUND_COMPARING;
	roster->job = (struct pool_job){
	    .run = compare_run, .done = compare_done, .deadline_ms = INT64_MAX};
	if (pool_submit(roster->pool, &roster->job) != 0)
		round_end(roster, ERR_UNAVAILABLE);
}

/* @return false: no room in the ring */
static bool
round_put(struct roster *roster)
{
	struct roster_record head;

	while (roster->put_at < roster->records.len &&
	       roster->unanswered < ROUND_WINDOW) {
		const char *at = roster->records.data + roster->put_at;

		memcpy(&head, at, sizeof(head));
		if (bus_put(roster->host->bus, SLOT_KEEPER, head.type,
			at + sizeof(head), head.len) != 0)
			return false;
		COUNT(roster_puts);
		roster->put_at += sizeof(head) + ((head.len + 7) & ~7U);
		roster->unanswered++;
	}
	return true;
}

bool
roster_reply(struct roster *roster, const struct record_reply *reply)
{
	if ((reply->req & REQ_MARK) == 0 || reply->req >> 63 != 0)
		return false;
	if (roster->state != ROUND_PUTTING || reply->req != roster->req ||
	    roster->unanswered == 0)
		return true; /* of a round that was given up */
	roster->unanswered--;
	/* A user who was removed meanwhile, or whose row is damaged, costs
	 * nobody else. */
	if (reply->rc != 0 && reply->rc != ERR_NOT_FOUND &&
	    reply->rc != ERR_CORRUPT)
		roster->rc = reply->rc < 0 ? reply->rc : ERR_SERVER_ERROR;
	if (roster->unanswered == 0 && roster->put_at == roster->records.len)
		round_end(roster, roster->rc);
	return true;
}

bool
roster_turn(struct roster *roster)
{
	bool has_room = true;

	lessons_turn(roster);
	if (roster->state == ROUND_PUTTING) {
		has_room = round_put(roster);
		/* A successor does what is in the ring, but does not answer
		 * what was done before it. */
		if (clock_mono_ms() >= roster->until_ms ||
		    bus_generation(roster->host->bus, SLOT_KEEPER) !=
			roster->keeper_gen)
			round_end(roster, ERR_UNAVAILABLE);
	}
	if (roster->state == ROUND_NONE && !STAILQ_EMPTY(&roster->waiting))
		round_begin(roster);
	return !has_room;
}

/* ---- what the rest of the directory asks of it ---- */

void
roster_run(struct roster *roster, struct dir_request *request, dir_done_fn done)
{
	if (request->op == DIR_OP_LEARN)
		lesson_run(roster, request, done);
	else
		cache_run(roster->cache, request, done);
}

void
roster_contact_changed(
    struct roster *roster, const struct record_contact_news *news)
{
	cache_forget(roster->cache, news->user);
	cache_forget(roster->cache, news->other);
}

void
roster_user_changed(void *ctx, uint64_t user)
{
	struct roster *roster = ctx;

	cache_forget(roster->cache, user);
	lesson_refresh(roster, user);
}

struct roster_lessons *
roster_lessons(struct roster *roster)
{
	return &roster->lessons;
}

const struct dir_host *
roster_host(const struct roster *roster)
{
	return roster->host;
}

struct cache *
roster_cache(struct roster *roster)
{
	return roster->cache;
}

bool
roster_is_stopping(const struct roster *roster)
{
	return roster->is_stopping;
}

/* ---- life ---- */

int
roster_new(const struct dir_host *host, const struct dir_ops *ops,
    struct dir_backend *backend, struct roster **out)
{
	struct roster *roster = xcalloc(1, sizeof(*roster));
	const struct cache_config config = {
	    .ttl_ms = host->conf->directory_cache_ttl,
	    .bytes_max = (size_t)host->conf->directory_cache_size,
	    .told = told,
	    .ctx = roster,
	};
	int rc;

	roster->host = host;
	roster->req = REQ_MARK;
	STAILQ_INIT(&roster->waiting);
	STAILQ_INIT(&roster->round);
	lessons_init(&roster->lessons);
	rc = pool_new("dir-roster", 1, 1, host->results, &roster->pool);
	if (rc != 0) {
		free(roster);
		return rc;
	}
	roster->cache = cache_new(&config, ops, backend);
	*out = roster;
	return 0;
}

bool
roster_stop(struct roster *roster, int64_t until_ms)
{
	bool has_ended;
	struct news *news;

	roster->is_stopping = true;
	cache_stop(roster->cache);
	if (roster->state == ROUND_PUTTING)
		round_end(roster, ERR_UNAVAILABLE);
	while ((news = STAILQ_FIRST(&roster->waiting)) != NULL) {
		STAILQ_REMOVE_HEAD(&roster->waiting, link);
		news_end(news, ERR_UNAVAILABLE);
	}
	has_ended = pool_stop(&roster->pool, until_ms);
	pool_results_collect(roster->host->results);
	return has_ended;
}

void
roster_free(struct roster **roster)
{
	struct roster *old = *roster;

	if (old == NULL)
		return;
	lessons_fini(&old->lessons);
	cache_free(&old->cache);
	buf_fini(&old->records);
	free(old);
	*roster = NULL;
}
