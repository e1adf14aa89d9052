/*
 * session.h - one connection and, once logged in, one device of a user.
 *
 * The delivery rules (protocol.md, Inbox) are kept with five numbers:
 *
 *     acked <= window_base <= sent <= head
 *
 *   acked        what the device has acknowledged
 *   window_base  acked, moved over replies that stood for events: only events
 *                fill the window
 *   sent         the last Seq given to the device, as event or reply
 *   head         the last Seq that this worker knows to exist
 */
#ifndef WORKER_SESSION_H
#define WORKER_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <uthash.h>

#include "base/bucket.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/wheel.h"
#include "shm/records.h"

#define SESSION_MAGIC        0x5e551047u
#define SENDS_UNANSWERED_MAX 64 /* protocol.md, Retries */
/* Requests of other kinds under way. The answer to one may be a page of a
 * megabyte, so this bounds what a client that does not read can cost. */
#define QUERIES_UNANSWERED_MAX 8
/* Signals under way, beyond which nothing more is read; with one more they fit
 * what a receiver's output has for them (ephemeral.c). */
#define SIGNAL_BYTES_UNANSWERED_MAX (128 * 1024)
#define OUTPUT_BYTES_MAX            (512 * 1024) /* queued; nothing is read above */

struct worker;
struct ws_conn;
struct pending;

enum session_state {
	SESSION_NEW,      /* connected, not logged in */
	SESSION_CHECKING, /* credentials or login under way, not read */
	SESSION_ENTERING, /* logged in; the reply is being made */
	SESSION_READY,
	SESSION_LEAVING, /* P_LOGOUT or P_CLOSE under way */
	SESSION_GONE,    /* the connection is closed */
	SESSION_STATE_END
};

/* Why the socket is not read at the moment; bits. */
enum session_pause {
	PAUSE_LOGIN = 1,
	PAUSE_SENDS = 2,     /* SENDS_UNANSWERED_MAX reached */
	PAUSE_RING = 4,      /* no room for a record or for its reply */
	PAUSE_STOP = 8,      /* the worker is stopping */
	PAUSE_OUTPUT = 16,   /* replies pile up: the client does not read */
	PAUSE_QUERIES = 32,  /* QUERIES_UNANSWERED_MAX reached */
	PAUSE_RATE = 64,     /* it sends too much, see limit.h */
	PAUSE_SIGNALS = 128, /* SIGNAL_BYTES_UNANSWERED_MAX reached */
};

/* A reply that has to wait for the events before it. */
struct held_reply {
	STAILQ_ENTRY(held_reply) link;
	uint64_t seq; /* 0: goes out with the one before it */
	size_t len;
	char text[];
};
STAILQ_HEAD(held_list, held_reply);

/* A receipt that goes out with the next tick. */
struct receipt {
	struct conv_key conv;
	uint64_t user;
	uint64_t delivered;
	uint64_t read;
};

/* How far presence and calls have been read again; ephemeral.c. */
struct again {
	uint64_t call;    /* calls up to this are told */
	uint64_t user;    /* of the list up to this */
	uint64_t version; /* of the first page: with the last one all up to
			     this was told; 0: there was none yet */
};

/* What P_AUTHENTICATE said, kept until the login is done. */
struct login_params;

struct session {
	uint32_t magic;
	uint8_t state;  /* enum session_state; session_set_state */
	uint8_t pauses; /* enum session_pause */
	uint8_t status; /* enum user_status as the client set it */
	uint8_t name_len;
	uint64_t id; /* 0 before the login */
	uint64_t user;
	char *name; /* of the user, not NUL-terminated */
	struct worker *worker;
	struct ws_conn *conn;
	struct login_params *login;
	char *bearer; /* token of the upgrade request, until the login */

	/* delivery */
	uint64_t acked;
	uint64_t window_base;
	uint64_t sent;
	uint64_t last_event; /* last Seq that went out as an event */
	uint64_t head;
	uint32_t pending; /* requests under way, of any kind */
	LIST_HEAD(, pending) pending_list;
	uint32_t signal_bytes; /* of P_SIGNAL under way */
	uint16_t sends_unanswered;
	uint16_t queries_unanswered;
	bool is_reading;      /* a backlog job is under way */
	bool is_head_unknown; /* deliveries were dropped: the next job looks */
	bool is_ack_due;      /* acked is to be told to the keeper */
	bool is_auto_away;
	bool is_presence_due;     /* a P_PRESENCE was dropped */
	bool is_presence_reading; /* it is read again, page by page */
	bool is_presence_job;     /* and a job for that is under way */
	bool is_typing;           /* a P_TYPING is with the reader thread */
	bool is_waiting;          /* on the worker's list of that name */
	bool has_end_due;         /* SESSION_END is to be told to the keeper */
	struct held_list held;
	/* What has this version (shm/presence.h) or a lower one was told. While
	 * something is due or being read, nothing above it counts as told; else
	 * what came since has been told, too. */
	uint64_t presence_upto;
	struct again again;
	struct buf early; /* events that wait for the login's reply */
	struct receipt *receipts;
	uint16_t receipt_count;

	/* hold.c */
	bool is_held; /* has a row of that number */
	bool is_put;  /* the holder has the socket */
	bool was_put; /* this one or one before it */
	uint32_t hold_row;

	/* deadlines */
	struct wheel_timer timer;  /* the earliest of these */
	int64_t auth_at_ms;        /* monotonic; 0: none */
	int64_t expires_at_ms;     /* wall clock; 0: never */
	uint64_t key_id;           /* that has signed its token; 0: password */
	int64_t window_full_at_ms; /* monotonic; 0: not full */
	int64_t away_at_ms;        /* monotonic */
	int64_t logout_at_ms;      /* monotonic; 0: not logging out */
	int64_t presence_at_ms;    /* monotonic; 0: reading it has not failed */
	struct bucket pace;        /* of commands, us; see limit.h */

	uint64_t *known;    /* people it has written to, learn.c; NULL */
	struct buf stalled; /* a request that waits for room, or its turn */
	TAILQ_ENTRY(session) stalled_link;
	TAILQ_ENTRY(session) due_link; /* worker's due list */
	TAILQ_ENTRY(session) waiting_link;
	bool is_due;
	bool is_stalled;
	bool has_receipt_link;
	TAILQ_ENTRY(session) receipt_link;

	/* session_index: by user; further sessions of the same user */
	struct session *next_same_user;
	bool is_indexed;
	UT_hash_handle hh;
};

struct session *session_new(struct worker *worker, struct ws_conn *conn);
/** A connection's session; NULL: none (any more). */
struct session *session_of(struct ws_conn *conn);
/** Only writer of state: logs, counts. */
void session_set_state(struct session *session, enum session_state state);
/** For log lines. */
struct log_ctx session_log(const struct session *session);

void session_pause(struct session *session, enum session_pause why);
void session_resume(struct session *session, enum session_pause why);
/** Queue a reply; while too many lie there no requests are read. */
void session_reply(struct session *session, const char *text, size_t len);
/** A login has failed, and was answered: if its time is over as well, that was
 *  the last one. */
void session_not_let_in(struct session *session);
/** Set the timer to the earliest deadline. */
void session_arm(struct session *session);
/** A deadline has passed. */
void session_timer(struct session *session);
/** A command came in: not silent, not away any more. */
void session_touch(struct session *session);

/**
 * Say P_CLOSE with a reason and close.
 *
 * @param reason  of P_CLOSE, or NULL: only the close frame
 * @param retry_after_ms  -1: none
 */
void session_close(struct session *session, const char *reason, int code,
    const char *message, int64_t retry_after_ms);
/** Replies were lost: whoever waits for one is asked to reconnect. */
void session_recover_all(struct worker *worker);
/** P_LOGOUT is answered: close once everything else is, too. */
void session_log_out(struct session *session);
/** The connection is gone (closed_fn): tell the keeper, free when possible. */
void session_gone(struct session *session);
/** Leave it and its connection to our successor; frees it. */
void session_leave(struct session *session);
/** Work for the end of the turn: acknowledgement, end of the session. */
void session_make_due(struct session *session);
/** @return false: no room in the ring, again in the next turn */
bool session_do_due(struct session *session);

/* ---- index ---- */

void session_index_add(struct session *session);
void session_index_remove(struct session *session);
/** First session of a user on this worker; follow next_same_user. */
struct session *session_index_user(struct worker *worker, uint64_t user);
struct session *session_index_find(
    struct worker *worker, uint64_t user, uint64_t session);

#endif
