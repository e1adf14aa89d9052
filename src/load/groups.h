/*
 * groups.h - messages to whole groups, and their ledger.
 */
#ifndef LOAD_GROUPS_H
#define LOAD_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

#include "load/fleet.h"
#include "load/ledger.h"

struct talker;
struct troop;

/** The fleet's clients in troops of --members: each is one group, made by its
 *  first client; its first --senders clients write to it. */
struct groups {
	uint32_t magic;
	struct fleet *fleet;
	const struct options *options;
	struct troop *troops;
	uint64_t troop_count;
	bool is_sending;
	int64_t start_ns;       /* of the open loop's schedule */
	uint64_t due;           /* messages of it that were scheduled */
	uint64_t turn;          /* whose is the next one */
	int64_t pause_until_ns; /* after a refusal for now; 0: none */
	int64_t moved_ns;       /* last answer or delivery */
	bool is_finished;
};

void groups_init(
    struct groups *groups, struct fleet *fleet, uint64_t troop_count);
void groups_fini(struct groups *groups);
/** The fleet's handler; ctx is the groups. */
extern const struct client_handler groups_handler;
/** Make the groups, then write: closed loop by --window, open by --rate. */
void groups_begin(struct groups *groups);
void groups_end(struct groups *groups);
/** Every few ms. */
void groups_tick(struct groups *groups);
/** Nothing is missing any more and a moment of silence followed. */
bool groups_are_quiet(const struct groups *groups);
/** Close the books; what is open becomes part of the verdict. */
void groups_finish(struct groups *groups);

#endif
