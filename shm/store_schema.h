/*
 * store_schema.h - the rows of the store, byte for byte.
 *
 * Two environments: main (data folder, every commit synced) and presence
 * (run folder on tmpfs, not synced: survives processes, not a power cut).
 * Integers are native: a store belongs to one kind of machine. What is read
 * is checked (length, checksum, see STORE_MAIN_DBIS) before it is used. A
 * change here raises SCHEMA_VERSION. Figures behind the layout:
 * doc/decisions/001.
 */
#ifndef SHM_STORE_SCHEMA_H
#define SHM_STORE_SCHEMA_H

#include <stdint.h>

#include "shm/ids.h"
#include "shm/layout.h"

#define SCHEMA_VERSION 5
#define SCHEMA_OLDEST  2 /* brought up to date when the keeper opens it */
/*
 * Processes of a build with the schema SCHEMA_ROLLS_FROM and of this one can
 * work on one store side by side while an upgrade rolls. An older store is
 * brought up to date by a start only.
 */
#define SCHEMA_SEALED     4 /* from here on */
#define SCHEMA_ROLLS_FROM 5
#define DEVICES_MAX       16 /* per user */
#define SENT_ROWS         16 /* rows of SENT_PER_ROW: 128 sends and the tail */
#define SENT_PER_ROW      8
#define CONV_INDEX_STEP   64  /* messages per row of convindex */
#define MEMBERS_MAX       257 /* RECIPIENTS_MAX and the sender */
#define GROUP_MEMBERS_MAX 1024
#define GROUP_NAME_MAX    128
#define MEMBER_SPANS_MAX  8 /* times in a group that one's history has */

/*
 * DBI(name, flags, check)
 *   flags  in the terms of lmdb.h
 *   check  SEALED: the store puts four bytes behind each row and looks at them
 *          before it gives one out (store_seal.c); OWN: the table's module does
 */
#define STORE_MAIN_DBIS(DBI)                                                   \
	DBI(ages, MDB_INTEGERKEY, SEALED)                                      \
	DBI(behind, MDB_INTEGERKEY, SEALED)                                    \
	DBI(calldue, 0, SEALED)                                                \
	DBI(callhist, 0, SEALED)                                               \
	DBI(callkey, 0, SEALED)                                                \
	DBI(calls, MDB_INTEGERKEY, SEALED)                                     \
	DBI(contact, 0, SEALED)                                                \
	DBI(conv, 0, SEALED)                                                   \
	DBI(convindex, 0, SEALED)                                              \
	DBI(device, 0, SEALED)                                                 \
	DBI(grace, 0, SEALED)                                                  \
	DBI(groupcount, MDB_INTEGERKEY, SEALED)                                \
	DBI(groupmade, 0, SEALED)                                              \
	DBI(groups, MDB_INTEGERKEY, SEALED)                                    \
	DBI(inbox, 0, OWN)                                                     \
	DBI(leaving, MDB_INTEGERKEY, SEALED)                                   \
	DBI(log, MDB_INTEGERKEY, OWN)                                          \
	DBI(member, 0, SEALED)                                                 \
	DBI(meta, 0, SEALED)                                                   \
	DBI(outbox, 0, OWN)                                                    \
	DBI(sent, 0, OWN)                                                      \
	DBI(unsaid, MDB_INTEGERKEY, SEALED)                                    \
	DBI(usercall, 0, SEALED)                                               \
	DBI(userconv, 0, SEALED)                                               \
	DBI(userhead, MDB_INTEGERKEY, SEALED)                                  \
	DBI(users, MDB_INTEGERKEY, SEALED)

#define STORE_PRESENCE_DBIS(DBI)                                               \
	DBI(presence, MDB_INTEGERKEY, OWN)                                     \
	DBI(session, 0, OWN)

enum store_dbi {
#define DBI(name, flags, check) DBI_##name,
	STORE_MAIN_DBIS(DBI) STORE_PRESENCE_DBIS(DBI)
#undef DBI
	    DBI_END
};

/*
 * log: id -> this, body, type, client message id, attachment; changed_ms (i64)
 * behind them where flags say so.
 *
 * A message is in the chain of its conversation (prev, position). An event is
 * in none and in no history: only inbox rows lead to it; its body is what
 * follows Command and Seq on the wire, as a JSON object.
 */
enum log_kind { LOG_MESSAGE, LOG_EVENT, LOG_KIND_END };
enum log_flags {
	LOG_EDITED = 1,  /* body is not the first one */
	LOG_DELETED = 2, /* a tombstone: body, type, attachment are gone */
};

struct log_row {
	uint64_t checksum; /* XXH3 over id and all that follows */
	struct conv_key conv;
	uint64_t prev; /* id before it in the conversation, or 0 */
	uint64_t sender;
	int64_t client_time_ms; /* INT64_MIN: not given */
	uint64_t reply_to;      /* or 0 */
	/* For a retry, see struct sent_entry: */
	uint64_t prev_sent;     /* id of the device's send before, or 0 */
	uint64_t request_hash;  /* of what was asked for */
	uint64_t sender_seq;    /* given to the sender, or 0 */
	uint32_t sender_device; /* its number */
	uint32_t position;      /* 1 for the first of its conversation */
	uint32_t lower_count; /* two people: those by the lower id up to here */
	uint32_t body_len;
	uint16_t attachment_len;
	uint8_t type_len;
	uint8_t client_id_len;
	uint8_t kind;   /* enum log_kind */
	uint8_t flags;  /* enum log_flags */
	uint16_t edits; /* so often its body was changed */
};
_Static_assert(sizeof(struct log_row) == 104, "schema");

/* conv: key -> head, then member_count members sorted by user; a group has
 * none here (shm/group.h). */
struct conv_member {
	uint64_t user;
	uint64_t delivered; /* message id up to which a device has it */
	uint64_t read;      /* message id */
	uint32_t unread;    /* messages of others above read */
	uint32_t sent;      /* own messages */
};

struct conv_row {
	uint64_t last_id;
	uint32_t count; /* messages */
	uint32_t member_count;
	/* struct conv_member members[member_count] */
};

/* convindex: conv key + position/64 (u32, big endian) -> message id. */

enum group_role {
	ROLE_NONE, /* has left, or was never there */
	ROLE_MEMBER,
	ROLE_ADMIN,
	ROLE_OWNER,
	ROLE_END
};

/* groups: id -> this, name. */
struct group_row {
	uint64_t owner;   /* 0: everybody has left */
	uint64_t changed; /* id of its last event */
	uint32_t member_count;
	uint16_t name_len;
	uint16_t reserved;
};
_Static_assert(sizeof(struct group_row) == 24, "schema");

/* member: group, user (big endian) -> this, span_count spans, oldest first. */
struct member_row {
	uint64_t delivered;     /* message id up to which a device has it */
	uint64_t read;          /* message id */
	uint32_t read_position; /* of that; when he came: those before it */
	uint32_t left_position; /* messages when he left */
	uint32_t own;           /* his own behind read_position */
	uint8_t role;           /* enum group_role */
	uint8_t span_count;
	uint16_t reserved;
};
_Static_assert(sizeof(struct member_row) == 32, "schema");

struct member_span {   /* he sees messages with from < id < upto */
	uint64_t from; /* id of the event that says that he came */
	uint64_t upto; /* that he left; UINT64_MAX: he is here */
};

/* groupcount: user -> groups that he is in (u32), not 0. */
/* leaving: user -> conv key: removed, and from this one on still in his groups,
 * keeper/leaving.c. */
/* groupmade: user (big endian), hash of the ClientGroupId (16) -> struct
 * group_made of group.h. */

/* contact: user, other (big endian) -> flags, kept on both sides. */
enum contact_flags {
	CONTACT_LISTED = 1,    /* the directory put other into user's list */
	CONTACT_LISTED_BY = 2, /* user is in other's list */
	CONTACT_TALKED = 4,    /* messages went both ways */
	CONTACT_BLOCKING = 8,  /* user blocks other */
	CONTACT_BLOCKED_BY = 16,
};

/* userhead: user -> head, then device_count devices. */
struct userhead_device {
	uint8_t hash[16];     /* of the DeviceId */
	uint64_t cursor;      /* highest seq it acknowledged */
	uint64_t session;     /* id, 0: none */
	int64_t last_used_ms; /* time in the store: keeper/age.h */
	uint64_t last_sent;   /* message id, 0: none */
	uint32_t number;      /* names it in device and sent */
	uint32_t worker_gen;
	uint32_t boot;     /* low bits of the board's boot id */
	uint8_t worker;    /* slot */
	uint8_t status;    /* enum user_status of its session */
	uint8_t sent_next; /* sends modulo SENT_ROWS * SENT_PER_ROW */
	uint8_t reserved;
};
_Static_assert(sizeof(struct userhead_device) == 64, "schema");

struct userhead_row {
	uint64_t head;      /* last seq given out */
	uint64_t floor;     /* events up to it are gone */
	uint64_t delivered; /* receipts are told up to here */
	int64_t last_seen_ms;
	int64_t grace_at_ms; /* OFFLINE is told then (time in the store);
				0: not waiting */
	uint32_t next_device;
	uint8_t device_count;
	uint8_t told; /* enum user_status last told to others */
	uint8_t told_in_call;
	uint8_t reserved;
	uint32_t boot;   /* told is of this boot, else it is OFFLINE */
	uint32_t untold; /* events above delivered that a device has had */
};
_Static_assert(sizeof(struct userhead_row) == 56, "schema");

/* device: user, number (big endian) -> this, DeviceId. */
struct device_row {
	int64_t created_ms;
	uint32_t id_len;
	uint32_t reserved;
};

/*
 * sent: user, device number (u32), row (u8) -> struct sent_row, written
 * when it is whole; younger sends are found in the log (shm/sent.h).
 */
struct sent_entry {
	uint8_t hash[16]; /* of the ClientMessageId; message_id 0: empty */
	uint64_t request_hash;
	uint64_t message_id;
	uint64_t seq; /* given to the sender, or 0 */
};
_Static_assert(sizeof(struct sent_entry) == 40, "schema");

struct sent_row {
	struct sent_entry entries[SENT_PER_ROW];
	uint64_t check; /* XXH3 over key and entries; rows of schema 2 end
			 * before it */
};
_Static_assert(sizeof(struct sent_row) == 328, "schema");

/* inbox: user, seq (big endian) -> this. */
enum event_kind {
	EVENT_MESSAGE = 1,
	EVENT_EDIT,    /* of a message: its row as it is when it is shown */
	EVENT_DELETE,  /* of a message */
	EVENT_GROUP,   /* a LOG_EVENT: who is in it, its name */
	EVENT_OUTCOME, /* a LOG_EVENT: how a call ended */
	EVENT_KIND_END
};
struct inbox_row {
	uint64_t ref; /* id in log */
	struct conv_key conv;
	uint32_t kind;  /* enum event_kind */
	uint32_t check; /* low half of XXH3 over user, seq and the above */
};
_Static_assert(sizeof(struct inbox_row) == 32, "schema");

/* users: user -> this, name, password hash, role, profile (JSON). */
struct user_row {
	int64_t created_ms;
	uint16_t name_len;
	uint16_t password_len;
	uint16_t role_len;
	uint16_t profile_len;
};

/*
 * outbox: consumer (u8), section (u8), number (u64, big endian) -> row. The
 * number of a block is that of its last entry.
 */
#define OUTBOX_VERSION   1
#define OUTBOX_BLOCK_MAX 4080 /* what one page holds beside its header */
enum outbox_section { OUTBOX_WAITING = 1, OUTBOX_DEAD = 2 };

/* An entry: kind (u8), then in this order and without holes
 *   MESSAGE          message id
 *   EDIT, DELETE     id of the message, which is in the log as it is now
 *   DELIVERED, READ  conversation, user, message id up to which
 *   STATUS           user, status (u8), length (u16), text
 *   GROUP            group, id of the event that named it, length (u16), name
 *   MEMBER           group, that event, user, role (u8), ROLE_NONE: has left
 *   CALL             struct outbox_call, part_count struct outbox_part
 * What of a group or call is told lies here: their rows change, and calls go
 * by age. */
enum outbox_kind {
	OUTBOX_DAMAGED, /* of a dead letter: what it was cannot be read */
	OUTBOX_MESSAGE,
	OUTBOX_DELIVERED,
	OUTBOX_READ,
	OUTBOX_STATUS,
	OUTBOX_EDIT,
	OUTBOX_DELETE,
	OUTBOX_GROUP,
	OUTBOX_MEMBER,
	OUTBOX_CALL, /* has ended; one of many is told in several entries */
	OUTBOX_KIND_END
};

struct outbox_call {
	uint64_t id;
	uint64_t user;      /* who has made it */
	int64_t created_ms; /* wall clock, as the next one */
	int64_t ended_ms;
	uint8_t kind;       /* enum call_kind */
	uint8_t outcome;    /* enum call_outcome */
	uint8_t part_count; /* in this entry: 1..OUTBOX_PARTS_MAX */
	uint8_t reserved[5];
};
_Static_assert(sizeof(struct outbox_call) == 40, "schema");

#define OUTBOX_PARTS_MAX 64

struct outbox_part { /* of a call */
	uint64_t user;
	int64_t joined_ms; /* wall clock, the first time; 0: never */
	int64_t left_ms;   /* 0: was never in it */
	uint8_t outcome;   /* enum call_outcome */
	uint8_t reserved[7];
};
_Static_assert(sizeof(struct outbox_part) == 32, "schema");

struct outbox_block {   /* followed by its entries */
	uint32_t check; /* low half of XXH3 over key and all that follows */
	uint16_t count;
	uint8_t version;
	uint8_t reserved;
	int64_t at_ms;
	uint64_t low_id; /* no message of it or of a later block is below, but
			  * those that were tried again */
};
_Static_assert(sizeof(struct outbox_block) == 24, "schema");

struct outbox_dead_row { /* followed by the entry and the error */
	uint32_t check;
	int32_t code;
	int64_t at_ms; /* when the entry was put */
	int64_t rejected_at_ms;
	uint16_t entry_len; /* 0: it was damaged */
	uint16_t error_len;
	uint8_t version;
	uint8_t reserved[3];
};
_Static_assert(sizeof(struct outbox_dead_row) == 32, "schema");

struct outbox_state {
	uint32_t version;
	uint32_t is_on; /* as of the last start of the keeper */
	uint64_t head;
	uint64_t tail;
	uint64_t dead_count;
	uint64_t last_id;    /* last message put, retries apart */
	uint64_t retry_low;  /* lowest message that was tried again ... */
	uint64_t retry_upto; /* ... while tail is below this */
	uint64_t dead_low;   /* no dead letter's message is below; 0: there is
			      * none */
};

#define CALL_PARTS_MAX   256
#define CALL_PAYLOAD_MAX 65536

enum call_part_flags {
	CALL_PART_TOLD = 1, /* has got its P_COLLABORATION_OUTCOME */
	CALL_PART_BUSY = 2, /* was busy when it was called */
};

struct call_part {
	uint64_t user;
	uint64_t session;     /* JOINED: that joined; RECONNECTING: is lost */
	uint64_t invited_by;  /* user; 0: made the call */
	int64_t deadline_ms;  /* of ringing or of the grace, time in the store
				 (keeper/age.h); 0: none */
	int64_t joined_at_ms; /* wall clock, the first time; 0: never */
	int64_t left_at_ms;   /* 0: not yet */
	uint32_t device;      /* number of that which did the last step */
	uint8_t state;        /* enum part_state */
	uint8_t outcome;      /* enum call_outcome */
	uint8_t flags;        /* enum call_part_flags */
	uint8_t reserved;
};
_Static_assert(sizeof(struct call_part) == 56, "schema");

/* calls: CollaborationId -> this, part_count participants, payload. */
struct call_row {
	int64_t created_ms;  /* wall clock, as the next two */
	int64_t answered_ms; /* 0: not yet */
	int64_t ended_ms;
	int64_t due_ms;     /* first deadline of all; 0: none */
	int64_t tell_at_ms; /* outcomes could not be told: once more then (time
			       in the store); 0: none */
	uint64_t request_hash;   /* of what was asked for */
	uint8_t client_hash[16]; /* of the ClientCollaborationId */
	uint32_t boot;           /* low bits of the board's boot id: sessions
				    of participants are of this boot */
	uint32_t part_count;
	uint32_t payload_len;
	uint8_t kind;    /* enum call_kind */
	uint8_t state;   /* enum call_state */
	uint8_t outcome; /* enum call_outcome */
	uint8_t reserved;
};
_Static_assert(sizeof(struct call_row) == 80, "schema");

/* usercall: user, call (big endian) -> 1 joined, 0 it rings (u8).
 * callhist: user, call (big endian) -> nothing.
 * calldue: deadline ms, call (big endian) -> nothing.
 * callkey: user (big endian), hash of the ClientCollaborationId -> call. */
/* ages: ms, time in the store -> last id given out by then (shm/ages.h). */
/* grace: deadline ms, user (both big endian) -> nothing. */
/* userconv: user (big endian), conv key -> nothing. */
/* behind: user -> nothing, while events are still to be told of or deleted that
 * all devices have acknowledged. */

/*
 * meta: text -> bytes.
 *   "schema"  u32
 *   "epoch"   u64, random, of this store's life
 *   "base"    u64, seqs start above it
 *   "secret"  16 bytes, key of the identifier hashes
 *   "rings"   struct meta_rings, rewritten in each commit
 *   "retention" struct meta_retention
 *   "outbox" and a number (u8)  struct outbox_state, of that consumer
 */
struct meta_ring {
	uint64_t
	    applied;   /* position up to which the incoming ring is applied */
	uint64_t head; /* head of the outgoing ring */
};

/* Where retention stands; see keeper/retention.c. */
struct meta_retention {
	uint64_t inbox_floor; /* no inbox needs anything of the log below it */
	uint64_t walk_user;   /* whose inbox is looked at next; 0: no walk */
	uint64_t walk_seq;    /* of his, up to here they were looked at */
	uint64_t walk_least;  /* what the inboxes that were looked at need */
	int64_t walk_at_ms;   /* time in the store, when the walk began */
};

struct meta_rings {
	uint64_t boot_id; /* of the segment these positions belong to */
	uint64_t last_id; /* last message id given out */
	uint64_t resync;  /* bit n: worker n lost deliveries of this commit */
	struct meta_ring rings[SLOT_END];
};

/* unsaid: user -> nothing, while others are still to be told of a change,
 * keeper/hush.c. */

/* presence: user -> this, status text. */
struct presence_row {
	uint64_t workers; /* bit n: has a session on worker n */
	uint64_t version; /* when others were told last: shm/presence.h */
	int64_t last_seen_ms;
	uint16_t status;     /* enum user_status as others see it */
	uint16_t is_in_call; /* likewise */
	uint32_t text_len;
};

/* session: worker slot (u8), generation (u32 BE), user, session (BE) ->
 * nothing. */

#endif
