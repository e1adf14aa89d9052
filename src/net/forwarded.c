/*
 * forwarded.c - for whom a proxy asks: X-Forwarded-For.
 *
 * Role:    reads the list from its end: each proxy appends who it was asked
 *          by, so the end was written by the one that we are connected with.
 * Process: worker; pure.
 * Blocks:  never.
 * Trust:   the caller has judged the peer. Each address is believed as far as
 *          the one to its right is a trusted proxy.
 * See:     network.c, upgrade.c, t/unit/forwarded.c.
 *
 * There is no standard for this header; RFC 7239 5.2 says how addresses and
 * ports are written in its successor, and proxies write them so here, too.
 */
#include "config.h"

#include "net/forwarded.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/conn_peer.h"
#include "net/http_head.h"
#include "net/network.h"

#define FIELD "X-Forwarded-For"
/* "[" v6 "]:65535" */
#define ADDRESS_MAX (INET6_ADDRSTRLEN + 8)

static bool
parse_port(const char *text, uint16_t *port_out)
{
	size_t len = strspn(text, "0123456789");
	long port;

	if (len == 0 || len > 5 || text[len] != '\0')
		return false;
	port = strtol(text, NULL, 10);
	*port_out = (uint16_t)port;
	return port <= UINT16_MAX;
}

/* Cut at the end of the host; what follows, if anything, is a port. */
static bool
split(char *text, char **host_out, uint16_t *port_out)
{
	char *colon = strchr(text, ':');
	char *end;

	*host_out = text;
	*port_out = 0;
	if (text[0] == '[') {
		end = strchr(text, ']');
		if (end == NULL)
			return false;
		*end = '\0';
		*host_out = text + 1;
		return strchr(*host_out, ':') != NULL &&
		       (end[1] == '\0' ||
			   (end[1] == ':' && parse_port(end + 2, port_out)));
	}
	if (colon == NULL || strchr(colon + 1, ':') != NULL)
		return true;
	*colon = '\0';
	return parse_port(colon + 1, port_out);
}

static bool
parse_address(const char *data, size_t len, struct conn_peer *out)
{
	char text[ADDRESS_MAX];
	char *host;
	uint16_t port;
	uint8_t address[16];

	while (len > 0 && (data[0] == ' ' || data[0] == '\t')) {
		data++;
		len--;
	}
	while (len > 0 && (data[len - 1] == ' ' || data[len - 1] == '\t'))
		len--;
	if (len >= sizeof(text))
		return false;
	memcpy(text, data, len);
	text[len] = '\0';
	if (!split(text, &host, &port))
		return false;
	if (inet_pton(AF_INET, host, address) == 1)
		conn_peer_set_v4(out, address, port);
	else if (inet_pton(AF_INET6, host, address) == 1)
		conn_peer_set_v6(out, address, port);
	else
		return false;
	return true;
}

/* @return false: one is malformed; is_over_out: somebody was found */
static bool
find_in_list(struct http_text list, const struct networks *trusted,
    struct conn_peer *peer_io, bool *is_over_out)
{
	size_t end = list.len;

	for (;;) {
		const char *comma =
		    end > 0 ? memrchr(list.data, ',', end) : NULL;
		size_t start =
		    comma != NULL ? (size_t)(comma - list.data) + 1 : 0;

		if (!parse_address(list.data + start, end - start, peer_io))
			return false;
		*is_over_out = !networks_have(trusted, peer_io);
		if (*is_over_out || comma == NULL)
			return true;
		end = start - 1;
	}
}

bool
forwarded_find(const struct http_head *head, const struct networks *trusted,
    struct conn_peer *peer_io)
{
	struct conn_peer peer = *peer_io;
	bool is_over = false;

	for (size_t i = head->field_count; i-- > 0 && !is_over;) {
		const struct http_field *field = &head->fields[i];

		if (http_text_is_nocase(field->name, FIELD) &&
		    !find_in_list(field->value, trusted, &peer, &is_over))
			return false;
	}
	*peer_io = peer;
	return true;
}
