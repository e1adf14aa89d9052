/*
 * tds_stage.c - a server for tests of what calls SQL Server.
 *
 * Role:    [MS-TDS] as far as tds_stage.h says; no SQL, no tables.
 * Process: the test, a thread for each connection.
 * Blocks:  its threads.
 * Trust:   the client is ours, but lengths are checked all the same.
 * See:     tds_conn.c, mssql_pool.c (the tests).
 */
#include "config.h"

#include "tds_stage.h"

#include <arpa/inet.h>
#include <netinet/in.h>
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
	pthread_t thread;
};

struct tds_stage {
	int fd;
	int port;
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

static void
put(struct buf *out, const void *data, size_t len)
{
	buf_add(out, data, len);
}

static void
put_le(struct buf *out, uint64_t number, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf_add_char(out, (char)(number >> (8 * i)));
}

/* ASCII as UTF-16, with its length in characters before it. */
static void
put_name(struct buf *out, const char *name, size_t prefix_len)
{
	put_le(out, strlen(name), prefix_len);
	for (; *name != '\0'; name++)
		put_le(out, (unsigned char)*name, 2);
}

static bool
read_all(int fd, void *out, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = read(fd, (char *)out + have, len - have);

		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	return true;
}

static void
write_all(int fd, const void *data, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = send(
		    fd, (const char *)data + have, len - have, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		have += (size_t)n;
	}
}

/* A whole message, of packets. @return its type, 0 at the end */
static int
message_read(int fd, struct buf *out)
{
	uint8_t head[8];
	uint8_t body[32768];

	buf_clear(out);
	do {
		size_t len;

		if (!read_all(fd, head, sizeof(head)))
			return 0;
		len = (size_t)head[2] << 8 | head[3];
		if (len < 8 || len > sizeof(body) ||
		    out->len + len > MESSAGE_MAX ||
		    !read_all(fd, body, len - 8))
			return 0;
		put(out, body, len - 8);
	} while ((head[1] & 1) == 0);
	return head[0];
}

static void
message_write(int fd, const struct buf *message)
{
	size_t at = 0;

	do {
		size_t len =
		    message->len - at < 4088 ? message->len - at : 4088;
		bool is_last = at + len == message->len;
		uint8_t head[8] = {PACKET_REPLY, is_last,
		    (uint8_t)((len + 8) >> 8), (uint8_t)(len + 8)};

		write_all(fd, head, sizeof(head));
		write_all(fd, message->data + at, len);
		at += len;
	} while (at < message->len);
}

/* ---- tokens, [MS-TDS] 2.2.7 ---- */

static void
put_done(struct buf *out, int token, int status)
{
	put_le(out, (uint64_t)token, 1);
	put_le(out, (uint64_t)status, 2);
	put_le(out, 0, 2);
	put_le(out, 0, 8);
}

static void
put_error(struct buf *out, uint32_t number)
{
	struct buf body = {0};

	put_le(&body, number, 4);
	put_le(&body, 1, 1);
	put_le(&body, 16, 1);
	put_name(&body, "secret data of a patient", 2);
	put_name(&body, "stage", 1);
	put_name(&body, "Inner", 1);
	put_le(&body, 12, 4);
	put_le(out, 0xaa, 1);
	put_le(out, body.len, 2);
	put(out, body.data, body.len);
	buf_fini(&body);
}

static void
put_column(struct buf *out, const char *name, const void *type, size_t len)
{
	put_le(out, 0, 4);
	put_le(out, 9, 2);
	put(out, type, len);
	put_name(out, name, 1);
}

static const uint8_t type_bigint[] = {0x26, 8};
static const uint8_t type_int[] = {0x26, 4};
static const uint8_t type_text[] = {
    0xe7, 0xff, 0xff, 0x09, 0x04, 0xd0, 0x00, 0x34};

static void
put_plp(struct buf *out, const void *data, size_t len)
{
	put_le(out, len, 8);
	if (len > 0) {
		put_le(out, len, 4);
		put(out, data, len);
	}
	put_le(out, 0, 4);
}

static void
put_number_row(struct buf *out, int spid)
{
	static const char name[] = {(char)0xe4, 0, 'b', 0};

	put_le(out, 0x81, 1);
	put_le(out, 4, 2);
	put_column(out, "Id", type_bigint, sizeof(type_bigint));
	put_column(out, "Gone", type_int, sizeof(type_int));
	put_column(out, "Name", type_text, sizeof(type_text));
	put_column(out, "Spid", type_int, sizeof(type_int));
	put_le(out, 0xd1, 1);
	put_le(out, 8, 1);
	put_le(out, 7, 8);
	put_le(out, 0, 1); /* NULL */
	put_plp(out, name, sizeof(name));
	put_le(out, 4, 1);
	put_le(out, (uint64_t)spid, 4);
	put_done(out, 0xff, 1);
	put_le(out, 0x79, 1);
	put_le(out, 3, 4);
	put_done(out, 0xfe, 0);
}

static void
put_int_row(struct buf *out, const char *column, int number)
{
	put_le(out, 0x81, 1);
	put_le(out, 1, 2);
	put_column(out, column, type_int, sizeof(type_int));
	put_le(out, 0xd1, 1);
	put_le(out, 4, 1);
	put_le(out, (uint64_t)number, 4);
	put_done(out, 0xff, 1);
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
			put(&text, at, len);
	} else if (*at == (char)0xe7 && le(at + 1, 2) == 0xffff) {
		for (at += 16; end - at >= 4 && (len = le(at, 4)) > 0;
		     at += 4 + len) {
			if (len > (size_t)(end - at) - 4)
				break;
			put(&text, at + 4, len);
		}
	} else {
		log_error(NULL, "stage-type", "type=%x",
		    (unsigned)(unsigned char)*at);
	}
	put_le(out, 0x81, 1);
	put_le(out, 1, 2);
	put_column(out, "Text", type_text, sizeof(type_text));
	put_le(out, 0xd1, 1);
	put_plp(out, text.data, text.len);
	put_done(out, 0xff, 1);
	put_done(out, 0xfe, 0);
	buf_fini(&text);
}

static void
drip(int fd)
{
	static const uint8_t packet[8] = {PACKET_REPLY, 1, 0x70, 0, 0, 0, 0, 0};
	struct pollfd end = {.fd = fd, .events = POLLIN};

	for (size_t i = 0; poll(&end, 1, DRIP_MS) == 0; i++)
		write_all(fd, i < 8 ? &packet[i] : &packet[7], 1);
}

static void
reset(int fd, struct buf *out)
{
	const struct linger now = {.l_onoff = 1};

	put_number_row(out, 1);
	out->len -= 60;
	message_write(fd, out);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	shutdown(fd, SHUT_RDWR);
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
		put_int_row(&out, "A", 1);
		put_int_row(&out, "B", 2);
		put_done(&out, 0xfe, 0);
	} else if (strcmp(name, "Echo") == 0) {
		put_echo(
		    &out, message->data + at, message->data + message->len);
	} else if (strcmp(name, "Drip") == 0) {
		drip(client->fd);
		is_alive = false;
	} else if (strcmp(name, "Reset") == 0) {
		reset(client->fd, &out);
		is_alive = false;
	} else if (strncmp(name, "Error", 5) == 0 ||
		   (strncmp(name, "Once", 4) == 0 &&
		       atomic_fetch_add(&stage->once, 1) == 0)) {
		put_error(
		    &out, (uint32_t)strtoul(
			      name + strcspn(name, "0123456789"), NULL, 10));
		put_done(&out, 0xfe, 2);
	} else if (strcmp(name, "Hang") != 0) {
		put_number_row(&out, client->number);
	}
	if (is_alive && out.len > 0)
		message_write(client->fd, &out);
	buf_fini(&out);
	return is_alive;
}

/* ---- connections ---- */

static void
prelogin_answer(int fd, int encryption)
{
	const uint8_t options[] = {0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 15, 0,
	    16, 0, 0, 0, (uint8_t)encryption};
	struct buf out = {0};

	put(&out, options, sizeof(options));
	message_write(fd, &out);
	buf_fini(&out);
}

static void
login_answer(int fd, bool is_good)
{
	struct buf out = {0};
	struct buf body = {0};

	if (is_good) {
		put_le(&body, 1, 1);
		put(&body, "\x74\0\0\x04", 4);
		put_name(&body, "Microsoft SQL Server", 1);
		put(&body, "\x0f\0\x10\0", 4);
		put_le(&out, 0xad, 1);
		put_le(&out, body.len, 2);
		put(&out, body.data, body.len);
		put_done(&out, 0xfd, 0);
	} else {
		put_error(&out, 18456);
		put_done(&out, 0xfd, 2);
	}
	message_write(fd, &out);
	buf_fini(&body);
	buf_fini(&out);
}

static void
done_answer(int fd, int status)
{
	struct buf out = {0};

	put_done(&out, 0xfd, status);
	message_write(fd, &out);
	buf_fini(&out);
}

static bool
message_answer(
    struct client *client, int type, const struct buf *message, int mood)
{
	int fd = client->fd;

	switch (type) {
	case PACKET_PRELOGIN:
		if (mood == TDS_MOOD_TLS_HANG && client->number < 0)
			return true;
		if (mood != TDS_MOOD_SILENT)
			prelogin_answer(fd, mood == TDS_MOOD_TLS_HANG ? 1 : 2);
		if (mood == TDS_MOOD_TLS_HANG)
			client->number = -1;
		return true;
	case PACKET_LOGIN:
		atomic_fetch_add(&client->stage->logins, 1);
		login_answer(fd, mood == TDS_MOOD_GOOD);
		return mood == TDS_MOOD_GOOD;
	case PACKET_BATCH:
		done_answer(fd, 0);
		return true;
	case PACKET_STOP:
		done_answer(fd, 0x20);
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

	while ((type = message_read(client->fd, &message)) != 0 &&
	       message_answer(client, type, &message, mood))
		;
	shutdown(client->fd, SHUT_RDWR);
	buf_fini(&message);
	return NULL;
}

static void *
accept_main(void *ctx)
{
	struct tds_stage *stage = ctx;
	int fd;

	while ((fd = accept(stage->fd, NULL, NULL)) != -1) {
		struct client *client = &stage->clients[stage->client_count];

		if (stage->client_count == CONNS_MAX)
			panic("more connections than the stage has room for");
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
	free(old);
	*stage = NULL;
}

int
tds_stage_port(const struct tds_stage *stage)
{
	return stage->port;
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
