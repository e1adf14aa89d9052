/*
 * origin.c - where a page comes from (RFC 6454).
 *
 * Role:    checks the origins of the configuration and compares them with
 *          what a browser sends.
 * Process: supervisor (configuration), worker.
 * Blocks:  never.
 * Trust:   none in the header: it is compared, never taken apart.
 * See:     upgrade.c, t/unit/origin.c.
 */
#include "net/origin.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static size_t
scheme_len(const char *text)
{
	size_t len = 0;

	if (!isalpha((unsigned char)text[0]))
		return 0;
	while (isalnum((unsigned char)text[len]) ||
	       (text[len] != '\0' && strchr("+-.", text[len]) != NULL))
		len++;
	return strncmp(text + len, "://", 3) == 0 ? len : 0;
}

/* @return length, 0: no host */
static size_t
host_len(const char *text)
{
	size_t len;

	if (text[0] == '[') {
		len = strspn(text + 1, "0123456789abcdefABCDEF:.") + 1;
		return len > 1 && text[len] == ']' ? len + 1 : 0;
	}
	len = 0;
	while (isalnum((unsigned char)text[len]) ||
	       (text[len] != '\0' && strchr("-._", text[len]) != NULL))
		len++;
	return len;
}

static bool
port_is_valid(const char *text)
{
	size_t len = strspn(text, "0123456789");
	long port;

	if (len == 0 || len > 5 || text[len] != '\0')
		return false;
	port = strtol(text, NULL, 10);
	return port >= 1 && port <= 65535;
}

bool
origin_is_valid(const char *text)
{
	size_t len = scheme_len(text);

	if (len == 0)
		return false;
	text += len + strlen("://");
	len = host_len(text);
	if (len == 0)
		return false;
	text += len;
	return *text == '\0' || (*text == ':' && port_is_valid(text + 1));
}

/* Without the port that goes without saying. */
static size_t
significant_len(const char *text, size_t len)
{
	static const struct {
		const char *scheme;
		const char *port;
	} defaults[] = {{"http://", ":80"}, {"https://", ":443"}};

	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
		size_t scheme = strlen(defaults[i].scheme);
		size_t port = strlen(defaults[i].port);

		if (len > scheme + port &&
		    strncasecmp(text, defaults[i].scheme, scheme) == 0 &&
		    memcmp(text + len - port, defaults[i].port, port) == 0)
			return len - port;
	}
	return len;
}

bool
origin_is_same(const char *allowed, const char *given, size_t given_len)
{
	size_t len = significant_len(allowed, strlen(allowed));

	return significant_len(given, given_len) == len &&
	       strncasecmp(allowed, given, len) == 0;
}
