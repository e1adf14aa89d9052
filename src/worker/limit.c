/*
 * limit.c - how fast one client, one user and one address may go.
 *
 * Role:    token buckets for what comes in; delays or refuses.
 * Process: worker; each knows what it serves itself, so a user with devices on
 *          several workers has as many times the limit.
 * Blocks:  never: a client that has to wait is not read.
 * Trust:   none in how much a client sends; a table of fixed size holds
 *          whoever comes.
 * See:     limit.h, commands.def, base/bucket.h, doc/operations.md (Limits of
 *          clients), t/47-rates.t.
 */
#include "worker/limit.h"

#include <stdlib.h>
#include <string.h>

#include "base/bucket.h"
#include "base/clock.h"
#include "base/count.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "net/net.h"
#include "worker/worker_priv.h"

/* 4,096 buckets of 16 bytes. One is in use while it is not full, so only who
 * has sent much in the last seconds needs a place. */
#define SETS 1024

/* What is no command costs what most do. */
#define COST_UNKNOWN 50
/* Parsing takes time by length: beyond the first so many bytes cost a unit. */
#define FREE_BYTES ((size_t)4096)
#define UNIT_BYTES 512

enum limit_kind { LIMIT_COMMANDS, LIMIT_QUERIES, LIMIT_KIND_END };

struct limits {
	uint64_t secrets[LIMIT_KIND_END];
	uint8_t peer_secret[16];
	struct bucket_set sets[SETS];
};

struct limits *
limits_new(void)
{
	struct limits *limits = xcalloc(1, sizeof(*limits));

	crypto_random(limits->secrets, sizeof(limits->secrets));
	crypto_random(limits->peer_secret, sizeof(limits->peer_secret));
	return limits;
}

void
limits_free(struct limits **limits)
{
	free(*limits);
	*limits = NULL;
}

/* Buckets count in us. */
static struct bucket_rate
rate_of(const struct worker *worker, int64_t units)
{
	return bucket_rate(units, 1000000, worker->conf->limits_burst * 1000);
}

static int64_t
to_ms(int64_t us)
{
	return (us + 999) / 1000;
}

/* Nobody chooses his number, so this need not withstand a cryptographer: it
 * spreads them (the end of MurmurHash3). */
static struct bucket *
user_bucket(struct limits *limits, enum limit_kind kind, uint64_t user)
{
	uint64_t key[2];

	key[1] = user ^ limits->secrets[kind];
	key[1] = (key[1] ^ key[1] >> 33) * UINT64_C(0xff51afd7ed558ccd);
	key[1] = (key[1] ^ key[1] >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	key[0] = key[1] >> 33;
	return bucket_find(limits->sets, SETS, key);
}

/* ---- commands: delayed ---- */

/* A user's limit is waited for in the bucket of the connection, which is there
 * without a limit of its own, too. */
static struct bucket_rate
pace_rate(const struct worker *worker)
{
	int64_t units = worker->conf->limits_commands_per_connection;

	return units == 0 ? (struct bucket_rate){1, 1} : rate_of(worker, units);
}

static void
count_for_user(struct session *session, const struct bucket_rate *own,
    int64_t cost, int64_t now_us)
{
	struct worker *worker = session->worker;
	struct bucket_rate rate =
	    rate_of(worker, worker->conf->limits_commands_per_user);
	struct bucket *bucket;

	if (rate.token == 0)
		return;
	bucket = user_bucket(worker->limits, LIMIT_COMMANDS, session->user);
	bucket_take(bucket, &rate, cost, now_us);
	bucket_hold_back(
	    &session->pace, own, bucket_wait(bucket, &rate, now_us), now_us);
}

static void
pace(struct session *session, int64_t cost, int64_t now_us)
{
	const struct conf *conf = session->worker->conf;
	struct bucket_rate own = pace_rate(session->worker);

	if (conf->limits_commands_per_connection != 0)
		bucket_take(&session->pace, &own, cost, now_us);
	if (session->state == SESSION_READY)
		count_for_user(session, &own, cost, now_us);
	if (bucket_wait(&session->pace, &own, now_us) == 0)
		return;
	COUNT(commands_delayed);
	session_pause(session, PAUSE_RATE);
	session_arm(session);
}

void
limit_pace(struct session *session, const struct command *command, size_t len,
    int64_t now_us)
{
	int64_t cost = command == NULL ? COST_UNKNOWN : command->cost;

	if (len > FREE_BYTES)
		cost += (int64_t)((len - FREE_BYTES) / UNIT_BYTES);
	pace(session, cost, now_us);
}

void
limit_pace_group(struct session *session, uint32_t members, int64_t now_us)
{
	if (session->state == SESSION_READY)
		pace(session, members, now_us);
}

int64_t
limit_pace_until_ms(const struct session *session)
{
	struct bucket_rate own = pace_rate(session->worker);
	int64_t now_us = clock_mono_us();

	if ((session->pauses & PAUSE_RATE) == 0)
		return 0;
	return to_ms(now_us + bucket_wait(&session->pace, &own, now_us));
}

void
limit_pace_look(struct session *session)
{
	struct bucket_rate own = pace_rate(session->worker);

	if ((session->pauses & PAUSE_RATE) == 0 ||
	    bucket_wait(&session->pace, &own, clock_mono_us()) > 0)
		return;
	/* Acknowledgements may lie behind what had to wait. */
	if (session->window_full_at_ms != 0)
		session->window_full_at_ms =
		    clock_mono_ms() +
		    session->worker->conf->policy_slow_consumer_timeout;
	session_resume(session, PAUSE_RATE);
}

/* ---- queries and tokens: refused ---- */

static int
refuse(struct request *request, int64_t wait_us, const char *what)
{
	request->retry_after_ms = to_ms(wait_us);
	return request_fail(request, ERR_RATE_LIMITED,
	    "%s, try again in %lld ms", what,
	    (long long)request->retry_after_ms);
}

static struct bucket_rate
query_rate(const struct request *request)
{
	int64_t units = request->worker->conf->limits_queries_per_user;

	return rate_of(
	    request->worker, request->command->query == 0 ? 0 : units);
}

int
limit_query(struct request *request, uint64_t user)
{
	struct bucket_rate rate = query_rate(request);
	struct bucket *bucket;
	int64_t now_us = clock_mono_us();
	int64_t wait_us;

	if (rate.token == 0)
		return 0;
	bucket = user_bucket(request->worker->limits, LIMIT_QUERIES, user);
	wait_us = bucket_wait(bucket, &rate, now_us);
	if (wait_us > 0) {
		COUNT(queries_limited);
		return refuse(
		    request, wait_us, "too many requests of this user");
	}
	bucket_take(bucket, &rate, request->command->query, now_us);
	return 0;
}

void
limit_give_back(const struct request *request, uint64_t user)
{
	struct bucket_rate rate = query_rate(request);

	if (rate.token == 0)
		return;
	bucket_give_back(
	    user_bucket(request->worker->limits, LIMIT_QUERIES, user), &rate,
	    request->command->query, clock_mono_us());
}

/* NULL: not limited. */
static struct bucket *
token_bucket(const struct request *request, const struct bucket_rate *rate)
{
	static const uint8_t unknown[16];
	struct limits *limits = request->worker->limits;
	uint8_t peer[16];
	uint64_t key[2];

	if (rate->token == 0 || ws_conn_is_exempt(request->session->conn))
		return NULL;
	ws_conn_peer_key(request->session->conn, peer);
	if (memcmp(peer, unknown, sizeof(unknown)) == 0)
		return NULL;
	crypto_siphash128(
	    limits->peer_secret, peer, sizeof(peer), (uint8_t *)key);
	return bucket_find(limits->sets, SETS, key);
}

int
limit_token(struct request *request)
{
	struct bucket_rate rate = rate_of(request->worker,
	    request->worker->conf->limits_bad_tokens_per_address);
	const struct bucket *bucket = token_bucket(request, &rate);
	int64_t wait_us =
	    bucket == NULL ? 0 : bucket_wait(bucket, &rate, clock_mono_us());

	if (wait_us == 0)
		return 0;
	COUNT(tokens_limited);
	return refuse(
	    request, wait_us, "too many wrong tokens from this address");
}

void
limit_bad_token(struct request *request)
{
	struct bucket_rate rate = rate_of(request->worker,
	    request->worker->conf->limits_bad_tokens_per_address);
	struct bucket *bucket = token_bucket(request, &rate);

	if (bucket != NULL)
		bucket_take(bucket, &rate, 1, clock_mono_us());
}
