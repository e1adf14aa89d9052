/*
 * hush.c - how often the others hear of one user.
 *
 * Role:    after a P_PRESENCE about a user there is none for [policy]
 *          presence_interval; what changed meanwhile is told at its end, as
 *          it is then, or not at all when it is as it was.
 * Process: keeper. Who waits stands in the store, too (unsaid), in the
 *          transaction that did not tell it: a successor tells it.
 * See:     announce.c, doc/decisions/022
 *
 * What a batch that is undone leaves here delays a user by one interval and
 * loses nothing.
 */
#include "config.h"

#include "keeper/hush.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "base/clock.h"
#include "base/mem.h"
#include "keeper/keeper_priv.h"

#define STORED_PER_BATCH 512

struct hushed {
	UT_hash_handle hh;
	TAILQ_ENTRY(hushed) link;
	uint64_t user;
	int64_t until_ms; /* monotonic */
	bool is_due;      /* something was not told */
	bool is_forced;
};

TAILQ_HEAD(hushed_list, hushed);

struct hush {
	struct hushed *by_user;
	struct hushed_list order; /* by until_ms */
	size_t due_count;
	bool has_stored; /* perhaps a predecessor has left some */
};

struct hush *
hush_new(void)
{
	struct hush *hush = xcalloc(1, sizeof(*hush));

	TAILQ_INIT(&hush->order);
	hush->has_stored = true;
	return hush;
}

static void
forget(struct hush *hush, struct hushed *hushed)
{
	HASH_DEL(hush->by_user, hushed);
	TAILQ_REMOVE(&hush->order, hushed, link);
	if (hushed->is_due)
		hush->due_count--;
	free(hushed);
}

void
hush_free(struct hush **hush_io)
{
	struct hush *hush = *hush_io;

	if (hush == NULL)
		return;
	while (!TAILQ_EMPTY(&hush->order))
		forget(hush, TAILQ_FIRST(&hush->order));
	free(hush);
	*hush_io = NULL;
}

/* Told now: quiet until then. */
static void
begin(struct hush *hush, uint64_t user, int64_t until_ms)
{
	struct hushed *hushed = xcalloc(1, sizeof(*hushed));
	struct hushed *last = TAILQ_LAST(&hush->order, hushed_list);

	/* the interval can have been made shorter by a reload */
	if (last != NULL && last->until_ms > until_ms)
		until_ms = last->until_ms;
	hushed->user = user;
	hushed->until_ms = until_ms;
	HASH_ADD(hh, hush->by_user, user, sizeof(user), hushed);
	TAILQ_INSERT_TAIL(&hush->order, hushed, link);
}

int
hush_ask(struct keeper *keeper, uint64_t user, bool is_forced, bool *holds_out)
{
	int64_t interval_ms = keeper->conf->policy_presence_interval;
	struct hush *hush = keeper->hush;
	struct hushed *hushed;

	*holds_out = false;
	if (interval_ms == 0)
		return 0;
	HASH_FIND(hh, hush->by_user, &user, sizeof(user), hushed);
	if (hushed == NULL) {
		begin(hush, user, clock_mono_ms() + interval_ms);
		return 0;
	}
	*holds_out = true;
	hushed->is_forced |= is_forced;
	if (!hushed->is_due)
		hush->due_count++;
	hushed->is_due = true;
	return txn_put(&keeper->txn, DBI_unsaid, &user, sizeof(user), "", 0);
}

/* Nobody remembers here what a predecessor did not tell, nor why. */
static int
take_stored(struct keeper *keeper)
{
	size_t count = 0;
	struct walk walk;
	uint64_t user;
	int rc;

	rc = walk_begin(&walk, &keeper->txn, DBI_unsaid, NULL, 0);
	while (rc == 0 && count < STORED_PER_BATCH) {
		memcpy(&user, walk.key.data, sizeof(user));
		announce_later(keeper, user, true);
		count++;
		rc = walk_delete(&walk);
		if (rc == 0)
			rc = walk_next(&walk);
	}
	walk_end(&walk);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	keeper->hush->has_stored = rc == 0;
	if (count > 0)
		keeper->batch.has_work = true;
	return 0;
}

int
hush_turn(struct keeper *keeper)
{
	struct hush *hush = keeper->hush;
	int64_t now_ms = clock_mono_ms();
	struct hushed *first;
	int rc = 0;

	if (hush->has_stored)
		rc = take_stored(keeper);
	while (rc == 0 && (first = TAILQ_FIRST(&hush->order)) != NULL &&
	       first->until_ms <= now_ms) {
		if (first->is_due) {
			keeper->batch.has_work = true;
			announce_later(keeper, first->user, first->is_forced);
			rc = txn_del(&keeper->txn, DBI_unsaid, &first->user,
			    sizeof(first->user));
			if (rc == ERR_NOT_FOUND)
				rc = 0; /* its batch was undone */
		}
		forget(hush, first);
	}
	return rc;
}

int64_t
hush_wait_ms(const struct keeper *keeper)
{
	const struct hush *hush = keeper->hush;
	const struct hushed *hushed;
	int64_t left_ms;

	if (hush->has_stored)
		return 0;
	if (hush->due_count == 0)
		return -1;
	TAILQ_FOREACH(hushed, &hush->order, link)
	{
		if (hushed->is_due)
			break;
	}
	left_ms = hushed->until_ms - clock_mono_ms();
	return left_ms < 0 ? 0 : left_ms;
}
