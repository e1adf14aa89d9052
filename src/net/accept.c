/*
 * accept.c - new connections.
 *
 * Role:    accepts from the listening sockets, refuses above the limit. With no
 *          more descriptors whoever waits is told so, a few at a time.
 * Process: worker.
 * Blocks:  never.
 * Trust:   a connection costs one small struct before its first byte.
 * See:     listener.c (who binds), ws_conn.c (what a connection becomes).
 */
#include "config.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net_priv.h"
#include "net/tls.h"
#include "net/tls_loop.h"

/* Per event and socket: a storm of connections must not starve the others. */
#define ACCEPT_BATCH 64
/* No descriptors or memory: again after this, so at most 640 are shed in a
 * second by each socket. */
#define ACCEPT_PAUSE_MS 100
/* Others are being served: so long after the last of them was heard ... */
#define BUSY_US 20000
/* ... connections are accepted in small portions, so far apart. */
#define BUSY_PAUSE_US 5000
/* Such a failure is said at most this often. */
#define ACCEPT_WARN_MS 60000
/* Descriptors that are not for clients: a new log file takes one, and a
 * successor needs no more than its predecessor had. */
#define ACCEPT_SPARE 16
/* So many above the limit get an answer; further ones are just closed. */
#define ACCEPT_REFUSE_MAX 1024

static bool
is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS ||
	       error == ENOMEM;
}

static bool
has_no_descriptor(int error)
{
	return error == EMFILE || error == ENFILE;
}

/* The listening socket itself is of no use. */
static bool
is_defect(int error)
{
	return error == EBADF || error == EINVAL || error == ENOTSOCK ||
	       error == EOPNOTSUPP;
}

static void
pause_accepting(struct net *net, int error)
{
	int64_t now_ms = clock_mono_ms();

	for (size_t i = 0; i < net->listener_count; i++)
		event_del(&net->listeners[i]->event);
	net_set_timer(net, &net->accept_timer, now_ms + ACCEPT_PAUSE_MS);
	if (net->accept_warned_at_ms != 0 &&
	    now_ms < net->accept_warned_at_ms + ACCEPT_WARN_MS)
		return;
	net->accept_warned_at_ms = now_ms;
	log_warn(NULL, "accept-paused", "ms=%d connections=%zu cause=\"%s\"",
	    ACCEPT_PAUSE_MS, net->conn_count, strerror(error));
}

static void
keep_reserve(struct net *net)
{
	if (net->reserve_fd < 0)
		net->reserve_fd = eventfd(0, EFD_CLOEXEC);
}

void
net_accept_timer(struct net *net)
{
	keep_reserve(net);
	for (size_t i = 0; i < net->listener_count; i++)
		event_add(&net->listeners[i]->event, NULL);
}

static void
take_connection(
    const struct net_listener *listener, int fd, const struct sockaddr *peer)
{
	struct net *net = listener->net;
	size_t max = (size_t)net->conf.max_connections;
	unsigned silence_ms = (unsigned)net->conf.write_timeout_ms;
	int on = 1;

	COUNT(connections_accepted);
	/* an answer over TLS would cost a handshake */
	if (net->conn_count >=
	    (listener->is_tls ? max : max + ACCEPT_REFUSE_MAX)) {
		COUNT(connections_refused);
		close(fd);
		return;
	}
	/* Frames are small and latency counts; fails on other socket kinds. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* A peer that has vanished acknowledges nothing: tcp(7). Without it the
	 * kernel goes on for a quarter of an hour, also after we have closed.
	 */
	(void)setsockopt(
	    fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof(silence_ms));
	ws_conn_new(net,
	    listener->is_tls ? &conn_tls_handshake_io : &conn_plain_io, fd,
	    peer, net->conn_count >= max);
}

static int
accept_next(struct net_listener *listener, struct sockaddr_storage *peer)
{
	socklen_t len = sizeof(*peer);
	int fd = accept4(listener->fd, (struct sockaddr *)peer, &len,
	    SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0 && len < sizeof(peer->ss_family))
		peer->ss_family = AF_UNSPEC;
	return fd;
}

/* The one descriptor that is kept for this moment is used and kept again. */
static int
accept_by_reserve(struct net_listener *listener, struct sockaddr_storage *peer)
{
	struct net *net = listener->net;
	int error = errno;

	if (net->reserve_fd < 0) {
		errno = error;
		return -1;
	}
	close(net->reserve_fd);
	net->reserve_fd = -1;
	return accept_next(listener, peer);
}

/* What has come is thrown away (MSG_TRUNC, tcp(7)) first: closing over it would
 * be a reset, which may overtake the answer. */
static void
shed(struct net_listener *listener, int fd)
{
	struct net *net = listener->net;
	struct buf answer = {0};

	COUNT(connections_accepted);
	COUNT(connections_refused);
	COUNT(connections_shed);
	if (!listener->is_tls) {
		(void)recv(fd, NULL, CONN_READ_MAX, MSG_TRUNC);
		upgrade_refuse(503,
		    "too many connections at the moment, try again later",
		    &answer);
		(void)send(fd, answer.data, answer.len, MSG_NOSIGNAL);
		(void)shutdown(fd, SHUT_WR);
		buf_fini(&answer);
	}
	close(fd);
	keep_reserve(net);
}

/* @return false: nobody waits, or it cannot go on now */
static bool
take_failure(struct net_listener *listener, int error, bool is_short)
{
	keep_reserve(listener->net);
	if (is_short || is_shortage(error)) {
		pause_accepting(listener->net, is_short ? EMFILE : error);
		return false;
	}
	if (error == EAGAIN || error == EWOULDBLOCK)
		return false;
	if (is_defect(error)) {
		log_error(NULL, "accept-failed", "fd=%d cause=\"%s\"",
		    listener->fd, strerror(error));
		event_del(&listener->event);
		return false;
	}
	/*
	 * accept(2), "Error handling": errors of the new connection are
	 * reported here as well; the next one may be sound.
	 */
	return true;
}

/* @return false: nobody waits, or it cannot go on now */
static bool
accept_some(struct net_listener *listener, int count)
{
	struct net *net = listener->net;
	bool is_short = false;

	for (int i = 0; i < count; i++) {
		struct sockaddr_storage peer;
		int fd = accept_next(listener, &peer);
		bool is_last = fd < 0 && has_no_descriptor(errno);

		if (is_last)
			fd = accept_by_reserve(listener, &peer);
		is_short = is_short || is_last || fd >= net->fd_end;
		if (fd < 0 && !take_failure(listener, errno, is_short))
			return false;
		if (fd < 0)
			continue;
		if (is_last || fd >= net->fd_end)
			shed(listener, fd);
		else
			take_connection(listener, fd, (struct sockaddr *)&peer);
	}
	if (is_short)
		pause_accepting(net, EMFILE);
	return !is_short;
}

/*
 * A connection costs an upgrade and a login soon. When a crowd comes back and
 * all of it were taken at once, those who are there would wait for it: so it
 * waits, in the kernel's queue. With nobody else to serve all are taken.
 *
 * @return  how many may be accepted now
 */
static int
portion(struct net *net)
{
	struct net_accept *accept = &net->accept;
	int64_t rate = net->conf.busy_accept_rate;
	int64_t now_us = clock_mono_us();
	int64_t passed_us = now_us - accept->at_us;
	int64_t count;

	if (accept->served != net->loop.served) {
		accept->served = net->loop.served;
		accept->served_at_us = now_us;
	}
	if (rate == 0 || now_us > accept->served_at_us + BUSY_US) {
		accept->at_us = now_us;
		return ACCEPT_BATCH;
	}
	/* what was not used is not saved up */
	if (passed_us > 2 * BUSY_PAUSE_US)
		passed_us = 2 * BUSY_PAUSE_US;
	count = passed_us * rate / 1000000;
	if (count > ACCEPT_BATCH)
		count = ACCEPT_BATCH;
	accept->at_us = count > 0 ? now_us - passed_us + count * 1000000 / rate
				  : now_us - passed_us;
	return (int)count;
}

static void
later_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	net_accept_timer(arg);
}

static void
accept_later(struct net *net)
{
	struct timeval pause = {.tv_usec = BUSY_PAUSE_US};

	for (size_t i = 0; i < net->listener_count; i++)
		event_del(&net->listeners[i]->event);
	event_add(&net->accept.later, &pause);
}

static void
accept_cb(evutil_socket_t fd, short what, void *arg)
{
	struct net_listener *listener = arg;
	int count = portion(listener->net);

	(void)fd;
	(void)what;
	if (accept_some(listener, count) && count < ACCEPT_BATCH)
		accept_later(listener->net);
}

static int
listen_on(struct net *net, int fd, bool is_tls)
{
	struct net_listener *listener = xcalloc(1, sizeof(*listener));

	listener->net = net;
	listener->is_tls = is_tls;
	listener->fd = fd;
	if (net->listener_count == 0)
		evtimer_assign(
		    &net->accept.later, net->loop.base, later_cb, net);
	if (event_assign(&listener->event, net->loop.base, fd,
		EV_READ | EV_PERSIST, accept_cb, listener) != 0 ||
	    event_add(&listener->event, NULL) != 0) {
		free(listener);
		return ERR_IO;
	}
	net->listeners = xrealloc(net->listeners,
	    (net->listener_count + 1) * sizeof(*net->listeners));
	net->listeners[net->listener_count++] = listener;
	return 0;
}

int
net_listen(struct net *net, int fd)
{
	return listen_on(net, fd, false);
}

int
net_listen_tls(struct net *net, int fd)
{
	if (net->loop.tls == NULL)
		panic("wss without TLS");
	return listen_on(net, fd, true);
}

void
net_keep_descriptors(struct net *net)
{
	struct rlimit limit;

	net->fd_end = INT_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < INT_MAX)
		net->fd_end = (int)limit.rlim_cur - ACCEPT_SPARE;
	net->reserve_fd = -1;
	keep_reserve(net);
}

void
net_close_listeners(struct net *net)
{
	wheel_cancel(&net->wheel, &net->accept_timer);
	if (net->listener_count > 0)
		event_del(&net->accept.later);
	for (size_t i = 0; i < net->listener_count; i++) {
		event_del(&net->listeners[i]->event);
		free(net->listeners[i]);
	}
	free(net->listeners);
	net->listeners = NULL;
	net->listener_count = 0;
}

void
net_stop_accepting(struct net *net)
{
	struct ws_conn *ws;

	net_close_listeners(net);
	LIST_FOREACH(ws, &net->conns, all_link)
	{
		ws_conn_hurry(ws);
	}
}

void
net_finish_accepting(struct net *net)
{
	for (size_t i = 0; i < net->listener_count; i++) {
		while (accept_some(net->listeners[i], ACCEPT_BATCH))
			continue;
		close(net->listeners[i]->fd);
	}
	net_close_listeners(net);
}
