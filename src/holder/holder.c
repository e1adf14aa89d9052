/*
 * holder.c - keeps the sockets of one worker's clients open over its death.
 *
 * Role:    a duplicate of every socket that its worker gives it, until the
 *          worker says that it has closed it; all of them for a successor.
 * Process: holder; one beside each worker, as descriptors are limited per
 *          process.
 * Blocks:  never.
 * Trust:   it reads no byte of a client. What its worker says is checked: it
 *          can harm its own clients only.
 * See:     shm/hold.h, worker/hold.c, worker/adopt.c, t/69-hold.t.
 */
#include "holder/holder.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/board.h"
#include "shm/hold.h"

#define BEAT_MS 900
/* Without a worker for so long the clients are better off with another one;
 * the keeper waits longer than that for a successor (keeper/announce.c). */
#define HOLD_PATIENCE_MS  5000
#define MESSAGES_PER_TURN 64

struct held {
	int fd; /* -1: none */
	uint32_t serial;
};

struct holder {
	const struct process *process;
	int end;
	struct held *rows;
	uint32_t row_cap;
	uint32_t count;
	/* what a worker has asked for */
	bool is_giving;
	uint32_t give_row;        /* next one to look at */
	uint32_t give_generation; /* that has asked last */
	int64_t alone_since_ms;   /* monotonic; 0: there is a worker */
	uint32_t up_seen;         /* generation of the last one that was up */
};

/* ---- rows ---- */

static void
close_row(struct holder *holder, uint32_t row)
{
	if (holder->rows[row].fd == -1)
		return;
	close(holder->rows[row].fd);
	holder->rows[row].fd = -1;
	holder->count--;
}

static void
make_room(struct holder *holder, uint32_t row)
{
	uint32_t cap = holder->row_cap == 0 ? 64 : holder->row_cap;

	while (cap <= row)
		cap *= 2;
	if (cap == holder->row_cap)
		return;
	holder->rows = xrealloc(holder->rows, cap * sizeof(*holder->rows));
	for (uint32_t i = holder->row_cap; i < cap; i++)
		holder->rows[i] = (struct held){.fd = -1};
	holder->row_cap = cap;
}

/* One that is there was forgotten by a worker that died, or is put again. */
static void
put(struct holder *holder, struct hold_item item, int fd)
{
	if (fd == -1)
		return; /* no descriptors left: this one ends with its worker */
	make_room(holder, item.row);
	close_row(holder, item.row);
	holder->rows[item.row] = (struct held){fd, item.serial};
	holder->count++;
}

static void
drop(struct holder *holder, struct hold_item item)
{
	if (item.row < holder->row_cap &&
	    holder->rows[item.row].serial == item.serial)
		close_row(holder, item.row);
}

static void
let_go(struct holder *holder)
{
	log_warn(NULL, "connections-let-go", "count=%u waited_ms=%d",
	    holder->count, HOLD_PATIENCE_MS);
	for (uint32_t row = 0; row < holder->row_cap; row++) {
		if (holder->rows[row].fd == -1)
			continue;
		(void)shutdown(holder->rows[row].fd, SHUT_RDWR);
		close_row(holder, row);
	}
}

/* ---- messages ---- */

static void
take_message(
    struct holder *holder, const struct hold_message *message, const int *fds)
{
	switch ((enum hold_message_type)message->type) {
	case HOLD_PUT:
		for (uint32_t i = 0; i < message->count; i++)
			put(holder, message->items[i], fds[i]);
		break;
	case HOLD_DROP:
		for (uint32_t i = 0; i < message->count; i++)
			drop(holder, message->items[i]);
		break;
	case HOLD_TAKE:
		holder->is_giving = true;
		holder->give_row = 0;
		holder->give_generation = message->generation;
		break;
	case HOLD_GIVE:
		for (uint32_t i = 0; i < message->count; i++) {
			if (fds[i] != -1)
				close(fds[i]);
		}
		break;
	case HOLD_DONE:
		break;
	}
}

static void
receive(struct holder *holder)
{
	struct hold_message message;
	int fds[HOLD_ITEMS_MAX];

	for (int i = 0; i < MESSAGES_PER_TURN; i++) {
		int rc = hold_receive(holder->end, &message, fds);

		if (rc == ERR_CORRUPT) {
			log_error(NULL, "hold-message-refused", "slot=%d",
			    holder->process->slot);
			continue;
		}
		if (rc != 0)
			return;
		take_message(holder, &message, fds);
	}
}

/* @return false: no room, or done */
static bool
give_some(struct holder *holder)
{
	struct hold_message message = {
	    .type = HOLD_GIVE,
	    .generation = holder->give_generation,
	};
	int fds[HOLD_ITEMS_MAX];
	uint32_t row = holder->give_row;

	for (; row < holder->row_cap && message.count < HOLD_ITEMS_MAX; row++) {
		if (holder->rows[row].fd == -1)
			continue;
		fds[message.count] = holder->rows[row].fd;
		message.items[message.count++] =
		    (struct hold_item){row, holder->rows[row].serial};
	}
	if (message.count == 0)
		message.type = HOLD_DONE;
	if (hold_send(holder->end, &message, message.count == 0 ? NULL : fds) !=
	    0)
		return false;
	holder->give_row = row;
	if (message.count == 0)
		holder->is_giving = false;
	return holder->is_giving;
}

/* ---- the worker ---- */

/* Is there one that serves or has asked for all, or has there been since the
 * last look? We sleep most of the time, and are woken by those that begin. */
static void
look_for_worker(struct holder *holder)
{
	int slot = holder->process->slot - SLOT_HOLDER_0 + SLOT_WORKER_0;
	const struct board_slot *at =
	    board_slot(bus_board(holder->process->bus), slot);
	uint32_t generation = atomic_load(&at->generation);
	uint32_t up = atomic_load(&at->up);
	bool is_there =
	    atomic_load(&at->pid) != 0 &&
	    (up == generation || holder->give_generation == generation);
	int64_t now_ms = clock_mono_ms();

	if (up != holder->up_seen || is_there) {
		holder->up_seen = up;
		holder->alone_since_ms = 0;
		return;
	}
	if (holder->alone_since_ms == 0)
		holder->alone_since_ms = now_ms;
	if (holder->count > 0 &&
	    now_ms >= holder->alone_since_ms + HOLD_PATIENCE_MS)
		let_go(holder);
}

/* ---- main ---- */

static void
turn(struct holder *holder, int signal_fd)
{
	struct pollfd fds[] = {
	    {.fd = holder->end, .events = POLLIN},
	    {.fd = signal_fd, .events = POLLIN},
	};

	(void)process_beat(holder->process);
	if (holder->is_giving)
		fds[0].events |= POLLOUT;
	poll(fds, 2, BEAT_MS);
	receive(holder);
	for (int i = 0; i < MESSAGES_PER_TURN && holder->is_giving; i++) {
		if (!give_some(holder))
			break;
	}
	look_for_worker(holder);
	GAUGE_SET(held_connections, holder->count);
}

int
holder_main(const struct process *process)
{
	struct holder holder = {
	    .process = process,
	    .end = hold_fd(process->hold),
	};
	int signal_fd = process_signal_fd();

	process_up(process);
	while (!process_has_stop_signal(signal_fd))
		turn(&holder, signal_fd);
	/* No shutdown(2): the worker has its own and gives them to our
	 * successor. */
	for (uint32_t row = 0; row < holder.row_cap; row++)
		close_row(&holder, row);
	free(holder.rows);
	close(signal_fd);
	return 0;
}
