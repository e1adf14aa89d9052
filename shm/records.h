/*
 * records.h - the payloads of records.def.
 *
 * Fixed part first, then the tail: byte strings one after the other, in the
 * order of their *_len fields. Integers are native (one machine), structs
 * have no holes and a size that is a multiple of 8. A reader takes a payload
 * apart with struct record_cursor, which never leaves the record.
 *
 * req: chosen by the asking process, comes back in the reply; 0 asks for none.
 * Times are ms since 1970; seq and ids as in doc/protocol.md.
 */
#ifndef SHM_RECORDS_H
#define SHM_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/ids.h"

enum record_type {
	RECORD_FILLER,
#define RECORD(name, from, to, payload) RECORD_##name,
#include "shm/records.def"
#undef RECORD
	RECORD_END
};

#define RECIPIENTS_MAX  256
#define DEVICE_ID_MAX   64
#define CLIENT_ID_MAX   64
#define TYPE_MAX        64
#define STATUS_TEXT_MAX 256
#define NAME_MAX_BYTES  128
#define PROFILE_MAX     4096
#define ATTACHMENT_MAX  8192
#define SIGNAL_MAX      65536
#define EPOCH_LEN       16 /* hex digits */

enum user_status {
	STATUS_OFFLINE,
	STATUS_INVISIBLE,
	STATUS_BUSY,
	STATUS_AWAY,
	STATUS_ONLINE, /* the higher, the more available */
	STATUS_END
};

/* ---- console to keeper (USER_PUT: directory, too) ---- */

enum contact_op { CONTACT_ADD, CONTACT_ADD_ONE_WAY, CONTACT_REMOVE };

struct record_contact { /* pairs (a+i, b+i) for i < count */
	uint64_t req;
	uint64_t a;
	uint64_t b;
	uint32_t count;
	uint32_t op; /* enum contact_op */
};

enum user_put_flags {
	USER_PUT_NEW = 1, /* CONFLICT if the user exists */
	USER_PUT_NAME = 2,
	USER_PUT_PASSWORD = 4,
	USER_PUT_ROLE = 8,
	USER_PUT_PROFILE = 16,
	USER_PUT_REMOVE = 32,
};

struct record_user_put { /* tail: name, password hash, role, profile */
	uint64_t req;
	uint64_t user;
	uint32_t flags; /* enum user_put_flags: which parts are set */
	uint16_t name_len;
	uint16_t password_len;
	uint16_t role_len;
	uint16_t profile_len;
	uint32_t reserved;
};

struct record_user_range { /* users first..last named "User N" */
	uint64_t req;
	uint64_t first;
	uint64_t last;
};

/* ---- worker to keeper ---- */

struct record_ack {
	uint64_t user;
	uint64_t session;
	uint64_t seq;
};

struct record_block {
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t other;
	uint64_t on; /* 1 block, 0 unblock */
};

struct record_adopt { /* before HELLO: a session of its predecessor's */
	uint64_t user;
	uint64_t session;
	uint64_t acked; /* the predecessor may not have said it any more */
};

struct record_edit { /* DELETE: no tail; EDIT: tail: body. Answered with
			SEND_REPLY */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t message_id;
	uint64_t body_len;
};

/* Answered with SEND_REPLY; message_id: of the event that tells of the change,
 * 0: there was nothing to change. */
struct record_group_create { /* tail: members (u64 each, sorted, unique,
				without the user), name */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint8_t client_id_hash[16];
	uint64_t request_hash;
	uint32_t member_count;
	uint32_t name_len;
};

struct record_group_leave {
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t group;
};

struct group_role_change {
	uint64_t user;
	uint64_t role; /* enum group_role, not ROLE_NONE */
};

struct record_group_update { /* tail: add, remove (u64 each), role (struct
				group_role_change each), name; all sorted by
				user, nobody in two of them */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t group;
	uint32_t add_count;
	uint32_t remove_count;
	uint32_t role_count;
	uint32_t name_len; /* 0: it stays as it is */
};

enum call_ask {
	CALL_ASK_ACCEPT,
	CALL_ASK_CANCEL,
	CALL_ASK_END,
	CALL_ASK_INVITE,
	CALL_ASK_LEAVE,
	CALL_ASK_REJECT,
	CALL_ASK_COUNT
};

struct record_call_ask { /* tail: users to be invited (u64 each, sorted, unique,
			    without the asker) */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t call;
	uint32_t ask; /* enum call_ask */
	uint32_t user_count;
};

struct record_call_create { /* tail: users as above, payload (JSON) */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint8_t client_hash[16]; /* of the ClientCollaborationId */
	uint64_t request_hash;
	uint32_t kind; /* enum call_kind */
	uint32_t user_count;
	uint32_t payload_len;
	uint32_t reserved;
};

struct record_hello { /* a worker has taken over what it could */
	uint64_t generation;
	uint64_t adopted; /* sessions; they are to read their inboxes */
};

enum login_flags {
	LOGIN_HAS_SEQ = 1, /* last_seq was given */
	LOGIN_EPOCH_DIFFERS = 2,
	LOGIN_PROVISION = 4, /* make the user if there is none */
	/* Where users are kept outside; neither: who is unknown or was never
	 * here is NOT_FOUND, to be asked for first. */
	LOGIN_LEARNED = 8, /* he was asked for */
	LOGIN_UNSURE = 16, /* that was not possible: without a row he is not
			    * known not to exist */
};

struct record_login { /* tail: device id, name */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t last_seq;
	uint8_t device_hash[16];
	uint32_t flags;  /* enum login_flags */
	uint32_t status; /* enum user_status */
	uint16_t device_len;
	uint16_t name_len;
	uint32_t reserved;
};

struct record_mark_read {
	uint64_t req;
	uint64_t user;
	uint64_t session;
	struct conv_key conv;
	uint64_t message_id;
};

struct record_send { /* tail: recipients (u64 each), body, type,
			client message id, attachment */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint8_t client_id_hash[16];
	uint64_t request_hash;
	int64_t client_time_ms; /* INT64_MIN: not given */
	uint64_t reply_to;      /* message id or 0 */
	struct conv_key room;   /* a group or a call; else: to the recipients */
	uint32_t body_len;
	uint32_t recipient_count; /* sorted, unique, without the sender */
	uint16_t attachment_len;
	uint8_t type_len;
	uint8_t client_id_len;
	uint32_t reserved;
};

enum session_end_flags {
	SESSION_END_FORGET = 1, /* forget the device and its cursor */
};

struct record_session_end {
	uint64_t req; /* 0: the connection is gone, nobody waits */
	uint64_t user;
	uint64_t session;
	uint64_t flags;
};

struct record_status { /* tail: text */
	uint64_t req;  /* 0: set by the server (AWAY after silence) */
	uint64_t user;
	uint64_t session;
	uint32_t status; /* enum user_status */
	uint16_t text_len;
	uint16_t has_text; /* 0: the text stays as it is */
};

/* ---- keeper to worker ---- */

struct call_target {
	uint64_t user;
	uint64_t only;   /* session that is told; 0: all but the next */
	uint64_t except; /* session that is not told, it caused it */
};

struct record_call_event { /* tail: targets, text: the whole P_COLLABORATION */
	uint32_t target_count;
	uint32_t text_len;
};

struct record_call_reply { /* tail: unknown users (u64 each), text: members of
			      the reply as a JSON object */
	uint64_t req;
	uint64_t call;
	int32_t rc;     /* 0, ERR_DUPLICATE or another ERR_* */
	uint32_t state; /* enum call_state; CALL_STATE_END: not known */
	uint32_t unknown_count;
	uint32_t text_len;
};

struct deliver_target {
	uint64_t user;
	uint64_t seq;
};

struct record_deliver { /* tail: targets, members (u64 each, none for a
			   conversation of two), body, type, client message
			   id, attachment, sender's name */
	uint64_t message_id;
	uint64_t sender;
	uint64_t sender_session; /* its reply stands for the event */
	struct conv_key conv;
	int64_t client_time_ms;
	uint64_t reply_to;
	int64_t changed_ms; /* with flags */
	uint32_t body_len;
	uint32_t target_count;
	uint16_t member_count;
	uint16_t attachment_len;
	uint16_t name_len;
	uint8_t type_len;
	uint8_t client_id_len;
	uint32_t kind;  /* enum event_kind */
	uint32_t flags; /* enum log_flags */
};

struct record_login_reply { /* tail: name */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t cursor; /* events above it will be sent */
	uint64_t floor;  /* events up to it are gone */
	uint64_t head;   /* last seq given out */
	int32_t rc;      /* 0 or ERR_* */
	uint16_t recovered;
	uint16_t name_len;
	uint32_t device_count;
	uint32_t reserved;
};

struct record_presence { /* tail: targets (u64 users), text */
	uint64_t user;
	uint64_t version;     /* shm/presence.h; 0: not of a row */
	int64_t last_seen_ms; /* 0: never */
	uint32_t status;
	uint32_t target_count;
	uint32_t text_len;
	uint32_t is_in_call;
};

struct record_receipt {
	uint64_t target; /* user who is told */
	uint64_t user;   /* whose receipt it is */
	struct conv_key conv;
	uint64_t delivered;
	uint64_t read;
	uint64_t except_session; /* not told, it caused it */
};

enum replaced_reason {
	REPLACED_BY_LOGIN,
	REPLACED_KICKED,
	REPLACED_LOST, /* could not be adopted */
};

struct record_replaced { /* the session no longer counts */
	uint64_t user;
	uint64_t session;
	uint64_t reason; /* enum replaced_reason */
};

struct record_reply { /* tail: detail text */
	uint64_t req;
	uint64_t value;
	int32_t rc;
	uint32_t text_len;
};

/* What begins as struct record_send does is answered with it. */
struct record_send_reply { /* tail: unknown recipients (u64 each) */
	uint64_t req;
	uint64_t user;
	uint64_t session;
	uint64_t message_id;
	uint64_t seq; /* 0: the sender has no other device */
	struct conv_key conv;
	int64_t changed_ms; /* with flags */
	uint64_t flags;     /* enum log_flags: as what was changed is now */
	int32_t rc;         /* 0, ERR_DUPLICATE or another ERR_* */
	uint32_t unknown_count;
	uint32_t member_count; /* of a group or a call that was written to */
	uint32_t call_state;   /* 1 + enum call_state, with ERR_CONFLICT; 0: it
				  is not about a call */
};

/* ---- worker and directory ---- */

struct record_dir_password { /* tail: user name, password; wiped once read */
	uint64_t req;
	uint32_t name_len;
	uint32_t password_len;
	uint8_t peer[16]; /* ws_conn_peer_key */
};

struct record_dir_user {
	uint64_t req;
	uint64_t asker;
	uint64_t user;
};

struct record_dir_users {
	uint64_t req;
	uint64_t asker;
	uint64_t cursor;  /* users above it */
	uint32_t limit;   /* 1..1000 */
	uint32_t refresh; /* 1: do not answer from a cache */
};

struct record_dir_history { /* what is older than the store holds */
	uint64_t req;
	uint64_t asker;
	struct conv_key conv;
	uint64_t before; /* message ids below it, 0: the newest */
	uint64_t after;  /* not 0: ids above it, oldest first */
	uint64_t limit;  /* 1..1000 */
};

struct record_dir_update { /* tail: name, profile */
	uint64_t req;
	uint64_t user;
	uint32_t flags; /* USER_PUT_NAME, USER_PUT_PROFILE */
	uint16_t name_len;
	uint16_t profile_len;
};

#define LEARN_USERS_MAX 1024 /* a group has no more */

/* The store does not know them: are there such users? DIR_REPLY, without a
 * tail, says that the store now has all that there are. */
struct record_dir_learn { /* tail: users (u64 each) */
	uint64_t req;
	uint64_t asker;   /* himself among them: his list, too */
	uint32_t count;   /* 1..LEARN_USERS_MAX */
	uint32_t is_idle; /* 1: nobody waits, it is only to be looked up anew
			   * (asker alone); answered at once */
};

struct record_dir_reply { /* tail: user_count times struct dir_user_entry, or
			     message_count times struct dir_message_entry, with
			     its strings, each padded to 8 */
	uint64_t req;
	uint64_t user;          /* DIR_PASSWORD: who it is */
	uint64_t next_cursor;   /* 0: that was the last page */
	int64_t retry_after_ms; /* with ERR_RATE_LIMITED */
	int32_t rc;
	uint32_t user_count;
	uint32_t message_count;
	uint32_t has_more; /* DIR_HISTORY: beyond the last of them */
};

struct dir_message_entry { /* followed by body, type, attachment; padded to 8 */
	uint64_t id;
	uint64_t sender;
	uint64_t reply_to;      /* 0: none */
	int64_t client_time_ms; /* INT64_MIN: not given */
	int64_t changed_ms;     /* with flags: when */
	uint32_t body_len;
	uint32_t attachment_len;
	uint16_t type_len;
	uint16_t flags; /* enum log_flags */
	uint32_t reserved;
};

struct dir_user_entry { /* followed by name, role, profile; padded to 8 */
	uint64_t user;
	int64_t last_seen_ms; /* as the main store knows; 0: never */
	uint16_t name_len;
	uint16_t role_len;
	uint16_t profile_len;
	uint16_t is_stranger; /* 1: whether he is there is not told */
};

/* ---- directory and keeper: a database outside says who there is ---- */

#define ROSTER_PAIRS_MAX 256
#define ROLE_MAX         256

/* Answered with REPLY, each of them. */
struct record_roster_gone { /* he is no user any more */
	uint64_t req;
	uint64_t user;
};

struct record_roster_list { /* tail: users that are in his list, users that
			       are not (u64 each) */
	uint64_t req;
	uint64_t user;
	uint32_t add_count; /* ROSTER_PAIRS_MAX for both */
	uint32_t remove_count;
};

struct record_roster_user { /* tail: name, role, profile */
	uint64_t req;
	uint64_t user;
	uint16_t name_len;
	uint16_t role_len;
	uint16_t profile_len;
	uint16_t reserved;
};

/* They block each other or no longer do, or one has come into the other's list
 * or left it: not by the directory's word. */
struct record_contact_news {
	uint64_t user;
	uint64_t other;
};

/* ---- a consumer of an outbox (outbox.h) and the keeper ---- */

#define OUTBOX_ERROR_MAX    112
#define OUTBOX_REFUSALS_MAX 64

struct record_outbox_news { /* there is more; only to one that rests */
	uint64_t head;      /* number of the last entry */
	uint64_t outbox;
};

enum outbox_done_flags {
	OUTBOX_DONE_RESTS = 1, /* found nothing behind upto: wants news */
};

struct record_outbox_done {
	uint64_t req;
	uint64_t upto; /* number of an entry */
	uint32_t outbox;
	uint32_t flags; /* enum outbox_done_flags */
};

struct outbox_refusal {
	uint64_t number; /* of an entry */
	int32_t code;    /* of whoever refuses it */
	uint16_t error_len;
	uint16_t reserved;
	char error[OUTBOX_ERROR_MAX]; /* a sentence without anybody's data */
};

/* For good. Answered before DONE moves past any of them: no entry leaves the
 * queue without a trace. */
struct record_outbox_refuse { /* tail: struct outbox_refusal */
	uint64_t req;
	uint32_t outbox;
	uint32_t count; /* 1..OUTBOX_REFUSALS_MAX */
};

enum outbox_change_op {
	OUTBOX_CHANGE_RETRY,
	OUTBOX_CHANGE_DROP,
	OUTBOX_CHANGE_FORGET, /* what waits in one that is switched off */
};

struct record_outbox_change { /* value of the reply: how many; ask again while
				 it is not 0 */
	uint64_t req;
	uint64_t first; /* numbers of dead letters */
	uint64_t last;
	uint32_t outbox;
	uint32_t op; /* enum outbox_change_op */
};

/* ---- worker to worker ---- */

struct record_signal { /* tail: JSON */
	uint64_t req;  /* 0: no SIGNAL_REPLY is waited for */
	uint64_t user; /* whom it is for */
	uint64_t session;
	uint64_t from_user;
	uint64_t from_session;
	uint64_t call;
	int64_t until_ms;    /* monotonic: the sender is told UNAVAILABLE */
	uint32_t signal_len; /* 1..SIGNAL_MAX */
	uint32_t reserved;
};

struct record_typing { /* tail: targets (u64 users) */
	uint64_t user;
	struct conv_key conv;
	uint32_t target_count;
	uint32_t started;
};

/* Takes a payload apart; sticks at the first thing that does not fit. */
struct record_cursor {
	const uint8_t *data;
	size_t left;
	bool is_bad;
};

void record_cursor_init(
    struct record_cursor *cursor, const void *data, size_t len);
/** Next len bytes, or NULL: not that many left (sticky). */
const void *record_take(struct record_cursor *cursor, size_t len);
/** True when all that was taken was there. */
bool record_is_whole(const struct record_cursor *cursor);
/** Least payload of a type, SIZE_MAX for a type that does not exist. */
size_t record_min_len(uint16_t type);
const char *record_name(uint16_t type);

#endif
