/*
 * ledger.c - proof of loss, duplicates and order.
 *
 * Role:    remembers what was sent, acknowledged and delivered, and says what
 *          does not fit together.
 * Process: each generator of parleyload; pure.
 * Blocks:  never.
 * Trust:   numbers and ids come from the server under test: any value.
 * See:     pairs.c (who feeds it), t/unit/ledger.c (good and bad histories).
 */
#include "load/ledger.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/mem.h"

/*
 * Settled messages stay on record this long, in messages, so that a late
 * repetition can be compared with the first delivery. A server repeats at
 * most its window of unacknowledged events, 256 (protocol.md, Inbox).
 */
#define LEDGER_KEEP    512
#define LEDGER_CAP_MIN 16

enum {
	RECORD_ANSWERED = 1,
	RECORD_REFUSED = 2,   /* certainly not stored */
	RECORD_ABANDONED = 4, /* refused, may be stored all the same */
	RECORD_RECEIVED = 8,
};

struct ledger_record {
	uint64_t message_id; /* from the reply or the delivery, first wins */
	uint64_t seq;        /* of the first delivery */
	uint32_t flags;
};

static const char *const keys[VIOLATION_END] = {
#define VIOLATION(name, key, text) key,
#include "load/violations.def"
#undef VIOLATION
};

static const char *const texts[VIOLATION_END] = {
#define VIOLATION(name, key, text) text,
#include "load/violations.def"
#undef VIOLATION
};

const char *
violation_key(enum violation_kind kind)
{
	return keys[kind];
}

const char *
violation_text(enum violation_kind kind)
{
	return texts[kind];
}

uint32_t
verdict_detail_count(const struct verdict *verdict, enum violation_kind kind)
{
	uint64_t count = verdict->counts[kind];

	return count < VERDICT_DETAILS ? (uint32_t)count : VERDICT_DETAILS;
}

void
verdict_add(struct verdict *verdict, const struct violation *violation)
{
	enum violation_kind kind = (enum violation_kind)violation->kind;
	uint32_t at = verdict_detail_count(verdict, kind);

	verdict->counts[kind]++;
	if (at < VERDICT_DETAILS)
		verdict->details[kind][at] = *violation;
}

static void
merge_kind(struct verdict *verdict, const struct verdict *other,
    enum violation_kind kind)
{
	uint32_t at = verdict_detail_count(verdict, kind);
	uint32_t count = verdict_detail_count(other, kind);

	for (uint32_t i = 0; i < count && at < VERDICT_DETAILS; i++)
		verdict->details[kind][at++] = other->details[kind][i];
	verdict->counts[kind] += other->counts[kind];
}

void
verdict_merge(struct verdict *verdict, const struct verdict *other)
{
	for (int kind = 0; kind < VIOLATION_END; kind++)
		merge_kind(verdict, other, (enum violation_kind)kind);
	verdict->unanswered += other->unanswered;
	verdict->undelivered += other->undelivered;
	verdict->unconfirmed += other->unconfirmed;
	verdict->unproven += other->unproven;
}

uint64_t
verdict_total(const struct verdict *verdict)
{
	uint64_t total = 0;

	for (int kind = 0; kind < VIOLATION_END; kind++)
		total += verdict->counts[kind];
	return total;
}

void
ledger_stream_init(
    struct ledger_stream *stream, uint64_t sender, uint64_t receiver)
{
	*stream = (struct ledger_stream){
	    .sender = sender,
	    .receiver = receiver,
	    .base = 1,
	    .next = 1,
	};
}

void
ledger_stream_fini(struct ledger_stream *stream)
{
	free(stream->records);
	stream->records = NULL;
	stream->cap = 0;
}

static struct ledger_record *
record_of(struct ledger_stream *stream, uint64_t number)
{
	return &stream->records[number & (stream->cap - 1)];
}

static bool
record_is_settled(const struct ledger_record *record)
{
	if (record->flags & (RECORD_REFUSED | RECORD_ABANDONED))
		return true;
	return (record->flags & RECORD_ANSWERED) &&
	       (record->flags & RECORD_RECEIVED);
}

static void
stream_grow(struct ledger_stream *stream)
{
	uint32_t cap = stream->cap ? stream->cap * 2 : LEDGER_CAP_MIN;
	struct ledger_record *records = xcalloc(cap, sizeof(*records));

	for (uint64_t n = stream->base; n < stream->next; n++)
		records[n & (cap - 1)] = *record_of(stream, n);
	free(stream->records);
	stream->records = records;
	stream->cap = cap;
}

static void
stream_make_room(struct ledger_stream *stream)
{
	if (stream->next - stream->base < stream->cap)
		return;
	while (stream->next - stream->base > LEDGER_KEEP &&
	       record_is_settled(record_of(stream, stream->base)))
		stream->base++;
	if (stream->next - stream->base == stream->cap)
		stream_grow(stream);
}

/* A violation that concerns one message; ids that came, ids on record. */
static void
blame(const struct ledger_stream *stream, struct verdict *verdict,
    enum violation_kind kind, uint64_t number, const struct ledger_record *came)
{
	struct violation violation = {
	    .kind = kind,
	    .sender = stream->sender,
	    .receiver = stream->receiver,
	    .number = number,
	};

	if (came) {
		violation.message_id = came->message_id;
		violation.seq = came->seq;
	}
	if (number >= stream->base && number < stream->next) {
		const struct ledger_record *record =
		    &stream->records[number & (stream->cap - 1)];

		violation.message_id_other = record->message_id;
		violation.seq_other = record->seq;
	}
	verdict_add(verdict, &violation);
}

uint64_t
ledger_send(struct ledger_stream *stream, struct verdict *verdict)
{
	uint64_t number;

	stream_make_room(stream);
	number = stream->next++;
	*record_of(stream, number) = (struct ledger_record){0};
	verdict->unanswered++;
	return number;
}

void
ledger_answer(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, uint64_t message_id)
{
	struct ledger_record came = {.message_id = message_id};
	struct ledger_record *record;

	if (number < stream->base || number >= stream->next) {
		blame(stream, verdict, VIOLATION_EXTRA_ANSWER, number, &came);
		return;
	}
	record = record_of(stream, number);
	if (record->flags &
	    (RECORD_ANSWERED | RECORD_REFUSED | RECORD_ABANDONED)) {
		blame(stream, verdict, VIOLATION_EXTRA_ANSWER, number, &came);
		return;
	}
	record->flags |= RECORD_ANSWERED;
	verdict->unanswered--;
	if (!(record->flags & RECORD_RECEIVED)) {
		record->message_id = message_id;
		verdict->undelivered++;
	} else if (record->message_id != message_id) {
		/* the receiver has it under another id */
		blame(stream, verdict, VIOLATION_DUPLICATE, number, &came);
	}
}

void
ledger_refuse(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, bool is_definite)
{
	struct ledger_record *record;

	if (number < stream->base || number >= stream->next) {
		blame(stream, verdict, VIOLATION_EXTRA_ANSWER, number, NULL);
		return;
	}
	record = record_of(stream, number);
	if (record->flags &
	    (RECORD_ANSWERED | RECORD_REFUSED | RECORD_ABANDONED)) {
		blame(stream, verdict, VIOLATION_EXTRA_ANSWER, number, NULL);
		return;
	}
	record->flags |= is_definite ? RECORD_REFUSED : RECORD_ABANDONED;
	verdict->unanswered--;
	if (is_definite && (record->flags & RECORD_RECEIVED))
		blame(stream, verdict, VIOLATION_REFUSED_DELIVERED, number,
		    record);
}

/* A Seq that was seen before: must be the same message under the same ids. */
static void
receive_again(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, const struct ledger_record *came)
{
	const struct ledger_record *record;

	if (number < stream->base)
		return; /* further back than our records */
	record = record_of(stream, number);
	if (!(record->flags & RECORD_RECEIVED) || record->seq != came->seq ||
	    record->message_id != came->message_id)
		blame(stream, verdict, VIOLATION_DUPLICATE, number, came);
}

static void
receive_first(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, const struct ledger_record *came)
{
	struct ledger_record *record = record_of(stream, number);

	if (record->flags & RECORD_ANSWERED) {
		verdict->undelivered--;
		if (record->message_id != came->message_id)
			blame(
			    stream, verdict, VIOLATION_DUPLICATE, number, came);
	}
	record->flags |= RECORD_RECEIVED;
	record->message_id = came->message_id;
	record->seq = came->seq;
	if (record->flags & RECORD_REFUSED)
		blame(
		    stream, verdict, VIOLATION_REFUSED_DELIVERED, number, came);
	if (number < stream->received)
		blame(stream, verdict, VIOLATION_OUT_OF_ORDER, number, came);
	else
		stream->received = number;
}

bool
ledger_receive(struct ledger_stream *stream, struct verdict *verdict,
    uint64_t number, uint64_t message_id, uint64_t seq,
    enum ledger_seq_rc seq_rc)
{
	struct ledger_record came = {.message_id = message_id, .seq = seq};

	if (number == 0 || number >= stream->next) {
		blame(stream, verdict, VIOLATION_INVENTED, number, &came);
		return false;
	}
	if (seq_rc == LEDGER_SEQ_SEEN) {
		receive_again(stream, verdict, number, &came);
		return false;
	}
	if (number < stream->base ||
	    (record_of(stream, number)->flags & RECORD_RECEIVED)) {
		blame(stream, verdict, VIOLATION_DUPLICATE, number, &came);
		return false;
	}
	receive_first(stream, verdict, number, &came);
	return true;
}

void
ledger_finish(struct ledger_stream *stream, struct verdict *verdict,
    bool sender_is_up, bool receiver_is_up)
{
	for (uint64_t n = stream->base; n < stream->next; n++) {
		const struct ledger_record *record = record_of(stream, n);

		if (record_is_settled(record))
			continue;
		if (record->flags & RECORD_ANSWERED) {
			if (receiver_is_up)
				blame(stream, verdict, VIOLATION_LOST, n, NULL);
			else
				verdict->unproven++;
		} else if (sender_is_up) {
			blame(stream, verdict, VIOLATION_UNANSWERED, n, NULL);
		} else {
			verdict->unconfirmed++;
		}
	}
}

void
ledger_inbox_init(struct ledger_inbox *inbox, uint64_t user)
{
	*inbox = (struct ledger_inbox){.user = user};
}

void
ledger_inbox_session(struct ledger_inbox *inbox)
{
	inbox->session_seq = 0;
}

enum ledger_seq_rc
ledger_inbox_take(
    struct ledger_inbox *inbox, struct verdict *verdict, uint64_t seq)
{
	uint64_t expected = inbox->session_seq + 1;
	bool is_wrong = seq == 0;
	bool is_new;

	if (inbox->session_seq != 0) {
		is_wrong = is_wrong || seq != expected;
	} else if (inbox->is_known) {
		expected = inbox->seq + 1;
		is_wrong = is_wrong || seq > expected;
	}
	if (is_wrong)
		verdict_add(verdict, &(struct violation){
					 .kind = VIOLATION_SEQ_GAP,
					 .receiver = inbox->user,
					 .seq = seq,
					 .seq_other = expected,
				     });
	is_new = !inbox->is_known || seq > inbox->seq;
	if (seq > inbox->session_seq)
		inbox->session_seq = seq;
	if (is_new)
		inbox->seq = seq;
	inbox->is_known = true;
	return is_new ? LEDGER_SEQ_NEW : LEDGER_SEQ_SEEN;
}
