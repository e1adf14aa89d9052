/*
 * absent.c - users who do not exist.
 *
 * Role:    spares the database the same question about nobody.
 * Process: directory, on the loop's thread.
 * Blocks:  never.
 * Trust:   ids come from clients: the memory is bounded, and what is kept is
 *          the database's word only.
 * See:     mssql_users.c, cache.h (of those who exist), t/unit/absent.c.
 */
#include "config.h"

#include "directory/absent.h"

#include <stdlib.h>

#include <uthash.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

STAILQ_HEAD(waiter_list, absent_waiter);

struct nobody {
	uint64_t user;
	int64_t until_ms;
	TAILQ_ENTRY(nobody) link; /* noted first first */
	UT_hash_handle hh;
};

struct question {
	uint64_t user;
	bool is_outdated; /* he has appeared since it was asked */
	struct waiter_list waiters;
	UT_hash_handle hh;
};

struct absent {
	struct absent_config config;
	struct nobody *nobodies;
	TAILQ_HEAD(, nobody) order;
	struct question *questions;
};

struct absent *
absent_new(const struct absent_config *config)
{
	struct absent *absent = xcalloc(1, sizeof(*absent));

	absent->config = *config;
	TAILQ_INIT(&absent->order);
	return absent;
}

static void
drop(struct absent *absent, struct nobody *nobody)
{
	HASH_DEL(absent->nobodies, nobody);
	TAILQ_REMOVE(&absent->order, nobody, link);
	free(nobody);
}

void
absent_free(struct absent **absent)
{
	struct absent *old = *absent;

	if (old == NULL)
		return;
	if (old->questions != NULL)
		panic("a question about a user was not ended");
	while (!TAILQ_EMPTY(&old->order))
		drop(old, TAILQ_FIRST(&old->order));
	free(old);
	*absent = NULL;
}

static struct nobody *
find(const struct absent *absent, uint64_t user)
{
	struct nobody *nobody;

	HASH_FIND(hh, absent->nobodies, &user, sizeof(user), nobody);
	return nobody;
}

static struct question *
find_question(const struct absent *absent, uint64_t user)
{
	struct question *question;

	HASH_FIND(hh, absent->questions, &user, sizeof(user), question);
	return question;
}

bool
absent_has(struct absent *absent, uint64_t user, int64_t now_ms)
{
	struct nobody *first;

	while ((first = TAILQ_FIRST(&absent->order)) != NULL &&
	       first->until_ms <= now_ms)
		drop(absent, first);
	return find(absent, user) != NULL;
}

bool
absent_begin(struct absent *absent, uint64_t user, struct absent_waiter *waiter)
{
	struct question *question = find_question(absent, user);

	if (question != NULL) {
		STAILQ_INSERT_TAIL(&question->waiters, waiter, link);
		return false;
	}
	question = xcalloc(1, sizeof(*question));
	question->user = user;
	STAILQ_INIT(&question->waiters);
	HASH_ADD(hh, absent->questions, user, sizeof(user), question);
	return true;
}

static void
note(struct absent *absent, uint64_t user, int64_t now_ms)
{
	struct nobody *nobody = find(absent, user);

	if (nobody != NULL)
		drop(absent, nobody);
	if (absent->config.ttl_ms == 0 || absent->config.max == 0)
		return;
	if (HASH_COUNT(absent->nobodies) >= absent->config.max)
		drop(absent, TAILQ_FIRST(&absent->order));
	nobody = xcalloc(1, sizeof(*nobody));
	nobody->user = user;
	nobody->until_ms = now_ms + absent->config.ttl_ms;
	HASH_ADD(hh, absent->nobodies, user, sizeof(user), nobody);
	TAILQ_INSERT_TAIL(&absent->order, nobody, link);
}

/* Who waits may ask anew from within go. */
void
absent_end(struct absent *absent, uint64_t user, int rc, int64_t now_ms)
{
	struct question *question = find_question(absent, user);
	struct absent_waiter *waiter;

	if (question == NULL)
		panic("the end of a question about a user that nobody asked");
	HASH_DEL(absent->questions, question);
	if (rc == ERR_NOT_FOUND && !question->is_outdated)
		note(absent, user, now_ms);
	while ((waiter = STAILQ_FIRST(&question->waiters)) != NULL) {
		STAILQ_REMOVE_HEAD(&question->waiters, link);
		waiter->go(waiter, rc);
	}
	free(question);
}

void
absent_forget(struct absent *absent, uint64_t user)
{
	struct nobody *nobody = find(absent, user);
	struct question *question = find_question(absent, user);

	if (nobody != NULL)
		drop(absent, nobody);
	if (question != NULL)
		question->is_outdated = true;
}

size_t
absent_count(const struct absent *absent)
{
	return HASH_COUNT(absent->nobodies) + HASH_COUNT(absent->questions);
}
