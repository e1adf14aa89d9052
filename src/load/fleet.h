/*
 * fleet.h - all connections of one generator process and its event loop.
 */
#ifndef LOAD_FLEET_H
#define LOAD_FLEET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <event2/event_struct.h>

#include "load/client.h"
#include "load/control.h"
#include "load/options.h"

struct event_base;
struct deflate;
struct tls_fleet;

TAILQ_HEAD(client_list, client);

/* Bytes taken from a socket at a time. */
#define FLEET_READ_MAX (256 * 1024)

struct fleet {
	uint32_t magic;
	const struct options *options;
	struct control *control;
	struct slot *slot;
	struct event_base *base;
	struct sockaddr_storage address; /* of the server */
	socklen_t address_len;
	struct deflate *deflate; /* NULL: not offered */
	struct tls_fleet *tls;   /* NULL: plain */
	struct client_handler handler;
	void *ctx; /* of the handler */
	struct client *clients;
	uint64_t client_count;
	struct client_list pending; /* logging in, oldest first */
	struct client_list dirty;
	uint64_t pending_count;
	uint64_t ready_count;
	uint64_t waiting_count; /* for their next attempt */
	/* connections to be started at login_rate */
	uint64_t launch_next;
	uint64_t launch_end;
	uint64_t launch_first;
	int64_t launch_started_ns;
	struct event tick_event;
	int64_t now_ns; /* start of the present callback */
	void *tick_ctx; /* of tick_fn */
	uint64_t random;
	struct buf scratch;
	char *read_buf; /* FLEET_READ_MAX */
	void (*tick_fn)(void *ctx);
	bool is_stopped;
};

/**
 * Zeroes *fleet, makes the loop and finds the server's address. Clients are
 * the caller's to client_init; handler, ctx and tick_fn (called every few ms)
 * are the caller's to set.
 *
 * @return  0, ERR_IO (address, event loop); what is in slot->failure
 */
NODISCARD int fleet_init(struct fleet *fleet, const struct options *options,
    struct control *control, struct slot *slot, uint64_t client_count);
void fleet_fini(struct fleet *fleet);
/** Connect clients first..first+count-1 at the generator's login rate. */
void fleet_launch(struct fleet *fleet, uint64_t first, uint64_t count);
/** Nothing to be launched, nothing half-way or waiting to come back. */
bool fleet_is_settled(const struct fleet *fleet);
/** Turn the loop until fleet_stop. */
void fleet_run(struct fleet *fleet);
void fleet_stop(struct fleet *fleet);
uint64_t fleet_random(struct fleet *fleet);

/* For client.c. */
void fleet_pending_add(struct fleet *fleet, struct client *client);
void fleet_pending_remove(struct fleet *fleet, struct client *client);
void fleet_dirty_add(struct fleet *fleet, struct client *client);
void fleet_dirty_remove(struct fleet *fleet, struct client *client);
/** Keep the reason of the first failure for the report. */
void fleet_note_failure(struct fleet *fleet, const char *text);

#endif
