/*
 * roster_priv.h - what the files of the roster share.
 */
#ifndef DIRECTORY_ROSTER_PRIV_H
#define DIRECTORY_ROSTER_PRIV_H

#include <sys/queue.h>

#include "base/buf.h"
#include "directory/roster.h"

struct lesson;
struct refresh;

/* Called on the loop: 0, it is in the store; ERR_UNAVAILABLE: perhaps not. */
typedef void (*news_done_fn)(void *ctx, int rc);

/* Something that the back end has said. */
struct news {
	STAILQ_ENTRY(news) link;
	uint64_t asker;
	uint64_t above;  /* who of these ids is in his list was said: above */
	uint64_t upto;   /* this one and up to that one; 0: of nobody */
	bool is_partial; /* ... but somebody of them could not be read */
	bool is_gone;    /* the asker is no user */
	uint8_t *tail;   /* as of an answer */
	size_t tail_len;
	news_done_fn done; /* NULL: nobody waits */
	void *ctx;
};
STAILQ_HEAD(news_list, news);

TAILQ_HEAD(refresh_list, refresh);

/* ---- roster_diff.c: on the thread ---- */

/* A record for the keeper; its payload follows, padded to 8. */
struct roster_record {
	uint16_t type;
	uint16_t reserved;
	uint32_t len;
};

/**
 * What the keeper has to do for the store to be as was said.
 *
 * @param news       in the order in which they were said
 * @param req        of each record
 * @param out        struct roster_record and payload, again and again
 * @param count_out  how many
 * @return           0, the store's error
 */
NODISCARD int roster_diff(struct store *store, const struct news_list *news,
    uint64_t req, struct buf *out, size_t *count_out);

/* ---- roster.c ---- */

/**
 * Put into the store what an answer says.
 *
 * @param request  USER or USERS, answered; its tail is copied
 * @param rc       of it: 0, or ERR_NOT_FOUND to a user about himself
 * @param done     NULL: nobody waits
 */
void roster_take(struct roster *roster, const struct dir_request *request,
    int rc, news_done_fn done, void *ctx);

/* ---- roster_learn.c ---- */

struct roster_lessons {
	unsigned idle_count;         /* under way that nobody waits for */
	struct refresh *refreshes;   /* users to be looked up, by id */
	struct refresh_list waiting; /* the same, oldest first */
};

void lessons_init(struct roster_lessons *lessons);
void lessons_fini(struct roster_lessons *lessons);
/** DIR_OP_LEARN. */
void lesson_run(
    struct roster *roster, struct dir_request *request, dir_done_fn done);
/** Look up a user and his list when there is time. */
void lesson_refresh(struct roster *roster, uint64_t user);
/** Once per turn. */
void lessons_turn(struct roster *roster);

struct roster_lessons *roster_lessons(struct roster *roster);
const struct dir_host *roster_host(const struct roster *roster);
struct cache *roster_cache(struct roster *roster);
bool roster_is_stopping(const struct roster *roster);

#endif
