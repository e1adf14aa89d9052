/*
 * keeper_call.h - one question to the keeper and its answer.
 */
#ifndef CONSOLE_KEEPER_CALL_H
#define CONSOLE_KEEPER_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "console/console_priv.h"

struct keeper_answer {
	int rc; /* 0 or ERR_*; ERR_TIMEOUT: the keeper did not answer */
	uint64_t value;
};

typedef void (*keeper_answer_fn)(void *ctx, const struct keeper_answer *answer);

struct keeper_call { /* zeroed: idle; embed it */
	TAILQ_ENTRY(keeper_call) link;
	bool is_open; /* in the list */
	bool is_put;  /* in the ring; else it waits for room */
	uint64_t req;
	int64_t deadline_ms;
	uint16_t type;
	struct buf record;
	keeper_answer_fn fn;
	void *ctx;
};

/**
 * Ask. fn is called once, from keeper_calls_read, unless the call is ended
 * before.
 *
 * @param type    a record whose payload begins with its req, which is set here
 * @param record  copied
 */
void keeper_call_begin(struct console *console, struct keeper_call *call,
    uint16_t type, const void *record, size_t len);
/** Forget it, answered or not; the record may still be applied. */
void keeper_call_end(struct console *console, struct keeper_call *call);

/* Parts of the turn. */
/** Answers out of the ring, then those whose time is up. */
void keeper_calls_read(struct console *console);
/** What is not in the ring yet. */
void keeper_calls_put(struct console *console);

#endif
