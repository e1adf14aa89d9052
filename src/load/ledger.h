/*
 * ledger.h - proof of loss, duplicates and order; pure book-keeping.
 *
 * A stream is what one sender sends to its one receiver: messages numbered
 * 1, 2, 3 ... . An inbox is what one user's device has seen of its Seq. The
 * verdict collects what was wrong; it is plain data, so that generators in
 * several processes can write theirs into shared memory and one can add up.
 */
#ifndef LOAD_LEDGER_H
#define LOAD_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

enum violation_kind {
#define VIOLATION(name, key, text) VIOLATION_##name,
#include "load/violations.def"
#undef VIOLATION
	VIOLATION_END
};

/* How many of each kind are kept in detail; all are counted. */
#define VERDICT_DETAILS 4

/** Ids only, never content. Zero: does not apply. */
struct violation {
	uint32_t kind; /* enum violation_kind */
	uint64_t sender;
	uint64_t receiver;
	uint64_t number;     /* of the message in its stream */
	uint64_t seq;        /* what came */
	uint64_t seq_other;  /* what was expected, or the first one */
	uint64_t message_id; /* what came */
	uint64_t message_id_other;
};

struct verdict {
	uint64_t counts[VIOLATION_END];
	struct violation details[VIOLATION_END][VERDICT_DETAILS];
	uint64_t unanswered;  /* sent, no reply yet */
	uint64_t undelivered; /* acknowledged, not delivered yet */
	uint64_t unconfirmed; /* at the end: no reply, connection was lost */
	uint64_t unproven;    /* at the end: acknowledged, receiver was lost */
};

struct ledger_record;

struct ledger_stream {
	uint64_t sender;
	uint64_t receiver;
	struct ledger_record *records; /* ring of cap, by number */
	uint32_t cap;
	uint64_t base;     /* oldest number with a record */
	uint64_t next;     /* number of the next message */
	uint64_t received; /* highest number delivered */
};

struct ledger_inbox {
	uint64_t user;
	uint64_t seq;         /* highest seen on this device */
	uint64_t session_seq; /* last seen in this session, 0: none yet */
	bool is_known;        /* seq means something */
};

enum ledger_seq_rc { LEDGER_SEQ_NEW, LEDGER_SEQ_SEEN };

const char *violation_key(enum violation_kind kind);
const char *violation_text(enum violation_kind kind);

void verdict_add(struct verdict *verdict, const struct violation *violation);
/** Add what other holds to verdict. */
void verdict_merge(struct verdict *verdict, const struct verdict *other);
/** How many of details[kind] are filled. */
uint32_t verdict_detail_count(
    const struct verdict *verdict, enum violation_kind kind);
/** All violations of all kinds. */
uint64_t verdict_total(const struct verdict *verdict);

void ledger_stream_init(
    struct ledger_stream *stream, uint64_t sender, uint64_t receiver);
void ledger_stream_fini(struct ledger_stream *stream);
/** A new message is about to go out. @return its number */
uint64_t ledger_send(struct ledger_stream *stream, struct verdict *verdict);
/** Reply OK or DUPLICATE. */
void ledger_answer(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, uint64_t message_id);
/**
 * Reply with another Reason: the message is given up.
 *
 * @param is_definite  the Reason rules out that it was stored; false for
 *                     UNAVAILABLE and SERVER_ERROR
 */
void ledger_refuse(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, bool is_definite);
/**
 * The receiver got it.
 *
 * @param seq_rc  what ledger_inbox_take said about its Seq
 * @return        true the first time, false for any repetition
 */
bool ledger_receive(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, uint64_t message_id, uint64_t seq,
    enum ledger_seq_rc seq_rc);
/**
 * End of the run: what is open is lost or unanswered where the connections
 * stand, else unproven or unconfirmed.
 */
void ledger_finish(struct ledger_stream *stream, struct verdict *verdict,
    bool sender_is_up, bool receiver_is_up);

void ledger_inbox_init(struct ledger_inbox *inbox, uint64_t user);
/** A login was answered; its events follow. */
void ledger_inbox_session(struct ledger_inbox *inbox);
/**
 * An event, or a reply that stands for one, carried seq. Within a session
 * each is one above the last; the first of a resumed session may repeat what
 * was seen (at least once on the wire), but skips nothing.
 */
enum ledger_seq_rc ledger_inbox_take(
    struct ledger_inbox *inbox, struct verdict *verdict, uint64_t seq);

#endif
