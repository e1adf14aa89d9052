/*
 * net_priv.h - struct net and struct ws_conn, for the files of this folder.
 */
#ifndef NET_NET_PRIV_H
#define NET_NET_PRIV_H

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "base/bucket.h"
#include "base/wheel.h"
#include "net/conn.h"
#include "net/http_head.h"
#include "net/net.h"
#include "net/upgrade.h"
#include "net/ws_decode.h"

/** Resolution of all deadlines of the network. */
#define NET_TICK_MS 100
/** A client has this long for an answer to a ping (protocol, P_HEARTBEAT). */
#define NET_PONG_WAIT_MS 8000
/** Our side of the TCP connection is closed; wait for theirs so long. */
#define NET_LINGER_MS 2000
/** A request, TLS handshake included, that began before a stop has this long.
 */
#define NET_STOP_HEAD_MS 1000
/* After so much in a turn, whoever may compress waits for the next one. */
#define NET_INFLATE_TURN_MAX ((size_t)1024 * 1024)

/*
 * Life of a connection:
 *
 *   HEAD -> OPEN -> CLOSE_SENT -> FLUSHING -> DRAINING -> DEAD
 *
 * It may skip forward, never back. A refused request goes from HEAD to
 * FLUSHING; a peer that closes first or breaks a rule from OPEN to FLUSHING;
 * whatever is lost goes to DEAD.
 */
#define WS_STATES(X)                                                           \
	X(HEAD)       /* the request head is awaited */                        \
	X(OPEN)       /* messages both ways */                                 \
	X(CLOSE_SENT) /* our close frame is queued, theirs is awaited */       \
	X(FLUSHING)   /* the last bytes are queued, input is ignored */        \
	X(DRAINING)   /* we have shut down our side, they have not */          \
	X(DEAD)       /* descriptor closed, waits for net_reap */

enum ws_state {
#define X(name) WS_STATE_##name,
	WS_STATES(X)
#undef X
};

struct ws_pong; /* the payload of a ping that waits for its answer */

struct ws_conn {
	struct conn conn; /* first: a struct conn * is a struct ws_conn * */
	struct net *net;
	LIST_ENTRY(ws_conn) all_link;
	STAILQ_ENTRY(ws_conn) ended_link; /* net.ended, .resting or .waiting */
	struct wheel_timer timer;
	struct ws_decoder decoder;
	struct ws_pong *pong;
	uint64_t pong_end;      /* conn.out_total once the last pong is out */
	int64_t deadline_at_ms; /* OPEN: next ping; else end of the state */
	int64_t heard_at_ms;    /* last byte from the client */
	void *data;
	union {
		struct http_scan scan; /* HEAD */
		struct bucket frames;  /* OPEN: that end no message, us */
	};
	uint16_t close_code; /* what closed_fn will say */
	uint8_t state;
	uint8_t deflate_bits; /* window of what we compress; 0: nothing */
	uint8_t rest_turns;   /* loop turns without input; see net_rest */
	bool has_spoken : 1;  /* after the upgrade */
	bool is_paused : 1;
	bool is_paced : 1;    /* has sent too many frames */
	bool was_refused : 1; /* the queue was full: drained_fn is owed */
	bool was_opened : 1;  /* open_fn was called: closed_fn is owed */
	bool is_on_ended : 1;
	bool is_waiting : 1;     /* on net.waiting, not net.resting */
	bool is_expensive : 1;   /* has had to rest: goes behind the others */
	bool is_counted : 1;     /* enter_fn has said yes: leave_fn is owed */
	bool is_turned_away : 1; /* is on net.away_count */
};

LIST_HEAD(ws_conn_list, ws_conn);
STAILQ_HEAD(ws_ended_list, ws_conn);

struct net_listener {
	struct event event;
	struct net *net;
	int fd;
	bool is_tls;
};

/* While others are being served, accept.c. */
struct net_accept {
	struct event later;
	uint64_t served; /* of the loop, when it was seen to move */
	int64_t served_at_us;
	int64_t at_us; /* up to here, what may be accepted has been counted */
};

struct net {
	struct conn_loop loop;
	struct net_conf conf;
	struct net_handler handler;
	void *ctx;
	struct wheel wheel;
	struct event tick;
	int64_t tick_at_ms; /* the tick is set for; INT64_MAX: not set */
	struct event kick;  /* makes the next loop turn come at once */
	struct wheel_timer accept_timer; /* set while accepting is paused */
	int64_t accept_warned_at_ms;
	int reserve_fd; /* given up to shed somebody; -1: none */
	int fd_end;     /* descriptors from here on are not for clients */
	struct net_accept accept;
	struct ws_conn_list conns;
	struct ws_ended_list ended; /* closed_fn or memory to be given */
	struct ws_ended_list resting;
	struct ws_ended_list waiting; /* for the next turn, to inflate */
	struct ws_deflate *deflate;   /* shared by all connections */
	size_t inflated_bytes;        /* by the connection now being read */
	size_t turn_inflated_bytes;   /* by all in this turn */
	size_t conn_count;
	uint32_t opened;   /* connections that became WebSockets, modulo 2^32 */
	size_t away_count; /* refused for their address, not gone yet */
	int64_t away_log_second;
	unsigned away_log_count;
	struct net_listener **listeners;
	size_t listener_count;
	bool owes_turn; /* a handler ran after the loop: do not sleep next */
};

/* net.c */
/** Up to half an interval early: clients that came as a crowd would be pinged
 *  as a crowd for ever. */
int64_t net_first_ping_ms(struct net *net);
/** What is served here. */
struct upgrade_terms net_terms(const struct net *net);
void net_set_timer(struct net *net, struct wheel_timer *timer, int64_t at_ms);

/**
 * One read hands up at most CONN_READ_MAX bytes. A connection whose few bytes
 * became more than that (inflated_bytes) is not read for as many turns as
 * others need for as much, so a bomb slows its sender alone.
 *
 * @return  whether it must rest: its input is to be switched off
 */
bool net_rest(struct ws_conn *ws);
/**
 * The same before anything is read, and for one turn: all connections
 * together have inflated NET_INFLATE_TURN_MAX in this one. Twice as much for
 * those that never had to rest, so that a crowd of bombers does not keep them
 * waiting.
 */
bool net_wait_to_inflate(struct ws_conn *ws);
/** Count what has been inflated, whether or not anyone may read it. */
void net_count_inflated(struct net *net, size_t len);
void net_end_rest(struct ws_conn *ws);

/* accept.c */
void net_accept_timer(struct net *net);
void net_close_listeners(struct net *net);
/** At the beginning: what is kept for when there are none. */
void net_keep_descriptors(struct net *net);

/* admit.c */
bool net_is_proxy(const struct net *net, const struct conn_peer *peer);
/** Count it where its peer belongs, if it does not count yet. @return false: it
 *  has been refused */
bool ws_admit(struct ws_conn *ws);
/** The same if it is known by now who is there. */
void ws_known(struct conn *conn);
/** It was let in by a predecessor. */
void ws_admit_adopted(struct ws_conn *ws);
/** Its descriptor is closed. */
void ws_leave(struct ws_conn *ws);

/* ws_conn.c */
extern const struct conn_ops ws_conn_ops;
/** @param is_refused  over the limit: answer 503 and close */
void ws_conn_new(struct net *net, const struct conn_io *io, int fd,
    const struct sockaddr *peer, bool is_refused);
/** One that is open already, without an answer to anything. */
struct ws_conn *ws_conn_new_open(
    struct net *net, const struct conn_io *io, int fd);
void ws_conn_timer(struct ws_conn *ws);
/** Answer and close; the caller logs why. */
void ws_conn_refuse(struct ws_conn *ws, int status, const char *why);
/** To its earliest deadline. */
void ws_set_timer(struct ws_conn *ws);
/** An orderly stop: who has not asked for anything yet has to hurry. */
void ws_conn_hurry(struct ws_conn *ws);
/** Tell the owner if it is owed; free if dead. @return whether freed */
bool ws_conn_reap(struct ws_conn *ws);

/* ws_pause.c */
/** Is silence the client's own? */
bool ws_is_listening(const struct ws_conn *ws);
/** The turns without input are over. */
void ws_conn_rested(struct ws_conn *ws);
/** Input was decoded: count its frames, and stop reading if those were too
 *  many. */
void ws_pace(struct ws_conn *ws);
/** When it is to be read again; INT64_MAX: it does not wait. */
int64_t ws_pace_until_ms(const struct ws_conn *ws);
/** Is it time? Then read it. */
void ws_pace_look(struct ws_conn *ws);

/* ws_move.c */
void ws_tell_motion(struct conn *conn, bool is_output);
/** A write was tried. */
void ws_tell_written(struct ws_conn *ws);

/* ws_send.c */
void ws_queue_text(struct ws_conn *ws, const char *data, size_t len);
void ws_queue_frame(
    struct ws_conn *ws, enum ws_opcode opcode, const char *data, size_t len);
/** @param code  left out when it must not be on the wire */
void ws_queue_close(struct ws_conn *ws, int code, const char *reason);
void ws_take_ping(struct ws_conn *ws, const char *data, size_t len);
/** Queue the answer to the last ping, unless one is still on its way. */
void ws_add_pong(struct ws_conn *ws);

#endif
