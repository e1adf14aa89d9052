/*
 * net_client.h - a WebSocket client for unit tests of net/, in the same
 * thread as the server it talks to.
 *
 * It owns a struct net with recording handlers and turns its loop until an
 * expectation holds or a deadline passes; there is no sleep anywhere.
 */
#ifndef T_NET_CLIENT_H
#define T_NET_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/net.h"

struct event_base;

#define RIG_REQUEST                                                            \
	"GET /ws HTTP/1.1\r\n"                                                 \
	"Host: localhost\r\n"                                                  \
	"Upgrade: websocket\r\n"                                               \
	"Connection: Upgrade\r\n"                                              \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                      \
	"Sec-WebSocket-Version: 13\r\n"                                        \
	"\r\n"

/** What the handlers of the server saw. */
struct rig {
	struct event_base *base;
	struct net *net;
	struct net_conf conf;
	int listen_fd;
	uint16_t port;
	int opened;
	int closed;
	int close_code; /* of the last closed_fn */
	int drained;
	size_t texts;
	struct buf last_text;
	char bearer[64];      /* of the last open_fn, "" when none */
	struct ws_conn *conn; /* last opened, NULL once closed */
	bool is_echo;         /* answer each text with the same text */
	char motions[64]; /* 'i' input, 'o' output, 'w' written, 's' settled */
	/* What text_fn does besides; NULL: nothing. */
	void (*on_text)(
	    struct rig *rig, struct ws_conn *conn, char *data, size_t len);
};

struct rig_client {
	struct rig *rig;
	int fd;
	struct buf in; /* read and not yet taken */
	bool is_eof;
	bool is_reset;
};

/** One frame as a client sees it. */
struct rig_frame {
	int opcode;
	bool is_deflated; /* RSV1 of a text; anywhere else it fails the test */
	struct buf payload;
};

/** Times in conf are short but nothing waits for them to pass. */
void rig_open(struct rig *rig, const struct net_conf *conf);
void rig_close(struct rig *rig);
/** Defaults to change before rig_open. */
struct net_conf rig_conf(void);
/** One turn of the loop as a worker makes it; returns within 100 ms. */
void rig_turn(struct rig *rig);
/** Let time pass; the loop, which sleeps until something is due, is told. */
void rig_shift(struct rig *rig, int64_t ms);
/** Turn until *value reaches at_least; fails the test after 10 s. */
void rig_wait_int(struct rig *rig, const int *value, int at_least);
void rig_wait_size(struct rig *rig, const size_t *value, size_t at_least);

/** A plain TCP connection. */
void client_connect(struct rig_client *client, struct rig *rig);
/** The same with the upgrade done. */
void client_open(struct rig_client *client, struct rig *rig);
/** The same with another request; answer is NULL or gets what came back. */
void client_open_with(struct rig_client *client, struct rig *rig,
    const char *request, struct buf *answer);
void client_close(struct rig_client *client);
/** Send all of it, turning the loop while the socket is full. */
void client_send(struct rig_client *client, const void *data, size_t len);
/** Append one masked frame to out. */
void client_frame(
    struct buf *out, int first_byte, const void *data, size_t len);
void client_send_frame(
    struct rig_client *client, int first_byte, const void *data, size_t len);
/** Wait until the answer head is there; body included when it is a refusal. */
void client_read_answer(struct rig_client *client, struct buf *answer);
/** Wait for the next frame; its payload is released with buf_fini. */
void client_read_frame(struct rig_client *client, struct rig_frame *frame);
/** Wait for a close frame and return its code (1005 when empty). */
int client_read_close(struct rig_client *client);
/** Wait until the server has closed; false if it was a reset. */
bool client_read_eof(struct rig_client *client);

#endif
