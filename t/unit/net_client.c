/*
 * net_client.c - a WebSocket client for unit tests of net/.
 *
 * Role:    drives client and server from one thread through real sockets.
 * Process: the test.
 * Blocks:  at most for one tick of the loop under test.
 * Trust:   it judges the server: every frame header is checked.
 * See:     net.c, net_limits.c (the tests).
 */
#include "config.h"

#include "net_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "net/net_priv.h"

/* A test that has not got what it waits for by then has failed. */
#define RIG_PATIENCE_MS 10000

static void
rig_on_open(void *ctx, struct ws_conn *conn, const char *bearer)
{
	struct rig *rig = ctx;

	rig->opened++;
	rig->conn = conn;
	rig->bearer[0] = '\0';
	if (bearer != NULL) {
		assert_true(strlen(bearer) < sizeof(rig->bearer));
		strcpy(rig->bearer, bearer);
	}
}

static void
rig_on_text(void *ctx, struct ws_conn *conn, char *data, size_t len)
{
	struct rig *rig = ctx;

	assert_int_equal(data[len], '\0');
	rig->texts++;
	buf_clear(&rig->last_text);
	buf_add(&rig->last_text, data, len);
	if (rig->is_echo)
		ws_send_reply(conn, data, len);
	if (rig->on_text != NULL)
		rig->on_text(rig, conn, data, len);
}

static void
rig_on_drained(void *ctx, struct ws_conn *conn)
{
	struct rig *rig = ctx;

	assert_true(ws_conn_is_open(conn));
	rig->drained++;
}

static void
rig_on_closed(void *ctx, struct ws_conn *conn, int code)
{
	struct rig *rig = ctx;

	assert_false(ws_conn_is_open(conn));
	rig->closed++;
	rig->close_code = code;
	if (rig->conn == conn)
		rig->conn = NULL;
}

static void
rig_note(struct rig *rig, char what)
{
	size_t len = strlen(rig->motions);

	if (len + 1 < sizeof(rig->motions))
		rig->motions[len] = what;
}

static void
rig_on_motion(void *ctx, struct ws_conn *conn, enum ws_motion motion)
{
	static const char letters[] = {
	    [WS_MOTION_INPUT] = 'i',
	    [WS_MOTION_OUTPUT] = 'o',
	    [WS_MOTION_WRITTEN] = 'w',
	};

	assert_non_null(conn);
	rig_note(ctx, letters[motion]);
}

static void
rig_on_settle(void *ctx, struct ws_conn *conn)
{
	assert_true(ws_conn_is_open(conn));
	rig_note(ctx, 's');
}

struct net_conf
rig_conf(void)
{
	return (struct net_conf){
	    .max_message_size = 1024 * 1024,
	    .max_queued_bytes = 256 * 1024,
	    .header_timeout_ms = 60000,
	    .ping_interval_ms = 60000,
	    .write_timeout_ms = 60000,
	    .close_timeout_ms = 60000,
	    .max_connections = 1000,
	    .path = "/ws",
	    .subprotocol = "parley.v1",
	};
}

void
rig_open(struct rig *rig, const struct net_conf *conf)
{
	static const struct net_handler handler = {
	    .open_fn = rig_on_open,
	    .text_fn = rig_on_text,
	    .drained_fn = rig_on_drained,
	    .closed_fn = rig_on_closed,
	    .motion_fn = rig_on_motion,
	    .settle_fn = rig_on_settle,
	};
	char error[256];

	memset(rig, 0, sizeof(*rig));
	rig->conf = *conf;
	rig->base = event_base_new();
	assert_non_null(rig->base);
	rig->net = net_new(rig->base, conf, &handler, rig);
	rig->listen_fd =
	    listener_bind("127.0.0.1:0", &rig->port, error, sizeof(error));
	assert_true(rig->listen_fd >= 0);
	assert_int_equal(net_listen(rig->net, rig->listen_fd), 0);
}

void
rig_close(struct rig *rig)
{
	net_free(&rig->net);
	assert_null(rig->net);
	assert_int_equal(rig->opened, rig->closed);
	close(rig->listen_fd);
	buf_fini(&rig->last_text);
	event_base_free(rig->base);
}

static void
wake_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

void
rig_turn(struct rig *rig)
{
	struct timeval at_most = {.tv_usec = 2000};

	/* The client's side is looked at in between. */
	event_base_once(rig->base, -1, EV_TIMEOUT, wake_cb, NULL, &at_most);
	clock_update();
	event_base_loop(rig->base, EVLOOP_ONCE);
	net_flush(rig->net);
	net_reap(rig->net);
	net_settle(rig->net);
}

void
rig_shift(struct rig *rig, int64_t ms)
{
	clock_shift(ms);
	event_active(&rig->net->tick, EV_TIMEOUT, 0);
}

/* Not clock_mono_ms: tests shift that one. */
static int64_t
real_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
rig_wait_int(struct rig *rig, const int *value, int at_least)
{
	int64_t until_ms = real_ms() + RIG_PATIENCE_MS;

	while (*value < at_least) {
		assert_true(real_ms() < until_ms);
		rig_turn(rig);
	}
}

void
rig_wait_size(struct rig *rig, const size_t *value, size_t at_least)
{
	int64_t until_ms = real_ms() + RIG_PATIENCE_MS;

	while (*value < at_least) {
		assert_true(real_ms() < until_ms);
		rig_turn(rig);
	}
}

void
client_connect(struct rig_client *client, struct rig *rig)
{
	struct sockaddr_in addr = {
	    .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons(rig->port),
	};
	int on = 1;

	memset(client, 0, sizeof(*client));
	client->rig = rig;
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(client->fd >= 0);
	assert_int_equal(
	    connect(client->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(fcntl(client->fd, F_SETFL, O_NONBLOCK), 0);
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void
client_close(struct rig_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	buf_fini(&client->in);
}

void
client_send(struct rig_client *client, const void *data, size_t len)
{
	const char *at = data;
	int64_t until_ms = real_ms() + RIG_PATIENCE_MS;

	while (len > 0) {
		ssize_t n = send(client->fd, at, len, MSG_NOSIGNAL);

		assert_true(real_ms() < until_ms);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
			client->is_reset = true;
			return;
		}
		assert_true(n > 0 || errno == EAGAIN);
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		} else {
			rig_turn(client->rig);
		}
	}
}

void
client_frame(struct buf *out, int first_byte, const void *data, size_t len)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	const uint8_t *bytes = data;
	size_t count = len > 0xffff ? 8 : len > 125 ? 2 : 0;

	buf_add_char(out, (char)first_byte);
	buf_add_char(out, (char)(0x80 | (count == 8      ? 127
					    : count == 2 ? 126
							 : len)));
	for (size_t i = 0; i < count; i++)
		buf_add_char(
		    out, (char)((uint64_t)len >> (8 * (count - 1 - i))));
	buf_add(out, mask, sizeof(mask));
	for (size_t i = 0; i < len; i++)
		buf_add_char(out, (char)(bytes[i] ^ mask[i & 3]));
}

void
client_send_frame(
    struct rig_client *client, int first_byte, const void *data, size_t len)
{
	struct buf out = {0};

	client_frame(&out, first_byte, data, len);
	client_send(client, out.data, out.len);
	buf_fini(&out);
}

/* Take what is there; turn the loop once when nothing is. */
static void
pull(struct rig_client *client)
{
	char data[65536];
	ssize_t n = recv(client->fd, data, sizeof(data), 0);

	if (n > 0)
		buf_add(&client->in, data, (size_t)n);
	else if (n == 0)
		client->is_eof = true;
	else if (errno == EAGAIN)
		rig_turn(client->rig);
	else
		client->is_reset = true;
}

/* Bring the input to at_least bytes. */
static void
pull_until(struct rig_client *client, size_t at_least)
{
	int64_t until_ms = real_ms() + RIG_PATIENCE_MS;

	while (client->in.len < at_least) {
		assert_false(client->is_eof);
		assert_false(client->is_reset);
		assert_true(real_ms() < until_ms);
		pull(client);
	}
}

void
client_read_answer(struct rig_client *client, struct buf *answer)
{
	size_t len = 0;

	for (;;) {
		if (client->in.len > 0) {
			char *end = memmem(
			    client->in.data, client->in.len, "\r\n\r\n", 4);

			if (end != NULL) {
				len = (size_t)(end - client->in.data) + 4;
				break;
			}
		}
		pull_until(client, client->in.len + 1);
	}
	if (memcmp(client->in.data, "HTTP/1.1 101", 12) != 0) {
		(void)client_read_eof(client);
		len = client->in.len;
	}
	buf_add(answer, client->in.data, len);
	buf_add_char(answer, '\0');
	buf_drop(&client->in, len);
}

void
client_open_with(struct rig_client *client, struct rig *rig,
    const char *request, struct buf *answer_out)
{
	struct buf answer = {0};
	int opened = rig->opened;

	client_connect(client, rig);
	client_send(client, request, strlen(request));
	client_read_answer(client, &answer);
	assert_memory_equal(answer.data, "HTTP/1.1 101", 12);
	assert_int_equal(rig->opened, opened + 1);
	if (answer_out != NULL)
		*answer_out = answer;
	else
		buf_fini(&answer);
}

void
client_open(struct rig_client *client, struct rig *rig)
{
	client_open_with(client, rig, RIG_REQUEST, NULL);
}

void
client_read_frame(struct rig_client *client, struct rig_frame *frame)
{
	size_t head = 2;
	uint64_t len;

	memset(frame, 0, sizeof(*frame));
	pull_until(client, 2);
	const uint8_t *at = (const uint8_t *)client->in.data;
	frame->opcode = at[0] & 0x0f;
	frame->is_deflated = frame->opcode == 1 && (at[0] & 0x40) != 0;
	/* Final, nothing else reserved; a server does not mask. */
	assert_int_equal(at[0] & 0xf0, frame->is_deflated ? 0xc0 : 0x80);
	assert_int_equal(at[1] & 0x80, 0);
	len = at[1];
	if (len > 125) {
		size_t count = len == 126 ? 2 : 8;

		pull_until(client, 2 + count);
		at = (const uint8_t *)client->in.data;
		len = 0;
		for (size_t i = 0; i < count; i++)
			len = len << 8 | at[2 + i];
		assert_true(len > (count == 2 ? 125 : 0xffff));
		head += count;
	}
	pull_until(client, head + len);
	buf_add(&frame->payload, client->in.data + head, len);
	buf_drop(&client->in, head + len);
}

int
client_read_close(struct rig_client *client)
{
	struct rig_frame frame;
	int code = 1005;

	for (;;) {
		client_read_frame(client, &frame);
		if (frame.opcode == 8)
			break;
		buf_fini(&frame.payload);
	}
	if (frame.payload.len >= 2)
		code = (uint8_t)frame.payload.data[0] << 8 |
		       (uint8_t)frame.payload.data[1];
	buf_fini(&frame.payload);
	return code;
}

bool
client_read_eof(struct rig_client *client)
{
	int64_t until_ms = real_ms() + RIG_PATIENCE_MS;

	while (!client->is_eof && !client->is_reset) {
		assert_true(real_ms() < until_ms);
		pull(client);
	}
	return client->is_eof;
}
