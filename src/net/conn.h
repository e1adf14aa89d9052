/*
 * conn.h - one connection as a stream of bytes: what arrives is handed up
 * once, what is to go is queued and written once per turn.
 *
 * Above it nobody knows how bytes move (conn_io), below it nobody knows what
 * they mean (conn_ops). Embedded in struct ws_conn.
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/buf.h"
#include "net/conn_peer.h"

struct conn;
struct sockaddr;
struct tls;

/** Bytes of one read; also the bound of what a paused connection keeps. */
#define CONN_READ_MAX ((size_t)64 * 1024)
/** An undecoded remainder that later input is glued to. */
#define CONN_REST_MAX ((size_t)16 * 1024)

/** Answers of conn_io.read and .write besides a number of bytes. */
enum {
	CONN_IO_EOF = 0,         /* read only: the peer sends no more */
	CONN_IO_WANT_READ = -1,  /* again when the socket can be read */
	CONN_IO_WANT_WRITE = -2, /* again when it can be written */
	CONN_IO_LOST = -3,       /* broken; nothing more will work */
	CONN_IO_LATER = -4,      /* read only: io calls conn_continue */
};

/**
 * How bytes move. TLS may want either direction for either operation, does
 * its handshake inside read and write, and must not keep decrypted bytes
 * back: len of read always holds a whole record.
 */
struct conn_io {
	const char *name;
	/** Set io_ctx; NULL: nothing to do. */
	void (*open)(struct conn *conn);
	ssize_t (*read)(struct conn *conn, void *data, size_t len);
	ssize_t (*write)(struct conn *conn, const void *data, size_t len);
	/** No more output from us; 0 or a CONN_IO_WANT_* or _LOST. */
	int (*shutdown)(struct conn *conn);
	/** Release io_ctx and the descriptor. */
	void (*close)(struct conn *conn);
};

extern const struct conn_io conn_plain_io;

/** What the owner is told. None of these may free the connection. */
struct conn_ops {
	/**
	 * Input, only ever from within the event loop. data[len] is writable
	 * memory.
	 *
	 * @return bytes used; the rest is kept and stands before the next
	 *         input. When input is still wanted it is at most
	 *         CONN_REST_MAX and waits for more from the socket; when it was
	 *         stopped meanwhile, the rest is offered again once it is
	 * wanted.
	 */
	size_t (*input_fn)(struct conn *conn, char *data, size_t len);
	void (*eof_fn)(struct conn *conn);
	void (*lost_fn)(struct conn *conn);
	/** Last chance to queue something before this turn's write. */
	void (*flush_fn)(struct conn *conn);
	/** A write was tried; conn_queued says what is left. */
	void (*sent_fn)(struct conn *conn);
	/** It is shared and bytes are about to move. */
	void (*motion_fn)(struct conn *conn, bool is_output);
	/** A proxy has said whose it is: peer is another one now. */
	void (*peer_fn)(struct conn *conn);
};

/** Shared by all connections of one loop. */
struct conn_loop {
	struct event_base *base;
	struct tls *tls; /* NULL: plain connections only */
	/** Reads that brought something from those who are in. */
	uint64_t served;
	const struct conn_ops *ops;
	char *scratch; /* CONN_REST_MAX + CONN_READ_MAX + 1 */
	TAILQ_HEAD(conn_dirty_list, conn) dirty; /* have something to write */
	/* Shared ones that something has happened to in this turn; NULL: gone
	 * since. An array, as few are on it and many might be. */
	struct conn **moved;
	uint32_t moved_count;
	uint32_t moved_cap;
};

struct conn {
	struct event event;
	struct conn_loop *loop;
	const struct conn_io *io;
	void *io_ctx; /* owned by io */
	TAILQ_ENTRY(conn) dirty_link;
	struct buf in; /* input not used yet, from in_head on */
	size_t in_head;
	struct buf out;        /* queued, from out_head on */
	size_t out_head;       /* written already */
	uint64_t out_total;    /* bytes written since the beginning */
	int64_t blocked_at_ms; /* last progress of a full socket; 0: not full */
	int fd;                /* -1: closed */
	struct conn_peer peer;
	short armed;       /* EV_READ, EV_WRITE the event waits for */
	short read_on;     /* what read waits for, usually EV_READ */
	short write_on;    /* what a blocked write waits for; 0: not blocked */
	bool is_dirty : 1; /* on the loop's list */
	bool wants_input : 1;
	bool is_unheard : 1; /* spoke while that was not wanted */
	bool has_seen_eof : 1;
	bool has_backlog : 1; /* in is to be offered without another read */
	bool has_more : 1;    /* io: read again, whatever the socket says */
	bool is_shared : 1;   /* another process has the descriptor, too */
	uint32_t moved_at;    /* in the loop's array, from 1; 0: not there */
};

/**
 * @param fd    non-blocking; owned from now on
 * @param peer  may be NULL (not an internet address)
 */
void conn_init(struct conn *conn, struct conn_loop *loop,
    const struct conn_io *io, int fd, const struct sockaddr *peer);
/** After conn_init, a trusted proxy's: a PROXY header may come first. */
void conn_expect_proxy(struct conn *conn);
/** Close the descriptor and stop all events; memory stays. */
void conn_close(struct conn *conn);
/** Give the buffers back; after conn_close. */
void conn_fini(struct conn *conn);

/** Read from now on, or stop reading. */
void conn_set_input(struct conn *conn, bool wants_input);
/** From within the event loop, after CONN_IO_LATER: read now. */
void conn_continue(struct conn *conn);
/** Where output is appended; goes out with the next conn_loop_flush. */
struct buf *conn_output(struct conn *conn);
size_t conn_queued(const struct conn *conn);
/** Shared: enter it in the loop's array, or take it out. */
void conn_moved(struct conn *conn);
void conn_unmoved(struct conn *conn);
/** No more output from us. */
void conn_shutdown(struct conn *conn);
/** Write what is queued on all connections that have something. */
void conn_loop_flush(struct conn_loop *loop);

#endif
