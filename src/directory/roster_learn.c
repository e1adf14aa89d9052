/*
 * roster_learn.c - of whom the store knows nothing, the back end is asked.
 *
 * Role:    DIR_LEARN: a question for each user, what comes of it is put into
 *          the store, then who asked is told. And users who have logged in
 *          are looked up again, when there is time.
 * Process: directory, on the loop's thread.
 * Blocks:  never.
 * Trust:   the asker sees no more than P_GET_USER would show him: a user whom
 *          he may not see stays unknown.
 * See:     roster.h, cache.h (one question for all who ask the same).
 *
 * ERR_NOT_FOUND is said when the back end knows none of them, and of nobody as
 * long as it could not say it of all.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/mem.h"
#include "directory/roster_priv.h"

#define QUESTIONS_MAX 16    /* of one lesson, at a time */
#define IDLE_MAX      8     /* lessons that nobody waits for, at a time */
#define REFRESHES_MAX 65536 /* users who wait for one; more: not now */

/* A user who is to be looked up. */
struct refresh {
	uint64_t user;
	TAILQ_ENTRY(refresh) link;
	UT_hash_handle hh;
};

struct lesson {
	struct roster *roster;
	struct dir_request *request; /* NULL: nobody waits */
	dir_done_fn done;
	uint64_t asker;
	const uint64_t *users;
	size_t count;
	size_t next;       /* of users */
	size_t open_count; /* questions, and news that are not put yet */
	int64_t deadline_ms;
	bool is_found;
	bool is_unknown; /* of somebody it could not be said */
	bool is_stepping;
};

static void step(struct lesson *lesson);

/* ---- questions ---- */

/* news_done_fn */
static void
put_done(void *ctx, int rc)
{
	struct lesson *lesson = ctx;

	lesson->open_count--;
	if (rc != 0)
		lesson->is_unknown = true;
	step(lesson);
}

static void
take(struct lesson *lesson, const struct dir_request *question, int rc)
{
	lesson->open_count++;
	roster_take(lesson->roster, question, rc, put_done, lesson);
}

static void question_done(struct dir_request *question, int rc);

static void
ask(struct lesson *lesson, const struct dir_request *like)
{
	struct dir_request *question;

	if (roster_is_stopping(lesson->roster)) {
		lesson->is_unknown = true;
		return;
	}
	question = xcalloc(1, sizeof(*question));
	*question = *like;
	question->is_lesson = true;
	question->asker = lesson->asker;
	question->deadline_ms = lesson->deadline_ms;
	question->owner = lesson;
	lesson->open_count++;
	cache_run(roster_cache(lesson->roster), question, question_done);
}

static void
ask_list(struct lesson *lesson, uint64_t cursor)
{
	ask(lesson,
	    &(struct dir_request){
		.op = DIR_OP_USERS, .cursor = cursor, .limit = DIR_LIST_MAX});
}

/* Who waits for himself wants to know it now, not what it was before. */
static void
ask_user(struct lesson *lesson, uint64_t user, bool is_refresh)
{
	ask(lesson,
	    &(struct dir_request){
		.op = DIR_OP_USER, .user = user, .is_refresh = is_refresh});
}

static void
user_done(struct lesson *lesson, const struct dir_request *question, int rc)
{
	bool is_self = question->user == lesson->asker;

	if (rc == 0) {
		lesson->is_found = true;
		take(lesson, question, 0);
		if (is_self)
			ask_list(lesson, 0);
	} else if (rc == ERR_NOT_FOUND && is_self && !question->is_refresh) {
		/* From a cache, or a replica: that ends no session. */
		ask_user(lesson, question->user, true);
	} else if (rc == ERR_NOT_FOUND && is_self) {
		take(lesson, question, rc);
	} else if (rc != ERR_NOT_FOUND) {
		lesson->is_unknown = true;
	}
}

/* dir_done_fn. Without his list a user can log in: who is on it is learned
 * when he writes to them. */
static void
question_done(struct dir_request *question, int rc)
{
	struct lesson *lesson = question->owner;

	if (question->op == DIR_OP_USER) {
		user_done(lesson, question, rc);
	} else if (rc == 0) {
		take(lesson, question, 0);
		if (question->answer.next_cursor != 0)
			ask_list(lesson, question->answer.next_cursor);
	}
	dir_request_free(&question);
	lesson->open_count--;
	step(lesson);
}

/* ---- lessons ---- */

static void
lesson_end(struct lesson *lesson)
{
	int rc = 0;

	if (lesson->is_unknown)
		rc = ERR_UNAVAILABLE;
	else if (!lesson->is_found)
		rc = ERR_NOT_FOUND;
	if (lesson->request == NULL) {
		roster_lessons(lesson->roster)->idle_count--;
	} else {
		COUNT(roster_learned);
		lesson->done(lesson->request, rc);
	}
	free(lesson);
}

/* Questions may be answered before they have been asked, so to speak. */
static void
step(struct lesson *lesson)
{
	if (lesson->is_stepping)
		return;
	lesson->is_stepping = true;
	while (lesson->next < lesson->count &&
	       lesson->open_count < QUESTIONS_MAX) {
		uint64_t user = lesson->users[lesson->next++];

		ask_user(lesson, user,
		    lesson->request != NULL && user == lesson->asker);
	}
	lesson->is_stepping = false;
	if (lesson->open_count == 0)
		lesson_end(lesson);
}

static struct lesson *
lesson_new(struct roster *roster, uint64_t asker)
{
	struct lesson *lesson = xcalloc(1, sizeof(*lesson));

	lesson->roster = roster;
	lesson->asker = asker;
	return lesson;
}

void
lesson_run(struct roster *roster, struct dir_request *request, dir_done_fn done)
{
	struct lesson *lesson;

	if (request->is_idle) {
		lesson_refresh(roster, request->asker);
		done(request, 0);
		return;
	}
	lesson = lesson_new(roster, request->asker);
	lesson->request = request;
	lesson->done = done;
	lesson->users = request->users;
	lesson->count = request->user_count;
	lesson->deadline_ms = request->deadline_ms;
	step(lesson);
}

/* ---- when there is time ---- */

void
lesson_refresh(struct roster *roster, uint64_t user)
{
	struct roster_lessons *lessons = roster_lessons(roster);
	struct refresh *refresh;

	HASH_FIND(hh, lessons->refreshes, &user, sizeof(user), refresh);
	if (refresh != NULL || HASH_COUNT(lessons->refreshes) >= REFRESHES_MAX)
		return;
	refresh = xcalloc(1, sizeof(*refresh));
	refresh->user = user;
	HASH_ADD(hh, lessons->refreshes, user, sizeof(refresh->user), refresh);
	TAILQ_INSERT_TAIL(&lessons->waiting, refresh, link);
}

static void
refresh_drop(struct roster_lessons *lessons, struct refresh *refresh)
{
	HASH_DEL(lessons->refreshes, refresh);
	TAILQ_REMOVE(&lessons->waiting, refresh, link);
	free(refresh);
}

void
lessons_turn(struct roster *roster)
{
	struct roster_lessons *lessons = roster_lessons(roster);
	int64_t timeout_ms =
	    roster_host(roster)->conf->directory_request_timeout;

	/* Answered at once (kept, or refused) it makes room for the next: not
	 * for all of them in one turn. */
	for (int i = 0; i < IDLE_MAX && lessons->idle_count < IDLE_MAX; i++) {
		struct refresh *refresh = TAILQ_FIRST(&lessons->waiting);
		struct lesson *lesson;

		if (refresh == NULL || roster_is_stopping(roster))
			return;
		lesson = lesson_new(roster, refresh->user);
		lesson->users = &lesson->asker;
		lesson->count = 1;
		lesson->deadline_ms = clock_mono_ms() + timeout_ms;
		refresh_drop(lessons, refresh);
		lessons->idle_count++;
		step(lesson);
	}
}

void
lessons_init(struct roster_lessons *lessons)
{
	TAILQ_INIT(&lessons->waiting);
}

void
lessons_fini(struct roster_lessons *lessons)
{
	while (!TAILQ_EMPTY(&lessons->waiting))
		refresh_drop(lessons, TAILQ_FIRST(&lessons->waiting));
}
