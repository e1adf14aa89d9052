/*
 * client_priv.h - what client.c and login.c share.
 */
#ifndef LOAD_CLIENT_PRIV_H
#define LOAD_CLIENT_PRIV_H

#include <sys/types.h>

#include "load/client.h"

struct scan;

/* Longest message that is believed. */
#define CLIENT_TEXT_MAX (16u << 20)

/** The only writer of client->state. */
void client_set_state(struct client *client, enum client_state state);
/** The connection is gone or must go; why is for the report. */
void client_lose(struct client *client, const char *why);
/** Give back what belongs to the connection; the state stays. */
void client_drop(struct client *client);
/** TCP, and TLS if any, stand: send the request. */
void client_begin_upgrade(struct client *client);
/**
 * Into fleet->read_buf.
 *
 * @return bytes, 0: the end, -1: nothing yet, -2: lost, *why_out says why
 */
ssize_t client_receive(struct client *client, const char **why_out);

/** A message that cannot be understood: a violation. */
void client_garbled(struct client *client);
/** A whole message as it came. */
void client_take_message(
    struct client *client, bool is_deflated, const char *data, size_t len);

/** secure.c: TLS from here to client_begin_upgrade. */
void secure_begin(struct client *client);
/** CLIENT_SECURING: the socket has moved. */
void secure_step(struct client *client);
/** CLIENT_PARTING: until the server has closed, then the next handshake. */
void secure_part(struct client *client);

/** The upgrade is done: send P_AUTHENTICATE, with LastSeq on a resume. */
void login_send(struct client *client);
/** Its reply: CLIENT_READY, or the connection is lost. */
void login_take_reply(struct client *client, const struct scan *scan);

#endif
