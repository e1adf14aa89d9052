/*
 * leaving.h - users who were removed leave their groups, a slice with each
 * batch.
 */
#ifndef KEEPER_LEAVING_H
#define KEEPER_LEAVING_H

#include "keeper/keeper_priv.h"

/** Out of all groups, from this batch on. @return 0, the store's error */
NODISCARD int leaving_begin(struct keeper *keeper, uint64_t user);
/** One slice. @return 0, the store's error */
NODISCARD int leaving_turn(struct keeper *keeper);
/** Is there something to do without being asked? */
bool leaving_has_work(const struct keeper *keeper);

#endif
