/*
 * secure.c - TLS between TCP and the upgrade of a connection.
 *
 * Role:    drives the handshake; in the scenario handshakes also the end of
 *          the connection and the next one.
 * Process: each generator.
 * Blocks:  never.
 * Trust:   see tls_client.c.
 * See:     client.c, tls_client.c.
 */
#include <event2/event.h>

#include "load/client_priv.h"
#include "load/fleet.h"
#include "load/tls_client.h"

/* Scenario handshakes: that was it, the next one. */
static void
take_handshake(struct client *client)
{
	struct fleet *fleet = client->fleet;

	slot_add(fleet->slot, TALLY_handshakes, 1);
	if (tls_client_is_resumed(client->tls))
		slot_add(fleet->slot, TALLY_handshakes_resumed, 1);
}

/* The server has finished its part once it answers our close_notify. */
static void
part(struct client *client)
{
	client_set_state(client, CLIENT_PARTING);
	tls_client_shutdown(client->tls);
}

void
secure_step(struct client *client)
{
	int rc = tls_client_handshake(client->tls);

	if (rc == TLS_CLIENT_WANT_WRITE) {
		event_add(&client->write_event, NULL);
	} else if (rc == TLS_CLIENT_LOST) {
		client_lose(client, tls_client_error(client->tls));
	} else if (rc == 0) {
		take_handshake(client);
		if (client->fleet->options->scenario == SCENARIO_HANDSHAKES)
			part(client);
		else
			client_begin_upgrade(client);
	}
}

void
secure_part(struct client *client)
{
	const char *why = "";
	ssize_t n = client_receive(client, &why);

	if (n == -1)
		return;
	client_drop(client);
	client_set_state(client, CLIENT_IDLE);
	if (control_step(client->fleet->control) == STEP_MEASURE)
		client_connect(client);
}

void
secure_begin(struct client *client)
{
	client->tls = tls_client_new(client->fleet->tls, client->fd);
	if (!client->tls) {
		client_lose(client, "TLS cannot be set up");
		return;
	}
	client_set_state(client, CLIENT_SECURING);
	secure_step(client);
}
