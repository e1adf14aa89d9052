/*
 * announce.c - who is online, told to those who may know.
 *
 * Role:    collects users whose sessions changed in a batch and tells the
 *          difference at its end; sessions of workers that died.
 * Process: keeper. What was told last is in userhead, in the same transaction
 *          as the heads of the rings that tell it: nothing is told twice or
 *          never when the keeper is killed.
 * See:     doc/protocol.md, P_PRESENCE
 */
#include "keeper/keeper_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "keeper/hush.h"
#include "shm/presence.h"
#include "shm/users.h"

#define TARGETS_PER_RECORD 512
#define STALE_PER_BATCH    512
/* Longer than HOLD_PATIENCE_MS of holder.c. */
#define ADOPT_PATIENCE_MS 10000

void
announce_later(struct keeper *keeper, uint64_t user, bool is_forced)
{
	struct batch *batch = &keeper->batch;

	if (batch->dirty_count == batch->dirty_cap) {
		batch->dirty_cap =
		    batch->dirty_cap == 0 ? 64 : batch->dirty_cap * 2;
		batch->dirty = xrealloc(
		    batch->dirty, batch->dirty_cap * sizeof(*batch->dirty));
	}
	batch->dirty[batch->dirty_count++] =
	    (struct dirty_user){.user = user, .is_forced = is_forced};
}

enum user_status
announce_status(const struct keeper *keeper, const struct userhead *head)
{
	enum user_status best = STATUS_OFFLINE;

	for (int i = 0; i < head->row.device_count; i++) {
		const struct userhead_device *device = &head->devices[i];

		if (keeper_is_live(keeper, device) && device->status > best)
			best = (enum user_status)device->status;
	}
	return best == STATUS_INVISIBLE ? STATUS_OFFLINE : best;
}

/* What others see of a user, but for the text. */
struct look {
	enum user_status status;
	bool is_in_call;
};

static bool
is_same_look(struct look a, struct look b)
{
	return a.status == b.status && a.is_in_call == b.is_in_call;
}

static struct look
look_of(const struct presence *presence)
{
	return (struct look){presence->status, presence->is_in_call};
}

static struct look
told_look(const struct keeper *keeper, const struct userhead *head)
{
	if (head->row.boot !=
	    keeper->boot) /* nobody remembers an earlier one */
		return (struct look){STATUS_OFFLINE, false};
	return (struct look){
	    (enum user_status)head->row.told, head->row.told_in_call != 0};
}

/* A session of this boot that nobody has ended yet: its worker is dead, the
 * grace begins when stale_sessions_end comes to it. */
static bool
has_unended(const struct keeper *keeper, const struct userhead *head)
{
	for (int i = 0; i < head->row.device_count; i++) {
		if (head->devices[i].session != 0 &&
		    head->devices[i].boot == keeper->boot)
			return true;
	}
	return false;
}

/* ---- telling ---- */

struct audience {
	struct keeper *keeper;
	const struct presence *presence;
	uint64_t subject;
	uint64_t *targets[WORKER_MAX]; /* allocated when used */
	size_t counts[WORKER_MAX];
	int rc;
};

static void
audience_flush(struct audience *audience, int worker)
{
	const struct presence *presence = audience->presence;
	size_t count = audience->counts[worker];
	size_t targets_len = count * sizeof(uint64_t);
	struct record_presence *record;
	size_t len = sizeof(*record) + targets_len + presence->text_len;

	audience->counts[worker] = 0;
	if (count == 0)
		return;
	record = route_event_begin(audience->keeper, worker, len);
	if (record == NULL)
		return; /* the worker tells the state after its resync */
	*record = (struct record_presence){
	    .user = audience->subject,
	    .version = presence->version,
	    .last_seen_ms = presence->last_seen_ms,
	    .status = presence->status,
	    .is_in_call = presence->is_in_call,
	    .target_count = (uint32_t)count,
	    .text_len = (uint32_t)presence->text_len,
	};
	memcpy(record + 1, audience->targets[worker], targets_len);
	memcpy((uint8_t *)(record + 1) + targets_len, presence->text,
	    presence->text_len);
	route_event_end(audience->keeper, worker, RECORD_PRESENCE, len);
}

static void
audience_add(struct audience *audience, uint64_t watcher, uint64_t workers)
{
	while (workers != 0) {
		int worker = __builtin_ctzll(workers);

		workers &= workers - 1;
		if (audience->targets[worker] == NULL)
			audience->targets[worker] =
			    xcalloc(TARGETS_PER_RECORD, sizeof(uint64_t));
		audience->targets[worker][audience->counts[worker]++] = watcher;
		if (audience->counts[worker] == TARGETS_PER_RECORD)
			audience_flush(audience, worker);
	}
}

static void
audience_fini(struct audience *audience)
{
	for (int worker = 0; worker < WORKER_MAX; worker++) {
		audience_flush(audience, worker);
		free(audience->targets[worker]);
	}
}

static bool
add_watcher(void *ctx, uint64_t other, uint32_t flags)
{
	struct audience *audience = ctx;
	struct presence watcher;
	int rc;

	if (!contact_is_watched_by(flags))
		return true;
	rc = presence_get(&audience->keeper->presence_txn, other, &watcher);
	if (rc == 0)
		audience_add(audience, other, watcher.workers);
	else if (rc != ERR_NOT_FOUND)
		audience->rc = rc;
	return audience->rc == 0;
}

static int
announce(
    struct keeper *keeper, uint64_t subject, const struct presence *presence)
{
	struct audience audience = {
	    .keeper = keeper,
	    .presence = presence,
	    .subject = subject,
	};
	int rc;

	rc = contact_each(&keeper->txn, subject, 0, add_watcher, &audience);
	if (rc == 0)
		rc = audience.rc;
	audience_fini(&audience);
	return rc;
}

/* What others are told of a user is in his row, under a version of its own:
 * shm/presence.h. */
static int
put_news(struct keeper *keeper, uint64_t user, struct presence *presence)
{
	presence->version =
	    presence_version(&keeper->presence_txn, keeper->batch.told++);
	return presence_put(&keeper->presence_txn, user, presence);
}

int
announce_to(
    struct keeper *keeper, uint64_t watcher, uint64_t subject, bool is_hidden)
{
	struct presence seen = {.status = STATUS_OFFLINE};
	struct audience audience = {
	    .keeper = keeper,
	    .presence = &seen,
	    .subject = subject,
	};
	struct presence row;
	int rc;

	if (!is_hidden) {
		rc = presence_get(&keeper->presence_txn, subject, &seen);
		if (rc == 0)
			rc = put_news(keeper, subject, &seen);
		if (rc != 0 && rc != ERR_NOT_FOUND)
			return rc;
	}
	rc = presence_get(&keeper->presence_txn, watcher, &row);
	if (rc == 0)
		audience_add(&audience, watcher, row.workers);
	audience_fini(&audience);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- end of the batch ---- */

static int
note_status(
    struct keeper *keeper, uint64_t user, const struct presence *presence)
{
	const struct outbox_entry entry = {
	    .kind = OUTBOX_STATUS,
	    .user = user,
	    .status = presence->status,
	    .text = {presence->text, presence->text_len},
	};

	return keeper_outbox_put(keeper, &entry);
}

static int
compare_dirty(const void *a, const void *b)
{
	const struct dirty_user *x = a;
	const struct dirty_user *y = b;

	return x->user < y->user ? -1 : x->user > y->user;
}

/* One entry per user, forced if any of them was. */
static void
dirty_unite(struct batch *batch)
{
	size_t kept = 0;

	qsort(batch->dirty, batch->dirty_count, sizeof(*batch->dirty),
	    compare_dirty);
	for (size_t i = 0; i < batch->dirty_count; i++) {
		if (kept > 0 &&
		    batch->dirty[kept - 1].user == batch->dirty[i].user)
			batch->dirty[kept - 1].is_forced |=
			    batch->dirty[i].is_forced;
		else
			batch->dirty[kept++] = batch->dirty[i];
	}
	batch->dirty_count = kept;
}

/* As others may see it now, without regard to what they were told. */
static int
presence_compute(struct keeper *keeper, const struct userhead *head,
    struct look told, struct presence *presence)
{
	bool is_gone; /* for good, until the next login */
	int rc;

	presence->workers = route_workers(keeper, head);
	presence->last_seen_ms = head->row.last_seen_ms;
	presence->status = announce_status(keeper, head);
	is_gone = presence->workers == 0 && head->row.grace_at_ms == 0 &&
		  !has_unended(keeper, head);
	if (presence->workers == 0 && !is_gone)
		presence->status = told.status;
	if (is_gone)
		presence->text_len = 0;
	rc = calls_is_in(keeper, head->user, &presence->is_in_call);
	/* Nor does one who hides. */
	if (presence->status == STATUS_OFFLINE)
		presence->is_in_call = false;
	return rc;
}

/* In the row as others see it; what they are told is under a version. */
static int
presence_keep(struct keeper *keeper, struct userhead *head,
    struct presence *presence, bool is_news)
{
	struct look told = told_look(keeper, head);
	int rc;

	rc = is_news
		 ? put_news(keeper, head->user, presence)
		 : presence_put(&keeper->presence_txn, head->user, presence);
	if (rc != 0 || is_same_look(look_of(presence), told))
		return rc;
	head->row.told = (uint8_t)presence->status;
	head->row.told_in_call = presence->is_in_call;
	head->row.boot = keeper->boot;
	return userhead_put(&keeper->txn, head);
}

/*
 * Bring the presence row up to date. While the grace runs, and while others
 * were told of the user a moment ago (hush.c), they go on seeing what they saw.
 */
static int
presence_refresh(struct keeper *keeper, const struct dirty_user *dirty,
    struct presence *presence, bool *is_news_out)
{
	struct look told;
	struct look stored;
	struct userhead head;
	bool is_held = false;
	int rc;

	rc = userhead_get(&keeper->txn, dirty->user, &head);
	if (rc != 0)
		return rc;
	rc = presence_get(&keeper->presence_txn, dirty->user, presence);
	if (rc == ERR_NOT_FOUND)
		*presence = (struct presence){0};
	else if (rc != 0)
		return rc;
	told = told_look(keeper, &head);
	stored = look_of(presence);
	rc = presence_compute(keeper, &head, told, presence);
	if (rc != 0)
		return rc;
	*is_news_out = !is_same_look(look_of(presence), told) ||
		       (dirty->is_forced && presence->status != STATUS_OFFLINE);
	if (*is_news_out)
		rc = hush_ask(keeper, dirty->user, dirty->is_forced, &is_held);
	if (rc != 0)
		return rc;
	if (is_held) {
		presence->status = told.status;
		presence->is_in_call = told.is_in_call;
		*is_news_out = false;
	}
	/* A row that is ahead of what was told is of a batch that was undone
	 * here, and its snapshot was there to be read: it keeps its version. */
	return presence_keep(keeper, &head, presence,
	    *is_news_out &&
		(!is_same_look(stored, look_of(presence)) || dirty->is_forced));
}

int
announce_dirty(struct keeper *keeper)
{
	struct batch *batch = &keeper->batch;
	struct presence presence;
	bool is_news;
	int rc;

	if (batch->dirty_count == 0)
		return 0;
	dirty_unite(batch);
	/* Rows first: two who log in together tell each other. */
	for (size_t i = 0; i < batch->dirty_count; i++) {
		rc = presence_refresh(
		    keeper, &batch->dirty[i], &presence, &is_news);
		if (keeper_is_lost(keeper, rc))
			is_news = false; /* removed in this batch */
		else if (rc != 0)
			return rc;
		if (!is_news)
			batch->dirty[i].user = 0;
	}
	for (size_t i = 0; i < batch->dirty_count; i++) {
		if (batch->dirty[i].user == 0)
			continue;
		rc = presence_get(
		    &keeper->presence_txn, batch->dirty[i].user, &presence);
		if (rc == 0)
			rc = announce(keeper, batch->dirty[i].user, &presence);
		if (rc == 0)
			rc = note_status(
			    keeper, batch->dirty[i].user, &presence);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- sessions of dead workers ---- */

struct stale_session {
	uint32_t generation;
	uint64_t user;
	uint64_t session;
};

struct stale_list {
	struct stale_session sessions[STALE_PER_BATCH];
	size_t count;
};

static bool
collect_stale(void *ctx, uint32_t generation, uint64_t user, uint64_t session)
{
	struct stale_list *list = ctx;

	list->sessions[list->count++] =
	    (struct stale_session){generation, user, session};
	return list->count < STALE_PER_BATCH;
}

static int
stale_end_one(
    struct keeper *keeper, int slot, const struct stale_session *stale)
{
	struct userhead_device *device;
	struct userhead head;
	int rc;

	rc = presence_session_delete(&keeper->presence_txn, slot,
	    stale->generation, stale->user, stale->session);
	if (rc != 0)
		return rc;
	rc = userhead_get(&keeper->txn, stale->user, &head);
	if (rc != 0)
		return keeper_is_lost(keeper, rc) ? 0 : rc;
	device = userhead_find_session(&head, stale->session);
	if (device == NULL || device->worker != slot ||
	    device->worker_gen != stale->generation)
		return 0; /* replaced or adopted since */
	rc = keeper_session_close(keeper, &head, device);
	return rc == 0 ? userhead_put(&keeper->txn, &head) : rc;
}

/*
 * A successor may still take its predecessor's sessions over, and says so when
 * it has (HELLO). One that does not come is waited for longer than the holder
 * keeps the sockets (holder.c): a session that is adopted after it was ended
 * would be told that another one has replaced it. One that starts is waited
 * for as long as it does, by the holder as well.
 *
 * @param keep_out  the generation that has the slot's sessions now; 0: none
 */
static bool
may_be_adopted(struct keeper *keeper, int worker, uint32_t *keep_out)
{
	const struct board_slot *slot =
	    board_slot(keeper->board, SLOT_WORKER_0 + worker);
	/* before the state: the supervisor changes them the other way round */
	uint32_t generation = atomic_load(&slot->generation);
	bool is_starting = atomic_load(&slot->state) == PROCESS_STARTING;
	bool is_alive = keeper_slot_is_alive(keeper, SLOT_WORKER_0 + worker);
	struct ungreeted *ungreeted = &keeper->ungreeted[worker];
	int64_t now_ms = clock_mono_ms();

	*keep_out = is_alive ? generation : 0;
	if (is_alive && atomic_load(&slot->greeted) == generation) {
		ungreeted->since_ms = 0;
		return false;
	}
	if (ungreeted->since_ms == 0 || is_starting ||
	    ungreeted->generation != generation)
		*ungreeted = (struct ungreeted){now_ms, generation};
	return now_ms < ungreeted->since_ms + ADOPT_PATIENCE_MS;
}

int
stale_sessions_end(struct keeper *keeper)
{
	struct stale_list list = {.count = 0};
	int worker;
	int slot;
	uint32_t keep;
	int rc;

	if (keeper->stale_slots == 0)
		return 0;
	worker = __builtin_ctzll(keeper->stale_slots);
	slot = SLOT_WORKER_0 + worker;
	if (may_be_adopted(keeper, worker, &keep)) {
		/* looked at again in a second, or when it says hello */
		keeper->stale_slots &= ~(1ULL << worker);
		return 0;
	}
	rc = presence_each_stale(
	    &keeper->presence_txn, slot, keep, collect_stale, &list);
	/* What the worker had submitted still counts, however long its ring
	 * was for this batch. */
	if (rc == 0 && list.count > 0) {
		keeper_drain_slot(keeper, slot);
		rc = keeper->txn.rc;
	}
	for (size_t i = 0; rc == 0 && i < list.count; i++)
		rc = stale_end_one(keeper, slot, &list.sessions[i]);
	if (rc == 0 && list.count < STALE_PER_BATCH)
		keeper->stale_slots &= ~(1ULL << worker);
	if (list.count > 0)
		keeper->batch.has_work = true;
	return rc;
}

void
stale_sessions_look(struct keeper *keeper)
{
	/* A walk that finds nothing costs one look-up per worker. */
	for (int n = 0; n < bus_worker_count(keeper->bus); n++)
		keeper->stale_slots |= 1ULL << n;
}
