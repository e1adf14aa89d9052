/*
 * rowlayout_real.c - one message and its acknowledgement as the keeper does
 * them.
 *
 * Role:    the calls of keeper/apply_message.c and keeper/apply_receipt.c, in
 *          their order; options leave out single rows.
 * Process: the writer of t/bench/rowlayout.
 * Blocks:  on cold pages.
 * Trust:   none needed.
 * See:     t/bench/rowlayout.c, doc/decisions/001-row-layout.md.
 */
#include "config.h"

#include "t/bench/rowlayout.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/sent.h"
#include "shm/userhead.h"
#include "shm/users.h"

#define LAZY_EVENTS 16

/*
 * As shm/sent.c: the sender's head, and a row when it is whole. What it would
 * be filled with, the keeper has at hand.
 */
static void
remember_sent(
    struct bench *bench, const struct letter *letter, struct userhead *sender)
{
	struct userhead_device *device = &sender->devices[0];
	struct sent_row row = {0};
	uint8_t key[13] = {0};

	if (bench->options & NO_SENT)
		return;
	device->last_sent = bench->last_id;
	device->sent_next = (uint8_t)((device->sent_next + 1) % SENT_MAX);
	bench_check(userhead_put(&bench->txn, sender), "sender");
	if (device->sent_next % SENT_PER_ROW != 0)
		return;
	for (int i = 0; i < SENT_PER_ROW; i++)
		memcpy(row.entries[i].hash, letter->hash, sizeof(letter->hash));
	key_u64(key, letter->from);
	key[12] = (uint8_t)(device->sent_next / SENT_PER_ROW);
	bench_check(
	    txn_put(&bench->txn, DBI_sent, key, sizeof(key), &row, sizeof(row)),
	    "sent");
}

static void
deliver_real(struct bench *bench, uint64_t user, const struct conv_key *conv,
    uint64_t id)
{
	struct inbox_event event = {
	    .ref = id, .conv = *conv, .kind = EVENT_MESSAGE};
	struct userhead head;

	bench_check(userhead_get(&bench->txn, user, &head), "userhead");
	event.seq = ++head.row.head;
	if (!(bench->options & NO_INBOX))
		bench_check(inbox_put(&bench->txn, user, &event), "inbox");
	if (bench->options & NO_HEAD)
		return;
	bench_check(userhead_put(&bench->txn, &head), "userhead");
	bench->acks[bench->ack_count++] = (struct ack){user, event.seq};
}

/* ---- the outbox, as keeper/apply_outbox.c does it ---- */

static void
outbox_note(struct bench *bench, const struct outbox_entry *entry)
{
	if (!(bench->options & OUTBOX))
		return;
	bench_check(outbox_put(&bench->txn, &bench->outbox, entry), "outbox");
	if (!(bench->options & OUTBOX_ROWS))
		return;
	/* the row of the entry, without that of the state */
	bench->outbox.committed = bench->outbox.state;
	bench_check(outbox_flush(&bench->txn, &bench->outbox), "outbox");
}

void
real_outbox_begin(struct bench *bench)
{
	if (bench->outbox.number == 0)
		bench_check(
		    outbox_load(&bench->txn, 1, &bench->outbox), "outbox");
	outbox_committed(&bench->outbox);
	outbox_begin(&bench->outbox, clock_wall_ms());
}

/* The consumer is done with what was put some batches ago. */
void
real_outbox_end(struct bench *bench)
{
	uint64_t *head = &bench->outbox_heads[bench->commits % OUTBOX_LAG];
	size_t count;

	if (!(bench->options & OUTBOX))
		return;
	if (!(bench->options & OUTBOX_KEPT)) {
		bench_check(outbox_done(&bench->outbox, *head), "outbox");
		bench_check(
		    outbox_sweep(&bench->txn, &bench->outbox, SIZE_MAX, &count),
		    "outbox");
	}
	bench->outbox.committed.is_on = 1; /* as if the state had changed */
	bench_check(outbox_flush(&bench->txn, &bench->outbox), "outbox");
	*head = bench->outbox.state.head;
}

void
real_send(struct bench *bench, const struct letter *letter)
{
	uint64_t pair[2] = {letter->from, letter->to};
	struct log_message message = {.sender = letter->from};
	struct txn *txn = &bench->txn;
	struct userhead sender;
	struct conv_key key;
	struct conv conv;
	uint32_t flags;

	if (pair[0] > pair[1]) {
		pair[0] = letter->to;
		pair[1] = letter->from;
	}
	bench_check(userhead_get(txn, letter->from, &sender), "sender");
	conv_key_make(pair, 2, &key);
	bench_check(conv_get(txn, &key, &conv), "conv");
	if (!(bench->options & NO_CONTACT))
		bench_check(contact_get(txn, letter->from, letter->to, &flags),
		    "flags");
	bench->last_id = message_id_next(bench->last_id, clock_wall_ms(), 0);
	message.id = bench->last_id;
	message.conv = key;
	message.client_time_ms = INT64_MIN;
	message.body = (struct blob){letter->body, BODY_BYTES};
	message.type = (struct blob){"text", 4};
	message.client_id = (struct blob){letter->body, 36};
	bench_check(conv_add_message(txn, &conv, &message), "convindex");
	if (!(bench->options & NO_LOG))
		bench_check(log_append(txn, &message), "log");
	if (!(bench->options & NO_CONV))
		bench_check(conv_put(txn, &conv), "conv");
	outbox_note(bench, &(struct outbox_entry){.kind = OUTBOX_MESSAGE,
			       .message_id = message.id});
	deliver_real(bench, letter->to, &key, message.id);
	remember_sent(bench, letter, &sender);
}

struct touched {
	struct conv_key conv;
	uint64_t ref;
};

static bool
touch(void *ctx, const struct inbox_event *event)
{
	struct touched *touched = ctx;

	*touched = (struct touched){event->conv, event->ref};
	return true;
}

static void
trim_real(struct bench *bench, struct userhead *head)
{
	uint64_t least = head->devices[0].cursor;

	if ((bench->options & LAZY_TRIM) &&
	    least - head->row.floor < LAZY_EVENTS)
		return;
	bench_check(inbox_delete(&bench->txn, head->user, &head->row.floor,
			least, SIZE_MAX),
	    "inbox");
}

void
real_ack(struct bench *bench, const struct ack *ack)
{
	struct touched touched = {.ref = 0};
	struct conv_member *member;
	struct userhead head;
	struct conv conv;

	bench_check(userhead_get(&bench->txn, ack->user, &head), "userhead");
	if (ack->seq <= head.devices[0].cursor)
		return;
	head.devices[0].cursor = ack->seq;
	bench_check(inbox_each(&bench->txn, ack->user, head.row.delivered,
			ack->seq, touch, &touched),
	    "inbox");
	head.row.delivered = ack->seq;
	if (touched.ref != 0 && !(bench->options & NO_DELIVERED)) {
		bench_check(
		    conv_get(&bench->txn, &touched.conv, &conv), "conv");
		member = conv_member(&conv, ack->user);
		member->delivered = touched.ref;
		bench_check(conv_put(&bench->txn, &conv), "conv");
		outbox_note(
		    bench, &(struct outbox_entry){.kind = OUTBOX_DELIVERED,
			       .conv = touched.conv,
			       .user = ack->user,
			       .message_id = touched.ref});
	}
	trim_real(bench, &head);
	bench_check(userhead_put(&bench->txn, &head), "userhead");
}

void
real_lay_in(struct bench *bench, uint64_t user)
{
	struct sent_row sent = {0};
	struct userhead head;
	uint8_t key[13] = {0};
	struct conv conv;

	bench_check(
	    userhead_get_or_new(&bench->txn, user, 1, &head), "userhead");
	head.row.device_count = 1;
	head.devices[0].sent_next = (uint8_t)(user % SENT_MAX);
	bench_check(userhead_put(&bench->txn, &head), "userhead");
	key_u64(key, user);
	for (unsigned row = 0; row < bench->sent_rows; row++) {
		for (unsigned i = 0; i < SENT_PER_ROW; i++) {
			sent.entries[i] = (struct sent_entry){
			    .message_id = row * SENT_PER_ROW + i + 1};
			memset(sent.entries[i].hash, (int)i, 16);
		}
		key[12] = (uint8_t)row;
		bench_check(txn_put(&bench->txn, DBI_sent, key, sizeof(key),
				&sent, sizeof(sent)),
		    "sent");
	}
	for (unsigned k = 0; k < PEERS; k++) {
		uint64_t peer = bench_peer(user, k, bench->users);
		uint64_t pair[2] = {
		    user < peer ? user : peer, user < peer ? peer : user};
		struct conv_key conv_key;
		int rc;

		conv_key_make(pair, 2, &conv_key);
		rc = conv_get(&bench->txn, &conv_key, &conv);
		if (rc == 0)
			continue;
		bench_check(conv_create(&bench->txn, &conv_key, pair, 2, &conv),
		    "conv");
		bench_check(conv_put(&bench->txn, &conv), "conv");
		bench_check(contact_change(&bench->txn, pair[0], pair[1],
				CONTACT_LISTED | CONTACT_LISTED_BY, 0),
		    "contact");
	}
}
