/*
 * watch.h - who is told that somebody has come, and the ledger of it.
 */
#ifndef LOAD_WATCH_H
#define LOAD_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "load/fleet.h"

/**
 * The users stand in a circle; the contacts of each are those next to it, half
 * of them on each side. They log in in another order.
 */
struct watch {
	uint32_t magic;
	struct fleet *fleet;
	uint64_t first_user;
	uint64_t count;
	uint64_t stride;    /* places from one login to the next */
	uint64_t half;      /* contacts on each side */
	uint32_t *index_of; /* place in the circle: client in the fleet */
	uint8_t *told;      /* place, contact: how often */
	uint64_t open;      /* nobody was told yet */
	int64_t moved_ns;   /* last event */
};

/** After fleet_init, before the clients are made: client i is the user whom
 *  watch_user names. */
void watch_init(struct watch *watch, struct fleet *fleet);
void watch_fini(struct watch *watch);
uint64_t watch_user(const struct watch *watch, uint64_t index);
/** The fleet's handler; ctx is the watch. */
extern const struct client_handler watch_handler;
/** All have been told of all, and a moment of silence followed. */
bool watch_is_quiet(const struct watch *watch);
/** Close the books: what nobody was told becomes part of the verdict. */
void watch_finish(struct watch *watch);

#endif
