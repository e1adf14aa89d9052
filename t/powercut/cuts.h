/*
 * cuts.h - where the power fails.
 */
#ifndef T_POWERCUT_CUTS_H
#define T_POWERCUT_CUTS_H

#include <stddef.h>
#include <stdint.h>

#include "t/powercut/record.h"
#include "t/powercut/replay.h"
#include "t/powercut/told.h"

enum cut_place {
#define PLACE(name, text) CUT_##name,
#include "t/powercut/places.def"
#undef PLACE
	CUT_PLACE_END
};

struct cut {
	size_t item; /* those before it have happened */
	enum cut_place place;
	enum replay_mode mode;
};

const char *cut_place_text(enum cut_place place);
/**
 * So many cuts, in order of items, none before the first client came:
 * around each start of a keeper, then half of them anywhere and half behind
 * each kind of step in turn.
 *
 * @param chance  state of the choice
 * @return        of the heap
 */
struct cut *cuts_choose(const struct record *record,
    const struct told_list *told, size_t count, uint64_t *chance);

#endif
