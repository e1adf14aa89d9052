/*
 * net.h - bytes to text messages and back: TCP, HTTP upgrade, WebSocket.
 * Knows no users. One struct net per worker, driven by its loop turn:
 *
 *     event_base_loop(base, EVLOOP_ONCE);    callbacks of struct net_handler
 *     net_flush(net);    one write(2) per socket that has something
 *     net_reap(net);     frees what was closed in this turn
 *
 * open_fn and text_fn come from within the event loop, drained_fn from
 * net_flush, closed_fn from net_reap; when one of the last two has run, the
 * next loop turn does not sleep, so what it caused goes out at once.
 *
 * Nothing blocks, nothing is freed inside a callback. Every connection has
 * bounded memory: buffers exist only while they hold something.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct event_base;
struct net;
struct networks;
struct ws_conn;

struct net_conf {
	size_t max_message_size;   /* bytes; larger: 1009 as soon as known */
	size_t max_queued_bytes;   /* output; beyond it ws_send refuses */
	int64_t header_timeout_ms; /* whole request head */
	int64_t ping_interval_ms;  /* server ping; +8 s of silence: dead */
	int64_t write_timeout_ms;  /* full socket that takes nothing */
	int64_t close_timeout_ms;  /* wait for the peer's close frame */
	int64_t max_connections;
	int64_t frames_per_second;  /* that end no message; 0: no limit */
	int64_t burst_ms;           /* so long a time's worth at once */
	int64_t busy_accept_rate;   /* per second; 0: no bound */
	bool may_deflate;           /* permessage-deflate is agreed to */
	size_t deflate_min_bytes;   /* shorter texts go out as they are */
	const char *path;           /* "/ws" */
	const char *const *origins; /* of pages that may connect */
	size_t origin_count;        /* 0: all may */
	const char *subprotocol;    /* "parley.v1", echoed when offered */
	/* Who may say whose connection it is; NULL: nobody. */
	const struct networks *trusted_proxies;
	const struct networks *exempt; /* not told to enter_fn; NULL: none */
};

/* What is about to move on a connection that is shared, or has moved. */
enum ws_motion {
	WS_MOTION_INPUT,   /* bytes will be taken from the socket */
	WS_MOTION_OUTPUT,  /* bytes will be given to it, perhaps half a frame */
	WS_MOTION_WRITTEN, /* all that was queued is out, more may follow */
};

/* What another process needs to go on with a connection that is whole. */
struct ws_carry {
	uint8_t address[16]; /* struct conn_peer */
	uint16_t port;
	uint8_t family;
	uint8_t deflate_bits;
};

struct net_handler {
	/**
	 * The upgrade is done. bearer: token of "Authorization: Bearer", or
	 * NULL; borrowed. The 101 answer is queued already.
	 */
	void (*open_fn)(void *ctx, struct ws_conn *conn, const char *bearer);
	/** One whole text message, valid UTF-8; data is writable, borrowed and
	 *  followed by a NUL byte that is not counted. */
	void (*text_fn)(
	    void *ctx, struct ws_conn *conn, char *data, size_t len);
	/** Output fell below a quarter of max_queued_bytes after a refusal, or
	 *  after a reply that brought it to the limit. */
	void (*drained_fn)(void *ctx, struct ws_conn *conn);
	/**
	 * Gone; last call for this conn. code: close code received or sent,
	 * 1006 for a lost connection.
	 */
	void (*closed_fn)(void *ctx, struct ws_conn *conn, int code);
	/** Before bytes of a shared connection move, see ws_conn_share. */
	void (*motion_fn)(
	    void *ctx, struct ws_conn *conn, enum ws_motion motion);
	/** From net_settle: the turn is over for one whose bytes have moved. */
	void (*settle_fn)(void *ctx, struct ws_conn *conn);
	/**
	 * A connection has come, or was adopted; NULL: all may. From within the
	 * event loop, often before it is a WebSocket.
	 *
	 * @param key         as of ws_conn_peer_key
	 * @param is_adopted  it is in already
	 * @return            may it stay? Then leave_fn is owed
	 */
	bool (*enter_fn)(void *ctx, const uint8_t key[16], bool is_adopted);
	/** It is closed. */
	void (*leave_fn)(void *ctx, const uint8_t key[16]);
};

/** @param conf, handler  copied; strings must outlive net */
struct net *net_new(struct event_base *base, const struct net_conf *conf,
    const struct net_handler *handler, void *ctx);
/** Other limits from now on, for what is open as well; ping_interval_ms and
 *  may_deflate must be those of net_new: peers rely on them. */
void net_set_conf(struct net *net, const struct net_conf *conf);
/** Ends every connection; closed_fn (1006) is called for each open one. */
void net_free(struct net **net);
/** Accept on a listening, non-blocking socket (kept open by the caller). */
NODISCARD int net_listen(struct net *net, int fd);
/** No new connections from now on (orderly stop): who waits in the listening
 *  sockets is left to the next process. */
void net_stop_accepting(struct net *net);
/** Likewise, but who waits is taken, and the sockets are closed. */
void net_finish_accepting(struct net *net);
size_t net_connection_count(const struct net *net);
void net_flush(struct net *net);
void net_reap(struct net *net);
/** After all that this turn has caused is out of this process' hands. */
void net_settle(struct net *net);
/**
 * Go on with a connection that a predecessor has left open.
 *
 * @param take_fd  plain, non-blocking
 * @param carry    what ws_conn_carry said of it
 * @return         an open one, which is read from now on; open_fn is not
 *                 called, closed_fn will be
 */
struct ws_conn *net_adopt(
    struct net *net, int take_fd, const struct ws_carry *carry);
/** Call fn for every open connection. */
void net_each(
    struct net *net, void (*fn)(void *ctx, struct ws_conn *conn), void *ctx);
/** Is output still queued anywhere? (orderly stop) */
bool net_has_output(const struct net *net);

void ws_conn_set_data(struct ws_conn *conn, void *data);
void *ws_conn_data(const struct ws_conn *conn);
/** "203.0.113.9:51312", formatted into buf. Behind a trusted proxy this is
 *  whom it speaks for. */
const char *ws_conn_peer(const struct ws_conn *conn, char buf[64]);
/** Who it counts as for limits, see conn_peer_key. */
void ws_conn_peer_key(const struct ws_conn *conn, uint8_t key[16]);
/** Does it come from one of the networks in net_conf's exempt? */
bool ws_conn_is_exempt(const struct ws_conn *conn);

/**
 * Queue one text message; goes out at the end of the turn.
 * @return 0, or ERR_FULL: max_queued_bytes reached, nothing queued and
 *         drained_fn will be called; ERR_STALE: closing
 */
NODISCARD int ws_send_text(struct ws_conn *conn, const char *data, size_t len);
/** The same with a limit of its own: what may be lost leaves room for what may
 *  not. */
NODISCARD int ws_send_text_below(
    struct ws_conn *conn, const char *data, size_t len, size_t max);
/**
 * The same without the limit, for replies. When the queue has reached
 * max_queued_bytes (ws_conn_queued) the owner reads no more requests until
 * drained_fn comes, which is owed then: replies are bounded by that alone.
 */
void ws_send_reply(struct ws_conn *conn, const char *data, size_t len);
size_t ws_conn_queued(const struct ws_conn *conn);
/** Start the closing handshake after what is queued (RFC 6455 7.1.2). */
void ws_conn_close(struct ws_conn *conn, int code, const char *reason);
/** Gone at once, without a close frame (peer is not answering). */
void ws_conn_abort(struct ws_conn *conn);
/**
 * Back-pressure: no further text_fn until resumed, the socket is not read,
 * its silence is not counted. Messages already decoded wait. Nests not.
 */
void ws_conn_pause(struct ws_conn *conn);
void ws_conn_resume(struct ws_conn *conn);
bool ws_conn_is_open(const struct ws_conn *conn);

/** Could another process go on with it? With TLS nobody can. */
bool ws_conn_may_move(const struct ws_conn *conn);
/** Is nothing of it here alone: no input undecoded, no output unsent? */
bool ws_conn_is_whole(const struct ws_conn *conn);
void ws_conn_carry(const struct ws_conn *conn, struct ws_carry *out);
/** Its descriptor, which stays its own. */
int ws_conn_fd(const struct ws_conn *conn);
/** Another process has the socket, too: motion_fn and settle_fn are called
 *  from now on, and closing it ends the connection for all. */
void ws_conn_share(struct ws_conn *conn);
/** Leave a shared one to the other process: our descriptor is closed, the
 *  connection lives on. closed_fn is not called. */
void ws_conn_leave(struct ws_conn *conn);

/* net/listener.c: for the supervisor. */
/**
 * Bind host:port with SO_REUSEPORT, listen, non-blocking, close-on-exec.
 * @param port_io  in: 0 takes the configured one; out: bound port. With
 *                 port 0 in the address the first bind chooses and later ones
 *                 pass it back in.
 * @param error    names address and cause
 * @return         descriptor or ERR_BAD_REQUEST (address), ERR_IO
 */
int listener_bind(
    const char *address, uint16_t *port_io, char *error, size_t error_len);

#endif
