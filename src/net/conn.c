/*
 * conn.c - one connection as a stream of bytes.
 *
 * Role:    events, one read per turn into a buffer all share, one write per
 *          turn, and the memory in between.
 * Process: worker.
 * Blocks:  never.
 * Trust:   sizes are ours; bytes pass through unseen.
 * See:     ws_conn.c (what the bytes mean), conn_plain.c (how they move).
 */
#include "net/conn.h"

#include <event2/event.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"

/* Output is moved to the front of its buffer when this much was written. */
#define CONN_COMPACT_MIN ((size_t)64 * 1024)

static void conn_event_cb(evutil_socket_t fd, short what, void *arg);

static void
arm(struct conn *conn, short wanted)
{
	if (conn->armed != 0)
		event_del(&conn->event);
	conn->armed = wanted;
	if (wanted == 0)
		return;
	if (event_assign(&conn->event, conn->loop->base, conn->fd,
		(short)(wanted | EV_PERSIST), conn_event_cb, conn) != 0 ||
	    event_add(&conn->event, NULL) != 0)
		panic("cannot wait for descriptor %d", conn->fd);
}

static void
update_events(struct conn *conn)
{
	short wanted = 0;

	if (conn->fd < 0)
		return;
	/*
	 * A pause mostly ends before the peer says more: the event stays, and
	 * goes when it tells of something that is not wanted.
	 */
	if (conn->wants_input)
		conn->is_unheard = false;
	if (!conn->has_seen_eof && (conn->wants_input || !conn->is_unheard))
		wanted |= conn->read_on;
	wanted |= conn->write_on;
	if (wanted != conn->armed)
		arm(conn, wanted);
	/* event_del takes an activation back: say it again. */
	if ((conn->has_backlog || conn->has_more) && conn->wants_input &&
	    wanted != 0)
		event_active(&conn->event, EV_READ, 0);
}

static void
mark_dirty(struct conn *conn)
{
	if (conn->is_dirty || conn->fd < 0)
		return;
	conn->is_dirty = true;
	TAILQ_INSERT_TAIL(&conn->loop->dirty, conn, dirty_link);
}

void
conn_moved(struct conn *conn)
{
	struct conn_loop *loop = conn->loop;

	if (!conn->is_shared || conn->moved_at != 0)
		return;
	if (loop->moved_count == loop->moved_cap) {
		loop->moved_cap =
		    loop->moved_cap == 0 ? 16 : 2 * loop->moved_cap;
		loop->moved = xrealloc(
		    loop->moved, loop->moved_cap * sizeof(*loop->moved));
	}
	loop->moved[loop->moved_count++] = conn;
	conn->moved_at = loop->moved_count;
}

void
conn_unmoved(struct conn *conn)
{
	if (conn->moved_at != 0)
		conn->loop->moved[conn->moved_at - 1] = NULL;
	conn->moved_at = 0;
}

/* Before: whoever is killed in between leaves no wrong word behind. */
static void
tell_motion(struct conn *conn, bool is_output)
{
	if (!conn->is_shared)
		return;
	conn_moved(conn);
	conn->loop->ops->motion_fn(conn, is_output);
}

/* It may hold part of a request head, and that a token. */
static void
drop_input(struct conn *conn)
{
	if (conn->in.len > 0)
		mem_wipe(conn->in.data, conn->in.len);
	buf_fini(&conn->in);
	conn->in_head = 0;
	conn->has_backlog = false;
}

static void
keep_input(struct conn *conn, const char *data, size_t len)
{
	if (len == 0 || conn->fd < 0)
		return;
	(void)buf_reserve(&conn->in, len + 1);
	buf_add(&conn->in, data, len);
	conn->has_backlog = !conn->wants_input;
}

/*
 * Input that was stopped is used where it lies: stopping after each of many
 * small messages must not move the rest each time.
 */
static void
feed_backlog(struct conn *conn)
{
	conn->has_backlog = false;
	conn_moved(conn);
	conn->in_head += conn->loop->ops->input_fn(
	    conn, conn->in.data + conn->in_head, conn->in.len - conn->in_head);
	if (conn->in_head == conn->in.len || conn->fd < 0) {
		drop_input(conn);
	} else if (conn->wants_input) {
		struct buf old = conn->in;
		size_t head = conn->in_head;

		/* A small incomplete piece: give the large buffer back. */
		conn->in = (struct buf){0};
		conn->in_head = 0;
		keep_input(conn, old.data + head, old.len - head);
		buf_fini(&old);
	} else {
		conn->has_backlog = true;
	}
}

static void
feed_socket(struct conn *conn)
{
	char *scratch = conn->loop->scratch;
	size_t kept = conn->in.len;

	if (kept > CONN_REST_MAX)
		panic("%zu bytes kept back", kept);
	tell_motion(conn, false);
	ssize_t n = conn->io->read(conn, scratch + kept, CONN_READ_MAX);
	conn->read_on = n == CONN_IO_WANT_WRITE ? EV_WRITE : EV_READ;
	if (n == CONN_IO_LATER)
		conn->read_on = 0;
	if (n == CONN_IO_WANT_READ || n == CONN_IO_WANT_WRITE ||
	    n == CONN_IO_LATER) {
		update_events(conn);
		return;
	}
	if (n == CONN_IO_EOF) {
		conn->has_seen_eof = true;
		update_events(conn);
		conn->loop->ops->eof_fn(conn);
		return;
	}
	if (n < 0) {
		conn->loop->ops->lost_fn(conn);
		return;
	}
	update_events(conn);
	COUNT_ADD(bytes_in, n);
	size_t len = kept + (size_t)n;
	if (kept > 0) {
		memcpy(scratch, conn->in.data, kept);
		drop_input(conn);
	}
	size_t used = conn->loop->ops->input_fn(conn, scratch, len);
	keep_input(conn, scratch + used, len - used);
}

static void
conn_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	if ((what & conn->write_on) != 0) {
		conn->write_on = 0;
		mark_dirty(conn);
		update_events(conn);
	}
	if (conn->has_seen_eof)
		return;
	if (!conn->wants_input) {
		conn->is_unheard = true;
		update_events(conn);
		return;
	}
	if (conn->has_backlog) {
		feed_backlog(conn);
		if (conn->has_more)
			update_events(conn);
	} else if ((what & conn->read_on) != 0) {
		feed_socket(conn);
	}
}

void
conn_continue(struct conn *conn)
{
	conn->read_on = EV_READ;
	if (conn->fd < 0)
		return;
	update_events(conn);
	if (conn->wants_input && !conn->has_seen_eof && !conn->has_backlog)
		feed_socket(conn);
}

void
conn_init(struct conn *conn, struct conn_loop *loop, const struct conn_io *io,
    int fd, const struct sockaddr *peer)
{
	memset(conn, 0, sizeof(*conn));
	conn->loop = loop;
	conn->io = io;
	conn->fd = fd;
	conn->read_on = EV_READ;
	if (peer != NULL)
		conn_peer_set(&conn->peer, peer);
	if (io->open != NULL)
		io->open(conn);
}

void
conn_close(struct conn *conn)
{
	if (conn->fd < 0)
		return;
	if (conn->armed != 0)
		event_del(&conn->event);
	conn->armed = 0;
	conn->write_on = 0;
	conn->wants_input = false;
	conn->io->close(conn);
	conn->fd = -1;
}

void
conn_fini(struct conn *conn)
{
	if (conn->is_dirty)
		TAILQ_REMOVE(&conn->loop->dirty, conn, dirty_link);
	conn->is_dirty = false;
	conn_unmoved(conn);
	drop_input(conn);
	buf_fini(&conn->out);
}

void
conn_set_input(struct conn *conn, bool wants_input)
{
	conn->wants_input = wants_input;
	update_events(conn);
}

struct buf *
conn_output(struct conn *conn)
{
	mark_dirty(conn);
	return &conn->out;
}

size_t
conn_queued(const struct conn *conn)
{
	return conn->out.len - conn->out_head;
}

void
conn_shutdown(struct conn *conn)
{
	/* TLS may want more turns for it; the peer is leaving anyway. */
	(void)conn->io->shutdown(conn);
}

/* The space in front is reclaimed seldom enough to be free of charge. */
static void
compact_output(struct conn *conn)
{
	if (conn_queued(conn) == 0) {
		buf_fini(&conn->out);
		conn->out_head = 0;
	} else if (conn->out_head >= CONN_COMPACT_MIN &&
		   conn->out_head >= conn->out.len / 2) {
		buf_drop(&conn->out, conn->out_head);
		conn->out_head = 0;
	}
}

static void
write_output(struct conn *conn)
{
	ssize_t n;

	tell_motion(conn, true);
	n = conn->io->write(
	    conn, conn->out.data + conn->out_head, conn_queued(conn));

	if (n == CONN_IO_LOST) {
		conn->loop->ops->lost_fn(conn);
		return;
	}
	if (n > 0) {
		conn->out_head += (size_t)n;
		conn->out_total += (uint64_t)n;
		conn->blocked_at_ms = 0;
		COUNT_ADD(bytes_out, n);
		compact_output(conn);
	}
	if (conn_queued(conn) > 0) {
		if (conn->blocked_at_ms == 0)
			conn->blocked_at_ms = clock_mono_ms();
		conn->write_on = n == CONN_IO_WANT_READ ? EV_READ : EV_WRITE;
	}
	update_events(conn);
	conn->loop->ops->sent_fn(conn);
}

static void
flush_one(struct conn *conn)
{
	if (conn->fd < 0 || conn->write_on != 0)
		return; /* gone, or full: the event will tell */
	conn->loop->ops->flush_fn(conn);
	if (conn->fd >= 0 && conn_queued(conn) > 0)
		write_output(conn);
}

void
conn_loop_flush(struct conn_loop *loop)
{
	struct conn *conn;
	struct conn_dirty_list now = TAILQ_HEAD_INITIALIZER(now);

	/* What becomes dirty meanwhile is for the next turn. */
	TAILQ_CONCAT(&now, &loop->dirty, dirty_link);
	while ((conn = TAILQ_FIRST(&now)) != NULL) {
		TAILQ_REMOVE(&now, conn, dirty_link);
		conn->is_dirty = false;
		flush_one(conn);
	}
}
