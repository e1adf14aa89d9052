/*
 * client.c - one connection of parleyload.
 *
 * Role:    connects, upgrades, logs in, answers pings, keeps the Seq of the
 *          inbox, acknowledges once per read, comes back where it broke.
 * Process: each generator.
 * Blocks:  never.
 * Trust:   whatever the server sends is checked; what cannot be understood is
 *          a violation in the verdict.
 * See:     upgrade.c (HTTP), fleet.c (loop), pairs.c (what is sent).
 */
#include "load/client.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "load/client_priv.h"
#include "load/deflate.h"
#include "load/fleet.h"
#include "load/frame.h"
#include "load/tls_client.h"
#include "load/upgrade.h"

#define CLIENT_MAGIC     0x636c6e74
#define CLIENT_RETRY_MS  50 /* then up to CLIENT_SPREAD_MS more */
#define CLIENT_SPREAD_MS 150
#define CLOSE_NORMAL     1000 /* RFC 6455 7.4.1 */

static struct client *
client_of(void *arg)
{
	struct client *client = arg;

	if (client->magic != CLIENT_MAGIC)
		abort();
	client->fleet->now_ns = monotonic_ns();
	return client;
}

void
client_set_state(struct client *client, enum client_state state)
{
	struct fleet *fleet = client->fleet;
	bool was_pending = client->state >= CLIENT_CONNECTING &&
			   client->state <= CLIENT_LOGGING_IN;
	bool is_pending =
	    state >= CLIENT_CONNECTING && state <= CLIENT_LOGGING_IN;

	if (was_pending && !is_pending)
		fleet_pending_remove(fleet, client);
	if (!was_pending && is_pending)
		fleet_pending_add(fleet, client);
	if (client->state == CLIENT_READY && state != CLIENT_READY) {
		fleet->ready_count--;
		slot_add(fleet->slot, TALLY_users_up, (uint64_t)-1);
	}
	if (client->state != CLIENT_READY && state == CLIENT_READY) {
		fleet->ready_count++;
		slot_add(fleet->slot, TALLY_users_up, 1);
	}
	if (client->state == CLIENT_WAITING)
		fleet->waiting_count--;
	if (state == CLIENT_WAITING)
		fleet->waiting_count++;
	client->state = state;
}

void
client_drop(struct client *client)
{
	if (client->fd >= 0) {
		event_del(&client->read_event);
		event_del(&client->write_event);
		tls_client_free(&client->tls);
		close(client->fd);
	}
	client->fd = -1;
	client->is_writing = false;
	client->is_fragmented = false;
	client->may_deflate = false;
	fleet_dirty_remove(client->fleet, client);
	buf_fini(&client->in);
	buf_fini(&client->out);
	buf_fini(&client->text);
}

static void
client_retry_cb(evutil_socket_t fd, short what, void *arg)
{
	struct client *client = client_of(arg);

	(void)fd;
	(void)what;
	client_connect(client);
}

static void
wait_and_retry(struct client *client)
{
	int64_t wait_ms =
	    CLIENT_RETRY_MS +
	    (int64_t)(fleet_random(client->fleet) % CLIENT_SPREAD_MS);
	struct timeval tv;

	if (client->retry_ms > wait_ms)
		wait_ms = client->retry_ms;
	client->retry_ms = 0;
	tv = (struct timeval){wait_ms / 1000, wait_ms % 1000 * 1000};
	client_set_state(client, CLIENT_WAITING);
	evtimer_assign(
	    &client->write_event, client->fleet->base, client_retry_cb, client);
	evtimer_add(&client->write_event, &tv);
}

/* The connection is gone or must go; why is for the report. */
void
client_lose(struct client *client, const char *why)
{
	struct fleet *fleet = client->fleet;
	bool was_ready = client->state == CLIENT_READY;

	client_drop(client);
	slot_add(fleet->slot, was_ready ? TALLY_drops : TALLY_logins_failed, 1);
	if (!fleet->options->churn || client->is_ending)
		fleet_note_failure(fleet, why);
	if ((fleet->options->churn && !client->is_ending) ||
	    fleet->options->scenario == SCENARIO_HANDSHAKES)
		wait_and_retry(client);
	else
		client_set_state(client, CLIENT_FAILED);
	if (was_ready && fleet->handler.down_fn)
		fleet->handler.down_fn(fleet->ctx, client);
}

static void
put_frame(struct client *client, enum frame_opcode opcode, const void *data,
    size_t len)
{
	frame_put(&client->out, opcode, data, len,
	    (uint32_t)fleet_random(client->fleet));
	fleet_dirty_add(client->fleet, client);
}

void
client_send(struct client *client, const char *data, size_t len)
{
	struct fleet *fleet = client->fleet;
	const struct buf *packed;

	if (!client->may_deflate ||
	    !deflate_pack(fleet->deflate, data, len, &packed)) {
		put_frame(client, FRAME_TEXT, data, len);
		return;
	}
	frame_put_deflated(&client->out, packed->data, packed->len,
	    (uint32_t)fleet_random(fleet));
	fleet_dirty_add(fleet, client);
	slot_add(fleet->slot, TALLY_inflated_out, len);
	slot_add(fleet->slot, TALLY_deflated_out, packed->len);
}

static void
take_data_frame(struct client *client, const struct frame *frame)
{
	bool is_first = frame->opcode != FRAME_CONTINUATION;

	if (frame->opcode == FRAME_BINARY ||
	    is_first == client->is_fragmented ||
	    client->text.len + frame->len > CLIENT_TEXT_MAX) {
		client_garbled(client);
		client_lose(client, "the server broke the framing");
		return;
	}
	if (is_first && frame->is_final) {
		client_take_message(
		    client, frame->is_deflated, frame->data, frame->len);
		return;
	}
	if (is_first)
		client->is_deflated = frame->is_deflated;
	buf_add(&client->text, frame->data, frame->len);
	client->is_fragmented = !frame->is_final;
	if (frame->is_final) {
		struct buf whole = client->text;

		client->text = (struct buf){0};
		client_take_message(
		    client, client->is_deflated, whole.data, whole.len);
		buf_fini(&whole);
	}
}

static void
take_frame(struct client *client, const struct frame *frame)
{
	char why[48];

	switch (frame->opcode) {
	case FRAME_PING:
		slot_add(client->fleet->slot, TALLY_pings, 1);
		put_frame(client, FRAME_PONG, frame->data, frame->len);
		break;
	case FRAME_PONG:
		break;
	case FRAME_CLOSE:
		snprintf(why, sizeof(why), "closed by the server, code %d",
		    frame->len < 2 ? 1005
				   : (unsigned char)frame->data[0] << 8 |
					 (unsigned char)frame->data[1]);
		client_lose(client, why);
		break;
	case FRAME_CONTINUATION:
	case FRAME_TEXT:
	case FRAME_BINARY:
		take_data_frame(client, frame);
		break;
	}
}

/* @return false: nothing to go on with */
static bool
take_upgrade(struct client *client, const char *data, size_t len, size_t *used)
{
	struct fleet *fleet = client->fleet;
	struct upgrade_answer answer;
	int rc = upgrade_parse(
	    data, len, client->nonce, fleet->options->deflate, &answer);

	if (rc == ERR_AGAIN)
		return false;
	if (rc != 0) {
		client_lose(client, "the upgrade was refused");
		return false;
	}
	*used = answer.used;
	client->may_deflate = answer.is_deflate;
	slot_add(fleet->slot, TALLY_deflate_agreed, answer.is_deflate);
	login_send(client);
	return true;
}

/* Everything whole in data. @return bytes used */
static size_t
take_input(struct client *client, const char *data, size_t len)
{
	size_t used = 0;

	if (client->state == CLIENT_UPGRADING &&
	    !take_upgrade(client, data, len, &used))
		return 0;
	while (client->fd >= 0) {
		struct frame frame;
		int rc = frame_parse(data + used, len - used, CLIENT_TEXT_MAX,
		    client->may_deflate, &frame);

		if (rc == ERR_AGAIN)
			break;
		if (rc != 0) {
			client_garbled(client);
			client_lose(client, "the server broke the framing");
			break;
		}
		used += frame.total;
		take_frame(client, &frame);
	}
	return used;
}

static void
send_ack(struct client *client)
{
	char text[64];
	int len;

	if (client->state != CLIENT_READY || !client->inbox.is_known ||
	    client->inbox.seq <= client->acked_seq)
		return;
	client->acked_seq = client->inbox.seq;
	len =
	    snprintf(text, sizeof(text), "{\"Command\":\"P_ACK\",\"Seq\":%llu}",
		(unsigned long long)client->acked_seq);
	client_send(client, text, (size_t)len);
	slot_add(client->fleet->slot, TALLY_acks, 1);
}

ssize_t
client_receive(struct client *client, const char **why_out)
{
	char *data = client->fleet->read_buf;
	ssize_t n;

	if (client->tls) {
		n = tls_client_read(client->tls, data, FLEET_READ_MAX);
		if (n >= 0)
			return n;
		*why_out = tls_client_error(client->tls);
		return n == TLS_CLIENT_LOST ? -2 : -1;
	}
	n = recv(client->fd, data, FLEET_READ_MAX, 0);
	if (n >= 0)
		return n;
	*why_out = strerror(errno);
	return errno == EAGAIN || errno == EINTR ? -1 : -2;
}

static void
client_read(struct client *client)
{
	struct fleet *fleet = client->fleet;
	const char *why = "closed without a close frame";
	ssize_t n = client_receive(client, &why);
	const char *data = fleet->read_buf;
	size_t len;
	size_t used;

	if (n == -1)
		return;
	if (n <= 0) {
		client_lose(client, why);
		return;
	}
	if (client->tls && tls_client_has_more(client->tls))
		event_active(&client->read_event, EV_READ, 0);
	slot_add(fleet->slot, TALLY_bytes_in, (uint64_t)n);
	len = (size_t)n;
	if (client->in.len > 0) {
		buf_add(&client->in, data, len);
		data = client->in.data;
		len = client->in.len;
	}
	used = take_input(client, data, len);
	if (client->fd < 0)
		return; /* lost meanwhile, its buffers are gone */
	send_ack(client);
	if (client->in.len > 0) {
		buf_drop(&client->in, used);
		if (client->in.len == 0)
			buf_fini(&client->in);
	} else if (used < len) {
		buf_add(&client->in, data + used, len - used);
	}
}

void
client_begin_upgrade(struct client *client)
{
	client_set_state(client, CLIENT_UPGRADING);
	client->nonce = fleet_random(client->fleet);
	upgrade_put(&client->out, client->fleet->options, client->nonce);
	client->is_writing = false;
	fleet_dirty_add(client->fleet, client);
}

static void
client_connected(struct client *client)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0) {
		client_lose(client, strerror(error));
		return;
	}
	event_add(&client->read_event, NULL);
	if (!client->fleet->tls) {
		client_begin_upgrade(client);
		return;
	}
	secure_begin(client);
}

static void
client_io_cb(evutil_socket_t fd, short what, void *arg)
{
	struct client *client = client_of(arg);

	(void)fd;
	if (client->state == CLIENT_SECURING) {
		secure_step(client);
	} else if (client->state == CLIENT_PARTING) {
		secure_part(client);
	} else if (what & EV_READ) {
		client_read(client);
	} else if (client->state == CLIENT_CONNECTING) {
		client_connected(client);
	} else {
		client->is_writing = false;
		client_flush(client);
	}
}

/* From 127.0.0.(1+k), so that ports do not run out. */
static int
bind_source(const struct client *client, int fd)
{
	uint64_t sources = client->fleet->options->sources;
	struct sockaddr_in from = {.sin_family = AF_INET};
	int on = 1;

	if (sources < 2 || client->fleet->address.ss_family != AF_INET)
		return 0;
	from.sin_addr.s_addr =
	    htonl(INADDR_LOOPBACK + (uint32_t)(client->user % sources));
	/* the port is chosen at connect(2), per destination; ip(7) */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	return bind(fd, (struct sockaddr *)&from, sizeof(from));
}

void
client_connect(struct client *client)
{
	struct fleet *fleet = client->fleet;
	struct sockaddr_storage peer;
	socklen_t peer_len = sizeof(peer);
	int on = 1;

	client->started_ns = fleet->now_ns;
	client->is_ending = false;
	client_set_state(client, CLIENT_CONNECTING);
	client->fd = socket(fleet->address.ss_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (client->fd < 0) {
		client_lose(client, strerror(errno));
		return;
	}
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	event_assign(&client->read_event, fleet->base, client->fd,
	    EV_READ | EV_PERSIST, client_io_cb, client);
	event_assign(&client->write_event, fleet->base, client->fd, EV_WRITE,
	    client_io_cb, client);
	if (bind_source(client, client->fd) != 0 ||
	    (connect(client->fd, (struct sockaddr *)&fleet->address,
		 fleet->address_len) != 0 &&
		errno != EINPROGRESS)) {
		client_lose(client, strerror(errno));
		return;
	}
	/* To the same machine it is through by now: one wake-up less. */
	if (getpeername(client->fd, (struct sockaddr *)&peer, &peer_len) == 0)
		client_connected(client);
	else
		event_add(&client->write_event, NULL);
}

void
client_flush(struct client *client)
{
	ssize_t n;

	if (client->fd < 0 || client->is_writing || client->out.len == 0)
		return;
	if (client->tls)
		n = tls_client_write(
		    client->tls, client->out.data, client->out.len);
	else
		n = send(client->fd, client->out.data, client->out.len,
		    MSG_NOSIGNAL);
	if (client->tls ? n == TLS_CLIENT_LOST
			: n < 0 && errno != EAGAIN && errno != EINTR) {
		client_lose(client, client->tls ? tls_client_error(client->tls)
						: strerror(errno));
		return;
	}
	if (n > 0) {
		slot_add(client->fleet->slot, TALLY_bytes_out, (uint64_t)n);
		buf_drop(&client->out, (size_t)n);
	}
	if (client->out.len == 0) {
		buf_fini(&client->out);
	} else {
		client->is_writing = true;
		event_add(&client->write_event, NULL);
	}
}

void
client_leave(struct client *client)
{
	const unsigned char code[2] = {CLOSE_NORMAL >> 8, CLOSE_NORMAL & 0xff};

	if (client->state == CLIENT_READY) {
		put_frame(client, FRAME_CLOSE, code, sizeof(code));
		client_flush(client);
		if (client->state != CLIENT_READY)
			return;
	}
	if (client->state == CLIENT_WAITING)
		evtimer_del(&client->write_event);
	client_drop(client);
	if (client->state != CLIENT_FAILED)
		client_set_state(client, CLIENT_IDLE);
}

void
client_time_out(struct client *client)
{
	client_lose(client, "no login within --timeout");
}

void
client_init(
    struct client *client, struct fleet *fleet, uint64_t index, uint64_t user)
{
	*client = (struct client){
	    .magic = CLIENT_MAGIC,
	    .fleet = fleet,
	    .index = index,
	    .user = user,
	    .fd = -1,
	};
	ledger_inbox_init(&client->inbox, user);
}

void
client_fini(struct client *client)
{
	if (client->magic != CLIENT_MAGIC)
		return;
	if (client->state == CLIENT_WAITING)
		evtimer_del(&client->write_event);
	client_drop(client);
	client->magic = 0;
}
