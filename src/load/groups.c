/*
 * groups.c - messages to whole groups.
 *
 * Role:    makes the groups, writes to them on schedule or by window, and tells
 *          the ledger what was answered and what arrived: one stream from each
 *          sender to each other member.
 * Process: each generator, with groups of its own.
 * Blocks:  never.
 * Trust:   replies and deliveries may be anything; the ledger judges.
 * See:     traffic.c (pairs), ledger.c, payload.c.
 */
#include "load/groups.h"

#include <stdlib.h>

#include "base/mem.h"
#include "load/payload.h"

#define GROUPS_MAGIC     0x67727073
#define QUIET_NS         250000000
#define REFUSED_PAUSE_MS 100
#define SLOT_MASK        (OPTIONS_WINDOW_MAX - 1)

struct talker {
	struct client *client;
	struct ledger_stream *streams; /* by member; its own is not used */
	uint64_t next;                 /* number of its next message */
	uint64_t oldest;               /* of its oldest unanswered one */
	uint64_t scheduled;            /* open loop: due up to here */
	/* by number: when it should have been sent; 0: not under way */
	int64_t intended_ns[OPTIONS_WINDOW_MAX];
};

struct troop {
	uint64_t group;         /* id; 0: not made yet */
	struct client *clients; /* its members, in the fleet */
	struct talker *talkers;
};

static struct groups *
groups_of(void *arg)
{
	struct groups *groups = arg;

	if (groups->magic != GROUPS_MAGIC)
		abort();
	return groups;
}

static struct troop *
troop_of(struct groups *groups, const struct client *client)
{
	return &groups->troops[client->index / groups->options->members];
}

/* NULL: it only reads. */
static struct talker *
talker_of(struct groups *groups, const struct client *client)
{
	uint64_t place = client->index % groups->options->members;

	return place < groups->options->senders
		   ? &troop_of(groups, client)->talkers[place]
		   : NULL;
}

static bool
is_measured(const struct groups *groups, int64_t intended_ns)
{
	const struct control *control = groups->fleet->control;
	int64_t from_ns = control_step_started_ns(control, STEP_MEASURE);

	return from_ns != 0 && intended_ns >= from_ns &&
	       intended_ns < control_step_ended_ns(control, STEP_MEASURE);
}

/* ---- making them ---- */

static void
make_group(struct groups *groups, struct troop *troop)
{
	struct buf *text = &groups->fleet->scratch;

	if (troop->group != 0 || troop->clients[0].state != CLIENT_READY)
		return;
	buf_clear(text);
	buf_add_str(text, "{\"Command\":\"P_CREATE_GROUP\",\"RequestId\":1,"
			  "\"Name\":\"parleyload\",\"ClientGroupId\":\"");
	buf_add_u64(text, groups->fleet->control->run_id);
	buf_add_str(text, "\",\"Members\":[");
	for (uint64_t i = 1; i < groups->options->members; i++) {
		if (i > 1)
			buf_add_char(text, ',');
		buf_add_u64(text, troop->clients[i].user);
	}
	buf_add_str(text, "]}");
	client_send(&troop->clients[0], text->data, text->len);
}

/* ---- sending ---- */

static void
send_number(struct groups *groups, const struct talker *talker, uint64_t number)
{
	struct fleet *fleet = groups->fleet;
	struct buf *text = &fleet->scratch;
	const struct payload payload = {
	    .run = fleet->control->run_id,
	    .sender = talker->client->user,
	    .number = number,
	    .intended_ns = talker->intended_ns[number & SLOT_MASK],
	};

	buf_clear(text);
	buf_add_str(text, "{\"Command\":\"P_SEND_MESSAGE\",\"RequestId\":");
	buf_add_u64(text, number);
	buf_add_str(text, ",\"GroupId\":\"");
	buf_add_u64(text, troop_of(groups, talker->client)->group);
	buf_add_str(text, "\",\"ClientMessageId\":\"");
	buf_add_u64(text, payload.run);
	buf_add_char(text, '-');
	buf_add_u64(text, number);
	buf_add_str(text, "\",\"Message\":\"");
	payload_put(text, &payload, (size_t)groups->options->size);
	buf_add_str(text, "\"}");
	client_send(talker->client, text->data, text->len);
}

static bool
may_send(struct groups *groups, const struct talker *talker)
{
	if (!groups->is_sending || groups->pause_until_ns != 0 ||
	    talker->client->state != CLIENT_READY ||
	    troop_of(groups, talker->client)->group == 0 ||
	    talker->next - talker->oldest >= groups->options->window)
		return false;
	return groups->options->rate == 0 || talker->next <= talker->scheduled;
}

static void
pump(struct groups *groups, struct talker *talker)
{
	struct slot *slot = groups->fleet->slot;
	struct client *first = troop_of(groups, talker->client)->clients;

	while (may_send(groups, talker)) {
		uint64_t number = talker->next++;

		for (uint64_t i = 0; i < groups->options->members; i++) {
			if (&first[i] != talker->client)
				(void)ledger_send(
				    &talker->streams[i], &slot->verdict);
		}
		talker->intended_ns[number & SLOT_MASK] = groups->fleet->now_ns;
		send_number(groups, talker, number);
		slot_add(slot, TALLY_sent, 1);
	}
}

static void
pump_all(struct groups *groups)
{
	for (uint64_t i = 0; i < groups->troop_count; i++) {
		for (uint64_t s = 0; s < groups->options->senders; s++)
			pump(groups, &groups->troops[i].talkers[s]);
	}
}

/* The open loop, at the grain of the tick: this generator's part. */
static void
schedule(struct groups *groups)
{
	uint64_t senders = groups->troop_count * groups->options->senders;
	double share =
	    (double)groups->troop_count / (double)groups->options->count;
	double seconds =
	    (double)(groups->fleet->now_ns - groups->start_ns) / 1e9;
	uint64_t due = (uint64_t)(seconds * groups->options->rate * share);

	for (; groups->due < due; groups->due++) {
		uint64_t at = groups->turn++ % senders;
		struct troop *troop =
		    &groups->troops[at / groups->options->senders];

		troop->talkers[at % groups->options->senders].scheduled++;
		slot_add(groups->fleet->slot, TALLY_scheduled, 1);
	}
}

/* Retry first, in order, then go on: protocol.md, Retries. */
static void
groups_ready(void *ctx, struct client *client)
{
	struct groups *groups = groups_of(ctx);
	struct talker *talker = talker_of(groups, client);

	if (groups->is_sending)
		make_group(groups, troop_of(groups, client));
	if (talker == NULL)
		return;
	for (uint64_t n = talker->oldest; n < talker->next; n++) {
		if (talker->intended_ns[n & SLOT_MASK] == 0)
			continue;
		send_number(groups, talker, n);
		slot_add(groups->fleet->slot, TALLY_retried, 1);
	}
	pump(groups, talker);
}

/* ---- what comes back ---- */

static void
groups_made(void *ctx, struct client *client, const struct scan *scan)
{
	struct groups *groups = groups_of(ctx);
	struct troop *troop = troop_of(groups, client);

	if ((!scan_text_is(scan->reason, "OK") &&
		!scan_text_is(scan->reason, "DUPLICATE")) ||
	    scan->group_id == 0) {
		slot_add(groups->fleet->slot, TALLY_errors, 1);
		client_note_reason(client, "group refused", scan->reason);
		return;
	}
	troop->group = scan->group_id;
	for (uint64_t s = 0; s < groups->options->senders; s++)
		pump(groups, &troop->talkers[s]);
}

static void
settle(struct talker *talker, uint64_t number)
{
	if (number < talker->oldest || number >= talker->next)
		return;
	talker->intended_ns[number & SLOT_MASK] = 0;
	while (talker->oldest < talker->next &&
	       talker->intended_ns[talker->oldest & SLOT_MASK] == 0)
		talker->oldest++;
}

static void
take_answer(
    struct groups *groups, struct talker *talker, const struct scan *scan)
{
	struct slot *slot = groups->fleet->slot;
	uint64_t number = scan->request_id;
	int64_t intended_ns = talker->intended_ns[number & SLOT_MASK];

	slot_add(slot, TALLY_acknowledged, 1);
	if (scan_text_is(scan->reason, "DUPLICATE"))
		slot_add(slot, TALLY_answered_again, 1);
	if (intended_ns != 0 && is_measured(groups, intended_ns))
		latency_add(&slot->answer_us,
		    (uint64_t)(groups->fleet->now_ns - intended_ns) / 1000);
	atomic_store_explicit(
	    &slot->last_answer_ns, groups->fleet->now_ns, memory_order_relaxed);
}

static void
take_refusal(
    struct groups *groups, struct talker *talker, const struct scan *scan)
{
	bool is_temporary = scan_text_is(scan->reason, "UNAVAILABLE") ||
			    scan_text_is(scan->reason, "STORAGE_FULL");

	slot_add(groups->fleet->slot,
	    is_temporary ? TALLY_refused_for_now : TALLY_refused, 1);
	if (!is_temporary || !groups->options->churn)
		client_note_reason(
		    talker->client, "send refused", scan->reason);
	groups->pause_until_ns =
	    groups->fleet->now_ns + REFUSED_PAUSE_MS * 1000000;
}

static void
groups_reply(void *ctx, struct client *client, const struct scan *scan)
{
	struct groups *groups = groups_of(ctx);
	struct verdict *verdict = &groups->fleet->slot->verdict;
	bool is_success = scan_text_is(scan->reason, "OK") ||
			  scan_text_is(scan->reason, "DUPLICATE");
	bool is_open = scan_text_is(scan->reason, "UNAVAILABLE") ||
		       scan_text_is(scan->reason, "SERVER_ERROR");
	struct talker *talker = talker_of(groups, client);
	uint64_t number = scan->request_id;

	if (talker == NULL || !scan->has_request_id ||
	    (is_success && !scan->has_message_id)) {
		verdict_add(
		    verdict, &(struct violation){.kind = VIOLATION_EXTRA_ANSWER,
				 .sender = client->user,
				 .number = number});
		return;
	}
	for (uint64_t i = 0; i < groups->options->members; i++) {
		struct ledger_stream *stream = &talker->streams[i];

		if (&troop_of(groups, client)->clients[i] == client)
			continue;
		if (is_success)
			ledger_answer(
			    stream, verdict, number, scan->message_id);
		else
			ledger_refuse(stream, verdict, number, !is_open);
	}
	if (is_success)
		take_answer(groups, talker, scan);
	else
		take_refusal(groups, talker, scan);
	settle(talker, number);
	groups->moved_ns = groups->fleet->now_ns;
	pump(groups, talker);
}

static void
blame(struct groups *groups, enum violation_kind kind,
    const struct client *client, const struct payload *payload)
{
	verdict_add(
	    &groups->fleet->slot->verdict, &(struct violation){
					       .kind = kind,
					       .sender = payload->sender,
					       .receiver = client->user,
					       .number = payload->number,
					   });
}

static void
take_delivery(struct groups *groups, struct client *client,
    const struct scan *scan, const struct payload *payload,
    enum ledger_seq_rc seq_rc)
{
	struct slot *slot = groups->fleet->slot;
	struct troop *troop = troop_of(groups, client);
	uint64_t from = payload->sender - troop->clients[0].user;
	int64_t now_ns = groups->fleet->now_ns;

	if (payload->sender < troop->clients[0].user ||
	    from >= groups->options->senders ||
	    scan->from_user != payload->sender ||
	    payload->sender == client->user || scan->group_id != troop->group) {
		blame(groups, VIOLATION_MISDELIVERED, client, payload);
		return;
	}
	if (!scan->has_message_id || !scan->has_seq ||
	    !payload_is_whole(scan->message.data, scan->message.len,
		(size_t)groups->options->size))
		blame(groups, VIOLATION_ALTERED, client, payload);
	groups->moved_ns = now_ns;
	if (!ledger_receive(
		&troop->talkers[from]
		     .streams[client->index % groups->options->members],
		&slot->verdict, payload->number, scan->message_id, scan->seq,
		seq_rc)) {
		slot_add(slot, TALLY_redelivered, seq_rc == LEDGER_SEQ_SEEN);
		return;
	}
	slot_add(slot, TALLY_delivered, 1);
	atomic_store_explicit(
	    &slot->last_delivery_ns, now_ns, memory_order_relaxed);
	if (payload->intended_ns <= now_ns &&
	    is_measured(groups, payload->intended_ns))
		latency_add(&slot->deliver_us,
		    (uint64_t)(now_ns - payload->intended_ns) / 1000);
}

static void
groups_message(void *ctx, struct client *client, const struct scan *scan,
    enum ledger_seq_rc seq_rc)
{
	struct groups *groups = groups_of(ctx);
	struct payload payload;

	if (!scan->message.data ||
	    !payload_parse(scan->message.data, scan->message.len, &payload) ||
	    payload.run != groups->fleet->control->run_id)
		slot_add(groups->fleet->slot, TALLY_foreign, 1);
	else
		take_delivery(groups, client, scan, &payload, seq_rc);
}

const struct client_handler groups_handler = {
    .ready_fn = groups_ready,
    .message_fn = groups_message,
    .reply_fn = groups_reply,
    .group_fn = groups_made,
};

/* ---- begin and end ---- */

static void
troop_init(struct groups *groups, struct troop *troop, struct client *clients)
{
	uint64_t members = groups->options->members;

	troop->clients = clients;
	troop->talkers =
	    xcalloc(groups->options->senders, sizeof(*troop->talkers));
	for (uint64_t s = 0; s < groups->options->senders; s++) {
		struct talker *talker = &troop->talkers[s];

		*talker = (struct talker){
		    .client = &clients[s], .next = 1, .oldest = 1};
		talker->streams = xcalloc(members, sizeof(*talker->streams));
		for (uint64_t i = 0; i < members; i++)
			ledger_stream_init(&talker->streams[i], clients[s].user,
			    clients[i].user);
	}
}

void
groups_init(struct groups *groups, struct fleet *fleet, uint64_t troop_count)
{
	*groups = (struct groups){
	    .magic = GROUPS_MAGIC,
	    .fleet = fleet,
	    .options = fleet->options,
	    .troop_count = troop_count,
	    .moved_ns = fleet->now_ns,
	};
	groups->troops = xcalloc(troop_count, sizeof(*groups->troops));
	for (uint64_t i = 0; i < troop_count; i++)
		troop_init(groups, &groups->troops[i],
		    &fleet->clients[i * fleet->options->members]);
}

void
groups_fini(struct groups *groups)
{
	if (groups->magic != GROUPS_MAGIC)
		return;
	for (uint64_t i = 0; i < groups->troop_count; i++) {
		struct troop *troop = &groups->troops[i];

		for (uint64_t s = 0; s < groups->options->senders; s++) {
			for (uint64_t m = 0; m < groups->options->members; m++)
				ledger_stream_fini(
				    &troop->talkers[s].streams[m]);
			free(troop->talkers[s].streams);
		}
		free(troop->talkers);
	}
	free(groups->troops);
	groups->magic = 0;
}

void
groups_begin(struct groups *groups)
{
	if (groups->is_sending)
		return;
	groups->is_sending = true;
	groups->moved_ns = groups->fleet->now_ns;
	groups->start_ns = groups->fleet->now_ns;
	for (uint64_t i = 0; i < groups->troop_count; i++)
		make_group(groups, &groups->troops[i]);
	pump_all(groups);
}

void
groups_end(struct groups *groups)
{
	if (groups->is_sending)
		groups->moved_ns = groups->fleet->now_ns;
	groups->is_sending = false;
}

void
groups_tick(struct groups *groups)
{
	bool is_over = groups->pause_until_ns != 0 &&
		       groups->pause_until_ns <= groups->fleet->now_ns;

	if (is_over)
		groups->pause_until_ns = 0;
	if (groups->is_sending && groups->options->rate > 0)
		schedule(groups);
	if (is_over || (groups->is_sending && groups->options->rate > 0))
		pump_all(groups);
}

bool
groups_are_quiet(const struct groups *groups)
{
	const struct verdict *verdict = &groups->fleet->slot->verdict;

	return verdict->unanswered == 0 && verdict->undelivered == 0 &&
	       fleet_is_settled(groups->fleet) &&
	       groups->fleet->now_ns - groups->moved_ns > QUIET_NS;
}

void
groups_finish(struct groups *groups)
{
	if (groups->is_finished)
		return;
	groups->is_finished = true;
	for (uint64_t i = 0; i < groups->troop_count; i++) {
		struct troop *troop = &groups->troops[i];

		for (uint64_t s = 0; s < groups->options->senders; s++) {
			struct talker *talker = &troop->talkers[s];

			for (uint64_t m = 0; m < groups->options->members; m++)
				ledger_finish(&talker->streams[m],
				    &groups->fleet->slot->verdict,
				    talker->client->state == CLIENT_READY,
				    troop->clients[m].state == CLIENT_READY);
		}
	}
}
