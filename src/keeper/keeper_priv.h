/*
 * keeper_priv.h - what the files of the keeper share.
 *
 * Everything an apply function changes lies in the two transactions, in the
 * outgoing rings above their published heads, or in struct batch: all of it
 * is thrown away together when the batch has to be done again.
 */
#ifndef KEEPER_KEEPER_PRIV_H
#define KEEPER_KEEPER_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keeper/age.h"
#include "keeper/call_machine.h"
#include "shm/meta.h"
#include "shm/outbox.h"
#include "shm/process.h"
#include "shm/records.h"
#include "shm/store.h"
#include "shm/userhead.h"

enum storage_state {
	STORAGE_GOOD,
	STORAGE_FULL,  /* new messages are refused, the rest goes on */
	STORAGE_STUCK, /* nothing can be committed: everything is refused */
	STORAGE_END
};

/* A user whose presence may look different at the end of the batch. */
struct dirty_user {
	uint64_t user;
	bool is_forced; /* tell even what looks the same (status text) */
};

/* A device whose session begins or ends: is it in a call? */
struct call_note {
	enum call_command command; /* BACK, LOST, QUIT */
	uint64_t user;
	uint64_t session;
	uint32_t device;
};

/* Of the disk and of the map: see [store] min_free and map_high_water. */
enum storage_room { ROOM_ENOUGH, ROOM_LITTLE, ROOM_NONE };

#define CULPRITS_MAX 64 /* records set aside in one batch */

/* State of one batch; empty between two. */
struct batch {
	uint64_t start_head[SLOT_END];   /* outgoing rings */
	uint64_t start_cursor[SLOT_END]; /* incoming rings */
	/* Kept when a batch is undone: the presence environment may have been
	 * committed already, so these are looked at again. */
	struct dirty_user *dirty;
	size_t dirty_count;
	size_t dirty_cap;
	uint64_t resync; /* bit n: worker n lost a delivery */
	unsigned records;
	unsigned messages;
	unsigned edited;
	unsigned deleted;
	unsigned calls;
	unsigned calls_ended;
	unsigned logins;
	unsigned refused;
	uint64_t told;          /* users of whom P_PRESENCE was told */
	int64_t commit_us;      /* what the last commit took */
	bool has_work;          /* something to commit */
	int64_t start_grace_ms; /* next_grace_ms, should it be undone */
	int64_t start_call_ms;  /* next_call_ms, likewise */
	struct call_note *call_notes;
	size_t call_note_count;
	size_t call_note_cap;
};

/* Where a record came from; replies go back there. */
struct origin {
	int slot;
	uint32_t generation;
	uint64_t position;
};

/* A worker whose sessions wait for a successor to take them over. */
struct ungreeted {
	int64_t since_ms;    /* monotonic; 0: they do not */
	uint32_t generation; /* the last one then */
};

struct keeper {
	const struct process *process;
	const struct conf *conf;
	struct bus *bus;
	struct board *board;
	struct store *main;
	struct store *presence;
	struct txn txn; /* main */
	struct txn presence_txn;
	struct meta meta;
	struct meta_rings rings;
	struct keeper_outbox *outboxes; /* [OUTBOX_END], apply_outbox.c */
	bool has_outbox;                /* one of them is on */
	uint32_t boot;                  /* low bits of the boot id */
	struct batch batch;
	struct sends *sends;             /* the last ones of busy devices */
	struct hush *hush;               /* users told of a moment ago */
	enum storage_state storage;      /* mode of this batch */
	enum storage_state storage_told; /* what the log says */
	bool is_presence_full;           /* else the main store is */
	int storage_rc;                  /* ERR_*: why it is not good */
	enum storage_room room;
	int64_t storage_retry_at_ms; /* monotonic */
	int64_t now_ms;              /* wall clock of this batch */
	struct retention *retention;
	struct age age;
	int64_t age_ms;        /* time in the store, of this batch */
	int64_t next_grace_ms; /* time in the store, 0: none known */
	int64_t next_call_ms;  /* deadline of a call, likewise */
	bool is_call_sweeping; /* open calls are compared with the sessions */
	uint64_t call_sweep_user; /* so far */
	uint64_t call_sweep_id;
	bool has_leaving;     /* perhaps: removed users are still in groups */
	uint64_t stale_slots; /* bit n: worker n has sessions to clean up */
	struct ungreeted ungreeted[WORKER_MAX];
	uint64_t draining;    /* bit n: worker n, inside keeper_drain_slot */
	struct origin failed; /* record that broke this batch; slot -1: none */
	struct origin culprits[CULPRITS_MAX]; /* set aside when it is redone */
	size_t culprit_count;
	bool is_in_pieces; /* too many culprits for one batch */
	struct record_session_end *lost_ends; /* came while stuck */
	size_t lost_end_count;
	size_t lost_end_cap;
	uint64_t *behind; /* users whose inboxes are to shrink further */
	size_t behind_count;
	size_t behind_cap;
	bool has_more_behind;  /* perhaps there are others in the store */
	int64_t next_look_ms;  /* monotonic, see housekeeping */
	int64_t next_check_ms; /* monotonic */
	uint64_t generations_seen;
};

/* ---- batch.c ---- */

/**
 * Read the rings, apply, commit, let out.
 *
 * @return  true when something was committed or refused
 */
bool batch_turn(struct keeper *keeper);
/** Apply all that a worker has published so far, before something that must
 *  come after it. What is drained may have to drain other workers; one that
 *  is being drained is left to the outer call. */
void keeper_drain_slot(struct keeper *keeper, int slot);

/**
 * A transaction that changes nothing, and is synced as any other: does the
 * disk take data, and is all that it holds durable?
 *
 * @return  0, or what the disk said
 */
int batch_commit_nothing(struct keeper *keeper);

/* ---- room.c ---- */

/** How much room the store has left; said when that changes. */
void room_look(struct keeper *keeper);

/* ---- keeper.c ---- */

/** Deliveries to these workers (bits) were dropped: they read the inboxes. */
void keeper_tell_resync(struct keeper *keeper, uint64_t workers);
/**
 * A row that the keeper looks for of its own accord is not there, or its seal
 * is broken: nothing more is done for that user, and the batch goes on. A
 * record that needs the row fails instead, and is answered so.
 */
static inline bool
keeper_is_lost(const struct keeper *keeper, int rc)
{
	return rc == ERR_NOT_FOUND ||
	       (rc == ERR_CORRUPT && keeper->txn.rc == 0);
}
/** An id for a message, an event, a group: above all that were given out. */
uint64_t keeper_next_id(struct keeper *keeper);
/** Does this session's connection still exist? */
bool keeper_is_live(
    const struct keeper *keeper, const struct userhead_device *device);
/** Is there a process in this slot, as the supervisor says? */
bool keeper_slot_is_alive(const struct keeper *keeper, int slot);

/* ---- route.c ---- */

/**
 * Room for one record to a process.
 *
 * @return  memory for len bytes; finish with route_end; NULL: the ring is
 *          full (a reply cannot meet that: workers keep room for them)
 */
void *route_begin(struct keeper *keeper, const struct origin *to, size_t len);
void route_end(
    struct keeper *keeper, const struct origin *to, uint16_t type, size_t len);
void route_reply(struct keeper *keeper, const struct origin *to, uint64_t req,
    int rc, uint64_t value, const char *text);
/**
 * Room for an event to worker n (current generation): uses only half of the
 * ring, the other half is for replies. NULL: the worker is told to read the
 * inboxes instead.
 */
void *route_event_begin(struct keeper *keeper, int worker, size_t len);
void route_event_end(
    struct keeper *keeper, int worker, uint16_t type, size_t len);
/** Workers on which a user has live sessions, as bits. */
uint64_t route_workers(
    const struct keeper *keeper, const struct userhead *head);

/* ---- announce.c ---- */

/** The user's sessions or status changed in this batch. */
void announce_later(struct keeper *keeper, uint64_t user, bool is_forced);
/** What others see of a user, or are about to: the most available status of the
 *  live sessions, INVISIBLE as OFFLINE. */
enum user_status announce_status(
    const struct keeper *keeper, const struct userhead *head);
/** End of the batch: presence rows, and P_PRESENCE to those who watch. */
NODISCARD int announce_dirty(struct keeper *keeper);
/** Tell watcher what it sees of subject from now on: the state, or OFFLINE
 *  when the subject hides (blocking). */
NODISCARD int announce_to(
    struct keeper *keeper, uint64_t watcher, uint64_t subject, bool is_hidden);

/* ---- grace.c ---- */

/** Graces that have run out. */
NODISCARD int grace_expire(struct keeper *keeper);
NODISCARD int grace_start(struct keeper *keeper, struct userhead *head);
NODISCARD int grace_stop(struct keeper *keeper, struct userhead *head);
/** End a bounded number of sessions of dead workers. */
NODISCARD int stale_sessions_end(struct keeper *keeper);
/** Which workers have died or were replaced since? Once a second. */
void stale_sessions_look(struct keeper *keeper);

/* ---- call_later.c ---- */

/** A session of a device begins (BACK) or ends (LOST, QUIT: it has said so):
 *  looked at when the batch has been read. */
void call_note(struct keeper *keeper, enum call_command command, uint64_t user,
    const struct userhead_device *device);
/** Deadlines of calls, and what was noted. */
NODISCARD int calls_catch_up(struct keeper *keeper);
/** Is the user in a call? */
NODISCARD int calls_is_in(
    struct keeper *keeper, uint64_t user, bool *is_in_out);
/* ---- apply_call.c ---- */

void call_refuse(
    struct keeper *keeper, const struct origin *from, uint64_t req, int rc);

/* ---- call_tell.c ---- */

/**
 * Tell those who are concerned what a step has done; before call_put.
 *
 * @param except  session that gets the reply instead; 0: none
 */
NODISCARD int call_tell(struct keeper *keeper, const struct call *call,
    const struct call_effects *effects, uint64_t except);
/** P_COLLABORATION_OUTCOME to those whose part is over and who have none
 *  yet; put off while the store is full. */
NODISCARD int call_tell_outcomes(struct keeper *keeper, struct call *call);

/* ---- apply_outbox.c ---- */

/** In the first transaction. @return 0, ERR_CORRUPT */
NODISCARD int keeper_outbox_open(struct keeper *keeper);
void keeper_outbox_close(struct keeper *keeper);
/** Something happened that consumers are told of; nothing when all outboxes
 *  are off. @return 0, the store's error */
NODISCARD int keeper_outbox_put(
    struct keeper *keeper, const struct outbox_entry *entry);
/* Parts of the batch, in this order. */
void keeper_outbox_begin(struct keeper *keeper);
/** Delete a slice of what is done. */
NODISCARD int keeper_outbox_sweep(struct keeper *keeper);
NODISCARD int keeper_outbox_flush(struct keeper *keeper);
void keeper_outbox_committed(struct keeper *keeper);
/** Once a second: how far behind are the consumers? */
void keeper_outbox_look(struct keeper *keeper);

/* ---- apply_*.c ---- */

/** Ids of removed users are never given out again. */
bool keeper_user_was_removed(struct keeper *keeper, uint64_t user);
enum user_removal {
	USER_REMOVED, /* by the operator */
	USER_GONE,    /* a database outside says so, and may take it back:
		       * blocks stay, his and those of others */
};
/** His sessions end, he leaves his groups and all lists.
 *  @return 0, ERR_NOT_FOUND, the store's error */
NODISCARD int keeper_user_remove(
    struct keeper *keeper, uint64_t user, enum user_removal removal);
/** Set and clear contact_flags of a user's row for another, and tell who sees
 *  a change by it. @return 0, the store's error */
NODISCARD int keeper_contact_set(struct keeper *keeper, uint64_t user,
    uint64_t other, uint32_t set, uint32_t clear);

/**
 * May a user write to another, call him, bring him into a group?
 *
 * @param is_known  they share a conversation of many
 * @return          0, the store's error
 */
NODISCARD int keeper_may_write(struct keeper *keeper, uint64_t from,
    uint64_t to, bool is_known, bool *may_out);
/** The name of a user as it is now; empty: there is none. */
struct user_name {
	char text[NAME_MAX_BYTES];
	size_t len;
};
NODISCARD int keeper_user_name(
    struct keeper *keeper, uint64_t user, struct user_name *out);
/** Of who has made a call. */
void call_creator_name(
    struct keeper *keeper, const struct call *call, struct user_name *out);

/** The user's row and the device of a session that still counts.
 *  @return 0, ERR_NOT_FOUND (replaced, forgotten: discard what it sent) */
NODISCARD int keeper_session_get(struct keeper *keeper, uint64_t user,
    uint64_t session, struct userhead *head,
    struct userhead_device **device_out);
/** The same for a request: when the session does not count any more its
 *  worker is told, which closes the connection; then ERR_STALE. */
NODISCARD int keeper_session_ask(struct keeper *keeper,
    const struct origin *from, uint64_t user, uint64_t session,
    struct userhead *head, struct userhead_device **device_out);

/** Tell a worker that a session does not count. */
void keeper_session_refuse(struct keeper *keeper, const struct origin *from,
    uint64_t user, uint64_t session, enum replaced_reason reason);

/* A request that is answered with no more than a Reason. */
struct session_request {
	uint64_t req;
	uint64_t user;
	uint64_t session;
	const void *record;
	/* 0, ERR_NOT_FOUND (answered), else the store's error */
	int (*fn)(struct keeper *keeper, const void *record);
};

/** Run fn for a session that counts, and answer. */
NODISCARD int keeper_session_run(struct keeper *keeper,
    const struct origin *from, const struct session_request *request);
/** Tell the worker of a live session that it no longer counts. */
void keeper_session_revoke(struct keeper *keeper, uint64_t user,
    const struct userhead_device *device, uint64_t reason);
/** A session has ended: presence, last seen, grace. The caller puts head. */
NODISCARD int keeper_session_close(struct keeper *keeper, struct userhead *head,
    struct userhead_device *device);
/**
 * device has everything up to seq. That is the truth at once; receipts are
 * told and the inbox shrinks by a bounded number of events now, by the rest
 * in later batches (inbox_catch_up), should it be many.
 */
NODISCARD int cursor_advance(struct keeper *keeper, struct userhead *head,
    struct userhead_device *device, uint64_t seq);
/** Tell and delete what no device still needs, as far as the above. */
NODISCARD int inbox_trim(struct keeper *keeper, struct userhead *head);
/** For who was left behind, a slice each until the time is up. */
NODISCARD int inbox_catch_up(struct keeper *keeper);

#endif
