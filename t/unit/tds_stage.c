/*
 * tds_stage.c - a server for tests of what calls SQL Server.
 *
 * Role:    [MS-TDS] as far as tds_stage.h says; no SQL, no tables.
 * Process: the test, a thread for each connection.
 * Blocks:  its threads.
 * Trust:   the client is ours, but lengths are checked all the same.
 * See:     tds_stage_tls.c, tds_conn.c, mssql_pool.c (the tests).
 */
#include "config.h"

#include "tds_stage.h"
#include "tds_stage_tls.h"
#include "tds_stage_tokens.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

#define CONNS_MAX   256
#define MESSAGE_MAX (16 * 1024 * 1024)
#define DRIP_MS     20

enum {
	PACKET_BATCH = 1,
	PACKET_RPC = 3,
	PACKET_REPLY = 4,
	PACKET_STOP = 6,
	PACKET_LOGIN = 16,
	PACKET_PRELOGIN = 18
};

struct client {
	struct tds_stage *stage;
	int fd; /* closed when the stage is freed: cut may come at any time */
	int number;
	bool is_greeted; /* its PRELOGIN was answered */
	SSL *ssl;        /* NULL: in the clear */
	pthread_t thread;
};

struct tds_stage {
	int fd;
	int port;
	SSL_CTX *tls;
	char ca[64];
	pthread_t thread;
	atomic_int mood;
	atomic_uint connections;
	atomic_uint logins;
	atomic_uint calls;
	atomic_uint once;
	pthread_mutex_t lock;
	struct client clients[CONNS_MAX]; /* under lock; only added to */
	size_t client_count;
};

/* ---- bytes ---- */

static ssize_t
client_read(struct client *client, void *out, size_t len)
{
	if (client->ssl != NULL)
		return SSL_read(client->ssl, out, (int)len);
	return read(client->fd, out, len);
}

static ssize_t
client_write(struct client *client, const void *data, size_t len)
{
	if (client->ssl != NULL)
		return SSL_write(client->ssl, data, (int)len);
	return send(client->fd, data, len, MSG_NOSIGNAL);
}

static bool
read_all(struct client *client, void *out, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = client_read(client, (char *)out + have, len - have);

		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	return true;
}

static void
write_all(struct client *client, const void *data, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n =
		    client_write(client, (const char *)data + have, len - have);

		if (n <= 0)
			return;
		have += (size_t)n;
	}
}

/* A whole message, of packets. @return its type, 0 at the end */
static int
message_read(struct client *client, struct buf *out)
{
	uint8_t head[8];
	uint8_t body[32768];

	buf_clear(out);
	do {
		size_t len;

		if (!read_all(client, head, sizeof(head)))
			return 0;
		len = (size_t)head[2] << 8 | head[3];
		if (len < 8 || len > sizeof(body) ||
		    out->len + len > MESSAGE_MAX ||
		    !read_all(client, body, len - 8))
			return 0;
		buf_add(out, body, len - 8);
	} while ((head[1] & 1) == 0);
	return head[0];
}

static void
message_write(struct client *client, const struct buf *message)
{
	size_t at = 0;

	do {
		size_t len =
		    message->len - at < 4088 ? message->len - at : 4088;
		bool is_last = at + len == message->len;
		uint8_t head[8] = {PACKET_REPLY, is_last,
		    (uint8_t)((len + 8) >> 8), (uint8_t)(len + 8)};

		write_all(client, head, sizeof(head));
		write_all(client, message->data + at, len);
		at += len;
	} while (at < message->len);
}

/* ---- calls ---- */

static size_t
le(const char *data, size_t len)
{
	size_t number = 0;

	for (size_t i = 0; i < len; i++)
		number |= (size_t)(unsigned char)data[i] << (8 * i);
	return number;
}

/* The first parameter as the client sent it: text of NVARCHAR(MAX), NTEXT. */
static void
put_echo(struct buf *out, const char *at, const char *end)
{
	struct buf text = {0};
	size_t len;

	at += 1 + 2 * (size_t)(unsigned char)at[0] + 1;
	if (*at == (char)0x63) {
		len = le(at + 10, 4);
		at += 14;
		if (len <= (size_t)(end - at))
			buf_add(&text, at, len);
	} else if (*at == (char)0xe7 && le(at + 1, 2) == 0xffff) {
		for (at += 16; end - at >= 4 && (len = le(at, 4)) > 0;
		     at += 4 + len) {
			if (len > (size_t)(end - at) - 4)
				break;
			buf_add(&text, at + 4, len);
		}
	} else {
		log_error(NULL, "stage-type", "type=%x",
		    (unsigned)(unsigned char)*at);
	}
	tds_put_le(out, 0x81, 1);
	tds_put_le(out, 1, 2);
	tds_put_text_column(out, "Text");
	tds_put_le(out, 0xd1, 1);
	tds_put_plp(out, text.data, text.len);
	tds_put_done(out, 0xff, 1);
	tds_put_done(out, 0xfe, 0);
	buf_fini(&text);
}

static void
drip(struct client *client)
{
	static const uint8_t packet[8] = {PACKET_REPLY, 1, 0x70, 0, 0, 0, 0, 0};
	struct pollfd end = {.fd = client->fd, .events = POLLIN};

	for (size_t i = 0; poll(&end, 1, DRIP_MS) == 0; i++)
		write_all(client, i < 8 ? &packet[i] : &packet[7], 1);
}

static void
reset(struct client *client, struct buf *out)
{
	const struct linger now = {.l_onoff = 1};

	tds_put_number_row(out, 1);
	out->len -= 60;
	message_write(client, out);
	setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	shutdown(client->fd, SHUT_RDWR);
}

/* @return false: the connection is of no use any more */
static bool
call_answer(struct client *client, const struct buf *message)
{
	struct tds_stage *stage = client->stage;
	size_t at = le(message->data, 4);
	size_t name_len = le(message->data + at, 2);
	char name[64] = "";
	struct buf out = {0};
	bool is_alive = true;

	at += 2;
	for (size_t i = 0; i < name_len && i < sizeof(name) - 1; i++)
		name[i] = message->data[at + 2 * i];
	at += 2 * name_len + 2;
	atomic_fetch_add(&stage->calls, 1);
	if (strcmp(name, "Two") == 0) {
		tds_put_int_row(&out, "A", 1);
		tds_put_int_row(&out, "B", 2);
		tds_put_done(&out, 0xfe, 0);
	} else if (strcmp(name, "Echo") == 0) {
		put_echo(
		    &out, message->data + at, message->data + message->len);
	} else if (strcmp(name, "Drip") == 0) {
		drip(client);
		is_alive = false;
	} else if (strcmp(name, "Reset") == 0) {
		reset(client, &out);
		is_alive = false;
	} else if (strncmp(name, "Error", 5) == 0 ||
		   (strncmp(name, "Once", 4) == 0 &&
		       atomic_fetch_add(&stage->once, 1) == 0)) {
		tds_put_error(
		    &out, (uint32_t)strtoul(
			      name + strcspn(name, "0123456789"), NULL, 10));
		tds_put_done(&out, 0xfe, 2);
	} else if (strcmp(name, "Hang") != 0) {
		tds_put_number_row(&out, client->number);
	}
	if (is_alive && out.len > 0)
		message_write(client, &out);
	buf_fini(&out);
	return is_alive;
}

/* ---- connections ---- */

static void
prelogin_answer(struct client *client, int encryption)
{
	const uint8_t options[] = {0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 15, 0,
	    16, 0, 0, 0, (uint8_t)encryption};
	struct buf out = {0};

	buf_add(&out, options, sizeof(options));
	message_write(client, &out);
	buf_fini(&out);
}

static void
login_answer(struct client *client, bool is_good)
{
	struct buf out = {0};
	struct buf body = {0};

	if (is_good) {
		tds_put_le(&body, 1, 1);
		buf_add(&body, "\x74\0\0\x04", 4);
		tds_put_name(&body, "Microsoft SQL Server", 1);
		buf_add(&body, "\x0f\0\x10\0", 4);
		tds_put_le(&out, 0xad, 1);
		tds_put_le(&out, body.len, 2);
		buf_add(&out, body.data, body.len);
		tds_put_done(&out, 0xfd, 0);
	} else {
		tds_put_error(&out, 18456);
		tds_put_done(&out, 0xfd, 2);
	}
	message_write(client, &out);
	buf_fini(&body);
	buf_fini(&out);
}

static void
done_answer(struct client *client, int status)
{
	struct buf out = {0};

	tds_put_done(&out, 0xfd, status);
	message_write(client, &out);
	buf_fini(&out);
}

/* What the answer to PRELOGIN says of encryption, [MS-TDS] 2.2.6.5. */
static const int encryption_of[] = {
    [TDS_MOOD_GOOD] = 2,
    [TDS_MOOD_SILENT] = 2,
    [TDS_MOOD_TLS_HANG] = 1,
    [TDS_MOOD_TLS] = 1,
    [TDS_MOOD_TLS_DROP] = 0,
    [TDS_MOOD_REFUSE] = 2,
};

/* The packets of the handshake are of the same type as the greeting. */
static bool
prelogin(struct client *client, int mood)
{
	if (mood == TDS_MOOD_SILENT || client->is_greeted)
		return true;
	client->is_greeted = true;
	prelogin_answer(client, encryption_of[mood]);
	if (mood != TDS_MOOD_TLS && mood != TDS_MOOD_TLS_DROP)
		return true;
	client->ssl = tds_stage_tls_accept(client->stage->tls, client->fd);
	return client->ssl != NULL;
}

static bool
login(struct client *client, int mood)
{
	atomic_fetch_add(&client->stage->logins, 1);
	if (mood == TDS_MOOD_TLS_DROP) {
		SSL_free(client->ssl);
		client->ssl = NULL;
	}
	login_answer(client, mood != TDS_MOOD_REFUSE);
	return mood != TDS_MOOD_REFUSE;
}

static bool
message_answer(
    struct client *client, int type, const struct buf *message, int mood)
{
	switch (type) {
	case PACKET_PRELOGIN:
		return prelogin(client, mood);
	case PACKET_LOGIN:
		return login(client, mood);
	case PACKET_BATCH:
		done_answer(client, 0);
		return true;
	case PACKET_STOP:
		done_answer(client, 0x20);
		return true;
	case PACKET_RPC:
		return call_answer(client, message);
	default:
		return false;
	}
}

static void *
client_main(void *ctx)
{
	struct client *client = ctx;
	int mood = atomic_load(&client->stage->mood);
	struct buf message = {0};
	int type;

	while ((type = message_read(client, &message)) != 0 &&
	       message_answer(client, type, &message, mood))
		;
	shutdown(client->fd, SHUT_RDWR);
	SSL_free(client->ssl);
	client->ssl = NULL;
	buf_fini(&message);
	return NULL;
}

static void *
accept_main(void *ctx)
{
	struct tds_stage *stage = ctx;
	const int on = 1;
	int fd;

	while ((fd = accept(stage->fd, NULL, NULL)) != -1) {
		struct client *client = &stage->clients[stage->client_count];

		if (stage->client_count == CONNS_MAX)
			panic("more connections than the stage has room for");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		client->stage = stage;
		client->fd = fd;
		client->number =
		    (int)atomic_fetch_add(&stage->connections, 1) + 1;
		pthread_mutex_lock(&stage->lock);
		if (pthread_create(
			&client->thread, NULL, client_main, client) != 0)
			panic("no thread");
		stage->client_count++;
		pthread_mutex_unlock(&stage->lock);
	}
	return NULL;
}

struct tds_stage *
tds_stage_new(void)
{
	struct tds_stage *stage = xcalloc(1, sizeof(*stage));
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	pthread_mutex_init(&stage->lock, NULL);
	snprintf(stage->ca, sizeof(stage->ca), "/tmp/parley-stage-XXXXXX");
	stage->tls = tds_stage_tls_new(stage->ca);
	stage->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(stage->fd, (struct sockaddr *)&address, len) != 0 ||
	    listen(stage->fd, CONNS_MAX) != 0 ||
	    getsockname(stage->fd, (struct sockaddr *)&address, &len) != 0 ||
	    pthread_create(&stage->thread, NULL, accept_main, stage) != 0)
		panic("no server for the test");
	stage->port = ntohs(address.sin_port);
	return stage;
}

void
tds_stage_cut(struct tds_stage *stage)
{
	pthread_mutex_lock(&stage->lock);
	for (size_t i = 0; i < stage->client_count; i++)
		shutdown(stage->clients[i].fd, SHUT_RDWR);
	pthread_mutex_unlock(&stage->lock);
}

void
tds_stage_free(struct tds_stage **stage)
{
	struct tds_stage *old = *stage;

	shutdown(old->fd, SHUT_RDWR);
	pthread_join(old->thread, NULL);
	close(old->fd);
	tds_stage_cut(old);
	for (size_t i = 0; i < old->client_count; i++) {
		pthread_join(old->clients[i].thread, NULL);
		close(old->clients[i].fd);
	}
	pthread_mutex_destroy(&old->lock);
	SSL_CTX_free(old->tls);
	unlink(old->ca);
	free(old);
	*stage = NULL;
}

int
tds_stage_port(const struct tds_stage *stage)
{
	return stage->port;
}

const char *
tds_stage_ca(const struct tds_stage *stage)
{
	return stage->ca;
}

void
tds_stage_set(struct tds_stage *stage, enum tds_mood mood)
{
	atomic_store(&stage->mood, mood);
}

unsigned
tds_stage_connections(const struct tds_stage *stage)
{
	return atomic_load(&stage->connections);
}

unsigned
tds_stage_logins(const struct tds_stage *stage)
{
	return atomic_load(&stage->logins);
}

unsigned
tds_stage_calls(const struct tds_stage *stage)
{
	return atomic_load(&stage->calls);
}
