/*
 * listener.c - listening sockets from configured addresses.
 *
 * Role:    "host:port" to a bound, listening descriptor; one per worker and
 *          address, so that the kernel spreads connections (SO_REUSEPORT).
 * Process: supervisor, at start and when a worker is replaced.
 * Blocks:  never: names are not resolved, only "localhost" and "*" are known.
 * Trust:   the configuration; what is wrong with it is said in words.
 * See:     accept.c (who accepts), t/unit/listener.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "net/net.h"

#define LISTENER_BACKLOG  4096
#define LISTENER_DEFER_S  1
#define LISTENER_HOST_MAX 64

struct listener_address {
	struct sockaddr_storage addr;
	socklen_t len;
	bool is_dual; /* "*": v4 and v6 through one socket */
};

static void
set_port(struct listener_address *address, uint16_t port)
{
	if (address->addr.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&address->addr)->sin6_port =
		    htons(port);
	else
		((struct sockaddr_in *)&address->addr)->sin_port = htons(port);
}

static void
set_v4(struct listener_address *address, struct in_addr host)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&address->addr;

	in->sin_family = AF_INET;
	in->sin_addr = host;
	address->len = sizeof(*in);
}

static void
set_v6(struct listener_address *address, struct in6_addr host)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address->addr;

	in6->sin6_family = AF_INET6;
	in6->sin6_addr = host;
	address->len = sizeof(*in6);
}

static bool
set_host(struct listener_address *address, const char *host, bool is_v6)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (is_v6) {
		if (inet_pton(AF_INET6, host, &v6) != 1)
			return false;
		set_v6(address, v6);
	} else if (strcmp(host, "*") == 0) {
		set_v6(address, in6addr_any);
		address->is_dual = true;
	} else if (strcmp(host, "localhost") == 0) {
		set_v4(address, (struct in_addr){htonl(INADDR_LOOPBACK)});
	} else {
		if (inet_pton(AF_INET, host, &v4) != 1)
			return false;
		set_v4(address, v4);
	}
	return true;
}

/* @return NULL, or what is wrong */
static const char *
parse_address(
    const char *text, struct listener_address *address, uint16_t *port_out)
{
	char host[LISTENER_HOST_MAX];
	const char *colon = strrchr(text, ':');
	const char *start = text;
	size_t len;
	uint64_t port;

	if (colon == NULL)
		return "a port is missing, as in 127.0.0.1:3333";
	len = (size_t)(colon - text);
	bool is_v6 = len >= 2 && text[0] == '[' && text[len - 1] == ']';
	if (is_v6) {
		start++;
		len -= 2;
	}
	if (text_parse_u64(colon + 1, strlen(colon + 1), UINT16_MAX, &port) !=
	    0)
		return "the port must be a number from 0 to 65535";
	if (len == 0 || len >= sizeof(host))
		return "the host is missing or too long";
	memcpy(host, start, len);
	host[len] = '\0';
	if (!set_host(address, host, is_v6))
		return "the host must be a numeric address (v6 in brackets), "
		       "localhost or *";
	*port_out = (uint16_t)port;
	return NULL;
}

static int
set_options(int fd, const struct listener_address *address)
{
	int on = 1;
	int defer_s = LISTENER_DEFER_S;
	int v6_only = address->is_dual ? 0 : 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)
		return -1;
	/* 0.0.0.0 and [::] may both be configured with one port. */
	if (address->addr.ss_family == AF_INET6 &&
	    setsockopt(
		fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only)) != 0)
		return -1;
	/*
	 * tcp(7): clients speak first here, so a connection is nobody's work
	 * before its request is there; it saves a wake-up for each. One that
	 * stays silent comes after this time and meets header_timeout. Not an
	 * error where there is no such thing.
	 */
	(void)setsockopt(
	    fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof(defer_s));
	return 0;
}

/* @return descriptor, or -1 with errno */
static int
open_listener(const struct listener_address *address)
{
	int fd = socket(address->addr.ss_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (set_options(fd, address) == 0 &&
	    bind(fd, (const struct sockaddr *)&address->addr, address->len) ==
		0 &&
	    listen(fd, LISTENER_BACKLOG) == 0)
		return fd;
	int cause = errno;
	close(fd);
	errno = cause;
	return -1;
}

static int
bound_port(int fd, uint16_t *port_out)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
		return -1;
	*port_out = addr.ss_family == AF_INET6
			? ntohs(((struct sockaddr_in6 *)&addr)->sin6_port)
			: ntohs(((struct sockaddr_in *)&addr)->sin_port);
	return 0;
}

int
listener_bind(
    const char *address, uint16_t *port_io, char *error, size_t error_len)
{
	struct listener_address parsed = {0};
	uint16_t port = 0;
	const char *wrong = parse_address(address, &parsed, &port);

	if (wrong != NULL) {
		snprintf(error, error_len, "%s: %s", address, wrong);
		return ERR_BAD_REQUEST;
	}
	if (*port_io != 0)
		port = *port_io;
	set_port(&parsed, port);
	int fd = open_listener(&parsed);
	if (fd < 0 && parsed.is_dual && errno == EAFNOSUPPORT) {
		/* A kernel without v6: everything is v4. */
		parsed = (struct listener_address){0};
		set_v4(&parsed, (struct in_addr){htonl(INADDR_ANY)});
		set_port(&parsed, port);
		fd = open_listener(&parsed);
	}
	if (fd < 0 || bound_port(fd, port_io) != 0) {
		snprintf(error, error_len, "%s: cannot listen on port %u: %s",
		    address, (unsigned)port, strerror(errno));
		if (fd >= 0)
			close(fd);
		return ERR_IO;
	}
	return fd;
}
