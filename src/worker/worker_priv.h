/*
 * worker_priv.h - what the files of the worker share.
 */
#ifndef WORKER_WORKER_PRIV_H
#define WORKER_WORKER_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/wheel.h"
#include "net/net.h"
#include "net/network.h"
#include "shm/hold.h"
#include "shm/meta.h"
#include "shm/process.h"
#include "shm/records.h"
#include "worker/request.h"
#include "worker/session.h"

struct crowd;
struct event;
struct event_base;
struct learn;
struct net;
struct jwt_claims;
struct jwt_verifier;
struct reader;
struct limits;
struct deliver_view;

#define PROTOCOL_SUBPROTOCOL "parley.v1"
/* Longest that a directory request waits is [directory] request_timeout; a
 * client told UNAVAILABLE comes back after this. */
#define RETRY_AFTER_MS   2000
#define CLOSE_TIMEOUT_MS 5000 /* for the closing handshake */

/*
 * A request that was handed on: who asked, and how much of the incoming ring
 * is kept free for its reply.
 */
struct pending {
	uint64_t user;
	uint64_t session;
	struct session *owner; /* NULL: its connection is gone */
	const struct command *command;
	struct request_id id;
	int64_t started_us;
	int64_t deadline_ms; /* directory, signal, learn: monotonic; 0: none */
	uint32_t reserved;   /* bytes in the keeper's ring */
	uint32_t salt;
	uint32_t row;
	uint32_t next_free;
	struct learn *learn; /* learn.c; NULL: nothing is learned for it */
	uint32_t signal_bytes;
	uint32_t peer_gen; /* signal: of the worker that has it ... */
	int peer_slot;     /* ... 0: none has */
	bool is_used;
	bool is_resting;  /* nothing of it is with the keeper, nor reserved */
	struct job *page; /* older.c: the directory completes it; or NULL */
	TAILQ_ENTRY(pending) deadline_link;
	LIST_ENTRY(pending) owner_link; /* while owner is set */
};
TAILQ_HEAD(pending_list, pending);

struct pending_table {
	struct pending **rows;
	uint32_t count;
	uint32_t first_free; /* UINT32_MAX: none */
	uint32_t used;
	uint32_t salt;
	size_t reserved; /* bytes */
	/* oldest first: those of each list wait equally long */
	struct pending_list deadlines;
	struct pending_list signals;
};

TAILQ_HEAD(session_list, session);

/* Clients leave one after the other, see stop.c. */
struct drain {
	int64_t begin_ms; /* monotonic; 0: no */
	int64_t next_ms;  /* monotonic: next look */
	size_t total;     /* connections when it began */
	size_t closed;    /* told to go since */
};

struct hold_queue {
	struct hold_item *items;
	size_t first;
	size_t end;
	size_t cap;
};

/* The sockets that our holder has, too; hold.c. */
struct holding {
	struct hold *hold; /* NULL: none */
	struct hold_row *rows;
	struct session **sessions; /* of the rows below `used`; NULL: none */
	uint32_t session_cap;
	uint32_t used;  /* rows that have ever been in use */
	uint32_t count; /* rows in use */
	uint32_t *free_rows;
	uint32_t free_count;
	uint32_t free_cap;
	struct hold_queue puts;
	struct hold_queue drops;
	uint32_t holder_seen; /* generation that has all that is_put says */
};

/* Who may connect; gate.c. */
struct gate {
	struct networks trusted_proxies;
	struct networks exempt;
	struct crowd *crowd;
};

/* What a predecessor has left; adopt.c. */
struct adoption {
	bool is_on;
	bool is_asked;       /* the holder, for all that it has */
	uint32_t asked_of;   /* generation of that holder */
	bool is_done;        /* the holder has no more */
	bool is_refusing;    /* nothing is adopted: there were crashes */
	int64_t deadline_ms; /* monotonic: no longer waited for */
	int64_t calm_at_ms;  /* monotonic: crashes are forgotten; 0: none */
	struct hold_queue given;
	int *fds; /* of given.items */
	size_t fd_cap;
	bool *is_given; /* of the rows */
	uint32_t rows;  /* that a predecessor has used */
	uint64_t adopted;
	uint64_t ended; /* were not at a boundary */
};

struct worker {
	const struct process *process;
	const struct conf *conf;
	struct bus *bus;
	struct event_base *base;
	struct event *tick_event;
	struct event *retry_event;
	struct net *net;
	struct store *main; /* NULL: refused, see open_stores */
	struct store *presence;
	struct meta meta;
	char epoch[EPOCH_LEN + 1];
	char node[16];
	struct jwt_verifier *jwt;
	uint64_t tls_files_serial; /* of what is in use, vault.h */
	uint64_t tls_tickets_serial;
	struct reader *reader;
	struct session *by_user; /* uthash */
	struct wheel wheel;      /* session deadlines */
	struct pending_table pending;
	struct session_list due;      /* something for the keeper */
	struct session_list stalled;  /* a request waits for room */
	struct session_list receipts; /* receipts to send */
	struct session_list waiting;  /* for a read of their inbox or list */
	size_t delivery_jobs;         /* such reads under way */
	size_t signal_bytes;          /* of signals, with the reader thread */
	size_t learning_bytes;        /* of requests that wait for users */
	struct buf out;               /* the JSON being made */
	struct buf tail;              /* shared part of an event */
	uint64_t resync_seen;
	uint64_t presence_seen; /* version of the newest P_PRESENCE */
	uint64_t presence_safe; /* nothing up to this was missed unnoticed */
	size_t session_count;   /* all that are not freed */
	uint64_t sessions_made;
	uint64_t made_at_look;
	uint64_t made_at_trim;
	int64_t next_tick_ms; /* monotonic: not before */
	int64_t next_trim_ms; /* monotonic */
	int64_t tick_at_ms;   /* monotonic: tick_event is set for it */
	int64_t stop_at_ms;   /* monotonic; 0: not stopping */
	bool is_stopping;
	bool is_leaving; /* stopping, and a successor comes */
	struct drain drain;
	struct gate gate;
	struct holding holding;
	struct adoption adoption;
	struct limits *limits;
};

/* ---- pending.c ---- */

void pending_init(struct pending_table *table);
void pending_fini(struct pending_table *table);
/** @param reserve  bytes of the keeper's reply, with its ring header
 *  @return         the record's req */
uint64_t pending_add(
    struct request *request, uint32_t reserve, int64_t timeout_ms);
/** It is a signal of so many bytes: above a limit the session is not read. */
void pending_weigh(struct worker *worker, uint64_t req, size_t bytes);
/** The keeper has refused it, and will be asked again later or not at all:
 *  others may have its room meanwhile. */
void pending_rest(struct worker *worker, struct pending *pending);
/** @param len  of its record. @return false: there is no room for it now */
bool pending_resume(struct worker *worker, struct pending *pending, size_t len);
/** What the directory is asked about it may not come. */
void pending_set_deadline(
    struct worker *worker, struct pending *pending, int64_t timeout_ms);
void pending_clear_deadline(struct worker *worker, struct pending *pending);
/** Does anything wait for an answer that may not come? */
bool pending_has_deadline(const struct worker *worker);
/** The request, or NULL when there is none of that number (any more). */
struct pending *pending_find(struct worker *worker, uint64_t req);
/** Done: forget it, and its page. */
void pending_remove(struct worker *worker, struct pending *pending);
/** Those that will get no answer any more: too late, or who had it is gone. */
void pending_expire(struct worker *worker);
/** Is there room for a request of len bytes and for its reply? */
bool pending_has_room(struct worker *worker, size_t len);
/** The connection is gone; nobody waits for these any more. */
void pending_orphan(struct session *session);

/* ---- learn.c; nothing of it happens where users are in the store ---- */

/**
 * Keep what goes to the keeper: should it be refused because of unknown users,
 * it is put once more when they have been asked for.
 *
 * @param record  of this req, whole; copied
 */
void learn_keep(struct worker *worker, uint64_t req, uint16_t type,
    const void *record, size_t len);
/** ... and it is a message to them. */
void learn_mark(
    struct worker *worker, uint64_t req, const uint64_t *users, size_t count);
/** Would a message to these people overtake one whose fate is not known? */
bool learn_is_ahead(
    const struct session *session, const uint64_t *users, size_t count);
/**
 * The keeper has refused a request: it does not know these users.
 *
 * @return  true: not to be answered yet, or answered here. false: that is the
 *          truth
 */
bool learn_begin(
    struct worker *worker, uint64_t req, const uint64_t *users, size_t count);
/** The same of any request that is answered with REPLY: only a block can be. */
bool learn_begin_block(struct worker *worker, uint64_t req);
/** The directory has said something. @return true: about what was learned */
bool learn_reply(struct worker *worker, struct pending *pending, int rc);
/** Its time is up. @return true: it was answered */
bool learn_expire(struct worker *worker, struct pending *pending);
/** The keeper has taken or refused it; before pending_remove. */
void learn_done(struct pending *pending, bool is_taken);
/** Was the directory asked for it? */
bool learn_was_put_again(const struct pending *pending);
/** Part of pending_remove. */
void learn_free(struct worker *worker, struct pending *pending);
/** Somebody has logged in whom the store knows: is it still true? */
void learn_again(struct worker *worker, uint64_t user);

/* ---- gate.c ---- */

void gate_init(struct worker *worker);
void gate_fini(struct worker *worker);
/** Of struct net_handler; ctx is the worker. */
bool gate_enter(void *ctx, const uint8_t key[16], bool is_adopted);
void gate_leave(void *ctx, const uint8_t key[16]);

/* ---- hold.c ---- */

void hold_init(struct worker *worker);
void hold_fini(struct worker *worker);
/** A login is done: its connection may outlive us. */
void hold_begin(struct session *session);
/** One that a predecessor has held; the holder has its socket. */
void hold_keep(struct session *session, uint32_t row);
/** The connection has ended; nothing for one that is not held. */
void hold_end(struct session *session);
/** A successor goes on with it: row and socket stay as they are. */
void hold_leave(struct session *session);
/** Is this use of a row a session of ours? */
bool hold_has(const struct worker *worker, struct hold_item item);
/** Bytes of its connection are about to move. */
void hold_motion(struct session *session, enum ws_motion motion);
/** The turn is over: is it at a boundary? */
void hold_settle(struct session *session);
/** Could a successor go on with it this instant? */
bool hold_is_ready(const struct session *session);
/** A row that nobody goes on with: the holder closes the socket. */
void hold_drop(struct worker *worker, struct hold_item item);
/** The first count rows are a predecessor's: those that the holder has not
 *  given are free from now on. */
void hold_free_rest(
    struct worker *worker, const bool *is_given, uint32_t count);
/** End of the turn: tell the holder what is new. */
void hold_flush(struct worker *worker);
/** Is there something that the holder had no room for? */
bool hold_is_behind(const struct worker *worker);
/** Generation of the last holder that was up. */
uint32_t hold_holder(const struct worker *worker);
struct hold_item *hold_queue_add(struct hold_queue *queue);

/* ---- adopt.c ---- */

/** At the start: ask for what a predecessor has left. */
void adopt_begin(struct worker *worker);
/** The holder has said something. */
void adopt_receive(struct worker *worker);
/** Each turn, until it is done: then the keeper was greeted. */
void adopt_step(struct worker *worker);
void adopt_fini(struct worker *worker);

/* ---- worker_tls.c ---- */

/** Certificates and tickets as the vault has them now, if it has any. */
void worker_tls_look(struct worker *worker);
/** Settings have changed. */
void worker_tls_set(struct worker *worker);
/** At the start, before connections are accepted. */
void worker_tls_start(struct worker *worker);

/* ---- stop.c ---- */

/** SIGTERM: no new connections, everybody is told to come back once his
 *  requests are answered; said again: at once. */
void stop_begin(struct worker *worker);
/** SIGUSR2: likewise, but one after the other over [server] drain_window;
 *  those whose turn has not come are served as ever. */
void stop_drain(struct worker *worker);
/** Each turn. @return true: stopped, everybody is gone or it took too long */
bool stop_step(struct worker *worker);

/* ---- intake.c ---- */

/** Everything that came in from other processes. */
void intake_run(struct worker *worker);

/* ---- token.c ---- */

/** @return 0, or what to answer; the message is set */
int token_verify(struct request *request, const char *token, size_t len,
    struct jwt_claims *claims_out);

/** When its session ends: a token taken within the leeway lives as long as
 *  the leeway does. @param expires_at_ms  0: never */
void token_set_expiry(struct session *session, int64_t expires_at_ms);

/* ---- cmd_session.c ---- */

void login_password_reply(
    struct pending *pending, const struct record_dir_reply *reply);
void login_reply(struct worker *worker, const struct record_login_reply *reply,
    const char *name);
void login_free(struct session *session);
/**
 * Back to where P_AUTHENTICATE may be tried again.
 *
 * @param retry_after_ms  -1: none, but UNAVAILABLE has one
 */
void login_failed(struct session *session, const struct request_id *id, int rc,
    const char *message, int64_t retry_after_ms);

/* ---- cmd_message.c, cmd_user.c ---- */

/** What is said to who may not edit or delete. */
const char *edit_refusal(const struct record_send_reply *reply);
void send_reply(struct worker *worker, const struct record_send_reply *reply,
    const uint64_t *unknown);
/** What the keeper said of P_CREATE_GROUP, P_UPDATE_GROUP, P_LEAVE_GROUP. */
void group_put_result(struct buf *out, const struct record_send_reply *reply);
const char *group_refusal(const struct record_send_reply *reply);
/** Any RECORD_REPLY of the keeper. */
void keeper_reply(struct worker *worker, const struct record_reply *reply);
void directory_reply(struct worker *worker,
    const struct record_dir_reply *reply, const uint8_t *tail, size_t len);

/* ---- cmd_history.c ---- */

struct job;

/**
 * What of a page comes back: the reply begun, or why there is none.
 *
 * @param not_found    what ERR_NOT_FOUND means here; NULL: its usual text
 * @param session_out  whose the reply is
 * @return             NULL: nobody waits, or it was answered with the error
 */
struct buf *page_reply(struct worker *worker, const struct job *job,
    const char *not_found, struct session **session_out);
/**
 * Hand a job to the reader thread, which is answered with page_reply.
 *
 * @param job  taken
 * @param rc   of reading its fields
 * @return     rc; nothing is asked unless it is 0
 */
int page_ask(struct request *request, struct job *job, int rc);
/** Messages, HasMore: what a job has kept, and what is in its out. */
void history_put_page(struct buf *out, const struct job *job, bool has_more);

/* ---- older.c ---- */

/** The database has what comes next of a page of history.
 *  @param pending  its owner is there
 *  @param page     done; what it holds is taken */
void older_ask(
    struct worker *worker, struct pending *pending, struct job *page);
/** The directory's answer. @param pending  it has a page, and an owner */
void older_reply(struct worker *worker, struct pending *pending,
    const struct record_dir_reply *reply, const void *tail, size_t len);
/** It does not answer: what the store has, or UNAVAILABLE. @param pending  as
 *  above; removed */
void older_give_up(struct worker *worker, struct pending *pending);

/* ---- cmd_call.c ---- */

/** The keeper's answer to a command of P_COLLABORATION_*. */
void call_reply(struct worker *worker, const struct record_call_reply *reply,
    struct record_cursor *tail);
/** A P_COLLABORATION for devices on this worker. */
void call_event(struct worker *worker, const struct record_call_event *record,
    struct record_cursor *tail);

/* ---- cmd_signal.c ---- */

/** A signal for a session of this worker. */
void signal_take(
    struct worker *worker, int from, const struct ring_record *record);
/** What has become of one that this worker has handed on. */
void signal_reply(struct worker *worker, const struct record_reply *reply);

/* ---- delivery.c ---- */

/** Send what is above sent, as far as the window goes. */
void delivery_pump(struct session *session);
/** A reply that carries a Seq: in its place among the events. */
void delivery_reply(struct session *session, uint64_t seq, struct buf *text);
/** A message for users on this worker. */
void delivery_message(struct worker *worker,
    const struct record_deliver *record, struct record_cursor *tail);
void delivery_ack(struct session *session, uint64_t seq);
/** Is its window full? Then the time for an acknowledgement begins. */
void delivery_watch(struct session *session);
/** The keeper had to drop deliveries: every session looks for itself. */
void delivery_resync(struct worker *worker);
/** The login's reply is out: what came meanwhile may follow. */
void delivery_open(struct session *session);
/** Do sessions wait for their turn with the reader thread? */
bool delivery_is_behind(const struct worker *worker);
/** May one more read for a session begin? Else it waits for its turn, in which
 *  delivery_pump and ephemeral_presence_again are tried again. */
bool delivery_begin_job(struct session *session);
/** One has come back. */
void delivery_end_job(struct worker *worker);
/** Room in the output again. */
void delivery_drained(struct session *session);

/* ---- ephemeral.c ---- */

void ephemeral_presence(struct worker *worker,
    const struct record_presence *record, struct record_cursor *tail);
void ephemeral_receipt(
    struct worker *worker, const struct record_receipt *record);
void ephemeral_typing(struct worker *worker, const struct record_typing *record,
    struct record_cursor *tail);
void ephemeral_flush_receipts(struct worker *worker);
/** If something was dropped: go on with sending what is in the list above
 *  presence_upto, and open calls. */
void ephemeral_presence_again(struct session *session);
/** Something other than a P_PRESENCE of a known version was dropped, or may not
 *  be in what is being read: the above is due. */
void ephemeral_missed(struct session *session);
/** The reply to the login is out: what it does not say yet. */
void ephemeral_open(struct session *session);
/** Queue an event that may be lost; keeps order with the login's reply.
 *  @return false: dropped */
bool ephemeral_send(struct session *session, const struct buf *event);

#endif
