/*
 * adopt.c - a worker goes on with the connections of its predecessor.
 *
 * Role:    asks the holder for the sockets, checks each against its row,
 *          makes a session of it and tells the keeper; HELLO comes last.
 * Process: worker, at the start of each generation but the first.
 * Blocks:  never; a slice per turn.
 * Trust:   none in what a predecessor has left, it may have crashed: a row
 *          counts when it was settled, its checksum is right and the socket is
 *          the one that it was written for (SO_COOKIE).
 * See:     shm/hold.h, hold.c, keeper/apply_session.c (ADOPT, HELLO).
 *
 * Whoever was not at a boundary is told 1012, unless half a frame may be out:
 * what would follow it would be read as its other half. After some crashes in
 * a row nobody is gone on with: one of them may be the cause, and would be the
 * next successor's death, too.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/jwt.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/bus.h"
#include "shm/users.h"
#include "worker/worker_priv.h"

#define WAIT_MS           5000 /* for the holder to say that it is all */
#define SESSIONS_PER_TURN 64
#define MESSAGES_PER_CALL 8
/* So many crashes in a row may be the doing of what was adopted. */
#define CRASHES_MAX 3
#define CALM_MS     10000 /* a life without a crash */

/* ---- what the holder gives ---- */

static void
close_all(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (fds[i] != -1)
			close(fds[i]);
	}
}

/* Given to us when we had given up waiting: nobody goes on with them. Those
 * that we have put since are among them. */
static void
end_late(
    struct worker *worker, const struct hold_message *message, const int *fds)
{
	struct hold_message drop = {.type = HOLD_DROP};

	for (uint32_t i = 0; i < message->count; i++) {
		if (hold_has(worker, message->items[i]))
			continue;
		if (fds[i] != -1)
			(void)shutdown(fds[i], SHUT_RDWR);
		drop.items[drop.count++] = message->items[i];
	}
	close_all(fds, message->count);
	/* The rows are free already. Without room the holder keeps a socket
	 * that is shut down until its row is put again. */
	if (drop.count > 0 &&
	    hold_send(hold_fd(worker->holding.hold), &drop, NULL) != 0)
		log_info(NULL, "holder-full", "kept=%u", drop.count);
}

static void
take_given(
    struct worker *worker, const struct hold_message *message, const int *fds)
{
	struct adoption *adoption = &worker->adoption;

	for (uint32_t i = 0; i < message->count; i++) {
		struct hold_item item = message->items[i];

		/* put by ourselves, before the holder came to that; or given
		 * by the holder before this one */
		if (item.row >= adoption->rows ||
		    adoption->is_given[item.row]) {
			close_all(&fds[i], 1);
			continue;
		}
		adoption->is_given[item.row] = true;
		if (fds[i] == -1) { /* no descriptors left: it ends there */
			adoption->ended++;
			hold_drop(worker, item);
			continue;
		}
		*hold_queue_add(&adoption->given) = item;
		if (adoption->given.cap != adoption->fd_cap) {
			adoption->fd_cap = adoption->given.cap;
			adoption->fds = xrealloc(adoption->fds,
			    adoption->fd_cap * sizeof(*adoption->fds));
		}
		adoption->fds[adoption->given.end - 1] = fds[i];
	}
}

void
adopt_receive(struct worker *worker)
{
	struct adoption *adoption = &worker->adoption;
	struct hold_message message;
	int fds[HOLD_ITEMS_MAX];

	for (int i = 0; i < MESSAGES_PER_CALL; i++) {
		int rc =
		    hold_receive(hold_fd(worker->holding.hold), &message, fds);

		if (rc == ERR_CORRUPT)
			continue;
		if (rc != 0)
			return;
		if (message.type != HOLD_GIVE && message.type != HOLD_DONE)
			continue; /* nothing that has descriptors */
		/* A predecessor may have died while it was being given them. */
		if (message.generation != bus_own_generation(worker->bus)) {
			if (message.type == HOLD_GIVE)
				close_all(fds, message.count);
		} else if (!adoption->is_on) {
			if (message.type == HOLD_GIVE)
				end_late(worker, &message, fds);
		} else if (message.type == HOLD_GIVE) {
			take_given(worker, &message, fds);
			adoption->deadline_ms = clock_mono_ms() + WAIT_MS;
		} else {
			adoption->is_done = true;
		}
	}
}

/* ---- one session ---- */

static bool
is_same_socket(int fd, uint64_t cookie)
{
	uint64_t own = 0;
	socklen_t len = sizeof(own);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &own, &len) == 0 &&
	       own == cookie;
}

static bool
is_sane(const struct hold_session *state)
{
	return state->user != 0 && state->user <= USER_ID_MAX &&
	       state->session != 0 && state->unacked <= state->sent &&
	       state->window_back <= state->unacked &&
	       state->event_back <= state->sent && state->status < STATUS_END &&
	       state->deflate_bits <= 15;
}

/* Whose key was taken away by a reload has to show another token; and what a
 * login was told must still hold. */
static bool
is_wanted(const struct worker *worker, const struct hold_session *state)
{
	const struct conf *conf = worker->conf;

	return !worker->adoption.is_refusing && worker->main != NULL &&
	       state->ping_interval_ms == conf->server_ping_interval &&
	       (state->deflate_bits == 0 || conf->server_deflate) &&
	       (state->key_id == 0 || jwt_has_key(worker->jwt, state->key_id));
}

/* 128 bytes in each row would be more than all the rest of it.
 * @return 0, ERR_NOT_FOUND (removed since), the store's error */
static int
find_name(struct worker *worker, uint64_t id, char **name_out, size_t *len_out)
{
	struct user user;
	struct txn txn;
	int rc = store_begin_read(worker->main, &txn);

	if (rc == 0)
		rc = users_get(&txn, id, &user);
	if (rc == 0 && user.name.len > NAME_MAX_BYTES)
		rc = ERR_CORRUPT;
	if (rc == 0) {
		*name_out = xcalloc(1, user.name.len + 1);
		memcpy(*name_out, user.name.data, user.name.len);
		*len_out = user.name.len;
	}
	txn_end(&txn);
	return rc;
}

static struct session *
make_session(struct worker *worker, int take_fd,
    const struct hold_session *state, char *take_name, size_t name_len)
{
	struct ws_carry carry = {
	    .port = state->peer_port,
	    .family = state->peer_family,
	    .deflate_bits = state->deflate_bits,
	};
	struct ws_conn *conn;
	struct session *session;

	memcpy(carry.address, state->peer_address, sizeof(carry.address));
	conn = net_adopt(worker->net, take_fd, &carry);
	ws_conn_share(conn);
	session = session_new(worker, conn);
	if (session == NULL) {
		free(take_name);
		ws_conn_close(conn, 1013, "out of memory, try again later");
		return NULL;
	}
	ws_conn_set_data(conn, session);
	session->user = state->user;
	session->id = state->session;
	session->acked = state->sent - state->unacked;
	session->window_base = state->sent - state->window_back;
	session->sent = state->sent;
	session->last_event = state->sent - state->event_back;
	session->head = state->sent;
	/* What came meanwhile is in the inbox: the keeper says when to look. */
	session->is_head_unknown = true;
	session->presence_upto = state->presence_upto;
	session->is_presence_due = true;
	session->status = state->status;
	/* It may have become away after its row was settled: its next command
	 * says that it is there again. */
	session->is_auto_away =
	    state->is_auto_away != 0 ||
	    (state->away_at_ms != 0 && clock_mono_ms() >= state->away_at_ms);
	session->auth_at_ms = 0;
	session->key_id = state->key_id;
	session->expires_at_ms = state->expires_at_ms;
	session->away_at_ms = state->away_at_ms;
	session->name = take_name;
	session->name_len = (uint8_t)name_len;
	session_index_add(session);
	session_set_state(session, SESSION_READY);
	delivery_watch(session);
	session_arm(session);
	return session;
}

/* It cannot go on: say so where that can be said. */
static void
end_one(struct worker *worker, struct hold_item item, int take_fd,
    enum hold_mark mark)
{
	static const struct ws_carry nothing = {0};
	struct ws_conn *conn;

	worker->adoption.ended++;
	hold_drop(worker, item);
	if (mark == HOLD_BUSY) {
		conn = net_adopt(worker->net, take_fd, &nothing);
		ws_conn_share(conn); /* until the holder has dropped it */
		ws_conn_close(conn, 1012,
		    "the server process was replaced, please reconnect");
		return;
	}
	(void)shutdown(take_fd, SHUT_RDWR);
	close(take_fd);
}

/* @return false: no room in the keeper's ring, again in the next turn */
static bool
adopt_one(struct worker *worker, struct hold_item item, int fd)
{
	const struct hold_row *row = &worker->holding.rows[item.row];
	struct hold_session state;
	enum hold_mark mark = HOLD_WRITING;
	struct record_adopt record;
	struct session *session;
	char *name = NULL;
	size_t name_len = 0;
	int rc = hold_row_read(row, item.serial, &state, &mark);

	if (rc == 0 &&
	    (!is_sane(&state) || !is_same_socket(fd, state.cookie))) {
		rc = ERR_CORRUPT;
		mark = HOLD_WRITING;
	} else if (rc == 0 &&
		   (!is_wanted(worker, &state) ||
		       find_name(worker, state.user, &name, &name_len) != 0)) {
		rc = ERR_STALE;
		mark = HOLD_BUSY;
	}
	if (rc == ERR_CORRUPT)
		log_error(NULL, "row-refused", "row=%u serial=%u", item.row,
		    item.serial);
	if (rc != 0) {
		end_one(worker, item, fd, mark);
		return true;
	}
	record = (struct record_adopt){
	    .user = state.user,
	    .session = state.session,
	    .acked = state.sent - state.unacked,
	};
	if (bus_put(worker->bus, SLOT_KEEPER, RECORD_ADOPT, &record,
		sizeof(record)) != 0) {
		free(name);
		return false;
	}
	session = make_session(worker, fd, &state, name, name_len);
	if (session == NULL) {
		hold_drop(worker, item);
		return true;
	}
	hold_keep(session, item.row);
	worker->adoption.adopted++;
	return true;
}

/* ---- life ---- */

/* Killed is not crashed: the cause was elsewhere. */
static bool
has_predecessor_crashed(const struct worker *worker)
{
	int status = atomic_load(
	    &board_slot(bus_board(worker->bus), worker->process->slot)
		 ->last_status);

	return WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL &&
	       WTERMSIG(status) != SIGTERM;
}

static void
count_crashes(struct worker *worker)
{
	_Atomic uint32_t *crashes = hold_crashes(worker->holding.hold);

	worker->adoption.calm_at_ms = clock_mono_ms() + CALM_MS;
	if (!has_predecessor_crashed(worker))
		return;
	if (atomic_fetch_add(crashes, 1) + 1 < CRASHES_MAX)
		return;
	worker->adoption.is_refusing = true;
}

/* What the predecessor has said may fill the pipe, and the holder be slow: then
 * again in the next turn, also when we have given up waiting. Who is not asked
 * for would hang between a holder that does not read and a worker that does not
 * know of him. */
static void
ask(struct worker *worker)
{
	struct adoption *adoption = &worker->adoption;
	struct hold_message message = {
	    .type = HOLD_TAKE,
	    .generation = bus_own_generation(worker->bus),
	};
	uint32_t holder = hold_holder(worker);
	int rc = hold_send(hold_fd(worker->holding.hold), &message, NULL);

	if (rc == ERR_AGAIN)
		return;
	adoption->is_asked = true;
	adoption->asked_of = holder;
	if (rc == 0)
		return;
	log_error(NULL, "holder-unreachable", "rows=%u", adoption->rows);
	adoption->is_done = true;
}

void
adopt_begin(struct worker *worker)
{
	struct adoption *adoption = &worker->adoption;

	adoption->is_on = true;
	adoption->deadline_ms = clock_mono_ms() + WAIT_MS;
	/* The first generation has nobody before it. */
	if (worker->holding.hold == NULL ||
	    bus_own_generation(worker->bus) == 1) {
		adoption->is_asked = true;
		adoption->is_done = true;
		return;
	}
	count_crashes(worker);
	adoption->rows = worker->holding.used;
	adoption->is_given =
	    xcalloc((size_t)adoption->rows + 1, sizeof(*adoption->is_given));
	ask(worker);
}

/* @return false: no room in the ring */
static bool
say_hello(struct worker *worker)
{
	struct record_hello hello = {
	    .generation = bus_own_generation(worker->bus),
	    .adopted = worker->adoption.adopted,
	};

	return bus_put(worker->bus, SLOT_KEEPER, RECORD_HELLO, &hello,
		   sizeof(hello)) == 0;
}

static void
finish(struct worker *worker)
{
	struct adoption *adoption = &worker->adoption;

	if (!say_hello(worker))
		return;
	if (!adoption->is_done)
		log_error(NULL, "holder-silent", "waited_ms=%d", WAIT_MS);
	if (adoption->adopted > 0 || adoption->ended > 0)
		log_info(NULL, "connections-adopted", "adopted=%llu ended=%llu",
		    (unsigned long long)adoption->adopted,
		    (unsigned long long)adoption->ended);
	if (adoption->is_refusing && adoption->ended > 0)
		log_error(NULL, "adoption-refused",
		    "crashes=%u hint=\"one of the clients may have been "
		    "the cause; all were told to come back\"",
		    atomic_load(hold_crashes(worker->holding.hold)));
	COUNT_ADD(connections_adopted, adoption->adopted);
	hold_free_rest(worker, adoption->is_given, adoption->rows);
	adopt_fini(worker);
	process_up(worker->process);
	log_info(NULL, "worker-ready", "generation=%u",
	    bus_own_generation(worker->bus));
}

void
adopt_step(struct worker *worker)
{
	struct adoption *adoption = &worker->adoption;
	struct hold_queue *given = &adoption->given;

	if (adoption->calm_at_ms != 0 &&
	    clock_turn_ms() >= adoption->calm_at_ms) {
		adoption->calm_at_ms = 0;
		atomic_store(hold_crashes(worker->holding.hold), 0);
	}
	/* one that has died may have heard it and given nothing */
	if (!adoption->is_asked ||
	    (adoption->is_on && !adoption->is_done &&
		adoption->asked_of != hold_holder(worker)))
		ask(worker);
	if (!adoption->is_on)
		return;
	/* perhaps it was us who slept, and all of it lies there */
	if (!adoption->is_done && clock_mono_ms() >= adoption->deadline_ms)
		adopt_receive(worker);
	for (int i = 0; i < SESSIONS_PER_TURN && given->first < given->end;
	     i++) {
		if (!adopt_one(worker, given->items[given->first],
			adoption->fds[given->first]))
			return;
		given->first++;
	}
	if (given->first < given->end)
		return;
	if (adoption->is_done || clock_mono_ms() >= adoption->deadline_ms)
		finish(worker);
}

void
adopt_fini(struct worker *worker)
{
	struct adoption *adoption = &worker->adoption;
	size_t first = adoption->given.first;

	if (adoption->fds != NULL)
		close_all(adoption->fds + first,
		    (uint32_t)(adoption->given.end - first));
	free(adoption->fds);
	free(adoption->is_given);
	free(adoption->given.items);
	*adoption = (struct adoption){
	    .is_asked = adoption->is_asked,
	    .calm_at_ms = adoption->calm_at_ms,
	};
}
