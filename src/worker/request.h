/*
 * request.h - one command of a client: its fields, checked, and its reply.
 *
 * A getter that fails has written what was expected into request->message;
 * the handler just returns its code and the client reads the sentence.
 */
#ifndef WORKER_REQUEST_H
#define WORKER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#define REQUEST_ID_MAX 64

struct session;
struct worker;
struct request;

struct request_id {
	uint64_t number;
	uint8_t kind; /* 0 none, 1 number, 2 text */
	uint8_t len;
	char text[REQUEST_ID_MAX];
};

struct command {
	const char *name;
	int (*fn)(struct request *request);
	uint8_t states;   /* bit n: enum session_state n */
	bool is_in_order; /* its reply, by Seq */
	uint8_t cost;     /* limit.h */
	uint8_t query;    /* limit.h */
};

struct request {
	struct worker *worker;
	struct session *session;
	const struct command *command;
	const struct json_object *json;
	struct request_id id;
	int64_t started_us;     /* monotonic */
	int64_t retry_after_ms; /* for UNAVAILABLE, RATE_LIMITED */
	char message[256];
};

enum field { FIELD_REQUIRED, FIELD_OPTIONAL };

/** Wrong value of a field: "Seq: expected ..."; returns ERR_BAD_REQUEST. */
int request_bad_field(struct request *request, const char *field,
    const char *expected, ...) __attribute__((format(printf, 3, 4)));
/** A sentence for the client; returns rc. */
int request_fail(struct request *request, int rc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** @return 0; ERR_NOT_FOUND: optional and absent (out is untouched);
 *          ERR_BAD_REQUEST */
NODISCARD int request_u64(struct request *request, const char *field,
    enum field kind, uint64_t min, uint64_t max, uint64_t *out);
NODISCARD int request_i64(
    struct request *request, const char *field, enum field kind, int64_t *out);
/** A decimal string: MessageId and the like. */
NODISCARD int request_id(
    struct request *request, const char *field, enum field kind, uint64_t *out);
NODISCARD int request_string(struct request *request, const char *field,
    enum field kind, size_t min, size_t max, const char **text_out,
    size_t *len_out);
NODISCARD int request_bool(
    struct request *request, const char *field, bool *out);
/** A list of at most max user ids: sorted, unique. */
NODISCARD int request_user_set(struct request *request, const char *field,
    enum field kind, size_t max, uint64_t *users_out, size_t *count_out);
/** ToUserList: sorted, unique, without the caller unless it is alone. */
NODISCARD int request_users(struct request *request, const char *field,
    uint64_t *users_out, size_t *count_out);

/* ---- replies ---- */

/** Begin the reply: Command, RequestId, Reason; fields may follow. */
struct buf *reply_begin(struct worker *worker, const char *command,
    const struct request_id *id, int rc);
/** NextCursor: a number or an id in a string; null on the last page. */
void reply_put_cursor(struct buf *buf, uint64_t next, bool is_id);
/** End it and send it. */
void reply_finish(struct session *session, struct buf *buf);
/** IceServers, for the one to whom it goes; never to be logged. */
void reply_put_ice_servers(struct session *session, struct buf *buf);
/** A whole reply without fields. */
void reply_ok(struct session *session, const struct command *command,
    const struct request_id *id);
/** A whole error reply. retry_after_ms < 0: none, but UNAVAILABLE has one. */
void reply_error(struct session *session, const char *command,
    const struct request_id *id, int rc, const char *message,
    int64_t retry_after_ms);

/** A text message of the client: parse, check the row, call the handler. */
void command_dispatch(struct session *session, char *data, size_t len);

#define COMMAND(name, function, states, reply, cost, query, doc)               \
	int cmd_##function(struct request *request);
#include "worker/commands.def"
#undef COMMAND

#endif
