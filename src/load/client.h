/*
 * client.h - one connection of parleyload: TCP, upgrade, login, frames,
 * pings, Seq, P_ACK and resume.
 *
 * Callbacks come from the loop turn; output is queued and goes out at the end
 * of the turn (fleet.c), one write per connection.
 */
#ifndef LOAD_CLIENT_H
#define LOAD_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event_struct.h>

#include "base/buf.h"
#include "load/ledger.h"
#include "load/scan.h"

struct fleet;
struct tls_client;

enum client_state {
	CLIENT_IDLE,       /* not wanted (yet, or any more) */
	CLIENT_CONNECTING, /* TCP */
	CLIENT_SECURING,   /* TLS */
	CLIENT_PARTING,    /* handshakes: until the server has closed */
	CLIENT_UPGRADING,  /* HTTP */
	CLIENT_LOGGING_IN,
	CLIENT_READY,
	CLIENT_WAITING, /* will connect again */
	CLIENT_FAILED,  /* given up */
};

#define CLIENT_EPOCH_MAX 80

struct client {
	uint32_t magic;
	enum client_state state;
	struct fleet *fleet;
	uint64_t index; /* in the fleet */
	uint64_t user;
	int fd;
	struct tls_client *tls; /* NULL: plain */
	bool is_writing;        /* waits for the socket */
	bool is_dirty;          /* on the fleet's list of those with output */
	bool is_fragmented;     /* text holds the begin of a message */
	bool is_deflated;       /* that message is compressed */
	bool may_deflate;       /* compression was agreed upon */
	bool is_ending;         /* P_CLOSE said not to come back */
	bool is_resuming;       /* this login carried LastSeq */
	int64_t started_ns;     /* of this attempt */
	int64_t login_ns;       /* P_AUTHENTICATE was sent */
	int64_t retry_ms;       /* from P_CLOSE; 0: none given */
	uint64_t nonce;         /* makes Sec-WebSocket-Key */
	struct event read_event;
	/* waits for the socket to be writable; between connections: timer */
	struct event write_event;
	struct buf in; /* an incomplete frame */
	struct buf out;
	struct buf text; /* fragments so far */
	struct ledger_inbox inbox;
	uint64_t acked_seq;
	char epoch[CLIENT_EPOCH_MAX]; /* JSON value of the first login */
	TAILQ_ENTRY(client) pending;  /* logging in, oldest first */
	TAILQ_ENTRY(client) dirty;
};

/** What a scenario wants to know; any may be NULL. */
struct client_handler {
	/** Logged in; called at each reconnect, too. */
	void (*ready_fn)(void *ctx, struct client *client);
	/** The same, with the reply. */
	void (*login_fn)(
	    void *ctx, struct client *client, const struct scan *scan);
	/** Logged in before, now lost. */
	void (*down_fn)(void *ctx, struct client *client);
	/** P_MESSAGE. */
	void (*message_fn)(void *ctx, struct client *client,
	    const struct scan *scan, enum ledger_seq_rc seq_rc);
	/** Reply to P_CREATE_GROUP. */
	void (*group_fn)(
	    void *ctx, struct client *client, const struct scan *scan);
	/** P_PRESENCE. */
	void (*presence_fn)(
	    void *ctx, struct client *client, const struct scan *scan);
	/** Reply to P_SEND_MESSAGE. */
	void (*reply_fn)(
	    void *ctx, struct client *client, const struct scan *scan);
};

void client_init(
    struct client *client, struct fleet *fleet, uint64_t index, uint64_t user);
void client_fini(struct client *client);
/** Begin to connect; from CLIENT_IDLE or CLIENT_WAITING. */
void client_connect(struct client *client);
/** Queue one text message. */
void client_send(struct client *client, const char *data, size_t len);
/** Write what is queued; called by the fleet at the end of the turn. */
void client_flush(struct client *client);
/** Say goodbye (close 1000) and be CLIENT_IDLE. */
void client_leave(struct client *client);
/** Keep "what: Reason" for the report, if it is the first failure. */
void client_note_reason(
    struct client *client, const char *what, struct scan_text reason);
/** This attempt took too long. */
void client_time_out(struct client *client);

#endif
