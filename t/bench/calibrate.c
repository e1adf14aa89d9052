/*
 * calibrate.c - a fixed amount of the work a chat server does, timed.
 *
 * The yardstick of t/80-bench.t: the server's CPU per message is divided by
 * this program's, so that the bound means the same on any machine. A round is
 * 8 messages as the server handles them at window 8: four transfers over
 * loopback TCP (sends, replies, deliveries, acknowledgements); and for each
 * message, twice, JSON taken apart into small allocations, a hash, and text
 * copied with an eye on what needs escaping. Both ends are in this process, as
 * client and server share the machine there.
 *
 * None of it is the server's own code: that may get slower or faster, the
 * yardstick must not.
 *
 * Prints microseconds of CPU (user and system) per message: the least of
 * several slices, since whatever else runs can only add to them.
 *
 * See: t/80-bench.t, doc/performance.md.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define MESSAGES_PER_ROUND 8
#define ROUNDS_PER_SLICE   500
#define SLICES_MIN         8
#define SECONDS_DEFAULT    0.5
#define REQUEST_BYTES      310
#define ACK_BYTES          44
#define ROOM               65536

struct token {
	struct token *next;
	size_t len;
	char text[];
};

struct yard {
	int client;
	int server;
	char request[REQUEST_BYTES + 1];
	char requests[MESSAGES_PER_ROUND * REQUEST_BYTES];
	char out[ROOM]; /* of the server, a round's */
	size_t out_len;
	char scratch[ROOM];
	uint64_t sink; /* results nobody needs, kept from the optimiser */
};

static int
loopback_listener(struct sockaddr_in *address)
{
	socklen_t len = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){.sin_family = AF_INET};
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1 ||
	    bind(fd, (struct sockaddr *)address, sizeof(*address)) == -1 ||
	    listen(fd, 1) == -1 ||
	    getsockname(fd, (struct sockaddr *)address, &len) == -1)
		fatal("loopback: %s", strerror(errno));
	return fd;
}

static void
yard_open(struct yard *yard)
{
	struct sockaddr_in address;
	int listener = loopback_listener(&address);
	int on = 1;

	yard->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (yard->client == -1 ||
	    connect(yard->client, (struct sockaddr *)&address,
		sizeof(address)) == -1)
		fatal("connect: %s", strerror(errno));
	yard->server = accept(listener, NULL, NULL);
	if (yard->server == -1)
		fatal("accept: %s", strerror(errno));
	close(listener);
	setsockopt(yard->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(yard->server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void
make_requests(struct yard *yard)
{
	static const char head[] =
	    "{\"Command\":\"P_SEND_MESSAGE\",\"RequestId\":123456,"
	    "\"ToUserList\":[1501],\"ClientMessageId\":\"0123456789-1\","
	    "\"Message\":\"";
	char *at = yard->request;

	memset(at, 'm', REQUEST_BYTES);
	memcpy(at, head, sizeof(head) - 1);
	memcpy(at + REQUEST_BYTES - 2, "\"}", 3);
	for (int i = 0; i < MESSAGES_PER_ROUND; i++)
		memcpy(yard->requests + i * REQUEST_BYTES, at, REQUEST_BYTES);
}

/* All of len bytes from one end to the other. */
static void
transfer(struct yard *yard, int from, int to, const char *data, size_t len)
{
	size_t taken = 0;

	if (send(from, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		fatal("send: %s", strerror(errno));
	while (taken < len) {
		ssize_t n = recv(to, yard->scratch, sizeof(yard->scratch), 0);

		if (n <= 0)
			fatal("recv: %s", strerror(errno));
		taken += (size_t)n;
	}
}

/* Each name, text and number an allocation, as JSON libraries do it. */
static struct token *
take_apart(const char *at)
{
	struct token *tokens = NULL;

	while (*at != '\0') {
		size_t len = strcspn(at, "{}[]:,\"");
		struct token *token;

		if (len == 0) {
			at++;
			continue;
		}
		token = malloc(sizeof(*token) + len + 1);
		if (token == NULL)
			fatal("no memory");
		token->len = len;
		memcpy(token->text, at, len);
		token->text[len] = '\0';
		token->next = tokens;
		tokens = token;
		at += len;
	}
	return tokens;
}

static void
put_escaped(struct yard *yard, const struct token *token)
{
	char *out = yard->out + yard->out_len;

	*out++ = '"';
	for (size_t i = 0; i < token->len; i++) {
		char c = token->text[i];

		if (c == '"' || c == '\\' || (unsigned char)c < ' ')
			*out++ = '\\';
		*out++ = c;
	}
	*out++ = '"';
	yard->out_len = (size_t)(out - yard->out);
}

/* The server's part of one message, up to its reply or its delivery. */
static void
take_request(struct yard *yard)
{
	struct token *token = take_apart(yard->request);

	while (token != NULL) {
		struct token *next = token->next;
		uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */

		for (size_t i = 0; i < token->len; i++)
			hash = (hash ^ (uint8_t)token->text[i]) * 0x100000001b3;
		yard->sink += hash;
		put_escaped(yard, token);
		free(token);
		token = next;
	}
}

static void
run_round(struct yard *yard)
{
	static const char acks[MESSAGES_PER_ROUND * ACK_BYTES];

	transfer(yard, yard->client, yard->server, yard->requests,
	    sizeof(yard->requests));
	/* replies, then deliveries */
	for (int pass = 0; pass < 2; pass++) {
		yard->out_len = 0;
		for (int i = 0; i < MESSAGES_PER_ROUND; i++)
			take_request(yard);
		transfer(
		    yard, yard->server, yard->client, yard->out, yard->out_len);
	}
	transfer(yard, yard->client, yard->server, acks, sizeof(acks));
}

static int64_t
cpu_ns(void)
{
	struct timespec cpu;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	return (int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec;
}

static int64_t
run_slice(struct yard *yard)
{
	int64_t start_ns = cpu_ns();

	for (int i = 0; i < ROUNDS_PER_SLICE; i++)
		run_round(yard);
	return cpu_ns() - start_ns;
}

int
main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : SECONDS_DEFAULT;
	static struct yard yard;
	int64_t end_us;
	int64_t best_ns;

	yard_open(&yard);
	make_requests(&yard);
	run_slice(&yard); /* warm */
	best_ns = run_slice(&yard);
	end_us = clock_mono_us() + (int64_t)(seconds * 1e6);
	for (int i = 0; i < SLICES_MIN || clock_mono_us() < end_us; i++) {
		int64_t ns = run_slice(&yard);

		if (ns < best_ns)
			best_ns = ns;
	}
	printf("%.3f\n",
	    (double)best_ns / 1e3 / ROUNDS_PER_SLICE / MESSAGES_PER_ROUND);
	close(yard.client);
	close(yard.server);
	return yard.sink == 1; /* never, but the compiler cannot know */
}
