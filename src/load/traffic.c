/*
 * traffic.c - messages from each sender to its receiver.
 *
 * Role:    sends on schedule or by window, retries in order after a resume,
 *          tells the ledger what was answered and what arrived.
 * Process: each generator.
 * Blocks:  never.
 * Trust:   replies and deliveries may be anything; the ledger judges.
 * See:     ledger.c, payload.c, generator.c (who begins and ends it).
 *
 * Open loop: message k of all is due at start + k/rate (rounded up to the
 * grain), whatever happened to those before it, and its latency counts from
 * then. A sender that may not send (64 unanswered, connection lost) sends late,
 * and that shows in the latency instead of being left out.
 */
#include "load/traffic.h"

#include <stdlib.h>

#include <event2/event.h>

#include "base/mem.h"
#include "load/payload.h"

#define TRAFFIC_MAGIC 0x74726166
/*
 * The schedule's grain: messages are due at whole multiples of it, several at
 * once at high rates. Woken for each single one, the generator would take two
 * and a half times the CPU (measured at 8,000/s) from the server beside it.
 */
#define PACE_GRAIN_NS    1000000
#define QUIET_NS         250000000
#define REFUSED_PAUSE_MS 100
#define SLOT_MASK        (OPTIONS_WINDOW_MAX - 1)

struct sender {
	struct client *client;
	struct client *receiver;
	struct ledger_stream stream;
	uint64_t oldest;         /* number of the oldest unanswered send */
	uint64_t scheduled;      /* open loop: numbers up to this are due */
	int64_t paused_until_ns; /* 0: not paused */
	/* by number: when it should have been sent; 0: not under way */
	int64_t intended_ns[OPTIONS_WINDOW_MAX];
};

static struct traffic *
traffic_of(void *arg)
{
	struct traffic *traffic = arg;

	if (traffic->magic != TRAFFIC_MAGIC)
		abort();
	return traffic;
}

static bool
is_open_loop(const struct traffic *traffic)
{
	return traffic->options->scenario == SCENARIO_PAIRS &&
	       traffic->options->rate > 0;
}

static int64_t
due_ns(const struct traffic *traffic, uint64_t pair, uint64_t round)
{
	double k = (double)(traffic->pair_first + pair) +
		   (double)round * (double)traffic->options->count;
	int64_t after_ns = (int64_t)(k * 1e9 / traffic->options->rate);

	return traffic->start_ns +
	       (after_ns + PACE_GRAIN_NS - 1) / PACE_GRAIN_NS * PACE_GRAIN_NS;
}

/* Is a message that was to be sent then part of the measured time? */
static bool
is_measured(const struct traffic *traffic, int64_t intended_ns)
{
	const struct control *control = traffic->fleet->control;
	enum step_id id = traffic->options->scenario == SCENARIO_OFFLINE
			      ? STEP_SEND
			      : STEP_MEASURE;
	int64_t from_ns = control_step_started_ns(control, id);

	return from_ns != 0 && intended_ns >= from_ns &&
	       intended_ns < control_step_ended_ns(control, id);
}

static void
send_number(
    struct traffic *traffic, const struct sender *sender, uint64_t number)
{
	struct fleet *fleet = traffic->fleet;
	struct buf *text = &fleet->scratch;
	const struct payload payload = {
	    .run = fleet->control->run_id,
	    .sender = sender->client->user,
	    .number = number,
	    .intended_ns = sender->intended_ns[number & SLOT_MASK],
	};

	buf_clear(text);
	buf_add_str(text, "{\"Command\":\"P_SEND_MESSAGE\",\"RequestId\":");
	buf_add_u64(text, number);
	buf_add_str(text, ",\"ToUserList\":[");
	buf_add_u64(text, sender->receiver->user);
	buf_add_str(text, "],\"ClientMessageId\":\"");
	buf_add_u64(text, payload.run);
	buf_add_char(text, '-');
	buf_add_u64(text, number);
	buf_add_str(text, "\",\"Message\":\"");
	payload_put(text, &payload, (size_t)traffic->options->size);
	buf_add_str(text, "\"}");
	client_send(sender->client, text->data, text->len);
}

static bool
may_send(const struct traffic *traffic, const struct sender *sender)
{
	uint64_t next = sender->stream.next;

	if (!traffic->is_sending || sender->client->state != CLIENT_READY ||
	    sender->paused_until_ns != 0 ||
	    next - sender->oldest >= traffic->options->window)
		return false;
	if (is_open_loop(traffic))
		return next <= sender->scheduled;
	return traffic->options->scenario != SCENARIO_OFFLINE ||
	       next <= traffic->options->messages;
}

static void
pump(struct traffic *traffic, struct sender *sender)
{
	struct slot *slot = traffic->fleet->slot;

	while (may_send(traffic, sender)) {
		uint64_t number = ledger_send(&sender->stream, &slot->verdict);
		uint64_t pair = (uint64_t)(sender - traffic->senders);
		int64_t intended_ns = is_open_loop(traffic)
					  ? due_ns(traffic, pair, number - 1)
					  : traffic->fleet->now_ns;

		sender->intended_ns[number & SLOT_MASK] = intended_ns;
		send_number(traffic, sender, number);
		slot_add(slot, TALLY_sent, 1);
	}
}

static void
pace(struct traffic *traffic)
{
	struct fleet *fleet = traffic->fleet;
	int64_t wait_ns;
	struct timeval tv;
	int64_t due = INT64_MAX;

	fleet->now_ns = monotonic_ns();
	while (traffic->is_sending) {
		due = due_ns(traffic, traffic->turn, traffic->round);
		if (due > fleet->now_ns)
			break;
		traffic->senders[traffic->turn].scheduled++;
		slot_add(fleet->slot, TALLY_scheduled, 1);
		if (is_measured(traffic, due))
			latency_add(&fleet->slot->late_us,
			    (uint64_t)(fleet->now_ns - due) / 1000);
		pump(traffic, &traffic->senders[traffic->turn]);
		if (++traffic->turn == traffic->pair_count) {
			traffic->turn = 0;
			traffic->round++;
		}
	}
	if (!traffic->is_sending)
		return;
	wait_ns = due - fleet->now_ns;
	tv =
	    (struct timeval){wait_ns / 1000000000, wait_ns % 1000000000 / 1000};
	evtimer_add(&traffic->pace_event, &tv);
}

static void
traffic_pace_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pace(traffic_of(arg));
}

/* Retry first, in order, then go on: protocol.md, Retries. */
static void
traffic_ready(void *ctx, struct client *client)
{
	struct traffic *traffic = traffic_of(ctx);
	struct sender *sender;

	if (client->index >= traffic->pair_count)
		return;
	sender = &traffic->senders[client->index];
	for (uint64_t n = sender->oldest; n < sender->stream.next; n++) {
		if (sender->intended_ns[n & SLOT_MASK] == 0)
			continue;
		send_number(traffic, sender, n);
		slot_add(traffic->fleet->slot, TALLY_retried, 1);
	}
	pump(traffic, sender);
}

static void
settle(struct sender *sender, uint64_t number)
{
	if (number < sender->oldest || number >= sender->stream.next)
		return;
	sender->intended_ns[number & SLOT_MASK] = 0;
	while (sender->oldest < sender->stream.next &&
	       sender->intended_ns[sender->oldest & SLOT_MASK] == 0)
		sender->oldest++;
}

static void
take_refusal(
    struct traffic *traffic, struct sender *sender, const struct scan *scan)
{
	struct slot *slot = traffic->fleet->slot;
	bool is_open = scan_text_is(scan->reason, "UNAVAILABLE") ||
		       scan_text_is(scan->reason, "SERVER_ERROR");
	bool is_temporary = scan_text_is(scan->reason, "UNAVAILABLE") ||
			    scan_text_is(scan->reason, "RATE_LIMITED") ||
			    scan_text_is(scan->reason, "STORAGE_FULL");
	int64_t pause_ms = (int64_t)(scan->retry_after % 600000);
	char text[FAILURE_TEXT_MAX];

	ledger_refuse(
	    &sender->stream, &slot->verdict, scan->request_id, !is_open);
	slot_add(slot, is_temporary ? TALLY_refused_for_now : TALLY_refused, 1);
	snprintf(text, sizeof(text), "send refused: %.*s",
	    (int)(scan->reason.len < 32 ? scan->reason.len : 32),
	    scan->reason.data);
	if (!is_temporary || !traffic->options->churn)
		fleet_note_failure(traffic->fleet, text);
	if (pause_ms < REFUSED_PAUSE_MS)
		pause_ms = REFUSED_PAUSE_MS;
	if (sender->paused_until_ns == 0)
		traffic->paused_count++;
	sender->paused_until_ns = traffic->fleet->now_ns + pause_ms * 1000000;
}

static void
take_answer(
    struct traffic *traffic, struct sender *sender, const struct scan *scan)
{
	struct slot *slot = traffic->fleet->slot;
	uint64_t number = scan->request_id;
	int64_t intended_ns = 0;

	if (number >= sender->oldest && number < sender->stream.next)
		intended_ns = sender->intended_ns[number & SLOT_MASK];
	ledger_answer(
	    &sender->stream, &slot->verdict, number, scan->message_id);
	if (intended_ns == 0)
		return;
	slot_add(slot, TALLY_acknowledged, 1);
	if (scan_text_is(scan->reason, "DUPLICATE"))
		slot_add(slot, TALLY_answered_again, 1);
	if (is_measured(traffic, intended_ns))
		latency_add(&slot->answer_us,
		    (uint64_t)(traffic->fleet->now_ns - intended_ns) / 1000);
	atomic_store_explicit(&slot->last_answer_ns, traffic->fleet->now_ns,
	    memory_order_relaxed);
}

static void
traffic_reply(void *ctx, struct client *client, const struct scan *scan)
{
	struct traffic *traffic = traffic_of(ctx);
	bool is_success = scan_text_is(scan->reason, "OK") ||
			  scan_text_is(scan->reason, "DUPLICATE");
	struct sender *sender;

	if (client->index >= traffic->pair_count || !scan->has_request_id ||
	    (is_success && !scan->has_message_id)) {
		verdict_add(&traffic->fleet->slot->verdict,
		    &(struct violation){
			.kind = VIOLATION_EXTRA_ANSWER,
			.sender = client->user,
			.number = scan->request_id,
		    });
		return;
	}
	sender = &traffic->senders[client->index];
	if (is_success)
		take_answer(traffic, sender, scan);
	else
		take_refusal(traffic, sender, scan);
	settle(sender, scan->request_id);
	traffic->moved_ns = traffic->fleet->now_ns;
	pump(traffic, sender);
}

static void
blame_delivery(struct traffic *traffic, enum violation_kind kind,
    const struct client *client, const struct scan *scan,
    const struct payload *payload)
{
	verdict_add(
	    &traffic->fleet->slot->verdict, &(struct violation){
						.kind = kind,
						.sender = payload->sender,
						.receiver = client->user,
						.number = payload->number,
						.seq = scan->seq,
						.message_id = scan->message_id,
					    });
}

static void
traffic_message(void *ctx, struct client *client, const struct scan *scan,
    enum ledger_seq_rc seq_rc)
{
	struct traffic *traffic = traffic_of(ctx);
	struct slot *slot = traffic->fleet->slot;
	int64_t now_ns = traffic->fleet->now_ns;
	struct payload payload;
	struct sender *sender;

	if (!scan->message.data ||
	    !payload_parse(scan->message.data, scan->message.len, &payload) ||
	    payload.run != traffic->fleet->control->run_id) {
		slot_add(slot, TALLY_foreign, 1);
		return;
	}
	sender = client->index < traffic->pair_count
		     ? NULL
		     : &traffic->senders[client->index - traffic->pair_count];
	if (!sender || payload.sender != sender->client->user ||
	    scan->from_user != payload.sender) {
		blame_delivery(
		    traffic, VIOLATION_MISDELIVERED, client, scan, &payload);
		return;
	}
	if (!scan->has_message_id || !scan->has_seq ||
	    !payload_is_whole(scan->message.data, scan->message.len,
		(size_t)traffic->options->size))
		blame_delivery(
		    traffic, VIOLATION_ALTERED, client, scan, &payload);
	traffic->moved_ns = now_ns;
	if (!ledger_receive(&sender->stream, &slot->verdict, payload.number,
		scan->message_id, scan->seq, seq_rc)) {
		slot_add(slot, TALLY_redelivered, seq_rc == LEDGER_SEQ_SEEN);
		return;
	}
	slot_add(slot, TALLY_delivered, 1);
	atomic_store_explicit(
	    &slot->last_delivery_ns, now_ns, memory_order_relaxed);
	/* offline: how long a message waited says nothing about the server */
	if (traffic->options->scenario == SCENARIO_PAIRS &&
	    payload.intended_ns <= now_ns &&
	    is_measured(traffic, payload.intended_ns))
		latency_add(&slot->deliver_us,
		    (uint64_t)(now_ns - payload.intended_ns) / 1000);
}

const struct client_handler traffic_handler = {
    .ready_fn = traffic_ready,
    .message_fn = traffic_message,
    .reply_fn = traffic_reply,
};

void
traffic_init(struct traffic *traffic, struct fleet *fleet, uint64_t pair_first,
    uint64_t pair_count)
{
	*traffic = (struct traffic){
	    .magic = TRAFFIC_MAGIC,
	    .fleet = fleet,
	    .options = fleet->options,
	    .pair_first = pair_first,
	    .pair_count = pair_count,
	    .moved_ns = fleet->now_ns,
	};
	traffic->senders = xcalloc(pair_count, sizeof(*traffic->senders));
	for (uint64_t i = 0; i < pair_count; i++) {
		struct sender *sender = &traffic->senders[i];

		sender->client = &fleet->clients[i];
		sender->receiver = &fleet->clients[pair_count + i];
		sender->oldest = 1;
		ledger_stream_init(&sender->stream, sender->client->user,
		    sender->receiver->user);
	}
	evtimer_assign(
	    &traffic->pace_event, fleet->base, traffic_pace_cb, traffic);
}

void
traffic_fini(struct traffic *traffic)
{
	if (traffic->magic != TRAFFIC_MAGIC)
		return;
	evtimer_del(&traffic->pace_event);
	for (uint64_t i = 0; i < traffic->pair_count; i++)
		ledger_stream_fini(&traffic->senders[i].stream);
	free(traffic->senders);
	traffic->magic = 0;
}

void
traffic_begin(struct traffic *traffic)
{
	if (traffic->is_sending)
		return;
	traffic->is_sending = true;
	traffic->moved_ns = traffic->fleet->now_ns;
	if (is_open_loop(traffic)) {
		/* the same instant for all generators */
		traffic->start_ns = control_step_started_ns(
		    traffic->fleet->control, STEP_WARMUP);
		pace(traffic);
		return;
	}
	for (uint64_t i = 0; i < traffic->pair_count; i++)
		pump(traffic, &traffic->senders[i]);
}

void
traffic_end(struct traffic *traffic)
{
	if (!traffic->is_sending)
		return;
	traffic->is_sending = false;
	traffic->moved_ns = traffic->fleet->now_ns;
	evtimer_del(&traffic->pace_event);
}

void
traffic_tick(struct traffic *traffic)
{
	int64_t now_ns = traffic->fleet->now_ns;

	if (traffic->paused_count == 0)
		return;
	for (uint64_t i = 0; i < traffic->pair_count; i++) {
		struct sender *sender = &traffic->senders[i];

		if (sender->paused_until_ns == 0 ||
		    sender->paused_until_ns > now_ns)
			continue;
		sender->paused_until_ns = 0;
		traffic->paused_count--;
		pump(traffic, sender);
	}
}

bool
traffic_is_sent(const struct traffic *traffic)
{
	for (uint64_t i = 0; i < traffic->pair_count; i++) {
		const struct sender *sender = &traffic->senders[i];

		if (sender->oldest <= traffic->options->messages)
			return false;
	}
	return true;
}

bool
traffic_is_quiet(const struct traffic *traffic)
{
	const struct verdict *verdict = &traffic->fleet->slot->verdict;

	return verdict->unanswered == 0 && verdict->undelivered == 0 &&
	       fleet_is_settled(traffic->fleet) &&
	       traffic->fleet->now_ns - traffic->moved_ns > QUIET_NS;
}

bool
traffic_is_stuck(const struct traffic *traffic)
{
	return traffic->fleet->now_ns - traffic->moved_ns >
	       traffic->options->drain_ms * 1000000;
}

void
traffic_finish(struct traffic *traffic)
{
	if (traffic->is_finished)
		return;
	traffic->is_finished = true;
	for (uint64_t i = 0; i < traffic->pair_count; i++) {
		struct sender *sender = &traffic->senders[i];

		ledger_finish(&sender->stream, &traffic->fleet->slot->verdict,
		    sender->client->state == CLIENT_READY,
		    sender->receiver->state == CLIENT_READY);
	}
}
