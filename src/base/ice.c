/*
 * ice.c - STUN and TURN servers for the ends of a call.
 *
 * Role:    checks their URLs, makes the credentials, writes both as JSON.
 * Process: supervisor (checks), workers, parleyctl.
 * Blocks:  never.
 * Trust:   the configuration is its owner's; its secret leaves as HMAC only.
 * See:     ice.h; doc/decisions/025; t/unit/ice.c, t/33-turn.t (coturn).
 */
#include "base/ice.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#define DAY_MS   INT64_C(86400000)
#define SHA1_LEN 20
#define PORT_MAX 65535

void
ice_name(const uint8_t key[16], uint64_t user, int64_t now_ms,
    char out[ICE_NAME_LEN + 1])
{
	/* Other uses of the key hash other things. */
	uint64_t input[3] = {
	    UINT64_C(0x656d616e20656369), user, (uint64_t)(now_ms / DAY_MS)};
	uint8_t hash[CRYPTO_HASH128_LEN];

	crypto_siphash128(key, input, sizeof(input), hash);
	text_hex(hash, ICE_NAME_LEN / 2, out);
}

void
ice_credential(
    const char *secret, const char *username, char out[ICE_CREDENTIAL_LEN + 1])
{
	uint8_t mac[SHA1_LEN];

	_Static_assert(ICE_CREDENTIAL_LEN == (SHA1_LEN + 2) / 3 * 4, "base64");
	crypto_hmac_sha1(
	    secret, strlen(secret), username, strlen(username), mac);
	crypto_base64(mac, sizeof(mac), out);
}

static void
urls_put(struct buf *out, const struct conf_list *urls)
{
	json_key(out, "urls");
	json_array_begin(out);
	for (size_t i = 0; i < urls->count; i++)
		json_string(out, urls->items[i], strlen(urls->items[i]));
	json_array_end(out);
}

static void
turn_put(
    struct buf *out, const struct conf *conf, const char *name, int64_t now_ms)
{
	char username[ICE_USERNAME_LEN + 1];
	char credential[ICE_CREDENTIAL_LEN + 1];

	snprintf(username, sizeof(username), "%lld:%.*s",
	    (long long)((now_ms + conf->ice_turn_ttl) / 1000), ICE_NAME_LEN,
	    name);
	ice_credential(conf->ice_turn_secret.items[0], username, credential);
	json_object_begin(out);
	urls_put(out, &conf->ice_turn_urls);
	json_put_text(out, "username", username);
	json_put_text(out, "credential", credential);
	json_object_end(out);
	mem_wipe(credential, sizeof(credential));
}

void
ice_servers_put(
    struct buf *out, const struct conf *conf, const char *name, int64_t now_ms)
{
	json_array_begin(out);
	if (conf->ice_stun_urls.count > 0) {
		json_object_begin(out);
		urls_put(out, &conf->ice_stun_urls);
		json_object_end(out);
	}
	/* supervisor/check.c: no turn_urls without a secret */
	if (conf->ice_turn_urls.count > 0 && conf->ice_turn_secret.count > 0)
		turn_put(out, conf, name, now_ms);
	json_array_end(out);
}

/* @return what follows the prefix, or NULL */
static const char *
skip(const char *text, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

/* A name, an IPv4 address or [IPv6]. @return what follows it, or NULL */
static const char *
skip_host(const char *text)
{
	const char *at = text;

	if (*at == '[') {
		at++;
		at += strspn(at, "0123456789abcdefABCDEF:.");
		return *at == ']' && at > text + 2 ? at + 1 : NULL;
	}
	while (isalnum((unsigned char)*at) || *at == '-' || *at == '.')
		at++;
	return at > text && *text != '-' && *text != '.' ? at : NULL;
}

/* ":port" or nothing. @return what follows it, or NULL */
static const char *
skip_port(const char *text)
{
	uint64_t port = 0;
	size_t len;

	if (*text != ':')
		return text;
	len = strspn(text + 1, "0123456789");
	if (text_parse_u64(text + 1, len, PORT_MAX, &port) != 0 || port == 0)
		return NULL;
	return text + 1 + len;
}

bool
ice_url_is_valid(const char *url, enum ice_kind kind)
{
	const char *at = skip(url, kind == ICE_STUN ? "stun:" : "turn:");

	if (at == NULL)
		at = skip(url, kind == ICE_STUN ? "stuns:" : "turns:");
	if (at != NULL)
		at = skip_host(at);
	if (at != NULL)
		at = skip_port(at);
	if (at == NULL || *at == '\0')
		return at != NULL;
	return kind == ICE_TURN && (strcmp(at, "?transport=udp") == 0 ||
				       strcmp(at, "?transport=tcp") == 0);
}
