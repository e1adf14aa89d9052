/*
 * token.c - is a client's token good?
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
