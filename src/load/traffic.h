/*
 * traffic.h - messages from each sender to its receiver, and their ledger.
 */
#ifndef LOAD_TRAFFIC_H
#define LOAD_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event_struct.h>

#include "load/fleet.h"
#include "load/ledger.h"

struct sender;

/**
 * The fleet's clients 0..pair_count-1 send, pair_count..2*pair_count-1
 * receive; client i sends to client pair_count + i.
 */
struct traffic {
	uint32_t magic;
	struct fleet *fleet;
	const struct options *options;
	struct sender *senders;
	uint64_t pair_first; /* among all generators' pairs */
	uint64_t pair_count;
	struct event pace_event;
	bool is_sending;
	uint64_t round; /* next message due: this round, this sender */
	uint64_t turn;
	int64_t start_ns; /* of the open loop's schedule */
	uint64_t paused_count;
	int64_t moved_ns; /* last answer or delivery */
	bool is_finished;
};

void traffic_init(struct traffic *traffic, struct fleet *fleet,
    uint64_t pair_first, uint64_t pair_count);
void traffic_fini(struct traffic *traffic);
/** The fleet's handler; ctx is the traffic. */
extern const struct client_handler traffic_handler;
/** Open loop by --rate, or closed loop by --window, from now on. */
void traffic_begin(struct traffic *traffic);
/** No new messages. */
void traffic_end(struct traffic *traffic);
/** Every few ms. */
void traffic_tick(struct traffic *traffic);
/** offline: every message is sent and answered. */
bool traffic_is_sent(const struct traffic *traffic);
/** Nothing is missing any more and a moment of silence followed. */
bool traffic_is_quiet(const struct traffic *traffic);
/** Nothing moved for the time of --drain. */
bool traffic_is_stuck(const struct traffic *traffic);
/** Close the books; what is open becomes part of the verdict. */
void traffic_finish(struct traffic *traffic);

#endif
