/*
 * reader.h - the worker's thread for reads that may wait for the disk.
 *
 * The loop hands over a job, the thread runs it in a read transaction of its
 * own, the loop gets it back. A job never points at a session: it names one
 * by user and session id and may find it gone.
 */
#ifndef WORKER_READER_H
#define WORKER_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "shm/records.h"
#include "shm/store.h"
#include "worker/request.h"

#define JOB_EVENTS_MAX 64
#define JOB_BYTES_MAX  (256 * 1024)

struct worker;
struct reader;
struct job;

/* Runs on the thread; only job, the transactions and constants. */
typedef void (*job_run_fn)(
    struct job *job, struct txn *main, struct txn *presence);
/* Back on the loop. */
typedef void (*job_done_fn)(struct worker *worker, struct job *job);

struct job_event {
	uint64_t seq;
	size_t offset; /* in out */
	size_t len;
	bool is_own; /* sent by the user itself */
};

/* In out of job_presence, before each text: where to go on once it was sent. */
struct job_text {
	uint64_t call;
	uint64_t user;
	size_t len;
};

/* Of whoever may be told something, in out: where he is. */
struct job_place {
	uint64_t user;
	uint64_t workers; /* bits */
};

struct job {
	STAILQ_ENTRY(job) link;
	job_run_fn run_fn;
	job_done_fn done_fn;
	uint64_t user;
	uint64_t session;
	uint64_t req; /* pending request, 0: none */
	int rc;
	struct buf out;
	struct buf calls; /* of a login: its open calls */

	/* arguments and results, as each kind of job uses them */
	uint64_t above;
	uint64_t upto;
	uint64_t before;
	uint64_t after;
	size_t limit;
	size_t max_bytes;
	struct conv_key conv;
	uint64_t users[RECIPIENTS_MAX];
	size_t user_count;
	uint32_t member_count; /* typing in a group or a call: who are in it */
	uint64_t next;         /* cursor; last seq looked at */
	uint64_t call;         /* signal; presence: open calls above it */
	uint64_t to_session;   /* signal: given, then found; 0: none */
	int to_slot;           /* signal: its worker */
	const char *message;   /* with rc: for the client; NULL: none */
	const char *state;     /* signal, typing: of the call; NULL: of none */
	uint64_t version;      /* of presence: rows above it; the snapshot's */
	bool has_more;
	bool is_remote; /* history: a database has what retention has taken */
	bool is_gone;   /* history: retention has taken what comes next: */
	uint64_t gone_before; /* ids below it; 0: all */
	uint64_t gone_after;  /* not 0: ids above it, oldest first */
	struct buf rows;      /* older: struct dir_message_entry and strings */
	struct buf kept;      /* older: what the store had, before them */
	size_t kept_count;
	bool kept_has_more;
	size_t shown;    /* history, older: messages in out */
	bool is_by_user; /* conv was named by a user id */
	bool is_started;
	bool is_anyone;  /* policy */
	bool is_looking; /* backlog: for events nobody told of */
	struct job_event events[JOB_EVENTS_MAX];
	size_t event_count;
	size_t skipped_count; /* events or messages whose rows are damaged */
};

struct reader *reader_new(struct worker *worker);
void reader_free(struct reader **reader);
struct job *reader_job_new(
    struct session *session, job_run_fn run_fn, job_done_fn done_fn);
void reader_job_free(struct job **job);
/** Hand it over; it comes back through done_fn and is freed after that. */
void reader_submit_take(struct worker *worker, struct job *job);

/* ---- jobs ---- */

/** Events in (above, upto], at most limit, as whole P_MESSAGE texts. */
void job_backlog(struct job *job, struct txn *main, struct txn *presence);
/** A page of messages in out, without brackets; is_gone: and where the database
 *  is to go on. */
void job_messages(struct job *job, struct txn *main, struct txn *presence);
/** What of rows the user may see, likewise; next: the last one's id. */
void job_older(struct job *job, struct txn *main, struct txn *presence);
/** Conversations, newest first: JSON array in out. */
void job_conversations(struct job *job, struct txn *main, struct txn *presence);
/** First page of the list with presence: JSON array in out; upto: the inbox's
 *  head; the user's open calls in calls. */
void job_users(struct job *job, struct txn *main, struct txn *presence);
/** Past calls, newest first: JSON array in out. */
void job_call_history(struct job *job, struct txn *main, struct txn *presence);
/** P_COLLABORATION of open calls above `call`, then P_PRESENCE of who is in the
 *  list above `above` and was told of above version: a page of whole texts,
 *  each with a struct job_text before it. */
void job_presence(struct job *job, struct txn *main, struct txn *presence);
/** Parts of the above: open calls as a JSON array, or as such texts. */
void calls_list(struct job *job, struct txn *main);
void calls_again(struct job *job, struct txn *main);
/** A text of such a page: begun, without the first brace; @return its start. */
size_t job_text_begin(struct job *job);
void job_text_end(struct job *job, size_t start, uint64_t call, uint64_t user);
/** @return false: the page is full, has_more is set */
bool job_text_has_room(struct job *job);
/** One's groups above the group `above`: JSON array in out. */
void job_groups(struct job *job, struct txn *main, struct txn *presence);
/** Members of the group of conv with ids above `above`: likewise. */
void job_group_members(struct job *job, struct txn *main, struct txn *presence);
/** Which of users, or of the group of conv, may be told that one types, and
 *  where they are: struct job_place in out. */
void job_typing(struct job *job, struct txn *main, struct txn *presence);
/** May a signal pass from user by session to users[0], and where is that? */
void job_signal(struct job *job, struct txn *main, struct txn *presence);

#endif
