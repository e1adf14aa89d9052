/*
 * login.c - P_AUTHENTICATE and its reply.
 *
 * Role:    makes the token, resumes with LastSeq and Epoch, judges Recovered.
 * Process: each generator.
 * Blocks:  never.
 * Trust:   the reply may be anything; the token is never shown.
 * See:     client.c; protocol.md, Session and Inbox.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/jwt.h"
#include "load/client_priv.h"
#include "load/fleet.h"

#define LOGIN_TOKEN_S      (7 * 86400)
#define LOGIN_RETRY_MAX_MS 600000

void
client_note_reason(
    struct client *client, const char *what, struct scan_text reason)
{
	char text[FAILURE_TEXT_MAX];

	snprintf(text, sizeof(text), "%s: %.*s", what,
	    (int)(reason.len < 32 ? reason.len : 32),
	    reason.data ? reason.data : "");
	fleet_note_failure(client->fleet, text);
}

void
login_send(struct client *client)
{
	struct fleet *fleet = client->fleet;
	const struct options *options = fleet->options;
	struct timespec wall;
	char name[48];
	char *token;
	struct buf *text = &fleet->scratch;

	clock_gettime(CLOCK_REALTIME, &wall);
	snprintf(
	    name, sizeof(name), "User %llu", (unsigned long long)client->user);
	token = jwt_sign_hs256(options->secret_text, client->user, name,
	    options->issuer, options->audience,
	    (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000,
	    LOGIN_TOKEN_S);
	if (!token) {
		client_lose(client, "the secret cannot be used");
		return;
	}
	buf_clear(text);
	buf_printf(text,
	    "{\"Command\":\"P_AUTHENTICATE\",\"RequestId\":0,"
	    "\"Token\":\"%s\",\"DeviceId\":\"load-%llu\"",
	    token, (unsigned long long)client->user);
	client->is_resuming = client->inbox.is_known && client->epoch[0];
	if (client->is_resuming)
		buf_printf(text, ",\"LastSeq\":%llu,\"Epoch\":%s",
		    (unsigned long long)client->inbox.seq, client->epoch);
	buf_add_char(text, '}');
	free(token);
	client->login_ns = fleet->now_ns;
	client_set_state(client, CLIENT_LOGGING_IN);
	client_send(client, text->data, text->len);
}

static bool
keep_epoch(struct client *client, struct scan_text epoch)
{
	if (!epoch.data || epoch.len >= sizeof(client->epoch))
		return true;
	if (client->is_resuming &&
	    !(strlen(client->epoch) == epoch.len &&
		memcmp(client->epoch, epoch.data, epoch.len) == 0))
		return false;
	memcpy(client->epoch, epoch.data, epoch.len);
	client->epoch[epoch.len] = '\0';
	return true;
}

void
login_take_reply(struct client *client, const struct scan *scan)
{
	struct fleet *fleet = client->fleet;

	if (!scan_text_is(scan->reason, "OK")) {
		client_note_reason(client, "login refused", scan->reason);
		client->retry_ms =
		    (int64_t)(scan->retry_after % LOGIN_RETRY_MAX_MS);
		client_lose(client, "login refused");
		return;
	}
	if (!keep_epoch(client, scan->epoch) ||
	    (client->is_resuming && scan->is_unrecovered)) {
		verdict_add(
		    &fleet->slot->verdict, &(struct violation){
					       .kind = VIOLATION_UNRECOVERED,
					       .receiver = client->user,
					       .seq = scan->last_seq,
					       .seq_other = client->inbox.seq,
					   });
		ledger_inbox_init(&client->inbox, client->user);
		client->epoch[0] = '\0';
		(void)keep_epoch(client, scan->epoch);
	}
	ledger_inbox_session(&client->inbox);
	client->acked_seq = client->is_resuming ? client->inbox.seq : 0;
	slot_add(fleet->slot, TALLY_logins, 1);
	if (client->is_resuming)
		slot_add(fleet->slot, TALLY_resumed, 1);
	client_set_state(client, CLIENT_READY);
	if (fleet->handler.login_fn)
		fleet->handler.login_fn(fleet->ctx, client, scan);
	if (fleet->handler.ready_fn)
		fleet->handler.ready_fn(fleet->ctx, client);
}
