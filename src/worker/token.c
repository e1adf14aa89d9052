/*
 * token.c - is a client's token good, and for how long?
 *
 * Role:    the one place where tokens are looked at, after their limit.
 * Process: worker.
 * Trust:   nothing in a token is believed before its signature was checked.
 * See:     base/jwt.h, limit.h, t/30-authenticate.t, t/47-rates.t.
 */
#include "base/clock.h"
#include "base/jwt.h"
#include "worker/limit.h"
#include "worker/worker_priv.h"

int
token_verify(struct request *request, const char *token, size_t len,
    struct jwt_claims *claims_out)
{
	const char *reason;
	int rc = limit_token(request);

	if (rc != 0)
		return rc;
	rc = jwt_verify(request->worker->jwt, token, len, clock_wall_ms(),
	    claims_out, &reason);
	if (rc == 0)
		return 0;
	limit_bad_token(request);
	return request_fail(request, rc, "%s", reason);
}

void
token_set_expiry(struct session *session, int64_t expires_at_ms)
{
	if (expires_at_ms != 0 && expires_at_ms <= clock_wall_ms())
		expires_at_ms += JWT_LEEWAY_S * 1000;
	session->expires_at_ms = expires_at_ms;
}

int
cmd_refresh_token(struct request *request)
{
	struct session *session = request->session;
	struct jwt_claims claims;
	const char *token;
	size_t len;
	int rc;

	rc = request_string(
	    request, "Token", FIELD_REQUIRED, 1, JWT_LEN_MAX, &token, &len);
	if (rc != 0)
		return rc;
	rc = token_verify(request, token, len, &claims);
	if (rc != 0)
		return rc;
	if (claims.user_id != session->user)
		return request_fail(
		    request, ERR_FORBIDDEN, "the token is for another user");
	session->key_id = claims.key_id;
	token_set_expiry(session, claims.expires_at_ms);
	session_arm(session);
	reply_ok(session, request->command, &request->id);
	return 0;
}
