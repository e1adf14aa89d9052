/*
 * control.c - the control socket of parleyctl.
 *
 * Role:    connections and lines; a connection has one request at a time.
 * Process: console.
 * Blocks:  never.
 * Trust:   the socket's mode and folder decide who may connect; lines,
 *          connections and silence are bounded all the same.
 * See:     verb.c (what a line does), ctl/ctl_client.c.
 */
#include "config.h"

#include "console/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "console/verb.h"

#define CONTROL_SOCKET  "control.sock"
#define CONNECTIONS_MAX 64
#define LINE_MAX_BYTES  (64 * 1024)
#define IDLE_S          60
#define WRITE_S         10
#define PAUSE_MS        500 /* for want of descriptors */
#define CONN_MAGIC      0x636e6f63u

struct control_conn {
	uint32_t magic;
	TAILQ_ENTRY(control_conn) link;
	struct control *control;
	struct bufferevent *bev;
	struct job *job; /* NULL: none under way */
	bool is_ending;  /* no further requests */
	bool is_closed;  /* reaped at the end of the turn */
};

struct control {
	struct console *console;
	struct evconnlistener *listener;
	TAILQ_HEAD(, control_conn) conns;
	int conn_count;
	int64_t paused_at_ms; /* monotonic: no descriptors; 0: not paused */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* ---- callbacks ---- */

static struct control_conn *
conn_of(void *ctx)
{
	struct control_conn *conn = ctx;

	if (conn->magic != CONN_MAGIC)
		panic("control: not a connection");
	return conn;
}

/*
 * Lines are looked for in control_turn; here only the bound is kept. (A high
 * watermark would do it, but libevent 2.1 calls back without end while the
 * buffer stays full.)
 */
static void
read_cb(struct bufferevent *bev, void *ctx)
{
	(void)conn_of(ctx);
	if (evbuffer_get_length(bufferevent_get_input(bev)) >= LINE_MAX_BYTES)
		bufferevent_disable(bev, EV_READ);
}

static void
event_cb(struct bufferevent *bev, short what, void *ctx)
{
	struct control_conn *conn = conn_of(ctx);

	if ((what & BEV_EVENT_TIMEOUT) != 0 &&
	    (what & BEV_EVENT_READING) != 0 && conn->job != NULL) {
		/* silent because it waits for us; the timeout stopped reading
		 */
		bufferevent_enable(bev, EV_READ);
		return;
	}
	/* half a close is an end too, but what is under way is answered */
	if ((what & BEV_EVENT_EOF) != 0)
		conn->is_ending = true;
	else
		conn->is_closed = true;
}

static void
accept_conn(struct control *control, evutil_socket_t fd)
{
	struct timeval idle = {.tv_sec = IDLE_S};
	struct timeval patience = {.tv_sec = WRITE_S};
	struct control_conn *conn;

	if (control->conn_count >= CONNECTIONS_MAX) {
		log_warn(NULL, "control-full", "connections=%d",
		    control->conn_count);
		close(fd);
		return;
	}
	conn = xcalloc(1, sizeof(*conn));
	conn->magic = CONN_MAGIC;
	conn->control = control;
	conn->bev = bufferevent_socket_new(
	    control->console->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (conn->bev == NULL)
		fatal("control: no memory for a connection");
	bufferevent_setcb(conn->bev, read_cb, NULL, event_cb, conn);
	bufferevent_set_timeouts(conn->bev, &idle, &patience);
	bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
	TAILQ_INSERT_TAIL(&control->conns, conn, link);
	control->conn_count++;
}

static void
accept_cb(struct evconnlistener *listener, evutil_socket_t fd,
    struct sockaddr *address, int len, void *ctx)
{
	(void)listener;
	(void)address;
	(void)len;
	accept_conn(ctx, fd);
}

/* The socket stays ready: without a pause it would be asked for ever. */
static void
failed_cb(struct evconnlistener *listener, void *ctx)
{
	struct control *control = ctx;

	log_warn(NULL, "control-paused", "error=\"%s\"", strerror(errno));
	evconnlistener_disable(listener);
	control->paused_at_ms = clock_mono_ms();
}

static void
end_pause(struct control *control)
{
	if (control->paused_at_ms == 0 || control->listener == NULL ||
	    clock_mono_ms() < control->paused_at_ms + PAUSE_MS)
		return;
	control->paused_at_ms = 0;
	evconnlistener_enable(control->listener);
}

/* ---- the turn ---- */

static void
answer(struct control_conn *conn)
{
	struct buf line = {0};

	job_answer(conn->job, &line);
	if (bufferevent_write(conn->bev, line.data, line.len) != 0)
		conn->is_closed = true;
	buf_fini(&line);
	job_free(&conn->job);
}

/* @return a request was begun */
static bool
begin(struct control_conn *conn)
{
	struct evbuffer *input = bufferevent_get_input(conn->bev);
	size_t len = 0;
	char *line = evbuffer_readln(input, &len, EVBUFFER_EOL_LF);

	if (line == NULL) {
		if (evbuffer_get_length(input) < LINE_MAX_BYTES)
			return false;
		/* too long: an empty line's answer, and the end */
		conn->is_ending = true;
		evbuffer_drain(input, evbuffer_get_length(input));
		conn->job = job_new(conn->control->console, "", 0);
		return true;
	}
	bufferevent_enable(conn->bev, EV_READ); /* there is room again */
	conn->job = job_new(conn->control->console, line, len);
	mem_wipe(line, len); /* may hold a password's hash */
	free(line);
	return true;
}

static void
conn_turn(struct control_conn *conn)
{
	while (!conn->is_closed) {
		if (conn->job == NULL && !begin(conn))
			break;
		if (!conn->job->is_done)
			return;
		answer(conn);
	}
	if (conn->is_ending &&
	    evbuffer_get_length(bufferevent_get_output(conn->bev)) == 0)
		conn->is_closed = true;
}

static void
conn_free(struct control_conn *conn)
{
	TAILQ_REMOVE(&conn->control->conns, conn, link);
	conn->control->conn_count--;
	job_free(&conn->job);
	bufferevent_free(conn->bev);
	conn->magic = 0;
	free(conn);
}

void
control_turn(struct control *control)
{
	struct control_conn *conn = TAILQ_FIRST(&control->conns);

	end_pause(control);
	while (conn != NULL) {
		struct control_conn *next = TAILQ_NEXT(conn, link);

		conn_turn(conn);
		if (conn->is_closed)
			conn_free(conn);
		conn = next;
	}
}

bool
control_is_busy(const struct control *control)
{
	const struct control_conn *conn;

	TAILQ_FOREACH(conn, &control->conns, link)
	{
		if (conn->job != NULL ||
		    evbuffer_get_length(bufferevent_get_output(conn->bev)) > 0)
			return true;
	}
	return false;
}

/* ---- life ---- */

static int
bind_socket(struct control *control, const char *run_dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int fd;
	int n = snprintf(address.sun_path, sizeof(address.sun_path),
	    "%s/" CONTROL_SOCKET, run_dir);

	if (n >= (int)sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(control->path, address.sun_path, sizeof(control->path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	unlink(address.sun_path); /* a killed predecessor's */
	mask = umask(0117);
	n = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(mask);
	if (n == -1) {
		close(fd);
		return -1;
	}
	return fd;
}

int
control_new(struct console *console, struct control **control_out)
{
	struct control *control = xcalloc(1, sizeof(*control));
	const char *run_dir = console->process->conf->server_run_dir;
	int fd;

	control->console = console;
	TAILQ_INIT(&control->conns);
	fd = bind_socket(control, run_dir);
	if (fd != -1)
		control->listener = evconnlistener_new(console->base, accept_cb,
		    control, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
		    CONNECTIONS_MAX, fd);
	if (control->listener == NULL) {
		log_error(NULL, "control-failed", "folder=%s error=\"%s\"",
		    run_dir, strerror(errno));
		free(control);
		return ERR_IO;
	}
	evconnlistener_set_error_cb(control->listener, failed_cb);
	*control_out = control;
	return 0;
}

void
control_stop(struct control *control)
{
	if (control->listener == NULL)
		return;
	evconnlistener_free(control->listener);
	control->listener = NULL;
	unlink(control->path);
}

void
control_free(struct control **control)
{
	struct control_conn *conn;

	if (*control == NULL)
		return;
	control_stop(*control);
	while ((conn = TAILQ_FIRST(&(*control)->conns)) != NULL)
		conn_free(conn);
	free(*control);
	*control = NULL;
}
