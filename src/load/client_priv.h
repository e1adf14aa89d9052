/*
 * client_priv.h - what client.c and login.c share.
 */
#ifndef LOAD_CLIENT_PRIV_H
#define LOAD_CLIENT_PRIV_H

#include "load/client.h"

struct scan;

/** The only writer of client->state. */
void client_set_state(struct client *client, enum client_state state);
/** The connection is gone or must go; why is for the report. */
void client_lose(struct client *client, const char *why);
/** Keep "what: Reason" for the report, if it is the first failure. */
void client_note_reason(
    struct client *client, const char *what, struct scan_text reason);

/** The upgrade is done: send P_AUTHENTICATE, with LastSeq on a resume. */
void login_send(struct client *client);
/** Its reply: CLIENT_READY, or the connection is lost. */
void login_take_reply(struct client *client, const struct scan *scan);

#endif
