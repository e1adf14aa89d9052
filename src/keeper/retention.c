/*
 * retention.c - what has grown old leaves the store.
 *
 * Role:    notes which ids there were by when, decides how far the log is to
 *          be deleted from its front, and does so, a slice with each batch.
 * Process: keeper.
 * Blocks:  on cold pages of the disk.
 * Trust:   a damaged message goes as any other, when its turn has come; a state
 *          that cannot be read begins anew, with nothing allowed.
 * See:     retention_inbox.c, doc/decisions/021, t/unit/keeper_retention.c,
 *          t/64-retention.t, t/bench/churn.
 */
#include "keeper/retention.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "keeper/retention_priv.h"
#include "shm/ages.h"
#include "shm/call.h"
#include "shm/conv.h"
#include "shm/log.h"
#include "shm/roll.h"
#include "shm/sent.h"

/* A slice beside messages deletes twice as many as came, so that the store does
 * not grow; without company it may do more, and then rests (REST_MS). */
#define SLICE_US        1000
#define SLICE_ROWS_MIN  64
#define SLICE_ROWS_IDLE 1024
#define REST_MS         5
#define LOOK_MS         1000
#define TELL_MS         3600000
#define FORGET_ROWS     64

#define STEPS       64 /* of the shortest retention */
#define STEP_MIN_MS 100
#define STEP_MAX_MS 3600000

/* The shortest and the longest of all retentions. */
static void
find_extremes(
    const struct conf *conf, int64_t *shortest_out, int64_t *longest_out)
{
	const int64_t all[] = {conf->store_call_retention,
	    conf->store_device_retention, conf->store_history_retention,
	    conf->store_inbox_retention};

	*shortest_out = INT64_MAX;
	*longest_out = 0;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i] < *shortest_out)
			*shortest_out = all[i];
		if (all[i] > *longest_out)
			*longest_out = all[i];
	}
}

int64_t
retention_step_ms(const struct conf *conf)
{
	int64_t longest_ms;
	int64_t ms;

	find_extremes(conf, &ms, &longest_ms);
	ms /= STEPS;
	if (ms < STEP_MIN_MS)
		return STEP_MIN_MS;
	return ms > STEP_MAX_MS ? STEP_MAX_MS : ms;
}

/* ---- where it stands ---- */

int
retention_open(struct keeper *keeper)
{
	struct retention *retention = xcalloc(1, sizeof(*retention));
	struct retention_state *state = &retention->committed;
	int rc;

	keeper->retention = retention;
	rc = meta_retention_get(&keeper->txn, &state->meta);
	if (rc == ERR_CORRUPT && keeper->txn.rc == 0) {
		log_error(NULL, "store-corrupt", "dbi=meta key=retention");
		rc = ERR_NOT_FOUND;
	}
	if (rc == ERR_NOT_FOUND) {
		state->meta = (struct meta_retention){0};
		rc = 0;
	}
	state->stored = state->meta;
	if (rc == 0)
		rc = ages_last(&keeper->txn, &state->noted_ms);
	if (rc == 0)
		rc = ages_upto(&keeper->txn, state->noted_ms, &state->noted_id);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

void
retention_close(struct keeper *keeper)
{
	free(keeper->retention);
	keeper->retention = NULL;
}

void
retention_begin(struct keeper *keeper)
{
	struct retention *retention = keeper->retention;

	retention->state = retention->committed;
}

static void
tell(struct retention *retention)
{
	int64_t now_ms = clock_mono_ms();

	if (now_ms < retention->tell_at_ms ||
	    (retention->events == 0 && retention->messages == 0 &&
		retention->calls == 0))
		return;
	if (retention->early > 0)
		log_warn(NULL, "history-early",
		    "messages=%llu; they were younger than history_retention, "
		    "[store] history_max_bytes was reached",
		    (unsigned long long)retention->early);
	log_info(NULL, "retention", "events=%llu messages=%llu calls=%llu",
	    (unsigned long long)retention->events,
	    (unsigned long long)retention->messages,
	    (unsigned long long)retention->calls);
	retention->events = 0;
	retention->messages = 0;
	retention->early = 0;
	retention->calls = 0;
	retention->tell_at_ms = now_ms + TELL_MS;
}

void
retention_committed(struct keeper *keeper)
{
	struct retention *retention = keeper->retention;
	struct retention_state *state = &retention->state;

	COUNT_ADD(retention_events, state->events);
	COUNT_ADD(retention_messages, state->messages);
	COUNT_ADD(retention_early, state->early);
	COUNT_ADD(retention_calls, state->calls);
	retention->events += state->events;
	retention->messages += state->messages;
	retention->early += state->early;
	retention->calls += state->calls;
	state->events = 0;
	state->messages = 0;
	state->early = 0;
	state->calls = 0;
	retention->committed = *state;
	tell(retention);
}

void
retention_need(struct keeper *keeper, uint64_t ref)
{
	struct meta_retention *meta = &keeper->retention->state.meta;

	if (ref < meta->inbox_floor)
		meta->inbox_floor = ref;
	if (ref < meta->walk_least)
		meta->walk_least = ref;
}

int
retention_wait_ms(const struct keeper *keeper)
{
	return keeper->retention->has_more ? REST_MS : -1;
}

bool
slice_is_over(const struct slice *slice)
{
	return slice->rows == 0 || clock_mono_us() >= slice->until_us;
}

/* ---- which ids there were by when ---- */

static int
note_age(struct keeper *keeper)
{
	struct retention_state *state = &keeper->retention->state;
	const struct conf *conf = keeper->conf;
	int64_t since_ms = keeper->age_ms - state->noted_ms;
	int64_t shortest_ms;
	int64_t longest_ms;
	int rc;

	if (keeper->rings.last_id == state->noted_id ||
	    (since_ms >= 0 && since_ms < retention_step_ms(conf)))
		return 0;
	find_extremes(conf, &shortest_ms, &longest_ms);
	state->noted_ms = keeper->age_ms;
	state->noted_id = keeper->rings.last_id;
	keeper->batch.has_work = true;
	rc = ages_put(&keeper->txn, state->noted_ms, state->noted_id);
	return rc == 0 ? ages_forget(&keeper->txn, keeper->age_ms - longest_ms,
			     FORGET_ROWS)
		       : rc;
}

/* ---- the log ---- */

/* How far it is to be deleted: ids below. */
struct bounds {
	uint64_t old;    /* by age */
	uint64_t wanted; /* ... and by size */
	uint64_t inbox;
	uint64_t outbox;
};

static bool
is_too_large(struct keeper *keeper)
{
	uint64_t max_bytes = (uint64_t)keeper->conf->store_history_max_bytes;

	return max_bytes > 0 &&
	       store_table_bytes(&keeper->txn, DBI_log) > max_bytes;
}

static int
find_bounds(struct keeper *keeper, struct bounds *bounds)
{
	const struct conf *conf = keeper->conf;
	int rc;

	rc = ages_upto(&keeper->txn,
	    keeper->age_ms - conf->store_history_retention, &bounds->old);
	if (rc != 0)
		return rc;
	bounds->old++;
	bounds->wanted = bounds->old;
	bounds->inbox = keeper->retention->state.meta.inbox_floor;
	if (is_too_large(keeper))
		bounds->wanted = UINT64_MAX;
	rc = outbox_floor(&keeper->txn, &bounds->outbox);
	if (rc == ERR_NOT_FOUND)
		bounds->outbox = UINT64_MAX;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* A retry of it is to be known for as long as its device is. */
static int
keep_send(struct keeper *keeper, const struct log_message *message)
{
	struct userhead head;
	int rc;

	rc = userhead_get(&keeper->txn, message->sender, &head);
	if (keeper_is_lost(keeper, rc))
		return 0;
	for (int i = 0; rc == 0 && i < head.row.device_count; i++) {
		if (head.devices[i].number == message->sender_device)
			return sent_keep(&keeper->txn, keeper->meta.secret,
			    head.user, &head.devices[i], message->id);
	}
	return rc;
}

/* What was said in a call goes with the last of it that is there: the call, or
 * a message. Who cannot be read keeps nothing else from going. */
static int
forget_call(struct keeper *keeper, uint64_t call, uint64_t upto)
{
	int rc = roll_forget_call(&keeper->txn, call, upto);

	return rc == ERR_CORRUPT ? keeper->txn.rc : rc;
}

static int
let_go(struct keeper *keeper, uint64_t id)
{
	struct log_message message;
	int rc;

	rc = log_get(&keeper->txn, id, &message);
	if (rc == ERR_CORRUPT && keeper->txn.rc == 0)
		return 0; /* nobody knows whose it was */
	if (rc != 0 || message.kind != LOG_MESSAGE)
		return rc;
	rc = conv_forget_message(&keeper->txn, &message);
	if (rc == 0 && conv_key_kind(&message.conv) == CONV_COLLABORATION)
		rc = forget_call(keeper, conv_key_id(&message.conv), id);
	return rc == 0 ? keep_send(keeper, &message) : rc;
}

static int
delete_below(
    struct keeper *keeper, uint64_t bound, uint64_t old, struct slice *slice)
{
	struct retention_state *state = &keeper->retention->state;
	struct walk walk;
	uint64_t id;
	int rc;

	rc = walk_begin(&walk, &keeper->txn, DBI_log, NULL, 0);
	while (rc == 0 && !slice_is_over(slice)) {
		memcpy(&id, walk.key.data, sizeof(id));
		if (id >= bound || (id >= old && !is_too_large(keeper)))
			break;
		rc = let_go(keeper, id);
		if (rc == 0)
			rc = walk_delete(&walk);
		if (rc != 0)
			break;
		keeper->batch.has_work = true;
		state->messages++;
		state->early += id >= old;
		slice->rows--;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static enum retention_held
why_held(const struct bounds *bounds, uint64_t oldest)
{
	if (oldest >= bounds->wanted)
		return HELD_NOT;
	if (oldest >= bounds->outbox)
		return HELD_OUTBOX;
	return oldest >= bounds->inbox ? HELD_INBOX : HELD_TURN;
}

static int
retention_log(struct keeper *keeper, struct slice *slice)
{
	struct retention *retention = keeper->retention;
	struct bounds bounds;
	uint64_t bound;
	uint64_t oldest;
	int rc;

	rc = find_bounds(keeper, &bounds);
	if (rc != 0)
		return rc;
	bound = bounds.wanted;
	if (bounds.inbox < bound)
		bound = bounds.inbox;
	if (bounds.outbox < bound)
		bound = bounds.outbox;
	rc = delete_below(keeper, bound, bounds.old, slice);
	if (rc == 0)
		rc = log_oldest(&keeper->txn, &oldest);
	retention->held = rc == 0 ? why_held(&bounds, oldest) : HELD_NOT;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- calls ---- */

static int
next_call(struct txn *txn, uint64_t from, uint64_t *id_out)
{
	struct walk walk;
	int rc = walk_begin(&walk, txn, DBI_calls, &from, sizeof(from));

	if (rc == 0)
		memcpy(id_out, walk.key.data, sizeof(*id_out));
	walk_end(&walk);
	return rc;
}

/* One that goes on, or of whose end somebody is still to be told, or that is
 * damaged, stays and keeps no other from going. */
static int
let_call_go(struct keeper *keeper, uint64_t id)
{
	uint64_t oldest = UINT64_MAX;
	struct call call;
	int rc = call_get(&keeper->txn, id, &call);

	if (rc == ERR_CORRUPT ||
	    (rc == 0 && (call.row.state != CALL_ENDED || call.row.due_ms != 0)))
		return keeper->txn.rc;
	if (rc == 0)
		rc = call_delete(&keeper->txn, &call);
	if (rc == 0)
		rc = log_oldest(&keeper->txn, &oldest);
	if (rc == ERR_NOT_FOUND)
		rc = 0; /* no message of anybody's */
	if (rc == 0)
		rc = forget_call(keeper, id, oldest - 1);
	keeper->batch.has_work = true;
	keeper->retention->state.calls++;
	return rc;
}

static int
retention_calls(struct keeper *keeper, struct slice *slice)
{
	struct retention *retention = keeper->retention;
	uint64_t old_id;
	uint64_t id = 0;
	int rc;

	rc = ages_upto(&keeper->txn,
	    keeper->age_ms - keeper->conf->store_call_retention, &old_id);
	retention->has_more_calls = false;
	for (uint64_t from = 1; rc == 0 && from <= old_id; from = id + 1) {
		retention->has_more_calls = slice_is_over(slice);
		if (retention->has_more_calls)
			break;
		rc = next_call(&keeper->txn, from, &id);
		if (rc == 0 && id > old_id)
			break;
		if (rc == 0)
			rc = let_call_go(keeper, id);
		slice->rows--;
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* ---- a slice ---- */

static int
run(struct keeper *keeper)
{
	struct retention *retention = keeper->retention;
	unsigned messages = keeper->batch.messages;
	size_t rows =
	    messages == 0 ? SLICE_ROWS_IDLE : SLICE_ROWS_MIN + 2 * messages;
	int64_t now_us = clock_mono_us();
	/* Each has a part of its own: neither waits for the other. */
	struct slice inboxes = {now_us + SLICE_US / 2, rows};
	struct slice calls = {now_us + SLICE_US * 3 / 4, rows};
	struct slice log = {now_us + SLICE_US, rows};
	int rc;

	rc = retention_inboxes(keeper, &inboxes);
	if (rc == 0)
		rc = retention_calls(keeper, &calls);
	if (rc == 0)
		rc = retention_log(keeper, &log);
	if (rc == 0)
		rc = note_age(keeper);
	retention->has_more = retention->state.meta.walk_user != 0 ||
			      retention->held == HELD_TURN ||
			      retention->has_more_calls;
	MEASURE_US(retention_us, (uint64_t)(clock_mono_us() - now_us));
	return rc;
}

/* With a batch that has work, or the next one that has: an event that needs an
 * old message must not be forgotten (retention_need). */
int
retention_save(struct keeper *keeper)
{
	struct retention_state *state = &keeper->retention->state;

	if (!keeper->batch.has_work ||
	    memcmp(&state->meta, &state->stored, sizeof(state->meta)) == 0)
		return 0;
	state->stored = state->meta;
	return meta_retention_put(&keeper->txn, &state->meta);
}

int
retention_run(struct keeper *keeper)
{
	struct retention *retention = keeper->retention;
	int64_t step_ms = retention_step_ms(keeper->conf);
	int64_t now_ms = clock_mono_ms();

	/* A batch that is done again for its records has enough to do. */
	if (keeper->culprit_count > 0 || keeper->is_in_pieces)
		return 0;
	if (!retention->has_more && now_ms < retention->look_at_ms)
		return 0;
	retention->look_at_ms =
	    now_ms + (step_ms < LOOK_MS ? step_ms : LOOK_MS);
	return run(keeper);
}

static const char *const held_names[HELD_END] = {
    [HELD_NOT] = "nothing",
    [HELD_TURN] = "turn",
    [HELD_INBOX] = "inbox",
    [HELD_OUTBOX] = "outbox",
};

void
retention_look(struct keeper *keeper)
{
	struct retention *retention = keeper->retention;
	int64_t now_ms = clock_wall_ms();
	struct txn txn = {0};
	uint64_t oldest;
	uint64_t age_s = 0;

	if (store_begin_read(keeper->main, &txn) != 0)
		return; /* the next batch says what is wrong */
	if (log_oldest(&txn, &oldest) == 0 &&
	    message_id_time_ms(oldest) < now_ms)
		age_s = (uint64_t)(now_ms - message_id_time_ms(oldest)) / 1000;
	GAUGE_SET(history_bytes, store_table_bytes(&txn, DBI_log));
	txn_end(&txn);
	GAUGE_SET(history_oldest_seconds, age_s);
	GAUGE_SET(retention_held, retention->held);
	if (retention->held == HELD_OUTBOX &&
	    retention->held_told != HELD_OUTBOX)
		log_warn(NULL, "history-held",
		    "by=%s; messages that should go are kept until the "
		    "outbox has them: parleyctl outbox",
		    held_names[retention->held]);
	retention->held_told = retention->held;
}
