/*
 * limit.h - how fast one client, one user and one address may go: [limits].
 *
 * Commands are paced: over the limit the client is read more slowly and hears
 * nothing of it (protocol.md: limits on sends delay reading). Queries are
 * refused: RATE_LIMITED. What each costs stands in commands.def.
 *
 * A connection has a bucket of its own in its session; users and addresses
 * have theirs in a table of this worker, so that coming again fills none.
 */
#ifndef WORKER_LIMIT_H
#define WORKER_LIMIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct command;
struct limits;
struct request;
struct session;

struct limits *limits_new(void);
void limits_free(struct limits **limits);

/**
 * A text was taken: count it, and stop reading if that was too much.
 *
 * @param command  NULL: it named none that we know
 * @param len      bytes of the text
 */
void limit_pace(struct session *session, const struct command *command,
    size_t len, int64_t now_us);
/** A message of his was stored for so many members of a group, which costs as
 *  much as so many messages. */
void limit_pace_group(
    struct session *session, uint32_t members, int64_t now_us);
/** When the client is to be read again, monotonic; 0: it does not wait. */
int64_t limit_pace_until_ms(const struct session *session);
/** Is it time? Then read it. */
void limit_pace_look(struct session *session);

/**
 * May the request be answered now? Counts for user, who may be about to log in.
 *
 * @return 0, or ERR_RATE_LIMITED with message and retry_after_ms set
 */
NODISCARD int limit_query(struct request *request, uint64_t user);
/** It could not be done: take it out of the count. */
void limit_give_back(const struct request *request, uint64_t user);
/**
 * Before a token is looked at, which takes longer than most that we do: has
 * this address shown too many that were wrong?
 *
 * @return 0, or ERR_RATE_LIMITED with message and retry_after_ms set
 */
NODISCARD int limit_token(struct request *request);
/** One was looked at, and was wrong. */
void limit_bad_token(struct request *request);

#endif
