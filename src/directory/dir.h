/*
 * dir.h - what a back end of the directory has to offer, and what it is given.
 *
 * A back end answers requests in its own time. Everything here is called on
 * the loop's thread and must not block: what may block (the store's cold
 * pages, scrypt, a database) goes to a pool (pool.h).
 *
 *     ops->run[request->op](backend, request, done)
 *             the request is the back end's from here on,
 *             also its threads' ...
 *     done(request, rc)
 *             ... until it calls done on the loop's thread: exactly once,
 *             perhaps before run returns
 *
 * rc is 0, with request->answer filled in, or ERR_*: ERR_UNAVAILABLE when the
 * back end cannot know at the moment. ERR_NOT_FOUND and ERR_AUTH_FAILED are
 * said on its authority only.
 *
 * The asker is told ERR_UNAVAILABLE at the request's deadline, whatever the
 * back end does; an answer after it is dropped. A back end may look at the
 * deadline to spare itself work, and must let go of every request in the end.
 */
#ifndef DIRECTORY_DIR_H
#define DIRECTORY_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "directory/pool.h"
#include "shm/bus.h"
#include "shm/ids.h"
#include "shm/records.h"
#include "shm/store.h"

#define DIR_LIST_MAX     1000         /* users of one page */
#define DIR_ANSWER_BYTES (128 * 1024) /* of one page */
/* One of messages: the longest that there can be is shorter. */
#define DIR_MESSAGES_BYTES (192 * 1024)

enum dir_op {
	DIR_OP_HISTORY,
	DIR_OP_LEARN,
	DIR_OP_PASSWORD,
	DIR_OP_UPDATE,
	DIR_OP_USER,
	DIR_OP_USERS,
	DIR_OP_END
};

/* The tail of a DIR_REPLY in the making. */
struct dir_answer {
	uint64_t user;        /* PASSWORD: who it is */
	uint64_t next_cursor; /* USERS: 0 on the last page */
	uint32_t user_count;
	bool is_partial; /* USERS: not all that belong there could be read */
	uint32_t message_count;
	bool has_more; /* HISTORY: beyond the last of them */
	uint8_t *tail; /* struct dir_user_entry or dir_message_entry, and
			* strings; NULL: none */
	size_t tail_len;
	size_t tail_room;
};

/* Checked against records.h; fields that the op does not have are zero. */
struct dir_request {
	enum dir_op op;
	int64_t deadline_ms; /* clock_mono_ms() */
	uint64_t asker;      /* all but PASSWORD; UPDATE: oneself */
	uint64_t user;       /* USER */
	uint64_t cursor;     /* USERS: ids above it */
	uint32_t limit;      /* USERS, HISTORY: 1..DIR_LIST_MAX */
	bool is_refresh;     /* do not answer from a cache */
	bool is_lesson;      /* USER, USERS: the roster asks, roster.h */
	bool is_idle;        /* LEARN: nobody waits */
	uint64_t *users;     /* LEARN: of whom the store knows nothing */
	size_t user_count;
	uint32_t flags;       /* UPDATE: USER_PUT_NAME, USER_PUT_PROFILE */
	struct conv_key conv; /* HISTORY */
	uint64_t before;      /* HISTORY: ids below it, 0: the newest */
	uint64_t after;       /* HISTORY: not 0: ids above it, oldest first */
	char *name;           /* PASSWORD: user name; UPDATE */
	size_t name_len;
	char *profile; /* UPDATE: a JSON object */
	size_t profile_len;
	char *password; /* PASSWORD; dir_request_wipe as soon as it was used */
	size_t password_len;
	uint8_t peer[16]; /* PASSWORD: whose limit it counts for */
	bool is_guess;    /* PASSWORD: the back end's: it counts as a wrong
			   * one, whatever is answered */
	struct dir_answer answer;
	void *owner;           /* directory.c's */
	struct flight *flight; /* cache.c's, while it passes through */
};

/* What a back end is given; lives longer than it. */
struct dir_host {
	const struct conf *conf;
	struct bus *bus; /* loop's thread only: the ring to the keeper */
	struct pool_results *results;
	struct store *store; /* main, for reading; LMDB allows a process only
			      * one of them. NULL unless the back end reads it
			      * or is remote or an outbox is on */
	/* Somebody else has changed a user: what is kept of him is not true
	 * any more. Loop's thread only. NULL: nobody wants to know. */
	void (*changed)(void *ctx, uint64_t user);
	void *changed_ctx;
};

struct batch;
struct dir_backend;
struct flight;
struct store;

typedef void (*dir_done_fn)(struct dir_request *request, int rc);
typedef void (*dir_op_fn)(
    struct dir_backend *backend, struct dir_request *request, dir_done_fn done);

/*
 * What the outbox has for a back end that keeps its data outside: write it,
 * in order, any number of times with the same result. The batch is the back
 * end's, also its threads', until it calls done on the loop's thread: exactly
 * once, perhaps before the call returns.
 *
 * rc 0: all of it is safe there, but for the entries that it has refused
 * (batch_refuse) because they can never be. Anything else: nothing is known
 * to be written, the same batch comes again, later; ERR_AGAIN: it is only
 * busy. Entries with is_refused set are passed over.
 */
typedef void (*dir_written_fn)(struct batch *batch, int rc);
typedef void (*dir_write_fn)(
    struct dir_backend *backend, struct batch *batch, dir_written_fn done);

struct dir_ops {
	const char *name;
	bool reads_store; /* host->store is there at its open */
	bool is_remote;   /* its answers about users are kept: for a while in
			   * cache.h, and in the store, roster.h */
	/** directory_check's part; open relies on it. May be NULL. */
	int (*check)(const struct conf *conf, char *error, size_t error_len);
	/**
	 * Must not wait for what is outside this machine.
	 *
	 * @param error  one line, for ERR other than ERR_AGAIN too
	 * @return       0; ERR_AGAIN: not yet, ask again soon; else it cannot
	 *               start
	 */
	int (*open)(const struct dir_host *host,
	    struct dir_backend **backend_out, char *error, size_t error_len);
	/** All of them, see above; no LEARN if it is remote: roster.h. */
	dir_op_fn run[DIR_OP_END];
	/** Once per turn of the loop, after its rings were read. @return
	 *  clock_mono_ms() at which it wants the next one at the latest; 0:
	 *  soon, something waits for room; INT64_MAX: any. May be NULL. */
	int64_t (*turn)(struct dir_backend *backend);
	/** With cache_forget (cache.h): what the back end itself keeps of this
	 *  user, or of whom he knows, is not true any more. May be NULL. */
	void (*forget)(struct dir_backend *backend, uint64_t user);
	/** A keeper's reply to what the back end has put. May be NULL. */
	void (*keeper_reply)(
	    struct dir_backend *backend, const struct record_reply *reply);
	/** See above. NULL: the back end is the store itself. */
	dir_write_fn write_batch;
	/**
	 * Stop: done for what it still holds, ERR_UNAVAILABLE where it was not
	 * run, directly or through the results (collected once more after it).
	 *
	 * @param until_ms  clock_mono_ms()
	 * @return          false: a thread is stuck and keeps what it has, and
	 *                  *backend what was not freed
	 */
	bool (*close)(struct dir_backend **backend, int64_t until_ms);
};

/**
 * Take a record's payload apart and check it.
 *
 * @param data         borrowed; a password in it is the caller's to wipe
 * @param request_out  the caller's; dir_request_free
 * @return             0, ERR_BAD_REQUEST, ERR_NO_MEMORY, ERR_AUTH_FAILED (a
 *                     name or password longer than any there can be)
 */
NODISCARD int dir_request_new(uint16_t type, const void *data, size_t len,
    struct dir_request **request_out);
/** Wipes the password too; accepts NULL and clears the pointer. */
void dir_request_free(struct dir_request **request);
/** Overwrite the password; any thread that owns the request. */
void dir_request_wipe(struct dir_request *request);

struct dir_user { /* borrowed strings */
	uint64_t id;
	int64_t last_seen_ms; /* 0: never, or not known here */
	const void *name;
	size_t name_len;
	const void *role;
	size_t role_len;
	const void *profile;
	size_t profile_len;
	bool is_stranger; /* not in the asker's list: no presence is shown */
};

/**
 * Add a user to the answer, whole or not at all.
 *
 * @return 0, ERR_FULL (the page is; go on behind the last one that it has),
 *         ERR_TOO_LARGE (a string that no record holds), ERR_NO_MEMORY
 */
NODISCARD int dir_answer_add(
    struct dir_answer *answer, const struct dir_user *user);
/**
 * Walk over the users of a tail that dir_answer_add has made.
 *
 * @param at_io  where the next one begins; the tail at first
 * @param out    views into the tail
 * @return       false: no more
 */
bool dir_answer_next(
    const uint8_t **at_io, const uint8_t *end, struct dir_user *out);

struct dir_message { /* borrowed strings */
	uint64_t id;
	uint64_t sender;
	uint64_t reply_to;
	int64_t client_time_ms; /* INT64_MIN: not given */
	int64_t changed_ms;
	unsigned flags; /* enum log_flags */
	struct blob body;
	struct blob type;
	struct blob attachment;
};

/**
 * Add a message to the answer, whole or not at all; the caller keeps their
 * order.
 *
 * @return 0, ERR_FULL (has_more is to be set), ERR_TOO_LARGE (no message that
 *         could have been sent), ERR_NO_MEMORY
 */
NODISCARD int dir_answer_add_message(
    struct dir_answer *answer, const struct dir_message *message);

#endif
