/*
 * check.c - what a configuration must satisfy beyond conf.def's ranges.
 *
 * Role:    finds at the desk what would otherwise fail in a child.
 * Process: supervisor, parleyd -t, parleyctl reload.
 * Blocks:  on reading key files.
 * Trust:   the configuration is its owner's; secrets are never printed.
 * See:     base/conf.h, base/jwt.h.
 */
#include "config.h"

#include "supervisor/check.h"

#include <stdio.h>
#include <string.h>

#include "base/ice.h"
#include "base/jwt.h"
#include "net/network.h"
#include "net/origin.h"
#include "supervisor/certs.h"
#include "supervisor/sockets.h"
#include "tds/tds_conf.h"

static int
check_listen(const struct conf *conf, char *error, size_t error_len)
{
	size_t count =
	    conf->server_listen.count + conf->server_listen_tls.count;

	if (count == 0 || count > SOCKETS_ADDRESS_MAX) {
		snprintf(error, error_len,
		    "[server] listen and listen_tls: need 1 to %d addresses "
		    "together",
		    SOCKETS_ADDRESS_MAX);
		return ERR_BAD_REQUEST;
	}
	return 0;
}

static int
check_folder(const char *key, const char *path, bool is_background, char *error,
    size_t error_len)
{
	if (path == NULL || *path == '\0') {
		snprintf(
		    error, error_len, "[server] %s: must not be empty", key);
		return ERR_BAD_REQUEST;
	}
	if (is_background && *path != '/') {
		snprintf(error, error_len,
		    "[server] %s: must be an absolute path unless parleyd "
		    "stays in the foreground (-f)",
		    key);
		return ERR_BAD_REQUEST;
	}
	return 0;
}

static int
check_origins(const struct conf *conf, char *error, size_t error_len)
{
	const struct conf_list *origins = &conf->server_allowed_origins;

	for (size_t i = 0; i < origins->count; i++) {
		if (origin_is_valid(origins->items[i]))
			continue;
		snprintf(error, error_len,
		    "[server] allowed_origins: \"%s\" is no origin: expected "
		    "scheme://host or scheme://host:port",
		    origins->items[i]);
		return ERR_BAD_REQUEST;
	}
	return 0;
}

/* Schemes or hosts: with the other part they are origins. */
static int
check_origin_parts(const char *key, const struct conf_list *items,
    bool are_schemes, char *error, size_t error_len)
{
	char origin[300];

	for (size_t i = 0; i < items->count; i++) {
		const char *item = items->items[i];

		if (!are_schemes && item[0] == '.')
			item++; /* all hosts below it */
		snprintf(origin, sizeof(origin), "%s://%s",
		    are_schemes ? item : "https", are_schemes ? "host" : item);
		if (strpbrk(item, ":/") == NULL && strlen(item) < 256 &&
		    origin_is_valid(origin))
			continue;
		snprintf(error, error_len, "[policy] %s: \"%s\" is %s", key,
		    items->items[i],
		    are_schemes ? "no scheme: expected a name such as https"
				: "no host: expected a name such as "
				  "files.example.org or .example.org");
		return ERR_BAD_REQUEST;
	}
	return 0;
}

static int
check_networks(const char *key, const struct conf_list *texts, char *error,
    size_t error_len)
{
	struct network network;

	for (size_t i = 0; i < texts->count; i++) {
		const char *wrong = network_parse(texts->items[i], &network);

		if (wrong == NULL)
			continue;
		snprintf(error, error_len,
		    "%s: \"%s\" %s: expected an address or a network such as "
		    "192.0.2.0/24 or 2001:db8::/32",
		    key, texts->items[i], wrong);
		return ERR_BAD_REQUEST;
	}
	return 0;
}

static int
check_ice_urls(const char *key, const struct conf_list *urls,
    enum ice_kind kind, char *error, size_t error_len)
{
	for (size_t i = 0; i < urls->count; i++) {
		if (ice_url_is_valid(urls->items[i], kind))
			continue;
		snprintf(error, error_len,
		    "[ice] %s: \"%s\" is none: expected %s", key,
		    urls->items[i],
		    kind == ICE_STUN
			? "stun:host:port or stuns:host:port"
			: "turn:host:port or turns:host:port, then "
			  "nothing, ?transport=udp or "
			  "?transport=tcp");
		return ERR_BAD_REQUEST;
	}
	return 0;
}

static int
check_ice(const struct conf *conf, char *error, size_t error_len)
{
	int rc = check_ice_urls(
	    "stun_urls", &conf->ice_stun_urls, ICE_STUN, error, error_len);

	if (rc == 0)
		rc = check_ice_urls("turn_urls", &conf->ice_turn_urls, ICE_TURN,
		    error, error_len);
	if (rc == 0 && conf->ice_turn_urls.count > 0 &&
	    conf->ice_turn_secret.count == 0) {
		snprintf(error, error_len,
		    "[ice] turn_urls: need turn_secret, the one that the TURN "
		    "servers have");
		rc = ERR_BAD_REQUEST;
	}
	return rc;
}

/* A token would make somebody whom the database does not have. */
static int
check_users(const struct conf *conf, char *error, size_t error_len)
{
	if (!conf_users_are_remote(conf) || !conf->auth_auto_provision)
		return 0;
	snprintf(error, error_len,
	    "[auth] auto_provision: must be no with [directory] backend = %s: "
	    "the database alone says who there is",
	    conf->directory_backend);
	return ERR_BAD_REQUEST;
}

int
check_conf(
    const struct conf *conf, bool is_background, char *error, size_t error_len)
{
	struct jwt_verifier *verifier = NULL;
	int rc = check_listen(conf, error, error_len);

	if (rc == 0)
		rc = check_folder("data_dir", conf->server_data_dir,
		    is_background, error, error_len);
	if (rc == 0)
		rc = check_folder("run_dir", conf->server_run_dir,
		    is_background, error, error_len);
	if (rc == 0)
		rc = check_origins(conf, error, error_len);
	if (rc == 0)
		rc = check_origin_parts("attachment_schemes",
		    &conf->policy_attachment_schemes, true, error, error_len);
	if (rc == 0)
		rc = check_origin_parts("attachment_hosts",
		    &conf->policy_attachment_hosts, false, error, error_len);
	if (rc == 0)
		rc = check_networks("[server] trusted_proxies",
		    &conf->server_trusted_proxies, error, error_len);
	if (rc == 0)
		rc = check_networks(
		    "[limits] exempt", &conf->limits_exempt, error, error_len);
	if (rc == 0)
		rc = check_ice(conf, error, error_len);
	if (rc == 0)
		rc = check_users(conf, error, error_len);
	if (rc == 0 && strcmp(conf->directory_backend, "mssql") == 0)
		rc = tds_conf_check(conf, error, error_len);
	if (rc == 0)
		rc = certs_read(conf, false, NULL, error, error_len);
	if (rc == 0)
		rc = jwt_verifier_new(conf, &verifier, error, error_len);
	jwt_verifier_free(&verifier);
	return rc;
}
