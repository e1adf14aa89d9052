/*
 * settings.h - a reload for processes that go on: the numbers of conf.def on
 * the scoreboard.
 */
#ifndef SHM_SETTINGS_H
#define SHM_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "shm/board.h"

/** Supervisor: hand them out. */
void settings_publish(struct board *board, const struct conf *conf);

/**
 * Take what has been handed out since, into this process' own copy: only what
 * conf.def says can change without a new process. Cheap when nothing has.
 *
 * @param slot  this process' own: notes what it has seen
 * @param conf  changed in place
 * @return      has anything changed?
 */
bool settings_follow(
    struct board *board, struct board_slot *slot, struct conf *conf);

/** Have all processes that serve seen what was handed out last? */
bool settings_are_everywhere(struct board *board);

#endif
