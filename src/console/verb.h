/*
 * verb.h - a verb being executed: arguments checked by its row, an answer
 * that grows, perhaps a conversation with the keeper.
 */
#ifndef CONSOLE_VERB_H
#define CONSOLE_VERB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "console/keeper_call.h"

#define VERB_ARGS_MAX 2

struct job;
struct json_object;
struct txn;
typedef void (*verb_fn)(struct job *job);

struct verb_row {
	const char *name;
	verb_fn fn; /* NULL: parleyctl's own */
	size_t arg_min;
	size_t arg_max;
	const char *options;
};

enum job_code { JOB_OK = 0, JOB_FAILED = 1, JOB_USAGE = 2 };

struct job {
	struct console *console;
	struct json_object *request; /* owns args and options */
	const struct json_object *options;
	const char *args[VERB_ARGS_MAX];
	size_t arg_count;
	bool wants_json;
	bool is_done;
	struct buf fields; /* the answer's object, open */
	struct buf text;   /* the same for people */
	struct keeper_call call;
	void (*step_fn)(struct job *job, const struct keeper_answer *answer);
	/* of a verb that works in pieces */
	uint64_t next;
	uint64_t last;
	uint64_t other;
	uint64_t made;
	uint32_t op;
	uint32_t piece;
};

/** Begin to execute one request line; never NULL, perhaps done at once. */
struct job *job_new(struct console *console, const char *line, size_t len);
/** Accepts NULL and clears; a running call is forgotten. */
void job_free(struct job **job);
/** The answer as one line with its newline; is_done must be true. */
void job_answer(struct job *job, struct buf *out);

/* One function per row of verbs.def that is not parleyctl's own. */
#define VERB_DECLARE_CONSOLE(id) void verb_##id(struct job *job);
#define VERB_DECLARE_LOCAL(id)
#define VERB(id, name, where, min, max, options, usage, help)                  \
	VERB_DECLARE_##where(id)
#include "console/verbs.def"
#undef VERB

/* For verbs. */
void job_finish(struct job *job);
void job_fail(struct job *job, enum job_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/** The sentence for an ERR_*. */
void job_fail_rc(struct job *job, int rc);
/** Ask the keeper; step_fn continues. */
void job_ask(struct job *job, uint16_t type, const void *record, size_t len,
    void (*step_fn)(struct job *job, const struct keeper_answer *answer));
/** Value of an option, "" for one without, NULL: not given. */
const char *job_option(const struct job *job, const char *name);
/** @return 0, or ERR_BAD_REQUEST: the job has failed */
NODISCARD int job_user_id(struct job *job, const char *text, uint64_t *id_out);
NODISCARD int job_number(struct job *job, const char *what, const char *text,
    uint64_t max, uint64_t *out);
/** Options limit (default and at most 1000) and cursor. @return as above */
NODISCARD int job_page(
    struct job *job, uint64_t *limit_out, uint64_t *cursor_out);
/** A read transaction of the main store. @return 0, else the job has failed */
NODISCARD int job_read_begin(struct job *job, struct txn *txn);

#endif
