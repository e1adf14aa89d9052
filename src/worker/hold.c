/*
 * hold.c - the connections that may outlive this worker.
 *
 * Role:    a row in shared memory for each session that is logged in, with a
 *          mark that is right at any instruction; its socket for the holder.
 * Process: worker.
 * Blocks:  never. What the holder has no room for waits for the next turn.
 * Trust:   writes shared memory, reads none of it.
 * See:     shm/hold.h, adopt.c (the successor), src/holder,
 *          doc/decisions/010-connections-outlive-workers.md, t/69-hold.t.
 *
 * A row is marked busy before a byte is taken from the socket or given to it,
 * and settled after the turn in which nothing of the connection is here alone:
 * its requests are in the ring and answered, its output is out. Killed in
 * between, the client is told to come back; killed at any other time, it
 * notices nothing.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/board.h"
#include "worker/worker_priv.h"

/* Messages to the holder in one turn, HOLD_ITEMS_MAX each. */
#define MESSAGES_PER_TURN 4

/* ---- queues ---- */

struct hold_item *
hold_queue_add(struct hold_queue *queue)
{
	if (queue->end == queue->cap) {
		queue->cap = queue->cap == 0 ? 64 : 2 * queue->cap;
		queue->items =
		    xrealloc(queue->items, queue->cap * sizeof(*queue->items));
	}
	return &queue->items[queue->end++];
}

static void
queue_fini(struct hold_queue *queue)
{
	free(queue->items);
	*queue = (struct hold_queue){0};
}

static void
queue_take(struct hold_queue *queue, size_t count)
{
	queue->first += count;
	if (queue->first == queue->end)
		queue_fini(queue);
}

/* ---- rows ---- */

static struct hold_row *
row_of(const struct session *session)
{
	return &session->worker->holding.rows[session->hold_row];
}

static struct hold_item
item_of(const struct session *session)
{
	return (struct hold_item){session->hold_row, row_of(session)->serial};
}

static void
set_mark(struct hold_row *row, enum hold_mark mark)
{
	atomic_store(&row->mark, (uint32_t)mark);
}

static bool
take_row(struct holding *holding, uint32_t *row_out)
{
	if (holding->free_count > 0) {
		*row_out = holding->free_rows[--holding->free_count];
		return true;
	}
	if (holding->used == HOLD_ROWS_MAX)
		return false;
	*row_out = holding->used++;
	atomic_store(hold_rows_used(holding->hold), holding->used);
	return true;
}

static void
give_row(struct holding *holding, uint32_t row)
{
	if (holding->free_count == holding->free_cap) {
		holding->free_cap =
		    holding->free_cap == 0 ? 64 : 2 * holding->free_cap;
		holding->free_rows = xrealloc(holding->free_rows,
		    holding->free_cap * sizeof(*holding->free_rows));
	}
	holding->free_rows[holding->free_count++] = row;
}

static void
enter_session(struct session *session, uint32_t row)
{
	struct holding *holding = &session->worker->holding;

	if (row >= holding->session_cap) {
		uint32_t cap = holding->session_cap == 0 ? 64 : 1;

		while (cap <= row)
			cap *= 2;
		holding->sessions = xrealloc(
		    holding->sessions, cap * sizeof(*holding->sessions));
		memset(holding->sessions + holding->session_cap, 0,
		    (cap - holding->session_cap) * sizeof(*holding->sessions));
		holding->session_cap = cap;
	}
	holding->sessions[row] = session;
	holding->count++;
	session->is_held = true;
	session->hold_row = row;
}

static struct session *
session_at(const struct holding *holding, uint32_t row)
{
	return row < holding->session_cap ? holding->sessions[row] : NULL;
}

/* What does not change while it lives. */
static void
fill_row(struct hold_row *row, const struct session *session, uint64_t cookie)
{
	struct hold_session *state = &row->session;
	struct ws_carry carry;

	ws_conn_carry(session->conn, &carry);
	*state = (struct hold_session){
	    .cookie = cookie,
	    .user = session->user,
	    .session = session->id,
	    .peer_port = carry.port,
	    .peer_family = carry.family,
	    .deflate_bits = carry.deflate_bits,
	    .ping_interval_ms =
		(uint32_t)session->worker->conf->server_ping_interval,
	};
	memcpy(state->peer_address, carry.address, sizeof(carry.address));
}

void
hold_begin(struct session *session)
{
	struct holding *holding = &session->worker->holding;
	uint64_t cookie;
	socklen_t len = sizeof(cookie);
	struct hold_row *row;
	uint32_t number;

	if (holding->hold == NULL || session->state != SESSION_READY ||
	    !ws_conn_may_move(session->conn) ||
	    getsockopt(ws_conn_fd(session->conn), SOL_SOCKET, SO_COOKIE,
		&cookie, &len) != 0 ||
	    !take_row(holding, &number))
		return;
	row = &holding->rows[number];
	set_mark(row, HOLD_BUSY);
	if (++row->serial == 0)
		row->serial = 1;
	fill_row(row, session, cookie);
	enter_session(session, number);
	*hold_queue_add(&holding->puts) = item_of(session);
	ws_conn_share(session->conn);
	GAUGE_SET(movable_connections, holding->count);
}

void
hold_keep(struct session *session, uint32_t row)
{
	enter_session(session, row);
	session->is_put = true;
	session->was_put = true;
	GAUGE_SET(movable_connections, session->worker->holding.count);
}

void
hold_drop(struct worker *worker, struct hold_item item)
{
	set_mark(&worker->holding.rows[item.row], HOLD_FREE);
	*hold_queue_add(&worker->holding.drops) = item;
}

void
hold_leave(struct session *session)
{
	struct holding *holding = &session->worker->holding;

	holding->sessions[session->hold_row] = NULL;
	holding->count--;
	session->is_held = false;
	GAUGE_SET(movable_connections, holding->count);
}

void
hold_end(struct session *session)
{
	if (!session->is_held)
		return;
	if (session->was_put) {
		hold_drop(session->worker, item_of(session));
	} else {
		/* what stands in `puts` is passed over */
		set_mark(row_of(session), HOLD_FREE);
		give_row(&session->worker->holding, session->hold_row);
	}
	hold_leave(session);
}

/* ---- marks ---- */

void
hold_motion(struct session *session, enum ws_motion motion)
{
	struct hold_row *row;

	if (!session->is_held)
		return;
	row = row_of(session);
	switch (motion) {
	case WS_MOTION_INPUT:
		/* half a frame that is out stays half a frame */
		if (atomic_load(&row->mark) == HOLD_SETTLED)
			set_mark(row, HOLD_BUSY);
		break;
	case WS_MOTION_OUTPUT:
		set_mark(row, HOLD_WRITING);
		break;
	case WS_MOTION_WRITTEN:
		set_mark(row, HOLD_BUSY);
		break;
	}
}

/*
 * An acknowledgement that is not in the ring yet is no matter: who adopts the
 * session says it again. Nor is a client that has to wait because it sent too
 * much, unless some of that was read: a successor begins with a full bucket.
 */
static bool
is_at_boundary(const struct session *session)
{
	return session->state == SESSION_READY && session->pending == 0 &&
	       STAILQ_EMPTY(&session->held) && !session->is_stalled &&
	       session->early.len == 0 && session->logout_at_ms == 0 &&
	       (session->pauses & ~(PAUSE_STOP | PAUSE_RATE)) == 0 &&
	       /* more is in a row only after a gap, see backlog_done */
	       session->sent - session->acked <= UINT32_MAX &&
	       session->sent - session->last_event <= UINT32_MAX &&
	       ws_conn_is_whole(session->conn);
}

/* A successor tells what is above. */
static uint64_t
presence_upto(const struct session *session)
{
	uint64_t seen = session->worker->presence_seen;

	if (session->is_presence_due || session->is_presence_reading ||
	    session->presence_upto > seen)
		return session->presence_upto;
	return seen;
}

void
hold_settle(struct session *session)
{
	struct hold_session *state;
	struct hold_row *row;

	if (!session->is_held || !is_at_boundary(session))
		return;
	row = row_of(session);
	state = &row->session;
	set_mark(row, HOLD_BUSY); /* killed in here, it is not half of each */
	state->sent = session->sent;
	state->unacked = (uint32_t)(session->sent - session->acked);
	state->window_back = (uint32_t)(session->sent - session->window_base);
	state->event_back = (uint32_t)(session->sent - session->last_event);
	state->presence_upto = presence_upto(session);
	state->key_id = session->key_id;
	state->expires_at_ms = session->expires_at_ms;
	state->away_at_ms = session->away_at_ms;
	state->status = session->status;
	state->is_auto_away = session->is_auto_away;
	hold_row_seal(row);
	set_mark(row, HOLD_SETTLED);
}

bool
hold_is_ready(const struct session *session)
{
	return session->is_held && session->is_put &&
	       session->state == SESSION_READY &&
	       atomic_load(&row_of(session)->mark) == HOLD_SETTLED;
}

/* ---- the holder ---- */

uint32_t
hold_holder(const struct worker *worker)
{
	int slot = worker->process->slot - SLOT_WORKER_0 + SLOT_HOLDER_0;

	return atomic_load(&board_slot(bus_board(worker->bus), slot)->up);
}

/* A new holder has nothing. */
static void
look_at_holder(struct worker *worker)
{
	struct holding *holding = &worker->holding;
	uint32_t up = hold_holder(worker);

	if (up == holding->holder_seen || worker->adoption.is_on)
		return;
	holding->holder_seen = up;
	for (uint32_t row = 0; row < holding->session_cap; row++) {
		struct session *session = holding->sessions[row];

		if (session == NULL || !session->is_put)
			continue;
		session->is_put = false;
		*hold_queue_add(&holding->puts) = item_of(session);
	}
}

bool
hold_has(const struct worker *worker, struct hold_item item)
{
	const struct holding *holding = &worker->holding;

	return session_at(holding, item.row) != NULL &&
	       holding->rows[item.row].serial == item.serial;
}

static struct session *
session_to_put(const struct holding *holding, const struct hold_item *item)
{
	struct session *session = session_at(holding, item->row);

	if (session == NULL || session->is_put ||
	    holding->rows[item->row].serial != item->serial)
		return NULL; /* it has ended since */
	return session;
}

/* @return false: no more in this turn */
static bool
send_puts(struct worker *worker)
{
	struct holding *holding = &worker->holding;
	struct hold_queue *puts = &holding->puts;
	struct hold_message message = {.type = HOLD_PUT};
	struct session *sessions[HOLD_ITEMS_MAX];
	int fds[HOLD_ITEMS_MAX];
	size_t taken = 0;
	int rc = 0;

	for (;
	     puts->first + taken < puts->end && message.count < HOLD_ITEMS_MAX;
	     taken++) {
		const struct hold_item *item =
		    &puts->items[puts->first + taken];
		struct session *session = session_to_put(holding, item);

		if (session == NULL)
			continue;
		sessions[message.count] = session;
		fds[message.count] = ws_conn_fd(session->conn);
		message.items[message.count++] = *item;
	}
	if (message.count > 0)
		rc = hold_send(hold_fd(holding->hold), &message, fds);
	if (rc != 0)
		return false;
	for (uint32_t i = 0; i < message.count; i++) {
		sessions[i]->is_put = true;
		sessions[i]->was_put = true;
	}
	queue_take(puts, taken);
	return puts->items != NULL;
}

/* Before the puts: a row is used again only when it was dropped. */
static bool
send_drops(struct worker *worker)
{
	struct holding *holding = &worker->holding;
	struct hold_queue *drops = &holding->drops;
	struct hold_message message = {.type = HOLD_DROP};

	while (drops->first + message.count < drops->end &&
	       message.count < HOLD_ITEMS_MAX) {
		message.items[message.count] =
		    drops->items[drops->first + message.count];
		message.count++;
	}
	if (message.count == 0 ||
	    hold_send(hold_fd(holding->hold), &message, NULL) != 0)
		return false;
	for (uint32_t i = 0; i < message.count; i++)
		give_row(holding, message.items[i].row);
	queue_take(drops, message.count);
	return drops->items != NULL;
}

void
hold_flush(struct worker *worker)
{
	struct holding *holding = &worker->holding;
	int left = MESSAGES_PER_TURN;

	if (holding->hold == NULL)
		return;
	look_at_holder(worker);
	while (left > 0 && holding->drops.items != NULL) {
		left--;
		if (!send_drops(worker))
			break;
	}
	while (left > 0 && holding->puts.items != NULL) {
		left--;
		if (!send_puts(worker))
			break;
	}
}

bool
hold_is_behind(const struct worker *worker)
{
	return worker->holding.puts.items != NULL ||
	       worker->holding.drops.items != NULL;
}

/* ---- life ---- */

void
hold_init(struct worker *worker)
{
	struct holding *holding = &worker->holding;
	uint32_t used;

	holding->hold = worker->process->hold;
	if (holding->hold == NULL)
		return;
	/* What it has is what a predecessor has given it; should it die before
	 * it has given all of that to us, its successor gets the rest. */
	holding->holder_seen = hold_holder(worker);
	holding->rows = hold_rows(holding->hold);
	used = atomic_load(hold_rows_used(holding->hold));
	holding->used = used < HOLD_ROWS_MAX ? used : HOLD_ROWS_MAX;
}

void
hold_free_rest(struct worker *worker, const bool *is_given, uint32_t count)
{
	struct holding *holding = &worker->holding;

	for (uint32_t row = count; row-- > 0;) {
		if (is_given[row])
			continue;
		set_mark(&holding->rows[row], HOLD_FREE);
		give_row(holding, row);
	}
}

void
hold_fini(struct worker *worker)
{
	struct holding *holding = &worker->holding;

	queue_fini(&holding->puts);
	queue_fini(&holding->drops);
	free(holding->sessions);
	free(holding->free_rows);
	*holding = (struct holding){0};
}
