/*
 * ctl_token.c - a token that logs a user in.
 *
 * Role:    signs with the first HS256 secret of the configuration.
 * Process: parleyctl; needs no running server.
 * Blocks:  no.
 * Trust:   who can read the secret could sign by hand as well.
 * See:     base/jwt.h.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/jwt.h"
#include "base/mem.h"
#include "base/text.h"
#include "ctl/ctl_priv.h"
#include "shm/ids.h"

#define TTL_DEFAULT_S 3600
#define TTL_MAX_S     315360000 /* ten years */

static const char *
set_or_null(const char *text)
{
	return text != NULL && *text != '\0' ? text : NULL;
}

static void
print_token(const struct ctl *ctl, const char *token, uint64_t user,
    int64_t expires_at_ms)
{
	struct buf json = {0};

	if (!ctl->wants_json) {
		puts(token);
		return;
	}
	json_object_begin(&json);
	json_put_bool(&json, "ok", true);
	json_put_u64(&json, "id", user);
	json_put_text(&json, "token", token);
	json_put_i64(&json, "expires_at_ms", expires_at_ms);
	json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	buf_fini(&json);
}

int
ctl_token(struct ctl *ctl)
{
	const struct conf *conf = ctl->conf;
	const char *ttl = ctl_option(ctl, "ttl");
	const char *name = ctl_option(ctl, "name");
	int64_t now_ms = clock_wall_ms();
	uint64_t ttl_s = TTL_DEFAULT_S;
	uint64_t user;
	char *token;

	if (text_parse_u64(
		ctl->args[0], strlen(ctl->args[0]), USER_ID_MAX, &user) != 0 ||
	    user == 0)
		return ctl_fail(
		    ctl, CTL_USAGE, "\"%s\" is not a user id", ctl->args[0]);
	if (ttl != NULL &&
	    (text_parse_u64(ttl, strlen(ttl), TTL_MAX_S, &ttl_s) != 0 ||
		ttl_s == 0))
		return ctl_fail(ctl, CTL_USAGE,
		    "--ttl: must be 1 to %d seconds", TTL_MAX_S);
	if (name != NULL && (strlen(name) > JWT_NAME_MAX ||
				!text_utf8_valid(name, strlen(name))))
		return ctl_fail(ctl, CTL_USAGE,
		    "--name: at most %d bytes of UTF-8", JWT_NAME_MAX);
	if (conf->auth_jwt_hs256_secret.count == 0)
		return ctl_fail(ctl, CTL_FAILED,
		    "[auth] jwt_hs256_secret is not set: nothing to sign with");
	token = jwt_sign_hs256(conf->auth_jwt_hs256_secret.items[0], user, name,
	    set_or_null(conf->auth_jwt_issuer),
	    set_or_null(conf->auth_jwt_audience), now_ms, (int64_t)ttl_s);
	if (token == NULL)
		return ctl_fail(ctl, CTL_FAILED,
		    "[auth] jwt_hs256_secret cannot be used: it needs 32 bytes "
		    "or more");
	print_token(ctl, token, user, now_ms + (int64_t)ttl_s * 1000);
	mem_wipe(token, strlen(token));
	free(token);
	return CTL_OK;
}
