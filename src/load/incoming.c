/*
 * incoming.c - what a whole message from the server means for a connection.
 *
 * Role:    inflates it where that was agreed, keeps the Seq of the inbox, hands
 *          replies and events to the scenario.
 * Process: each generator.
 * Blocks:  never.
 * Trust:   whatever the server sends is checked; what cannot be understood is
 *          a violation in the verdict.
 * See:     client.c (frames), login.c, scan.c.
 */
#include "load/client_priv.h"
#include "load/deflate.h"
#include "load/fleet.h"

void
client_garbled(struct client *client)
{
	verdict_add(
	    &client->fleet->slot->verdict, &(struct violation){
					       .kind = VIOLATION_GARBLED,
					       .receiver = client->user,
					       .seq = client->inbox.seq,
					   });
}

static void
take_close_event(struct client *client, const struct scan *scan)
{
	client->retry_ms = (int64_t)(scan->retry_after % 600000);
	/* protocol.md, Reasons and closes: these do not come back */
	client->is_ending = scan_text_is(scan->reason, "REPLACED") ||
			    scan_text_is(scan->reason, "KICKED");
	if (client->is_ending)
		client_note_reason(client, "P_CLOSE", scan->reason);
}

/* A logged-in connection's reply; RequestId tells which. */
static void
take_reply(struct client *client, const struct scan *scan)
{
	struct fleet *fleet = client->fleet;

	if (scan_text_is(scan->command, "P_SEND_MESSAGE") &&
	    fleet->handler.reply_fn) {
		fleet->handler.reply_fn(fleet->ctx, client, scan);
		return;
	}
	if (scan_text_is(scan->command, "P_CREATE_GROUP") &&
	    fleet->handler.group_fn) {
		fleet->handler.group_fn(fleet->ctx, client, scan);
		return;
	}
	/* we await no other: P_ACK is answered only when it is refused */
	slot_add(fleet->slot, TALLY_errors, 1);
	client_note_reason(client, "request refused", scan->reason);
}

static void
take_text(struct client *client, const char *data, size_t len)
{
	struct fleet *fleet = client->fleet;
	enum ledger_seq_rc seq_rc = LEDGER_SEQ_NEW;
	struct scan scan;

	if (scan_parse(data, len, &scan) != 0 || !scan.command.data) {
		client_garbled(client);
		return;
	}
	if (scan_text_is(scan.command, "P_CLOSE")) {
		take_close_event(client, &scan);
		return;
	}
	if (client->state == CLIENT_LOGGING_IN) {
		if (scan_text_is(scan.command, "P_AUTHENTICATE"))
			login_take_reply(client, &scan);
		else if (scan.reason.data)
			client_lose(client, "login answered by an error");
		else
			client_garbled(client); /* an event before the reply */
		return;
	}
	/* a DUPLICATE repeats ids of long ago: only OK stands for the event */
	if (scan.has_seq &&
	    (!scan.reason.data || scan_text_is(scan.reason, "OK")))
		seq_rc = ledger_inbox_take(
		    &client->inbox, &fleet->slot->verdict, scan.seq);
	if (scan.reason.data)
		take_reply(client, &scan);
	else if (scan_text_is(scan.command, "P_MESSAGE") &&
		 fleet->handler.message_fn)
		fleet->handler.message_fn(fleet->ctx, client, &scan, seq_rc);
	else if (scan_text_is(scan.command, "P_PRESENCE") &&
		 fleet->handler.presence_fn)
		fleet->handler.presence_fn(fleet->ctx, client, &scan);
}

void
client_take_message(
    struct client *client, bool is_deflated, const char *data, size_t len)
{
	struct fleet *fleet = client->fleet;
	const struct buf *text;

	if (!is_deflated) {
		take_text(client, data, len);
		return;
	}
	if (deflate_unpack(fleet->deflate, data, len, CLIENT_TEXT_MAX, &text) !=
	    0) {
		client_garbled(client);
		client_lose(client, "the server broke the compression");
		return;
	}
	slot_add(fleet->slot, TALLY_deflated_in, len);
	slot_add(fleet->slot, TALLY_inflated_in, text->len);
	take_text(client, text->data, text->len);
}
