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

/* Whose checks are asked besides; main.c's table. */
static struct {
	const struct process_kind *kinds;
	size_t count;
} others;

void
check_use(const struct process_kind *kinds, size_t count)
{
	others.kinds = kinds;
	others.count = count;
}

static int
check_others(const struct conf *conf, char *error, size_t error_len)
{
	int rc = 0;

	for (size_t i = 0; i < others.count && rc == 0; i++) {
		if (others.kinds[i].check_fn != NULL)
			rc = others.kinds[i].check_fn(conf, error, error_len);
	}
	return rc;
}

static int
check_listen(const struct conf_check *check)
{
	const struct conf *conf = check->conf;
	size_t count =
	    conf->server_listen.count + conf->server_listen_tls.count;

	if (count == 0 || count > SOCKETS_ADDRESS_MAX)
		return conf_refuse(check, "server", "listen",
		    "it and listen_tls need 1 to %d addresses together",
		    SOCKETS_ADDRESS_MAX);
	return 0;
}

static int
check_folder(const struct conf_check *check, const char *key, const char *path,
    bool is_background)
{
	if (path == NULL || *path == '\0')
		return conf_refuse(check, "server", key, "must not be empty");
	if (is_background && *path != '/')
		return conf_refuse(check, "server", key,
		    "must be an absolute path unless parleyd stays in the "
		    "foreground (-f)");
	return 0;
}

static int
check_origins(const struct conf_check *check)
{
	const struct conf_list *origins = &check->conf->server_allowed_origins;

	for (size_t i = 0; i < origins->count; i++) {
		if (!origin_is_valid(origins->items[i]))
			return conf_refuse(check, "server", "allowed_origins",
			    "\"%s\" is no origin: expected scheme://host or "
			    "scheme://host:port",
			    origins->items[i]);
	}
	return 0;
}

/* Schemes or hosts: with the other part they are origins. */
static int
check_origin_parts(const struct conf_check *check, const char *key,
    const struct conf_list *items, bool are_schemes)
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
		return conf_refuse(check, "policy", key, "\"%s\" is %s",
		    items->items[i],
		    are_schemes ? "no scheme: expected a name such as https"
				: "no host: expected a name such as "
				  "files.example.org or .example.org");
	}
	return 0;
}

static int
check_networks(const struct conf_check *check, const char *section,
    const char *key, const struct conf_list *texts)
{
	struct network network;

	for (size_t i = 0; i < texts->count; i++) {
		const char *wrong = network_parse(texts->items[i], &network);

		if (wrong != NULL)
			return conf_refuse(check, section, key,
			    "\"%s\" %s: expected an address or a network "
			    "such as 192.0.2.0/24 or 2001:db8::/32",
			    texts->items[i], wrong);
	}
	return 0;
}

static int
check_ice_urls(const struct conf_check *check, const char *key,
    const struct conf_list *urls, enum ice_kind kind)
{
	for (size_t i = 0; i < urls->count; i++) {
		if (!ice_url_is_valid(urls->items[i], kind))
			return conf_refuse(check, "ice", key,
			    "\"%s\" is none: expected %s", urls->items[i],
			    kind == ICE_STUN
				? "stun:host:port or stuns:host:port"
				: "turn:host:port or turns:host:port, then "
				  "nothing, ?transport=udp or "
				  "?transport=tcp");
	}
	return 0;
}

static int
check_ice(const struct conf_check *check)
{
	const struct conf *conf = check->conf;
	int rc =
	    check_ice_urls(check, "stun_urls", &conf->ice_stun_urls, ICE_STUN);

	if (rc == 0)
		rc = check_ice_urls(
		    check, "turn_urls", &conf->ice_turn_urls, ICE_TURN);
	if (rc == 0 && conf->ice_turn_urls.count > 0 &&
	    conf->ice_turn_secret.count == 0)
		rc = conf_refuse(check, "ice", "turn_urls",
		    "need turn_secret, the one that the TURN servers have");
	return rc;
}

/* A token would make somebody whom the database does not have. */
static int
check_users(const struct conf_check *check)
{
	const struct conf *conf = check->conf;

	if (!conf_users_are_remote(conf) || !conf->auth_auto_provision)
		return 0;
	return conf_refuse(check, "auth", "auto_provision",
	    "must be no with [directory] backend = %s: the database alone says "
	    "who there is",
	    conf->directory_backend);
}

int
check_conf(
    const struct conf *conf, bool is_background, char *error, size_t error_len)
{
	const struct conf_check check = {conf, error, error_len};
	struct jwt_verifier *verifier = NULL;
	int rc = check_listen(&check);

	if (rc == 0)
		rc = check_folder(
		    &check, "data_dir", conf->server_data_dir, is_background);
	if (rc == 0)
		rc = check_folder(
		    &check, "run_dir", conf->server_run_dir, is_background);
	if (rc == 0)
		rc = check_origins(&check);
	if (rc == 0)
		rc = check_origin_parts(&check, "attachment_schemes",
		    &conf->policy_attachment_schemes, true);
	if (rc == 0)
		rc = check_origin_parts(&check, "attachment_hosts",
		    &conf->policy_attachment_hosts, false);
	if (rc == 0)
		rc = check_networks(&check, "server", "trusted_proxies",
		    &conf->server_trusted_proxies);
	if (rc == 0)
		rc = check_networks(
		    &check, "limits", "exempt", &conf->limits_exempt);
	if (rc == 0)
		rc = check_ice(&check);
	if (rc == 0)
		rc = check_users(&check);
	if (rc == 0)
		rc = check_others(conf, error, error_len);
	if (rc == 0)
		rc = certs_read(conf, false, NULL, error, error_len);
	if (rc == 0)
		rc = jwt_verifier_new(conf, &verifier, error, error_len);
	jwt_verifier_free(&verifier);
	return rc;
}
